//! Prints random programs, for other implementations to run: `programs SHAPE FIRST_SEED COUNT`.
//! SHAPE is `single`, `calls`, `threads`, `scrambled` (of these, with operations out of place), or `small`: calls and threads with few schedules that end in several ways.
#![expect(clippy::print_stdout, reason = "this is what it is for")]

use std::sync::Arc;

use abi_spec::explore::explore;
use abi_spec::generate::{Shape, program, scrambled};
use abi_spec::profile::Profile;
use abi_spec::program::Program;
use abi_spec::world::{Code, World};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |at: usize, default| args.get(at).and_then(|arg| arg.parse().ok()).unwrap_or(default);
    let shape = args.get(1).map_or("calls", String::as_str);
    let programs = (number(2, 1)..).filter_map(|seed: u64| match shape {
        "single" => Some((seed, program(Shape::Single, seed))),
        "threads" => Some((seed, program(Shape::Threads, seed))),
        "scrambled" => Some((seed, scrambled([Shape::Calls, Shape::Threads, Shape::Single][seed as usize % 3], seed))),
        "small" => small(seed).map(|program| (seed, program)),
        _ => Some((seed, program(Shape::Calls, seed))),
    });
    for (seed, program) in programs.take(number(3, 1) as usize) {
        println!("program {seed}\n{program}");
    }
}

/// A program whose schedules can all be tried, and are worth it.
fn small(seed: u64) -> Option<Program> {
    let shape = if seed.is_multiple_of(2) { Shape::Calls } else { Shape::Threads };
    let program = program(shape, seed);
    let code = Code { program: program.clone(), extensions: Vec::new() };
    let explored = explore(World::new(Profile::R1, Arc::new(code)), 200);
    let ends = explored.ends.len();
    (explored.complete && (2..=6).contains(&ends) && program.len() > 12).then_some(program)
}
