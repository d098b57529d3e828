//! What stands for a task: the header its wakers share, and the slot its result goes through.
//!
//! A header is a name with a few flags, so it may go to any thread; the future stays with the executor. A task is queued at
//! most once, however often it is woken, and at most once on its way from other threads. Only those pay for an exchange between
//! threads: nearly all wake-ups come from the task's own. A panic ends its task only and reaches whoever joins it.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, ready};

use pin_project::pin_project;

use super::remote::Remote;
use super::{oneshot, with_current};

/// The key of the future given to `block_on`, which has no place among the tasks.
const ROOT: usize = usize::MAX;

/// What a waker points to.
pub(super) struct Header {
    key: usize,
    home: Arc<Remote>,
    /// In a queue. For the executor's thread alone, which neither exchanges it nor orders anything by it.
    queued: AtomicBool,
    /// On the way from another thread. Whoever sets it sends; who takes the task in clears it, and acquires what was done before.
    sent: AtomicBool,
    /// To be dropped instead of polled.
    aborted: AtomicBool,
}

impl Header {
    pub(super) fn new(key: usize, home: Arc<Remote>) -> Self {
        let flag = || AtomicBool::new(false);
        Header { key, home, queued: flag(), sent: flag(), aborted: flag() }
    }

    pub(super) fn root(home: Arc<Remote>) -> Self {
        Header::new(ROOT, home)
    }

    pub(super) fn key(&self) -> usize {
        self.key
    }

    /// From here on a wake-up queues the task again.
    pub(super) fn begin_poll(&self) {
        debug_assert!(self.queued.load(Ordering::Relaxed), "a task is polled only from the queue");
        self.queued.store(false, Ordering::Relaxed);
    }

    /// The executor's thread puts the task into its queue, and has to if this is true.
    fn is_to_queue(&self) -> bool {
        let is_new = !self.queued.load(Ordering::Relaxed);
        if is_new {
            self.queued.store(true, Ordering::Relaxed);
        }
        is_new
    }

    /// The executor's thread takes the task in that another has sent. From here on a wake-up there sends it again.
    pub(super) fn arrives(&self) -> bool {
        let was_sent = self.sent.swap(false, Ordering::AcqRel);
        debug_assert!(was_sent, "what arrives was sent");
        self.is_to_queue()
    }

    /// This is the executor's thread, and the executor runs.
    fn is_here(&self) -> bool {
        with_current(|core| Arc::ptr_eq(&self.home, &core.remote)).unwrap_or(false)
    }

    /// See `is_to_queue`.
    fn queue(self: Arc<Self>) {
        with_current(|core| core.queue.borrow_mut().push_back(self));
    }

    /// From anywhere else.
    #[cold]
    fn send(self: Arc<Self>) {
        if !self.sent.swap(true, Ordering::AcqRel) {
            let home = self.home.clone();
            home.push(self);
        }
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Relaxed)
    }

    fn abort(self: &Arc<Self>) {
        self.aborted.store(true, Ordering::Relaxed);
        self.wake_by_ref();
    }
}

impl Wake for Header {
    fn wake(self: Arc<Self>) {
        match self.is_here() {
            true if self.is_to_queue() => self.queue(),
            true => {}
            false => self.send(),
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Most wake-ups of a busy task find it queued already; they should not touch the reference count.
        match self.is_here() {
            true if self.is_to_queue() => self.clone().queue(),
            true => {}
            false => self.clone().send(),
        }
    }
}

/// Why a task has no result.
#[derive(Debug)]
pub enum JoinError {
    /// It was aborted, or its executor ended first.
    Aborted,
    /// It panicked.
    Panicked(Panic),
}

/// What a task panicked with.
pub struct Panic(Box<dyn Any + Send>);

impl Panic {
    /// The payload, for `std::panic::resume_unwind`.
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.0
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panic").field(&panic_message(&*self.0)).finish()
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Aborted => f.write_str("the task was aborted"),
            JoinError::Panicked(Panic(payload)) => {
                write!(f, "the task panicked: {}", panic_message(&**payload))
            }
        }
    }
}

impl std::error::Error for JoinError {}

/// The text of a panic, as far as it has one.
pub(super) fn panic_message(payload: &(dyn Any + Send)) -> &str {
    match (payload.downcast_ref::<&'static str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "(no text)",
    }
}

/// A task as the executor polls it: the user's future, and where its result goes.
#[pin_project]
pub(super) struct Tracked<F: Future> {
    #[pin]
    future: F,
    /// Where it goes, until it has gone. After the future: a task that is dropped has ended when its handle learns of it.
    result: Option<oneshot::Sender<Result<F::Output, JoinError>>>,
    /// A result that nobody waits for goes with the task: its destructor is foreign code.
    unwanted: Option<Result<F::Output, JoinError>>,
}

/// Connects a future with a handle on its result.
pub(super) fn track<F: Future>(future: F, header: Arc<Header>) -> (Tracked<F>, JoinHandle<F::Output>) {
    let (sender, result) = oneshot::channel();
    (Tracked { future, result: Some(sender), unwanted: None }, JoinHandle { header, result, is_taken: false })
}

impl<F: Future> Future for Tracked<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        // The future is dropped after a panic and never polled again.
        let result = match catch_unwind(AssertUnwindSafe(|| this.future.poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(payload) => {
                tracing::error!(panic = panic_message(&*payload), "a task panicked");
                Err(JoinError::Panicked(Panic(payload)))
            }
        };
        if let Some(sender) = this.result.take() {
            *this.unwanted = sender.send(result).err();
        }
        Poll::Ready(())
    }
}

/// A task's result, once it has ended. Dropping the handle lets the task go on by itself.
pub struct JoinHandle<T> {
    header: Arc<Header>,
    result: oneshot::Receiver<Result<T, JoinError>>,
    /// It was given.
    is_taken: bool,
}

impl<T> JoinHandle<T> {
    /// Ends the task: it is dropped, on its thread, instead of being polled again. A task that has ended keeps its result.
    pub fn abort(&self) {
        if !self.is_finished() {
            self.header.abort();
        }
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.result.is_over()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.is_taken, "a join handle is not polled again after it was ready");
        let result = ready!(Pin::new(&mut self.result).poll(cx));
        self.is_taken = true;
        // A task that is dropped before it is ready sends nothing.
        Poll::Ready(result.unwrap_or(Err(JoinError::Aborted)))
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("finished", &self.is_finished()).finish()
    }
}
