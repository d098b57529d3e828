//! The resource `response`.

use super::body::Body;
use super::fields::strip_hop_by_hop;
use super::{ErrorCode, Fields, HostBody, Message, OutgoingBody};
use http::{Method, StatusCode};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// A response: one that a guest made, or one that the client received.
pub struct Response {
    pub(super) status: Cell<StatusCode>,
    pub(super) headers: Rc<Fields>,
    /// `None` once it was consumed or sent.
    body: RefCell<Option<Body>>,
}

impl Response {
    /// A response from outside. Fields of its connection are taken away.
    pub fn received(mut parts: http::response::Parts, body: Option<HostBody>) -> Response {
        strip_hop_by_hop(&mut parts.headers);
        Response {
            status: Cell::new(parts.status),
            headers: Rc::new(Fields::received(parts.headers)),
            body: RefCell::new(Some(Body::received(Message::Response, body))),
        }
    }

    pub(super) fn made(headers: Rc<Fields>, body: Body) -> Response {
        headers.freeze();
        Response { status: Cell::new(StatusCode::OK), headers, body: RefCell::new(Some(body)) }
    }

    /// The headers, for looking.
    pub fn headers(&self) -> &Fields {
        &self.headers
    }

    /// The status, for looking.
    pub fn status(&self) -> StatusCode {
        self.status.get()
    }

    /// The response as hyper's, in answer to a request with `method`. Best followed by `OutgoingBody::look_ahead`.
    ///
    /// # Errors
    /// When it cannot be sent: an informational status, which is no answer, or a length that does not fit the body. The guest
    /// learns it too.
    pub fn into_hyper(self: Rc<Self>, method: &Method) -> Result<http::Response<Box<OutgoingBody>>, ErrorCode> {
        let status = self.status.get();
        let body = self.take_body();
        let mut headers = match Rc::try_unwrap(self) {
            Ok(response) => response.headers.into_map(),
            Err(shared) => shared.headers.map().clone(),
        };
        let mut body = body.send(&mut headers, is_bodiless(method, status))?;
        if status.is_informational() {
            body.fail(ErrorCode::HttpProtocolError);
            return Err(ErrorCode::HttpProtocolError);
        }
        let mut response = http::Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// Handles are moved when a message is consumed or sent, so it happens once.
    pub(super) fn take_body(&self) -> Body {
        self.body.take().expect("a message is consumed or sent once")
    }
}

/// Has the answer no body, whatever its contents (RFC 9110, 6.4.1)?
fn is_bodiless(method: &Method, status: StatusCode) -> bool {
    method == Method::HEAD || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}
