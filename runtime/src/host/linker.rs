//! Who implements which import.
//!
//! A `Linker` collects host functions and resource types by interface and name. `link` matches them against the imports of a
//! compiled component, by name with compatible versions and by type, once; zones then find them by position.

use crate::abi::{AsyncFunction, Component, HostCx, HostFunction, HostFuture, Result, SyncFunction};
use crate::component::Compiled;
use crate::component::plan::{ImportName, Plan};
use crate::host::value::{Lift, Lower, TypeChecker};
use std::any::TypeId;
use std::collections::HashMap;
use std::sync::Arc;
use wasmtime::Engine;
use wasmtime_environ::component::TypeResourceTableIndex;

/// Host functions and resource types by interface and name.
#[derive(Default, Clone)]
pub struct Linker {
    functions: Versions<Arc<dyn HostFunction>>,
    resources: Versions<TypeId>,
    /// Interfaces that this host could offer and does not, and why.
    withheld: Vec<(&'static str, &'static str)>,
}

/// Each item in the versions that there are of it.
type Versions<T> = HashMap<Name, Vec<(Version, T)>>;

/// `wasi:http/types`, and the item in it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Name {
    interface: String,
    item: String,
}

impl Name {
    fn path(&self) -> String {
        if self.interface.is_empty() { self.item.clone() } else { format!("{}#{}", self.interface, self.item) }
    }
}

/// What a [`Linker`] has under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A function.
    Function,
    /// A resource type, and the Rust type that represents it.
    Resource(TypeId),
}

/// Major, minor, patch.
type Version = Option<[u64; 3]>;

/// Why a component cannot be linked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody implements an import.
    #[error("import `{import}` is not provided: {hint}")]
    Missing {
        /// The import's name.
        import: String,
        /// What would satisfy it.
        hint: String,
    },
    /// The component wants another type than the host has.
    #[error("import `{import}` has another type than this host provides: {difference}")]
    Type {
        /// The import's name.
        import: String,
        /// Where the types differ.
        difference: String,
    },
    /// The engine refused.
    #[error("cannot bind the host's functions: {0:#}")]
    Bind(wasmtime::Error),
}

impl Linker {
    /// An empty linker.
    pub fn new() -> Self {
        Linker::default()
    }

    /// Provides a sync function. `P` is the tuple of its parameters, `R` its result or `()`.
    pub fn func<P, R, F>(&mut self, interface: &str, name: &str, function: F)
    where
        P: Lift,
        R: Lower,
        F: Fn(&mut HostCx<'_>, P) -> Result<R> + Copy + Send + Sync + 'static,
    {
        self.insert(interface, name, Arc::new(SyncFunction::<F, P, R>::new(function)));
    }

    /// Provides an async function, or one of sync type that its callers have to wait in (`Plan::may_wait` knows those).
    pub fn async_func<P, R, F>(&mut self, interface: &str, name: &str, function: F)
    where
        P: Lift,
        R: Lower,
        F: Fn(&mut HostCx<'_>, P) -> HostFuture<R> + Copy + Send + Sync + 'static,
    {
        self.insert(interface, name, Arc::new(AsyncFunction::<F, P, R>::new(function)));
    }

    /// Provides a resource type, represented by the Rust type `T`.
    pub fn resource<T: 'static>(&mut self, interface: &str, name: &str) {
        let (interface, version) = split_version(interface);
        let name = Name { interface: interface.to_string(), item: name.to_string() };
        replace(self.resources.entry(name).or_default(), version, TypeId::of::<T>());
    }

    /// Says why `interface`, which this host could offer, is missing.
    pub fn withhold(&mut self, interface: &'static str, why: &'static str) {
        self.withheld.push((split_version(interface).0, why));
    }

    /// Everything that is provided: `interface#item`, without versions, or the item alone at the root.
    pub fn items(&self) -> impl Iterator<Item = (String, Item)> {
        let functions = self.functions.keys().map(|name| (name.path(), Item::Function));
        let resources = self
            .resources
            .iter()
            .flat_map(|(name, versions)| versions.iter().map(|(_, ty)| (name.path(), Item::Resource(*ty))));
        functions.chain(resources)
    }

    fn insert(&mut self, interface: &str, item: &str, function: Arc<dyn HostFunction>) {
        let (interface, version) = split_version(interface);
        let name = Name { interface: interface.to_string(), item: item.to_string() };
        replace(self.functions.entry(name).or_default(), version, function);
    }

    /// Matches what `compiled` imports with what there is.
    ///
    /// # Errors
    /// When something is missing or has another type.
    pub fn link(&self, engine: &Engine, compiled: Arc<Compiled>) -> std::result::Result<Component, LinkError> {
        let plan = &compiled.plan;
        let resources = self.link_resources(plan)?;
        let of_table = |table: TypeResourceTableIndex| {
            let rt = plan.types[table].unwrap_concrete_ty().as_u32() as usize;
            resources.get(rt).copied()
        };
        let types = TypeChecker { types: &plan.types, resource: &of_table };
        let functions = plan
            .lowerings
            .iter()
            .map(|lowering| {
                let import = &plan.imports[lowering.import as usize].name;
                let function = self.find(&self.functions, import)?;
                let fits = match function.may_wait() && !plan.may_wait(lowering) {
                    true => Err("expected an async function, found one of sync type".to_string()),
                    false => function.check(lowering.ty, &types),
                };
                fits.map_err(|difference| LinkError::Type { import: import.to_string(), difference })?;
                Ok(function)
            })
            .collect::<std::result::Result<Vec<_>, LinkError>>()?;
        Component::link(engine, compiled.clone(), &functions, resources.clone()).map_err(LinkError::Bind)
    }

    /// The Rust type of each imported resource type.
    fn link_resources(&self, plan: &Plan) -> std::result::Result<Vec<TypeId>, LinkError> {
        plan.imported_resources.iter().map(|import| self.find(&self.resources, import)).collect()
    }

    fn find<T: Clone>(&self, items: &Versions<T>, import: &ImportName) -> std::result::Result<T, LinkError> {
        let [item] = &import.path[..] else {
            let name = import.to_string();
            return find_in(items, "", &name)
                .ok_or_else(|| LinkError::Missing { hint: self.hint("", &name), import: name });
        };
        if let Some(found) = import.outer_names().find_map(|interface| find_in(items, interface, item)) {
            return Ok(found);
        }
        let interface = import.outer_names().last().map_or("", |name| split_version(name).0);
        Err(LinkError::Missing { import: import.to_string(), hint: self.hint(interface, item) })
    }

    fn hint(&self, interface: &str, item: &str) -> String {
        let versions = |of: &dyn Fn(&Name) -> bool| {
            let mut versions: Vec<String> = self
                .functions
                .iter()
                .filter(|(name, _)| of(name))
                .flat_map(|(_, versions)| versions.iter().map(|(version, _)| show(*version)))
                .collect();
            versions.sort();
            versions.dedup();
            versions.join(", ")
        };
        let of_interface = versions(&|name| name.interface == interface);
        if let Some((_, why)) = self.withheld.iter().find(|(known, _)| *known == interface) {
            return (*why).to_string();
        }
        if of_interface.is_empty() {
            return format!("this host has no interface `{interface}`; link a component that exports it");
        }
        let of_item = versions(&|name| name.interface == interface && name.item == item);
        if of_item.is_empty() {
            return format!("this host has `{interface}` in version {of_interface}, without `{item}`");
        }
        format!("this host has it in version {of_item}; build the component for a compatible one")
    }
}

/// `item` of a compatible version of `interface`.
fn find_in<T: Clone>(items: &Versions<T>, interface: &str, item: &str) -> Option<T> {
    let (interface, wanted) = split_version(interface);
    let known = items.get(&Name { interface: interface.to_string(), item: item.to_string() })?;
    known.iter().find(|(have, _)| compatible(wanted, *have)).map(|(_, found)| found.clone())
}

fn replace<T>(list: &mut Vec<(Version, T)>, version: Version, item: T) {
    match list.iter_mut().find(|(known, _)| *known == version) {
        Some((_, known)) => *known = item,
        None => list.push((version, item)),
    }
}

fn split_version(interface: &str) -> (&str, Version) {
    let Some((name, version)) = interface.split_once('@') else { return (interface, None) };
    // Pre-release and build parts do not take part in matching.
    let core = version.split(['-', '+']).next().unwrap_or(version);
    let mut parts = core.split('.').map(|part| part.parse().ok());
    match (parts.next().flatten(), parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor), Some(patch)) => (name, Some([major, minor, patch])),
        _ => (interface, None),
    }
}

/// Semantic versioning: below 1.0 the minor number is the one that breaks.
fn compatible(wanted: Version, have: Version) -> bool {
    match (wanted, have) {
        (Some([0, 0, a]), Some([0, 0, b])) => a == b,
        (Some([0, a, _]), Some([0, b, _])) => a == b,
        (Some([a, ..]), Some([b, ..])) => a == b,
        (None, None) => true,
        _ => false,
    }
}

fn show(version: Version) -> String {
    version.map_or_else(|| "none".to_string(), |[a, b, c]| format!("{a}.{b}.{c}"))
}

#[cfg(test)]
mod tests {
    use super::{Linker, compatible, split_version};
    use crate::component;
    use std::sync::Arc;

    /// Links a component that calls the import `$f`.
    fn link(import: &str, provide: impl FnOnce(&mut Linker)) -> Result<(), String> {
        let text = format!(
            r#"(component
                (import {import})
                (core func $f (canon lower (func $i "f")))
                (core module $m (import "" "f" (func)))
                (core instance (instantiate $m (with "" (instance (export "f" (func $f)))))))"#
        );
        let engine = component::engine().expect("the engine starts");
        let bytes = wat::parse_str(text).expect("the text is well formed");
        let compiled = component::compile(&engine, &bytes).expect("the component compiles");
        let mut linker = Linker::new();
        provide(&mut linker);
        linker.link(&engine, Arc::new(compiled)).map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn only_callers_that_may_have_to_wait_get_a_function_that_lets_them() {
        let waits = |linker: &mut Linker| linker.async_func("a:b/c", "f", |_, ()| Box::pin(async { Ok(()) }));
        assert_eq!(link(r#""a:b/c" (instance $i (export "f" (func async)))"#, waits), Ok(()));
        let refusal = link(r#""a:b/c" (instance $i (export "f" (func)))"#, waits).expect_err("its callers cannot wait");
        assert!(refusal.contains("expected an async function, found one of sync type"), "{refusal}");
    }

    #[test]
    fn an_import_with_a_label_is_found_by_the_interface_that_it_implements() {
        let import = r#""my-label" (implements "a:b/c@1.0.0") (instance $i (export "f" (func)))"#;
        let provided = |interface| link(import, |linker| linker.func(interface, "f", |_, ()| Ok(())));
        assert_eq!(provided("a:b/c@1.2.0"), Ok(()));
        assert_eq!(provided("my-label"), Ok(()), "a host may know the label");
        let refusal = provided("a:b/d").expect_err("nobody has it");
        assert!(refusal.contains("`my-label#f` is not provided: this host has no interface `a:b/c`"), "{refusal}");
    }

    #[test]
    fn versions_match_as_semantic_versioning_says() {
        let matches = |a: &str, b: &str| compatible(split_version(a).1, split_version(b).1);
        assert!(matches("a:b/c@0.3.0", "a:b/c@0.3.2"));
        assert!(!matches("a:b/c@0.2.9", "a:b/c@0.3.2"));
        assert!(matches("a:b/c@1.2.0", "a:b/c@1.9.0"));
        assert!(!matches("a:b/c@1.2.0", "a:b/c@2.0.0"));
        assert!(!matches("a:b/c@0.0.1", "a:b/c@0.0.2"));
        assert!(!matches("a:b/c", "a:b/c@0.3.0"));
        assert!(matches("a:b/c@0.3.0-rc-2026", "a:b/c@0.3.0"));
    }
}
