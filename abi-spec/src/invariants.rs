//! What holds in every world between two turns, whatever the program.
//! These are consequences of the law, not the law: a violation is a fault of the model.

use crate::op::{Kind, Side};
use crate::profile::Revision;
use crate::stream::CopyResult;
use crate::table::{SetId, ThreadId, WaitableId};
use crate::thread::{Park, ThreadState};
use crate::waitable::{Pending, WaitableKind};
use crate::world::{Entry, ResourceHandle, World};

/// Nothing, or what is wrong.
pub type Checked = Result<(), String>;

fn resource(entry: &Entry) -> Option<&ResourceHandle> {
    match entry {
        Entry::Resource(handle) => Some(handle),
        Entry::Waitable(_) | Entry::Set(_) => None,
    }
}

fn check(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

impl World {
    /// Checks everything. Says nothing about worlds in the middle of a turn or after a trap.
    pub fn check_invariants(&self) -> Checked {
        if !self.between_turns() || self.trapped.is_some() {
            return Ok(());
        }
        self.check_instances()?;
        self.check_tables()?;
        self.check_sets()?;
        self.check_ends()?;
        self.check_threads()
    }

    fn parked(&self, wanted: impl Fn(ThreadId, Park) -> bool) -> usize {
        let park = |(id, thread): (u32, &crate::thread::Thread)| match thread.state {
            ThreadState::Suspended(at) | ThreadState::Waiting(at, _) => wanted(ThreadId(id), at),
            ThreadState::Running => false,
        };
        self.threads.iter().filter(|entry| park(*entry)).count()
    }

    fn check_instances(&self) -> Checked {
        for (id, inst) in self.instances.iter().enumerate() {
            check(inst.may_enter && inst.may_leave, || format!("instance {id} is entered between turns"))?;
            let waiting = self.parked(|t, at| at == Park::Enter && self.instance_of(t).index() == id);
            let counted = inst.num_waiting_to_enter as usize;
            check(counted == waiting, || format!("instance {id}: {waiting} tasks wait to start, not {counted}"))?;
            if let Some(t) = inst.exclusive {
                let alive = self.threads.get(t.0).is_some_and(|thread| self.tasks[thread.task].implicit == Some(t));
                check(alive, || format!("instance {id}: a thread that is gone is exclusive"))?;
            }
        }
        Ok(())
    }

    fn check_tables(&self) -> Checked {
        for (id, inst) in self.instances.iter().enumerate() {
            for (i, entry) in inst.handles.iter() {
                let alive = match entry {
                    Entry::Waitable(w) => self.waitables.get(w.0).is_some_and(|w| w.index == i && w.inst.index() == id),
                    Entry::Set(set) => self.sets.get(set.0).is_some(),
                    Entry::Resource(handle) => !handle.own || handle.scope.is_none(),
                };
                check(alive, || format!("instance {id}: index {i} names nothing"))?;
            }
        }
        self.check_borrows()
    }

    fn check_borrows(&self) -> Checked {
        let entries = self.instances.iter().flat_map(|inst| inst.handles.iter());
        let resources: Vec<_> = entries.filter_map(|(_, entry)| resource(entry)).collect();
        let lends: u32 = resources.iter().map(|handle| handle.num_lends).sum();
        let lenders: usize = self
            .waitables
            .iter()
            .map(|(_, waitable)| match &waitable.kind {
                WaitableKind::Subtask(subtask) => subtask.lenders.len(),
                WaitableKind::End(_) => 0,
            })
            .sum();
        check(lends as usize == lenders, || format!("{lends} lends, {lenders} lenders"))?;
        let borrowed = resources.iter().filter(|handle| handle.scope.is_some()).count();
        let counted: u32 = self.tasks.iter().map(|(_, task)| task.num_borrows).sum();
        check(borrowed == counted as usize, || format!("{borrowed} borrowed handles, {counted} counted"))
    }

    fn check_sets(&self) -> Checked {
        for (id, set) in self.sets.iter() {
            let waits = |at| matches!(at, Park::SetWait(s) | Park::CallbackWait(s) if s == SetId(id));
            let (waiting, counted) = (self.parked(|_, at| waits(at)), set.num_waiting as usize);
            check(waiting == counted, || format!("set {id}: {waiting} threads wait, not {counted}"))?;
            for w in &set.elems {
                let there = self.waitables.get(w.0).is_some_and(|w| w.set == Some(SetId(id)));
                check(there, || format!("set {id} has {w:?}, which is elsewhere"))?;
            }
        }
        for (id, waitable) in self.waitables.iter() {
            let w = WaitableId(id);
            let listed = waitable.set.is_none_or(|set| self.sets[set].elems.contains(&w));
            check(listed, || format!("{w:?} is not in its set"))?;
            let waits = |at| matches!(at, Park::Copy(e) | Park::SubtaskCancel(e) if e == w);
            let waiting = self.parked(|_, at| waits(at)) == 1;
            check(waiting == waitable.sync_waiter, || format!("{w:?}: nobody waits synchronously, or somebody does"))?;
        }
        Ok(())
    }

    fn check_ends(&self) -> Checked {
        for (id, shared) in self.shared.iter() {
            if let Some(p) = shared.pending {
                let end = self.waitables[p].end();
                check(end.state.copying(), || format!("the pending end of {id} is {:?}", end.state))?;
                check(end.shared.0 == id, || format!("the pending end of {id} is an end of {:?}", end.shared))?;
                check(!shared.dropped, || format!("{id} is dropped and pending"))?;
            }
            check(shared.gone != [true; 2], || format!("both ends of {id} are gone"))?;
        }
        for (id, waitable) in self.waitables.iter() {
            let (WaitableKind::End(end), pending) = (&waitable.kind, waitable.pending) else { continue };
            let w = WaitableId(id);
            check(self.shared[end.shared].ends[end.side.index()] == Some(w), || format!("{w:?} is not its own end"))?;
            // Nobody waits for what nobody will tell: the invariant that lost wake-ups break.
            let told = !end.state.copying() || pending.is_some() || self.shared[end.shared].pending == Some(w);
            check(told, || format!("{w:?} copies, but neither waits nor has an event"))?;
            let reader_of_future = end.t.kind == Kind::Future && end.side == Side::Read;
            let dropped = matches!(pending, Some(Pending::Copy { result: CopyResult::Dropped, .. }));
            check(!(reader_of_future && dropped), || format!("{w:?} reads a future and is told DROPPED"))?;
            let idle_event = pending.is_some() && !end.state.copying();
            let quiet = self.profile.revision == Revision::R1 && self.profile.quirks == crate::profile::Quirks::NONE;
            check(!(idle_event && quiet), || format!("{w:?} does not copy and has an event"))?;
        }
        Ok(())
    }

    fn check_threads(&self) -> Checked {
        for (id, thread) in self.threads.iter() {
            let t = ThreadId(id);
            let waiting = self.arrivals.iter().filter(|&other| other == t).count();
            let expected = usize::from(matches!(thread.state, ThreadState::Waiting(..)));
            check(thread.state != ThreadState::Running, || format!("{t:?} runs between turns"))?;
            check(waiting == expected, || format!("{t:?} is listed {waiting} times as waiting"))?;
            let task = &self.tasks[thread.task];
            let known = thread.index.is_none() || task.threads.contains(&t);
            check(known, || format!("{t:?} is not a thread of its task"))?;
        }
        Ok(())
    }
}
