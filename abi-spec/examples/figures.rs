//! Prints the figures of README.md.
#![expect(clippy::print_stdout, reason = "this is what it is for")]

use abi_spec::figure::{Subject, figure};

fn main() {
    for subject in [Subject::Subtask, Subject::StreamEnd] {
        println!("{}", figure(subject));
    }
}
