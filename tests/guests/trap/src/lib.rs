//! Traps where the path says: before the response, within its body, after it, or by leaving the process.
//! Any other path is answered with hello, so that neighbours and successors of a trap can be watched.

use guest_kit::{fields, no_trailers, path, response, text};
use wasip3::http::types::{ErrorCode, Request, Response};
use wasip3::wit_bindgen::spawn_local;
use wasip3::wit_stream;

struct Trap;

wasip3::http::service::export!(Trap);

const BODY: &[u8] = b"hello from a guest that traps\n";

impl wasip3::exports::http::handler::Guest for Trap {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        match path(&request).as_str() {
            "/trap" => panic!("asked to trap at once"),
            "/trap-in-body" => Ok(trap_after(BODY.len() / 2)),
            "/trap-after-body" => Ok(trap_after(BODY.len())),
            "/exit" => std::process::exit(3),
            _ => Ok(text(200, BODY)),
        }
    }
}

/// A response that declares all of its body and traps when that many bytes are written.
fn trap_after(bytes: usize) -> Response {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        writer.write_all(BODY[..bytes].to_vec()).await;
        panic!("asked to trap after {bytes} body bytes");
    });
    let headers = fields(&[("content-length", &BODY.len().to_string())]);
    response(200, headers, Some(reader), no_trailers())
}
