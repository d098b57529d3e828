//! Waitables and waitable sets (CanonicalABI.md, "Waitable State").
//!
//! A waitable is a slot of a handle table with room for one pending event. A set keeps a queue of its waitables that have
//! one, linked through their slots, so that nothing is searched. The event's payload is made when it is delivered: several
//! things that happen to one waitable before that are one event.
//!
//! What a chunk of a stream passes on its way to a waiting task is always inlined, here, in `task` and in `stream`: each step is
//! a few loads, which cost less than a call, but their assertions make them look large to the compiler.

use super::cx::Memories;
use super::lab;
use super::state::{self, Ready, State};
use super::table::{EventCode, Kind, NONE, Slot, Table};
use super::thread::Wait;
use super::watch::Watch;
use super::{BLOCKED, Result};
use crate::sim::{self, Choice};
use std::collections::VecDeque;
use wasmtime::{StoreContextMut, bail};

/// An event as a guest gets it: code, index, payload.
pub(crate) type Event = (EventCode, u32, u32);

pub(crate) struct WaitableSet {
    pub instance: u32,
    /// Waitables that have joined.
    pub elements: u32,
    /// First and last waitable with a pending event, in order of arrival.
    head: u32,
    tail: u32,
    /// Tasks and threads that wait for an event and have not been told to look yet.
    pub waiters: Waiters,
    /// Tasks and threads that wait, told or not (`num_waiting`).
    pub waiting: u32,
}

/// Who waits, oldest first. Hardly ever more than one does.
#[derive(Default)]
pub(crate) struct Waiters {
    first: Option<Ready>,
    /// Empty if there is no first.
    others: VecDeque<Ready>,
}

impl Waiters {
    #[inline]
    pub fn push(&mut self, waiter: Ready) {
        match self.first {
            None => self.first = Some(waiter),
            Some(_) => self.others.push_back(waiter),
        }
    }

    #[inline]
    fn pop(&mut self) -> Option<Ready> {
        let first = self.first.take();
        if !self.others.is_empty() {
            self.first = self.others.pop_front();
        }
        first
    }

    /// Takes one out of the middle.
    fn take(&mut self, n: usize) -> Option<Ready> {
        if n == 0 { self.pop() } else { self.others.remove(n - 1) }
    }

    pub fn remove(&mut self, waiter: Ready) {
        self.others.retain(|other| *other != waiter);
        if self.first == Some(waiter) {
            self.pop();
        }
    }

    fn contains(&self, waiter: Ready) -> bool {
        self.first == Some(waiter) || self.others.contains(&waiter)
    }

    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }
}

impl WaitableSet {
    pub(crate) fn has_event(&self) -> bool {
        self.head != NONE
    }

    /// The waitable whose event is the oldest, and its instance.
    pub(crate) fn first(&self) -> Option<(u32, u32)> {
        self.has_event().then_some((self.instance, self.head))
    }

    /// Somebody else took the event that `waiter` was told of: it waits for the next.
    pub(crate) fn wait_again(&mut self, waiter: Ready) {
        if !self.waiters.contains(waiter) {
            self.waiters.push(waiter);
        }
    }

    /// Puts a waitable that has got an event behind the others.
    #[inline(always)]
    fn append(&mut self, handles: &mut Table, waitable: u32) {
        let last = std::mem::replace(&mut self.tail, waitable);
        if last == NONE {
            self.head = waitable;
            return;
        }
        handles.known(last).next = waitable;
        handles.known(waitable).prev = last;
    }

    /// Takes a waitable out of the queue, wherever it is.
    #[inline(always)]
    fn unlink(&mut self, handles: &mut Table, waitable: u32) {
        let slot = handles.known(waitable);
        let prev = std::mem::replace(&mut slot.prev, NONE);
        let next = std::mem::replace(&mut slot.next, NONE);
        match prev {
            NONE => self.head = next,
            prev => handles.known(prev).next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => handles.known(next).prev = prev,
        }
    }
}

impl State {
    pub(crate) fn waitable_set_new(&mut self, instance: u32) -> Result<u32> {
        let set =
            WaitableSet { instance, elements: 0, head: NONE, tail: NONE, waiters: Waiters::default(), waiting: 0 };
        let object = state::add(&mut self.sets, set, "waitable sets")?;
        self.handles(instance).add(Slot::new(Kind::Set, 0, object))
    }

    pub(crate) fn waitable_set_drop(&mut self, instance: u32, handle: u32) -> Result<()> {
        let object = self.handles(instance).expect(handle, Kind::Set, 0)?.object;
        let set = &self.sets[object as usize];
        if set.elements > 0 {
            bail!("cannot drop waitable set {handle}: {} waitables are in it", set.elements);
        }
        if set.waiting > 0 {
            bail!("cannot drop waitable set with waiters: a task waits for set {handle}");
        }
        self.handles(instance).remove(handle)?;
        self.sets.remove(object as usize);
        Ok(())
    }

    /// `waitable.join`; set 0 leaves.
    pub(crate) fn waitable_join(&mut self, instance: u32, waitable: u32, set: u32) -> Result<()> {
        let slot = self.handles(instance).get(waitable)?;
        if !slot.is_waitable() {
            bail!("handle {waitable} is a {:?}, not a waitable", slot.kind);
        }
        if slot.waiter != NONE {
            bail!("waitable cannot be used synchronously while added to a waitable set");
        }
        let joined = match set {
            0 => NONE,
            set => self.handles(instance).expect(set, Kind::Set, 0)?.object,
        };
        self.leave_set(instance, waitable);
        if joined == NONE {
            return Ok(());
        }
        let slot = self.handles(instance).get_mut(waitable)?;
        slot.set = joined;
        let pending = slot.event != EventCode::None;
        self.sets[joined as usize].elements += 1;
        if pending {
            self.enqueue(joined, instance, waitable);
        }
        Ok(())
    }

    /// Takes the waitable, which is known to be one, out of its set, if it is in one.
    #[inline(always)]
    pub(crate) fn leave_set(&mut self, instance: u32, waitable: u32) {
        let handles = &mut self.instances[instance as usize].handles;
        let slot = handles.known(waitable);
        let (set, pending) = (std::mem::replace(&mut slot.set, NONE), slot.event != EventCode::None);
        if set == NONE {
            return;
        }
        let entry = &mut self.sets[set as usize];
        entry.elements -= 1;
        if pending {
            entry.unlink(handles, waitable);
        }
    }

    /// `set_pending_event`: overwrites an event that is already pending.
    #[inline(always)]
    pub(crate) fn post(&mut self, instance: u32, waitable: u32, event: EventCode, payload: Option<u32>) {
        let slot = self.handles(instance).known(waitable);
        let fresh = slot.event == EventCode::None;
        slot.event = event;
        slot.lazy = payload.is_none();
        slot.payload = payload.unwrap_or(0);
        // Once for an event, however often it is overwritten: a guest may do that without end.
        if fresh {
            let (set, waiter) = (slot.set, slot.waiter);
            self.announce(instance, waitable, set, waiter);
        }
    }

    /// A waitable of this set, or that this thread waits for alone, has got an event.
    fn announce(&mut self, instance: u32, waitable: u32, set: u32, waiter: u32) {
        if set != NONE {
            self.enqueue(set, instance, waitable);
        }
        if waiter != NONE {
            self.ready.push_back(Ready::Thread(waiter));
        }
    }

    /// Takes back an event that was not delivered.
    pub(super) fn take_back(&mut self, instance: u32, waitable: u32) {
        let handles = &mut self.instances[instance as usize].handles;
        let slot = handles.known(waitable);
        if slot.event == EventCode::None {
            return;
        }
        slot.event = EventCode::None;
        if slot.set != NONE {
            self.sets[slot.set as usize].unlink(handles, waitable);
        }
    }

    #[inline(always)]
    fn enqueue(&mut self, set: u32, instance: u32, waitable: u32) {
        let set = &mut self.sets[set as usize];
        set.append(&mut self.instances[instance as usize].handles, waitable);
        // One event wakes one waiter; it looks for itself whether the event is still there.
        let waiter = match &self.watch {
            None => set.waiters.pop(),
            Some(watch) => set.waiters.take(watch.choose(Choice::Waiter, set.waiters.len(), 0)),
        };
        if let Some(waiter) = waiter {
            self.ready.push_back(waiter);
        }
    }

    /// The waitable whose event a set gives next, and its instance: the one that came first.
    #[inline(always)]
    pub(crate) fn first_event(&self, set: u32) -> Option<(u32, u32)> {
        let entry = &self.sets[set as usize];
        let (instance, first) = entry.first()?;
        match &self.watch {
            None => Some((instance, first)),
            Some(watch) => Some((instance, self.choose_event(watch, instance, first))),
        }
    }

    #[cold]
    fn choose_event(&self, watch: &Watch, instance: u32, first: u32) -> u32 {
        let handles = &self.instances[instance as usize].handles;
        let next = |waitable: &u32| handles.get(*waitable).ok().map(|slot| slot.next).filter(|next| *next != NONE);
        let events: Vec<u32> = std::iter::successors(Some(first), next).collect();
        events[watch.choose(Choice::Event, events.len(), sim::of_all(&events))]
    }

    /// `get_pending_event`: makes the payload, with all that delivery changes.
    #[inline(always)]
    pub(crate) fn deliver(&mut self, instance: u32, waitable: u32) -> Event {
        let handles = &mut self.instances[instance as usize].handles;
        let slot = handles.known(waitable);
        if slot.set != NONE {
            self.sets[slot.set as usize].unlink(handles, waitable);
        }
        let slot = handles.known(waitable);
        let event = std::mem::replace(&mut slot.event, EventCode::None);
        assert!(event != EventCode::None, "only a pending event is delivered");
        let payload = match slot.kind {
            Kind::Subtask => {
                let subtask = slot.object;
                self.deliver_subtask(subtask)
            }
            _ => {
                let (stream, payload) = (&mut self.streams[slot.object as usize], (!slot.lazy).then_some(slot.payload));
                match stream.extension {
                    None => stream.deliver(slot, payload),
                    Some(_) => lab::deliver(self, instance, waitable, event, payload),
                }
            }
        };
        (event, waitable, payload)
    }

    /// `waitable-set.poll`
    pub(crate) fn waitable_set_poll(&mut self, instance: u32, handle: u32, cancellable: bool) -> Result<Event> {
        let set = self.handles(instance).expect(handle, Kind::Set, 0)?.object;
        if self.deliver_pending_cancel(cancellable) {
            return Ok((EventCode::TaskCancelled, 0, 0));
        }
        match self.first_event(set) {
            Some((instance, waitable)) => Ok(self.deliver(instance, waitable)),
            None => Ok((EventCode::None, 0, 0)),
        }
    }
}

/// `waitable-set.wait`
pub(crate) fn waitable_set_wait(
    mut store: StoreContextMut<'_, State>,
    instance: u32,
    options: u32,
    handle: u32,
    at: u64,
) -> Result<u32> {
    let state = store.data_mut();
    let cancellable = state.plan().options[options as usize].cancellable;
    if state.goes_on(instance, handle) {
        let event = state.waitable_set_poll(instance, handle, cancellable)?;
        if event.0 != EventCode::None {
            return store_event(store, options, at, event);
        }
    }
    let set = state.handles(instance).expect(handle, Kind::Set, 0)?.object;
    let wait = Wait::Set { set, options, at, cancellable };
    let thread = state.park("`waitable-set.wait` with no event pending", wait)?;
    if state.sets[set as usize].has_event() {
        state.ready.push_back(Ready::Thread(thread));
    }
    Ok(BLOCKED)
}

/// `unpack_event`: two words to memory, the code as the result.
pub(crate) fn store_event(
    mut store: StoreContextMut<'_, State>,
    options: u32,
    at: u64,
    (code, p1, p2): Event,
) -> Result<u32> {
    let memory = store.data().plan().options[options as usize].memory();
    let Some(memory) = memory else { bail!("a waitable set built-in needs the `memory` option") };
    if !at.is_multiple_of(4) {
        bail!("pointer {at:#x} is not aligned to 4");
    }
    store.refresh_memory(memory.as_u32());
    let bytes = store.data_mut().memory_mut(memory.as_u32());
    let start = usize::try_from(at).ok();
    let Some(target) = start.and_then(|start| bytes.get_mut(start..)).and_then(|bytes| bytes.get_mut(..8)) else {
        bail!("pointer {at:#x} is out of bounds of memory")
    };
    target[..4].copy_from_slice(&p1.to_le_bytes());
    target[4..].copy_from_slice(&p2.to_le_bytes());
    Ok(code as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waiters_leave_in_the_order_in_which_they_came(steps in proptest::collection::vec((0..4, 0..6u32), 0..60)) {
            let (mut waiters, mut expected) = (Waiters::default(), VecDeque::new());
            for (step, n) in steps {
                match step {
                    0 => prop_assert_eq!(waiters.pop(), expected.pop_front()),
                    1 => prop_assert_eq!(waiters.take(n as usize), expected.remove(n as usize)),
                    2 => {
                        waiters.remove(Ready::Task(n));
                        expected.retain(|waiter| *waiter != Ready::Task(n));
                    }
                    _ if waiters.contains(Ready::Task(n)) => prop_assert!(expected.contains(&Ready::Task(n))),
                    _ => {
                        waiters.push(Ready::Task(n));
                        expected.push_back(Ready::Task(n));
                    }
                }
                prop_assert_eq!(waiters.len(), expected.len());
            }
        }
    }
}
