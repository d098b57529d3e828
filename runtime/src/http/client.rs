//! Requests that guests send: HTTP/1.1 over TCP or TLS, on connections that are kept.
//!
//! A request is checked against the rules, gets a connection from the thread's pool, and runs as a task of its own, because
//! the bodies of guests are polled outside of their zone. A kept connection that turns out to be closed before the request
//! was written is replaced by another; once anything was written, nothing is tried again. A connection goes back to the pool
//! when the response's body is at its end and the request's was sent; in any other case it is closed.
//! One `Client` per thread: nothing here is shared between threads.

mod allow;
mod connect;
mod pool;
#[cfg(test)]
mod tests;

pub use allow::{Allow, Host, Rule, RuleError};
pub use pool::PoolLimits;

use std::cell::{Cell, OnceCell};
use std::future::{Future, poll_fn, ready};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use rustls::pki_types::CertificateDer;

use crate::executor::{JoinHandle, Sleep, now, sleep, sleep_until, spawn};
use crate::host::wasi::http::{
    ErrorCode, HostBody, Message, Outbound, OutgoingBody, OutgoingRequest, Response, Sent, Timeouts, Upload,
    hyper_error,
};
use crate::http::tls::{self, TlsConfig};
use connect::Target;
use pool::{Key, Pool};

/// Connections tried for one request: kept ones may all have been closed.
const ATTEMPTS_MAX: u32 = 4;
/// What a guest asks for is cut here, far below where arithmetic on times would overflow.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What the outgoing client may do, and how long it waits.
#[derive(Clone, Debug)]
pub struct OutboundConfig {
    /// Where requests may go.
    pub allow: Allow,
    /// Certificates to trust besides Mozilla's roots.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// Connections per worker thread.
    pub pool: PoolLimits,
    /// For reaching a server, unless the guest says.
    pub connect_timeout: Duration,
    /// From the end of the request to the first byte of the response's body, unless the guest says.
    pub first_byte_timeout: Duration,
    /// Between two parts of the response's body, unless the guest says.
    pub between_bytes_timeout: Duration,
}

impl OutboundConfig {
    /// The defaults, with these rules.
    pub fn new(allow: Allow) -> Self {
        OutboundConfig {
            allow,
            extra_roots: Vec::new(),
            pool: PoolLimits {
                connections_max: 512,
                waiting_max: 4096,
                idle_per_key_max: 64,
                idle_timeout: Duration::from_secs(30),
            },
            connect_timeout: Duration::from_secs(30),
            first_byte_timeout: Duration::from_secs(600),
            between_bytes_timeout: Duration::from_secs(600),
        }
    }
}

/// The outgoing client of one thread. Cloning gives another handle.
#[derive(Clone)]
pub struct Client(Rc<Shared>);

/// What is used of a connection. Its task ends when this is dropped.
type Sender = SendRequest<Box<OutgoingBody>>;

struct Shared {
    config: OutboundConfig,
    pool: Pool<Sender>,
    /// Made when the first request needs it: most services send none.
    tls: OnceCell<TlsConfig>,
}

impl Client {
    /// A client without connections.
    pub fn new(config: OutboundConfig) -> Self {
        let pool = Pool::new(config.pool);
        Client(Rc::new(Shared { config, pool, tls: OnceCell::new() }))
    }

    /// Connections that are open, and those of them that are idle.
    pub fn connections(&self) -> (usize, usize) {
        self.0.pool.counts()
    }

    /// Closes the connections that no request uses.
    pub fn close_idle(&self) {
        self.0.pool.close_idle();
    }
}

impl Outbound for Client {
    fn send(&self, mut request: OutgoingRequest) -> Sent {
        match self.0.admit(&request) {
            Ok(target) => Box::pin(Exchange(spawn(exchange(self.0.clone(), target, request)))),
            Err(error) => {
                request.head.body_mut().fail(error.clone());
                Box::pin(ready(Err(error)))
            }
        }
    }
}

/// A request on its way, in a task of its own. Dropping this ends it.
struct Exchange(JoinHandle<Result<Response, ErrorCode>>);

impl Future for Exchange {
    type Output = Result<Response, ErrorCode>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let joined = ready!(Pin::new(&mut self.0).poll(task));
        let lost = |error| Err(ErrorCode::InternalError(Some(format!("the request was lost: {error}"))));
        Poll::Ready(joined.unwrap_or_else(lost))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn exchange(shared: Rc<Shared>, target: Target, outgoing: OutgoingRequest) -> Result<Response, ErrorCode> {
    let limits = shared.limits(outgoing.timeouts);
    let mut request = outgoing.head;
    request.body_mut().look_ahead().await?;
    prepare(&mut request, &target);
    let upload = request.body_mut().upload();
    for _ in 0..ATTEMPTS_MAX {
        let (mut sender, kept) = match shared.connection(&target, limits.connect).await {
            Ok(connection) => connection,
            Err(error) => {
                request.body_mut().fail(error.clone());
                return Err(error);
            }
        };
        upload.set(Upload::Sending(now()));
        let head = sender.try_send_request(request);
        let mut failed = match within(head, &upload, limits.first_byte).await {
            Ok(Ok(response)) => {
                let lease = Lease { pool: shared.pool.clone(), key: target.key, sender, upload };
                return receive(response, lease, limits);
            }
            Ok(Err(failed)) => failed,
            Err(Elapsed) => return Err(ErrorCode::ConnectionReadTimeout),
        };
        match failed.take_message() {
            // Nothing was written: the server had closed it meanwhile, and its like too.
            Some(unsent) if kept => {
                shared.pool.forget(&target.key);
                request = unsent;
            }
            _ => return Err(hyper_error(failed.error(), Message::Response)),
        }
    }
    request.body_mut().fail(ErrorCode::ConnectionTerminated);
    Err(ErrorCode::ConnectionTerminated)
}

/// How long this request waits for what.
#[derive(Clone, Copy)]
struct Limits {
    connect: Duration,
    first_byte: Duration,
    between_bytes: Duration,
}

impl Shared {
    fn admit(&self, request: &OutgoingRequest) -> Result<Target, ErrorCode> {
        let target = Target::of(request)?;
        if !self.config.allow.permits(&target.host, target.port) {
            return Err(ErrorCode::HttpRequestDenied);
        }
        Ok(target)
    }

    fn limits(&self, asked: Timeouts) -> Limits {
        let config = &self.config;
        Limits {
            connect: asked.connect.unwrap_or(config.connect_timeout).min(TIMEOUT_MAX),
            first_byte: asked.first_byte.unwrap_or(config.first_byte_timeout).min(TIMEOUT_MAX),
            between_bytes: asked.between_bytes.unwrap_or(config.between_bytes_timeout).min(TIMEOUT_MAX),
        }
    }

    fn tls(&self) -> Result<TlsConfig, ErrorCode> {
        if let Some(config) = self.tls.get() {
            return Ok(config.clone());
        }
        let config = tls::client_config(&self.config.extra_roots).map_err(|error| {
            tracing::error!(%error, "cannot set up TLS for outgoing requests");
            ErrorCode::ConfigurationError
        })?;
        Ok(self.tls.get_or_init(|| config).clone())
    }
}

/// Headers that belong to the connection.
fn prepare(request: &mut http::Request<Box<OutgoingBody>>, target: &Target) {
    let empty = request.body().is_end_stream();
    let length_known = request.body().size_hint().exact().is_some();
    let method = request.method().clone();
    let headers = request.headers_mut();
    headers.insert(header::HOST, target.host_header.clone());
    let expects_contents = matches!(method, Method::POST | Method::PUT | Method::PATCH);
    if empty && expects_contents {
        // RFC 9110, 8.6
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    if !empty && !length_known {
        // hyper would take a GET's contents for a mistake and leave them out.
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// It took too long.
struct Elapsed;

/// Waits for a response's head: for `limit` after the request was sent, or since its body last went on. A guest that is slow
/// to write its body is not the server's fault.
async fn within<F: Future>(head: F, upload: &Cell<Upload>, limit: Duration) -> Result<F::Output, Elapsed> {
    let mut head = pin!(head);
    let mut timer = sleep(limit);
    poll_fn(|task| {
        if let Poll::Ready(output) = head.as_mut().poll(task) {
            return Poll::Ready(Ok(output));
        }
        loop {
            ready!(Pin::new(&mut timer).poll(task));
            let since = match upload.get() {
                Upload::Waiting => now(),
                Upload::Sending(since) | Upload::Sent(since) => since,
                Upload::Failed => return Poll::Ready(Err(Elapsed)),
            };
            let deadline = since + limit;
            if deadline <= now() {
                return Poll::Ready(Err(Elapsed));
            }
            timer.reset(deadline);
        }
    })
    .await
}

fn receive(response: http::Response<Incoming>, lease: Lease, limits: Limits) -> Result<Response, ErrorCode> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(ErrorCode::HttpUpgradeFailed);
    }
    let (parts, incoming) = response.into_parts();
    let since = match lease.upload.get() {
        Upload::Sent(since) => since,
        _ => now(),
    };
    if incoming.is_end_stream() {
        lease.end();
        return Ok(Response::received(parts, None));
    }
    let body = ResponseBody {
        incoming,
        lease: Some(lease),
        first: Some(since + limits.first_byte),
        between: limits.between_bytes,
        timer: None,
    };
    Ok(Response::received(parts, HostBody::new(body, Message::Response)))
}

/// The connection under a response.
struct Lease {
    pool: Pool<Sender>,
    key: Key,
    sender: Sender,
    upload: Rc<Cell<Upload>>,
}

impl Lease {
    /// The response was received to its end.
    fn end(self) {
        match self.upload.get() {
            Upload::Sent(_) => self.pool.give_back(self.key, self.sender),
            // The server did not want the rest of the request; a next one would wait behind it.
            Upload::Waiting | Upload::Sending(_) | Upload::Failed => {}
        }
    }
}

/// A response's body, which does not wait for ever and gives its connection back.
struct ResponseBody {
    incoming: Incoming,
    lease: Option<Lease>,
    /// Until when the first part must have come, while it has not.
    first: Option<Instant>,
    between: Duration,
    /// Runs while somebody waits.
    timer: Option<Sleep>,
}

impl ResponseBody {
    fn poll_late(&mut self, task: &mut Context<'_>) -> Poll<ErrorCode> {
        let (first, between) = (self.first, self.between);
        let timer = self.timer.get_or_insert_with(|| sleep_until(first.unwrap_or_else(|| now() + between)));
        Pin::new(timer).poll(task).map(|()| ErrorCode::ConnectionReadTimeout)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ErrorCode;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ErrorCode>>> {
        let body = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut body.incoming).poll_frame(task) else {
            let late = ready!(body.poll_late(task));
            body.lease = None;
            return Poll::Ready(Some(Err(late)));
        };
        (body.first, body.timer) = (None, None);
        let frame = frame.map(|frame| frame.map_err(|error| hyper_error(&error, Message::Response)));
        match (&frame, body.incoming.is_end_stream()) {
            (Some(Err(_)), _) => body.lease = None,
            (None, _) | (Some(Ok(_)), true) => {
                if let Some(lease) = body.lease.take() {
                    lease.end();
                }
            }
            (Some(Ok(_)), false) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
