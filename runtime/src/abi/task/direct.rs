//! Calls of the host that nobody is in the way of: nothing else is ready, and the gate is open.
//!
//! Such a call is the next thing that runs, so it waits in no queue, and as long as it runs on it needs no more than its record:
//! like a call between guests that returns at once, it never becomes a task. Whoever asks for its task (`task_of_or_new`) makes
//! it one, and so does its code if it ends without having exited. There is one such call at a time; others wait behind it.

use super::{EXIT, HostCaller, Job, Run, Task, ensure_record, gate, pump};
use crate::abi::Result;
use crate::abi::record::Record;
use crate::abi::state::State;
use crate::component::shims::record;
use std::rc::Rc;
use wasmtime::{AsContextMut, StoreContextMut};

/// The call that goes directly, if one does.
#[derive(Default)]
pub(crate) enum Direct {
    #[default]
    None,
    /// It runs next.
    Next { lift: u32, caller: Rc<dyn HostCaller> },
    /// It runs, and is not a task.
    Running { lift: u32, caller: Rc<dyn HostCaller>, record: Record },
}

impl Direct {
    pub(crate) fn is_next(&self) -> bool {
        matches!(self, Direct::Next { .. })
    }

    /// Who makes the call.
    pub(super) fn into_caller(self) -> Option<Rc<dyn HostCaller>> {
        match self {
            Direct::None => None,
            Direct::Next { caller, .. } | Direct::Running { caller, .. } => Some(caller),
        }
    }
}

impl State {
    /// May a call of the host to exported function `lift` go directly?
    pub(super) fn may_go_directly(&mut self, lift: u32) -> bool {
        if self.watch.is_some() || !self.ready.is_empty() || !matches!(self.direct, Direct::None) {
            return false;
        }
        let plan = &self.compiled.plan;
        let entry = &plan.lifts[lift as usize];
        let (instance, exclusive, async_type) =
            (entry.instance, entry.kind.needs_exclusive(), plan.types[entry.ty].async_);
        async_type && self.records().gate(instance) & gate::gate_mask(exclusive) == 0
    }

    /// The host's side of the call whose record this is, if it goes directly.
    pub(super) fn direct_caller(&self, of: Record) -> Option<&Rc<dyn HostCaller>> {
        match &self.direct {
            Direct::Running { caller, record, .. } if *record == of => Some(caller),
            _ => None,
        }
    }

    /// The call that runs directly becomes a task, if this is its record.
    pub(super) fn direct_becomes_task(&mut self, of: Record) -> Option<u32> {
        self.direct_caller(of)?;
        let Direct::Running { lift, caller, record } = std::mem::take(&mut self.direct) else {
            unreachable!("who has a record runs")
        };
        let task = Task { record, run: Run::Active, ..self.task_of_host(lift, caller) };
        let task = self.insert_host_task(task);
        self.records().set_field(record, record::HOST, task + 1);
        Some(task)
    }

    /// The code of the call that runs directly has ended.
    pub(super) fn finish_direct(&mut self, of: Record, code: u32) -> Result<()> {
        let fields = self.records().fields(of);
        let over = code & 0xf == EXIT && fields.get(record::RESOLVED) != 0;
        match std::mem::take(&mut self.direct) {
            Direct::Running { lift, caller, record } if record == of && over => {
                let entry = &self.compiled.plan.lifts[lift as usize];
                let (instance, exclusive) = (entry.instance, entry.kind.needs_exclusive());
                self.leave(record, exclusive.then_some(instance));
                self.records().free(record);
                caller.exited();
                Ok(())
            }
            direct => {
                self.direct = direct;
                let task = self.direct_becomes_task(of).expect("jobs belong to calls that are known here");
                self.deactivate(task);
                self.after_code(task, code)
            }
        }
    }
}

/// Starts the call that is next.
pub(super) fn start(mut store: StoreContextMut<'_, State>) -> Result<(Record, Job)> {
    ensure_record(&mut store)?;
    let state = store.data_mut();
    let Direct::Next { lift, caller } = std::mem::take(&mut state.direct) else {
        unreachable!("asked only if one is next")
    };
    let entry = &state.compiled.plan.lifts[lift as usize];
    let (instance, exclusive) = (entry.instance, entry.kind.needs_exclusive());
    let job = state.layout().lift_job(lift);
    let records = state.records();
    let record = records.allocate();
    let mut fields = records.fields(record);
    fields.set(record::INSTANCE, instance);
    fields.set(record::FLAGS, record::FLAG_ASYNC | record::FLAG_DETACHED | record::FLAG_BASE);
    state.enter(record, exclusive.then_some(instance));
    state.direct = Direct::Running { lift, caller: caller.clone(), record };
    pump::start_lift(store.as_context_mut(), &*caller, lift, record)?;
    Ok((record, [0, 0, 0, job]))
}
