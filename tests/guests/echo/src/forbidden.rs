//! Asks the host for everything that `wasi:http/types` says it must refuse, and reports what it answered.
//! One line per attempt: what was tried, a colon, `ok` or the error.

use wasip3::http::types::{Fields, HeaderError, Method, Request, Response, Scheme};

use guest_kit::{fields, no_trailers};

/// Names that belong to the connection rather than to the message; a host is free to refuse them.
const CONNECTION_FIELDS: &[&str] = &[
    "connection",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Fields that are not even syntax.
const MALFORMED_FIELDS: &[(&str, &[u8])] = &[
    ("", b"empty name"),
    ("bad name", b"space in name"),
    ("bad\r\nname", b"line break in name"),
    ("x-break", b"a\r\nx-smuggled: b"),
    ("x-nul", b"a\0b"),
];

/// Tries everything; `request` is the one that came in, whose parts are immutable.
pub fn report(request: &Request) -> String {
    let mut out = String::new();
    let mut line = |what: &str, answer: String| out += &format!("{what}: {answer}\n");

    let ours = Fields::new();
    for name in CONNECTION_FIELDS {
        line(&format!("append {name}"), header(ours.append(name, b"x")));
    }
    for (name, value) in MALFORMED_FIELDS {
        let shown = format!("append {name:?} {:?}", String::from_utf8_lossy(value));
        line(&shown, header(ours.append(name, value)));
    }
    line("set connection", header(ours.set("connection", &[b"close".to_vec()])));
    line("delete connection", header(ours.delete("connection")));
    let pairs = [("transfer-encoding".to_owned(), b"chunked".to_vec())];
    line("from-list transfer-encoding", header(Fields::from_list(&pairs)));

    let theirs = request.get_headers();
    line("append to request headers", header(theirs.append("x-late", b"x")));
    line("set in request headers", header(theirs.set("x-late", &[b"x".to_vec()])));
    line("delete from request headers", header(theirs.delete("accept")));
    line("append to a clone of them", header(theirs.clone().append("x-late", b"x")));

    let (outgoing, _) = Request::new(fields(&[]), None, no_trailers(), None);
    line("method \"bad method\"", plain(outgoing.set_method(&Method::Other("bad method".into()))));
    line("method \"\"", plain(outgoing.set_method(&Method::Other(String::new()))));
    line("path \"/a b\\n\"", plain(outgoing.set_path_with_query(Some("/a b\n"))));
    line("scheme \"1 bad\"", plain(outgoing.set_scheme(Some(&Scheme::Other("1 bad".into())))));
    line("authority \"bad host\"", plain(outgoing.set_authority(Some("bad host"))));

    let (answer, _) = Response::new(fields(&[]), None, no_trailers());
    line("status 99", plain(answer.set_status_code(99)));
    line("status 1000", plain(answer.set_status_code(1000)));
    out
}

fn header<T>(result: Result<T, HeaderError>) -> String {
    match result {
        Ok(_) => "ok".into(),
        Err(HeaderError::InvalidSyntax) => "invalid-syntax".into(),
        Err(HeaderError::Forbidden) => "forbidden".into(),
        Err(HeaderError::Immutable) => "immutable".into(),
        Err(HeaderError::SizeExceeded) => "size-exceeded".into(),
        Err(HeaderError::Other(why)) => format!("other {}", why.unwrap_or_default()),
    }
}

fn plain(result: Result<(), ()>) -> String {
    match result {
        Ok(()) => "ok".into(),
        Err(()) => "refused".into(),
    }
}
