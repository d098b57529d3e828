//! The scripts of `tests/conformance` on wasmtime's component runtime and on ours: both say the same, except where they are
//! known to differ.
//!
//! A known divergence is a script in `conformance/divergences`: it holds on ours, and fails on wasmtime's in the way that it says.
//! So each of them tells us when it goes away. Our side is the binary, as people run it.
//!
//! Scripts in `conformance/lab` are about what wasmtime does not have. Its host does not read 64-bit pointers yet, so those in
//! `conformance/memory64` are ours alone until it does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use wasmtime::{Config, Engine};
use wasmtime_wast::{Async, SpectestConfig, WastContext};

/// A script that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(20);

/// Calls of components are deep without optimization.
const STACK_BYTES: usize = 16 << 20;

/// The directories of scripts that are not compared.
const ONLY_OURS: [&str; 2] = ["lab", MEMORY64];
const MEMORY64: &str = "memory64";

/// The key of a header that says why a script fails.
const KNOWN_FAILURE: &str = "known_failure";

/// Before what wasmtime answers to a divergence.
const THEIR_ANSWER: &str = ";; wasmtime: ";

/// What a run of a script gave: `Err` says why it failed.
type Verdict = Result<(), String>;

#[test]
fn both_engines_agree_on_the_conformance_scripts() {
    let scripts = scripts(&conformance());
    let is_compared = |script: &&PathBuf| !ONLY_OURS.iter().any(|folder| is_in(script, folder));
    let (divergences, common): (Vec<_>, Vec<_>) =
        scripts.iter().filter(is_compared).partition(|script| is_in(script, "divergences"));
    assert!(!common.is_empty() && !divergences.is_empty(), "the scripts are not where they were");
    let mut wrong = Vec::new();
    for script in common {
        let (ours, theirs) = (ours(script), theirs(script));
        let holds = !is_known_to_fail(script);
        if ours.is_ok() != holds || theirs.is_ok() != holds {
            wrong.push(format!("{}\n  interflow: {}\n  wasmtime:  {}", script.display(), shown(&ours), shown(&theirs)));
        }
    }
    assert!(wrong.is_empty(), "{} scripts are answered differently:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_other_host_still_has_no_64_bit_pointers() {
    let script = conformance().join(MEMORY64).join("to-the-host.wast");
    assert_eq!(ours(&script), Ok(()));
    assert!(theirs(&script).is_err(), "it has them by now: the scripts in {MEMORY64} can be compared like all others");
}

#[test]
fn known_divergences_are_still_there() {
    let mut wrong = Vec::new();
    for script in scripts(&conformance().join("divergences")) {
        if let Err(fault) = ours(&script) {
            wrong.push(format!("{}: it is written for our answer, and does not hold: {fault}", script.display()));
        }
        let says = their_answer(&script);
        match theirs(&script) {
            Ok(()) => wrong.push(format!("{}: wasmtime agrees by now, so it is no divergence", script.display())),
            Err(fault) if !fault.contains(&says) => {
                wrong.push(format!("{}: expected of wasmtime \"{says}\", got {fault}", script.display()));
            }
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a script says of wasmtime's answer, on a line of its own: part of the fault that its runner finds.
fn their_answer(script: &Path) -> String {
    let text = text(script);
    let answer = text.lines().find_map(|line| line.strip_prefix(THEIR_ANSWER));
    answer.unwrap_or_else(|| panic!("{} has no line `{THEIR_ANSWER}`", script.display())).to_string()
}

fn shown(verdict: &Verdict) -> &str {
    match verdict {
        Ok(()) => "holds",
        Err(fault) => fault,
    }
}

fn conformance() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

/// Is a script in this directory of `conformance`?
fn is_in(script: &Path, directory: &str) -> bool {
    script.parent().is_some_and(|parent| parent.ends_with(directory))
}

fn is_known_to_fail(script: &Path) -> bool {
    header(&text(script)).iter().any(|(key, _)| *key == KNOWN_FAILURE)
}

/// The `;;!` lines, as keys and values.
fn header(text: &str) -> Vec<(&str, &str)> {
    let lines = text.lines().map_while(|line| line.strip_prefix(";;!"));
    let pairs = lines.map(|line| match line.split_once('=') {
        Some((key, value)) => (key.trim(), value.trim()),
        None => panic!("the header line `{line}` has no value"),
    });
    pairs.collect()
}

fn text(script: &Path) -> String {
    std::fs::read_to_string(script).unwrap_or_else(|error| panic!("{}: {error}", script.display()))
}

/// All scripts below `directory`, in order.
fn scripts(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.expect("a directory can be read").path();
        if path.is_dir() {
            found.extend(scripts(&path));
        } else if path.extension().is_some_and(|extension| extension == "wast") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A script that is known to fail fails here.
fn ours(script: &Path) -> Verdict {
    // target/debug/deps/differential-0123 -> target/debug/interflow
    let tests = std::env::current_exe().expect("a process has a binary");
    let binary = tests.ancestors().nth(2).expect("tests are in target/PROFILE/deps").join("interflow");
    assert!(binary.exists(), "{} is not there: run `make differential`, which builds it", binary.display());
    let output = Command::new(binary).args(["wast", "--log", "off"]).arg(script).output().expect("it can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() && text.starts_with("ok ") {
        true => Ok(()),
        false => Err(text.lines().next().unwrap_or("it says nothing").to_string()),
    }
}

fn theirs(script: &Path) -> Verdict {
    let name = script.display().to_string();
    let text = text(script);
    let config = config(&text);
    let (sender, receiver) = mpsc::channel();
    let run = move || {
        // wasmtime may panic where it finds a bug of its own.
        let verdict = catch_unwind(AssertUnwindSafe(|| run_on_wasmtime(&config, &name, &text)));
        // Nobody listens any more to one that took too long.
        drop(sender.send(verdict.unwrap_or_else(|_| Err("wasmtime panicked".to_string()))));
    };
    thread::Builder::new().stack_size(STACK_BYTES).spawn(run).expect("there are threads");
    receiver.recv_timeout(LIMIT).unwrap_or_else(|_| Err(format!("wasmtime did not finish in {LIMIT:?}")))
}

fn run_on_wasmtime(config: &Config, name: &str, text: &str) -> Verdict {
    let fault = |error: wasmtime::Error| format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
    let engine = Engine::new(config).map_err(fault)?;
    let mut context = WastContext::new(&engine, Async::Yes, |_| {});
    context.register_spectest(&SpectestConfig { use_shared_memory: false, suppress_prints: true }).map_err(fault)?;
    context.run_wast(name, text.as_bytes()).map_err(fault)
}

/// Everything that our engine has by default, except what the script switches off.
fn config(text: &str) -> Config {
    let mut config = Config::new();
    for feature in FEATURES {
        (feature.switch)(&mut config, true);
    }
    for (key, value) in header(text) {
        match FEATURES.iter().find(|feature| feature.key == key) {
            Some(feature) => drop((feature.switch)(&mut config, value == "true")),
            None => assert_eq!(key, KNOWN_FAILURE, "the header has a key that is not in `FEATURES`"),
        }
    }
    config
}

/// A key of headers, and what it switches.
struct Feature {
    key: &'static str,
    switch: fn(&mut Config, bool) -> &mut Config,
}

const FEATURES: &[Feature] = &[
    Feature { key: "component_model_async", switch: Config::wasm_component_model_async },
    Feature { key: "component_model_more_async_builtins", switch: Config::wasm_component_model_more_async_builtins },
    Feature { key: "component_model_async_stackful", switch: Config::wasm_component_model_async_stackful },
    Feature { key: "component_model_threading", switch: Config::wasm_component_model_threading },
    Feature { key: "component_model_error_context", switch: Config::wasm_component_model_error_context },
    Feature { key: "component_model_fixed_length_lists", switch: Config::wasm_component_model_fixed_length_lists },
    Feature { key: "component_model_map", switch: Config::wasm_component_model_map },
    Feature { key: "component_model_implements", switch: Config::wasm_component_model_implements },
    Feature { key: "component_model_memory64", switch: Config::wasm_component_model_memory64 },
    Feature { key: "function_references", switch: Config::wasm_function_references },
    Feature { key: "gc", switch: Config::wasm_gc },
    Feature { key: "exceptions", switch: Config::wasm_exceptions },
];
