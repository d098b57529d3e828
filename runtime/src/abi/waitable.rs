//! Waitables and waitable sets (CanonicalABI.md, "Waitable State").
//!
//! A waitable is a slot of a handle table with room for one pending event. A set keeps a queue of its waitables that have
//! one, linked through their slots, so that nothing is searched. The event's payload is made when it is delivered: several
//! things that happen to one waitable before that are one event.

use super::Result;
use super::state::{Ready, State};
use super::table::{EventCode, Kind, NONE, Slot, Table};
use std::collections::VecDeque;
use wasmtime::bail;

/// An event as a guest gets it: code, index, payload.
pub(crate) type Event = (EventCode, u32, u32);

pub(crate) struct WaitableSet {
    pub instance: u32,
    /// Waitables that have joined.
    pub elements: u32,
    /// First and last waitable with a pending event, in order of arrival.
    head: u32,
    tail: u32,
    /// Tasks that wait for an event and have not been told to look yet.
    pub waiters: VecDeque<u32>,
    /// Tasks that wait, told or not (`num_waiting`).
    pub waiting: u32,
}

impl WaitableSet {
    pub(crate) fn has_event(&self) -> bool {
        self.head != NONE
    }

    /// The waitable whose event is the oldest, and its instance.
    pub(crate) fn first(&self) -> Option<(u32, u32)> {
        self.has_event().then_some((self.instance, self.head))
    }

    /// Puts a waitable that has got an event behind the others.
    #[inline]
    fn append(&mut self, handles: &mut Table, waitable: u32) {
        let last = std::mem::replace(&mut self.tail, waitable);
        if last == NONE {
            self.head = waitable;
            return;
        }
        linked(handles, last).next = waitable;
        linked(handles, waitable).prev = last;
    }

    /// Takes a waitable out of the queue, wherever it is.
    #[inline]
    fn unlink(&mut self, handles: &mut Table, waitable: u32) {
        let slot = linked(handles, waitable);
        let prev = std::mem::replace(&mut slot.prev, NONE);
        let next = std::mem::replace(&mut slot.next, NONE);
        match prev {
            NONE => self.head = next,
            prev => linked(handles, prev).next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => linked(handles, next).prev = prev,
        }
    }
}

/// A waitable that is in a queue, or about to be.
#[inline]
fn linked(handles: &mut Table, waitable: u32) -> &mut Slot {
    handles.get_mut(waitable).expect("waitables leave their set before their handle goes")
}

impl State {
    pub(crate) fn waitable_set_new(&mut self, instance: u32) -> Result<u32> {
        let set = WaitableSet { instance, elements: 0, head: NONE, tail: NONE, waiters: VecDeque::new(), waiting: 0 };
        let object = self.sets.insert(set) as u32;
        self.handles(instance).add(Slot::new(Kind::Set, 0, object))
    }

    pub(crate) fn waitable_set_drop(&mut self, instance: u32, handle: u32) -> Result<()> {
        let object = self.handles(instance).expect(handle, Kind::Set, 0)?.object;
        let set = &self.sets[object as usize];
        if set.elements > 0 {
            bail!("cannot drop waitable set {handle}: {} waitables are in it", set.elements);
        }
        if set.waiting > 0 {
            bail!("cannot drop waitable set {handle}: a task waits for it");
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

    /// Takes the waitable out of its set, if it is in one.
    pub(crate) fn leave_set(&mut self, instance: u32, waitable: u32) {
        let Ok(slot) = self.handles(instance).get(waitable) else { return };
        let (set, pending) = (slot.set, slot.event != EventCode::None);
        if set == NONE {
            return;
        }
        let entry = &mut self.sets[set as usize];
        entry.elements -= 1;
        let handles = &mut self.instances[instance as usize].handles;
        if pending {
            entry.unlink(handles, waitable);
        }
        linked(handles, waitable).set = NONE;
    }

    /// `set_pending_event`: overwrites an event that is already pending.
    pub(crate) fn post(&mut self, instance: u32, waitable: u32, event: EventCode, payload: Option<u32>) {
        let slot = self.handles(instance).get_mut(waitable).expect("an event is only posted to a handle that exists");
        let fresh = slot.event == EventCode::None;
        slot.event = event;
        slot.lazy = payload.is_none();
        slot.payload = payload.unwrap_or(0);
        let set = slot.set;
        if fresh && set != NONE {
            self.enqueue(set, instance, waitable);
        }
    }

    fn enqueue(&mut self, set: u32, instance: u32, waitable: u32) {
        let set = &mut self.sets[set as usize];
        set.append(&mut self.instances[instance as usize].handles, waitable);
        // One event wakes one waiter; it looks for itself whether the event is still there.
        if let Some(task) = set.waiters.pop_front() {
            self.ready.push_back(Ready::Task(task));
        }
    }

    /// `get_pending_event`: makes the payload, with all that delivery changes.
    pub(crate) fn deliver(&mut self, instance: u32, waitable: u32) -> Event {
        let handles = &mut self.instances[instance as usize].handles;
        let set = linked(handles, waitable).set;
        if set != NONE {
            self.sets[set as usize].unlink(handles, waitable);
        }
        let slot = linked(handles, waitable);
        let event = std::mem::replace(&mut slot.event, EventCode::None);
        assert!(event != EventCode::None, "only a pending event is delivered");
        let payload = match slot.kind {
            Kind::Subtask => self.deliver_subtask(instance, waitable),
            _ => self.streams[slot.object as usize].deliver(slot, (!slot.lazy).then_some(slot.payload)),
        };
        (event, waitable, payload)
    }

    /// `waitable-set.poll` without cancellation.
    pub(crate) fn waitable_set_poll(&mut self, instance: u32, handle: u32) -> Result<Event> {
        let set = self.handles(instance).expect(handle, Kind::Set, 0)?.object;
        match self.sets[set as usize].first() {
            Some((instance, waitable)) => Ok(self.deliver(instance, waitable)),
            None => Ok((EventCode::None, 0, 0)),
        }
    }
}
