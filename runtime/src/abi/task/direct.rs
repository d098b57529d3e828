//! Calls of the host that nobody is in the way of: nothing else is ready, and the gate is open.
//!
//! They run next, in the order in which they were made, and as long as one runs on it needs no more than its record: like a
//! call between guests that returns at once, it never becomes a task. Whoever asks for its task (`task_of_or_new`) makes it one,
//! and so does its code if it ends without having exited, or is put aside with its stack (`park`). One that finds the gate closed
//! when its turn comes waits there, as all others do.

use super::{EXIT, HostCaller, Job, Run, Task, ensure_record, gate, pump};
use crate::abi::Result;
use crate::abi::record::Record;
use crate::abi::state::State;
use crate::component::shims::record;
use std::collections::VecDeque;
use std::rc::Rc;
use wasmtime::{AsContextMut, StoreContextMut};

/// The calls that go directly.
#[derive(Default)]
pub(crate) struct Direct {
    /// Those that have not begun.
    next: VecDeque<Next>,
    running: Option<Running>,
}

/// A call that has not begun.
struct Next {
    caller: Rc<dyn HostCaller>,
    lift: u32,
    function: Function,
}

/// The call that runs, while it is not a task.
struct Running {
    caller: Rc<dyn HostCaller>,
    record: Record,
    function: Function,
}

/// What is called, as the gate sees it.
#[derive(Clone, Copy)]
struct Function {
    instance: u32,
    exclusive: bool,
    async_type: bool,
}

impl Function {
    /// The instance, if a call has to hold its exclusivity.
    #[inline]
    fn holds(self) -> Option<u32> {
        self.exclusive.then_some(self.instance)
    }
}

impl Direct {
    #[inline]
    pub(crate) fn has_next(&self) -> bool {
        !self.next.is_empty()
    }

    /// Is `call` one of those that have not begun? Not any more.
    pub(super) fn take_out(&mut self, call: &Rc<dyn HostCaller>) -> bool {
        let position = self.next.iter().position(|next| Rc::ptr_eq(&next.caller, call));
        position.and_then(|position| self.next.remove(position)).is_some()
    }

    /// All callers.
    pub(super) fn into_callers(self) -> impl Iterator<Item = Rc<dyn HostCaller>> {
        let running = self.running.map(|running| running.caller);
        running.into_iter().chain(self.next.into_iter().map(|next| next.caller))
    }
}

impl State {
    /// A call of the host goes directly, if it may; else it is given back.
    #[inline]
    pub(super) fn go_directly(&mut self, caller: Rc<dyn HostCaller>) -> Option<Rc<dyn HostCaller>> {
        let free = self.watch.is_none() && self.ready.is_empty() && self.direct.next.len() < gate::ENTERING_MAX;
        let lift = caller.lift_index();
        let function = self.function(lift);
        if !(free && function.async_type && self.is_open_to(function, 0)) {
            return Some(caller);
        }
        self.direct.next.push_back(Next { caller, lift, function });
        None
    }

    #[inline]
    fn function(&self, lift: u32) -> Function {
        let plan = &self.compiled.plan;
        let entry = &plan.lifts[lift as usize];
        let async_type = plan.types[entry.ty].async_;
        Function { instance: entry.instance, exclusive: entry.kind.needs_exclusive(), async_type }
    }

    /// Would the gate let a call in if the bits `but` did not count?
    #[inline]
    fn is_open_to(&mut self, function: Function, but: u32) -> bool {
        self.records().gate(function.instance) & gate::gate_mask(function.exclusive) & !but == 0
    }

    /// The host's side of the call whose record this is, if it goes directly.
    pub(super) fn direct_caller(&self, of: Record) -> Option<&Rc<dyn HostCaller>> {
        self.direct.running.as_ref().filter(|running| running.record == of).map(|running| &running.caller)
    }

    /// The call that runs directly becomes a task, if this is its record.
    pub(crate) fn direct_becomes_task(&mut self, of: Record) -> Option<u32> {
        let Running { caller, record, .. } = self.direct.running.take_if(|running| running.record == of)?;
        let task = Task { record, run: Run::Active, ..self.task_of_host(caller) };
        let task = self.insert_host_task(task);
        let mut fields = self.records().fields(record);
        fields.set(record::HOST, task + 1);
        fields.set(record::FLAGS, fields.get(record::FLAGS) & !record::FLAG_LAST);
        Some(task)
    }

    /// The code of the call that runs directly has ended.
    pub(super) fn finish_direct(&mut self, of: Record, code: u32) -> Result<()> {
        let exited = code & 0xf == EXIT && self.records().field(of, record::RESOLVED) != 0;
        if !exited {
            let task = self.direct_becomes_task(of).expect("jobs belong to calls that are known here");
            self.deactivate(task);
            return self.after_code(task, code);
        }
        let Some(Running { caller, record, function }) = self.direct.running.take_if(|running| running.record == of)
        else {
            unreachable!("as above")
        };
        self.leave(record, function.holds());
        self.records().free(record);
        caller.exited();
        Ok(())
    }
}

/// Starts the call that is next; `None` if it has to wait after all.
pub(super) fn start(mut store: StoreContextMut<'_, State>) -> Result<Option<(Record, Job)>> {
    ensure_record(&mut store)?;
    let state = store.data_mut();
    let Some(Next { caller, lift, function }) = state.direct.next.pop_front() else { return Ok(None) };
    // Who waits there now has come later.
    if !state.is_open_to(function, record::GATE_WAITERS) {
        // If it is refused, its caller has been told.
        drop(state.call_through_gate(caller));
        return Ok(None);
    }
    let last = if state.has_work() { 0 } else { record::FLAG_LAST };
    let record = state.job_record(function.instance, record::FLAG_ASYNC | last);
    state.enter(record, function.holds());
    let job = state.layout().lift_job(lift);
    assert!(state.direct.running.is_none(), "whatever the pump ran before has ended, or is a task");
    state.direct.running = Some(Running { caller: caller.clone(), record, function });
    pump::start_lift(store.as_context_mut(), &*caller, lift, record)?;
    Ok(Some((record, [0, 0, 0, job])))
}
