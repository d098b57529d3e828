//! What guests forget ends with their zone, and what the server uses for a request ends with the request.

use super::support::process::h2load;
use super::support::{expect_descriptors, on_both, serve};
use std::time::Duration;

const LEAKS: &str = "hello from a guest that leaks\n";

/// What a round of some hundred or thousand requests may add to the memory and count as nothing: far less than a kilobyte each.
const NOTHING_KIB: u64 = 1024;

#[test]
fn handles_that_guests_forget_end_with_their_zone() {
    on_both(|io| {
        // Its tasks never end of themselves: what they forgot keeps them waiting. They are given up after the timeout.
        let server = serve(io, &["leaks"]).args("--max-requests 100 --timeout 1").start();
        let mut connection = server.connect();
        connection.get("/10").expect(200, LEAKS);
        let before = server.fds();
        server.expect_memory_to_settle(NOTHING_KIB, || {
            for _ in 0..1000 {
                connection.request("POST", "/10", "", b"").expect(200, LEAKS);
            }
            // Longer than the timeout and the sweep that looks for what exceeds it.
            std::thread::sleep(Duration::from_millis(3500));
        });
        expect_descriptors(&server, &before);
        server.stop();
    });
}

#[test]
fn a_guest_that_forgets_too_much_fails_and_its_successor_does_not() {
    on_both(|io| {
        let server = serve(io, &["leaks"]).args("--max-memory 64M").start();
        for _ in 0..10 {
            let status = server.get("/20000").status();
            assert!([200, 502].contains(&status), "{status}");
        }
        let peak_kib = server.memory_kib("VmHWM");
        println!("peak {peak_kib} KiB");
        assert!(peak_kib < 1024 * 1024, "{peak_kib} KiB");
        // The first may meet the zone that is full.
        let status = server.get("/1").status();
        assert!([200, 502].contains(&status), "{status}");
        server.get("/1").expect(200, LEAKS);
        server.stop();
    });
}

#[test]
fn many_requests_through_a_chain_leave_nothing_behind() {
    on_both(|io| {
        let server = serve(io, &["gzip", "log", "trailer_mw", "echo"]).workers(2).start();
        let mut fewest = Vec::new();
        // Guests keep what they once needed at the same time; how much that is, settles slowly.
        server.expect_memory_to_settle(4 * NOTHING_KIB, || {
            for path in ["/echo", "/source/10000", "/trailers", "/status/204"] {
                h2load(1000, &["-c", "4", "-m", "20", &server.url(path)]);
                h2load(1000, &["--h1", "-c", "16", "-H", "accept-encoding: gzip", &server.url(path)]);
            }
            std::thread::sleep(Duration::from_millis(100));
            let now = server.fds();
            if fewest.is_empty() || now.len() < fewest.len() {
                fewest = now;
            }
        });
        expect_descriptors(&server, &fewest);
        server.stop();
    });
}

#[test]
fn traps_leave_nothing_behind() {
    on_both(|io| {
        let server = serve(io, &["log", "trap"]).start();
        let mut connection = server.connect();
        connection.get("/trap").expect_status(502);
        let before = server.fds();
        server.expect_memory_to_settle(NOTHING_KIB, || {
            for _ in 0..200 {
                connection.get("/trap").expect_status(502);
            }
        });
        expect_descriptors(&server, &before);
        server.stop();
    });
}
