//! Waitables and waitable sets: where events wait for guests.
//! A waitable has at most one event. It is decided when something happens and *evaluated when it is delivered*, so that
//! counts and states are those of the delivery.
//! Knows nothing of how streams and calls come to have events.

use crate::elem::InstanceId;
use crate::op::{Arg, EventCode, Kind, Outcome, Side};
use crate::profile::{Quirk, Revision, Rule};
use crate::sched::{Choice, Cx};
use crate::stream::{CopyEnd, CopyResult, CopyState};
use crate::table::{SetId, ThreadId, WaitableId};
use crate::task::Subtask;
use crate::thread::{Park, Until};
use crate::world::{Entry, Flow, Trapping, World};

/// What will be told when the event is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pending {
    /// A subtask has progressed.
    Subtask,
    /// A copy is over or has made progress.
    Copy {
        /// How it ended.
        result: CopyResult,
        /// The buffer still counts as pending until the event is delivered: it can grow.
        reclaim: bool,
    },
}

/// CanonicalABI.md, Waitable State.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Waitable {
    /// Whose table it is in.
    pub inst: InstanceId,
    /// Where; 0 for the subtask of a synchronous call.
    pub index: u32,
    /// Its event.
    pub pending: Option<Pending>,
    /// Its set.
    pub set: Option<SetId>,
    /// A thread waits for it in a synchronous operation.
    pub sync_waiter: bool,
    /// What it is.
    pub kind: WaitableKind,
}

/// What can be waited for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WaitableKind {
    /// A call.
    Subtask(Subtask),
    /// An end of a stream or future.
    End(CopyEnd),
}

impl Waitable {
    /// One that was just made.
    pub fn new(inst: InstanceId, kind: WaitableKind) -> Waitable {
        Waitable { inst, index: 0, pending: None, set: None, sync_waiter: false, kind }
    }

    /// The end of a stream or future that it is.
    pub fn end(&self) -> &CopyEnd {
        match &self.kind {
            WaitableKind::End(end) => end,
            WaitableKind::Subtask(_) => unreachable!("asked a subtask for its buffer"),
        }
    }

    /// The end of a stream or future that it is.
    pub fn end_mut(&mut self) -> &mut CopyEnd {
        match &mut self.kind {
            WaitableKind::End(end) => end,
            WaitableKind::Subtask(_) => unreachable!("asked a subtask for its buffer"),
        }
    }

    /// The subtask that it is.
    pub fn subtask(&self) -> &Subtask {
        match &self.kind {
            WaitableKind::Subtask(subtask) => subtask,
            WaitableKind::End(_) => unreachable!("asked an end for its callee"),
        }
    }

    /// The subtask that it is.
    pub fn subtask_mut(&mut self) -> &mut Subtask {
        match &mut self.kind {
            WaitableKind::Subtask(subtask) => subtask,
            WaitableKind::End(_) => unreachable!("asked an end for its callee"),
        }
    }
}

/// CanonicalABI.md, Waitable State.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct WaitableSet {
    /// What is in it, sorted: which event comes first is a choice.
    pub elems: Vec<WaitableId>,
    /// Threads that wait for it.
    pub num_waiting: u32,
}

impl World {
    /// `Waitable.get_pending_event`. The event that is there, evaluated now.
    pub(crate) fn deliver(&mut self, w: WaitableId) -> (u32, u32, u32) {
        if self.has_extensions()
            && let WaitableKind::End(end) = self.waitables[w].kind
        {
            let earlier = self.code.clone().extensions.iter().find_map(|extension| extension.before_event(self, w));
            if let Some(payload) = earlier {
                return (end.event_code() as u32, self.waitables[w].index, payload);
            }
        }
        let waitable = &mut self.waitables[w];
        let (index, pending) = (waitable.index, waitable.pending.take());
        match &mut waitable.kind {
            WaitableKind::Subtask(subtask) => {
                let (state, resolved) = (subtask.state as u32, subtask.state.resolved());
                if resolved {
                    self.deliver_resolve(w);
                }
                (EventCode::Subtask as u32, index, state)
            }
            WaitableKind::End(end) => {
                let (end, shared) = (*end, end.shared);
                let Some(Pending::Copy { result, reclaim }) = pending else { return (0, 0, 0) };
                if reclaim {
                    self.shared[shared].pending = None;
                }
                self.waitables[w].end_mut().state = self.state_after(end, result);
                if self.has_extensions() {
                    self.code.clone().extensions.iter().for_each(|extension| extension.after_event(self, w));
                }
                (end.event_code() as u32, index, self.copy_payload(end, result))
            }
        }
    }

    /// Whether somebody may have to be asked; most worlds have nobody.
    fn has_extensions(&self) -> bool {
        !self.code.extensions.is_empty()
    }

    /// The state of an end once `result` is delivered.
    fn state_after(&self, end: CopyEnd, result: CopyResult) -> CopyState {
        let idle_event = end.state == CopyState::Idle;
        match (end.t.kind, result) {
            (_, CopyResult::Dropped) if idle_event && self.profile.revision == Revision::R1 => CopyState::Idle,
            (_, CopyResult::Dropped) if self.holds(Rule::CopyStateDone) => CopyState::Done,
            (Kind::Future, CopyResult::Completed) if self.holds(Rule::FutureDone) => CopyState::Done,
            _ => CopyState::Idle,
        }
    }

    fn copy_payload(&self, end: CopyEnd, result: CopyResult) -> u32 {
        match end.t.kind {
            Kind::Stream if self.holds(Rule::EventCarriesCount) => result as u32 | end.buffer.progress << 4,
            Kind::Stream | Kind::Future => result as u32,
        }
    }

    /// `Waitable.join`.
    pub(crate) fn join(&mut self, w: WaitableId, set: Option<SetId>) {
        if let Some(old) = self.waitables[w].set
            && self.holds(Rule::JoinMoves)
        {
            self.sets[old].elems.retain(|&elem| elem != w);
        }
        self.waitables[w].set = set;
        if let Some(set) = set {
            let elems = &mut self.sets[set].elems;
            if let Err(position) = elems.binary_search(&w) {
                elems.insert(position, w);
            }
        }
    }

    /// Takes a waitable that was removed from its table out of the world.
    pub fn drop_waitable(&mut self, w: WaitableId) {
        if self.holds(Rule::DropLeavesSet) {
            self.join(w, None);
        }
        self.waitables.remove(w.0);
    }

    /// Whether an event of the set could be delivered.
    pub(crate) fn set_has_event(&self, set: SetId) -> bool {
        self.sets[set].elems.iter().any(|&w| self.has_event(w))
    }

    /// Whether the waitable has an event.
    pub fn has_event(&self, w: WaitableId) -> bool {
        self.waitables.get(w.0).is_some_and(|w| w.pending.is_some())
    }

    /// `WaitableSet.get_pending_event`. Which of several events comes first is a choice.
    pub(crate) fn set_event(&mut self, cx: &mut Cx<'_>, set: SetId) -> Outcome {
        let ready: Vec<WaitableId> = self.sets[set].elems.iter().copied().filter(|&w| self.has_event(w)).collect();
        let Some(&w) = ready.get(cx.pick(Choice::Event, ready.len())) else {
            return Outcome::Event(EventCode::None as u32, 0, 0);
        };
        let (code, index, payload) = self.deliver(w);
        Outcome::Event(code, index, payload)
    }

    /// The set at `i` of the instance's table.
    pub fn set_at(&self, inst: InstanceId, i: u32) -> Trapping<SetId> {
        match self.instances[inst.index()].handles.get(i) {
            Some(Entry::Set(set)) => Ok(*set),
            _ => Err(Rule::Handle),
        }
    }

    /// The waitable at `i` of the instance's table.
    pub fn waitable_at(&self, inst: InstanceId, i: u32) -> Trapping<WaitableId> {
        match self.instances[inst.index()].handles.get(i) {
            Some(Entry::Waitable(w)) => Ok(*w),
            _ => Err(Rule::Handle),
        }
    }

    /// CanonicalABI.md, canon waitable-set.new.
    pub(crate) fn waitable_set_new(&mut self, inst: InstanceId) -> Trapping<(u32, Flow)> {
        self.may_leave(inst)?;
        let set = SetId(self.sets.add(WaitableSet::default()));
        let i = self.add_handle(inst, Entry::Set(set))?;
        Ok((i, Flow::Ret(Outcome::Ret(i))))
    }

    /// CanonicalABI.md, canon waitable-set.wait.
    pub(crate) fn waitable_set_wait(
        &mut self,
        cx: &mut Cx<'_>,
        t: ThreadId,
        i: u32,
        cancellable: bool,
    ) -> Trapping<Flow> {
        let inst = self.instance_of(t);
        self.may_leave(inst)?;
        let set = self.set_at(inst, i)?;
        self.sets[set].num_waiting += 1;
        self.block(cx, t, Park::SetWait(set), Some(Until::SetEvent(set)), cancellable)
    }

    /// CanonicalABI.md, canon waitable-set.poll.
    pub(crate) fn waitable_set_poll(
        &mut self,
        cx: &mut Cx<'_>,
        t: ThreadId,
        i: u32,
        cancellable: bool,
    ) -> Trapping<Flow> {
        let inst = self.instance_of(t);
        self.may_leave(inst)?;
        let set = self.set_at(inst, i)?;
        if self.holds(Rule::PollDeliversCancel) && self.deliver_pending_cancel(t, cancellable) {
            return Ok(Flow::Ret(Outcome::Event(EventCode::TaskCancelled as u32, 0, 0)));
        }
        Ok(Flow::Ret(self.set_event(cx, set)))
    }

    /// CanonicalABI.md, canon waitable-set.drop.
    pub(crate) fn waitable_set_drop(&mut self, inst: InstanceId, i: u32) -> Trapping<Flow> {
        self.may_leave(inst)?;
        let set = self.set_at(inst, i)?;
        self.remove_handle(inst, i)?;
        self.trap_if(Rule::SetDropEmpty, !self.sets[set].elems.is_empty())?;
        self.trap_if(Rule::SetDropNoWaiters, self.sets[set].num_waiting > 0)?;
        self.sets.remove(set.0);
        Ok(Flow::Ret(Outcome::Ret(0)))
    }

    /// CanonicalABI.md, canon waitable.join.
    pub(crate) fn waitable_join(&mut self, inst: InstanceId, i: u32, set: u32) -> Trapping<Flow> {
        self.may_leave(inst)?;
        let w = self.waitable_at(inst, i)?;
        let quirk = set == 0 && self.profile.quirks.has(Quirk::UnjoinWhileWaiting);
        self.trap_if(Rule::JoinSyncWaiter, self.waitables[w].sync_waiter && !quirk)?;
        let set = match set {
            0 => None,
            set => Some(self.set_at(inst, set)?),
        };
        self.join(w, set);
        Ok(Flow::Ret(Outcome::Ret(0)))
    }

    /// The number that an argument stands for in this instance.
    pub(crate) fn arg(&self, inst: InstanceId, arg: Arg) -> u32 {
        match arg {
            Arg::Imm(value) => value,
            Arg::Slot(slot) => self.instances[inst.index()].slots.get(usize::from(slot)).copied().unwrap_or(0),
        }
    }
}

impl CopyEnd {
    /// The code of this end's events.
    pub fn event_code(&self) -> EventCode {
        match (self.t.kind, self.side) {
            (Kind::Stream, Side::Read) => EventCode::StreamRead,
            (Kind::Stream, Side::Write) => EventCode::StreamWrite,
            (Kind::Future, Side::Read) => EventCode::FutureRead,
            (Kind::Future, Side::Write) => EventCode::FutureWrite,
        }
    }
}
