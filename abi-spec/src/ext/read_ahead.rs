//! `stream.read-ahead`: gives a stream of bytes room, so that its writer need not wait for its reader.
//! A write without a pending read completes with as much as there is room for; reads take from there first, in order.
//! Not known: what a bound on all rooms of an instance would mean for fairness.

use crate::elem::{Elem, InstanceId};
use crate::ext::Extension;
use crate::op::{CopyType, Kind, Outcome, PARAMS_MAX, Side};
use crate::profile::Rule;
use crate::stream::CopyResult;
use crate::table::{SharedId, WaitableId};
use crate::world::{Flow, MEMORY, Trapping, World};

/// The operation: the readable end, then the room in bytes. The number is the extension's place in the profile's list.
#[derive(Clone, Copy, Debug)]
pub struct ReadAhead(pub u8);

impl Extension for ReadAhead {
    fn name(&self) -> &'static str {
        "read-ahead"
    }

    fn op(&self, world: &mut World, inst: InstanceId, [ri, room, _]: [u32; PARAMS_MAX]) -> Trapping<Flow> {
        world.may_leave(inst)?;
        let e = world.end_at(inst, ri, CopyType { kind: Kind::Stream, elem: Elem::U8 }, Side::Read)?;
        let shared = world.waitables[e].end().shared;
        // The first byte of the note is the room, what follows has been read ahead.
        let note = world.notes.entry((self.0, shared)).or_insert_with(|| vec![0]);
        note[0] = note[0].max(room.min(u32::from(u8::MAX)) as u8);
        Ok(Flow::Ret(Outcome::Ret(u32::from(note[0]))))
    }

    fn before_copy(&self, world: &mut World, e: WaitableId) -> Trapping<bool> {
        let shared = world.waitables[e].end().shared;
        let Some(note) = world.notes.get(&(self.0, shared)).cloned() else { return Ok(false) };
        match world.waitables[e].end().side {
            Side::Read if note.len() > 1 => Ok(self.take(world, e, shared, note)),
            Side::Read => Ok(false),
            Side::Write => Ok(self.put(world, e, shared, note)),
        }
    }

    fn before_drop(&self, world: &mut World, shared: SharedId, side: Side) -> bool {
        let key = (self.0, shared);
        let bytes_left = side == Side::Write && world.notes.get(&key).is_some_and(|note| note.len() > 1);
        if !bytes_left {
            world.notes.remove(&key);
        }
        bytes_left
    }
}

impl ReadAhead {
    /// A read takes what was read ahead.
    fn take(&self, world: &mut World, e: WaitableId, shared: SharedId, mut note: Vec<u8>) -> bool {
        let buffer = world.waitables[e].end().buffer;
        let n = (buffer.remain() as usize).min(note.len() - 1);
        let inst = world.waitables[e].inst;
        let bytes: Vec<u8> = if world.holds(Rule::ReadAheadOrder) {
            note.drain(1..=n).collect()
        } else {
            note.drain(note.len() - n..).collect()
        };
        let at = buffer.ptr as usize;
        if let Some(memory) = world.instances[inst.index()].memory.get_mut(at..at + n) {
            memory.copy_from_slice(&bytes);
        }
        world.notes.insert((self.0, shared), note);
        world.waitables[e].end_mut().buffer.progress += n as u32;
        world.copy_done(e, CopyResult::Completed);
        true
    }

    /// A write that nobody waits for is read ahead, as far as there is room.
    fn put(&self, world: &mut World, e: WaitableId, shared: SharedId, mut note: Vec<u8>) -> bool {
        let buffer = world.waitables[e].end().buffer;
        let room = usize::from(note[0]) - (note.len() - 1);
        let n = (buffer.remain() as usize).min(room);
        let nobody_waits = world.shared[shared].pending.is_none() && !world.shared[shared].dropped;
        if n == 0 || !nobody_waits || !world.holds(Rule::ReadAheadRoom) {
            return false;
        }
        let at = buffer.ptr as usize;
        let inst = world.waitables[e].inst;
        let memory: &[u8; MEMORY] = &world.instances[inst.index()].memory;
        note.extend_from_slice(memory.get(at..at + n).unwrap_or_default());
        world.notes.insert((self.0, shared), note);
        world.waitables[e].end_mut().buffer.progress += n as u32;
        world.copy_done(e, CopyResult::Completed);
        true
    }
}
