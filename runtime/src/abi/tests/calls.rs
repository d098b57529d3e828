//! Calls between two instances, in every combination of lift and lower, and from the host.

use super::{assert_empty, call, link, returned, zone};
use crate::host::linker::Linker;
use crate::host::value::Borrow;
use std::rc::Rc;

/// `$callee` exports one function four ways; `$caller` imports each, sync or async, and adds what they return.
const MATRIX: &str = r#"
(component
  (component $callee
    (core module $m
      (import "" "return" (func $return (param i32)))
      (import "" "context.set" (func $set (param i32)))
      (import "" "context.get" (func $get (result i32)))
      (func (export "sync") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
      (func (export "at-once") (param i32) (result i32)
        (call $set (local.get 0))
        (call $return (i32.add (call $get) (i32.const 1)))
        (i32.const 0))
      (func (export "later") (param i32) (result i32)
        (call $set (local.get 0))
        (i32.const 1))
      (func (export "callback") (param i32 i32 i32) (result i32)
        (call $return (i32.add (call $get) (i32.const 1)))
        (i32.const 0)))
    (core func $return (canon task.return (result u32)))
    (core func $set (canon context.set i32 0))
    (core func $get (canon context.get i32 0))
    (core instance $i (instantiate $m (with "" (instance
      (export "return" (func $return)) (export "context.set" (func $set)) (export "context.get" (func $get))))))
    (func (export "plain") (param "x" u32) (result u32) (canon lift (core func $i "sync")))
    (func (export "sync") async (param "x" u32) (result u32) (canon lift (core func $i "sync")))
    (func (export "at-once") async (param "x" u32) (result u32)
      (canon lift (core func $i "at-once") async (callback (core func $i "callback"))))
    (func (export "later") async (param "x" u32) (result u32)
      (canon lift (core func $i "later") async (callback (core func $i "callback")))))
  (instance $callee (instantiate $callee))
  (component $caller
    (import "plain" (func $plain (param "x" u32) (result u32)))
    (import "sync" (func $sync async (param "x" u32) (result u32)))
    (import "at-once" (func $at-once async (param "x" u32) (result u32)))
    (import "later" (func $later async (param "x" u32) (result u32)))
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $plain (canon lower (func $plain)))
    (core func $sync-s (canon lower (func $sync)))
    (core func $sync-a (canon lower (func $sync) async (memory (core memory $memory "memory"))))
    (core func $at-once-s (canon lower (func $at-once)))
    (core func $at-once-a (canon lower (func $at-once) async (memory (core memory $memory "memory"))))
    (core func $later-a (canon lower (func $later) async (memory (core memory $memory "memory"))))
    (core func $return (canon task.return (result u32)))
    (core func $set.new (canon waitable-set.new))
    (core func $set.drop (canon waitable-set.drop))
    (core func $join (canon waitable.join))
    (core func $subtask.drop (canon subtask.drop))
    (core func $context.set (canon context.set i32 0))
    (core func $context.get (canon context.get i32 0))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "plain" (func $plain (param i32) (result i32)))
      (import "" "sync-s" (func $sync-s (param i32) (result i32)))
      (import "" "sync-a" (func $sync-a (param i32 i32) (result i32)))
      (import "" "at-once-s" (func $at-once-s (param i32) (result i32)))
      (import "" "at-once-a" (func $at-once-a (param i32 i32) (result i32)))
      (import "" "later-a" (func $later-a (param i32 i32) (result i32)))
      (import "" "return" (func $return (param i32)))
      (import "" "set.new" (func $set.new (result i32)))
      (import "" "set.drop" (func $set.drop (param i32)))
      (import "" "join" (func $join (param i32 i32)))
      (import "" "subtask.drop" (func $subtask.drop (param i32)))
      (import "" "context.set" (func $context.set (param i32)))
      (import "" "context.get" (func $context.get (result i32)))
      ;; the context slot holds the set, and above it where the call's result goes
      (func $set (result i32) (i32.and (call $context.get) (i32.const 0xffff)))
      (func $place (result i32) (i32.shl (i32.shr_u (call $context.get) (i32.const 16)) (i32.const 2)))
      (func (export "run-plain") (param i32) (result i32) (call $plain (local.get 0)))
      (func (export "run-sync-s") (param i32) (result i32)
        (call $return (call $sync-s (local.get 0))) (i32.const 0))
      (func (export "run-sync-a") (param i32) (result i32)
        (if (i32.ne (call $sync-a (local.get 0) (i32.const 16)) (i32.const 2)) (then unreachable))
        (call $return (i32.load (i32.const 16))) (i32.const 0))
      (func (export "run-at-once-s") (param i32) (result i32)
        (call $return (call $at-once-s (local.get 0))) (i32.const 0))
      (func (export "run-at-once-a") (param i32) (result i32)
        (if (i32.ne (call $at-once-a (local.get 0) (i32.const 16)) (i32.const 2)) (then unreachable))
        (call $return (i32.load (i32.const 16))) (i32.const 0))
      (func (export "run-later-a") (param i32) (result i32) (local $status i32)
        ;; each call has its own place for the result
        (call $context.set (i32.shl (i32.and (local.get 0) (i32.const 8191)) (i32.const 16)))
        (local.set $status (call $later-a (local.get 0) (call $place)))
        ;; STARTED
        (if (i32.ne (i32.and (local.get $status) (i32.const 15)) (i32.const 1)) (then unreachable))
        (call $context.set (i32.or (call $context.get) (call $set.new)))
        (call $join (i32.shr_u (local.get $status) (i32.const 4)) (call $set))
        ;; WAIT
        (i32.or (i32.const 2) (i32.shl (call $set) (i32.const 4))))
      (func (export "callback") (param $event i32) (param $handle i32) (param $state i32) (result i32)
        (if (i32.ne (local.get $event) (i32.const 1)) (then unreachable))
        (if (i32.ne (local.get $state) (i32.const 2)) (then unreachable))
        (call $join (local.get $handle) (i32.const 0))
        (call $subtask.drop (local.get $handle))
        (call $set.drop (call $set))
        (call $return (i32.load (call $place)))
        (i32.const 0)))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "plain" (func $plain))
      (export "sync-s" (func $sync-s)) (export "sync-a" (func $sync-a))
      (export "at-once-s" (func $at-once-s)) (export "at-once-a" (func $at-once-a))
      (export "later-a" (func $later-a)) (export "return" (func $return))
      (export "set.new" (func $set.new)) (export "set.drop" (func $set.drop)) (export "join" (func $join))
      (export "subtask.drop" (func $subtask.drop))
      (export "context.set" (func $context.set)) (export "context.get" (func $context.get))))))
    (func (export "run-plain") (param "x" u32) (result u32) (canon lift (core func $i "run-plain")))
    (func (export "run-sync-s") async (param "x" u32) (result u32)
      (canon lift (core func $i "run-sync-s") async (callback (core func $i "callback"))))
    (func (export "run-sync-a") async (param "x" u32) (result u32)
      (canon lift (core func $i "run-sync-a") async (callback (core func $i "callback"))))
    (func (export "run-at-once-s") async (param "x" u32) (result u32)
      (canon lift (core func $i "run-at-once-s") async (callback (core func $i "callback"))))
    (func (export "run-at-once-a") async (param "x" u32) (result u32)
      (canon lift (core func $i "run-at-once-a") async (callback (core func $i "callback"))))
    (func (export "run-later-a") async (param "x" u32) (result u32)
      (canon lift (core func $i "run-later-a") async (callback (core func $i "callback")))))
  (instance $caller (instantiate $caller
    (with "plain" (func $callee "plain")) (with "sync" (func $callee "sync"))
    (with "at-once" (func $callee "at-once")) (with "later" (func $callee "later"))))
  (export "run-plain" (func $caller "run-plain"))
  (export "run-sync-s" (func $caller "run-sync-s"))
  (export "run-sync-a" (func $caller "run-sync-a"))
  (export "run-at-once-s" (func $caller "run-at-once-s"))
  (export "run-at-once-a" (func $caller "run-at-once-a"))
  (export "run-later-a" (func $caller "run-later-a")))
"#;

#[test]
fn every_lift_meets_every_lower() {
    let component = link(MATRIX, &Linker::new());
    let zone = zone(&component);
    for name in ["run-plain", "run-sync-s", "run-sync-a", "run-at-once-s", "run-at-once-a", "run-later-a"] {
        for x in [0u32, 7, u32::MAX - 1] {
            let result: u32 = returned(&component, &zone, name, (x,));
            assert_eq!(result, x + 1, "{name}({x})");
        }
        assert_empty(&zone);
    }
}

#[test]
fn many_calls_share_a_zone_without_leaving_anything() {
    let component = link(MATRIX, &Linker::new());
    let zone = zone(&component);
    let export = component.export::<(u32,), u32>("run-later-a").expect("it is there");
    let calls: Vec<_> = (0..5000u32).map(|x| zone.call(export, (x,))).collect();
    zone.run_now();
    for (x, call) in calls.into_iter().enumerate() {
        let result = super::poll_once(call).expect("it has returned").expect("it has not trapped");
        assert_eq!(result, x as u32 + 1);
    }
    assert_empty(&zone);
}

/// The callee counts with backpressure: only one call is inside at a time.
const BACKPRESSURE: &str = r#"
(component
  (component $callee
    (core module $m
      (import "" "return" (func $return (param i32)))
      (import "" "inc" (func $inc))
      (import "" "dec" (func $dec))
      (global $inside (mut i32) (i32.const 0))
      (func (export "enter") (result i32)
        (call $inc)
        (global.set $inside (i32.add (global.get $inside) (i32.const 1)))
        (i32.const 1))
      (func (export "callback") (param i32 i32 i32) (result i32)
        (call $return (global.get $inside))
        (global.set $inside (i32.sub (global.get $inside) (i32.const 1)))
        (call $dec)
        (i32.const 0)))
    (core func $return (canon task.return (result u32)))
    (core func $inc (canon backpressure.inc))
    (core func $dec (canon backpressure.dec))
    (core instance $i (instantiate $m (with "" (instance
      (export "return" (func $return)) (export "inc" (func $inc)) (export "dec" (func $dec))))))
    (func (export "enter") async (result u32) (canon lift (core func $i "enter") async (callback (core func $i "callback")))))
  (instance $callee (instantiate $callee))
  (component $caller
    (import "enter" (func $enter async (result u32)))
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $enter (canon lower (func $enter) async (memory (core memory $memory "memory"))))
    (core func $return (canon task.return (result u32)))
    (core func $set.new (canon waitable-set.new))
    (core func $set.drop (canon waitable-set.drop))
    (core func $join (canon waitable.join))
    (core func $drop (canon subtask.drop))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "enter" (func $enter (param i32) (result i32)))
      (import "" "return" (func $return (param i32)))
      (import "" "set.new" (func $set.new (result i32)))
      (import "" "set.drop" (func $set.drop (param i32)))
      (import "" "join" (func $join (param i32 i32)))
      (import "" "drop" (func $drop (param i32)))
      (global $set (mut i32) (i32.const 0))
      (global $left (mut i32) (i32.const 3))
      (func $start (param $at i32) (param $expected i32) (local $status i32)
        (local.set $status (call $enter (local.get $at)))
        (if (i32.ne (i32.and (local.get $status) (i32.const 15)) (local.get $expected)) (then unreachable))
        (call $join (i32.shr_u (local.get $status) (i32.const 4)) (global.get $set)))
      (func (export "run") (result i32)
        (global.set $set (call $set.new))
        ;; the first is STARTED, the others wait: STARTING
        (call $start (i32.const 16) (i32.const 1))
        (call $start (i32.const 20) (i32.const 0))
        (call $start (i32.const 24) (i32.const 0))
        (i32.or (i32.const 2) (i32.shl (global.get $set) (i32.const 4))))
      (func (export "callback") (param $event i32) (param $handle i32) (param $state i32) (result i32)
        (if (i32.ne (local.get $event) (i32.const 1)) (then unreachable))
        (if (i32.eq (local.get $state) (i32.const 2)) (then
          (call $join (local.get $handle) (i32.const 0))
          (call $drop (local.get $handle))
          (global.set $left (i32.sub (global.get $left) (i32.const 1)))))
        (if (global.get $left) (then (return (i32.or (i32.const 2) (i32.shl (global.get $set) (i32.const 4))))))
        (call $set.drop (global.get $set))
        (call $return (i32.add (i32.add (i32.load (i32.const 16)) (i32.load (i32.const 20))) (i32.load (i32.const 24))))
        (i32.const 0)))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "enter" (func $enter)) (export "return" (func $return))
      (export "set.new" (func $set.new)) (export "set.drop" (func $set.drop)) (export "join" (func $join)) (export "drop" (func $drop))))))
    (func (export "run") async (result u32) (canon lift (core func $i "run") async (callback (core func $i "callback")))))
  (instance $caller (instantiate $caller (with "enter" (func $callee "enter"))))
  (export "run" (func $caller "run")))
"#;

#[test]
fn backpressure_lets_one_call_in_at_a_time() {
    let component = link(BACKPRESSURE, &Linker::new());
    let zone = zone(&component);
    let sum: u32 = returned(&component, &zone, "run", ());
    assert_eq!(sum, 3, "each of three calls was alone inside");
    assert_empty(&zone);
}

#[test]
fn a_host_function_that_is_ready_returns_at_once_and_one_that_is_not_gives_an_event() {
    let mut linker = Linker::new();
    let slow = |_: &mut crate::abi::HostCx<'_>, (x,): (u32,)| -> crate::host::HostFuture<u32> {
        Box::pin(async move {
            let mut polls = 0;
            std::future::poll_fn(|task| {
                polls += 1;
                if polls > x {
                    return std::task::Poll::Ready(());
                }
                task.waker().wake_by_ref();
                std::task::Poll::Pending
            })
            .await;
            Ok(x * 10)
        })
    };
    linker.async_func("test:host/slow@1.0.0", "slow", slow);
    linker.func("test:host/slow@1.0.0", "log", |_, (text, list): (String, Vec<(u8, Option<u64>)>)| {
        assert_eq!((text.as_str(), &list[..]), ("hej", &[(1, None), (2, Some(3))][..]));
        Ok(format!("{text}!"))
    });
    let component = link(HOST, &linker);
    let zone = zone(&component);
    for x in [0u32, 1, 5] {
        let result: u32 = returned(&component, &zone, "run", (x,));
        assert_eq!(result, x * 10);
        assert_empty(&zone);
    }
}

/// Calls `slow` of the host asynchronously, and `log` synchronously with values that need memory.
const HOST: &str = r#"
(component
  (import "test:host/slow@1.0.3" (instance $host
    (export "slow" (func async (param "x" u32) (result u32)))
    (export "log" (func (param "text" string) (param "list" (list (tuple u8 (option u64)))) (result string)))))
  (core module $memory
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 4096))
    (data (i32.const 64) "hej")
    ;; two tuples of (u8, option<u64>): 24 bytes each, aligned to 8
    (data (i32.const 128) "\01\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00")
    (data (i32.const 152) "\02\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\03\00\00\00\00\00\00\00")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (global.set $next (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
      (global.get $next)
      (global.set $next (i32.add (global.get $next) (local.get 3)))))
  (core instance $memory (instantiate $memory))
  (core func $slow (canon lower (func $host "slow") async (memory (core memory $memory "memory"))))
  (core func $log (canon lower (func $host "log") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $return (canon task.return (result u32)))
  (core func $set.new (canon waitable-set.new))
  (core func $set.drop (canon waitable-set.drop))
  (core func $join (canon waitable.join))
  (core func $drop (canon subtask.drop))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "slow" (func $slow (param i32 i32) (result i32)))
    (import "" "log" (func $log (param i32 i32 i32 i32 i32)))
    (import "" "return" (func $return (param i32)))
    (import "" "set.new" (func $set.new (result i32)))
    (import "" "set.drop" (func $set.drop (param i32)))
    (import "" "join" (func $join (param i32 i32)))
    (import "" "drop" (func $drop (param i32)))
    (global $set (mut i32) (i32.const 0))
    (func (export "run") (param $x i32) (result i32) (local $status i32)
      (call $log (i32.const 64) (i32.const 3) (i32.const 128) (i32.const 2) (i32.const 32))
      ;; "hej!"
      (if (i32.ne (i32.load (i32.const 36)) (i32.const 4)) (then unreachable))
      (if (i32.ne (i32.load (i32.load (i32.const 32))) (i32.const 0x216a6568)) (then unreachable))
      (local.set $status (call $slow (local.get $x) (i32.const 16)))
      (if (i32.eq (local.get $status) (i32.const 2)) (then
        (call $return (i32.load (i32.const 16))) (return (i32.const 0))))
      (global.set $set (call $set.new))
      (call $join (i32.shr_u (local.get $status) (i32.const 4)) (global.get $set))
      (i32.or (i32.const 2) (i32.shl (global.get $set) (i32.const 4))))
    (func (export "callback") (param $event i32) (param $handle i32) (param $state i32) (result i32)
      (if (i32.ne (local.get $state) (i32.const 2)) (then unreachable))
      (call $join (local.get $handle) (i32.const 0))
      (call $drop (local.get $handle))
      (call $set.drop (global.get $set))
      (call $return (i32.load (i32.const 16)))
      (i32.const 0)))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "slow" (func $slow)) (export "log" (func $log)) (export "return" (func $return))
    (export "set.new" (func $set.new)) (export "set.drop" (func $set.drop)) (export "join" (func $join)) (export "drop" (func $drop))))))
  (func (export "run") async (param "x" u32) (result u32)
    (canon lift (core func $i "run") async (callback (core func $i "callback")))))
"#;

#[test]
fn a_call_that_never_returns_leaves_its_caller_waiting() {
    let never = r#"
(component
  (core module $m
    (import "" "set.new" (func $set.new (result i32)))
    (func (export "run") (result i32) (i32.or (i32.const 2) (i32.shl (call $set.new) (i32.const 4))))
    (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
  (core func $set.new (canon waitable-set.new))
  (core instance $i (instantiate $m (with "" (instance (export "set.new" (func $set.new))))))
  (func (export "run") async (canon lift (core func $i "run") async (callback (core func $i "callback")))))"#;
    let component = link(never, &Linker::new());
    let zone = zone(&component);
    assert!(call::<(), ()>(&component, &zone, "run", ()).is_none());
    let census = zone.census().expect("the zone rests");
    assert_eq!((census.tasks, census.waitable_sets), (1, 1));
    zone.kill("the test is over");
    assert_eq!(zone.poison().as_deref(), Some("the test is over"));
}

#[test]
fn a_resource_that_the_host_lends_to_a_call_is_its_own_again_afterwards() {
    let text = r#"
(component
  (import "host" (instance $host (export "r" (type $r (sub resource)))))
  (alias export $host "r" (type $r))
  (core func $drop (canon resource.drop $r))
  (core module $m
    (import "" "drop" (func $drop (param i32)))
    (func (export "look") (param i32) (call $drop (local.get 0))))
  (core instance $i (instantiate $m (with "" (instance (export "drop" (func $drop))))))
  (func (export "look") (param "r" (borrow $r)) (canon lift (core func $i "look"))))
"#;
    let mut linker = Linker::new();
    linker.resource::<String>("host", "r");
    let component = link(text, &linker);
    let zone = zone(&component);
    let lent = Rc::new("ours".to_string());
    for _ in 0..3 {
        returned::<_, ()>(&component, &zone, "look", (Borrow(lent.clone()),));
    }
    assert_empty(&zone);
    assert_eq!(Rc::strong_count(&lent), 1, "nobody else holds it");
}
