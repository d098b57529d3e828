//! Adapter modules, which `wasmtime-environ` ("FACT") writes for calls between two component instances.
//!
//! It does not tell all that we need of them, so their bodies are read: a shape that we do not know is an error, at load.

use super::plan::{CoreType, Lower, Signature};
use super::shims::{self, record};
use super::width::PointerWidth;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{CodeSection, Function, ImportSection, Instruction, MemArg, MemoryType};
use wasmparser::{Operator, Payload, TypeRef};
use wasmtime_environ::component as environ;

/// What we read of an adapter module that FACT wrote.
pub(super) struct FactModule<'a> {
    types: Vec<Signature>,
    /// Type of every function, imports first.
    functions: Vec<u32>,
    imported: u32,
    pub(super) exports: BTreeMap<&'a str, u32>,
    bodies: Vec<wasmparser::FunctionBody<'a>>,
}

/// The constants that FACT bakes into an async adapter, in the order of its `prepare-call`.
pub(super) struct AdapterBody {
    pub(super) caller: u32,
    pub(super) callee: u32,
    pub(super) results: u32,
    pub(super) async_type: bool,
    pub(super) encoding: u32,
    pub(super) lower: Lower,
    pub(super) prepare_call: u32,
    pub(super) start_call: u32,
    /// Only an async lower passes this flag.
    pub(super) async_callee: Option<bool>,
}

impl<'a> FactModule<'a> {
    pub(super) fn parse(wasm: &'a [u8]) -> Result<Self> {
        let mut fact =
            FactModule { types: vec![], functions: vec![], imported: 0, exports: BTreeMap::new(), bodies: vec![] };
        for payload in wasmparser::Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::TypeSection(section) => {
                    for ty in section.into_iter_err_on_gc_types() {
                        fact.types.push(core_signature(&ty?)?);
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        if let TypeRef::Func(ty) | TypeRef::FuncExact(ty) = import?.ty {
                            fact.functions.push(ty);
                            fact.imported += 1;
                        }
                    }
                }
                Payload::FunctionSection(section) => {
                    for ty in section {
                        fact.functions.push(ty?);
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        fact.exports.insert(export.name, export.index);
                    }
                }
                Payload::CodeSectionEntry(body) => fact.bodies.push(body),
                _ => {}
            }
        }
        Ok(fact)
    }

    pub(super) fn signature(&self, export: &str) -> Result<Signature> {
        let function =
            self.exports.get(export).with_context(|| format!("an adapter module has no export `{export}`"))?;
        Ok(self.types[self.functions[*function as usize] as usize].clone())
    }

    /// Position among all imports of the function import number `function`; `is_function` tells which imports are functions.
    pub(super) fn import_of(&self, is_function: impl Iterator<Item = bool>, function: u32) -> Option<usize> {
        is_function.enumerate().filter(|(_, is)| *is).nth(function as usize).map(|(position, _)| position)
    }

    /// The callers of async functions in adapters between two synchronous sides; `enter` is the function `enter-sync-call`.
    pub(super) fn sync_callers(&self, enter: u32) -> Result<Vec<u32>> {
        let mut callers = Vec::new();
        for body in &self.bodies {
            let mut constants = [0; 3];
            for operator in body.get_operators_reader()? {
                match operator? {
                    Operator::I32Const { value } => constants = [constants[1], constants[2], value.cast_unsigned()],
                    Operator::Call { function_index } if function_index == enter && constants[1] == 1 => {
                        callers.push(constants[0]);
                    }
                    _ => {}
                }
            }
        }
        Ok(callers)
    }

    /// Does the function give its parameters as they came, and leave everything else as it was? Flags may be other for a while:
    /// nobody but the function itself runs meanwhile.
    pub(super) fn hands_on(&self, name: &str) -> Result<bool> {
        let (signature, body) = (self.signature(name)?, self.body(name)?);
        let (mut stack, mut locals, mut globals) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for operator in body.get_operators_reader()? {
            match operator? {
                Operator::LocalGet { local_index: n } => stack.push(*locals.get(&n).unwrap_or(&Origin::Local(n))),
                Operator::LocalSet { local_index: n } => drop(stack.pop().map(|value| locals.insert(n, value))),
                Operator::LocalTee { local_index: n } => drop(stack.last().map(|value| locals.insert(n, *value))),
                Operator::GlobalGet { global_index: n } => stack.push(*globals.get(&n).unwrap_or(&Origin::Global(n))),
                Operator::GlobalSet { global_index: n } => drop(stack.pop().map(|value| globals.insert(n, value))),
                Operator::I32Const { .. } => stack.push(Origin::Constant),
                Operator::End => {}
                _ => return Ok(false),
            }
        }
        let params = (0..signature.params.len() as u32).map(Origin::Local);
        Ok(params.eq(stack) && globals.iter().all(|(global, value)| *value == Origin::Global(*global)))
    }

    fn body(&self, name: &str) -> Result<&wasmparser::FunctionBody<'a>> {
        let function = *self.exports.get(name).context("not exported")?;
        let position = function.checked_sub(self.imported).context("an import")?;
        self.bodies.get(position as usize).context("no body")
    }

    /// The module, whose bytes are `wasm`, as we run it: `may_block`, the global by that number, is always set, words of a memory
    /// that comes after all other imports stand for the globals `may_leave`, so that the host sees them, and what is said of
    /// `memories` with 64-bit pointers is right. Those come in the order of the imports, with their minimal pages.
    pub(super) fn rewrite(&self, wasm: &[u8], flags: Flags, memories: Vec<(PointerWidth, u64)>) -> Result<Vec<u8>> {
        let wide = memories.iter().any(|(width, _)| *width == PointerWidth::Bits64);
        if wide {
            self.bodies.iter().try_for_each(only_tags)?;
        }
        let mut module = wasm_encoder::Module::new();
        let records = memories.len() as u32;
        Rewrite { flags, records, wide, memories: memories.into_iter() }
            .parse_core_module(&mut module, wasmparser::Parser::new(0), wasm)
            .map_err(|error| anyhow::anyhow!("an adapter module cannot be rewritten: {error}"))?;
        Ok(module.finish())
    }

    pub(super) fn adapter_body(&self, name: &str) -> Result<AdapterBody> {
        let body = self.body(name)?;
        let (mut constants, mut calls, mut references) = (Vec::new(), Vec::new(), 0);
        for operator in body.get_operators_reader()? {
            match operator? {
                Operator::I32Const { value } => constants.push(value.cast_unsigned()),
                Operator::Call { function_index } => calls.push(function_index),
                Operator::RefFunc { .. } => references += 1,
                Operator::LocalGet { .. } | Operator::End => {}
                other => bail!("unexpected instruction {other:?}"),
            }
        }
        ensure!(references == 3 && calls.len() == 2, "{references} references and {} calls", calls.len());
        let [caller, callee, results, async_type, encoding, result_count, rest @ ..] = &constants[..] else {
            bail!("{} constants", constants.len())
        };
        let (lower, async_callee) = match (*result_count, rest) {
            (environ::PREPARE_ASYNC_NO_RESULT, [_, _, flags]) => (Lower::Async { retptr: false }, Some(flags & 1 != 0)),
            (environ::PREPARE_ASYNC_WITH_RESULT, [_, _, flags]) => {
                (Lower::Async { retptr: true }, Some(flags & 1 != 0))
            }
            (0, [_]) => (Lower::SyncNone, None),
            (1, [_]) => (Lower::SyncFlat, None),
            (_, [_]) => (Lower::SyncRetptr, None),
            _ => bail!("{} constants after prepare-call", rest.len()),
        };
        Ok(AdapterBody {
            caller: *caller,
            callee: *callee,
            results: *results,
            async_type: *async_type != 0,
            encoding: *encoding,
            lower,
            prepare_call: calls[0],
            start_call: calls[1],
            async_callee,
        })
    }
}

/// Where a value comes from that a function has not computed.
#[derive(Clone, Copy, PartialEq)]
enum Origin {
    /// What the local was at the start.
    Local(u32),
    /// What the global was at the start.
    Global(u32),
    Constant,
}

/// FACT tags strings in this bit whatever the memory, the specification in the highest one.
const UTF16_TAG_OF_FACT: i64 = 1 << 31;

/// Is this number a tag wherever it occurs, and not the size of a type?
fn only_tags(body: &wasmparser::FunctionBody<'_>) -> Result<()> {
    let mut tag = false;
    for operator in body.get_operators_reader()? {
        let operator = operator?;
        let is_for_tags = matches!(operator, Operator::I64And | Operator::I64Xor | Operator::I64Or);
        ensure!(!tag || is_for_tags, "a type of 2^31 bytes is passed by a component with 64-bit pointers");
        tag = matches!(operator, Operator::I64Const { value: UTF16_TAG_OF_FACT });
    }
    Ok(())
}

/// Globals that an adapter module imports, by their number.
#[derive(Default)]
pub(super) struct Flags {
    pub(super) may_block: Option<u32>,
    /// With the instance whose flag it is.
    pub(super) may_leave: BTreeMap<u32, u32>,
}

/// Copies a module, with words in the place of its globals. Where there are 64-bit memories, it puts the tag of strings where it
/// belongs, and imports those memories with the size that they have at least: the engine takes a memory that may be smaller than
/// what it reserves, and that cannot move, to be never larger.
struct Rewrite {
    flags: Flags,
    /// The memory that shims and host share.
    records: u32,
    wide: bool,
    memories: std::vec::IntoIter<(PointerWidth, u64)>,
}

impl Rewrite {
    /// The word that stands for a global: not 0 if the instance may not be left.
    fn word_of(&self, global: u32) -> Option<MemArg> {
        let instance = self.flags.may_leave.get(&global)?;
        Some(shims::word(record::may_not_leave(*instance), self.records))
    }
}

impl Reencode for Rewrite {
    type Error = &'static str;

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Result<(), reencode::Error<Self::Error>> {
        reencode::utils::parse_import_section(self, imports, section)?;
        if !self.flags.may_leave.is_empty() {
            imports.import("", "records", shims::memory_type(0));
        }
        Ok(())
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: wasmparser::FunctionBody<'_>,
    ) -> Result<(), reencode::Error<Self::Error>> {
        let mut function = self.new_function_with_parsed_locals(&body)?;
        let mut operators = body.get_operators_reader()?;
        // What gives the value that a global is set to comes one instruction before: the address of a word goes below it.
        let mut last = None;
        while !operators.eof() {
            let instruction = self.parse_instruction(&mut operators)?;
            let word = match instruction {
                Instruction::GlobalGet(global) | Instruction::GlobalSet(global) => self.word_of(global),
                _ => None,
            };
            match (instruction, word) {
                (Instruction::GlobalSet(_), Some(word)) => {
                    let Some(value @ (Instruction::LocalGet(_) | Instruction::I32Const(_))) = last.take() else {
                        return Err(reencode::Error::UserError("`may_leave` is set to a value of an unknown kind"));
                    };
                    function.instructions().i32_const(0);
                    function.instruction(&value).instructions().i32_eqz().i32_store(word);
                }
                (Instruction::GlobalGet(_), Some(word)) => {
                    last.take().into_iter().for_each(|last| push(&mut function, &last));
                    function.instructions().i32_const(0).i32_load(word).i32_eqz();
                }
                (instruction, _) => last.replace(instruction).into_iter().for_each(|last| push(&mut function, &last)),
            }
        }
        last.into_iter().for_each(|last| push(&mut function, &last));
        code.function(&function);
        Ok(())
    }

    fn memory_type(&mut self, memory: wasmparser::MemoryType) -> Result<MemoryType, reencode::Error<Self::Error>> {
        let mut memory = reencode::utils::memory_type(self, memory);
        if let Some((PointerWidth::Bits64, minimum)) = self.memories.next() {
            memory.minimum = minimum;
        }
        Ok(memory)
    }

    fn instruction<'a>(&mut self, operator: Operator<'a>) -> Result<Instruction<'a>, reencode::Error<Self::Error>> {
        match operator {
            Operator::GlobalGet { global_index } if Some(global_index) == self.flags.may_block => {
                Ok(Instruction::I32Const(1))
            }
            Operator::GlobalSet { global_index } if Some(global_index) == self.flags.may_block => Ok(Instruction::Drop),
            Operator::I64Const { value: UTF16_TAG_OF_FACT } if self.wide => {
                Ok(Instruction::I64Const(PointerWidth::Bits64.utf16_tag().cast_signed()))
            }
            other => reencode::utils::instruction(self, other),
        }
    }
}

fn push(function: &mut Function, instruction: &Instruction<'_>) {
    function.instruction(instruction);
}

fn core_signature(ty: &wasmparser::FuncType) -> Result<Signature> {
    let convert = |ty: &wasmparser::ValType| {
        Ok(match ty {
            wasmparser::ValType::I32 => CoreType::I32,
            wasmparser::ValType::I64 => CoreType::I64,
            wasmparser::ValType::F32 => CoreType::F32,
            wasmparser::ValType::F64 => CoreType::F64,
            wasmparser::ValType::Ref(_) => CoreType::FuncRef,
            wasmparser::ValType::V128 => bail!("a vector crosses a component border"),
        })
    };
    Ok(Signature {
        params: ty.params().iter().map(convert).collect::<Result<_>>()?,
        results: ty.results().iter().map(convert).collect::<Result<_>>()?,
    })
}
