//! What is explored of a script: its directives, one after the other, each call under all schedules.
//!
//! A directive that does not hold is a fault. Components are compiled once, and linked and instantiated in each run.

use super::{Outcome, Subject};
use crate::abi::is_deadlock;
use crate::executor::Executor;
use crate::ring::{self, IoMode};
use crate::sim::Sim;
use crate::wast::{self, CompiledComponents};
use std::rc::Rc;
use std::time::Duration;
use wasmtime::Engine;

/// How long a directive may wait, in virtual time, before it is said to be in vain.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A script that is explored.
pub(crate) struct Script {
    engine: Engine,
    name: String,
    text: String,
    compiled: Rc<CompiledComponents>,
    driver: ring::Choice,
}

/// Why a script cannot be explored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScriptError {
    /// The user's to mend.
    #[error("{name}:{line}: {message}")]
    Text { name: String, line: usize, message: String },
    #[error("no executor: {0}")]
    Driver(String),
}

impl Script {
    /// The script `text` of the file `name`.
    ///
    /// # Errors
    /// When it is no script, or the system has no descriptors left.
    pub fn new(engine: &Engine, name: String, text: String) -> Result<Script, ScriptError> {
        if let Err(wast::Fault { line, message }) = wast::check(&text) {
            return Err(ScriptError::Text { name, line, message });
        }
        let driver = ring::probe(IoMode::Epoll).map_err(|error| ScriptError::Driver(error.to_string()))?;
        Ok(Script { engine: engine.clone(), name, text, compiled: Rc::default(), driver })
    }
}

impl Subject for Script {
    fn run(&self, sim: &Rc<Sim>) -> Outcome {
        let executor = match Executor::new(&self.driver) {
            Ok(executor) => executor,
            Err(error) => return Outcome::Fault(format!("no executor: {error}")),
        };
        let run = wast::run_compiled(&self.engine, &self.text, TIMEOUT, self.compiled.clone());
        let Some(report) = executor.simulate(sim, run) else {
            return Outcome::Deadlock("the script waits for something of the host that does not come".to_string());
        };
        match report.outcome {
            wast::Outcome::Passed => Outcome::Done("the script holds".to_string()),
            wast::Outcome::KnownFailure { fault, .. } => Outcome::Done(fault.message),
            wast::Outcome::Failed(fault) => {
                let text = format!("{}:{}: {}", self.name, fault.line, fault.message);
                if is_deadlock(&text) { Outcome::Deadlock(text) } else { Outcome::Fault(text) }
            }
        }
    }

    fn has_timers(&self) -> bool {
        // Only ours, which ask now and then whether anything can still happen.
        false
    }

    fn names(&self) -> Vec<(u32, u32, String)> {
        Vec::new()
    }
}
