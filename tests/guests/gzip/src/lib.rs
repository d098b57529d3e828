//! Compresses the next handler's response as it flows, for clients that accept gzip.
//! Every chunk is flushed when it has been compressed, so a response that trickles still trickles.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use guest_kit::{BUFFER_BYTES, Parts, field, method_name, response};
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::wit_bindgen::{StreamReader, StreamResult, StreamWriter, spawn_local};
use wasip3::wit_stream;

struct Gzip;

wasip3::http::service::export!(Gzip);

impl wasip3::exports::http::handler::Guest for Gzip {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let is_head = method_name(&request) == "HEAD";
        let accepted = accepts_gzip(field(&request.get_headers(), "accept-encoding"));
        let answer = guest_next::handle(request).await?;
        if is_head || !compressible(&answer) {
            return Ok(answer);
        }

        let Parts { status, headers, body, trailers } = Parts::of(answer);
        headers.append("vary", b"accept-encoding").map_err(refused)?;
        if !accepted {
            return Ok(response(status, headers, Some(body), trailers));
        }
        encoded(&headers).map_err(refused)?;
        let (writer, reader) = wit_stream::new();
        spawn_local(compress(body, writer));
        Ok(response(status, headers, Some(reader), trailers))
    }
}

/// Whether `accept-encoding` permits gzip: by name, or by `*` unless gzip itself is ruled out.
fn accepts_gzip(accept_encoding: Option<String>) -> bool {
    let listed = accept_encoding.unwrap_or_default().to_ascii_lowercase();
    let permits = |coding: &str| {
        listed.split(',').find_map(|item| {
            let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
            let weight = parameters.trim().strip_prefix("q=").unwrap_or("1");
            (name.trim() == coding).then(|| weight.trim().parse().unwrap_or(0.0) > 0.0)
        })
    };
    permits("gzip").or_else(|| permits("*")).unwrap_or(false)
}

/// Whether there is a body that nobody has encoded, cut into ranges or asked to be left alone.
fn compressible(response: &Response) -> bool {
    let has_body = !matches!(response.get_status_code(), 100..=199 | 204 | 206 | 304);
    let headers = response.get_headers();
    let no_transform = field(&headers, "cache-control").is_some_and(|v| v.contains("no-transform"));
    has_body && !no_transform && !headers.has("content-encoding")
}

/// Says so in the headers. The bytes are others now: their number is unknown, and a strong validator would lie.
fn encoded(headers: &Fields) -> Result<(), wasip3::http::types::HeaderError> {
    headers.set("content-encoding", &[b"gzip".to_vec()])?;
    headers.delete("content-length")?;
    headers.delete("accept-ranges")?;
    match field(headers, "etag") {
        Some(tag) if !tag.starts_with("W/") => headers.set("etag", &[format!("W/{tag}").into()]),
        Some(_) | None => Ok(()),
    }
}

fn refused(error: wasip3::http::types::HeaderError) -> ErrorCode {
    ErrorCode::InternalError(Some(format!("the host refused a header: {error:?}")))
}

async fn compress(mut from: StreamReader<u8>, mut to: StreamWriter<u8>) {
    const NEVER: &str = "writing to a Vec cannot fail";
    let mut encoder = GzEncoder::new(Vec::with_capacity(BUFFER_BYTES), Compression::fast());
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let result;
        (result, buffer) = from.read(buffer).await;
        match result {
            StreamResult::Complete(_) => encoder.write_all(&buffer).expect(NEVER),
            StreamResult::Dropped | StreamResult::Cancelled => break,
        }
        buffer.clear();
        encoder.flush().expect(NEVER);
        let unsent = to.write_all(std::mem::take(encoder.get_mut())).await;
        if !unsent.is_empty() {
            return;
        }
        *encoder.get_mut() = unsent;
    }
    // If the body was cut short, the trailers future, which we handed on, says so.
    to.write_all(encoder.finish().expect(NEVER)).await;
}
