//! Tasks and subtasks (CanonicalABI.md, "Tasks", "Subtask State", `canon lift`, `canon lower`).
//!
//! A call that returns at once never comes here: shims run it. A task becomes the host's when it blocks (`promote`), when it
//! must wait at its instance's gate (`admit`), or when the host itself calls. From then on `Run` says what it waits for and
//! the pump's `next` resumes it. A task that waits in its callback needs no stack; one that waits in the middle of its code has
//! a thread as well, and `thread` knows of that.

use super::cx::{FlatSink, LiftCx, LowerCx, Memories};
use super::record::Record;
use super::state::{Ready, State};
use super::table::{EventCode, Kind, NONE, Slot};
use super::thread::{self, Wait};
use super::waitable::Event;
use super::{BLOCKED, Result, call};
use crate::component::plan::{LiftKind, Lower};
use crate::component::shims::{self, Layout, MUST_WAIT, PARKED, record};
use wasmtime::{AsContextMut, StoreContextMut, bail};
use wasmtime_environ::component::TypeTupleIndex;

/// `Subtask.State`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum SubtaskState {
    Starting = 0,
    Started = 1,
    Returned = 2,
    CancelledBeforeStarted = 3,
    CancelledBeforeReturned = 4,
}

/// A handle that is lent: its instance and index.
pub(crate) type Lender = (u32, u32);

/// A call that its caller waits for through a waitable.
pub(crate) struct Subtask {
    pub instance: u32,
    pub handle: u32,
    pub state: SubtaskState,
    pub callee: Callee,
    /// Handles that the call has borrowed from the caller; `None` once the resolution is delivered.
    pub lenders: Option<Vec<Lender>>,
    pub cancellation_requested: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Callee {
    Task(u32),
    Host(u32),
    /// The callee has exited; the subtask is still to be dropped.
    Gone,
}

/// Who called.
pub(crate) enum Caller {
    /// A guest; it has a subtask unless it got its result at once.
    Guest {
        subtask: Option<u32>,
    },
    /// A guest's thread that waits for the result.
    Parked(u32),
    Host(Box<dyn HostCaller>),
}

/// The host's side of a call to an exported function.
pub(crate) trait HostCaller {
    /// Lowers the parameters.
    fn lower(&mut self, cx: &mut LowerCx<'_>, params: TypeTupleIndex, sink: &mut FlatSink<'_>) -> Result<()>;
    /// Lifts the results: the function has returned.
    fn lift(&mut self, cx: &mut LiftCx<'_>, results: TypeTupleIndex, flat: &[u64]) -> Result<()>;
    /// The task has ended without returning: it acknowledged its cancellation, or the zone died for the reason given.
    fn end(&mut self, trap: Option<std::rc::Rc<str>>);
    /// The call is task `task` of the zone, until it has exited.
    fn is_task(&mut self, task: u32);
    /// The task has exited: nothing of it runs any more.
    fn exited(&mut self);
}

/// What a task waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Run {
    /// Its own activation is under way, on a stack that runs or is put aside.
    Active,
    /// At the gate, with what to start.
    Entering(Start),
    /// Callback code YIELD.
    Yielding,
    /// Callback code WAIT.
    Waiting { set: u32 },
}

/// How a call begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    Adapter(u32),
    Lift(u32),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cancel {
    No,
    /// Requested while the task could not be told.
    Pending,
    Delivered,
}

pub(crate) struct Task {
    /// `Record::NONE` until it is started.
    pub record: Record,
    pub instance: u32,
    pub caller: Caller,
    pub run: Run,
    /// Flat parameters, while it is `Entering` from a guest.
    pub params: Vec<u64>,
    /// Table slot of the callback; `None` for functions without one.
    pub callback: Option<u32>,
    /// Its instance lets in one such task at a time.
    pub exclusive: bool,
    pub async_type: bool,
    pub cancel: Cancel,
    /// Handles of the caller that are lent to this call.
    pub lent: Vec<Lender>,
    /// Threads that a guest has made for it.
    pub explicit_threads: u32,
    /// Its implicit thread has ended; the others go on.
    pub exited: bool,
    /// It could go on, and waits for the exclusivity of its instance.
    pub held: bool,
}

impl Task {
    fn new(record: Record, instance: u32, caller: Caller, run: Run) -> Self {
        Task {
            record,
            instance,
            caller,
            run,
            params: Vec::new(),
            callback: None,
            exclusive: false,
            async_type: true,
            cancel: Cancel::No,
            lent: Vec::new(),
            explicit_threads: 0,
            exited: false,
            held: false,
        }
    }
}

/// Who waits at the gate of an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entrant {
    Task(u32),
    /// A thread that calls synchronously; it goes on when it may enter.
    Thread(u32),
}

/// `CallbackCode`
const EXIT: u32 = 0;
const YIELD: u32 = 1;
const WAIT: u32 = 2;

/// What a worker runs: three arguments, and a table slot.
pub(crate) type Job = [u32; 4];

impl State {
    pub(super) fn layout(&self) -> Layout {
        Layout::of(self.plan())
    }

    pub(super) fn task_of(&mut self, record: Record) -> Option<u32> {
        self.records().field(record, record::HOST).checked_sub(1)
    }

    /// The record of the current task: that of the current thread, unless a guest made it.
    #[inline]
    pub(crate) fn current_task(&mut self) -> Record {
        let current = self.current();
        match self.records().field(current, record::TASK) {
            0 => current,
            task => Record(task),
        }
    }

    /// The host's entry for a task that so far only shims know.
    pub(crate) fn task_of_or_new(&mut self, record: Record) -> u32 {
        if let Some(task) = self.task_of(record) {
            return task;
        }
        let records = self.records();
        let instance = records.field(record, record::INSTANCE);
        let async_type = records.field(record, record::FLAGS) & record::FLAG_ASYNC != 0;
        // Only a sync lift has no signature to return with.
        let exclusive = async_type && records.field(record, record::RETURN_SIGNATURE) == 0;
        let task =
            Task { exclusive, async_type, ..Task::new(record, instance, Caller::Guest { subtask: None }, Run::Active) };
        let task = self.tasks.insert(task) as u32;
        self.records().set_field(record, record::HOST, task + 1);
        task
    }

    /// The callee of adapter `n` has run and is not finished, or its stack was put aside: gives the caller's status.
    pub(crate) fn promote(&mut self, n: u32, record: Record, code: u32) -> Result<u32> {
        let adapter = &self.compiled.plan.adapters[n as usize];
        let (caller, callee, lower, lift, async_type) =
            (adapter.caller, adapter.callee, adapter.lower, adapter.lift, adapter.async_type);
        let task = self.task_of_or_new(record);
        let callback = match lift {
            LiftKind::Callback(index) => Some(self.layout().callback_slot(index)),
            _ => None,
        };
        let entry = &mut self.tasks[task as usize];
        entry.instance = callee;
        entry.callback = callback;
        entry.exclusive = !matches!(lift, LiftKind::Stackful);
        entry.async_type = async_type;
        let flags = self.flags(record) | record::FLAG_DETACHED | record::FLAG_BASE;
        self.records().set_field(record, record::FLAGS, flags);
        let resolved = self.records().field(record, record::RESOLVED) != 0;
        if code != PARKED.cast_unsigned() {
            self.after_code(task, code)?;
        }
        if resolved {
            return Ok(SubtaskState::Returned as u32);
        }
        match lower {
            Lower::Async { .. } => {
                let handle = self.add_subtask(caller, SubtaskState::Started, Callee::Task(task))?;
                let subtask = self.handles(caller).get(handle)?.object;
                let entry = &mut self.tasks[task as usize];
                entry.caller = Caller::Guest { subtask: Some(subtask) };
                let lent = std::mem::take(&mut entry.lent);
                self.subtasks[subtask as usize].lenders = Some(lent);
                Ok(SubtaskState::Started as u32 | handle << 4)
            }
            Lower::SyncNone | Lower::SyncFlat | Lower::SyncRetptr => {
                let thread =
                    self.park("a synchronous call of an async function that has not returned", Wait::Result)?;
                self.tasks[task as usize].caller = Caller::Parked(thread);
                Ok(MUST_WAIT.cast_unsigned())
            }
        }
    }

    /// A call through adapter `n` waits at a gate, and the caller gets a subtask or waits as well.
    fn wait_at_gate(&mut self, n: u32, params: &[u64]) -> Result<u32> {
        let compiled = self.compiled.clone();
        let adapter = &compiled.plan.adapters[n as usize];
        let (caller, callee) = (adapter.caller, adapter.callee);
        let exclusive = !matches!(adapter.lift, LiftKind::Stackful);
        let callback = match adapter.lift {
            LiftKind::Callback(index) => Some(self.layout().callback_slot(index)),
            _ => None,
        };
        let run = Run::Entering(Start::Adapter(n));
        let task = Task::new(Record::NONE, callee, Caller::Guest { subtask: None }, run);
        let task = self.tasks.insert(Task { params: params.to_vec(), callback, exclusive, ..task }) as u32;
        let status = match adapter.lower {
            Lower::Async { .. } => {
                let handle = self.add_subtask(caller, SubtaskState::Starting, Callee::Task(task))?;
                let subtask = self.handles(caller).get(handle)?.object;
                self.tasks[task as usize].caller = Caller::Guest { subtask: Some(subtask) };
                SubtaskState::Starting as u32 | handle << 4
            }
            Lower::SyncNone | Lower::SyncFlat | Lower::SyncRetptr => {
                let thread = self.park(NOT_READY, Wait::Result)?;
                self.tasks[task as usize].caller = Caller::Parked(thread);
                MUST_WAIT.cast_unsigned()
            }
        };
        self.wait_to_enter(callee, Entrant::Task(task))?;
        Ok(status)
    }

    /// A sync call between two synchronous sides meets a closed gate: the caller waits there.
    pub(crate) fn may_not_enter(&mut self, instance: u32) -> Result<()> {
        let thread = self.park(NOT_READY, Wait::Result)?;
        self.wait_to_enter(instance, Entrant::Thread(thread))
    }

    pub(crate) fn add_subtask(&mut self, instance: u32, state: SubtaskState, callee: Callee) -> Result<u32> {
        let subtask =
            Subtask { instance, handle: 0, state, callee, lenders: Some(Vec::new()), cancellation_requested: false };
        let object = self.subtasks.insert(subtask) as u32;
        let handle = self.handles(instance).add(Slot::new(Kind::Subtask, 0, object))?;
        self.subtasks[object as usize].handle = handle;
        Ok(handle)
    }

    fn wait_to_enter(&mut self, instance: u32, entrant: Entrant) -> Result<()> {
        let entering = &mut self.instances[instance as usize].entering;
        if entering.len() >= ENTERING_MAX {
            bail!("more than {ENTERING_MAX} calls wait to enter one component instance");
        }
        entering.push_back(entrant);
        self.records().set_gate(instance, record::GATE_WAITERS, true);
        Ok(())
    }

    /// The gate of an instance may have opened: let the tasks that hold events, and the oldest waiting call, have a look.
    pub(crate) fn opened(&mut self, instance: u32) {
        let entry = &mut self.instances[instance as usize];
        if !entry.entering.is_empty() && !std::mem::replace(&mut entry.opening, true) {
            self.ready.push_back(Ready::Enter(instance));
        }
        if entry.held.is_empty() {
            return;
        }
        for task in std::mem::take(&mut entry.held) {
            if let Some(entry) = self.tasks.get_mut(task as usize) {
                entry.held = false;
                self.ready.push_back(Ready::Task(task));
            }
        }
        self.records().set_gate(instance, record::GATE_HELD, false);
    }

    /// A task that could go on waits until nobody else runs in its instance.
    fn hold(&mut self, task: u32) {
        let entry = &mut self.tasks[task as usize];
        let instance = entry.instance;
        if !std::mem::replace(&mut entry.held, true) {
            self.instances[instance as usize].held.push(task);
        }
        self.records().set_gate(instance, record::GATE_HELD, true);
    }

    pub(crate) fn backpressure(&mut self, instance: u32, up: bool) -> Result<()> {
        let entry = &mut self.instances[instance as usize];
        entry.backpressure = match (up, entry.backpressure) {
            (true, 0xffff) => bail!("backpressure counter overflow"),
            (false, 0) => bail!("backpressure counter underflow"),
            (true, count) => count + 1,
            (false, count) => count - 1,
        };
        let on = entry.backpressure > 0;
        self.records().set_gate(instance, record::GATE_BACKPRESSURE, on);
        if !on {
            self.opened(instance);
        }
        Ok(())
    }

    /// Puts a task into the ready queue, once.
    fn make_ready(&mut self, task: u32) {
        self.ready.push_back(Ready::Task(task));
    }

    /// What follows from a callback's code, or from the end of a function without one.
    fn after_code(&mut self, task: u32, code: u32) -> Result<()> {
        match code & 0xf {
            EXIT => self.exit(task),
            YIELD => {
                self.tasks[task as usize].run = Run::Yielding;
                self.make_ready(task);
                Ok(())
            }
            WAIT => self.wait_for(task, code >> 4),
            other => bail!("unsupported callback code: {other}"),
        }
    }

    #[inline]
    fn wait_for(&mut self, task: u32, handle: u32) -> Result<()> {
        let entry = &mut self.tasks[task as usize];
        let set = self.instances[entry.instance as usize].handles.expect(handle, Kind::Set, 0)?.object;
        entry.run = Run::Waiting { set };
        let set = &mut self.sets[set as usize];
        set.waiting += 1;
        if set.has_event() || entry.cancel == Cancel::Pending {
            self.make_ready(task);
        } else {
            set.waiters.push_back(Ready::Task(task));
        }
        Ok(())
    }

    /// `exit_implicit_thread`
    fn exit(&mut self, task: u32) -> Result<()> {
        let record = self.tasks[task as usize].record;
        self.forget_thread(record);
        self.tasks[task as usize].exited = true;
        self.conclude_if_over(task)
    }

    /// `unregister_thread`: a task is over when its last thread has ended.
    pub(super) fn conclude_if_over(&mut self, task: u32) -> Result<()> {
        let Task { record, explicit_threads, exited, .. } = self.tasks[task as usize];
        if explicit_threads > 0 || !exited {
            return Ok(());
        }
        if self.records().field(record, record::RESOLVED) == 0 {
            bail!(
                "async-lifted export failed to produce a result: it exited without calling `task.return` or `task.cancel`"
            );
        }
        self.records().free(record);
        let task = self.tasks.remove(task as usize);
        match task.caller {
            Caller::Guest { subtask: Some(subtask) } => {
                if let Some(subtask) = self.subtasks.get_mut(subtask as usize) {
                    subtask.callee = Callee::Gone;
                }
            }
            Caller::Guest { subtask: None } => self.give_back(task.lent),
            Caller::Parked(_) => unreachable!("it goes on when the task resolves"),
            Caller::Host(mut caller) => caller.exited(),
        }
        Ok(())
    }

    /// A sync callee that is known here has ended in its caller's adapter.
    pub(crate) fn exited(&mut self, record: Record) -> Result<()> {
        self.records().set_field(record, record::RESOLVED, 1);
        self.resolved(record);
        let task = self.task_of(record).expect("only called if there is one");
        self.exit(task)
    }

    /// `deliver_resolve` for a caller that has no subtask.
    pub(crate) fn give_back(&mut self, lent: Vec<Lender>) {
        for (instance, handle) in lent {
            if let Ok(slot) = self.handles(instance).get_mut(handle) {
                slot.scope -= 1;
            }
        }
    }

    /// A task that the host knows has returned through its adapter.
    pub(crate) fn resolved(&mut self, record: Record) {
        let Some(task) = self.task_of(record) else { return };
        match self.tasks[task as usize].caller {
            Caller::Guest { subtask: Some(subtask) } => self.resolve_subtask(subtask, SubtaskState::Returned),
            Caller::Guest { subtask: None } => {
                let lent = std::mem::take(&mut self.tasks[task as usize].lent);
                self.give_back(lent);
            }
            Caller::Parked(thread) => {
                let entry = &mut self.tasks[task as usize];
                entry.caller = Caller::Guest { subtask: None };
                let lent = std::mem::take(&mut entry.lent);
                self.give_back(lent);
                let result = self.records().result(record);
                self.give(thread, result);
            }
            Caller::Host(_) => {}
        }
    }

    fn resolve_subtask(&mut self, subtask: u32, state: SubtaskState) {
        let Some(entry) = self.subtasks.get_mut(subtask as usize) else { return };
        entry.state = state;
        let (instance, handle) = (entry.instance, entry.handle);
        self.post(instance, handle, EventCode::Subtask, None);
    }

    /// A call to the host has returned: its result is already in the caller's memory.
    pub(crate) fn host_call_returned(&mut self, subtask: u32) {
        if let Some(entry) = self.subtasks.get_mut(subtask as usize) {
            entry.callee = Callee::Gone;
        }
        self.resolve_subtask(subtask, SubtaskState::Returned);
    }

    /// The payload of a subtask's event, and what its delivery changes.
    pub(crate) fn deliver_subtask(&mut self, instance: u32, handle: u32) -> u32 {
        let object = self.handles(instance).get(handle).expect("the caller looked it up").object;
        let subtask = &mut self.subtasks[object as usize];
        let state = subtask.state;
        if state as u8 >= SubtaskState::Returned as u8 {
            let lenders = subtask.lenders.take().unwrap_or_default();
            self.give_back(lenders);
        }
        state as u32
    }

    /// `subtask.drop`
    pub(crate) fn subtask_drop(&mut self, instance: u32, handle: u32) -> Result<()> {
        let object = self.handles(instance).expect(handle, Kind::Subtask, 0)?.object;
        if self.subtasks[object as usize].lenders.is_some() {
            bail!("cannot drop a subtask which has not yet resolved");
        }
        self.leave_set(instance, handle);
        self.handles(instance).remove(handle)?;
        let subtask = self.subtasks.remove(object as usize);
        if let Callee::Task(task) = subtask.callee {
            self.tasks[task as usize].caller = Caller::Guest { subtask: None };
        }
        Ok(())
    }

    /// `task.cancel`
    pub(crate) fn task_cancel(&mut self, instance: u32) -> Result<()> {
        let record = self.current_task();
        let task = self.task_of(record);
        let delivered = task.is_some_and(|task| self.tasks[task as usize].cancel == Cancel::Delivered);
        if !delivered
            || self.records().field(record, record::RESOLVED) != 0
            || self.records().field(record, record::INSTANCE) != instance
        {
            bail!("`task.cancel` called by a task that has not been cancelled");
        }
        if self.records().field(record, record::BORROWS) != 0 {
            bail!("borrow handles still remain at the end of the call");
        }
        self.records().set_field(record, record::RESOLVED, 1);
        let task = task.expect("checked above");
        match &mut self.tasks[task as usize].caller {
            Caller::Guest { subtask: Some(subtask) } => {
                let subtask = *subtask;
                self.resolve_subtask(subtask, SubtaskState::CancelledBeforeReturned);
            }
            Caller::Guest { subtask: None } | Caller::Parked(_) => {}
            Caller::Host(caller) => caller.end(None),
        }
        Ok(())
    }

    /// Explains why `task.return` is not allowed now.
    pub(crate) fn return_trap(&mut self, record: Record, signature: u32) -> Result<()> {
        let records = self.records();
        let expected = records.field(record, record::RETURN_SIGNATURE);
        if records.field(record, record::RESOLVED) != 0 && expected == signature + 1 {
            bail!("`task.return` or `task.cancel` called more than once for current task");
        }
        if records.field(record, record::BORROWS) != 0 && expected == signature + 1 {
            bail!("borrow handles still remain at the end of the call");
        }
        bail!("invalid `task.return` signature and/or options for current task")
    }

    fn remove_waiter(&mut self, task: u32) {
        if let Run::Waiting { set } = self.tasks[task as usize].run {
            self.sets[set as usize].waiting -= 1;
            self.sets[set as usize].waiters.retain(|waiter| *waiter != Ready::Task(task));
            self.tasks[task as usize].run = Run::Active;
        }
    }

    /// What a ready task gets; `None` if it has to go on waiting.
    #[inline]
    pub(super) fn wake_event(&mut self, task: u32) -> Option<Event> {
        let entry = self.tasks.get_mut(task as usize)?;
        let (run, instance) = (entry.run, entry.instance);
        if !matches!(run, Run::Yielding | Run::Waiting { .. }) {
            // Woken twice: it runs already, or has not started.
            return None;
        }
        if entry.exclusive && self.records().gate(instance) & record::GATE_EXCLUSIVE != 0 {
            self.hold(task);
            return None;
        }
        let entry = &mut self.tasks[task as usize];
        if entry.cancel == Cancel::Pending {
            entry.cancel = Cancel::Delivered;
            self.remove_waiter(task);
            return Some((EventCode::TaskCancelled, 0, 0));
        }
        let Run::Waiting { set } = run else { return Some((EventCode::None, 0, 0)) };
        let entry = &mut self.sets[set as usize];
        if let Some((instance, waitable)) = entry.first() {
            entry.waiting -= 1;
            return Some(self.deliver(instance, waitable));
        }
        // Somebody else took the event: wait for the next.
        if !entry.waiters.contains(&Ready::Task(task)) {
            entry.waiters.push_back(Ready::Task(task));
        }
        None
    }

    /// The job that gives a waiting task its event.
    #[inline]
    fn resume(&mut self, task: u32, (code, p1, p2): Event) -> (Record, Job) {
        let callback = self.activate(task);
        let slot = callback.expect("only callback functions wait without a stack");
        (self.tasks[task as usize].record, [code as u32, p1, p2, slot])
    }

    /// A stack that gives a waiting task its event when it is driven.
    pub(super) fn hand_over_callback(&mut self, task: u32, event: Event) -> Result<u32> {
        let (record, job) = self.resume(task, event);
        self.hand_over(record, job)
    }

    /// Code that ran as a job has ended.
    pub(crate) fn finish(&mut self, record: Record, code: u32) -> Result<()> {
        if self.records().field(record, record::TASK) != 0 {
            return self.thread_ended(record);
        }
        let task = self.task_of(record).expect("jobs belong to tasks that are known here");
        self.deactivate(task);
        self.after_code(task, code)
    }

    /// Makes `task` the running one; gives the slot of its callback.
    #[inline]
    fn activate(&mut self, task: u32) -> Option<u32> {
        let Task { run, record, instance, exclusive, async_type, callback, .. } = &mut self.tasks[task as usize];
        *run = Run::Active;
        let records = self.records.as_mut().expect("the shims are instantiated first");
        records.set_field(*record, record::PARENT, records.current().0);
        records.set_current(*record);
        if *exclusive && *async_type {
            records.set_gate(*instance, record::GATE_EXCLUSIVE, true);
        }
        *callback
    }

    /// The activation of `task` is over.
    fn deactivate(&mut self, task: u32) {
        let entry = &self.tasks[task as usize];
        let (record, instance, exclusive) = (entry.record, entry.instance, entry.exclusive && entry.async_type);
        let records = self.records();
        let parent = Record(records.field(record, record::PARENT));
        records.set_field(record, record::PARENT, 0);
        records.set_current(parent);
        if exclusive {
            records.set_gate(instance, record::GATE_EXCLUSIVE, false);
            self.opened(instance);
        }
    }

    /// The oldest call at the gate of `instance`, if it may enter now.
    fn next_entering(&mut self, instance: u32) -> Option<(u32, Start)> {
        self.instances[instance as usize].opening = false;
        let entrant = *self.instances[instance as usize].entering.front()?;
        let exclusive = match entrant {
            Entrant::Task(task) => self.tasks[task as usize].exclusive,
            Entrant::Thread(_) => true,
        };
        let closed = gate_mask(exclusive) & !record::GATE_WAITERS;
        if self.records().gate(instance) & closed != 0 {
            return None;
        }
        self.instances[instance as usize].entering.pop_front();
        self.settle_gate(instance);
        let task = match entrant {
            Entrant::Task(task) => Some(task),
            Entrant::Thread(thread) => {
                self.records().set_gate(instance, record::GATE_EXCLUSIVE, true);
                self.give(thread, 0);
                None
            }
        };
        // More may follow: a stackful function does not close the gate behind it.
        self.opened(instance);
        let task = task?;
        let Run::Entering(start) = self.tasks[task as usize].run else {
            unreachable!("whoever leaves the gate is taken from its queue")
        };
        Some((task, start))
    }

    fn leave_gate(&mut self, instance: u32, task: u32) {
        self.instances[instance as usize].entering.retain(|waiting| *waiting != Entrant::Task(task));
        self.settle_gate(instance);
    }

    /// Nobody waits at an empty gate.
    fn settle_gate(&mut self, instance: u32) {
        if self.instances[instance as usize].entering.is_empty() {
            self.records().set_gate(instance, record::GATE_WAITERS, false);
        }
    }

    /// A call of the host to exported function `lift`.
    pub(crate) fn call_from_host(&mut self, lift: u32, caller: Box<dyn HostCaller>) -> Result<()> {
        let plan = &self.compiled.plan;
        let entry = &plan.lifts[lift as usize];
        let (instance, kind) = (entry.instance, entry.kind);
        let async_type = plan.types[entry.ty].async_;
        let callback = match kind {
            LiftKind::Callback(index) => Some(Layout::of(plan).callback_slot(index)),
            _ => None,
        };
        let exclusive = !matches!(kind, LiftKind::Stackful);
        let task = Task::new(Record::NONE, instance, Caller::Host(caller), Run::Entering(Start::Lift(lift)));
        let task = Task { callback, exclusive, async_type, ..task };
        let task = self.tasks.insert(task) as u32;
        if let Caller::Host(caller) = &mut self.tasks[task as usize].caller {
            caller.is_task(task);
        }
        if async_type {
            self.wait_to_enter(instance, Entrant::Task(task))?;
            self.opened(instance);
        } else {
            // A function of sync type is not held back by the gate, nor by what runs on from earlier calls.
            self.ready.push_front(Ready::Task(task));
        }
        Ok(())
    }

    /// The host wants task `task` of its own call cancelled (`Task.request_cancellation`).
    pub(crate) fn cancel_from_host(&mut self, task: u32) {
        let Some(entry) = self.tasks.get(task as usize) else { return };
        let record = entry.record;
        let resolved = record != Record::NONE && self.records().field(record, record::RESOLVED) != 0;
        let entry = &mut self.tasks[task as usize];
        if resolved || entry.cancel != Cancel::No {
            return;
        }
        match entry.run {
            Run::Entering(..) => {
                let instance = entry.instance;
                self.leave_gate(instance, task);
                let task = self.tasks.remove(task as usize);
                if let Caller::Host(mut caller) = task.caller {
                    caller.end(None);
                    caller.exited();
                }
            }
            Run::Active => {
                entry.cancel = Cancel::Pending;
                self.ready.extend(self.cancellable_thread(task).map(Ready::Thread));
            }
            Run::Yielding | Run::Waiting { .. } => {
                entry.cancel = Cancel::Pending;
                self.make_ready(task);
            }
        }
    }

    /// Lines that say which tasks wait for what without a stack, for the report of a deadlock.
    pub(crate) fn waiting_tasks(&self) -> Vec<String> {
        let line = |task: &Task| {
            let what = match task.run {
                Run::Active => return None,
                Run::Entering(_) => "to enter",
                Run::Yielding => "for its turn",
                Run::Waiting { .. } => "for an event of a waitable set",
            };
            Some(format!("a task of instance {} waits {what}", task.instance))
        };
        self.tasks.iter().filter_map(|(_, task)| line(task)).collect()
    }

    /// The zone is dead: everybody who waits for it learns why.
    pub(crate) fn kill_all(&mut self, reason: &std::rc::Rc<str>) {
        self.poison = Some(reason.clone());
        for task in self.tasks.drain() {
            if let Caller::Host(mut caller) = task.caller {
                caller.end(Some(reason.clone()));
                caller.exited();
            }
        }
        for (_, stream) in &mut self.streams {
            if let Some(read) = &mut stream.read {
                read.wake();
            }
            // What the host still had to give is given up: it may be somebody's upload.
            stream.source = None;
        }
        self.threads.clear();
        self.ready.clear();
        self.host_calls.clear();
    }
}

/// Calls that may wait at the gate of one instance.
const ENTERING_MAX: usize = 65_536;

/// Why a synchronous call waits at a gate.
const NOT_READY: &str = "a synchronous call of an async function whose instance is not ready to be entered";

/// Which bits of a gate hold a call back.
fn gate_mask(exclusive: bool) -> u32 {
    record::GATE_BACKPRESSURE | record::GATE_WAITERS | if exclusive { record::GATE_EXCLUSIVE } else { 0 }
}

/// A call through adapter `n` meets a gate: `None` to go on, else the status for the caller, or nothing of meaning if the word
/// `DRIVE` names a stack to drive before the question is asked again.
pub(crate) fn admit(mut store: StoreContextMut<'_, State>, n: u32, params: &[u64]) -> Result<Option<u32>> {
    let state = store.data_mut();
    let adapter = &state.compiled.plan.adapters[n as usize];
    let (callee, async_type) = (adapter.callee, adapter.async_type);
    let mask = gate_mask(!matches!(adapter.lift, LiftKind::Stackful));
    let closed = state.records().gate(callee) & mask;
    if !async_type || closed == 0 {
        return Ok(None);
    }
    // Who holds the exclusivity and has got what he waited for goes first: then the call need not wait.
    if closed == record::GATE_EXCLUSIVE {
        let caller = state.current();
        if let Some(fiber) = thread::resume_holder(store.as_context_mut(), callee)? {
            store.data_mut().drive(fiber, caller);
            return Ok(Some(BLOCKED));
        }
    }
    store.data_mut().wait_at_gate(n, params).map(Some)
}

/// `subtask.cancel`. A callee that waits is told at once, on top of the caller's stack: if it needs a stack for that, the word
/// `DRIVE` names it, and the shim calls `cancel_done` when it has run.
pub(crate) fn subtask_cancel(
    mut store: StoreContextMut<'_, State>,
    instance: u32,
    handle: u32,
    async_: bool,
) -> Result<u32> {
    let state = store.data_mut();
    let slot = match state.handles(instance).expect(handle, Kind::Subtask, 0) {
        Ok(slot) => *slot,
        Err(fault) => return Err(state.rather_cannot_block(async_, fault)),
    };
    let (object, in_set) = (slot.object, slot.set != NONE);
    let subtask = &mut state.subtasks[object as usize];
    if subtask.lenders.is_none() {
        bail!("`subtask.cancel` called after terminal status delivered");
    }
    if subtask.cancellation_requested {
        bail!("`subtask.cancel` called twice for one subtask");
    }
    if in_set && !async_ {
        bail!("waitable cannot be used synchronously while added to a waitable set");
    }
    if (subtask.state as u8) < SubtaskState::Returned as u8 {
        subtask.cancellation_requested = true;
        match subtask.callee {
            Callee::Host(call) => {
                state.host_calls.try_remove(call as usize);
                state.resolve_subtask(object, SubtaskState::CancelledBeforeReturned);
            }
            Callee::Task(task) => {
                if cancel_task(store.as_context_mut(), task, object)? {
                    return Ok(BLOCKED);
                }
            }
            Callee::Gone => unreachable!("a callee that is gone has resolved its subtask"),
        }
    }
    cancel_done(store, instance, handle, async_)
}

/// The callee of a subtask has been told that it is cancelled, and has had its turn.
pub(crate) fn cancel_done(
    mut store: StoreContextMut<'_, State>,
    instance: u32,
    handle: u32,
    async_: bool,
) -> Result<u32> {
    let state = store.data_mut();
    let object = state.handles(instance).expect(handle, Kind::Subtask, 0)?.object;
    if (state.subtasks[object as usize].state as u8) >= SubtaskState::Returned as u8 {
        return Ok(state.deliver(instance, handle).2);
    }
    // That it has started is no news for who waits for its end.
    state.take_back(instance, handle);
    if !async_ {
        state.park("a synchronous `subtask.cancel` of a task that does not finish at once", Wait::Event { handle })?;
    }
    Ok(BLOCKED)
}

/// Does `task` have to be driven before its canceller goes on?
fn cancel_task(mut store: StoreContextMut<'_, State>, task: u32, subtask: u32) -> Result<bool> {
    let state = store.data_mut();
    let entry = &mut state.tasks[task as usize];
    let (instance, exclusive) = (entry.instance, entry.exclusive);
    if let Run::Entering(..) = entry.run {
        state.leave_gate(instance, task);
        state.tasks.remove(task as usize);
        state.subtasks[subtask as usize].callee = Callee::Gone;
        state.resolve_subtask(subtask, SubtaskState::CancelledBeforeStarted);
        return Ok(false);
    }
    entry.cancel = Cancel::Pending;
    // Another activation of the instance is under way: the task learns it when it runs again.
    let entered = state.entered(instance);
    match state.tasks[task as usize].run {
        Run::Entering(..) => unreachable!("treated above"),
        Run::Yielding | Run::Waiting { .. } => {
            if entered || exclusive && state.records().gate(instance) & record::GATE_EXCLUSIVE != 0 {
                state.make_ready(task);
                return Ok(false);
            }
            run_nested(store, task)
        }
        Run::Active => match state.cancellable_thread(task).filter(|_| !entered) {
            Some(thread) => {
                state.tasks[task as usize].cancel = Cancel::Delivered;
                let caller = state.current();
                let fiber = state.cancel_thread(thread)?;
                Ok(fiber.is_some_and(|fiber| state.drive(fiber, caller)))
            }
            None => Ok(false),
        },
    }
}

impl State {
    /// Asks the shim that has called to drive a stack, and to make `caller` the current task again.
    fn drive(&mut self, fiber: u32, caller: Record) -> bool {
        self.records().set(record::DRIVE, fiber);
        self.records().set(record::CALLER, caller.0);
        true
    }
}

/// Runs the callback of a waiting task from inside a built-in, on a stack of its own if there are such.
fn run_nested(mut store: StoreContextMut<'_, State>, task: u32) -> Result<bool> {
    let state = store.data_mut();
    let Some(event) = state.wake_event(task) else { return Ok(false) };
    if state.compiled.fibers {
        let caller = state.current();
        let fiber = state.hand_over_callback(task, event)?;
        return Ok(state.drive(fiber, caller));
    }
    let (code, p1, p2) = event;
    state.activate(task);
    let slot = state.tasks[task as usize].callback.expect("only callback functions wait without a stack");
    let index = slot - state.layout().callback_slot(0);
    let callback = state.callbacks[index as usize].expect("extracted before it can be called");
    let code = call::callback(store.as_context_mut(), callback, [code as u32, p1, p2])?;
    let state = store.data_mut();
    state.deactivate(task);
    state.after_code(task, code)?;
    Ok(false)
}

/// What a worker runs next, given what it has run (`Record::NONE`: nothing); `None` when nothing is ready, the budget is used
/// up, or another stack takes its place.
pub(crate) fn next(mut store: StoreContextMut<'_, State>, record: Record, code: u32) -> Result<Option<(Record, Job)>> {
    if record != Record::NONE {
        store.data_mut().finish(record, code)?;
    }
    loop {
        let state = store.data_mut();
        let ready = match state.budget {
            0 => None,
            _ => state.ready.pop_front(),
        };
        let Some(ready) = ready else {
            state.worker_rests();
            state.pump_may_rest();
            return Ok(None);
        };
        state.budget -= 1;
        match ready {
            Ready::Task(task) => match state.tasks.get(task as usize).map(|task| task.run) {
                Some(Run::Entering(start)) => return self::start(store, task, start).map(Some),
                _ => {
                    if let Some(event) = state.wake_event(task) {
                        return Ok(Some(state.resume(task, event)));
                    }
                }
            },
            Ready::Enter(instance) => {
                if let Some((task, start)) = state.next_entering(instance) {
                    return self::start(store, task, start).map(Some);
                }
            }
            Ready::Thread(thread) => {
                let job = thread::resume(store.as_context_mut(), thread)?;
                if job.is_some() || store.data_mut().records().get(record::SWITCH_TO) != 0 {
                    return Ok(job);
                }
            }
            Ready::HostCall(call) => super::host_call::poll(store.as_context_mut(), call)?,
            Ready::HostEnd(stream) => super::stream::poll_source(store.as_context_mut(), stream)?,
        }
    }
}

/// Starts a call that may enter now.
fn start(mut store: StoreContextMut<'_, State>, task: u32, start: Start) -> Result<(Record, Job)> {
    ensure_record(&mut store)?;
    let state = store.data_mut();
    let params = std::mem::take(&mut state.tasks[task as usize].params);
    let record = state.records().allocate();
    state.tasks[task as usize].record = record;
    let instance = state.tasks[task as usize].instance;
    let layout = state.layout();
    state.records().set_field(record, record::HOST, task + 1);
    state.records().set_field(record, record::INSTANCE, instance);
    let async_type = if state.tasks[task as usize].async_type { record::FLAG_ASYNC } else { 0 };
    state.records().set_field(record, record::FLAGS, async_type | record::FLAG_DETACHED | record::FLAG_BASE);
    state.activate(task);
    let job = match start {
        Start::Adapter(n) => {
            let compiled = state.compiled.clone();
            let adapter = &compiled.plan.adapters[n as usize];
            let records = state.records();
            records.set_field(record, record::MODE, shims::mode(adapter));
            records.set_field(record, record::RETURN_SIGNATURE, shims::return_signature(adapter));
            records.set_field(record, record::RETURN_SLOT, layout.return_slot(n));
            records.set_field(record, record::RETPTR, params.last().map_or(0, |last| *last as u32));
            params.iter().enumerate().for_each(|(slot, value)| records.set_scratch(slot as u32, *value));
            if let Caller::Guest { subtask: Some(subtask) } = state.tasks[task as usize].caller {
                let entry = &mut state.subtasks[subtask as usize];
                entry.state = SubtaskState::Started;
                let (instance, handle) = (entry.instance, entry.handle);
                state.post(instance, handle, EventCode::Subtask, None);
            }
            layout.adapter_job(n)
        }
        Start::Lift(n) => {
            start_lift(store.as_context_mut(), task, n, record)?;
            layout.lift_job(n)
        }
    };
    Ok((record, [0, 0, 0, job]))
}

/// Lowers the host's parameters into the scratch area.
fn start_lift(mut store: StoreContextMut<'_, State>, task: u32, lift: u32, record: Record) -> Result<()> {
    let state = store.data_mut();
    let compiled = state.compiled.clone();
    let plan = &compiled.plan;
    let lift = &plan.lifts[lift as usize];
    let signature = if let LiftKind::Sync { .. } = lift.kind { 0 } else { lift.return_signature + 1 };
    state.records().set_field(record, record::MODE, record::MODE_HOST);
    state.records().set_field(record, record::RETURN_SIGNATURE, signature);
    let options = &plan.options[lift.options as usize];
    let mut caller = std::mem::replace(&mut state.tasks[task as usize].caller, Caller::Guest { subtask: None });
    if let Some(memory) = options.memory() {
        store.refresh_memory(memory.as_u32());
    }
    let mut flat = [0; record::SCRATCH_SLOTS as usize];
    let mut lowered = Ok(());
    if let Caller::Host(caller) = &mut caller {
        let mut cx = LowerCx::new(store.as_context_mut(), &plan.types, options);
        lowered = caller.lower(&mut cx, plan.types[lift.ty].params, &mut FlatSink::new(&mut flat));
    }
    let state = store.data_mut();
    state.tasks[task as usize].caller = caller;
    // Not before: whoever waits for the call learns of a trap through its task.
    lowered?;
    for (slot, value) in flat.iter().take(lift.signature.params.len()).enumerate() {
        state.records().set_scratch(slot as u32, *value);
    }
    Ok(())
}

/// The running task, called by the host, returns: `flat` are the arguments of `task.return` or the results of a sync lift.
pub(crate) fn return_to_host(
    mut store: StoreContextMut<'_, State>,
    options: u32,
    results: TypeTupleIndex,
    flat: &[u64],
) -> Result<()> {
    let compiled = store.data().compiled.clone();
    let options = &compiled.plan.options[options as usize];
    if let Some(memory) = options.memory() {
        store.refresh_memory(memory.as_u32());
    }
    let state = store.data_mut();
    let record = state.current_task();
    let Some(task) = state.task_of(record) else { bail!("`task.return` outside of a task") };
    let caller = std::mem::replace(&mut state.tasks[task as usize].caller, Caller::Guest { subtask: None });
    let Caller::Host(mut caller) = caller else { bail!("`task.return` to the host by a task of a guest") };
    let lifted = caller.lift(&mut LiftCx::new(state, &compiled.plan.types, options), results, flat);
    state.tasks[task as usize].caller = Caller::Host(caller);
    lifted
}

/// Makes sure that there is a free record.
pub(crate) fn ensure_record(store: &mut StoreContextMut<'_, State>) -> Result<()> {
    if store.data_mut().records().has_free() {
        return Ok(());
    }
    let memory = store.data_mut().records().memory();
    let pages = memory.size(&*store);
    // Twice as many each time: growing is rare, and the memory is touched only as it is used.
    let grow = pages.min(record::PAGES_MAX - pages);
    store.data_mut().growing_records = true;
    let grown = if grow == 0 { Ok(pages) } else { memory.grow(&mut *store, grow) };
    store.data_mut().growing_records = false;
    grown?;
    let len = memory.data_size(&*store);
    store.data_mut().records().grown(len)
}
