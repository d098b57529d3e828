//! Random programs on the model: its own invariants, and its own promises.
//! `SEED=7 cargo test -p abi-spec --test programs` begins at another seed.

use std::collections::BTreeMap;
use std::sync::Arc;

use abi_spec::accept::accept;
use abi_spec::ext::shipped;
use abi_spec::generate::{Shape, program, scrambled};
use abi_spec::op::{Arg, Op};
use abi_spec::profile::{Profile, Revision, WhenReady};
use abi_spec::program::Program;
use abi_spec::sched::{Cx, Fifo, Rng, Seeded, run};
use abi_spec::world::{Code, Ending, Progress, World};

const SHAPES: [Shape; 3] = [Shape::Single, Shape::Calls, Shape::Threads];

fn seeds(count: u64) -> std::ops::Range<u64> {
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    eprintln!("SEED={first}");
    first..first + count
}

fn world(program: &Program, profile: Profile) -> World {
    World::new(profile, Arc::new(Code { program: program.clone(), extensions: Vec::new() }))
}

#[test]
fn invariants_hold_between_all_turns_of_random_programs() {
    for shape in SHAPES {
        let mut endings: BTreeMap<String, u32> = BTreeMap::new();
        let mut records = 0;
        for seed in seeds(400) {
            let mut world = world(&program(shape, seed), Profile::R1);
            let (mut chooser, mut log) = (Seeded::new(seed), Vec::new());
            while world.advance(&mut Cx { chooser: &mut chooser, log: &mut log }) == Progress::Ran {
                world.check_invariants().unwrap_or_else(|wrong| panic!("{shape:?} {seed}: {wrong}"));
            }
            let ending = match world.ending() {
                Ending::Stuck(_) => "stuck".to_owned(),
                ending => format!("{ending:?}"),
            };
            *endings.entry(ending).or_default() += 1;
            records += log.len();
        }
        eprintln!("{shape:?}: {records} records, {endings:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in seeds(50) {
        let program = program(Shape::Threads, seed);
        let runs = [0, 1].map(|_| run(world(&program, Profile::R1), &mut Seeded::new(seed)));
        assert_eq!(runs[0].log, runs[1].log);
        assert!(runs[0].world == runs[1].world);
    }
}

#[test]
fn a_program_is_the_same_after_being_written_and_read() {
    for shape in SHAPES {
        for seed in seeds(100) {
            let program = program(shape, seed);
            assert_eq!(program.to_string().parse(), Ok(program));
        }
    }
}

#[test]
fn every_run_of_the_model_is_accepted() {
    for shape in SHAPES {
        for seed in seeds(60) {
            let program = program(shape, seed);
            for run in [
                run(world(&program, Profile::R1), &mut Fifo),
                run(world(&program, Profile::R1), &mut Seeded::new(seed)),
            ] {
                let accepted = accept(world(&program, Profile::R1), &run.log);
                assert_eq!(accepted, Ok(()), "{shape:?} {seed}");
            }
        }
    }
}

/// A program that makes little sense, with operations of extensions in it.
fn strange(seed: u64) -> Program {
    let mut program = scrambled(SHAPES[seed as usize % 3], seed);
    let mut rng = Rng(seed);
    for op in program.scripts.iter_mut().flatten().filter(|op| !matches!(op, Op::Call { .. })) {
        if rng.one_in(12) {
            *op = Op::Ext { ext: rng.below(3) as u8, args: [Arg::Slot(1), Arg::Slot(2), Arg::Imm(3)] };
        }
    }
    program
}

#[test]
fn no_program_makes_the_model_contradict_itself_under_any_profile() {
    let deterministic = Profile { when_ready: WhenReady::Block, ..Profile::R1 };
    let quirky_r2 = Profile { revision: Revision::R2, ..Profile::WASMTIME_48 };
    for profile in [Profile::R1, Profile::R2, Profile::WASMTIME_48, deterministic, quirky_r2] {
        for seed in seeds(600) {
            let mut world = World::new(profile, Arc::new(Code { program: strange(seed), extensions: shipped() }));
            let (mut chooser, mut log) = (Seeded::new(seed), Vec::new());
            for step in 0.. {
                assert!(step < 10_000, "{seed} does not end");
                if world.advance(&mut Cx { chooser: &mut chooser, log: &mut log }) == Progress::Idle {
                    break;
                }
                world.check_invariants().unwrap_or_else(|wrong| panic!("{profile:?} {seed}: {wrong}"));
            }
        }
    }
}
