//! The machine: everything that is, and the one function that makes it go on.
//! A world is plain data that can be copied, compared and hashed. `advance` does one small step; where the law leaves
//! something open it asks the chooser, so a world and a list of picks determine what happens.
//! Knows nothing of engines, clocks or I/O. The host is instance 0, and its scripts are threads like others.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::elem::InstanceId;
use crate::ext::Extension;
pub use crate::instance::{Entry, Instance, ResourceHandle};
use crate::op::{Arg, Mode, Op, Outcome, Record};
use crate::profile::{Profile, Quirk, Rule};
use crate::program::Program;
use crate::sched::{Choice, Cx};
use crate::stream::Shared;
use crate::table::{SharedId, Table, TaskId, ThreadId, WaitableId};
use crate::task::{CallSite, Task, TaskState};
use crate::thread::{Park, Thread, ThreadState, Until};
use crate::waitable::{Waitable, WaitableSet};

/// Bytes of an instance's memory.
pub const MEMORY: usize = 64;

/// What a rule lets through; the error is the rule that was broken.
pub type Trapping<T> = Result<T, Rule>;

/// What an operation did to its thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It returned.
    Ret(Outcome),
    /// It shows nothing now: the thread is parked, or somebody else runs first, or there is nothing to show.
    Away,
}

/// Who waits for whom to give way. The last frame runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Frame {
    /// The scheduler has entered this instance.
    Tick(InstanceId),
    /// A thread runs.
    Thread(ThreadId),
    /// A call: the callee runs above, the caller is below.
    Lift {
        /// The callee's side.
        task: TaskId,
        /// The caller's side.
        subtask: WaitableId,
        /// How it was called.
        site: CallSite,
    },
    /// A thread that asks again whether it may enter, when what runs above has given way.
    Enter(ThreadId),
    /// A cancellation: the thread that was told runs above, the canceller is below.
    Cancel {
        /// The callee's and the caller's instance, if the callee's was entered for this.
        entered: Option<(InstanceId, InstanceId)>,
        /// What is cancelled.
        subtask: WaitableId,
        /// How.
        mode: Mode,
    },
}

/// What never changes during a run.
#[derive(Clone)]
pub struct Code {
    /// The guests and the host.
    pub program: Program,
    /// What a researcher has added to the law.
    pub extensions: Vec<Arc<dyn Extension>>,
}

/// Waiting threads, in the order in which they began to wait.
///
/// The order is for choosers only. The law doesn't know it, so it doesn't make worlds different.
#[derive(Clone, Debug, Default)]
pub struct Arrivals(Vec<ThreadId>);

impl PartialEq for Arrivals {
    fn eq(&self, _: &Arrivals) -> bool {
        true
    }
}

impl Eq for Arrivals {}

impl Hash for Arrivals {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Arrivals {
    pub(crate) fn iter(&self) -> impl Iterator<Item = ThreadId> + '_ {
        self.0.iter().copied()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut ThreadId> {
        self.0.iter_mut()
    }

    pub(crate) fn push(&mut self, t: ThreadId) {
        self.0.push(t);
    }

    pub(crate) fn remove(&mut self, t: ThreadId) {
        self.0.retain(|&other| other != t);
    }
}

/// Whether there was something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A step was done.
    Ran,
    /// Nobody can run.
    Idle,
}

/// How a run has ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    /// All threads have ended.
    Done,
    /// Nobody can run, but these wait: their instance, the number of their body, and where in it.
    Stuck(Vec<(InstanceId, u32, u32)>),
    /// A rule was broken.
    Trapped(Rule),
}

/// All state.
#[derive(Clone)]
pub struct World {
    pub(crate) code: Arc<Code>,
    pub(crate) profile: Profile,
    /// Component instances; 0 is the host.
    pub instances: Vec<Instance>,
    /// Tasks.
    pub tasks: Table<Task>,
    /// Threads.
    pub threads: Table<Thread>,
    /// Subtasks and ends.
    pub waitables: Table<Waitable>,
    /// Waitable sets.
    pub sets: Table<WaitableSet>,
    /// Streams and futures.
    pub shared: Table<Shared>,
    /// Gates that are open.
    pub gates: u32,
    /// Where extensions keep what they know of a stream or future.
    pub notes: BTreeMap<(u8, SharedId), Vec<u32>>,
    pub(crate) stack: Vec<Frame>,
    pub(crate) arrivals: Arrivals,
    /// For each script of the host how often the log has said that it began an operation or ended it; nothing if it doesn't say.
    pub(crate) marks: Option<Arc<[u32]>>,
    /// The rule that ended the run.
    pub trapped: Option<Rule>,
}

impl World {
    /// The program before its first step: every host script is ready. One that names instances it doesn't have has trapped.
    pub fn new(profile: Profile, code: Arc<Code>) -> World {
        let trapped = (!code.program.is_closed()).then_some(Rule::Handle);
        let parents = code.program.parents.iter().copied();
        let instances = (0..).map(InstanceId).zip(parents).map(|(id, parent)| Instance::new(id, parent)).collect();
        let mut world = World {
            code,
            profile,
            instances,
            tasks: Table::default(),
            threads: Table::default(),
            waitables: Table::default(),
            sets: Table::default(),
            shared: Table::default(),
            gates: 0,
            notes: BTreeMap::new(),
            stack: Vec::new(),
            arrivals: Arrivals::default(),
            marks: None,
            trapped,
        };
        let host = if trapped.is_some() { Vec::new() } else { world.code.program.host.clone() };
        for script in host {
            world.start_host_script(script);
        }
        world
    }

    fn start_host_script(&mut self, script: u8) {
        let (task, t) = self.task_new(crate::program::Func::host_script(script));
        self.tasks[task].state = TaskState::Resolved;
        self.register_thread(t);
        let host = &mut self.instances[InstanceId::HOST.index()];
        host.bodies.push(script);
        let run = host.bodies.len() as u32;
        let thread = &mut self.threads[t];
        thread.run = run;
        thread.host_script = true;
        thread.state = ThreadState::Waiting(Park::HostTurn, Until::Now);
        self.arrivals.push(t);
    }

    /// What is run.
    pub fn program(&self) -> &Program {
        &self.code.program
    }

    /// The law in force.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Whether the rule is in force.
    pub fn holds(&self, rule: Rule) -> bool {
        self.profile.holds(rule)
    }

    /// Traps if the rule is broken, unless the profile doesn't have it.
    pub fn trap_if(&self, rule: Rule, broken: bool) -> Trapping<()> {
        if broken && self.holds(rule) { Err(rule) } else { Ok(()) }
    }

    /// One small step: an operation, or the rest of a call or cancellation, or the choice of who runs next.
    pub fn advance(&mut self, cx: &mut Cx<'_>) -> Progress {
        if self.trapped.is_some() {
            return Progress::Idle;
        }
        match self.step(cx) {
            Ok(progress) => progress,
            Err(rule) => {
                cx.log.push(self.trap_record(rule));
                self.trapped = Some(rule);
                Progress::Ran
            }
        }
    }

    fn step(&mut self, cx: &mut Cx<'_>) -> Trapping<Progress> {
        match self.stack.last().copied() {
            None => return self.tick(cx),
            Some(Frame::Thread(t)) => match self.host_beside(cx, t) {
                Some(host) => self.resume(cx, host, false)?,
                None => self.thread_step(cx, t)?,
            },
            Some(Frame::Lift { task, subtask, site }) => self.lift_returned(cx, task, subtask, site)?,
            Some(Frame::Enter(t)) => {
                self.stack.pop();
                self.resume(cx, t, false)?;
            }
            Some(Frame::Cancel { entered, subtask, mode }) => {
                self.stack.pop();
                if let Some((inst, caller)) = entered {
                    self.leave_to(inst, Some(caller));
                }
                self.cancel_returned(cx, subtask, mode)?;
            }
            Some(Frame::Tick(inst)) => {
                self.stack.pop();
                self.leave_to(inst, None);
            }
        }
        Ok(Progress::Ran)
    }

    /// CanonicalABI.md, Embedding, `Store.tick`: which ready thread runs is open.
    fn tick(&mut self, cx: &mut Cx<'_>) -> Trapping<Progress> {
        let ready = self.ready();
        let Some(&t) = ready.get(cx.pick(Choice::Thread(&ready), ready.len())) else {
            return Ok(Progress::Idle);
        };
        let inst = self.instance_of(t);
        self.set_entered(inst, None, true);
        self.stack.push(Frame::Tick(inst));
        self.resume(cx, t, false)?;
        Ok(Progress::Ran)
    }

    /// `Quirk::HostBeside`: a script of the host that goes on before the guest's thread does.
    fn host_beside(&self, cx: &mut Cx<'_>, running: ThreadId) -> Option<ThreadId> {
        if !self.profile.quirks.has(Quirk::HostBeside) || self.instance_of(running) == InstanceId::HOST {
            return None;
        }
        let enters = |op: Op| matches!(op, Op::Call { .. } | Op::SubtaskCancel { .. });
        let stays_outside = |t: &ThreadId| {
            let thread = &self.threads[*t];
            let next = thread.script.and_then(|script| self.code.program.op(script, thread.pc));
            let turn = matches!(thread.state, ThreadState::Waiting(Park::HostTurn, _));
            thread.host_script && !(turn && next.is_some_and(enters))
        };
        let hosts: Vec<ThreadId> = self.ready().into_iter().filter(stays_outside).collect();
        let pick = cx.pick(Choice::Host(&hosts), hosts.len() + 1);
        pick.checked_sub(1).map(|at| hosts[at])
    }

    /// Whether nobody runs, so that the next step is a choice of the scheduler.
    pub fn between_turns(&self) -> bool {
        self.stack.is_empty()
    }

    /// Whether this script of the host, counted from 1, has ended its operations before `at`, and no other.
    pub(crate) fn host_script_is_at(&self, run: u32, at: u32) -> bool {
        let own = |thread: &Thread| thread.host_script && thread.run == run;
        self.threads
            .iter()
            .filter(|(_, thread)| own(thread))
            .all(|(_, thread)| thread.pc == at && matches!(thread.state, ThreadState::Waiting(Park::HostTurn, _)))
    }

    /// The log says that this script of the host began an operation or ended it.
    pub(crate) fn host_marks(&mut self, run: u32, mark: u32) {
        if let Some(marks) = self.marks.as_mut().and_then(|marks| Arc::make_mut(marks).get_mut(run as usize - 1)) {
            *marks = mark;
        }
    }

    /// Whether no script of the host waits for the log to say that its next operation begins, unless a trap has ended all.
    pub(crate) fn host_is_where_the_log_says(&self) -> bool {
        let held_back = |(id, thread): (u32, &Thread)| {
            matches!(thread.state, ThreadState::Waiting(Park::HostTurn, _)) && !self.may_begin(ThreadId(id))
        };
        self.trapped.is_some() || !self.threads.iter().any(held_back)
    }

    fn trap_record(&self, rule: Rule) -> Record {
        let thread = self.stack.iter().rev().find_map(|frame| match frame {
            Frame::Thread(t) => self.threads.get(t.0).map(|thread| (*t, thread)),
            _ => None,
        });
        let outcome = Outcome::Trap(rule);
        match thread {
            Some((t, thread)) => {
                Record { inst: self.instance_of(t), run: thread.run, at: thread.pc.saturating_sub(1), outcome }
            }
            None => Record { inst: InstanceId::HOST, run: 0, at: 0, outcome },
        }
    }

    /// The operation that broke a rule, if one did.
    pub fn trapped_op(&self) -> Option<Op> {
        let thread = self.trapped_thread()?;
        self.code.program.op(thread.script?, thread.pc.checked_sub(1)?)
    }

    /// What is wrong with a return whatever is returned, if that is the operation that broke a rule: which of them, and of those that
    /// the value breaks, is found first is nobody's concern but that of the message.
    pub fn wrong_return(&self) -> Vec<Rule> {
        let returns = matches!(self.trapped_op(), Some(Op::TaskReturn { .. } | Op::Resolve { .. } | Op::Return { .. }));
        let Some(thread) = self.trapped_thread().filter(|_| returns) else { return Vec::new() };
        let task = &self.tasks[thread.task];
        let faults =
            [(Rule::ReturnOnce, task.state == TaskState::Resolved), (Rule::ReturnBorrows, task.num_borrows > 0)];
        faults.into_iter().filter(|(_, wrong)| *wrong).map(|(rule, _)| rule).collect()
    }

    fn trapped_thread(&self) -> Option<&Thread> {
        self.trapped?;
        self.stack.iter().rev().find_map(|frame| match frame {
            Frame::Thread(t) => self.threads.get(t.0),
            _ => None,
        })
    }

    /// How the run has ended, if nobody can run any more.
    pub fn ending(&self) -> Ending {
        if let Some(rule) = self.trapped {
            return Ending::Trapped(rule);
        }
        if self.threads.is_empty() {
            return Ending::Done;
        }
        let place =
            |(id, thread): (u32, &Thread)| (self.instance_of(ThreadId(id)), thread.run, thread.pc.saturating_sub(1));
        let mut stuck: Vec<_> = self.threads.iter().map(place).collect();
        stuck.sort_unstable();
        Ending::Stuck(stuck)
    }

    /// The running thread executes one operation.
    pub(crate) fn op(&mut self, cx: &mut Cx<'_>, t: ThreadId, op: Op) -> Trapping<Flow> {
        let inst = self.instance_of(t);
        match op {
            Op::New { t, r, w } => {
                let (ri, wi) = self.ends_new(inst, t)?;
                self.set_slot(inst, r, ri);
                self.set_slot(inst, w, wi);
                Ok(Flow::Ret(Outcome::Ends(ri, wi)))
            }
            Op::Copy { t: ty, side, mode, end, ptr, n } => {
                self.copy(cx, t, ty, side, mode, self.slot(inst, end), ptr, n)
            }
            Op::CancelCopy { t, side, mode, end } => self.cancel_copy(inst, t, side, mode, self.slot(inst, end)),
            Op::DropEnd { t, side, end } => self.drop_end(inst, t, side, self.slot(inst, end)),
            Op::SetNew { set } => {
                let (i, flow) = self.waitable_set_new(inst)?;
                self.set_slot(inst, set, i);
                Ok(flow)
            }
            Op::SetWait { set, cancellable } => self.waitable_set_wait(cx, t, self.slot(inst, set), cancellable),
            Op::SetPoll { set, cancellable } => self.waitable_set_poll(cx, t, self.slot(inst, set), cancellable),
            Op::SetDrop { set } => self.waitable_set_drop(inst, self.slot(inst, set)),
            Op::Join { waitable, set } => self.waitable_join(inst, self.slot(inst, waitable), self.arg(inst, set)),
            Op::Call { func, mode, args, sub, ret } => self.call(cx, t, func, args, CallSite { mode, sub, ret }),
            Op::SubtaskCancel { mode, sub } => self.subtask_cancel(cx, t, mode, self.slot(inst, sub)),
            Op::SubtaskDrop { sub } => self.subtask_drop(inst, self.slot(inst, sub)),
            Op::TaskReturn { value } => self.canon_task_return(t, self.arg(inst, value)),
            Op::TaskCancel => self.canon_task_cancel(t),
            Op::Resolve { value } => match self.tasks[self.threads[t].task].state {
                TaskState::CancelDelivered => self.canon_task_cancel(t),
                _ => self.canon_task_return(t, self.arg(inst, value)),
            },
            Op::BackpressureInc => self.backpressure(inst, true),
            Op::BackpressureDec => self.backpressure(inst, false),
            Op::ContextGet { i } => Ok(Flow::Ret(Outcome::Ret(self.context(t)[usize::from(i & 1)]))),
            Op::ContextSet { i, value } => {
                self.context(t)[usize::from(i & 1)] = self.arg(inst, value);
                Ok(Flow::Ret(Outcome::Ret(0)))
            }
            Op::ResourceNew { rep, handle } => {
                let i = self.resource_new(inst, rep)?;
                self.set_slot(inst, handle, i);
                Ok(Flow::Ret(Outcome::Ret(i)))
            }
            Op::ResourceRep { handle } => self.resource_rep(inst, self.slot(inst, handle)),
            Op::ResourceDrop { rt, handle } => self.resource_drop(cx, t, rt, self.slot(inst, handle)),
            Op::ThreadNew { script, thread } => {
                let i = self.thread_new(t, script)?;
                self.set_slot(inst, thread, i);
                Ok(Flow::Ret(Outcome::Ret(i)))
            }
            Op::ThreadIndex { thread } => {
                let i = self.thread_index(t)?;
                self.set_slot(inst, thread, i);
                Ok(Flow::Ret(Outcome::Ret(i)))
            }
            Op::ThreadResumeLater { thread } => self.thread_resume_later(inst, self.slot(inst, thread)),
            Op::ThreadSuspend { cancellable } => self.thread_leave(cx, t, crate::op::Leave::Suspend, cancellable),
            Op::ThreadYield { cancellable } => self.thread_leave(cx, t, crate::op::Leave::Yield, cancellable),
            Op::ThreadSwitch { leave, target, cancellable, thread } => {
                self.thread_switch(cx, t, leave, target, cancellable, self.slot(inst, thread))
            }
            Op::Return { value } => self.body_return(t, self.arg(inst, value)),
            Op::Exit => Ok(self.body_exit(t)),
            Op::YieldCode | Op::WaitCode { .. } | Op::BadCode => self.callback_code(cx, t, op),
            Op::Store { ptr, value } => {
                self.store_u32(inst, ptr, self.arg(inst, value));
                Ok(Flow::Away)
            }
            Op::Load { ptr } => Ok(Flow::Ret(Outcome::Ret(self.load_u32(inst, ptr)))),
            Op::GateWait { gate } => self.block(cx, t, Park::Switch, Some(Until::Gate(gate)), true),
            Op::GateOpen { gate } => {
                self.gates |= 1u32.wrapping_shl(u32::from(gate));
                Ok(Flow::Ret(Outcome::Ret(0)))
            }
            Op::Ext { ext, args } => {
                let code = self.code.clone();
                let extension = code.extensions.get(usize::from(ext)).ok_or(Rule::Handle)?;
                extension.op(self, inst, args.map(|arg| self.arg(inst, arg)))
            }
        }
    }

    fn call(
        &mut self,
        cx: &mut Cx<'_>,
        t: ThreadId,
        func: u8,
        args: [Arg; crate::op::PARAMS_MAX],
        site: CallSite,
    ) -> Trapping<Flow> {
        let inst = self.instance_of(t);
        let func = *self.code.program.funcs.get(usize::from(func)).ok_or(Rule::Handle)?;
        let args = args.map(|arg| self.arg(inst, arg));
        self.canon_lower(cx, t, func, args, site)
    }
}

/// The parts of a world that make it this one and no other.
impl World {
    #[expect(clippy::type_complexity, reason = "only compared and hashed")]
    fn state(
        &self,
    ) -> (
        &[Instance],
        (&Table<Task>, &Table<Thread>, &Table<Waitable>, &Table<WaitableSet>, &Table<Shared>),
        (u32, &BTreeMap<(u8, SharedId), Vec<u32>>, &[Frame], Option<Rule>),
    ) {
        (
            &self.instances,
            (&self.tasks, &self.threads, &self.waitables, &self.sets, &self.shared),
            (self.gates, &self.notes, &self.stack, self.trapped),
        )
    }
}

impl PartialEq for World {
    fn eq(&self, other: &World) -> bool {
        self.state() == other.state()
    }
}

impl Eq for World {}

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.state().hash(hasher);
    }
}
