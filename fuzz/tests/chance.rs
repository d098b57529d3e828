//! The targets without a fuzzer: what comes of chance alone, from the inputs that a fuzzer begins with.
//!
//! So `make test` knows that the targets run, and runs a few thousand inputs that nobody thought about. `INPUTS=100000 SEED=7`
//! runs as many of each kind, beginning elsewhere. An input that harms us is written down for `make fuzz TARGET=.. FILE=..`.

use fuzz::random::Random;
use fuzz::{builtins, components, corpus, text};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// One target at a time: stacks are counted for the process.
static RUNNING: Mutex<()> = Mutex::new(());

/// Bytes of an input, as `make fuzz` has it.
const COMPONENT_MAX: usize = 16384;
const PROGRAM_MAX: usize = 481;
/// Changes that an input has seen, at most.
const CHANGES_MAX: usize = 6;

/// An input that runs. If it is dropped by a panic, it is written down.
struct Input<'a> {
    target: &'a str,
    seed: u64,
    bytes: &'a [u8],
}

impl Drop for Input<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let artifacts = root().join("fuzz/artifacts").join(self.target);
        let file = artifacts.join(format!("seed-{}", self.seed));
        match std::fs::create_dir_all(&artifacts).and_then(|()| std::fs::write(&file, self.bytes)) {
            Ok(()) => eprintln!("SEED={} INPUTS=1 does it again; the input: {}", self.seed, file.display()),
            Err(error) => eprintln!("SEED={} INPUTS=1 does it again; the input is not written: {error}", self.seed),
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is in a directory").to_path_buf()
}

fn number(name: &str, default: u64) -> u64 {
    let asked = std::env::var(name).ok();
    asked.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

/// Runs `count` inputs, if nobody asks for more: each is one of `first`, and has been changed by `mutate` a few times.
fn run_changed(
    target: &str,
    count: u64,
    first: &[corpus::Input],
    len_max: usize,
    mutate: fn(&mut [u8], usize, u32) -> usize,
    run: fn(&[u8]),
) {
    let _running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let (seed, count) = (number("SEED", 1), number("INPUTS", count));
    eprintln!("{target}: SEED={seed} INPUTS={count}");
    let mut buffer = vec![0; len_max];
    for seed in seed..seed + count {
        let mut random = Random::new(seed);
        let (_, bytes) = &first[random.below(first.len())];
        let mut len = bytes.len().min(len_max);
        buffer[..len].copy_from_slice(&bytes[..len]);
        for _ in 0..random.below(CHANGES_MAX + 1) {
            len = mutate(&mut buffer, len, random.bits() as u32);
        }
        let input = Input { target, seed, bytes: &buffer[..len] };
        run(input.bytes);
    }
}

/// Other bytes in a few places, as a fuzzer has them.
fn flip(data: &mut [u8], size: usize, _max_size: usize) -> usize {
    let mut random = Random::of(&data[..size]);
    for _ in 0..1 + random.below(4) {
        let at = random.below(size);
        if let Some(byte) = data[..size].get_mut(at) {
            *byte = random.bits() as u8;
        }
    }
    size
}

#[test]
fn programs_of_built_ins_that_nobody_thought_about_harm_nobody() {
    builtins::prepare();
    run_changed("builtins", 3000, &corpus::programs(), PROGRAM_MAX, builtins::mutate, builtins::run);
}

#[test]
fn components_that_were_valid_once_harm_nobody() {
    let scripts = [root().join("tests/conformance")];
    let first = corpus::components(&scripts).expect("the scripts are there");
    assert!(first.len() > 150, "{} components in the scripts", first.len());
    let mutate = |data: &mut [u8], size, seed| text::mutate(data, size, seed, flip);
    run_changed("components", 1500, &first, COMPONENT_MAX, mutate, components::run);
}
