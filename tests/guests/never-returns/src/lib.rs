//! Awaits what never comes, without keeping a core busy. `/hello` behaves.
//!
//! Cancelling it traps, as it does for every guest built with `wit-bindgen` 0.63 without its `inter-task-wakeup`: the
//! bindings wake a sleeping task to tell it, and refuse to. `cancellable` is the one that ends well.

use guest_kit::{path, request_body, text, wait_ms};
use wasip3::http::types::{ErrorCode, Request, Response};
use wasip3::wit_bindgen::spawn_local;
use wasip3::wit_stream;

struct NeverReturns;

wasip3::http::service::export!(NeverReturns);

impl wasip3::exports::http::handler::Guest for NeverReturns {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        match path(&request).as_str() {
            "/hello" => {}
            "/clock" => wait_ms(u64::MAX).await,
            "/body" => {
                // Held, not read: the client's bytes pile up as far as backpressure lets them.
                let _held = request_body(request);
                silence().await;
            }
            "/after-response" => {
                spawn_local(silence());
            }
            _ => silence().await,
        }
        Ok(text(200, "hello from a guest that never returns\n"))
    }
}

/// Reads a stream that nobody will write: we hold the other end ourselves.
async fn silence() {
    let (_held, mut reader) = wit_stream::new::<u8>();
    reader.next().await;
}
