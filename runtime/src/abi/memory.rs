//! Linear memories of guests, as byte slices.
//!
//! A memory never moves (`memory_may_move(false)`) and never shrinks, so its base is kept; its length is read again when an
//! access seems to be out of bounds. A slice never outlives the borrow of the `GuestMemory`, and nothing here calls a guest.
#![expect(unsafe_code, reason = "forms slices of wasm memory from its base address, which cannot move")]

use wasmtime::{AsContext, Memory};

/// One linear memory that a Canonical ABI option names.
pub(crate) struct GuestMemory {
    memory: Memory,
    base: *mut u8,
    len: usize,
}

impl GuestMemory {
    pub fn new(store: &impl AsContext, memory: Memory) -> Self {
        let store = store.as_context();
        GuestMemory { memory, base: memory.data_ptr(&store), len: memory.data_size(&store) }
    }

    pub fn handle(&self) -> Memory {
        self.memory
    }

    /// Tells that the memory has `len` bytes now.
    pub fn set_len(&mut self, len: usize) {
        assert!(len >= self.len, "a linear memory never shrinks");
        self.len = len;
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Do both entries name one memory? It has an index for each name that it is exported under.
    pub fn is_same(&self, other: &GuestMemory) -> bool {
        self.base == other.base
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `base..base + len` is inside the memory, which lives as long as its store, and the store owns `self`.
        // Wasm does not run while a host borrow of the store exists, so nobody writes meanwhile.
        unsafe { std::slice::from_raw_parts(self.base, self.len) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; `&mut self` makes this the only slice made from this memory's entry. A memory that a module
        // exports under two names has two entries, so nobody may hold slices of two at once without asking `is_same`; slices
        // are only reached through `&mut State`, one at a time, and `transcode`, the one user of two, asks.
        unsafe { std::slice::from_raw_parts_mut(self.base, self.len) }
    }

    /// Copies between two different memories, or within one.
    pub fn copy(from: &GuestMemory, from_at: usize, to: &GuestMemory, to_at: usize, len: usize) -> Option<()> {
        let in_bounds = |at: usize, memory: &GuestMemory| at.checked_add(len).is_some_and(|end| end <= memory.len);
        if !in_bounds(from_at, from) || !in_bounds(to_at, to) {
            return None;
        }
        // SAFETY: both ranges are in bounds by the check above; `copy` allows overlap. No slice of either memory is alive:
        // the callers hold `&GuestMemory`s only.
        unsafe { std::ptr::copy(from.base.add(from_at), to.base.add(to_at), len) };
        Some(())
    }
}
