//! The operations in flight and what they own: the one place that says when a buffer is ours again.
//!
//! An entry exists before the kernel can see its operation and leaves only by the operation's last completion, whatever
//! its future did meanwhile:
//!
//! ```text
//!            insert                    complete                 take
//!   (none) ---------> InFlight(waker) ----------> Done(outcome) ------> (none)
//!                        | abandon                   | abandon
//!                        v                           v
//!                     Orphaned -----complete----> (none), buffer and descriptor freed
//! ```
//!
//! Knows nothing of how operations are carried out.

use std::task::{Poll, Waker};

use slab::Slab;

use super::fd::Target;
use super::{Completion, Outcome, Request};

/// Names an operation towards the kernel: `generation << 32 | index`. A completion for an id that is no longer in the
/// table can therefore be told from one for its successor in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpId(u64);

impl OpId {
    /// Generations stop short of the top bit, which marks the ids that are not operations.
    const GENERATION_MAX: u32 = u32::MAX >> 1;
    /// The thread's wake-up descriptor became readable.
    pub(super) const WAKE: OpId = OpId(u64::MAX);
    /// Completions nobody waits for: those of cancellations.
    pub(super) const IGNORED: OpId = OpId(u64::MAX - 1);

    fn new(index: usize, generation: u32) -> Self {
        let index = u32::try_from(index).expect("fewer than 2^32 operations");
        OpId(u64::from(generation) << 32 | u64::from(index))
    }

    pub(super) fn from_raw(raw: u64) -> Self {
        OpId(raw)
    }

    pub(super) fn raw(self) -> u64 {
        self.0
    }

    fn index(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize
    }
}

enum State {
    /// The kernel may use what the entry owns; the waker is its future's.
    InFlight(Option<Waker>),
    /// As above, but nobody waits: the entry goes at the completion.
    Orphaned,
    /// Over; the result waits for its future.
    Done(Outcome),
}

/// One operation: what it acts on, what it owns, how far it is.
pub(super) struct Entry {
    id: OpId,
    target: Target,
    request: Request,
    state: State,
}

/// What the caller of [`Table::complete`] and [`Table::abandon`] has to do, with no borrow of the table held: both wakers
/// and the destructors of what an entry owns may call back into the ring.
pub(super) enum After {
    Nothing,
    Wake(Waker),
    Free(Completion),
}

/// What became of an operation that its future gave up.
pub(super) enum Abandoned {
    /// It was over already; this is to be dropped.
    Over(Completion),
    /// It is still going on and should be cancelled.
    InFlight,
}

#[derive(Default)]
pub(super) struct Table {
    entries: Slab<Entry>,
    generation: u32,
    in_flight: usize,
    /// Completions that matched no operation: always 0, or the accounting above is wrong.
    unmatched: u64,
}

impl Table {
    /// Operations that the kernel may still be working on.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Operations in flight that nobody waits for any more.
    pub(super) fn orphans(&self) -> usize {
        self.entries.iter().filter(|(_, entry)| matches!(entry.state, State::Orphaned)).count()
    }

    pub(super) fn unmatched(&self) -> u64 {
        self.unmatched
    }

    /// Takes an operation in; from here on the table owns `target` and `request`.
    pub(super) fn insert(&mut self, target: Target, request: Request) -> OpId {
        self.in_flight += 1;
        self.put(target, request, State::InFlight(None))
    }

    /// Takes in an operation that will not reach the kernel.
    pub(super) fn insert_done(&mut self, target: Target, request: Request, outcome: Outcome) -> OpId {
        self.put(target, request, State::Done(outcome))
    }

    fn put(&mut self, target: Target, request: Request, state: State) -> OpId {
        self.generation = if self.generation == OpId::GENERATION_MAX { 0 } else { self.generation + 1 };
        let slot = self.entries.vacant_entry();
        let id = OpId::new(slot.key(), self.generation);
        slot.insert(Entry { id, target, request, state });
        id
    }

    fn get_mut(&mut self, id: OpId) -> Option<&mut Entry> {
        self.entries.get_mut(id.index()).filter(|entry| entry.id == id)
    }

    /// What a driver needs to carry the operation out. Pointers into the request's buffers stay good until `complete`:
    /// the entry may move, the heap memory it owns does not.
    pub(super) fn parts(&mut self, id: OpId) -> Option<(&Target, &mut Request)> {
        self.get_mut(id).map(|entry| (&entry.target, &mut entry.request))
    }

    /// The last completion of an operation.
    pub(super) fn complete(&mut self, id: OpId, outcome: Outcome) -> After {
        let Some(entry) = self.get_mut(id) else {
            self.unmatched += 1;
            debug_assert!(false, "a completion for {id:?}, which is not in flight: {outcome:?}");
            return After::Nothing;
        };
        match std::mem::replace(&mut entry.state, State::Done(outcome)) {
            State::InFlight(waker) => {
                self.in_flight -= 1;
                waker.map_or(After::Nothing, After::Wake)
            }
            State::Orphaned => {
                self.in_flight -= 1;
                After::Free(self.remove(id, outcome))
            }
            State::Done(earlier) => {
                unreachable!("{id:?} completed with {earlier:?}, then with {outcome:?}")
            }
        }
    }

    /// The result for the operation's future, which takes it once; before that, `waker` is kept. The waker it replaces is
    /// to be dropped with no borrow held.
    pub(super) fn take(&mut self, id: OpId, waker: &Waker) -> (Poll<Completion>, Option<Waker>) {
        let entry = self.get_mut(id).expect("an operation stays in the table until its future took the result");
        match &mut entry.state {
            State::InFlight(Some(old)) if old.will_wake(waker) => (Poll::Pending, None),
            State::InFlight(slot) => (Poll::Pending, slot.replace(waker.clone())),
            State::Done(outcome) => {
                let outcome = *outcome;
                (Poll::Ready(self.remove(id, outcome)), None)
            }
            State::Orphaned => unreachable!("an orphan has no future"),
        }
    }

    /// The operation's future is gone. Returns its last waker too, to be dropped with no borrow held.
    pub(super) fn abandon(&mut self, id: OpId) -> (Abandoned, Option<Waker>) {
        let entry = self.get_mut(id).expect("an operation stays in the table until its future is gone");
        match std::mem::replace(&mut entry.state, State::Orphaned) {
            State::InFlight(waker) => (Abandoned::InFlight, waker),
            State::Done(outcome) => (Abandoned::Over(self.remove(id, outcome)), None),
            State::Orphaned => unreachable!("{id:?} was abandoned twice"),
        }
    }

    fn remove(&mut self, id: OpId, outcome: Outcome) -> Completion {
        let Entry { target, request, .. } = self.entries.remove(id.index());
        Completion { outcome, request, _target: target }
    }

    /// The ids of all operations in flight.
    pub(super) fn ids_in_flight(&self) -> Vec<OpId> {
        let in_flight = |entry: &&Entry| !matches!(entry.state, State::Done(_));
        self.entries.iter().map(|(_, entry)| entry).filter(in_flight).map(|entry| entry.id).collect()
    }
}
