//! The io_uring driver: operations become submissions, completions end operations.
//!
//! The thread parks in `io_uring_enter` and nowhere else. With `DEFER_TASKRUN` the kernel touches our buffers only
//! inside that call, and a poller of the ring's descriptor would never wake. Submissions that do not fit wait in a
//! backlog, so starting and cancelling never enter the kernel and a cancellation is never lost.
//! Knows nothing of futures.
#![expect(unsafe_code, reason = "submissions point to memory that the operation table owns")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::fd::Target;
use super::probe::Rung;
use super::slab::{OpId, Table};
use super::{Effects, Outcome, Request, RingError, Wait};

/// `IORING_RECVSEND_POLL_FIRST`: wait for readiness before the first attempt, which is known to fail.
const POLL_FIRST: u16 = 1;

pub(super) struct Uring {
    ring: IoUring,
    /// Submissions beyond the queue's room, oldest first. Bounded by two per operation in flight.
    backlog: VecDeque<squeue::Entry>,
    wake_fd: Arc<OwnedFd>,
    /// Whether the kernel watches `wake_fd` for us.
    wake_armed: bool,
    enters: u64,
}

/// How a call of `io_uring_enter` went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entered {
    /// It submitted all there was and waited as told.
    Fully,
    /// Interrupted, or the kernel wants completions taken first: submissions may be left, come again.
    Partly,
}

impl Uring {
    pub(super) fn new(rung: Rung, sq_entries: u32, wake_fd: Arc<OwnedFd>) -> Result<Self, RingError> {
        let ring = rung.setup(sq_entries).map_err(|source| RingError::Setup { source })?;
        Ok(Uring { ring, backlog: VecDeque::new(), wake_fd, wake_armed: false, enters: 0 })
    }

    pub(super) fn enters(&self) -> u64 {
        self.enters
    }

    /// Queues an operation that is in the table.
    pub(super) fn start(&mut self, id: OpId, target: &Target, request: &mut Request) {
        let entry = submission(target, request).user_data(id.raw());
        self.push(entry);
    }

    /// Queues the cancellation of an operation. Its own completion says nothing reliable across kernels; the operation's
    /// does, and always comes.
    pub(super) fn cancel(&mut self, id: OpId) {
        let entry = opcode::AsyncCancel::new(id.raw()).build().user_data(OpId::IGNORED.raw());
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS));
    }

    fn push(&mut self, entry: squeue::Entry) {
        // Behind the backlog if there is one: a cancellation must not overtake its operation.
        if !self.backlog.is_empty() || !self.push_now(&entry) {
            self.backlog.push_back(entry);
        }
    }

    fn push_now(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: all memory the entry points to is owned by the operation's place in the table, which keeps it until
        // the completion (`Table::complete` is the only remover), or is `wake_fd`'s, which points to none.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Moves backlog into the queue. Returns whether all of it found room.
    fn refill(&mut self) -> bool {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.push_now(&entry) {
                self.backlog.push_front(entry);
                return false;
            }
        }
        true
    }

    pub(super) fn turn(&mut self, table: &mut Table, wait: Wait, effects: &mut Effects) -> io::Result<()> {
        self.watch_wake_fd();
        let mut wait = wait;
        // More than a queueful: hand over all but the last part without waiting.
        while !self.refill() {
            let entered = self.enter(Wait::No)?;
            if 0 < self.collect(table, effects) {
                wait = Wait::No;
            }
            if entered == Entered::Partly {
                // Overloaded. What was collected runs first; the rest goes with the next turn.
                return Ok(());
            }
        }
        self.enter(wait)?;
        self.collect(table, effects);
        Ok(())
    }

    fn watch_wake_fd(&mut self) {
        if self.wake_armed {
            return;
        }
        let fd = types::Fd(self.wake_fd.as_raw_fd());
        // Multishot, and the counter is never read: each growth is a completion without re-arming or reading.
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build();
        self.push(entry.user_data(OpId::WAKE.raw()));
        self.wake_armed = true;
    }

    fn enter(&mut self, wait: Wait) -> io::Result<Entered> {
        let result = match wait {
            Wait::No => {
                let queue = self.ring.submission();
                let idle = queue.is_empty() && !queue.taskrun() && !queue.cq_overflow();
                drop(queue);
                if idle {
                    return Ok(Entered::Fully);
                }
                self.ring.submitter().submit()
            }
            Wait::For(timeout) => {
                let timeout = types::Timespec::from(timeout);
                let args = types::SubmitArgs::new().timespec(&timeout);
                self.ring.submitter().submit_with_args(1, &args)
            }
            Wait::Forever => self.ring.submitter().submit_and_wait(1),
        };
        self.enters += 1;
        match result {
            Ok(_) => Ok(Entered::Fully),
            Err(e) => match e.raw_os_error() {
                Some(libc::ETIME) => Ok(Entered::Fully),
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(Entered::Partly),
                _ => Err(e),
            },
        }
    }

    /// Ends the operations whose completions are there. Returns how many completions there were.
    fn collect(&mut self, table: &mut Table, effects: &mut Effects) -> usize {
        let mut count = 0;
        for completion in self.ring.completion() {
            count += 1;
            let (result, flags) = (completion.result(), completion.flags());
            match OpId::from_raw(completion.user_data()) {
                OpId::IGNORED => {}
                OpId::WAKE => self.wake_armed &= cqueue::more(flags),
                id => {
                    debug_assert!(!cqueue::more(flags), "operations complete once");
                    let outcome = Outcome { result, nonempty: cqueue::sock_nonempty(flags) };
                    effects.add(table.complete(id, outcome));
                }
            }
        }
        count
    }
}

/// The submission for a request. The pointers in it go to heap memory that `request` owns.
fn submission(target: &Target, request: &mut Request) -> squeue::Entry {
    let fd = types::Fd(target.raw());
    match request {
        Request::Accept(addr) => {
            let len = addr.len_mut_ptr();
            opcode::Accept::new(fd, addr.as_mut_ptr(), len).flags(libc::SOCK_CLOEXEC).build()
        }
        Request::Connect(addr) => opcode::Connect::new(fd, addr.as_ptr(), addr.len()).build(),
        Request::Recv(buf) => opcode::Recv::new(fd, buf.as_mut_ptr(), len_u32(buf)).ioprio(POLL_FIRST).build(),
        Request::Poll(interest) => opcode::PollAdd::new(fd, interest.bits()).build(),
    }
}

/// A transfer is at most this long; the rest is another operation's.
fn len_u32(buf: &[u8]) -> u32 {
    u32::try_from(buf.len()).unwrap_or(i32::MAX as u32).min(i32::MAX as u32)
}
