//! Prints random programs, for other implementations to run: `programs SHAPE FIRST_SEED COUNT`.
#![expect(clippy::print_stdout, reason = "this is what it is for")]

use abi_spec::generate::{Shape, program};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let shape = match args.get(1).map(String::as_str) {
        Some("single") => Shape::Single,
        Some("threads") => Shape::Threads,
        _ => Shape::Calls,
    };
    let number = |at: usize, default| args.get(at).and_then(|arg| arg.parse().ok()).unwrap_or(default);
    let first: u64 = number(2, 1);
    for seed in first..first + number(3, 1) {
        println!("program {seed}\n{}", program(shape, seed));
    }
}
