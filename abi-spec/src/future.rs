//! Futures: a rendezvous for one element, after which both ends are done.
//! A writer has to write before it goes; so a reader never sees DROPPED.
//! What futures share with streams (ends, states, cancelling, dropping) is in `stream`.

use crate::op::Side;
use crate::profile::Rule;
use crate::stream::{CopyEnd, CopyResult};
use crate::table::WaitableId;
use crate::world::{Trapping, World};

impl World {
    /// CanonicalABI.md, Future State, `read` and `write` of the shared part.
    pub(crate) fn future_meet(&mut self, e: WaitableId) -> Trapping<()> {
        let CopyEnd { shared, side, .. } = *self.waitables[e].end();
        if side == Side::Write && self.shared[shared].dropped && self.holds(Rule::CopyAfterDrop) {
            self.copy_done(e, CopyResult::Dropped);
            return Ok(());
        }
        let Some(p) = self.shared[shared].pending else {
            self.shared[shared].pending = Some(e);
            return Ok(());
        };
        self.same_instance(e, p)?;
        self.copy_elems(e, p, 1)?;
        self.shared[shared].pending = None;
        if self.holds(Rule::FutureWakesPending) {
            self.copy_done(p, CopyResult::Completed);
        }
        self.copy_done(e, CopyResult::Completed);
        Ok(())
    }
}
