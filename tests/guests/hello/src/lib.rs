//! The smallest service: answers "hello world" to everything, as a stream without a declared length.
//! Written against `wasip3` alone, the way a newcomer would.

use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_bindgen, wit_future, wit_stream};

struct Hello;

wasip3::http::service::export!(Hello);

impl wasip3::exports::http::handler::Guest for Hello {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let (mut body, reader) = wit_stream::new();
        // Dropping the writer of this future sends its default: no trailers.
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _transmitted) = Response::new(Fields::new(), Some(reader), trailers);

        // The body is written after the handler returned: until then nobody reads it.
        wit_bindgen::spawn_local(async move { body.write_all(b"hello world".to_vec()).await });
        Ok(response)
    }
}
