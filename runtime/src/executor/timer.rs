//! Deadlines of this thread's futures: a heap in user space, whose earliest entry bounds the ring's wait.
//!
//! Most timers are timeouts, later than the others and cancelled soon: arming one is O(1) then, and so is cancelling any, because
//! its entry stays in the heap until it comes up, or until most entries are such. The kernel sees one timeout per wait,
//! whatever the number of timers. Times are exact to the kernel's clock; nothing is rounded to ticks. A timer never fires early.
//! What comes with each request and need not be exact arms none, but is looked after (`look_after`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pin_project::pin_project;
use slab::Slab;

use super::{now, spawn, turn_began, with_current};

/// What stands for "never" where the clock cannot count that far.
const FAR_FUTURE: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// Far more than a turn takes. If one takes longer, a timer that was due already fires at its end.
const TURN_MAX: Duration = Duration::from_secs(1);
/// Bounds of [`between_looks`].
const LOOK_MIN: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_secs(1);
/// Entries of cancelled timers that the heap may have, beyond as many as it has of others.
const CANCELLED_MAX: usize = 64;

/// The timers of one thread.
#[derive(Default)]
pub(super) struct Timers {
    /// The earliest first; equal deadlines in the order they were armed. The first one is never that of a cancelled timer.
    heap: BinaryHeap<Reverse<Node>>,
    slots: Slab<Slot>,
    /// Of the timer armed last; never reused, so it also tells whether a key is still good.
    sequence: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    at: Instant,
    sequence: u64,
    slot: usize,
}

struct Slot {
    sequence: u64,
    waker: Waker,
}

/// Names an armed timer; good until it fires or is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimerKey {
    slot: usize,
    sequence: u64,
}

/// Is the timer that was armed as `sequence` in `slot` still armed?
fn is_armed(slots: &Slab<Slot>, slot: usize, sequence: u64) -> bool {
    slots.get(slot).is_some_and(|slot| slot.sequence == sequence)
}

impl Timers {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(node)| node.at)
    }

    pub(super) fn arm(&mut self, at: Instant, waker: Waker) -> TimerKey {
        self.sequence += 1;
        let sequence = self.sequence;
        let slot = self.slots.insert(Slot { sequence, waker });
        self.heap.push(Reverse(Node { at, sequence, slot }));
        TimerKey { slot, sequence }
    }

    /// The waker of an armed timer; `None` if it has fired.
    fn waker_mut(&mut self, key: TimerKey) -> Option<&mut Waker> {
        let slot = self.slots.get_mut(key.slot).filter(|slot| slot.sequence == key.sequence);
        slot.map(|slot| &mut slot.waker)
    }

    /// Takes a timer out, with its waker; `None` if it has fired.
    pub(super) fn cancel(&mut self, key: TimerKey) -> Option<Waker> {
        if !is_armed(&self.slots, key.slot, key.sequence) {
            return None;
        }
        let waker = self.slots.remove(key.slot).waker;
        let slots = &self.slots;
        if self.heap.len() > 2 * slots.len() + CANCELLED_MAX {
            self.heap.retain(|Reverse(node)| is_armed(slots, node.slot, node.sequence));
        }
        self.drop_cancelled();
        Some(waker)
    }

    /// Takes out all timers that are due and adds their wakers, earliest first.
    pub(super) fn expire(&mut self, now: Instant, fired: &mut Vec<Waker>) {
        while let Some(Reverse(node)) = self.heap.peek().filter(|Reverse(node)| node.at <= now) {
            fired.push(self.slots.remove(node.slot).waker);
            self.heap.pop();
            self.drop_cancelled();
        }
    }

    /// Makes the first entry that of a timer again.
    fn drop_cancelled(&mut self) {
        while self.heap.peek().is_some_and(|Reverse(node)| !is_armed(&self.slots, node.slot, node.sequence)) {
            self.heap.pop();
        }
    }
}

/// A future that is ready at its deadline, never before.
///
/// It belongs to the executor that polls it first. It is plain data and may be moved between threads, but fires only
/// where it was polled.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Sleep {
    deadline: Instant,
    armed: Option<Armed>,
}

#[derive(Clone, Copy, Debug)]
struct Armed {
    /// `Core::id`: keys mean nothing to another executor.
    executor: u64,
    key: TimerKey,
}

/// Ready after `duration`. Zero is ready at once; a duration beyond what the clock can count stands for "never".
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(after(now(), duration))
}

fn after(start: Instant, duration: Duration) -> Instant {
    start.checked_add(duration).unwrap_or(start + FAR_FUTURE)
}

/// Ready at `deadline`; at once if that has passed.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, armed: None }
}

impl Sleep {
    /// When it will be ready.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Starts over with another deadline.
    pub fn reset(&mut self, deadline: Instant) {
        self.disarm();
        *self = sleep_until(deadline);
    }

    fn disarm(&mut self) {
        let Some(Armed { executor, key }) = self.armed.take() else {
            return;
        };
        // Elsewhere, or with the executor gone, the timer is left to fire for nobody.
        let waker = with_current(|core| match core.id == executor {
            true => core.timers.borrow_mut().cancel(key),
            false => None,
        });
        drop(waker);
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let core = super::current();
        if let Some(Armed { executor, key }) = self.armed
            && executor == core.id
        {
            let mut timers = core.timers.borrow_mut();
            let old = match timers.waker_mut(key) {
                None => {
                    self.armed = None;
                    return Poll::Ready(());
                }
                Some(waker) if waker.will_wake(cx.waker()) => return Poll::Pending,
                Some(waker) => std::mem::replace(waker, cx.waker().clone()),
            };
            drop(timers);
            // With no borrow held: a waker may be the last owner of a future, even of another timer.
            drop(old);
            return Poll::Pending;
        }
        // The clock is not asked where the answer is known: no turn takes that long.
        if self.deadline < turn_began() + TURN_MAX && self.deadline <= now() {
            return Poll::Ready(());
        }
        let key = core.timers.borrow_mut().arm(self.deadline, cx.waker().clone());
        self.armed = Some(Armed { executor: core.id, key });
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}

/// A future did not end in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deadline has passed")]
pub struct Elapsed;

/// A future with a deadline.
#[pin_project]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Timeout<F> {
    #[pin]
    future: F,
    sleep: Sleep,
}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").field("deadline", &self.sleep.deadline).finish_non_exhaustive()
    }
}

/// `future`'s output, or [`Elapsed`] after `duration`. A future that is ready in the same poll wins.
pub fn timeout<F: Future>(duration: Duration, future: F) -> Timeout<F> {
    Timeout { future, sleep: sleep(duration) }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(this.sleep).poll(cx).map(|()| Err(Elapsed))
    }
}

/// How often to look at things that may take `limit` each: so much longer one may take before that is seen.
pub fn between_looks(limit: Duration) -> Duration {
    (limit / 8).clamp(LOOK_MIN, LOOK_MAX)
}

/// Calls `look` with `things` and the time, now and then, for as long as somebody else has them. So things that may take `limit` each
/// share one timer, where it does not matter that they take a little longer.
pub fn look_after<T: 'static>(things: &Rc<T>, limit: Duration, look: impl Fn(&T, Instant) + 'static) {
    let things = Rc::downgrade(things);
    spawn(async move {
        loop {
            sleep(between_looks(limit)).await;
            let Some(things) = things.upgrade() else { return };
            look(&things, turn_began());
        }
    });
}
