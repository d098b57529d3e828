//! Handles of values whose type is known only at run time (`host::value::dynamic`).
//!
//! Typed values know which resources are the host's; here both kinds meet. A guest's resource stays a number, a host's its
//! Rust value, and what is given back must be of the type that is asked for.

use super::cx::{LiftCx, LowerCx};
use super::host_end::ReadEnd;
use super::stream::End;
use super::table::{Kind, Slot};
use super::{Component, Result};
use crate::component::plan::Plan;
use crate::host::value::dynamic::Handle;
use wasmtime::bail;
use wasmtime_environ::component::{TypeFuncIndex, TypeResourceTableIndex};

impl LiftCx<'_> {
    /// Takes the handle of an owned resource out of the table, whoever implements it.
    pub(crate) fn own_dynamic(&mut self, table: TypeResourceTableIndex, handle: u32) -> Result<Handle> {
        let (ty, _) = self.state.resource_type(table);
        let object = self.state.take_own(self.instance(), ty, handle)?;
        if is_host(self.state.plan(), ty) {
            return Ok(Handle::Host(self.state.host_resources.remove(object as usize)));
        }
        Ok(Handle::Guest { ty, rep: object })
    }

    /// The host holds the readable end of `stream` from now on.
    pub(crate) fn read_end(&mut self, stream: u32) -> ReadEnd {
        self.state.streams[stream as usize].reader = End::Host;
        ReadEnd::new(self.state.zone.clone(), stream)
    }
}

impl LowerCx<'_> {
    /// Gives an owned resource back to a guest.
    pub(crate) fn own_dynamic(&mut self, table: TypeResourceTableIndex, handle: Handle) -> Result<u32> {
        let (ty, _) = self.store.data().resource_type(table);
        match handle {
            Handle::Host(value) if is_host(self.store.data().plan(), ty) => self.own(table, value),
            Handle::Guest { ty: given, rep } if given == ty => {
                let instance = self.instance();
                self.store.data_mut().handles(instance).add(Slot::new(Kind::Own, ty, rep))
            }
            _ => bail!("a handle of another type than the function has"),
        }
    }
}

fn is_host(plan: &Plan, ty: u32) -> bool {
    (ty as usize) < plan.imported_resources.len()
}

/// An exported function of any type.
#[derive(Clone, Copy, Debug)]
pub struct DynamicExport {
    pub(crate) lift: u32,
    ty: TypeFuncIndex,
}

impl DynamicExport {
    /// Its component type.
    pub fn ty(&self) -> TypeFuncIndex {
        self.ty
    }
}

impl Component {
    /// An exported function by its whole name; `None` if there is none.
    pub fn export_dynamic(&self, name: &str) -> Option<DynamicExport> {
        let plan = &self.compiled.plan;
        let lift = *plan.exports.get(name)?;
        Some(DynamicExport { lift, ty: plan.lifts[lift as usize].ty })
    }
}
