//! Hands the next handler's body over untouched and adds a trailer of its own, `x-trailer-mw`, to those that come.
//! Shows that who passes a body through without reading it still has the last word.

use guest_kit::{Parts, TrailersFuture, response};
use wasip3::http::types::{ErrorCode, Fields, HeaderError, Request, Response, Trailers};
use wasip3::wit_bindgen::spawn_local;
use wasip3::wit_future;

struct TrailerMw;

wasip3::http::service::export!(TrailerMw);

impl wasip3::exports::http::handler::Guest for TrailerMw {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let Parts { status, headers, body, trailers } = Parts::of(guest_next::handle(request).await?);
        announce(&headers).map_err(refused)?;

        let (writer, ours) = wit_future::new(|| Ok(None));
        spawn_local(async move {
            // If nobody wants them they are dropped, as trailers are.
            let _ = writer.write(extend(trailers).await).await;
        });
        Ok(response(status, headers, Some(body), ours))
    }
}

/// HTTP/1.1 has room for trailers only in a body without a declared length, and wants them announced.
fn announce(headers: &Fields) -> Result<(), HeaderError> {
    headers.delete("content-length")?;
    headers.append("trailer", b"x-trailer-mw")
}

/// What came, and ours. An error stays what it is.
async fn extend(theirs: TrailersFuture) -> Result<Option<Trailers>, ErrorCode> {
    let trailers = match theirs.await? {
        Some(theirs) => theirs.clone(),
        None => Fields::new(),
    };
    trailers.append("x-trailer-mw", b"added").map_err(refused)?;
    Ok(Some(trailers))
}

fn refused(error: HeaderError) -> ErrorCode {
    ErrorCode::InternalError(Some(format!("the host refused a header: {error:?}")))
}
