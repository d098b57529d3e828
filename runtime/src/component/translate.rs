//! Bytes of a component in, a `Plan` and its core modules out.
//!
//! `wasmtime-environ` validates and flattens the component and writes the adapters between its instances ("FACT"). Every
//! shape of it that we rely on is checked here, so that another version fails at load with a message and never at run time.
//! Knows nothing of stores and compiled code.

use super::fact::{FactModule, Flags};
use super::plan::*;
use super::width::PointerWidth;
use super::widths_meet;
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, HashMap};
use std::iter::zip;
use wasmparser::{Validator, WasmFeatures};
use wasmtime_environ::component::{
    self as environ, CoreDef, CoreExport, Export, ExportItem, GlobalInitializer, InstantiateModule, InterfaceType,
    StaticModuleIndex, Trampoline as EnvironTrampoline, TypeDef, UnsafeIntrinsic,
};
use wasmtime_environ::{EntityIndex, EntityType, IndexType, PrimaryMap, ScopeVec, Tunables, WasmValType};

/// A component after validation and flattening.
pub struct Translated {
    /// What to do with the modules.
    pub plan: Plan,
    /// The core modules, `Plan`'s module positions.
    pub modules: Vec<Vec<u8>>,
}

/// The WebAssembly features that guests may use. The engine's configuration (`super::engine_config`) must allow the same.
pub fn features() -> WasmFeatures {
    let mut features = WasmFeatures::default()
        | WasmFeatures::CM_ASYNC
        | WasmFeatures::CM_MORE_ASYNC_BUILTINS
        | WasmFeatures::CM_ASYNC_STACKFUL
        | WasmFeatures::CM_THREADING
        | WasmFeatures::CM_ERROR_CONTEXT
        | WasmFeatures::CM_IMPLEMENTS
        | WasmFeatures::CM_FIXED_LENGTH_LISTS
        | WasmFeatures::CM_MAP
        | WasmFeatures::CM64;
    // The core engine is built without shared memories.
    features.remove(WasmFeatures::THREADS);
    features
}

/// What keeps values in the engine's garbage collected heap.
const COLLECTED: WasmFeatures = WasmFeatures::EXCEPTIONS.union(WasmFeatures::GC).union(WasmFeatures::GC_TYPES);

/// Validates and flattens `bytes`, which may use the features of [`features`].
pub fn translate(bytes: &[u8]) -> Result<Translated> {
    translate_with(bytes, features())
}

/// As `translate`, with other features. A module that uses more than the engine has is refused when it is compiled.
pub fn translate_with(bytes: &[u8], features: WasmFeatures) -> Result<Translated> {
    ensure!(bytes.starts_with(b"\0asm"), "not a WebAssembly binary");
    ensure!(
        wasmparser::Parser::is_component(bytes),
        "a core module, not a component (build for wasm32-wasip2, or wrap it with `wasm-tools component new`)"
    );
    // Few guests need a collector, and adapters for exceptions cost something: so it is tried without first. Nor do many have
    // 64-bit pointers, and only with those must be asked what adapters can do.
    let features_of_most = features.difference(COLLECTED);
    if let Ok(translated) = translate_as_is(bytes, features_of_most.difference(WasmFeatures::CM64)) {
        return Ok(translated);
    }
    widths_meet::check(bytes, features)?;
    if let Ok(translated) = translate_as_is(bytes, features_of_most) {
        return Ok(translated);
    }
    let mut translated = translate_as_is(bytes, features)?;
    translated.plan.collected = true;
    Ok(translated)
}

fn translate_as_is(bytes: &[u8], features: WasmFeatures) -> Result<Translated> {
    let tunables = Tunables::default_host();
    let mut validator = Validator::new_with_features(features);
    let mut types = environ::ComponentTypesBuilder::new(&validator);
    let scope = ScopeVec::new();
    let (translation, modules) = environ::Translator::new(&tunables, &mut validator, &mut types, &scope)
        .translate(bytes)
        .map_err(|error| anyhow::anyhow!("{error:#}"))
        .context("not a valid component")?;
    let (types, _) = types.finish(&translation.component);
    Planner::new(&translation, &modules, types)?.plan()
}

type Modules<'a> = PrimaryMap<StaticModuleIndex, wasmtime_environ::ModuleTranslation<'a>>;

/// Walks the initializers once and collects the plan.
struct Planner<'a> {
    component: &'a environ::Component,
    trampolines: &'a PrimaryMap<environ::TrampolineIndex, EnvironTrampoline>,
    modules: &'a Modules<'a>,
    types: environ::ComponentTypes,
    /// The module of each core instance so far.
    instance_modules: Vec<StaticModuleIndex>,
    module_exports: Vec<Vec<String>>,
    /// Position in `adapters` by module and export name.
    adapter_names: HashMap<(StaticModuleIndex, String), u32>,
    adapters: Vec<Adapter>,
    return_signatures: Vec<ReturnSignature>,
    steps: Vec<Step>,
    memories: Vec<PointerWidth>,
    lifts: Vec<Lift>,
    exports: BTreeMap<String, u32>,
    /// Instances that call an async function synchronously through an adapter that is plain core wasm.
    sync_callers: Vec<u32>,
    /// Adapter modules that are not used as they came.
    rewritten: HashMap<StaticModuleIndex, Vec<u8>>,
}

impl<'a> Planner<'a> {
    fn new(
        translation: &'a environ::ComponentTranslation,
        modules: &'a Modules<'a>,
        types: environ::ComponentTypes,
    ) -> Result<Self> {
        Ok(Planner {
            component: &translation.component,
            trampolines: &translation.trampolines,
            modules,
            types,
            instance_modules: Vec::new(),
            module_exports: vec![Vec::new(); modules.len()],
            adapter_names: HashMap::new(),
            adapters: Vec::new(),
            return_signatures: Vec::new(),
            steps: Vec::new(),
            memories: vec![PointerWidth::default(); translation.component.num_runtime_memories as usize],
            lifts: Vec::new(),
            exports: BTreeMap::new(),
            sync_callers: Vec::new(),
            rewritten: HashMap::new(),
        })
    }

    fn plan(mut self) -> Result<Translated> {
        for initializer in &self.component.initializers {
            self.initializer(initializer)?;
        }
        self.exports("", &self.component.exports)?;
        let trampolines = self
            .trampolines
            .iter()
            .map(|(index, trampoline)| {
                let signature = self.signature(self.component.trampolines[index])?;
                let builtin = self.builtin(trampoline);
                Ok(Trampoline { signature, builtin })
            })
            .collect::<Result<Vec<_>>>()?;
        let modules = self
            .modules
            .iter()
            .map(|(index, module)| self.rewritten.remove(&index).unwrap_or_else(|| module.wasm.to_vec()))
            .collect();
        let component = self.component;
        let mut plan = Plan {
            imports: component.imports.iter().map(|(_, import)| Import { name: self.import_name(import) }).collect(),
            lowerings: self.lowerings(),
            imported_resources: component
                .imported_resources
                .iter()
                .map(|(_, i)| self.import_name(&component.imports[*i]))
                .collect(),
            defined_resources: component
                .defined_resource_instances
                .iter()
                .map(|(_, instance)| DefinedResource { instance: instance.as_u32() })
                .collect(),
            options: component.options.values().cloned().collect(),
            instances: component.num_runtime_component_instances,
            memories: self.memories,
            reallocs: component.num_runtime_reallocs,
            callbacks: component.num_runtime_callbacks,
            post_returns: component.num_runtime_post_returns,
            types: self.types,
            module_exports: self.module_exports,
            steps: self.steps,
            trampolines,
            adapters: self.adapters,
            lifts: self.lifts,
            exports: self.exports,
            return_signatures: self.return_signatures,
            collected: false,
            tables: component.num_runtime_tables,
            blocking: vec![false; component.num_runtime_component_instances as usize],
        };
        let mut blocking = self.sync_callers;
        blocking.extend(plan.trampolines.iter().filter_map(|trampoline| plan.blocks(&trampoline.builtin)));
        let waits = |adapter: &&Adapter| adapter.async_type && !matches!(adapter.lower, Lower::Async { .. });
        blocking.extend(plan.adapters.iter().filter(waits).map(|adapter| adapter.caller));
        for instance in blocking {
            plan.blocking[instance as usize] = true;
        }
        Ok(Translated { plan, modules })
    }

    fn initializer(&mut self, initializer: &GlobalInitializer) -> Result<()> {
        match initializer {
            GlobalInitializer::InstantiateModule(InstantiateModule::Static(module, args), owner) => {
                // An adapter module belongs to no component instance. Its adapters must be known before anybody refers to them.
                let adapters = if owner.is_none() { self.adapters_of(*module, args)? } else { Vec::new() };
                let has_flags = owner.is_none() && args.iter().any(|def| matches!(def, CoreDef::InstanceFlags(_)));
                let mut args = args.iter().map(|def| self.def(def)).collect::<Result<Vec<_>>>()?;
                if has_flags {
                    // See `FactModule::rewrite`.
                    args.push(Def::Records);
                }
                self.instance_modules.push(*module);
                self.steps.push(Step::Instantiate { module: module.as_u32(), args });
                for (adapter, name) in adapters {
                    let step = Step::Adapter {
                        adapter,
                        start: self.own_export(&format!("[async-start]{name}")),
                        return_: self.own_export(&format!("[async-return]{name}")),
                        callee: self.own_export(&format!("[adapter-callee]{name}")),
                    };
                    self.steps.push(step);
                }
            }
            GlobalInitializer::InstantiateModule(InstantiateModule::Import(..), _) => {
                bail!(
                    "the component imports a core module; only functions and resources can be imported from this host"
                )
            }
            GlobalInitializer::LowerImport { .. } => {}
            GlobalInitializer::ExtractMemory(e) => {
                let export = e.export.clone().map_index(EntityIndex::Memory);
                let memory = self.memory_type(&export).context("a memory is used that its module does not export")?;
                self.memories[e.index.as_u32() as usize] = width(memory);
                let def = self.export(&export)?;
                self.steps.push(Step::Memory(e.index.as_u32(), def));
            }
            GlobalInitializer::ExtractRealloc(e) => {
                let def = self.def(&e.def)?;
                self.steps.push(Step::Realloc(e.index.as_u32(), def));
            }
            GlobalInitializer::ExtractCallback(e) => {
                let def = self.def(&e.def)?;
                self.steps.push(Step::Callback(e.index.as_u32(), def));
            }
            GlobalInitializer::ExtractPostReturn(e) => {
                let def = self.def(&e.def)?;
                self.steps.push(Step::PostReturn(e.index.as_u32(), def));
            }
            GlobalInitializer::ExtractTable(e) => {
                let export = e.export.clone().map_index(EntityIndex::Table);
                let def = self.export(&export)?;
                self.steps.push(Step::Table(e.index.as_u32(), def));
            }
            GlobalInitializer::Resource(r) => {
                // A borrowed handle is an i32 also for the instance that gets the representation instead.
                ensure!(r.rep == WasmValType::I32, "a resource has a representation that is not an i32");
                let dtor = r.dtor.as_ref().map(|def| self.def(def)).transpose()?;
                self.steps.push(Step::Resource(r.index.as_u32(), dtor));
            }
        }
        Ok(())
    }

    /// Finds the async adapters of a FACT module, and reads from their bodies what `wasmtime-environ` does not tell otherwise.
    fn adapters_of(&mut self, module: StaticModuleIndex, args: &[CoreDef]) -> Result<Vec<(u32, String)>> {
        let fact = FactModule::parse(self.modules[module].wasm)?;
        self.sync_calls_of(module, args, &fact)?;
        let mut found = Vec::new();
        for name in fact.exports.keys().filter_map(|name| name.strip_prefix("[async-start]")) {
            let body = fact.adapter_body(name).with_context(|| format!("adapter {name} has an unknown shape"))?;
            let start_call = fact
                .import_of(
                    self.modules[module].module.imports().map(|(_, _, ty)| matches!(ty, EntityType::Function(_))),
                    body.start_call,
                )
                .and_then(|position| args.get(position));
            let Some(CoreDef::Trampoline(start_call)) = start_call else {
                bail!("adapter {name} does not end in a start-call")
            };
            let lift = match (&self.trampolines[*start_call], body.async_callee) {
                (EnvironTrampoline::SyncStartCall { callback }, _)
                | (EnvironTrampoline::AsyncStartCall { callback, .. }, Some(true)) => match callback {
                    Some(callback) => LiftKind::Callback(callback.as_u32()),
                    None => LiftKind::Stackful,
                },
                (EnvironTrampoline::AsyncStartCall { post_return, .. }, Some(false)) => {
                    LiftKind::Sync { post_return: post_return.map(|p| p.as_u32()) }
                }
                _ => bail!("adapter {name} calls an unknown start-call"),
            };
            let Some(CoreDef::Trampoline(prepare)) = fact
                .import_of(
                    self.modules[module].module.imports().map(|(_, _, ty)| matches!(ty, EntityType::Function(_))),
                    body.prepare_call,
                )
                .and_then(|position| args.get(position))
            else {
                bail!("adapter {name} does not begin with a prepare-call")
            };
            let EnvironTrampoline::PrepareCall { memory } = &self.trampolines[*prepare] else {
                bail!("adapter {name} calls an unknown prepare-call")
            };
            let adapter = Adapter {
                caller: body.caller,
                callee: body.callee,
                async_type: body.async_type,
                lower: body.lower,
                lift,
                return_signature: self.return_signature(ReturnSignature {
                    results: environ::TypeTupleIndex::from_u32(body.results),
                    encoding: u8::try_from(body.encoding)?,
                    memory: memory.map(|m| m.as_u32()),
                    needs_memory: self.needs_memory(environ::TypeTupleIndex::from_u32(body.results)),
                    instance: body.callee,
                }),
                signature: fact.signature(name)?,
                hands_on: fact.hands_on(&format!("[async-start]{name}"))?,
                start: fact.signature(&format!("[async-start]{name}"))?,
                return_: fact.signature(&format!("[async-return]{name}"))?,
                callee_signature: fact.signature(&format!("[adapter-callee]{name}"))?,
            };
            let position = u32::try_from(self.adapters.len())?;
            self.adapters.push(adapter);
            self.adapter_names.insert((module, name.to_string()), position);
            found.push((position, name.to_string()));
        }
        Ok(found)
    }

    /// Finds who calls async functions synchronously, and takes out of such calls the question whether the caller may block:
    /// the host asks it when there is something to wait for (CanonicalABI.md, `canon lift`: a synchronous task may block as
    /// long as other threads of its instance can go on). See `FactModule::rewrite` for what else changes.
    fn sync_calls_of(&mut self, module: StaticModuleIndex, args: &[CoreDef], fact: &FactModule<'_>) -> Result<()> {
        let kinds: Vec<EntityType> = self.modules[module].module.imports().map(|(_, _, ty)| ty).collect();
        let position = |wanted: fn(&EntityType) -> bool, is: &dyn Fn(&CoreDef) -> bool| {
            let mut of_kind = zip(&kinds, args).filter(|(kind, _)| wanted(kind));
            of_kind.position(|(_, def)| is(def)).map(|position| position as u32)
        };
        let enter = position(
            |kind| matches!(kind, EntityType::Function(_)),
            &|def| matches!(def, CoreDef::Trampoline(n) if matches!(self.trampolines[*n], EnvironTrampoline::EnterSyncCall)),
        );
        if let Some(enter) = enter {
            self.sync_callers.extend(fact.sync_callers(enter)?);
        }
        let globals = zip(&kinds, args).filter(|(kind, _)| matches!(kind, EntityType::Global(_)));
        let mut flags = Flags::default();
        for (global, (_, def)) in (0..).zip(globals) {
            match def {
                CoreDef::TaskMayBlock => flags.may_block = Some(global),
                CoreDef::InstanceFlags(instance) => drop(flags.may_leave.insert(global, instance.as_u32())),
                _ => {}
            }
        }
        let memories: Vec<(PointerWidth, u64)> = args
            .iter()
            .filter_map(|arg| match arg {
                CoreDef::Export(export) => self.memory_type(export),
                _ => None,
            })
            .map(|memory| (width(memory), memory.limits.min))
            .collect();
        let wide = memories.iter().any(|(width, _)| *width == PointerWidth::Bits64);
        if wide || flags.may_block.is_some() || !flags.may_leave.is_empty() {
            self.rewritten.insert(module, fact.rewrite(self.modules[module].wasm, flags, memories)?);
        }
        Ok(())
    }

    fn return_signature(&mut self, signature: ReturnSignature) -> u32 {
        intern(&mut self.return_signatures, signature)
    }

    /// Do results of this type have to be read from memory?
    fn needs_memory(&self, results: environ::TypeTupleIndex) -> bool {
        let results = &self.types[results];
        let flat = results.abi.flat_count(environ::MAX_FLAT_PARAMS).is_some();
        !flat || results.types.iter().any(|ty| has_pointer(&self.types, ty))
    }

    /// An export of the newest instance, by name.
    fn own_export(&mut self, name: &str) -> Def {
        let instance = self.instance_modules.len() - 1;
        let export =
            intern(&mut self.module_exports[self.instance_modules[instance].as_u32() as usize], name.to_string());
        Def::Export { instance: instance as u32, export }
    }

    fn def(&mut self, def: &CoreDef) -> Result<Def> {
        Ok(match def {
            CoreDef::Export(export) => self.export(export)?,
            CoreDef::Trampoline(trampoline) => Def::Trampoline(trampoline.as_u32()),
            CoreDef::InstanceFlags(_) | CoreDef::TaskMayBlock => Def::Flag,
            CoreDef::UnsafeIntrinsic(UnsafeIntrinsic::ContextGetI32_0) => Def::ContextGet(0),
            CoreDef::UnsafeIntrinsic(UnsafeIntrinsic::ContextGetI32_1) => Def::ContextGet(1),
            CoreDef::UnsafeIntrinsic(UnsafeIntrinsic::ContextSetI32_0) => Def::ContextSet(0),
            CoreDef::UnsafeIntrinsic(UnsafeIntrinsic::ContextSetI32_1) => Def::ContextSet(1),
            CoreDef::UnsafeIntrinsic(other) => bail!("the component asks for the host intrinsic `{}`", other.name()),
        })
    }

    fn export(&mut self, export: &CoreExport<EntityIndex>) -> Result<Def> {
        let instance = export.instance.as_u32();
        let module = self.instance_modules[instance as usize];
        let name = match &export.item {
            ExportItem::Name(name) => name.clone(),
            ExportItem::Index(index) => {
                let module = &self.modules[module].module;
                let (atom, _) = module
                    .exports
                    .iter()
                    .find(|(_, entity)| *entity == index)
                    .context("a core item is used that its module does not export")?;
                module.strings[atom].to_string()
            }
        };
        if let Some(adapter) = self.adapter_names.get(&(module, name.clone())) {
            return Ok(Def::Adapter(*adapter));
        }
        let export = intern(&mut self.module_exports[module.as_u32() as usize], name);
        Ok(Def::Export { instance, export })
    }

    /// The memory that an instance exports so, if it is one.
    fn memory_type(&self, export: &CoreExport<EntityIndex>) -> Option<&'a wasmtime_environ::Memory> {
        let module = &self.modules[self.instance_modules[export.instance.as_u32() as usize]].module;
        let entity = match &export.item {
            ExportItem::Index(entity) => *entity,
            ExportItem::Name(name) => *module.exports.iter().find(|(atom, _)| module.strings[**atom] == **name)?.1,
        };
        match entity {
            EntityIndex::Memory(memory) => Some(&module.memories[memory]),
            _ => None,
        }
    }

    fn import_name(&self, (import, path): &(environ::ImportIndex, Vec<String>)) -> ImportName {
        let (name, import) = &self.component.import_types[*import];
        ImportName { outer: name.clone(), implements: import.data.implements.clone(), path: path.clone() }
    }

    fn lowerings(&self) -> Vec<Lowering> {
        let mut imports: Vec<u32> = vec![0; self.component.num_lowerings as usize];
        for initializer in &self.component.initializers {
            if let GlobalInitializer::LowerImport { index, import } = initializer {
                imports[index.as_u32() as usize] = import.as_u32();
            }
        }
        let mut lowerings: Vec<Option<Lowering>> = vec![None; imports.len()];
        for trampoline in self.trampolines.values() {
            if let EnvironTrampoline::LowerImport { index, lower_ty, options } = trampoline {
                let position = index.as_u32() as usize;
                lowerings[position] =
                    Some(Lowering { import: imports[position], ty: *lower_ty, options: options.as_u32() });
            }
        }
        lowerings.into_iter().map(|l| l.expect("every lowering has its trampoline")).collect()
    }

    fn exports(&mut self, prefix: &str, exports: &'a ExportMap) -> Result<()> {
        for (name, (index, _)) in exports.raw_iter() {
            let name = format!("{prefix}{}", name.as_str());
            match &self.component.export_items[*index] {
                Export::LiftedFunction { ty, func, options } => {
                    let lift = self.lift(*ty, *options)?;
                    let position = u32::try_from(self.lifts.len())?;
                    self.lifts.push(lift);
                    let def = self.def(func)?;
                    self.steps.push(Step::Lift(position, def));
                    self.exports.insert(name, position);
                }
                Export::Instance { exports, .. } if prefix.is_empty() => self.exports(&format!("{name}#"), exports)?,
                Export::Instance { .. }
                | Export::Type(_)
                | Export::ModuleStatic { .. }
                | Export::ModuleImport { .. } => {}
            }
        }
        Ok(())
    }

    fn lift(&mut self, ty: environ::TypeFuncIndex, options: environ::OptionsIndex) -> Result<Lift> {
        let opts = &self.component.options[options];
        let kind = match (opts.async_, opts.callback) {
            (false, _) => LiftKind::Sync { post_return: opts.post_return.map(|p| p.as_u32()) },
            (true, Some(callback)) => LiftKind::Callback(callback.as_u32()),
            (true, None) => LiftKind::Stackful,
        };
        let signature = self.signature(opts.core_type)?;
        let return_signature = ReturnSignature {
            results: self.types[ty].results,
            encoding: encoding_byte(opts.string_encoding),
            memory: opts.memory().map(|m| m.as_u32()),
            needs_memory: self.needs_memory(self.types[ty].results),
            instance: opts.instance.as_u32(),
        };
        let instance = opts.instance.as_u32();
        let return_signature = self.return_signature(return_signature);
        Ok(Lift { ty, instance, options: options.as_u32(), kind, signature, return_signature })
    }

    fn signature(&self, ty: wasmtime_environ::ModuleInternedTypeIndex) -> Result<Signature> {
        let func = self.types[ty].unwrap_func();
        let convert = |ty: &WasmValType| {
            Ok(match ty {
                WasmValType::I32 => CoreType::I32,
                WasmValType::I64 => CoreType::I64,
                WasmValType::F32 => CoreType::F32,
                WasmValType::F64 => CoreType::F64,
                WasmValType::Ref(_) => CoreType::FuncRef,
                WasmValType::V128 => bail!("a vector crosses a component border"),
            })
        };
        Ok(Signature {
            params: func.params().iter().map(convert).collect::<Result<_>>()?,
            results: func.results().iter().map(convert).collect::<Result<_>>()?,
        })
    }

    fn builtin(&mut self, trampoline: &EnvironTrampoline) -> Builtin {
        use EnvironTrampoline as T;
        match trampoline {
            T::LowerImport { index, options, .. } => Builtin::LowerImport {
                lowering: index.as_u32(),
                instance: self.component.options[*options].instance.as_u32(),
            },
            T::Transcoder { op, from, to, .. } => {
                Builtin::Transcode { op: (*op).into(), from: from.as_u32(), to: to.as_u32() }
            }
            T::ResourceNew { instance, ty } => Builtin::ResourceNew { instance: instance.as_u32(), ty: *ty },
            T::ResourceRep { instance, ty } => Builtin::ResourceRep { instance: instance.as_u32(), ty: *ty },
            T::ResourceDrop { instance, ty } => Builtin::ResourceDrop { instance: instance.as_u32(), ty: *ty },
            T::BackpressureInc { instance } => Builtin::BackpressureInc { instance: instance.as_u32() },
            T::BackpressureDec { instance } => Builtin::BackpressureDec { instance: instance.as_u32() },
            T::TaskReturn { instance, results, options } => {
                let opts = &self.component.options[*options];
                let signature = ReturnSignature {
                    results: *results,
                    encoding: encoding_byte(opts.string_encoding),
                    memory: opts.memory().map(|m| m.as_u32()),
                    needs_memory: self.needs_memory(*results),
                    instance: instance.as_u32(),
                };
                let signature = self.return_signature(signature);
                Builtin::TaskReturn {
                    instance: instance.as_u32(),
                    signature,
                    options: options.as_u32(),
                    results: *results,
                }
            }
            T::TaskCancel { instance } => Builtin::TaskCancel { instance: instance.as_u32() },
            T::WaitableSetNew { instance } => Builtin::WaitableSetNew { instance: instance.as_u32() },
            T::WaitableSetWait { instance, options } => {
                Builtin::WaitableSetWait { instance: instance.as_u32(), options: options.as_u32() }
            }
            T::WaitableSetPoll { instance, options } => {
                Builtin::WaitableSetPoll { instance: instance.as_u32(), options: options.as_u32() }
            }
            T::WaitableSetDrop { instance } => Builtin::WaitableSetDrop { instance: instance.as_u32() },
            T::WaitableJoin { instance } => Builtin::WaitableJoin { instance: instance.as_u32() },
            T::SubtaskDrop { instance } => Builtin::SubtaskDrop { instance: instance.as_u32() },
            T::SubtaskCancel { instance, async_ } => {
                Builtin::SubtaskCancel { instance: instance.as_u32(), async_: *async_ }
            }
            T::StreamNew { instance, ty } => Builtin::StreamNew { instance: instance.as_u32(), ty: *ty },
            T::StreamRead { instance, ty, options } => {
                Builtin::StreamRead { instance: instance.as_u32(), ty: *ty, options: options.as_u32() }
            }
            T::StreamWrite { instance, ty, options } => {
                Builtin::StreamWrite { instance: instance.as_u32(), ty: *ty, options: options.as_u32() }
            }
            T::StreamCancelRead { instance, ty, async_ } => {
                Builtin::StreamCancelRead { instance: instance.as_u32(), ty: *ty, async_: *async_ }
            }
            T::StreamCancelWrite { instance, ty, async_ } => {
                Builtin::StreamCancelWrite { instance: instance.as_u32(), ty: *ty, async_: *async_ }
            }
            T::StreamDropReadable { instance, ty } => {
                Builtin::StreamDropReadable { instance: instance.as_u32(), ty: *ty }
            }
            T::StreamDropWritable { instance, ty } => {
                Builtin::StreamDropWritable { instance: instance.as_u32(), ty: *ty }
            }
            T::FutureNew { instance, ty } => Builtin::FutureNew { instance: instance.as_u32(), ty: *ty },
            T::FutureRead { instance, ty, options } => {
                Builtin::FutureRead { instance: instance.as_u32(), ty: *ty, options: options.as_u32() }
            }
            T::FutureWrite { instance, ty, options } => {
                Builtin::FutureWrite { instance: instance.as_u32(), ty: *ty, options: options.as_u32() }
            }
            T::FutureCancelRead { instance, ty, async_ } => {
                Builtin::FutureCancelRead { instance: instance.as_u32(), ty: *ty, async_: *async_ }
            }
            T::FutureCancelWrite { instance, ty, async_ } => {
                Builtin::FutureCancelWrite { instance: instance.as_u32(), ty: *ty, async_: *async_ }
            }
            T::FutureDropReadable { instance, ty } => {
                Builtin::FutureDropReadable { instance: instance.as_u32(), ty: *ty }
            }
            T::FutureDropWritable { instance, ty } => {
                Builtin::FutureDropWritable { instance: instance.as_u32(), ty: *ty }
            }
            T::ErrorContextNew { instance, options, .. } => {
                Builtin::ErrorContextNew { instance: instance.as_u32(), options: options.as_u32() }
            }
            T::ErrorContextDebugMessage { instance, options, .. } => {
                Builtin::ErrorContextDebugMessage { instance: instance.as_u32(), options: options.as_u32() }
            }
            T::ErrorContextDrop { instance, .. } => Builtin::ErrorContextDrop { instance: instance.as_u32() },
            T::ErrorContextTransfer => Builtin::ErrorContextTransfer,
            T::ResourceTransferOwn => Builtin::ResourceTransferOwn,
            T::ResourceTransferBorrow => Builtin::ResourceTransferBorrow,
            T::StreamTransfer => Builtin::StreamTransfer,
            T::FutureTransfer => Builtin::FutureTransfer,
            T::PrepareCall { .. } | T::SyncStartCall { .. } | T::AsyncStartCall { .. } => Builtin::Replaced,
            T::Trap => Builtin::Trap,
            T::EnterSyncCall => Builtin::EnterSyncCall,
            T::ExitSyncCall => Builtin::ExitSyncCall,
            T::ThreadIndex { instance } => Builtin::ThreadIndex { instance: instance.as_u32() },
            T::ThreadNewIndirect { instance, start_func_table_idx, .. } => {
                Builtin::ThreadNewIndirect { instance: instance.as_u32(), table: start_func_table_idx.as_u32() }
            }
            T::ThreadResumeLater { instance } => Builtin::ThreadResumeLater { instance: instance.as_u32() },
            T::ThreadSuspend { instance, cancellable } => pause(instance, cancellable, Pause::Suspend, Then::Anyone),
            T::ThreadYield { instance, cancellable } => pause(instance, cancellable, Pause::Yield, Then::Anyone),
            T::ThreadSuspendThenResume { instance, cancellable } => {
                pause(instance, cancellable, Pause::Suspend, Then::Resume)
            }
            T::ThreadYieldThenResume { instance, cancellable } => {
                pause(instance, cancellable, Pause::Yield, Then::Resume)
            }
            T::ThreadSuspendThenPromote { instance, cancellable } => {
                pause(instance, cancellable, Pause::Suspend, Then::Promote)
            }
            T::ThreadYieldThenPromote { instance, cancellable } => {
                pause(instance, cancellable, Pause::Yield, Then::Promote)
            }
        }
    }
}

fn pause(instance: &environ::RuntimeComponentInstanceIndex, cancellable: &bool, pause: Pause, then: Then) -> Builtin {
    Builtin::ThreadPause { instance: instance.as_u32(), cancellable: *cancellable, pause, then }
}

type ExportMap =
    environ::NameMap<wasmtime_environ::collections::TryString, (environ::ExportIndex, environ::ComponentExternData)>;

/// Does a value of this type refer to memory outside of itself?
fn has_pointer(types: &environ::ComponentTypes, ty: &InterfaceType) -> bool {
    let any = |ty: &InterfaceType| has_pointer(types, ty);
    match ty {
        InterfaceType::String | InterfaceType::List(_) | InterfaceType::Map(_) => true,
        InterfaceType::Record(i) => types[*i].fields.iter().any(|field| any(&field.ty)),
        InterfaceType::Tuple(i) => types[*i].types.iter().any(any),
        InterfaceType::Variant(i) => types[*i].cases.values().flatten().any(any),
        InterfaceType::Option(i) => any(&types[*i].ty),
        InterfaceType::Result(i) => types[*i].ok.iter().chain(&types[*i].err).any(any),
        InterfaceType::FixedLengthList(i) => any(&types[*i].element),
        _ => false,
    }
}

fn width(memory: &wasmtime_environ::Memory) -> PointerWidth {
    match memory.idx_type {
        IndexType::I32 => PointerWidth::Bits32,
        IndexType::I64 => PointerWidth::Bits64,
    }
}

fn intern<T: PartialEq>(list: &mut Vec<T>, item: T) -> u32 {
    let position = list.iter().position(|known| *known == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    });
    position as u32
}

/// The type of an import that is not a function, for the message of a failed link.
pub fn describe(ty: &TypeDef) -> &str {
    ty.desc()
}
