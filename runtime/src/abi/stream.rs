//! Streams and futures (CanonicalABI.md, "Stream State" and "Future State").
//!
//! A stream has two ends. At most one of them has a buffer pending; what comes to the other side meets it there, and bytes go
//! from memory to memory. A future is a stream of one element whose ends are done after it. An end can be the host's: then it
//! is a `Source` (the host writes) or a `HostRead` (the host reads), see `host_end`.
//! Events are made when they are delivered, so that a buffer that is filled twice, or whose peer goes away, gives one event.

use super::copy;
use super::cx::Memories;
use super::host_end::{HostRead, Produced, Source};
use super::lab::{self, Extension};
use super::memory::GuestMemory;
use super::state::{self, Ready, State};
use super::table::{CopyState, EventCode, Kind, NONE, Slot};
use super::thread::Wait;
use super::{BLOCKED, Result};
use crate::component::width::{Place, PointerWidth};
use std::task::{Context, Poll};
use wasmtime::{AsContextMut, StoreContextMut, bail};
use wasmtime_environ::component::{ComponentTypes, InterfaceType, TypeFutureTableIndex, TypeStreamTableIndex};

/// `CopyResult`
pub(super) const COMPLETED: u32 = 0;
pub(super) const DROPPED: u32 = 1;
const CANCELLED: u32 = 2;
/// The bits of a result that say which of these it is; above them is the progress.
const RESULT_MASK: u32 = 0xf;

/// `Buffer.MAX_LENGTH`
pub(super) const BUFFER_LENGTH_MAX: u32 = (1 << 28) - 1;

/// What a stream carries, as one end's instance sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element {
    pub payload: Option<InterfaceType>,
    /// Bytes and alignment in the memory of the end's instance.
    pub size: u32,
    pub align: u32,
    /// Nothing, or a number: bytes can be moved as they are.
    pub plain: bool,
}

impl Element {
    fn new(types: &ComponentTypes, payload: Option<InterfaceType>, width: PointerWidth) -> Self {
        let Some(ty) = payload else { return Element { payload, size: 0, align: 1, plain: true } };
        let Place { size, align } = width.place(types.canonical_abi(&ty));
        Element { payload, size: size as u32, align: align as u32, plain: Element::is_plain(payload) }
    }

    /// See `plain`.
    pub fn is_plain(payload: Option<InterfaceType>) -> bool {
        use InterfaceType::*;
        matches!(payload, None | Some(U8 | S8 | U16 | S16 | U32 | S32 | U64 | S64 | Float32 | Float64))
    }

    pub fn of_stream(types: &ComponentTypes, ty: TypeStreamTableIndex, width: PointerWidth) -> Self {
        Element::new(types, types[types[ty].ty].payload, width)
    }

    pub fn of_future(types: &ComponentTypes, ty: TypeFutureTableIndex, width: PointerWidth) -> Self {
        Element::new(types, types[types[ty].ty].payload, width)
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

/// The operation that came first, and how far its buffer has got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub op: CopyOp,
    pub handle: u32,
    pub ptr: u64,
    pub len: u32,
    pub progress: u32,
}

impl Pending {
    pub fn remain(&self) -> u32 {
        self.len - self.progress
    }

    /// Its event, if this is what became of it.
    #[inline]
    fn event(&self, result: u32) -> CopyEvent {
        let EndType { instance, future, write, .. } = self.op.end;
        let payload = pack(future, result, self.progress);
        CopyEvent { instance, handle: self.handle, code: event_code(future, write), payload }
    }

    /// Where the next element goes or comes from.
    pub fn at(&self) -> usize {
        self.ptr as usize + self.progress as usize * self.op.element.size as usize
    }
}

/// What an end that has waited is told.
struct CopyEvent {
    instance: u32,
    handle: u32,
    code: EventCode,
    payload: u32,
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
    /// What somebody tries with this stream; hardly any has one.
    pub extension: Option<Box<dyn Extension>>,
}

impl Stream {
    /// `stream_event`, `future_event`: the packed result that an end gets, and the end's new state. `payload` is what was
    /// known when the event was made.
    #[inline]
    pub fn deliver(&mut self, end: &mut Slot, payload: Option<u32>) -> u32 {
        let payload = payload.unwrap_or_else(|| {
            // `reclaim_buffer`
            let progress = self.pending.take().map_or(0, |pending| pending.progress);
            pack(self.future, COMPLETED, progress)
        });
        end.copy = CopyState::after(self.future, payload & 0xf);
        payload
    }
}

impl CopyState {
    /// The state of an end that has got this result.
    fn after(future: bool, result: u32) -> CopyState {
        match (result, future) {
            (DROPPED, _) | (COMPLETED, true) => CopyState::Done,
            _ => CopyState::Idle,
        }
    }
}

/// Which ends a `{stream,future}.*` built-in takes: whose they are, their kind and their type.
#[derive(Clone, Copy, Debug)]
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
#[derive(Clone, Copy, Debug)]
pub(crate) struct CopyOp {
    pub end: EndType,
    /// `end.kind()`
    pub kind: Kind,
    pub element: Element,
    pub options: u32,
    /// Where its buffers are, if elements have bytes.
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

pub(super) fn event_code(future: bool, write: bool) -> EventCode {
    match (future, write) {
        (false, false) => EventCode::StreamRead,
        (false, true) => EventCode::StreamWrite,
        (true, false) => EventCode::FutureRead,
        (true, true) => EventCode::FutureWrite,
    }
}

/// A call of a `{stream,future}.{read,write}`.
#[derive(Clone, Copy)]
pub(crate) struct Operation<'a> {
    pub op: &'a CopyOp,
    pub handle: u32,
    pub ptr: u64,
    pub len: u32,
}

/// A memory, and an address in it.
type MemoryAt = (u32, usize);

impl Operation<'_> {
    /// From where to where bytes go between our buffer and `theirs`; `None` if elements have none.
    #[inline]
    fn way(&self, theirs: (Option<u32>, usize)) -> Result<Option<(MemoryAt, MemoryAt)>> {
        let (memory, other) = match (self.op.memory, theirs.0) {
            (Some(memory), Some(other)) => (memory, other),
            _ if self.op.element.payload.is_none() => return Ok(None),
            _ => bail!("a stream operation with a payload needs the `memory` option"),
        };
        let (ours, theirs) = ((memory, self.ptr as usize), (other, theirs.1));
        Ok(Some(if self.op.end.write { (ours, theirs) } else { (theirs, ours) }))
    }

    fn pending(&self) -> Pending {
        Pending { op: *self.op, handle: self.handle, ptr: self.ptr, len: self.len, progress: 0 }
    }
}

/// `stream.read`, `stream.write`, `future.read`, `future.write`: gives the packed result or `BLOCKED`.
pub(crate) fn copy(mut store: StoreContextMut<'_, State>, op: &CopyOp, handle: u32, ptr: u64, len: u32) -> Result<u32> {
    if let Err(fault) = check_buffer(&mut store, op, ptr, len) {
        return Err(store.data_mut().rather_cannot_block(op.async_, fault));
    }
    let State { instances, streams, .. } = store.data_mut();
    let slot = match instances[op.end.instance as usize].handles.expect(handle, op.kind, op.end.ty) {
        Ok(slot) => slot,
        Err(fault) => return Err(store.data_mut().rather_cannot_block(op.async_, fault)),
    };
    if slot.copy != CopyState::Idle || (!op.async_ && slot.set != NONE) {
        return may_not_copy(slot, op);
    }
    let object = slot.object;
    let stream = &mut streams[object as usize];
    if stream.extension.is_some() {
        return lab::copy(store, object, Operation { op, handle, ptr, len });
    }
    if stream.dropped {
        slot.copy = CopyState::Done;
        return Ok(DROPPED);
    }
    let own = Operation { op, handle, ptr, len };
    if stream.pending.is_some() {
        return meet(store, object, &own);
    }
    slot.copy = CopyState::Copying;
    stream.pending = Some(own.pending());
    match if op.end.write { stream.reader } else { stream.writer } {
        End::Guest { .. } | End::Gone => return blocked(store.data_mut(), op, handle),
        End::Host if op.end.write => super::host_end::offer(store.as_context_mut(), object)?,
        End::Host if store.data_mut().answers_at_once(op.async_, Ready::HostEnd(object)) => {
            poll_source(store.as_context_mut(), object)?;
        }
        End::Host => {}
    }
    // The event that the operation itself has caused, if any, is its result.
    let state = store.data_mut();
    match state.handles(op.end.instance).get(handle)?.event {
        EventCode::None => blocked(state, op, handle),
        _ => Ok(state.deliver(op.end.instance, handle).2),
    }
}

#[cold]
fn may_not_copy(slot: &Slot, op: &CopyOp) -> Result<u32> {
    match slot.copy {
        CopyState::Idle => bail!("waitable cannot be used synchronously while added to a waitable set"),
        CopyState::Copying | CopyState::Cancelling => {
            bail!("cannot have concurrent operations active on a future/stream")
        }
        CopyState::Done => bail!("{}", done(&op.end)),
    }
}

/// Why an end that is done cannot be used.
fn done(end: &EndType) -> &'static str {
    match (end.future, end.write) {
        (true, true) => "cannot write to future after previous write succeeded or readable end dropped",
        (true, false) => "cannot read from future after previous read succeeded",
        (false, true) => "cannot write to stream after being notified that the readable end dropped",
        (false, false) => "cannot read from stream after being notified that the writable end dropped",
    }
}

/// Why a readable end cannot be given to somebody else.
fn not_lifted(kind: Kind, state: CopyState) -> &'static str {
    match (kind, state) {
        (Kind::FutureRead, CopyState::Done) => "cannot lift future after previous read succeeded",
        (Kind::FutureRead, _) => "cannot lift busy future",
        (_, CopyState::Done) => "cannot lift stream after being notified that the writable end dropped",
        _ => "cannot lift busy stream",
    }
}

fn name(kind: Kind) -> &'static str {
    if kind == Kind::FutureRead { "future" } else { "stream" }
}

/// The operation has to wait: so does the guest, unless it is asynchronous.
#[inline]
fn blocked(state: &mut State, op: &CopyOp, handle: u32) -> Result<u32> {
    if op.async_ { Ok(BLOCKED) } else { wait(state, op, handle) }
}

#[cold]
fn wait(state: &mut State, op: &CopyOp, handle: u32) -> Result<u32> {
    let what = match (op.end.future, op.end.write) {
        (false, false) => "a synchronous `stream.read`",
        (false, true) => "a synchronous `stream.write`",
        (true, false) => "a synchronous `future.read`",
        (true, true) => "a synchronous `future.write`",
    };
    state.park(what, Wait::Event { handle })?;
    Ok(BLOCKED)
}

/// CanonicalABI.md, "Buffer State": length, alignment and bounds are checked even if nothing is copied.
#[inline]
pub(super) fn check_buffer(store: &mut StoreContextMut<'_, State>, op: &CopyOp, ptr: u64, len: u32) -> Result<()> {
    let Element { size, align, .. } = op.element;
    let end = ptr.saturating_add(u64::from(len) * u64::from(size));
    let known =
        op.memory.and_then(|memory| store.data().memories[memory as usize].as_ref()).map_or(0, GuestMemory::len);
    if len <= BUFFER_LENGTH_MAX && ptr & u64::from(align - 1) == 0 && end <= known as u64 {
        return Ok(());
    }
    check_odd_buffer(store, op, ptr, len)
}

/// As `check_buffer`, for buffers that are wrong, unused or beyond what was last known of the memory.
#[cold]
fn check_odd_buffer(store: &mut StoreContextMut<'_, State>, op: &CopyOp, ptr: u64, len: u32) -> Result<()> {
    if len > BUFFER_LENGTH_MAX {
        bail!("stream read/write count too large: {len} elements; 2^28 - 1 at most");
    }
    if op.element.payload.is_none() || len == 0 {
        return Ok(());
    }
    if !ptr.is_multiple_of(u64::from(op.element.align)) {
        bail!("stream buffer at {ptr:#x} is not aligned to {}", op.element.align);
    }
    let Some(memory) = op.memory else { bail!("a stream operation with a payload needs the `memory` option") };
    let end = ptr.saturating_add(u64::from(len) * u64::from(op.element.size));
    if end > store.refresh_memory(memory) as u64 {
        bail!("stream buffer is out of bounds of memory");
    }
    Ok(())
}

/// Both sides are guests, and the other has come first.
#[inline(always)]
pub(super) fn meet(mut store: StoreContextMut<'_, State>, object: u32, own: &Operation<'_>) -> Result<u32> {
    let State { streams, memories, .. } = store.data_mut();
    let other = streams[object as usize].pending.as_ref().expect("the caller has looked");
    let Element { plain, size, .. } = own.op.element;
    if !plain && own.op.end.instance == other.op.end.instance {
        bail!("cannot read from and write to intra-component future/stream with non-numeric payload");
    }
    let count = own.len.min(other.remain());
    if count == 0 {
        return meet_no_room(store.data_mut(), object, own);
    }
    let len = count as usize * size as usize;
    match own.way((other.op.memory, other.at()))? {
        Some((from, to)) if plain && len <= copy::BYTES_AT_ONCE => copy::piece(memories, from, to, len)?,
        _ => copy_others(store.as_context_mut(), object, *own, count)?,
    }
    let state = store.data_mut();
    // The buffer stays until its event is delivered: it may take more, or the peer may go away.
    state.progress_pending(object, count);
    Ok(state.completed(own, count))
}

/// As `meet`, if one of the buffers has no room.
#[inline(always)]
fn meet_no_room(state: &mut State, object: u32, own: &Operation<'_>) -> Result<u32> {
    let pending = &mut state.streams[object as usize].pending;
    let other = pending.as_ref().expect("the caller has looked");
    // A buffer without room asks whether there is something: there is. So does one that finds such a question of a reader,
    // who goes on waiting.
    if other.remain() > 0 || (own.op.end.write && own.len == 0 && other.len == 0) {
        return Ok(state.completed(own, 0));
    }
    let event = other.event(COMPLETED);
    *pending = Some(own.pending());
    state.slot_of(own).copy = CopyState::Copying;
    state.notify(event);
    blocked(state, own.op, own.handle)
}

/// Moves `count` numbers between the buffers of two guests, in one go.
pub(super) fn copy_at_once(
    memories: &[Option<GuestMemory>],
    own: &Operation<'_>,
    other: &Pending,
    count: u32,
) -> Result<()> {
    match own.way((other.op.memory, other.at()))? {
        Some((from, to)) => copy::piece(memories, from, to, count as usize * own.op.element.size as usize),
        None => Ok(()),
    }
}

/// As `copy_at_once`, for values that are many, or have to be looked at.
#[cold]
fn copy_others(mut store: StoreContextMut<'_, State>, object: u32, own: Operation<'_>, count: u32) -> Result<()> {
    let other = store.data().streams[object as usize].pending.expect("the caller has looked");
    store.data_mut().slot_of(&own).copy = CopyState::Copying;
    copy_between(store.as_context_mut(), &own, &other, count)?;
    store.data_mut().slot_of(&own).copy = CopyState::Idle;
    Ok(())
}

fn copy_between(store: StoreContextMut<'_, State>, own: &Operation<'_>, other: &Pending, count: u32) -> Result<()> {
    if own.op.element.plain {
        return match own.way((other.op.memory, other.at()))? {
            Some((from, to)) => copy::bytes(store, from, to, count as usize * own.op.element.size as usize),
            None => Ok(()),
        };
    }
    let own_pending = own.pending();
    let (from, to) = if own.op.end.write { (&own_pending, other) } else { (other, &own_pending) };
    copy::elements(store, from, to, count)
}

/// Lets the host's source fill the buffer that a guest reads into.
pub(crate) fn poll_source(mut store: StoreContextMut<'_, State>, stream: u32) -> Result<()> {
    let state = store.data_mut();
    let Some(entry) = state.streams.get_mut(stream as usize) else { return Ok(()) };
    if entry.extension.is_some() {
        return lab::poll_source(store, stream);
    }
    let (Some(pending), false) = (entry.pending, entry.dropped) else { return Ok(()) };
    // A source that is gone may still wake; its stream's place may be another's by now.
    if entry.writer != End::Host {
        return Ok(());
    }
    if pending.len == 0 {
        // A zero-length read asks whether there is something; the next read will tell.
        state.notify_pending(stream, COMPLETED);
        return Ok(());
    }
    let Some(mut source) = entry.source.take() else { return Ok(()) };
    let produced = produce(store.as_context_mut(), stream, &mut *source, &pending);
    let state = store.data_mut();
    let future = state.streams[stream as usize].future;
    match produced {
        Poll::Pending => state.streams[stream as usize].source = Some(source),
        Poll::Ready(Ok((Produced::Items, written))) => {
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

/// Lets `source` write behind what `pending` has already; gives how many elements it wrote.
pub(super) fn produce(
    mut store: StoreContextMut<'_, State>,
    stream: u32,
    source: &mut dyn Source,
    pending: &Pending,
) -> Poll<Result<(Produced, u32)>> {
    let state = store.data_mut();
    let waker = state.wakes.waker(Ready::HostEnd(stream));
    let compiled = state.compiled.clone();
    let options = &compiled.plan.options[pending.op.options as usize];
    let cx = super::LowerCx::new(store.as_context_mut(), &compiled.plan, options);
    let mut destination = super::host_end::Destination::new(cx, pending.op.element, pending.at(), pending.remain());
    let produced = source.poll_produce(&mut Context::from_waker(&waker), &mut destination);
    let written = destination.written();
    if let Poll::Ready(Ok(Produced::Items)) = produced {
        let all = pending.remain();
        assert!(0 < written && written <= all, "a source that is ready has written between 1 and all elements");
    }
    produced.map(|produced| produced.map(|produced| (produced, written)))
}

pub(super) fn pack(future: bool, result: u32, progress: u32) -> u32 {
    if future { result } else { result | progress << 4 }
}

impl State {
    #[inline]
    fn slot_of(&mut self, own: &Operation<'_>) -> &mut Slot {
        self.handles(own.op.end.instance).known(own.handle)
    }

    /// The operation `own` is over at once, after `count` elements: a stream's end is idle still.
    #[inline(always)]
    fn completed(&mut self, own: &Operation<'_>, count: u32) -> u32 {
        let future = own.op.end.future;
        if future {
            self.slot_of(own).copy = CopyState::Done;
        }
        pack(future, COMPLETED, count)
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
            extension: None,
        };
        let object = state::add(&mut self.streams, stream, "streams and futures")?;
        let readable = self.handles(instance).add(Slot::new(end_kind(future, false), ty, object))?;
        let writable = self.handles(instance).add(Slot::new(end_kind(future, true), ty, object))?;
        let stream = &mut self.streams[object as usize];
        stream.reader = End::Guest { instance, handle: readable };
        stream.writer = End::Guest { instance, handle: writable };
        Ok(u64::from(readable) | u64::from(writable) << 32)
    }

    /// `reset_and_notify_pending`: the pending buffer is given back with this result.
    pub(crate) fn notify_pending(&mut self, stream: u32, result: u32) {
        if let Some(pending) = self.streams[stream as usize].pending.take() {
            self.notify(pending.event(result));
        }
    }

    #[inline]
    fn notify(&mut self, event: CopyEvent) {
        let CopyEvent { instance, handle, code, payload } = event;
        self.post(instance, handle, code, Some(payload));
    }

    /// The pending buffer of a stream has moved on by `count` elements; its event tells how far it got when it is delivered.
    #[inline(always)]
    pub(crate) fn progress_pending(&mut self, stream: u32, count: u32) {
        let entry = &mut self.streams[stream as usize];
        let pending = entry.pending.as_mut().expect("only a pending buffer moves on");
        pending.progress += count;
        assert!(pending.progress <= pending.len, "a buffer never moves beyond its end");
        let EndType { instance, future, write, .. } = pending.op.end;
        match future {
            true => self.notify_pending(stream, COMPLETED),
            false => {
                let handle = pending.handle;
                self.post(instance, handle, event_code(false, write), None);
            }
        }
    }

    /// `{stream,future}.cancel-{read,write}`. Whoever is on the other side, cancellation is complete at once.
    pub(crate) fn cancel_copy(&mut self, end: EndType, async_: bool, handle: u32) -> Result<u32> {
        self.try_cancel_copy(end, async_, handle).map_err(|fault| self.rather_cannot_block(async_, fault))
    }

    fn try_cancel_copy(&mut self, end: EndType, async_: bool, handle: u32) -> Result<u32> {
        let slot = self.handles(end.instance).expect(handle, end.kind(), end.ty)?;
        if slot.copy != CopyState::Copying || slot.waiter != NONE {
            bail!("cannot cancel: no operation is in progress on the stream or future");
        }
        if slot.set != NONE && !async_ {
            bail!("waitable cannot be used synchronously while added to a waitable set");
        }
        slot.copy = CopyState::Cancelling;
        let (stream, has_event) = (slot.object, slot.event != EventCode::None);
        let extended = self.streams[stream as usize].extension.is_some();
        let more = if extended { lab::before_cancel(self, stream, end.write) } else { 0 };
        if !has_event {
            self.notify_pending(stream, CANCELLED);
        }
        let result = self.deliver(end.instance, handle).2 + (more << 4);
        // Some elements may have moved before: they are reported with the cancellation, not instead of it.
        let copied = !end.future && result & RESULT_MASK == COMPLETED;
        Ok(if copied { result | CANCELLED } else { result })
    }

    /// `{stream,future}.drop-{readable,writable}`
    pub(crate) fn drop_end(&mut self, end: EndType, handle: u32) -> Result<()> {
        let slot = self.handles(end.instance).expect(handle, end.kind(), end.ty)?;
        if matches!(slot.copy, CopyState::Copying | CopyState::Cancelling) {
            bail!("cannot drop busy {}: an operation is in progress", if end.future { "future" } else { "stream" });
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
            // Nobody has a use for what was to be read again.
            if entry.reader == End::Gone && entry.has_unread() {
                entry.extension = None;
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
            bail!("{}", not_lifted(kind, slot.copy));
        }
        if slot.set != NONE {
            bail!("cannot lift {} while it's in a waitable set", name(kind));
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
