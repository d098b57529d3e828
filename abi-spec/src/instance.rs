//! Component instances: tables, the rules of entering and leaving, and resources.
//! Knows nothing of tasks but who is exclusive.

use crate::elem::InstanceId;
use crate::op::{Mode, Outcome, SLOTS, Slot};
use crate::profile::{Quirk, Rule};
use crate::program::Func;
use crate::sched::Cx;
use crate::table::{SetId, Table, TaskId, ThreadId, WaitableId};
use crate::task::CallSite;
use crate::world::{Flow, MEMORY, Trapping, World};

/// What an index of an instance's table names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// A subtask or an end.
    Waitable(WaitableId),
    /// A waitable set.
    Set(SetId),
    /// A resource.
    Resource(ResourceHandle),
}

/// CanonicalABI.md, Resource State. The type of a resource is named by the instance that implements it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResourceHandle {
    /// Its type.
    pub rt: InstanceId,
    /// What the implementer knows it by.
    pub rep: u32,
    /// Owned or borrowed.
    pub own: bool,
    /// The task that has to give a borrowed one back.
    pub scope: Option<TaskId>,
    /// Calls that it is lent to.
    pub num_lends: u32,
}

impl ResourceHandle {
    /// An owned one.
    pub fn own(rt: InstanceId, rep: u32) -> ResourceHandle {
        ResourceHandle { rt, rep, own: true, scope: None, num_lends: 0 }
    }
}

/// CanonicalABI.md, Component Instances.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Instance {
    /// The instance whose child it is.
    pub parent: Option<InstanceId>,
    /// What guests name by index.
    pub handles: Table<Entry>,
    /// Its threads.
    pub threads: Table<ThreadId>,
    /// It may be entered.
    pub may_enter: bool,
    /// Its code may call built-ins.
    pub may_leave: bool,
    /// While positive, tasks wait to start.
    pub backpressure: u32,
    /// How many wait.
    pub num_waiting_to_enter: u32,
    /// The thread that others have to wait for.
    pub exclusive: Option<ThreadId>,
    /// Where its bodies keep numbers and handles.
    pub slots: [u32; SLOTS],
    /// Its memory.
    pub memory: [u8; MEMORY],
    /// The scripts of the bodies begun so far, in order.
    pub bodies: Vec<u8>,
}

impl Instance {
    /// A fresh one. Each byte of its memory is different, so that misplaced elements show.
    pub fn new(id: InstanceId, parent: Option<InstanceId>) -> Instance {
        Instance {
            parent,
            handles: Table::default(),
            threads: Table::default(),
            may_enter: true,
            may_leave: true,
            backpressure: 0,
            num_waiting_to_enter: 0,
            exclusive: None,
            slots: [0; SLOTS],
            memory: std::array::from_fn(|i| id.0.wrapping_mul(MEMORY as u8).wrapping_add(i as u8)),
            bodies: Vec::new(),
        }
    }
}

impl World {
    /// `trap_if(not may_leave)`.
    pub fn may_leave(&self, inst: InstanceId) -> Trapping<()> {
        self.trap_if(Rule::MayLeave, !self.instances[inst.index()].may_leave)
    }

    /// `ComponentInstance.entering_set`: what is entered on the way from `caller` to `inst`. The host never is.
    fn entering_set(&self, inst: InstanceId, caller: Option<InstanceId>) -> Vec<InstanceId> {
        let mut set = self.self_and_ancestors(inst);
        if let Some(caller) = caller {
            let left = self.self_and_ancestors(caller);
            set.retain(|inst| !left.contains(inst));
        }
        set
    }

    fn self_and_ancestors(&self, inst: InstanceId) -> Vec<InstanceId> {
        let mut set = Vec::new();
        let mut next = Some(inst);
        while let Some(inst) = next.filter(|inst| *inst != InstanceId::HOST && !set.contains(inst)) {
            set.push(inst);
            next = self.instances[inst.index()].parent;
        }
        set
    }

    /// `ComponentInstance.may_enter_from`.
    pub(crate) fn may_enter_from(&self, inst: InstanceId, caller: Option<InstanceId>) -> bool {
        self.entering_set(inst, caller).iter().all(|inst| self.instances[inst.index()].may_enter)
    }

    /// `Store.lift`, before the call.
    pub(crate) fn enter_from(&mut self, inst: InstanceId, caller: Option<InstanceId>) -> Trapping<()> {
        self.trap_if(Rule::MayEnter, !self.may_enter_from(inst, caller))?;
        self.set_entered(inst, caller, true);
        Ok(())
    }

    /// `Store.lift`, after the call.
    pub(crate) fn leave_to(&mut self, inst: InstanceId, caller: Option<InstanceId>) {
        self.set_entered(inst, caller, false);
    }

    pub(crate) fn set_entered(&mut self, inst: InstanceId, caller: Option<InstanceId>, entered: bool) {
        for inst in self.entering_set(inst, caller) {
            self.instances[inst.index()].may_enter = !entered;
        }
    }

    /// `Table.add`.
    pub fn add_handle(&mut self, inst: InstanceId, entry: Entry) -> Trapping<u32> {
        let handles = &mut self.instances[inst.index()].handles;
        if handles.next_index() > TABLE_MAX {
            return Err(Rule::TableFull);
        }
        Ok(handles.add(entry))
    }

    /// `Table.remove`.
    pub fn remove_handle(&mut self, inst: InstanceId, i: u32) -> Trapping<Entry> {
        let lifo = self.holds(Rule::TableLifo);
        let keeps = inst == InstanceId::HOST && self.profile.quirks.has(Quirk::HostBeside);
        let handles = &mut self.instances[inst.index()].handles;
        if keeps {
            return handles.retire(i).ok_or(Rule::Handle);
        }
        let entry = handles.remove(i).ok_or(Rule::Handle)?;
        if !lifo {
            handles.reverse_free();
        }
        Ok(entry)
    }

    pub(crate) fn slot(&self, inst: InstanceId, slot: Slot) -> u32 {
        self.instances[inst.index()].slots.get(usize::from(slot)).copied().unwrap_or(0)
    }

    pub(crate) fn set_slot(&mut self, inst: InstanceId, slot: Slot, value: u32) {
        if let Some(slot) = self.instances[inst.index()].slots.get_mut(usize::from(slot)) {
            *slot = value;
        }
    }

    /// Four bytes of the instance's memory; 0 outside.
    pub fn load_u32(&self, inst: InstanceId, ptr: u32) -> u32 {
        let bytes = self.instances[inst.index()].memory.get(ptr as usize..).and_then(|bytes| bytes.first_chunk());
        bytes.copied().map_or(0, u32::from_le_bytes)
    }

    /// Changes four bytes of the instance's memory; nothing outside.
    pub fn store_u32(&mut self, inst: InstanceId, ptr: u32, value: u32) {
        let memory = &mut self.instances[inst.index()].memory;
        if let Some(bytes) = memory.get_mut(ptr as usize..).and_then(|bytes| bytes.first_chunk_mut()) {
            *bytes = value.to_le_bytes();
        }
    }

    pub(crate) fn resource_at(&self, inst: InstanceId, i: u32, rt: InstanceId) -> Trapping<ResourceHandle> {
        match self.instances[inst.index()].handles.get(i) {
            Some(Entry::Resource(handle)) => {
                self.trap_if(Rule::ResourceType, handle.rt != rt)?;
                Ok(handle.clone())
            }
            _ => Err(Rule::Handle),
        }
    }

    pub(crate) fn resource_mut(&mut self, inst: InstanceId, i: u32) -> &mut ResourceHandle {
        match self.instances[inst.index()].handles.get_mut(i) {
            Some(Entry::Resource(handle)) => handle,
            _ => unreachable!("looked up just before"),
        }
    }

    /// CanonicalABI.md, canon resource.new.
    pub(crate) fn resource_new(&mut self, inst: InstanceId, rep: u32) -> Trapping<u32> {
        self.may_leave(inst)?;
        self.add_handle(inst, Entry::Resource(ResourceHandle::own(inst, rep)))
    }

    /// CanonicalABI.md, canon resource.rep.
    pub(crate) fn resource_rep(&mut self, inst: InstanceId, i: u32) -> Trapping<Flow> {
        Ok(Flow::Ret(Outcome::Ret(self.resource_at(inst, i, inst)?.rep)))
    }

    /// CanonicalABI.md, canon resource.drop: a synchronous call of the destructor if the resource is owned.
    pub(crate) fn resource_drop(&mut self, cx: &mut Cx<'_>, t: ThreadId, rt: InstanceId, i: u32) -> Trapping<Flow> {
        let inst = self.instance_of(t);
        self.may_leave(inst)?;
        let handle = self.resource_at(inst, i, rt)?;
        self.remove_handle(inst, i)?;
        self.trap_if(Rule::DropLent, handle.num_lends != 0)?;
        if handle.own && self.holds(Rule::DropCallsDestructor) {
            let func = Func::destructor(rt, self.code.program.destructor(rt));
            let site = CallSite::NOWHERE;
            let site = CallSite { mode: Mode::Sync, sub: site, ret: site };
            return self.canon_lower(cx, t, func, [handle.rep, 0, 0], site);
        }
        if let Some(task) = handle.scope.and_then(|scope| self.tasks.get_mut(scope.0)) {
            task.num_borrows = task.num_borrows.saturating_sub(1);
        }
        Ok(Flow::Ret(Outcome::Ret(0)))
    }

    /// CanonicalABI.md, canon backpressure.{inc,dec}.
    pub(crate) fn backpressure(&mut self, inst: InstanceId, up: bool) -> Trapping<Flow> {
        let now = self.instances[inst.index()].backpressure;
        self.trap_if(Rule::BackpressureMax, up && now + 1 == 1 << 16)?;
        self.trap_if(Rule::BackpressureMin, !up && now == 0)?;
        self.instances[inst.index()].backpressure = if up { now + 1 } else { now.saturating_sub(1) };
        Ok(Flow::Ret(Outcome::Ret(0)))
    }

    /// CanonicalABI.md, canon context.{get,set}.
    pub(crate) fn context(&mut self, t: ThreadId) -> &mut [u32; 2] {
        let task = self.threads[t].task;
        let shared = self.tasks[task].threads.first().copied().filter(|_| !self.holds(Rule::ContextPerThread));
        &mut self.threads[shared.unwrap_or(t)].context
    }
}

/// `Table.MAX_LENGTH`.
const TABLE_MAX: u32 = (1 << 28) - 1;
