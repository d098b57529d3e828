//! Waiting for each other among tasks of one thread. Nothing here is `Send`, locks, or uses atomics.
//!
//! For one value, once: [`oneshot`](super::oneshot).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Keeps the waker of `task` in `place`. Gives the one that was there, if it is another: for the caller to drop when nothing is
/// borrowed, because it may be the last owner of a future.
#[must_use]
pub fn keep_waker(place: &mut Option<Waker>, task: &Context<'_>) -> Option<Waker> {
    match place {
        Some(waker) if waker.will_wake(task.waker()) => None,
        _ => place.replace(task.waker().clone()),
    }
}

/// Those who wait, first come first served.
#[derive(Default)]
struct Line {
    /// By number; `None` after the waiter was served and until it has noticed.
    places: RefCell<BTreeMap<u64, Option<Waker>>>,
    next: Cell<u64>,
}

/// What a waiter finds when it looks.
enum Place {
    Waiting,
    Served,
}

impl Line {
    /// Waiters that were not served yet.
    fn waiting(&self) -> usize {
        self.places.borrow().values().filter(|waker| waker.is_some()).count()
    }

    fn join(&self, waker: Waker) -> u64 {
        let number = self.next.get();
        self.next.set(number + 1);
        self.places.borrow_mut().insert(number, Some(waker));
        number
    }

    /// Looks whether `number` was served; if not, keeps `waker`.
    fn look(&self, number: u64, waker: &Waker) -> Place {
        let old = match self.places.borrow_mut().get_mut(&number).expect("a waiter keeps its place until it leaves") {
            None => return Place::Served,
            Some(old) => std::mem::replace(old, waker.clone()),
        };
        // With no borrow held.
        drop(old);
        Place::Waiting
    }

    fn leave(&self, number: u64) -> Option<Waker> {
        self.places.borrow_mut().remove(&number).flatten()
    }

    /// Serves whoever waits longest. Returns whether there was one.
    fn serve(&self) -> bool {
        let waker = self.places.borrow_mut().values_mut().find_map(Option::take);
        match waker {
            Some(waker) => {
                waker.wake();
                true
            }
            None => false,
        }
    }
}

/// Something happened: wakes one waiter, or all.
///
/// `notify_one` with nobody waiting is remembered, once, for the next who comes.
#[derive(Default)]
pub struct Notify {
    line: Line,
    permit: Cell<bool>,
}

impl Notify {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the longest waiting go, or the next who comes.
    pub fn notify_one(&self) {
        if !self.line.serve() {
            self.permit.set(true);
        }
    }

    /// Lets all go who wait now.
    pub fn notify_waiters(&self) {
        for _ in 0..self.line.waiting() {
            self.line.serve();
        }
    }

    /// Ready when notified. One counts as waiting from the first poll.
    pub fn notified(&self) -> Notified<'_> {
        Notified { notify: self, number: None }
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify").field("waiting", &self.line.waiting()).finish()
    }
}

/// The future of [`Notify::notified`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Notified<'a> {
    notify: &'a Notify,
    number: Option<u64>,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let notify = self.notify;
        match self.number {
            None if notify.permit.replace(false) => Poll::Ready(()),
            None => {
                self.number = Some(notify.line.join(cx.waker().clone()));
                Poll::Pending
            }
            Some(number) => match notify.line.look(number, cx.waker()) {
                Place::Waiting => Poll::Pending,
                Place::Served => {
                    self.number = None;
                    notify.line.leave(number);
                    Poll::Ready(())
                }
            },
        }
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        // Served, but gone before it noticed: the notification is the next one's.
        if self.notify.line.leave(number).is_none() {
            self.notify.notify_one();
        }
    }
}

/// A number of permits, given first come first served, with a limit on how many may wait.
#[derive(Clone)]
pub struct Semaphore(Rc<Shared>);

struct Shared {
    /// Permits that are free; 0 while somebody waits.
    free: Cell<usize>,
    line: Line,
    waiting: Cell<usize>,
    waiting_max: usize,
}

/// There are no permits, and nobody else may wait for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many are waiting")]
pub struct Full;

impl Semaphore {
    /// `permits` to give, and at most `waiting_max` waiters.
    pub fn new(permits: usize, waiting_max: usize) -> Self {
        Semaphore(Rc::new(Shared {
            free: Cell::new(permits),
            line: Line::default(),
            waiting: Cell::new(0),
            waiting_max,
        }))
    }

    /// Permits that are free now.
    pub fn free(&self) -> usize {
        self.0.free.get()
    }

    /// Acquisitions that wait now.
    pub fn waiting(&self) -> usize {
        self.0.waiting.get()
    }

    /// A permit, if one is free and nobody is before us.
    pub fn try_acquire(&self) -> Option<Permit> {
        let free = self.0.free.get();
        (0 < free).then(|| {
            self.0.free.set(free - 1);
            Permit(self.0.clone())
        })
    }

    /// A permit, when it is our turn.
    ///
    /// # Errors
    ///
    /// None is free and the line is full.
    pub fn acquire(&self) -> Acquire {
        Acquire { shared: self.0.clone(), number: None }
    }
}

impl Shared {
    /// A permit comes back: it goes to the next in line, or is free.
    fn release(&self) {
        if self.line.serve() {
            self.waiting.set(self.waiting.get() - 1);
        } else {
            self.free.set(self.free.get() + 1);
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("free", &self.free()).field("waiting", &self.waiting()).finish()
    }
}

/// The right to go on; dropping it gives it to the next.
pub struct Permit(Rc<Shared>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

/// The future of [`Semaphore::acquire`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Acquire {
    shared: Rc<Shared>,
    number: Option<u64>,
}

impl Future for Acquire {
    type Output = Result<Permit, Full>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = self.shared.clone();
        let Some(number) = self.number else {
            let (free, waiting) = (shared.free.get(), shared.waiting.get());
            return match (free, waiting) {
                (1.., _) => {
                    shared.free.set(free - 1);
                    Poll::Ready(Ok(Permit(shared)))
                }
                (0, waiting) if waiting < shared.waiting_max => {
                    shared.waiting.set(waiting + 1);
                    self.number = Some(shared.line.join(cx.waker().clone()));
                    Poll::Pending
                }
                (0, _) => Poll::Ready(Err(Full)),
            };
        };
        match shared.line.look(number, cx.waker()) {
            Place::Waiting => Poll::Pending,
            Place::Served => {
                self.number = None;
                shared.line.leave(number);
                Poll::Ready(Ok(Permit(shared)))
            }
        }
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        match self.shared.line.leave(number) {
            Some(waker) => {
                self.shared.waiting.set(self.shared.waiting.get() - 1);
                drop(waker);
            }
            // Served, but gone before it noticed: the permit is the next one's.
            None => self.shared.release(),
        }
    }
}
