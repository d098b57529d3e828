//! One value, once, between two tasks of a thread.
//!
//! Both ends share one cell. Either may go: who receives then learns that nothing comes, and who sends gets the value back.
//! Nothing here is `Send`, locks, or uses atomics: an exchange is made for every message that a guest makes, and is
//! nearly always over before anybody waits. A task's result reaches its handle so, too (`task`).
//! For a value that comes from another thread: `futures::channel::oneshot`.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What the two ends share.
struct Shared<T> {
    /// The value, from when it is sent until it is received.
    value: Cell<Option<T>>,
    /// Who waits for it.
    waker: Cell<Option<Waker>>,
    /// Nothing will be sent any more.
    is_over: Cell<bool>,
}

/// Both ends. The value goes from the one to the other.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(Shared { value: Cell::new(None), waker: Cell::new(None), is_over: Cell::new(false) });
    (Sender(shared.clone()), Receiver(shared))
}

/// The end that gives the value. Dropping it tells the other that there is none.
pub struct Sender<T>(Rc<Shared<T>>);

/// The end that gets the value, as a future.
#[must_use = "a future does nothing unless it is awaited"]
pub struct Receiver<T>(Rc<Shared<T>>);

/// The other end is gone, and sent nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing was sent")]
pub struct Canceled;

impl<T> Sender<T> {
    /// Gives the value.
    ///
    /// # Errors
    /// The value, when nobody can receive it any more.
    pub fn send(self, value: T) -> Result<(), T> {
        if self.is_canceled() {
            return Err(value);
        }
        self.0.value.set(Some(value));
        Ok(())
    }

    /// Nobody can receive the value any more.
    pub fn is_canceled(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.is_over.set(true);
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        drop(self.0.waker.take());
    }
}

impl<T> Receiver<T> {
    /// The other end has sent, or is gone.
    pub fn is_over(&self) -> bool {
        self.0.is_over.get()
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, Canceled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(value) = self.0.value.take() {
            return Poll::Ready(Ok(value));
        }
        if self.is_over() {
            return Poll::Ready(Err(Canceled));
        }
        self.0.waker.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("canceled", &self.is_canceled()).finish()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("over", &self.is_over()).finish()
    }
}
