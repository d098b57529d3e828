//! `lab:` imports: experiments that guests get with `--lab`, and not without.

use super::support::process::run;
use super::support::server::{binary, shared_cache};
use super::support::{Io, Server, expect_descriptors, guest, on_both, pattern, serve};
use std::io::Read;
use std::process::Command;
use std::time::Duration;

/// Around the sizes of buffers: 16 KiB of a read ahead, 64 KiB of a chunk.
const LENGTHS: [usize; 9] = [0, 1, 100, 16_383, 16_384, 16_385, 65_537, 1_000_003, 5_000_011];

fn lab(io: Io, guests: &[&str]) -> Server {
    serve(io, guests).args("--lab").start()
}

#[test]
fn a_body_that_is_forwarded_comes_whole() {
    on_both(|io| {
        let server = lab(io, &["forwarder", "echo"]);
        // What a guest has written; what the host has; and the same without another guest, joined before or after the host has it.
        for path in ["/echo", "/splice", "/here", "/late"] {
            let mut connection = server.connect();
            for length in LENGTHS {
                let body = pattern::bytes(length);
                let response = connection.request("POST", path, "", &body);
                assert!(response.expect_status(200).body == body, "{path} {length}: {} bytes", response.body.len());
            }
        }
    });
}

#[test]
fn several_guests_forward_one_body() {
    on_both(|io| {
        let server = lab(io, &["forwarder", "forwarder", "forwarder", "echo"]);
        let body = pattern::bytes(1_000_003);
        for path in ["/echo", "/splice"] {
            let response = server.connect().request("POST", path, "", &body);
            assert!(response.expect_status(200).body == body, "{path}: {} bytes", response.body.len());
        }
        assert_eq!(server.get("/source/1000003/chunked").expect_status(200).body.len(), body.len());
    });
}

#[test]
fn trailers_follow_a_body_that_is_forwarded() {
    on_both(|io| {
        let server = lab(io, &["forwarder", "echo"]);
        let response = server.connect().request("GET", "/trailers", "te: trailers\r\n", b"");
        assert_eq!(response.trailer("x-guest").as_deref(), Some("echo"));
    });
}

#[test]
fn clients_that_hang_up_behind_a_forward_leave_nothing_behind() {
    on_both(|io| {
        let server = lab(io, &["forwarder", "echo"]);
        server.get("/source/10").expect_status(200);
        let before = server.fds();
        for round in 0..30 {
            // Half of a body that a guest writes; and a body that is not sent to its end and comes back.
            let mut connection = server.connect();
            connection.send(match round % 2 {
                0 => "GET /source/10000000 HTTP/1.1\r\nhost: test\r\n\r\n".to_string(),
                _ => format!("POST /late HTTP/1.1\r\nhost: test\r\ncontent-length: 9999\r\n\r\n{:99}", 0),
            });
            let mut some = [0; 50];
            connection.stream().read_exact(&mut some).expect("it has begun to answer");
        }
        expect_descriptors(&server, &before);
        server.get("/source/10").expect_status(200);
    });
}

#[test]
fn a_body_is_read_with_several_reads_in_flight() {
    on_both(|io| {
        let server = lab(io, &["read_ahead"]);
        let mut connection = server.connect();
        for length in LENGTHS {
            let body = pattern::bytes(length);
            let sum = body.iter().zip(1u64..).fold(0u64, |sum, (byte, at)| sum.wrapping_add(u64::from(*byte) * at));
            let answer = connection.request("POST", "/", "", &body).expect_status(200).text();
            // How many were in flight depends on how fast the body comes, except when there is time for several.
            let expected = format!("{length} {sum} ");
            assert!(answer.starts_with(&expected), "{answer}, not {expected}");
            assert!(length < 5_000_000 || answer.ends_with("several\n"), "{answer}");
            assert!(connection.request("POST", "/copy", "", &body).expect_status(200).body == body, "{length}");
        }
    });
}

#[test]
fn what_another_guest_writes_is_read_ahead() {
    on_both(|io| {
        // The middleware's answer is what `read_ahead` has copied, forwarded.
        let server = lab(io, &["forwarder", "read_ahead"]);
        let body = pattern::bytes(1_000_003);
        let response = server.connect().request("POST", "/copy", "", &body);
        assert!(response.expect_status(200).body == body, "{} bytes", response.body.len());
    });
}

#[test]
fn without_the_flag_a_guest_that_asks_for_experiments_is_refused() {
    let chains: [(&[&str], &str); 2] =
        [(&["forwarder", "hello"], "lab:streams/forward"), (&["read_ahead"], "lab:streams/read-ahead")];
    for (chain, import) in chains {
        let mut command = Command::new(binary());
        command.arg("serve").args(chain.iter().map(|name| guest(name))).args(["--addr", "127.0.0.1:0", "--cache"]);
        let finished = run(command.arg(shared_cache()), Duration::from_secs(60));
        assert_eq!(finished.code, Some(2), "{}", finished.stderr);
        assert!(finished.stderr.contains(import) && finished.stderr.contains("`--lab`"), "{}", finished.stderr);
    }
}

#[test]
fn the_help_says_that_experiments_may_change() {
    let help = run(Command::new(binary()).args(["serve", "--help"]), Duration::from_secs(60)).success().text();
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("--lab Offers `lab:` imports") && words.contains("may change with any version"), "{help}");
}
