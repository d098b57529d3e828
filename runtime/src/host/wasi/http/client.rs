//! `client.send`, up to where a request leaves the process.

use super::bindings::wasi::http::client::Host;
use super::{ErrorCode, Http, OutgoingRequest, Request, Response};
use crate::abi::{HostCx, HostFuture};
use crate::host::HostData;
use crate::host::value::Own;
use std::future::{Future, ready};
use std::pin::Pin;

/// What becomes of a request that was sent.
pub type Sent = Pin<Box<dyn Future<Output = Result<Response, ErrorCode>>>>;

/// Who takes the requests that guests send.
pub trait Outbound {
    /// Sends `request`. What it gives is polled while the zone runs, so it may not touch streams and futures of guests
    /// itself: `request`'s body belongs to a task of its own. Dropping it gives the request up.
    fn send(&self, request: OutgoingRequest) -> Sent;
}

/// Lets nothing out.
pub struct Denied;

impl Outbound for Denied {
    fn send(&self, mut request: OutgoingRequest) -> Sent {
        request.head.body_mut().fail(ErrorCode::HttpRequestDenied);
        Box::pin(ready(Err(ErrorCode::HttpRequestDenied)))
    }
}

impl Host for Http {
    fn send(cx: &mut HostCx<'_>, request: Own<Request>) -> HostFuture<Result<Own<Response>, ErrorCode>> {
        let sent = match request.0.into_outgoing() {
            Ok(outgoing) => HostData::of(cx).http.outbound.send(outgoing),
            Err(error) => Box::pin(ready(Err(error))),
        };
        Box::pin(async move { Ok(sent.await.map(Own::new)) })
    }
}
