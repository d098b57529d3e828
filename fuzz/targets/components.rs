//! Components, from bytes to calls.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|data: &[u8]| fuzz::components::run(data));

fuzz_mutator!(|data: &mut [u8], size: usize, _max_size: usize, seed: u32| {
    fuzz::text::mutate(data, size, seed, fuzzer_mutate)
});
