//! Cancellation (CanonicalABI.md, `Task.request_cancellation`, `canon subtask.cancel`, `canon task.cancel`).
//!
//! A request is delivered at once where the task can be told: it runs on top of who cancels it. Otherwise it stays pending
//! until the task waits for something cancellable. What the task makes of it is its own affair.

use super::{Callee, Caller, Cancel, HostCaller, Run, SubtaskState};
use crate::abi::record::Record;
use crate::abi::state::{Ready, State};
use crate::abi::table::{Kind, NONE};
use crate::abi::thread::{self, Wait};
use crate::abi::{BLOCKED, Result, call};
use crate::component::shims::record;
use std::rc::Rc;
use wasmtime::{AsContextMut, StoreContextMut, bail};

impl State {
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

    /// The host wants its own call cancelled (`Task.request_cancellation`).
    pub(crate) fn cancel_from_host(&mut self, call: &Rc<dyn HostCaller>) {
        if self.direct.take_out(call) {
            return call.give_up(None);
        }
        if let Some(task) = call.task() {
            self.request_cancellation(task);
        }
    }

    fn request_cancellation(&mut self, task: u32) {
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
                if let Caller::Host(caller) = task.caller {
                    caller.give_up(None);
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

    /// Asks the shim that has called to drive a stack, and to make `caller` the current task again.
    pub(super) fn drive(&mut self, fiber: u32, caller: Record) {
        self.records().set(record::DRIVE, fiber);
        self.records().set(record::CALLER, caller.0);
    }
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
    if !subtask.state.resolved() {
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
    if state.subtasks[object as usize].state.resolved() {
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
                let fiber = thread::cancel_thread(store.as_context_mut(), thread)?;
                if let Some(fiber) = fiber {
                    store.data_mut().drive(fiber, caller);
                }
                Ok(fiber.is_some())
            }
            None => Ok(false),
        },
    }
}

/// Runs the callback of a waiting task from inside a built-in, on a stack of its own if there are such.
fn run_nested(mut store: StoreContextMut<'_, State>, task: u32) -> Result<bool> {
    let state = store.data_mut();
    let Some(event) = state.wake_event(task) else { return Ok(false) };
    if state.compiled.fibers {
        let caller = state.current();
        let fiber = state.hand_over_callback(task, event)?;
        state.drive(fiber, caller);
        return Ok(true);
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
