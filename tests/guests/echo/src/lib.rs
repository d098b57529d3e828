//! One service, many ways to move a body: the path says which. `README.md` beside the guests lists them.
//! Everything here keeps the rules, except the two `length-mismatch` paths and `/forbidden`, which only asks.

mod forbidden;

use guest_kit::{
    BUFFER_BYTES, bytes, copy, field, fields, method_name, no_trailers, path, request_body, response, segments, text,
    wait_ms,
};
use wasip3::http::types::{ErrorCode, Request, Response, Scheme};
use wasip3::wit_bindgen::{StreamResult, spawn_local};
use wasip3::{wit_future, wit_stream};

struct Echo;

wasip3::http::service::export!(Echo);

/// What the path asks for.
enum Mode {
    Echo,
    Splice,
    Sink,
    Source { bytes: u64, declared: bool },
    Drip { chunks: u64, every_ms: u64 },
    Headers,
    Status(u16),
    Trailers,
    Slow { ms: u64 },
    LengthMismatch { declared: usize },
    Forbidden,
    Error,
}

impl Mode {
    fn parse(path: &str) -> Option<Mode> {
        Some(match segments(path)[..] {
            [""] | ["echo"] => Mode::Echo,
            ["splice"] => Mode::Splice,
            ["sink"] => Mode::Sink,
            ["source", n] => Mode::Source { bytes: n.parse().ok()?, declared: true },
            ["source", n, "chunked"] => Mode::Source { bytes: n.parse().ok()?, declared: false },
            ["drip", n, ms] => Mode::Drip { chunks: n.parse().ok()?, every_ms: ms.parse().ok()? },
            ["headers"] => Mode::Headers,
            ["status", n] => Mode::Status(n.parse().ok()?),
            ["trailers"] => Mode::Trailers,
            ["slow", ms] => Mode::Slow { ms: ms.parse().ok()? },
            ["length-mismatch", "more"] => Mode::LengthMismatch { declared: MISMATCHED.len() - 3 },
            ["length-mismatch", "fewer"] => Mode::LengthMismatch { declared: MISMATCHED.len() + 3 },
            ["forbidden"] => Mode::Forbidden,
            ["error"] => Mode::Error,
            _ => return None,
        })
    }
}

impl wasip3::exports::http::handler::Guest for Echo {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        Ok(match Mode::parse(&path(&request)) {
            Some(Mode::Echo) => echo(request),
            Some(Mode::Splice) => splice(request),
            Some(Mode::Sink) => sink(request).await,
            Some(Mode::Source { bytes, declared }) => source(bytes, declared),
            Some(Mode::Drip { chunks, every_ms }) => drip(chunks, every_ms),
            Some(Mode::Headers) => text(200, describe(&request)),
            Some(Mode::Status(code)) => status(code),
            Some(Mode::Trailers) => trailers(),
            Some(Mode::Slow { ms }) => {
                wait_ms(ms).await;
                text(200, format!("waited {ms} ms\n"))
            }
            Some(Mode::LengthMismatch { declared }) => length_mismatch(declared),
            Some(Mode::Forbidden) => text(200, forbidden::report(&request)),
            Some(Mode::Error) => {
                return Err(ErrorCode::InternalError(Some("asked for".to_owned())));
            }
            None => text(404, "no such path\n"),
        })
    }
}

/// The headers that describe a body, so that an echo of it can be framed as it came.
fn body_headers(request: &Request) -> wasip3::http::types::Fields {
    let from = request.get_headers();
    let to = fields(&[]);
    for name in ["content-length", "content-type", "trailer"] {
        if let Some(value) = field(&from, name) {
            // A header that the host will not let us set is one the answer can do without.
            let _ = to.append(name, value.as_bytes());
        }
    }
    to
}

/// Copies the body through this guest's memory and hands its trailers over.
fn echo(request: Request) -> Response {
    let headers = body_headers(&request);
    let (mut body, trailers) = request_body(request);
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move { copy(&mut body, &mut writer, |_| ()).await });
    response(200, headers, Some(reader), trailers)
}

/// Hands body and trailers over without touching a byte.
fn splice(request: Request) -> Response {
    let headers = body_headers(&request);
    let (body, trailers) = request_body(request);
    response(200, headers, Some(body), trailers)
}

/// Reads the whole body and answers its length, or the error that cut it short.
async fn sink(request: Request) -> Response {
    let (mut body, trailers) = request_body(request);
    let mut total = 0;
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let result;
        (result, buffer) = body.read(buffer).await;
        match result {
            StreamResult::Complete(n) => total += n as u64,
            StreamResult::Dropped | StreamResult::Cancelled => break,
        }
        buffer.clear();
    }
    drop(body);
    match trailers.await {
        Ok(_) => text(200, format!("{total}\n")),
        Err(error) => text(400, format!("{total} and then {error:?}\n")),
    }
}

/// Byte `i` of `/source` is `i % 251`. A prime, so that no power-of-two mistake goes unseen.
const PATTERN_PERIOD: usize = 251;

/// The largest whole number of periods in a buffer: every chunk of that length starts the pattern anew.
const PATTERN_BYTES: usize = BUFFER_BYTES / PATTERN_PERIOD * PATTERN_PERIOD;

fn source(bytes: u64, declared: bool) -> Response {
    let headers = match declared {
        true => fields(&[("content-length", &bytes.to_string())]),
        false => fields(&[]),
    };
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        let pattern: Vec<u8> = (0..PATTERN_BYTES).map(|i| (i % PATTERN_PERIOD) as u8).collect();
        let mut left = bytes;
        let mut chunk = Vec::with_capacity(PATTERN_BYTES);
        while left > 0 {
            let n = left.min(PATTERN_BYTES as u64) as usize;
            chunk.extend_from_slice(&pattern[..n]);
            chunk = writer.write_all(chunk).await;
            if !chunk.is_empty() {
                return;
            }
            left -= n as u64;
        }
    });
    response(200, headers, Some(reader), no_trailers())
}

/// Numbered lines with a pause before each but the first: shows whether anything on the way holds bytes back.
fn drip(chunks: u64, every_ms: u64) -> Response {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        for i in 0..chunks {
            if i > 0 {
                wait_ms(every_ms).await;
            }
            let unsent = writer.write_all(format!("drip {i}\n").into_bytes()).await;
            if !unsent.is_empty() {
                return;
            }
        }
    });
    response(200, fields(&[("content-type", "text/plain")]), Some(reader), no_trailers())
}

/// The request as the guest sees it, one fact per line, then one line per header.
fn describe(request: &Request) -> String {
    let method = method_name(request);
    let path = request.get_path_with_query();
    let scheme = match request.get_scheme() {
        Some(Scheme::Http) => "http".to_owned(),
        Some(Scheme::Https) => "https".to_owned(),
        Some(Scheme::Other(other)) => other,
        None => "-".to_owned(),
    };
    let authority = request.get_authority();
    let mut out = format!(
        "method: {method}\npath: {}\nscheme: {scheme}\nauthority: {}\n\n",
        path.as_deref().unwrap_or("-"),
        authority.as_deref().unwrap_or("-"),
    );
    for (name, value) in request.get_headers().copy_all() {
        out += &format!("{name}: {}\n", String::from_utf8_lossy(&value));
    }
    out
}

/// Answers with that status, or says that the host would not have it.
fn status(code: u16) -> Response {
    let answer = match code {
        // RFC 9110 6.4.1: these have no content.
        100..=199 | 204 | 205 | 304 => response(200, fields(&[]), None, no_trailers()),
        _ => text(200, format!("status {code}\n")),
    };
    match answer.set_status_code(code) {
        Ok(()) => answer,
        Err(()) => text(400, format!("status {code} was refused\n")),
    }
}

/// A body with trailers of its own. HTTP/1.1 sends only those that `trailer` announces.
fn trailers() -> Response {
    let (writer, trailers) = wit_future::new(|| Ok(None));
    spawn_local(async move {
        let own = fields(&[("x-guest", "echo"), ("x-body-bytes", "16")]);
        // If nobody wants them they are dropped, as trailers are.
        let _ = writer.write(Ok(Some(own))).await;
    });
    let headers = fields(&[("trailer", "x-guest, x-body-bytes")]);
    response(200, headers, Some(bytes(b"trailers follow\n".to_vec())), trailers)
}

/// The body of an answer that lies about its length.
const MISMATCHED: &[u8] = b"this length is wrong\n";

fn length_mismatch(declared: usize) -> Response {
    let headers = fields(&[("content-length", &declared.to_string())]);
    response(200, headers, Some(bytes(MISMATCHED.to_vec())), no_trailers())
}
