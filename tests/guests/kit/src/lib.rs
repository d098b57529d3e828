//! What the guests share: short answers, paths, and the loop that moves a body.
//! Knows nothing of any one guest. Its types are those of `wasip3`, so guests mix the two freely.

pub mod turns;

use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response, Trailers};
use wasip3::wit_bindgen::{FutureReader, StreamReader, StreamResult, StreamWriter, spawn_local};
use wasip3::{wit_future, wit_stream};

/// What follows a body: its trailers, or why it was cut short.
pub type TrailersFuture = FutureReader<Result<Option<Trailers>, ErrorCode>>;

/// Bytes asked for by one stream read.
pub const BUFFER_BYTES: usize = 64 * 1024;

/// A body that ends well and without trailers.
pub fn no_trailers() -> TrailersFuture {
    wit_future::new(|| Ok(None)).1
}

/// Tells the sender of a body that we have no complaint, as the `res` of `consume-body`.
pub fn no_complaint() -> FutureReader<Result<(), ErrorCode>> {
    wit_future::new(|| Ok(())).1
}

/// The request's body and what follows it.
pub fn request_body(request: Request) -> (StreamReader<u8>, TrailersFuture) {
    Request::consume_body(request, no_complaint())
}

/// A response in its parts, to be put together again with some of them changed.
pub struct Parts {
    pub status: u16,
    /// A mutable copy: the response's own headers can't be changed.
    pub headers: Fields,
    pub body: StreamReader<u8>,
    pub trailers: TrailersFuture,
}

impl Parts {
    pub fn of(response: Response) -> Parts {
        let status = response.get_status_code();
        let headers = response.get_headers().clone();
        let (body, trailers) = Response::consume_body(response, no_complaint());
        Parts { status, headers, body, trailers }
    }
}

/// A response made of its parts. A status that the host refuses is our mistake and traps.
pub fn response(status: u16, headers: Fields, body: Option<StreamReader<u8>>, trailers: TrailersFuture) -> Response {
    let (response, _transmitted) = Response::new(headers, body, trailers);
    response.set_status_code(status).expect("a valid status code");
    response
}

/// A short answer with its length, written after the handler returned.
pub fn text(status: u16, body: impl Into<Vec<u8>>) -> Response {
    let body = body.into();
    let headers = fields(&[("content-length", &body.len().to_string())]);
    response(status, headers, Some(bytes(body)), no_trailers())
}

/// A stream that yields these bytes and ends.
pub fn bytes(bytes: Vec<u8>) -> StreamReader<u8> {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move { writer.write_all(bytes).await });
    reader
}

/// Fields from pairs that are known to be valid and permitted.
pub fn fields(pairs: &[(&str, &str)]) -> Fields {
    let fields = Fields::new();
    for (name, value) in pairs {
        fields.append(name, value.as_bytes()).expect("a permitted field");
    }
    fields
}

/// The first value of a field, if it is text.
pub fn field(fields: &Fields, name: &str) -> Option<String> {
    let value = fields.get(name).into_iter().next()?;
    String::from_utf8(value).ok()
}

/// The request's method as it stands on the wire.
pub fn method_name(request: &Request) -> String {
    let name = match request.get_method() {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => return name,
    };
    name.to_owned()
}

/// The request's path without its query; `/` if it has none.
pub fn path(request: &Request) -> String {
    let target = request.get_path_with_query().unwrap_or_default();
    match target.split('?').next() {
        None | Some("") => "/".to_owned(),
        Some(path) => path.to_owned(),
    }
}

/// The path's segments: `/a/b` is `["a", "b"]`, `/` is `[""]`.
pub fn segments(path: &str) -> Vec<&str> {
    path.strip_prefix('/').unwrap_or(path).split('/').collect()
}

/// How a copied body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// The sender closed it; whether that was its true end is for the trailers future to say.
    ToTheEnd,
    /// The receiver hung up before everything was passed on.
    ReceiverGone,
}

/// Moves a body through this guest's memory, showing each chunk to `see` before it is passed on.
pub async fn copy(from: &mut StreamReader<u8>, to: &mut StreamWriter<u8>, mut see: impl FnMut(&[u8])) -> Copied {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let result;
        (result, buffer) = from.read(buffer).await;
        match result {
            StreamResult::Complete(_) => see(&buffer),
            StreamResult::Dropped | StreamResult::Cancelled => return Copied::ToTheEnd,
        }
        // What comes back is what could not be written, in the same allocation.
        buffer = to.write_all(buffer).await;
        if !buffer.is_empty() {
            return Copied::ReceiverGone;
        }
    }
}

/// Waits on the host's monotonic clock.
pub async fn wait_ms(ms: u64) {
    wasip3::clocks::monotonic_clock::wait_for(ms.saturating_mul(1_000_000)).await;
}
