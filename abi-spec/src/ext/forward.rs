//! `{stream,future}.forward`: joins a readable and a writable end, and is out of the way from then on.
//! CanonicalABI.md after R1 (#717). Whoever reads what was written to the one end reads what is written to the other.
//! A stream that is forwarded onto itself is gone. Not known: whether a read that has got elements already, but has not been
//! told, may get more after the forward; here it may.

use crate::elem::InstanceId;
use crate::ext::Extension;
use crate::op::{Kind, Outcome, PARAMS_MAX, Side};
use crate::profile::Rule;
use crate::stream::{CopyEnd, CopyResult, CopyState};
use crate::table::{SharedId, WaitableId};
use crate::waitable::WaitableKind;
use crate::world::{Flow, Trapping, World};

/// The operation: the readable end, then the writable end.
#[derive(Clone, Copy, Debug)]
pub struct Forward;

impl Extension for Forward {
    fn name(&self) -> &'static str {
        "forward"
    }

    fn op(&self, world: &mut World, inst: InstanceId, [ri, wi, _]: [u32; PARAMS_MAX]) -> Trapping<Flow> {
        world.may_leave(inst)?;
        let (source, r) = take(world, inst, ri, Side::Read)?;
        let (sink, w) = take(world, inst, wi, Side::Write)?;
        world.trap_if(Rule::ElemType, r.t != w.t)?;
        join(world, source, sink, r.t.kind)?;
        Ok(Flow::Ret(Outcome::Ret(0)))
    }
}

/// Consumes an end of the caller.
fn take(world: &mut World, inst: InstanceId, i: u32, side: Side) -> Trapping<(SharedId, CopyEnd)> {
    let w = world.waitable_at(inst, i)?;
    let WaitableKind::End(end) = world.waitables[w].kind else { return Err(Rule::Handle) };
    if end.side != side {
        return Err(Rule::Handle);
    }
    world.remove_handle(inst, i)?;
    world.trap_if(Rule::ForwardIdle, end.state != CopyState::Idle)?;
    world.trap_if(Rule::ForwardNotInSet, world.waitables[w].set.is_some())?;
    world.drop_waitable(w);
    world.shared[end.shared].ends[side.index()] = None;
    Ok((end.shared, end))
}

/// The reader of `sink` becomes the reader of `source`.
fn join(world: &mut World, source: SharedId, sink: SharedId, kind: Kind) -> Trapping<()> {
    if source == sink {
        world.shared_remove(source);
        return Ok(());
    }
    let reader = world.shared[sink].ends[Side::Read.index()];
    let reading = world.shared[sink].pending;
    let reader_gone = world.shared[sink].gone[Side::Read.index()];
    move_notes(world, sink, source);
    world.shared_remove(sink);
    world.shared[source].ends[Side::Read.index()] = reader;
    if let Some(reader) = reader {
        world.waitables[reader].end_mut().shared = source;
    }
    if reader_gone {
        if world.holds(Rule::ForwardDrop) {
            world.shared_drop(source, Side::Read);
        }
    } else if let Some(reader) = reading
        && world.holds(Rule::ForwardMeets)
    {
        resume_reading(world, source, reader, kind)?;
    } else if world.shared[source].dropped {
        world.idle_drop(source, Side::Write);
    }
    Ok(())
}

/// What extensions know of a reader goes with it.
fn move_notes(world: &mut World, sink: SharedId, source: SharedId) {
    let noted: Vec<u8> = world.notes.keys().filter(|(_, of)| *of == sink).map(|(extension, _)| *extension).collect();
    for extension in noted {
        let note = world.notes.remove(&(extension, sink)).expect("just seen");
        world.notes.insert((extension, source), note);
    }
}

/// A read that waited at the sink goes on at the source, where it may meet a write or the end.
fn resume_reading(world: &mut World, source: SharedId, reader: WaitableId, kind: Kind) -> Trapping<()> {
    if kind == Kind::Stream && world.shared[source].dropped {
        world.copy_done(reader, CopyResult::Dropped);
        return Ok(());
    }
    if world.waitables[reader].end().buffer.progress == 0 {
        return world.meet(reader);
    }
    // It has elements already and an event that says so; it stays pending until that is delivered.
    match world.shared[source].pending {
        None => world.shared[source].pending = Some(reader),
        Some(_) => world.copy_done(reader, CopyResult::Completed),
    }
    Ok(())
}
