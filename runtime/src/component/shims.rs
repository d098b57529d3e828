//! Generates the shim module: the hot built-ins of a component, as core wasm.
//!
//! A call between two instances, `task.return`, context slots and the loop that runs callbacks stay in wasm; the host is
//! entered only when a callee blocks. Shims and host share one small memory of task records (`record`), whose layout is the
//! only contract between them. The functions of the guests are reached through one table (`Layout`), filled at instantiation.
//! Knows the plan, nothing of how the host implements its imports.

use super::plan::{Adapter, Builtin, CoreType, Lift, LiftKind, Lower, Plan, Signature};
use anyhow::{Result, ensure};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ElementSection, Elements, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, GlobalSection, GlobalType, ImportSection, Instruction, MemArg, MemorySection, MemoryType, Module,
    RefType, TableSection, TableType, TypeSection, ValType,
};
use wasmtime_environ::component::{CanonicalOptions, CanonicalOptionsDataModel};

/// The memory that shims and host share: offsets in bytes.
///
/// A task is known by the offset of its record. The record at offset 0 stands for "no task" and is never handed out.
pub mod record {
    /// Component instance of the task.
    pub const INSTANCE: u32 = 0;
    /// What `task.return` must present; 0 if nothing may be presented (sync lift). One more than the plan's position.
    pub const RETURN_SIGNATURE: u32 = 4;
    /// 1 once the task has returned or acknowledged its cancellation (the specification's RESOLVED).
    pub const RESOLVED: u32 = 8;
    /// Where the caller wants the result (`MODE_RETPTR`).
    pub const RETPTR: u32 = 12;
    /// The flat result of a sync-lowered call, 8 bytes.
    pub const RESULT: u32 = 16;
    /// Table slot of the adapter's `return` function.
    pub const RETURN_SLOT: u32 = 24;
    /// How results travel, `MODE_*`.
    pub const MODE: u32 = 28;
    /// The task that was running when this one was entered; 0 for the host's event loop.
    pub const PARENT: u32 = 32;
    /// Next free record; while in use: 1 if the task holds its instance's exclusivity on the stack.
    pub const NEXT: u32 = 36;
    /// The two context slots, 4 bytes each.
    pub const CONTEXT: u32 = 40;
    /// Borrowed handles that the task has not dropped yet.
    pub const BORROWS: u32 = 48;
    /// One more than the host's entry for the task; 0 while only shims know it.
    pub const HOST: u32 = 52;
    /// Size of a record.
    pub const SIZE: u32 = 64;

    /// No result.
    pub const MODE_NONE: u32 = 0;
    /// `return` gives one flat result of type i32 (then i64, f32, f64), kept in `RESULT`.
    pub const MODE_FLAT_I32: u32 = 1;
    /// See `MODE_FLAT_I32`.
    pub const MODE_FLAT_I64: u32 = 2;
    /// See `MODE_FLAT_I32`.
    pub const MODE_FLAT_F32: u32 = 3;
    /// See `MODE_FLAT_I32`.
    pub const MODE_FLAT_F64: u32 = 4;
    /// `return` writes through `RETPTR`.
    pub const MODE_RETPTR: u32 = 5;
    /// The caller is the host: it lifts the result itself.
    pub const MODE_HOST: u32 = 6;

    /// Header: the current task.
    pub const CURRENT: u32 = 64;
    /// Header: first free record, 0 if none.
    pub const FREE: u32 = 68;
    /// Arguments and results of jobs, `SCRATCH_SLOTS` of 8 bytes.
    pub const SCRATCH: u32 = 128;
    /// 16 flat parameters, and a return pointer.
    pub const SCRATCH_SLOTS: u32 = 17;
    /// First instance word.
    pub const INSTANCES: u32 = 320;
    /// Size of an instance's words: its gate, and room.
    pub const INSTANCE_SIZE: u32 = 8;

    /// Gate bit: a task of the instance is on the stack and holds its exclusivity.
    pub const GATE_EXCLUSIVE: u32 = 1;
    /// Gate bit: `backpressure` is above 0.
    pub const GATE_BACKPRESSURE: u32 = 2;
    /// Gate bit: calls wait to enter; who comes now waits behind them.
    pub const GATE_WAITERS: u32 = 4;

    /// Offset of the gate of `instance`.
    pub fn gate(instance: u32) -> u32 {
        INSTANCES + instance * INSTANCE_SIZE
    }

    /// Offset of the first record with `instances` instances.
    pub fn first(instances: u32) -> u32 {
        (INSTANCES + instances * INSTANCE_SIZE).next_multiple_of(SIZE)
    }

    /// Pages of the shared memory at start.
    pub fn initial_pages(instances: u32) -> u64 {
        u64::from((first(instances) + 64 * SIZE).div_ceil(65536))
    }
    /// Pages at most: about a million tasks.
    pub const PAGES_MAX: u64 = 1024;
}

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
    /// Adapter `n`'s `start`; `return_slot` and `callee_slot` follow.
    pub fn start_slot(&self, adapter: u32) -> u32 {
        adapter * 3
    }
    /// See `start_slot`.
    pub fn return_slot(&self, adapter: u32) -> u32 {
        adapter * 3 + 1
    }
    /// See `start_slot`.
    pub fn callee_slot(&self, adapter: u32) -> u32 {
        adapter * 3 + 2
    }
    /// A post-return function.
    pub fn post_return_slot(&self, index: u32) -> u32 {
        self.adapters * 3 + index
    }
    /// A callback; also its job number.
    pub fn callback_slot(&self, index: u32) -> u32 {
        self.adapters * 3 + self.post_returns + index
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
    /// The job that starts a call that had to wait at backpressure.
    pub fn adapter_job(&self, adapter: u32) -> u32 {
        self.lift_job(self.lifts) + adapter
    }
    fn size(&self) -> u32 {
        self.adapter_job(self.adapters)
    }
}

/// What the host must provide to the shim module, in import order; the module name is always `host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostImport {
    /// The slow or only implementation of trampoline `n`.
    Trampoline(u32),
    /// A call through adapter `n` cannot go ahead at once: `(params) -> i32`, -1 to go on, else the status for the caller.
    Admit(u32),
    /// The callee of adapter `n` has not finished: `(record, code) -> status`.
    Promote(u32),
    /// The task that the host knows has resolved: `(record)`.
    Resolved,
    /// `task.return` is not allowed now: `(record, signature)`, traps.
    ReturnTrap,
    /// What to run next, given the code of what ran: `(code) -> (a, b, c, job)`.
    Next,
    /// No free record: `()`.
    Grow,
    /// An instance with waiting calls has become free: `(instance)`.
    Opened,
    /// A sync call of an async function would have to wait for the instance: `(instance)`, traps.
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
            HostImport::Promote(n) => format!("promote{n}"),
            HostImport::SyncReturn(n) => format!("sync-return{n}"),
            other => format!("{other:?}"),
        }
    }

    /// The import's core type.
    pub fn signature(&self, plan: &Plan) -> Signature {
        use CoreType::I32;
        let (params, results) = match self {
            HostImport::Trampoline(n) => return plan.trampolines[*n as usize].signature.clone(),
            HostImport::Admit(n) => (plan.adapters[*n as usize].signature.params.clone(), vec![I32]),
            HostImport::Promote(_) => (vec![I32, I32], vec![I32]),
            HostImport::Next => (vec![I32], vec![I32; 4]),
            HostImport::ReturnTrap => (vec![I32, I32], vec![]),
            HostImport::Grow | HostImport::SyncReturn(_) => (vec![], vec![]),
            HostImport::Resolved
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
    /// The flag whether the current task may block.
    pub const MAY_BLOCK: &str = "may-block";
    /// The loop that runs jobs until there are none.
    pub const PUMP: &str = "pump";
    /// The `may_leave` flag of an instance.
    pub fn may_leave(instance: u32) -> String {
        format!("may-leave{instance}")
    }
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
pub fn host_imports(plan: &Plan) -> Vec<HostImport> {
    let mut imports = vec![
        HostImport::Resolved,
        HostImport::ReturnTrap,
        HostImport::Next,
        HostImport::Grow,
        HostImport::Opened,
        HostImport::MayNotEnter,
        HostImport::MayNotLeave,
        HostImport::BorrowsRemain,
    ];
    for (n, trampoline) in plan.trampolines.iter().enumerate() {
        match trampoline.builtin {
            Builtin::Replaced | Builtin::EnterSyncCall | Builtin::ExitSyncCall => {}
            _ => imports.push(HostImport::Trampoline(n as u32)),
        }
    }
    for n in 0..plan.adapters.len() as u32 {
        imports.extend([HostImport::Admit(n), HostImport::Promote(n)]);
    }
    for (n, lift) in plan.lifts.iter().enumerate() {
        if let LiftKind::Sync { .. } = lift.kind {
            imports.push(HostImport::SyncReturn(n as u32));
        }
    }
    imports
}

/// Generates the shim module of `plan`.
pub fn generate(plan: &Plan) -> Result<Shims> {
    ensure!(plan.instances < 4096, "{} component instances; 4095 at most", plan.instances);
    let mut module = ShimModule::new(plan);
    for n in 0..plan.adapters.len() as u32 {
        module.adapter(n);
    }
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
    let mut jobs: Vec<u32> = (0..plan.lifts.len() as u32).map(|n| module.lift_job(n)).collect();
    jobs.extend((0..plan.adapters.len() as u32).map(|n| module.adapter_job(n)));
    Ok(module.finish(&jobs))
}

/// Collects sections; functions are numbered imports first.
struct ShimModule<'a> {
    plan: &'a Plan,
    layout: Layout,
    types: TypeSection,
    known_types: Vec<Signature>,
    import_section: ImportSection,
    imports: Vec<HostImport>,
    functions: FunctionSection,
    exports: ExportSection,
    code: CodeSection,
    defined: u32,
}

/// Globals: `may_block` first, then one `may_leave` per instance.
const MAY_BLOCK: u32 = 0;
fn may_leave_global(instance: u32) -> u32 {
    1 + instance
}

impl<'a> ShimModule<'a> {
    fn new(plan: &'a Plan) -> Self {
        let mut module = ShimModule {
            plan,
            layout: Layout::of(plan),
            types: TypeSection::new(),
            known_types: Vec::new(),
            import_section: ImportSection::new(),
            imports: host_imports(plan),
            functions: FunctionSection::new(),
            exports: ExportSection::new(),
            code: CodeSection::new(),
            defined: 0,
        };
        for import in module.imports.clone() {
            let ty = module.ty(&import.signature(plan));
            module.import_section.import("host", &import.name(), EntityType::Function(ty));
        }
        module
    }

    fn ty(&mut self, signature: &Signature) -> u32 {
        if let Some(known) = self.known_types.iter().position(|ty| ty == signature) {
            return known as u32;
        }
        self.types.ty().function(signature.params.iter().map(val), signature.results.iter().map(val));
        self.known_types.push(signature.clone());
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

    /// A call through adapter `n`: straight from caller to callee, to the host only if the callee is not free or not finished.
    fn adapter(&mut self, n: u32) {
        let adapter = &self.plan.adapters[n as usize];
        let mut asm = Asm::new(adapter.signature.params.len() as u32);
        let (task, parent, code, block) =
            (asm.local(ValType::I32), asm.local(ValType::I32), asm.local(ValType::I32), asm.local(ValType::I32));
        self.trap_unless_may_leave(&mut asm, adapter.caller);
        self.admit(&mut asm, n, code);
        self.push_task(&mut asm, n, task, parent);
        asm.global_get(MAY_BLOCK).set(block);
        self.run_callee(&mut asm, n, task, code, |asm| asm.params());
        asm.get(block).global_set(MAY_BLOCK);
        match adapter.lift {
            LiftKind::Sync { .. } => {
                self.release(&mut asm, adapter);
                asm.free(task);
            }
            LiftKind::Callback(_) | LiftKind::Stackful => {
                asm.set_current_to(parent);
                self.release(&mut asm, adapter);
                self.promote_or_free(&mut asm, n, task, code);
            }
        }
        asm.adapter_result(adapter, task);
        let signature = adapter.signature.clone();
        let function = self.define(&signature, asm);
        self.export_function(&export::adapter(n), function);
    }

    fn trap_unless_may_leave(&self, asm: &mut Asm, instance: u32) {
        asm.global_get(may_leave_global(instance)).op(Instruction::I32Eqz).if_();
        asm.const_(instance).call(self.host(HostImport::MayNotLeave)).op(Instruction::Unreachable).end();
    }

    /// Only a function of async type is held back by the gate (CanonicalABI.md, `Task.enter_implicit_thread`).
    fn admit(&self, asm: &mut Asm, n: u32, status: u32) {
        let adapter = &self.plan.adapters[n as usize];
        asm.load_at(record::FREE).op(Instruction::I32Eqz);
        if adapter.async_type {
            asm.load_at(record::gate(adapter.callee)).op(Instruction::I32Or);
        }
        asm.if_();
        asm.params().call(self.host(HostImport::Admit(n))).tee(status).const_signed(-1).op(Instruction::I32Ne).if_();
        match adapter.lower {
            Lower::Async { .. } => asm.get(status).op(Instruction::Return),
            // The host traps instead: a sync-lowered call cannot wait here.
            Lower::SyncNone | Lower::SyncFlat | Lower::SyncRetptr => asm.op(Instruction::Unreachable),
        };
        asm.end().end();
    }

    fn push_task(&self, asm: &mut Asm, n: u32, task: u32, parent: u32) {
        let adapter = &self.plan.adapters[n as usize];
        asm.take_record(task);
        if exclusive(adapter) {
            asm.or_at(record::gate(adapter.callee), record::GATE_EXCLUSIVE);
        }
        asm.load_at(record::CURRENT).set(parent);
        let (mode, signature) = (mode(adapter), return_signature(adapter));
        asm.store64(task, record::INSTANCE, adapter.callee, signature);
        asm.store_const(task, record::RESOLVED, 0);
        if mode == record::MODE_RETPTR {
            asm.get(task).get(adapter.signature.params.len() as u32 - 1).store(record::RETPTR);
        }
        asm.store64(task, record::RETURN_SLOT, self.layout.return_slot(n), mode);
        asm.get(task).get(parent).store(record::PARENT);
        asm.store_const(task, record::NEXT, 0);
        asm.store64(task, record::CONTEXT, 0, 0);
        asm.store64(task, record::BORROWS, 0, 0);
        asm.set_current_to(task);
    }

    /// `start`, then the callee; a sync lift also returns here. `arguments` pushes the caller's parameters. Leaves `code` set.
    fn run_callee(&mut self, asm: &mut Asm, n: u32, task: u32, code: u32, arguments: impl Fn(&mut Asm) -> &mut Asm) {
        let adapter = self.plan.adapters[n as usize].clone();
        let (start_ty, callee_ty) = (self.ty(&adapter.start), self.ty(&adapter.callee_signature));
        asm.const_(u32::from(adapter.async_type)).global_set(MAY_BLOCK);
        arguments(asm);
        // `start` takes the parameters without the return pointer.
        if adapter.start.params.len() < adapter.signature.params.len() {
            asm.op(Instruction::Drop);
        }
        asm.call_indirect(start_ty, self.layout.start_slot(n));
        asm.call_indirect(callee_ty, self.layout.callee_slot(n));
        match adapter.lift {
            LiftKind::Callback(_) => {
                asm.set(code);
            }
            LiftKind::Stackful => {
                asm.const_(0).set(code);
            }
            LiftKind::Sync { post_return } => self.sync_return(asm, n, task, post_return),
        }
    }

    /// The callee has returned: results are on the stack. Copies them to the caller, then runs post-return.
    fn sync_return(&mut self, asm: &mut Asm, n: u32, task: u32, post_return: Option<u32>) {
        let adapter = self.plan.adapters[n as usize].clone();
        let results = asm.pop_into_locals(&adapter.callee_signature.results);
        self.trap_if_borrows(asm, task);
        asm.store_const(task, record::RESOLVED, 1);
        asm.set_current(|asm| {
            asm.get(task).load(record::PARENT);
        });
        asm.get_all(&results);
        if mode(&adapter) == record::MODE_RETPTR {
            asm.get(task).load(record::RETPTR);
        }
        let return_ty = self.ty(&adapter.return_);
        asm.call_indirect(return_ty, self.layout.return_slot(n));
        if let Some(post_return) = post_return {
            asm.set_current_to(task);
            self.post_return(asm, adapter.callee, post_return, &adapter.callee_signature.results, &results);
            asm.set_current(|asm| {
                asm.get(task).load(record::PARENT);
            });
        }
        self.tell_resolved(asm, task);
    }

    /// The instance cannot be left while its post-return runs (CanonicalABI.md, `canon lift`).
    fn post_return(&mut self, asm: &mut Asm, instance: u32, post_return: u32, types: &[CoreType], results: &[u32]) {
        let ty = self.ty(&Signature { params: types.to_vec(), results: vec![] });
        asm.const_(0).global_set(may_leave_global(instance));
        asm.get_all(results).call_indirect(ty, self.layout.post_return_slot(post_return));
        asm.const_(1).global_set(may_leave_global(instance));
    }

    /// Tells the host, if it knows the task, that it has resolved.
    fn tell_resolved(&self, asm: &mut Asm, task: u32) {
        asm.get(task).load(record::HOST).if_().get(task).call(self.host(HostImport::Resolved)).end();
    }

    fn trap_if_borrows(&self, asm: &mut Asm, task: u32) {
        asm.get(task).load(record::BORROWS).if_();
        asm.get(task).call(self.host(HostImport::BorrowsRemain)).op(Instruction::Unreachable).end();
    }

    /// The callee's activation is over: let others enter.
    fn release(&self, asm: &mut Asm, adapter: &Adapter) {
        if exclusive(adapter) {
            self.release_gate(asm, |asm| asm.const_(record::gate(adapter.callee)), |asm| asm.const_(adapter.callee));
        }
    }

    fn release_gate(
        &self,
        asm: &mut Asm,
        gate: impl Fn(&mut Asm) -> &mut Asm,
        instance: impl Fn(&mut Asm) -> &mut Asm,
    ) {
        let rest = asm.local(ValType::I32);
        gate(asm);
        gate(asm).load(0).const_(!record::GATE_EXCLUSIVE).op(Instruction::I32And).tee(rest).store(0);
        asm.get(rest).const_(record::GATE_WAITERS).op(Instruction::I32Eq).if_();
        instance(asm).call(self.host(HostImport::Opened)).end();
    }

    /// A task that has exited and returned is over; any other becomes the host's.
    fn promote_or_free(&self, asm: &mut Asm, n: u32, task: u32, code: u32) {
        let is_async = matches!(self.plan.adapters[n as usize].lower, Lower::Async { .. });
        asm.get(task).load(record::RESOLVED).const_(1).op(Instruction::I32Xor);
        asm.get(code).op(Instruction::I32Or);
        asm.get(task).load(record::HOST).op(Instruction::I32Or).if_();
        asm.get(task).get(code).call(self.host(HostImport::Promote(n)));
        asm.op(if is_async { Instruction::Return } else { Instruction::Drop });
        asm.op(Instruction::Else).free(task).end();
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
            builtin => match builtin.leaves() {
                Some(instance) => self.guarded(n, instance),
                None => self.host(HostImport::Trampoline(n)),
            },
        };
        self.export_function(&export::trampoline(n), function);
    }

    /// A built-in that the host implements, behind the check that its instance may be left.
    fn guarded(&mut self, n: u32, instance: u32) -> u32 {
        let signature = self.plan.trampolines[n as usize].signature.clone();
        let mut asm = Asm::new(signature.params.len() as u32);
        self.trap_unless_may_leave(&mut asm, instance);
        asm.params().call(self.host(HostImport::Trampoline(n)));
        self.define(&signature, asm)
    }

    /// `task.return`: hands the results to the caller through the adapter's `return` function, in the caller's context.
    fn task_return(&mut self, n: u32, instance: u32, signature: u32) -> u32 {
        let ty = self.plan.trampolines[n as usize].signature.clone();
        let mut asm = Asm::new(ty.params.len() as u32);
        let task = asm.local(ValType::I32);
        self.trap_unless_may_leave(&mut asm, instance);
        asm.load_at(record::CURRENT)
            .tee(task)
            .load(record::RETURN_SIGNATURE)
            .const_(signature + 1)
            .op(Instruction::I32Xor);
        asm.get(task).load(record::RESOLVED).op(Instruction::I32Or);
        asm.get(task).load(record::BORROWS).op(Instruction::I32Or).if_();
        asm.get(task).const_(signature).call(self.host(HostImport::ReturnTrap)).op(Instruction::Unreachable).end();
        asm.store_const(task, record::RESOLVED, 1);
        asm.get(task).load(record::MODE).const_(record::MODE_HOST).op(Instruction::I32Eq).if_();
        asm.params().call(self.host(HostImport::Trampoline(n))).op(Instruction::Return).end();
        asm.set_current(|asm| {
            asm.get(task).load(record::PARENT);
        });
        self.return_by_mode(&mut asm, &ty, task);
        asm.set_current_to(task);
        self.tell_resolved(&mut asm, task);
        self.define(&ty, asm)
    }

    fn return_by_mode(&mut self, asm: &mut Asm, ty: &Signature, task: u32) {
        let flat = [
            (record::MODE_FLAT_I32, CoreType::I32),
            (record::MODE_FLAT_I64, CoreType::I64),
            (record::MODE_FLAT_F32, CoreType::F32),
            (record::MODE_FLAT_F64, CoreType::F64),
        ];
        let return_slot = |asm: &mut Asm| {
            asm.get(task).load(record::RETURN_SLOT);
        };
        asm.get(task).load(record::MODE).const_(record::MODE_RETPTR).op(Instruction::I32Eq).if_();
        let retptr_ty = self.ty(&Signature { params: [&ty.params[..], &[CoreType::I32]].concat(), results: vec![] });
        asm.params().get(task).load(record::RETPTR);
        return_slot(asm);
        asm.call_indirect_at(retptr_ty).op(Instruction::Else);
        asm.get(task).load(record::MODE).op(Instruction::I32Eqz).if_();
        let none_ty = self.ty(&Signature { params: ty.params.clone(), results: vec![] });
        asm.params();
        return_slot(asm);
        asm.call_indirect_at(none_ty).op(Instruction::Else);
        for (mode, result) in flat {
            let flat_ty = self.ty(&Signature { params: ty.params.clone(), results: vec![result] });
            asm.get(task).load(record::MODE).const_(mode).op(Instruction::I32Eq).if_();
            asm.get(task).params();
            return_slot(asm);
            asm.call_indirect_at(flat_ty).store_typed(record::RESULT, result).end();
        }
        asm.end().end();
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
        gate(&mut asm);
        asm.load(record::INSTANCES)
            .if_()
            .get(callee)
            .call(self.host(HostImport::MayNotEnter))
            .op(Instruction::Unreachable)
            .end();
        gate(&mut asm);
        asm.const_(record::GATE_EXCLUSIVE).store(record::INSTANCES).end();
        asm.load_at(record::FREE).op(Instruction::I32Eqz).if_().call(self.host(HostImport::Grow)).end();
        asm.take_record(task);
        asm.get(task).get(callee).store(record::INSTANCE);
        asm.store_const(task, record::RETURN_SIGNATURE, 0);
        asm.get(task).load_at(record::CURRENT).store(record::PARENT);
        asm.get(task).get(is_async).store(record::NEXT);
        asm.store64(task, record::CONTEXT, 0, 0);
        asm.store64(task, record::BORROWS, 0, 0);
        asm.set_current_to(task);
        self.define(&signature, asm)
    }

    fn exit_sync_call(&mut self) -> u32 {
        let mut asm = Asm::new(0);
        let task = asm.local(ValType::I32);
        asm.load_at(record::CURRENT).set(task);
        self.trap_if_borrows(&mut asm, task);
        asm.get(task).load(record::NEXT).if_();
        let instance = |asm: &mut Asm| {
            asm.get(task).load(record::INSTANCE);
        };
        self.release_gate(
            &mut asm,
            |asm| {
                instance(asm);
                asm.const_(record::INSTANCE_SIZE)
                    .op(Instruction::I32Mul)
                    .const_(record::INSTANCES)
                    .op(Instruction::I32Add)
            },
            |asm| {
                instance(asm);
                asm
            },
        );
        asm.end();
        asm.set_current(|asm| {
            asm.get(task).load(record::PARENT);
        });
        self.tell_resolved(&mut asm, task);
        asm.free(task);
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
        let signature = Signature { params: vec![CoreType::I32; 4], results: vec![CoreType::I32] };
        let ty = self.ty(&signature);
        let mut asm = Asm::new(4);
        let (task, flag, result) = (asm.local(ValType::I32), asm.local(ValType::I32), asm.local(ValType::I32));
        let flag_global = self.realloc_instance(n).map(may_leave_global);
        asm.load_at(record::CURRENT).set(task);
        asm.set_current(|asm| {
            asm.const_(0);
        });
        asm.const_(0).op(Instruction::I64Const(0)).op(Instruction::I64Store(memarg(record::CONTEXT, 3)));
        if let Some(global) = flag_global {
            asm.global_get(global).set(flag).const_(0).global_set(global);
        }
        asm.params().call_indirect(ty, self.layout.realloc_slot(n)).set(result);
        if let Some(global) = flag_global {
            asm.get(flag).global_set(global);
        }
        asm.set_current_to(task).get(result);
        let function = self.define(&signature, asm);
        self.export_function(&export::realloc(n), function);
    }

    fn realloc_instance(&self, n: u32) -> Option<u32> {
        let uses = |options: &&CanonicalOptions| match options.data_model {
            CanonicalOptionsDataModel::LinearMemory(memory) => {
                memory.realloc.is_some_and(|realloc| realloc.as_u32() == n)
            }
            CanonicalOptionsDataModel::Gc {} => false,
        };
        self.plan.options.iter().find(uses).map(|options| options.instance.as_u32())
    }

    /// One entry from the host runs every job that is ready: callbacks and starts of calls have one type.
    fn pump(&mut self) {
        let job_ty = self.ty(&job_signature());
        let mut asm = Asm::new(0);
        let (code, job) = (asm.local(ValType::I32), asm.local(ValType::I32));
        asm.op(Instruction::Loop(BlockType::Empty));
        asm.get(code).call(self.host(HostImport::Next)).set(job);
        let arguments = asm.pop_into_locals(&[CoreType::I32; 3]);
        asm.get(job).const_signed(-1).op(Instruction::I32Eq).if_().op(Instruction::Return).end();
        asm.const_(1).global_set(MAY_BLOCK);
        asm.get_all(&arguments).get(job).call_indirect_at(job_ty).set(code);
        asm.op(Instruction::Br(0)).end();
        let function = self.define(&Signature::default(), asm);
        self.export_function(export::PUMP, function);
    }

    /// Starts an exported function: parameters come from the scratch area.
    fn lift_job(&mut self, n: u32) -> u32 {
        let lift: &Lift = &self.plan.lifts[n as usize];
        let (kind, signature, ty) = (lift.kind, lift.signature.clone(), lift.instance);
        let async_type = self.plan.types[lift.ty].async_;
        let callee_ty = self.ty(&signature);
        let mut asm = Asm::new(3);
        asm.const_(u32::from(async_type)).global_set(MAY_BLOCK);
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

    /// Starts a call that waited at its callee's gate: the caller's parameters come from the scratch area.
    fn adapter_job(&mut self, n: u32) -> u32 {
        let adapter = self.plan.adapters[n as usize].clone();
        let mut asm = Asm::new(3);
        let (task, code) = (asm.local(ValType::I32), asm.local(ValType::I32));
        asm.load_at(record::CURRENT).set(task);
        let params = adapter.signature.params.clone();
        self.run_callee(&mut asm, n, task, code, |asm| asm.load_scratch(&params));
        asm.get(code);
        self.define(&job_signature(), asm)
    }

    fn finish(mut self, jobs: &[u32]) -> Shims {
        let mut memories = MemorySection::new();
        memories.memory(MemoryType {
            minimum: record::initial_pages(self.plan.instances),
            maximum: Some(record::PAGES_MAX),
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
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
        let mut globals = GlobalSection::new();
        let flag = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        for _ in 0..1 + self.plan.instances {
            globals.global(flag, &ConstExpr::i32_const(1));
        }
        self.exports.export(export::MAY_BLOCK, ExportKind::Global, MAY_BLOCK);
        for instance in 0..self.plan.instances {
            self.exports.export(&export::may_leave(instance), ExportKind::Global, may_leave_global(instance));
        }
        let mut elements = ElementSection::new();
        let offset = ConstExpr::i32_const(self.layout.lift_job(0).cast_signed());
        elements.active(Some(0), &offset, Elements::Functions(jobs.into()));
        let mut module = Module::new();
        module
            .section(&self.types)
            .section(&self.import_section)
            .section(&self.functions)
            .section(&tables)
            .section(&memories);
        module.section(&globals).section(&self.exports).section(&elements).section(&self.code);
        Shims { wasm: module.finish(), imports: self.imports }
    }
}

/// A callback: `(event, p1, p2) -> code`.
fn job_signature() -> Signature {
    Signature { params: vec![CoreType::I32; 3], results: vec![CoreType::I32] }
}

/// Sync and callback lifts of async type run one at a time in their instance.
fn exclusive(adapter: &Adapter) -> bool {
    adapter.async_type && adapter.lift != LiftKind::Stackful
}

/// What `task.return` of a call through `adapter` must present, as the record keeps it.
pub fn return_signature(adapter: &Adapter) -> u32 {
    match adapter.lift {
        LiftKind::Sync { .. } => 0,
        LiftKind::Callback(_) | LiftKind::Stackful => adapter.return_signature + 1,
    }
}

/// How the results of a call through `adapter` travel.
pub fn mode(adapter: &Adapter) -> u32 {
    match (adapter.lower, adapter.signature.results.first()) {
        (Lower::Async { retptr: true } | Lower::SyncRetptr, _) => record::MODE_RETPTR,
        (Lower::Async { retptr: false } | Lower::SyncNone, _) | (Lower::SyncFlat, None) => record::MODE_NONE,
        (Lower::SyncFlat, Some(CoreType::I32 | CoreType::FuncRef)) => record::MODE_FLAT_I32,
        (Lower::SyncFlat, Some(CoreType::I64)) => record::MODE_FLAT_I64,
        (Lower::SyncFlat, Some(CoreType::F32)) => record::MODE_FLAT_F32,
        (Lower::SyncFlat, Some(CoreType::F64)) => record::MODE_FLAT_F64,
    }
}

fn val(ty: &CoreType) -> ValType {
    match ty {
        CoreType::I32 => ValType::I32,
        CoreType::I64 => ValType::I64,
        CoreType::F32 => ValType::F32,
        CoreType::F64 => ValType::F64,
        CoreType::FuncRef => ValType::FUNCREF,
    }
}

fn memarg(offset: u32, align: u32) -> MemArg {
    MemArg { offset: u64::from(offset), align, memory_index: 0 }
}

/// A function body under construction. Methods return `self`, so that code reads as the stack does.
struct Asm {
    params: u32,
    locals: Vec<ValType>,
    code: Vec<Instruction<'static>>,
}

impl Asm {
    fn new(params: u32) -> Self {
        Asm { params, locals: Vec::new(), code: Vec::new() }
    }
    fn local(&mut self, ty: ValType) -> u32 {
        self.locals.push(ty);
        self.params + self.locals.len() as u32 - 1
    }
    fn op(&mut self, instruction: Instruction<'static>) -> &mut Self {
        self.code.push(instruction);
        self
    }
    fn const_(&mut self, value: u32) -> &mut Self {
        self.op(Instruction::I32Const(value.cast_signed()))
    }
    fn const_signed(&mut self, value: i32) -> &mut Self {
        self.op(Instruction::I32Const(value))
    }
    fn get(&mut self, local: u32) -> &mut Self {
        self.op(Instruction::LocalGet(local))
    }
    fn set(&mut self, local: u32) -> &mut Self {
        self.op(Instruction::LocalSet(local))
    }
    fn tee(&mut self, local: u32) -> &mut Self {
        self.op(Instruction::LocalTee(local))
    }
    fn params(&mut self) -> &mut Self {
        (0..self.params).fold(self, |asm, param| asm.get(param))
    }
    fn get_all(&mut self, locals: &[u32]) -> &mut Self {
        locals.iter().fold(self, |asm, local| asm.get(*local))
    }
    fn global_get(&mut self, global: u32) -> &mut Self {
        self.op(Instruction::GlobalGet(global))
    }
    fn global_set(&mut self, global: u32) -> &mut Self {
        self.op(Instruction::GlobalSet(global))
    }
    fn if_(&mut self) -> &mut Self {
        self.op(Instruction::If(BlockType::Empty))
    }
    fn end(&mut self) -> &mut Self {
        self.op(Instruction::End)
    }
    fn call(&mut self, function: u32) -> &mut Self {
        self.op(Instruction::Call(function))
    }
    fn call_indirect(&mut self, ty: u32, slot: u32) -> &mut Self {
        self.const_(slot).call_indirect_at(ty)
    }
    fn call_indirect_at(&mut self, type_index: u32) -> &mut Self {
        self.op(Instruction::CallIndirect { type_index, table_index: 0 })
    }
    /// `[base] -> [value]`
    fn load(&mut self, offset: u32) -> &mut Self {
        self.op(Instruction::I32Load(memarg(offset, 2)))
    }
    /// `[] -> [value]`, at a fixed address.
    fn load_at(&mut self, address: u32) -> &mut Self {
        self.const_(0).load(address)
    }
    /// `[base, value] -> []`
    fn store(&mut self, offset: u32) -> &mut Self {
        self.op(Instruction::I32Store(memarg(offset, 2)))
    }
    fn store_const(&mut self, base: u32, offset: u32, value: u32) -> &mut Self {
        self.get(base).const_(value).store(offset)
    }
    /// Two neighbouring words at once.
    fn store64(&mut self, base: u32, offset: u32, low: u32, high: u32) -> &mut Self {
        let value = (u64::from(high) << 32 | u64::from(low)).cast_signed();
        self.get(base).op(Instruction::I64Const(value)).op(Instruction::I64Store(memarg(offset, 3)))
    }
    fn store_typed(&mut self, offset: u32, ty: CoreType) -> &mut Self {
        self.op(match ty {
            CoreType::I32 | CoreType::FuncRef => Instruction::I32Store(memarg(offset, 2)),
            CoreType::I64 => Instruction::I64Store(memarg(offset, 3)),
            CoreType::F32 => Instruction::F32Store(memarg(offset, 2)),
            CoreType::F64 => Instruction::F64Store(memarg(offset, 3)),
        })
    }
    fn load_typed(&mut self, offset: u32, ty: CoreType) -> &mut Self {
        self.op(match ty {
            CoreType::I32 | CoreType::FuncRef => Instruction::I32Load(memarg(offset, 2)),
            CoreType::I64 => Instruction::I64Load(memarg(offset, 3)),
            CoreType::F32 => Instruction::F32Load(memarg(offset, 2)),
            CoreType::F64 => Instruction::F64Load(memarg(offset, 3)),
        })
    }
    /// Takes the first free record into `task`; there must be one.
    fn take_record(&mut self, task: u32) -> &mut Self {
        self.load_at(record::FREE).set(task);
        self.const_(0).get(task).load(record::NEXT).store(record::FREE)
    }
    fn or_at(&mut self, address: u32, bits: u32) -> &mut Self {
        self.const_(0).load_at(address).const_(bits).op(Instruction::I32Or).store(address)
    }
    fn set_current(&mut self, value: impl Fn(&mut Asm)) -> &mut Self {
        self.const_(0);
        value(self);
        self.store(record::CURRENT)
    }
    fn set_current_to(&mut self, local: u32) -> &mut Self {
        self.set_current(|asm| {
            asm.get(local);
        })
    }
    /// Gives the record back.
    fn free(&mut self, task: u32) -> &mut Self {
        self.get(task).load_at(record::FREE).store(record::NEXT);
        self.const_(0).get(task).store(record::FREE)
    }
    fn pop_into_locals(&mut self, types: &[CoreType]) -> Vec<u32> {
        let locals: Vec<u32> = types.iter().map(|ty| self.local(val(ty))).collect();
        for local in locals.iter().rev() {
            self.set(*local);
        }
        locals
    }
    fn load_scratch(&mut self, types: &[CoreType]) -> &mut Self {
        types
            .iter()
            .enumerate()
            .fold(self, |asm, (n, ty)| asm.const_(0).load_typed(record::SCRATCH + 8 * n as u32, *ty))
    }
    fn store_scratch(&mut self, types: &[CoreType], locals: &[u32]) -> &mut Self {
        types.iter().zip(locals).enumerate().fold(self, |asm, (n, (ty, local))| {
            asm.const_(0).get(*local).store_typed(record::SCRATCH + 8 * n as u32, *ty)
        })
    }
    /// What the caller of an adapter gets, `task` having run.
    fn adapter_result(&mut self, adapter: &Adapter, task: u32) -> &mut Self {
        match (adapter.lower, adapter.signature.results.first()) {
            (Lower::Async { .. }, _) => self.const_(RETURNED),
            (Lower::SyncFlat, Some(ty)) => self.get(task).load_typed(record::RESULT, *ty),
            _ => self,
        }
    }
    fn finish(self) -> Function {
        let mut function = Function::new_with_locals_types(self.locals);
        for instruction in &self.code {
            function.instruction(instruction);
        }
        function.instruction(&Instruction::End);
        function
    }
}

/// `Subtask.State.RETURNED`
const RETURNED: u32 = 2;
