//! The host's view of the memory that it shares with the shims (`component::shims::record` has the layout).
//!
//! Offsets are either constants of the layout or record offsets that the shims or `allocate` handed out; both stay within
//! the part of the memory that exists. The header always does; everywhere else it is asserted, once for a record's fields.
#![expect(unsafe_code, reason = "reads and writes shared wasm memory through its base address, which cannot move")]

use crate::abi::Result;
use crate::component::plan::Adapter;
use crate::component::shims::{self, record};
use std::marker::PhantomData;
use wasmtime::{AsContextMut, Memory, bail};

/// Offset of a task record in the shared memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Record(pub u32);

impl Record {
    /// The record that stands for "no task".
    pub const NONE: Record = Record(0);
}

/// The shared memory.
pub(crate) struct Records {
    memory: Memory,
    base: *mut u8,
    len: usize,
    /// Bytes that already belong to records or the header.
    used: usize,
}

/// The fields of one record.
pub(crate) struct Fields<'a> {
    base: *mut u8,
    records: PhantomData<&'a mut Records>,
}

impl Fields<'_> {
    #[inline]
    fn at(&self, field: u32) -> *mut u32 {
        assert!(field + 4 <= record::SIZE, "not a field of a record");
        // SAFETY: `Records::fields` has looked that a whole record is there, and the assertion above that this is in it.
        unsafe { self.base.add(field as usize) }.cast()
    }

    #[inline]
    pub fn get(&self, field: u32) -> u32 {
        // SAFETY: `at` is in bounds; wasm does not run while the host does, so nobody writes meanwhile.
        unsafe { self.at(field).read_unaligned() }
    }

    #[inline]
    pub fn set(&mut self, field: u32, value: u32) {
        // SAFETY: as in `get`.
        unsafe { self.at(field).write_unaligned(value) }
    }

    #[inline]
    fn clear(&mut self) {
        // SAFETY: as in `get`; all fields are there.
        unsafe { self.base.write_bytes(0, record::SIZE as usize) }
    }
}

impl Records {
    pub fn new(store: &mut impl AsContextMut, memory: Memory, instances: u32) -> Self {
        let store = store.as_context_mut();
        let len = memory.data_size(&store);
        assert!(record::INSTANCES as usize <= len, "the shims declare a memory that has room for the header");
        let mut records =
            Records { memory, base: memory.data_ptr(&store), len, used: record::first(instances) as usize };
        records.link_free();
        records
    }

    /// The address of `len` bytes at `offset`.
    #[inline]
    fn range(&self, offset: u32, len: usize) -> *mut u8 {
        assert!(offset as usize + len <= self.len, "outside of the shared memory");
        // SAFETY: in bounds by the assertion above; the memory is kept alive by the store that owns `self`, and it never
        // moves because the engine is configured with `memory_may_move(false)`.
        unsafe { self.base.add(offset as usize) }
    }

    /// As `range`, in the header. Nothing is left of the assertion where `offset` is a constant.
    #[inline]
    fn header(&self, offset: u32, len: usize) -> *mut u8 {
        assert!(offset as usize + len <= record::INSTANCES as usize, "not in the header");
        // SAFETY: in the header by the assertion above, and hence in bounds by that of `new`; otherwise as in `range`.
        unsafe { self.base.add(offset as usize) }
    }

    /// A word of the header.
    #[inline]
    pub fn get(&self, offset: u32) -> u32 {
        // SAFETY: `header` is in bounds; wasm does not run while the host does, so nobody writes meanwhile.
        unsafe { self.header(offset, 4).cast::<u32>().read_unaligned() }
    }

    #[inline]
    pub fn set(&mut self, offset: u32, value: u32) {
        // SAFETY: as in `get`.
        unsafe { self.header(offset, 4).cast::<u32>().write_unaligned(value) }
    }

    #[inline]
    fn word(&self, offset: u32) -> *mut u32 {
        self.range(offset, 4).cast()
    }

    #[inline]
    pub fn field(&self, task: Record, field: u32) -> u32 {
        // SAFETY: `word` is in bounds; wasm does not run while the host does, so nobody writes meanwhile.
        unsafe { self.word(task.0 + field).read_unaligned() }
    }

    #[inline]
    pub fn set_field(&mut self, task: Record, field: u32, value: u32) {
        // SAFETY: as in `field`.
        unsafe { self.word(task.0 + field).write_unaligned(value) }
    }

    /// All fields of one record.
    #[inline]
    pub fn fields(&mut self, task: Record) -> Fields<'_> {
        Fields { base: self.range(task.0, record::SIZE as usize), records: PhantomData }
    }

    /// Keeps the pointer that the caller of `adapter` wants its result through; without meaning if it has none.
    pub fn set_retptr(&mut self, task: Record, adapter: &Adapter, pointer: u64) {
        match shims::mode(adapter) {
            record::MODE_RETPTR64 => {
                self.set_field(task, record::RETPTR64, pointer as u32);
                self.set_field(task, record::RETPTR64 + 4, (pointer >> 32) as u32);
            }
            _ => self.set_field(task, record::RETPTR, pointer as u32),
        }
    }

    /// The flat result of a call, whatever its type.
    pub fn result(&self, task: Record) -> u64 {
        let word = |field| u64::from(self.field(task, field));
        word(record::RESULT) | word(record::RESULT + 4) << 32
    }

    #[inline]
    pub fn current(&self) -> Record {
        Record(self.get(record::CURRENT))
    }

    #[inline]
    pub fn set_current(&mut self, task: Record) {
        self.set(record::CURRENT, task.0);
    }

    #[inline]
    pub fn gate(&self, instance: u32) -> u32 {
        // SAFETY: as in `field`.
        unsafe { self.word(record::gate(instance)).read_unaligned() }
    }

    /// May `instance` be left (`may_leave`)?
    #[inline]
    pub fn may_leave(&self, instance: u32) -> bool {
        // SAFETY: as in `field`.
        unsafe { self.word(record::may_not_leave(instance)).read_unaligned() == 0 }
    }

    /// Gives the bits that are set then.
    #[inline]
    pub fn set_gate(&mut self, instance: u32, bits: u32, on: bool) -> u32 {
        let word = self.word(record::gate(instance));
        // SAFETY: as in `field`.
        let gate = unsafe { word.read_unaligned() };
        let gate = if on { gate | bits } else { gate & !bits };
        // SAFETY: as above.
        unsafe { word.write_unaligned(gate) };
        gate
    }

    pub fn scratch(&self, slot: u32) -> u64 {
        let at = self.header(record::SCRATCH + slot * 8, 8);
        // SAFETY: `header` is in bounds; wasm does not run while the host does, so nobody writes meanwhile.
        unsafe { at.cast::<u64>().read_unaligned() }
    }

    #[inline]
    pub fn set_scratch(&mut self, slot: u32, value: u64) {
        assert!(slot < record::SCRATCH_SLOTS, "a job takes at most {} values", record::SCRATCH_SLOTS);
        let at = self.header(record::SCRATCH + slot * 8, 8);
        // SAFETY: as in `scratch`.
        unsafe { at.cast::<u64>().write_unaligned(value) }
    }

    #[inline]
    pub fn has_free(&self) -> bool {
        self.get(record::FREE) != 0
    }

    /// Takes a free record, with all fields zero.
    #[inline]
    pub fn allocate(&mut self) -> Record {
        let task = Record(self.get(record::FREE));
        assert!(task != Record::NONE, "`has_free` is asked, or `grow` called, before");
        let mut fields = self.fields(task);
        let next = fields.get(record::NEXT);
        fields.clear();
        self.set(record::FREE, next);
        task
    }

    pub fn free(&mut self, task: Record) {
        assert!(task != Record::NONE, "the record of no task is never freed");
        self.set_field(task, record::NEXT, self.get(record::FREE));
        self.set(record::FREE, task.0);
    }

    /// The memory itself: growing it needs the whole store.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// Takes the room that the memory has gained, now that it has `len` bytes, for more tasks.
    ///
    /// # Errors
    /// It has gained none: the zone has all the tasks that it may have.
    pub fn grown(&mut self, len: usize) -> Result<()> {
        if len == self.len {
            bail!("too many concurrent tasks in one zone ({})", self.used / record::SIZE as usize);
        }
        self.len = len;
        self.link_free();
        Ok(())
    }

    /// Puts every record that has never been used on the free list, the lowest first.
    fn link_free(&mut self) {
        let size = record::SIZE as usize;
        let count = (self.len - self.used) / size;
        for n in (0..count).rev() {
            self.free(Record((self.used + n * size) as u32));
        }
        self.used += count * size;
    }

    /// Records in use, for leak tests.
    pub fn in_use(&self, instances: u32) -> usize {
        let mut free = 0;
        let mut next = self.get(record::FREE);
        while next != 0 {
            free += 1;
            next = self.field(Record(next), record::NEXT);
        }
        (self.used - record::first(instances) as usize) / record::SIZE as usize - free
    }
}
