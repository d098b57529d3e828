//! What the guests of one zone get of the system: arguments, environment, output, randomness.
//!
//! A `WasiCtxBuilder` says it for a service, once and for all threads; `build` makes the `WasiCtx` of one zone from it. There
//! is no working directory, because there is no file system.

use std::rc::Rc;
use std::sync::Arc;

use super::output::{Drains, Lines, Output, OutputSink, Stdio};
use super::random::Random;

/// What WASI's functions keep for one zone. Dropping it writes out what its guests have left of a line.
pub struct WasiCtx {
    /// Who the guests' output is from, `app#3`.
    pub name: String,
    pub(super) environment: Arc<Vec<(String, String)>>,
    pub(super) arguments: Arc<Vec<String>>,
    pub(super) stdout: Rc<Lines>,
    pub(super) stderr: Rc<Lines>,
    pub(super) random: Random,
    /// Who reads the streams that guests have given to `write-via-stream`.
    pub(super) drains: Drains,
}

/// What the zones of a service have in common. Cloning it, and building from it, copies no strings.
#[derive(Clone)]
pub struct WasiCtxBuilder {
    environment: Arc<Vec<(String, String)>>,
    arguments: Arc<Vec<String>>,
    sink: Arc<dyn OutputSink>,
}

impl Default for WasiCtxBuilder {
    fn default() -> Self {
        WasiCtxBuilder::new()
    }
}

impl WasiCtxBuilder {
    /// No arguments, no environment, output to ours.
    pub fn new() -> Self {
        WasiCtxBuilder { environment: Arc::default(), arguments: Arc::default(), sink: Arc::new(Stdio) }
    }

    /// Sets an environment variable; of two with one name the later counts.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        let environment = Arc::make_mut(&mut self.environment);
        match environment.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => environment.push((name, value)),
        }
        self
    }

    /// Appends an argument. By custom the first is the program's name.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.arguments).push(argument.into());
        self
    }

    /// Where the guests' lines go, instead of to our stdout and stderr.
    #[must_use]
    pub fn sink(mut self, sink: Arc<dyn OutputSink>) -> Self {
        self.sink = sink;
        self
    }

    /// What a zone gets. `name` is put before each line of its guests' output, `[name] line`; an empty one is not.
    pub fn build(&self, name: impl Into<String>) -> WasiCtx {
        let name = name.into();
        let lines = |output| Rc::new(Lines::new(&name, output, self.sink.clone()));
        WasiCtx {
            environment: self.environment.clone(),
            arguments: self.arguments.clone(),
            stdout: lines(Output::Stdout),
            stderr: lines(Output::Stderr),
            random: Random::default(),
            drains: Drains::default(),
            name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::WasiCtxBuilder;

    #[test]
    fn the_later_of_two_variables_with_one_name_counts() {
        let ctx = WasiCtxBuilder::new().env("A", "1").env("B", "2").env("A", "3").build("app#0");
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        assert_eq!(*ctx.environment, [pair("A", "3"), pair("B", "2")]);
    }

    #[test]
    fn builders_are_shared_by_threads_and_do_not_change_each_other() {
        fn shared<T: Send + Sync>(_: &T) {}
        let one = WasiCtxBuilder::new().arg("app");
        shared(&one);
        let two = one.clone().arg("--verbose");
        assert_eq!(*one.build("a").arguments, ["app"]);
        assert_eq!(*two.build("b").arguments, ["app", "--verbose"]);
    }
}
