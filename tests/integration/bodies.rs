//! Bodies stream both ways, whole, in order, and with backpressure from end to end.

use super::support::http::chunked;
use super::support::pattern::{self, Checker, Kind};
use super::support::process::{curl, curl_h2, run};
use super::support::server::scratch;
use super::support::{Connection, Random, Server, on_both, on_both_alone, serve};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

#[test]
fn every_byte_comes_back_whatever_the_length() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        let lengths = [0, 1, 2, 100, 8191, 8192, 16_384, 65_535, 65_536, 65_537, 131_072, 1_000_003, 5_000_011];
        for path in ["/echo", "/splice"] {
            let mut connection = server.connect();
            for length in lengths {
                let body = pattern::bytes(length);
                let response = connection.request("POST", path, "", &body);
                assert!(response.expect_status(200).body == body, "{path} {length}: {} bytes", response.body.len());
                // A length that is declared comes back as it was, and is not turned into chunks.
                let declared = response.header("content-length").map(|length| length.parse());
                assert!(length == 0 || declared == Some(Ok(length)), "{path} {length}: {declared:?}");
            }
        }
    });
}

#[test]
fn chunks_may_be_cut_at_odd_places() {
    on_both(|io| {
        let mut random = Random::seeded();
        let server = serve(io, &["echo"]).start();
        for path in ["/echo", "/splice", "/sink"] {
            for length in [1, 1000, 100_000] {
                let body = pattern::bytes(length);
                let framed = chunked(&body, || random.between(1, length / 10 + 1));
                let mut connection = server.connect();
                let mut request =
                    format!("POST {path} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n").into_bytes();
                request.extend(framed);
                let mut writer = connection.writer();
                let pieces: Vec<usize> =
                    (0..request.len()).map(|_| random.between(1, request.len() / 20 + 1)).collect();
                let response = thread::scope(|scope| {
                    scope.spawn(move || write_in_pieces(&mut writer, &request, &pieces));
                    connection.response().expect("a whole response")
                });
                match path {
                    "/sink" => {
                        response.expect(200, &format!("{length}\n"));
                    }
                    _ => assert!(response.expect_status(200).body == body, "{path} {length}"),
                }
            }
        }
    });
}

/// Each piece in a segment of its own: the connection does not wait to join them.
fn write_in_pieces(writer: &mut impl Write, bytes: &[u8], pieces: &[usize]) {
    let mut rest = bytes;
    for piece in pieces {
        if rest.is_empty() {
            // Each further yield may cost a slice of the machine's time.
            return;
        }
        let (now, later) = rest.split_at((*piece).min(rest.len()));
        writer.write_all(now).expect("the server takes what is sent");
        rest = later;
        thread::yield_now();
    }
    assert!(rest.is_empty(), "there is a piece for every byte");
}

#[test]
fn a_source_comes_with_and_without_a_length() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        let mut connection = server.connect();
        for length in [0, 1, 250, 251, 65_536, 3_000_000] {
            for (path, declared) in [(format!("/source/{length}"), true), (format!("/source/{length}/chunked"), false)]
            {
                connection.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
                let head = connection.head().expect("a head");
                assert_eq!(head.status, 200, "{path}");
                // Where a short body ends may be seen in time to say so.
                let says = head.header("content-length").is_some();
                assert!(says == declared || (says && length <= 16_384), "{path}: {head:?}");
                let mut checker = Checker::new(Kind::Source);
                connection.body(&head, "GET", |bytes| checker.take(bytes)).expect("a whole body");
                assert_eq!(checker.len(), length, "{path}");
            }
        }
    });
}

#[test]
fn a_short_body_that_ends_at_once_is_framed_by_its_length() {
    on_both(|io| {
        let server = serve(io, &["middleware", "hello"]).start();
        let mut connection = server.connect();
        let framed = (0..20)
            .filter(|_| connection.get("/").head.header("content-length").is_some_and(|length| length == "11"))
            .count();
        // A guest that is interrupted by the clock may need longer.
        assert!(15 <= framed, "{framed} of 20");
    });
}

#[test]
fn a_response_begins_before_its_request_has_ended() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        for path in ["/echo", "/splice"] {
            let mut connection = server.connect();
            connection.send(format!(
                "POST {path} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n"
            ));
            let head = connection.head().expect("the head comes before the end of the request");
            let mut writer = connection.writer();
            let mut body = Vec::new();
            connection
                .body(&head, "POST", |bytes| {
                    body.extend_from_slice(bytes);
                    // Each part is sent when the one before it has come back.
                    match body.as_slice() {
                        b"first" => writer.write_all(b"6\r\nsecond\r\n").expect("it is open"),
                        b"firstsecond" => writer.write_all(b"0\r\n\r\n").expect("it is open"),
                        _ => {}
                    }
                })
                .expect("a whole body");
            assert_eq!(body, b"firstsecond", "{path}");
        }
    });
}

#[test]
fn a_trickle_is_not_held_back() {
    on_both_alone(|io| {
        for guests in [&["echo"][..], &["middleware", "log", "trailer_mw", "echo"]] {
            let server = serve(io, guests).start();
            let mut connection = server.connect();
            connection.send("GET /drip/5/100 HTTP/1.1\r\nhost: test\r\n\r\n");
            let start = Instant::now();
            let head = connection.head().expect("a head");
            let mut arrived = Vec::new();
            connection.body(&head, "GET", |bytes| arrived.push((start.elapsed(), bytes.len()))).expect("a whole body");
            println!("{guests:?}: {arrived:?}");
            assert!(5 <= arrived.len(), "{arrived:?}");
            assert!(arrived[0].0 < Duration::from_millis(300), "{arrived:?}");
            assert!(Duration::from_millis(390) < arrived[arrived.len() - 1].0, "{arrived:?}");
        }
    });
}

/// What a server may hold for a client that does not read or a guest that does not: socket buffers and some of ours.
const HELD_KIB_MAX: u64 = 24 * 1024;

#[test]
fn a_client_that_does_not_read_stops_the_guest() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        server.get("/source/1000000").expect_status(200);
        let before_kib = server.memory_kib("VmRSS");
        let mut connections: Vec<Connection> = (0..8).map(|_| server.connect()).collect();
        for connection in &mut connections {
            connection.send("GET /source/1000000000 HTTP/1.1\r\nhost: test\r\n\r\n");
        }
        thread::sleep(Duration::from_millis(700));
        let after_kib = server.memory_kib("VmRSS");
        println!("{before_kib} KiB before, {after_kib} KiB after");
        assert!(after_kib < before_kib + HELD_KIB_MAX, "{before_kib} KiB before, {after_kib} KiB after");
        // The others are served meanwhile.
        server.get("/status/200").expect_status(200);
    });
}

#[test]
fn a_guest_that_does_not_read_stops_the_client() {
    on_both(|io| {
        let server = serve(io, &["never_returns"]).start();
        let mut connection = server.connect();
        connection.send("POST /body HTTP/1.1\r\nhost: test\r\ncontent-length: 1000000000\r\n\r\n");
        connection.stream().set_write_timeout(Some(Duration::from_millis(500))).expect("not zero");
        let block = vec![b'x'; 64 * 1024];
        let mut taken = 0;
        while let Ok(count) = connection.stream().write(&block) {
            taken += count as u64;
            assert!(taken < 64 * MIB, "nobody reads it, and {taken} bytes were taken");
        }
        println!("{taken} bytes were taken");
        server.get("/hello").expect_status(200);
    });
}

#[test]
fn an_upload_that_is_cut_short_is_an_error_for_the_guest() {
    on_both(|io| {
        let server = serve(io, &["log", "echo"]).start();
        let mut connection = server.connect();
        connection.send("POST /sink HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\nhalf of it");
        connection.finish_sending();
        // Whether it is told, is the server's choice; a success it must not see.
        if let Ok(response) = connection.response() {
            assert!(400 <= response.status(), "{} {}", response.status(), response.text());
        }
        let mut connection = server.connect();
        connection.send("POST /sink HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n");
        if let Ok(response) = connection.response() {
            assert!(400 <= response.status(), "{} {}", response.status(), response.text());
        }
        server.connect().request("POST", "/sink", "", b"all of it").expect(200, "9\n");
        server.stdout.wait_for("the last line", Duration::from_secs(5), |line| line.contains("POST /sink 200 2 "));
        let complete = server.stdout.by_zone("POST /sink 200");
        assert_eq!(complete.values().sum::<usize>(), 1, "{complete:?}");
    });
}

/// Sends `length` bytes to `path` and checks what comes back as it comes.
fn echo(server: &Server, path: &str, length: u64) {
    let mut connection = server.connect();
    connection.send(format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n"));
    let mut writer = connection.writer();
    thread::scope(|scope| {
        scope.spawn(move || send_pattern(&mut writer, length));
        let head = connection.head().expect("a head");
        assert_eq!(head.status, 200);
        let mut checker = Checker::new(Kind::Words);
        connection.body(&head, "POST", |bytes| checker.take(bytes)).expect("a whole body");
        assert_eq!(checker.len(), length);
    });
}

fn send_pattern(writer: &mut impl Write, length: u64) {
    let mut block = vec![0; 256 * 1024];
    let mut sent = 0;
    while sent < length {
        let count = (length - sent).min(block.len() as u64) as usize;
        pattern::fill(sent, &mut block[..count]);
        writer.write_all(&block[..count]).expect("the server takes what is sent");
        sent += count as u64;
    }
}

fn upload(server: &Server, length: u64) {
    let mut connection = server.connect();
    connection.send(format!("POST /sink HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n"));
    send_pattern(&mut connection.writer(), length);
    connection.response().expect("a response").expect(200, &format!("{length}\n"));
}

fn download(server: &Server, length: u64) {
    let mut connection = server.connect();
    connection.send(format!("GET /source/{length} HTTP/1.1\r\nhost: test\r\n\r\n"));
    let head = connection.head().expect("a head");
    let mut checker = Checker::new(Kind::Source);
    connection.body(&head, "GET", |bytes| checker.take(bytes)).expect("a whole body");
    assert_eq!(checker.len(), length);
}

/// Over HTTP/2, by curl: from a file, because what curl reads from a pipe it reads to its end first.
fn echo_over_http_2(server: &Server, path: &str, length: u64) {
    let file = scratch("uploads").join(format!("{length}-{}", std::process::id()));
    let mut written = std::fs::File::create(&file).expect("the target directory can be written");
    send_pattern(&mut written, length);
    drop(written);
    let mut curl = Command::new("curl")
        .args(["-q", "--silent", "--show-error", "--no-buffer", "--max-time", "300", "--http2-prior-knowledge"])
        .args(["--request", "POST", "--upload-file", file.to_str().expect("the path is text"), &server.url(path)])
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl is there");
    let mut out = curl.stdout.take().expect("piped");
    let mut checker = Checker::new(Kind::Words);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match out.read(&mut buffer).expect("a pipe can be read") {
            0 => break,
            count => checker.take(&buffer[..count]),
        }
    }
    assert!(curl.wait().expect("our child").success());
    assert_eq!(checker.len(), length);
    std::fs::remove_file(file).expect("it is ours");
}

/// Everything that a big body can do; resident memory stays below `peak_kib_max` all the time.
fn big_bodies(length: u64, peak_kib_max: u64) {
    on_both(|io| {
        // Compiling takes memory, and is done once: what counts is serving.
        drop(serve(io, &["echo"]).start());
        let server = serve(io, &["echo"]).start();
        let act = |name: &str, run: &dyn Fn(&Server)| {
            let start = Instant::now();
            run(&server);
            let peak_kib = server.memory_kib("VmHWM");
            println!("{name} of {} MiB: {:?}, peak so far {peak_kib} KiB", length / MIB, start.elapsed());
            assert!(peak_kib < peak_kib_max, "{name}: {peak_kib} KiB resident");
        };
        act("upload", &|server| upload(server, length));
        act("download", &|server| download(server, length));
        act("echo", &|server| echo(server, "/echo", length));
        act("splice", &|server| echo(server, "/splice", length));
        act("echo over HTTP/2", &|server| echo_over_http_2(server, "/echo", length));
        act("splice over HTTP/2", &|server| echo_over_http_2(server, "/splice", length));
        server.stop();
    });
}

/// The promise for a body of any size, with one worker.
const PEAK_KIB_MAX: u64 = 64 * 1024;

#[test]
fn bodies_of_64_mib_pass_byte_for_byte_in_less_memory_than_they_have() {
    big_bodies(64 * MIB, PEAK_KIB_MAX);
}

#[test]
#[ignore = "heavy: `make test-heavy`"]
fn bodies_of_1_gib_pass_byte_for_byte_in_less_than_64_mib() {
    big_bodies(1024 * MIB, PEAK_KIB_MAX);
}

#[test]
fn a_big_body_passes_a_chain() {
    on_both(|io| {
        let server = serve(io, &["middleware", "log", "trailer_mw", "middleware", "echo"]).start();
        for path in ["/echo", "/splice"] {
            echo(&server, path, 32 * MIB);
        }
        server
            .stdout
            .wait_for("the log line", Duration::from_secs(5), |line| line.contains("POST /splice 200 33554432 "));
    });
}

#[test]
fn curl_uploads_and_downloads_over_both_versions() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        let file = scratch("uploads").join("curl");
        std::fs::write(&file, pattern::bytes(3_000_000)).expect("the target directory can be written");
        let upload = file.to_str().expect("the path is text");
        for tool in [curl, curl_h2] {
            assert_eq!(tool(&["--upload-file", upload, &server.url("/sink")]).success().text(), "3000000\n");
            assert!(
                tool(&["--upload-file", upload, &server.url("/echo")]).success().stdout == pattern::bytes(3_000_000)
            );
            assert_eq!(tool(&[&server.url("/source/3000000")]).success().stdout.len(), 3_000_000);
        }
        // Many uploads on one HTTP/2 connection share its window.
        let finished = run(
            Command::new("h2load").args(["-n", "40", "-c", "1", "-m", "20", "-d", upload, &server.url("/echo")]),
            Duration::from_secs(60),
        );
        assert!(finished.text().contains("40 succeeded, 0 failed"), "{}", finished.text());
    });
}
