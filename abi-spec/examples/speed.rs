//! How many operations the model executes per second: `cargo run --release -p abi-spec --example speed`.
#![expect(clippy::print_stdout, reason = "this is what it is for")]

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use abi_spec::accept::accept;
use abi_spec::generate::{Shape, program};
use abi_spec::profile::Profile;
use abi_spec::program::Program;
use abi_spec::sched::{Fifo, Seeded, run};
use abi_spec::world::{Code, World};

/// How long each measurement takes at least.
const AT_LEAST: Duration = Duration::from_secs(1);

fn main() {
    measure("streams: write, read, event", &[world(&streams())]);
    measure("calls: host -> guest -> guest, return", &[world(&calls())]);
    let random: Vec<World> = (1..200).map(|seed| world(&program(Shape::Threads, seed))).collect();
    measure("200 random programs, from their beginning", &random);
    acceptor(&random);
}

fn world(program: &Program) -> World {
    World::new(Profile::R1, Arc::new(Code { program: program.clone(), extensions: Vec::new() }))
}

fn report(name: &str, ops: usize, took: Duration) {
    println!("{name:45} {:6.2} million operations/s", ops as f64 / took.as_secs_f64() / 1e6);
}

fn measure(name: &str, worlds: &[World]) {
    let (mut ops, start) = (0, Instant::now());
    while start.elapsed() < AT_LEAST {
        for world in worlds {
            ops += run(world.clone(), &mut Fifo).log.len();
        }
    }
    report(name, ops, start.elapsed());
}

/// Follows a log, keeping all worlds that explain it.
fn acceptor(worlds: &[World]) {
    let logs: Vec<_> = worlds.iter().map(|world| run(world.clone(), &mut Seeded::new(1)).log).collect();
    let (mut ops, start) = (0, Instant::now());
    while start.elapsed() < AT_LEAST {
        for (world, log) in worlds.iter().zip(&logs) {
            let accepted = accept(world.clone(), log);
            assert!(accepted.is_ok(), "the model refuses its own log: {accepted:?}");
            ops += log.len();
        }
    }
    report("the same, accepted", ops, start.elapsed());
}

fn parse(text: &str) -> Program {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn streams() -> Program {
    let mut text =
        "instance - -\nfunc 1 async stackful 0 - - - -\nhost 1\nscript\nstream.new u8 1 2\nwaitable-set.new 3\n\
                    waitable.join 2 s3\n"
            .to_owned();
    for _ in 0..300 {
        let _ = writeln!(text, "stream.write u8 async 2 0 4\nstream.read u8 async 1 16 8\nwaitable-set.poll 3 plain");
    }
    parse(&(text + "resolve #0\nscript\ncall 0 async #0 #0 #0 0 1\n"))
}

fn calls() -> Program {
    let mut text =
        "instance - -\ninstance - -\nfunc 1 async stackful 0 - - - -\nfunc 2 async callback 1 u32:0 - - u32\n\
                    host 2\nscript\n"
            .to_owned();
    for _ in 0..300 {
        text.push_str("call 1 async #1 #0 #0 1 2\n");
    }
    parse(&(text + "resolve #0\nscript\ntask.return s0\nscript\ncall 0 async #0 #0 #0 0 1\n"))
}
