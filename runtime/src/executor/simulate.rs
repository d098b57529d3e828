//! Running without I/O: which task goes on is chosen, and time passes only when nobody can go on before.
//! The ring is never entered, so what waits for it waits for ever.

use super::task::Header;
use super::{Core, Executor, Root, Turn, now, with_current};
use crate::sim::{self, Choice, Sim};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

impl Executor {
    /// Runs `future`, and the tasks it spawns, as the schedule of `sim`, the thread's run, says. `None` if `future` is not ready
    /// and nobody can go on, or if the run was stopped.
    pub(crate) fn simulate<F: Future>(&self, sim: &Sim, future: F) -> Option<F::Output> {
        let core = &*self.core;
        let _entered = self.enter();
        let future = pin!(future);
        let mut root = Root::new(core, future);
        core.turn_began.set(now());
        while !sim.is_stopped() {
            match core.choose(sim)? {
                header if root.is(&header) => {
                    if let Poll::Ready(output) = root.poll(core) {
                        return Some(output);
                    }
                }
                header => core.run(header),
            }
            core.turn.set(Turn::GoesOn);
        }
        None
    }
}

impl Core {
    /// The task that goes on; fires timers to get one. `None` if there are neither.
    fn choose(&self, sim: &Sim) -> Option<Arc<Header>> {
        loop {
            let (tasks, late) = (self.queue.borrow().len(), self.late.borrow_mut().pop_front());
            if let Some(late) = late {
                self.queue.borrow_mut().push_back(late);
                continue;
            }
            let next_timer = self.timers.borrow().next_deadline();
            let early = usize::from(sim.early_timers && next_timer.is_some());
            let pick = if tasks == 0 { 0 } else { sim.choose(Choice::Host, tasks + early, self.tasks_that_wait()) };
            if let Some(header) = self.queue.borrow_mut().remove(pick) {
                return Some(header);
            }
            sim.advance_to(next_timer?);
            self.turn_began.set(now());
            self.fire_timers();
        }
    }

    /// Which tasks are in the queue, as a number.
    fn tasks_that_wait(&self) -> u64 {
        sim::of_all(self.queue.borrow().iter().map(|header| header.key()))
    }
}

/// Who could go on if the running task gave way, in a simulation: whether there is anybody, and a number that says who.
pub(crate) fn others(sim: &Sim) -> (bool, u64) {
    let others = with_current(|core| {
        let timers = sim.early_timers && !core.timers.borrow().is_empty();
        (timers || !core.queue.borrow().is_empty(), core.tasks_that_wait())
    });
    others.unwrap_or_default()
}
