//! The acceptor: is a log one that some schedule allows?
//! It keeps every world that explains the log so far. A record advances all of them through all choices; a log that no
//! world explains breaks the law.
//! Knows nothing of who wrote the log. Logs have to be in the order in which things happened, over all instances.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use crate::elem::InstanceId;
use crate::op::{Outcome, Record};
use crate::sched::{Cx, Replay, exhaustive};
use crate::world::{Progress, World};

/// Worlds that the acceptor keeps at most; beyond, it doesn't know.
const WORLDS_MAX: usize = 4096;

/// Worlds that were met already. Most of the time goes into hashing them, and nobody chooses them to collide.
type Worlds = HashSet<World, BuildHasherDefault<Mix>>;

#[derive(Default)]
struct Mix(u64);

impl Mix {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        // The table looks at the highest bits and the lowest.
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.mix(word.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.mix(word.into());
    }

    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.mix(word as u64);
    }
}

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

    /// The log doesn't say what the host saw, but when each of its scripts began each operation, as the start of a body, and when that
    /// was over, as its return. In between it happened.
    pub fn with_silent_host(self) -> Acceptor {
        let scripts = |world: &World| world.program().host.len();
        let scripts = self.worlds.first().map_or(0, scripts);
        let set = |world| World { marks: Some(vec![0; scripts].into()), ..world };
        Acceptor { host_is_silent: true, worlds: self.worlds.into_iter().map(set).collect(), ..self }
    }

    /// Worlds that explain the log so far.
    pub fn worlds(&self) -> &[World] {
        &self.worlds
    }

    /// The next record.
    pub fn observe(&mut self, record: &Record) -> Result<(), Refusal> {
        match record.outcome {
            Outcome::Start(_) if self.is_of_silent_host(record) => return self.host_begins(record),
            Outcome::Ret(_) if self.is_of_silent_host(record) => return self.host_ended(record),
            _ => {}
        }
        let reached = self.expand()?;
        let mut kept = Worlds::default();
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

    fn is_of_silent_host(&self, record: &Record) -> bool {
        self.host_is_silent && record.inst == InstanceId::HOST
    }

    /// A script of the host may do an operation from now on.
    fn host_begins(&mut self, record: &Record) -> Result<(), Refusal> {
        self.worlds.iter_mut().for_each(|world| world.host_marks(record.run, 2 * record.at + 1));
        self.seen += 1;
        Ok(())
    }

    /// It has done it.
    fn host_ended(&mut self, record: &Record) -> Result<(), Refusal> {
        let mut worlds = Worlds::default();
        self.silent(|world| {
            if world.host_script_is_at(record.run, record.at + 1) {
                worlds.insert(world.clone());
            }
        })?;
        if worlds.is_empty() {
            return Err(self.forbidden(Some(record.clone()), Vec::new()));
        }
        self.worlds = worlds.into_iter().collect();
        self.worlds.iter_mut().for_each(|world| world.host_marks(record.run, 2 * record.at + 2));
        self.seen += 1;
        Ok(())
    }

    /// The log ends here, because nobody can run any more. The worlds that are left have ended.
    pub fn finish(&mut self) -> Result<(), Refusal> {
        let reached = self.expand()?;
        let ended = |(world, next): &(World, Option<Record>)| next.is_none() && world.host_is_where_the_log_says();
        if reached.iter().any(ended) {
            self.worlds = reached.into_iter().filter(ended).map(|(world, _)| world).collect();
            return Ok(());
        }
        Err(self.forbidden(None, reached.into_iter().filter_map(|(_, next)| next).collect()))
    }

    /// All ways to the next record or to the end.
    fn expand(&self) -> Result<Vec<(World, Option<Record>)>, Refusal> {
        self.silent(|_| {})
    }

    /// The same; shows each world on the way that a silent host may have left.
    fn silent(&self, mut on_the_way: impl FnMut(&World)) -> Result<Vec<(World, Option<Record>)>, Refusal> {
        let mut seen = Worlds::default();
        let mut open = self.worlds.clone();
        let mut reached = Vec::new();
        open.iter().for_each(&mut on_the_way);
        while let Some(world) = open.pop() {
            exhaustive(|replay| match self.step(&world, replay) {
                (next, Progress::Idle, _) => reached.push((next, None)),
                (next, Progress::Ran, Some(record)) => reached.push((next, Some(record))),
                (next, Progress::Ran, None) => {
                    // In the middle of a turn there is nothing to meet again, unless the host has had a part in it.
                    let meets = next.between_turns() || self.host_is_silent;
                    if !meets || seen.insert(next.clone()) {
                        on_the_way(&next);
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
        let world = if self.host_is_silent { world.canonical() } else { world };
        let silent = |record: &Record| {
            let trap = matches!(record.outcome, Outcome::Trap(_));
            self.is_of_silent_host(record) && !trap
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
