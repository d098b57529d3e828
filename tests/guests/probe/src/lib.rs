//! Asks the host for everything it offers besides HTTP and answers what it got, one `name: value` per line.
//! `/0.3` uses the WASI 0.3 interfaces, `/0.2` what Rust's standard library makes of WASI 0.2.

use guest_kit::{path, text};
use wasip3::http::types::{ErrorCode, Request, Response};

struct Probe;

wasip3::http::service::export!(Probe);

impl wasip3::exports::http::handler::Guest for Probe {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        Ok(match path(&request).as_str() {
            "/0.3" => text(200, native().await),
            "/0.2" => text(200, standard_library()),
            _ => text(404, "ask for /0.3 or /0.2\n"),
        })
    }
}

async fn native() -> String {
    use wasip3::cli::{environment, stdin, terminal_stderr, terminal_stdin, terminal_stdout};
    use wasip3::clocks::{monotonic_clock, system_clock};
    use wasip3::random::{insecure, insecure_seed, random};

    let mut out = String::new();
    let mut line = |name: &str, value: String| out += &format!("{name}: {value}\n");

    line("arguments", format!("{:?}", environment::get_arguments()));
    line("environment", format!("{:?}", environment::get_environment()));
    line("initial-cwd", format!("{:?}", environment::get_initial_cwd()));

    let before_ns = monotonic_clock::now();
    monotonic_clock::wait_until(before_ns + 1_000_000).await;
    monotonic_clock::wait_for(1_000_000).await;
    line("monotonic 2 ms wait", format!("{} ns", monotonic_clock::now() - before_ns));
    line("monotonic resolution", format!("{} ns", monotonic_clock::get_resolution()));
    let system = system_clock::now();
    line("system", format!("{}.{:09} s", system.seconds, system.nanoseconds));
    line("system resolution", format!("{} ns", system_clock::get_resolution()));

    line("random bytes", format!("{:?}", random::get_random_bytes(8)));
    line("random u64", random::get_random_u64().to_string());
    line("insecure bytes", format!("{:?}", insecure::get_insecure_random_bytes(8)));
    line("insecure u64", insecure::get_insecure_random_u64().to_string());
    line("insecure seed", format!("{:?}", insecure_seed::get_insecure_seed()));

    let (input, ended) = stdin::read_via_stream();
    let input = input.collect().await;
    line("stdin", format!("{} bytes, then {:?}", input.len(), ended.await));
    line("stdin is a terminal", terminal_stdin::get_terminal_stdin().is_some().to_string());
    line("stdout is a terminal", terminal_stdout::get_terminal_stdout().is_some().to_string());
    line("stderr is a terminal", terminal_stderr::get_terminal_stderr().is_some().to_string());
    out
}

fn standard_library() -> String {
    use std::collections::hash_map::RandomState;
    use std::hash::BuildHasher;
    use std::io::{IsTerminal, Read};
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    let mut out = String::new();
    let mut line = |name: &str, value: String| out += &format!("{name}: {value}\n");

    line("arguments", format!("{:?}", std::env::args().collect::<Vec<_>>()));
    line("environment", format!("{:?}", std::env::vars().collect::<Vec<_>>()));
    line("current dir", format!("{:?}", std::env::current_dir()));

    let before = Instant::now();
    std::thread::sleep(Duration::from_millis(2));
    line("monotonic 2 ms wait", format!("{} ns", before.elapsed().as_nanos()));
    line("system", format!("{:?}", SystemTime::now().duration_since(UNIX_EPOCH)));
    line("hash seed", RandomState::new().hash_one(0).to_string());

    let mut input = Vec::new();
    line("stdin", format!("{:?}", std::io::stdin().read_to_end(&mut input)));
    line("stdin is a terminal", std::io::stdin().is_terminal().to_string());
    line("stdout is a terminal", std::io::stdout().is_terminal().to_string());
    line("stderr is a terminal", std::io::stderr().is_terminal().to_string());
    line("read of /", format!("{:?}", std::fs::read_dir("/").map(|_| "a directory")));
    line("write of /x", format!("{:?}", std::fs::write("/x", "x")));
    out
}
