//! Guests send requests of their own, where that is allowed.

use super::support::{Connection, Io, Response, Server, on_both, serve};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Asks the guest `fan_out` to fetch two URLs at once.
fn fan_out(connection: &mut Connection, a: &str, b: &str) -> Response {
    connection.request("GET", "/", &format!("x-url-a: {a}\r\nx-url-b: {b}\r\n"), b"")
}

fn fan_out_server(io: Io, args: &str) -> Server {
    serve(io, &["fan_out"]).args(args).start()
}

/// A port on which nobody listens.
fn unused() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound")
}

#[test]
fn nothing_may_be_sent_unless_it_is_allowed() {
    on_both(|io| {
        let target = serve(io, &["log", "hello"]).start();
        let server = fan_out_server(io, "");
        let response = fan_out(&mut server.connect(), &target.url("/"), &target.url("/"));
        response.expect(502, "error ErrorCode::HttpRequestDenied\nerror ErrorCode::HttpRequestDenied\n");
        // One port is not another.
        let server = fan_out_server(io, "--allow-outbound 127.0.0.1:1 --allow-outbound localhost:*");
        let response = fan_out(&mut server.connect(), &target.url("/"), &target.url("/"));
        response.expect(502, "error ErrorCode::HttpRequestDenied\nerror ErrorCode::HttpRequestDenied\n");
        assert!(target.stdout.all().is_empty(), "nothing has reached the target");
    });
}

#[test]
fn two_servers_are_asked_at_once() {
    on_both(|io| {
        let (a, b) = (serve(io, &["echo"]).start(), serve(io, &["echo"]).start());
        let allow = format!("--allow-outbound {} --allow-outbound {}", a.addr(), b.addr());
        let server = fan_out_server(io, &allow);
        let mut connection = server.connect();
        fan_out(&mut connection, &a.url("/source/100000"), &b.url("/source/5/chunked"))
            .expect(200, "200 100000\n200 5\n");
        fan_out(&mut connection, &a.url("/status/404"), &b.url("/status/204")).expect(200, "404 11\n204 0\n");
        let start = Instant::now();
        fan_out(&mut connection, &a.url("/slow/500"), &b.url("/slow/500")).expect(200, "200 14\n200 14\n");
        assert!(start.elapsed() < Duration::from_millis(950), "one after the other: {:?}", start.elapsed());
    });
}

#[test]
fn a_star_allows_every_host_on_its_port() {
    on_both(|io| {
        let target = serve(io, &["hello"]).start();
        let server = fan_out_server(io, &format!("--allow-outbound *:{}", target.addr().port()));
        let by_name = format!("http://localhost:{}/", target.addr().port());
        fan_out(&mut server.connect(), &target.url("/"), &by_name).expect(200, "200 11\n200 11\n");
    });
}

/// An HTTP/1.1 server that counts its connections and requests; it lives as long as the test.
struct Counting {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Counting {
    fn start() -> Counting {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = listener.local_addr().expect("it is bound");
        let counting = Counting { addr, connections: Arc::default(), requests: Arc::default() };
        let (connections, requests) = (counting.connections.clone(), counting.requests.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::Relaxed);
                let requests = requests.clone();
                thread::spawn(move || answer(stream, &requests));
            }
        });
        counting
    }
}

/// Answers `hi` to every request, none of which has a body.
fn answer(mut stream: std::net::TcpStream, requests: &AtomicUsize) {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..count]);
        while let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            seen.drain(..end + 4);
            requests.fetch_add(1, Ordering::Relaxed);
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").is_err() {
                return;
            }
        }
    }
}

#[test]
fn connections_are_kept_and_used_again() {
    on_both(|io| {
        let target = Counting::start();
        let server = fan_out_server(io, &format!("--allow-outbound {}", target.addr));
        let url = format!("http://{}/", target.addr);
        let mut connection = server.connect();
        for _ in 0..20 {
            fan_out(&mut connection, &url, &url).expect(200, "200 2\n200 2\n");
        }
        let (connections, requests) =
            (target.connections.load(Ordering::Relaxed), target.requests.load(Ordering::Relaxed));
        println!("{requests} requests on {connections} connections");
        assert_eq!(requests, 40);
        assert!(connections <= 4, "{connections} connections for two requests at once");
    });
}

#[test]
fn a_target_that_cannot_be_reached_is_an_error_for_the_guest() {
    on_both(|io| {
        let target = serve(io, &["hello"]).start();
        let nobody = unused();
        let server = fan_out_server(
            io,
            &format!("--allow-outbound *:{} --allow-outbound *:{}", target.addr().port(), nobody.port()),
        );
        let mut connection = server.connect();
        let response = fan_out(&mut connection, &format!("http://{nobody}/"), &target.url("/"));
        response.expect(502, "error ErrorCode::ConnectionRefused\n200 11\n");
        let nowhere = format!("http://no-such-host.invalid:{}/", nobody.port());
        let response = fan_out(&mut connection, &nowhere, &target.url("/"));
        let text = response.expect_status(502).text();
        assert!(text.starts_with("error ErrorCode::Dns") && text.ends_with("\n200 11\n"), "{text}");
        // It goes on.
        fan_out(&mut connection, &target.url("/"), &target.url("/")).expect(200, "200 11\n200 11\n");
    });
}

#[test]
fn a_target_that_breaks_off_is_an_error_for_the_guest() {
    on_both(|io| {
        let target = serve(io, &["half_body"]).args("--max-concurrent 1").start();
        let server = fan_out_server(io, &format!("--allow-outbound {}", target.addr()));
        let mut connection = server.connect();
        for path in ["/", "/abort"] {
            let response = fan_out(&mut connection, &target.url(path), &target.url("/hello"));
            let text = response.expect_status(502).text();
            assert!(text.starts_with("error ErrorCode::") || text.starts_with("502 "), "{text}");
        }
        fan_out(&mut connection, &target.url("/hello"), &target.url("/hello")).expect_status(200);
    });
}

#[test]
fn a_client_that_hangs_up_ends_what_its_guest_sends() {
    on_both(|io| {
        let target = serve(io, &["echo"]).start();
        let server = fan_out_server(io, &format!("--allow-outbound {}", target.addr()));
        fan_out(&mut server.connect(), &target.url("/status/200"), &target.url("/status/200")).expect_status(200);
        let before = server.fds();
        for _ in 0..50 {
            let mut connection = server.connect();
            let url = target.url("/slow/60000");
            connection.send(format!("GET / HTTP/1.1\r\nhost: test\r\nx-url-a: {url}\r\nx-url-b: {url}\r\n\r\n"));
            thread::sleep(Duration::from_millis(5));
        }
        // Two may be kept for the next.
        super::support::eventually(
            || "the connections are closed",
            Duration::from_secs(10),
            || server.fds().len() <= before.len() + 2,
        );
        fan_out(&mut server.connect(), &target.url("/status/200"), &target.url("/status/200")).expect_status(200);
    });
}
