//! Calls from one component instance to another.
//!
//! A call stays in wasm: a record for the task, the adapter's `start`, the callee. The host is entered only if the callee may not
//! be entered now, or has not finished when it comes back. Where there are many, adapters of one shape share this code, because a
//! request that goes through a long chain has to fetch it for each link otherwise. What they differ in, they hand over.

use super::asm::{Asm, memarg};
use super::{
    Adapter, CoreType, HostImport, Layout, LiftKind, Lower, MUST_WAIT, OWN_CODE_MAX, PARKED, ShimModule, Signature,
    export, fibers, job_signature, mode, record, retptr_field, return_signature,
};
use crate::component::plan::Plan;
use wasm_encoder::{BlockType, Catch, Instruction, ValType};

/// What the code of a call depends on.
#[derive(Clone, PartialEq)]
pub(super) struct Shape {
    /// An adapter without what is handed over. The callee is kept if it has a post-return, which is called by its own number.
    adapter: Adapter,
    /// Must the callee have a stack of its own, so that the caller can go on when it blocks? A function of sync type blocks its
    /// caller as well.
    own_stack: bool,
}

impl Shape {
    fn of(plan: &Plan, adapter: &Adapter, fibers: bool) -> Self {
        let mut shape = Adapter { caller: 0, return_signature: 0, ..adapter.clone() };
        match &mut shape.lift {
            LiftKind::Sync { post_return: Some(_) } => {}
            LiftKind::Sync { post_return: None } | LiftKind::Stackful => shape.callee = 0,
            LiftKind::Callback(callback) => (shape.callee, *callback) = (0, 0),
        }
        let own_stack = fibers && adapter.async_type && plan.blocking[adapter.callee as usize];
        Shape { adapter: shape, own_stack }
    }

    /// Parameters of the caller, without what is handed over.
    pub(super) fn params(&self) -> &[CoreType] {
        &self.adapter.signature.params
    }

    /// The parameters, the adapter, and its `identity`.
    fn signature(&self) -> Signature {
        let Signature { params, results } = &self.adapter.signature;
        Signature { params: [&params[..], &[CoreType::I32, CoreType::I64]].concat(), results: results.clone() }
    }
}

/// The locals of a function that makes a call.
#[derive(Clone, Copy)]
pub(super) struct Locals {
    /// Position of the adapter.
    pub adapter: u32,
    /// The record of the callee's task.
    pub task: u32,
    /// What the callee gives: what it waits for, or `PARKED`.
    pub code: u32,
}

/// Where the words of the callee are, from `record::INSTANCES` on, and which instance it is: two locals.
#[derive(Clone, Copy)]
struct Callee {
    words: u32,
    identity: u32,
}

/// The functions of one shape. Only where there are many adapters is there one that makes their calls.
struct Shared {
    shape: Shape,
    call: Option<u32>,
    job: u32,
}

/// The instance of an adapter's task and what its `task.return` must present, as they stand next to each other in a record.
fn identity(adapter: &Adapter) -> i64 {
    (u64::from(return_signature(adapter)) << 32 | u64::from(adapter.callee)).cast_signed()
}

/// The first adapter that the caller sees with the same type as adapter `n`.
pub(super) fn first_of_type(plan: &Plan, n: u32) -> u32 {
    let signature = &plan.adapters[n as usize].signature;
    plan.adapters.iter().position(|adapter| adapter.signature == *signature).expect("it is one of them") as u32
}

impl ShimModule<'_> {
    /// Defines the functions that stand for adapters. Gives the job of each that starts a call which has had to wait.
    pub(super) fn adapters(&mut self) -> Vec<u32> {
        let plan = self.plan;
        let mut known: Vec<Shared> = Vec::new();
        let mut jobs = Vec::new();
        for (n, adapter) in (0..).zip(&plan.adapters) {
            let shape = Shape::of(plan, adapter, self.fibers.is_some());
            let shared = known.iter().position(|shared| shared.shape == shape).unwrap_or_else(|| {
                let job = self.job_of(&shape);
                let share = plan.adapters.len() > OWN_CODE_MAX;
                let call = share.then(|| self.shared_call(&shape, first_of_type(plan, n)));
                known.push(Shared { shape, call, job });
                known.len() - 1
            });
            let Shared { shape, call, job } = &known[shared];
            let function = match *call {
                Some(call) => self.hand_over(n, adapter, call),
                None => self.own_call(n, adapter, shape),
            };
            self.export_function(&export::adapter(n), function);
            jobs.push(*job);
        }
        jobs
    }

    /// What the caller imports as adapter `n`: hands over what sets it apart.
    fn hand_over(&mut self, n: u32, adapter: &Adapter, call: u32) -> u32 {
        let mut asm = Asm::new(adapter.signature.params.len() as u32);
        self.trap_unless_may_leave(&mut asm, adapter.caller);
        asm.params().const_(n).op(Instruction::I64Const(identity(adapter))).op(Instruction::ReturnCall(call));
        self.define(&adapter.signature, asm)
    }

    /// What the caller imports as adapter `n`, with code of its own.
    fn own_call(&mut self, n: u32, adapter: &Adapter, shape: &Shape) -> u32 {
        let mut asm = Asm::new(shape.params().len() as u32);
        let (position, callee) = (asm.local(ValType::I32), asm.local(ValType::I64));
        self.trap_unless_may_leave(&mut asm, adapter.caller);
        asm.const_(n).set(position).op(Instruction::I64Const(identity(adapter))).set(callee);
        self.call_of(&mut asm, shape, first_of_type(self.plan, n), position, callee);
        self.define(&adapter.signature, asm)
    }

    /// The code that adapters of `shape` hand over to.
    fn shared_call(&mut self, shape: &Shape, like: u32) -> u32 {
        let params = shape.params().len() as u32;
        let mut asm = Asm::new(params + 2);
        self.call_of(&mut asm, shape, like, params, params + 1);
        self.define(&shape.signature(), asm)
    }

    /// Straight from caller to callee, to the host only if the callee is not free or not finished. What sets the adapter apart is in
    /// the locals `position` and `identity`.
    fn call_of(&mut self, asm: &mut Asm, shape: &Shape, like: u32, position: u32, identity: u32) {
        let adapter = &shape.adapter;
        let params = shape.params().len() as u32;
        let mut local = || asm.local(ValType::I32);
        let (callee, parent) = (Callee { words: local(), identity }, local());
        let locals = Locals { adapter: position, task: local(), code: local() };
        if adapter.async_type {
            asm.get(callee.identity).op(Instruction::I32WrapI64).const_(record::INSTANCE_SIZE);
            asm.op(Instruction::I32Mul).set(callee.words);
            if !matches!(adapter.lower, Lower::Async { .. }) {
                self.trap_unless_may_block(asm);
            }
        }
        self.admit(asm, shape, like, locals, callee);
        self.push_task(asm, shape, locals, callee, parent);
        match shape.own_stack {
            true => self.run_on_own_stack(asm, shape, locals),
            false => self.run_behind_barrier(asm, adapter, locals, |asm| asm.first(params)),
        }
        asm.set_current_to(parent);
        self.release(asm, shape, locals, callee);
        self.promote_or_free(asm, shape, locals);
        asm.adapter_result(adapter, locals.task);
    }

    /// Only a function of async type is held back by the gate (CanonicalABI.md, `Task.enter_implicit_thread`).
    fn admit(&self, asm: &mut Asm, shape: &Shape, like: u32, locals: Locals, callee: Callee) {
        let adapter = &shape.adapter;
        asm.load_at(record::FREE).op(Instruction::I32Eqz);
        if adapter.async_type {
            asm.get(callee.words).load(record::INSTANCES).op(Instruction::I32Or);
        }
        asm.if_();
        let status = locals.code;
        self.ask_to_enter(asm, shape, like, locals);
        asm.get(status).const_signed(-1).op(Instruction::I32Ne).if_();
        match adapter.lower {
            Lower::Async { .. } => {
                asm.get(status).op(Instruction::Return);
            }
            Lower::SyncNone | Lower::SyncFlat | Lower::SyncRetptr => self.wait_for_result(asm, adapter),
        }
        asm.end().end();
    }

    fn ask_to_enter(&self, asm: &mut Asm, shape: &Shape, like: u32, locals: Locals) {
        let ask = |asm: &mut Asm| {
            asm.first(shape.params().len() as u32).get(locals.adapter);
            asm.call(self.host(HostImport::Admit(like))).set(locals.code);
        };
        match self.fibers {
            None => ask(asm),
            Some(fibers) => {
                asm.op(Instruction::Loop(BlockType::Empty));
                ask(asm);
                fibers::drive_if_asked(asm, fibers, |asm| {
                    asm.op(Instruction::Br(1));
                });
                asm.end();
            }
        }
    }

    /// A sync-lowered call waits for its result, and returns it.
    fn wait_for_result(&self, asm: &mut Asm, adapter: &Adapter) {
        match &self.fibers {
            Some(fibers) => {
                asm.call(fibers.block)
                    .op(Instruction::Drop)
                    .load_scratch(&adapter.signature.results)
                    .op(Instruction::Return);
            }
            // The host has trapped instead.
            None => {
                asm.op(Instruction::Unreachable);
            }
        }
    }

    fn push_task(&self, asm: &mut Asm, shape: &Shape, locals: Locals, callee: Callee, parent: u32) {
        let (adapter, task) = (&shape.adapter, locals.task);
        asm.take_record(task);
        if exclusive(adapter) {
            asm.get(callee.words).get(callee.words).load(record::INSTANCES);
            asm.const_(record::GATE_EXCLUSIVE).op(Instruction::I32Or).store(record::INSTANCES);
        }
        asm.load_at(record::CURRENT).set(parent);
        asm.get(task).get(callee.identity).op(Instruction::I64Store(memarg(record::INSTANCE, 3)));
        asm.store_const(task, record::RESOLVED, 0);
        asm.keep_retptr(adapter, task);
        asm.get(task).slot_of(locals.adapter, Layout::RETURN).store(record::RETURN_SLOT);
        asm.store_const(task, record::MODE, mode(adapter));
        let flags = if adapter.async_type { record::FLAG_ASYNC } else { 0 };
        let flags = flags | if shape.own_stack { record::FLAG_BASE } else { 0 };
        asm.get(task).get(parent).store(record::PARENT);
        asm.store_const(task, record::FLAGS, flags);
        self.clear_record(asm, task);
        asm.set_current_to(task);
    }

    /// As `run_callee`; no exception of the callee gets further (CanonicalABI.md, `call_and_trap_on_throw`).
    fn run_behind_barrier(
        &mut self,
        asm: &mut Asm,
        adapter: &Adapter,
        locals: Locals,
        arguments: impl Fn(&mut Asm) -> &mut Asm,
    ) {
        if !self.plan.collected {
            return self.run_callee(asm, adapter, locals, arguments);
        }
        asm.op(Instruction::Block(BlockType::Empty)).op(Instruction::Block(BlockType::Empty));
        asm.op(Instruction::TryTable(BlockType::Empty, vec![Catch::All { label: 0 }].into()));
        self.run_callee(asm, adapter, locals, arguments);
        asm.op(Instruction::Br(2)).end().op(Instruction::Br(1)).end();
        asm.call(self.host(HostImport::Uncaught)).op(Instruction::Unreachable).end();
    }

    /// `start`, unless it does nothing, then the callee; a sync lift also returns here. `arguments` pushes the caller's parameters.
    /// Leaves `code` set.
    fn run_callee(
        &mut self,
        asm: &mut Asm,
        adapter: &Adapter,
        locals: Locals,
        arguments: impl Fn(&mut Asm) -> &mut Asm,
    ) {
        let (start_ty, callee_ty) = (self.ty(&adapter.start), self.ty(&adapter.callee_signature));
        arguments(asm);
        // `start` takes the parameters without the return pointer.
        if adapter.start.params.len() < adapter.signature.params.len() {
            asm.op(Instruction::Drop);
        }
        if !adapter.hands_on {
            asm.slot_of(locals.adapter, Layout::START).call_indirect_at(start_ty);
        }
        asm.slot_of(locals.adapter, Layout::CALLEE).call_indirect_at(callee_ty);
        match adapter.lift {
            LiftKind::Callback(_) => {
                asm.set(locals.code);
            }
            LiftKind::Stackful => {
                asm.const_(0).set(locals.code);
            }
            LiftKind::Sync { post_return } => {
                self.sync_return(asm, adapter, locals, post_return);
                asm.const_(0).set(locals.code);
            }
        }
    }

    /// The callee has returned: results are on the stack. Copies them to the caller, then runs post-return.
    fn sync_return(&mut self, asm: &mut Asm, adapter: &Adapter, locals: Locals, post_return: Option<u32>) {
        let task = locals.task;
        let results = asm.pop_into_locals(&adapter.callee_signature.results);
        self.trap_if_borrows(asm, task);
        asm.store_const(task, record::RESOLVED, 1);
        asm.set_current(|asm| {
            asm.get(task).load(record::PARENT);
        });
        asm.get_all(&results);
        if let Some((_, taken)) = adapter.retptr() {
            asm.get(task).load_typed(retptr_field(taken), taken);
        }
        let return_ty = self.ty(&adapter.return_);
        asm.slot_of(locals.adapter, Layout::RETURN).call_indirect_at(return_ty);
        if let Some(post_return) = post_return {
            asm.set_current_to(task);
            self.post_return(asm, adapter.callee, post_return, &adapter.callee_signature.results, &results);
            asm.set_current(|asm| {
                asm.get(task).load(record::PARENT);
            });
        }
        self.tell_resolved(asm, task);
    }

    /// The callee's activation is over: let others enter.
    fn release(&self, asm: &mut Asm, shape: &Shape, locals: Locals, callee: Callee) {
        if !exclusive(&shape.adapter) {
            return;
        }
        // A stack that was put aside keeps the exclusivity.
        if shape.own_stack {
            asm.get(locals.code).const_signed(PARKED).op(Instruction::I32Ne).if_();
        }
        let instance = |asm: &mut Asm| {
            asm.get(callee.identity).op(Instruction::I32WrapI64);
        };
        self.release_gate(asm, callee.words, instance);
        if shape.own_stack {
            asm.end();
        }
    }

    /// A task that has exited and returned is over; any other becomes the host's.
    fn promote_or_free(&self, asm: &mut Asm, shape: &Shape, locals: Locals) {
        let Locals { adapter, task, code } = locals;
        asm.get(task).load(record::RESOLVED).const_(1).op(Instruction::I32Xor);
        asm.get(code).op(Instruction::I32Or);
        asm.get(task).load(record::HOST).op(Instruction::I32Or).if_();
        if !shape.own_stack {
            asm.tell_from_parked(code);
        }
        asm.get(adapter).get(task).get(code).call(self.host(HostImport::Promote));
        match shape.adapter.lower {
            Lower::Async { .. } => {
                asm.op(Instruction::Return);
            }
            Lower::SyncNone | Lower::SyncFlat | Lower::SyncRetptr => {
                asm.const_signed(MUST_WAIT).op(Instruction::I32Eq).if_();
                self.wait_for_result(asm, &shape.adapter);
                asm.end();
            }
        }
        asm.op(Instruction::Else).free(task).end();
    }

    /// Runs the callee of a call that has waited at its gate, or that is to run on another stack: `(adapter)`. The caller's
    /// parameters come from the scratch area.
    fn job_of(&mut self, shape: &Shape) -> u32 {
        let mut asm = Asm::new(3);
        let locals = Locals { adapter: 0, task: asm.local(ValType::I32), code: asm.local(ValType::I32) };
        asm.load_at(record::CURRENT).set(locals.task);
        self.run_callee(&mut asm, &shape.adapter, locals, |asm| asm.load_scratch(shape.params()));
        asm.get(locals.code);
        self.define(&job_signature(), asm)
    }
}

/// Sync and callback lifts of async type run one at a time in their instance.
fn exclusive(adapter: &Adapter) -> bool {
    adapter.async_type && adapter.lift.needs_exclusive()
}
