//! Choosers: what decides where the law leaves something open.
//! Same world, same picks, same run, on every machine; the seeded chooser has its own generator for that.
//! Knows nothing of what is chosen.

use crate::op::Record;
use crate::table::ThreadId;
use crate::world::{Ending, Progress, World};

/// What is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    /// Which ready thread runs next. CanonicalABI.md, Embedding.
    Thread(&'a [ThreadId]),
    /// Which thread of the instance runs while a synchronous call waits. CanonicalABI.md, canon lift.
    Sibling(&'a [ThreadId]),
    /// Which thread of a task is told of a cancellation. CanonicalABI.md, Tasks.
    Cancel(&'a [ThreadId]),
    /// Which event of a set comes first. CanonicalABI.md, Waitable State.
    Event,
    /// Whether a thread whose condition holds goes on (0) or blocks first (1). CanonicalABI.md, Threads.
    GoOn,
    /// Whether a call waits (0) or the exclusive task that it would wait for goes on first (1). No law: `Quirk::ReadyHolderFirst`.
    Holder,
    /// Whether a guest goes on (0) or one of these scripts of the host before it. No law: `Quirk::HostBeside`.
    Host(&'a [ThreadId]),
}

/// Decides.
pub trait Chooser {
    /// One of `0..options`; `options` is at least 2.
    fn pick(&mut self, choice: Choice<'_>, options: usize) -> usize;
}

/// What a step of the machine is given.
pub struct Cx<'a> {
    /// Decides.
    pub chooser: &'a mut dyn Chooser,
    /// What guests and host saw.
    pub log: &'a mut Vec<Record>,
}

impl Cx<'_> {
    /// Asks the chooser if there is something to choose.
    pub(crate) fn pick(&mut self, choice: Choice<'_>, options: usize) -> usize {
        if options < 2 { 0 } else { self.chooser.pick(choice, options).min(options - 1) }
    }
}

/// First come, first served; nobody blocks who need not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fifo;

impl Chooser for Fifo {
    fn pick(&mut self, _: Choice<'_>, _: usize) -> usize {
        0
    }
}

/// A small generator of random numbers (SplitMix64), the same on every machine.
#[derive(Clone, Copy, Debug)]
pub struct Rng(pub u64);

impl Rng {
    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        (((self.next_u64() >> 32) * n as u64) >> 32) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Decides at random.
#[derive(Clone, Copy, Debug)]
pub struct Seeded(pub Rng);

impl Seeded {
    /// With this seed.
    pub fn new(seed: u64) -> Seeded {
        Seeded(Rng(seed))
    }
}

impl Chooser for Seeded {
    fn pick(&mut self, _: Choice<'_>, options: usize) -> usize {
        self.0.below(options)
    }
}

/// Decides as it is told, then like `Fifo`; keeps what was decided and among how many.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// What to decide.
    pub picks: Vec<u8>,
    /// Among how many it was, for each decision so far.
    pub options: Vec<u8>,
}

impl Replay {
    /// Decides like this.
    pub fn new(picks: Vec<u8>) -> Replay {
        Replay { picks, options: Vec::new() }
    }
}

impl Chooser for Replay {
    fn pick(&mut self, _: Choice<'_>, options: usize) -> usize {
        let at = self.options.len();
        self.options.push(options.min(usize::from(u8::MAX)) as u8);
        if at == self.picks.len() {
            self.picks.push(0);
        }
        usize::from(self.picks[at])
    }
}

/// Calls `run` with a `Replay` for every way to decide, in order. `run` has to ask for the same decisions if its earlier
/// ones were the same.
pub fn exhaustive(mut run: impl FnMut(&mut Replay)) {
    let mut picks = Vec::new();
    loop {
        let mut replay = Replay::new(picks);
        run(&mut replay);
        let asked = replay.options.len();
        picks = replay.picks;
        picks.truncate(asked);
        loop {
            let Some(last) = picks.pop() else { return };
            if last + 1 < replay.options[picks.len()] {
                picks.push(last + 1);
                break;
            }
        }
    }
}

/// A run of a program to its end.
pub struct Run {
    /// What guests and host saw.
    pub log: Vec<Record>,
    /// How it ended.
    pub ending: Ending,
    /// What is left.
    pub world: World,
}

/// Steps after which a run is taken to be endless. Scripts have no loops, so only a broken law comes near it.
const STEPS_MAX: u32 = 1_000_000;

/// Runs a world to its end.
pub fn run(mut world: World, chooser: &mut dyn Chooser) -> Run {
    let mut log = Vec::new();
    for _ in 0..STEPS_MAX {
        if world.advance(&mut Cx { chooser, log: &mut log }) == Progress::Idle {
            break;
        }
    }
    Run { ending: world.ending(), log, world }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exhaustive_meets_every_combination_once() {
        let mut seen = Vec::new();
        exhaustive(|replay| {
            let first = replay.pick(Choice::Event, 2);
            let second = if first == 0 { replay.pick(Choice::Event, 3) } else { 9 };
            seen.push((first, second));
        });
        assert_eq!(seen, [(0, 0), (0, 1), (0, 2), (1, 9)]);
    }

    #[test]
    fn the_seeded_chooser_is_the_same_everywhere() {
        let mut rng = Rng(1);
        let numbers = [rng.below(100), rng.below(100), rng.below(100), rng.below(100)];
        assert_eq!(numbers, [56, 74, 97, 44]);
    }
}
