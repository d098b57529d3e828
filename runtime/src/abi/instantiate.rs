//! Makes the instances of a component in a store.
//!
//! Everything is found by position: names were resolved when the component was loaded, host functions bound when it was
//! linked. What is left is to run the plan's steps.

use super::Result;
use super::memory::GuestMemory;
use super::record::Records;
use super::state::State;
use crate::component::Compiled;
use crate::component::plan::{Def, Step};
use crate::component::shims::Layout;
use std::sync::Arc;
use wasmtime::{Extern, Func, Instance, InstancePre, ModuleExport, Ref, Store, Table, TypedFunc, bail, format_err};

/// Instantiates `compiled` in `store`; gives the pump, which runs whatever becomes ready.
pub(crate) fn instantiate(
    store: &mut Store<State>,
    compiled: &Arc<Compiled>,
    shims: &InstancePre<State>,
) -> Result<TypedFunc<(), ()>> {
    let shims = shims.instantiate(&mut *store)?;
    let exports = &compiled.shim_exports;
    let memory = get(store, shims, &exports.memory)?.into_memory().expect("the export's kind is fixed");
    let records = Records::new(store, memory, compiled.plan.instances);
    store.data_mut().records = Some(records);
    store.data_mut().watch_gates();
    if let Some(threads) = &exports.threads {
        store.data_mut().thread_table = get(store, shims, threads)?.into_table();
    }
    store.data_mut().give_way = get(store, shims, &exports.give_way)?.into_func();
    let table = get(store, shims, &exports.table)?.into_table().expect("the export's kind is fixed");
    let mut builder =
        Builder { store, compiled, shims, table, layout: Layout::of(&compiled.plan), instances: Vec::new() };
    for step in &compiled.plan.steps {
        builder.step(step)?;
    }
    let pump = get(builder.store, shims, &exports.pump)?.into_func().expect("the export's kind is fixed");
    pump.typed(&*builder.store)
}

struct Builder<'a> {
    store: &'a mut Store<State>,
    compiled: &'a Arc<Compiled>,
    shims: Instance,
    table: Table,
    layout: Layout,
    /// Instances so far, with the position of their module.
    instances: Vec<(Instance, u32)>,
}

impl Builder<'_> {
    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Instantiate { module, args } => {
                let imports = args.iter().map(|def| self.resolve(def)).collect::<Result<Vec<_>>>()?;
                let instance = Instance::new(&mut *self.store, &self.compiled.modules[*module as usize], &imports)?;
                self.instances.push((instance, *module));
            }
            Step::Memory(index, def) => {
                let Some(memory) = self.resolve(def)?.into_memory() else {
                    bail!("a shared memory cannot hold component values")
                };
                let memory = GuestMemory::new(&*self.store, memory);
                self.store.data_mut().memories[*index as usize] = Some(memory);
            }
            Step::Realloc(index, def) => {
                let realloc = self.function(def)?;
                self.fill(self.layout.realloc_slot(*index), realloc)?;
                let shim = self.compiled.shim_exports.reallocs[*index as usize];
                let shim = get(self.store, self.shims, &shim)?.into_func();
                self.store.data_mut().reallocs[*index as usize] = shim;
            }
            Step::Callback(index, def) => {
                let callback = self.function(def)?;
                self.store.data_mut().callbacks[*index as usize] = Some(callback);
                self.fill(self.layout.callback_slot(*index), callback)?;
            }
            Step::PostReturn(index, def) => {
                let function = self.function(def)?;
                self.fill(self.layout.post_return_slot(*index), function)?;
            }
            Step::Table(index, def) => {
                let table = self.resolve(def)?.into_table();
                self.store.data_mut().tables[*index as usize] = table;
            }
            Step::Resource(index, dtor) => {
                let dtor = dtor.as_ref().map(|def| self.function(def)).transpose()?;
                self.store.data_mut().dtors[*index as usize] = dtor;
            }
            Step::Adapter { adapter, start, return_, callee } => {
                let slots = [
                    self.layout.start_slot(*adapter),
                    self.layout.return_slot(*adapter),
                    self.layout.callee_slot(*adapter),
                ];
                for (slot, def) in slots.into_iter().zip([start, return_, callee]) {
                    let function = self.function(def)?;
                    self.fill(slot, function)?;
                }
            }
            Step::Lift(lift, def) => {
                let function = self.function(def)?;
                self.fill(self.layout.lift_slot(*lift), function)?;
            }
        }
        Ok(())
    }

    fn fill(&mut self, slot: u32, function: Func) -> Result<()> {
        self.table.set(&mut *self.store, u64::from(slot), Ref::Func(Some(function)))
    }

    fn function(&mut self, def: &Def) -> Result<Func> {
        self.resolve(def)?.into_func().ok_or_else(|| format_err!("a core item is not the function that it is used as"))
    }

    fn resolve(&mut self, def: &Def) -> Result<Extern> {
        let shims = &self.compiled.shim_exports;
        let export = match def {
            Def::Export { instance, export } => {
                let (instance, module) = self.instances[*instance as usize];
                let export = &self.compiled.module_exports[module as usize][*export as usize];
                return get(self.store, instance, export);
            }
            Def::Adapter(n) => &shims.adapters[*n as usize],
            Def::Flag => &shims.flag,
            Def::Records => &shims.memory,
            Def::Trampoline(n) => &shims.trampolines[*n as usize],
            Def::ContextGet(slot) => &shims.context_get[*slot as usize],
            Def::ContextSet(slot) => &shims.context_set[*slot as usize],
        };
        get(self.store, self.shims, export)
    }
}

fn get(store: &mut Store<State>, instance: Instance, export: &ModuleExport) -> Result<Extern> {
    instance
        .get_module_export(store, export)
        .ok_or_else(|| format_err!("an export belongs to another module than its instance"))
}
