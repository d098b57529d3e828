//! Is everything there that a component imports, also what it never uses?
//!
//! Our linker asks for what is called. Scripts expect wasmtime's answer, which asks for every import by name and kind before it
//! links; types of functions are compared when they are linked. Items inside of instances are named `instance#item`.

use crate::host::linker::{Item, Linker};
use std::any::TypeId;
use std::collections::HashMap;
use wasmparser::component_types::{ComponentAnyTypeId, ComponentEntityType, ResourceId};
use wasmparser::types::{Types, TypesRef};
use wasmparser::{Parser, Payload};

/// What a component imports, in order.
#[derive(Clone, Default)]
pub(super) struct Imports(Vec<(String, Wanted)>);

#[derive(Clone)]
enum Wanted {
    Function,
    Module,
    Resource(ResourceId),
    Instance(Vec<(String, Wanted)>),
    /// Other types say what others are; nobody has to provide them.
    Nothing,
}

/// What there is, by name.
pub(super) struct Known(HashMap<String, Provided>);

#[derive(Clone, Copy)]
enum Provided {
    Function,
    Resource(TypeId),
    Instance,
}

impl Provided {
    /// wasmtime's word for it.
    fn name(self) -> &'static str {
        match self {
            Provided::Function => "func",
            Provided::Resource(_) => "resource",
            Provided::Instance => "instance",
        }
    }
}

impl Known {
    /// What `linker` has, and the instances that a script has named.
    pub fn new<'a>(linker: &Linker, instances: impl Iterator<Item = &'a String>) -> Known {
        let mut known: HashMap<String, Provided> = instances.map(|name| (name.clone(), Provided::Instance)).collect();
        for (name, item) in linker.items() {
            for (at, _) in name.match_indices('#') {
                known.insert(name[..at].to_string(), Provided::Instance);
            }
            let provided = match item {
                Item::Function => Provided::Function,
                Item::Resource(ty) => Provided::Resource(ty),
            };
            known.insert(name, provided);
        }
        Known(known)
    }
}

impl Imports {
    /// What the component in `bytes`, of these types, imports.
    pub fn of(bytes: &[u8], types: &Types) -> Imports {
        let names = root_imports(bytes);
        let wanted = names.into_iter().filter_map(|name| {
            let ty = types.component_item_for_import(&name)?.ty;
            // Which version there is, the linker says.
            let path = name.split('@').next().unwrap_or(&name).to_string();
            Some((path, wanted(types.as_ref(), ty)))
        });
        Imports(wanted.collect())
    }

    /// The error names the first import that is missing, or is something else.
    pub fn check(&self, known: &Known) -> Result<(), String> {
        let mut resources = HashMap::new();
        self.0.iter().try_for_each(|(name, wanted)| check(name, wanted, known, &mut resources))
    }
}

/// Names of the imports of the outermost component.
fn root_imports(bytes: &[u8]) -> Vec<String> {
    let mut depth = 0u32;
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(Payload::Version { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(Payload::ComponentImportSection(section)) if depth == 1 => {
                names.extend(section.into_iter().flatten().map(|import| import.name.name.to_string()));
            }
            // It has passed validation, so there is no error.
            _ => {}
        }
    }
    names
}

fn wanted(types: TypesRef<'_>, ty: ComponentEntityType) -> Wanted {
    match ty {
        ComponentEntityType::Func(_) => Wanted::Function,
        ComponentEntityType::Module(_) => Wanted::Module,
        ComponentEntityType::Type { created: ComponentAnyTypeId::Resource(id), .. } => Wanted::Resource(id.resource()),
        ComponentEntityType::Instance(id) => Wanted::Instance(
            types[id].exports.iter().map(|(name, item)| (name.clone(), wanted(types, item.ty))).collect(),
        ),
        ComponentEntityType::Type { .. } | ComponentEntityType::Value(_) | ComponentEntityType::Component(_) => {
            Wanted::Nothing
        }
    }
}

/// `resources` says which Rust type stands for which imported resource so far.
fn check(
    name: &str,
    wanted: &Wanted,
    known: &Known,
    resources: &mut HashMap<ResourceId, TypeId>,
) -> Result<(), String> {
    let provided = known.0.get(name).copied();
    let other = |expected: &str| match provided {
        Some(provided) => Err(format!("import `{name}`: expected {expected} found {}", provided.name())),
        None => Err(format!("import `{name}` was not found")),
    };
    match wanted {
        Wanted::Nothing => Ok(()),
        Wanted::Function if matches!(provided, Some(Provided::Function)) => Ok(()),
        Wanted::Function => other("function"),
        Wanted::Module => other("module"),
        // An instance that nobody provides may be imported as long as nothing is wanted of it.
        Wanted::Instance(items) if matches!(provided, None | Some(Provided::Instance)) => {
            items.iter().try_for_each(|(item, wanted)| check(&format!("{name}#{item}"), wanted, known, resources))
        }
        Wanted::Instance(_) => other("instance"),
        Wanted::Resource(id) => match (provided, resources.get(id)) {
            (Some(Provided::Resource(ty)), Some(known)) if ty != *known => {
                Err(format!("import `{name}`: mismatched resource types"))
            }
            (Some(Provided::Resource(ty)), _) => {
                resources.insert(*id, ty);
                Ok(())
            }
            // It is equal to one that is there.
            (None, Some(_)) => Ok(()),
            _ => other("resource"),
        },
    }
}
