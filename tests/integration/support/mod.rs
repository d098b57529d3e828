//! What the tests share: servers as child processes, a small blocking HTTP/1.1 client, tools for everything else.

pub(crate) mod http;
pub(crate) mod pattern;
pub(crate) mod process;
pub(crate) mod server;

pub(crate) use http::{Connection, Cut, Response};
pub(crate) use server::{Server, Setup, guest, serve};

use std::cell::RefCell;
use std::fmt::{self, Display};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Which driver a server does its I/O with: the value of `--io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Io {
    Uring,
    Epoll,
}

impl fmt::Display for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Io::Uring => "uring",
            Io::Epoll => "epoll",
        })
    }
}

/// Tests that measure time take this alone, the others share it.
static MACHINE: RwLock<()> = RwLock::new(());

/// Runs a test with servers on io_uring and then with servers on epoll, whatever becomes of the first.
pub(crate) fn on_both(test: impl Fn(Io)) {
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    on_each(test);
}

/// `on_both` for tests that measure time: no other test runs meanwhile.
pub(crate) fn on_both_alone(test: impl Fn(Io)) {
    let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    on_each(test);
}

fn on_each(test: impl Fn(Io)) {
    let outcomes = [Io::Uring, Io::Epoll].map(|io| {
        println!("--- with --io {io}");
        if !server::allowed(io) {
            println!("--- which is not allowed here");
            return Ok(());
        }
        catch_unwind(AssertUnwindSafe(|| test(io))).inspect_err(|_| println!("--- has failed with --io {io}"))
    });
    for outcome in outcomes {
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within `limit`; the message names `what`.
pub(crate) fn eventually<W: Display>(what: impl Fn() -> W, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {}", what());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How long a server may take to notice that clients have gone, and to let go of a zone that it had made because another was
/// busy: that takes 10 s without a request.
pub(crate) const NOTICE: Duration = Duration::from_secs(20);

/// Waits until the server holds no more descriptors than before.
pub(crate) fn expect_descriptors(server: &Server, before: &[String]) {
    let now = RefCell::new(Vec::new());
    let what = || format!("the server's descriptors are back to {before:#?}, there are {:#?}", now.borrow());
    eventually(what, NOTICE, || {
        *now.borrow_mut() = server.fds();
        now.borrow().len() <= before.len()
    });
    println!("{} descriptors before, {} after", before.len(), now.borrow().len());
}

/// Numbers that look random and come again from the same seed (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    /// Seeded from `SEED` if it is set, else from the clock; prints the seed, so that a failure can be repeated.
    pub(crate) fn seeded() -> Random {
        let given = std::env::var("SEED").ok().map(|seed| {
            let digits = seed.trim_start_matches("0x");
            u64::from_str_radix(digits, 16).expect("SEED is a hexadecimal number")
        });
        let clock = || {
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64)
        };
        let seed = given.unwrap_or_else(clock);
        println!("SEED=0x{seed:x}");
        Random(seed)
    }

    /// From `from` to `to`, both included.
    pub(crate) fn between(&mut self, from: usize, to: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        from + ((bits ^ (bits >> 31)) % (to - from + 1) as u64) as usize
    }
}
