//! Threads that have a stack: the implicit thread of a task that has to wait in the synchronous ABI, and the threads that
//! guests make (CanonicalABI.md, "Thread State", `canon thread.*`).
//!
//! A task whose callback waits has no stack and is no business of this file (`task::Run`). A thread gets an entry here when it
//! parks, when its index is asked for, or when it is made. What it waits for is a `Wait`, and `wake_thread` alone decides
//! whether that has come. Stacks are put aside and resumed by shims (`component::shims::fibers`); here is decided which.
//!
//! A task of sync type must return before anybody outside of its instance runs. So it is not put aside: `block` lets the
//! other threads of its instance run on top of it until it can go on, and traps when none of them can.

mod built_ins;
mod stacks;

pub(crate) use built_ins::{Switch, ThreadTable, new_indirect, pause};
pub(crate) use stacks::Stacks;
pub use stacks::stack_count;

use super::record::Record;
use super::state::{Ready, State};
use super::table::{EventCode, NONE};
use super::task::{Cancel, Job, Task};
use super::waitable::store_event;
use super::{Result, host_call, stream, would_block};
use crate::component::shims::{GO_ON, SUSPEND, record};
use crate::sim::Choice;
use wasmtime::{AsContextMut, StoreContextMut, bail};

/// A thread with a stack.
#[derive(Debug)]
pub(crate) struct Thread {
    /// Where its context slots are: the task's own record, if it is the implicit thread.
    pub record: Record,
    pub task: u32,
    pub instance: u32,
    /// A guest made it (`thread.new-indirect`).
    explicit: bool,
    /// Its index in the instance's table of threads; 0 until somebody asks.
    index: u32,
    run: ThreadRun,
}

#[derive(Clone, Copy, Debug)]
enum ThreadRun {
    /// It is on a stack, or its callback waits.
    Running,
    Parked(Stack, Wait),
}

/// Where the frames of a parked thread are.
#[derive(Clone, Copy, Debug)]
enum Stack {
    /// Nowhere: it has not started.
    New { argument: u32 },
    /// On a stack that was put aside; `base` is the record of the task at its bottom.
    Aside { fiber: u32, base: Record },
    /// Under others that run until it can go on.
    Below,
}

/// What a parked thread waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    /// Another thread has to resume it.
    Suspended { cancellable: bool },
    /// Its turn.
    Turn { cancellable: bool },
    /// An event of a waitable set, to be stored at `at` with these options.
    Set { set: u32, options: u32, at: u64, cancellable: bool },
    /// The event of a stream, future or subtask that it operates on synchronously.
    Event { handle: u32 },
    /// What somebody will give it: the result of a call, or the way into an instance.
    Result,
    /// It has come.
    Done(u64),
}

impl Wait {
    fn cancellable(self) -> bool {
        matches!(
            self,
            Wait::Suspended { cancellable: true }
                | Wait::Turn { cancellable: true }
                | Wait::Set { cancellable: true, .. }
        )
    }
}

impl State {
    pub(super) fn thread_of(&mut self, record: Record) -> Option<u32> {
        self.records().field(record, record::THREAD).checked_sub(1)
    }

    /// The entry of the implicit thread of the task that `record` belongs to, or of the thread itself.
    fn thread_of_or_new(&mut self, record: Record) -> Result<u32> {
        if record == Record::NONE {
            return cannot_block();
        }
        if let Some(thread) = self.thread_of(record) {
            return Ok(thread);
        }
        let task = self.task_of_or_new(record);
        let instance = self.records().field(record, record::INSTANCE);
        let thread = Thread { record, task, instance, explicit: false, index: 0, run: ThreadRun::Running };
        let thread = self.threads.insert(thread) as u32;
        self.records().set_field(record, record::THREAD, thread + 1);
        Ok(thread)
    }

    /// The running thread has to wait; its shim calls `block` next. Traps if stacks cannot be put aside here. `what` is what
    /// it does, for the message.
    pub(crate) fn park(&mut self, what: &str, wait: Wait) -> Result<u32> {
        if !self.compiled.fibers {
            return would_block(what);
        }
        let record = self.current();
        let thread = self.thread_of_or_new(record)?;
        let fiber = self.records().get(record::FIBER);
        let base = self.base_of(record);
        // Its stack is put aside as well if another's code is on top of it.
        self.direct_becomes_task(base);
        self.threads[thread as usize].run = ThreadRun::Parked(Stack::Aside { fiber, base }, wait);
        match wait {
            Wait::Turn { .. } => self.ready.push_back(Ready::Thread(thread)),
            Wait::Event { handle } => {
                let instance = self.threads[thread as usize].instance;
                self.handles(instance).get_mut(handle)?.waiter = thread;
            }
            Wait::Set { set, .. } => {
                let set = &mut self.sets[set as usize];
                set.waiting += 1;
                set.waiters.push(Ready::Thread(thread));
            }
            Wait::Suspended { .. } | Wait::Result | Wait::Done(_) => {}
        }
        Ok(thread)
    }

    /// The record at the bottom of the stack that `record` is on.
    fn base_of(&mut self, mut record: Record) -> Record {
        loop {
            let (flags, parent) = (self.flags(record), self.parent(record));
            if flags & record::FLAG_BASE != 0 || parent == Record::NONE {
                return record;
            }
            record = parent;
        }
    }

    pub(super) fn flags(&mut self, record: Record) -> u32 {
        self.records().field(record, record::FLAGS)
    }

    pub(super) fn parent(&mut self, record: Record) -> Record {
        Record(self.records().field(record, record::PARENT))
    }

    /// The task nearest on the stack that must return before others run: one of sync type, or whatever the host has called.
    fn sync_task(&mut self, record: Record) -> Option<Record> {
        let mut below = record;
        loop {
            let flags = self.flags(below);
            if flags & record::FLAG_ASYNC == 0 && self.records().field(below, record::RESOLVED) == 0 {
                return Some(below);
            }
            let parent = self.parent(below);
            if flags & record::FLAG_BASE != 0 || parent == Record::NONE {
                break;
            }
            below = parent;
        }
        (self.records().get(record::FIBER) == 0).then_some(record)
    }

    /// What a thread waits for has come: it may go on with `value`.
    pub(crate) fn give(&mut self, thread: u32, value: u64) {
        if let Some(Thread { run: ThreadRun::Parked(_, wait), .. }) = self.threads.get_mut(thread as usize) {
            *wait = Wait::Done(value);
            self.ready.push_back(Ready::Thread(thread));
        }
    }

    /// Is the task's exclusivity held through the wait of this thread? Then nobody resumes it before its task returns.
    fn holds_exclusivity(&self, thread: &Thread) -> bool {
        let task = &self.tasks[thread.task as usize];
        !thread.explicit && task.exclusive && task.async_type
    }

    /// Makes `thread` the current one. Gives the stack to drive.
    fn activate_thread(&mut self, thread: u32, value: u64) -> Result<u32> {
        self.note_thread(thread, value);
        let entry = &mut self.threads[thread as usize];
        let record = entry.record;
        let ThreadRun::Parked(stack, _) = std::mem::replace(&mut entry.run, ThreadRun::Running) else {
            unreachable!("only a parked thread is woken")
        };
        let current = self.current().0;
        match stack {
            Stack::Aside { fiber, base } => {
                let records = self.records();
                records.set_field(base, record::PARENT, current);
                records.set_current(record);
                records.set_scratch(0, value);
                Ok(fiber)
            }
            Stack::New { argument } => {
                let records = self.records();
                records.set_field(record, record::PARENT, current);
                records.set_current(record);
                let job = [thread, argument, 0, self.layout().thread_job()];
                self.hand_over(record, job)
            }
            Stack::Below => unreachable!("a thread that waits under others is woken by `block` alone"),
        }
    }

    /// A function of async type is called synchronously. From a task of sync type that is a trap, unless another thread of its
    /// instance could run meanwhile.
    pub(crate) fn check_may_block(&mut self) -> Result<()> {
        let record = self.current();
        if self.flags(record) & record::FLAG_ASYNC != 0 {
            return Ok(());
        }
        let instance = self.records().field(record, record::INSTANCE);
        let others = self.ready.iter().any(|ready| is_candidate(self, *ready, instance, None));
        if others && record != Record::NONE { Ok(()) } else { cannot_block() }
    }

    /// The fault of an operation: that it is synchronous in a task which cannot block comes before everything else.
    #[cold]
    pub(crate) fn rather_cannot_block(&mut self, async_: bool, fault: wasmtime::Error) -> wasmtime::Error {
        match async_ {
            true => fault,
            false if self.current() == Record::NONE => fault,
            false => self.check_may_block().err().unwrap_or(fault),
        }
    }

    /// `deliver_pending_cancel`
    pub(crate) fn deliver_pending_cancel(&mut self, cancellable: bool) -> bool {
        let record = self.current_task();
        let Some(task) = self.task_of(record).filter(|_| cancellable) else { return false };
        self.take_pending_cancel(task)
    }

    /// A pending cancellation is delivered. One that comes to a task which has returned meanwhile is not.
    pub(crate) fn take_pending_cancel(&mut self, task: u32) -> bool {
        let Task { cancel, record, .. } = self.tasks[task as usize];
        let pending = cancel == Cancel::Pending && self.records().field(record, record::RESOLVED) == 0;
        if pending {
            self.tasks[task as usize].cancel = Cancel::Delivered;
        }
        pending
    }

    /// A thread of `task` that may be told now that the task is cancelled.
    pub(super) fn cancellable_thread(&self, task: u32) -> Option<u32> {
        let of_task = |thread: &&Thread| thread.task == task;
        let cancellable = |thread: &&Thread| matches!(thread.run, ThreadRun::Parked(_, wait) if wait.cancellable());
        let mut threads = self.threads.iter().filter(|(_, thread)| of_task(thread) && cancellable(thread));
        let chosen = match &self.watch {
            None => 0,
            Some(watch) => watch.choose(Choice::Cancel, threads.clone().count(), 0),
        };
        threads.nth(chosen).map(|(position, _)| position as u32)
    }

    fn stop_waiting(&mut self, thread: u32, wait: Wait) {
        if let Wait::Set { set, .. } = wait {
            let set = &mut self.sets[set as usize];
            set.waiting -= 1;
            set.waiters.remove(Ready::Thread(thread));
        }
    }

    /// The implicit thread of a task has ended.
    pub(super) fn forget_thread(&mut self, record: Record) {
        let Some(thread) = self.thread_of(record) else { return };
        let thread = self.threads.remove(thread as usize);
        if thread.index != 0 {
            self.instances[thread.instance as usize].threads.remove(thread.index);
        }
        self.records().set_field(record, record::THREAD, 0);
    }

    /// A thread that a guest made has ended.
    pub(super) fn thread_ended(&mut self, record: Record) -> Result<()> {
        let thread = self.thread_of(record).expect("a thread has its entry until it ends");
        let task = self.threads[thread as usize].task;
        let parent = self.parent(record);
        self.records().set_current(parent);
        self.forget_thread(record);
        self.records().free(record);
        self.tasks[task as usize].explicit_threads -= 1;
        self.conclude_if_over(task)
    }

    /// Lines that say who waits for what, for the report of a deadlock.
    pub(crate) fn waiting_threads(&self) -> Vec<String> {
        let line = |thread: &Thread| match thread.run {
            ThreadRun::Running => None,
            ThreadRun::Parked(_, wait) => {
                let what = match wait {
                    Wait::Suspended { .. } => "to be resumed by another thread".to_string(),
                    Wait::Set { .. } => "for an event of a waitable set".to_string(),
                    Wait::Event { handle } => format!("for its operation on handle {handle}"),
                    Wait::Result => "for the result of a synchronous call".to_string(),
                    Wait::Turn { .. } | Wait::Done(_) => "for its turn".to_string(),
                };
                Some(format!("a thread of instance {} waits {what}", thread.instance))
            }
        };
        self.threads.iter().filter_map(|(_, thread)| line(thread)).collect()
    }
}

/// How a wait that cannot end is reported.
pub(crate) const DEADLOCK: &str = "deadlock detected: event loop cannot make further progress";

/// Is this the report of a wait that cannot end?
pub(crate) fn is_deadlock(report: &str) -> bool {
    report.contains(DEADLOCK)
}

#[cold]
fn cannot_block<T>() -> Result<T> {
    bail!("cannot block a synchronous task before returning")
}

/// What a parked thread gets if it may go on; `None` if it has to go on waiting.
fn wake_thread(store: &mut StoreContextMut<'_, State>, thread: u32) -> Result<Option<u64>> {
    let state = store.data_mut();
    let Some(Thread { run: ThreadRun::Parked(_, wait), task, instance, .. }) = state.threads.get(thread as usize)
    else {
        return Ok(None);
    };
    let (wait, task, instance) = (*wait, *task, *instance);
    if wait.cancellable() && state.take_pending_cancel(task) {
        return stop_for_cancel(store, thread, wait).map(Some);
    }
    match wait {
        Wait::Suspended { .. } | Wait::Result => Ok(None),
        Wait::Turn { .. } => Ok(Some(0)),
        Wait::Done(value) => Ok(Some(value)),
        Wait::Event { handle } => {
            let slot = state.handles(instance).get_mut(handle)?;
            if slot.event == EventCode::None {
                return Ok(None);
            }
            slot.waiter = NONE;
            Ok(Some(u64::from(state.deliver(instance, handle).2)))
        }
        Wait::Set { set, options, at, .. } => {
            let Some((instance, waitable)) = state.first_event(set) else {
                state.sets[set as usize].wait_again(Ready::Thread(thread));
                return Ok(None);
            };
            state.stop_waiting(thread, wait);
            let event = state.deliver(instance, waitable);
            store_event(store.as_context_mut(), options, at, event).map(|code| Some(u64::from(code)))
        }
    }
}

/// Tells a thread that its task is cancelled. Gives the stack to drive, if it has one of its own.
pub(super) fn cancel_thread(mut store: StoreContextMut<'_, State>, thread: u32) -> Result<Option<u32>> {
    let state = store.data_mut();
    let ThreadRun::Parked(stack, wait) = state.threads[thread as usize].run else {
        unreachable!("only a parked thread is cancellable")
    };
    let value = stop_for_cancel(&mut store, thread, wait)?;
    let state = store.data_mut();
    if let Stack::Below = stack {
        state.give(thread, value);
        return Ok(None);
    }
    state.activate_thread(thread, value).map(Some)
}

/// A wait ends with the news that the task is cancelled: what the thread gets.
fn stop_for_cancel(store: &mut StoreContextMut<'_, State>, thread: u32, wait: Wait) -> Result<u64> {
    store.data_mut().stop_waiting(thread, wait);
    match wait {
        Wait::Set { options, at, .. } => {
            let event = (EventCode::TaskCancelled, 0, 0);
            store_event(store.as_context_mut(), options, at, event).map(u64::from)
        }
        // `Cancelled.TRUE`
        _ => Ok(1),
    }
}

/// A ready thread's turn in the pump, whose worker asks for a job: gives the job that starts it, or puts it in the worker's
/// place.
pub(super) fn resume(mut store: StoreContextMut<'_, State>, thread: u32) -> Result<Option<(Record, Job)>> {
    let Some(value) = wake_thread(&mut store, thread)? else { return Ok(None) };
    let state = store.data_mut();
    let entry = &mut state.threads[thread as usize];
    if let ThreadRun::Parked(Stack::New { argument }, _) = entry.run {
        entry.run = ThreadRun::Running;
        let record = entry.record;
        state.records().set_field(record, record::PARENT, 0);
        state.records().set_current(record);
        return Ok(Some((record, [thread, argument, 0, state.layout().thread_job()])));
    }
    state.worker_rests();
    let fiber = state.activate_thread(thread, value)?;
    state.records().set(record::SWITCH_TO, fiber);
    Ok(None)
}

/// The stack of the thread that holds the exclusivity of `instance`, if it can go on.
pub(super) fn resume_holder(mut store: StoreContextMut<'_, State>, instance: u32) -> Result<Option<u32>> {
    let state = store.data();
    let holds = |ready: &Ready| match ready {
        Ready::Thread(thread) => state.threads.get(*thread as usize).is_some_and(|thread| {
            // Nobody else's code is on its stack, who would go on as well when it returns.
            let alone = matches!(thread.run, ThreadRun::Parked(Stack::Aside { base, .. }, _) if base == thread.record);
            alone && thread.instance == instance && state.holds_exclusivity(thread)
        }),
        _ => false,
    };
    let Some(position) = state.ready.iter().position(holds) else { return Ok(None) };
    let Some(Ready::Thread(thread)) = store.data_mut().ready.remove(position) else {
        unreachable!("it has just been found there")
    };
    let Some(value) = wake_thread(&mut store, thread)? else { return Ok(None) };
    store.data_mut().activate_thread(thread, value).map(Some)
}

/// The running thread has parked: gives a stack to drive meanwhile, `SUSPEND` to put its own stack aside, or `GO_ON`.
pub(crate) fn block(mut store: StoreContextMut<'_, State>) -> Result<i32> {
    let state = store.data_mut();
    let record = state.current();
    let thread = state.thread_of(record).expect("who blocks has parked before");
    let Some(sync) = state.sync_task(record) else { return suspend(state, thread).map(|()| SUSPEND) };
    if let ThreadRun::Parked(stack, _) = &mut state.threads[thread as usize].run {
        *stack = Stack::Below;
    }
    if let Some(switch) = state.switch.take() {
        return state.activate_switched(switch).map(u32::cast_signed);
    }
    let instance = state.records().field(sync, record::INSTANCE);
    run_sibling(store, thread, instance)
}

/// Puts the stack of `thread` aside, in favour of the one that it switches to.
fn suspend(state: &mut State, thread: u32) -> Result<()> {
    let ThreadRun::Parked(Stack::Aside { base, .. }, _) = state.threads[thread as usize].run else {
        unreachable!("it has just parked")
    };
    let parent = state.parent(base);
    state.records().set_field(base, record::PARENT, 0);
    if let Some(switch) = state.switch.take() {
        // Whoever has resumed this stack resumes the other.
        state.records().set_current(parent);
        let fiber = state.activate_switched(switch)?;
        state.records().set(record::SWITCH_TO, fiber);
    } else if state.records().get(record::NESTED) == 1 {
        state.pump_may_rest();
    }
    Ok(())
}

/// Lets the next ready thread of `instance` run on top of `thread`, or `thread` itself go on (CanonicalABI.md, `canon lift`,
/// the loop at its end).
fn run_sibling(mut store: StoreContextMut<'_, State>, thread: u32, instance: u32) -> Result<i32> {
    while let Some(next) = next_sibling(store.data(), thread, instance) {
        let Some(ready) = store.data_mut().ready.remove(next) else { unreachable!("it has just been found there") };
        match ready {
            Ready::HostCall(call) => host_call::poll(store.as_context_mut(), call)?,
            Ready::HostEnd(stream) => stream::poll_source(store.as_context_mut(), stream)?,
            Ready::Enter(_) | Ready::Task(_) => unreachable!("they are no candidates"),
            Ready::Thread(ready) => {
                let Some(value) = wake_thread(&mut store, ready)? else { continue };
                let state = store.data_mut();
                if ready == thread {
                    state.threads[thread as usize].run = ThreadRun::Running;
                    state.records().set_scratch(0, value);
                    return Ok(GO_ON);
                }
                return state.activate_thread(ready, value).map(u32::cast_signed);
            }
        }
    }
    match store.data().has_work() {
        false => cannot_block(),
        true => bail!("{DEADLOCK}: a synchronous task waits, and what is ready must not run before it has returned"),
    }
}

/// Where in the queue of those who are ready the next is that `run_sibling` lets run.
fn next_sibling(state: &State, thread: u32, instance: u32) -> Option<usize> {
    let is_one = |ready: &Ready| is_candidate(state, *ready, instance, Some(thread));
    let mut candidates = (0..state.ready.len()).filter(|at| is_one(&state.ready[*at]));
    let chosen = match &state.watch {
        None => 0,
        Some(watch) => watch.choose(Choice::Sibling, candidates.clone().count(), 0),
    };
    candidates.nth(chosen)
}

/// May `ready` run while a task of sync type in `instance` waits? Callbacks and other code that needs the exclusivity of the
/// instance may not, nor may those who wait below `own`, the thread that asks: they go on when what is above them has gone.
fn is_candidate(state: &State, ready: Ready, instance: u32, own: Option<u32>) -> bool {
    match ready {
        Ready::HostCall(_) | Ready::HostEnd(_) => true,
        Ready::Enter(_) | Ready::Task(_) => false,
        Ready::Thread(ready) => state.threads.get(ready as usize).is_some_and(|thread| {
            let covered = Some(ready) != own && matches!(thread.run, ThreadRun::Parked(Stack::Below, _));
            thread.instance == instance && !covered && !state.holds_exclusivity(thread)
        }),
    }
}
