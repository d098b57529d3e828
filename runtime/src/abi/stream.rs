//! Streams and futures (CanonicalABI.md, "Stream State" and "Future State").
//!
//! A stream has two ends. At most one of them has a buffer pending; what comes to the other side meets it there, and bytes go
//! from memory to memory. A future is a stream of one element whose ends are done after it. An end can be the host's: then it
//! is a `Source` (the host writes) or a `HostRead` (the host reads), see `host_end`.
//! Events are made when they are delivered, so that a buffer that is filled twice, or whose peer goes away, gives one event.

use super::copy;
use super::cx::Memories;
use super::host_end::{HostRead, Produced, Source};
use super::memory::GuestMemory;
use super::state::{Ready, State};
use super::table::{CopyState, EventCode, Kind, NONE, Slot};
use super::{BLOCKED, Result};
use std::task::{Context, Poll};
use wasmtime::{AsContextMut, StoreContextMut, bail};
use wasmtime_environ::component::{ComponentTypes, InterfaceType, TypeFutureTableIndex, TypeStreamTableIndex};

/// `CopyResult`
const COMPLETED: u32 = 0;
const DROPPED: u32 = 1;
const CANCELLED: u32 = 2;

/// `Buffer.MAX_LENGTH`
const BUFFER_LENGTH_MAX: u32 = (1 << 28) - 1;

/// What a stream carries, as one end's instance sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element {
    pub payload: Option<InterfaceType>,
    pub size: u32,
    pub align: u32,
    /// Nothing, or a number: bytes can be moved as they are.
    pub plain: bool,
}

impl Element {
    fn new(types: &ComponentTypes, payload: Option<InterfaceType>) -> Self {
        use InterfaceType::*;
        let Some(ty) = payload else { return Element { payload, size: 0, align: 1, plain: true } };
        let abi = types.canonical_abi(&ty);
        let plain = matches!(ty, U8 | S8 | U16 | S16 | U32 | S32 | U64 | S64 | Float32 | Float64);
        Element { payload, size: abi.size32, align: abi.align32, plain }
    }

    pub fn of_stream(types: &ComponentTypes, ty: TypeStreamTableIndex) -> Self {
        Element::new(types, types[types[ty].ty].payload)
    }

    pub fn of_future(types: &ComponentTypes, ty: TypeFutureTableIndex) -> Self {
        Element::new(types, types[types[ty].ty].payload)
    }
}

/// Who holds an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Guest {
        instance: u32,
        handle: u32,
    },
    Host,
    /// Dropped.
    Gone,
}

/// The buffer of the side that came first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub write: bool,
    pub instance: u32,
    pub handle: u32,
    pub options: u32,
    pub element: Element,
    /// Where the next element goes or comes from.
    ptr: u32,
    len: u32,
    progress: u32,
}

impl Pending {
    pub fn remain(&self) -> u32 {
        self.len - self.progress
    }

    pub fn at(&self) -> u32 {
        self.ptr + self.progress * self.element.size
    }
}

pub(crate) struct Stream {
    pub future: bool,
    pub reader: End,
    pub writer: End,
    /// One end is gone: the other learns it at its next operation, or now if it has one pending.
    pub dropped: bool,
    pub pending: Option<Pending>,
    /// The host's writing end.
    pub source: Option<Box<dyn Source>>,
    /// The host's reading end, while it waits.
    pub read: Option<HostRead>,
}

/// Which ends a `{stream,future}.*` built-in takes: whose they are, their kind and their type.
#[derive(Clone, Copy)]
pub(crate) struct EndType {
    pub instance: u32,
    pub future: bool,
    pub write: bool,
    /// `TypeStreamIndex` or `TypeFutureIndex`
    pub ty: u32,
}

impl EndType {
    /// The kind of their handles.
    pub(crate) fn kind(self) -> Kind {
        end_kind(self.future, self.write)
    }
}

/// A `{stream,future}.{read,write}` as its trampoline knows it.
#[derive(Clone, Copy)]
pub(crate) struct CopyOp {
    pub end: EndType,
    pub element: Element,
    pub options: u32,
    pub memory: Option<u32>,
    pub async_: bool,
}

/// The handle kind of an end.
fn end_kind(future: bool, write: bool) -> Kind {
    match (future, write) {
        (false, false) => Kind::StreamRead,
        (false, true) => Kind::StreamWrite,
        (true, false) => Kind::FutureRead,
        (true, true) => Kind::FutureWrite,
    }
}

fn event_code(future: bool, write: bool) -> EventCode {
    match (future, write) {
        (false, false) => EventCode::StreamRead,
        (false, true) => EventCode::StreamWrite,
        (true, false) => EventCode::FutureRead,
        (true, true) => EventCode::FutureWrite,
    }
}

/// What an operation meets on the other side.
enum Meets {
    Nothing,
    Dropped,
    Guest(Pending),
    Source,
    HostRead,
}

/// `stream.read`, `stream.write`, `future.read`, `future.write`: gives the packed result or `BLOCKED`.
pub(crate) fn copy(mut store: StoreContextMut<'_, State>, op: &CopyOp, handle: u32, ptr: u32, len: u32) -> Result<u32> {
    let state = store.data_mut();
    let slot = state.instances[op.end.instance as usize].handles.expect(handle, op.end.kind(), op.end.ty)?;
    match slot.copy {
        CopyState::Idle => {}
        CopyState::Copying | CopyState::Cancelling => {
            bail!("cannot have concurrent operations active on a future/stream")
        }
        CopyState::Done if op.end.future => bail!("cannot use a future end after it is done"),
        CopyState::Done => bail!("cannot use a stream end after being notified that the other end dropped"),
    }
    if slot.set != NONE && !op.async_ {
        bail!("a synchronous operation on a stream or future that is in a waitable set");
    }
    let stream = slot.object;
    check_buffer(&mut store, op, ptr, len)?;
    let state = store.data_mut();
    state.instances[op.end.instance as usize].handles.get_mut(handle)?.copy = CopyState::Copying;
    let pending = Pending {
        write: op.end.write,
        instance: op.end.instance,
        handle,
        options: op.options,
        element: op.element,
        ptr,
        len,
        progress: 0,
    };
    let result = match state.meets(stream, op.end.write) {
        Meets::Dropped => Some(DROPPED),
        Meets::Nothing => {
            state.streams[stream as usize].pending = Some(pending);
            None
        }
        Meets::Guest(other) => meet_guest(&mut store, stream, pending, other)?,
        Meets::Source => {
            store.data_mut().streams[stream as usize].pending = Some(pending);
            poll_source(store.as_context_mut(), stream)?;
            return finish_or_block(store.data_mut(), op, handle);
        }
        Meets::HostRead => {
            store.data_mut().streams[stream as usize].pending = Some(pending);
            super::host_end::offer(store.as_context_mut(), stream)?;
            return finish_or_block(store.data_mut(), op, handle);
        }
    };
    let state = store.data_mut();
    match result {
        Some(packed) => {
            let done = state.copy_done(op.end.future, packed & 0xf);
            state.instances[op.end.instance as usize].handles.get_mut(handle)?.copy = done;
            Ok(packed)
        }
        None => blocked(op),
    }
}

/// The event that the operation itself has caused, if any, is its result.
fn finish_or_block(state: &mut State, op: &CopyOp, handle: u32) -> Result<u32> {
    if state.handles(op.end.instance).get(handle)?.event != EventCode::None {
        return Ok(state.deliver(op.end.instance, handle).2);
    }
    blocked(op)
}

fn blocked(op: &CopyOp) -> Result<u32> {
    if op.async_ {
        return Ok(BLOCKED);
    }
    let name = match (op.end.future, op.end.write) {
        (false, false) => "stream.read",
        (false, true) => "stream.write",
        (true, false) => "future.read",
        (true, true) => "future.write",
    };
    super::would_block(&format!("a synchronous `{name}`"))
}

/// CanonicalABI.md, "Buffer State": length, alignment and bounds are checked even if nothing is copied.
#[inline]
fn check_buffer(store: &mut StoreContextMut<'_, State>, op: &CopyOp, ptr: u32, len: u32) -> Result<()> {
    if len > BUFFER_LENGTH_MAX {
        bail!("stream buffer of {len} elements; 2^28 - 1 at most");
    }
    if op.element.payload.is_none() || len == 0 {
        return Ok(());
    }
    if !ptr.is_multiple_of(op.element.align) {
        bail!("stream buffer at {ptr:#x} is not aligned to {}", op.element.align);
    }
    let end = u64::from(ptr) + u64::from(len) * u64::from(op.element.size);
    let Some(memory) = op.memory else { bail!("a stream operation with a payload needs the `memory` option") };
    let known = store.data().memories[memory as usize].as_ref().map_or(0, GuestMemory::len);
    if end > known as u64 && end > store.refresh_memory(memory) as u64 {
        bail!("stream buffer is out of bounds of memory");
    }
    Ok(())
}

/// Both sides are guests. `Some` is the packed result for `own`, whose operation this is.
fn meet_guest(
    store: &mut StoreContextMut<'_, State>,
    stream: u32,
    own: Pending,
    other: Pending,
) -> Result<Option<u32>> {
    if own.instance == other.instance && !own.element.plain {
        bail!("cannot read from and write to intra-component future/stream with non-numeric payload");
    }
    let count = own.len.min(other.remain());
    if count > 0 {
        let (from, to) = if own.write { (&own, &other) } else { (&other, &own) };
        copy_elements(store.as_context_mut(), from, to, count)?;
    }
    let state = store.data_mut();
    let entry = &mut state.streams[stream as usize];
    if other.remain() > 0 {
        if count > 0 {
            entry.pending.as_mut().expect("`other` is pending").progress += count;
            match entry.future {
                true => state.notify_pending(stream, COMPLETED),
                // The buffer stays until its event is delivered: it may take more, or the peer may go away.
                false => state.post(other.instance, other.handle, event_code(false, other.write), None),
            }
        }
        return Ok(Some(pack(state.streams[stream as usize].future, COMPLETED, count)));
    }
    // A zero-length write that finds a zero-length read is a question that is answered at once; the reader goes on waiting.
    if own.write && own.len == 0 && other.len == 0 {
        return Ok(Some(COMPLETED));
    }
    state.notify_pending(stream, COMPLETED);
    state.streams[stream as usize].pending = Some(own);
    Ok(None)
}

fn copy_elements(mut store: StoreContextMut<'_, State>, from: &Pending, to: &Pending, count: u32) -> Result<()> {
    if from.element.payload.is_none() {
        return Ok(());
    }
    if !from.element.plain {
        return copy::elements(store, from, to, count);
    }
    let state = store.data_mut();
    let len = count as usize * from.element.size as usize;
    let (source, target) = (state.options_memory(from.options), state.options_memory(to.options));
    let copied = match (source, target) {
        (Some(source), Some(target)) => GuestMemory::copy(source, from.at() as usize, target, to.at() as usize, len),
        _ => None,
    };
    match copied {
        Some(()) => Ok(()),
        None => bail!("stream buffer is out of bounds of memory"),
    }
}

/// Lets the host's source fill the buffer that a guest reads into.
pub(crate) fn poll_source(mut store: StoreContextMut<'_, State>, stream: u32) -> Result<()> {
    let state = store.data_mut();
    let Some(entry) = state.streams.get_mut(stream as usize) else { return Ok(()) };
    let (Some(pending), false) = (entry.pending, entry.dropped) else { return Ok(()) };
    if pending.len == 0 {
        // A zero-length read asks whether there is something; the next read will tell.
        state.notify_pending(stream, COMPLETED);
        return Ok(());
    }
    let Some(mut source) = entry.source.take() else { return Ok(()) };
    let waker = state.wakes.waker(Ready::HostEnd(stream));
    let compiled = state.compiled.clone();
    let options = &compiled.plan.options[pending.options as usize];
    let produced = {
        let cx = super::LowerCx::new(store.as_context_mut(), &compiled.plan.types, options);
        let mut destination = super::host_end::Destination::new(cx, pending.element, pending.at(), pending.remain());
        let produced = source.poll_produce(&mut Context::from_waker(&waker), &mut destination);
        let written = destination.written();
        produced.map(|produced| produced.map(|produced| (produced, written)))
    };
    let state = store.data_mut();
    let future = state.streams[stream as usize].future;
    match produced {
        Poll::Pending => state.streams[stream as usize].source = Some(source),
        Poll::Ready(Ok((Produced::Items, written))) => {
            assert!(
                0 < written && written <= pending.remain(),
                "a source that is ready has written between 1 and all elements"
            );
            let entry = &mut state.streams[stream as usize];
            entry.source = (!future).then_some(source);
            entry.pending.as_mut().expect("read above").progress += written;
            state.notify_pending(stream, COMPLETED);
        }
        Poll::Ready(Ok((Produced::End, _))) => {
            assert!(!future, "the host always gives a future its value");
            state.streams[stream as usize].writer = End::Gone;
            state.end_dropped(stream);
        }
        Poll::Ready(Err(error)) => return Err(error),
    }
    Ok(())
}

fn pack(future: bool, result: u32, progress: u32) -> u32 {
    if future { result } else { result | progress << 4 }
}

impl State {
    fn meets(&self, stream: u32, write: bool) -> Meets {
        let stream = &self.streams[stream as usize];
        match (stream.dropped, &stream.pending, if write { stream.reader } else { stream.writer }) {
            (true, ..) => Meets::Dropped,
            (false, Some(pending), _) => Meets::Guest(*pending),
            (false, None, End::Host) if write => Meets::HostRead,
            (false, None, End::Host) => Meets::Source,
            (false, None, _) => Meets::Nothing,
        }
    }

    fn options_memory(&self, options: u32) -> Option<&GuestMemory> {
        let memory = self.plan().options[options as usize].memory()?;
        self.memories[memory.as_u32() as usize].as_ref()
    }

    fn copy_done(&self, future: bool, result: u32) -> CopyState {
        match (result, future) {
            (DROPPED, _) | (COMPLETED, true) => CopyState::Done,
            _ => CopyState::Idle,
        }
    }

    /// `stream.new`, `future.new`: readable index low, writable index high.
    pub(crate) fn stream_new(&mut self, instance: u32, future: bool, ty: u32) -> Result<u64> {
        let stream = Stream {
            future,
            reader: End::Gone,
            writer: End::Gone,
            dropped: false,
            pending: None,
            source: None,
            read: None,
        };
        let object = self.streams.insert(stream) as u32;
        let readable = self.handles(instance).add(Slot::new(end_kind(future, false), ty, object))?;
        let writable = self.handles(instance).add(Slot::new(end_kind(future, true), ty, object))?;
        let stream = &mut self.streams[object as usize];
        stream.reader = End::Guest { instance, handle: readable };
        stream.writer = End::Guest { instance, handle: writable };
        Ok(u64::from(readable) | u64::from(writable) << 32)
    }

    /// `reset_and_notify_pending`: the pending buffer is given back with this result.
    pub(crate) fn notify_pending(&mut self, stream: u32, result: u32) {
        let entry = &mut self.streams[stream as usize];
        let Some(pending) = entry.pending.take() else { return };
        let payload = pack(entry.future, result, pending.progress);
        let code = event_code(entry.future, pending.write);
        self.post(pending.instance, pending.handle, code, Some(payload));
    }

    /// The pending buffer of a stream has moved on by `count` elements; its event tells how far it got when it is delivered.
    pub(crate) fn progress_pending(&mut self, stream: u32, count: u32) {
        let entry = &mut self.streams[stream as usize];
        let pending = entry.pending.as_mut().expect("only a pending buffer moves on");
        pending.progress += count;
        assert!(pending.progress <= pending.len, "a buffer never moves beyond its end");
        let Pending { instance, handle, write, .. } = *pending;
        match entry.future {
            true => self.notify_pending(stream, COMPLETED),
            false => self.post(instance, handle, event_code(false, write), None),
        }
    }

    /// `stream_event`, `future_event`: the end's new state and its packed result.
    pub(crate) fn deliver_copy(&mut self, instance: u32, handle: u32, payload: Option<u32>) -> u32 {
        let slot = *self.handles(instance).get(handle).expect("the caller looked it up");
        let stream = &mut self.streams[slot.object as usize];
        let future = stream.future;
        let payload = payload.unwrap_or_else(|| {
            // `reclaim_buffer`
            let progress = stream.pending.take().map_or(0, |pending| pending.progress);
            pack(future, COMPLETED, progress)
        });
        let done = self.copy_done(future, payload & 0xf);
        self.handles(instance).get_mut(handle).expect("looked up above").copy = done;
        payload
    }

    /// `{stream,future}.cancel-{read,write}`. Whoever is on the other side, cancellation is complete at once.
    pub(crate) fn cancel_copy(&mut self, end: EndType, async_: bool, handle: u32) -> Result<u32> {
        let slot = self.handles(end.instance).expect(handle, end.kind(), end.ty)?;
        if slot.copy != CopyState::Copying {
            bail!("cannot cancel: no operation is in progress on the stream or future");
        }
        if slot.set != NONE && !async_ {
            bail!("a synchronous cancellation on a stream or future that is in a waitable set");
        }
        slot.copy = CopyState::Cancelling;
        let (stream, has_event) = (slot.object, slot.event != EventCode::None);
        if !has_event {
            self.notify_pending(stream, CANCELLED);
        }
        Ok(self.deliver(end.instance, handle).2)
    }

    /// `{stream,future}.drop-{readable,writable}`
    pub(crate) fn drop_end(&mut self, end: EndType, handle: u32) -> Result<()> {
        let slot = self.handles(end.instance).expect(handle, end.kind(), end.ty)?;
        if matches!(slot.copy, CopyState::Copying | CopyState::Cancelling) {
            bail!("cannot drop a stream or future end while an operation is in progress");
        }
        if end.future && end.write && slot.copy != CopyState::Done {
            bail!("cannot drop future write end without first writing a value");
        }
        let stream = slot.object;
        self.leave_set(end.instance, handle);
        self.handles(end.instance).remove(handle)?;
        let entry = &mut self.streams[stream as usize];
        match end.write {
            true => entry.writer = End::Gone,
            false => entry.reader = End::Gone,
        }
        self.end_dropped(stream);
        Ok(())
    }

    /// One end has gone: tell the other, and forget the stream when both are.
    pub(crate) fn end_dropped(&mut self, stream: u32) {
        let entry = &mut self.streams[stream as usize];
        if !entry.dropped {
            entry.dropped = true;
            if let Some(read) = &mut entry.read {
                read.wake();
            }
            // The host has no use for its end once the guest's is gone.
            let source = (entry.reader == End::Gone).then(|| entry.source.take()).flatten();
            if source.is_some() || (entry.reader == End::Gone && entry.writer == End::Host) {
                entry.writer = End::Gone;
            }
            self.notify_pending(stream, DROPPED);
            drop(source);
        }
        let entry = &self.streams[stream as usize];
        if entry.reader == End::Gone && entry.writer == End::Gone {
            self.streams.remove(stream as usize);
        }
    }

    /// Takes a readable end out of a table, to give it to somebody else (CanonicalABI.md, `lift_async_value`).
    pub(crate) fn take_readable(&mut self, instance: u32, kind: Kind, ty: u32, handle: u32) -> Result<u32> {
        let slot = self.handles(instance).expect(handle, kind, ty)?;
        if slot.copy != CopyState::Idle {
            bail!(
                "cannot pass on a readable end that is {}",
                if slot.copy == CopyState::Done { "done" } else { "busy" }
            );
        }
        if slot.set != NONE {
            bail!("cannot pass on a readable end that is in a waitable set");
        }
        let stream = slot.object;
        self.handles(instance).remove(handle)?;
        Ok(stream)
    }

    /// Puts a readable end into a table.
    pub(crate) fn put_readable(&mut self, instance: u32, kind: Kind, ty: u32, stream: u32) -> Result<u32> {
        let handle = self.handles(instance).add(Slot::new(kind, ty, stream))?;
        self.streams[stream as usize].reader = End::Guest { instance, handle };
        Ok(handle)
    }
}
