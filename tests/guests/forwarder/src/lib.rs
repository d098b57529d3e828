//! Gives bodies a stream of its own and is out of the way from then on: `lab:streams/forward` joins what comes to what goes, and no
//! byte passes through this guest. `/here` answers with the request's body, every other path with what the next handler says.
//! Needs `interflow serve --lab`.

mod lab {
    wit_bindgen::generate!({
        path: "../../../wit/lab",
        inline: "package interflow:guest; world forwards { import lab:streams/forward@0.1.0; }",
        generate_all,
    });

    pub use lab::streams::forward::forward;
}

use guest_kit::{Parts, path, request_body, response};
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::wit_bindgen::StreamReader;
use wasip3::wit_stream;

struct Forwarder;

wasip3::http::service::export!(Forwarder);

impl wasip3::exports::http::handler::Guest for Forwarder {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        if path(&request) == "/here" {
            let (body, trailers) = request_body(request);
            return Ok(response(200, Fields::new(), Some(forwarded(body)), trailers));
        }
        let Parts { status, headers, body, trailers } = Parts::of(guest_next::handle(request).await?);
        Ok(response(status, headers, Some(forwarded(body)), trailers))
    }
}

/// A stream of ours that gives what `body` gives.
fn forwarded(body: StreamReader<u8>) -> StreamReader<u8> {
    let (writer, reader) = wit_stream::new();
    lab::forward(body.take_handle(), writer.handle());
    // Its handle is gone with the call.
    std::mem::forget(writer);
    reader
}
