//! A guest that misbehaves harms its own request: neighbours in other zones get theirs right, and so does who comes next.
//!
//! With `--max-concurrent 1` every request has a zone of its own, on one worker, so that neighbours share a core with the fault.

use super::support::process::curl_h2;
use super::support::{Cut, Io, Server, Setup, on_both, on_both_alone, serve};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

fn one_each(io: Io, guests: &[&str]) -> Setup {
    serve(io, guests).args("--max-concurrent 1")
}

/// What neighbours of a fault have seen.
#[derive(Debug)]
struct Neighbours {
    answers: usize,
    slowest: Duration,
}

/// Runs `fault` while neighbours ask for `path` again and again, on two connections.
///
/// # Panics
/// When a neighbour gets anything but 200 and `body`.
fn beside<T>(server: &Server, path: &str, body: &str, fault: impl FnOnce() -> T) -> (T, Neighbours) {
    let over = AtomicBool::new(false);
    let ask = || {
        let mut connection = server.connect();
        let mut seen = Neighbours { answers: 0, slowest: Duration::ZERO };
        while !over.load(Ordering::Relaxed) || seen.answers == 0 {
            let start = Instant::now();
            connection.get(path).expect(200, body);
            seen.slowest = seen.slowest.max(start.elapsed());
            seen.answers += 1;
            thread::sleep(Duration::from_millis(1));
        }
        seen
    };
    thread::scope(|scope| {
        let neighbours = [scope.spawn(ask), scope.spawn(ask)];
        // They have their zones before the fault begins: making one takes time of its own.
        thread::sleep(Duration::from_millis(100));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(fault));
        over.store(true, Ordering::Relaxed);
        let mut all = Neighbours { answers: 0, slowest: Duration::ZERO };
        for neighbour in neighbours {
            let seen = neighbour.join().expect("neighbours get what they ask for");
            all.answers += seen.answers;
            all.slowest = all.slowest.max(seen.slowest);
        }
        println!("neighbours: {} answers, the slowest in {:?}", all.answers, all.slowest);
        match outcome {
            Ok(outcome) => (outcome, all),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The response was cut after it had begun, or its head already said that it failed.
fn expect_no_whole_body(outcome: Result<super::support::Response, Cut>) -> Option<Cut> {
    match outcome {
        Ok(response) => {
            response.expect_status(502);
            None
        }
        Err(cut) => Some(cut),
    }
}

const TRAP: &str = "hello from a guest that traps\n";

#[test]
fn a_trap_is_a_502_and_the_next_request_is_fine() {
    on_both(|io| {
        let server = one_each(io, &["trap"]).start();
        beside(&server, "/", TRAP, || {
            let mut connection = server.connect();
            for _ in 0..20 {
                connection.get("/trap").expect_status(502);
                connection.get("/").expect(200, TRAP);
            }
        });
        let said = |line: &str| line.starts_with("[trap#0.") && line.contains("asked to trap at once");
        server.stderr.wait_for("asked to trap at once", Duration::from_secs(5), |line| {
            said(line) || line.contains("asked to trap at once")
        });
    });
}

#[test]
fn a_trap_in_a_shared_zone_fails_the_requests_in_it_and_no_later_ones() {
    on_both(|io| {
        let server = serve(io, &["trap"]).start();
        for _ in 0..20 {
            server.get("/trap").expect_status(502);
            server.get("/").expect(200, TRAP);
        }
    });
}

#[test]
fn exit_ends_like_a_trap() {
    on_both(|io| {
        let server = one_each(io, &["trap"]).start();
        beside(&server, "/", TRAP, || {
            for _ in 0..5 {
                server.get("/exit").expect_status(502);
            }
        });
    });
}

#[test]
fn a_trap_in_the_body_cuts_it() {
    on_both(|io| {
        let server = one_each(io, &["trap"]).start();
        beside(&server, "/", TRAP, || {
            for _ in 0..20 {
                if let Some(cut) = expect_no_whole_body(server.try_get("/trap-in-body")) {
                    assert!(TRAP.as_bytes().starts_with(&cut.body) && cut.body.len() < TRAP.len(), "{cut:?}");
                }
            }
            let finished = curl_h2(&[&server.url("/trap-in-body")]);
            assert!(finished.code != Some(0) || !finished.text().contains(TRAP), "{}", finished.text());
        });
    });
}

#[test]
fn a_trap_after_the_body_leaves_a_whole_response() {
    on_both(|io| {
        let server = one_each(io, &["trap"]).start();
        beside(&server, "/", TRAP, || {
            for _ in 0..20 {
                server.get("/trap-after-body").expect(200, TRAP);
            }
        });
    });
}

const SPIN: &str = "hello from a guest that spins\n";

/// What the slice of 10 ms is to achieve, with room for a debug build on a machine that does other things.
const STALL_MAX: Duration = Duration::from_millis(100);

/// Measures until neighbours were not stalled: other work on the machine may spoil a measurement, a stall spoils all.
///
/// # Panics
/// When they were, every time.
fn expect_no_stall(longest: Duration, measure: impl Fn() -> Neighbours) {
    let seen: Vec<Neighbours> =
        (0..3).map(|_| measure()).take_while(|neighbours| longest <= neighbours.slowest).collect();
    assert!(seen.len() < 3, "stalled every time: {seen:?}");
}

#[test]
fn a_guest_that_spins_gets_504_and_does_not_stall_its_core() {
    on_both_alone(|io| {
        let server = one_each(io, &["spin"]).args("--timeout 1").start();
        expect_no_stall(STALL_MAX, || {
            let (took, neighbours) = beside(&server, "/", SPIN, || {
                let start = Instant::now();
                server.get("/spin").expect_status(504);
                start.elapsed()
            });
            println!("504 after {took:?}");
            assert!(Duration::from_millis(900) < took && took < Duration::from_millis(2500), "{took:?}");
            // Two connections, a turn of at most a slice for the other guest each time.
            assert!(20 < neighbours.answers, "{neighbours:?}");
            neighbours
        });
    });
}

#[test]
fn a_server_that_nobody_asks_sleeps_and_a_guest_that_spins_then_is_ended() {
    on_both_alone(|io| {
        let server = serve(io, &["spin"]).args("--timeout 1").start();
        server.get("/").expect(200, SPIN);
        thread::sleep(Duration::from_millis(300));
        let before = server.sleeps();
        thread::sleep(Duration::from_secs(1));
        let sleeps = server.sleeps() - before;
        assert!(sleeps < 20, "woken {sleeps} times in a second");
        let start = Instant::now();
        server.get("/spin").expect_status(504);
        let took = start.elapsed();
        assert!(Duration::from_millis(900) < took && took < Duration::from_millis(2500), "{took:?}");
    });
}

#[test]
fn several_that_spin_are_all_ended() {
    on_both_alone(|io| {
        let server = one_each(io, &["spin"]).args("--timeout 1").start();
        expect_no_stall(5 * STALL_MAX, || {
            let (_, neighbours) = beside(&server, "/", SPIN, || {
                thread::scope(|scope| {
                    let spinning: Vec<_> = (0..4).map(|_| scope.spawn(|| server.get("/spin"))).collect();
                    for answer in spinning {
                        answer.join().expect("a whole response").expect_status(504);
                    }
                });
            });
            neighbours
        });
    });
}

#[test]
fn a_long_computation_is_finished_in_slices() {
    on_both_alone(|io| {
        let server = one_each(io, &["spin"]).start();
        expect_no_stall(STALL_MAX, || {
            let (_, neighbours) = beside(&server, "/", SPIN, || {
                server.get("/spin/500").expect(200, "burnt 500 ms\n");
                server.get("/yield/200").expect(200, "burnt 200 ms politely\n");
            });
            neighbours
        });
    });
}

#[test]
fn a_guest_that_spins_after_its_response_is_ended() {
    on_both_alone(|io| {
        let server = one_each(io, &["spin"]).args("--timeout 1 --max-zones 4").start();
        expect_no_stall(5 * STALL_MAX, || {
            let (_, neighbours) = beside(&server, "/", SPIN, || {
                // More than there are zones: those that spin must go for this to end well.
                for _ in 0..6 {
                    let answer = server.try_get("/spin-after-response");
                    println!("{:?}", answer.as_ref().map(|answer| (answer.status(), answer.text())));
                    if let Ok(answer) = answer {
                        answer.expect(200, "hello, and then nothing\n");
                    }
                }
            });
            neighbours
        });
        for _ in 0..4 {
            server.get("/").expect(200, SPIN);
        }
    });
}

#[test]
fn a_second_return_is_a_trap() {
    on_both(|io| {
        let server = one_each(io, &["return_twice"]).start();
        beside(&server, "/hello", "hello from a guest that returns twice\n", || {
            for _ in 0..10 {
                // The trap comes in the same turn as the first return.
                match server.try_get("/") {
                    Ok(response) if response.status() == 502 => {}
                    Ok(response) => {
                        response.expect(200, "first\n");
                    }
                    Err(cut) => assert!(b"first\n".starts_with(&cut.body), "{cut:?}"),
                }
                server.get("/late").expect(200, "hello from a guest that returns twice\n");
            }
        });
    });
}

#[test]
fn a_guest_that_never_returns_gets_504_and_leaves_nothing() {
    on_both(|io| {
        let server = one_each(io, &["never_returns"]).args("--timeout 0.3 --max-zones 8").start();
        beside(&server, "/hello", "hello from a guest that never returns\n", || {
            for path in ["/", "/clock", "/body"] {
                // Twice as many as there are zones: those that wait must go.
                thread::scope(|scope| {
                    let waiting: Vec<_> = (0..12).map(|_| scope.spawn(|| server.get(path))).collect();
                    for answer in waiting {
                        answer.join().expect("a whole response").expect_status(504);
                    }
                });
            }
        });
    });
}

#[test]
fn a_guest_that_never_exits_after_its_response_leaves_nothing() {
    on_both(|io| {
        let server = one_each(io, &["never_returns"]).args("--timeout 0.3 --max-zones 4").start();
        for _ in 0..12 {
            server.get("/after-response").expect(200, "hello from a guest that never returns\n");
        }
    });
}

#[test]
fn a_guest_that_can_be_cancelled_is_cancelled_when_time_is_up() {
    on_both(|io| {
        let server = serve(io, &["cancellable"]).args("--timeout 0.2").start();
        for _ in 0..3 {
            server.get("/").expect_status(504);
            server.get("/hello").expect(200, "hello from a guest that can be cancelled\n");
        }
    });
}

#[test]
fn half_a_body_never_looks_whole() {
    on_both(|io| {
        let server = one_each(io, &["half_body"]).start();
        beside(&server, "/hello", "hello from a guest that stops halfway\n", || {
            for path in ["/", "/abort"] {
                for _ in 0..10 {
                    if let Some(cut) = expect_no_whole_body(server.try_get(path)) {
                        assert!(
                            cut.body.len() <= 50_000 && cut.body.iter().all(|&byte| byte == b'x'),
                            "{}",
                            cut.body.len()
                        );
                    }
                }
                let finished = curl_h2(&[&server.url(path)]);
                assert!(
                    finished.code != Some(0) || finished.stdout.len() < 50_000,
                    "{path}: {} bytes",
                    finished.stdout.len()
                );
            }
        });
    });
}

/// Guests that hog, and neighbours that get theirs meanwhile: the process needs at most `room_mib` more than before.
fn hogs(io: Io, args: &str, room_mib: u64, load: impl FnOnce(&Server)) {
    let server = one_each(io, &["hog"]).args(args).start();
    server.get("/").expect_status(200);
    let before_kib = server.memory_kib("VmRSS");
    beside(&server, "/", "hello from a guest that hogs\n", || load(&server));
    let peak_kib = server.memory_kib("VmHWM");
    println!("{before_kib} KiB before, {peak_kib} KiB at the peak");
    assert!(peak_kib < before_kib + room_mib * 1024, "{before_kib} KiB before, {peak_kib} KiB at the peak");
}

#[test]
fn a_guest_that_allocates_without_end_is_stopped_at_its_limit() {
    on_both(|io| {
        // One zone at its limit, one that held 30 MiB and may not have gone yet, and something for the neighbours.
        hogs(io, "--max-memory 64M", 160, |server| {
            for _ in 0..5 {
                server.get("/hog").expect_status(502);
                server.get("/hog/200").expect_status(502);
                server.get("/hog/30").expect(200, "held 30 MiB\n");
            }
        });
    });
}

#[test]
fn a_guest_that_makes_the_host_keep_things_without_end_is_refused_more() {
    on_both(|io| {
        // What two zones hold, a few times over: counted are the bytes that guests see.
        hogs(io, "--max-memory 64M --max-requests 1", 400, |server| {
            for _ in 0..3 {
                // 64 MiB, and the part of the next that is left.
                let expected = "kept 655 times 100 KiB, then: HeaderError::SizeExceeded\n";
                server.get("/fields").expect(200, expected);
                let responses = server.get("/responses").expect_status(200).text();
                let kept: u32 = responses.trim_end_matches(" were taken\n").parse().expect("a number");
                assert!((30..=70).contains(&kept), "a MiB each: {kept}");
            }
        });
    });
}

#[test]
fn a_guest_that_makes_empty_things_without_end_is_stopped() {
    on_both(|io| {
        // A few hundred bytes for each of a quarter of a million, in two zones.
        hogs(io, "--max-memory 64M", 250, |server| {
            for _ in 0..3 {
                server.get("/empty").expect_status(502);
            }
        });
    });
}

#[test]
fn guests_that_flood_their_output_are_heard_line_by_line() {
    on_both(|io| {
        let server = one_each(io, &["flood"]).start();
        let hello = "hello from a guest that prints\n";
        beside(&server, "/hello", hello, || {
            server.get("/lines/2000").expect(200, hello);
            server.get("/native/2000").expect(200, hello);
            server.get("/long/1000000").expect(200, hello);
            server.get("/binary").expect(200, hello);
            server.get("/partial").expect(200, hello);
        });
        let limit = Duration::from_secs(10);
        let ends_with = |end: &'static str| move |line: &str| line.starts_with("[flood#0.") && line.ends_with(end);
        server.stdout.wait_for("the last line", limit, ends_with("] out 1999 of 2000"));
        server.stdout.wait_for("the last native line", limit, ends_with("] native 1999 of 2000"));
        // In front of it may be what is left of the long line, if that was in the same zone.
        server.stdout.wait_for("two halves", limit, ends_with("first half, second half"));
        server.stderr.wait_for("the last line", limit, ends_with("] err 1999 of 2000"));
        let lines = server.stdout.all();
        for i in 0..2000 {
            for end in [format!("] out {i} of 2000"), format!("] native {i} of 2000")] {
                assert_eq!(lines.iter().filter(|line| line.ends_with(&end)).count(), 1, "{end}");
            }
        }
        assert!(lines.iter().all(|line| line.starts_with("[flood#0.")), "every line says whose it is");
        let longest = lines.iter().map(String::len).max().unwrap_or_default();
        assert!(longest < 10_000, "a line of {longest} bytes");
        let long: usize = lines.iter().map(|line| line.chars().filter(|&c| c == 'l').count()).sum();
        assert!(1_000_000 <= long, "{long} bytes of the long line");
    });
}

#[test]
fn a_guest_that_blocks_in_the_sync_abi_is_answered_and_holds_up_nobody_else() {
    on_both(|io| {
        let server = one_each(io, &["blocks"]).start();
        beside(&server, "/", "hello from a guest that blocks\n", || {
            for _ in 0..5 {
                server.get("/wait").expect(200, "waited 10 ms without letting go\n");
                let start = Instant::now();
                server.get("/sleep").expect(200, "slept 10 ms without letting go\n");
                assert!(Duration::from_millis(10) <= start.elapsed());
                server.get("/yield").expect(200, "yielded without letting go\n");
            }
        });
    });
}
