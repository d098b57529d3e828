//! The Canonical ABI at run time: tasks, waitables, streams, futures, resources, and the zones that they live in.
//!
//! The law is the Component Model's `CanonicalABI.md`; names are its own. State is in `State`, the data of a store; the files
//! beside it change it, one concern each. Shims generated from the plan (`component::shims`) run what does not block and call
//! in here for the rest (`builtins`). Knows plans and wakers, and nothing of WASI or HTTP.
//!
//! Code that blocks in the synchronous ABI is put aside with its stack (`thread`), where the engine can do that; elsewhere it
//! traps with a message that says so (`would_block`).

mod account;
mod builtins;
mod call;
mod copy;
mod cx;
mod dynamic;
mod host_call;
mod host_end;
mod instantiate;
pub(crate) mod lab;
mod memory;
mod record;
mod resource;
mod state;
mod stream;
mod table;
mod task;
mod thread;
mod transcode;
mod unread;
mod waitable;
mod waits;
mod wake;
mod watch;
mod zone;

#[cfg(test)]
mod tests;

pub use account::{Account, Held};
pub use cx::{FlatSink, FlatSource, HostCx, LiftCx, LowerCx};
pub use dynamic::DynamicExport;
pub use host_call::HostFuture;
pub(crate) use host_call::{AsyncFunction, HostFunction, SyncFunction};
pub(crate) use host_end::ReadEnd;
pub use host_end::{Destination, Produced, Source};
pub use state::{Census, Limits, State};
pub(crate) use stream::End;
pub(crate) use thread::is_deadlock;
pub use thread::stack_count;
pub use zone::{Call, CallError, Canceller, Export, SLICE, WeakZone, Zone};

use crate::component::Compiled;
use crate::host::value::{Lift, Lower, TypeChecker, check_export};
use std::any::TypeId;
use std::sync::Arc;
use wasmtime::{InstancePre, bail};
use wasmtime_environ::component::TypeResourceTableIndex;

/// `Err` is a trap: the guest broke a rule, and its zone is dead.
pub type Result<T> = wasmtime::Result<T>;

/// What an operation gives that has not finished.
const BLOCKED: u32 = u32::MAX;

/// CanonicalABI.md, "Flattening".
const MAX_FLAT_PARAMS: usize = 16;
const MAX_FLAT_ASYNC_PARAMS: usize = 4;
const MAX_FLAT_RESULTS: usize = 1;

#[cold]
fn would_block<T>(what: &str) -> Result<T> {
    bail!(
        "{what} would have to block, and code with exceptions or garbage collected values cannot be put aside, nor any code \
         on other machines than x86_64: use the asynchronous form (`async` lower with a callback)"
    )
}

/// A component whose imports are satisfied: zones are made from it, on any thread.
#[derive(Clone)]
pub struct Component {
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) shims: InstancePre<State>,
    /// The Rust type behind each imported resource type.
    resources: Arc<[TypeId]>,
}

impl Component {
    /// Binds the host's functions, one per lowering of the plan, and its resource types, one per imported one.
    pub(crate) fn link(
        engine: &wasmtime::Engine,
        compiled: Arc<Compiled>,
        functions: &[Arc<dyn HostFunction>],
        resources: Vec<TypeId>,
    ) -> Result<Component> {
        let mut linker = wasmtime::Linker::new(engine);
        builtins::bind(&mut linker, &compiled, functions)?;
        let shims = linker.instantiate_pre(&compiled.shims)?;
        Ok(Component { compiled, shims, resources: resources.into() })
    }

    /// The compiled component.
    pub fn compiled(&self) -> &Arc<Compiled> {
        &self.compiled
    }

    /// Finds an exported function: `interface#function`, or its name alone at the root. A version in the interface's name
    /// may be left out.
    ///
    /// # Errors
    /// When there is none, or its type is not `P -> R`. The message names what there is.
    pub fn export<P: Lower, R: Lift>(&self, name: &str) -> Result<Export<P, R>> {
        let plan = &self.compiled.plan;
        let (interface, function) = name.split_once('#').unwrap_or(("", name));
        let matches = |known: &str| match known.split_once('#') {
            Some((known, item)) => {
                item == function && (known == interface || known.split('@').next() == Some(interface))
            }
            None => interface.is_empty() && known == function,
        };
        let Some(lift) = plan.exports.iter().find(|(known, _)| matches(known)).map(|(_, lift)| *lift) else {
            let known: Vec<&str> = plan.exports.keys().map(String::as_str).collect();
            bail!("no exported function `{name}`; the component exports: {}", known.join(", "))
        };
        let resource = |table: TypeResourceTableIndex| {
            self.resources.get(plan.types[table].unwrap_concrete_ty().as_u32() as usize).copied()
        };
        let types = TypeChecker { types: &plan.types, resource: &resource };
        if let Err(error) = check_export::<P, R>(plan.lifts[lift as usize].ty, &types) {
            bail!("exported function `{name}` has another type: {error}");
        }
        Ok(Export { lift, _types: std::marker::PhantomData })
    }
}
