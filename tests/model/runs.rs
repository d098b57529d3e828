//! What runs of many programs have to say, also when they pass.

use std::fmt::Arguments;
use std::io::{Write, stderr};

/// Prints a line whether or not the test passes: what macros print of a test that passes is not shown.
pub(crate) fn report(line: Arguments<'_>) {
    // A reader that has gone does not make a program wrong.
    let _ = writeln!(stderr(), "{line}");
}
