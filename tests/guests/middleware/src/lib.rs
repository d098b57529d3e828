//! A middleware that does nothing: whatever comes goes to the next handler, and its answer comes back untouched.
//! What it costs is what a link in the chain costs. Written against `wit-bindgen` alone, from the WIT world
//! `wasi:http/middleware`.

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "wasi:http/middleware@0.3.2",
        generate_all,
    });

    use super::Middleware;
    export!(Middleware);
}

use bindings::exports::wasi::http::handler::Guest;
use bindings::wasi::http::handler;
use bindings::wasi::http::types::{ErrorCode, Request, Response};

struct Middleware;

impl Guest for Middleware {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        handler::handle(request).await
    }
}
