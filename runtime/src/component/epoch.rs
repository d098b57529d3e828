//! The epoch, by which running guests are interrupted.
//!
//! One thread of the process advances it while guests run: whoever lets one run says so with each of its slices
//! (`guest_runs`). When nobody has said so for a while, the thread sleeps until somebody does: a process that has nothing to
//! do does not wake up. Knows engines, nothing of zones.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;
use wasmtime::{Engine, EngineWeak};

/// How often the epoch advances while guests run.
pub const EPOCH_TICK: Duration = Duration::from_micros(2500);

/// Ticks between two looks at whether guests run. More than a slice has, so that one that spins is not taken for none.
pub(crate) const LOOK_TICKS: u32 = 4;

static TICKER: Ticker = Ticker { guests: Guests::new(), engines: Mutex::new(Vec::new()), thread: OnceLock::new() };

/// Advances the engine's epoch for as long as it lives, while its guests run.
///
/// # Errors
/// When the thread cannot be started.
pub fn tick(engine: &Engine) -> io::Result<()> {
    let mut engines = TICKER.engines.lock().unwrap_or_else(PoisonError::into_inner);
    if TICKER.thread.get().is_none() {
        let thread = std::thread::Builder::new().name("epoch".into()).spawn(|| TICKER.run())?;
        TICKER.thread.set(thread.thread().clone()).expect("it is set under the lock alone");
    }
    engines.push(engine.weak());
    Ok(())
}

/// A guest begins to run, or goes on after a slice: the epoch advances for longer than that slice.
#[inline]
pub(crate) fn guest_runs() {
    if TICKER.guests.are_new() {
        TICKER.guest_runs();
    }
}

struct Ticker {
    guests: Guests,
    engines: Mutex<Vec<EngineWeak>>,
    /// Set before it sees `engines`, so before it can sleep.
    thread: OnceLock<Thread>,
}

impl Ticker {
    fn run(&self) -> ! {
        loop {
            for _ in 0..LOOK_TICKS {
                std::thread::sleep(EPOCH_TICK);
                self.advance();
            }
            if self.guests.look() == Seen::Asleep {
                while self.guests.seen() == Seen::Asleep {
                    std::thread::park();
                }
            }
        }
    }

    fn advance(&self) {
        let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        engines.retain(|engine| engine.upgrade().inspect(Engine::increment_epoch).is_some());
    }

    #[cold]
    fn guest_runs(&self) {
        if self.guests.run()
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}

/// What the thread knows of guests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Seen {
    /// One has run since it last looked.
    Running,
    /// None has.
    Quiet,
    /// None had, and it sleeps.
    Asleep,
}

/// A `Seen` that all threads share. It changes a few times in a look, and is read with each slice.
struct Guests(AtomicU8);

impl Guests {
    const fn new() -> Self {
        Guests(AtomicU8::new(Seen::Quiet as u8))
    }

    fn seen(&self) -> Seen {
        match self.0.load(Ordering::Acquire) {
            0 => Seen::Running,
            1 => Seen::Quiet,
            _ => Seen::Asleep,
        }
    }

    /// Is a guest that runs news? Who reads an old value here has begun before the last look; it says so again before the next.
    #[inline]
    fn are_new(&self) -> bool {
        self.0.load(Ordering::Relaxed) != Seen::Running as u8
    }

    /// One runs; tells whether the thread has to be woken.
    fn run(&self) -> bool {
        self.0.swap(Seen::Running as u8, Ordering::AcqRel) == Seen::Asleep as u8
    }

    /// The thread looks: what has not run since it last did so is asleep.
    fn look(&self) -> Seen {
        let change = |from: Seen, to: Seen| {
            self.0.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
        };
        if !change(Seen::Running, Seen::Quiet) && change(Seen::Quiet, Seen::Asleep) {
            return Seen::Asleep;
        }
        Seen::Quiet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_sleeps_when_no_guest_has_run_between_two_looks() {
        let guests = Guests::new();
        assert!(guests.are_new());
        assert!(!guests.run(), "it does not sleep yet");
        assert!(!guests.are_new());
        assert_eq!(guests.look(), Seen::Quiet, "one has run");
        assert!(guests.are_new(), "it has to say so again");
        assert!(!guests.run());
        assert_eq!(guests.look(), Seen::Quiet);
        assert_eq!(guests.look(), Seen::Asleep);
        assert_eq!(guests.seen(), Seen::Asleep);
    }

    #[test]
    fn the_first_guest_that_runs_wakes_the_thread_and_no_other_does() {
        let guests = Guests::new();
        assert_eq!(guests.look(), Seen::Asleep);
        assert!(guests.run());
        assert!(!guests.run());
        assert_eq!(guests.seen(), Seen::Running);
        assert_eq!(guests.look(), Seen::Quiet);
    }
}
