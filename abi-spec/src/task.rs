//! Calls: the task of the callee, the subtask of the caller, and what is between them.
//! `canon lower` makes the subtask, `canon lift` the task; arguments cross when the task starts, the result when it resolves.
//! Knows nothing of the callee's code: `thread` runs that.

use crate::elem::{InstanceId, Ty, Val};
use crate::op::{BLOCKED, Mode, Outcome, PARAMS_MAX, Side, Slot};
use crate::profile::{Quirk, Rule};
use crate::program::{Func, Lift};
use crate::sched::{Choice, Cx};
use crate::stream::CopyState;
use crate::table::{TaskId, ThreadId, WaitableId};
use crate::thread::{Park, Thread, ThreadState, Until};
use crate::waitable::{Pending, Waitable, WaitableKind};
use crate::world::{Entry, Flow, Frame, ResourceHandle, Trapping, World};

/// CanonicalABI.md, Tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskState {
    /// Waits to start.
    Initial,
    /// Has its arguments.
    Started,
    /// Is to be told of a cancellation at its next cancellable block.
    PendingCancel,
    /// Has been told.
    CancelDelivered,
    /// Has returned or was cancelled. Its threads may go on.
    Resolved,
}

/// The callee's side of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    /// What was called.
    pub func: Func,
    /// Where it is in its life.
    pub state: TaskState,
    /// Borrowed handles that it has to give back before it resolves.
    pub num_borrows: u32,
    /// The thread that the call began with.
    pub implicit: Option<ThreadId>,
    /// Its threads that have entered the instance.
    pub threads: Vec<ThreadId>,
    /// The caller's side; none for the host's own scripts.
    pub caller: Option<WaitableId>,
}

impl Task {
    /// `Task.needs_exclusive`.
    pub fn needs_exclusive(&self, stackful_too: bool) -> bool {
        self.func.is_async && (stackful_too || self.func.lift != Lift::Stackful)
    }
}

/// CanonicalABI.md, Subtask State. The numbers are what guests see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubtaskState {
    /// The callee waits to start.
    Starting = 0,
    /// The callee has its arguments.
    Started = 1,
    /// The callee has returned.
    Returned = 2,
    /// The callee never started.
    CancelledBeforeStarted = 3,
    /// The callee started and called `task.cancel`.
    CancelledBeforeReturned = 4,
}

impl SubtaskState {
    /// Whether the call is over.
    pub fn resolved(self) -> bool {
        match self {
            SubtaskState::Starting | SubtaskState::Started => false,
            SubtaskState::Returned | SubtaskState::CancelledBeforeStarted | SubtaskState::CancelledBeforeReturned => {
                true
            }
        }
    }
}

/// The caller's side of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subtask {
    /// What the caller may know.
    pub state: SubtaskState,
    /// The callee's side. Meaningless once resolved.
    pub task: TaskId,
    /// Arguments, not yet lifted.
    pub args: [u32; PARAMS_MAX],
    /// Handles of the caller that are lent for the call.
    pub lenders: Vec<u32>,
    /// `subtask.cancel` was called.
    pub cancellation_requested: bool,
    /// The caller knows that the call is over.
    pub resolve_delivered: bool,
    /// How it was called.
    pub mode: Mode,
    /// Where the caller wants the result.
    pub ret: Slot,
    /// The lowered result.
    pub result: u32,
}

impl World {
    /// CanonicalABI.md, canon lower: thread `t` calls `func`. Goes on in `lift_returned`.
    pub(crate) fn canon_lower(
        &mut self,
        cx: &mut Cx<'_>,
        t: ThreadId,
        func: Func,
        args: [u32; PARAMS_MAX],
        site: CallSite,
    ) -> Trapping<Flow> {
        let caller = self.instance_of(t);
        self.may_leave(caller)?;
        let implicit = !self.threads[t].explicit;
        let of_guest = func.inst != InstanceId::HOST;
        let blocks =
            of_guest && site.mode == Mode::Sync && func.is_async && !self.tasks[self.threads[t].task].func.is_async;
        if blocks && implicit && self.profile.quirks.has(Quirk::EagerSyncCall) && self.siblings(caller).is_empty() {
            return Err(Rule::CannotBlock);
        }
        self.enter_from(func.inst, Some(caller))?;
        let (task, thread) = self.task_new(func);
        let subtask = Subtask {
            state: SubtaskState::Starting,
            task,
            args,
            lenders: Vec::new(),
            cancellation_requested: false,
            resolve_delivered: false,
            mode: site.mode,
            ret: if func.result.is_some() { site.ret } else { CallSite::NOWHERE },
            result: 0,
        };
        let w = WaitableId(self.waitables.add(Waitable::new(caller, WaitableKind::Subtask(subtask))));
        self.tasks[task].caller = Some(w);
        self.stack.push(Frame::Lift { task, subtask: w, site });
        self.resume(cx, thread, false)?;
        Ok(Flow::Away)
    }

    /// A task and its implicit thread, which has not run yet.
    pub(crate) fn task_new(&mut self, func: Func) -> (TaskId, ThreadId) {
        let task =
            Task { func, state: TaskState::Initial, num_borrows: 0, implicit: None, threads: Vec::new(), caller: None };
        let task = TaskId(self.tasks.add(task));
        let thread = ThreadId(self.threads.add(Thread::new(task, func.body, false)));
        self.tasks[task].implicit = Some(thread);
        (task, thread)
    }

    /// CanonicalABI.md, Tasks, `enter_implicit_thread`: the callee starts, or waits to be let in.
    pub(crate) fn enter_implicit_thread(&mut self, cx: &mut Cx<'_>, t: ThreadId) -> Trapping<Flow> {
        let task = self.threads[t].task;
        let waits = self.tasks[task].func.is_async || !self.holds(Rule::SyncBargesIn);
        let inst = self.instance_of(t);
        let others_wait = self.instances[inst.index()].num_waiting_to_enter > 0 && self.holds(Rule::NoOvertaking);
        if waits && !self.has_backpressure(task) && !others_wait && self.host_call_waits(cx, task) {
            self.instances[inst.index()].num_waiting_to_enter += 1;
            self.park(t, Park::Enter, Some(Until::Admitted), true);
            return Ok(Flow::Away);
        }
        if waits && (self.has_backpressure(task) || others_wait) {
            let holder = self.ready_holder(inst).filter(|_| !others_wait);
            if let Some(holder) = holder.filter(|_| cx.pick(Choice::Holder, 2) == 1) {
                self.stack.pop();
                self.threads[t].state = ThreadState::Suspended(Park::Start);
                self.stack.push(Frame::Enter(t));
                self.resume(cx, holder, false)?;
                return Ok(Flow::Away);
            }
            self.instances[inst.index()].num_waiting_to_enter += 1;
            return self.block(cx, t, Park::Enter, Some(Until::Admitted), true);
        }
        self.admit(cx, t)
    }

    /// `Quirk::HostCallsWait`.
    fn host_call_waits(&self, cx: &mut Cx<'_>, task: TaskId) -> bool {
        let of_host = self.tasks[task].caller.is_some_and(|w| self.waitables[w].inst == InstanceId::HOST);
        of_host && self.profile.quirks.has(Quirk::HostCallsWait) && cx.pick(Choice::GoOn, 2) == 1
    }

    /// `Quirk::ReadyHolderFirst`: the exclusive thread of the instance, if it is all that a call waits for, and could go on.
    fn ready_holder(&self, inst: InstanceId) -> Option<ThreadId> {
        let quirk = self.profile.quirks.has(Quirk::ReadyHolderFirst);
        let inst = &self.instances[inst.index()];
        inst.exclusive.filter(|&t| quirk && inst.backpressure == 0 && self.is_ready(t))
    }

    /// Whether a task has to wait before it may start.
    pub(crate) fn has_backpressure(&self, task: TaskId) -> bool {
        let task = &self.tasks[task];
        let inst = &self.instances[task.func.inst.index()];
        let exclusive = self.needs_exclusive(task) && inst.exclusive.is_some() && self.holds(Rule::Exclusive);
        inst.backpressure > 0 && self.holds(Rule::Backpressure) || exclusive
    }

    pub(crate) fn needs_exclusive(&self, task: &Task) -> bool {
        task.needs_exclusive(!self.holds(Rule::StackfulNotExclusive))
    }

    /// The second half of `enter_implicit_thread`, and the first of `canon lift`.
    pub(crate) fn admit(&mut self, cx: &mut Cx<'_>, t: ThreadId) -> Trapping<Flow> {
        let task = self.threads[t].task;
        let inst = self.instance_of(t);
        if self.needs_exclusive(&self.tasks[task]) {
            self.instances[inst.index()].exclusive = Some(t);
        }
        self.register_thread(t);
        let args = self.task_start(task)?;
        self.begin(cx, t, args);
        if self.threads[t].script.is_none() {
            // A destructor that does nothing.
            self.task_return(task, 0)?;
            self.exit_implicit_thread(t)?;
        }
        Ok(Flow::Away)
    }

    /// `Task.start`, `on_start` of `canon lower`, and lowering the arguments.
    fn task_start(&mut self, task: TaskId) -> Trapping<Vec<u32>> {
        self.tasks[task].state = TaskState::Started;
        let func = self.tasks[task].func;
        let Some(w) = self.tasks[task].caller else { return Ok(Vec::new()) };
        self.progress(w, Rule::StartEvent);
        let caller = self.waitables[w].inst;
        self.waitables[w].subtask_mut().state = SubtaskState::Started;
        let args = self.waitables[w].subtask().args;
        let mut vals = Vec::new();
        for ((ty, slot), arg) in func.params.into_iter().flatten().zip(args) {
            vals.push((slot, self.lift_val(caller, arg, ty, Some(w))?));
        }
        let mut lowered = Vec::new();
        for (slot, val) in vals {
            let value = self.lower_val(func.inst, val, Some(task))?;
            if func.body.is_some() {
                self.set_slot(func.inst, slot, value);
            }
            lowered.push(value);
        }
        Ok(lowered)
    }

    /// `on_progress`: only a subtask that has a handle has events.
    fn progress(&mut self, w: WaitableId, rule: Rule) {
        if self.waitables[w].index != 0 && self.holds(rule) {
            self.waitables[w].pending = Some(Pending::Subtask);
        }
    }

    /// `Task.return_`, with a result that is still in the callee.
    pub(crate) fn task_return(&mut self, task: TaskId, value: u32) -> Trapping<()> {
        let func = self.tasks[task].func;
        let val = match func.result {
            Some(ty) => Some(self.lift_val(func.inst, value, ty, None)?),
            None => None,
        };
        self.trap_if(Rule::ReturnOnce, self.tasks[task].state == TaskState::Resolved)?;
        self.trap_if(Rule::ReturnBorrows, self.tasks[task].num_borrows > 0)?;
        if let Some(w) = self.unresolved_caller(task) {
            self.progress(w, Rule::ResolveEvent);
            let caller = self.waitables[w].inst;
            if let Some(val) = val {
                let result = self.lower_val(caller, val, None)?;
                let subtask = self.waitables[w].subtask_mut();
                subtask.result = result;
                // The result of a synchronous call is only returned; that of an asynchronous one is in memory now.
                if subtask.mode == Mode::Async {
                    let slot = subtask.ret;
                    self.set_slot(caller, slot, result);
                }
            }
            self.waitables[w].subtask_mut().state = SubtaskState::Returned;
        }
        self.tasks[task].state = TaskState::Resolved;
        Ok(())
    }

    /// `Task.cancel`.
    pub(crate) fn task_cancelled(&mut self, task: TaskId) -> Trapping<()> {
        let state = self.tasks[task].state;
        let quirk = state == TaskState::PendingCancel && self.profile.quirks.has(Quirk::EarlyTaskCancel);
        self.trap_if(Rule::CancelDelivered, state != TaskState::CancelDelivered && !quirk)?;
        self.trap_if(Rule::CancelBorrows, self.tasks[task].num_borrows > 0)?;
        if let Some(w) = self.unresolved_caller(task) {
            self.progress(w, Rule::ResolveEvent);
            self.host_forgets(task, w)?;
            let subtask = self.waitables[w].subtask_mut();
            subtask.state = match subtask.state {
                SubtaskState::Starting => SubtaskState::CancelledBeforeStarted,
                _ => SubtaskState::CancelledBeforeReturned,
            };
        }
        self.tasks[task].state = TaskState::Resolved;
        Ok(())
    }

    /// `Quirk::HostBeside`: what the host has given to a call that never starts is gone.
    fn host_forgets(&mut self, task: TaskId, w: WaitableId) -> Trapping<()> {
        let subtask = self.waitables[w].subtask();
        let of_host = self.waitables[w].inst == InstanceId::HOST && self.profile.quirks.has(Quirk::HostBeside);
        if !of_host || subtask.state != SubtaskState::Starting {
            return Ok(());
        }
        let args = subtask.args;
        for ((ty, _), arg) in self.tasks[task].func.params.into_iter().flatten().zip(args) {
            if let Val::End(_, shared) = self.lift_val(InstanceId::HOST, arg, ty, None)? {
                self.shared_drop(shared, Side::Read);
            }
        }
        Ok(())
    }

    fn unresolved_caller(&self, task: TaskId) -> Option<WaitableId> {
        let resolved = self.tasks[task].state == TaskState::Resolved;
        self.tasks[task].caller.filter(|_| !resolved)
    }

    /// `Subtask.deliver_resolve`: the caller knows, so what it has lent is its own again.
    pub(crate) fn deliver_resolve(&mut self, w: WaitableId) {
        let ends_lends = self.holds(Rule::DeliverEndsLends);
        let inst = self.waitables[w].inst;
        let subtask = self.waitables[w].subtask_mut();
        subtask.resolve_delivered = true;
        for handle in std::mem::take(&mut subtask.lenders) {
            if let Some(Entry::Resource(handle)) = self.instances[inst.index()].handles.get_mut(handle)
                && ends_lends
            {
                handle.num_lends = handle.num_lends.saturating_sub(1);
            }
        }
    }

    /// The callee has blocked or ended: the rest of `canon lift`, then the rest of `canon lower`.
    pub(crate) fn lift_returned(
        &mut self,
        cx: &mut Cx<'_>,
        task: TaskId,
        w: WaitableId,
        site: CallSite,
    ) -> Trapping<()> {
        let blocks = !self.tasks[task].func.is_async
            && self.tasks[task].state != TaskState::Resolved
            && self.holds(Rule::SyncRunsSiblings);
        if blocks {
            return self.run_sibling(cx, task);
        }
        self.stack.pop();
        let (caller, callee) = (self.waitables[w].inst, self.tasks[task].func.inst);
        self.leave_to(callee, Some(caller));
        self.release_task(task);
        let Some(&Frame::Thread(t)) = self.stack.last() else { return Ok(()) };
        let flow = self.lower_returned(cx, t, w, site)?;
        self.complete(cx, t, flow)
    }

    /// CanonicalABI.md, canon lift: while a synchronous call is unresolved, others of its instance run in its place.
    fn run_sibling(&mut self, cx: &mut Cx<'_>, task: TaskId) -> Trapping<()> {
        let candidates = self.siblings(self.tasks[task].func.inst);
        let Some(&t) = candidates.get(cx.pick(Choice::Sibling(&candidates), candidates.len())) else {
            return Err(Rule::CannotBlock);
        };
        self.resume(cx, t, false)
    }

    /// Threads that may run while a synchronous call of the instance waits.
    fn siblings(&self, inst: InstanceId) -> Vec<ThreadId> {
        let exclusive = self.instances[inst.index()].exclusive.filter(|_| self.holds(Rule::SyncNotExclusive));
        let any = !self.holds(Rule::SyncOnlySiblings);
        let quirk = self.profile.quirks.has(Quirk::CallbacksAreNoSiblings);
        let callback = |t: ThreadId| {
            matches!(self.threads[t].state, ThreadState::Waiting(Park::CallbackWait(_) | Park::CallbackYield, _))
        };
        self.arrivals
            .iter()
            .filter(|&t| any || self.instance_of(t) == inst && self.threads[t].index.is_some())
            .filter(|&t| Some(t) != exclusive && self.is_ready(t) && !(quirk && callback(t)))
            .collect()
    }

    fn lower_returned(&mut self, cx: &mut Cx<'_>, t: ThreadId, w: WaitableId, site: CallSite) -> Trapping<Flow> {
        let resolved = self.waitables[w].subtask().state.resolved();
        match site.mode {
            Mode::Sync if resolved => Ok(Flow::Ret(self.sync_result(w))),
            Mode::Sync => self.block(cx, t, Park::SyncLower(w), Some(Until::Resolved(w)), false),
            Mode::Async if resolved && self.holds(Rule::ResolvedHasNoHandle) => {
                self.deliver_resolve(w);
                self.waitables.remove(w.0);
                Ok(Flow::Ret(Outcome::Ret(SubtaskState::Returned as u32)))
            }
            Mode::Async => {
                let inst = self.waitables[w].inst;
                let i = self.add_handle(inst, Entry::Waitable(w))?;
                self.waitables[w].index = i;
                self.set_slot(inst, site.sub, i);
                Ok(Flow::Ret(Outcome::Ret(self.waitables[w].subtask().state as u32 | i << 4)))
            }
        }
    }

    /// The end of a synchronous call.
    pub(crate) fn sync_result(&mut self, w: WaitableId) -> Outcome {
        self.deliver_resolve(w);
        let Subtask { ret, result, .. } = *self.waitables[w].subtask();
        let inst = self.waitables[w].inst;
        self.waitables.remove(w.0);
        self.set_slot(inst, ret, result);
        Outcome::Ret(result)
    }

    pub(crate) fn subtask_at(&self, inst: InstanceId, i: u32) -> Trapping<WaitableId> {
        let w = self.waitable_at(inst, i)?;
        match &self.waitables[w].kind {
            WaitableKind::Subtask(_) => Ok(w),
            WaitableKind::End(_) => Err(Rule::Handle),
        }
    }

    /// CanonicalABI.md, canon subtask.cancel. Goes on in `cancel_returned`.
    pub(crate) fn subtask_cancel(&mut self, cx: &mut Cx<'_>, t: ThreadId, mode: Mode, i: u32) -> Trapping<Flow> {
        let inst = self.instance_of(t);
        self.may_leave(inst)?;
        let w = self.subtask_at(inst, i)?;
        self.trap_if(Rule::SubtaskCancelDelivered, self.waitables[w].subtask().resolve_delivered)?;
        let again = self.waitables[w].subtask().cancellation_requested;
        let quirk = self.profile.quirks.has(Quirk::SecondCancelBlocks);
        self.trap_if(Rule::SubtaskCancelTwice, again && !quirk)?;
        self.trap_if(Rule::SubtaskCancelSyncInSet, self.waitables[w].set.is_some() && mode == Mode::Sync)?;
        if self.waitables[w].subtask().state.resolved() {
            return Ok(Flow::Ret(Outcome::Ret(self.deliver(w).2)));
        }
        self.waitables[w].subtask_mut().cancellation_requested = true;
        let task = self.waitables[w].subtask().task;
        if again {
            self.stack.push(Frame::Cancel { entered: None, subtask: w, mode });
            return Ok(Flow::Away);
        }
        self.request_cancellation(cx, task, inst, w, mode)?;
        Ok(Flow::Away)
    }

    /// `Task.request_cancellation`: the callee is told at once if one of its threads may be told.
    fn request_cancellation(
        &mut self,
        cx: &mut Cx<'_>,
        task: TaskId,
        caller: InstanceId,
        w: WaitableId,
        mode: Mode,
    ) -> Trapping<()> {
        let inst = self.tasks[task].func.inst;
        if self.tasks[task].state == TaskState::Initial && self.holds(Rule::CancelBeforeStart) {
            self.tasks[task].state = TaskState::CancelDelivered;
            self.stack.push(Frame::Cancel { entered: None, subtask: w, mode });
            return match self.tasks[task].implicit {
                Some(t) => self.resume(cx, t, true),
                None => Ok(()),
            };
        }
        let candidates = self.cancel_candidates(task);
        let may_enter = self.may_enter_from(inst, Some(caller)) || !self.holds(Rule::CancelMayEnter);
        if candidates.is_empty() || !may_enter || !self.holds(Rule::CancelAtOnce) {
            if self.tasks[task].state == TaskState::Started {
                self.tasks[task].state = TaskState::PendingCancel;
            }
            self.stack.push(Frame::Cancel { entered: None, subtask: w, mode });
            return Ok(());
        }
        self.tasks[task].state = TaskState::CancelDelivered;
        self.set_entered(inst, Some(caller), true);
        self.stack.push(Frame::Cancel { entered: Some((inst, caller)), subtask: w, mode });
        let t = candidates[cx.pick(Choice::Cancel(&candidates), candidates.len())];
        self.resume(cx, t, true)
    }

    /// Threads of the task that may be told of a cancellation now.
    fn cancel_candidates(&self, task: TaskId) -> Vec<ThreadId> {
        let task = &self.tasks[task];
        let exclusive = self.instances[task.func.inst.index()].exclusive;
        let elsewhere = self.needs_exclusive(task) && exclusive.is_some() && exclusive != task.implicit;
        let implicit_waits = elsewhere && self.holds(Rule::CancelNotExclusive);
        let cancellable = |t: &ThreadId| {
            let parked = self.threads[*t].state != ThreadState::Running;
            parked && (self.threads[*t].cancellable || !self.holds(Rule::CancellableOnly))
        };
        let told = |t: &ThreadId| cancellable(t) && !(implicit_waits && task.implicit == Some(*t));
        task.threads.iter().copied().filter(told).collect()
    }

    /// The callee has been told, or will be: the rest of `canon subtask.cancel`.
    pub(crate) fn cancel_returned(&mut self, cx: &mut Cx<'_>, w: WaitableId, mode: Mode) -> Trapping<()> {
        let Some(&Frame::Thread(t)) = self.stack.last() else { return Ok(()) };
        let resolved = self.waitables[w].subtask().state.resolved() && self.holds(Rule::SubtaskCancelHandsOver);
        let flow = match mode {
            _ if resolved => Flow::Ret(Outcome::Ret(self.deliver(w).2)),
            Mode::Async => Flow::Ret(Outcome::Ret(BLOCKED)),
            Mode::Sync => {
                self.waitables[w].sync_waiter = true;
                // Not `Until::Event`: there may be an event from before, that the callee has started.
                self.block(cx, t, Park::SubtaskCancel(w), Some(Until::Resolved(w)), false)?
            }
        };
        self.complete(cx, t, flow)
    }

    /// CanonicalABI.md, canon subtask.drop.
    pub(crate) fn subtask_drop(&mut self, inst: InstanceId, i: u32) -> Trapping<Flow> {
        self.may_leave(inst)?;
        let w = self.subtask_at(inst, i)?;
        self.remove_handle(inst, i)?;
        self.trap_if(Rule::SubtaskDropDelivered, !self.waitables[w].subtask().resolve_delivered)?;
        self.drop_waitable(w);
        Ok(Flow::Ret(Outcome::Ret(0)))
    }

    /// CanonicalABI.md, canon task.return.
    pub(crate) fn canon_task_return(&mut self, t: ThreadId, value: u32) -> Trapping<Flow> {
        self.may_leave(self.instance_of(t))?;
        let task = self.threads[t].task;
        self.trap_if(Rule::TaskReturnAsync, self.tasks[task].func.lift == Lift::Sync)?;
        self.task_return(task, value)?;
        Ok(Flow::Ret(Outcome::Ret(0)))
    }

    /// CanonicalABI.md, canon task.cancel.
    pub(crate) fn canon_task_cancel(&mut self, t: ThreadId) -> Trapping<Flow> {
        self.may_leave(self.instance_of(t))?;
        let task = self.threads[t].task;
        self.trap_if(Rule::TaskCancelAsync, self.tasks[task].func.lift == Lift::Sync)?;
        self.task_cancelled(task)?;
        Ok(Flow::Ret(Outcome::Ret(0)))
    }

    /// CanonicalABI.md, Loading: takes a value out of an instance.
    pub(crate) fn lift_val(&mut self, inst: InstanceId, i: u32, ty: Ty, subtask: Option<WaitableId>) -> Trapping<Val> {
        match ty {
            Ty::U32 => Ok(Val::U32(i)),
            Ty::Own(rt) => {
                let handle = self.resource_at(inst, i, rt)?;
                self.remove_handle(inst, i)?;
                self.trap_if(Rule::OwnLent, handle.num_lends != 0)?;
                self.trap_if(Rule::OwnOwned, !handle.own)?;
                Ok(Val::Own(rt, handle.rep))
            }
            Ty::Borrow(rt) => {
                let handle = self.resource_at(inst, i, rt)?;
                if let (Some(w), true) = (subtask, self.holds(Rule::LendCount)) {
                    self.waitables[w].subtask_mut().lenders.push(i);
                    self.resource_mut(inst, i).num_lends += 1;
                }
                Ok(Val::Borrow(rt, handle.rep))
            }
            Ty::End(t) => {
                let w = self.waitable_at(inst, i)?;
                let WaitableKind::End(end) = self.waitables[w].kind else { return Err(Rule::Handle) };
                if end.side != Side::Read || end.t.kind != t.kind {
                    return Err(Rule::Handle);
                }
                self.remove_handle(inst, i)?;
                self.trap_if(Rule::TransferElem, end.t != t)?;
                self.trap_if(Rule::TransferIdle, end.state != CopyState::Idle)?;
                self.trap_if(Rule::TransferNotInSet, self.waitables[w].set.is_some())?;
                self.drop_waitable(w);
                self.shared[end.shared].ends[Side::Read.index()] = None;
                Ok(Val::End(end.t, end.shared))
            }
        }
    }

    /// CanonicalABI.md, Storing: puts a value into an instance.
    pub(crate) fn lower_val(&mut self, inst: InstanceId, val: Val, task: Option<TaskId>) -> Trapping<u32> {
        match val {
            Val::U32(value) => Ok(value),
            Val::Own(rt, rep) => self.add_handle(inst, Entry::Resource(ResourceHandle::own(rt, rep))),
            Val::Borrow(rt, rep) if rt == inst && self.holds(Rule::BorrowInImplementer) => Ok(rep),
            Val::Borrow(rt, rep) => {
                if let (Some(task), true) = (task, self.holds(Rule::BorrowCount)) {
                    self.tasks[task].num_borrows += 1;
                }
                let handle = ResourceHandle { rt, rep, own: false, scope: task, num_lends: 0 };
                self.add_handle(inst, Entry::Resource(handle))
            }
            Val::End(t, shared) => self.end_add(inst, t, Side::Read, shared),
        }
    }
}

/// What `canon lower` needs to know when the callee has given way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallSite {
    /// How it was called.
    pub mode: Mode,
    /// Where an unresolved subtask goes.
    pub sub: Slot,
    /// Where the result goes.
    pub ret: Slot,
}

impl CallSite {
    /// Where the results of calls go that nobody wants.
    pub const NOWHERE: Slot = Slot::MAX;
}
