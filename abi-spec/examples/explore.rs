//! Tries all schedules of a program and tells what they show: `explore FILE`.
#![expect(clippy::print_stdout, reason = "this is what it is for")]

use std::sync::Arc;

use abi_spec::explore::explore;
use abi_spec::profile::Profile;
use abi_spec::program::Program;
use abi_spec::world::{Code, World};

/// Worlds after which it gives up.
const WORLDS_MAX: usize = 100_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("which program? explore FILE")?;
    let program: Program = std::fs::read_to_string(&file)?.parse()?;
    let code = Code { program, extensions: Vec::new() };
    print!("{}", explore(World::new(Profile::R1, Arc::new(code)), WORLDS_MAX).report());
    Ok(())
}
