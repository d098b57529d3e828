//! Prints one line per request when its last body byte has passed: method, path, status, bytes, milliseconds.
//! A request that gets no response has `-` for a status; one whose reader hung up ends in `cut`.

use std::io::Write;

use guest_kit::{Copied, Parts, copy, method_name, response};
use wasip3::clocks::monotonic_clock;
use wasip3::http::types::{ErrorCode, Request, Response};
use wasip3::wit_bindgen::{StreamReader, StreamWriter, spawn_local};
use wasip3::wit_stream;

struct Log;

wasip3::http::service::export!(Log);

impl wasip3::exports::http::handler::Guest for Log {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let mut line = Line::begin(&request);
        let Parts { status, headers, body, trailers } = Parts::of(guest_next::handle(request).await?);
        line.status = Some(status);

        let (writer, reader) = wit_stream::new();
        spawn_local(pass(body, writer, line));
        Ok(response(status, headers, Some(reader), trailers))
    }
}

/// Copies the body and counts it. The line is an argument because its drop, at the very end, is what prints it.
async fn pass(mut from: StreamReader<u8>, mut to: StreamWriter<u8>, mut line: Line) {
    line.end = copy(&mut from, &mut to, |chunk| line.bytes += chunk.len()).await;
    // The reader is told first, so that it does not wait for our printing.
    drop(to);
}

/// One request's line, printed when it is dropped: every way a request can end passes there, an error too.
struct Line {
    method: String,
    path: String,
    status: Option<u16>,
    bytes: usize,
    end: Copied,
    began_ns: u64,
}

impl Line {
    fn begin(request: &Request) -> Line {
        Line {
            method: method_name(request),
            path: request.get_path_with_query().unwrap_or_default(),
            status: None,
            bytes: 0,
            end: Copied::ToTheEnd,
            began_ns: monotonic_clock::now(),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Line { method, path, bytes, .. } = self;
        let status = self.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        let ms = (monotonic_clock::now() - self.began_ns) / 1_000_000;
        let cut = match self.end {
            Copied::ToTheEnd => "",
            Copied::ReceiverGone => " cut",
        };
        // A log that can't be written must not fail the request.
        let _ = writeln!(std::io::stdout(), "{method} {path} {status} {bytes} {ms}{cut}");
    }
}
