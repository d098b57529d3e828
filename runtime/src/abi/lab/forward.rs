//! `{stream,future}.forward`: joins a readable and a writable end, and is out of the way from then on.
//!
//! Its law is `abi_spec::ext::Forward`. The stream of the writable end stays, because a reader of the host knows it by its
//! position; the writer of the other one becomes its writer.

use crate::abi::cx::HostCx;
use crate::abi::host_end::offer;
use crate::abi::state::State;
use crate::abi::stream::{self, COMPLETED, CopyOp, End, Operation, Pending, Stream, event_code, meet};
use crate::abi::table::{CopyState, Kind, NONE, Slot};
use crate::abi::{BLOCKED, Result, unread};
use wasmtime::{AsContextMut, StoreContextMut, bail};
use wasmtime_environ::component::{InterfaceType, TypeStreamIndex};

/// Hands what is written to the stream of `readable` over to who reads the stream of `writable`; the caller has neither end any
/// more. Both may be of futures.
///
/// # Errors
/// When they are not such ends, idle, in no set and of one type. That traps.
pub(crate) fn forward(cx: &mut HostCx<'_>, readable: u32, writable: u32) -> Result<()> {
    let instance = cx.instance;
    let state = cx.store.data_mut();
    let source = take(state, instance, readable, [Kind::StreamRead, Kind::FutureRead])?;
    let sink = take(state, instance, writable, [Kind::StreamWrite, Kind::FutureWrite])?;
    let is_future = (source.kind == Kind::FutureRead, sink.kind == Kind::FutureWrite);
    if is_future.0 != is_future.1 || source.ty != sink.ty {
        bail!("cannot forward {readable} to {writable}: they are ends of different types");
    }
    join(cx.store.as_context_mut(), &source, sink.object)
}

/// Takes an end out of the caller's table.
fn take(state: &mut State, instance: u32, handle: u32, [stream, future]: [Kind; 2]) -> Result<Slot> {
    let handles = state.handles(instance);
    let slot = *handles.get(handle)?;
    if slot.kind != stream && slot.kind != future {
        bail!("handle {handle} is a {:?}, not a {stream:?} or {future:?}", slot.kind);
    }
    if slot.copy != CopyState::Idle {
        bail!("cannot forward {handle}: the end is busy or done");
    }
    if slot.set != NONE {
        bail!("cannot forward {handle}: the end is in a waitable set");
    }
    handles.remove(handle)?;
    Ok(slot)
}

/// The writer of the stream that `end` reads becomes the writer of `sink`.
fn join(store: StoreContextMut<'_, State>, end: &Slot, sink: u32) -> Result<()> {
    let mut store = store;
    let state = store.data_mut();
    let source = end.object;
    if source == sink {
        state.streams.remove(source as usize);
        return Ok(());
    }
    if state.streams[sink as usize].reader == End::Gone {
        state.streams.remove(sink as usize);
        state.streams[source as usize].reader = End::Gone;
        state.end_dropped(source);
        return Ok(());
    }
    let mut joined = state.streams.remove(source as usize);
    let unread = joined.take_unread(usize::MAX);
    let Stream { writer, source, dropped, pending, extension, .. } = joined;
    let entry = &mut state.streams[sink as usize];
    (entry.writer, entry.source) = (writer, source);
    entry.extension = entry.extension.take().or(extension);
    if let Some(bytes) = unread {
        unread::append(state, sink, bytes)?;
    }
    let reading = state.streams[sink as usize].pending;
    if let End::Guest { instance, handle } = writer {
        state.handles(instance).get_mut(handle).expect("an end that is not gone is in its table").object = sink;
    }
    if dropped {
        state.end_dropped(sink);
        return Ok(());
    }
    match (pending, reading) {
        (Some(write), Some(read)) => resume(store, sink, read, write),
        (Some(write), None) => {
            state.streams[sink as usize].pending = Some(write);
            offer(store.as_context_mut(), sink)
        }
        (None, _) if writer == End::Host => wake_host(store, end, sink, reading),
        (None, _) => Ok(()),
    }
}

/// A read and a write wait: as if the read had just begun.
fn resume(mut store: StoreContextMut<'_, State>, sink: u32, read: Pending, write: Pending) -> Result<()> {
    let state = store.data_mut();
    if read.progress > 0 {
        // It has elements already, and an event that says so.
        state.notify_pending(sink, COMPLETED);
        state.streams[sink as usize].pending = Some(write);
        return Ok(());
    }
    state.streams[sink as usize].pending = Some(write);
    // Whoever began it waits, if it does, elsewhere.
    let op = CopyOp { async_: true, ..read.op };
    let own = Operation { op: &op, handle: read.handle, ptr: read.ptr, len: read.len };
    let result = meet(store.as_context_mut(), sink, &own)?;
    let state = store.data_mut();
    if result == BLOCKED {
        state.streams[sink as usize].pending = Some(read);
        return Ok(());
    }
    let end = read.op.end;
    let slot = state.handles(end.instance).get_mut(read.handle)?;
    slot.copy = CopyState::Copying;
    state.post(end.instance, read.handle, event_code(end.future, end.write), Some(result));
    Ok(())
}

/// The host writes, and does not know yet that somebody else reads.
fn wake_host(store: StoreContextMut<'_, State>, end: &Slot, sink: u32, reading: Option<Pending>) -> Result<()> {
    let mut store = store;
    let state = store.data_mut();
    let types = &state.compiled.plan.types;
    let bytes =
        end.kind == Kind::StreamRead && types[TypeStreamIndex::from_u32(end.ty)].payload == Some(InterfaceType::U8);
    let entry = &mut state.streams[sink as usize];
    if entry.reader == End::Host && !bytes {
        bail!("cannot forward what the host writes to the host: only a stream of bytes");
    }
    if let Some(read) = &mut entry.read {
        read.wake();
    }
    match reading {
        // As above, and a source has no event of its own that would make it look again.
        Some(read) if read.progress > 0 && entry.extension.is_none() => state.notify_pending(sink, COMPLETED),
        Some(_) => stream::poll_source(store.as_context_mut(), sink)?,
        None => {}
    }
    Ok(())
}
