//! The gate of an instance (CanonicalABI.md, `Task.enter_implicit_thread`).
//!
//! A call of async type enters only if there is no backpressure, nobody holds the exclusivity that it needs, and nobody waits
//! before it. Bits of the gate are in the shared memory, so that shims see an open one without asking; who waits is here.
//! Knows who may enter, not what a call does then.

use super::{Callee, Caller, Run, Start, SubtaskState, Task};
use crate::abi::record::Record;
use crate::abi::state::{Ready, State};
use crate::abi::thread::{self, Wait};
use crate::abi::{BLOCKED, Result};
use crate::component::plan::Lower;
use crate::component::shims::{MUST_WAIT, record};
use crate::sim::Choice;
use wasmtime::{AsContextMut, StoreContextMut, bail};

/// Who waits at the gate of an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entrant {
    Task(u32),
    /// A thread that calls synchronously; it goes on when it may enter.
    Thread(u32),
}

/// Calls that may wait at the gate of one instance.
pub(super) const ENTERING_MAX: usize = 65_536;

/// Why a synchronous call waits at a gate.
const NOT_READY: &str = "a synchronous call of an async function whose instance is not ready to be entered";

/// Which bits of a gate hold a call back.
pub(super) fn gate_mask(exclusive: bool) -> u32 {
    record::GATE_BACKPRESSURE | record::GATE_WAITERS | if exclusive { record::GATE_EXCLUSIVE } else { 0 }
}

impl State {
    /// A call through adapter `n` waits at a gate, and the caller gets a subtask or waits as well.
    pub(super) fn wait_at_gate(&mut self, n: u32, params: &[u64]) -> Result<u32> {
        let compiled = self.compiled.clone();
        let adapter = &compiled.plan.adapters[n as usize];
        let (caller, callee) = (adapter.caller, adapter.callee);
        let (callback, exclusive) = (self.layout().callback_of(adapter.lift), adapter.lift.needs_exclusive());
        let run = Run::Entering(Start::Adapter(n));
        let task = Task::new(Record::NONE, callee, Caller::Guest { subtask: None }, run);
        let task = self.tasks.insert(Task { params: params.to_vec(), callback, exclusive, ..task }) as u32;
        let status = match adapter.lower {
            Lower::Async { .. } => {
                let (handle, subtask) =
                    self.add_subtask(caller, SubtaskState::Starting, Callee::Task(task), Vec::new())?;
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

    pub(super) fn wait_to_enter(&mut self, instance: u32, entrant: Entrant) -> Result<()> {
        let entering = &mut self.instances[instance as usize].entering;
        if entering.len() >= ENTERING_MAX {
            bail!("more than {ENTERING_MAX} calls wait to enter one component instance");
        }
        entering.push_back(entrant);
        self.records().set_gate(instance, record::GATE_WAITERS, true);
        if !self.needs_exclusivity(entrant) {
            self.instances[instance as usize].entering_shared += 1;
            // It waits behind others, but not for what they wait for.
            if self.records().gate(instance) & record::GATE_BACKPRESSURE == 0 {
                self.opened(instance);
            }
        }
        Ok(())
    }

    fn needs_exclusivity(&self, entrant: Entrant) -> bool {
        match entrant {
            Entrant::Task(task) => self.tasks[task as usize].exclusive,
            Entrant::Thread(_) => true,
        }
    }

    /// The gate of an instance may have opened: let the tasks that hold events, and the waiting calls, have a look.
    #[inline]
    pub(crate) fn opened(&mut self, instance: u32) {
        let entry = &self.instances[instance as usize];
        if !(entry.entering.is_empty() && entry.held.is_empty()) {
            self.let_look(instance);
        }
    }

    #[cold]
    fn let_look(&mut self, instance: u32) {
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
    pub(super) fn hold(&mut self, task: u32) {
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

    /// The oldest call at the gate of `instance` that may enter now.
    pub(super) fn next_entering(&mut self, instance: u32) -> Option<(u32, Start)> {
        self.instances[instance as usize].opening = false;
        let gate = self.records().gate(instance) & !record::GATE_WAITERS;
        let entry = &self.instances[instance as usize];
        let position = if gate & gate_mask(true) == 0 {
            self.watch.as_ref().map_or(0, |watch| watch.choose(Choice::Enter, entry.entering.len(), 0))
        } else if gate & gate_mask(false) == 0 && entry.entering_shared > 0 {
            entry.entering.iter().position(|entrant| !self.needs_exclusivity(*entrant))?
        } else {
            return None;
        };
        let entrant = self.instances[instance as usize].entering.remove(position)?;
        if !self.needs_exclusivity(entrant) {
            self.instances[instance as usize].entering_shared -= 1;
        }
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

    pub(super) fn leave_gate(&mut self, instance: u32, task: u32) {
        if !self.tasks[task as usize].exclusive {
            self.instances[instance as usize].entering_shared -= 1;
        }
        self.instances[instance as usize].entering.retain(|waiting| *waiting != Entrant::Task(task));
        self.settle_gate(instance);
    }

    /// Nobody waits at an empty gate.
    pub(super) fn settle_gate(&mut self, instance: u32) {
        if self.instances[instance as usize].entering.is_empty() {
            self.records().set_gate(instance, record::GATE_WAITERS, false);
        }
    }
}

/// A call through adapter `n` meets a gate: `None` to go on, else the status for the caller, or nothing of meaning if the word
/// `DRIVE` names a stack to drive before the question is asked again.
pub(crate) fn admit(mut store: StoreContextMut<'_, State>, n: u32, params: &[u64]) -> Result<Option<u32>> {
    let state = store.data_mut();
    let adapter = &state.compiled.plan.adapters[n as usize];
    let (callee, async_type) = (adapter.callee, adapter.async_type);
    let mask = gate_mask(adapter.lift.needs_exclusive());
    let closed = state.records().gate(callee) & mask;
    state.note_call(n, closed == 0);
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
