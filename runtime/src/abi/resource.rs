//! Resources and error contexts (CanonicalABI.md, "Resource State", `canon resource.*`, `canon error-context.*`).
//!
//! A handle holds a representation: for a host resource its position among the zone's host resources, for a guest's own the
//! number that the guest gave. Borrows are counted twice: in the task that must drop them, and at the handle that lends.

use super::record::Record;
use super::state::State;
use super::table::{Kind, Slot};
use super::task::ensure_record;
use super::{Result, call};
use crate::component::plan::Plan;
use crate::component::shims::record;
use wasmtime::{AsContextMut, StoreContextMut, bail};
use wasmtime_environ::component::{ResourceIndex, TypeResourceTableIndex};

/// An error context: a debug message that may be shared by several tables.
pub(crate) struct ErrorContext {
    pub message: String,
    pub handles: u32,
}

/// Bytes of an error context's debug message that are kept, and of all those of a zone. The host may shorten messages as it
/// likes, and guests may have a million of them.
const MESSAGE_MAX: usize = 4096;
const MESSAGES_MAX: usize = 16 << 20;

/// Who implements a resource type.
enum Implementation {
    Host,
    Guest { defined: u32, instance: u32 },
}

fn implementation(plan: &Plan, rt: u32) -> Implementation {
    match rt.checked_sub(plan.imported_resources.len() as u32) {
        None => Implementation::Host,
        Some(defined) => Implementation::Guest { defined, instance: plan.defined_resources[defined as usize].instance },
    }
}

#[cold]
fn other_resource<T>(plan: &Plan, handle: u32, expected: u32, found: u32) -> Result<T> {
    let whose = |rt| match implementation(plan, rt) {
        Implementation::Host => "host-defined resource",
        Implementation::Guest { .. } => "guest-defined resource",
    };
    bail!(
        "handle index {handle} used with the wrong type, expected {} but found a different {}",
        whose(expected),
        whose(found)
    )
}

impl State {
    /// The resource type of a table index.
    pub(crate) fn resource_type(&self, ty: TypeResourceTableIndex) -> (u32, u32) {
        let table = &self.plan().types[ty];
        let rt: ResourceIndex = table.unwrap_concrete_ty();
        (rt.as_u32(), table.unwrap_concrete_instance().as_u32())
    }

    /// `resource.new`
    pub(crate) fn resource_new(&mut self, instance: u32, rt: u32, rep: u32) -> Result<u32> {
        self.handles(instance).add(Slot::new(Kind::Own, rt, rep))
    }

    #[inline]
    fn resource(&mut self, instance: u32, rt: u32, handle: u32) -> Result<&mut Slot> {
        let slot = self.handles(instance).get(handle)?;
        let (kind, ty) = (slot.kind, slot.ty);
        if !matches!(kind, Kind::Own | Kind::Borrow) {
            bail!("handle {handle} is a {kind:?}, not a resource");
        }
        if ty != rt {
            return other_resource(self.plan(), handle, rt, ty);
        }
        self.handles(instance).get_mut(handle)
    }

    /// `resource.rep`
    pub(crate) fn resource_rep(&mut self, instance: u32, rt: u32, handle: u32) -> Result<u32> {
        Ok(self.resource(instance, rt, handle)?.object)
    }

    /// Takes an owned handle out of a table; gives what it stands for.
    #[inline]
    pub(crate) fn take_own(&mut self, instance: u32, rt: u32, handle: u32) -> Result<u32> {
        let table = self.handles(instance);
        match *table.get(handle)? {
            Slot { kind: Kind::Own, ty, scope: 0, object, .. } if ty == rt => {
                table.remove(handle)?;
                Ok(object)
            }
            _ => self.not_taken(instance, rt, handle),
        }
    }

    /// Why `take_own` does not.
    #[cold]
    fn not_taken<T>(&mut self, instance: u32, rt: u32, handle: u32) -> Result<T> {
        match self.resource(instance, rt, handle)?.kind {
            Kind::Own => bail!("cannot remove owned resource while borrowed"),
            _ => bail!("cannot lift own resource from a borrow"),
        }
    }

    /// Moves ownership from one table to another.
    pub(crate) fn transfer_own(&mut self, from: u32, from_rt: u32, handle: u32, to: u32, to_rt: u32) -> Result<u32> {
        let object = self.take_own(from, from_rt, handle)?;
        self.handles(to).add(Slot::new(Kind::Own, to_rt, object))
    }

    /// Lends a handle to the callee that is being started, the current task.
    pub(crate) fn transfer_borrow(&mut self, from: u32, from_rt: u32, handle: u32, to: u32, to_rt: u32) -> Result<u32> {
        let slot = self.resource(from, from_rt, handle)?;
        let object = slot.object;
        if slot.kind == Kind::Own {
            slot.scope += 1;
            let record = self.current();
            let task = self.task_of_or_new(record);
            self.tasks[task as usize].lent.push((from, handle));
        }
        // The instance that implements a resource sees representations, not handles.
        if let Implementation::Guest { instance, .. } = implementation(self.plan(), to_rt)
            && instance == to
        {
            return Ok(object);
        }
        self.add_borrow(to, to_rt, object)
    }

    /// A borrowed handle in the scope of the current task.
    pub(crate) fn add_borrow(&mut self, instance: u32, rt: u32, object: u32) -> Result<u32> {
        let record = self.current_task();
        let borrows = self.records().field(record, record::BORROWS);
        self.records().set_field(record, record::BORROWS, borrows + 1);
        let mut slot = Slot::new(Kind::Borrow, rt, object);
        slot.scope = record.0;
        self.handles(instance).add(slot)
    }

    /// `error-context.new`, with the message already lifted.
    pub(crate) fn error_context_new(&mut self, instance: u32, mut message: String) -> Result<u32> {
        if message.len() > MESSAGE_MAX {
            let end = (0..=MESSAGE_MAX).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
            message.truncate(end);
        }
        if MESSAGES_MAX < self.message_bytes + message.len() {
            message.clear();
        }
        message.shrink_to_fit();
        self.message_bytes += message.len();
        let object = self.error_contexts.insert(ErrorContext { message, handles: 1 }) as u32;
        self.handles(instance).add(Slot::new(Kind::ErrorContext, 0, object))
    }

    pub(crate) fn error_context_message(&mut self, instance: u32, handle: u32) -> Result<String> {
        let object = self.handles(instance).expect(handle, Kind::ErrorContext, 0)?.object;
        Ok(self.error_contexts[object as usize].message.clone())
    }

    pub(crate) fn error_context_drop(&mut self, instance: u32, handle: u32) -> Result<()> {
        let object = self.handles(instance).expect(handle, Kind::ErrorContext, 0)?.object;
        self.handles(instance).remove(handle)?;
        let context = &mut self.error_contexts[object as usize];
        context.handles -= 1;
        if context.handles == 0 {
            self.message_bytes -= self.error_contexts.remove(object as usize).message.len();
        }
        Ok(())
    }

    /// Error contexts are shared, not moved.
    pub(crate) fn error_context_transfer(&mut self, from: u32, handle: u32, to: u32) -> Result<u32> {
        let object = self.handles(from).expect(handle, Kind::ErrorContext, 0)?.object;
        let handle = self.handles(to).add(Slot::new(Kind::ErrorContext, 0, object))?;
        self.error_contexts[object as usize].handles += 1;
        Ok(handle)
    }

    /// Is a task of `instance` on the stack?
    pub(super) fn entered(&mut self, instance: u32) -> bool {
        let mut record = self.current();
        while record != Record::NONE {
            if self.records().field(record, record::INSTANCE) == instance {
                return true;
            }
            record = Record(self.records().field(record, record::PARENT));
        }
        false
    }
}

/// `resource.drop`: the last owner's drop runs the destructor as a call of its own.
pub(crate) fn resource_drop(mut store: StoreContextMut<'_, State>, instance: u32, rt: u32, handle: u32) -> Result<()> {
    let state = store.data_mut();
    let slot = *state.resource(instance, rt, handle)?;
    if slot.kind == Kind::Borrow {
        state.handles(instance).remove(handle)?;
        let scope = Record(slot.scope);
        let borrows = state.records().field(scope, record::BORROWS);
        assert!(borrows > 0, "a task cannot end before its borrows");
        state.records().set_field(scope, record::BORROWS, borrows - 1);
        if slot.lent_by_host {
            drop(state.host_resources.remove(slot.object as usize));
        }
        return Ok(());
    }
    if slot.scope != 0 {
        bail!("cannot remove owned resource while borrowed");
    }
    state.handles(instance).remove(handle)?;
    match implementation(state.plan(), rt) {
        Implementation::Host => drop(state.host_resources.remove(slot.object as usize)),
        Implementation::Guest { defined, instance: implementer } => {
            let Some(dtor) = state.dtors[defined as usize] else { return Ok(()) };
            if implementer != instance && state.entered(implementer) {
                bail!(
                    "cannot enter component instance: a resource is dropped while its implementation is on the stack"
                );
            }
            run_destructor(store, implementer, dtor, slot.object)?;
        }
    }
    Ok(())
}

fn run_destructor(mut store: StoreContextMut<'_, State>, instance: u32, dtor: wasmtime::Func, rep: u32) -> Result<()> {
    ensure_record(&mut store)?;
    let records = store.data_mut().records();
    let parent = records.current();
    let task = records.allocate();
    records.set_field(task, record::INSTANCE, instance);
    records.set_field(task, record::PARENT, parent.0);
    records.set_current(task);
    // Our own frame is below: no stack can be put aside across it.
    let fiber = records.get(record::FIBER);
    records.set(record::FIBER, 0);
    call::destructor(store.as_context_mut(), dtor, rep)?;
    let records = store.data_mut().records();
    records.set(record::FIBER, fiber);
    if records.field(task, record::BORROWS) != 0 {
        bail!("borrow handles still remain at the end of the call");
    }
    records.set_current(parent);
    // The host knows it if it has asked for its thread, or made others: those go on.
    match store.data_mut().task_of(task) {
        Some(_) => store.data_mut().exited(task),
        None => {
            store.data_mut().records().free(task);
            Ok(())
        }
    }
}
