//! How the world outside tells a zone that something can go on.
//!
//! A future, source or sink of the host gets a waker that names it. Waking puts that name on the zone's list and wakes the
//! task that drives the zone. Any thread may wake; only the zone takes. What happens on the zone's own thread has its place
//! already (in the queues of the store, or in `Deferred`): it rings the `Bell`, which costs nothing atomic.

use super::state::Ready;
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// What the zone and the task that drives it have of its `Wakes`.
#[derive(Default)]
pub(crate) struct Bell {
    wakes: Arc<Wakes>,
    /// Rung since the zone has last looked.
    rung: Cell<bool>,
}

/// A zone's list of what was woken. Bounded by the number of wakers, because each is listed at most once.
#[derive(Default)]
pub(crate) struct Wakes {
    /// What is in `inner`, `LISTED` and `SLEEPING`: spares the lock when there is nothing. Changed under it only.
    holds: AtomicU8,
    inner: Mutex<Inner>,
}

/// Something is in `woken`.
const LISTED: u8 = 1;
/// There is a `driver`.
const SLEEPING: u8 = 2;

#[derive(Default)]
struct Inner {
    woken: Vec<Arc<Item>>,
    /// The task that drives the zone, while it sleeps.
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

    fn holds(&self, what: u8) -> bool {
        self.holds.load(Ordering::Acquire) & what != 0
    }

    /// A waker that lists `ready`.
    pub fn waker(self: &Arc<Self>, ready: Ready) -> Waker {
        Waker::from(Arc::new(Item { wakes: self.clone(), ready, listed: AtomicBool::new(false) }))
    }

    /// Wakes the driver, having put `item` on the list.
    fn wake(&self, item: Option<Arc<Item>>) {
        // Apart from the `if`: the lock is not held while the driver is woken.
        let driver = {
            let mut inner = self.lock();
            let listed = if item.is_some() { LISTED } else { self.holds.load(Ordering::Relaxed) & LISTED };
            inner.woken.extend(item);
            self.holds.store(listed, Ordering::Release);
            inner.driver.take()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

impl Bell {
    /// What wakers are made of.
    pub fn wakes(&self) -> &Arc<Wakes> {
        &self.wakes
    }

    /// There is something to do: wakes the driver.
    #[inline]
    pub fn ring(&self) {
        if !self.rung.replace(true) && self.wakes.holds(SLEEPING) {
            self.wakes.wake(None);
        }
    }

    /// Moves what was woken to `ready`.
    #[inline]
    pub fn take(&self, ready: &mut VecDeque<Ready>) {
        self.rung.set(false);
        if self.wakes.holds(LISTED) {
            self.take_listed(ready);
        }
    }

    fn take_listed(&self, ready: &mut VecDeque<Ready>) {
        let mut inner = self.wakes.lock();
        for item in inner.woken.drain(..) {
            item.listed.store(false, Ordering::Release);
            ready.push_back(item.ready);
        }
        self.wakes.holds.fetch_and(!LISTED, Ordering::Release);
    }

    /// Is there something that the zone has not looked at?
    pub fn has_news(&self) -> bool {
        self.rung.get() || self.wakes.holds(LISTED)
    }

    /// Registers the driver; `false` if there is work already.
    pub fn sleep(&self, driver: &Waker) -> bool {
        let mut inner = self.wakes.lock();
        if self.has_news() {
            return false;
        }
        match &mut inner.driver {
            Some(known) => known.clone_from(driver),
            none => *none = Some(driver.clone()),
        }
        self.wakes.holds.fetch_or(SLEEPING, Ordering::Release);
        true
    }
}

impl Wake for Item {
    fn wake(self: Arc<Self>) {
        if !self.listed.swap(true, Ordering::AcqRel) {
            self.wakes.wake(Some(self.clone()));
        }
    }
}
