//! Makes a program that shows something smaller, as long as it still shows it.
//! Operations refer to slots, and an empty slot is harmless, so every part of a program is a program.

use crate::op::{Mode, Op};
use crate::program::Program;

/// A program that is no larger, of which `shows` holds, and of which it would not hold after any one more deletion.
pub fn shrink(mut program: Program, shows: impl Fn(&Program) -> bool) -> Program {
    loop {
        let before = size(&program);
        host_scripts(&mut program, &shows);
        operations(&mut program, &shows);
        simplify(&mut program, &shows);
        if size(&program) == before {
            return program;
        }
    }
}

/// What gets smaller: operations, then numbers in them.
fn size(program: &Program) -> (usize, usize, u64) {
    let numbers = program.scripts.iter().flatten().map(|op| match op {
        Op::Copy { ptr, n, mode, .. } => u64::from(*ptr) + u64::from(*n) + u64::from(*mode == Mode::Sync),
        _ => 0,
    });
    (program.host.len(), program.len(), numbers.sum())
}

fn attempt(program: &mut Program, shows: &impl Fn(&Program) -> bool, change: impl Fn(&mut Program)) -> bool {
    let mut smaller = program.clone();
    change(&mut smaller);
    let still = shows(&smaller);
    if still {
        *program = smaller;
    }
    still
}

fn host_scripts(program: &mut Program, shows: &impl Fn(&Program) -> bool) {
    for at in (0..program.host.len()).rev() {
        attempt(program, shows, |program| {
            program.host.remove(at);
        });
    }
}

/// Deletes stretches of scripts: halves, then quarters, and so on to single operations.
fn operations(program: &mut Program, shows: &impl Fn(&Program) -> bool) {
    for script in 0..program.scripts.len() {
        let mut chunk = program.scripts[script].len();
        while chunk > 0 {
            let mut end = program.scripts[script].len();
            while end > 0 {
                let start = end.saturating_sub(chunk);
                attempt(program, shows, |program| {
                    program.scripts[script].drain(start..end);
                });
                // One by one: what belongs together need not begin where a stretch does.
                end = if end > program.scripts[script].len() { start } else { end - 1 };
            }
            chunk /= 2;
        }
    }
}

fn simplify(program: &mut Program, shows: &impl Fn(&Program) -> bool) {
    for script in 0..program.scripts.len() {
        for at in 0..program.scripts[script].len() {
            attempt(program, shows, |program| {
                if let Op::Copy { mode, ptr, .. } = &mut program.scripts[script][at] {
                    *mode = Mode::Async;
                    *ptr = 0;
                }
            });
            attempt(program, shows, |program| {
                if let Op::Copy { n, .. } = &mut program.scripts[script][at] {
                    *n = (*n).min(1);
                }
            });
        }
    }
}
