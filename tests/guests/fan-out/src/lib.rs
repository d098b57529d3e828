//! Asks two other servers at once and answers with both results: `client.send` twice in one handler.
//! The URLs come in the headers `x-url-a` and `x-url-b`; the answer has a line for each, `status bytes` or an error.

use futures::future::join;
use guest_kit::{BUFFER_BYTES, field, fields, no_complaint, no_trailers, text};
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Request, Response, Scheme};
use wasip3::wit_bindgen::StreamResult;

struct FanOut;

wasip3::http::service::export!(FanOut);

impl wasip3::exports::http::handler::Guest for FanOut {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let headers = request.get_headers();
        let urls = (field(&headers, "x-url-a"), field(&headers, "x-url-b"));
        let (Some(a), Some(b)) = urls else {
            return Ok(text(400, "x-url-a and x-url-b are needed\n"));
        };
        let (a, b) = join(fetch(&a), fetch(&b)).await;
        let status = if a.is_ok() && b.is_ok() { 200 } else { 502 };
        Ok(text(status, line(a) + &line(b)))
    }
}

fn line(fetched: Result<(u16, u64), ErrorCode>) -> String {
    match fetched {
        Ok((status, bytes)) => format!("{status} {bytes}\n"),
        Err(error) => format!("error {error:?}\n"),
    }
}

/// Status and body length of one GET.
async fn fetch(url: &str) -> Result<(u16, u64), ErrorCode> {
    let request = get(url).ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let response = client::send(request).await?;
    let status = response.get_status_code();
    let (mut body, trailers) = Response::consume_body(response, no_complaint());
    let mut bytes = 0;
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let result;
        (result, buffer) = body.read(buffer).await;
        match result {
            StreamResult::Complete(n) => bytes += n as u64,
            StreamResult::Dropped | StreamResult::Cancelled => break,
        }
        buffer.clear();
    }
    // The end of the stream is not yet success: only this says that nothing was cut off.
    trailers.await?;
    Ok((status, bytes))
}

/// A GET of `scheme://authority/path`; none if that is not what the URL is.
fn get(url: &str) -> Option<Request> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };

    let (request, _transmitted) = Request::new(fields(&[]), None, no_trailers(), None);
    request.set_scheme(Some(&scheme)).ok()?;
    request.set_authority(Some(authority)).ok()?;
    request.set_path_with_query(Some(path)).ok()?;
    Some(request)
}
