//! Wake-ups that come from other threads, or when the executor is not running.
//!
//! A waker leaves the task's name in the inbox, then wakes the thread if, and only if, it is parked. The thread does the
//! opposite: it says that it parks, then looks into the inbox. Whichever comes second sees the other.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::task::Header;
use crate::ring::WakeUp;

/// Looks into the inbox before it waits.
const RUNNING: u8 = 0;
/// Waits in the ring, or is about to.
const PARKED: u8 = 1;
/// Waits, and somebody has woken it.
const NOTIFIED: u8 = 2;

/// The part of an executor that other threads see.
pub(super) struct Remote {
    state: AtomicU8,
    inbox: Mutex<Inbox>,
    wake_up: WakeUp,
}

#[derive(Default)]
struct Inbox {
    /// Each task at most once, by its `sent` flag.
    woken: Vec<Arc<Header>>,
    /// The executor is gone.
    closed: bool,
}

impl Remote {
    pub(super) fn new(wake_up: WakeUp) -> Self {
        Remote { state: AtomicU8::new(RUNNING), inbox: Mutex::default(), wake_up }
    }

    /// Nothing in here panics while it holds the lock.
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Any thread: queues a task and sees to it that its thread notices.
    pub(super) fn push(&self, header: Arc<Header>) {
        {
            let mut inbox = self.inbox();
            if inbox.closed {
                return;
            }
            inbox.woken.push(header);
        }
        let parked = self.state.compare_exchange(PARKED, NOTIFIED, Ordering::SeqCst, Ordering::SeqCst);
        if parked.is_ok() {
            self.wake_up.wake();
        }
    }

    /// The executor's thread: whether it may wait now.
    pub(super) fn park(&self) -> bool {
        self.state.store(PARKED, Ordering::SeqCst);
        let may_wait = self.inbox().woken.is_empty();
        if !may_wait {
            self.state.store(RUNNING, Ordering::SeqCst);
        }
        may_wait
    }

    /// The executor's thread: takes what came in.
    pub(super) fn unpark(&self, queue: &mut VecDeque<Arc<Header>>) {
        self.state.store(RUNNING, Ordering::SeqCst);
        queue.extend(self.inbox().woken.drain(..).filter(|header| header.arrives()));
    }

    /// No more tasks: wake-ups are forgotten from here on.
    pub(super) fn close(&self) {
        let mut inbox = self.inbox();
        inbox.closed = true;
        let woken = std::mem::take(&mut inbox.woken);
        drop(inbox);
        // The last name of a task may be dropped here; with it goes its reference to this very `Remote`.
        drop(woken);
    }
}
