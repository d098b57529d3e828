//! `interflow explore`: schedules that go wrong are found, shown and run again; where none does, nothing is found.
//! No driver does I/O here: an exploration has none.

use super::support::guest;
use super::support::process::{Finished, run};
use super::support::server::{binary, scratch};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Runs `interflow explore` with these files and arguments.
fn explore(files: &[PathBuf], args: &[&str]) -> Finished {
    let mut command = Command::new(binary());
    command.arg("explore").args(files).args(args.iter().map(OsString::from)).env_remove("INTERFLOW_LOG");
    run(&mut command, Duration::from_secs(60))
}

fn guests(names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| guest(name)).collect()
}

fn script(name: &str) -> Vec<PathBuf> {
    vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("schedules").join(name)]
}

/// The schedule that an exploration says to run again.
fn schedule(finished: &Finished) -> String {
    let text = finished.text();
    let last = text.lines().last().unwrap_or_default();
    let (_, schedule) = last.rsplit_once("--replay ").unwrap_or_else(|| panic!("no schedule in {text}"));
    schedule.to_string()
}

/// The rows of the table in an output.
fn table(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("| ")).collect()
}

fn expect(finished: &Finished, code: i32, expected: &[&str]) {
    let text = finished.text();
    assert_eq!(finished.code, Some(code), "{text}\n{}", finished.stderr);
    for expected in expected {
        assert!(text.contains(expected), "no `{expected}` in\n{text}");
    }
}

/// Two at once, with bodies of two chunks.
const TWO_UPLOADS: [&str; 8] = ["--request", "POST /echo", "--request", "POST /echo", "--body", "ab", "--body", "cd"];

#[test]
fn a_deadlock_of_two_middlewares_is_found_in_ten_seconds_and_runs_again() {
    let chain = guests(&["uploads", "downloads", "echo"]);
    let start = Instant::now();
    let found = explore(&chain, &TWO_UPLOADS);
    let elapsed = start.elapsed();
    expect(
        &found,
        1,
        &[
            "it deadlocks:",
            "uploads: task 1 waits until echo reads",
            "echo: task 4 waits until downloads reads",
            "downloads: task 3 waits until echo writes",
            "first come, first served, all goes well; not so here",
        ],
    );
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
    let schedule = schedule(&found);
    let again = explore(&chain, &[&TWO_UPLOADS[..], &["--replay", &schedule]].concat());
    expect(&again, 1, &["it deadlocks:", "uploads: task 1 waits until echo reads"]);
    assert!(table(&again.text()).len() > 20, "{}", again.text());
    assert_eq!(table(&found.text()), table(&again.text()));
    let first = explore(&chain, &[&TWO_UPLOADS[..], &["--replay", "first"]].concat());
    expect(&first, 0, &["it comes to this result:", "abcd"]);
}

#[test]
fn each_of_these_middlewares_is_good_alone() {
    for middleware in ["uploads", "downloads"] {
        let chain = guests(&[middleware, "echo"]);
        let found = explore(&chain, &[&TWO_UPLOADS[..], &["--depth", "1"]].concat());
        expect(&found, 0, &["nothing found: the bound was reached"]);
    }
}

#[test]
fn a_chain_without_a_fault_is_tried_to_the_end() {
    let found = explore(&guests(&["middleware", "hello"]), &[]);
    expect(&found, 0, &["nothing found: all schedules were tried"]);
    let runs: u32 =
        found.text().lines().last().and_then(|line| line.split(' ').next()?.parse().ok()).expect("a number");
    assert!(runs > 10, "there is more than one schedule: {}", found.text());
}

#[test]
fn a_result_that_depends_on_the_schedule_is_found_in_a_script() {
    let found = explore(&script("first-of-two.wast"), &[]);
    expect(
        &found,
        1,
        &["it fails: ", "first-of-two.wast:", "expected U32(10), got U32(20)", "| choice", "event: 2 of 2"],
    );
    let again = explore(&script("first-of-two.wast"), &["--replay", &schedule(&found)]);
    expect(&again, 1, &["expected U32(10), got U32(20)"]);
    assert_eq!(table(&found.text()), table(&again.text()));
    for right in ["both-of-two.wast", "two-callees.wast"] {
        expect(&explore(&script(right), &[]), 0, &["nothing found: all schedules were tried"]);
    }
}

#[test]
fn the_same_input_is_the_same_search() {
    let chain = guests(&["log", "hello"]);
    let args = ["--runs", "60", "--json"];
    let (one, two) = (explore(&chain, &args).success(), explore(&chain, &args).success());
    assert_eq!(one.text(), two.text());
    let deadlock = |seed: &str| {
        explore(&guests(&["uploads", "downloads", "echo"]), &[&TWO_UPLOADS[..], &["--seed", seed]].concat())
    };
    let (one, two) = (deadlock("7"), deadlock("7"));
    assert_eq!(one.text(), two.text());
    assert!(one.text().contains("--seed 7 --replay "), "{}", one.text());
}

#[test]
fn a_trap_is_found_and_says_where() {
    let found = explore(&guests(&["trap"]), &["--request", "GET /trap"]);
    expect(&found, 1, &["it fails: it traps: ", "unreachable", "first come, first served, as here"]);
}

#[test]
fn time_passes_when_nobody_can_go_on() {
    let found = explore(&guests(&["echo"]), &["--request", "GET /slow/3600000", "--replay", "first"]);
    expect(&found, 0, &["waited 3600000 ms"]);
}

#[test]
fn a_command_is_run() {
    let command = |result: u32| {
        let text = format!(
            r#"(component
                (core module $m (func (export "run") (result i32) (i32.const {result})))
                (core instance $i (instantiate $m))
                (func $run async (result (result)) (canon lift (core func $i "run")))
                (instance $e (export "run" (func $run)))
                (export "wasi:cli/run@0.3.0" (instance $e)))"#
        );
        let file = scratch("explore").join(format!("command-{result}.wasm"));
        std::fs::write(&file, wat::parse_str(text).expect("a component")).expect("the target directory can be written");
        vec![file]
    };
    expect(&explore(&command(0), &["--replay", "first"]), 0, &["it comes to this result:", "Ok(())", "command-0"]);
    expect(&explore(&command(1), &[]), 0, &["nothing found: all schedules were tried"]);
    let asked = explore(&command(0), &["--request", "GET /"]);
    assert_eq!(asked.code, Some(2), "{}", asked.stderr);
    assert!(asked.stderr.contains("a command takes no requests"), "{}", asked.stderr);
}

#[test]
fn nothing_leaves_an_exploration() {
    let args =
        ["--header", "x-url-a: http://127.0.0.1:1/", "--header", "x-url-b: http://127.0.0.1:1/", "--replay", "first"];
    let found = explore(&guests(&["fan_out"]), &args);
    expect(&found, 0, &["502", "client.send is denied: nobody is outside"]);
}

#[test]
fn a_guest_that_spins_is_a_fault() {
    let found = explore(&guests(&["spin"]), &["--request", "GET /spin"]);
    expect(&found, 1, &["it fails: it traps: ", "a guest runs on without a pause"]);
}

#[test]
fn the_report_for_machines_says_the_same() {
    let found = explore(&script("first-of-two.wast"), &["--json"]);
    let expected = [
        r#""kind": "fault""#,
        r#""replay": "4:1""#,
        r#""message": "#,
        r#""column": "choice""#,
        r#""text": "calls run""#,
        r#""complete": false"#,
    ];
    expect(&found, 1, &expected);
    let text = found.text();
    assert!(text.starts_with('{') && text.trim_end().ends_with('}'), "{text}");
}
