//! The client against servers that do what they are told, on both drivers.
//!
//! The certificate in `testdata` is for `localhost` and signed by itself; its key is public by being here.

use super::*;
use crate::executor::net::{BindOptions, TcpListener, TcpStream};
use crate::executor::{Executor, timeout, yield_now};
use crate::host::wasi::http::{Origin, Request};
use crate::ring::{IoMode, probe};
use http::uri::{Authority, Scheme};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// No test should ever take this long.
const HANGS: Duration = Duration::from_secs(20);

fn on_both_drivers<F: AsyncFn()>(test: F) {
    for mode in [IoMode::Auto, IoMode::Epoll] {
        let choice = probe(mode).expect("there is always a driver");
        let executor = Executor::new(&choice).expect("an executor");
        executor.block_on(timeout(HANGS, test())).unwrap_or_else(|_| panic!("hangs on {choice}"));
    }
}

/// A server on a free port of this machine; `serve` is called with each connection.
async fn server<F>(serve: impl Fn(TcpStream, usize) -> F + 'static) -> SocketAddr
where
    F: Future<Output = ()> + 'static,
{
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut listener = TcpListener::bind(any, BindOptions::default()).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(spawn(async move {
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            drop(spawn(serve(stream, number)));
        }
    }));
    address
}

/// Reads a request's head and as much body as its content-length says; `None` when the client is gone.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
            let whole = match head.contains("chunked") {
                true => body.ends_with("\r\n\r\n"),
                false => length <= body.len(),
            };
            if whole {
                return Some(text);
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => request.extend_from_slice(&buffer[..n]),
        }
    }
}

/// Gives every request on a connection the same answer; keeps what was asked.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: &str, asked: &RefCell<Vec<String>>) {
    while let Some(request) = read_request(&mut stream).await {
        asked.borrow_mut().push(request);
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn answering(text: &'static str) -> (SocketAddr, Rc<RefCell<Vec<String>>>) {
    let asked = Rc::new(RefCell::new(Vec::new()));
    let seen = asked.clone();
    let serve = move |stream, _| {
        let seen = seen.clone();
        async move { answer(stream, text, &seen).await }
    };
    (server(serve).await, asked)
}

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nkeep-alive: timeout=5\r\nx-a: b\r\n\r\nhello";

fn config() -> OutboundConfig {
    OutboundConfig::new(["*:*".parse().expect("a rule")].into_iter().collect())
}

fn request(method: Method, to: impl ToString, body: Option<HostBody>) -> OutgoingRequest {
    let authority: Authority = to.to_string().parse().expect("an authority");
    let origin = Origin::new(Scheme::HTTP, authority);
    let request = http::Request::builder().method(method).uri("/path?query").version(http::Version::HTTP_10);
    let (parts, ()) = request.body(()).expect("a request").into_parts();
    let request = Request::from_hyper(parts, body, &origin).expect("a request");
    Rc::new(request).into_outgoing().expect("can be sent")
}

fn get(to: impl ToString) -> OutgoingRequest {
    request(Method::GET, to, None)
}

/// A body of these frames, and then its end or nothing more.
struct Frames {
    frames: VecDeque<Frame<Bytes>>,
    size: Option<u64>,
    ends: bool,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = ErrorCode;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ErrorCode>>> {
        match self.frames.pop_front() {
            None if !self.ends => Poll::Pending,
            frame => Poll::Ready(frame.map(Ok)),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.size.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn frames(frames: impl IntoIterator<Item = Frame<Bytes>>, size: Option<u64>) -> Option<HostBody> {
    let frames = frames.into_iter().collect();
    HostBody::new(Frames { frames, size, ends: true }, Message::Request)
}

fn piece(text: &'static str) -> Frame<Bytes> {
    Frame::data(Bytes::from_static(text.as_bytes()))
}

fn whole(text: &'static str) -> Option<HostBody> {
    frames([piece(text)], Some(text.len() as u64))
}

/// A body in chunks, with trailers; its length is not known before.
fn chunked(chunks: &'static [&'static str]) -> Option<HostBody> {
    let trailers = [("x-sum".parse().expect("a name"), HeaderValue::from_static("1"))];
    let trailers = Frame::trailers(trailers.into_iter().collect());
    frames(chunks.iter().map(|chunk| piece(chunk)).chain([trailers]), None)
}

async fn next(body: &mut OutgoingBody) -> Option<Result<Frame<Bytes>, ErrorCode>> {
    poll_fn(|task| Pin::new(&mut *body).poll_frame(task)).await
}

/// Status, body and trailers of a response, read as the server would that sends it on.
async fn read(response: Response) -> Result<(u16, String, Option<http::HeaderMap>), ErrorCode> {
    let response = Rc::new(response).into_hyper(&Method::GET)?;
    let (parts, mut body) = response.into_parts();
    let (mut bytes, mut trailers) = (Vec::new(), None);
    while let Some(frame) = next(&mut body).await {
        match frame?.into_data() {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((parts.status.as_u16(), String::from_utf8(bytes).expect("text"), trailers))
}

async fn fetch(client: &Client, request: OutgoingRequest) -> Result<String, ErrorCode> {
    let response = client.send(request).await?;
    read(response).await.map(|(_, text, _)| text)
}

/// Until all that can happen by itself has happened.
async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
    sleep(Duration::from_millis(20)).await;
}

#[test]
fn a_request_gets_its_response_and_the_connection_is_kept() {
    on_both_drivers(async || {
        let (address, asked) = answering(HELLO).await;
        let client = Client::new(config());
        for _ in 0..3 {
            let response = client.send(get(address)).await.expect("answered");
            assert!(!response_has(&response, "keep-alive"), "that is between the connection's ends");
            assert!(response_has(&response, "x-a"));
            assert_eq!(read(response).await, Ok((200, "hello".into(), None)));
        }
        settle().await;
        assert_eq!(client.connections(), (1, 1));
        let expected = format!("GET /path?query HTTP/1.1\r\nhost: {address}\r\n\r\n");
        assert_eq!(asked.borrow()[..], [expected.clone(), expected.clone(), expected]);
        client.close_idle();
        settle().await;
        assert_eq!(client.connections(), (0, 0));
    });
}

fn response_has(response: &Response, name: &str) -> bool {
    response.headers().map().contains_key(name)
}

#[test]
fn bodies_and_trailers_go_both_ways() {
    const ANSWER: &str = "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\ntrailer: x-end\r\n\r\n\
        3\r\nabc\r\n2\r\nde\r\n0\r\nx-end: yes\r\n\r\n";
    on_both_drivers(async || {
        let (address, asked) = answering(ANSWER).await;
        let client = Client::new(config());
        let mut sent = request(Method::POST, address, chunked(&["one ", "two ", "three"]));
        sent.head.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
        let response = client.send(sent).await.expect("answered");
        let (status, text, trailers) = read(response).await.expect("whole");
        assert_eq!((status, text.as_str()), (201, "abcde"));
        assert_eq!(trailers.expect("sent")["x-end"], "yes");
        let asked = asked.borrow();
        assert!(asked[0].contains("transfer-encoding: chunked\r\n"), "{}", asked[0]);
        assert!(asked[0].ends_with("5\r\nthree\r\n0\r\nx-sum: 1\r\n\r\n"), "{}", asked[0]);
    });
}

#[test]
fn a_known_length_is_announced_and_even_a_get_keeps_its_body() {
    on_both_drivers(async || {
        let (address, asked) = answering(HELLO).await;
        let client = Client::new(config());
        let sent = [
            request(Method::POST, address, whole("12345")),
            request(Method::POST, address, None),
            request(Method::GET, address, chunked(&["a", "b", "c"])),
        ];
        for request in sent {
            assert_eq!(fetch(&client, request).await, Ok("hello".into()));
        }
        let asked = asked.borrow();
        assert!(asked[0].contains("content-length: 5\r\n") && asked[0].ends_with("12345"), "{}", asked[0]);
        assert!(asked[1].contains("content-length: 0\r\n"), "{}", asked[1]);
        assert!(asked[2].ends_with("1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n"), "{}", asked[2]);
    });
}

#[test]
fn what_is_not_allowed_is_denied_without_a_connection() {
    on_both_drivers(async || {
        let (address, asked) = answering(HELLO).await;
        let rules = |rules: &[&str]| rules.iter().map(|rule| rule.parse::<Rule>().expect("a rule")).collect();
        let client = |allow: Allow| Client::new(OutboundConfig::new(allow));
        let denied = Err(ErrorCode::HttpRequestDenied);
        assert_eq!(fetch(&client(Allow::nothing()), get(address)).await, denied);
        assert_eq!(fetch(&client(rules(&["127.0.0.1"])), get(address)).await, denied);
        assert_eq!(fetch(&client(rules(&["localhost:*"])), get(address)).await, denied);
        assert!(asked.borrow().is_empty());
        let allowed = client(rules(&[&address.to_string()]));
        assert_eq!(fetch(&allowed, get(address)).await, Ok("hello".into()));
    });
}

#[test]
fn a_target_that_is_none_is_refused() {
    on_both_drivers(async || {
        let client = Client::new(config());
        let refused = async |change: fn(&mut OutgoingRequest)| {
            let mut request = get("localhost");
            change(&mut request);
            fetch(&client, request).await.expect_err("refused")
        };
        assert_eq!(refused(|request| request.authority = None).await, ErrorCode::HttpRequestUriInvalid);
        let user = |request: &mut OutgoingRequest| request.authority = "u:p@a".parse().ok();
        assert_eq!(refused(user).await, ErrorCode::HttpRequestUriInvalid);
        let ftp = |request: &mut OutgoingRequest| request.scheme = Scheme::try_from("ftp").ok();
        assert_eq!(refused(ftp).await, ErrorCode::HttpProtocolError);
    });
}

#[test]
fn a_name_is_resolved_and_an_unknown_one_is_an_error() {
    on_both_drivers(async || {
        let (address, asked) = answering(HELLO).await;
        let client = Client::new(config());
        let named = format!("LOCALHOST:{}", address.port());
        assert_eq!(fetch(&client, get(&named)).await, Ok("hello".into()));
        assert!(asked.borrow()[0].contains(&format!("host: {named}\r\n")), "as the guest wrote it");
        let unknown = fetch(&client, get("does-not-exist.invalid")).await;
        assert!(matches!(unknown, Err(ErrorCode::DnsError(_))), "{unknown:?}");
    });
}

#[test]
fn nobody_listening_is_a_refused_connection() {
    on_both_drivers(async || {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(any, BindOptions::default()).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        listener.close().await;
        let client = Client::new(config());
        assert_eq!(fetch(&client, get(address)).await, Err(ErrorCode::ConnectionRefused));
        settle().await;
        assert_eq!(client.connections(), (0, 0));
    });
}

#[test]
fn broken_responses_get_the_code_that_names_them() {
    let cases = [
        ("", ErrorCode::HttpResponseIncomplete),
        ("HTTP/1.1 200 OK\r\ncontent-le", ErrorCode::HttpResponseIncomplete),
        ("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello", ErrorCode::HttpResponseIncomplete),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel", ErrorCode::HttpResponseIncomplete),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", ErrorCode::HttpProtocolError),
        ("SSH-2.0-OpenSSH_9.2p1\r\n\r\n", ErrorCode::HttpProtocolError),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", ErrorCode::HttpUpgradeFailed),
    ];
    on_both_drivers(async || {
        for (text, expected) in cases.clone() {
            let address = server(move |mut stream: TcpStream, _| async move {
                let _ = read_request(&mut stream).await;
                let _ = stream.write_all(text.as_bytes()).await;
            })
            .await;
            let client = Client::new(config());
            assert_eq!(fetch(&client, get(address)).await, Err(expected), "{text:?}");
            settle().await;
            assert_eq!(client.connections(), (0, 0), "{text:?}");
        }
    });
}

#[test]
fn a_kept_connection_that_was_closed_is_replaced() {
    on_both_drivers(async || {
        let connections = Rc::new(Cell::new(0));
        let seen = connections.clone();
        let address = server(move |mut stream: TcpStream, number| {
            seen.set(number + 1);
            async move {
                let _ = read_request(&mut stream).await;
                let _ = stream.write_all(HELLO.as_bytes()).await;
            }
        })
        .await;
        let client = Client::new(config());
        for _ in 0..3 {
            assert_eq!(fetch(&client, request(Method::POST, address, whole("abc"))).await, Ok("hello".into()));
            settle().await;
        }
        assert_eq!(connections.get(), 3);
    });
}

#[test]
fn connections_are_limited_and_those_who_wait_are_served_in_turn() {
    on_both_drivers(async || {
        let most = Rc::new(Cell::new((0, 0)));
        let seen = most.clone();
        let serve = move |mut stream: TcpStream, _| {
            let seen = seen.clone();
            async move {
                let (now, max) = seen.get();
                seen.set((now + 1, max.max(now + 1)));
                while read_request(&mut stream).await.is_some() {
                    sleep(Duration::from_millis(2)).await;
                    let _ = stream.write_all(HELLO.as_bytes()).await;
                }
                seen.set((seen.get().0 - 1, seen.get().1));
            }
        };
        let (one, two) = (server(serve.clone()).await, server(serve).await);
        let mut config = config();
        config.pool.connections_max = 3;
        config.pool.waiting_max = 20;
        let client = Client::new(config.clone());
        let fetches = (0..23).map(|n| fetch(&client, get(if n % 3 == 0 { one } else { two })));
        let results = futures::future::join_all(fetches).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        assert!(most.get().1 <= 3, "{} connections at once", most.get().1);

        let client = Client::new(config);
        let fetches = (0..24).map(|_| fetch(&client, get(one)));
        let results = futures::future::join_all(fetches).await;
        let refused = results.iter().filter(|result| **result == Err(ErrorCode::ConnectionLimitReached));
        assert_eq!(refused.count(), 1);
    });
}

#[test]
fn each_timeout_ends_what_it_is_for() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
    const PART: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel";
    let short = Some(Duration::from_millis(50));
    let first = Timeouts { first_byte: short, ..Timeouts::default() };
    let between = Timeouts { between_bytes: short, ..Timeouts::default() };
    on_both_drivers(async || {
        for (text, timeouts) in [("", first), (HEAD, first), (PART, between)] {
            let (address, _) = answering(text).await;
            let client = Client::new(config());
            let mut request = get(address);
            request.timeouts = timeouts;
            let late = Err(ErrorCode::ConnectionReadTimeout);
            assert_eq!(fetch(&client, request).await, late, "{text:?}");
            settle().await;
            assert_eq!(client.connections(), (0, 0), "{text:?}");
        }
        // A limit that holds everybody up: there is one place, and it is taken.
        let (address, _) = answering(PART).await;
        let mut config = config();
        config.pool.connections_max = 1;
        let client = Client::new(config);
        let held = client.send(get(address)).await.expect("a head");
        let mut request = get(address);
        request.timeouts.connect = short;
        assert_eq!(fetch(&client, request).await, Err(ErrorCode::ConnectionTimeout));
        drop(held);
        settle().await;
        assert_eq!(client.connections(), (0, 0));
    });
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    on_both_drivers(async || {
        let (address, _) = answering(HELLO).await;
        let mut config = config();
        config.pool.idle_timeout = Duration::from_millis(50);
        let client = Client::new(config);
        assert_eq!(fetch(&client, get(address)).await, Ok("hello".into()));
        assert_eq!(client.connections(), (1, 1));
        sleep(Duration::from_millis(100)).await;
        settle().await;
        assert_eq!(client.connections(), (0, 0));
    });
}

#[test]
fn giving_up_a_request_closes_its_connection() {
    on_both_drivers(async || {
        let (address, asked) = answering("").await;
        let client = Client::new(config());
        let sent = client.send(get(address));
        assert!(timeout(Duration::from_millis(50), sent).await.is_err());
        settle().await;
        assert_eq!(asked.borrow().len(), 1);
        assert_eq!(client.connections(), (0, 0));
    });
}

#[test]
fn a_response_that_comes_before_the_request_is_sent_is_received() {
    on_both_drivers(async || {
        let address = server(|mut stream: TcpStream, _| async move {
            let mut some = [0; 1024];
            let _ = AsyncReadExt::read(&mut stream, &mut some).await;
            let _ = stream.write_all(HELLO.as_bytes()).await;
            sleep(Duration::from_millis(100)).await;
        })
        .await;
        let client = Client::new(config());
        let endless = Frames { frames: VecDeque::new(), size: None, ends: false };
        let body = HostBody::new(endless, Message::Request);
        assert_eq!(fetch(&client, request(Method::POST, address, body)).await, Ok("hello".into()));
        sleep(Duration::from_millis(200)).await;
        settle().await;
        assert_eq!(client.connections(), (0, 0), "a connection in the middle of a request is not kept");
    });
}

fn certificate() -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(include_bytes!("testdata/localhost.cert.pem")).expect("a certificate")
}

async fn tls_server() -> SocketAddr {
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("testdata/localhost.key.pem")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate()], key)
        .expect("the key fits");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let serve = move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
            answer(stream, HELLO, &RefCell::default()).await;
        }
    };
    server(serve).await
}

#[test]
fn https_trusts_the_roots_it_was_given_and_no_others() {
    on_both_drivers(async || {
        let address = tls_server().await;
        let https = |to: String| {
            let mut request = get(to);
            // What a guest leaves open is https.
            request.scheme = None;
            request
        };
        let mut trusting = config();
        trusting.extra_roots = vec![certificate()];
        let client = Client::new(trusting);
        for to in [format!("localhost:{}", address.port()), address.to_string()] {
            for _ in 0..2 {
                assert_eq!(fetch(&client, https(to.clone())).await, Ok("hello".into()), "{to}");
            }
        }
        settle().await;
        assert_eq!(client.connections(), (2, 2), "one per name");
        let wary = Client::new(config());
        let refused = fetch(&wary, https(address.to_string())).await;
        assert_eq!(refused, Err(ErrorCode::TlsCertificateError));

        let plain = server(|mut stream: TcpStream, _| async move {
            let _ = AsyncReadExt::read(&mut stream, &mut [0; 1024]).await;
            let _ = AsyncWriteExt::write_all(&mut stream, HELLO.as_bytes()).await;
        })
        .await;
        let confused = fetch(&client, https(plain.to_string())).await;
        assert!(matches!(confused, Err(ErrorCode::TlsProtocolError | ErrorCode::ConnectionTerminated)), "{confused:?}");
    });
}

#[test]
fn a_large_body_goes_both_ways_in_pieces() {
    const SIZE: usize = 8 << 20;
    on_both_drivers(async || {
        let address = server(|stream: TcpStream, _| async move {
            let echo = hyper::service::service_fn(|request: http::Request<Incoming>| async move {
                Ok::<_, std::convert::Infallible>(http::Response::new(request.into_body()))
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, echo).await;
        })
        .await;
        let client = Client::new(config());
        let pieces = (0..SIZE / 65_536).map(|n| Frame::data(Bytes::from(vec![n as u8; 65_536])));
        let body = frames(pieces, None);
        let response = client.send(request(Method::PUT, address, body)).await.expect("answered");
        let response = Rc::new(response).into_hyper(&Method::GET).expect("can be sent on");
        let mut body = response.into_body();
        let mut received = 0;
        while let Some(frame) = next(&mut body).await {
            let data = frame.expect("whole").into_data().expect("no trailers");
            let right = data.iter().enumerate().all(|(at, byte)| *byte == ((received + at) / 65_536) as u8);
            assert!(right, "at {received}");
            received += data.len();
        }
        assert_eq!(received, SIZE);
        settle().await;
        assert_eq!(client.connections(), (1, 1));
    });
}
