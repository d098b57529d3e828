//! Logs of the reference implementation, as `traces/record.py` writes them.

use std::collections::BTreeSet;
use std::sync::Arc;

use abi_spec::accept::{Acceptor, Refusal, accept};
use abi_spec::explore::{Views, explore};
use abi_spec::op::{Outcome, Record};
use abi_spec::profile::Profile;
use abi_spec::program::Program;
use abi_spec::world::{Code, Ending, World};

/// A program, and what its bodies saw.
pub struct Trace {
    pub name: String,
    pub program: Program,
    pub logs: Vec<Log>,
}

/// What the reference showed in one run.
pub struct Log {
    pub records: Vec<Record>,
    /// Nobody could run any more; otherwise the log ends with a trap.
    pub ended: bool,
}

impl Trace {
    pub fn world(&self, profile: Profile) -> World {
        World::new(profile, Arc::new(Code { program: self.program.clone(), extensions: Vec::new() }))
    }

    /// Whether the model explains all logs.
    pub fn accept(&self, profile: Profile) -> Result<(), Refusal> {
        self.logs.iter().try_for_each(|log| {
            if log.ended {
                return accept(self.world(profile), &log.records);
            }
            let mut acceptor = Acceptor::new(self.world(profile));
            log.records.iter().try_for_each(|record| acceptor.observe(record))
        })
    }

    /// What the model shows in some schedule and the reference in none of its runs.
    pub fn unseen(&self, profile: Profile) -> Vec<Shown> {
        let seen: BTreeSet<Shown> = self.logs.iter().map(|log| shown(&log.records, log.ended)).collect();
        let explored = explore(self.world(profile), 20_000);
        assert!(explored.complete, "{} has too many schedules", self.name);
        let ends = explored.ends.into_iter().map(|end| {
            let mut views = end.views;
            views.retain(|_, view| {
                view.retain(|(_, outcome)| !matches!(outcome, Outcome::Trap(_)));
                !view.is_empty()
            });
            (views, !matches!(end.ending, Ending::Trapped(_)))
        });
        let unseen: BTreeSet<Shown> = ends.filter(|end| !seen.contains(end)).collect();
        unseen.into_iter().collect()
    }
}

/// What bodies saw, and whether the run ended without a trap.
pub type Shown = (Views, bool);

fn shown(records: &[Record], ended: bool) -> Shown {
    let mut views = Views::new();
    for Record { inst, run, at, outcome } in records.iter().filter(|record| record.outcome != Outcome::SomeTrap) {
        views.entry((*inst, *run)).or_default().push((*at, outcome.clone()));
    }
    (views, ended)
}

/// All logs that are checked in.
pub fn all_traces() -> Vec<Trace> {
    let files = [
        ("scenario", include_str!("../../traces/scenarios.txt")),
        ("small", include_str!("../../traces/small.txt")),
        ("single", include_str!("../../traces/single.txt")),
        ("calls", include_str!("../../traces/calls.txt")),
        ("threads", include_str!("../../traces/threads.txt")),
    ];
    files.into_iter().flat_map(|(name, text)| traces(name, text)).collect()
}

/// Reads a file of traces.
pub fn traces(name: &str, text: &str) -> Vec<Trace> {
    let traces = text.split("program ").skip(1).filter_map(|part| {
        let (number, part) = part.split_once('\n').expect("a number");
        let (program, logs) = part.split_once("log\n").expect("a log");
        let promise = program.lines().find_map(|line| line.strip_prefix("// ")).unwrap_or(name);
        let program = program.parse().unwrap_or_else(|error| panic!("{name} {number}: {error}"));
        // Without the runs in which the reference itself was at its end.
        let logs: Vec<Log> = logs.split("log\n").filter(|log| !log.contains("the reference")).map(parse_log).collect();
        let some = !logs.is_empty();
        some.then(|| Trace { name: format!("{promise} ({number})"), program, logs })
    });
    traces.collect()
}

fn parse_log(log: &str) -> Log {
    let lines = || log.lines().filter(|line| !line.is_empty());
    let ended = lines().any(|line| line == "end");
    let records = lines().filter(|line| *line != "end").map(|line| line.parse().expect("a record")).collect();
    Log { records, ended }
}
