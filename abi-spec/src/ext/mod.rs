//! Extensions: what a researcher adds to the law.
//! An extension is an operation, and two places where it may step in: before a copy meets the other side, and before an
//! end is gone. It has the whole world to change, and `World::notes` to remember.
//! Extensions that are tried before others come first in the profile's list.

mod forward;
mod read_ahead;

pub use forward::Forward;
pub use read_ahead::ReadAhead;

use crate::elem::InstanceId;
use crate::op::PARAMS_MAX;
use crate::op::Side;
use crate::table::{SharedId, WaitableId};
use crate::world::{Flow, Trapping, World};

/// An operation that the specification doesn't have.
pub trait Extension: Send + Sync {
    /// Its name, as it would be in the specification.
    fn name(&self) -> &'static str;

    /// A guest of `inst` calls it.
    fn op(&self, world: &mut World, inst: InstanceId, args: [u32; PARAMS_MAX]) -> Trapping<Flow>;

    /// `end` has a new buffer. True if the extension has dealt with it, so that it does not meet the other side.
    fn before_copy(&self, _world: &mut World, _end: WaitableId) -> Trapping<bool> {
        Ok(false)
    }

    /// The end at this side is about to be gone. True if an idle end at the other side is not to be told yet.
    fn before_drop(&self, _world: &mut World, _shared: SharedId, _side: Side) -> bool {
        false
    }
}
