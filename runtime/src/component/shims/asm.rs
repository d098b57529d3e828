//! Function bodies under construction.
//!
//! Methods of `Asm` return `self`, so that code reads as the stack does. Knows the layout of records, and no built-in.

use super::super::plan::{Adapter, CoreType, Lower};
use super::{Layout, ODD_CODE, PARKED, record, retptr_field};
use wasm_encoder::{BlockType, Function, Instruction, MemArg, ValType};

pub(super) fn val(ty: &CoreType) -> ValType {
    match ty {
        CoreType::I32 => ValType::I32,
        CoreType::I64 => ValType::I64,
        CoreType::F32 => ValType::F32,
        CoreType::F64 => ValType::F64,
        CoreType::FuncRef => ValType::FUNCREF,
    }
}

pub(super) fn memarg(offset: u32, align: u32) -> MemArg {
    MemArg { offset: u64::from(offset), align, memory_index: 0 }
}

/// A function body.
pub(super) struct Asm {
    params: u32,
    locals: Vec<ValType>,
    code: Vec<Instruction<'static>>,
}

impl Asm {
    pub(super) fn new(params: u32) -> Self {
        Asm { params, locals: Vec::new(), code: Vec::new() }
    }
    pub(super) fn local(&mut self, ty: ValType) -> u32 {
        self.locals.push(ty);
        self.params + self.locals.len() as u32 - 1
    }
    pub(super) fn op(&mut self, instruction: Instruction<'static>) -> &mut Self {
        self.code.push(instruction);
        self
    }
    pub(super) fn const_(&mut self, value: u32) -> &mut Self {
        self.op(Instruction::I32Const(value.cast_signed()))
    }
    pub(super) fn const_signed(&mut self, value: i32) -> &mut Self {
        self.op(Instruction::I32Const(value))
    }
    /// `code` comes from a guest: it does not mean what only we say.
    pub(super) fn tell_from_parked(&mut self, code: u32) -> &mut Self {
        self.get(code).const_signed(PARKED).op(Instruction::I32Eq).if_().const_(ODD_CODE).set(code).end()
    }
    pub(super) fn get(&mut self, local: u32) -> &mut Self {
        self.op(Instruction::LocalGet(local))
    }
    pub(super) fn set(&mut self, local: u32) -> &mut Self {
        self.op(Instruction::LocalSet(local))
    }
    pub(super) fn tee(&mut self, local: u32) -> &mut Self {
        self.op(Instruction::LocalTee(local))
    }
    pub(super) fn params(&mut self) -> &mut Self {
        self.first(self.params)
    }
    /// The first `count` parameters.
    pub(super) fn first(&mut self, count: u32) -> &mut Self {
        (0..count).fold(self, |asm, param| asm.get(param))
    }
    pub(super) fn get_all(&mut self, locals: &[u32]) -> &mut Self {
        locals.iter().fold(self, |asm, local| asm.get(*local))
    }
    pub(super) fn if_(&mut self) -> &mut Self {
        self.op(Instruction::If(BlockType::Empty))
    }
    pub(super) fn end(&mut self) -> &mut Self {
        self.op(Instruction::End)
    }
    pub(super) fn call(&mut self, function: u32) -> &mut Self {
        self.op(Instruction::Call(function))
    }
    pub(super) fn call_indirect(&mut self, ty: u32, slot: u32) -> &mut Self {
        self.const_(slot).call_indirect_at(ty)
    }
    pub(super) fn call_indirect_at(&mut self, type_index: u32) -> &mut Self {
        self.op(Instruction::CallIndirect { type_index, table_index: 0 })
    }
    /// `[] -> [slot]`: where in the table `which` of an adapter's functions is.
    pub(super) fn slot_of(&mut self, adapter: u32, which: u32) -> &mut Self {
        self.get(adapter).const_(Layout::PER_ADAPTER).op(Instruction::I32Mul);
        if which > 0 {
            self.const_(which).op(Instruction::I32Add);
        }
        self
    }
    /// `[base] -> [value]`
    pub(super) fn load(&mut self, offset: u32) -> &mut Self {
        self.op(Instruction::I32Load(memarg(offset, 2)))
    }
    /// `[] -> [value]`, at a fixed address.
    pub(super) fn load_at(&mut self, address: u32) -> &mut Self {
        self.const_(0).load(address)
    }
    /// `[base, value] -> []`
    pub(super) fn store(&mut self, offset: u32) -> &mut Self {
        self.op(Instruction::I32Store(memarg(offset, 2)))
    }
    /// `[] -> []`: a word at a fixed address.
    pub(super) fn store_at(&mut self, address: u32, value: u32) -> &mut Self {
        self.const_(0).const_(value).store(address)
    }
    pub(super) fn store_const(&mut self, base: u32, offset: u32, value: u32) -> &mut Self {
        self.get(base).const_(value).store(offset)
    }
    /// Two neighbouring words at once.
    pub(super) fn store64(&mut self, base: u32, offset: u32, low: u32, high: u32) -> &mut Self {
        let value = (u64::from(high) << 32 | u64::from(low)).cast_signed();
        self.get(base).op(Instruction::I64Const(value)).op(Instruction::I64Store(memarg(offset, 3)))
    }
    pub(super) fn store_typed(&mut self, offset: u32, ty: CoreType) -> &mut Self {
        self.op(match ty {
            CoreType::I32 | CoreType::FuncRef => Instruction::I32Store(memarg(offset, 2)),
            CoreType::I64 => Instruction::I64Store(memarg(offset, 3)),
            CoreType::F32 => Instruction::F32Store(memarg(offset, 2)),
            CoreType::F64 => Instruction::F64Store(memarg(offset, 3)),
        })
    }
    pub(super) fn load_typed(&mut self, offset: u32, ty: CoreType) -> &mut Self {
        self.op(match ty {
            CoreType::I32 | CoreType::FuncRef => Instruction::I32Load(memarg(offset, 2)),
            CoreType::I64 => Instruction::I64Load(memarg(offset, 3)),
            CoreType::F32 => Instruction::F32Load(memarg(offset, 2)),
            CoreType::F64 => Instruction::F64Load(memarg(offset, 3)),
        })
    }
    /// Keeps the pointer that the caller of `adapter` wants its result through, if there is one: its last parameter.
    pub(super) fn keep_retptr(&mut self, adapter: &Adapter, task: u32) -> &mut Self {
        let Some((given, taken)) = adapter.retptr() else { return self };
        self.get(task).get(adapter.signature.params.len() as u32 - 1);
        // The validator has async lowers give an i32, whatever their memory.
        if given != taken {
            self.op(Instruction::I64ExtendI32U);
        }
        self.store_typed(retptr_field(taken), taken)
    }
    /// Takes the first free record into `task`; there must be one.
    pub(super) fn take_record(&mut self, task: u32) -> &mut Self {
        self.load_at(record::FREE).set(task);
        self.const_(0).get(task).load(record::NEXT).store(record::FREE)
    }
    pub(super) fn set_current(&mut self, value: impl Fn(&mut Asm)) -> &mut Self {
        self.const_(0);
        value(self);
        self.store(record::CURRENT)
    }
    pub(super) fn set_current_to(&mut self, local: u32) -> &mut Self {
        self.set_current(|asm| {
            asm.get(local);
        })
    }
    /// Gives the record back.
    pub(super) fn free(&mut self, task: u32) -> &mut Self {
        self.get(task).load_at(record::FREE).store(record::NEXT);
        self.const_(0).get(task).store(record::FREE)
    }
    pub(super) fn pop_into_locals(&mut self, types: &[CoreType]) -> Vec<u32> {
        let locals: Vec<u32> = types.iter().map(|ty| self.local(val(ty))).collect();
        for local in locals.iter().rev() {
            self.set(*local);
        }
        locals
    }
    pub(super) fn load_scratch(&mut self, types: &[CoreType]) -> &mut Self {
        types
            .iter()
            .enumerate()
            .fold(self, |asm, (n, ty)| asm.const_(0).load_typed(record::SCRATCH + 8 * n as u32, *ty))
    }
    pub(super) fn store_scratch(&mut self, types: &[CoreType], locals: &[u32]) -> &mut Self {
        types.iter().zip(locals).enumerate().fold(self, |asm, (n, (ty, local))| {
            asm.const_(0).get(*local).store_typed(record::SCRATCH + 8 * n as u32, *ty)
        })
    }
    /// What the caller of an adapter gets, `task` having run.
    pub(super) fn adapter_result(&mut self, adapter: &Adapter, task: u32) -> &mut Self {
        match (adapter.lower, adapter.signature.results.first()) {
            (Lower::Async { .. }, _) => self.const_(RETURNED),
            (Lower::SyncFlat, Some(ty)) => self.get(task).load_typed(record::RESULT, *ty),
            _ => self,
        }
    }
    pub(super) fn finish(self) -> Function {
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
