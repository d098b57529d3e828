//! `stream.read-ahead`: several reads in flight on one stream.
//! Behind a read that is in progress a guest begins further ones. A write that fills the first goes on in the next; each read
//! has an event of its own, and they end in the order in which they began. So the writer need not wait for the reader to wake.
//! A cancel ends all of them, and its result counts the elements of all. DROPPED ends them too; those without elements have
//! no event then.
//! Not known: what reads in flight would mean for elements that are handles; only numbers can be read ahead.

use crate::elem::{Buffer, InstanceId};
use crate::ext::Extension;
use crate::op::{Kind, Outcome, PARAMS_MAX, Side};
use crate::profile::Rule;
use crate::stream::{CopyEnd, CopyResult, CopyState};
use crate::table::{SharedId, WaitableId};
use crate::waitable::WaitableKind;
use crate::world::{Flow, Trapping, World};

/// Reads that may be in flight on one stream: a queue has a maximum.
pub const READS_MAX: usize = 16;

/// The operation: the readable end, then pointer and length of a further buffer. It returns 1, or 0 if the buffer was not taken
/// because the read that it would follow is over, there are `READS_MAX` already, or it is empty.
///
/// The number is the extension's place in the profile's list.
#[derive(Clone, Copy, Debug)]
pub struct ReadAhead(pub u8);

/// The reads of a stream beside the one that its end knows.
#[derive(Default)]
struct Reads {
    /// Elements of those that are full, and of which the reader has not been told.
    full: Vec<u32>,
    /// Those that have not begun.
    next: Vec<Buffer>,
}

impl Extension for ReadAhead {
    fn name(&self) -> &'static str {
        "read-ahead"
    }

    fn op(&self, world: &mut World, inst: InstanceId, [ri, ptr, n]: [u32; PARAMS_MAX]) -> Trapping<Flow> {
        world.may_leave(inst)?;
        let e = world.waitable_at(inst, ri)?;
        let WaitableKind::End(end) = world.waitables[e].kind else { return Err(Rule::Handle) };
        if end.side != Side::Read || end.t.kind != Kind::Stream {
            return Err(Rule::Handle);
        }
        world.trap_if(Rule::ElemType, !end.t.elem.none_or_number())?;
        let follows = end.state == CopyState::Copying && !world.waitables[e].sync_waiter;
        world.trap_if(Rule::ReadAheadBehind, !follows)?;
        let over = world.shared[end.shared].pending != Some(e);
        if over {
            return Ok(Flow::Ret(Outcome::Ret(0)));
        }
        let buffer = world.buffer(end.t.elem, ptr, n)?;
        let mut reads = self.reads(world, end.shared);
        // A cancel counts all of them in one result.
        let lengths = reads.next.iter().map(|buffer| buffer.length).chain(reads.full.iter().copied());
        let length = lengths.fold(end.buffer.length.saturating_add(n), u32::saturating_add);
        world.trap_if(Rule::BufferLength, length > Buffer::MAX_LENGTH)?;
        if n == 0 || 1 + reads.full.len() + reads.next.len() >= READS_MAX {
            return Ok(Flow::Ret(Outcome::Ret(0)));
        }
        reads.next.push(buffer);
        self.keep(world, end.shared, &reads);
        Ok(Flow::Ret(Outcome::Ret(1)))
    }

    /// A write fills one read after the other.
    fn before_copy(&self, world: &mut World, e: WaitableId) -> Trapping<bool> {
        let CopyEnd { shared, side, buffer, .. } = *world.waitables[e].end();
        let mut reads = self.reads(world, shared);
        let Some(p) = world.shared[shared].pending else { return Ok(false) };
        if side == Side::Read || reads.next.is_empty() || !world.holds(Rule::ReadAheadFlows) {
            return Ok(false);
        }
        if buffer.is_zero_length() {
            world.copy_done(e, CopyResult::Completed);
            return Ok(true);
        }
        loop {
            let n = world.waitables[e].end().buffer.remain().min(world.waitables[p].end().buffer.remain());
            if n > 0 {
                world.copy_elems(e, p, n)?;
                world.copy_progressed(p);
            }
            if world.waitables[e].end().buffer.remain() == 0 || reads.next.is_empty() {
                break;
            }
            let full = std::mem::replace(&mut world.waitables[p].end_mut().buffer, reads.next.remove(0));
            reads.full.push(full.progress);
        }
        self.keep(world, shared, &reads);
        world.copy_done(e, CopyResult::Completed);
        Ok(true)
    }

    fn before_cancel(&self, world: &mut World, e: WaitableId) {
        let CopyEnd { shared, side, .. } = *world.waitables[e].end();
        if side == Side::Write {
            return;
        }
        let reads = self.reads(world, shared);
        self.keep(world, shared, &Reads::default());
        if world.holds(Rule::ReadAheadCancel) {
            world.waitables[e].end_mut().buffer.progress += reads.full.iter().sum::<u32>();
        }
    }

    fn before_event(&self, world: &mut World, e: WaitableId) -> Option<u32> {
        let CopyEnd { shared, side, .. } = *world.waitables[e].end();
        let mut reads = self.reads(world, shared);
        if side == Side::Write || reads.full.is_empty() {
            return None;
        }
        let n = if world.holds(Rule::ReadAheadOrder) { reads.full.remove(0) } else { reads.full.pop()? };
        self.keep(world, shared, &reads);
        Some(CopyResult::Completed as u32 | n << 4)
    }

    /// The read is over: the next one takes its place.
    fn after_event(&self, world: &mut World, e: WaitableId) {
        let CopyEnd { shared, side, state, .. } = *world.waitables[e].end();
        let mut reads = self.reads(world, shared);
        if side == Side::Write || reads.next.is_empty() {
            return;
        }
        if state == CopyState::Done {
            return self.keep(world, shared, &Reads::default());
        }
        let end = world.waitables[e].end_mut();
        (end.buffer, end.state) = (reads.next.remove(0), CopyState::Copying);
        self.keep(world, shared, &reads);
        world.stream_meet(e).expect("numbers may meet anywhere");
    }
}

impl ReadAhead {
    /// What is noted: how many reads are full, their elements, then pointers and lengths of the others.
    fn reads(&self, world: &World, shared: SharedId) -> Reads {
        let Some((&count, rest)) = world.notes.get(&(self.0, shared)).and_then(|note| note.split_first()) else {
            return Reads::default();
        };
        let (full, next) = rest.split_at(count as usize);
        let buffer = |pair: &[u32]| Buffer { ptr: pair[0], progress: 0, length: pair[1] };
        Reads { full: full.to_vec(), next: next.chunks(2).map(buffer).collect() }
    }

    fn keep(&self, world: &mut World, shared: SharedId, reads: &Reads) {
        if reads.full.is_empty() && reads.next.is_empty() {
            world.notes.remove(&(self.0, shared));
            return;
        }
        let mut note = vec![reads.full.len() as u32];
        note.extend(&reads.full);
        note.extend(reads.next.iter().flat_map(|buffer| [buffer.ptr, buffer.length]));
        world.notes.insert((self.0, shared), note);
    }
}
