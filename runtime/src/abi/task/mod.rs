//! Tasks and subtasks (CanonicalABI.md, "Tasks", "Subtask State", `canon lift`, `canon lower`).
//!
//! A call that returns at once never comes here: shims run it. A task becomes the host's when it blocks (`promote`), when it
//! must wait at its instance's gate (`gate`), or when the host itself calls. From then on `Run` says what it waits for and
//! the pump resumes it (`pump`). A task that waits in its callback needs no stack; one that waits in the middle of its code has
//! a thread as well, and `thread` knows of that.

mod cancel;
mod direct;
mod gate;
mod pump;

pub(crate) use cancel::{cancel_done, subtask_cancel};
pub(crate) use direct::Direct;
pub(crate) use gate::{Entrant, admit};
pub(crate) use pump::{Job, next, return_to_host};

use super::Result;
use super::cx::{FlatSink, LiftCx, LowerCx};
use super::record::Record;
use super::state::{self, Ready, State};
use super::table::{EventCode, Kind, Slot};
use super::thread::Wait;
use super::waitable::Event;
use crate::component::plan::Lower;
use crate::component::shims::{Layout, MUST_WAIT, PARKED, record};
use std::rc::Rc;
use wasmtime::{StoreContextMut, bail};
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

impl SubtaskState {
    pub fn resolved(self) -> bool {
        self as u8 >= SubtaskState::Returned as u8
    }
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
    Host(Rc<dyn HostCaller>),
}

/// The host's side of a call to an exported function.
pub(crate) trait HostCaller {
    /// What is called: an exported function, by its position in the plan.
    fn lift_index(&self) -> u32;
    /// Lowers the parameters.
    fn lower(&self, cx: &mut LowerCx<'_>, params: TypeTupleIndex, sink: &mut FlatSink<'_>) -> Result<()>;
    /// Lifts the results: the function has returned.
    fn lift(&self, cx: &mut LiftCx<'_>, results: TypeTupleIndex, flat: &[u64]) -> Result<()>;
    /// The task has ended without returning: it acknowledged its cancellation, or the zone died for the reason given.
    fn end(&self, trap: Option<Rc<str>>);
    /// The call is task `task` of the zone, until it has exited.
    fn is_task(&self, task: u32);
    /// That task.
    fn task(&self) -> Option<u32>;
    /// The task has exited: nothing of it runs any more.
    fn exited(&self);
    /// Nothing of the call runs any more, and it has not returned: see `end`.
    fn give_up(&self, trap: Option<Rc<str>>) {
        self.end(trap);
        self.exited();
    }
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

impl Task {
    /// It waits in its callback, and is to be told of its cancellation.
    fn is_told_next(&self) -> bool {
        self.cancel == Cancel::Pending && matches!(self.run, Run::Yielding | Run::Waiting { .. })
    }
}

/// `CallbackCode`
const EXIT: u32 = 0;
const YIELD: u32 = 1;
const WAIT: u32 = 2;

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
        if let Some(task) = self.task_of(record).or_else(|| self.direct_becomes_task(record)) {
            return task;
        }
        let records = self.records();
        let instance = records.field(record, record::INSTANCE);
        let async_type = records.field(record, record::FLAGS) & record::FLAG_ASYNC != 0;
        // Only a sync lift has no signature to return with.
        let exclusive = async_type && records.field(record, record::RETURN_SIGNATURE) == 0;
        let task = Task::new(record, instance, Caller::Guest { subtask: None }, Run::Active);
        self.insert_task(Task { exclusive, async_type, ..task })
    }

    /// Keeps a task that has a record.
    fn insert_task(&mut self, task: Task) -> u32 {
        let record = task.record;
        let task = self.tasks.insert(task) as u32;
        self.records().set_field(record, record::HOST, task + 1);
        task
    }

    /// The callee of adapter `n` has run and is not finished, or its stack was put aside: gives the caller's status.
    pub(crate) fn promote(&mut self, n: u32, record: Record, code: u32) -> Result<u32> {
        let adapter = &self.compiled.plan.adapters[n as usize];
        let (caller, callee, lower, lift, async_type) =
            (adapter.caller, adapter.callee, adapter.lower, adapter.lift, adapter.async_type);
        let (callback, exclusive) = (self.layout().callback_of(lift), lift.needs_exclusive());
        let mut fields = self.records().fields(record);
        fields.set(record::FLAGS, fields.get(record::FLAGS) | record::FLAG_DETACHED | record::FLAG_BASE);
        let (known, resolved) = (fields.get(record::HOST).checked_sub(1), fields.get(record::RESOLVED) != 0);
        let task = match known {
            None => {
                let task = Task::new(record, callee, Caller::Guest { subtask: None }, Run::Active);
                self.insert_task(Task { callback, exclusive, async_type, ..task })
            }
            Some(task) => {
                let entry = &mut self.tasks[task as usize];
                (entry.instance, entry.callback) = (callee, callback);
                (entry.exclusive, entry.async_type) = (exclusive, async_type);
                task
            }
        };
        if code != PARKED.cast_unsigned() {
            self.after_code(task, code)?;
        }
        if resolved {
            return Ok(SubtaskState::Returned as u32);
        }
        match lower {
            Lower::Async { .. } => {
                let lent = std::mem::take(&mut self.tasks[task as usize].lent);
                let (handle, subtask) = self.add_subtask(caller, SubtaskState::Started, Callee::Task(task), lent)?;
                self.tasks[task as usize].caller = Caller::Guest { subtask: Some(subtask) };
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

    /// Gives the handle of the new subtask, which is `instance`'s, and its position.
    pub(crate) fn add_subtask(
        &mut self,
        instance: u32,
        state: SubtaskState,
        callee: Callee,
        lenders: Vec<Lender>,
    ) -> Result<(u32, u32)> {
        let lenders = Some(lenders);
        let subtask = Subtask { instance, handle: 0, state, callee, lenders, cancellation_requested: false };
        let object = state::add(&mut self.subtasks, subtask, "calls that wait")?;
        let handle = self.handles(instance).add(Slot::new(Kind::Subtask, 0, object))?;
        self.subtasks[object as usize].handle = handle;
        Ok((handle, object))
    }

    /// Puts a task into the ready queue, once.
    fn make_ready(&mut self, task: u32) {
        self.ready.push_back(Ready::Task(task));
    }

    /// A task that waits is told of its cancellation before anybody else runs (CanonicalABI.md, `Thread.wait_until`).
    #[cold]
    fn make_next(&mut self, task: u32) {
        self.ready.push_front(Ready::Task(task));
    }

    /// Who is put there, if anybody is: see `make_next`.
    pub(crate) fn told_next(&self) -> Option<u32> {
        let Some(&Ready::Task(task)) = self.ready.front() else { return None };
        self.tasks.get(task as usize).is_some_and(Task::is_told_next).then_some(task)
    }

    /// What follows from a callback's code, or from the end of a function without one.
    #[inline(always)]
    fn after_code(&mut self, task: u32, code: u32) -> Result<()> {
        match code & 0xf {
            EXIT => self.exit(task),
            YIELD => {
                self.tasks[task as usize].run = Run::Yielding;
                match self.tasks[task as usize].cancel {
                    Cancel::Pending => self.make_next(task),
                    _ => self.make_ready(task),
                }
                Ok(())
            }
            WAIT => self.wait_for(task, code >> 4),
            other => bail!("unsupported callback code: {other}"),
        }
    }

    #[inline(always)]
    fn wait_for(&mut self, task: u32, handle: u32) -> Result<()> {
        let entry = &mut self.tasks[task as usize];
        let set = self.instances[entry.instance as usize].handles.expect(handle, Kind::Set, 0)?.object;
        entry.run = Run::Waiting { set };
        let set = &mut self.sets[set as usize];
        set.waiting += 1;
        if entry.cancel == Cancel::Pending {
            self.make_next(task);
        } else if set.has_event() {
            self.make_ready(task);
        } else {
            set.waiters.push(Ready::Task(task));
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
            Caller::Host(caller) => caller.exited(),
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
    #[inline(always)]
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
        self.note_return(task);
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

    #[inline(always)]
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
    #[inline(always)]
    pub(crate) fn deliver_subtask(&mut self, subtask: u32) -> u32 {
        let subtask = &mut self.subtasks[subtask as usize];
        let state = subtask.state;
        if state.resolved()
            && let Some(lenders) = subtask.lenders.take()
        {
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
            self.sets[set as usize].waiters.remove(Ready::Task(task));
            self.tasks[task as usize].run = Run::Active;
        }
    }

    /// What a ready task gets; `None` if it has to go on waiting.
    #[inline(always)]
    pub(super) fn wake_event(&mut self, task: u32) -> Option<Event> {
        let entry = self.tasks.get(task as usize)?;
        let (run, instance, cancel) = (entry.run, entry.instance, entry.cancel);
        if !matches!(run, Run::Yielding | Run::Waiting { .. }) {
            // Woken twice: it runs already, or has not started.
            return None;
        }
        if entry.exclusive && self.records().gate(instance) & record::GATE_EXCLUSIVE != 0 {
            self.hold(task);
            return None;
        }
        if cancel == Cancel::Pending && self.take_pending_cancel(task) {
            self.remove_waiter(task);
            return Some((EventCode::TaskCancelled, 0, 0));
        }
        let Run::Waiting { set } = run else { return Some((EventCode::None, 0, 0)) };
        if let Some((instance, waitable)) = self.first_event(set) {
            self.sets[set as usize].waiting -= 1;
            return Some(self.deliver(instance, waitable));
        }
        self.sets[set as usize].wait_again(Ready::Task(task));
        None
    }

    /// The job that gives a waiting task its event.
    #[inline(always)]
    fn resume(&mut self, task: u32, (code, p1, p2): Event) -> (Record, Job) {
        let (record, callback) = self.activate(task);
        let slot = callback.expect("only callback functions wait without a stack");
        (record, [code as u32, p1, p2, slot])
    }

    /// Whoever waits with a cancellation pending is told of it before those go on who have driven the worker that asks: gives it
    /// that as its next job.
    #[cold]
    pub(crate) fn tell_of_cancellation(&mut self) -> bool {
        let Some(task) = self.told_next() else { return false };
        self.ready.pop_front();
        let Some(event) = self.wake_event(task) else { return false };
        let (record, job) = self.resume(task, event);
        self.set_job(record, job);
        true
    }

    /// A stack that gives a waiting task its event when it is driven.
    pub(super) fn hand_over_callback(&mut self, task: u32, event: Event) -> Result<u32> {
        let (record, job) = self.resume(task, event);
        self.hand_over(record, job)
    }

    /// Makes `task` the running one; gives its record and the slot of its callback.
    #[inline(always)]
    fn activate(&mut self, task: u32) -> (Record, Option<u32>) {
        let Task { run, record, instance, exclusive, async_type, callback, .. } = &mut self.tasks[task as usize];
        *run = Run::Active;
        let (record, instance, callback) = (*record, (*exclusive && *async_type).then_some(*instance), *callback);
        self.enter(record, instance);
        (record, callback)
    }

    /// The activation of `task` is over.
    #[inline(always)]
    fn deactivate(&mut self, task: u32) {
        let entry = &self.tasks[task as usize];
        let instance = (entry.exclusive && entry.async_type).then_some(entry.instance);
        self.leave(entry.record, instance);
    }

    /// Makes `record` the current one, and takes the exclusivity of `instance`.
    #[inline(always)]
    fn enter(&mut self, record: Record, instance: Option<u32>) {
        let records = self.records();
        let current = records.current().0;
        records.fields(record).set(record::PARENT, current);
        records.set_current(record);
        if let Some(instance) = instance {
            records.set_gate(instance, record::GATE_EXCLUSIVE, true);
        }
    }

    /// What runs as `record` is over, and gives the exclusivity of `instance` back.
    #[inline(always)]
    fn leave(&mut self, record: Record, instance: Option<u32>) {
        let records = self.records();
        let mut fields = records.fields(record);
        let parent = Record(fields.get(record::PARENT));
        fields.set(record::PARENT, 0);
        records.set_current(parent);
        if let Some(instance) = instance
            && records.set_gate(instance, record::GATE_EXCLUSIVE, false) != 0
        {
            self.opened(instance);
        }
    }

    /// The task of a call that the host makes.
    fn task_of_host(&self, caller: Rc<dyn HostCaller>) -> Task {
        let (plan, lift) = (&self.compiled.plan, caller.lift_index());
        let entry = &plan.lifts[lift as usize];
        Task {
            callback: Layout::of(plan).callback_of(entry.kind),
            exclusive: entry.kind.needs_exclusive(),
            async_type: plan.types[entry.ty].async_,
            ..Task::new(Record::NONE, entry.instance, Caller::Host(caller), Run::Entering(Start::Lift(lift)))
        }
    }

    fn insert_host_task(&mut self, task: Task) -> u32 {
        let task = self.tasks.insert(task) as u32;
        if let Caller::Host(caller) = &self.tasks[task as usize].caller {
            caller.is_task(task);
        }
        task
    }

    /// A call of the host to an exported function.
    pub(crate) fn call_from_host(&mut self, caller: Rc<dyn HostCaller>) -> Result<()> {
        match self.go_directly(caller) {
            None => Ok(()),
            Some(caller) => self.call_through_gate(caller),
        }
    }

    /// As `call_from_host`, behind those who wait already.
    fn call_through_gate(&mut self, caller: Rc<dyn HostCaller>) -> Result<()> {
        let task = self.task_of_host(caller);
        let (instance, async_type) = (task.instance, task.async_type);
        let task = self.insert_host_task(task);
        if async_type {
            if let Err(refusal) = self.wait_to_enter(instance, Entrant::Task(task)) {
                if let Caller::Host(caller) = self.tasks.remove(task as usize).caller {
                    caller.give_up(Some(refusal.to_string().into()));
                }
                return Err(refusal);
            }
            self.opened(instance);
        } else {
            // A function of sync type is not held back by the gate, nor by what runs on from earlier calls.
            self.ready.push_front(Ready::Task(task));
        }
        Ok(())
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
    pub(crate) fn kill_all(&mut self, reason: &Rc<str>) {
        self.poison = Some(reason.clone());
        for caller in std::mem::take(&mut self.direct).into_callers() {
            caller.give_up(Some(reason.clone()));
        }
        for task in self.tasks.drain() {
            if let Caller::Host(caller) = task.caller {
                caller.give_up(Some(reason.clone()));
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

/// Makes sure that there is a free record.
#[inline]
pub(crate) fn ensure_record(store: &mut StoreContextMut<'_, State>) -> Result<()> {
    if store.data_mut().records().has_free() { Ok(()) } else { more_records(store) }
}

#[cold]
fn more_records(store: &mut StoreContextMut<'_, State>) -> Result<()> {
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
