//! Component binaries become plans, compiled modules and shims.
//!
//! `compose` links a chain into one component, `translate` validates and flattens it, `shims` generates the hot built-ins as
//! core wasm, `cache` keeps compiled results, `instantiate` makes instances from them. Knows the core engine, but nothing of
//! tasks, streams or hosts.

use anyhow::{Context, Result, anyhow, ensure};
use cache::Cache;
use compose::{ComposeError, Link, compose};
pub use epoch::{EPOCH_TICK, tick};
use plan::Plan;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::Instant;
use wasmparser::WasmFeatures;
use wasmtime::{Config, Engine, Module, ModuleExport, OptLevel, WasmBacktraceDetails};

pub mod cache;
pub mod compose;
pub(crate) mod epoch;
mod fact;
pub mod plan;
pub mod shims;
pub mod translate;
pub mod width;
mod widths_meet;

#[cfg(test)]
mod tests;

/// Frames of a guest's backtrace that a trap report keeps: enough to see who called whom, short enough for one log line each.
const BACKTRACE_FRAMES_MAX: NonZeroUsize = NonZeroUsize::new(32).expect("not zero");

/// An engine with our configuration. One per process: modules belong to the engine that made them.
///
/// Where the engine cannot switch stacks, guests that would block in the synchronous ABI trap.
///
/// # Errors
/// When this machine or this build of the engine cannot do what `engine_config` asks for.
pub fn engine() -> Result<Engine> {
    Engine::new(&engine_config(core_features() | STACKS))
        .map_err(|error| anyhow!("{error:#}"))
        .context("cannot create the WebAssembly engine")
}

/// What the shims of components that may block need, where the engine has it. Guests do not, because `translate` has validated them
/// without.
const STACKS: WasmFeatures = match cfg!(all(target_arch = "x86_64", unix)) {
    true => WasmFeatures::STACK_SWITCHING,
    false => WasmFeatures::empty(),
};

/// Bytes of a suspendable stack, touched only as far as it is used. Two share a page of page tables.
const STACK_BYTES: usize = 1 << 20;

/// How core modules are compiled and run.
fn engine_config(features: WasmFeatures) -> Config {
    let mut config = Config::new();
    // A guest that spins is interrupted by epochs; without them it could hold its core.
    config.epoch_interruption(true);
    // The ABI keeps base addresses of memories: they may grow but not move.
    config.memory_may_move(false);
    config.parallel_compilation(true).cranelift_opt_level(OptLevel::Speed);
    config.wasm_backtrace_max_frames(Some(BACKTRACE_FRAMES_MAX)).wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config.async_stack_size(STACK_BYTES);
    // Each feature is set, on or off: defaults depend on which cargo features somebody else in the build asks for.
    config.wasm_features(features, true).wasm_features(!features, false);
    config
}

/// Can modules of `engine` put stacks aside?
fn can_suspend(engine: &Engine) -> bool {
    let mut types = wasm_encoder::TypeSection::new();
    types.ty().function([], []);
    types.ty().cont(&wasm_encoder::ContType(0));
    let mut module = wasm_encoder::Module::new();
    module.section(&types);
    Module::validate(engine, &module.finish()).is_ok()
}

/// What guests' core modules may use: what the validator admits, less what belongs to components, and what the engine is built
/// without.
fn core_features() -> WasmFeatures {
    translate::features() & WasmFeatures::WASM3 & !WasmFeatures::THREADS
}

/// A component ready to be instantiated any number of times, on any thread.
pub struct Compiled {
    /// What instantiation does, and with which types.
    pub plan: Plan,
    /// Can its code be suspended? Only asked for if the plan says that it may block.
    pub fibers: bool,
    /// The core modules, at the plan's positions. Equal modules share their code.
    pub modules: Vec<Module>,
    /// Per module: where the names of `Plan::module_exports` are, so that instantiation looks up no strings.
    pub module_exports: Vec<Vec<ModuleExport>>,
    /// The shim module.
    pub shims: Module,
    /// What the shim module imports, in order.
    pub shim_imports: Vec<shims::HostImport>,
    /// Where the shim module's exports are.
    pub shim_exports: ShimExports,
}

/// The shim module's exports (`shims::export`), by position instead of name.
pub struct ShimExports {
    /// The memory that shims and host share.
    pub memory: ModuleExport,
    /// The functions that shims call indirectly.
    pub table: ModuleExport,
    /// The global that nobody uses.
    pub flag: ModuleExport,
    /// The loop that runs jobs.
    pub pump: ModuleExport,
    /// Where a slice may end while the host works.
    pub give_way: ModuleExport,
    /// One per `Plan::trampolines`.
    pub trampolines: Vec<ModuleExport>,
    /// One per `Plan::adapters`.
    pub adapters: Vec<ModuleExport>,
    /// The reallocs as the host calls them, one per `Plan::reallocs`.
    pub reallocs: Vec<ModuleExport>,
    /// Where the functions are that threads begin with; only with suspendable stacks.
    pub threads: Option<ModuleExport>,
    /// `context.get`, by slot.
    pub context_get: [ModuleExport; 2],
    /// `context.set`, by slot.
    pub context_set: [ModuleExport; 2],
}

impl ShimExports {
    fn resolve(plan: &Plan, fibers: bool, module: &Module) -> Result<Self> {
        let find = |name: &str| find_export(module, name);
        let each = |count: usize, name: fn(u32) -> String| {
            (0..count as u32).map(|n| find(&name(n))).collect::<Result<Vec<_>>>()
        };
        Ok(ShimExports {
            memory: find(shims::export::MEMORY)?,
            table: find(shims::export::TABLE)?,
            flag: find(shims::export::FLAG)?,
            pump: find(shims::export::PUMP)?,
            give_way: find(shims::export::GIVE_WAY)?,
            trampolines: each(plan.trampolines.len(), shims::export::trampoline)?,
            adapters: each(plan.adapters.len(), shims::export::adapter)?,
            reallocs: each(plan.reallocs as usize, shims::export::realloc)?,
            threads: fibers.then(|| find(shims::export::THREADS)).transpose()?,
            context_get: [find(&shims::export::context(false, 0))?, find(&shims::export::context(false, 1))?],
            context_set: [find(&shims::export::context(true, 0))?, find(&shims::export::context(true, 1))?],
        })
    }
}

/// Why a chain cannot be loaded. Both are the user's to mend: the binary says so and exits with code 2.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "variants and fields are what their messages say")]
pub enum LoadError {
    #[error(transparent)]
    Compose(#[from] ComposeError),
    #[error("{files}: cannot be run here")]
    Compile { files: String, source: anyhow::Error },
}

/// Makes `chain`, outermost first, ready to run: from `cache` if it is there, else linked, compiled, and put there.
///
/// Only what went well is cached, and the key covers every byte of the chain: a hit needs no checks of the files again.
///
/// # Errors
/// When the files do not make a chain (`ComposeError`), or ask for what we cannot run.
pub fn load(engine: &Engine, chain: &[Link], cache: Option<&Cache>) -> Result<Compiled, LoadError> {
    let start = Instant::now();
    let cache = cache.map(|cache| (cache, cache::Key::of(engine, chain)));
    let cached = cache.and_then(|(cache, key)| cache.get(engine, &key)).and_then(|parts| parts.assemble().ok());
    if let Some(compiled) = cached {
        tracing::info!("loaded {} from cache in {} ms", components(chain), start.elapsed().as_millis());
        return Ok(compiled);
    }
    let bytes = compose(chain)?;
    let failed = |source| LoadError::Compile { files: culprits(engine, chain), source };
    let parts = Parts::compile(engine, &bytes, translate::features()).map_err(failed)?;
    if let Some((cache, key)) = cache {
        cache.put(&key, &parts);
    }
    let compiled = parts.assemble().map_err(failed)?;
    tracing::info!("compiled {} in {} ms", components(chain), start.elapsed().as_millis());
    Ok(compiled)
}

fn components(chain: &[Link]) -> String {
    match chain.len() {
        1 => "1 component".to_string(),
        count => format!("{count} components"),
    }
}

/// The files of `chain` that cannot be run even alone; all, if the fault shows only when they are together.
fn culprits(engine: &Engine, chain: &[Link]) -> String {
    let mut files: Vec<&str> =
        chain.iter().filter(|link| compile(engine, &link.bytes).is_err()).map(|link| link.name.as_str()).collect();
    if files.is_empty() {
        files = chain.iter().map(|link| link.name.as_str()).collect();
    }
    files.dedup();
    files.join(", ")
}

/// Translates and compiles one component.
///
/// # Errors
/// When `bytes` is not a component that we can run; the message says what is wrong with it.
pub fn compile(engine: &Engine, bytes: &[u8]) -> Result<Compiled> {
    compile_with(engine, bytes, translate::features())
}

/// As `compile`, with other features than all that we have.
///
/// # Errors
/// As `compile`.
pub fn compile_with(engine: &Engine, bytes: &[u8], features: WasmFeatures) -> Result<Compiled> {
    Parts::compile(engine, bytes, features)?.assemble()
}

/// What a compilation gives and the cache keeps.
struct Parts {
    plan: Plan,
    /// Were the shims generated with suspendable stacks?
    fibers: bool,
    /// The different core modules.
    code: Vec<Module>,
    /// For each of the plan's modules its position in `code`.
    positions: Vec<u32>,
    shims: Module,
}

impl Parts {
    fn compile(engine: &Engine, bytes: &[u8], features: WasmFeatures) -> Result<Parts> {
        let translated = translate::translate_with(bytes, features)?;
        // The engine's collector cannot look into stacks that are put aside.
        let fibers = translated.plan.may_block() && !translated.plan.collected && can_suspend(engine);
        let generated = shims::generate(&translated.plan, fibers)?;
        let (distinct, positions) = distinct(&translated.modules);
        let code = distinct
            .iter()
            .map(|wasm| compile_module(engine, wasm).context("cannot compile a core module"))
            .collect::<Result<_>>()?;
        let shims = compile_module(engine, &generated.wasm).context("the generated shims are not valid")?;
        Ok(Parts { plan: translated.plan, fibers, code, positions, shims })
    }

    /// Finds the exports that instantiation needs.
    ///
    /// # Errors
    /// When a module lacks an export that the plan names: plan and modules do not belong together.
    fn assemble(self) -> Result<Compiled> {
        let Parts { plan, fibers, code, positions, shims } = self;
        let modules: Vec<Module> = positions
            .iter()
            .map(|position| code.get(*position as usize).cloned().context("a module is missing"))
            .collect::<Result<_>>()?;
        ensure!(
            plan.module_exports.len() == modules.len(),
            "{} modules, {} planned",
            modules.len(),
            plan.module_exports.len()
        );
        let module_exports = plan
            .module_exports
            .iter()
            .zip(&modules)
            .map(|(names, module)| names.iter().map(|name| find_export(module, name)).collect())
            .collect::<Result<_>>()?;
        let shim_exports = ShimExports::resolve(&plan, fibers, &shims)?;
        let shim_imports = shims::host_imports(&plan, fibers);
        Ok(Compiled { plan, fibers, modules, module_exports, shims, shim_imports, shim_exports })
    }
}

fn find_export(module: &Module, name: &str) -> Result<ModuleExport> {
    module.get_export_index(name).with_context(|| format!("a compiled module has no export `{name}`"))
}

fn compile_module(engine: &Engine, wasm: &[u8]) -> Result<Module> {
    Module::from_binary(engine, wasm).map_err(|error| anyhow!("{error:#}"))
}

/// The different ones among `modules`, and for each module its position among them.
fn distinct(modules: &[Vec<u8>]) -> (Vec<&[u8]>, Vec<u32>) {
    let mut known = HashMap::new();
    let mut distinct: Vec<&[u8]> = Vec::new();
    let positions = modules
        .iter()
        .map(|module| {
            *known.entry(<[u8; 32]>::from(Sha256::digest(module))).or_insert_with(|| {
                distinct.push(module);
                distinct.len() as u32 - 1
            })
        })
        .collect();
    (distinct, positions)
}

const _: () = {
    const fn shared_by_workers<T: Send + Sync>() {}
    shared_by_workers::<Compiled>();
};
