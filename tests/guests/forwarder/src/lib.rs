//! Gives bodies a stream of its own and is out of the way from then on: `lab:streams/forward` joins what comes to what goes, and no
//! byte passes through this guest. `/here` answers with the request's body, and so does `/late`, which joins the two only when the
//! response is on its way; every other path with what the next handler says. Needs `interflow serve --lab`.

mod lab {
    wit_bindgen::generate!({
        path: "../../../wit/lab",
        inline: "package interflow:guest; world forwards { import lab:streams/forward@0.1.0; }",
        generate_all,
    });

    pub use lab::streams::forward::forward;
}

use guest_kit::{Parts, path, request_body, response, wait_ms};
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::wit_bindgen::{StreamReader, StreamWriter, spawn_local};
use wasip3::wit_stream;

struct Forwarder;

wasip3::http::service::export!(Forwarder);

impl wasip3::exports::http::handler::Guest for Forwarder {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        match path(&request).as_str() {
            "/here" => {
                let (body, trailers) = request_body(request);
                return Ok(response(200, Fields::new(), Some(forwarded(body)), trailers));
            }
            "/late" => {
                let (body, trailers) = request_body(request);
                let (writer, reader) = wit_stream::new();
                spawn_local(async move {
                    wait_ms(5).await;
                    forward(body, writer);
                });
                return Ok(response(200, Fields::new(), Some(reader), trailers));
            }
            _ => {}
        }
        let Parts { status, headers, body, trailers } = Parts::of(guest_next::handle(request).await?);
        Ok(response(status, headers, Some(forwarded(body)), trailers))
    }
}

/// A stream of ours that gives what `body` gives.
fn forwarded(body: StreamReader<u8>) -> StreamReader<u8> {
    let (writer, reader) = wit_stream::new();
    forward(body, writer);
    reader
}

fn forward(from: StreamReader<u8>, to: StreamWriter<u8>) {
    lab::forward(from.take_handle(), to.handle());
    // Its handle is gone with the call.
    std::mem::forget(to);
}
