//! Lets one response body through at a time, in the order in which the responses came.
//!
//! Good as long as it is alone. Behind `uploads` it can deadlock, if two clients send at once to a service that answers while it
//! reads, and the body of the second begins first. Then the second response waits here for the first to be over, that for its
//! request's body, which waits in `uploads` for the second request's, which nobody reads while its answer waits here.
//! One order out of many: `interflow explore` finds it (README.md of the repository).

use guest_kit::turns::Turns;
use guest_kit::{Parts, copy, response};
use wasip3::http::types::{ErrorCode, Request, Response};
use wasip3::wit_bindgen::spawn_local;
use wasip3::wit_stream;

struct Downloads;

wasip3::http::service::export!(Downloads);

thread_local! {
    static TURNS: Turns = const { Turns::new() };
}

impl wasip3::exports::http::handler::Guest for Downloads {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let Parts { status, headers, mut body, trailers } = Parts::of(guest_next::handle(request).await?);
        let (mut to_client, reader) = wit_stream::new();
        spawn_local(async move {
            let _turn = TURNS.with(Turns::next).await;
            copy(&mut body, &mut to_client, |_| ()).await;
        });
        Ok(response(status, headers, Some(reader), trailers))
    }
}
