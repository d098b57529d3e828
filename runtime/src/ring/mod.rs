//! The kernel: operations that own what they point to, on io_uring or on epoll.
//!
//! A [`Ring`] belongs to one thread. [`Ring::start`] hands an operation over, [`Ring::turn`] lets the kernel work and
//! collects what is over, an [`Op`] is the future of one operation. Dropping an `Op` cancels the operation; buffers and
//! descriptors stay with the ring until the kernel is done with them, so no future, however dropped, frees memory under
//! the kernel's hands. Only `turn` and `close` enter the kernel: starting and cancelling just queue.
//!
//! | file | what |
//! |---|---|
//! | `probe` | which interface this process may use |
//! | `slab`  | operations in flight: who owns what until when |
//! | `uring`, `epoll` | the two drivers |
//! | `fd`, `sys` | descriptors, system calls |
//!
//! Knows nothing of tasks, timers, protocols or wasm.

mod epoll;
mod fd;
mod probe;
mod slab;
pub(crate) mod sys;
mod uring;

#[cfg(test)]
pub(crate) mod tests;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

pub use fd::Fd;
pub use probe::{Choice, IoMode, Refusal, Rung, UnknownIoMode, probe};
pub use sys::SockAddr;

use epoll::Epoll;
use fd::Target;
use probe::Backend;
use slab::{Abandoned, After, OpId, Table};
use uring::Uring;

/// How long [`Ring::close`] waits for the kernel to let go of what it was lent. Sockets take microseconds; past this,
/// something is wrong and the memory is given up rather than freed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long one wait of `close` lasts, so that its timeout is looked at.
const CLOSE_STEP: Duration = Duration::from_millis(10);

/// Why there is no ring, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// io_uring was asked for and the kernel refuses it.
    #[error("{0}; or run with --io epoll")]
    Refused(Refusal),
    /// The kernel allows it but cannot do it now: out of memory or descriptors.
    #[error("cannot set up io_uring")]
    Setup {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The same for epoll.
    #[error("cannot set up epoll")]
    SetupEpoll {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The descriptor through which other threads wake this one.
    #[error("cannot make an eventfd")]
    SetupWake {
        /// The kernel's answer.
        source: io::Error,
    },
    /// Waiting failed for a reason that does not pass.
    #[error("cannot wait for I/O")]
    Turn {
        /// The kernel's answer.
        source: io::Error,
    },
}

/// What a readiness operation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Data, the end of the stream, or an error.
    Readable,
    /// Room for data, or an error.
    Writable,
}

impl Interest {
    /// The bits are the same for `poll(2)`, io_uring and epoll.
    fn bits(self) -> u32 {
        match self {
            Interest::Readable => (libc::POLLIN | libc::POLLRDHUP) as u32,
            Interest::Writable => libc::POLLOUT as u32,
        }
    }
}

/// An operation and the memory it uses, which comes back in the [`Completion`].
pub enum Request {
    /// Accepts one connection and writes its address. The result is taken with [`Completion::into_accepted`].
    Accept(Box<SockAddr>),
    /// Connects a socket made by [`Ring::stream_socket`].
    Connect(Box<SockAddr>),
    /// Receives into the buffer's initialised part (`0..len`). The result is a number of bytes, 0 at the end.
    Recv(Vec<u8>),
    /// Waits until the descriptor is ready. The result is non-negative and otherwise without meaning.
    Poll(Interest),
}

/// How an operation ended.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    /// The kernel's result: `-errno` or a value.
    result: i32,
    /// The driver knows that there is more to receive.
    nonempty: bool,
}

impl Outcome {
    fn error(errno: i32) -> Self {
        Outcome { result: -errno, nonempty: false }
    }
}

/// An operation that is over, with what it owned.
pub struct Completion {
    outcome: Outcome,
    request: Request,
    /// Held so that the descriptor closes after everything else about the operation is over.
    _target: Target,
}

impl Completion {
    /// The kernel's result. [`Completion::was_cancelled`] tells whether an error is a cancellation.
    pub fn result(&self) -> io::Result<u32> {
        let result = self.outcome.result;
        u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
    }

    /// Whether the operation ended because it was cancelled, or because the ring closed.
    pub fn was_cancelled(&self) -> bool {
        self.outcome.result == -libc::ECANCELED
    }

    /// Whether a receive left data behind. `false` means "not known".
    pub fn nonempty(&self) -> bool {
        self.outcome.nonempty
    }

    /// The buffer of a `Recv`.
    pub fn into_buffer(mut self) -> Vec<u8> {
        match &mut self.request {
            Request::Recv(buf) => std::mem::take(buf),
            Request::Accept(_) | Request::Connect(_) | Request::Poll(_) => Vec::new(),
        }
    }

    /// The connection of an `Accept` and the peer's address, `None` if that is not an IP address.
    pub fn into_accepted(mut self) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
        let addr = match &self.request {
            Request::Accept(addr) => addr.to_std(),
            _ => None,
        };
        self.take_accepted().map(|fd| (fd, addr))
    }

    fn take_accepted(&mut self) -> io::Result<OwnedFd> {
        let is_accept = matches!(self.request, Request::Accept(_));
        let not_again = Outcome::error(if is_accept { libc::EBADF } else { libc::EINVAL });
        match (is_accept, std::mem::replace(&mut self.outcome, not_again).result) {
            (true, fd @ 0..) => Ok(sys::accepted(fd)),
            (true, errno) => Err(io::Error::from_raw_os_error(-errno)),
            (false, _) => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }
}

impl Drop for Completion {
    /// A connection that nobody took is closed.
    fn drop(&mut self) {
        if matches!(self.request, Request::Accept(_)) {
            drop(self.take_accepted());
        }
    }
}

/// How long [`Ring::turn`] may wait for something to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: submit, collect, return.
    No,
    /// At most this long.
    For(Duration),
    /// Until a completion or a [`WakeUp::wake`].
    Forever,
}

/// Wakes the thread that waits in [`Ring::turn`], from any thread, also when that ring is gone.
///
/// A wake-up makes the current or the next waiting turn return; several may count as one.
#[derive(Clone)]
pub struct WakeUp(Arc<OwnedFd>);

impl WakeUp {
    fn new() -> Result<Self, RingError> {
        let fd = sys::eventfd().map_err(|source| RingError::SetupWake { source })?;
        Ok(WakeUp(Arc::new(fd)))
    }

    /// Costs a system call and often an interrupt to another core: call it only for a thread known to wait.
    pub fn wake(&self) {
        sys::eventfd_add_one(self.0.as_raw_fd());
    }
}

/// Counts of a ring, for tests and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStats {
    /// Operations the kernel has not finished.
    pub in_flight: usize,
    /// Of these, the ones whose future is gone.
    pub orphans: usize,
    /// System calls that submitted or waited, since the start.
    pub enters: u64,
    /// Completions that matched no operation, since the start; anything but 0 is a bug here.
    pub unmatched: u64,
}

/// One thread's way to the kernel. Cloning shares it; it is neither `Send` nor `Sync`.
#[derive(Clone)]
pub struct Ring(Rc<Inner>);

struct Inner {
    state: RefCell<State>,
    wake_up: WakeUp,
    /// No new operations; set by `close`.
    closed: Cell<bool>,
    is_uring: bool,
}

struct State {
    driver: Driver,
    table: Table,
    effects: Effects,
}

#[expect(clippy::large_enum_variant, reason = "one per thread")]
enum Driver {
    Uring(Uring),
    Epoll(Epoll),
}

/// What a turn leaves to be done once no borrow is held.
#[derive(Default)]
struct Effects {
    wakers: Vec<Waker>,
    garbage: Vec<Completion>,
}

impl Effects {
    fn add(&mut self, after: After) {
        match after {
            After::Nothing => {}
            After::Wake(waker) => self.wakers.push(waker),
            After::Free(completion) => self.garbage.push(completion),
        }
    }

    fn run(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
        self.garbage.clear();
    }
}

impl Ring {
    /// Sets up this thread's ring. It must be used on this thread only, which the type ensures.
    ///
    /// # Errors
    ///
    /// The kernel lacks memory or descriptors.
    pub fn new(choice: &Choice) -> Result<Self, RingError> {
        let wake_up = WakeUp::new()?;
        let wake_fd = wake_up.0.clone();
        let driver = match choice.backend {
            Backend::Uring(rung) => Driver::Uring(Uring::new(rung, choice.sq_entries, wake_fd)?),
            Backend::Epoll(_) => Driver::Epoll(Epoll::new(wake_fd)?),
        };
        let state = State { driver, table: Table::default(), effects: Effects::default() };
        Ok(Ring(Rc::new(Inner {
            state: RefCell::new(state),
            wake_up,
            closed: Cell::new(false),
            is_uring: choice.is_uring(),
        })))
    }

    /// Whether this ring is an io_uring: then a `Recv` costs no system call of its own, otherwise it costs one after
    /// readiness, as reading directly does.
    pub fn is_uring(&self) -> bool {
        self.0.is_uring
    }

    /// The handle by which other threads wake this one.
    pub fn wake_up(&self) -> WakeUp {
        self.0.wake_up.clone()
    }

    /// Puts a descriptor under the care of this ring: it closes when neither its users nor operations need it.
    pub fn adopt(&self, fd: OwnedFd) -> Fd {
        Fd::new(fd, Rc::downgrade(&self.0))
    }

    /// How sockets are to be made for this driver.
    fn blocking(&self) -> sys::Blocking {
        if self.0.is_uring { sys::Blocking::Yes } else { sys::Blocking::No }
    }

    /// A TCP socket of the address's family, fit for `Connect` on this ring.
    ///
    /// # Errors
    ///
    /// The kernel's, such as `EMFILE`.
    pub fn stream_socket(&self, addr: &SocketAddr) -> io::Result<Fd> {
        sys::stream_socket(addr, self.blocking()).map(|fd| self.adopt(fd))
    }

    /// A TCP socket bound to `addr` and listening, fit for `Accept` on this ring. `SO_REUSEADDR` is set, and
    /// `TCP_NODELAY`, which connections inherit.
    ///
    /// # Errors
    ///
    /// The kernel's, such as `EADDRINUSE`.
    pub fn listen(&self, addr: &SocketAddr, reuse_port: bool, backlog: u32) -> io::Result<Fd> {
        let fd = sys::stream_socket(addr, self.blocking())?;
        sys::set_option(fd.as_raw_fd(), sys::SocketOption::ReuseAddr, true)?;
        sys::set_option(fd.as_raw_fd(), sys::SocketOption::ReusePort, reuse_port)?;
        sys::set_option(fd.as_raw_fd(), sys::SocketOption::NoDelay, true)?;
        sys::bind(&fd, &SockAddr::from(*addr))?;
        sys::listen(&fd, backlog)?;
        Ok(self.adopt(fd))
    }

    /// Starts an operation on a descriptor that stays open until it is over.
    pub fn start(&self, fd: &Fd, request: Request) -> Op {
        self.start_on(Target::Owned(fd.clone()), request)
    }

    /// Waits for readiness of a descriptor that is somebody else's: a pipe, a terminal, an eventfd. Files that are
    /// always ready, such as regular ones, are reported so.
    ///
    /// The operation refers to the open file, not to the number: closing the number meanwhile is harmless, but may leave
    /// the operation waiting for ever.
    pub fn poll_ready(&self, fd: BorrowedFd<'_>, interest: Interest) -> Op {
        self.start_on(Target::Borrowed(fd.as_raw_fd()), Request::Poll(interest))
    }

    fn start_on(&self, target: Target, request: Request) -> Op {
        let mut state = self.0.state.borrow_mut();
        let id = if self.0.closed.get() {
            state.table.insert_done(target, request, Outcome::error(libc::ECANCELED))
        } else {
            state.start(target, request)
        };
        Op { ring: self.clone(), id: Some(id) }
    }

    /// Submits what was started, waits as told, and wakes the futures of all operations that are over.
    ///
    /// # Errors
    ///
    /// The kernel fails for a reason that does not pass; the thread cannot do I/O any more.
    pub fn turn(&self, wait: Wait) -> Result<(), RingError> {
        self.0.turn(wait)
    }

    /// Cancels everything in flight and waits until the kernel has let go of it. Later operations end as cancelled at
    /// once. Results that arrive on the way are kept for their futures.
    pub fn close(&self) {
        if let Err(in_flight) = self.0.close() {
            // Freeing what the kernel may still write to would be worse than losing it: the ring stays for ever.
            log_leak(in_flight);
            std::mem::forget(self.clone());
        }
    }

    /// Counts, now.
    pub fn stats(&self) -> RingStats {
        let state = self.0.state.borrow();
        RingStats {
            in_flight: state.table.in_flight(),
            orphans: state.table.orphans(),
            enters: match &state.driver {
                Driver::Uring(uring) => uring.enters(),
                Driver::Epoll(epoll) => epoll.enters(),
            },
            unmatched: state.table.unmatched(),
        }
    }

    /// Operations in flight.
    pub fn in_flight(&self) -> usize {
        self.0.state.borrow().table.in_flight()
    }
}

impl Inner {
    fn turn(&self, wait: Wait) -> Result<(), RingError> {
        let mut effects = {
            let state = &mut *self.state.borrow_mut();
            let turned = match &mut state.driver {
                Driver::Uring(uring) => uring.turn(&mut state.table, wait, &mut state.effects),
                Driver::Epoll(epoll) => epoll.turn(&mut state.table, wait, &mut state.effects),
            };
            turned.map_err(|source| RingError::Turn { source })?;
            std::mem::take(&mut state.effects)
        };
        // Wakers and destructors are foreign code, which may start and drop operations: no borrow from here on.
        effects.run();
        // Given back for its capacity, unless such code turned the ring meanwhile.
        let kept = &mut self.state.borrow_mut().effects;
        if kept.wakers.is_empty() && kept.garbage.is_empty() {
            *kept = effects;
        }
        Ok(())
    }

    /// Fails with the number of operations that the kernel will not let go of.
    fn close(&self) -> Result<(), usize> {
        self.closed.set(true);
        self.state.borrow_mut().cancel_all();
        let started = Instant::now();
        loop {
            let in_flight = self.state.borrow().table.in_flight();
            if in_flight == 0 {
                return Ok(());
            }
            let overdue = CLOSE_TIMEOUT < started.elapsed();
            if overdue || self.turn(Wait::For(CLOSE_STEP)).is_err() {
                return Err(in_flight);
            }
        }
    }

    /// A descriptor is about to close.
    fn forget(&self, fd: RawFd) {
        if let Driver::Epoll(epoll) = &mut self.state.borrow_mut().driver {
            epoll.forget(fd);
        }
    }

    /// The future of an operation is gone.
    fn abandon(&self, id: OpId) {
        let garbage = {
            let state = &mut *self.state.borrow_mut();
            let (abandoned, waker) = state.table.abandon(id);
            match abandoned {
                Abandoned::Over(completion) => (Some(completion), waker),
                Abandoned::InFlight => {
                    state.cancel(id);
                    (None, waker)
                }
            }
        };
        // With no borrow held: both may be the last owner of something that uses the ring in its destructor.
        drop(garbage);
    }
}

impl Drop for Inner {
    /// Buffers are ours again only after their completion, so a ring does not go before it is empty.
    fn drop(&mut self) {
        if let Err(in_flight) = self.close() {
            log_leak(in_flight);
            std::mem::forget(std::mem::take(&mut self.state.get_mut().table));
        }
    }
}

fn log_leak(in_flight: usize) {
    tracing::error!(in_flight, "the kernel did not finish cancelled operations; leaking their buffers");
}

impl State {
    fn start(&mut self, target: Target, request: Request) -> OpId {
        // In the table before the kernel can see it, for what it points to must have an owner.
        let id = self.table.insert(target, request);
        let (target, request) = self.table.parts(id).expect("just inserted");
        match &mut self.driver {
            Driver::Uring(uring) => uring.start(id, target, request),
            Driver::Epoll(epoll) => epoll.start(id, target, request),
        }
        id
    }

    fn cancel(&mut self, id: OpId) {
        match &mut self.driver {
            Driver::Uring(uring) => uring.cancel(id),
            Driver::Epoll(epoll) => {
                if let Some((target, _)) = self.table.parts(id) {
                    epoll.cancel(id, target);
                }
            }
        }
    }

    fn cancel_all(&mut self) {
        for id in self.table.ids_in_flight() {
            self.cancel(id);
        }
    }
}

/// One operation: a future of its [`Completion`].
///
/// Dropping it cancels the operation and forgets the result; what the operation owns is freed when the kernel is done.
/// A receive that is dropped may have taken bytes with it: keep the `Op` in the connection, not in a future that comes
/// and goes.
#[must_use = "an operation that is dropped is cancelled"]
pub struct Op {
    ring: Ring,
    /// `None` once the result was taken.
    id: Option<OpId>,
}

impl Op {
    /// Asks the kernel to end the operation early. It may still succeed; await it to know.
    pub fn cancel(&self) {
        if let Some(id) = self.id {
            self.ring.0.state.borrow_mut().cancel(id);
        }
    }
}

impl Future for Op {
    type Output = Completion;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Completion> {
        let id = self.id.expect("an operation is not polled again after it was ready");
        let (taken, _old_waker) = self.ring.0.state.borrow_mut().table.take(id, cx.waker());
        if taken.is_ready() {
            self.id = None;
        }
        taken
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.ring.0.abandon(id);
        }
    }
}
