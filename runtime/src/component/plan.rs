//! What one component is, reduced to what instantiation and the Canonical ABI need.
//!
//! A `Plan` is plain data: it is made once from the bytes of a component (`translate`), stored in the cache, and read by
//! `shims` (what to generate), `instantiate` (in which order) and `abi` (with which types and options).
//! It knows nothing of stores, functions or compiled code. Index types are `wasmtime-environ`'s own.

use super::width::PointerWidth;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wasmtime_environ::component::{
    CanonicalOptions, ComponentTypes, FixedEncoding, StringEncoding, Transcode, TypeFuncIndex, TypeFutureTableIndex,
    TypeResourceTableIndex, TypeStreamTableIndex, TypeTupleIndex,
};

/// Everything that is known of a component before an instance of it exists.
#[derive(Serialize, Deserialize)]
pub struct Plan {
    /// The types of all functions and values, by index.
    pub types: ComponentTypes,
    /// Per core module: the export names that any step refers to. `Def::Export` holds a position in this list.
    pub module_exports: Vec<Vec<String>>,
    /// What instantiation does, in order.
    pub steps: Vec<Step>,
    /// Every function that we provide to the core modules, by `wasmtime-environ`'s trampoline index.
    pub trampolines: Vec<Trampoline>,
    /// Component-to-component calls in which a side is async. Sync to sync calls need no entry: their adapter is plain core wasm.
    pub adapters: Vec<Adapter>,
    /// The Canonical ABI options of every lift and lower, by `OptionsIndex`.
    pub options: Vec<CanonicalOptions>,
    /// Leaf imports: each one a host function.
    pub imports: Vec<Import>,
    /// For each `LowerImport` trampoline its import.
    pub lowerings: Vec<Lowering>,
    /// Which import each imported resource type is (position in `imports_of_resources`' own order is the `ResourceIndex`).
    pub imported_resources: Vec<ImportName>,
    /// Resource types that the component defines, in the order of their `DefinedResourceIndex`.
    pub defined_resources: Vec<DefinedResource>,
    /// Exported functions.
    pub lifts: Vec<Lift>,
    /// Names of exported functions: `interface#function`, or just `function` at the root.
    pub exports: BTreeMap<String, u32>,
    /// Interned options of `task.return`: results, string encoding and memory must equal those of the lift.
    pub return_signatures: Vec<ReturnSignature>,
    /// Number of component instances.
    pub instances: u32,
    /// The linear memories that `Step`s extract.
    pub memories: Vec<PointerWidth>,
    /// Number of reallocs, callbacks, post-returns that `Step`s extract.
    pub reallocs: u32,
    /// See `reallocs`.
    pub callbacks: u32,
    /// See `reallocs`.
    pub post_returns: u32,
    /// Do modules keep values in the engine's garbage collected heap? Exceptions are such values as well.
    pub collected: bool,
    /// See `reallocs`: tables of functions, for `thread.new-indirect`.
    pub tables: u32,
    /// Per component instance: has it a built-in or a call that may have to wait for something in the synchronous ABI?
    pub blocking: Vec<bool>,
}

impl Plan {
    /// The width of pointers that values with these options have.
    pub fn width(&self, options: &CanonicalOptions) -> PointerWidth {
        options.memory().map_or_else(PointerWidth::default, |memory| self.memories[memory.as_u32() as usize])
    }

    /// The signatures that functions may have been lifted with so that `task.return` with `signature` fits: it need not name the
    /// memory if it has no use for it.
    pub fn returns(&self, signature: u32) -> impl Iterator<Item = u32> + '_ {
        let given = &self.return_signatures[signature as usize];
        let fits = move |lifted: &ReturnSignature| {
            let indifferent = given.memory.is_none() && !given.needs_memory;
            *given == ReturnSignature { memory: if indifferent { None } else { lifted.memory }, ..lifted.clone() }
        };
        (0..self.return_signatures.len() as u32).filter(move |n| fits(&self.return_signatures[*n as usize]))
    }

    /// Can any code of this component block? If not, none of it pays for stacks that can be put aside.
    pub fn may_block(&self) -> bool {
        self.blocking.contains(&true)
    }

    /// Does a component make threads of its own?
    pub fn has_threads(&self) -> bool {
        self.trampolines.iter().any(|trampoline| matches!(trampoline.builtin, Builtin::ThreadNewIndirect { .. }))
    }

    /// The instance that `builtin` may block, or make a stack for.
    pub fn blocks(&self, builtin: &Builtin) -> Option<u32> {
        let is_sync = |options: u32| !self.options[options as usize].async_;
        match *builtin {
            Builtin::WaitableSetWait { instance, .. }
            | Builtin::ThreadNewIndirect { instance, .. }
            | Builtin::ThreadPause { instance, .. }
            | Builtin::SubtaskCancel { instance, async_: false } => Some(instance),
            Builtin::StreamRead { instance, options, .. }
            | Builtin::StreamWrite { instance, options, .. }
            | Builtin::FutureRead { instance, options, .. }
            | Builtin::FutureWrite { instance, options, .. } => is_sync(options).then_some(instance),
            Builtin::LowerImport { lowering, instance } => {
                let lowering = &self.lowerings[lowering as usize];
                (is_sync(lowering.options) && self.may_wait(lowering)).then_some(instance)
            }
            _ => None,
        }
    }

    /// Does a shim have something to do with stacks once the host has done what `builtin` asks for?
    pub fn needs_stacks(&self, builtin: &Builtin) -> bool {
        // A thread that is cancelled runs at once, on top of who cancels it.
        matches!(builtin, Builtin::SubtaskCancel { .. }) || self.blocks(builtin).is_some()
    }

    /// May a call of this import have to wait for its result?
    pub fn may_wait(&self, lowering: &Lowering) -> bool {
        self.types[lowering.ty].async_ || self.imports[lowering.import as usize].name.blocks()
    }
}

/// Functions that the host lets their callers wait in though they are of sync type: interface and name.
const BLOCKING_IMPORTS: [(&str, &str); 2] = [("wasi:io/poll", "poll"), ("wasi:io/poll", "[method]pollable.block")];

/// The core signature of a function that a shim forwards.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Signature {
    /// Parameter types.
    pub params: Vec<CoreType>,
    /// Result types.
    pub results: Vec<CoreType>,
}

/// A core value type; references never cross a component border.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CoreType {
    /// 32-bit integer
    I32,
    /// 64-bit integer
    I64,
    /// 32-bit float
    F32,
    /// 64-bit float
    F64,
    /// A function reference; only in adapter imports, which our shims never call.
    FuncRef,
}

/// One step of instantiation.
#[derive(Serialize, Deserialize, Debug)]
pub enum Step {
    /// Instantiate core module `module` with these imports, in its import order.
    Instantiate {
        /// Position in `Compiled::modules`.
        module: u32,
        /// One per import of the module.
        args: Vec<Def>,
    },
    /// Keep a memory for `CanonicalOptions`.
    Memory(u32, Def),
    /// Keep a `realloc`.
    Realloc(u32, Def),
    /// Keep a `callback`.
    Callback(u32, Def),
    /// Keep a `post-return`.
    PostReturn(u32, Def),
    /// Keep a table.
    Table(u32, Def),
    /// A resource type that the component defines, with its destructor.
    Resource(u32, Option<Def>),
    /// The functions of an adapter are there: give them to the shims.
    Adapter {
        /// Position in `Plan::adapters`.
        adapter: u32,
        /// Copies parameters from caller to callee.
        start: Def,
        /// Copies results from callee to caller.
        return_: Def,
        /// The lifted core function.
        callee: Def,
    },
    /// An exported core function is there: give it to the shims.
    Lift(u32, Def),
}

/// A core item that something refers to.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub enum Def {
    /// An export of an earlier instance (`Step::Instantiate` in order).
    Export {
        /// Position among the instances.
        instance: u32,
        /// Position in `Plan::module_exports[module]`.
        export: u32,
    },
    /// The shim that stands for `Plan::adapters[n]`.
    Adapter(u32),
    /// A global that adapter modules import, and have been rewritten not to use.
    Flag,
    /// The memory that shims and host share.
    Records,
    /// A function that we provide.
    Trampoline(u32),
    /// `context.get`, by slot.
    ContextGet(u32),
    /// `context.set`, by slot.
    ContextSet(u32),
}

/// A function that we provide to core modules.
#[derive(Serialize, Deserialize, Debug)]
pub struct Trampoline {
    /// Its core type.
    pub signature: Signature,
    /// What it does.
    pub builtin: Builtin,
}

/// `wasmtime-environ`'s trampolines, reduced to those that we bind; the names are the specification's.
#[derive(Serialize, Deserialize, Debug, Clone)]
#[expect(
    missing_docs,
    reason = "the variants are the canonical built-ins, their fields are what the binary format gives them"
)]
pub enum Builtin {
    LowerImport {
        lowering: u32,
        instance: u32,
    },
    Transcode {
        op: TranscodeOp,
        from: u32,
        to: u32,
    },
    ResourceNew {
        instance: u32,
        ty: TypeResourceTableIndex,
    },
    ResourceRep {
        instance: u32,
        ty: TypeResourceTableIndex,
    },
    ResourceDrop {
        instance: u32,
        ty: TypeResourceTableIndex,
    },
    BackpressureInc {
        instance: u32,
    },
    BackpressureDec {
        instance: u32,
    },
    TaskReturn {
        instance: u32,
        signature: u32,
        options: u32,
        results: TypeTupleIndex,
    },
    TaskCancel {
        instance: u32,
    },
    WaitableSetNew {
        instance: u32,
    },
    WaitableSetWait {
        instance: u32,
        options: u32,
    },
    WaitableSetPoll {
        instance: u32,
        options: u32,
    },
    WaitableSetDrop {
        instance: u32,
    },
    WaitableJoin {
        instance: u32,
    },
    SubtaskDrop {
        instance: u32,
    },
    SubtaskCancel {
        instance: u32,
        async_: bool,
    },
    StreamNew {
        instance: u32,
        ty: TypeStreamTableIndex,
    },
    StreamRead {
        instance: u32,
        ty: TypeStreamTableIndex,
        options: u32,
    },
    StreamWrite {
        instance: u32,
        ty: TypeStreamTableIndex,
        options: u32,
    },
    StreamCancelRead {
        instance: u32,
        ty: TypeStreamTableIndex,
        async_: bool,
    },
    StreamCancelWrite {
        instance: u32,
        ty: TypeStreamTableIndex,
        async_: bool,
    },
    StreamDropReadable {
        instance: u32,
        ty: TypeStreamTableIndex,
    },
    StreamDropWritable {
        instance: u32,
        ty: TypeStreamTableIndex,
    },
    FutureNew {
        instance: u32,
        ty: TypeFutureTableIndex,
    },
    FutureRead {
        instance: u32,
        ty: TypeFutureTableIndex,
        options: u32,
    },
    FutureWrite {
        instance: u32,
        ty: TypeFutureTableIndex,
        options: u32,
    },
    FutureCancelRead {
        instance: u32,
        ty: TypeFutureTableIndex,
        async_: bool,
    },
    FutureCancelWrite {
        instance: u32,
        ty: TypeFutureTableIndex,
        async_: bool,
    },
    FutureDropReadable {
        instance: u32,
        ty: TypeFutureTableIndex,
    },
    FutureDropWritable {
        instance: u32,
        ty: TypeFutureTableIndex,
    },
    ErrorContextNew {
        instance: u32,
        options: u32,
    },
    ErrorContextDebugMessage {
        instance: u32,
        options: u32,
    },
    ErrorContextDrop {
        instance: u32,
    },
    ErrorContextTransfer,
    ResourceTransferOwn,
    ResourceTransferBorrow,
    StreamTransfer,
    FutureTransfer,
    /// `prepare-call` and `start-call` of an adapter that a shim replaces: bound, never called.
    Replaced,
    Trap,
    EnterSyncCall,
    ExitSyncCall,
    ThreadIndex {
        instance: u32,
    },
    ThreadNewIndirect {
        instance: u32,
        table: u32,
    },
    ThreadResumeLater {
        instance: u32,
    },
    /// `thread.{suspend,yield}`, `thread.{suspend,yield}-then-{resume,promote}`
    ThreadPause {
        instance: u32,
        cancellable: bool,
        pause: Pause,
        then: Then,
    },
    /// Bound to a function that traps and names what is missing.
    Unsupported(String),
}

impl Builtin {
    /// The instance whose `may_leave` must be set, for built-ins that check it on entry.
    ///
    /// `context.*`, `backpressure.*` and the helpers of adapters do not check it.
    pub fn leaves(&self) -> Option<u32> {
        use Builtin::*;
        match self {
            LowerImport { instance, .. }
            | ResourceNew { instance, .. }
            | ResourceDrop { instance, .. }
            | TaskCancel { instance }
            | WaitableSetNew { instance }
            | WaitableSetWait { instance, .. }
            | WaitableSetPoll { instance, .. }
            | WaitableSetDrop { instance }
            | WaitableJoin { instance }
            | SubtaskDrop { instance }
            | SubtaskCancel { instance, .. }
            | StreamNew { instance, .. }
            | StreamRead { instance, .. }
            | StreamWrite { instance, .. }
            | StreamCancelRead { instance, .. }
            | StreamCancelWrite { instance, .. }
            | StreamDropReadable { instance, .. }
            | StreamDropWritable { instance, .. }
            | FutureNew { instance, .. }
            | FutureRead { instance, .. }
            | FutureWrite { instance, .. }
            | FutureCancelRead { instance, .. }
            | FutureCancelWrite { instance, .. }
            | FutureDropReadable { instance, .. }
            | FutureDropWritable { instance, .. }
            | ErrorContextNew { instance, .. }
            | ErrorContextDebugMessage { instance, .. }
            | ErrorContextDrop { instance }
            | ThreadIndex { instance }
            | ThreadNewIndirect { instance, .. }
            | ThreadResumeLater { instance }
            | ThreadPause { instance, .. } => Some(*instance),
            _ => None,
        }
    }
}

/// How a thread pauses itself.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// Until another thread resumes it.
    Suspend,
    /// Until the others have had their turn.
    Yield,
}

/// Who runs after a thread has paused itself.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Whoever is next.
    Anyone,
    /// The named thread, which is suspended.
    Resume,
    /// The named thread if it is ready, else whoever is next.
    Promote,
}

/// String transcoding between two memories; both sides are already checked for bounds and alignment by the adapter.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "self-describing variants")]
pub enum TranscodeOp {
    CopyUtf8,
    CopyUtf16,
    CopyLatin1,
    Latin1ToUtf16,
    Latin1ToUtf8,
    Utf16ToCompactProbablyUtf16,
    Utf16ToCompactUtf16,
    Utf16ToLatin1,
    Utf16ToUtf8,
    Utf8ToCompactUtf16,
    Utf8ToLatin1,
    Utf8ToUtf16,
}

impl From<Transcode> for TranscodeOp {
    fn from(op: Transcode) -> Self {
        match op {
            Transcode::Copy(FixedEncoding::Utf8) => TranscodeOp::CopyUtf8,
            Transcode::Copy(FixedEncoding::Utf16) => TranscodeOp::CopyUtf16,
            Transcode::Copy(FixedEncoding::Latin1) => TranscodeOp::CopyLatin1,
            Transcode::Latin1ToUtf16 => TranscodeOp::Latin1ToUtf16,
            Transcode::Latin1ToUtf8 => TranscodeOp::Latin1ToUtf8,
            Transcode::Utf16ToCompactProbablyUtf16 => TranscodeOp::Utf16ToCompactProbablyUtf16,
            Transcode::Utf16ToCompactUtf16 => TranscodeOp::Utf16ToCompactUtf16,
            Transcode::Utf16ToLatin1 => TranscodeOp::Utf16ToLatin1,
            Transcode::Utf16ToUtf8 => TranscodeOp::Utf16ToUtf8,
            Transcode::Utf8ToCompactUtf16 => TranscodeOp::Utf8ToCompactUtf16,
            Transcode::Utf8ToLatin1 => TranscodeOp::Utf8ToLatin1,
            Transcode::Utf8ToUtf16 => TranscodeOp::Utf8ToUtf16,
        }
    }
}

/// A call between two component instances in which the caller lowers async, or the callee lifts async.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct Adapter {
    /// Calling component instance.
    pub caller: u32,
    /// Called component instance.
    pub callee: u32,
    /// Is the function type `async`? (Only then backpressure and exclusivity hold.)
    pub async_type: bool,
    /// How the caller sees results.
    pub lower: Lower,
    /// How the callee runs.
    pub lift: LiftKind,
    /// What `task.return` must present, position in `Plan::return_signatures`; unused for a sync lift.
    pub return_signature: u32,
    /// The type of the adapter itself: what the caller calls.
    pub signature: Signature,
    /// `start`: flat parameters of the caller in, those of the callee out.
    pub start: Signature,
    /// Does `start` give what it gets, so that it need not be called?
    pub hands_on: bool,
    /// `return`: flat results of the callee in, those of the caller out.
    pub return_: Signature,
    /// The lifted core function.
    pub callee_signature: Signature,
}

impl Adapter {
    /// The types of the pointer that results go through, if they do: as the caller gives it, and as `return` takes it.
    pub fn retptr(&self) -> Option<(CoreType, CoreType)> {
        match self.lower {
            Lower::Async { retptr: true } | Lower::SyncRetptr => {
                Some((*self.signature.params.last()?, *self.return_.params.last()?))
            }
            Lower::Async { retptr: false } | Lower::SyncNone | Lower::SyncFlat => None,
        }
    }
}

/// How a caller takes results.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lower {
    /// `async`: a status word; the result, if any, goes to the pointer that is the last parameter.
    Async {
        /// Is there a return pointer?
        retptr: bool,
    },
    /// Sync, no result.
    SyncNone,
    /// Sync, one flat result.
    SyncFlat,
    /// Sync, result through the pointer that is the last parameter.
    SyncRetptr,
}

/// How a lifted function runs.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiftKind {
    /// Sync: results are what the core function returns.
    Sync {
        /// Called with the results after they are copied.
        post_return: Option<u32>,
    },
    /// Async with a callback: `task.return`, and a code that says what to wait for.
    Callback(u32),
    /// Async without a callback.
    Stackful,
}

impl LiftKind {
    /// Does a function of async type that is lifted so need the exclusivity of its instance (CanonicalABI.md,
    /// `Task.needs_exclusive`)?
    pub fn needs_exclusive(self) -> bool {
        self != LiftKind::Stackful
    }
}

/// An exported function that the host may call.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub struct Lift {
    /// Its component type.
    pub ty: TypeFuncIndex,
    /// Its component instance.
    pub instance: u32,
    /// Its options, position in `Plan::options`.
    pub options: u32,
    /// How it runs.
    pub kind: LiftKind,
    /// The core function.
    pub signature: Signature,
    /// What `task.return` must present.
    pub return_signature: u32,
}

/// Name of an import: the outer name, and the path inside when that is an instance.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct ImportName {
    /// `wasi:http/types@0.3.2`, or a plain name.
    pub outer: String,
    /// The interface that it says it `implements`, if its own name is just a label.
    pub implements: Option<String>,
    /// Item names inside.
    pub path: Vec<String>,
}

impl ImportName {
    /// Under which names a host may have it, its own first.
    pub fn outer_names(&self) -> impl Iterator<Item = &str> {
        [Some(self.outer.as_str()), self.implements.as_deref()].into_iter().flatten()
    }

    /// Is it a function of sync type that blocks its caller?
    fn blocks(&self) -> bool {
        let [function] = &self.path[..] else { return false };
        let interface = |name: &str| name.split('@').next().unwrap_or_default().to_string();
        self.outer_names().any(|name| BLOCKING_IMPORTS.contains(&(&interface(name), function)))
    }
}

impl std::fmt::Display for ImportName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.outer)?;
        self.path.iter().try_for_each(|part| write!(f, "#{part}"))
    }
}

/// A host function that the component needs.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub struct Import {
    /// Where the host finds it.
    pub name: ImportName,
}

/// One lowered import: which import, with which type and options.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub struct Lowering {
    /// Position in `Plan::imports`.
    pub import: u32,
    /// The function's type as the component sees it.
    pub ty: TypeFuncIndex,
    /// Position in `Plan::options`.
    pub options: u32,
}

/// A resource type that the component itself defines.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub struct DefinedResource {
    /// The instance that implements it.
    pub instance: u32,
}

/// What a `task.return` must agree on with the function that it returns from (CanonicalABI.md, `canon task.return`).
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct ReturnSignature {
    /// The result tuple.
    pub results: TypeTupleIndex,
    /// `string-encoding` of the lift.
    pub encoding: u8,
    /// `memory` of the lift.
    pub memory: Option<u32>,
    /// Can results of this type be in that memory?
    pub needs_memory: bool,
    /// The instance.
    pub instance: u32,
}

/// A string encoding as one byte, for comparison.
pub fn encoding_byte(encoding: StringEncoding) -> u8 {
    encoding as u8
}
