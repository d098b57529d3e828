//! Generates the shim module: the hot built-ins of a component, as core wasm.
//!
//! A call between two instances, `task.return`, context slots and the loop that runs callbacks stay in wasm; the host is
//! entered only when a callee blocks. Shims and host share one small memory of task records (`record`), whose layout is the
//! only contract between them. The functions of the guests are reached through one table (`Layout`), filled at instantiation.
//! Knows the plan, nothing of how the host implements its imports.

mod asm;
mod call;
mod fibers;
pub mod record;

use super::plan::{Adapter, Builtin, CoreType, Lift, LiftKind, Lower, Plan, Signature};
use super::width::PointerWidth;
use anyhow::{Result, ensure};
use asm::{Asm, memarg, val};
use fibers::Fibers;
use std::collections::BTreeSet;
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ElementSection, Elements, EntityType, ExportKind, ExportSection,
    FunctionSection, GlobalSection, GlobalType, ImportSection, Instruction, MemArg, MemorySection, MemoryType, Module,
    RefType, TableSection, TableType, TypeSection, ValType,
};
use wasmtime_environ::component::{CanonicalOptions, CanonicalOptionsDataModel};

/// Where the functions of guests and jobs are in the table.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    adapters: u32,
    post_returns: u32,
    callbacks: u32,
    reallocs: u32,
    lifts: u32,
}

impl Layout {
    /// The layout that belongs to `plan`.
    pub fn of(plan: &Plan) -> Self {
        Layout {
            adapters: plan.adapters.len() as u32,
            post_returns: plan.post_returns,
            callbacks: plan.callbacks,
            reallocs: plan.reallocs,
            lifts: plan.lifts.len() as u32,
        }
    }
    /// What has a slot for each adapter: its `start`, its `return` and its callee.
    const PER_ADAPTER: u32 = 3;
    const START: u32 = 0;
    const RETURN: u32 = 1;
    const CALLEE: u32 = 2;
    /// The `start` of an adapter.
    pub fn start_slot(&self, adapter: u32) -> u32 {
        adapter * Self::PER_ADAPTER + Self::START
    }
    /// The `return` of an adapter.
    pub fn return_slot(&self, adapter: u32) -> u32 {
        adapter * Self::PER_ADAPTER + Self::RETURN
    }
    /// The callee of an adapter.
    pub fn callee_slot(&self, adapter: u32) -> u32 {
        adapter * Self::PER_ADAPTER + Self::CALLEE
    }
    /// A post-return function.
    pub fn post_return_slot(&self, index: u32) -> u32 {
        self.adapters * Self::PER_ADAPTER + index
    }
    /// A callback; also its job number.
    pub fn callback_slot(&self, index: u32) -> u32 {
        self.adapters * Self::PER_ADAPTER + self.post_returns + index
    }
    /// The callback of a function that is lifted so, if it has one.
    pub fn callback_of(&self, kind: LiftKind) -> Option<u32> {
        match kind {
            LiftKind::Callback(index) => Some(self.callback_slot(index)),
            LiftKind::Sync { .. } | LiftKind::Stackful => None,
        }
    }
    /// A realloc.
    pub fn realloc_slot(&self, index: u32) -> u32 {
        self.callback_slot(self.callbacks) + index
    }
    /// The core function of an exported function.
    pub fn lift_slot(&self, lift: u32) -> u32 {
        self.realloc_slot(self.reallocs) + lift
    }
    /// The job that starts an exported function.
    pub fn lift_job(&self, lift: u32) -> u32 {
        self.lift_slot(self.lifts) + lift
    }
    /// The job that starts a call that had to wait at backpressure; its first argument is the adapter.
    pub fn adapter_job(&self, adapter: u32) -> u32 {
        self.lift_job(self.lifts) + adapter
    }
    /// The job that starts a thread: `(slot in the table of threads, its argument)`.
    pub fn thread_job(&self) -> u32 {
        self.adapter_job(self.adapters)
    }
    fn size(&self) -> u32 {
        self.thread_job() + 1
    }
}

/// What the host must provide to the shim module, in import order; the module name is always `host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostImport {
    /// The slow or only implementation of trampoline `n`.
    Trampoline(u32),
    /// A call cannot go ahead at once: `(params, adapter) -> i32`, -1 to go on, `BLOCKED` to wait for the result, else the status
    /// for the caller. Adapter `n` is the first that has these parameters.
    Admit(u32),
    /// The callee of an adapter has not finished: `(adapter, record, code) -> status`, `MUST_WAIT` to wait for the result. The
    /// code is `PARKED` if the callee's own stack was put aside.
    Promote,
    /// The task that the host knows has resolved: `(record)`.
    Resolved,
    /// A sync callee that the host knows has ended: `(record)`.
    Exited,
    /// `task.return` is not allowed now: `(record, signature)`, traps.
    ReturnTrap,
    /// What to run next, given what ran: `(record, code) -> (record, a, b, c, job)`; record 0 if nothing did.
    Next,
    /// What ran on somebody's stack has ended: `(record, code)`.
    Finished,
    /// An idle stack, when there is none at hand: `() -> slot`.
    NewFiber,
    /// A stack is idle: `(slot)`.
    Idle,
    /// The running thread has to wait: `() -> slot`, a stack to drive meanwhile, `GO_ON` or `SUSPEND`.
    Block,
    /// What `subtask.cancel` has started has run: `(handle) -> state`; by its trampoline.
    CancelDone(u32),
    /// No free record: `()`.
    Grow,
    /// An instance with waiting calls has become free: `(instance)`.
    Opened,
    /// A task of sync type calls an async function synchronously: `()`, traps if it may not.
    MayNotBlock,
    /// An exception has left a component: `()`, traps.
    Uncaught,
    /// A sync call of an async function has to wait for the instance: `(instance)`; traps if it cannot.
    MayNotEnter,
    /// The instance may not be left: `(instance)`, traps.
    MayNotLeave,
    /// A task ends with borrowed handles: `(record)`, traps.
    BorrowsRemain,
    /// The results of sync lift `n` are in the scratch area: `()`.
    SyncReturn(u32),
}

impl HostImport {
    /// The import's name in module `host`.
    pub fn name(&self) -> String {
        match self {
            HostImport::Trampoline(n) => format!("t{n}"),
            HostImport::Admit(n) => format!("admit{n}"),
            HostImport::SyncReturn(n) => format!("sync-return{n}"),
            HostImport::CancelDone(n) => format!("cancel-done{n}"),
            other => format!("{other:?}"),
        }
    }

    /// The import's core type.
    pub fn signature(&self, plan: &Plan) -> Signature {
        use CoreType::I32;
        let (params, results) = match self {
            HostImport::Trampoline(n) => return plan.trampolines[*n as usize].signature.clone(),
            HostImport::Admit(n) => ([&plan.adapters[*n as usize].signature.params[..], &[I32]].concat(), vec![I32]),
            HostImport::Promote => (vec![I32; 3], vec![I32]),
            HostImport::Next => (vec![I32, I32], vec![I32; 5]),
            HostImport::ReturnTrap | HostImport::Finished => (vec![I32, I32], vec![]),
            HostImport::NewFiber | HostImport::Block => (vec![], vec![I32]),
            HostImport::CancelDone(_) => (vec![I32], vec![I32]),
            HostImport::Grow | HostImport::Uncaught | HostImport::MayNotBlock | HostImport::SyncReturn(_) => {
                (vec![], vec![])
            }
            HostImport::Resolved
            | HostImport::Exited
            | HostImport::Idle
            | HostImport::Opened
            | HostImport::MayNotEnter
            | HostImport::MayNotLeave
            | HostImport::BorrowsRemain => (vec![I32], vec![]),
        };
        Signature { params, results }
    }
}

/// The shim module of a component, and what it imports.
pub struct Shims {
    /// The module's bytes.
    pub wasm: Vec<u8>,
    /// Its imports, in order.
    pub imports: Vec<HostImport>,
}

/// Names of the shim module's exports.
pub mod export {
    /// The shared memory.
    pub const MEMORY: &str = "rt";
    /// The table.
    pub const TABLE: &str = "functions";
    /// A global for adapters, which import flags and have been rewritten not to use them.
    pub const FLAG: &str = "flag";
    /// The table of functions that threads begin with.
    pub const THREADS: &str = "threads";
    /// The loop that runs jobs until there are none.
    pub const PUMP: &str = "pump";
    /// Does nothing: the host calls it in the middle of long work, because the engine may end a slice where wasm begins.
    pub const GIVE_WAY: &str = "give-way";
    /// A trampoline.
    pub fn trampoline(n: u32) -> String {
        format!("t{n}")
    }
    /// An adapter.
    pub fn adapter(n: u32) -> String {
        format!("a{n}")
    }
    /// A realloc, as the host calls it.
    pub fn realloc(n: u32) -> String {
        format!("realloc{n}")
    }
    /// `context.get` and `context.set`.
    pub fn context(set: bool, slot: u32) -> String {
        format!("context-{}{slot}", if set { "set" } else { "get" })
    }
}

/// The host imports that `plan`'s shims need.
pub fn host_imports(plan: &Plan, fibers: bool) -> Vec<HostImport> {
    let mut imports = vec![
        HostImport::Resolved,
        HostImport::Exited,
        HostImport::ReturnTrap,
        HostImport::Next,
        HostImport::Grow,
        HostImport::Opened,
        HostImport::Uncaught,
        HostImport::MayNotBlock,
        HostImport::MayNotEnter,
        HostImport::MayNotLeave,
        HostImport::BorrowsRemain,
        HostImport::Promote,
    ];
    if fibers {
        imports.extend([HostImport::Finished, HostImport::NewFiber, HostImport::Idle, HostImport::Block]);
    }
    for (n, trampoline) in plan.trampolines.iter().enumerate() {
        match trampoline.builtin {
            Builtin::SubtaskCancel { .. } if fibers => {
                imports.extend([HostImport::Trampoline(n as u32), HostImport::CancelDone(n as u32)]);
            }
            Builtin::Replaced | Builtin::EnterSyncCall | Builtin::ExitSyncCall => {}
            Builtin::TaskReturn { signature, .. } if !return_modes(plan, signature).contains(&record::MODE_HOST) => {}
            _ => imports.push(HostImport::Trampoline(n as u32)),
        }
    }
    imports
        .extend((0..plan.adapters.len() as u32).filter(|n| call::first_of_type(plan, *n) == *n).map(HostImport::Admit));
    for (n, lift) in plan.lifts.iter().enumerate() {
        if let LiftKind::Sync { .. } = lift.kind {
            imports.push(HostImport::SyncReturn(n as u32));
        }
    }
    imports
}

/// Generates the shim module of `plan`; with `fibers`, so that code that has to wait is put aside with its stack.
pub fn generate(plan: &Plan, fibers: bool) -> Result<Shims> {
    ensure!(plan.instances < 4096, "{} component instances; 4095 at most", plan.instances);
    let mut module = ShimModule::new(plan, fibers);
    let calls = module.adapters();
    for n in 0..plan.trampolines.len() as u32 {
        module.trampoline(n);
    }
    for slot in 0..2 {
        module.context(slot);
    }
    for n in 0..plan.reallocs {
        module.realloc(n);
    }
    module.pump();
    module.give_way();
    let mut jobs: Vec<u32> = (0..plan.lifts.len() as u32).map(|n| module.lift_job(n)).collect();
    jobs.extend(calls);
    jobs.push(module.thread_job());
    Ok(module.finish(&jobs))
}

/// Collects sections; functions are numbered imports first.
struct ShimModule<'a> {
    plan: &'a Plan,
    /// The functions that drive stacks and put them aside, if there are any.
    fibers: Option<Fibers>,
    layout: Layout,
    types: TypeSection,
    /// By index; `None` is a type that is no function's.
    known_types: Vec<Option<Signature>>,
    import_section: ImportSection,
    imports: Vec<HostImport>,
    functions: FunctionSection,
    exports: ExportSection,
    code: CodeSection,
    defined: u32,
}

impl<'a> ShimModule<'a> {
    fn new(plan: &'a Plan, fibers: bool) -> Self {
        let mut module = ShimModule {
            plan,
            fibers: None,
            layout: Layout::of(plan),
            types: TypeSection::new(),
            known_types: Vec::new(),
            import_section: ImportSection::new(),
            imports: host_imports(plan, fibers),
            functions: FunctionSection::new(),
            exports: ExportSection::new(),
            code: CodeSection::new(),
            defined: 0,
        };
        for import in module.imports.clone() {
            let ty = module.ty(&import.signature(plan));
            module.import_section.import("host", &import.name(), EntityType::Function(ty));
        }
        if fibers {
            module.fibers = Some(module.define_fibers());
        }
        module
    }

    fn ty(&mut self, signature: &Signature) -> u32 {
        if let Some(known) = self.known_types.iter().position(|ty| ty.as_ref() == Some(signature)) {
            return known as u32;
        }
        self.types.ty().function(signature.params.iter().map(val), signature.results.iter().map(val));
        self.known_types.push(Some(signature.clone()));
        self.known_types.len() as u32 - 1
    }

    fn host(&self, import: HostImport) -> u32 {
        self.imports.iter().position(|known| *known == import).expect("every import that a shim uses is listed") as u32
    }

    fn define(&mut self, signature: &Signature, asm: Asm) -> u32 {
        let ty = self.ty(signature);
        self.functions.function(ty);
        self.code.function(&asm.finish());
        self.defined += 1;
        self.imports.len() as u32 + self.defined - 1
    }

    fn export_function(&mut self, name: &str, function: u32) {
        self.exports.export(name, ExportKind::Func, function);
    }

    fn trap_unless_may_leave(&self, asm: &mut Asm, instance: u32) {
        asm.load_at(record::may_not_leave(instance)).if_();
        asm.const_(instance).call(self.host(HostImport::MayNotLeave)).op(Instruction::Unreachable).end();
    }

    fn trap_unless_may_block(&self, asm: &mut Asm) {
        asm.load_at(record::CURRENT).load(record::FLAGS).const_(record::FLAG_ASYNC).op(Instruction::I32And);
        asm.op(Instruction::I32Eqz).if_().call(self.host(HostImport::MayNotBlock)).end();
    }

    /// What a new task begins with.
    fn clear_record(&self, asm: &mut Asm, task: u32) {
        asm.store64(task, record::CONTEXT, 0, 0);
        asm.store64(task, record::BORROWS, 0, 0);
        if self.fibers.is_some() {
            asm.store64(task, record::THREAD, 0, 0);
        }
    }

    /// The instance cannot be left while its post-return runs (CanonicalABI.md, `canon lift`).
    fn post_return(&mut self, asm: &mut Asm, instance: u32, post_return: u32, types: &[CoreType], results: &[u32]) {
        let ty = self.ty(&Signature { params: types.to_vec(), results: vec![] });
        asm.store_at(record::may_not_leave(instance), 1);
        asm.get_all(results).call_indirect(ty, self.layout.post_return_slot(post_return));
        asm.store_at(record::may_not_leave(instance), 0);
    }

    /// Tells the host, if it knows the task, that it has resolved.
    fn tell_resolved(&self, asm: &mut Asm, task: u32) {
        asm.get(task).load(record::HOST).if_().get(task).call(self.host(HostImport::Resolved)).end();
    }

    fn trap_if_borrows(&self, asm: &mut Asm, task: u32) {
        asm.get(task).load(record::BORROWS).if_();
        asm.get(task).call(self.host(HostImport::BorrowsRemain)).op(Instruction::Unreachable).end();
    }

    /// `words` is where the instance's are, from `record::INSTANCES` on.
    fn release_gate(&self, asm: &mut Asm, words: u32, instance: impl Fn(&mut Asm)) {
        let rest = asm.local(ValType::I32);
        asm.get(words).get(words).load(record::INSTANCES).const_(!record::GATE_EXCLUSIVE).op(Instruction::I32And);
        asm.tee(rest).store(record::INSTANCES).get(rest).if_();
        instance(asm);
        asm.call(self.host(HostImport::Opened)).end();
    }

    fn trampoline(&mut self, n: u32) {
        let plan = self.plan;
        let trampoline = &plan.trampolines[n as usize];
        let function = match &trampoline.builtin {
            Builtin::Replaced => {
                let mut asm = Asm::new(trampoline.signature.params.len() as u32);
                asm.op(Instruction::Unreachable);
                self.define(&trampoline.signature, asm)
            }
            Builtin::EnterSyncCall => self.enter_sync_call(),
            Builtin::ExitSyncCall => self.exit_sync_call(),
            Builtin::TaskReturn { instance, signature, .. } => self.task_return(n, *instance, *signature),
            builtin => match self.fibers {
                Some(fibers) if self.plan.needs_stacks(builtin) => self.on_stacks(n, fibers),
                _ => self.host(HostImport::Trampoline(n)),
            },
        };
        self.export_function(&export::trampoline(n), function);
    }

    /// A built-in that the host implements, and what it asks to be done with stacks then.
    fn on_stacks(&mut self, n: u32, fibers: Fibers) -> u32 {
        let signature = self.plan.trampolines[n as usize].signature.clone();
        let mut asm = Asm::new(signature.params.len() as u32);
        asm.params().call(self.host(HostImport::Trampoline(n)));
        self.after_builtin(&mut asm, n, fibers);
        self.define(&signature, asm)
    }

    /// `task.return`: hands the results to the caller through the adapter's `return` function, in the caller's context.
    fn task_return(&mut self, n: u32, instance: u32, signature: u32) -> u32 {
        let ty = self.plan.trampolines[n as usize].signature.clone();
        let mut asm = Asm::new(ty.params.len() as u32);
        let task = asm.local(ValType::I32);
        self.trap_unless_may_leave(&mut asm, instance);
        self.load_task(&mut asm, task);
        for (n, fitting) in self.plan.returns(signature).enumerate() {
            asm.get(task).load(record::RETURN_SIGNATURE).const_(fitting + 1).op(Instruction::I32Ne);
            if n > 0 {
                asm.op(Instruction::I32And);
            }
        }
        asm.get(task).load(record::RESOLVED).op(Instruction::I32Or);
        asm.get(task).load(record::BORROWS).op(Instruction::I32Or).if_();
        asm.get(task).const_(signature).call(self.host(HostImport::ReturnTrap)).op(Instruction::Unreachable).end();
        asm.store_const(task, record::RESOLVED, 1);
        // Whoever has the right signature was called in one of these ways.
        let modes = return_modes(self.plan, signature);
        for (place, mode) in modes.iter().enumerate() {
            let is_last = place + 1 == modes.len();
            if !is_last {
                asm.get(task).load(record::MODE).const_(*mode).op(Instruction::I32Eq).if_();
            }
            self.return_in(*mode, &mut asm, n, task);
            asm.op(Instruction::Return);
            if !is_last {
                asm.end();
            }
        }
        asm.op(Instruction::Unreachable);
        self.define(&ty, asm)
    }

    /// Sets `task` to the record of the current task, which is not that of the current thread if a guest made it.
    fn load_task(&self, asm: &mut Asm, task: u32) {
        asm.load_at(record::CURRENT).set(task);
        if self.plan.has_threads() {
            asm.get(task).load(record::TASK).if_().get(task).load(record::TASK).set(task).end();
        }
    }

    /// Hands on what trampoline `n` was called with, to the caller of `task`.
    fn return_in(&mut self, mode: u32, asm: &mut Asm, n: u32, task: u32) {
        if mode == record::MODE_HOST {
            asm.params().call(self.host(HostImport::Trampoline(n)));
            return;
        }
        let result = flat_result(mode);
        let pointer = match mode {
            record::MODE_RETPTR => Some(CoreType::I32),
            record::MODE_RETPTR64 => Some(CoreType::I64),
            _ => None,
        };
        let params = self.plan.trampolines[n as usize].signature.params.iter().copied().chain(pointer).collect();
        let ty = self.ty(&Signature { params, results: result.into_iter().collect() });
        let current = asm.local(ValType::I32);
        asm.load_at(record::CURRENT).set(current);
        asm.set_current(|asm| {
            asm.get(task).load(record::PARENT);
        });
        if result.is_some() {
            asm.get(task);
        }
        asm.params();
        if let Some(pointer) = pointer {
            asm.get(task).load_typed(retptr_field(pointer), pointer);
        }
        asm.get(task).load(record::RETURN_SLOT).call_indirect_at(ty);
        if let Some(result) = result {
            asm.store_typed(record::RESULT, result);
        }
        asm.set_current_to(current);
        self.tell_resolved(asm, task);
    }

    /// Pushes a task for a sync to sync call: `(caller, callee is async, callee)`.
    fn enter_sync_call(&mut self) -> u32 {
        let signature = Signature { params: vec![CoreType::I32; 3], results: vec![] };
        let mut asm = Asm::new(3);
        let task = asm.local(ValType::I32);
        let (is_async, callee) = (1, 2);
        let gate = |asm: &mut Asm| {
            asm.get(callee).const_(record::INSTANCE_SIZE).op(Instruction::I32Mul);
        };
        asm.get(is_async).if_();
        self.trap_unless_may_block(&mut asm);
        gate(&mut asm);
        asm.load(record::INSTANCES).const_(!(record::GATE_HELD | record::GATE_WATCHED)).op(Instruction::I32And).if_();
        asm.get(callee).call(self.host(HostImport::MayNotEnter));
        match self.fibers {
            // Whoever lets it in closes the gate behind it.
            Some(fibers) => asm.call(fibers.block).op(Instruction::Drop),
            None => asm.op(Instruction::Unreachable),
        };
        asm.op(Instruction::Else);
        gate(&mut asm);
        gate(&mut asm);
        asm.load(record::INSTANCES).const_(record::GATE_EXCLUSIVE).op(Instruction::I32Or).store(record::INSTANCES);
        asm.end().end();
        asm.load_at(record::FREE).op(Instruction::I32Eqz).if_().call(self.host(HostImport::Grow)).end();
        asm.take_record(task);
        asm.get(task).get(callee).store(record::INSTANCE);
        asm.store_const(task, record::RETURN_SIGNATURE, 0);
        asm.get(task).load_at(record::CURRENT).store(record::PARENT);
        // The flag of an async type is 1 as well.
        asm.get(task).get(is_async).store(record::FLAGS);
        asm.store_const(task, record::RESOLVED, 0);
        self.clear_record(&mut asm, task);
        asm.set_current_to(task);
        self.define(&signature, asm)
    }

    fn exit_sync_call(&mut self) -> u32 {
        let mut asm = Asm::new(0);
        let task = asm.local(ValType::I32);
        asm.load_at(record::CURRENT).set(task);
        self.trap_if_borrows(&mut asm, task);
        asm.get(task).load(record::FLAGS).const_(record::FLAG_ASYNC).op(Instruction::I32And).if_();
        let words = asm.local(ValType::I32);
        let instance = |asm: &mut Asm| {
            asm.get(task).load(record::INSTANCE);
        };
        instance(&mut asm);
        asm.const_(record::INSTANCE_SIZE).op(Instruction::I32Mul).set(words);
        self.release_gate(&mut asm, words, instance);
        asm.end();
        asm.set_current(|asm| {
            asm.get(task).load(record::PARENT);
        });
        asm.get(task).load(record::HOST).if_();
        asm.get(task).call(self.host(HostImport::Exited));
        asm.op(Instruction::Else).free(task).end();
        self.define(&Signature::default(), asm)
    }

    fn context(&mut self, slot: u32) {
        let offset = record::CONTEXT + slot * 4;
        let mut get = Asm::new(0);
        get.load_at(record::CURRENT).load(offset);
        let function = self.define(&Signature { params: vec![], results: vec![CoreType::I32] }, get);
        self.export_function(&export::context(false, slot), function);
        let mut set = Asm::new(1);
        set.load_at(record::CURRENT).get(0).store(offset);
        let function = self.define(&Signature { params: vec![CoreType::I32], results: vec![] }, set);
        self.export_function(&export::context(true, slot), function);
    }

    /// A realloc runs with fresh context slots, and its instance cannot be left meanwhile
    /// (CanonicalABI.md, `LiftLowerContext.reallocate`).
    fn realloc(&mut self, n: u32) {
        let options = self.realloc_options(n);
        let pointer = options.map_or_else(PointerWidth::default, |options| self.plan.width(options)).core_type();
        let signature = Signature { params: vec![pointer; 4], results: vec![pointer] };
        let ty = self.ty(&signature);
        let mut asm = Asm::new(4);
        let (task, flag, result) = (asm.local(ValType::I32), asm.local(ValType::I32), asm.local(val(&pointer)));
        let may_not_leave = options.map(|options| record::may_not_leave(options.instance.as_u32()));
        asm.load_at(record::CURRENT).set(task);
        asm.set_current(|asm| {
            asm.const_(0);
        });
        asm.const_(0).op(Instruction::I64Const(0)).op(Instruction::I64Store(memarg(record::CONTEXT, 3)));
        if let Some(word) = may_not_leave {
            asm.load_at(word).set(flag).store_at(word, 1);
        }
        asm.params().call_indirect(ty, self.layout.realloc_slot(n)).set(result);
        if let Some(word) = may_not_leave {
            asm.const_(0).get(flag).store(word);
        }
        asm.set_current_to(task).get(result);
        let function = self.define(&signature, asm);
        self.export_function(&export::realloc(n), function);
    }

    /// Options that name realloc `n`: all that do are of one instance and one memory's width.
    fn realloc_options(&self, n: u32) -> Option<&'a CanonicalOptions> {
        let uses = |options: &&CanonicalOptions| match options.data_model {
            CanonicalOptionsDataModel::LinearMemory(memory) => {
                memory.realloc.is_some_and(|realloc| realloc.as_u32() == n)
            }
            CanonicalOptionsDataModel::Gc {} => false,
        };
        self.plan.options.iter().find(uses)
    }

    /// One entry from the host runs every job that is ready: callbacks and starts of calls have one type.
    fn pump(&mut self) {
        let function = match self.fibers {
            Some(fibers) => fibers.pump,
            None => self.pump_on_this_stack(),
        };
        self.export_function(export::PUMP, function);
    }

    fn give_way(&mut self) {
        let function = self.define(&Signature::default(), Asm::new(0));
        self.export_function(export::GIVE_WAY, function);
    }

    fn pump_on_this_stack(&mut self) -> u32 {
        let mut asm = Asm::new(0);
        let job = JobLocals::new(&mut asm);
        asm.op(Instruction::Loop(BlockType::Empty));
        self.next_job(&mut asm, &job);
        asm.get(job.job).const_signed(-1).op(Instruction::I32Eq).if_().op(Instruction::Return).end();
        self.run_job(&mut asm, &job);
        asm.get(job.record).load(record::FLAGS).const_(record::FLAG_LAST).op(Instruction::I32And);
        asm.op(Instruction::I32Eqz).op(Instruction::BrIf(0)).end();
        asm.const_(0).get(job.record).store(record::ENDED);
        asm.const_(0).get(job.code).store(record::ENDED_CODE);
        self.define(&Signature::default(), asm)
    }

    /// Tells the host what has run, and asks what is next.
    fn next_job(&self, asm: &mut Asm, job: &JobLocals) {
        asm.get(job.record).get(job.code).call(self.host(HostImport::Next));
        asm.set(job.job).set(job.arguments[2]).set(job.arguments[1]).set(job.arguments[0]).set(job.record);
    }

    fn run_job(&mut self, asm: &mut Asm, job: &JobLocals) {
        let ty = self.ty(&job_signature());
        asm.get_all(&job.arguments).get(job.job).call_indirect_at(ty).set(job.code);
    }

    /// Starts an exported function: parameters come from the scratch area.
    fn lift_job(&mut self, n: u32) -> u32 {
        let lift: &Lift = &self.plan.lifts[n as usize];
        let (kind, signature, ty) = (lift.kind, lift.signature.clone(), lift.instance);
        let callee_ty = self.ty(&signature);
        let mut asm = Asm::new(3);
        asm.load_scratch(&signature.params).call_indirect(callee_ty, self.layout.lift_slot(n));
        match kind {
            LiftKind::Callback(_) => {}
            LiftKind::Stackful => {
                asm.const_(0);
            }
            LiftKind::Sync { post_return } => {
                let task = asm.local(ValType::I32);
                asm.load_at(record::CURRENT).set(task);
                let results = asm.pop_into_locals(&signature.results);
                self.trap_if_borrows(&mut asm, task);
                asm.store_const(task, record::RESOLVED, 1);
                asm.store_scratch(&signature.results, &results).call(self.host(HostImport::SyncReturn(n)));
                if let Some(post_return) = post_return {
                    self.post_return(&mut asm, ty, post_return, &signature.results, &results);
                }
                asm.const_(0);
            }
        }
        self.define(&job_signature(), asm)
    }

    /// Starts a thread: `(slot in the table of threads, its argument)`.
    fn thread_job(&mut self) -> u32 {
        let ty = self.ty(&Signature { params: vec![CoreType::I32], results: vec![] });
        let mut asm = Asm::new(3);
        match self.fibers {
            Some(_) => {
                asm.get(1).get(0).op(Instruction::CallIndirect { type_index: ty, table_index: THREADS_TABLE }).const_(0)
            }
            None => asm.op(Instruction::Unreachable),
        };
        self.define(&job_signature(), asm)
    }

    fn finish(mut self, jobs: &[u32]) -> Shims {
        let mut memories = MemorySection::new();
        memories.memory(memory_type(record::initial_pages(self.plan.instances)));
        self.exports.export(export::MEMORY, ExportKind::Memory, 0);
        let size = u64::from(self.layout.size().max(1));
        let mut tables = TableSection::new();
        tables.table(TableType {
            element_type: RefType::FUNCREF,
            table64: false,
            minimum: size,
            maximum: Some(size),
            shared: false,
        });
        self.exports.export(export::TABLE, ExportKind::Table, 0);
        let mut declared = ElementSection::new();
        if let Some(fibers) = self.fibers {
            fibers.tables(&mut tables, &mut self.exports, &mut declared);
        }
        let mut globals = GlobalSection::new();
        let flag = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        globals.global(flag, &ConstExpr::i32_const(1));
        self.exports.export(export::FLAG, ExportKind::Global, 0);
        let mut elements = declared;
        let offset = ConstExpr::i32_const(self.layout.lift_job(0).cast_signed());
        elements.active(Some(0), &offset, Elements::Functions(jobs.into()));
        let mut module = Module::new();
        module
            .section(&self.types)
            .section(&self.import_section)
            .section(&self.functions)
            .section(&tables)
            .section(&memories);
        if let Some(fibers) = self.fibers {
            module.section(&fibers.tags());
        }
        module.section(&globals).section(&self.exports).section(&elements).section(&self.code);
        Shims { wasm: module.finish(), imports: self.imports }
    }
}

/// The type of the memory that shims and host share, with as many pages at least.
pub(super) fn memory_type(minimum: u64) -> MemoryType {
    MemoryType { minimum, maximum: Some(record::PAGES_MAX), memory64: false, shared: false, page_size_log2: None }
}

/// A word at an address of a memory.
pub(super) fn word(address: u32, memory_index: u32) -> MemArg {
    MemArg { memory_index, ..memarg(address, 2) }
}

/// What `Promote` and `Admit` say to a sync-lowered call that has to wait for its result.
pub const MUST_WAIT: i32 = -2;
/// The code of a callee whose own stack was put aside before it had one.
pub const PARKED: i32 = -1;
/// What a guest's code becomes that looks like `PARKED`: one that is as unknown.
const ODD_CODE: u32 = PARKED.cast_unsigned() & 0xf;
/// What `Block` says if the thread need not wait any more.
pub const GO_ON: i32 = -2;
/// What `Block` says if the stack is to be put aside.
pub const SUSPEND: i32 = -1;

/// Up to so many adapters have code of their own, which knows what it calls: a quarter of the instructions of a call less. It is about
/// 1 KiB each, and a request goes through all of it once: with two that makes no difference, with four it costs more than it saves.
pub(super) const OWN_CODE_MAX: usize = 2;

/// The table of functions that threads begin with, after the table of functions and that of stacks.
const THREADS_TABLE: u32 = 2;

/// A job under way: whose it is, what it is called with, and the code that it gives.
struct JobLocals {
    record: u32,
    arguments: [u32; 3],
    job: u32,
    code: u32,
}

impl JobLocals {
    fn new(asm: &mut Asm) -> Self {
        let mut local = || asm.local(ValType::I32);
        JobLocals { record: local(), arguments: [local(), local(), local()], job: local(), code: local() }
    }
}

/// A callback: `(event, p1, p2) -> code`.
fn job_signature() -> Signature {
    Signature { params: vec![CoreType::I32; 3], results: vec![CoreType::I32] }
}

/// What `task.return` of a call through `adapter` must present, as the record keeps it.
pub fn return_signature(adapter: &Adapter) -> u32 {
    match adapter.lift {
        LiftKind::Sync { .. } => 0,
        LiftKind::Callback(_) | LiftKind::Stackful => adapter.return_signature + 1,
    }
}

/// Where the record of a task keeps a return pointer of this type.
fn retptr_field(pointer: CoreType) -> u32 {
    if pointer == CoreType::I64 { record::RETPTR64 } else { record::RETPTR }
}

/// How results may travel that `task.return` with `signature` gives: as the callers of what was lifted so want them.
fn return_modes(plan: &Plan, signature: u32) -> BTreeSet<u32> {
    let fitting: Vec<u32> = plan.returns(signature).collect();
    let fits = |lift: LiftKind, lifted: u32| !matches!(lift, LiftKind::Sync { .. }) && fitting.contains(&lifted);
    let guests = plan.adapters.iter().filter(|adapter| fits(adapter.lift, adapter.return_signature)).map(mode);
    let host = plan.lifts.iter().any(|lift| fits(lift.kind, lift.return_signature)).then_some(record::MODE_HOST);
    guests.chain(host).collect()
}

/// The type of a result that travels as a value.
fn flat_result(mode: u32) -> Option<CoreType> {
    match mode {
        record::MODE_FLAT_I32 => Some(CoreType::I32),
        record::MODE_FLAT_I64 => Some(CoreType::I64),
        record::MODE_FLAT_F32 => Some(CoreType::F32),
        record::MODE_FLAT_F64 => Some(CoreType::F64),
        _ => None,
    }
}

/// How the results of a call through `adapter` travel.
pub fn mode(adapter: &Adapter) -> u32 {
    if let Some((_, CoreType::I64)) = adapter.retptr() {
        return record::MODE_RETPTR64;
    }
    match (adapter.lower, adapter.signature.results.first()) {
        (Lower::Async { retptr: true } | Lower::SyncRetptr, _) => record::MODE_RETPTR,
        (Lower::Async { retptr: false } | Lower::SyncNone, _) | (Lower::SyncFlat, None) => record::MODE_NONE,
        (Lower::SyncFlat, Some(CoreType::I32 | CoreType::FuncRef)) => record::MODE_FLAT_I32,
        (Lower::SyncFlat, Some(CoreType::I64)) => record::MODE_FLAT_I64,
        (Lower::SyncFlat, Some(CoreType::F32)) => record::MODE_FLAT_F32,
        (Lower::SyncFlat, Some(CoreType::F64)) => record::MODE_FLAT_F64,
    }
}
