//! Stacks that can be put aside, by core stack switching.
//!
//! A stack is a continuation in a table, known by its slot. On each runs a *worker*: a loop that takes jobs and never ends, so
//! that stacks are used again. Code that has to wait suspends its worker with all that is on the stack (`block`); whoever
//! resumed it (`drive`) goes on. So a component that never blocks in fact runs on one worker, at the price of one switch an
//! entry. No frame of the host may be between a worker and the code that it suspends: calls of components that may block are
//! made by shims. Words in the header (`record`) say what is to run; the host decides it.

use super::asm::Asm;
use super::call::{Locals, Shape};
use super::{Builtin, CoreType, HostImport, JobLocals, PARKED, SUSPEND, ShimModule, Signature, export, record};
use wasm_encoder::{
    BlockType, ContType, ElementSection, Elements, ExportKind, ExportSection, Handle, HeapType, Instruction, RefType,
    TableSection, TableType, TagKind, TagSection, TagType, ValType,
};

/// The table of stacks.
const STACKS_TABLE: u32 = 1;

/// The only tag: put this stack aside.
const TAG: u32 = 0;

/// Functions and types of the module that have to do with stacks.
#[derive(Clone, Copy)]
pub(super) struct Fibers {
    /// `[] -> []`
    void: u32,
    /// Continuations of workers.
    cont: u32,
    worker: u32,
    /// `(slot)`: makes sure that there is a stack in a slot that the host has named. It knows slots, not what is in them.
    pub make: u32,
    /// `(slot)`: runs the stack that is there, and those that it switches to, until one is put aside.
    pub drive: u32,
    /// `() -> i32`: waits until what the current thread waits for has happened; its result is in the scratch area as well.
    pub block: u32,
    /// The loop that the host enters.
    pub pump: u32,
}

impl Fibers {
    fn stack_type(self, nullable: bool) -> RefType {
        RefType { nullable, heap_type: HeapType::Concrete(self.cont) }
    }

    /// Declares the tables of stacks and of threads.
    pub fn tables(self, tables: &mut TableSection, exports: &mut ExportSection, elements: &mut ElementSection) {
        let table = |element_type| TableType { element_type, table64: false, minimum: 4, maximum: None, shared: false };
        tables.table(table(self.stack_type(true))).table(table(RefType::FUNCREF));
        exports.export(export::THREADS, ExportKind::Table, super::THREADS_TABLE);
        elements.declared(Elements::Functions((&[self.worker][..]).into()));
    }

    pub fn tags(self) -> TagSection {
        let mut tags = TagSection::new();
        tags.tag(TagType { kind: TagKind::Exception, func_type_idx: self.void });
        tags
    }
}

impl ShimModule<'_> {
    pub(super) fn define_fibers(&mut self) -> Fibers {
        let void = self.ty(&Signature::default());
        self.types.ty().cont(&ContType(void));
        self.known_types.push(None);
        let cont = self.known_types.len() as u32 - 1;
        let mut fibers = Fibers { void, cont, worker: 0, make: 0, drive: 0, block: 0, pump: 0 };
        fibers.worker = self.worker();
        fibers.make = self.make_stack(fibers);
        fibers.drive = self.drive(fibers);
        fibers.block = self.block(fibers);
        fibers.pump = self.pump_on_workers(fibers);
        fibers
    }

    /// Runs one job after the other: what it is handed in the header, else what the host has.
    fn worker(&mut self) -> u32 {
        let mut asm = Asm::new(0);
        let job = JobLocals::new(&mut asm);
        let rest = |asm: &mut Asm, again: u32| {
            asm.const_(0).set(job.record).op(Instruction::Suspend(TAG)).op(Instruction::Br(again)).end();
        };
        asm.op(Instruction::Loop(BlockType::Empty));
        asm.load_at(record::JOB).if_();
        asm.load_at(record::JOB).const_(1).op(Instruction::I32Sub).set(job.job).store_at(record::JOB, 0);
        asm.load_at(record::JOB_RECORD).set(job.record);
        for (n, argument) in job.arguments.iter().enumerate() {
            asm.load_at(record::JOB_ARGUMENTS + 4 * n as u32).set(*argument);
        }
        asm.op(Instruction::Else);
        self.next_job(&mut asm, &job);
        asm.get(job.job).const_signed(-1).op(Instruction::I32Eq).if_();
        rest(&mut asm, 2);
        asm.end();
        self.run_job(&mut asm, &job);
        // Code that a caller's shim has started, and that was never put aside: the shim goes on with it.
        asm.get(job.record).load(record::FLAGS).const_(record::FLAG_DETACHED).op(Instruction::I32And);
        asm.op(Instruction::I32Eqz).if_();
        asm.store_at(record::DONE, 1);
        asm.const_(0).get(job.code).store(record::CODE);
        rest(&mut asm, 1);
        // Somebody waits for this stack to be put aside, and nothing may run before he goes on but what the host hands over.
        asm.load_at(record::NESTED).const_(1).op(Instruction::I32GtU).if_();
        asm.get(job.record).get(job.code).call(self.host(HostImport::Finished));
        asm.load_at(record::JOB).op(Instruction::I32Eqz).if_();
        rest(&mut asm, 2);
        asm.end().op(Instruction::Br(0)).end();
        self.define(&Signature::default(), asm)
    }

    fn make_stack(&mut self, fibers: Fibers) -> u32 {
        let mut asm = Asm::new(1);
        let fiber = 0;
        asm.get(fiber).op(Instruction::TableSize(STACKS_TABLE)).op(Instruction::I32GeU).if_();
        asm.op(Instruction::RefNull(HeapType::Concrete(fibers.cont))).op(Instruction::TableSize(STACKS_TABLE));
        asm.op(Instruction::TableGrow(STACKS_TABLE)).op(Instruction::Drop).end();
        asm.get(fiber).op(Instruction::TableGet(STACKS_TABLE)).op(Instruction::RefIsNull).if_();
        asm.get(fiber).op(Instruction::RefFunc(fibers.worker)).op(Instruction::ContNew(fibers.cont));
        asm.op(Instruction::TableSet(STACKS_TABLE)).end();
        self.define(&Signature { params: vec![CoreType::I32], results: vec![] }, asm)
    }

    fn drive(&mut self, fibers: Fibers) -> u32 {
        let mut asm = Asm::new(1);
        let stack = asm.local(ValType::Ref(fibers.stack_type(true)));
        let saved = asm.local(ValType::I32);
        let fiber = 0;
        asm.load_at(record::FIBER).set(saved);
        asm.const_(0).load_at(record::NESTED).const_(1).op(Instruction::I32Add).store(record::NESTED);
        asm.op(Instruction::Loop(BlockType::Empty));
        asm.const_(0).get(fiber).store(record::FIBER);
        asm.op(Instruction::Block(BlockType::Result(ValType::Ref(fibers.stack_type(false)))));
        asm.get(fiber).op(Instruction::TableGet(STACKS_TABLE));
        asm.op(Instruction::Resume {
            cont_type_index: fibers.cont,
            resume_table: vec![Handle::OnLabel { tag: TAG, label: 0 }].into(),
        });
        // Workers never end.
        asm.op(Instruction::Unreachable).end();
        asm.set(stack).get(fiber).get(stack).op(Instruction::TableSet(STACKS_TABLE));
        asm.load_at(record::SWITCH_TO).tee(fiber).if_();
        asm.get(fiber).call(fibers.make);
        asm.store_at(record::SWITCH_TO, 0).op(Instruction::Br(1)).end();
        asm.end();
        asm.const_(0).get(saved).store(record::FIBER);
        asm.const_(0).load_at(record::NESTED).const_(1).op(Instruction::I32Sub).store(record::NESTED);
        self.define(&Signature { params: vec![CoreType::I32], results: vec![] }, asm)
    }

    fn block(&mut self, fibers: Fibers) -> u32 {
        let mut asm = Asm::new(0);
        let (fiber, current) = (asm.local(ValType::I32), asm.local(ValType::I32));
        asm.load_at(record::CURRENT).set(current);
        asm.op(Instruction::Loop(BlockType::Empty));
        asm.call(self.host(HostImport::Block)).tee(fiber).const_(0).op(Instruction::I32GeS).if_();
        asm.get(fiber).call(fibers.make);
        asm.get(fiber).call(fibers.drive).set_current_to(current);
        asm.op(Instruction::Br(1)).end();
        asm.get(fiber).const_signed(SUSPEND).op(Instruction::I32Eq).if_().op(Instruction::Suspend(TAG)).end();
        asm.end();
        asm.load_scratch(&[CoreType::I32]);
        self.define(&Signature { params: vec![], results: vec![CoreType::I32] }, asm)
    }

    fn pump_on_workers(&mut self, fibers: Fibers) -> u32 {
        let mut asm = Asm::new(0);
        let fiber = asm.local(ValType::I32);
        asm.op(Instruction::Loop(BlockType::Empty));
        self.take_stack(&mut asm, fibers, fiber);
        asm.get(fiber).call(fibers.drive).store_at(record::CURRENT, 0);
        asm.load_at(record::RESTS).op(Instruction::I32Eqz).op(Instruction::BrIf(0)).end();
        asm.store_at(record::RESTS, 0);
        self.define(&Signature::default(), asm)
    }

    /// Sets `fiber` to an idle stack.
    fn take_stack(&self, asm: &mut Asm, fibers: Fibers, fiber: u32) {
        let count = fiber;
        asm.load_at(record::IDLE_COUNT).tee(count).if_();
        asm.const_(0).get(count).const_(1).op(Instruction::I32Sub).store(record::IDLE_COUNT);
        asm.get(count).const_(2).op(Instruction::I32Shl).load(record::IDLE - 4).set(fiber);
        asm.op(Instruction::Else).call(self.host(HostImport::NewFiber)).set(fiber);
        asm.get(fiber).call(fibers.make);
        asm.end();
    }

    /// The stack `fiber` is idle from now on.
    fn give_stack(&self, asm: &mut Asm, fiber: u32) {
        let count = asm.local(ValType::I32);
        asm.load_at(record::IDLE_COUNT).tee(count).const_(record::IDLE_MAX).op(Instruction::I32LtU).if_();
        asm.get(count).const_(2).op(Instruction::I32Shl).get(fiber).store(record::IDLE);
        asm.const_(0).get(count).const_(1).op(Instruction::I32Add).store(record::IDLE_COUNT);
        asm.op(Instruction::Else).get(fiber).call(self.host(HostImport::Idle)).end();
    }

    /// Runs the callee of a call on another stack. Leaves `code` set, to `PARKED` if that stack was put aside.
    pub(super) fn run_on_own_stack(&mut self, asm: &mut Asm, shape: &Shape, locals: Locals) {
        let fibers = self.fibers.expect("without stacks nobody asks for one");
        let Locals { adapter, task, code } = locals;
        let arguments: Vec<u32> = (0..shape.params().len() as u32).collect();
        let fiber = asm.local(ValType::I32);
        asm.store_scratch(shape.params(), &arguments);
        asm.const_(0).get(adapter).const_(self.layout.adapter_job(0) + 1).op(Instruction::I32Add).store(record::JOB);
        asm.const_(0).get(adapter).store(record::JOB_ARGUMENTS);
        asm.const_(0).get(task).store(record::JOB_RECORD);
        self.take_stack(asm, fibers, fiber);
        asm.get(fiber).call(fibers.drive);
        asm.load_at(record::DONE).if_();
        asm.store_at(record::DONE, 0).load_at(record::CODE).set(code);
        asm.tell_from_parked(code);
        self.give_stack(asm, fiber);
        asm.op(Instruction::Else).const_signed(PARKED).set(code).end();
    }

    /// Trampoline `n` has been called, its result is on the stack: waits if it says so.
    pub(super) fn after_builtin(&mut self, asm: &mut Asm, n: u32, fibers: Fibers) {
        let trampoline = &self.plan.trampolines[n as usize];
        let blocks = self.plan.blocks(&trampoline.builtin).is_some();
        match &trampoline.builtin {
            Builtin::SubtaskCancel { .. } => {
                let result = asm.local(ValType::I32);
                asm.set(result);
                // A thread that is cancelled runs at once, on top of who cancels it.
                let done = self.host(HostImport::CancelDone(n));
                drive_if_asked(asm, fibers, |asm| {
                    asm.params().call(done).set(result);
                });
                asm.get(result);
                wait_if_blocked(asm, fibers, blocks);
            }
            Builtin::LowerImport { .. } if blocks => {
                asm.load_at(record::BLOCKED).if_().store_at(record::BLOCKED, 0);
                asm.call(fibers.block).op(Instruction::Drop).load_scratch(&trampoline.signature.results);
                asm.op(Instruction::Return).end();
            }
            Builtin::ThreadNewIndirect { .. } => {}
            _ => wait_if_blocked(asm, fibers, blocks),
        }
    }
}

/// Drives the stack that the host has named, if it has, and does what follows then.
pub(super) fn drive_if_asked(asm: &mut Asm, fibers: Fibers, then: impl Fn(&mut Asm)) {
    let (fiber, current) = (asm.local(ValType::I32), asm.local(ValType::I32));
    asm.load_at(record::DRIVE).tee(fiber).if_();
    // The host has made the other thread the current one, and left the caller in a word.
    asm.store_at(record::DRIVE, 0).load_at(record::CALLER).set(current);
    asm.get(fiber).call(fibers.make);
    asm.get(fiber).call(fibers.drive).set_current_to(current);
    then(asm);
    asm.end();
}

/// `[result] -> [result]`: a built-in whose result is `BLOCKED` waits for another.
fn wait_if_blocked(asm: &mut Asm, fibers: Fibers, blocks: bool) {
    if !blocks {
        return;
    }
    let result = asm.local(ValType::I32);
    asm.tee(result).const_signed(-1).op(Instruction::I32Eq).if_().call(fibers.block).set(result).end().get(result);
}
