//! The handle table of a component instance (CanonicalABI.md, "Table State").
//!
//! Slots are plain words: what a handle means is in the objects that it names (`stream`, `waitable`, `resource`). Index 0
//! is never handed out, freed indices are reused last in, first out, as the specification has it.

use crate::abi::Result;
use wasmtime::bail;

/// Handles that one instance may have. The specification allows 2^28 - 1; we stop where a leaking guest would hurt.
pub(crate) const HANDLES_MAX: usize = 1 << 20;

/// No link, no set.
pub(crate) const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Free,
    Own,
    Borrow,
    StreamRead,
    StreamWrite,
    FutureRead,
    FutureWrite,
    Subtask,
    Set,
    ErrorContext,
}

/// `CopyState` of a stream or future end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CopyState {
    Idle,
    Copying,
    Cancelling,
    Done,
}

/// `EventCode`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum EventCode {
    None = 0,
    Subtask = 1,
    StreamRead = 2,
    StreamWrite = 3,
    FutureRead = 4,
    FutureWrite = 5,
    TaskCancelled = 6,
}

/// One handle. The fields from `copy` on are those of a waitable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub kind: Kind,
    /// Resource, stream or future type (`ResourceIndex`, `TypeStreamIndex`, `TypeFutureIndex`).
    pub ty: u32,
    /// The object: representation, or position in the zone's streams, subtasks, sets. Free: the next free index.
    pub object: u32,
    /// Own: number of lends. Borrow: the record of the task in whose scope it is.
    pub scope: u32,
    /// Borrow: the host's resource was put among the zone's for this handle alone, and goes with it.
    pub lent_by_host: bool,
    pub copy: CopyState,
    /// The pending event; `payload` is final, or (`lazy`) made when the event is delivered.
    pub event: EventCode,
    pub lazy: bool,
    pub payload: u32,
    /// The thread that operates on it synchronously.
    pub waiter: u32,
    /// The set that the waitable has joined.
    pub set: u32,
    /// Links of the set's queue of pending events.
    pub next: u32,
    pub prev: u32,
}

impl Slot {
    pub fn new(kind: Kind, ty: u32, object: u32) -> Self {
        Slot {
            kind,
            ty,
            object,
            scope: 0,
            lent_by_host: false,
            copy: CopyState::Idle,
            event: EventCode::None,
            lazy: false,
            payload: 0,
            waiter: NONE,
            set: NONE,
            next: NONE,
            prev: NONE,
        }
    }

    pub fn is_waitable(&self) -> bool {
        use Kind::*;
        matches!(self.kind, StreamRead | StreamWrite | FutureRead | FutureWrite | Subtask)
    }
}

/// The table itself.
pub(crate) struct Table {
    slots: Vec<Slot>,
    /// First free index; 0 if none.
    free: u32,
    used: usize,
}

impl Table {
    pub fn new() -> Self {
        Table { slots: vec![Slot::new(Kind::Free, 0, 0)], free: 0, used: 0 }
    }

    pub fn add(&mut self, slot: Slot) -> Result<u32> {
        if self.used >= HANDLES_MAX {
            bail!("handle table full: {HANDLES_MAX} handles in one component instance");
        }
        self.used += 1;
        if self.free == 0 {
            self.slots.push(slot);
            return Ok(self.slots.len() as u32 - 1);
        }
        let index = self.free;
        self.free = self.slots[index as usize].object;
        self.slots[index as usize] = slot;
        Ok(index)
    }

    #[inline]
    pub fn get(&self, index: u32) -> Result<&Slot> {
        match self.slots.get(index as usize) {
            Some(slot) if slot.kind != Kind::Free => Ok(slot),
            _ => unknown(index),
        }
    }

    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Result<&mut Slot> {
        match self.slots.get_mut(index as usize) {
            Some(slot) if slot.kind != Kind::Free => Ok(slot),
            _ => unknown(index),
        }
    }

    /// A handle that is there: somebody who keeps it busy has its index.
    #[inline(always)]
    pub fn known(&mut self, index: u32) -> &mut Slot {
        let slot = &mut self.slots[index as usize];
        assert!(slot.kind != Kind::Free, "handle {index} is gone, though somebody keeps it busy");
        slot
    }

    /// A handle of this kind and type.
    #[inline]
    pub fn expect(&mut self, index: u32, kind: Kind, ty: u32) -> Result<&mut Slot> {
        match self.slots.get_mut(index as usize) {
            Some(slot) if slot.kind == kind && slot.ty == ty => Ok(slot),
            other => unexpected(index, other.map(|slot| slot.kind), kind),
        }
    }

    pub fn remove(&mut self, index: u32) -> Result<()> {
        let next = self.free;
        let slot = self.get_mut(index)?;
        (slot.kind, slot.object) = (Kind::Free, next);
        self.free = index;
        self.used -= 1;
        Ok(())
    }

    /// The waitables that have joined a set.
    pub fn members(&self, set: u32) -> impl Iterator<Item = (u32, &Slot)> {
        (0..).zip(&self.slots).filter(move |(_, slot)| slot.is_waitable() && slot.set == set)
    }

    /// Number of handles.
    pub fn len(&self) -> usize {
        self.used
    }
}

#[cold]
fn unknown<T>(index: u32) -> Result<T> {
    bail!("unknown handle index {index}")
}

#[cold]
fn unexpected<T>(index: u32, is: Option<Kind>, wanted: Kind) -> Result<T> {
    match is {
        None | Some(Kind::Free) => unknown(index),
        Some(kind) if kind == wanted => bail!("handle {index} is a {wanted:?} of another type"),
        Some(kind) => bail!("handle {index} is a {kind:?}, not a {wanted:?}"),
    }
}
