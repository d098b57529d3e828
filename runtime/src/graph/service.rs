//! A chain that is loaded, linked and checked: everything about it that workers share.

use crate::abi::{Component, Limits, SLICE};
use crate::component::cache::Cache;
use crate::component::compose::Link;
use crate::component::{self, LoadError};
use crate::executor::between_looks;
use crate::host::linker::{LinkError, Linker};
use crate::host::wasi::WasiCtxBuilder;
use crate::host::wasi::http::{HANDLE, HandleExport};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::Engine;

/// How a service is run. The defaults are those of `interflow serve`.
#[derive(Clone)]
pub struct ServiceConfig {
    /// Requests that one zone takes at once.
    pub concurrent_max: NonZeroUsize,
    /// Requests after which a zone is retired.
    pub requests_max: NonZeroUsize,
    /// Zones of one worker.
    pub zones_max: NonZeroUsize,
    /// Requests of one worker that wait for a place; those beyond are turned away.
    pub queue_max: usize,
    /// How long a guest may take until its response begins, and to finish after its response has ended.
    pub timeout: Duration,
    /// Bytes of linear memory of one zone.
    pub memory_bytes_max: usize,
    /// What guests see of the system.
    pub wasi: WasiCtxBuilder,
    /// Offer the experiments of `lab:`.
    pub lab: bool,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        let count = |n| NonZeroUsize::new(n).expect("not zero");
        ServiceConfig {
            concurrent_max: count(64),
            requests_max: count(100_000),
            zones_max: count(256),
            queue_max: 1024,
            timeout: Duration::from_secs(30),
            memory_bytes_max: 512 << 20,
            wasi: WasiCtxBuilder::new(),
            lab: false,
        }
    }
}

impl ServiceConfig {
    /// The bounds of one zone.
    pub fn limits(&self) -> Limits {
        // A request is given up before its guest is stopped for this.
        let longest = self.timeout.saturating_add(2 * between_looks(self.timeout));
        let slices = longest.as_millis() / SLICE.as_millis();
        Limits {
            memory_bytes_max: self.memory_bytes_max,
            slices_max: u32::try_from(slices).unwrap_or(u32::MAX).max(1),
            ..Limits::default()
        }
    }
}

/// A linked chain.
pub struct Service {
    /// What zones are made of.
    pub component: Component,
    /// Its `wasi:http/handler`.
    pub handle: HandleExport,
    /// How it is run.
    pub config: ServiceConfig,
    /// The name that its guests' output is prefixed with.
    pub name: String,
}

/// Why a chain cannot be served. Each is the user's to mend.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A file is not what it should be, or the files do not fit together.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The chain imports what this host does not have.
    #[error("{files}")]
    Link {
        /// The chain.
        files: String,
        /// What is missing.
        source: LinkError,
    },
    /// The handler is not one.
    #[error("{files}: {reason}")]
    Handler {
        /// The chain.
        files: String,
        /// How its type differs.
        reason: String,
    },
}

impl Service {
    /// Loads `chain`, outermost first, and links it to this host.
    ///
    /// # Errors
    /// When it cannot be served; the message names file, import and what would satisfy it.
    pub fn load(
        engine: &Engine,
        chain: &[Link],
        cache: Option<&Cache>,
        config: ServiceConfig,
    ) -> Result<Arc<Service>, ServiceError> {
        let compiled = component::load(engine, chain, cache)?;
        let files = chain.iter().map(|link| link.name.as_str()).collect::<Vec<_>>().join(" -> ");
        let mut linker = Linker::new();
        crate::host::wasi::link(&mut linker);
        match config.lab {
            true => crate::host::lab::link(&mut linker),
            false => crate::host::lab::withhold(&mut linker),
        }
        let component = linker
            .link(engine, Arc::new(compiled))
            .map_err(|source| ServiceError::Link { files: files.clone(), source })?;
        let handle = component
            .export(HANDLE)
            .map_err(|error| ServiceError::Handler { files: files.clone(), reason: format!("{error:#}") })?;
        let name = chain.last().map_or_else(String::new, |link| short_name(&link.name).to_string());
        Ok(Arc::new(Service { component, handle, config, name }))
    }
}

/// `target/app.wasm` is `app`.
fn short_name(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.strip_suffix(".wasm").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_stopped_only_after_its_request_was_given_up() {
        for timeout in [Duration::ZERO, Duration::from_millis(300), Duration::from_secs(30), Duration::MAX] {
            let config = ServiceConfig { timeout, ..ServiceConfig::default() };
            let stopped_after = SLICE.saturating_mul(config.limits().slices_max);
            let given_up_after = timeout.saturating_add(between_looks(timeout));
            // Nobody waits for more slices than can be counted.
            assert!(given_up_after < stopped_after || config.limits().slices_max == u32::MAX, "{timeout:?}");
        }
    }
}
