//! Stops halfway through its body: having declared more (any path), or saying that something went wrong (`/abort`).
//! The client must not take either for a whole response. `/hello` behaves.

use guest_kit::{bytes, fields, no_trailers, path, response, text};
use wasip3::http::types::{ErrorCode, Request, Response};
use wasip3::wit_bindgen::spawn_local;
use wasip3::{wit_future, wit_stream};

struct HalfBody;

wasip3::http::service::export!(HalfBody);

/// What is declared; half of it is written.
const DECLARED_BYTES: usize = 100_000;

impl wasip3::exports::http::handler::Guest for HalfBody {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        Ok(match path(&request).as_str() {
            "/hello" => text(200, "hello from a guest that stops halfway\n"),
            "/abort" => abort(),
            _ => short(),
        })
    }
}

fn half() -> Vec<u8> {
    vec![b'x'; DECLARED_BYTES / 2]
}

/// Declares a length, writes half of it and closes as if all were well.
fn short() -> Response {
    let headers = fields(&[("content-length", &DECLARED_BYTES.to_string())]);
    response(200, headers, Some(bytes(half())), no_trailers())
}

/// Declares nothing, writes, and ends the response with an error in the place of trailers.
fn abort() -> Response {
    let (mut writer, reader) = wit_stream::new();
    let (verdict, trailers) = wit_future::new(|| Ok(None));
    spawn_local(async move {
        writer.write_all(half()).await;
        drop(writer);
        let why = ErrorCode::InternalError(Some("asked to abort".to_owned()));
        // If nobody asks any more, the client is gone already.
        let _ = verdict.write(Err(why)).await;
    });
    response(200, fields(&[]), Some(reader), trailers)
}
