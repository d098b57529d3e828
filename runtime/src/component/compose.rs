//! A chain of components becomes one component.
//!
//! Outermost first: each one's import `wasi:http/handler` is linked to the next one's export of it, the outermost export is
//! what the result exports, and whatever else they import is imported once and shared. Versions match by semver: 0.3.0 links
//! with 0.3.2. A chain is a list, each link is linked to the one after it, so a cycle cannot be written down.
//! Every file is checked before anything is linked: who gets an error here has nothing half-started. Knows nothing of hosts:
//! whether an import can be satisfied is found out later.

use super::translate;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use wac_graph::types::{Package, are_semver_compatible};
use wac_graph::{CompositionGraph, EncodeError, EncodeOptions, NodeId, PackageId};
use wasmparser::component_types::{ComponentEntityType, ComponentItem};
use wasmparser::types::TypesRef;
use wasmparser::{BinaryReaderError, Parser, Payload, Validator};

/// Links a chain may have; more is a mistake in a script, and each link costs memory in every zone.
pub const LINKS_MAX: usize = 64;

/// The interface that links are linked by.
const HANDLER: &str = "wasi:http/handler";
/// The version of it that we know; any that is semver-compatible will do.
const HANDLER_KNOWN: &str = "wasi:http/handler@0.3.0";

/// Names that a message lists before it says how many more there are.
const NAMES_LISTED_MAX: usize = 8;

/// One component of a chain.
#[derive(Clone, Debug)]
pub struct Link {
    /// The file, as the user typed it: messages use it.
    pub name: String,
    /// What was in the file.
    pub bytes: Vec<u8>,
}

/// Why a chain cannot be linked. Messages name the file, what is wrong in it, and what would be right.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "variants and fields are what their messages say")]
pub enum ComposeError {
    #[error("no component given: name at least one file")]
    Empty,
    #[error("{count} components in one chain: {LINKS_MAX} at most")]
    TooMany { count: usize },
    #[error("{file}: not a WebAssembly file, but {found}: a component in binary form is needed")]
    NotWasm { file: String, found: &'static str },
    #[error(
        "{file}: a core module, not a component: build it for the target wasm32-wasip2, or wrap it with `wasm-tools component new`"
    )]
    CoreModule { file: String },
    #[error("{file}: not a valid component")]
    Invalid { file: String, source: BinaryReaderError },
    #[error("{file}: exports no `{HANDLER}`, but {exports}: {}", hint.advice())]
    NoHandler { file: String, exports: String, hint: Hint },
    #[error(
        "{file}: {direction} `{name}`, a version that is not known here: build it for `{HANDLER_KNOWN}` or a later 0.3 release"
    )]
    UnknownVersion { file: String, direction: Direction, name: String },
    #[error(
        "{file}: imports no `{HANDLER}`, so `{next}` cannot follow it: only the last component of a chain may do without"
    )]
    NoNext { file: String, next: String },
    #[error(
        "{file}: imports `{import}`, but nothing follows it: add a component that exports `{import}` to the end of the chain"
    )]
    NothingFollows { file: String, import: String },
    #[error(
        "{file}: its import `{import}` does not fit the export `{export}` of {next}: both must be built from the same definition of the interface"
    )]
    HandlerMismatch { file: String, import: String, next: String, export: String, source: anyhow::Error },
    #[error(
        "{first} and {second}: both import `{import}`, with types that exclude each other: build both for one version of it"
    )]
    ImportConflict { first: String, second: String, import: String, source: anyhow::Error },
    #[error("{files}: cannot be linked")]
    Link { files: String, source: anyhow::Error },
}

/// Import or export, in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The component needs it.
    Imports,
    /// The component provides it.
    Exports,
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Direction::Imports => "imports",
            Direction::Exports => "exports",
        })
    }
}

/// What a component without a handler probably is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// It exports WASI 0.2's handler.
    Wasi02,
    /// It exports `wasi:cli/run`.
    Command,
    /// Something else.
    Unknown,
}

impl Hint {
    fn of(shape: &Shape) -> Hint {
        let exports = |interface: &str| shape.exports.iter().any(|export| export.is(interface));
        match (exports("wasi:http/incoming-handler"), exports("wasi:cli/run")) {
            (true, _) => Hint::Wasi02,
            (false, true) => Hint::Command,
            (false, false) => Hint::Unknown,
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Hint::Wasi02 => {
                "it is an HTTP component of WASI 0.2, and WASI 0.3 is needed: rebuild it for the world `wasi:http/service`"
            }
            Hint::Command => {
                "it is a command: run it with `interflow run`, or build a component for the world `wasi:http/service`"
            }
            Hint::Unknown => "build it for the world `wasi:http/service` or `wasi:http/middleware`",
        }
    }
}

/// How deep instances within instances are looked into; interfaces have no such thing, and a type may nest as deep as it is long.
const NESTING_MAX: usize = 4;

/// What a component asks for and offers, at its top level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// In the order of the file.
    pub imports: Vec<Item>,
    /// In the order of the file.
    pub exports: Vec<Item>,
}

/// One import or export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// `wasi:http/handler@0.3.2`, or a plain name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// What an import or export is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A function.
    Function {
        /// Is its type `async`?
        async_: bool,
    },
    /// An instance of an interface, with what is in it.
    Instance(Vec<Item>),
    /// A type or resource.
    Type,
    /// A component.
    Component,
    /// A core module.
    Module,
    /// A value.
    Value,
}

impl Item {
    /// Is this the interface `interface` (`package:name/interface`), in any version?
    pub fn is(&self, interface: &str) -> bool {
        self.name.split('@').next() == Some(interface)
    }
}

impl Shape {
    /// Checks that `bytes`, from the file `name`, are a valid component, and reads what it imports and exports.
    ///
    /// # Errors
    /// `NotWasm`, `CoreModule` or `Invalid`.
    pub fn of(name: &str, bytes: &[u8]) -> Result<Shape, ComposeError> {
        let file = || name.to_string();
        if !bytes.starts_with(b"\0asm") {
            return Err(ComposeError::NotWasm { file: file(), found: describe(bytes) });
        }
        if Parser::is_core_wasm(bytes) {
            return Err(ComposeError::CoreModule { file: file() });
        }
        Shape::read(bytes).map_err(|source| ComposeError::Invalid { file: file(), source })
    }

    fn read(bytes: &[u8]) -> Result<Shape, BinaryReaderError> {
        let types = Validator::new_with_features(translate::features()).validate_all(bytes)?;
        let types = types.as_ref();
        let mut shape = Shape::default();
        let mut depth = 0;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth -= 1,
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        let name = import?.name.name;
                        shape.imports.extend(
                            types.component_item_for_import(name).map(|entity| item(types, name, entity, NESTING_MAX)),
                        );
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        let name = export?.name.name;
                        shape.exports.extend(
                            types.component_item_for_export(name).map(|entity| item(types, name, entity, NESTING_MAX)),
                        );
                    }
                }
                _ => {}
            }
        }
        Ok(shape)
    }

    /// The handler it exports, in a version that we know.
    fn exported_handler(&self, file: &str) -> Result<&str, ComposeError> {
        let mut handlers =
            self.exports.iter().filter(|export| export.is(HANDLER)).map(|export| export.name.as_str()).peekable();
        let Some(first) = handlers.peek().copied() else {
            return Err(ComposeError::NoHandler {
                file: file.to_string(),
                exports: list(&self.exports),
                hint: Hint::of(self),
            });
        };
        handlers.find(|name| are_semver_compatible(name, HANDLER_KNOWN)).ok_or_else(|| ComposeError::UnknownVersion {
            file: file.to_string(),
            direction: Direction::Exports,
            name: first.to_string(),
        })
    }

    /// The handlers it imports, each in a version that we know.
    fn imported_handlers(&self, file: &str) -> Result<Vec<&str>, ComposeError> {
        let handlers: Vec<&str> =
            self.imports.iter().filter(|import| import.is(HANDLER)).map(|import| import.name.as_str()).collect();
        match handlers.iter().find(|name| !are_semver_compatible(name, HANDLER_KNOWN)) {
            None => Ok(handlers),
            Some(name) => Err(ComposeError::UnknownVersion {
                file: file.to_string(),
                direction: Direction::Imports,
                name: name.to_string(),
            }),
        }
    }
}

/// What `entity` is; of an instance nested deeper than `depth` the contents are left out.
fn item(types: TypesRef<'_>, name: &str, entity: &ComponentItem, depth: usize) -> Item {
    let kind = match entity.ty {
        ComponentEntityType::Func(id) => Kind::Function { async_: types[id].async_ },
        ComponentEntityType::Instance(_) if depth == 0 => Kind::Instance(Vec::new()),
        ComponentEntityType::Instance(id) => {
            Kind::Instance(types[id].exports.iter().map(|(name, inner)| item(types, name, inner, depth - 1)).collect())
        }
        ComponentEntityType::Type { .. } => Kind::Type,
        ComponentEntityType::Component(_) => Kind::Component,
        ComponentEntityType::Module(_) => Kind::Module,
        ComponentEntityType::Value(_) => Kind::Value,
    };
    Item { name: name.to_string(), kind }
}

/// Names for a message: "`a`, `b` and 3 more".
fn list(items: &[Item]) -> String {
    let names: Vec<String> = items.iter().take(NAMES_LISTED_MAX).map(|item| format!("`{}`", item.name)).collect();
    match (items.len(), items.len() - names.len()) {
        (0, _) => "nothing at all".to_string(),
        (_, 0) => names.join(", "),
        (_, more) => format!("{} and {more} more", names.join(", ")),
    }
}

/// What a file is that is not WebAssembly, as far as its first bytes tell.
fn describe(bytes: &[u8]) -> &'static str {
    match bytes {
        [] => "an empty file",
        [0x7f, b'E', b'L', b'F', ..] => "a native or precompiled file",
        [b'(', ..] | [b';', b';', ..] => "WebAssembly text (`wasm-tools parse` makes a binary of it)",
        _ if std::str::from_utf8(bytes).is_ok() => "text",
        _ => "other data",
    }
}

/// Links `chain`, outermost first, into one component. A chain of one is that component, unchanged.
///
/// # Errors
/// When a file is not what its place in the chain needs; see `ComposeError`.
pub fn compose(chain: &[Link]) -> Result<Vec<u8>, ComposeError> {
    match chain.len() {
        0 => return Err(ComposeError::Empty),
        count if LINKS_MAX < count => return Err(ComposeError::TooMany { count }),
        _ => {}
    }
    let shapes = shapes(chain)?;
    let joints = joints(chain, &shapes)?;
    if let [only] = chain {
        return Ok(only.bytes.clone());
    }
    // wac-graph asserts what it believes of types. What reaches it is valid, but still a stranger's: its belief failing is an
    // error of this chain, not the end of the process.
    catch_unwind(AssertUnwindSafe(|| link(chain, &joints)))
        .unwrap_or_else(|_| Err(failed(chain, anyhow::anyhow!("the linker gave up"))))
}

/// The shape of each link; a file that occurs many times is looked at once.
fn shapes(chain: &[Link]) -> Result<Vec<Shape>, ComposeError> {
    let mut known: HashMap<&[u8], Shape> = HashMap::new();
    chain
        .iter()
        .map(|link| match known.get(link.bytes.as_slice()) {
            Some(shape) => Ok(shape.clone()),
            None => {
                let shape = Shape::of(&link.name, &link.bytes)?;
                known.insert(&link.bytes, shape.clone());
                Ok(shape)
            }
        })
        .collect()
}

/// Where a link is joined to its neighbours: names as this link has them.
struct Joint<'a> {
    /// The handler it exports.
    export: &'a str,
    /// The handler it imports; several if it was linked from components of several versions.
    imports: Vec<&'a str>,
}

/// Checks that each link fits its place.
fn joints<'a>(chain: &[Link], shapes: &'a [Shape]) -> Result<Vec<Joint<'a>>, ComposeError> {
    let mut joints = Vec::with_capacity(chain.len());
    for (position, (link, shape)) in chain.iter().zip(shapes).enumerate() {
        let file = &link.name;
        let joint = Joint { export: shape.exported_handler(file)?, imports: shape.imported_handlers(file)? };
        match (chain.get(position + 1), joint.imports.first()) {
            (Some(next), None) => return Err(ComposeError::NoNext { file: file.clone(), next: next.name.clone() }),
            (None, Some(import)) => {
                return Err(ComposeError::NothingFollows { file: file.clone(), import: import.to_string() });
            }
            (Some(_), Some(_)) | (None, None) => joints.push(joint),
        }
    }
    Ok(joints)
}

fn link(chain: &[Link], joints: &[Joint<'_>]) -> Result<Vec<u8>, ComposeError> {
    let mut graph = CompositionGraph::new();
    let packages = register(&mut graph, chain)?;
    // The instance of each link, by position; made from the innermost outwards, because an argument must exist first.
    let mut nodes: Vec<NodeId> = Vec::with_capacity(chain.len());
    let mut next: Option<NodeId> = None;
    for position in (0..chain.len()).rev() {
        let instance = graph.instantiate(packages[position]);
        nodes.push(instance);
        let arguments =
            next.iter().flat_map(|next| joints[position].imports.iter().map(move |import| (*import, *next)));
        for (import, handler) in arguments {
            graph.set_instantiation_argument(instance, import, handler).map_err(|error| {
                ComposeError::HandlerMismatch {
                    file: chain[position].name.clone(),
                    import: import.to_string(),
                    next: chain[position + 1].name.clone(),
                    export: joints[position + 1].export.to_string(),
                    source: error.into(),
                }
            })?;
        }
        let handler = graph
            .alias_instance_export(instance, joints[position].export)
            .map_err(|error| failed(chain, error.into()))?;
        next = Some(handler);
    }
    nodes.reverse();
    if let Some(outermost) = next {
        graph.export(outermost, joints[0].export).map_err(|error| failed(chain, error.into()))?;
    }
    graph.encode(EncodeOptions::default()).map_err(|error| not_encoded(chain, &nodes, error))
}

/// The package of each link; equal files are one package, so that their code is in the result once.
fn register(graph: &mut CompositionGraph, chain: &[Link]) -> Result<Vec<PackageId>, ComposeError> {
    let mut known: HashMap<&[u8], PackageId> = HashMap::new();
    let mut packages = Vec::with_capacity(chain.len());
    for link in chain {
        let package = match known.get(link.bytes.as_slice()) {
            Some(package) => *package,
            None => {
                let name = format!("interflow:link{}", known.len());
                let failed = |source| ComposeError::Link { files: link.name.clone(), source };
                let package =
                    Package::from_bytes(&name, None, link.bytes.clone(), graph.types_mut()).map_err(failed)?;
                graph.register_package(package).map_err(|error| failed(error.into()))?
            }
        };
        known.insert(&link.bytes, package);
        packages.push(package);
    }
    Ok(packages)
}

fn not_encoded(chain: &[Link], nodes: &[NodeId], error: EncodeError) -> ComposeError {
    let name = |node: NodeId| {
        let position = nodes.iter().position(|known| *known == node);
        position.map_or_else(|| "the chain".to_string(), |position| chain[position].name.clone())
    };
    match error {
        EncodeError::ImportTypeMergeConflict { import, first, second, source } => {
            ComposeError::ImportConflict { first: name(first), second: name(second), import, source }
        }
        other => failed(chain, other.into()),
    }
}

fn failed(chain: &[Link], source: anyhow::Error) -> ComposeError {
    let files: Vec<&str> = chain.iter().map(|link| link.name.as_str()).collect();
    ComposeError::Link { files: files.join(", "), source }
}
