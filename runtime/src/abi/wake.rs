//! How the world outside tells a zone that something can go on.
//!
//! A future, source or sink of the host gets a waker that names it. Waking puts that name on the zone's list and wakes the
//! task that drives the zone. Any thread may wake; only the zone takes.

use super::state::Ready;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// A zone's list of what was woken. Bounded by the number of wakers, because each is listed at most once.
#[derive(Default)]
pub(crate) struct Wakes {
    /// What there is for the zone, `WORK` and `LISTED`: spares both sides the lock when nothing has changed.
    news: AtomicU8,
    inner: Mutex<Inner>,
}

/// The zone has something to do.
const WORK: u8 = 1;
/// Some of it is in `woken`.
const LISTED: u8 = 2;

#[derive(Default)]
struct Inner {
    woken: Vec<Arc<Item>>,
    /// The task that drives the zone.
    driver: Option<Waker>,
}

/// One named waker.
pub(crate) struct Item {
    wakes: Arc<Wakes>,
    ready: Ready,
    listed: AtomicBool,
}

impl Wakes {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A panic between lock and unlock is impossible here: nothing foreign runs inside.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A waker that lists `ready`.
    pub fn waker(self: &Arc<Self>, ready: Ready) -> Waker {
        Waker::from(Arc::new(Item { wakes: self.clone(), ready, listed: AtomicBool::new(false) }))
    }

    /// Wakes the driver without naming anything.
    pub fn kick(&self) {
        if self.news.fetch_or(WORK, Ordering::AcqRel) != 0 {
            return;
        }
        // Apart from the `if`: the lock is not held while the driver is woken.
        let driver = self.lock().driver.take();
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Moves what was woken to `ready`.
    pub fn take(&self, ready: &mut std::collections::VecDeque<Ready>) {
        if self.news.load(Ordering::Relaxed) == 0 || self.news.swap(0, Ordering::AcqRel) & LISTED == 0 {
            return;
        }
        for item in self.lock().woken.drain(..) {
            item.listed.store(false, Ordering::Release);
            ready.push_back(item.ready);
        }
    }

    /// Was something woken or kicked that the zone has not looked at?
    pub fn has_news(&self) -> bool {
        self.news.load(Ordering::Acquire) != 0
    }

    /// Registers the driver; `false` if there is work already.
    pub fn sleep(&self, driver: &Waker) -> bool {
        let mut inner = self.lock();
        if self.news.load(Ordering::Acquire) != 0 {
            return false;
        }
        match &mut inner.driver {
            Some(known) => known.clone_from(driver),
            none => *none = Some(driver.clone()),
        }
        true
    }
}

impl Wake for Item {
    fn wake(self: Arc<Self>) {
        if self.listed.swap(true, Ordering::AcqRel) {
            return;
        }
        let driver = {
            let mut inner = self.wakes.lock();
            inner.woken.push(self.clone());
            self.wakes.news.fetch_or(WORK | LISTED, Ordering::Release);
            inner.driver.take()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}
