//! Waits for ever and lets itself be cancelled: its task then ends with `task.cancel`, and the instance lives on.
//! Each cancelled request prints `cancelled` to stderr. `/hello` answers.
//!
//! `never-returns` is its opposite, as most guests of its day are: cancelling it traps.

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "wasi:http/service@0.3.2",
        generate_all,
    });

    use super::Cancellable;
    export!(Cancellable);
}

use bindings::exports::wasi::http::handler::Guest;
use bindings::wasi::http::types::{ErrorCode, Fields, Request, Response};
use bindings::{wit_future, wit_stream};

struct Cancellable;

impl Guest for Cancellable {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        if request.get_path_with_query().as_deref() != Some("/hello") {
            let waiting = Waiting;
            silence().await;
            drop(waiting);
        }
        Ok(hello())
    }
}

/// Dropped where it stands when its task is cancelled.
struct Waiting;

impl Drop for Waiting {
    fn drop(&mut self) {
        eprintln!("cancelled");
    }
}

/// Reads a stream that nobody will write: we hold the other end ourselves.
async fn silence() {
    let (_held, mut reader) = wit_stream::new::<u8>();
    reader.next().await;
}

fn hello() -> Response {
    let (mut body, reader) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    wit_bindgen::spawn_local(async move {
        let hello = b"hello from a guest that can be cancelled\n";
        body.write_all(hello.to_vec()).await;
    });
    Response::new(Fields::new(), Some(reader), trailers).0
}
