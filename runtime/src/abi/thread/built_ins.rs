//! Threads that guests make and schedule themselves (CanonicalABI.md, `canon thread.*`), and the table of their indices.

use super::{Stack, Thread, ThreadRun, Wait, cannot_block, wake_thread};
use crate::abi::record::Record;
use crate::abi::state::{Ready, State};
use crate::abi::table::NONE;
use crate::abi::task::ensure_record;
use crate::abi::waitable::Event;
use crate::abi::{BLOCKED, Result, would_block};
use crate::component::plan::{Pause, Then};
use crate::component::shims::record;
use wasmtime::{Ref, StoreContextMut, ValType, bail};

/// The table of threads of an instance: indices are given again last in, first out, from 1.
#[derive(Default)]
pub(crate) struct ThreadTable {
    threads: Vec<u32>,
    free: Vec<u32>,
}

impl ThreadTable {
    fn add(&mut self, thread: u32) -> u32 {
        if let Some(index) = self.free.pop() {
            self.threads[index as usize - 1] = thread;
            return index;
        }
        self.threads.push(thread);
        self.threads.len() as u32
    }

    fn get(&self, index: u32) -> Result<u32> {
        let slot = (index as usize).checked_sub(1).and_then(|slot| self.threads.get(slot));
        match slot {
            Some(thread) if *thread != NONE => Ok(*thread),
            _ => bail!("unknown thread index {index}"),
        }
    }

    pub(super) fn remove(&mut self, index: u32) {
        self.threads[index as usize - 1] = NONE;
        self.free.push(index);
    }
}

/// Who goes on as soon as the running thread is put aside, and what it gets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Switch {
    /// A thread with its stack.
    Thread(u32, u64),
    /// The implicit thread of a task whose callback waits.
    Callback(u32, Event),
}

impl State {
    /// `thread.index`
    pub(crate) fn thread_index(&mut self) -> Result<u32> {
        let record = self.current();
        let thread = self.thread_of_or_new(record)?;
        let entry = &mut self.threads[thread as usize];
        if entry.index == 0 {
            entry.index = self.instances[entry.instance as usize].threads.add(thread);
        }
        Ok(entry.index)
    }

    /// `thread.resume-later`
    pub(crate) fn thread_resume_later(&mut self, instance: u32, index: u32) -> Result<()> {
        let thread = self.suspended_thread(instance, index)?;
        if let ThreadRun::Parked(_, wait) = &mut self.threads[thread as usize].run {
            *wait = Wait::Turn { cancellable: wait.cancellable() };
        }
        self.ready.push_back(Ready::Thread(thread));
        Ok(())
    }

    fn suspended_thread(&mut self, instance: u32, index: u32) -> Result<u32> {
        let thread = self.instances[instance as usize].threads.get(index)?;
        match self.threads[thread as usize].run {
            ThreadRun::Parked(_, Wait::Suspended { .. }) => Ok(thread),
            _ => bail!("cannot resume thread which is not suspended"),
        }
    }

    pub(super) fn activate_switched(&mut self, switch: Switch) -> Result<u32> {
        match switch {
            Switch::Thread(thread, value) => self.activate_thread(thread, value),
            Switch::Callback(task, event) => self.hand_over_callback(task, event),
        }
    }

    fn waits_below(&self, thread: u32) -> bool {
        matches!(self.threads[thread as usize].run, ThreadRun::Parked(Stack::Below, _))
    }
}

/// `thread.{suspend,yield}`, `thread.{suspend,yield}-then-{resume,promote}`: 1 if the task is cancelled.
pub(crate) fn pause(
    mut store: StoreContextMut<'_, State>,
    instance: u32,
    cancellable: bool,
    (pause, then): (Pause, Then),
    other: u32,
) -> Result<u32> {
    let state = store.data_mut();
    // Upstream's suite wants a cancelled thread to hear of it even if the other thread is gone; the specification asks in the
    // other order.
    if state.deliver_pending_cancel(cancellable) {
        return Ok(1);
    }
    if (pause, then) == (Pause::Yield, Then::Anyone) && !state.compiled.fibers {
        // Where nobody can be put aside nobody else can run: a yield is over at once.
        return Ok(0);
    }
    let other = match then {
        Then::Anyone => None,
        Then::Resume => Some(state.suspended_thread(instance, other)?),
        Then::Promote => Some(state.instances[instance as usize].threads.get(other)?),
    };
    let switch = match (then, other) {
        (Then::Resume, Some(thread)) => Some(Switch::Thread(thread, 0)),
        (Then::Promote, Some(thread)) => promoted(&mut store, thread)?,
        _ => None,
    };
    let state = store.data_mut();
    let (what, wait) = match pause {
        Pause::Suspend => ("`thread.suspend`", Wait::Suspended { cancellable }),
        Pause::Yield => ("`thread.yield`", Wait::Turn { cancellable }),
    };
    state.park(what, wait)?;
    match switch {
        // It waits under others, and goes on when they have gone.
        Some(Switch::Thread(thread, value)) if state.waits_below(thread) => {
            state.give(thread, value);
        }
        switch => state.switch = switch,
    }
    Ok(BLOCKED)
}

/// Takes a thread out of the queue of those that are ready, if it is one of them.
fn promoted(store: &mut StoreContextMut<'_, State>, thread: u32) -> Result<Option<Switch>> {
    let entry = &store.data().threads[thread as usize];
    let (task, explicit) = (entry.task, entry.explicit);
    if let ThreadRun::Parked(..) = entry.run {
        let value = wake_thread(store, thread)?;
        return Ok(value.map(|value| Switch::Thread(thread, value)));
    }
    if explicit {
        return Ok(None);
    }
    let event = store.data_mut().wake_event(task);
    Ok(event.map(|event| Switch::Callback(task, event)))
}

/// `thread.new-indirect`
pub(crate) fn new_indirect(
    mut store: StoreContextMut<'_, State>,
    instance: u32,
    table: u32,
    function: u32,
    argument: u32,
) -> Result<u32> {
    let functions = store.data().tables[table as usize].expect("extracted before it is used");
    let Some(Ref::Func(Some(function))) = functions.get(&mut store, u64::from(function)) else {
        bail!("the start function index points to an uninitialized function")
    };
    let ty = function.ty(&store);
    if !(ty.params().len() == 1 && ty.params().all(|ty| matches!(ty, ValType::I32)) && ty.results().len() == 0) {
        bail!("start function does not match expected type (currently only `(i32) -> ()` is supported)");
    }
    ensure_record(&mut store)?;
    let state = store.data_mut();
    let Some(starts) = state.thread_table else { return would_block("a thread that a guest makes") };
    let task_record = state.current_task();
    if task_record == Record::NONE {
        return cannot_block();
    }
    let task = state.task_of_or_new(task_record);
    let record = state.records().allocate();
    let flags = record::FLAG_ASYNC | record::FLAG_DETACHED | record::FLAG_BASE;
    let run = ThreadRun::Parked(Stack::New { argument }, Wait::Suspended { cancellable: false });
    let thread = Thread { record, task, instance, explicit: true, index: 0, run };
    let thread = state.threads.insert(thread) as u32;
    let records = state.records();
    for (field, value) in [
        (record::INSTANCE, instance),
        (record::FLAGS, flags),
        (record::TASK, task_record.0),
        (record::HOST, task + 1),
        (record::THREAD, thread + 1),
    ] {
        records.set_field(record, field, value);
    }
    let index = state.instances[instance as usize].threads.add(thread);
    state.threads[thread as usize].index = index;
    state.tasks[task as usize].explicit_threads += 1;
    let size = starts.size(&store);
    if u64::from(thread) >= size {
        starts.grow(&mut store, size.max(u64::from(thread) + 1 - size), Ref::Func(None))?;
    }
    starts.set(&mut store, u64::from(thread), Ref::Func(Some(function)))?;
    Ok(index)
}
