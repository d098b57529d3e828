//! Calls from one component instance to another.
//!
//! A call stays in wasm: a record for the task, the adapter's `start`, the callee. The host is entered only if the callee may not
//! be entered now, or has not finished when it comes back.

use super::asm::Asm;
use super::{
    Adapter, HostImport, LiftKind, Lower, MUST_WAIT, PARKED, ShimModule, export, fibers, job_signature, mode, record,
    retptr_field, return_signature,
};
use wasm_encoder::{BlockType, Catch, Instruction, ValType};

impl ShimModule<'_> {
    /// A call through adapter `n`: straight from caller to callee, to the host only if the callee is not free or not finished.
    pub(super) fn adapter(&mut self, n: u32) {
        let adapter = &self.plan.adapters[n as usize];
        let mut asm = Asm::new(adapter.signature.params.len() as u32);
        let (task, parent, code) = (asm.local(ValType::I32), asm.local(ValType::I32), asm.local(ValType::I32));
        self.trap_unless_may_leave(&mut asm, adapter.caller);
        if adapter.async_type && !matches!(adapter.lower, Lower::Async { .. }) {
            self.trap_unless_may_block(&mut asm);
        }
        self.admit(&mut asm, n, code);
        self.push_task(&mut asm, n, task, parent);
        match self.own_stack(adapter) {
            true => self.run_on_own_stack(&mut asm, n, task, code),
            false => self.run_behind_barrier(&mut asm, n, task, code, |asm| asm.params()),
        }
        asm.set_current_to(parent);
        self.release(&mut asm, adapter, code);
        self.promote_or_free(&mut asm, n, task, code);
        asm.adapter_result(adapter, task);
        let signature = adapter.signature.clone();
        let function = self.define(&signature, asm);
        self.export_function(&export::adapter(n), function);
    }

    /// Must the callee have a stack of its own, so that the caller can go on when it blocks? A function of sync type blocks its
    /// caller as well.
    fn own_stack(&self, adapter: &Adapter) -> bool {
        self.fibers.is_some() && adapter.async_type && self.plan.blocking[adapter.callee as usize]
    }

    /// Only a function of async type is held back by the gate (CanonicalABI.md, `Task.enter_implicit_thread`).
    fn admit(&self, asm: &mut Asm, n: u32, status: u32) {
        let adapter = &self.plan.adapters[n as usize];
        asm.load_at(record::FREE).op(Instruction::I32Eqz);
        if adapter.async_type {
            asm.load_at(record::gate(adapter.callee)).op(Instruction::I32Or);
        }
        asm.if_();
        self.ask_to_enter(asm, n, status);
        asm.get(status).const_signed(-1).op(Instruction::I32Ne).if_();
        match adapter.lower {
            Lower::Async { .. } => {
                asm.get(status).op(Instruction::Return);
            }
            Lower::SyncNone | Lower::SyncFlat | Lower::SyncRetptr => self.wait_for_result(asm, adapter),
        }
        asm.end().end();
    }

    fn ask_to_enter(&self, asm: &mut Asm, n: u32, status: u32) {
        let admit = self.host(HostImport::Admit(n));
        match self.fibers {
            None => {
                asm.params().call(admit).set(status);
            }
            Some(fibers) => {
                asm.op(Instruction::Loop(BlockType::Empty)).params().call(admit).set(status);
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
        asm.keep_retptr(adapter, task);
        asm.store64(task, record::RETURN_SLOT, self.layout.return_slot(n), mode);
        let flags = if adapter.async_type { record::FLAG_ASYNC } else { 0 };
        let flags = flags | if self.own_stack(adapter) { record::FLAG_BASE } else { 0 };
        asm.get(task).get(parent).store(record::PARENT);
        asm.store_const(task, record::FLAGS, flags);
        self.clear_record(asm, task);
        asm.set_current_to(task);
    }

    /// As `run_callee`; no exception of the callee gets further (CanonicalABI.md, `call_and_trap_on_throw`).
    fn run_behind_barrier(
        &mut self,
        asm: &mut Asm,
        n: u32,
        task: u32,
        code: u32,
        arguments: impl Fn(&mut Asm) -> &mut Asm,
    ) {
        if !self.plan.collected {
            return self.run_callee(asm, n, task, code, arguments);
        }
        asm.op(Instruction::Block(BlockType::Empty)).op(Instruction::Block(BlockType::Empty));
        asm.op(Instruction::TryTable(BlockType::Empty, vec![Catch::All { label: 0 }].into()));
        self.run_callee(asm, n, task, code, arguments);
        asm.op(Instruction::Br(2)).end().op(Instruction::Br(1)).end();
        asm.call(self.host(HostImport::Uncaught)).op(Instruction::Unreachable).end();
    }

    /// `start`, then the callee; a sync lift also returns here. `arguments` pushes the caller's parameters. Leaves `code` set.
    fn run_callee(&mut self, asm: &mut Asm, n: u32, task: u32, code: u32, arguments: impl Fn(&mut Asm) -> &mut Asm) {
        let adapter = self.plan.adapters[n as usize].clone();
        let (start_ty, callee_ty) = (self.ty(&adapter.start), self.ty(&adapter.callee_signature));
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
            LiftKind::Sync { post_return } => {
                self.sync_return(asm, n, task, post_return);
                asm.const_(0).set(code);
            }
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
        if let Some((_, taken)) = adapter.retptr() {
            asm.get(task).load_typed(retptr_field(taken), taken);
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

    /// The callee's activation is over: let others enter.
    fn release(&self, asm: &mut Asm, adapter: &Adapter, code: u32) {
        if !exclusive(adapter) {
            return;
        }
        // A stack that was put aside keeps the exclusivity.
        let own_stack = self.own_stack(adapter);
        if own_stack {
            asm.get(code).const_signed(PARKED).op(Instruction::I32Ne).if_();
        }
        self.release_gate(asm, |asm| asm.const_(record::gate(adapter.callee)), |asm| asm.const_(adapter.callee));
        if own_stack {
            asm.end();
        }
    }

    /// A task that has exited and returned is over; any other becomes the host's.
    fn promote_or_free(&self, asm: &mut Asm, n: u32, task: u32, code: u32) {
        let adapter = &self.plan.adapters[n as usize];
        asm.get(task).load(record::RESOLVED).const_(1).op(Instruction::I32Xor);
        asm.get(code).op(Instruction::I32Or);
        asm.get(task).load(record::HOST).op(Instruction::I32Or).if_();
        if !self.own_stack(adapter) {
            asm.tell_from_parked(code);
        }
        asm.get(task).get(code).call(self.host(HostImport::Promote(n)));
        match adapter.lower {
            Lower::Async { .. } => {
                asm.op(Instruction::Return);
            }
            Lower::SyncNone | Lower::SyncFlat | Lower::SyncRetptr => {
                asm.const_signed(MUST_WAIT).op(Instruction::I32Eq).if_();
                self.wait_for_result(asm, adapter);
                asm.end();
            }
        }
        asm.op(Instruction::Else).free(task).end();
    }

    /// Starts a call that waited at its callee's gate: the caller's parameters come from the scratch area.
    pub(super) fn adapter_job(&mut self, n: u32) -> u32 {
        let adapter = self.plan.adapters[n as usize].clone();
        let mut asm = Asm::new(3);
        let (task, code) = (asm.local(ValType::I32), asm.local(ValType::I32));
        asm.load_at(record::CURRENT).set(task);
        let params = adapter.signature.params.clone();
        self.run_callee(&mut asm, n, task, code, |asm| asm.load_scratch(&params));
        asm.get(code);
        self.define(&job_signature(), asm)
    }
}

/// Sync and callback lifts of async type run one at a time in their instance.
fn exclusive(adapter: &Adapter) -> bool {
    adapter.async_type && adapter.lift.needs_exclusive()
}
