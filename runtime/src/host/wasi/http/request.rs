//! The resource `request`.

use super::bindings::wasi::http::types::{Method as WitMethod, Scheme as WitScheme};
use super::body::Body;
use super::fields::strip_hop_by_hop;
use super::{ErrorCode, Fields, HostBody, Message, OutgoingBody, RequestOptions, Timeouts};
use crate::abi::{Account, Held};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use std::cell::RefCell;
use std::rc::Rc;

/// A request: one that the server received, or one that a guest made.
pub struct Request {
    pub(super) head: RefCell<Head>,
    pub(super) headers: Rc<Fields>,
    pub(super) options: Option<Rc<RequestOptions>>,
    /// `None` once it was consumed or sent.
    body: RefCell<Option<Body>>,
    /// The size of a head that a guest has changed.
    held: RefCell<Option<Held>>,
}

/// What a guest can change.
pub(super) struct Head {
    pub method: Method,
    pub scheme: Option<Scheme>,
    pub authority: Option<Authority>,
    pub path_with_query: Option<PathAndQuery>,
}

/// What a connection says of the requests on it.
#[derive(Debug)]
pub struct Origin {
    scheme: Scheme,
    authority: Authority,
    /// The last `host` and what it means: on a connection it hardly ever changes.
    last_host: RefCell<Option<(HeaderValue, Authority)>>,
}

impl Origin {
    /// `scheme` is `http` or `https`; `authority` is for requests that do not say whom they mean (HTTP/1.0): our own address.
    pub fn new(scheme: Scheme, authority: Authority) -> Origin {
        Origin { scheme, authority, last_host: RefCell::default() }
    }

    /// A `host` field's value as an authority.
    fn host(&self, value: &HeaderValue) -> Option<Authority> {
        let mut last = self.last_host.borrow_mut();
        if let Some((known, authority)) = &*last
            && known == value
        {
            return Some(authority.clone());
        }
        let authority = parse_authority(value.as_bytes()).filter(|host| !host.as_str().contains('@'))?;
        *last = Some((value.clone(), authority.clone()));
        Some(authority)
    }
}

/// A request that is not handed to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// RFC 9112, 3.2
    #[error("the request has no valid `host`, or more than one")]
    Host,
    /// A tunnel, which `wasi:http` cannot express.
    #[error("CONNECT is not supported")]
    Connect,
}

impl BadRequest {
    /// What the client gets.
    pub fn status(self) -> StatusCode {
        match self {
            BadRequest::Host => StatusCode::BAD_REQUEST,
            BadRequest::Connect => StatusCode::NOT_IMPLEMENTED,
        }
    }
}

/// A request as it leaves a zone.
pub struct OutgoingRequest {
    /// As the guest set it.
    pub scheme: Option<Scheme>,
    /// As the guest set it.
    pub authority: Option<Authority>,
    /// Method, path and query (in origin form), headers without `host`, body.
    pub head: http::Request<Box<OutgoingBody>>,
    /// As the guest set them.
    pub timeouts: Timeouts,
}

impl Request {
    /// A request that came on a connection. Fields of the connection are taken away; `host` becomes the authority.
    ///
    /// # Errors
    /// When it is not clear whom it is for, or it asks for a tunnel.
    pub fn from_hyper(
        mut parts: http::request::Parts,
        body: Option<HostBody>,
        origin: &Origin,
    ) -> Result<Request, BadRequest> {
        if parts.method == Method::CONNECT {
            return Err(BadRequest::Connect);
        }
        let authority = authority(&mut parts, origin)?;
        strip_hop_by_hop(&mut parts.headers);
        let head = Head {
            method: parts.method,
            scheme: Some(origin.scheme.clone()),
            authority: Some(authority),
            path_with_query: parts.uri.into_parts().path_and_query,
        };
        Ok(Request {
            head: RefCell::new(head),
            headers: Rc::new(Fields::received(parts.headers)),
            options: None,
            body: RefCell::new(Some(Body::received(Message::Request, body))),
            held: RefCell::new(None),
        })
    }

    pub(super) fn made(headers: Rc<Fields>, options: Option<Rc<RequestOptions>>, body: Body) -> Request {
        headers.freeze();
        if let Some(options) = &options {
            options.freeze();
        }
        let head = Head { method: Method::GET, scheme: None, authority: None, path_with_query: None };
        Request { head: RefCell::new(head), headers, options, body: RefCell::new(Some(body)), held: RefCell::new(None) }
    }

    /// Lets a guest change the head, unless that makes it larger than the zone's account allows.
    pub(super) fn change(
        &self,
        account: &Rc<Account>,
        change: impl FnOnce(&mut Head) -> Result<(), ()>,
    ) -> Result<(), ()> {
        let mut head = self.head.borrow().copy();
        change(&mut head)?;
        let mut held = self.held.borrow_mut();
        if !held.get_or_insert_with(|| account.open()).resize(head.size()) {
            return Err(());
        }
        self.head.replace(head);
        Ok(())
    }

    /// The request on its way out of the process.
    ///
    /// # Errors
    /// When it cannot be sent as it is. The guest that made it learns it too.
    pub fn into_outgoing(self: Rc<Self>) -> Result<OutgoingRequest, ErrorCode> {
        let body = self.take_body();
        let timeouts = self.options.as_ref().map(|options| options.timeouts()).unwrap_or_default();
        let (head, mut headers) = match Rc::try_unwrap(self) {
            Ok(request) => (request.head.into_inner(), request.headers.into_map()),
            Err(shared) => (shared.head.borrow().copy(), shared.headers.map().clone()),
        };
        let mut body = body.send(&mut headers, false)?;
        let uri = match (head.method == Method::CONNECT, origin_form(&head)) {
            (true, _) => Err(ErrorCode::HttpRequestMethodInvalid),
            (false, uri) => uri,
        };
        let uri = match uri {
            Ok(uri) => uri,
            Err(error) => {
                body.fail(error.clone());
                return Err(error);
            }
        };
        let mut request = http::Request::new(body);
        *request.method_mut() = head.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(OutgoingRequest { scheme: head.scheme, authority: head.authority, head: request, timeouts })
    }

    /// Handles are moved when a message is consumed or sent, so it happens once.
    pub(super) fn take_body(&self) -> Body {
        self.body.take().expect("a message is consumed or sent once")
    }
}

impl Head {
    /// Bytes of what is not one of few words.
    fn size(&self) -> usize {
        let authority = self.authority.as_ref().map_or(0, |authority| authority.as_str().len());
        let path = self.path_with_query.as_ref().map_or(0, |path| path.as_str().len());
        let scheme = self.scheme.as_ref().map_or(0, |scheme| scheme.as_str().len());
        self.method.as_str().len() + scheme + authority + path
    }

    fn copy(&self) -> Head {
        Head {
            method: self.method.clone(),
            scheme: self.scheme.clone(),
            authority: self.authority.clone(),
            path_with_query: self.path_with_query.clone(),
        }
    }

    pub fn set_method(&mut self, method: WitMethod) -> Result<(), ()> {
        self.method = match method {
            WitMethod::Get => Method::GET,
            WitMethod::Head => Method::HEAD,
            WitMethod::Post => Method::POST,
            WitMethod::Put => Method::PUT,
            WitMethod::Delete => Method::DELETE,
            WitMethod::Connect => Method::CONNECT,
            WitMethod::Options => Method::OPTIONS,
            WitMethod::Trace => Method::TRACE,
            WitMethod::Patch => Method::PATCH,
            WitMethod::Other(name) => Method::from_bytes(name.as_bytes()).map_err(drop)?,
        };
        Ok(())
    }

    pub fn method(&self) -> WitMethod {
        match self.method {
            Method::GET => WitMethod::Get,
            Method::HEAD => WitMethod::Head,
            Method::POST => WitMethod::Post,
            Method::PUT => WitMethod::Put,
            Method::DELETE => WitMethod::Delete,
            Method::CONNECT => WitMethod::Connect,
            Method::OPTIONS => WitMethod::Options,
            Method::TRACE => WitMethod::Trace,
            Method::PATCH => WitMethod::Patch,
            ref other => WitMethod::Other(other.as_str().to_string()),
        }
    }

    /// With an authority, a path is empty or begins with a slash (RFC 3986, 3.3); `*` is for OPTIONS (RFC 9110, 7.1).
    pub fn set_path_with_query(&mut self, path: Option<String>) -> Result<(), ()> {
        let path = match path {
            // Nothing and an empty path are the same.
            None => None,
            Some(path) if path.is_empty() => None,
            Some(path) => {
                let begins = path.starts_with(['/', '?']) || path == "*";
                // The parser cuts a fragment off without a word.
                if !begins || path.contains('#') {
                    return Err(());
                }
                Some(PathAndQuery::try_from(path).map_err(drop)?)
            }
        };
        self.path_with_query = path;
        Ok(())
    }

    pub fn set_scheme(&mut self, scheme: Option<WitScheme>) -> Result<(), ()> {
        self.scheme = match scheme {
            None => None,
            Some(WitScheme::Http) => Some(Scheme::HTTP),
            Some(WitScheme::Https) => Some(Scheme::HTTPS),
            // RFC 3986, 3.1
            Some(WitScheme::Other(name)) if name.starts_with(|first: char| first.is_ascii_alphabetic()) => {
                Some(Scheme::try_from(name.as_str()).map_err(drop)?)
            }
            Some(WitScheme::Other(_)) => return Err(()),
        };
        Ok(())
    }

    pub fn scheme(&self) -> Option<WitScheme> {
        self.scheme.as_ref().map(|scheme| match scheme.as_str() {
            "http" => WitScheme::Http,
            "https" => WitScheme::Https,
            other => WitScheme::Other(other.to_string()),
        })
    }

    pub fn set_authority(&mut self, authority: Option<String>) -> Result<(), ()> {
        self.authority = match authority {
            None => None,
            Some(authority) => Some(parse_authority(authority.as_bytes()).ok_or(())?),
        };
        Ok(())
    }
}

/// An authority whose port, if it has one, is a port.
fn parse_authority(bytes: &[u8]) -> Option<Authority> {
    let authority = Authority::try_from(bytes).ok()?;
    let whole = authority.as_str();
    let host_at = whole.bytes().rposition(|byte| byte == b'@').map_or(0, |at| at + 1);
    let behind_host = whole[host_at..].strip_prefix(authority.host())?;
    let port_is_one = behind_host.is_empty() || authority.port_u16().is_some();
    port_is_one.then_some(authority)
}

/// Whom a received request is for (RFC 9112, 3.2 and 3.3; RFC 9113, 8.3.1).
fn authority(parts: &mut http::request::Parts, origin: &Origin) -> Result<Authority, BadRequest> {
    let host = host(&mut parts.headers, origin)?;
    if let Some(target) = parts.uri.authority() {
        return parse_authority(target.as_str().as_bytes()).ok_or(BadRequest::Host);
    }
    match host {
        Some(host) => Ok(host),
        None if parts.version == http::Version::HTTP_11 => Err(BadRequest::Host),
        None => Ok(origin.authority.clone()),
    }
}

fn host(headers: &mut HeaderMap, origin: &Origin) -> Result<Option<Authority>, BadRequest> {
    let some_are_repeated = headers.keys_len() < headers.len();
    if some_are_repeated && headers.get_all(header::HOST).iter().nth(1).is_some() {
        return Err(BadRequest::Host);
    }
    // Not by `entry`, which makes room for one more.
    let Some(host) = headers.remove(header::HOST) else { return Ok(None) };
    origin.host(&host).map(Some).ok_or(BadRequest::Host)
}

/// Path and query as a request line has them (RFC 9112, 3.2.1 and 3.2.4).
fn origin_form(head: &Head) -> Result<Uri, ErrorCode> {
    let Some(path) = &head.path_with_query else { return Ok(Uri::from_static("/")) };
    let asterisk = path.as_str() == "*";
    if asterisk && head.method != Method::OPTIONS {
        return Err(ErrorCode::HttpRequestUriInvalid);
    }
    let path = match path.as_str().starts_with('?') {
        true => PathAndQuery::try_from(format!("/{}", path.as_str())).map_err(|_| ErrorCode::HttpRequestUriInvalid)?,
        false => path.clone(),
    };
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).map_err(|_| ErrorCode::HttpRequestUriInvalid)
}

#[cfg(test)]
mod tests;
