//! Deadlines of this thread's futures: an indexed heap in user space, whose earliest entry bounds the ring's wait.
//!
//! Arming and cancelling are O(log n), and O(1) in the usual case of a timeout that is later than the others and is
//! cancelled soon. The kernel sees one timeout per wait, whatever the number of timers. Times are exact to the kernel's
//! clock; nothing is rounded to ticks. A timer never fires early.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pin_project::pin_project;
use slab::Slab;

use super::{now, with_current};

/// Children of a heap node: four fit in a cache line or two and halve the height against two.
const ARITY: usize = 4;
/// What stands for "never" where the clock cannot count that far.
const FAR_FUTURE: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The timers of one thread.
#[derive(Default)]
pub(super) struct Timers {
    /// A heap by `(at, sequence)`: equal deadlines fire in the order they were armed.
    heap: Vec<Node>,
    slots: Slab<Slot>,
    /// Of the timer armed last; never reused, so it also tells whether a key is still good.
    sequence: u64,
}

#[derive(Clone, Copy)]
struct Node {
    at: Instant,
    sequence: u64,
    slot: usize,
}

impl Node {
    fn is_before(&self, other: &Node) -> bool {
        (self.at, self.sequence) < (other.at, other.sequence)
    }
}

struct Slot {
    sequence: u64,
    /// Where the node is in the heap.
    position: usize,
    waker: Waker,
}

/// Names an armed timer; good until it fires or is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimerKey {
    slot: usize,
    sequence: u64,
}

impl Timers {
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.heap.first().map(|node| node.at)
    }

    pub(super) fn arm(&mut self, at: Instant, waker: Waker) -> TimerKey {
        self.sequence += 1;
        let sequence = self.sequence;
        let position = self.heap.len();
        let slot = self.slots.insert(Slot { sequence, position, waker });
        self.heap.push(Node { at, sequence, slot });
        self.sift_up(position);
        TimerKey { slot, sequence }
    }

    /// The waker of an armed timer; `None` if it has fired.
    fn waker_mut(&mut self, key: TimerKey) -> Option<&mut Waker> {
        let slot = self.slots.get_mut(key.slot).filter(|slot| slot.sequence == key.sequence);
        slot.map(|slot| &mut slot.waker)
    }

    /// Takes a timer out, with its waker; `None` if it has fired.
    pub(super) fn cancel(&mut self, key: TimerKey) -> Option<Waker> {
        let position = self.slots.get(key.slot).filter(|slot| slot.sequence == key.sequence)?.position;
        Some(self.remove(position))
    }

    /// Takes out all timers that are due and adds their wakers, earliest first.
    pub(super) fn expire(&mut self, now: Instant, fired: &mut Vec<Waker>) {
        while self.next_deadline().is_some_and(|at| at <= now) {
            let waker = self.remove(0);
            fired.push(waker);
        }
    }

    fn remove(&mut self, position: usize) -> Waker {
        let node = self.heap.swap_remove(position);
        if position < self.heap.len() {
            self.place(position);
            // The node that came from the end may belong above or below; one of the two does nothing.
            self.sift_down(position);
            self.sift_up(position);
        }
        self.slots.remove(node.slot).waker
    }

    /// Notes where the node at `position` is.
    fn place(&mut self, position: usize) {
        let slot = self.heap[position].slot;
        self.slots[slot].position = position;
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.place(a);
        self.place(b);
    }

    fn sift_up(&mut self, mut position: usize) {
        while 0 < position {
            let parent = (position - 1) / ARITY;
            if !self.heap[position].is_before(&self.heap[parent]) {
                break;
            }
            self.swap(position, parent);
            position = parent;
        }
    }

    fn sift_down(&mut self, mut position: usize) {
        loop {
            let first = position * ARITY + 1;
            let children = first..(first + ARITY).min(self.heap.len());
            let earliest = children.min_by_key(|&child| (self.heap[child].at, self.heap[child].sequence));
            match earliest {
                Some(child) if self.heap[child].is_before(&self.heap[position]) => {
                    self.swap(position, child);
                    position = child;
                }
                _ => break,
            }
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
    let now = now();
    sleep_until(now.checked_add(duration).unwrap_or(now + FAR_FUTURE))
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
        if self.deadline <= now() {
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
