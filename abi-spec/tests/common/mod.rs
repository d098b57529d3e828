//! Logs of the reference implementation, as `traces/record.py` writes them.

use std::sync::Arc;

use abi_spec::accept::{Acceptor, Refusal, accept};
use abi_spec::op::Record;
use abi_spec::profile::Profile;
use abi_spec::program::Program;
use abi_spec::world::{Code, World};

/// A program, and what its bodies saw.
pub struct Trace {
    pub name: String,
    pub program: Program,
    pub log: Vec<Record>,
    /// Nobody could run any more; otherwise the log ends with a trap.
    pub ended: bool,
}

impl Trace {
    pub fn world(&self, profile: Profile) -> World {
        World::new(profile, Arc::new(Code { program: self.program.clone(), extensions: Vec::new() }))
    }

    pub fn accept(&self, profile: Profile) -> Result<(), Refusal> {
        if self.ended {
            return accept(self.world(profile), &self.log);
        }
        let mut acceptor = Acceptor::new(self.world(profile));
        self.log.iter().try_for_each(|record| acceptor.observe(record))
    }
}

/// Reads a file of traces.
pub fn traces(name: &str, text: &str) -> Vec<Trace> {
    let traces = text.split("program ").skip(1).filter_map(|part| {
        let (number, part) = part.split_once('\n').expect("a number");
        let (program, log) = part.split_once("log\n").expect("a log");
        // The reference itself was at its end.
        if log.contains("the reference") {
            return None;
        }
        let program = program.parse().unwrap_or_else(|error| panic!("{name} {number}: {error}"));
        let lines = || log.lines().filter(|line| !line.is_empty());
        let ended = lines().any(|line| line == "end");
        let log = lines().filter(|line| *line != "end").map(|line| line.parse().expect("a record")).collect();
        Some(Trace { name: format!("{name} {number}"), program, log, ended })
    });
    traces.collect()
}
