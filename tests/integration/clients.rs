//! Clients that hang up, dribble, or send garbage: they get what they deserve, others get theirs, and nothing is left behind.

use super::support::process::run;
use super::support::{Connection, Io, NOTICE, Random, Server, eventually, expect_descriptors, on_both, serve};
use std::io::Write;
use std::net::Shutdown;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// What a client does before it hangs up.
#[derive(Clone, Copy, Debug)]
enum Leaving {
    /// Half a head is sent.
    MidHead,
    /// A guest is at work.
    MidRequest,
    /// A guest is at work, and another request waits behind it.
    Pipelined,
    /// Half the request's body is sent to a guest that answers when it has all of it.
    MidUpload,
    /// Half the request's body is sent, and what has come back is not read.
    MidEcho,
    /// The response's body is on its way, and much more of it than fits into buffers.
    MidBody,
    /// The same, and the client has read some.
    MidBodyReading,
    /// The response's body trickles.
    MidTrickle,
}

const LEAVINGS: [Leaving; 8] = [
    Leaving::MidHead,
    Leaving::MidRequest,
    Leaving::Pipelined,
    Leaving::MidUpload,
    Leaving::MidEcho,
    Leaving::MidBody,
    Leaving::MidBodyReading,
    Leaving::MidTrickle,
];

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")
}

fn leave(server: &Server, leaving: Leaving, random: &mut Random) {
    let mut connection = server.connect();
    let post = |path: &str| format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\r\n");
    match leaving {
        Leaving::MidHead => connection.send("GET / HTTP/1.1\r\nhos"),
        Leaving::MidRequest => connection.send(get("/slow/60000")),
        Leaving::Pipelined => connection.send(get("/slow/60000") + &get("/status/200")),
        Leaving::MidUpload => connection.send([post("/sink").as_bytes(), &[b'x'; 50_000]].concat()),
        Leaving::MidEcho => connection.send([post("/echo").as_bytes(), &[b'x'; 50_000]].concat()),
        Leaving::MidBody | Leaving::MidBodyReading => connection.send(get("/source/100000000")),
        Leaving::MidTrickle => connection.send(get("/drip/1000000/10")),
    }
    if let Leaving::MidBodyReading | Leaving::MidTrickle = leaving {
        connection.head().expect("a head");
    }
    match random.between(0, 2) {
        0 => {}
        1 => thread::sleep(Duration::from_millis(1)),
        _ => drop(connection.stream().shutdown(Shutdown::Write)),
    }
}

#[test]
fn clients_that_hang_up_anywhere_leave_nothing_behind() {
    on_both(|io| {
        let mut random = Random::seeded();
        // A pipelined request hides the end of the connection until the one before it is answered, at the latest by 504.
        let server = serve(io, &["echo"]).args("--timeout 3").start();
        // Every kind once, so that what is kept for good is there: zones, buffers.
        for leaving in LEAVINGS {
            leave(&server, leaving, &mut random);
        }
        eventually(|| "their descriptors are closed", NOTICE, || server.fds().len() < 40);
        thread::sleep(Duration::from_millis(200));
        let before = server.fds();
        for leaving in LEAVINGS {
            for _ in 0..125 {
                leave(&server, leaving, &mut random);
            }
        }
        expect_descriptors(&server, &before);
        server.get("/status/200").expect_status(200);
        server.connect().request("POST", "/echo", "", b"still here").expect(200, "still here");
        server.stop();
    });
}

/// A thousand of one kind, in rounds until memory has come to rest.
fn thousand(io: Io, guests: &[&str], leaving: Leaving) {
    let mut random = Random::seeded();
    let server = serve(io, guests).args("--timeout 1").start();
    server.get("/status/200").expect_status(200);
    let before = server.fds();
    let mut left = 0;
    let mut leave_many = || {
        for _ in 0..500 {
            leave(&server, leaving, &mut random);
            left += 1;
        }
        expect_descriptors(&server, &before);
        // Guests that cannot be cancelled may use their time.
        thread::sleep(Duration::from_millis(2500));
    };
    leave_many();
    server.expect_memory_to_settle(4 * 1024, leave_many);
    println!("{guests:?} {leaving:?}: {left} clients have gone");
    server.get("/status/200").expect_status(200);
    server.stop();
}

#[test]
fn a_thousand_clients_that_hang_up_in_the_middle_of_a_body_leave_nothing_behind() {
    on_both(|io| thousand(io, &["echo"], Leaving::MidBodyReading));
}

#[test]
fn a_thousand_clients_that_hang_up_in_the_middle_of_an_upload_leave_nothing_behind() {
    on_both(|io| thousand(io, &["log", "echo"], Leaving::MidEcho));
}

#[test]
fn a_thousand_clients_that_hang_up_while_the_guest_works_leave_nothing_behind() {
    on_both(|io| thousand(io, &["middleware", "echo"], Leaving::MidRequest));
}

#[test]
fn a_guest_whose_client_hangs_up_is_cancelled() {
    on_both(|io| {
        let server = serve(io, &["cancellable"]).start();
        server.get("/hello").expect_status(200);
        let mut connection = server.connect();
        connection.send(get("/"));
        thread::sleep(Duration::from_millis(100));
        drop(connection);
        // Long before the timeout of 30 s.
        server.stderr.wait_for("cancelled", Duration::from_secs(5), |line| line == "[cancellable#0.1] cancelled");
        server.get("/hello").expect_status(200);
    });
}

/// Being cancelled, this guest traps: that must not come over a request that has just come into its zone.
#[test]
fn who_comes_when_another_client_hangs_up_gets_an_answer() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        let mut connection = server.connect();
        for round in 0..100 {
            let mut other = server.connect();
            other.send(get("/slow/60000"));
            // Sometimes it has begun, sometimes not.
            thread::sleep(Duration::from_micros(300 * (round % 10)));
            drop(other);
            for _ in 0..5 {
                assert_eq!(connection.get("/status/200").status(), 200, "round {round}");
            }
        }
    });
}

#[test]
fn places_of_clients_that_have_gone_are_free_again() {
    on_both(|io| {
        let server = serve(io, &["echo"]).args("--max-concurrent 2 --max-zones 2 --queue 0 --timeout 1").start();
        for _ in 0..5 {
            for _ in 0..4 {
                let mut connection = server.connect();
                connection.send(get("/source/100000000"));
                connection.head().ok();
            }
            // At the latest when the guests' time is up.
            eventually(|| "a place is free", Duration::from_secs(4), || server.get("/status/200").status() == 200);
        }
    });
}

#[test]
fn http_2_clients_that_hang_up_leave_nothing_behind() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        server.get("/status/200").expect_status(200);
        thread::sleep(Duration::from_millis(100));
        let before = server.fds();
        for _ in 0..20 {
            // Cut by curl itself after some bytes of a body that would take long, and in the middle of a wait.
            let cut = ["--max-filesize", "1000", &server.url("/drip/100000/1")].map(str::to_string);
            let late = ["--max-time", "0.05", &server.url("/slow/60000")].map(str::to_string);
            for args in [cut, late] {
                let mut curl = Command::new("curl");
                curl.args(["-q", "--silent", "--http2-prior-knowledge", "--max-time", "0.2"]).args(args);
                assert_ne!(run(&mut curl, Duration::from_secs(10)).code, Some(0));
            }
        }
        expect_descriptors(&server, &before);
        server.get("/status/200").expect_status(200);
    });
}

/// Sends `bytes`; the answer, if there is one, must be a refusal, and the connection must end.
fn refused(server: &Server, bytes: &[u8]) -> Option<u16> {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
    let mut connection = server.connect();
    // It may be closed before all is sent.
    let _sent = connection.try_send(bytes);
    let status = connection.response().ok().map(|response| response.status());
    println!("{shown:?}: {status:?}");
    assert!(status.is_none_or(|status| 400 <= status), "{shown:?}: {status:?}");
    connection.expect_close(Duration::from_secs(5));
    status
}

#[test]
fn garbage_is_refused_and_the_connection_closed() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        let garbage: [&[u8]; 8] = [
            b"\0\x01\x02\x03\x04\r\n\r\n",
            b"this is not HTTP\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1\r\nna me: value\r\n\r\n",
            b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: -1\r\n\r\n",
            b"POST /sink HTTP/1.1\r\nhost: test\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        ];
        for bytes in garbage {
            assert_eq!(refused(&server, bytes), Some(400), "{:?}", String::from_utf8_lossy(bytes));
        }
        server.get("/status/200").expect_status(200);
    });
}

#[test]
fn random_bytes_do_no_harm() {
    on_both(|io| {
        let mut random = Random::seeded();
        let server = serve(io, &["echo"]).start();
        // A zone has a descriptor of its own.
        server.get("/status/200").expect_status(200);
        let before = server.fds();
        for round in 0..200 {
            let mut bytes: Vec<u8> = (0..random.between(1, 3000)).map(|_| random.between(0, 255) as u8).collect();
            // Some get past the first line, some are taken for HTTP/2.
            let start: &[u8] = match round % 4 {
                0 => b"GET / HTTP/1.1\r\n",
                1 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                2 => b"POST /sink HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n",
                _ => b"",
            };
            bytes.splice(0..0, start.iter().copied());
            let mut connection = server.connect();
            let _sent = connection.try_send(&bytes);
            let _ended = connection.stream().shutdown(Shutdown::Write);
            connection.expect_close(Duration::from_secs(5));
        }
        expect_descriptors(&server, &before);
        server.get("/status/200").expect_status(200);
    });
}

#[test]
fn heads_that_are_too_large_get_431() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        let long = format!("GET / HTTP/1.1\r\nhost: test\r\nx-long: {}\r\n\r\n", "x".repeat(2 << 20));
        let many: String = (0..2000).map(|i| format!("x-{i}: y\r\n")).collect();
        for head in [long, format!("GET / HTTP/1.1\r\nhost: test\r\n{many}\r\n")] {
            let status = refused(&server, head.as_bytes());
            // What is unread when it closes can make the kernel drop the answer.
            assert!(matches!(status, Some(431) | None), "{status:?}");
        }
        server.get("/status/200").expect_status(200);
    });
}

#[test]
fn a_client_that_stops_sending_after_its_request_is_answered_or_closed() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        // A zone has a descriptor of its own.
        server.get("/status/200").expect_status(200);
        let before = server.fds();
        for path in ["/status/200", "/slow/50", "/source/1000000"] {
            let mut connection = server.connect();
            connection.send(get(path));
            connection.finish_sending();
            match connection.response() {
                Ok(response) => {
                    response.expect_status(200);
                }
                Err(cut) => println!("{path}: {} after {:?}", cut.reason, cut.head.map(|head| head.status)),
            }
            connection.expect_close(Duration::from_secs(5));
        }
        expect_descriptors(&server, &before);
    });
}

#[test]
fn slow_clients_do_not_hold_up_others() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        // A zone has a descriptor of its own.
        server.get("/status/200").expect_status(200);
        let before = server.fds();
        let mut dribbling: Vec<Connection> = (0..200).map(|_| server.connect()).collect();
        let head = get("/status/200");
        for byte in head.as_bytes()[..head.len() - 1].chunks(4) {
            for connection in &mut dribbling {
                connection.send(byte);
            }
            server.get("/status/201").expect_status(201);
        }
        // Half of them get there at last.
        for connection in &mut dribbling[..100] {
            connection.stream().write_all(b"\n").expect("it is open");
            connection.response().expect("a response").expect_status(200);
        }
        drop(dribbling);
        expect_descriptors(&server, &before);
    });
}

#[test]
fn connections_that_are_idle_cost_a_descriptor_and_no_zone() {
    on_both(|io| {
        let server = serve(io, &["echo"]).args("--max-concurrent 1 --max-zones 1 --queue 1").start();
        let mut idle: Vec<Connection> = (0..100).map(|_| server.connect()).collect();
        for connection in &mut idle {
            connection.get("/status/200").expect_status(200);
        }
        server.get("/status/200").expect_status(200);
    });
}

/// A connection preface of HTTP/2 (RFC 9113, 3.4) with empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[test]
fn a_connection_without_a_request_is_closed_after_a_while_whatever_it_has_said() {
    on_both(|io| {
        let server = serve(io, &["echo"]).args("--idle 2").start();
        server.get("/status/200").expect_status(200);
        let before = server.fds();
        let said: [&[u8]; 6] = [b"", b"P", b"GET / HT", b"GET / HTTP/1.1\r\nhost: test\r\n", &PREFACE[..9], PREFACE];
        let mut connections: Vec<Connection> = said.iter().map(|_| server.connect()).collect();
        for (connection, said) in connections.iter_mut().zip(said) {
            connection.send(said);
        }
        let mut served = server.connect();
        served.get("/status/200").expect_status(200);
        thread::sleep(Duration::from_millis(800));
        served.get("/status/200").expect_status(200);
        thread::sleep(Duration::from_millis(800));
        // It had a request a moment ago; the others had none, and are about to go.
        served.get("/status/200").expect_status(200);
        for (connection, said) in connections.iter_mut().zip(said) {
            println!("{:?}", String::from_utf8_lossy(said));
            connection.expect_close(Duration::from_secs(10));
        }
        served.expect_close(Duration::from_secs(10));
        expect_descriptors(&server, &before);
        server.stop();
    });
}

#[test]
fn a_head_that_comes_byte_by_byte_does_not_keep_its_connection() {
    on_both(|io| {
        let server = serve(io, &["echo"]).args("--idle 0.5").start();
        let mut connection = server.connect();
        let head = "GET /status/200 HTTP/1.1\r\n".to_string() + &"x: y\r\n".repeat(80);
        let closed = head.bytes().any(|byte| {
            thread::sleep(Duration::from_millis(20));
            connection.try_send([byte]).is_err()
        });
        assert!(closed, "{} bytes were taken", head.len());
        server.get("/status/200").expect_status(200);
        server.stop();
    });
}

#[test]
fn a_connection_whose_request_takes_long_is_not_idle() {
    on_both(|io| {
        let server = serve(io, &["echo"]).args("--idle 1").start();
        thread::scope(|threads| {
            for slow in ["/slow/2500", "/drip/25/100"] {
                let server = &server;
                threads.spawn(move || {
                    server.get(slow).expect_status(200);
                });
            }
            threads.spawn(|| {
                // A client that is slow to take what comes.
                let mut connection = server.connect();
                connection.send(get("/source/8000000"));
                let head = connection.head().expect("a head");
                let mut taken = 0;
                let pace = |bytes: &[u8]| {
                    taken += bytes.len();
                    thread::sleep(Duration::from_micros(bytes.len() as u64 * 3 / 8));
                };
                connection.body(&head, "GET", pace).expect("all of it");
                assert_eq!(taken, 8_000_000);
            });
        });
        server.stop();
    });
}
