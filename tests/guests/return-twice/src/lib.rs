//! Calls `task.return` twice, which the Canonical ABI answers with a trap: at once, or when the first response is
//! already on its way (`/late`). `/hello` behaves.
//!
//! The generated bindings return once; the other time is this file's own import of the same built-in.

use std::mem::MaybeUninit;

use guest_kit::{path, text, wait_ms};
use wasip3::http::types::{ErrorCode, Request, Response};
use wasip3::wit_bindgen::spawn_local;

struct ReturnTwice;

wasip3::http::service::export!(ReturnTwice);

/// Long enough for the first response to be read on a busy machine, short enough for a test.
const LATE_MS: u64 = 200;

impl wasip3::exports::http::handler::Guest for ReturnTwice {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        match path(&request).as_str() {
            "/hello" => {}
            "/late" => {
                spawn_local(async {
                    wait_ms(LATE_MS).await;
                    return_now(text(200, "too late\n"));
                });
            }
            _ => return_now(text(200, "first\n")),
        }
        // Returned by the bindings.
        Ok(text(200, "hello from a guest that returns twice\n"))
    }
}

#[link(wasm_import_module = "[export]wasi:http/handler@0.3.2")]
unsafe extern "C" {
    /// `result<response, error-code>`, flattened: which case, the response or which error, the error's payload.
    #[link_name = "[task-return]handle"]
    fn task_return(
        case: i32,
        response_or_error: i32,
        payload_0: i32,
        payload_1: MaybeUninit<u64>,
        payload_2: *mut u8,
        payload_3: *mut u8,
        payload_4: usize,
        payload_5: i32,
    );
}

fn return_now(response: Response) {
    const CASE_OK: i32 = 0;
    let handle = response.take_handle() as i32;
    let null = std::ptr::null_mut();
    // SAFETY: the signature is the one that the bindings declare for the same import; in case `ok` only the handle is
    // looked at, and `take_handle` has given it up to us.
    unsafe { task_return(CASE_OK, handle, 0, MaybeUninit::zeroed(), null, null, 0, 0) }
}
