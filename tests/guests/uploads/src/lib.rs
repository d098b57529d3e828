//! Lets one request body through at a time, so that few uploads are begun and all are finished. Responses pass.
//! A request has its turn when its body begins: a client that is slow to begin holds up nobody.
//! Good as long as it is alone: see `downloads`.

use guest_kit::turns::Turns;
use guest_kit::{BUFFER_BYTES, copy, request_body};
use wasip3::http::types::{ErrorCode, Request, Response};
use wasip3::wit_bindgen::{StreamReader, StreamResult, StreamWriter, spawn_local};
use wasip3::wit_stream;

struct Uploads;

wasip3::http::service::export!(Uploads);

thread_local! {
    static TURNS: Turns = const { Turns::new() };
}

impl wasip3::exports::http::handler::Guest for Uploads {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let (next, from_client, to_next) = with_own_body(request);
        spawn_local(pass(from_client, to_next));
        guest_next::handle(next).await
    }
}

async fn pass(mut from_client: StreamReader<u8>, mut to_next: StreamWriter<u8>) {
    let (result, begin) = from_client.read(Vec::with_capacity(BUFFER_BYTES)).await;
    if let StreamResult::Dropped | StreamResult::Cancelled = result {
        return;
    }
    let _turn = TURNS.with(Turns::next).await;
    if to_next.write_all(begin).await.is_empty() {
        copy(&mut from_client, &mut to_next, |_| ()).await;
    }
}

/// The same request with a body of ours; the body that came; and where to write what goes on.
fn with_own_body(request: Request) -> (Request, StreamReader<u8>, StreamWriter<u8>) {
    const SAME: &str = "what came with a request may be in one";
    let headers = request.get_headers().clone();
    let (method, path) = (request.get_method(), request.get_path_with_query());
    let (scheme, authority) = (request.get_scheme(), request.get_authority());
    let (from_client, trailers) = request_body(request);
    let (to_next, reader) = wit_stream::new();
    let (next, _transmitted) = Request::new(headers, Some(reader), trailers, None);
    next.set_method(&method).expect(SAME);
    next.set_path_with_query(path.as_deref()).expect(SAME);
    next.set_scheme(scheme.as_ref()).expect(SAME);
    next.set_authority(authority.as_deref()).expect(SAME);
    (next, from_client, to_next)
}
