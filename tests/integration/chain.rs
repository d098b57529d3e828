//! Files on the command line are linked into one chain, through which a request travels as one call.

use super::support::process::{curl, run};
use super::support::server::scratch;
use super::support::{Server, guest, on_both, on_both_alone, serve};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const GZIP: &str = "accept-encoding: gzip\r\n";

#[test]
fn a_middleware_decides_who_gets_through() {
    on_both(|io| {
        let server = serve(io, &["auth", "hello"]).start();
        let mut connection = server.connect();
        let refused = connection.get("/");
        refused.expect(401, "");
        assert_eq!(refused.header("www-authenticate").as_deref(), Some("Bearer"));
        connection.request("GET", "/", "authorization: Bearer letmeout\r\n", b"").expect_status(401);
        connection.request("GET", "/", "authorization: Bearer letmein\r\n", b"").expect(200, "hello world");
        // A connection on which a body is left unread may close, so this has one of its own.
        server.connect().request("POST", "/", "", b"a body that nobody reads").expect_status(401);
        connection.request("GET", "/", "authorization: bearer letmein\r\n", b"").expect(200, "hello world");
    });
}

#[test]
fn the_environment_is_every_links() {
    on_both(|io| {
        let server = serve(io, &["auth", "hello"]).args("--env AUTH_TOKEN=secret").start();
        let mut connection = server.connect();
        connection.request("GET", "/", "authorization: Bearer letmein\r\n", b"").expect_status(401);
        connection.request("GET", "/", "authorization: Bearer secret\r\n", b"").expect(200, "hello world");
    });
}

#[test]
fn gzip_compresses_for_those_who_accept_it() {
    on_both(|io| {
        let server = serve(io, &["gzip", "echo"]).start();
        let plain = server.get("/source/100000");
        assert_eq!((plain.body.len(), plain.header("content-encoding")), (100_000, None));
        assert_eq!(plain.header("vary").as_deref(), Some("accept-encoding"));
        let packed = server.connect().request("GET", "/source/100000", GZIP, b"");
        assert_eq!(packed.header("content-encoding").as_deref(), Some("gzip"));
        assert_eq!(packed.header("content-length"), None, "it is not known");
        assert!(packed.body.len() < 20_000, "{} bytes", packed.body.len());
        let unpacked = curl(&["--compressed", &server.url("/source/100000")]).success();
        assert!(unpacked.stdout == plain.body);
    });
}

#[test]
fn a_compressed_response_still_trickles() {
    on_both_alone(|io| {
        let server = serve(io, &["gzip", "echo"]).start();
        let start = Instant::now();
        let mut curl = Command::new("curl")
            .args(["-q", "--silent", "--no-buffer", "--compressed", "--max-time", "20", &server.url("/drip/6/150")])
            .stdout(Stdio::piped())
            .spawn()
            .expect("curl is there");
        let lines = BufReader::new(curl.stdout.take().expect("piped")).lines();
        let arrived: Vec<_> = lines.map(|line| (line.expect("text"), start.elapsed())).collect();
        assert!(curl.wait().expect("our child").success());
        println!("{arrived:?}");
        assert_eq!(
            arrived.iter().map(|(line, _)| line.as_str()).collect::<Vec<_>>().join(","),
            "drip 0,drip 1,drip 2,drip 3,drip 4,drip 5"
        );
        assert!(arrived[0].1 < Duration::from_millis(450), "the first line was held back");
        assert!(Duration::from_millis(740) < arrived[5].1, "the guest waits 750 ms");
        for pair in arrived.windows(2) {
            let gap = pair[1].1 - pair[0].1;
            assert!(Duration::from_millis(40) < gap, "{} came {gap:?} after its predecessor", pair[1].0);
        }
    });
}

#[test]
fn a_log_line_says_what_has_passed() {
    on_both(|io| {
        let server = serve(io, &["log", "echo"]).start();
        server.get("/source/1000?with=query").expect_status(200);
        server.connect().request("POST", "/echo", "", b"12345").expect(200, "12345");
        server.get("/error").expect_status(500);
        for start in ["GET /source/1000?with=query 200 1000 ", "POST /echo 200 5 ", "GET /error - 0 "] {
            let expected = format!("[echo#0.1] {start}");
            let line = server.stdout.wait_for(&expected, Duration::from_secs(5), |line| line.starts_with(&expected));
            let ms = line.strip_prefix(&expected).expect("starts with it");
            assert!(ms.parse::<u64>().is_ok_and(|ms| ms < 10_000), "{line}");
        }
    });
}

#[test]
fn trailers_are_added_to_a_body_that_passes_untouched() {
    on_both(|io| {
        let server = serve(io, &["trailer_mw", "echo"]).start();
        let mut connection = server.connect();
        let response = connection.request("GET", "/source/300000", "te: trailers\r\n", b"");
        assert_eq!((response.body.len(), response.trailer("x-trailer-mw").as_deref()), (300_000, Some("added")));
        // In addition to those of the next one.
        let response = connection.request("GET", "/trailers", "te: trailers\r\n", b"");
        response.expect(200, "trailers follow\n");
        assert_eq!(response.trailer("x-guest").as_deref(), Some("echo"));
        assert_eq!(response.trailer("x-trailer-mw").as_deref(), Some("added"));
        // And to a body that comes from the client and passes two guests.
        let response = connection.request("POST", "/splice", "te: trailers\r\n", &[b'x'; 200_000]);
        assert_eq!((response.body.len(), response.trailer("x-trailer-mw").as_deref()), (200_000, Some("added")));
    });
}

#[test]
fn sixteen_middlewares_pass_a_request_on() {
    on_both(|io| {
        let mut guests = vec!["middleware"; 16];
        guests.push("echo");
        let server = serve(io, &guests).start();
        let mut connection = server.connect();
        let body = super::support::pattern::bytes(1_000_000);
        for path in ["/echo", "/splice"] {
            let response = connection.request("POST", path, "", &body);
            assert!(response.expect_status(200).body == body, "{path}");
        }
        let response = connection.request("GET", "/trailers", "te: trailers\r\n", b"");
        assert_eq!(response.trailer("x-guest").as_deref(), Some("echo"));
        connection.get("/error").expect_status(500);
    });
}

#[test]
fn one_component_may_be_in_a_chain_twice() {
    on_both(|io| {
        let server = serve(io, &["trailer_mw", "log", "trailer_mw", "log", "hello"]).start();
        let response = server.connect().request("GET", "/", "te: trailers\r\n", b"");
        response.expect(200, "hello world");
        assert_eq!(response.trailer("x-trailer-mw").as_deref(), Some("added, added"));
        let logged = || server.stdout.by_zone("GET / 200 11 ");
        super::support::eventually(
            || "two lines of one zone",
            Duration::from_secs(5),
            || logged().get("hello#0.1") == Some(&2),
        );
    });
}

#[test]
fn the_chain_of_the_readme_works() {
    on_both(|io| {
        let server = serve(io, &["auth", "gzip", "log", "hello"]).workers(2).start();
        let url = server.url("/");
        assert_eq!(
            curl(&["--compressed", "-H", "authorization: Bearer letmein", &url]).success().text(),
            "hello world"
        );
        server.get("/").expect_status(401);
        server.stdout.wait_for("GET / 200 11", Duration::from_secs(5), |line| line.contains("GET / 200 11 "));
    });
}

#[test]
fn a_link_can_cancel_the_next() {
    on_both(|io| {
        let server = serve(io, &["deadline", "cancellable"]).start();
        let mut connection = server.connect();
        connection.request("GET", "/", "x-deadline-ms: 50\r\n", b"").expect(504, "nothing within 50 ms\n");
        server.stderr.wait_for("cancelled", Duration::from_secs(5), |line| line == "[cancellable#0.1] cancelled");
        // The instances live on.
        connection
            .request("GET", "/hello", "x-deadline-ms: 5000\r\n", b"")
            .expect(200, "hello from a guest that can be cancelled\n");
        for _ in 0..20 {
            connection.request("GET", "/", "x-deadline-ms: 1\r\n", b"").expect_status(504);
        }
        let zones = server.stderr.by_zone("cancelled");
        assert_eq!(zones.keys().collect::<Vec<_>>(), ["cancellable#0.1"], "{zones:?}");
    });
}

#[test]
fn a_link_that_traps_when_cancelled_fails_its_request_alone() {
    on_both(|io| {
        let server = serve(io, &["deadline", "never_returns"]).args("--max-concurrent 1").start();
        let mut connection = server.connect();
        for _ in 0..3 {
            connection.request("GET", "/", "x-deadline-ms: 20\r\n", b"").expect_status(502);
            connection.request("GET", "/hello", "", b"").expect(200, "hello from a guest that never returns\n");
        }
    });
}

/// A component that was built for another patch version of WASI 0.3: in `name`, all interfaces are of version 0.3.0.
fn of_version_0_3_0(name: &str) -> PathBuf {
    let mut bytes = std::fs::read(guest(name)).expect("it is there");
    let (from, to) = (b"@0.3.2", b"@0.3.0");
    let places: Vec<usize> = (0..bytes.len() - from.len()).filter(|&at| &bytes[at..at + from.len()] == from).collect();
    assert!(!places.is_empty(), "the guests are no longer of version 0.3.2: choose another pair of versions");
    places.into_iter().for_each(|at| bytes[at..at + to.len()].copy_from_slice(to));
    let file = scratch("versions").join(format!("{name}-{}.wasm", std::process::id()));
    std::fs::write(&file, bytes).expect("the target directory can be written");
    file
}

#[test]
fn patch_versions_of_the_interfaces_mix() {
    let check = |server: Server| {
        let mut connection = server.connect();
        connection.request("POST", "/echo", "", b"across versions").expect(200, "across versions");
        let response = connection.request("GET", "/trailers", "te: trailers\r\n", b"");
        assert_eq!(response.trailer("x-trailer-mw").as_deref(), Some("added"));
    };
    on_both(|io| {
        let (old_middleware, old_service) = (of_version_0_3_0("trailer_mw"), of_version_0_3_0("echo"));
        check(serve(io, &[]).files(&[old_middleware.clone(), guest("echo")]).start());
        check(serve(io, &[]).files(&[guest("trailer_mw"), old_service.clone()]).start());
        check(serve(io, &[]).files(&[old_middleware, old_service]).start());
    });
}

#[test]
fn backpressure_of_a_guest_is_honoured() {
    on_both(|io| {
        for guests in [&["backpressure"][..], &["middleware", "backpressure"]] {
            let server = serve(io, guests).start();
            thread::scope(|scope| {
                let inside: Vec<_> = (0..8).map(|_| scope.spawn(|| server.get("/hold/30"))).collect();
                for answer in inside {
                    answer.join().expect("a whole response").expect(200, "1\n");
                }
            });
        }
    });
}

#[test]
fn a_trap_at_the_end_of_a_chain_is_a_502_at_its_beginning() {
    on_both(|io| {
        let server = serve(io, &["middleware", "log", "trap"]).start();
        server.get("/trap").expect_status(502);
        server.get("/").expect(200, "hello from a guest that traps\n");
        // `log` copies the body: how much of it is on its way when the trap comes is a matter of timing.
        if let Ok(response) = server.try_get("/trap-in-body") {
            response.expect_status(502);
        }
        server.get("/").expect(200, "hello from a guest that traps\n");
    });
}

#[test]
fn every_guest_is_used_by_a_test() {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let read =
        |path: PathBuf| std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let sources: String = std::fs::read_dir(tests.join("integration"))
        .expect("tests have sources")
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.is_file())
        .map(read)
        .collect();
    let mut seen = 0;
    for entry in std::fs::read_dir(tests.join("guests")).expect("there are guests") {
        let manifest = entry.expect("a readable directory").path().join("Cargo.toml");
        let component = manifest.is_file().then(|| read(manifest)).filter(|text| text.contains("cdylib"));
        let Some(text) = component else { continue };
        let (_, library) = text.split_once("[lib]").expect("a component is a library");
        let name = library.lines().find_map(|line| line.strip_prefix("name = ")).expect("the library has a name");
        assert!(sources.contains(name), "no test uses the guest {name}");
        seen += 1;
    }
    assert!(20 <= seen, "{seen} guests");
}

#[test]
fn the_tools_that_tests_need_are_there() {
    for tool in ["curl", "h2load", "nghttp"] {
        run(Command::new(tool).arg("--version"), Duration::from_secs(10)).success();
    }
}
