//! Extensions: what a researcher adds to the law.
//! An extension is an operation, and four places where it may step in: before a copy meets the other side, before a copy is
//! cancelled, and before and after the event of an end is delivered. It has the whole world to change, and `World::notes` to
//! remember. Extensions that are tried before others come first in the profile's list.

mod forward;
mod read_ahead;

pub use forward::Forward;
pub use read_ahead::{READS_MAX, ReadAhead};

use std::sync::Arc;

use crate::elem::InstanceId;
use crate::op::PARAMS_MAX;
use crate::table::WaitableId;
use crate::world::{Flow, Trapping, World};

/// Those that the runtime of this repository has too: 0 is `forward`, 1 is `read-ahead`.
pub fn shipped() -> Vec<Arc<dyn Extension>> {
    vec![Arc::new(Forward), Arc::new(ReadAhead(1))]
}

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

    /// The copy of `end` is about to be cancelled.
    fn before_cancel(&self, _world: &mut World, _end: WaitableId) {}

    /// `end` has an event that is about to be delivered. If the extension has an earlier one, this is its payload, and the other
    /// stays.
    fn before_event(&self, _world: &mut World, _end: WaitableId) -> Option<u32> {
        None
    }

    /// The event of `end` was delivered.
    fn after_event(&self, _world: &mut World, _end: WaitableId) {}
}
