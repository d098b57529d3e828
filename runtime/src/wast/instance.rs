//! One component instance of a script: a zone, and the task that drives it.

use super::host::Host;
use crate::abi::{CallError, Component, Limits, Zone};
use crate::executor::{self, JoinHandle};
use crate::host::value::dynamic::{self, Value};
use crate::sim::{self, Column};
use anyhow::{Result, anyhow, bail};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a call may rest before we ask whether anything can still happen to it.
const REST: Duration = Duration::from_millis(1);

/// Some scripts are about strings as long as a memory can hold.
const MEMORY_BYTES_MAX: usize = 8 << 30;

/// What a dead instance answers (wasmtime's words).
const DEAD: &str = "cannot enter component instance";

/// An instance with nothing running in it but what its own guests do.
pub(super) struct Instance {
    component: Component,
    zone: Zone,
    host: Rc<Host>,
    driver: JoinHandle<()>,
}

/// What came of a call.
pub(super) enum Called {
    Returned {
        value: Option<Value>,
        /// The trap of what ran on after that.
        then: Option<String>,
    },
    Trapped(String),
}

impl Called {
    /// The result of a call that should have one.
    pub fn returned(self) -> Result<Option<Value>> {
        match self {
            Called::Returned { value, .. } => Ok(value),
            Called::Trapped(trap) => bail!("it trapped: {trap}"),
        }
    }
}

impl Instance {
    /// Instantiates `component`; the error is the trap of a start function, or a lack of memory.
    pub fn new(component: Component, host: Host) -> std::result::Result<Instance, String> {
        let host = Rc::new(host);
        // One job at a time: a script looks at a result before the rest of its instance goes on.
        let limits = Limits { memory_bytes_max: MEMORY_BYTES_MAX, jobs_per_entry: 1, ..Limits::default() };
        let zone = Zone::new(&component, limits, host.clone()).map_err(|error| error.root_cause().to_string())?;
        let driver = executor::spawn(zone.drive());
        Ok(Instance { component, zone, host, driver })
    }

    /// Calls export `name`. An error is the script's fault, or a call that did not end in time.
    pub async fn call(&self, name: &str, params: Vec<Value>, deadline: Instant) -> Result<Called> {
        let Some(export) = self.component.export_dynamic(name) else { bail!("no exported function `{name}`") };
        let types = &self.component.compiled().plan.types;
        dynamic::check_params(&params, types[export.ty()].params, types)
            .map_err(|error| anyhow!("`{name}`: {error}"))?;
        if self.zone.poison().is_some() {
            return Ok(Called::Trapped(DEAD.to_string()));
        }
        if let Some(sim) = sim::current() {
            sim.note(Column::Script, name, || format!("calls {name}"));
        }
        let mut call = self.zone.call_dynamic(export, params);
        let outcome = loop {
            match executor::timeout(REST, &mut call).await {
                Ok(outcome) => break outcome,
                Err(_) if self.zone.poison().is_some() => bail!("the zone died, and `{name}` does not know"),
                Err(_) if self.driver.is_finished() => bail!("the engine panicked"),
                Err(_) if deadline <= executor::now() => {
                    self.zone.kill("it took too long");
                    bail!("`{name}` did not finish in time");
                }
                Err(_) => self.zone.deadlock().into_iter().for_each(|report| self.zone.kill(&report)),
            }
        };
        Ok(match (outcome, self.zone.poison()) {
            (Err(CallError::Trap(reason)), _) => Called::Trapped(reason.to_string()),
            (Err(CallError::Cancelled), _) => Called::Trapped("the call was cancelled".to_string()),
            (Ok(value), then) => Called::Returned { value, then: then.map(|reason| reason.to_string()) },
        })
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // A store that is dropped drops no resources as far as guests can see.
        self.host.close();
        self.zone.kill("the script is done with it");
    }
}
