//! Directives, one after the other.
//!
//! Names are those of the script: definitions are components that nobody has linked yet, instances have a zone each. The newest
//! instance is the one that an `invoke` without a name means.

use super::host::{self, Drops, Host};
use super::imports::{Imports, Known};
use super::instance::{Called, Instance};
use super::{messages, value};
use crate::component::{self, Compiled, translate};
use crate::executor;
use crate::host::linker::Linker;
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmparser::types::Types;
use wasmparser::{Parser, Validator, WasmFeatures};
use wasmtime::Engine;
use wast::token::Id;
use wast::{QuoteWat, WastDirective, WastExecute, WastInvoke, Wat};

/// A script that is being run.
pub(super) struct Script<'a> {
    engine: &'a Engine,
    features: WasmFeatures,
    compiled: Rc<CompiledComponents>,
    linker: Linker,
    drops: Rc<Drops>,
    deadline: Instant,
    definitions: HashMap<String, Definition>,
    instances: HashMap<String, Rc<Instance>>,
    newest_definition: Option<Definition>,
    newest: Option<Rc<Instance>>,
    /// Assertions that held.
    pub assertions: usize,
}

/// What a script has compiled, by its bytes: for the next run of it.
#[derive(Default)]
pub(crate) struct CompiledComponents(RefCell<HashMap<Vec<u8>, Arc<Compiled>>>);

/// A component that can be instantiated.
#[derive(Clone)]
struct Definition {
    compiled: Arc<Compiled>,
    imports: Imports,
}

/// Why a component has no instance.
enum Refused {
    Link(String),
    Trap(String),
}

impl<'a> Script<'a> {
    pub fn new(
        engine: &'a Engine,
        features: WasmFeatures,
        timeout: Duration,
        compiled: Rc<CompiledComponents>,
    ) -> Self {
        Script {
            engine,
            features,
            compiled,
            linker: host::linker(),
            drops: Rc::default(),
            deadline: executor::now() + timeout,
            definitions: HashMap::new(),
            instances: HashMap::new(),
            newest_definition: None,
            newest: None,
            assertions: 0,
        }
    }

    /// Runs one directive. An error says why the script fails.
    pub async fn run(&mut self, directive: WastDirective<'_>) -> Result<()> {
        let asserts = !matches!(
            directive,
            WastDirective::Module(_)
                | WastDirective::ModuleDefinition(_)
                | WastDirective::ModuleInstance { .. }
                | WastDirective::Register { .. }
                | WastDirective::Invoke(_)
        );
        self.directive(directive).await?;
        ensure!(executor::now() < self.deadline, "the script did not finish in time");
        self.assertions += usize::from(asserts);
        Ok(())
    }

    async fn directive(&mut self, directive: WastDirective<'_>) -> Result<()> {
        use WastDirective as D;
        match directive {
            D::Module(module) => self.module(module),
            D::ModuleDefinition(module) => self.definition(module),
            D::ModuleInstance { instance, module, .. } => self.module_instance(instance, module),
            D::Register { name, module, .. } => self.register(name, module),
            D::Invoke(invoke) => self.invoke(&invoke).await?.returned().map(drop),
            D::AssertReturn { exec: WastExecute::Invoke(invoke), results, .. } => {
                value::expect(self.invoke(&invoke).await?.returned()?.as_ref(), &results)
            }
            D::AssertTrap { exec: WastExecute::Invoke(call), message, .. }
            | D::AssertExhaustion { call, message, .. } => match self.invoke(&call).await? {
                // What runs on after the result, before anybody looks at it, may be what the script means.
                Called::Trapped(trap) | Called::Returned { then: Some(trap), .. } => says("trap", &trap, message),
                Called::Returned { value, then: None } => {
                    bail!("expected a trap, \"{message}\", but it returned {value:?}")
                }
            },
            D::AssertTrap { exec: WastExecute::Wat(wat), message, .. } => self.assert_start_traps(wat, message),
            D::AssertInvalid { module, message, .. } | D::AssertMalformed { module, message, .. } => {
                self.assert_rejected(module, message)
            }
            D::AssertUnlinkable { module, message, .. } => self.assert_unlinkable(module, message),
            D::AssertReturn { .. } | D::AssertTrap { .. } => bail!("unsupported: `get` of a core module's global"),
            D::AssertException { .. } => bail!("unsupported: exceptions"),
            D::AssertSuspension { .. } => bail!("unsupported: stack switching"),
            D::AssertInvalidCustom { .. } | D::AssertMalformedCustom { .. } => bail!("unsupported: custom sections"),
            D::Thread(_) | D::Wait { .. } => bail!("unsupported: threads of a script"),
        }
    }

    fn module(&mut self, module: QuoteWat<'_>) -> Result<()> {
        let name = module.name();
        let definition = self.define(module)?;
        self.instantiate_named(name, definition)
    }

    fn definition(&mut self, module: QuoteWat<'_>) -> Result<()> {
        let name = module.name();
        let definition = self.define(module)?;
        self.definitions.extend(name.map(|id| (id.name().to_string(), definition.clone())));
        self.newest_definition = Some(definition);
        Ok(())
    }

    fn module_instance(&mut self, name: Option<Id<'_>>, module: Option<Id<'_>>) -> Result<()> {
        let definition = match module {
            Some(id) => self.definitions.get(id.name()).cloned(),
            None => self.newest_definition.clone(),
        };
        self.instantiate_named(name, definition.context("no such definition")?)
    }

    fn register(&mut self, name: &str, module: Option<Id<'_>>) -> Result<()> {
        let instance = self.instance(module)?;
        self.instances.insert(name.to_string(), instance);
        Ok(())
    }

    fn define(&self, module: QuoteWat<'_>) -> Result<Definition> {
        let (bytes, imports) = self.read(module)?;
        self.compile(&bytes, imports)
    }

    fn compile(&self, bytes: &[u8], imports: Imports) -> Result<Definition> {
        if let Some(compiled) = self.compiled.0.borrow().get(bytes) {
            return Ok(Definition { compiled: compiled.clone(), imports });
        }
        // What is valid and yet refused is what we cannot run.
        let compiled = component::compile_with(self.engine, bytes, self.features).context("unsupported")?;
        let compiled = Arc::new(compiled);
        self.compiled.0.borrow_mut().insert(bytes.to_vec(), compiled.clone());
        Ok(Definition { compiled, imports })
    }

    /// A valid component, and what it imports.
    fn read(&self, mut module: QuoteWat<'_>) -> Result<(Vec<u8>, Imports)> {
        let bytes = module.encode().map_err(|error| anyhow!("{}", error.message()))?;
        ensure!(Parser::is_component(&bytes), "unsupported: a core module outside of a component");
        let types = self.validate(&bytes).map_err(|error| anyhow!("not a valid component: {error}"))?;
        let imports = Imports::of(&bytes, &types);
        Ok((bytes, imports))
    }

    fn validate(&self, bytes: &[u8]) -> std::result::Result<Types, wasmparser::BinaryReaderError> {
        Validator::new_with_features(self.features).validate_all(bytes)
    }

    fn known(&self) -> Known {
        Known::new(&self.linker, self.instances.keys())
    }

    fn instantiate(&self, definition: Definition) -> std::result::Result<Instance, Refused> {
        definition.imports.check(&self.known()).map_err(Refused::Link)?;
        let component = self.linker.link(self.engine, definition.compiled);
        let component = component.map_err(|error| Refused::Link(error.to_string()))?;
        Instance::new(component, Host::new(&self.drops)).map_err(Refused::Trap)
    }

    fn instantiate_named(&mut self, name: Option<Id<'_>>, definition: Definition) -> Result<()> {
        let instance = match self.instantiate(definition) {
            Ok(instance) => Rc::new(instance),
            Err(Refused::Trap(trap)) => bail!("instantiation trapped: {trap}"),
            Err(Refused::Link(error)) => return Err(unsupported(&error)),
        };
        self.instances.extend(name.map(|id| (id.name().to_string(), instance.clone())));
        self.newest = Some(instance);
        Ok(())
    }

    fn instance(&self, name: Option<Id<'_>>) -> Result<Rc<Instance>> {
        match name {
            Some(id) => self.instances.get(id.name()).cloned().with_context(|| format!("no instance `{}`", id.name())),
            None => self.newest.clone().context("no instance before this"),
        }
    }

    async fn invoke(&self, invoke: &WastInvoke<'_>) -> Result<Called> {
        let instance = self.instance(invoke.module)?;
        let params = invoke.args.iter().map(value::argument).collect::<Result<_>>()?;
        instance.call(invoke.name, params, self.deadline).await
    }

    fn assert_start_traps(&self, wat: Wat<'_>, message: &str) -> Result<()> {
        match self.instantiate(self.define(QuoteWat::Wat(wat))?) {
            Ok(_) => bail!("expected a trap, \"{message}\", but it was instantiated"),
            Err(Refused::Trap(trap)) => says("trap", &trap, message),
            Err(Refused::Link(error)) => Err(unsupported(&error)),
        }
    }

    /// The text cannot be read, or the validator refuses it, or the translator does so in the very words that are expected: the
    /// limits of wasmtime's translator, which is ours too, are in its scripts.
    fn assert_rejected(&self, mut module: QuoteWat<'_>, message: &str) -> Result<()> {
        let bytes = match module.encode() {
            Ok(bytes) => bytes,
            Err(error) => return says("error", &error.message(), message),
        };
        if let Err(error) = self.validate(&bytes) {
            return says("error", &error.to_string(), message);
        }
        match translate::translate_with(&bytes, self.features) {
            Err(error) if messages::says(&format!("{error:#}"), message) => Ok(()),
            _ => bail!("expected the error \"{message}\", but it is valid"),
        }
    }

    fn assert_unlinkable(&self, module: Wat<'_>, message: &str) -> Result<()> {
        let (bytes, imports) = self.read(QuoteWat::Wat(module))?;
        // Before it is compiled: what we cannot run may lack an import all the same.
        if let Err(error) = imports.check(&self.known()) {
            return says("error", &error, message);
        }
        match self.instantiate(self.compile(&bytes, imports)?) {
            Err(Refused::Link(error)) => says("error", &error, message),
            Err(Refused::Trap(trap)) => bail!("expected a link error, \"{message}\", but it trapped: {trap}"),
            Ok(_) => bail!("expected a link error, \"{message}\", but it was instantiated"),
        }
    }
}

fn says(what: &str, actual: &str, expected: &str) -> Result<()> {
    ensure!(
        messages::says(actual, expected),
        "expected the {what} \"{expected}\", got \"{}\"",
        super::first_line(actual)
    );
    Ok(())
}

/// Components of a script can import from the host, not from each other.
fn unsupported(error: &str) -> anyhow::Error {
    anyhow!("unsupported: {error}")
}
