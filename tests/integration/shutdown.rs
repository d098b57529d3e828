//! A stop signal drains: requests in flight are finished, new connections refused, and the process ends with code 0.

use super::support::{Connection, Server, on_both, serve};
use rustix::process::Signal;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

fn begin(server: &Server, path: &str) -> Connection {
    let mut connection = server.connect();
    connection.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
    // It must have been read before the signal comes.
    thread::sleep(Duration::from_millis(100));
    connection
}

/// Waits for the exit and checks that the code is 0 and when it came.
fn expect_exit(server: &mut Server, since: Instant, from: Duration, to: Duration) {
    let status = server.wait(to + Duration::from_secs(5));
    let took = since.elapsed();
    println!("{status} after {took:?}");
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(from <= took && took < to, "{took:?}");
}

const QUICK: Duration = Duration::from_millis(1500);

#[test]
fn requests_in_flight_are_finished_and_new_connections_refused() {
    on_both(|io| {
        for signal in [Signal::TERM, Signal::INT] {
            let mut server = serve(io, &["echo"]).workers(2).start();
            let mut slow = begin(&server, "/slow/800");
            let mut trickle = begin(&server, "/drip/8/100");
            server.signal(signal);
            let since = Instant::now();
            thread::sleep(Duration::from_millis(200));
            assert!(TcpStream::connect(server.addr()).is_err(), "new connections are refused");
            slow.response().expect("a whole response").expect(200, "waited 800 ms\n");
            let expected: String = (0..8).map(|i| format!("drip {i}\n")).collect();
            trickle.response().expect("a whole response").expect(200, &expected);
            expect_exit(&mut server, since, Duration::from_millis(500), Duration::from_millis(2500));
        }
    });
}

#[test]
fn an_upload_in_flight_is_finished() {
    on_both(|io| {
        let mut server = serve(io, &["echo"]).start();
        let mut connection = server.connect();
        connection.send("POST /sink HTTP/1.1\r\nhost: test\r\ncontent-length: 8\r\n\r\nhalf");
        thread::sleep(Duration::from_millis(100));
        server.signal(Signal::TERM);
        let since = Instant::now();
        thread::sleep(Duration::from_millis(300));
        connection.send("half");
        connection.response().expect("a whole response").expect(200, "8\n");
        expect_exit(&mut server, since, Duration::from_millis(300), QUICK);
    });
}

#[test]
fn without_requests_it_ends_at_once() {
    on_both(|io| {
        for signal in [Signal::TERM, Signal::INT] {
            let mut server = serve(io, &["hello"]).workers(2).start();
            server.get("/").expect_status(200);
            server.signal(signal);
            expect_exit(&mut server, Instant::now(), Duration::ZERO, QUICK);
        }
    });
}

#[test]
fn idle_connections_do_not_hold_it_up() {
    on_both(|io| {
        let mut server = serve(io, &["hello"]).start();
        let mut used = server.connect();
        used.get("/").expect_status(200);
        let _unused = server.connect();
        thread::sleep(Duration::from_millis(100));
        server.signal(Signal::TERM);
        expect_exit(&mut server, Instant::now(), Duration::ZERO, QUICK);
        used.expect_close(Duration::from_secs(1));
    });
}

#[test]
fn what_takes_longer_than_the_drain_is_cut() {
    on_both(|io| {
        let mut server = serve(io, &["echo"]).args("--drain 1").start();
        let mut slow = begin(&server, "/slow/60000");
        let mut trickle = begin(&server, "/drip/100000/10");
        server.signal(Signal::TERM);
        expect_exit(&mut server, Instant::now(), Duration::from_millis(900), Duration::from_millis(2900));
        slow.response().expect_err("it is cut");
        trickle.response().expect_err("it is cut");
    });
}

#[test]
fn a_guest_that_spins_does_not_outlive_the_drain() {
    on_both(|io| {
        let mut server = serve(io, &["spin"]).args("--drain 1").start();
        let _spinning = begin(&server, "/spin");
        server.signal(Signal::TERM);
        expect_exit(&mut server, Instant::now(), Duration::from_millis(900), Duration::from_millis(3500));
    });
}

#[test]
fn a_second_signal_stops_at_once() {
    on_both(|io| {
        let mut server = serve(io, &["echo"]).args("--drain 60").start();
        let mut slow = begin(&server, "/slow/60000");
        server.signal(Signal::TERM);
        thread::sleep(Duration::from_millis(300));
        server.signal(Signal::INT);
        expect_exit(&mut server, Instant::now(), Duration::ZERO, QUICK);
        slow.response().expect_err("it is cut");
    });
}

#[test]
fn a_drain_of_no_time_cuts_at_once() {
    on_both(|io| {
        let mut server = serve(io, &["echo"]).args("--drain 0").start();
        let mut slow = begin(&server, "/slow/60000");
        server.signal(Signal::TERM);
        expect_exit(&mut server, Instant::now(), Duration::ZERO, QUICK);
        slow.response().expect_err("it is cut");
    });
}

#[test]
fn while_it_drains_connections_close_after_their_answer() {
    on_both(|io| {
        let mut server = serve(io, &["echo"]).start();
        let mut connection = begin(&server, "/slow/600");
        server.signal(Signal::TERM);
        let response = connection.response().expect("a whole response");
        response.expect(200, "waited 600 ms\n");
        connection.expect_close(Duration::from_secs(2));
        expect_exit(&mut server, Instant::now(), Duration::ZERO, QUICK);
    });
}

#[test]
fn the_port_is_free_again_when_it_has_ended() {
    on_both(|io| {
        let first = serve(io, &["hello"]).start();
        let addr = first.addr();
        first.get("/").expect_status(200);
        first.stop();
        let second = serve(io, &["hello"]).at(addr).start();
        second.get("/").expect_status(200);
        assert_eq!(second.addr(), addr);
        second.stop();
    });
}
