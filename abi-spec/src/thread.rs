//! Threads: where each one is in its script, and where it is parked.
//! There are no stacks to switch: a thread that blocks leaves a `Park`, which says how it goes on, and an `Until`, which
//! says when. Conditions are evaluated again whenever they are asked; nothing is latched.
//! Knows nothing of the order in which ready threads run: that is the chooser's.

use std::sync::Arc;

use crate::elem::{InstanceId, Ty};
use crate::op::{BLOCKED, EventCode, Leave, Op, Outcome, Record, Target};
use crate::profile::{Quirk, Rule, WhenReady};
use crate::program::{Func, Lift};
use crate::sched::{Choice, Cx};
use crate::table::{SetId, TaskId, ThreadId, WaitableId};
use crate::task::TaskState;
use crate::world::{Flow, Frame, Trapping, World};

/// How a parked thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Park {
    /// Begins.
    Start,
    /// Enters its instance, or is cancelled before it could.
    Enter,
    /// Returns the result of a synchronous call.
    SyncLower(WaitableId),
    /// Returns the event of a synchronous copy.
    Copy(WaitableId),
    /// Returns the end of a call that it cancels synchronously.
    SubtaskCancel(WaitableId),
    /// Returns an event of the set.
    SetWait(SetId),
    /// Calls the callback with an event of the set.
    CallbackWait(SetId),
    /// Calls the callback with no event.
    CallbackYield,
    /// Returns whether it was cancelled.
    Switch,
    /// Goes on with the host's next operation.
    HostTurn,
}

/// When a waiting thread is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Until {
    /// At once.
    Now,
    /// When its task may start.
    Admitted,
    /// When the subtask is resolved.
    Resolved(WaitableId),
    /// When the waitable has an event.
    Event(WaitableId),
    /// When something in the set has an event.
    SetEvent(SetId),
    /// When no thread of the instance is exclusive.
    NoExclusive,
    /// Both.
    SetEventNoExclusive(SetId),
    /// When the host has opened the gate.
    Gate(u8),
}

/// CanonicalABI.md, Threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ThreadState {
    /// Runs, or has called somebody who does.
    Running,
    /// Runs again when somebody says so.
    Suspended(Park),
    /// Runs again after its condition has come to hold.
    Waiting(Park, Until),
}

/// A thread of a task.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Thread {
    /// Whose.
    pub task: TaskId,
    /// Whether it runs.
    pub state: ThreadState,
    /// It may be told of a cancellation where it is parked.
    pub cancellable: bool,
    /// Its index in the instance's table of threads.
    pub index: Option<u32>,
    /// `context.{get,set}`.
    pub context: [u32; 2],
    /// What it runs; a destructor may have nothing to run.
    pub script: Option<u8>,
    /// The next operation.
    pub pc: u32,
    /// The how manieth body of its instance it is.
    pub run: u32,
    /// Made by `thread.new-indirect`.
    pub explicit: bool,
    /// A script of the host: it gives way after each operation.
    pub host_script: bool,
    /// Has returned and runs its `post-return`.
    pub post_return: bool,
}

impl Thread {
    /// One that has not run yet.
    pub fn new(task: TaskId, script: Option<u8>, explicit: bool) -> Thread {
        Thread {
            task,
            state: ThreadState::Suspended(Park::Start),
            cancellable: false,
            index: None,
            context: [0; 2],
            script,
            pc: 0,
            run: 0,
            explicit,
            host_script: false,
            post_return: false,
        }
    }
}

impl World {
    /// The instance that the thread runs in.
    pub fn instance_of(&self, t: ThreadId) -> InstanceId {
        self.tasks[self.threads[t].task].func.inst
    }

    /// `Thread.ready`.
    pub fn is_ready(&self, t: ThreadId) -> bool {
        match self.threads[t].state {
            ThreadState::Waiting(Park::HostTurn, _) => self.may_begin(t),
            ThreadState::Waiting(_, until) => self.has_come(t, until),
            ThreadState::Running | ThreadState::Suspended(_) => false,
        }
    }

    /// Whether a script of the host may begin its next operation; or end, if the log says that the last one is over.
    pub(crate) fn may_begin(&self, t: ThreadId) -> bool {
        let thread = &self.threads[t];
        let ends = thread.script.and_then(|script| self.code.program.op(script, thread.pc)).is_none();
        let wanted = if ends { 2 * thread.pc } else { 2 * thread.pc + 1 };
        let marks = |marks: &Arc<[u32]>| marks.get(thread.run as usize - 1).copied();
        self.marks.as_ref().and_then(marks).is_none_or(|marks| wanted <= marks)
    }

    fn has_come(&self, t: ThreadId, until: Until) -> bool {
        let free =
            |inst: InstanceId| self.instances[inst.index()].exclusive.is_none() || !self.holds(Rule::ExclusiveRetaken);
        match until {
            Until::Now => true,
            Until::Admitted => !self.has_backpressure(self.threads[t].task),
            Until::Resolved(w) => self.waitables[w].subtask().state.resolved(),
            Until::Event(w) => self.has_event(w),
            Until::SetEvent(set) => self.set_has_event(set),
            Until::NoExclusive => free(self.instance_of(t)),
            Until::SetEventNoExclusive(set) => free(self.instance_of(t)) && self.set_has_event(set),
            Until::Gate(gate) => self.gates & 1u32.wrapping_shl(u32::from(gate)) != 0,
        }
    }

    /// Threads that could run now, longest waiting first.
    pub fn ready(&self) -> Vec<ThreadId> {
        self.arrivals.iter().filter(|&t| self.is_ready(t)).collect()
    }

    /// `Task.deliver_pending_cancel`.
    pub(crate) fn deliver_pending_cancel(&mut self, t: ThreadId, cancellable: bool) -> bool {
        let task = self.threads[t].task;
        let cancellable = cancellable || !self.holds(Rule::CancellableOnly);
        let pending = self.tasks[task].state == TaskState::PendingCancel && self.holds(Rule::PendingCancelFirst);
        if cancellable && pending {
            self.tasks[task].state = TaskState::CancelDelivered;
        }
        cancellable && pending
    }

    /// `Thread.suspend` and `Thread.wait_until`: the running thread stops here, unless it need not.
    pub(crate) fn block(
        &mut self,
        cx: &mut Cx<'_>,
        t: ThreadId,
        at: Park,
        until: Option<Until>,
        cancellable: bool,
    ) -> Trapping<Flow> {
        if self.deliver_pending_cancel(t, cancellable) {
            return self.go_on(cx, t, at, true);
        }
        if until.is_some_and(|until| self.has_come(t, until)) && self.goes_on(cx) {
            return self.go_on(cx, t, at, false);
        }
        let task = &self.tasks[self.threads[t].task];
        let synchronous = !task.func.is_async && task.state != TaskState::Resolved;
        if synchronous && self.profile.quirks.has(Quirk::EagerCannotBlock) {
            return Err(Rule::CannotBlock);
        }
        self.park(t, at, until, cancellable);
        Ok(Flow::Away)
    }

    fn goes_on(&self, cx: &mut Cx<'_>) -> bool {
        match self.profile.when_ready {
            WhenReady::Either => cx.pick(Choice::GoOn, 2) == 0,
            WhenReady::Block => false,
            WhenReady::GoOn => true,
        }
    }

    /// The running thread gives way to whoever resumed it.
    pub(crate) fn park(&mut self, t: ThreadId, at: Park, until: Option<Until>, cancellable: bool) {
        let thread = &mut self.threads[t];
        thread.cancellable = cancellable;
        match until {
            None => thread.state = ThreadState::Suspended(at),
            Some(until) => {
                thread.state = ThreadState::Waiting(at, until);
                self.arrivals.push(t);
            }
        }
        self.stack.pop();
    }

    /// `Thread.resume`: the thread runs on top of whoever runs now.
    pub(crate) fn resume(&mut self, cx: &mut Cx<'_>, t: ThreadId, cancelled: bool) -> Trapping<()> {
        let at = match self.threads[t].state {
            ThreadState::Suspended(at) | ThreadState::Waiting(at, _) => at,
            ThreadState::Running => unreachable!("a running thread was resumed"),
        };
        self.arrivals.remove(t);
        self.threads[t].state = ThreadState::Running;
        self.threads[t].cancellable = false;
        self.stack.push(Frame::Thread(t));
        let flow = self.go_on(cx, t, at, cancelled)?;
        self.complete(cx, t, flow)
    }

    /// What comes after a block.
    fn go_on(&mut self, cx: &mut Cx<'_>, t: ThreadId, at: Park, cancelled: bool) -> Trapping<Flow> {
        match at {
            Park::Start if self.threads[t].explicit => {
                self.begin(cx, t, Vec::new());
                Ok(Flow::Away)
            }
            Park::Start => self.enter_implicit_thread(cx, t),
            Park::Enter => self.entered(cx, t, cancelled),
            Park::SyncLower(w) => Ok(Flow::Ret(self.sync_result(w))),
            Park::Copy(w) | Park::SubtaskCancel(w) => {
                self.waitables[w].sync_waiter = false;
                Ok(Flow::Ret(Outcome::Ret(self.deliver(w).2)))
            }
            Park::SetWait(set) => Ok(Flow::Ret(self.waited(cx, set, cancelled))),
            Park::CallbackWait(set) => {
                let event = self.waited(cx, set, cancelled);
                self.retake_exclusive(t);
                Ok(Flow::Ret(event))
            }
            Park::CallbackYield => {
                self.retake_exclusive(t);
                Ok(Flow::Ret(if cancelled { CANCELLED } else { Outcome::Event(EventCode::None as u32, 0, 0) }))
            }
            Park::Switch => Ok(Flow::Ret(Outcome::Ret(u32::from(cancelled)))),
            Park::HostTurn => Ok(Flow::Away),
        }
    }

    /// The end of waiting to start.
    fn entered(&mut self, cx: &mut Cx<'_>, t: ThreadId, cancelled: bool) -> Trapping<Flow> {
        let inst = self.instance_of(t);
        self.instances[inst.index()].num_waiting_to_enter -= 1;
        if !cancelled {
            return self.admit(cx, t);
        }
        let task = self.threads[t].task;
        self.task_cancelled(task)?;
        self.thread_gone(t);
        Ok(Flow::Away)
    }

    fn waited(&mut self, cx: &mut Cx<'_>, set: SetId, cancelled: bool) -> Outcome {
        let event = if cancelled { CANCELLED } else { self.set_event(cx, set) };
        self.sets[set].num_waiting -= 1;
        event
    }

    fn retake_exclusive(&mut self, t: ThreadId) {
        let inst = self.instance_of(t);
        self.instances[inst.index()].exclusive = Some(t);
    }

    /// Logs what an operation of `t` returned, if it has.
    pub(crate) fn complete(&mut self, cx: &mut Cx<'_>, t: ThreadId, flow: Flow) -> Trapping<()> {
        let Flow::Ret(outcome) = flow else { return Ok(()) };
        let thread = &self.threads[t];
        let (run, at, host_script) = (thread.run, thread.pc.saturating_sub(1), thread.host_script);
        cx.log.push(Record { inst: self.instance_of(t), run, at, outcome });
        if host_script {
            self.park(t, Park::HostTurn, Some(Until::Now), false);
        }
        Ok(())
    }

    /// A body begins: its instance counts it, and it sees its arguments.
    pub(crate) fn begin(&mut self, cx: &mut Cx<'_>, t: ThreadId, args: Vec<u32>) {
        let inst = self.instance_of(t);
        let Some(script) = self.threads[t].script else { return };
        self.instances[inst.index()].bodies.push(script);
        let run = self.instances[inst.index()].bodies.len() as u32;
        self.threads[t].run = run;
        cx.log.push(Record { inst, run, at: 0, outcome: Outcome::Start(args) });
    }

    /// `Task.register_thread`.
    pub(crate) fn register_thread(&mut self, t: ThreadId) {
        let inst = self.instance_of(t);
        let task = self.threads[t].task;
        self.tasks[task].threads.push(t);
        let i = self.instances[inst.index()].threads.add(t);
        self.threads[t].index = Some(i);
    }

    /// `Task.unregister_thread`. The thread is gone afterwards.
    pub(crate) fn unregister_thread(&mut self, t: ThreadId) -> Trapping<()> {
        let task = self.threads[t].task;
        self.tasks[task].threads.retain(|&other| other != t);
        let last = self.tasks[task].threads.is_empty();
        self.trap_if(Rule::ThreadsResolve, last && self.tasks[task].state != TaskState::Resolved)?;
        let inst = self.instance_of(t);
        if let Some(i) = self.threads[t].index {
            self.instances[inst.index()].threads.remove(i);
        }
        self.thread_gone(t);
        Ok(())
    }

    /// `Task.exit_implicit_thread`.
    pub(crate) fn exit_implicit_thread(&mut self, t: ThreadId) -> Trapping<()> {
        let task = self.threads[t].task;
        let inst = self.instance_of(t);
        let exclusive = self.needs_exclusive(&self.tasks[task]) && self.holds(Rule::ExclusiveUntilExit);
        self.unregister_thread(t)?;
        if exclusive {
            self.instances[inst.index()].exclusive = None;
        }
        Ok(())
    }

    /// The running thread has ended.
    fn thread_gone(&mut self, t: ThreadId) {
        let task = self.threads[t].task;
        self.stack.pop();
        self.threads.remove(t.0);
        self.release_task(task);
    }

    /// Forgets a task that nothing can ask about any more.
    pub(crate) fn release_task(&mut self, task: TaskId) {
        let over = self.tasks[task].state == TaskState::Resolved && self.tasks[task].threads.is_empty();
        let asked = self.stack.iter().any(|frame| matches!(frame, Frame::Lift { task: asked, .. } if *asked == task));
        if over && !asked {
            self.tasks.remove(task.0);
        }
    }

    /// One operation of the running thread, or the end of its body.
    pub(crate) fn thread_step(&mut self, cx: &mut Cx<'_>, t: ThreadId) -> Trapping<()> {
        let thread = &mut self.threads[t];
        let op = thread.script.and_then(|script| self.code.program.op(script, thread.pc));
        let Some(op) = op else { return self.body_end(t) };
        thread.pc += 1;
        let flow = match thread.host_script && self.profile.quirks.has(Quirk::HostBeside) {
            true => self.host_op(cx, t, op),
            false => self.op(cx, t, op)?,
        };
        self.complete(cx, t, flow)
    }

    /// `Quirk::HostBeside`: what the host may not do it does not do, and what it gives away it has no more.
    fn host_op(&mut self, cx: &mut Cx<'_>, t: ThreadId, op: Op) -> Flow {
        let given = self.host_gives(op);
        let before = self.clone();
        let seen = cx.log.len();
        match given.and_then(|given| Ok((given, self.op(cx, t, op)?))) {
            // Each operation is a turn, whether it shows something or not.
            Ok((_, Flow::Away)) if matches!(op, Op::Store { .. }) => Flow::Ret(Outcome::Ret(0)),
            Ok((given, flow)) => {
                let slots = &mut self.instances[InstanceId::HOST.index()].slots;
                slots.iter_mut().filter(|slot| given.contains(slot)).for_each(|slot| *slot = 0);
                flow
            }
            Err(_) => {
                *self = before;
                cx.log.truncate(seen);
                Flow::Ret(Outcome::Ret(0))
            }
        }
    }

    /// The handles that a call of the host gives away, whenever it may start.
    fn host_gives(&self, op: Op) -> Trapping<Vec<u32>> {
        let Op::Call { func, args, .. } = op else { return Ok(Vec::new()) };
        let func = self.code.program.funcs.get(usize::from(func)).ok_or(Rule::Handle)?;
        let mut trial = self.clone();
        let mut given = Vec::new();
        for ((ty, _), arg) in func.params.into_iter().flatten().zip(args) {
            let value = self.arg(InstanceId::HOST, arg);
            trial.lift_val(InstanceId::HOST, value, ty, None)?;
            if ty != Ty::U32 {
                given.push(value);
            }
        }
        Ok(given)
    }

    /// The body of `t` has no more operations.
    fn body_end(&mut self, t: ThreadId) -> Trapping<()> {
        let task = self.threads[t].task;
        if self.threads[t].explicit {
            return self.unregister_thread(t);
        }
        if self.tasks[task].func.lift == Lift::Sync && !self.threads[t].post_return {
            self.task_return(task, 0)?;
        }
        if self.threads[t].post_return {
            let inst = self.instance_of(t);
            self.instances[inst.index()].may_leave = true;
        }
        self.exit_implicit_thread(t)
    }

    /// CanonicalABI.md, canon lift: a synchronous body returns; the rest of its list is its `post-return`.
    pub(crate) fn body_return(&mut self, t: ThreadId, value: u32) -> Trapping<Flow> {
        let task = self.threads[t].task;
        if self.is_destructor(task) {
            return Ok(self.body_exit(t));
        }
        let implicit = !self.threads[t].explicit && self.tasks[task].func.lift == Lift::Sync;
        if implicit && !self.threads[t].post_return {
            self.task_return(task, value)?;
            self.threads[t].post_return = true;
            let inst = self.instance_of(t);
            self.instances[inst.index()].may_leave = !self.holds(Rule::PostReturnMayNotLeave);
        }
        Ok(Flow::Away)
    }

    /// Destructors have no `post-return`.
    fn is_destructor(&self, task: TaskId) -> bool {
        let func = self.tasks[task].func;
        func == Func::destructor(func.inst, self.code.program.destructor(func.inst))
    }

    /// CanonicalABI.md, canon lift: a callback returns YIELD or WAIT. In other bodies these mean nothing.
    pub(crate) fn callback_code(&mut self, cx: &mut Cx<'_>, t: ThreadId, op: Op) -> Trapping<Flow> {
        let task = self.threads[t].task;
        let inst = self.instance_of(t);
        if self.tasks[task].func.lift != Lift::Callback || self.threads[t].explicit {
            return Ok(Flow::Away);
        }
        if self.holds(Rule::ExclusiveReleased) {
            self.instances[inst.index()].exclusive = None;
        }
        match op {
            Op::YieldCode => self.block(cx, t, Park::CallbackYield, Some(Until::NoExclusive), true),
            Op::WaitCode { set } => {
                let set = self.set_at(inst, self.slot(inst, set))?;
                self.sets[set].num_waiting += 1;
                self.block(cx, t, Park::CallbackWait(set), Some(Until::SetEventNoExclusive(set)), true)
            }
            _ => {
                self.trap_if(Rule::CallbackCode, true)?;
                self.retake_exclusive(t);
                Ok(Flow::Away)
            }
        }
    }

    /// The end of the list comes next.
    pub(crate) fn body_exit(&mut self, t: ThreadId) -> Flow {
        self.threads[t].pc = BLOCKED;
        Flow::Away
    }

    /// CanonicalABI.md, canon thread.new-indirect.
    pub(crate) fn thread_new(&mut self, t: ThreadId, script: u8) -> Trapping<u32> {
        self.may_leave(self.instance_of(t))?;
        let task = self.threads[t].task;
        let new = ThreadId(self.threads.add(Thread::new(task, Some(script), true)));
        self.register_thread(new);
        Ok(self.threads[new].index.unwrap_or(0))
    }

    /// CanonicalABI.md, canon thread.index.
    pub(crate) fn thread_index(&self, t: ThreadId) -> Trapping<u32> {
        self.may_leave(self.instance_of(t))?;
        Ok(self.threads[t].index.unwrap_or(0))
    }

    fn thread_at(&self, inst: InstanceId, i: u32) -> Trapping<ThreadId> {
        self.instances[inst.index()].threads.get(i).copied().ok_or(Rule::Handle)
    }

    /// CanonicalABI.md, canon thread.resume-later.
    pub(crate) fn thread_resume_later(&mut self, inst: InstanceId, i: u32) -> Trapping<Flow> {
        self.may_leave(inst)?;
        let other = self.thread_at(inst, i)?;
        let state = self.threads[other].state;
        self.trap_if(Rule::ResumeSuspended, !matches!(state, ThreadState::Suspended(_)))?;
        if let ThreadState::Suspended(at) = state {
            self.threads[other].state = ThreadState::Waiting(at, Until::Now);
            self.arrivals.push(other);
        }
        Ok(Flow::Ret(Outcome::Ret(0)))
    }

    /// CanonicalABI.md, canon thread.suspend and canon thread.yield.
    pub(crate) fn thread_leave(
        &mut self,
        cx: &mut Cx<'_>,
        t: ThreadId,
        leave: Leave,
        cancellable: bool,
    ) -> Trapping<Flow> {
        self.may_leave(self.instance_of(t))?;
        self.block(cx, t, Park::Switch, self.leave_until(leave), cancellable)
    }

    fn leave_until(&self, leave: Leave) -> Option<Until> {
        match leave {
            Leave::Suspend if self.holds(Rule::SuspendStays) => None,
            Leave::Yield if !self.holds(Rule::YieldIsReady) => None,
            Leave::Suspend | Leave::Yield => Some(Until::Now),
        }
    }

    /// CanonicalABI.md, canon thread.{suspend,yield}-then-{resume,promote}.
    pub(crate) fn thread_switch(
        &mut self,
        cx: &mut Cx<'_>,
        t: ThreadId,
        leave: Leave,
        target: Target,
        cancellable: bool,
        i: u32,
    ) -> Trapping<Flow> {
        let inst = self.instance_of(t);
        self.may_leave(inst)?;
        if self.profile.quirks.has(Quirk::CancelBeforeSwitch) && self.deliver_pending_cancel(t, cancellable) {
            return Ok(Flow::Ret(Outcome::Ret(1)));
        }
        let other = self.thread_at(inst, i)?;
        let suspended = matches!(self.threads[other].state, ThreadState::Suspended(_));
        self.trap_if(Rule::SwitchSuspended, target == Target::Resume && !suspended)?;
        if self.deliver_pending_cancel(t, cancellable) {
            return Ok(Flow::Ret(Outcome::Ret(1)));
        }
        let parked = self.threads[other].state != ThreadState::Running;
        let switches = match target {
            Target::Resume => parked,
            Target::Promote => self.is_ready(other) || parked && !self.holds(Rule::PromoteReady),
        };
        if !switches {
            return self.block(cx, t, Park::Switch, self.leave_until(leave), cancellable);
        }
        self.park(t, Park::Switch, self.leave_until(leave), cancellable);
        self.resume(cx, other, false)?;
        Ok(Flow::Away)
    }
}

/// What a wait returns to a task that is to be cancelled.
const CANCELLED: Outcome = Outcome::Event(EventCode::TaskCancelled as u32, 0, 0);
