//! What of a request a guest sees, and what it can make of one.

use super::*;
use crate::host::stream::FutureReader;
use http::Version;

fn origin() -> Origin {
    Origin::new(Scheme::HTTP, Authority::from_static("127.0.0.1:8080"))
}

/// A request that a guest has made.
fn made(account: &Rc<Account>) -> Request {
    let (body, _) = Body::made(Message::Request, None, FutureReader::ready(Ok(None)));
    Request::made(Rc::new(Fields::new(account)), None, body)
}

#[test]
fn what_a_guest_puts_into_requests_counts_for_its_zone() {
    let account = Account::new(100);
    let (one, other) = (made(&account), made(&account));
    let set = |request: &Request, len: usize| {
        request.change(&account, |head| head.set_path_with_query(Some(format!("/{}", "x".repeat(len)))))
    };
    assert_eq!(set(&one, 60), Ok(()));
    assert_eq!(set(&other, 60), Err(()));
    assert!(other.head.borrow().path_with_query.is_none(), "a refused change changes nothing");
    assert_eq!(other.change(&account, |head| head.set_authority(Some("x".repeat(60)))), Err(()));
    assert_eq!(set(&one, 10), Ok(()));
    assert_eq!(set(&other, 60), Ok(()), "there is room again");
    drop(other);
    assert_eq!(set(&one, 80), Ok(()));
}

/// The authority that a guest sees.
fn seen(uri: &str, version: Version, hosts: &[&str]) -> Result<String, BadRequest> {
    let mut request = http::Request::builder().uri(uri).version(version);
    for host in hosts {
        request = request.header("host", *host);
    }
    let (parts, ()) = request.body(()).expect("a request").into_parts();
    let request = Request::from_hyper(parts, None, &origin())?;
    assert!(!request.headers.has("host"));
    Ok(request.head.borrow().authority.as_ref().expect("always one").to_string())
}

#[test]
fn host_becomes_the_authority() {
    let (h10, h11, h2) = (Version::HTTP_10, Version::HTTP_11, Version::HTTP_2);
    assert_eq!(seen("/", h11, &["example.com"]), Ok("example.com".into()));
    assert_eq!(seen("/", h11, &["example.com:81"]), Ok("example.com:81".into()));
    assert_eq!(seen("http://a/", h11, &["b"]), Ok("a".into()), "RFC 9112, 3.2.2");
    assert_eq!(seen("http://a/", h2, &[]), Ok("a".into()));
    assert_eq!(seen("/", h10, &[]), Ok("127.0.0.1:8080".into()));
    assert_eq!(seen("/", h11, &[]), Err(BadRequest::Host));
    for hosts in [&["a", "a"][..], &["a b"], &["a:port"], &["u@a"], &["a/b"]] {
        assert_eq!(seen("/", h11, hosts), Err(BadRequest::Host), "{hosts:?}");
    }
}

#[test]
fn a_tunnel_is_refused() {
    let request = http::Request::builder().method("CONNECT").uri("example.com:443");
    let (parts, ()) = request.body(()).expect("a request").into_parts();
    assert_eq!(Request::from_hyper(parts, None, &origin()).err(), Some(BadRequest::Connect));
    assert_eq!(BadRequest::Connect.status(), StatusCode::NOT_IMPLEMENTED);
}

fn head() -> Head {
    Head { method: Method::GET, scheme: None, authority: None, path_with_query: None }
}

#[test]
fn a_method_is_a_token() {
    let mut head = head();
    assert_eq!(head.set_method(WitMethod::Other("PURGE".into())), Ok(()));
    assert_eq!(head.method(), WitMethod::Other("PURGE".into()));
    assert_eq!(head.set_method(WitMethod::Other("PATCH".into())), Ok(()));
    assert_eq!(head.method(), WitMethod::Patch, "a known method is that method");
    for wrong in ["", "a b", "G\r\nET", "ü"] {
        assert_eq!(head.set_method(WitMethod::Other(wrong.into())), Err(()), "{wrong:?}");
    }
    assert_eq!(head.method(), WitMethod::Patch, "a refused change changes nothing");
}

#[test]
fn a_path_is_empty_or_begins_with_a_slash_and_has_no_fragment() {
    let mut head = head();
    for right in ["/", "/a/b?c=d&e", "?a", "", "*", "/%20"] {
        assert_eq!(head.set_path_with_query(Some(right.into())), Ok(()), "{right:?}");
    }
    for wrong in ["a", "http://example.com/", "/a#b", "/a b", "/a\nb", "*a"] {
        assert_eq!(head.set_path_with_query(Some(wrong.into())), Err(()), "{wrong:?}");
    }
    assert_eq!(head.set_path_with_query(None), Ok(()));
    assert!(head.path_with_query.is_none());
}

#[test]
fn an_authority_is_a_host_with_perhaps_a_port() {
    let mut head = head();
    for right in ["example.com", "a:80", "127.0.0.1:1", "[::1]", "[::1]:8080", "u:p@a:1"] {
        assert_eq!(head.set_authority(Some(right.into())), Ok(()), "{right:?}");
    }
    for wrong in ["", "a:", "a:x", "a:65536", "a b", "a/b", "[::1", "http://a"] {
        assert_eq!(head.set_authority(Some(wrong.into())), Err(()), "{wrong:?}");
    }
}

#[test]
fn a_scheme_is_a_scheme() {
    let mut head = head();
    assert_eq!(head.set_scheme(Some(WitScheme::Other("http".into()))), Ok(()));
    assert_eq!(head.scheme(), Some(WitScheme::Http));
    assert_eq!(head.set_scheme(Some(WitScheme::Other("ftp".into()))), Ok(()));
    assert_eq!(head.scheme(), Some(WitScheme::Other("ftp".into())));
    for wrong in ["", "a b", "http:", "ü", "1a"] {
        assert_eq!(head.set_scheme(Some(WitScheme::Other(wrong.into()))), Err(()), "{wrong:?}");
    }
}

#[test]
fn the_request_line_gets_an_origin_form() {
    let form = |method: Method, path: Option<&str>| {
        let mut head = head();
        head.method = method;
        head.set_path_with_query(path.map(Into::into)).expect("a path");
        origin_form(&head).map(|uri| uri.to_string())
    };
    assert_eq!(form(Method::GET, None), Ok("/".into()));
    assert_eq!(form(Method::GET, Some("")), Ok("/".into()));
    assert_eq!(form(Method::GET, Some("?a=b")), Ok("/?a=b".into()));
    assert_eq!(form(Method::GET, Some("/a?b")), Ok("/a?b".into()));
    assert_eq!(form(Method::OPTIONS, Some("*")), Ok("*".into()));
    assert_eq!(form(Method::GET, Some("*")), Err(ErrorCode::HttpRequestUriInvalid));
}
