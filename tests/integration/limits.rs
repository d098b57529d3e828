//! Bounds: requests in a zone, zones, those that wait, how long and how often.

use super::support::{Connection, Response, Server, on_both, on_both_alone, serve};
use std::thread;
use std::time::{Duration, Instant};

/// Sends a GET and does not wait for the answer.
fn begin(server: &Server, path: &str) -> Connection {
    let mut connection = server.connect();
    connection.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
    connection
}

fn end(connection: &mut Connection) -> Response {
    connection.response().expect("a whole response")
}

#[test]
fn requests_beyond_the_queue_get_503_and_a_hint_when_to_try_again() {
    on_both(|io| {
        let server = serve(io, &["echo"]).args("--max-concurrent 1 --max-zones 2 --queue 1").start();
        server.get("/status/200").expect_status(200);
        let mut accepted: Vec<Connection> = (0..3)
            .map(|_| {
                let connection = begin(&server, "/slow/700");
                thread::sleep(Duration::from_millis(50));
                connection
            })
            .collect();
        let start = Instant::now();
        let refused = server.get("/status/200");
        refused.expect_status(503);
        assert!(start.elapsed() < Duration::from_millis(400), "it is told at once, not after {:?}", start.elapsed());
        assert_eq!(refused.header("retry-after").as_deref(), Some("1"));
        for connection in &mut accepted {
            end(connection).expect(200, "waited 700 ms\n");
        }
        server.get("/status/200").expect_status(200);
    });
}

#[test]
fn without_a_queue_a_request_is_served_at_once_or_not_at_all() {
    on_both(|io| {
        let server = serve(io, &["echo"]).args("--max-concurrent 2 --max-zones 1 --queue 0").start();
        server.get("/status/200").expect_status(200);
        // Its place is given back when its guest has ended, which is after the last byte.
        thread::sleep(Duration::from_millis(100));
        let mut accepted = [begin(&server, "/slow/400"), begin(&server, "/slow/400")];
        thread::sleep(Duration::from_millis(100));
        server.get("/status/200").expect_status(503);
        for connection in &mut accepted {
            end(connection).expect(200, "waited 400 ms\n");
        }
        thread::sleep(Duration::from_millis(100));
        server.get("/status/200").expect_status(200);
    });
}

#[test]
fn those_who_hang_up_while_they_wait_free_their_place() {
    on_both(|io| {
        let server = serve(io, &["echo"]).args("--max-concurrent 1 --max-zones 1 --queue 2").start();
        server.get("/status/200").expect_status(200);
        let mut first = begin(&server, "/slow/1000");
        thread::sleep(Duration::from_millis(50));
        for _ in 0..10 {
            let waiting = begin(&server, "/slow/1");
            thread::sleep(Duration::from_millis(20));
            drop(waiting);
            thread::sleep(Duration::from_millis(20));
        }
        let mut last = begin(&server, "/slow/1");
        end(&mut first).expect(200, "waited 1000 ms\n");
        end(&mut last).expect(200, "waited 1 ms\n");
    });
}

#[test]
fn a_zone_takes_so_many_requests_at_once_and_then_there_is_another() {
    on_both(|io| {
        let server = serve(io, &["log", "echo"]).args("--max-concurrent 4").start();
        let mut at_once: Vec<_> = (0..6).map(|_| begin(&server, "/slow/300")).collect();
        for connection in &mut at_once {
            end(connection).expect(200, "waited 300 ms\n");
        }
        let zones = || server.stdout.by_zone("GET /slow/300 200");
        super::support::eventually(|| "six lines", Duration::from_secs(5), || zones().values().sum::<usize>() == 6);
        // On a busy machine the first zone may be in the middle of a slice when the next request comes, and be passed by.
        let zones = zones();
        assert!(zones.len() > 1 && zones.values().all(|requests| *requests <= 4), "{zones:?}");
        // Idle again, the zones are used again.
        server.get("/status/200").expect_status(200);
        super::support::eventually(
            || "its line",
            Duration::from_secs(5),
            || !server.stdout.by_zone("GET /status/200").is_empty(),
        );
        let again = server.stdout.by_zone("GET /status/200");
        assert!(again.keys().all(|zone| zones.contains_key(zone)), "{again:?} after {zones:?}");
    });
}

#[test]
fn a_zone_is_replaced_after_so_many_requests() {
    on_both(|io| {
        let server = serve(io, &["log", "echo"]).args("--max-requests 3").start();
        let mut connection = server.connect();
        for _ in 0..7 {
            connection.get("/status/200").expect_status(200);
        }
        let zones = || server.stdout.by_zone("GET /status/200");
        super::support::eventually(|| "seven lines", Duration::from_secs(5), || zones().values().sum::<usize>() == 7);
        let counts = ["echo#0.1", "echo#0.2", "echo#0.3"].map(|zone| zones().get(zone).copied());
        assert_eq!(counts, [Some(3), Some(3), Some(1)], "{:?}", zones());
    });
}

#[test]
fn requests_in_a_zone_that_is_replaced_are_finished() {
    on_both(|io| {
        let server = serve(io, &["echo"]).args("--max-requests 2").start();
        let mut long: Vec<_> = (0..6).map(|_| begin(&server, "/drip/5/100")).collect();
        thread::sleep(Duration::from_millis(50));
        for _ in 0..6 {
            server.get("/status/200").expect_status(200);
        }
        for connection in &mut long {
            end(connection).expect(200, "drip 0\ndrip 1\ndrip 2\ndrip 3\ndrip 4\n");
        }
    });
}

#[test]
fn who_takes_too_long_gets_504_and_others_in_the_zone_do_not_suffer() {
    on_both_alone(|io| {
        let server = serve(io, &["echo"]).args("--timeout 0.5").start();
        server.get("/status/200").expect_status(200);
        let start = Instant::now();
        let mut late = begin(&server, "/slow/60000");
        thread::sleep(Duration::from_millis(300));
        // Begun in the same zone, before the other's time is up, and ended after.
        let mut neighbour = begin(&server, "/slow/400");
        end(&mut late).expect_status(504);
        let took = start.elapsed();
        assert!(Duration::from_millis(490) < took && took < Duration::from_millis(1500), "{took:?}");
        end(&mut neighbour).expect(200, "waited 400 ms\n");
        server.get("/status/200").expect_status(200);
    });
}

#[test]
fn a_response_that_has_begun_may_take_longer_than_the_timeout() {
    on_both(|io| {
        let server = serve(io, &["echo"]).args("--timeout 0.5").start();
        server.get("/drip/8/250").expect_status(200);
        let expected: String = (0..8).map(|i| format!("drip {i}\n")).collect();
        server.get("/drip/8/250").expect(200, &expected);
    });
}

#[test]
fn an_upload_that_is_slower_than_the_timeout_gets_504_if_the_guest_waits_for_it() {
    on_both(|io| {
        let server = serve(io, &["echo"]).args("--timeout 0.4").start();
        let mut connection = server.connect();
        connection.send("POST /sink HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\nsome");
        end(&mut connection).expect_status(504);
        server.get("/status/200").expect_status(200);
    });
}

/// Opens `count` connections, each with a request that takes `ms`, and reads the answers when all are under way.
fn hold_open(server: &Server, count: usize, ms: u64) {
    let start = Instant::now();
    let path = format!("/slow/{ms}");
    let mut held: Vec<Connection> = (0..count).map(|_| begin(server, &path)).collect();
    let opened = start.elapsed();
    assert!(
        opened < Duration::from_millis(ms),
        "{count} requests could not be open at once: sending them took {opened:?}"
    );
    let rss_kib = server.memory_kib("VmRSS");
    for connection in &mut held {
        end(connection).expect(200, &format!("waited {ms} ms\n"));
    }
    println!(
        "{count} requests of {ms} ms: sent in {opened:?}, answered after {:?}, {rss_kib} KiB resident",
        start.elapsed()
    );
}

#[test]
fn five_hundred_slow_requests_are_open_at_once() {
    on_both(|io| {
        let server = serve(io, &["echo"]).start();
        server.get("/status/200").expect_status(200);
        hold_open(&server, 500, 2000);
        server.stop();
    });
}

#[test]
#[ignore = "heavy: `make test-heavy`"]
fn ten_thousand_slow_requests_are_open_at_once() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    assert!(
        limit.maximum.is_none_or(|maximum| 11_000 <= maximum),
        "raise the hard limit of open files: `ulimit -Hn 20000`"
    );
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("a limit may be raised to its maximum");
    on_both_alone(|io| {
        let server = serve(io, &["echo"]).workers(2).args("--timeout 120").start();
        hold_open(&server, 10_000, 20_000);
        server.get("/status/200").expect_status(200);
        server.stop();
    });
}
