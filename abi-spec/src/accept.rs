//! The acceptor: is a log one that some schedule allows?
//! It keeps every world that explains the log so far. A record advances all of them through all choices; a log that no
//! world explains breaks the law.
//! Knows nothing of who wrote the log. Logs have to be in the order in which things happened, over all instances.

use std::collections::HashSet;
use std::fmt;

use crate::elem::InstanceId;
use crate::op::{Outcome, Record};
use crate::sched::{Cx, Replay, exhaustive};
use crate::world::{Progress, World};

/// Worlds that the acceptor keeps at most; beyond, it doesn't know.
const WORLDS_MAX: usize = 4096;

/// Why a log is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No schedule goes on like this.
    Forbidden {
        /// Records before this one.
        after: usize,
        /// The record, or the end of the log.
        seen: Option<Record>,
        /// What could have come instead; empty means that nobody can run.
        allowed: Vec<Record>,
    },
    /// There were too many worlds to keep.
    TooMany,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::TooMany => write!(f, "more than {WORLDS_MAX} worlds explain the log"),
            Refusal::Forbidden { after, seen, allowed } => {
                let seen = seen.as_ref().map_or("the end".to_owned(), Record::to_string);
                write!(f, "record {after} is {seen}, but the law allows only:")?;
                allowed.iter().try_for_each(|record| write!(f, " [{record}]"))
            }
        }
    }
}

/// Follows a log.
pub struct Acceptor {
    worlds: Vec<World>,
    seen: usize,
    host_is_silent: bool,
}

impl Acceptor {
    /// Before the first record.
    pub fn new(world: World) -> Acceptor {
        Acceptor { worlds: vec![world], seen: 0, host_is_silent: false }
    }

    /// The log doesn't say what the host saw, nor when.
    pub fn with_silent_host(self) -> Acceptor {
        Acceptor { host_is_silent: true, ..self }
    }

    /// Worlds that explain the log so far.
    pub fn worlds(&self) -> &[World] {
        &self.worlds
    }

    /// The next record.
    pub fn observe(&mut self, record: &Record) -> Result<(), Refusal> {
        let reached = self.expand()?;
        let mut kept = HashSet::new();
        let mut worlds = Vec::new();
        let mut allowed = Vec::new();
        for (world, next) in reached {
            match next {
                Some(next) if !next.explains(record) => allowed.push(next),
                Some(_) if kept.insert(world.clone()) => worlds.push(world),
                Some(_) | None => {}
            }
        }
        if worlds.is_empty() {
            return Err(self.forbidden(Some(record.clone()), allowed));
        }
        self.worlds = worlds;
        self.seen += 1;
        Ok(())
    }

    /// The log ends here, because nobody can run any more. The worlds that are left have ended.
    pub fn finish(&mut self) -> Result<(), Refusal> {
        let reached = self.expand()?;
        if reached.iter().any(|(_, next)| next.is_none()) {
            let ended = reached.into_iter().filter(|(_, next)| next.is_none());
            self.worlds = ended.map(|(world, _)| world).collect();
            return Ok(());
        }
        Err(self.forbidden(None, reached.into_iter().filter_map(|(_, next)| next).collect()))
    }

    /// All ways to the next record or to the end.
    fn expand(&self) -> Result<Vec<(World, Option<Record>)>, Refusal> {
        let mut seen = HashSet::new();
        let mut open = self.worlds.clone();
        let mut reached = Vec::new();
        while let Some(world) = open.pop() {
            exhaustive(|replay| match self.step(&world, replay) {
                (next, Progress::Idle, _) => reached.push((next, None)),
                (next, Progress::Ran, Some(record)) => reached.push((next, Some(record))),
                (next, Progress::Ran, None) => {
                    // In the middle of a turn there is nothing to meet again.
                    if !next.between_turns() || seen.insert(next.clone()) {
                        open.push(next);
                    }
                }
            });
            if open.len().max(reached.len()) > WORLDS_MAX {
                return Err(Refusal::TooMany);
            }
        }
        Ok(reached)
    }

    fn step(&self, world: &World, replay: &mut Replay) -> (World, Progress, Option<Record>) {
        let (world, progress, record) = step(world, replay);
        let silent = |record: &Record| {
            let trap = matches!(record.outcome, Outcome::Trap(_));
            self.host_is_silent && record.inst == InstanceId::HOST && !trap
        };
        (world, progress, record.filter(|record| !silent(record)))
    }

    fn forbidden(&self, seen: Option<Record>, mut allowed: Vec<Record>) -> Refusal {
        allowed.sort_unstable();
        allowed.dedup();
        Refusal::Forbidden { after: self.seen, seen, allowed }
    }
}

/// One small step. It logs at most one record: what follows is another step's.
fn step(world: &World, replay: &mut Replay) -> (World, Progress, Option<Record>) {
    let mut world = world.clone();
    let mut log = Vec::new();
    let progress = world.advance(&mut Cx { chooser: replay, log: &mut log });
    assert!(log.len() <= 1, "a step of the machine logged more than one record");
    (world, progress, log.pop())
}

/// Whether a whole log is allowed.
pub fn accept(world: World, log: &[Record]) -> Result<(), Refusal> {
    let mut acceptor = Acceptor::new(world);
    for record in log {
        acceptor.observe(record)?;
    }
    acceptor.finish()
}
