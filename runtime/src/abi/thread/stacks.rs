//! The stacks of a zone, by their slots in the shims' table: which are idle, and how many there may be.
//!
//! They are never given back to the system before the zone is, so they are used again.

use crate::abi::Result;
use crate::abi::record::Record;
use crate::abi::state::State;
use crate::abi::task::Job;
use crate::component::shims::record;
use std::sync::atomic::{AtomicU32, Ordering};
use wasmtime::bail;

/// Stacks that all zones of the process may have: each takes two mappings, of which the kernel gives a process 65,530.
const STACKS_MAX: u32 = 16_000;

/// Stacks that there are in the process.
static STACKS: AtomicU32 = AtomicU32::new(0);

/// Stacks that all zones of the process have, in use or idle.
pub fn stack_count() -> u32 {
    STACKS.load(Ordering::Relaxed)
}

/// The stacks of a zone.
#[derive(Default)]
pub(crate) struct Stacks {
    /// Those for which there is no room where shims look first (`record::IDLE`).
    idle: Vec<u32>,
    made: u32,
}

impl Stacks {
    /// Slots begin at 1: 0 is the host's own stack.
    fn take(&mut self) -> Result<u32> {
        if let Some(idle) = self.idle.pop() {
            return Ok(idle);
        }
        if STACKS.fetch_add(1, Ordering::Relaxed) >= STACKS_MAX {
            STACKS.fetch_sub(1, Ordering::Relaxed);
            bail!("too many calls wait in the synchronous ABI ({STACKS_MAX} in one process)");
        }
        self.made += 1;
        Ok(self.made)
    }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        STACKS.fetch_sub(self.made, Ordering::Relaxed);
    }
}

impl State {
    /// An idle stack that will run `job` when it is driven.
    pub(crate) fn hand_over(&mut self, record: Record, job: Job) -> Result<u32> {
        let fiber = self.idle_stack()?;
        self.set_job(record, job);
        Ok(fiber)
    }

    /// What the next worker that looks runs, before anything that is ready.
    pub(crate) fn set_job(&mut self, record: Record, [a, b, c, job]: Job) {
        let records = self.records();
        records.set(record::JOB, job + 1);
        records.set(record::JOB_RECORD, record.0);
        for (n, argument) in [a, b, c].into_iter().enumerate() {
            records.set(record::JOB_ARGUMENTS + 4 * n as u32, argument);
        }
    }

    pub(crate) fn idle_stack(&mut self) -> Result<u32> {
        let records = self.records();
        let Some(last) = records.get(record::IDLE_COUNT).checked_sub(1) else { return self.stacks.take() };
        records.set(record::IDLE_COUNT, last);
        Ok(records.get(record::IDLE + 4 * last))
    }

    #[inline]
    pub(crate) fn idle(&mut self, fiber: u32) {
        let records = self.records();
        let count = records.get(record::IDLE_COUNT);
        if count == record::IDLE_MAX {
            return self.stacks.idle.push(fiber);
        }
        records.set(record::IDLE + 4 * count, fiber);
        records.set(record::IDLE_COUNT, count + 1);
    }

    /// The worker whose stack runs will be put aside with nothing on it.
    #[inline]
    pub(crate) fn worker_rests(&mut self) {
        match self.records().get(record::FIBER) {
            0 => {}
            fiber => self.idle(fiber),
        }
    }

    /// The stack that runs will be put aside, and no other takes its place: if nothing is to do, the pump ends.
    #[inline]
    pub(crate) fn pump_may_rest(&mut self) {
        let rests = !self.has_work() || self.budget == 0;
        self.records().set(record::RESTS, rests.into());
    }
}
