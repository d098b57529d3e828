//! One component is served as it is, over HTTP/1.1 and HTTP/2.

use super::support::http::chunked;
use super::support::process::{curl_h2, h2load, run};
use super::support::{on_both, serve};
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn a_component_answers_over_http_1_and_2() {
    on_both(|io| {
        let server = serve(io, &["hello"]).start();
        server.get("/").expect(200, "hello world");
        let finished = curl_h2(&["--write-out", " %{http_version}", &server.url("/")]).success();
        assert_eq!(finished.text(), "hello world 2");
        server.stop();
    });
}

#[test]
fn the_driver_is_chosen_once_and_logged() {
    on_both(|io| {
        let server = serve(io, &["hello"]).workers(2).start();
        let name = if io.to_string() == "uring" { "io_uring" } else { "epoll" };
        let lines = server.stderr.all();
        assert_eq!(lines.iter().filter(|line| line.contains("I/O by")).count(), 1, "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("I/O by") && line.contains(name)), "{lines:#?}");
    });
}

#[test]
fn the_log_has_no_colours_for_a_file() {
    let server = serve(super::support::Io::Epoll, &["hello"]).start();
    let coloured: Vec<_> = server.stderr.all().into_iter().filter(|line| line.contains('\x1b')).collect();
    assert!(coloured.is_empty(), "{coloured:?}");
}

#[test]
fn the_guest_sees_the_request_as_it_was_sent() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        let mut connection = server.connect();
        let seen =
            connection.request("PATCH", "/headers?a=b%20c&d", "x-one: 1\r\nX-Two: 2\r\nx-one: once more\r\n", b"body");
        let text = seen.expect_status(200).text();
        let expected = "method: PATCH
path: /headers?a=b%20c&d
scheme: http
authority: test

";
        assert!(text.starts_with(expected), "{text}");
        for line in ["x-one: 1\n", "x-one: once more\n", "x-two: 2\n", "content-length: 4\n"] {
            assert!(text.contains(line), "no `{line}` in {text}");
        }
    });
}

#[test]
fn http_2_requests_have_scheme_and_authority() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        let text = curl_h2(&["-H", "x-one: 1", &server.url("/headers")]).success().text();
        let expected = format!("method: GET\npath: /headers\nscheme: http\nauthority: {}\n\n", server.addr());
        assert!(text.starts_with(&expected), "{text}");
        assert!(text.contains("x-one: 1\n"), "{text}");
    });
}

#[test]
fn one_connection_carries_many_requests() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        let mut connection = server.connect();
        for i in 0..300 {
            let body = format!("request {i}");
            connection.request("POST", "/echo", "", body.as_bytes()).expect(200, &body);
        }
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        let mut connection = server.connect();
        // The first takes longest; its followers must wait for their turn.
        let mut requests = "GET /slow/100 HTTP/1.1\r\nhost: test\r\n\r\n".to_string();
        for i in 0..50 {
            requests += &format!("POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\n{i:02}");
        }
        connection.send(requests);
        connection.response().expect("the first").expect(200, "waited 100 ms\n");
        for i in 0..50 {
            connection.response().expect("a later one").expect(200, &format!("{i:02}"));
        }
    });
}

#[test]
fn a_head_may_come_byte_by_byte() {
    on_both(|io| {
        let server = serve(io, &["hello"]).start();
        let mut connection = server.connect();
        for byte in b"GET / HTTP/1.1\r\nhost: test\r\n\r\n" {
            connection.send([*byte]);
            std::thread::sleep(Duration::from_millis(1));
        }
        connection.response().expect("a response").expect(200, "hello world");
    });
}

#[test]
fn http_1_0_gets_a_body_that_ends_with_the_connection() {
    on_both(|io| {
        let server = serve(io, &["hello"]).start();
        let mut connection = server.connect();
        connection.send("GET / HTTP/1.0\r\n\r\n");
        let response = connection.response().expect("a response");
        response.expect(200, "hello world");
        assert_eq!(response.header("transfer-encoding"), None, "HTTP/1.0 knows no chunks");
    });
}

#[test]
fn http_1_0_keeps_the_connection_if_asked_to() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        let mut connection = server.connect();
        for _ in 0..3 {
            connection.send("POST /echo HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi");
            connection.response().expect("a response").expect(200, "hi");
        }
    });
}

#[test]
fn the_connection_closes_if_the_client_asks_for_it() {
    on_both(|io| {
        let server = serve(io, &["hello"]).start();
        let mut connection = server.connect();
        connection.send("GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        let response = connection.response().expect("a response");
        assert_eq!(response.header("connection").as_deref(), Some("close"));
        connection.expect_close(Duration::from_secs(2));
    });
}

#[test]
fn an_answer_to_head_has_headers_and_no_body() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        let mut connection = server.connect();
        let response = connection.request("HEAD", "/source/1000", "", b"");
        assert_eq!((response.status(), response.header("content-length").as_deref()), (200, Some("1000")));
        // Had a body come, this response would begin with it.
        connection.request("HEAD", "/source/1000/chunked", "", b"").expect(200, "");
        connection.get("/source/3").expect(200, "\0\u{1}\u{2}");
        curl_h2(&["--head", &server.url("/source/1000")]).success();
    });
}

#[test]
fn statuses_reach_the_client() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        let mut connection = server.connect();
        for status in [200, 201, 202, 206, 299, 300, 400, 404, 418, 451, 500, 503, 599] {
            connection.get(&format!("/status/{status}")).expect(status, &format!("status {status}\n"));
        }
        for status in [204, 205, 304] {
            let response = connection.get(&format!("/status/{status}"));
            response.expect(status, "");
        }
        assert_eq!(connection.get("/status/204").header("content-length"), None, "RFC 9110, 8.6");
        for status in [0, 99, 1000] {
            connection.get(&format!("/status/{status}")).expect(400, &format!("status {status} was refused\n"));
        }
    });
}

#[test]
fn an_error_code_becomes_a_status() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        let mut connection = server.connect();
        let response = connection.get("/error");
        response.expect_status(500);
        assert!(response.text().contains("InternalError"), "{}", response.text());
        // It is an answer like any other.
        connection.get("/status/200").expect_status(200);
    });
}

#[test]
fn a_client_that_expects_100_continue_gets_it_when_the_body_is_wanted() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        let mut connection = server.connect();
        connection.send("POST /sink HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
        let interim = connection.head().expect("an interim response");
        assert_eq!(interim.status, 100);
        connection.send("12345");
        connection.response().expect("a response").expect(200, "5\n");
        connection.get("/status/200").expect_status(200);
    });
}

#[test]
fn a_client_that_expects_100_continue_is_told_at_once_if_the_body_is_not_wanted() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        let mut connection = server.connect();
        connection.send("POST /status/403 HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
        connection.response().expect("a response").expect_status(403);
    });
}

#[test]
fn trailers_pass_over_http_1() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        let mut connection = server.connect();
        let response = connection.request("GET", "/trailers", "te: trailers\r\n", b"");
        response.expect(200, "trailers follow\n");
        assert_eq!(response.trailer("x-guest").as_deref(), Some("echo"));
        assert_eq!(response.trailer("x-body-bytes").as_deref(), Some("16"));
        // RFC 9110, 6.5.1: not to a client that did not ask for them.
        let response = connection.get("/trailers");
        response.expect(200, "trailers follow\n");
        assert_eq!(response.trailers, []);
    });
}

#[test]
fn trailers_pass_over_http_2() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        let shown = run(Command::new("nghttp").args(["-v", &server.url("/trailers")]), Duration::from_secs(10))
            .success()
            .text();
        for line in ["x-guest: echo", "x-body-bytes: 16", "trailers follow"] {
            assert!(shown.contains(line), "no `{line}` in {shown}");
        }
    });
}

#[test]
fn trailers_of_a_request_reach_the_guest_and_come_back() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        for path in ["/echo", "/splice"] {
            let mut connection = server.connect();
            let mut request = format!(
                "POST {path} HTTP/1.1\r\nhost: test\r\nte: trailers\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            .into_bytes();
            let mut body = chunked(b"with a trailer", || 5);
            body.truncate(body.len() - 2);
            request.extend(body);
            request.extend_from_slice(b"x-sum: 42\r\n\r\n");
            connection.send(request);
            let response = connection.response().expect("a response");
            response.expect(200, "with a trailer");
            assert_eq!(response.trailer("x-sum").as_deref(), Some("42"), "{path}");
            connection.get("/status/200").expect_status(200);
        }
    });
}

#[test]
fn the_host_refuses_forbidden_and_malformed_parts_of_messages() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        let report = server.get("/forbidden").text();
        for line in report.lines() {
            let expected = match line.split_once(": ") {
                Some(("append te" | "append to a clone of them", outcome)) => outcome == "ok",
                Some((attempt, outcome)) if attempt.contains("request headers") => outcome == "immutable",
                Some((attempt, outcome)) if attempt.starts_with("append \"") => outcome == "invalid-syntax",
                Some((attempt, outcome))
                    if ["append", "set", "delete", "from-list"].iter().any(|verb| attempt.starts_with(verb)) =>
                {
                    outcome == "forbidden"
                }
                Some((_, outcome)) => outcome == "refused",
                None => false,
            };
            // The names `bad\r\nname` hold a colon of their own only in values, which `invalid-syntax` ends as well.
            assert!(expected || line.ends_with(": invalid-syntax"), "{line}");
        }
        assert!(25 <= report.lines().count(), "{report}");
    });
}

#[test]
fn a_body_longer_than_declared_never_looks_whole() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        match server.try_get("/length-mismatch/more") {
            Ok(response) => {
                response.expect_status(502);
            }
            Err(cut) => assert!(cut.body.len() <= 18, "{cut:?}"),
        }
        server.get("/status/200").expect_status(200);
    });
}

#[test]
fn a_body_shorter_than_declared_is_cut() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        match server.try_get("/length-mismatch/fewer") {
            Ok(response) => {
                response.expect_status(502);
            }
            Err(cut) => assert_eq!(cut.body, b"this length is wrong\n"),
        }
        let finished = curl_h2(&["--fail", &server.url("/length-mismatch/fewer")]);
        assert_ne!(finished.code, Some(0), "{}", finished.text());
        server.get("/status/200").expect_status(200);
    });
}

#[test]
fn http_2_carries_100_streams_at_once() {
    on_both(|io| {
        let server = serve(io, &["echo"]).workers(2).start();
        h2load(1000, &["-c", "2", "-m", "100", &server.url("/echo")]);
        // 1000 times 100 ms, 200 at a time.
        let start = Instant::now();
        h2load(1000, &["-c", "2", "-m", "100", &server.url("/slow/100")]);
        let took = start.elapsed();
        println!("1000 requests of 100 ms, 200 at a time: {took:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    });
}

#[test]
fn every_worker_serves() {
    on_both(|io| {
        let server = serve(io, &["log", "hello"]).workers(2).start();
        // The kernel spreads connections by a hash of their addresses.
        for _ in 0..40 {
            server.get("/");
        }
        let by_zone = server.stdout.by_zone("GET /");
        assert!(by_zone.contains_key("hello#0.1") && by_zone.contains_key("hello#1.1"), "{by_zone:?}");
    });
}

#[test]
fn the_host_offers_clocks_random_environment_and_no_files() {
    on_both(|io| {
        let server = serve(io, &["probe"]).args("--env FIRST=1 --env SECOND=a=b").start();
        let native = server.get("/0.3");
        let text = native.expect_status(200).text();
        let expected = [
            r#"environment: [("FIRST", "1"), ("SECOND", "a=b")]"#,
            "stdin: 0 bytes, then Ok(())",
            "stdin is a terminal: false",
            "stdout is a terminal: false",
        ];
        for line in expected {
            assert!(text.contains(line), "no `{line}` in {text}");
        }
        let waited: u64 = text
            .lines()
            .find_map(|line| line.strip_prefix("monotonic 2 ms wait: ")?.strip_suffix(" ns")?.parse().ok())
            .expect("a number of ns");
        assert!((2_000_000..500_000_000).contains(&waited), "{waited}");
        let value = |text: &str, name: &str| text.lines().find(|line| line.starts_with(name)).map(str::to_string);
        let again = server.get("/0.3").text();
        for name in ["random bytes", "random u64"] {
            assert_ne!(value(&text, name), value(&again, name), "it should be random");
        }

        // It sleeps in `wasi:io/poll`, of sync type.
        let sync = server.get("/0.2");
        assert_eq!(sync.status(), 200, "{}", sync.text());
    });
}
