//! `stream.read-ahead`: several reads in flight on one stream. Its law is `abi_spec::ext::ReadAhead`.
//!
//! The read that a stream knows is the one that is being filled. Those before it are full, and their events not delivered; those
//! behind it have not begun. They are in the memory of the first read, because a plain function names no memory.

use super::{At, Earlier, Extension, extension};
use crate::abi::Result;
use crate::abi::cx::HostCx;
use crate::abi::state::{Ready, State};
use crate::abi::stream::{self, BUFFER_LENGTH_MAX, COMPLETED, DROPPED, Element, End, Operation, Pending, pack};
use crate::abi::table::{CopyState, EventCode, Kind, NONE};
use std::collections::VecDeque;
use wasmtime::{AsContextMut, bail};
use wasmtime_environ::component::TypeStreamIndex;

/// Reads that may be in flight on one stream; beyond, a guest is told that its buffer was not taken.
const READS_MAX: usize = 16;

/// The reads of a stream beside the one that it knows.
#[derive(Default)]
struct ReadAhead {
    /// Elements of those that are full.
    full: VecDeque<u32>,
    /// Those that have not begun.
    next: VecDeque<Pending>,
}

/// Begins a read of `len` elements behind those that are in flight; false if the buffer was not taken, because the read that it
/// would follow is over, there are `READS_MAX` already, or it is empty.
///
/// # Errors
/// When the handle is not the readable end of a stream of numbers with an asynchronous read in progress, or the buffer is
/// none. That traps.
pub(crate) fn read_ahead(cx: &mut HostCx<'_>, readable: u32, ptr: u32, len: u32) -> Result<bool> {
    let instance = cx.instance;
    let state = cx.store.data_mut();
    let slot = *state.handles(instance).get(readable)?;
    if slot.kind != Kind::StreamRead {
        bail!("handle {readable} is a {:?}, not the readable end of a stream", slot.kind);
    }
    let types = &state.compiled.plan.types;
    if !Element::is_plain(types[TypeStreamIndex::from_u32(slot.ty)].payload) {
        bail!("only numbers can be read ahead");
    }
    if slot.copy != CopyState::Copying || slot.waiter != NONE {
        bail!("cannot read ahead: no asynchronous read is in progress on the stream");
    }
    let (entry, ptr) = (&state.streams[slot.object as usize], u64::from(ptr));
    let host_writes = entry.writer == End::Host;
    let Some(read) = entry.pending.filter(|pending| !pending.op.end.write) else { return Ok(false) };
    stream::check_buffer(&mut cx.store.as_context_mut(), &read.op, ptr, len)?;
    let state = cx.store.data_mut();
    let reads = extension(state, slot.object, ReadAhead::default)?;
    let lengths = reads.next.iter().map(|next| next.len).chain(reads.full.iter().copied());
    if lengths.fold(read.len.saturating_add(len), u32::saturating_add) > BUFFER_LENGTH_MAX {
        bail!("reads in flight are too large: 2^28 - 1 elements at most in all of them");
    }
    let taken = len > 0 && 1 + reads.full.len() + reads.next.len() < READS_MAX;
    if taken {
        reads.next.push_back(Pending { op: read.op, handle: readable, ptr, len, progress: 0 });
    }
    if reads.is_over() {
        state.streams[slot.object as usize].extension = None;
    }
    if taken && host_writes {
        look_again(&mut state.ready, slot.object);
    }
    Ok(taken)
}

impl Extension for ReadAhead {
    /// A write fills one read after the other.
    fn before_copy(&mut self, state: &mut State, stream: u32, own: &mut Operation<'_>) -> Result<Option<u32>> {
        let State { streams, memories, .. } = state;
        let Some(mut read) = streams[stream as usize].pending else { return Ok(None) };
        if !own.op.end.write || self.next.is_empty() {
            return Ok(None);
        }
        let mut copied = 0;
        while own.len > 0 {
            if read.remain() == 0 {
                let Some(next) = self.next.pop_front() else { break };
                self.full.push_back(read.progress);
                read = next;
            }
            let count = own.len.min(read.remain());
            stream::copy_at_once(memories, own, &read, count)?;
            read.progress += count;
            own.ptr += u64::from(count * own.op.element.size);
            own.len -= count;
            copied += count;
        }
        if copied > 0 {
            streams[stream as usize].pending = Some(read);
            state.post(read.op.end.instance, read.handle, EventCode::StreamRead, None);
        }
        Ok(Some(pack(false, COMPLETED, copied)))
    }

    fn before_cancel(&mut self, _: &mut State, _: u32, write: bool) -> u32 {
        if write {
            return 0;
        }
        self.next.clear();
        self.full.drain(..).sum()
    }

    fn before_event(&mut self, state: &mut State, at: At) -> Option<Earlier> {
        let count = if at.write { None } else { self.full.pop_front() }?;
        let begun = state.streams[at.stream as usize].pending.is_some_and(|read| read.progress > 0);
        Some(Earlier { payload: pack(false, COMPLETED, count), more: begun || !self.full.is_empty() })
    }

    /// The read is over: the next one takes its place.
    fn after_event(&mut self, state: &mut State, at: At) {
        if at.write {
            return;
        }
        let slot = state.handles(at.instance).get_mut(at.handle).expect("its event was delivered just now");
        if slot.copy == CopyState::Done {
            self.next.clear();
        }
        if let Some(next) = self.next.pop_front() {
            slot.copy = CopyState::Copying;
            begin(state, at, next);
        }
    }

    fn next_buffer(&mut self, state: &mut State, stream: u32) -> bool {
        let pending = &mut state.streams[stream as usize].pending;
        let (Some(read), Some(next)) = (*pending, self.next.pop_front()) else { return false };
        self.full.push_back(read.progress);
        *pending = Some(next);
        true
    }

    fn is_over(&self) -> bool {
        self.full.is_empty() && self.next.is_empty()
    }
}

/// The host's source is asked soon; once, however often a guest begins reads before that.
fn look_again(ready: &mut VecDeque<Ready>, stream: u32) {
    let source = Ready::HostEnd(stream);
    if !ready.contains(&source) {
        ready.push_back(source);
    }
}

/// A read begins of itself: it meets what is there, as one that a guest begins.
fn begin(state: &mut State, at: At, read: Pending) {
    let State { streams, memories, ready, .. } = state;
    let entry = &mut streams[at.stream as usize];
    if entry.dropped {
        return state.post(at.instance, at.handle, EventCode::StreamRead, Some(DROPPED));
    }
    let Some(write) = entry.pending else {
        entry.pending = Some(read);
        if entry.writer == End::Host {
            look_again(ready, at.stream);
        }
        return;
    };
    let count = read.len.min(write.remain());
    if count == 0 {
        state.notify_pending(at.stream, COMPLETED);
        state.streams[at.stream as usize].pending = Some(read);
        return;
    }
    let own = Operation { op: &read.op, handle: read.handle, ptr: read.ptr, len: count };
    stream::copy_at_once(memories, &own, &write, count).expect("buffers were checked, and memories never shrink");
    state.progress_pending(at.stream, count);
    state.post(at.instance, at.handle, EventCode::StreamRead, Some(pack(false, COMPLETED, count)));
}
