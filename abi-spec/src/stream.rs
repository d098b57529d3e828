//! Streams: two ends, what they share, and the rendezvous of their buffers.
//! At most one side is pending. The side that arrives copies, tells the pending side, and completes at once.
//! Knows nothing of who schedules the threads that wait.

use crate::elem::{Buffer, Elem, InstanceId};
use crate::op::{BLOCKED, CopyType, Kind, Mode, Outcome, Side};
use crate::profile::{Quirk, Revision, Rule};
use crate::sched::Cx;
use crate::table::{SharedId, ThreadId, WaitableId};
use crate::thread::{Park, Until};
use crate::waitable::{Pending, Waitable, WaitableKind};
use crate::world::{Entry, Flow, MEMORY, Trapping, World};

/// How a copy ended. CanonicalABI.md, Stream State.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CopyResult {
    /// Elements were copied, or an empty buffer has met the other side.
    Completed = 0,
    /// The other end is gone.
    Dropped = 1,
    /// It was cancelled.
    Cancelled = 2,
}

/// Where an end is in its life. CanonicalABI.md, Stream State.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CopyState {
    /// May copy.
    Idle,
    /// Has a buffer.
    Copying,
    /// Has a buffer and wants it back.
    Cancelling,
    /// Will never copy again.
    Done,
}

impl CopyState {
    /// Whether it has a buffer.
    pub fn copying(self) -> bool {
        match self {
            CopyState::Copying | CopyState::Cancelling => true,
            CopyState::Idle | CopyState::Done => false,
        }
    }
}

/// One end of a stream or future.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CopyEnd {
    /// Its type.
    pub t: CopyType,
    /// Which end.
    pub side: Side,
    /// Where it is in its life.
    pub state: CopyState,
    /// The buffer of its last copy.
    pub buffer: Buffer,
    /// What it shares with the other end.
    pub shared: SharedId,
}

/// What both ends share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shared {
    /// Its type.
    pub t: CopyType,
    /// The host has made it, so it has the writable end, which stays where it is.
    pub of_host: bool,
    /// One of the ends is gone.
    pub dropped: bool,
    /// The end whose buffer waits for the other side.
    pub pending: Option<WaitableId>,
    /// Readable and writable end. An end that is being passed on is in neither table, but is not gone.
    pub ends: [Option<WaitableId>; 2],
    /// Which of them are gone.
    pub gone: [bool; 2],
}

impl World {
    /// CanonicalABI.md, canon {stream,future}.new. Returns the readable and the writable end.
    pub(crate) fn ends_new(&mut self, inst: InstanceId, t: CopyType) -> Trapping<(u32, u32)> {
        self.may_leave(inst)?;
        let shared = Shared {
            t,
            of_host: inst == InstanceId::HOST,
            dropped: false,
            pending: None,
            ends: [None; 2],
            gone: [false; 2],
        };
        let shared = SharedId(self.shared.add(shared));
        let r = self.end_add(inst, t, Side::Read, shared)?;
        let w = self.end_add(inst, t, Side::Write, shared)?;
        Ok((r, w))
    }

    /// Puts an end into an instance's table.
    pub(crate) fn end_add(&mut self, inst: InstanceId, t: CopyType, side: Side, shared: SharedId) -> Trapping<u32> {
        let end = CopyEnd { t, side, state: CopyState::Idle, buffer: Buffer::default(), shared };
        let w = WaitableId(self.waitables.add(Waitable::new(inst, WaitableKind::End(end))));
        let i = self.add_handle(inst, Entry::Waitable(w))?;
        self.waitables[w].index = i;
        self.shared[shared].ends[side.index()] = Some(w);
        Ok(i)
    }

    /// The end at `i` of the instance's table.
    pub fn end_at(&self, inst: InstanceId, i: u32, t: CopyType, side: Side) -> Trapping<WaitableId> {
        let w = self.waitable_at(inst, i)?;
        match &self.waitables[w].kind {
            WaitableKind::End(end) if end.t.kind == t.kind && end.side == side => {
                self.trap_if(Rule::ElemType, end.t != t)?;
                Ok(w)
            }
            _ => Err(Rule::Handle),
        }
    }

    /// CanonicalABI.md, canon stream.{read,write} and canon future.{read,write}.
    #[expect(clippy::too_many_arguments, reason = "these are the built-in's")]
    pub(crate) fn copy(
        &mut self,
        cx: &mut Cx<'_>,
        thread: ThreadId,
        t: CopyType,
        side: Side,
        mode: Mode,
        i: u32,
        ptr: u32,
        n: u32,
    ) -> Trapping<Flow> {
        let inst = self.instance_of(thread);
        self.may_leave(inst)?;
        let e = self.end_at(inst, i, t, side)?;
        self.trap_if(Rule::CopyIdle, self.waitables[e].end().state != CopyState::Idle)?;
        self.trap_if(Rule::CopySyncInSet, self.waitables[e].set.is_some() && mode == Mode::Sync)?;
        let length = if t.kind == Kind::Future { 1 } else { n };
        let buffer = self.buffer(t.elem, ptr, length)?;
        let end = self.waitables[e].end_mut();
        end.buffer = buffer;
        end.state = CopyState::Copying;
        self.meet(e)?;
        if self.has_event(e) {
            return Ok(Flow::Ret(Outcome::Ret(self.deliver(e).2)));
        }
        match mode {
            Mode::Async => Ok(Flow::Ret(Outcome::Ret(BLOCKED))),
            Mode::Sync => {
                self.waitables[e].sync_waiter = true;
                self.block(cx, thread, Park::Copy(e), Some(Until::Event(e)), false)
            }
        }
    }

    /// CanonicalABI.md, Buffer State.
    pub fn buffer(&self, elem: Elem, ptr: u32, length: u32) -> Trapping<Buffer> {
        self.trap_if(Rule::BufferLength, length > Buffer::MAX_LENGTH)?;
        let unchecked = (elem.size() == 0 || length == 0) && self.holds(Rule::BufferEmptyUnchecked);
        if !unchecked {
            let end = u64::from(ptr) + u64::from(length) * u64::from(elem.size());
            self.trap_if(Rule::BufferAligned, !ptr.is_multiple_of(elem.alignment()))?;
            self.trap_if(Rule::BufferInBounds, end > MEMORY as u64)?;
        }
        Ok(Buffer { ptr, progress: 0, length })
    }

    /// An end with a new buffer meets what is there.
    pub fn meet(&mut self, e: WaitableId) -> Trapping<()> {
        let code = self.code.clone();
        for extension in &code.extensions {
            if extension.before_copy(self, e)? {
                return Ok(());
            }
        }
        match self.waitables[e].end().t.kind {
            Kind::Stream => self.stream_meet(e),
            Kind::Future => self.future_meet(e),
        }
    }

    /// CanonicalABI.md, Stream State, `read` and `write` of the shared part.
    pub fn stream_meet(&mut self, e: WaitableId) -> Trapping<()> {
        let CopyEnd { shared, side, .. } = *self.waitables[e].end();
        if self.asks_host(e) {
            self.copy_done(e, CopyResult::Completed);
            return Ok(());
        }
        if self.shared[shared].dropped && self.holds(Rule::CopyAfterDrop) {
            self.copy_done(e, CopyResult::Dropped);
            return Ok(());
        }
        let Some(p) = self.shared[shared].pending else {
            self.shared[shared].pending = Some(e);
            return Ok(());
        };
        self.same_instance(e, p)?;
        let (mine, theirs) = (self.waitables[e].end().buffer, self.waitables[p].end().buffer);
        if theirs.remain() > 0 {
            if mine.remain() > 0 {
                self.copy_elems(e, p, mine.remain().min(theirs.remain()))?;
                match side == Side::Write
                    && self.shared[shared].of_host
                    && self.profile.quirks.has(Quirk::HostFillsOnce)
                {
                    true => {
                        self.shared[shared].pending = None;
                        self.copy_done(p, CopyResult::Completed);
                    }
                    false => self.copy_progressed(p),
                }
            } else if !self.holds(Rule::ZeroLengthMovesNothing) {
                self.copy_progressed(p);
            }
            self.copy_done(e, CopyResult::Completed);
            return Ok(());
        }
        let both_empty = mine.is_zero_length() && theirs.is_zero_length();
        if side == Side::Write && both_empty && self.holds(Rule::ZeroWriteMeetsZeroRead) {
            // The reader stays: it asked to be told when there is something to read.
            self.copy_done(e, CopyResult::Completed);
        } else {
            if self.holds(Rule::FullIsReplaced) {
                self.copy_done(p, CopyResult::Completed);
            }
            self.shared[shared].pending = Some(e);
        }
        Ok(())
    }

    /// `Quirk::EmptyReadOfHost`.
    fn asks_host(&self, e: WaitableId) -> bool {
        let CopyEnd { shared, side, buffer, .. } = *self.waitables[e].end();
        let asks = side == Side::Read && buffer.is_zero_length() && self.shared[shared].of_host;
        asks && self.profile.quirks.has(Quirk::EmptyReadOfHost)
    }

    /// CanonicalABI.md, Stream State: a restriction called temporary there.
    pub(crate) fn same_instance(&self, e: WaitableId, p: WaitableId) -> Trapping<()> {
        let (mine, theirs) = (&self.waitables[e], &self.waitables[p]);
        self.trap_if(Rule::SameInstance, mine.inst == theirs.inst && !mine.end().t.elem.none_or_number())
    }

    /// Moves `n` elements between the arriving end `e` and the pending end `p`.
    pub fn copy_elems(&mut self, e: WaitableId, p: WaitableId, n: u32) -> Trapping<()> {
        let n = if self.holds(Rule::CopyMinimum) { n } else { 1 };
        let (from, to) = match self.waitables[e].end().side {
            Side::Read => (p, e),
            Side::Write => (e, p),
        };
        let (src, dst) = (self.waitables[from].inst, self.waitables[to].inst);
        let (src_ptr, dst_ptr) = (self.waitables[from].end().buffer.ptr, self.waitables[to].end().buffer.ptr);
        let elem = self.waitables[from].end().t.elem;
        let size = elem.size() * n;
        match elem.handle() {
            None => self.copy_bytes(src, src_ptr, dst, dst_ptr, size),
            Some(ty) => {
                for at in (0..size).step_by(4) {
                    let handle = self.load_u32(src, src_ptr + at);
                    let val = self.lift_val(src, handle, ty, None)?;
                    let handle = self.lower_val(dst, val, None)?;
                    self.store_u32(dst, dst_ptr + at, handle);
                }
            }
        }
        for end in [from, to] {
            let buffer = &mut self.waitables[end].end_mut().buffer;
            buffer.progress += n;
            buffer.ptr = buffer.ptr.wrapping_add(size);
        }
        Ok(())
    }

    fn copy_bytes(&mut self, src: InstanceId, from: u32, dst: InstanceId, to: u32, size: u32) {
        let (from, to, size) = (from as usize, to as usize, size as usize);
        let inside = from.saturating_add(size) <= MEMORY && to.saturating_add(size) <= MEMORY;
        if inside {
            let bytes = self.instances[src.index()].memory;
            self.instances[dst.index()].memory[to..to + size].copy_from_slice(&bytes[from..from + size]);
        }
    }

    /// `on_copy`: the pending end has new elements and stays pending until it is told.
    pub fn copy_progressed(&mut self, p: WaitableId) {
        let reclaim = self.holds(Rule::PendingGrows);
        if !reclaim {
            let shared = self.waitables[p].end().shared;
            self.shared[shared].pending = None;
        }
        if self.holds(Rule::CopyWakesPending) {
            self.waitables[p].pending = Some(Pending::Copy { result: CopyResult::Completed, reclaim });
        }
    }

    /// `on_copy_done`: the buffer of an end is its owner's again once the event is delivered.
    pub fn copy_done(&mut self, e: WaitableId, result: CopyResult) {
        self.waitables[e].pending = Some(Pending::Copy { result, reclaim: false });
    }

    /// CanonicalABI.md, canon {stream,future}.cancel-{read,write}.
    ///
    /// All ends give their buffer back at once; a host that takes its time is not modelled, so nobody waits here.
    pub(crate) fn cancel_copy(
        &mut self,
        inst: InstanceId,
        t: CopyType,
        side: Side,
        mode: Mode,
        i: u32,
    ) -> Trapping<Flow> {
        self.may_leave(inst)?;
        let e = self.end_at(inst, i, t, side)?;
        let state = self.waitables[e].end().state;
        self.trap_if(Rule::CancelCopying, state != CopyState::Copying)?;
        self.trap_if(Rule::CancelSyncWaiter, self.waitables[e].sync_waiter)?;
        self.trap_if(Rule::CancelSyncInSet, self.waitables[e].set.is_some() && mode == Mode::Sync)?;
        self.waitables[e].end_mut().state = CopyState::Cancelling;
        self.code.clone().extensions.iter().for_each(|extension| extension.before_cancel(self, e));
        match self.waitables[e].pending {
            None => {
                let (shared, result) = (self.waitables[e].end().shared, self.cancel_result());
                self.shared[shared].pending = None;
                self.copy_done(e, result);
            }
            Some(Pending::Copy { result: CopyResult::Completed, reclaim }) if self.forgets_completion(t) => {
                let result = CopyResult::Cancelled;
                self.waitables[e].pending = Some(Pending::Copy { result, reclaim });
            }
            Some(_) => {}
        }
        Ok(Flow::Ret(Outcome::Ret(self.deliver(e).2)))
    }

    fn cancel_result(&self) -> CopyResult {
        if self.holds(Rule::CancelResult) { CopyResult::Cancelled } else { CopyResult::Completed }
    }

    fn forgets_completion(&self, t: CopyType) -> bool {
        let quirk = self.profile.quirks.has(Quirk::CancelForgetsCompletion);
        t.kind == Kind::Stream && (quirk || !self.holds(Rule::CancelKeepsCompletion))
    }

    /// CanonicalABI.md, canon {stream,future}.drop-{readable,writable}.
    pub(crate) fn drop_end(&mut self, inst: InstanceId, t: CopyType, side: Side, i: u32) -> Trapping<Flow> {
        self.may_leave(inst)?;
        let w = self.end_at(inst, i, t, side)?;
        self.remove_handle(inst, i)?;
        let CopyEnd { state, shared, .. } = *self.waitables[w].end();
        let unwritten = t.kind == Kind::Future && side == Side::Write && state != CopyState::Done;
        self.trap_if(Rule::FutureWritten, unwritten)?;
        self.trap_if(Rule::DropCopying, state.copying())?;
        self.drop_waitable(w);
        self.shared[shared].ends[side.index()] = None;
        self.shared_drop(shared, side);
        Ok(Flow::Ret(Outcome::Ret(0)))
    }

    /// One end is gone: the other one is told, now or at its next copy.
    pub fn shared_drop(&mut self, shared: SharedId, side: Side) {
        self.shared[shared].gone[side.index()] = true;
        if !self.shared[shared].dropped {
            self.shared[shared].dropped = true;
            let pending = self.shared[shared].pending.take();
            match pending {
                Some(p) if self.holds(Rule::DropWakesPending) => self.copy_done(p, CopyResult::Dropped),
                Some(_) => {}
                None => self.idle_drop(shared, side),
            }
        }
        if self.shared[shared].gone == [true; 2] {
            self.shared_remove(shared);
        }
    }

    /// A stream or future is gone, and what extensions have noted of it.
    pub fn shared_remove(&mut self, shared: SharedId) {
        self.shared.remove(shared.0);
        self.notes.retain(|(_, of), _| *of != shared);
    }

    /// CanonicalABI.md after R1 (#720), and wasmtime 48: an idle end is told as well.
    pub(crate) fn idle_drop(&mut self, shared: SharedId, gone: Side) {
        let told = match self.profile.revision {
            Revision::R1 => self.profile.quirks.has(Quirk::IdleDropEvent),
            Revision::R2 => self.holds(Rule::IdleDrop),
        };
        let Some(e) = self.shared[shared].ends[gone.other().index()] else { return };
        let idle = self.waitables[e].end().state == CopyState::Idle && self.waitables[e].pending.is_none();
        if told && idle {
            self.waitables[e].end_mut().buffer = Buffer::default();
            self.copy_done(e, CopyResult::Dropped);
        }
    }
}
