//! Sequences of built-ins, by two instances and the host.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(
    // Compiling the puppets takes longer than any input.
    init: fuzz::builtins::prepare(),
    |data: &[u8]| fuzz::builtins::run(data)
);

fuzz_mutator!(|data: &mut [u8], size: usize, _max_size: usize, seed: u32| { fuzz::builtins::mutate(data, size, seed) });
