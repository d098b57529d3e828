//! `wasi:http` 0.3: messages, their fields and bodies, and the client.
//!
//! A request or response is a Rust value behind a handle: middlewares pass it on without anything being copied. `body` is the
//! heart: what a body is while it is received, lent to guests and sent. The server and the outgoing client stand on both ends:
//! they turn hyper's messages into ours (`Request::from_hyper`, `Response::received`) and ours into hyper's
//! (`Response::into_hyper`, `Request::into_outgoing`).
//! Knows nothing of sockets, routes or pools: how a request leaves the process is behind [`Outbound`].

pub mod bindings;
mod body;
mod client;
mod error;
mod fields;
mod options;
mod request;
mod response;
mod types;

pub use bindings::wasi::http::types::ErrorCode;
pub use body::{BodyEnd, HostBody, Message, OutgoingBody, Upload};
pub use client::{Denied, Outbound, Sent};
pub use error::{hyper_error, io_error, status_of};
pub use fields::Fields;
pub use options::{RequestOptions, Timeouts};
pub use request::{BadRequest, Origin, OutgoingRequest, Request};
pub use response::Response;

use crate::abi::Export;
use crate::host::linker::Linker;
use crate::host::value::Own;
use std::rc::Rc;

/// `wasi:http/handler.handle`, as the server calls it. Find it with [`HANDLE`].
pub type HandleExport = Export<(Own<Request>,), std::result::Result<Own<Response>, ErrorCode>>;

/// The name of [`HandleExport`], for `Component::export`.
pub const HANDLE: &str = "wasi:http/handler#handle";

/// What `wasi:http` keeps for a zone.
pub struct HttpCtx {
    outbound: Rc<dyn Outbound>,
}

impl HttpCtx {
    /// Requests of the zone's guests leave through `outbound`.
    pub fn new(outbound: Rc<dyn Outbound>) -> Self {
        HttpCtx { outbound }
    }

    /// Guests may send nothing.
    pub fn denied() -> Self {
        HttpCtx::new(Rc::new(Denied))
    }
}

/// Implements `wasi:http/types` and `wasi:http/client`.
pub struct Http;

/// Links `wasi:http`; zones need `HostData`.
pub fn link(linker: &mut Linker) {
    bindings::wasi::http::types::link::<Http>(linker);
    bindings::wasi::http::client::link::<Http>(linker);
}
