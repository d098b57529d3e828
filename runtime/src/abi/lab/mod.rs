//! Operations that the specification does not have: the runtime's side of `abi_spec::ext`.
//!
//! An experiment is a function of the host that acts on the handle table of its caller (`HostCx::instance`). If it has to step
//! in later, it keeps an `Extension` at the stream, which is asked at the same four places as the model's. `host::lab` links
//! the functions; component validation knows nothing of them. A stream without an extension pays one look at a field.

mod forward;
mod read_ahead;

pub(crate) use forward::forward;
pub(crate) use read_ahead::read_ahead;

use super::Result;
use super::host_end::Produced;
use super::state::State;
use super::stream::{self, Operation};
use super::table::{EventCode, Kind};
use std::any::Any;
use std::task::Poll;
use wasmtime::{AsContextMut, StoreContextMut, bail};

/// An end of a stream or future whose event is about to be delivered.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub stream: u32,
    pub instance: u32,
    pub handle: u32,
    pub write: bool,
}

/// An event in the place of the one that a stream has.
pub(crate) struct Earlier {
    pub payload: u32,
    /// There is another one behind it.
    pub more: bool,
}

/// What an experiment keeps at a stream. While it is asked it is not in its stream, so what it calls is the specification's.
pub(crate) trait Extension: Any {
    /// A copy begins; its end is idle. `Some` is its result, if the extension has dealt with it.
    fn before_copy(&mut self, _state: &mut State, _stream: u32, _copy: &mut Operation<'_>) -> Result<Option<u32>> {
        Ok(None)
    }

    /// The copy at this side is about to be cancelled. Gives how many elements its result has to count besides its own.
    fn before_cancel(&mut self, _state: &mut State, _stream: u32, _write: bool) -> u32 {
        0
    }

    /// An event is about to be delivered. If the extension has an earlier one, that is delivered instead.
    fn before_event(&mut self, _state: &mut State, _at: At) -> Option<Earlier> {
        None
    }

    /// An event was delivered.
    fn after_event(&mut self, _state: &mut State, _at: At) {}

    /// The host has more for a read whose buffer is full: true if there is another buffer in its place now.
    fn next_buffer(&mut self, _state: &mut State, _stream: u32) -> bool {
        false
    }

    /// It has nothing more to do.
    fn is_over(&self) -> bool {
        false
    }
}

/// The extension of a stream; `made` if it has none yet. Two different ones cannot share a stream.
pub(super) fn extension<T: Extension>(state: &mut State, stream: u32, made: impl FnOnce() -> T) -> Result<&mut T> {
    let extension = state.streams[stream as usize].extension.get_or_insert_with(|| Box::new(made()));
    let extension: &mut dyn Any = &mut **extension;
    match extension.downcast_mut() {
        Some(extension) => Ok(extension),
        None => bail!("another extension is at work on the stream"),
    }
}

fn take(state: &mut State, stream: u32) -> Box<dyn Extension> {
    state.streams[stream as usize].extension.take().expect("the caller has looked")
}

fn put_back(state: &mut State, stream: u32, extension: Box<dyn Extension>) {
    if let Some(stream) = state.streams.get_mut(stream as usize)
        && !extension.is_over()
    {
        stream.extension = Some(extension);
    }
}

/// As `stream::copy`, which has checked the operation.
#[cold]
pub(super) fn copy(mut store: StoreContextMut<'_, State>, stream: u32, mut copy: Operation<'_>) -> Result<u32> {
    let mut extension = take(store.data_mut(), stream);
    let result = match extension.before_copy(store.data_mut(), stream, &mut copy)? {
        Some(result) => result,
        None => stream::copy(store.as_context_mut(), copy.op, copy.handle, copy.ptr, copy.len)?,
    };
    put_back(store.data_mut(), stream, extension);
    Ok(result)
}

#[cold]
pub(super) fn before_cancel(state: &mut State, stream: u32, write: bool) -> u32 {
    let mut extension = take(state, stream);
    let more = extension.before_cancel(state, stream, write);
    put_back(state, stream, extension);
    more
}

/// As `Stream::deliver`: the event `code` with its `payload`, if that was made already, is no longer in its slot.
#[cold]
pub(super) fn deliver(state: &mut State, instance: u32, handle: u32, code: EventCode, payload: Option<u32>) -> u32 {
    let slot = *state.handles(instance).get(handle).expect("an event is only delivered to a handle that exists");
    let write = matches!(slot.kind, Kind::StreamWrite | Kind::FutureWrite);
    let at = At { stream: slot.object, instance, handle, write };
    let mut extension = take(state, at.stream);
    let result = match extension.before_event(state, at) {
        Some(Earlier { payload: earlier, more }) => {
            if more || payload.is_some() {
                state.post(instance, handle, code, payload);
            }
            earlier
        }
        None => {
            let slot = state.instances[instance as usize].handles.get_mut(handle).expect("as above");
            let result = state.streams[at.stream as usize].deliver(slot, payload);
            extension.after_event(state, at);
            result
        }
    };
    put_back(state, at.stream, extension);
    result
}

/// As `stream::poll_source`: the host's source fills one buffer after the other, as a guest's write would.
#[cold]
pub(super) fn poll_source(mut store: StoreContextMut<'_, State>, stream: u32) -> Result<()> {
    let mut extension = take(store.data_mut(), stream);
    let filled = fill(&mut store, stream, &mut *extension);
    put_back(store.data_mut(), stream, extension);
    filled
}

fn fill(store: &mut StoreContextMut<'_, State>, stream: u32, extension: &mut dyn Extension) -> Result<()> {
    loop {
        let state = store.data_mut();
        let entry = &mut state.streams[stream as usize];
        let (Some(pending), false) = (entry.pending, entry.dropped || entry.source.is_none()) else { return Ok(()) };
        if pending.remain() == 0 {
            match extension.next_buffer(state, stream) {
                true => continue,
                false => return Ok(()),
            }
        }
        let mut source = entry.source.take().expect("just seen");
        let produced = stream::produce(store.as_context_mut(), stream, &mut *source, &pending);
        let state = store.data_mut();
        state.streams[stream as usize].source = Some(source);
        match produced {
            Poll::Pending => return Ok(()),
            Poll::Ready(Ok((Produced::Items, written))) => state.progress_pending(stream, written),
            Poll::Ready(Ok((Produced::End, _))) => {
                state.streams[stream as usize].source = None;
                state.streams[stream as usize].writer = stream::End::Gone;
                state.end_dropped(stream);
                return Ok(());
            }
            Poll::Ready(Err(error)) => return Err(error),
        }
    }
}
