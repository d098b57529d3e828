//! Rules that a guest can break: each is a trap with a message, and the zone is dead after it.

use super::{call, link, trapped, zone};
use crate::host::linker::Linker;

/// A component whose export `run` runs `body`; `imports` declares the built-ins that it uses.
fn guest(builtins: &str, imports: &str, body: &str) -> String {
    let instance: String = builtins
        .match_indices("(core func $")
        .map(|(at, found)| {
            let name: String =
                builtins[at + found.len()..].chars().take_while(|c| !c.is_whitespace() && *c != ')').collect();
            format!(r#"(export "{name}" (func ${name})) "#)
        })
        .collect();
    format!(
        r#"(component
  (type $s (stream u8)) (type $f (future u8))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  {builtins}
  (core module $m
    (import "" "memory" (memory 1))
    {imports}
    (func (export "run") (result i32) {body})
    (func (export "callback") (param i32 i32 i32) (result i32) (i32.const 0)))
  (core instance $i (instantiate $m (with "" (instance (export "memory" (memory $memory "memory")) {instance}))))
  (func (export "run") async (canon lift (core func $i "run") async (callback (core func $i "callback")))))"#
    )
}

#[test]
fn broken_rules_trap_with_their_reason() {
    let ret = "(core func $return (canon task.return))";
    let ret_import = r#"(import "" "return" (func $return))"#;
    let new = "(core func $new (canon stream.new $s))";
    let new_import = r#"(import "" "new" (func $new (result i64)))"#;
    let drop = "(core func $drop (canon stream.drop-readable $s))";
    let drop_import = r#"(import "" "drop" (func $drop (param i32)))"#;
    let cases = [
        (ret.into(), ret_import.into(), "(call $return) (call $return) (i32.const 0)", "called more than once"),
        (ret.into(), ret_import.into(), "(i32.const 0)", "without calling `task.return`"),
        (ret.into(), ret_import.into(), "(call $return) (i32.const 7)", "unsupported callback code"),
        (ret.into(), ret_import.into(), "(call $return) (i32.const 0x52)", "unknown handle index 5"),
        (ret.into(), ret_import.into(), "unreachable", "unreachable"),
        (
            "(core func $return (canon task.return (result u32)))".into(),
            r#"(import "" "return" (func $return (param i32)))"#.into(),
            "(call $return (i32.const 1)) (i32.const 0)",
            "invalid `task.return` signature",
        ),
        (drop.into(), drop_import.into(), "(call $drop (i32.const 3)) (i32.const 0)", "unknown handle index 3"),
        (
            format!("{new} {drop}"),
            format!("{new_import} {drop_import}"),
            "(drop (call $new)) (call $drop (i32.const 2)) (i32.const 0)",
            "is a StreamWrite, not a StreamRead",
        ),
        (
            format!("{new} {drop}"),
            format!("{new_import} {drop_import}"),
            "(drop (call $new)) (call $drop (i32.const 1)) (call $drop (i32.const 1)) (i32.const 0)",
            "unknown handle index 1",
        ),
        (
            format!(r#"{new} (core func $read (canon stream.read $s async (memory (core memory $memory "memory"))))"#),
            format!(r#"{new_import} (import "" "read" (func $read (param i32 i32 i32) (result i32)))"#),
            "(drop (call $new)) (drop (call $read (i32.const 1) (i32.const 65530) (i32.const 100))) (i32.const 0)",
            "out of bounds",
        ),
        (
            format!(r#"{new} (core func $read (canon stream.read $s async (memory (core memory $memory "memory"))))"#),
            format!(r#"{new_import} (import "" "read" (func $read (param i32 i32 i32) (result i32)))"#),
            "(drop (call $new)) (drop (call $read (i32.const 1) (i32.const 0) (i32.const 8)))
             (drop (call $read (i32.const 1) (i32.const 0) (i32.const 8))) (i32.const 0)",
            "concurrent operations",
        ),
        (
            format!(
                r#"{new} {drop} (core func $read (canon stream.read $s async (memory (core memory $memory "memory"))))"#
            ),
            format!(r#"{new_import} {drop_import} (import "" "read" (func $read (param i32 i32 i32) (result i32)))"#),
            "(drop (call $new)) (drop (call $read (i32.const 1) (i32.const 0) (i32.const 8))) (call $drop (i32.const 1)) (i32.const 0)",
            "cannot drop busy stream: an operation is in progress",
        ),
        (
            "(core func $new (canon future.new $f)) (core func $drop (canon future.drop-writable $f))".into(),
            format!("{new_import} {drop_import}"),
            "(drop (call $new)) (call $drop (i32.const 2)) (i32.const 0)",
            "without first writing",
        ),
        (
            "(core func $dec (canon backpressure.dec))".into(),
            r#"(import "" "dec" (func $dec))"#.into(),
            "(call $dec) (i32.const 0)",
            "underflow",
        ),
        (
            "(core func $cancel (canon task.cancel))".into(),
            r#"(import "" "cancel" (func $cancel))"#.into(),
            "(call $cancel) (i32.const 0)",
            "has not been cancelled",
        ),
        (
            "(core func $drop (canon subtask.drop)) (core func $new (canon waitable-set.new))".into(),
            format!(r#"{drop_import} (import "" "new" (func $new (result i32)))"#),
            "(call $drop (call $new)) (i32.const 0)",
            "is a Set, not a Subtask",
        ),
    ];
    for (builtins, imports, body, expected) in cases {
        let component = link(&guest(&builtins, &imports, body), &Linker::new());
        let message = trapped(&component, "run", ());
        assert!(message.contains(expected), "{body}\nexpected: {expected}\ngot: {message}");
    }
}

#[test]
fn a_guest_that_leaks_handles_without_end_traps() {
    let resource = "(type $r (resource (rep i32))) (core func $new (canon resource.new $r))";
    let cases = [
        ("(core func $new (canon stream.new $s))", "(result i64)", "", "too many streams and futures in one zone"),
        ("(core func $new (canon waitable-set.new))", "(result i32)", "", "too many waitable sets in one zone"),
        (resource, "(param i32) (result i32)", "(i32.const 0)", "handle table full"),
    ];
    for (builtin, ty, argument, expected) in cases {
        let import = format!(r#"(import "" "new" (func $new {ty}))"#);
        let body = format!("(loop $l (drop (call $new {argument})) (br $l)) (i32.const 0)");
        let component = link(&guest(builtin, &import, &body), &Linker::new());
        let message = trapped(&component, "run", ());
        assert!(message.contains(expected), "expected: {expected}\ngot: {message}");
    }
}

#[test]
fn a_guest_that_calls_without_end_who_does_not_answer_traps() {
    let text = r#"(component
  (import "host" (instance $host (export "never" (func async))))
  (core func $never (canon lower (func $host "never") async))
  (core module $m
    (import "" "never" (func $never (result i32)))
    (func (export "run") (result i32) (loop $l (drop (call $never)) (br $l)) (i32.const 0))
    (func (export "callback") (param i32 i32 i32) (result i32) (i32.const 0)))
  (core instance $i (instantiate $m (with "" (instance (export "never" (func $never))))))
  (func (export "run") async (canon lift (core func $i "run") async (callback (core func $i "callback")))))"#;
    let mut linker = Linker::new();
    linker.async_func::<(), (), _>("host", "never", |_, ()| Box::pin(std::future::pending()));
    let message = trapped(&link(text, &linker), "run", ());
    assert!(message.contains("too many calls that wait in one zone"), "{message}");
}

#[test]
fn a_task_that_waits_for_nobody_is_a_deadlock_that_says_what_it_waits_for() {
    let stream = r#"(core func $new (canon stream.new $s)) (core func $wait (canon stream.read $s (memory (core memory $memory "memory"))))"#;
    let set = r#"(core func $new (canon waitable-set.new)) (core func $wait (canon waitable-set.wait (memory (core memory $memory "memory"))))"#;
    let cases = [
        (stream, "(result i64)", "(i32.const 1) (i32.const 0) (i32.const 8)", "handle 1"),
        (set, "(result i32)", "(i32.const 1) (i32.const 0)", "a waitable set"),
    ];
    for (builtins, result, arguments, expected) in cases {
        let params = "i32 ".repeat(arguments.matches("const").count());
        let imports = format!(
            r#"(import "" "new" (func $new {result})) (import "" "wait" (func $wait (param {params}) (result i32)))"#
        );
        let body = format!("(drop (call $new)) (drop (call $wait {arguments})) (i32.const 0)");
        let component = link(&guest(builtins, &imports, &body), &Linker::new());
        let zone = zone(&component);
        assert_eq!(zone.deadlock(), None, "nothing runs yet");
        assert!(call::<(), ()>(&component, &zone, "run", ()).is_none(), "the call waits");
        let report = zone.deadlock().expect("nobody can wake it");
        assert!(report.contains(expected), "{report}");
    }
}
