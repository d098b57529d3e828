//! What lifting and lowering a value needs: one instance's memory, options and handles.
//!
//! `LiftCx` reads a guest, `LowerCx` writes one; the values themselves are `host::value`'s business.

use super::account::Account;
use super::host_end::{self, ReadEnd, ReadItems, Source};
use super::state::{self, State};
use super::stream::{End, Stream};
use super::table::{Kind, Slot};
use super::task::Lender;
use super::{Result, call};
use crate::component::plan::Plan;
use crate::component::width::PointerWidth;
use std::any::Any;
use std::rc::Rc;
use wasmtime::{AsContextMut, StoreContextMut, bail};
use wasmtime_environ::component::{
    CanonicalOptions, CanonicalOptionsDataModel, ComponentTypes, InterfaceType, StringEncoding, TypeFutureTableIndex,
    TypeResourceTableIndex, TypeStreamTableIndex,
};

/// Core values in flat order. Every slot has 64 bits; narrower values are in the low ones.
pub struct FlatSource<'a> {
    values: &'a [u64],
}

impl<'a> FlatSource<'a> {
    /// Reads `values` from the front.
    pub fn new(values: &'a [u64]) -> Self {
        FlatSource { values }
    }

    /// The next value. Layouts are static, so reading too far is a fault of ours.
    #[expect(clippy::should_implement_trait, reason = "not an iterator: running dry is a bug, not an end")]
    pub fn next(&mut self) -> u64 {
        let (first, rest) = self.values.split_first().expect("a type never reads more flat values than it has");
        self.values = rest;
        *first
    }
}

/// Where flat values go.
pub struct FlatSink<'a> {
    values: &'a mut [u64],
    len: usize,
}

impl<'a> FlatSink<'a> {
    /// Writes to `values` from the front.
    pub fn new(values: &'a mut [u64]) -> Self {
        FlatSink { values, len: 0 }
    }

    /// Appends a value.
    pub fn push(&mut self, value: u64) {
        self.values[self.len] = value;
        self.len += 1;
    }

    /// Appends `n` zeros: the slots that this case of a variant does not use.
    pub fn pad(&mut self, n: usize) {
        (0..n).for_each(|_| self.push(0));
    }

    /// How many values were pushed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nothing was pushed yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Reads one instance's memory and moves handles out of its table (CanonicalABI.md, "lift").
pub struct LiftCx<'a> {
    pub(crate) state: &'a mut State,
    types: &'a ComponentTypes,
    options: &'a CanonicalOptions,
    width: PointerWidth,
    /// Bytes of host memory that the values lifted here may still take.
    budget: usize,
    /// Owned handles that the call has borrowed: they are given back when it is resolved.
    lent: Vec<Lender>,
}

/// Bytes of host memory that the values of one call may take. A guest could name the same bytes many times in one list.
const LIFTED_BYTES_MAX: usize = 128 << 20;

impl<'a> LiftCx<'a> {
    pub(crate) fn new(state: &'a mut State, plan: &'a Plan, options: &'a CanonicalOptions) -> Self {
        let width = plan.width(options);
        LiftCx { state, types: &plan.types, options, width, budget: LIFTED_BYTES_MAX, lent: Vec::new() }
    }

    /// Takes `bytes` of host memory from what the call's values may take.
    pub fn charge(&mut self, bytes: usize) -> Result<()> {
        match self.budget.checked_sub(bytes) {
            Some(rest) => {
                self.budget = rest;
                Ok(())
            }
            None => bail!("the values of one call take more than {LIFTED_BYTES_MAX} bytes"),
        }
    }

    /// Bytes of host memory that the values lifted so far have taken.
    pub(crate) fn charged(&self) -> usize {
        LIFTED_BYTES_MAX - self.budget
    }

    /// The types of the component.
    pub fn types(&self) -> &'a ComponentTypes {
        self.types
    }

    /// How wide the memory's pointers are.
    #[inline]
    pub fn width(&self) -> PointerWidth {
        self.width
    }

    /// The string encoding of these options.
    pub fn encoding(&self) -> StringEncoding {
        self.options.string_encoding
    }

    /// The whole linear memory; empty if the options name none.
    pub fn memory(&self) -> &[u8] {
        match self.options.memory() {
            Some(index) => self.state.memory(index.as_u32()),
            None => &[],
        }
    }

    pub(crate) fn instance(&self) -> u32 {
        self.options.instance.as_u32()
    }

    /// Takes the handle of an owned host resource out of the table.
    pub fn own(&mut self, ty: TypeResourceTableIndex, handle: u32) -> Result<Rc<dyn Any>> {
        let object = self.state.take_own(self.instance(), self.types[ty].unwrap_concrete_ty().as_u32(), handle)?;
        Ok(self.state.host_resources.remove(object as usize))
    }

    /// Looks at a host resource through a handle, owned or borrowed. An owned one is lent until the call is resolved
    /// (CanonicalABI.md, `lift_borrow`).
    pub fn borrow(&mut self, ty: TypeResourceTableIndex, handle: u32) -> Result<Rc<dyn Any>> {
        let rt = self.types[ty].unwrap_concrete_ty().as_u32();
        let instance = self.instance();
        let slot = self.state.handles(instance).get_mut(handle)?;
        if !matches!(slot.kind, Kind::Own | Kind::Borrow) || slot.ty != rt {
            bail!("handle {handle} is not a resource of the expected type");
        }
        let object = slot.object as usize;
        if slot.kind == Kind::Own {
            slot.scope += 1;
            self.lent.push((instance, handle));
        }
        Ok(self.state.host_resources[object].clone())
    }

    /// The owned handles that were borrowed so far.
    pub(crate) fn take_lent(&mut self) -> Vec<Lender> {
        std::mem::take(&mut self.lent)
    }

    /// Takes the readable end of a stream out of the table; gives its position among the zone's streams.
    pub(crate) fn stream(&mut self, ty: TypeStreamTableIndex, handle: u32) -> Result<u32> {
        let ty = self.types[ty].ty.as_u32();
        self.state.take_readable(self.instance(), Kind::StreamRead, ty, handle)
    }

    /// As `stream`.
    pub(crate) fn future(&mut self, ty: TypeFutureTableIndex, handle: u32) -> Result<u32> {
        let ty = self.types[ty].ty.as_u32();
        self.state.take_readable(self.instance(), Kind::FutureRead, ty, handle)
    }
}

/// Writes one instance's memory, calls its realloc and adds handles to its table (CanonicalABI.md, "lower").
pub struct LowerCx<'a> {
    pub(crate) store: StoreContextMut<'a, State>,
    types: &'a ComponentTypes,
    options: &'a CanonicalOptions,
    width: PointerWidth,
}

impl<'a> LowerCx<'a> {
    pub(crate) fn new(store: StoreContextMut<'a, State>, plan: &'a Plan, options: &'a CanonicalOptions) -> Self {
        LowerCx { store, types: &plan.types, options, width: plan.width(options) }
    }

    /// The types of the component.
    pub fn types(&self) -> &'a ComponentTypes {
        self.types
    }

    /// How wide the memory's pointers are.
    #[inline]
    pub fn width(&self) -> PointerWidth {
        self.width
    }

    /// The string encoding of these options.
    pub fn encoding(&self) -> StringEncoding {
        self.options.string_encoding
    }

    /// The whole linear memory. Fetch it again after each `realloc`.
    pub fn memory(&mut self) -> &mut [u8] {
        match self.options.memory() {
            Some(index) => self.store.data_mut().memory_mut(index.as_u32()),
            None => &mut [],
        }
    }

    pub(crate) fn instance(&self) -> u32 {
        self.options.instance.as_u32()
    }

    /// Asks the guest for `new_len` bytes; traps if what it answers is not aligned or not inside its memory.
    pub fn realloc(&mut self, old_ptr: u64, old_len: usize, align: usize, new_len: usize) -> Result<u64> {
        let CanonicalOptionsDataModel::LinearMemory(memory) = self.options.data_model else {
            bail!("values in garbage collected memory are not supported")
        };
        let (Some(realloc), Some(memory)) = (memory.realloc, memory.memory) else {
            bail!("a value needs memory, but the function has no `realloc` option")
        };
        let realloc =
            self.store.data().reallocs[realloc.as_u32() as usize].expect("extracted before the function can be called");
        let args = [old_ptr, old_len as u64, align as u64, new_len as u64];
        let ptr = call::realloc(self.store.as_context_mut(), realloc, self.width, args)?;
        let len = self.store.refresh_memory(memory.as_u32()) as u64;
        if !ptr.is_multiple_of(align as u64) {
            bail!("realloc return: result not aligned");
        }
        if ptr.checked_add(new_len as u64).is_none_or(|end| len < end) {
            bail!("realloc return: beyond end of memory");
        }
        Ok(ptr)
    }

    /// Gives an owned host resource to the guest.
    pub fn own(&mut self, ty: TypeResourceTableIndex, value: Rc<dyn Any>) -> Result<u32> {
        let rt = self.types[ty].unwrap_concrete_ty().as_u32();
        let instance = self.instance();
        let state = self.store.data_mut();
        let object = state::add(&mut state.host_resources, value, "resources of the host")?;
        state.handles(instance).add(Slot::new(Kind::Own, rt, object))
    }

    /// Gives the guest the readable end of a stream or future that the host writes.
    pub(crate) fn lower_source(&mut self, ty: InterfaceType, source: Box<dyn Source>) -> Result<u32> {
        let (kind, ty) = self.readable(ty);
        let instance = self.instance();
        let state = self.store.data_mut();
        let stream = Stream {
            future: kind == Kind::FutureRead,
            reader: End::Gone,
            writer: End::Host,
            dropped: false,
            pending: None,
            source: Some(source),
            read: None,
            extension: None,
        };
        let stream = state::add(&mut state.streams, stream, "streams and futures")?;
        state.put_readable(instance, kind, ty, stream)
    }

    /// Gives the guest a readable end that the host took from a guest of the same zone. What the host has read of it and not used,
    /// bytes alone, is not lost.
    pub(crate) fn lower_end(&mut self, ty: InterfaceType, end: ReadEnd) -> Result<u32> {
        let items = self.stop_read(&end)?;
        let (kind, ty) = self.readable(ty);
        let instance = self.instance();
        let state = self.store.data_mut();
        if let Some((items, _)) = items {
            let Ok(bytes) = items.downcast::<Vec<u8>>() else {
                bail!("only a stream of bytes can be given away after the host has read from it");
            };
            state.streams[end.stream() as usize].put_unread(&state.account, *bytes)?;
        }
        state.put_readable(instance, kind, ty, end.into_stream())
    }

    /// The host reads no more of `end`: gives what it has read and not used.
    pub(crate) fn stop_read(&mut self, end: &ReadEnd) -> Result<Option<ReadItems>> {
        if !end.is_of(&self.store.data().zone) {
            bail!("a stream or future of one zone cannot be read in another");
        }
        Ok(host_end::stop_read(self.store.data_mut(), end.stream()))
    }

    fn readable(&self, ty: InterfaceType) -> (Kind, u32) {
        match ty {
            InterfaceType::Stream(table) => (Kind::StreamRead, self.types[table].ty.as_u32()),
            InterfaceType::Future(table) => (Kind::FutureRead, self.types[table].ty.as_u32()),
            other => unreachable!("{other:?} was checked to be a stream or future when the function was linked"),
        }
    }

    /// Lends a host resource to the guest for the running task.
    pub fn borrow(&mut self, ty: TypeResourceTableIndex, value: Rc<dyn Any>) -> Result<u32> {
        let rt = self.types[ty].unwrap_concrete_ty().as_u32();
        let instance = self.instance();
        let state = self.store.data_mut();
        let object = state::add(&mut state.host_resources, value, "resources of the host")?;
        let handle = state.add_borrow(instance, rt, object)?;
        state.handles(instance).get_mut(handle)?.lent_by_host = true;
        Ok(handle)
    }
}

/// What a host function gets besides its arguments.
pub struct HostCx<'a> {
    pub(crate) store: StoreContextMut<'a, State>,
    /// The instance that calls.
    pub(crate) instance: u32,
}

impl HostCx<'_> {
    /// The host's own data of this zone, if it is a `T`.
    pub fn data<T: Any>(&self) -> Option<Rc<T>> {
        self.store.data().host.clone().downcast().ok()
    }

    /// Where what the host keeps for this zone's guests is counted.
    pub fn account(&self) -> &Rc<Account> {
        &self.store.data().account
    }

    /// What is alive in this zone.
    pub fn census(&self) -> super::Census {
        self.store.data().census()
    }
}

/// Memory access through the store.
pub(crate) trait Memories {
    /// Reads the length of a memory again; gives it in bytes.
    fn refresh_memory(&mut self, index: u32) -> usize;
}

impl Memories for StoreContextMut<'_, State> {
    fn refresh_memory(&mut self, index: u32) -> usize {
        let memory = self.data().memories[index as usize].as_ref().expect("extracted before it is used").handle();
        let len = memory.data_size(&*self);
        self.data_mut().memories[index as usize].as_mut().expect("as above").set_len(len);
        len
    }
}

impl State {
    /// The bytes of a memory that an option names.
    pub(crate) fn memory(&self, index: u32) -> &[u8] {
        self.memories[index as usize].as_ref().map_or(&[], |memory| memory.bytes())
    }

    /// As `memory`, to write.
    pub(crate) fn memory_mut(&mut self, index: u32) -> &mut [u8] {
        self.memories[index as usize].as_mut().map_or(&mut [], |memory| memory.bytes_mut())
    }
}
