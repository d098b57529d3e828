//! What fuzzing has found: guests that nobody would write, and what becomes of them.

use super::{link, poll_once, returned, trapped};
use crate::abi::{CallError, Component, Limits, Zone};
use crate::host::linker::Linker;
use crate::host::value::dynamic::Value;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A component that can do what is about threads, with one function of sync type and a resource whose destructor is `dtor`.
fn threads(run: &str, thread: &str, dtor: &str) -> Component {
    let text = format!(
        r#"(component
  (core module $support
    (table (export "threads") 1 funcref)
    (table $dtors (export "dtors") 1 funcref)
    (type $dtor (func (param i32)))
    (func (export "dtor") (param i32) (call_indirect $dtors (type $dtor) (local.get 0) (i32.const 0))))
  (core instance $support (instantiate $support))
  (alias core export $support "threads" (core table $threads))
  (core type $start (func (param i32)))
  (type $r (resource (rep i32) (dtor (core func $support "dtor"))))
  (type $s (stream))
  (core func $r.new (canon resource.new $r))
  (core func $r.drop (canon resource.drop $r))
  (core func $s.new (canon stream.new $s))
  (core func $s.read (canon stream.read $s))
  (core func $s.write (canon stream.write $s async))
  (core func $new (canon thread.new-indirect $start (core table $threads)))
  (core func $later (canon thread.resume-later))
  (core func $suspend (canon thread.suspend))
  (core func $index (canon thread.index))
  (core module $m
    (import "support" "threads" (table $threads 1 funcref))
    (import "support" "dtors" (table $dtors 1 funcref))
    (import "" "r.new" (func $r.new (param i32) (result i32)))
    (import "" "r.drop" (func $r.drop (param i32)))
    (import "" "s.new" (func $s.new (result i64)))
    (import "" "s.read" (func $s.read (param i32 i32 i32) (result i32)))
    (import "" "s.write" (func $s.write (param i32 i32 i32) (result i32)))
    (import "" "new" (func $new (param i32 i32) (result i32)))
    (import "" "later" (func $later (param i32)))
    (import "" "suspend" (func $suspend (result i32)))
    (import "" "index" (func $index (result i32)))
    (global $last (mut i32) (i32.const 0))
    (global $w (mut i32) (i32.const 0))
    (elem (table $threads) (i32.const 0) func $thread)
    (elem (table $dtors) (i32.const 0) func $dtor)
    (func $thread (param i32) {thread})
    (func $dtor (param i32) {dtor})
    (func (export "run") (result i32) (local $ends i64) {run}))
  (core instance $i (instantiate $m (with "support" (instance $support)) (with "" (instance
    (export "r.new" (func $r.new)) (export "r.drop" (func $r.drop)) (export "s.new" (func $s.new))
    (export "s.read" (func $s.read)) (export "s.write" (func $s.write)) (export "new" (func $new))
    (export "later" (func $later)) (export "suspend" (func $suspend)) (export "index" (func $index))))))
  (func (export "run") (result u32) (canon lift (core func $i "run"))))"#
    );
    link(&text, &Linker::new())
}

/// A task of sync type reads. Another thread of its instance writes to it, so that it could go on, and drops a resource, whose
/// destructor has to wait as well: the task waits below, and only the destructor may go on now.
#[test]
fn who_waits_below_a_destructor_is_not_resumed_by_it() {
    let component = threads(
        "(local.set $ends (call $s.new))
         (global.set $w (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
         (call $later (call $new (i32.const 0) (i32.const 0)))
         (call $s.read (i32.wrap_i64 (local.get $ends)) (i32.const 0) (i32.const 1))",
        "(drop (call $s.write (global.get $w) (i32.const 0) (i32.const 1)))
         (call $r.drop (call $r.new (i32.const 7)))",
        "(drop (call $suspend))",
    );
    let zone = super::zone(&component);
    assert!(matches!(super::call::<(), u32>(&component, &zone, "run", ()), Some(Err(CallError::Trap(_)))));
    let reason = zone.poison().expect("it trapped");
    assert!(reason.contains("deadlock detected"), "{reason}");
}

#[test]
fn a_destructor_leaves_nothing_behind_that_it_has_asked_for() {
    let component = threads(
        "(call $r.drop (call $r.new (i32.const 7)))
         (call $r.drop (call $r.new (i32.const 8)))
         (global.get $last)",
        "",
        "(global.set $last (call $index))",
    );
    let zone = super::zone(&component);
    assert_eq!(returned::<(), u32>(&component, &zone, "run", ()), 1, "the index is free again");
    assert_eq!(zone.deadlock(), None, "nobody waits");
    super::assert_empty(&zone);
}

#[test]
fn a_thread_that_a_destructor_has_made_outlives_it() {
    let component = threads(
        "(call $r.drop (call $r.new (i32.const 7)))
         (call $r.drop (call $r.new (i32.const 8)))
         (global.get $last)",
        "(global.set $last (i32.add (global.get $last) (local.get 0)))",
        "(call $later (call $new (i32.const 0) (local.get 0)))",
    );
    let zone = super::zone(&component);
    assert_eq!(returned::<(), u32>(&component, &zone, "run", ()), 0, "the threads have not run yet");
    assert_eq!(returned::<(), u32>(&component, &zone, "run", ()), 15);
    assert_eq!(zone.deadlock(), None, "nobody waits");
    super::assert_empty(&zone);
}

/// `late` yields once, and acknowledges that it is cancelled; `now` returns at once.
const LATE: &str = r#"
(component
  (core func $return (canon task.return))
  (core func $cancel (canon task.cancel))
  (core module $m
    (import "" "return" (func $return))
    (import "" "cancel" (func $cancel))
    (func (export "late") (result i32) (i32.const 1))
    (func (export "now") (result i32) (call $return) (i32.const 0))
    (func (export "callback") (param $event i32) (param i32 i32) (result i32)
      (if (i32.ne (local.get $event) (i32.const 6)) (then unreachable))
      (call $cancel)
      (i32.const 0)))
  (core instance $i (instantiate $m (with "" (instance
    (export "return" (func $return)) (export "cancel" (func $cancel))))))
  (func (export "late") async (canon lift (core func $i "late") async (callback (core func $i "callback"))))
  (func (export "now") async (canon lift (core func $i "now") async (callback (core func $i "callback")))))
"#;

/// A task that yields is cancelled, so that it is ready twice. It ends the first time; the second time its place belongs to a
/// call that waits at the gate, which must not be let in past the others.
#[test]
fn a_call_at_the_gate_is_not_started_by_who_had_its_place_before() {
    let component = link(LATE, &Linker::new());
    let limits = Limits { jobs_per_entry: 1, ..Limits::default() };
    let zone = Zone::new(&component, limits, Rc::new(())).expect("the component starts");
    let mut driver: Pin<Box<dyn Future<Output = ()>>> = Box::pin(zone.drive());
    let mut job = || driver.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let late = zone.call(component.export::<(), ()>("late").expect("it is there"), ());
    assert_eq!(job(), Poll::Pending);
    late.canceller().cancel();
    assert_eq!(job(), Poll::Pending);
    assert!(matches!(poll_once(late), Some(Err(CallError::Cancelled))));
    let now = zone.call(component.export::<(), ()>("now").expect("it is there"), ());
    for _ in 0..8 {
        assert_eq!(job(), Poll::Pending);
    }
    assert!(matches!(poll_once(now), Some(Ok(()))));
    super::assert_empty(&zone);
}

#[test]
fn a_call_of_the_host_that_finds_no_place_at_the_gate_learns_of_it() {
    let component = link(LATE, &Linker::new());
    let zone = super::zone(&component);
    let now = component.export::<(), ()>("now").expect("it is there");
    // The first half goes directly, the others wait at the gate.
    let mut calls: Vec<_> = (0..2 * 65_536 + 1).map(|_| zone.call(now, ())).collect();
    match calls.pop().and_then(poll_once) {
        Some(Err(CallError::Trap(reason))) => assert!(reason.contains("wait to enter"), "{reason}"),
        _ => panic!("the last call is let in"),
    }
    zone.run_now();
    assert!(calls.into_iter().all(|call| matches!(poll_once(call), Some(Ok(())))));
    super::assert_empty(&zone);
}

/// `$callee` gives the code -1, which is no code at all.
const ODD_CODE: &str = r#"
(component
  (component $callee
    (core func $read (canon waitable-set.new))
    (core module $m
      (func (export "f") (result i32) (i32.const -1))
      (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
    (core instance $i (instantiate $m))
    (func (export "f") async (canon lift (core func $i "f") async (callback (core func $i "callback")))))
  (instance $callee (instantiate $callee))
  (component $caller
    (import "f" (func $f async))
    (core func $f (canon lower (func $f) async))
    BLOCKING
    (core module $m
      (import "" "f" (func $f (result i32)))
      (func (export "run") (drop (call $f))))
    (core instance $i (instantiate $m (with "" (instance (export "f" (func $f))))))
    (func (export "run") (canon lift (core func $i "run"))))
  (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
  (export "run" (func $caller "run")))
"#;

#[test]
fn the_code_that_stands_for_a_stack_put_aside_is_no_code_of_a_guest() {
    let blocking = "(core func $suspend (canon thread.suspend))";
    for text in [
        ODD_CODE.replace("BLOCKING", ""),
        ODD_CODE.replace("BLOCKING", "").replace("(core func $read (canon waitable-set.new))", blocking),
    ] {
        let component = link(&text, &Linker::new());
        let reason = trapped(&component, "run", ());
        assert!(reason.contains("unsupported callback code: 15"), "{reason}");
    }
}

/// Streams of two types that the host holds.
const STREAMS: &str = r#"
(component
  (type $a' (stream u8))
  (type $b' (stream string))
  (core func $a (canon stream.new $a'))
  (core module $m
    (import "" "a" (func $a (result i64)))
    (func (export "open") (result i32) (i32.wrap_i64 (call $a)))
    (func (export "take") (param i32)))
  (core instance $i (instantiate $m (with "" (instance (export "a" (func $a))))))
  (func (export "open") (result (stream u8)) (canon lift (core func $i "open")))
  (func (export "take") (param "s" (stream string)) (canon lift (core func $i "take")))
  (func (export "await") (param "f" (future u8)) (canon lift (core func $i "take"))))
"#;

#[test]
fn a_stream_of_another_type_is_not_taken() {
    let component = link(STREAMS, &Linker::new());
    for name in ["take", "await"] {
        let zone = super::zone(&component);
        let dynamic = |name: &str, params: Vec<Value>| {
            let call = zone.call_dynamic(component.export_dynamic(name).expect("it is there"), params);
            zone.run_now();
            poll_once(call).expect("it returns")
        };
        let stream = dynamic("open", vec![]).expect("it does not trap").expect("a stream");
        match dynamic(name, vec![stream]) {
            Err(CallError::Trap(reason)) => assert!(reason.contains("another type"), "{reason}"),
            _ => panic!("`{name}` takes a stream of bytes"),
        }
    }
}

/// Makes `n` error contexts of 4096 bytes, and gives the length of the last one's message.
const ERRORS: &str = r#"
(component
  (core module $memory
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192)))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $memory'))
  (alias core export $memory "realloc" (core func $realloc))
  (core func $new (canon error-context.new (memory $memory')))
  (core func $message (canon error-context.debug-message (memory $memory') (realloc $realloc)))
  (core func $drop (canon error-context.drop))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "new" (func $new (param i32 i32) (result i32)))
    (import "" "message" (func $message (param i32 i32)))
    (import "" "drop" (func $drop (param i32)))
    (func (export "keep") (param $n i32) (result i32) (local $last i32)
      (loop $more
        (local.set $last (call $new (i32.const 0) (i32.const 4096)))
        (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
      (call $message (local.get $last) (i32.const 16384))
      (i32.load offset=4 (i32.const 16384)))
    (func (export "drop") (param $n i32)
      (loop $more
        (call $drop (local.get $n))
        (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory')) (export "new" (func $new)) (export "message" (func $message))
    (export "drop" (func $drop))))))
  (func (export "keep") (param "n" u32) (result u32) (canon lift (core func $i "keep")))
  (func (export "drop") (param "n" u32) (canon lift (core func $i "drop"))))
"#;

#[test]
fn messages_of_errors_are_forgotten_before_they_fill_the_memory() {
    let component = link(ERRORS, &Linker::new());
    let zone = super::zone(&component);
    assert_eq!(returned::<_, u32>(&component, &zone, "keep", (4096u32,)), 4096);
    assert_eq!(returned::<_, u32>(&component, &zone, "keep", (1u32,)), 0, "16 MiB are kept");
    returned::<_, ()>(&component, &zone, "drop", (4097u32,));
    assert_eq!(returned::<_, u32>(&component, &zone, "keep", (4096u32,)), 4096);
}
