//! The epoll driver: tries the system call, waits for readiness where it would block, tries again.
//!
//! Registrations are level-triggered and lazy: interest stays registered after an operation ends, since the next one
//! usually wants the same, and is withdrawn when an event finds nobody waiting. So a keep-alive connection costs no
//! `epoll_ctl` per request, and no edge can be lost. The kernel never holds a buffer: cancelling is immediate.
//! Knows nothing of futures.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::fd::Target;
use super::slab::{OpId, Table};
use super::sys::{self, Blocking, EpollChange, errno};
use super::{Effects, Interest, Outcome, Request, RingError, Wait};

/// Events taken by one wait; more are taken by the next.
const EVENTS_MAX: usize = 256;
/// The `data` of the wake-up descriptor's registration; no descriptor has this number.
const WAKE: u64 = u64::MAX;
/// Reported whether asked for or not.
const BROKEN: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;

pub(super) struct Epoll {
    epoll: OwnedFd,
    /// Never read, edge-triggered: each growth is one event.
    _wake_fd: Arc<OwnedFd>,
    /// By descriptor number, which is dense.
    files: Vec<File>,
    /// Operations that ended without waiting; handed out by the next turn, as an io_uring would.
    ended: VecDeque<(OpId, i32)>,
    events: Vec<libc::epoll_event>,
    enters: u64,
}

/// What is known of one descriptor.
#[derive(Default)]
struct File {
    /// The registered events, `None` if the epoll set does not have the descriptor.
    registered: Option<u32>,
    /// Operations in flight, oldest first: usually at most a read and a write.
    waiting: Vec<(OpId, Interest)>,
}

impl File {
    fn wanted(&self) -> u32 {
        self.waiting.iter().fold(0, |bits, (_, interest)| bits | interest.bits())
    }
}

/// What trying an operation gave.
enum Step {
    Ended(i32),
    Waits(Interest),
}

impl Epoll {
    pub(super) fn new(wake_fd: Arc<OwnedFd>) -> Result<Self, RingError> {
        let epoll = sys::epoll().map_err(|source| RingError::SetupEpoll { source })?;
        let events = (libc::EPOLLIN | libc::EPOLLET) as u32;
        sys::epoll_change(&epoll, wake_fd.as_raw_fd(), WAKE, EpollChange::Add(events))
            .map_err(|source| RingError::SetupEpoll { source })?;
        Ok(Epoll {
            epoll,
            _wake_fd: wake_fd,
            files: Vec::new(),
            ended: VecDeque::new(),
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX],
            enters: 0,
        })
    }

    pub(super) fn enters(&self) -> u64 {
        self.enters
    }

    /// Tries an operation that is in the table.
    pub(super) fn start(&mut self, id: OpId, target: &Target, request: &mut Request) {
        match begin(target.raw(), request) {
            Step::Ended(result) => self.ended.push_back((id, result)),
            Step::Waits(interest) => self.wait_for(id, target.raw(), interest),
        }
    }

    fn file(&mut self, fd: RawFd) -> &mut File {
        let index = usize::try_from(fd).expect("descriptors are not negative");
        if self.files.len() <= index {
            self.files.resize_with(index + 1, File::default);
        }
        &mut self.files[index]
    }

    fn wait_for(&mut self, id: OpId, fd: RawFd, interest: Interest) {
        let file = self.file(fd);
        let before = file.registered;
        file.waiting.push((id, interest));
        let change = match before {
            Some(events) if events & interest.bits() == interest.bits() => return,
            Some(events) => EpollChange::Modify(events | interest.bits()),
            None => EpollChange::Add(interest.bits()),
        };
        if let Err(e) = self.change(fd, change) {
            self.file(fd).waiting.retain(|(waiting, _)| *waiting != id);
            // Regular files cannot be watched, and are always ready.
            let result = if errno(&e) == libc::EPERM { interest.bits() as i32 } else { -errno(&e) };
            self.ended.push_back((id, result));
        }
    }

    fn change(&mut self, fd: RawFd, change: EpollChange) -> io::Result<()> {
        let data = u64::try_from(fd).expect("descriptors are not negative");
        sys::epoll_change(&self.epoll, fd, data, change)?;
        self.file(fd).registered = match change {
            EpollChange::Add(events) | EpollChange::Modify(events) => Some(events),
            EpollChange::Delete => None,
        };
        Ok(())
    }

    /// Ends an operation that waits. One that ended already keeps its result.
    pub(super) fn cancel(&mut self, id: OpId, target: &Target) {
        let waiting = &mut self.file(target.raw()).waiting;
        let before = waiting.len();
        waiting.retain(|(waiting, _)| *waiting != id);
        if waiting.len() < before {
            self.ended.push_back((id, -libc::ECANCELED));
            self.release_borrowed(target);
        }
    }

    /// Somebody else's descriptor may be closed at any time after its operation, so no registration stays behind.
    fn release_borrowed(&mut self, target: &Target) {
        if let Target::Borrowed(fd) = target
            && self.file(*fd).waiting.is_empty()
        {
            self.forget(*fd);
        }
    }

    /// The descriptor is about to close, and its number to mean something else.
    pub(super) fn forget(&mut self, fd: RawFd) {
        let file = self.file(fd);
        debug_assert!(file.waiting.is_empty(), "descriptor {fd} closes under an operation");
        if file.registered.take().is_some() {
            // It fails only if the owner of a borrowed descriptor closed it, which has the same effect.
            drop(sys::epoll_change(&self.epoll, fd, 0, EpollChange::Delete));
        }
    }

    pub(super) fn turn(&mut self, table: &mut Table, wait: Wait, effects: &mut Effects) -> io::Result<()> {
        let timeout = match wait {
            Wait::No => Some(Duration::ZERO),
            Wait::For(timeout) if self.ended.is_empty() => Some(timeout),
            Wait::Forever if self.ended.is_empty() => None,
            Wait::For(_) | Wait::Forever => Some(Duration::ZERO),
        };
        self.enters += 1;
        let count = match sys::epoll_wait(&self.epoll, &mut self.events, timeout) {
            Ok(count) => count,
            Err(e) if errno(&e) == libc::EINTR => 0,
            Err(e) => return Err(e),
        };
        for i in 0..count {
            let event = self.events[i];
            if event.u64 != WAKE {
                self.on_event(event.u64 as RawFd, event.events, table, effects);
            }
        }
        while let Some((id, result)) = self.ended.pop_front() {
            effects.add(table.complete(id, Outcome { result, nonempty: false }));
        }
        Ok(())
    }

    fn on_event(&mut self, fd: RawFd, events: u32, table: &mut Table, effects: &mut Effects) {
        let waiting = std::mem::take(&mut self.file(fd).waiting);
        let mut still_waiting = Vec::new();
        let mut borrowed = false;
        let mut progress = false;
        for (id, interest) in &waiting {
            let (target, request) = table.parts(*id).expect("operations that wait are in flight");
            borrowed |= matches!(target, Target::Borrowed(_));
            let step = match events & (interest.bits() | BROKEN) {
                0 => Step::Waits(*interest),
                _ => resume(fd, request),
            };
            match step {
                Step::Ended(result) => {
                    progress = true;
                    effects.add(table.complete(*id, Outcome { result, nonempty: false }));
                }
                Step::Waits(interest) => still_waiting.push((*id, interest)),
            }
        }
        let mut recycled = waiting;
        recycled.clear();
        recycled.append(&mut still_waiting);
        let file = self.file(fd);
        file.waiting = recycled;
        let nobody = file.waiting.is_empty();
        let wanted = file.wanted();
        let change = match (nobody, borrowed) {
            (true, true) => EpollChange::Delete,
            // Somebody was served: the interest stays, the next operation will want it.
            (_, _) if progress => return,
            // Errors are reported even to those who asked for nothing; only leaving the set stops them.
            (true, false) if events & BROKEN != 0 => EpollChange::Delete,
            (_, _) => EpollChange::Modify(wanted),
        };
        if let Err(source) = self.change(fd, change) {
            tracing::error!(%source, fd, "epoll refuses a change");
        }
    }
}

/// The first attempt.
fn begin(fd: RawFd, request: &mut Request) -> Step {
    match request {
        Request::Connect(addr) => match sys::connect(fd, addr) {
            Err(e) if matches!(errno(&e), libc::EINPROGRESS | libc::EAGAIN | libc::EINTR) => {
                Step::Waits(Interest::Writable)
            }
            result => Step::Ended(code(result.map(|()| 0))),
        },
        Request::Poll(interest) => Step::Waits(*interest),
        Request::Accept(_) | Request::Recv(_) => resume(fd, request),
    }
}

/// An attempt after the descriptor became ready.
fn resume(fd: RawFd, request: &mut Request) -> Step {
    let (result, interest) = match request {
        Request::Connect(_) => (sys::take_error(fd).map(|()| 0), Interest::Writable),
        Request::Poll(_) => (Ok(0), Interest::Readable),
        Request::Accept(addr) => (sys::accept(fd, addr, Blocking::No).map(|fd| fd as usize), Interest::Readable),
        Request::Recv(buf) => (sys::recv_initialised(fd, buf), Interest::Readable),
    };
    match result {
        Err(e) if matches!(errno(&e), libc::EAGAIN | libc::EINTR) => Step::Waits(interest),
        result => Step::Ended(code(result)),
    }
}

/// A result as io_uring gives it.
fn code(result: io::Result<usize>) -> i32 {
    match result {
        Ok(n) => i32::try_from(n).expect("one call transfers less than 2 GiB"),
        Err(e) => -errno(&e),
    }
}
