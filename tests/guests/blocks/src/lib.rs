//! Blocks its thread inside the Canonical ABI, where an asynchronous guest would have returned to its caller:
//! `/wait` in `waitable-set.wait`, `/yield` in `thread.yield`, `/sleep` in an import of sync type, `wasi:io/poll`. Other paths are
//! answered with hello.

use std::time::Duration;

use guest_kit::{path, text, wait_ms};
use wasip3::http::types::{ErrorCode, Request, Response};
use wasip3::wit_bindgen::{block_on, yield_blocking};

struct Blocks;

wasip3::http::service::export!(Blocks);

impl wasip3::exports::http::handler::Guest for Blocks {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        Ok(match path(&request).as_str() {
            "/wait" => {
                block_on(wait_ms(10));
                text(200, "waited 10 ms without letting go\n")
            }
            "/sleep" => {
                std::thread::sleep(Duration::from_millis(10));
                text(200, "slept 10 ms without letting go\n")
            }
            "/yield" => match yield_blocking() {
                true => text(200, "yielded without letting go\n"),
                false => return Err(ErrorCode::InternalError(Some("cancelled".to_owned()))),
            },
            _ => text(200, "hello from a guest that blocks\n"),
        })
    }
}
