//! Ends of streams and futures that the host holds.
//!
//! Where the host writes, it is a `Source` that is polled into the guest's buffer when the guest reads. Where the host reads,
//! it asks (`poll_read`), takes what a guest has pending, or leaves a `HostRead` that the next write fills. So at most one
//! chunk is between guest and host, and a guest that nobody reads from waits: backpressure needs no queue. A chunk that the host
//! has not used when it gives the end to a guest stays with the stream (`unread`).
//! Elements are lifted and lowered by their Rust type, which this file does not know.

use super::Result;
use super::account::Held;
use super::cx::{HostCx, LiftCx, LowerCx, Memories};
use super::state::State;
use super::stream::{Element, End};
use std::any::Any;
use std::task::{Context, Poll, Waker};
use wasmtime::{AsContextMut, StoreContextMut, format_err};
use wasmtime_environ::component::InterfaceType;

/// What a source did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Produced {
    /// At least one element was written to the destination.
    Items,
    /// There is nothing more: the writable end is dropped.
    End,
}

/// The host's writing end.
///
/// For a future, exactly one element is written. An error is a fault of the host's function and traps the zone.
pub trait Source: Any {
    /// Writes to `destination`, or arranges to be woken.
    fn poll_produce(&mut self, task: &mut Context<'_>, destination: &mut Destination<'_>) -> Poll<Result<Produced>>;
}

/// The buffer of a read.
pub struct Destination<'a> {
    room: Room<'a>,
    element: Element,
    /// The address of the first element.
    at: usize,
    capacity: u32,
    written: u32,
}

/// Who reads.
enum Room<'a> {
    Guest(LowerCx<'a>),
    /// The host: for bytes alone.
    Host(&'a mut [u8]),
}

impl Room<'_> {
    #[inline]
    fn memory(&mut self) -> &mut [u8] {
        match self {
            Room::Guest(cx) => cx.memory(),
            Room::Host(bytes) => bytes,
        }
    }
}

impl<'a> Destination<'a> {
    pub(crate) fn new(cx: LowerCx<'a>, element: Element, at: usize, capacity: u32) -> Self {
        Destination { room: Room::Guest(cx), element, at, capacity, written: 0 }
    }

    fn of_host(bytes: &'a mut [u8]) -> Self {
        let element = Element { payload: Some(InterfaceType::U8), size: 1, align: 1, plain: true };
        let capacity = bytes.len() as u32;
        Destination { room: Room::Host(bytes), element, at: 0, capacity, written: 0 }
    }

    /// How many more elements fit.
    pub fn remaining(&self) -> usize {
        (self.capacity - self.written) as usize
    }

    pub(crate) fn written(&self) -> u32 {
        self.written
    }

    /// For bytes: copies as much of `bytes` as fits, and tells how much that was.
    pub fn put_bytes(&mut self, bytes: &[u8]) -> usize {
        assert!(matches!(self.element.payload, Some(InterfaceType::U8)), "bytes go into a stream of bytes");
        let len = bytes.len().min(self.remaining());
        let at = self.at + self.written as usize;
        self.room.memory()[at..at + len].copy_from_slice(&bytes[..len]);
        self.written += len as u32;
        len
    }

    /// For bytes: the memory to fill. Tell how much was filled with `advance`.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        assert!(matches!(self.element.payload, Some(InterfaceType::U8)), "bytes go into a stream of bytes");
        let (at, len) = (self.at + self.written as usize, self.remaining());
        &mut self.room.memory()[at..at + len]
    }

    /// `count` elements of `bytes_mut` were filled.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining(), "cannot fill more than there is room for");
        self.written += count as u32;
    }

    /// Lowers one element with `store`; there must be room.
    pub fn put(
        &mut self,
        store: impl FnOnce(&mut LowerCx<'_>, Option<InterfaceType>, usize) -> Result<()>,
    ) -> Result<()> {
        assert!(self.remaining() > 0, "an element needs room");
        let at = self.at + self.written as usize * self.element.size as usize;
        let Room::Guest(cx) = &mut self.room else { unreachable!("a host reads a host's bytes alone") };
        store(cx, self.element.payload, at)?;
        self.written += 1;
        Ok(())
    }
}

/// Lifts `count` elements that lie at an address into a `Vec` of the reader's element type.
pub(crate) type LiftItems = fn(&mut LiftCx<'_>, Option<InterfaceType>, usize, usize) -> Result<Box<dyn Any>>;

/// A read of the host that waits for a guest's write.
pub(crate) struct HostRead {
    max: u32,
    lift: LiftItems,
    items: Option<Box<dyn Any>>,
    waker: Option<Waker>,
    /// For a read that nobody has asked for: what its items take.
    held: Option<Held>,
}

/// What a read has brought, and its part of the zone's account.
pub(crate) type ReadItems = (Box<dyn Any>, Option<Held>);

impl HostRead {
    fn new(max: usize, lift: LiftItems, held: Option<Held>) -> Self {
        HostRead { max: max.clamp(1, u32::MAX as usize) as u32, lift, items: None, waker: None, held }
    }

    pub fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// As a write would: gives how many of `bytes` it took.
    pub fn fill_with_bytes(&mut self, bytes: &[u8]) -> usize {
        if self.items.is_some() {
            return 0;
        }
        let count = bytes.len().min(self.max as usize);
        self.items = Some(Box::new(bytes[..count].to_vec()));
        self.wake();
        count
    }

    /// Ends `read`, if there is one: gives what came, to a reader that is here itself and need not be woken.
    #[inline]
    fn end(read: &mut Option<HostRead>) -> Option<ReadItems> {
        let ending = read.as_mut()?;
        ending.waker = None;
        let (items, held) = (ending.items.take(), ending.held.take());
        *read = None;
        Some((items?, held))
    }
}

impl Drop for HostRead {
    fn drop(&mut self) {
        // The zone goes, and with it whatever the reader waits for: it has to look.
        self.wake();
    }
}

/// The next elements of a stream that the host reads: `Ready(None)` at its end.
pub(crate) fn poll_read(
    mut store: StoreContextMut<'_, State>,
    stream: u32,
    max: usize,
    lift: LiftItems,
    task: &mut Context<'_>,
) -> Poll<Result<Option<Box<dyn Any>>>> {
    let state = store.data_mut();
    let entry = &mut state.streams[stream as usize];
    if let Some((items, _)) = HostRead::end(&mut entry.read) {
        return Poll::Ready(Ok(Some(items)));
    }
    if let Some(bytes) = entry.take_unread(max.max(1)) {
        return Poll::Ready(Ok(Some(Box::new(bytes))));
    }
    // Only now: what was written before a trap still counts.
    if let Some(poison) = &state.poison {
        return Poll::Ready(Err(format_err!("{poison}")));
    }
    let entry = &mut state.streams[stream as usize];
    if entry.writer == End::Host && !entry.dropped {
        return poll_host(state, stream, max, task);
    }
    entry.read = Some(HostRead::new(max, lift, None));
    if let Err(error) = offer(store.as_context_mut(), stream) {
        return Poll::Ready(Err(error));
    }
    let entry = &mut store.data_mut().streams[stream as usize];
    match &mut entry.read {
        // Not before: what is there already must not wake who looks at it.
        Some(read) if read.items.is_none() && !entry.dropped => {
            read.waker = Some(task.waker().clone());
            Poll::Pending
        }
        _ => Poll::Ready(Ok(HostRead::end(&mut entry.read).map(|(items, _)| items))),
    }
}

/// The host begins to read and asks later (`poll_read`), or never (`stop_read`): a guest that writes before that need not wait for it.
/// What comes counts for the zone's account; where that is full, the guest waits. Nothing is begun while schedules are explored: when
/// the host reads is for the schedule to say.
pub(crate) fn begin_read(
    mut store: StoreContextMut<'_, State>,
    stream: u32,
    max: usize,
    lift: LiftItems,
) -> Result<()> {
    let state = store.data_mut();
    let is_explored = state.watch.is_some();
    let entry = &mut state.streams[stream as usize];
    let is_fresh = entry.read.is_none() && !entry.has_unread();
    if is_explored || !is_fresh || entry.dropped || entry.writer == End::Host {
        return Ok(());
    }
    entry.read = Some(HostRead::new(max, lift, Some(state.account.open())));
    offer(store, stream)
}

/// The host reads no more: gives what came and nobody has asked for.
pub(crate) fn stop_read(state: &mut State, stream: u32) -> Option<ReadItems> {
    HostRead::end(&mut state.streams[stream as usize].read)
}

/// Bytes that one read of the host takes from a source.
const HOST_READ_MAX: usize = 64 << 10;

/// The host reads what the host writes, because a guest has forwarded it (`lab::forward`): always bytes.
#[cold]
fn poll_host(state: &mut State, stream: u32, max: usize, task: &mut Context<'_>) -> Poll<Result<Option<Box<dyn Any>>>> {
    let entry = &mut state.streams[stream as usize];
    let source = entry.source.as_mut().expect("a stream that the host writes has a source until it ends");
    let mut bytes = vec![0u8; max.clamp(1, HOST_READ_MAX)];
    let mut destination = Destination::of_host(&mut bytes);
    let produced = source.poll_produce(task, &mut destination);
    let written = destination.written() as usize;
    match produced {
        Poll::Pending => Poll::Pending,
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Ready(Ok(Produced::Items)) => {
            bytes.truncate(written);
            Poll::Ready(Ok(Some(Box::new(bytes))))
        }
        Poll::Ready(Ok(Produced::End)) => {
            entry.source = None;
            entry.writer = End::Gone;
            state.end_dropped(stream);
            Poll::Ready(Ok(None))
        }
    }
}

/// A guest's write and a read of the host may be there: if both are, elements move.
pub(crate) fn offer(mut store: StoreContextMut<'_, State>, stream: u32) -> Result<()> {
    let state = store.data_mut();
    let entry = &mut state.streams[stream as usize];
    let (Some(pending), Some(read)) = (&entry.pending, &entry.read) else { return Ok(()) };
    let no_room = read.held.is_some() && state.account.is_full();
    if read.items.is_some() || no_room {
        return Ok(());
    }
    let pending = *pending;
    let count = pending.remain().min(read.max);
    if count == 0 {
        // Nothing left in this buffer: give it back, and wait for the next.
        state.notify_pending(stream, 0);
        return Ok(());
    }
    let lift = read.lift;
    // What a value points to may lie beyond what was last known of the memory.
    if let (Some(memory), false) = (pending.op.memory, pending.op.element.plain) {
        store.refresh_memory(memory);
    }
    let state = store.data_mut();
    let compiled = state.compiled.clone();
    let options = &compiled.plan.options[pending.op.options as usize];
    let mut cx = LiftCx::new(state, &compiled.plan, options);
    let items = lift(&mut cx, pending.op.element.payload, pending.at(), count as usize)?;
    let bytes = cx.charged() + count as usize * pending.op.element.size as usize;
    let entry = &mut state.streams[stream as usize];
    let read = entry.read.as_mut().expect("looked at above");
    read.items = Some(items);
    if let Some(held) = &mut read.held {
        held.add(bytes);
    }
    read.wake();
    state.note_host_read(stream, count);
    state.progress_pending(stream, count);
    Ok(())
}

/// The host drops its reading end.
pub(crate) fn drop_reader(state: &mut State, stream: u32) {
    let Some(entry) = state.streams.get_mut(stream as usize) else { return };
    entry.reader = End::Gone;
    entry.read = None;
    state.end_dropped(stream);
}

/// A readable end that the host has taken from a guest.
///
/// Dropping it drops the end.
pub(crate) struct ReadEnd {
    zone: super::WeakZone,
    stream: Option<u32>,
}

impl ReadEnd {
    pub fn new(zone: super::WeakZone, stream: u32) -> Self {
        ReadEnd { zone, stream: Some(stream) }
    }

    /// Its stream; it stays the owner.
    pub fn stream(&self) -> u32 {
        self.stream.expect("only taken on the way out")
    }

    /// Does the end belong to `zone`?
    pub fn is_of(&self, zone: &super::WeakZone) -> bool {
        self.zone.is(zone)
    }

    /// Gives the end away without dropping it.
    pub fn into_stream(mut self) -> u32 {
        self.stream.take().expect("only taken here and in drop")
    }

    /// See `begin_read`; `cx` is of its zone.
    pub fn begin_read(&self, cx: &mut HostCx<'_>, max: usize, lift: LiftItems) -> Result<()> {
        begin_read(cx.store.as_context_mut(), self.stream(), max, lift)
    }

    /// See `poll_read`; a zone that is gone is an error.
    pub fn poll_read(
        &mut self,
        max: usize,
        lift: LiftItems,
        task: &mut Context<'_>,
    ) -> Poll<Result<Option<Box<dyn Any>>>> {
        let Some(zone) = self.zone.upgrade() else {
            return Poll::Ready(Err(format_err!("the component instance is gone")));
        };
        let stream = self.stream();
        zone.with_store(task, |store, task| poll_read(store, stream, max, lift, task))
    }
}

impl Drop for ReadEnd {
    fn drop(&mut self) {
        if let (Some(stream), Some(zone)) = (self.stream.take(), self.zone.upgrade()) {
            zone.drop_reader(stream);
        }
    }
}
