//! What runs of many programs are asked for, and what they have to say.

use std::fmt::Arguments;
use std::io::{Write, stderr};

/// What the environment asks for: how many programs, and where to begin.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Prints a line whether or not the test passes: what macros print of a test that passes is not shown.
pub(crate) fn report(line: Arguments<'_>) {
    // A reader that has gone does not make a program wrong.
    let _ = writeln!(stderr(), "{line}");
}
