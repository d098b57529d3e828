//! What the executor promises, on every driver this machine allows.

mod net;
mod oneshot;
mod sync;
mod tasks;
mod timers;
mod workers;

use std::future::Future;
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;
use crate::ring::tests::choices;

/// Far beyond what any test takes, so that a hang is a failure with a name.
const HANG: Duration = Duration::from_secs(120);

/// Runs a scenario on every driver and demands that it leaves no task, timer or operation behind.
fn on_both<F: Future>(scenario: impl Fn() -> F) {
    for choice in choices() {
        eprintln!("on {choice}");
        let executor = Executor::new(&choice).expect("an executor");
        executor.block_on(async {
            timeout(HANG, scenario()).await.expect("the scenario ends");
            nothing_is_left().await;
        });
        assert_eq!(executor.stats().ring.unmatched, 0);
    }
}

/// Waits until this executor has nothing to do.
async fn nothing_is_left() {
    let give_up = Instant::now() + HANG;
    loop {
        let left = stats();
        if (left.tasks, left.timers, left.ops) == (0, 0, 0) {
            return;
        }
        assert!(Instant::now() < give_up, "left behind: {left:?}");
        sleep(Duration::from_millis(1)).await;
    }
}

/// Polls once. Returns whether it was ready.
async fn poll_once(mut future: impl Future + Unpin) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut future).poll(cx).is_ready())).await
}

/// Runs the body of the test `name` in a process of its own, for what belongs to the process: descriptors, signals, and
/// sockets that must be gone at once. (A child that another test starts holds our descriptors until its exec.)
fn in_own_process(name: &str, body: impl Fn()) {
    const VARIABLE: &str = "INTERFLOW_TEST_IN_OWN_PROCESS";
    if std::env::var(VARIABLE).is_ok_and(|running| running == name) {
        return body();
    }
    let module = module_path!().split_once("::").expect("tests are in a crate").1;
    let this = std::env::current_exe().expect("the path of this program");
    let output = Command::new(this)
        .args(["--exact", &format!("{module}::{name}"), "--nocapture", "--test-threads=1"])
        .env(VARIABLE, name)
        .output()
        .expect("this program runs again");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

/// Random numbers from a seed that is printed: xorshift64*.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = match std::env::var("SEED") {
            Ok(text) => u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("SEED is hexadecimal"),
            Err(_) => u64::from(std::process::id()) << 32 | u64::from(Instant::now().elapsed().subsec_nanos()) | 1,
        };
        eprintln!("SEED=0x{seed:x}");
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}
