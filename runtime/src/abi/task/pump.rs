//! What the pump's workers run: jobs, one after the other.
//!
//! A job is the start of a call, a callback with its event, or the start of a thread; shims run it (`component::shims`) and tell
//! here what became of it.

use super::{Caller, HostCaller, Run, Start, SubtaskState, Task, direct, ensure_record};
use crate::abi::cx::{FlatSink, LiftCx, LowerCx, Memories};
use crate::abi::record::Record;
use crate::abi::state::{Ready, State};
use crate::abi::table::EventCode;
use crate::abi::{Result, host_call, stream, thread};
use crate::component::plan::{LiftKind, Plan};
use crate::component::shims::{self, record};
use wasmtime::{AsContextMut, StoreContextMut, bail};
use wasmtime_environ::component::TypeTupleIndex;

/// What a worker runs: three arguments, and a table slot.
pub(crate) type Job = [u32; 4];

impl State {
    /// What runs next: what became ready first.
    #[inline]
    fn take_ready(&mut self) -> Option<Ready> {
        if self.watch.is_some() { self.choose_ready() } else { self.ready.pop_front() }
    }

    /// How a task of sync type begins that has not. One of async type comes through the gate alone: it is not what was put into
    /// the queue, but has its place.
    #[cold]
    fn sync_start(&self, task: u32) -> Option<Start> {
        match self.tasks.get(task as usize)? {
            Task { run: Run::Entering(start), async_type: false, .. } => Some(*start),
            _ => None,
        }
    }

    /// A record with `flags` for code of `instance` that runs as a job; there is a free one.
    pub(super) fn job_record(&mut self, instance: u32, flags: u32) -> Record {
        let records = self.records();
        let record = records.allocate();
        let mut fields = records.fields(record);
        fields.set(record::INSTANCE, instance);
        fields.set(record::FLAGS, flags | record::FLAG_DETACHED | record::FLAG_BASE);
        record
    }

    /// Code that ran as a job has ended.
    #[inline(always)]
    pub(crate) fn finish(&mut self, record: Record, code: u32) -> Result<()> {
        let fields = self.records().fields(record);
        if fields.get(record::TASK) != 0 {
            return self.thread_ended(record);
        }
        let Some(task) = fields.get(record::HOST).checked_sub(1) else { return self.finish_direct(record, code) };
        self.deactivate(task);
        self.after_code(task, code)
    }

    /// The pump has ended. If it has ended with its last job, `next` has not been told what became of that.
    #[inline]
    pub(crate) fn finish_last(&mut self) -> Result<()> {
        let records = self.records();
        let record = Record(records.get(record::ENDED));
        if record == Record::NONE {
            return Ok(());
        }
        records.set(record::ENDED, Record::NONE.0);
        let code = records.get(record::ENDED_CODE);
        self.finish(record, code)
    }
}

/// What a worker runs next, given what it has run (`Record::NONE`: nothing); `None` when nothing is ready, the budget is used
/// up, or another stack takes its place.
pub(crate) fn next(mut store: StoreContextMut<'_, State>, record: Record, code: u32) -> Result<Option<(Record, Job)>> {
    if record != Record::NONE {
        store.data_mut().finish(record, code)?;
    }
    while store.data().direct.has_next() && store.data().budget > 0 {
        store.data_mut().budget -= 1;
        if let Some(job) = direct::start(store.as_context_mut())? {
            return Ok(Some(job));
        }
    }
    loop {
        let state = store.data_mut();
        let ready = match state.budget {
            0 => None,
            _ => state.take_ready(),
        };
        let Some(ready) = ready else {
            state.worker_rests();
            state.pump_may_rest();
            return Ok(None);
        };
        state.budget -= 1;
        match ready {
            Ready::Task(task) => {
                if let Some(event) = state.wake_event(task) {
                    state.note_event(task, event);
                    return Ok(Some(state.resume(task, event)));
                }
                if let Some(start) = state.sync_start(task) {
                    return self::start(store, task, start).map(Some);
                }
            }
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
            Ready::HostCall(call) => host_call::poll(store.as_context_mut(), call)?,
            Ready::HostEnd(stream) => stream::poll_source(store.as_context_mut(), stream)?,
        }
    }
}

/// Starts a call that may enter now.
#[inline(never)]
fn start(mut store: StoreContextMut<'_, State>, task: u32, start: Start) -> Result<(Record, Job)> {
    ensure_record(&mut store)?;
    let state = store.data_mut();
    let params = std::mem::take(&mut state.tasks[task as usize].params);
    let Task { instance, async_type, .. } = state.tasks[task as usize];
    let record = state.job_record(instance, if async_type { record::FLAG_ASYNC } else { 0 });
    state.records().set_field(record, record::HOST, task + 1);
    state.tasks[task as usize].record = record;
    let layout = state.layout();
    state.activate(task);
    state.note_start(task);
    let job = match start {
        Start::Adapter(n) => {
            let compiled = state.compiled.clone();
            let adapter = &compiled.plan.adapters[n as usize];
            let records = state.records();
            records.set_field(record, record::MODE, shims::mode(adapter));
            records.set_field(record, record::RETURN_SIGNATURE, shims::return_signature(adapter));
            records.set_field(record, record::RETURN_SLOT, layout.return_slot(n));
            records.set_retptr(record, adapter, params.last().copied().unwrap_or_default());
            params.iter().enumerate().for_each(|(slot, value)| records.set_scratch(slot as u32, *value));
            if let Caller::Guest { subtask: Some(subtask) } = state.tasks[task as usize].caller {
                let entry = &mut state.subtasks[subtask as usize];
                entry.state = SubtaskState::Started;
                let (instance, handle) = (entry.instance, entry.handle);
                state.post(instance, handle, EventCode::Subtask, None);
            }
            [n, 0, 0, layout.adapter_job(n)]
        }
        Start::Lift(n) => {
            let Caller::Host(caller) = &state.tasks[task as usize].caller else {
                unreachable!("a function that is lifted to the host is called by the host")
            };
            let caller = caller.clone();
            start_lift(store.as_context_mut(), &*caller, n, record)?;
            [0, 0, 0, layout.lift_job(n)]
        }
    };
    Ok((record, job))
}

/// Lowers the parameters of a call by the host into the scratch area.
pub(super) fn start_lift(
    mut store: StoreContextMut<'_, State>,
    caller: &dyn HostCaller,
    lift: u32,
    record: Record,
) -> Result<()> {
    let state = store.data_mut();
    let compiled = state.compiled.clone();
    let plan = &compiled.plan;
    let lift = &plan.lifts[lift as usize];
    let signature = if let LiftKind::Sync { .. } = lift.kind { 0 } else { lift.return_signature + 1 };
    let mut fields = state.records().fields(record);
    fields.set(record::MODE, record::MODE_HOST);
    fields.set(record::RETURN_SIGNATURE, signature);
    let options = &plan.options[lift.options as usize];
    let mut flat = [0; record::SCRATCH_SLOTS as usize];
    // What is written to memory goes where a realloc has just said, which has read the memory's length again.
    let mut cx = LowerCx::new(store.as_context_mut(), plan, options);
    caller.lower(&mut cx, plan.types[lift.ty].params, &mut FlatSink::new(&mut flat))?;
    let state = store.data_mut();
    for (slot, value) in flat.iter().take(lift.signature.params.len()).enumerate() {
        state.records().set_scratch(slot as u32, *value);
    }
    Ok(())
}

/// The running task, called by the host, returns: `flat` are the arguments of `task.return` or the results of a sync lift.
pub(crate) fn return_to_host(
    mut store: StoreContextMut<'_, State>,
    plan: &Plan,
    options: u32,
    results: TypeTupleIndex,
    flat: &[u64],
) -> Result<()> {
    let options = &plan.options[options as usize];
    if let Some(memory) = options.memory() {
        store.refresh_memory(memory.as_u32());
    }
    let state = store.data_mut();
    let record = state.current_task();
    let caller = match state.task_of(record) {
        None => state.direct_caller(record),
        Some(task) => match &state.tasks[task as usize].caller {
            Caller::Host(caller) => Some(caller),
            Caller::Guest { .. } | Caller::Parked(_) => None,
        },
    };
    let Some(caller) = caller.cloned() else { bail!("`task.return` to the host by a task that it has not called") };
    caller.lift(&mut LiftCx::new(state, plan, options), results, flat)
}
