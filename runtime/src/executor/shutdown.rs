//! The end, announced: any thread says that it has come, every task on every thread can wait for it.
//!
//! Phases only go forward. Knows nothing of who drains what.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use slab::Slab;

/// How near the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Business as usual.
    Running,
    /// No new work; what is under way is finished.
    Draining,
    /// What is still under way is given up.
    Stopping,
}

/// A broadcast of the [`Phase`]. Cloning shares it; it may be used from any thread.
#[derive(Clone)]
pub struct Shutdown(Arc<Shared>);

struct Shared {
    phase: AtomicU8,
    /// One waker per [`Reached`] that waits: bounded by the tasks that wait.
    waiting: Mutex<Slab<Waker>>,
}

impl Shared {
    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Running,
            1 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// Nothing that panics runs under this lock.
    fn waiting(&self) -> MutexGuard<'_, Slab<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shutdown {
    /// A broadcast in [`Phase::Running`].
    pub fn new() -> Self {
        Shutdown(Arc::new(Shared { phase: AtomicU8::new(0), waiting: Mutex::default() }))
    }

    /// Goes on to `phase`, unless it is there or further already, and wakes everyone who waits.
    pub fn advance(&self, phase: Phase) {
        // The phase before the lock: whoever registers later sees it when he looks again.
        let before = self.0.phase.fetch_max(phase as u8, Ordering::SeqCst);
        if before < phase as u8 {
            let wakers: Vec<Waker> = self.0.waiting().iter().map(|(_, waker)| waker.clone()).collect();
            for waker in wakers {
                waker.wake();
            }
        }
    }

    /// How near the end is, now.
    pub fn phase(&self) -> Phase {
        self.0.phase()
    }

    /// Ready when `phase`, or a later one, has come.
    pub fn reached(&self, phase: Phase) -> Reached {
        Reached { shared: self.0.clone(), phase, place: None }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shutdown").field(&self.phase()).finish()
    }
}

/// The future of [`Shutdown::reached`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Reached {
    shared: Arc<Shared>,
    phase: Phase,
    /// The place among those who wait.
    place: Option<usize>,
}

impl Future for Reached {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.phase <= self.shared.phase() {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        let old = match self.place {
            Some(place) => Some(std::mem::replace(&mut self.shared.waiting()[place], waker)),
            None => {
                let place = self.shared.waiting().insert(waker);
                self.place = Some(place);
                None
            }
        };
        drop(old);
        // The phase may have come between the first look and the registration.
        if self.phase <= self.shared.phase() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Reached {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let waker = self.shared.waiting().remove(place);
            drop(waker);
        }
    }
}

impl fmt::Debug for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reached").field("phase", &self.phase).finish_non_exhaustive()
    }
}
