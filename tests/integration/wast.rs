//! `interflow wast`: which scripts hold, what is said of those that do not, and when there is nothing to run.

use super::support::process::{Finished, run};
use super::support::server::{binary, scratch};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Runs `interflow wast` with these arguments.
fn wast<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Finished {
    let mut command = Command::new(binary());
    command.arg("wast").args(args.into_iter().map(Into::into)).env_remove("INTERFLOW_LOG");
    run(&mut command, Duration::from_secs(60))
}

fn directory(name: &str) -> PathBuf {
    let directory = scratch("wast").join(name);
    // A run before may have left it.
    drop(std::fs::remove_dir_all(&directory));
    std::fs::create_dir_all(&directory).expect("the target directory can be written");
    directory
}

fn script(name: &str, text: &str) -> PathBuf {
    let file = scratch("wast").join(name);
    std::fs::write(&file, text).expect("the target directory can be written");
    file
}

/// Our own scripts.
fn conformance() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

/// How many scripts are below `directory`.
fn count(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).expect("it is there").map(|entry| entry.expect("it can be read").path());
    entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
}

/// A component whose function `run` has this body.
fn component(body: &str) -> String {
    format!(
        r#"(component
            (core module $m (func (export "run") (result i32) {body}))
            (core instance $i (instantiate $m))
            (func (export "run") (result u32) (canon lift (core func $i "run"))))"#
    )
}

#[test]
fn our_own_scripts_hold() {
    let finished = wast([conformance()]).success();
    let text = finished.text();
    let files = count(&conformance());
    let expected = format!("{files} files: {} passed, 0 failed, 1 known to fail; ", files - 1);
    assert!(text.lines().last().is_some_and(|line| line.starts_with(&expected)), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("ok   ")).count(), files - 1, "{text}");
    assert!(text.contains("known-failure ") && text.contains("known-failure.wast:7: the promise is wrong"), "{text}");
}

#[test]
fn the_report_for_machines_says_the_same() {
    let finished = wast([OsString::from("--json"), conformance().into()]).success();
    let text = finished.text();
    for expected in [r#""status": "ok""#, r#""status": "known-failure""#, r#""failed": 0"#, r#""assertions": "#] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
    assert!(text.starts_with('{') && text.trim_end().ends_with('}'), "{text}");
}

#[test]
fn a_script_that_does_not_hold_is_told_with_its_line() {
    let one = component("(i32.const 1)");
    let lines = one.lines().count();
    let cases = [
        ("wrong-result.wast", r#"(assert_return (invoke "run") (u32.const 2))"#, "expected U32(2), got U32(1)"),
        ("no-trap.wast", r#"(assert_trap (invoke "run") "unreachable")"#, "expected a trap, \"unreachable\""),
        ("no-export.wast", r#"(assert_return (invoke "walk"))"#, "no exported function `walk`"),
        (
            "wrong-type.wast",
            r#"(assert_return (invoke "run" (u32.const 1)) (u32.const 1))"#,
            "expected 0 parameters, found 1",
        ),
        ("valid.wast", "(assert_invalid (component) \"bad\")", "expected the error \"bad\", but it is valid"),
        (
            "wrong-error.wast",
            r#"(assert_invalid (component (export "a" (func 0))) "bad")"#,
            "expected the error \"bad\", got",
        ),
        ("core-module.wast", "(module)", "unsupported: a core module outside of a component"),
    ];
    for (name, directive, expected) in cases {
        let file = script(name, &format!("{one}\n{directive}\n"));
        let finished = wast([&file]);
        assert_eq!(finished.code, Some(1), "{name}: {finished:?}");
        let text = finished.text();
        let place = format!("FAIL {}:{}: ", file.display(), lines + 1);
        assert!(text.contains(&place) && text.contains(expected), "{name}: expected {place}{expected} in\n{text}");
        assert!(text.contains("1 files: 0 passed, 1 failed; 0 assertions"), "{text}");
        assert!(finished.stderr.is_empty(), "{}", finished.stderr);
    }
}

#[test]
fn another_trap_than_the_expected_one_fails() {
    let text = format!("{}\n(assert_trap (invoke \"run\") \"out of bounds\")\n", component("unreachable"));
    let finished = wast([script("other-trap.wast", &text)]);
    assert_eq!(finished.code, Some(1));
    assert!(finished.text().contains("expected the trap \"out of bounds\", got \"wasm trap: wasm `unreachable`"));
}

#[test]
fn a_text_that_cannot_be_read_fails_at_its_place() {
    let file = script("syntax.wast", "(component)\n(component\n  (core module $m (funk)))\n");
    let finished = wast([&file]);
    assert_eq!(finished.code, Some(1));
    assert!(finished.text().contains(&format!("FAIL {}:3: ", file.display())), "{}", finished.text());
    let file = script("header.wast", ";;! colour = \"blue\"\n(component)\n");
    let finished = wast([&file]);
    assert_eq!(finished.code, Some(1));
    assert!(finished.text().contains(&format!("FAIL {}:1: the `;;!` header: ", file.display())), "{}", finished.text());
}

#[test]
fn a_known_failure_that_heals_is_a_failure() {
    let finished = wast([script("heals.wast", ";;! known_failure = \"not yet\"\n(component)\n")]);
    assert_eq!(finished.code, Some(1));
    assert!(finished.text().contains("heals: it passes"), "{}", finished.text());
}

#[test]
fn a_guest_that_spins_is_stopped_and_the_next_script_runs() {
    let spin = component("(loop $l (br $l)) (i32.const 0)");
    let directory = directory("spins");
    std::fs::write(directory.join("a.wast"), format!("{spin}\n(assert_return (invoke \"run\") (u32.const 0))\n"))
        .unwrap();
    let fine = component("(i32.const 3)");
    std::fs::write(directory.join("b.wast"), format!("{fine}\n(assert_return (invoke \"run\") (u32.const 3))\n"))
        .unwrap();
    let start = Instant::now();
    let finished = wast([directory.into_os_string(), "--timeout".into(), "0.3".into()]);
    assert!(start.elapsed() < Duration::from_secs(20), "it took {:?}", start.elapsed());
    assert_eq!(finished.code, Some(1));
    let text = finished.text();
    assert!(text.contains("`run` did not finish in time"), "{text}");
    assert!(text.contains("2 files: 1 passed, 1 failed; 1 assertions"), "{text}");
}

#[test]
fn directories_are_searched_to_the_bottom_in_order() {
    let directory = directory("deep");
    std::fs::create_dir(directory.join("b")).unwrap();
    for name in ["c.wast", "a.wast", "b/z.wast", "b/notes.txt"] {
        std::fs::write(directory.join(name), "(component)").unwrap();
    }
    let text = wast([&directory]).success().text();
    let order: Vec<usize> = ["a.wast", "z.wast", "c.wast"].iter().map(|name| text.find(name).unwrap()).collect();
    assert!(order.is_sorted(), "{text}");
    assert!(text.contains("3 files: 3 passed, 0 failed; 0 assertions"), "{text}");
}

#[test]
fn nothing_to_run_is_bad_input() {
    let empty = directory("empty");
    let cases = [(PathBuf::from("no/such/file.wast"), "cannot read no/such/file.wast"), (empty, "no .wast file in it")];
    for (path, expected) in cases {
        let finished = wast([&path]);
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(finished.stderr.starts_with("error: ") && finished.stderr.contains(expected), "{}", finished.stderr);
        assert!(finished.stdout.is_empty());
    }
    let no_arguments: [&str; 0] = [];
    assert_eq!(wast(no_arguments).code, Some(2));
    assert_eq!(wast(["--timeout", "soon", "."]).code, Some(2));
}
