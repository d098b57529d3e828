//! Calls of the host that wait in no queue.

use super::{link, poll_once, returned};
use crate::abi::{Call, CallError, Component, Zone};
use crate::host::linker::Linker;

/// `count` adds one and gives the sum. `late` adds ten, yields once and returns, or acknowledges that it is cancelled.
const COUNTER: &str = r#"
(component
  (core func $sum (canon task.return (result u32)))
  (core func $return (canon task.return))
  (core func $cancel (canon task.cancel))
  (core module $m
    (import "" "sum" (func $sum (param i32)))
    (import "" "return" (func $return))
    (import "" "cancel" (func $cancel))
    (global $n (mut i32) (i32.const 0))
    (func (export "count") (result i32)
      (global.set $n (i32.add (global.get $n) (i32.const 1)))
      (call $sum (global.get $n))
      (i32.const 0))
    (func (export "late") (result i32)
      (global.set $n (i32.add (global.get $n) (i32.const 10)))
      (i32.const 1))
    (func (export "callback") (param $event i32) (param i32 i32) (result i32)
      (if (i32.eq (local.get $event) (i32.const 6)) (then (call $cancel)) (else (call $return)))
      (i32.const 0)))
  (core instance $i (instantiate $m (with "" (instance
    (export "sum" (func $sum)) (export "return" (func $return)) (export "cancel" (func $cancel))))))
  (func (export "count") async (result u32) (canon lift (core func $i "count") async (callback (core func $i "callback"))))
  (func (export "late") async (canon lift (core func $i "late") async (callback (core func $i "callback")))))
"#;

fn start() -> (Component, Zone) {
    let component = link(COUNTER, &Linker::new());
    let zone = super::zone(&component);
    (component, zone)
}

fn count(component: &Component, zone: &Zone) -> Call<u32> {
    zone.call(component.export("count").expect("it is there"), ())
}

fn late(component: &Component, zone: &Zone) -> Call<()> {
    zone.call(component.export("late").expect("it is there"), ())
}

#[test]
fn calls_run_in_the_order_in_which_they_were_made() {
    let (component, zone) = start();
    let calls: Vec<_> = (0..5).map(|_| count(&component, &zone)).collect();
    assert!(zone.deadlock().is_none(), "there is something to run");
    zone.run_now();
    let sums: Vec<_> = calls.into_iter().map(|call| poll_once(call).map(Result::ok)).collect();
    assert_eq!(sums, (1..=5).map(|n| Some(Some(n))).collect::<Vec<_>>());
    super::assert_empty(&zone);
}

#[test]
fn a_call_that_is_cancelled_before_its_turn_is_not_started() {
    let (component, zone) = start();
    let (first, second) = (count(&component, &zone), count(&component, &zone));
    first.canceller().cancel();
    assert!(matches!(poll_once(first), Some(Err(CallError::Cancelled))));
    zone.run_now();
    assert!(matches!(poll_once(second), Some(Ok(1))));
    super::assert_empty(&zone);
}

#[test]
fn a_call_that_has_been_cancelled_has_exited() {
    let (component, zone) = start();
    let call = count(&component, &zone);
    assert!(poll_once(call.exited()).is_none());
    call.canceller().cancel();
    assert!(poll_once(call.exited()).is_some());
    super::assert_empty(&zone);
}

#[test]
fn a_canceller_of_a_call_that_is_over_does_nothing() {
    let (component, zone) = start();
    let call = count(&component, &zone);
    let canceller = call.canceller();
    zone.run_now();
    let waiting = count(&component, &zone);
    canceller.cancel();
    zone.run_now();
    assert!(matches!(poll_once(waiting), Some(Ok(2))));
    assert!(matches!(poll_once(call), Some(Ok(1))));
}

#[test]
fn a_call_that_yields_goes_on_and_can_be_cancelled_then() {
    let (component, zone) = start();
    returned::<(), ()>(&component, &zone, "late", ());
    let limits = crate::abi::Limits { jobs_per_entry: 1, ..crate::abi::Limits::default() };
    let zone = Zone::new(&component, limits, std::rc::Rc::new(())).expect("it starts");
    let mut driver = Box::pin(zone.drive());
    let call = late(&component, &zone);
    assert!(poll_once(driver.as_mut()).is_none());
    assert!(poll_once(call.exited()).is_none(), "it has yielded");
    call.canceller().cancel();
    for _ in 0..4 {
        assert!(poll_once(driver.as_mut()).is_none());
    }
    assert!(matches!(poll_once(call), Some(Err(CallError::Cancelled))));
    super::assert_empty(&zone);
}

#[test]
fn a_call_that_has_not_begun_learns_that_its_zone_is_gone() {
    let (component, zone) = start();
    let (killed, dropped) = (count(&component, &zone), count(&component, &super::zone(&component)));
    zone.kill("by the test");
    assert!(matches!(poll_once(killed), Some(Err(CallError::Trap(reason))) if reason.contains("by the test")));
    assert!(matches!(poll_once(dropped), Some(Err(CallError::Trap(_)))));
}

/// `run` calls `wait`, which yields; both sides do that synchronously, on one stack. `now` is another component's.
const NESTED: &str = r#"
(component
  (component $inner
    (core func $yield (canon thread.yield))
    (core module $m
      (import "" "yield" (func $yield (result i32)))
      (func (export "wait") (drop (call $yield))))
    (core instance $i (instantiate $m (with "" (instance (export "yield" (func $yield))))))
    (func (export "wait") async (canon lift (core func $i "wait"))))
  (instance $inner (instantiate $inner))
  (component $outer
    (import "wait" (func $wait async))
    (core func $wait (canon lower (func $wait)))
    (core func $return (canon task.return (result u32)))
    (core module $m
      (import "" "wait" (func $wait))
      (import "" "return" (func $return (param i32)))
      (func (export "run") (param $n i32) (result i32)
        (call $wait)
        (call $return (local.get $n))
        (i32.const 0))
      (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
    (core instance $i (instantiate $m (with "" (instance
      (export "wait" (func $wait)) (export "return" (func $return))))))
    (func (export "run") async (param "n" u32) (result u32)
      (canon lift (core func $i "run") async (callback (core func $i "callback")))))
  (instance $outer (instantiate $outer (with "wait" (func $inner "wait"))))
  (component $other
    (core func $return (canon task.return (result u32)))
    (core module $m
      (import "" "return" (func $return (param i32)))
      (func (export "now") (param $n i32) (result i32) (call $return (local.get $n)) (i32.const 0))
      (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
    (core instance $i (instantiate $m (with "" (instance (export "return" (func $return))))))
    (func (export "now") async (param "n" u32) (result u32)
      (canon lift (core func $i "now") async (callback (core func $i "callback")))))
  (instance $other (instantiate $other))
  (export "run" (func $outer "run"))
  (export "now" (func $other "now")))
"#;

#[test]
fn a_call_whose_stack_is_put_aside_under_another_task_goes_on_when_that_does() {
    let component = link(NESTED, &Linker::new());
    let zone = super::zone(&component);
    let call = |name: &str, n: u32| zone.call(component.export::<(u32,), u32>(name).expect("it is there"), (n,));
    let calls = vec![call("run", 0), call("now", 1), call("run", 2), call("now", 3)];
    zone.run_now();
    assert_eq!(zone.poison(), None);
    let results: Vec<_> = calls.into_iter().map(|call| poll_once(call).map(Result::ok)).collect();
    assert_eq!(results, (0..4).map(|n| Some(Some(n))).collect::<Vec<_>>());
    super::assert_empty(&zone);
}

/// `wait` reads from a stream of its own and gives the event's payload; `wake` writes a byte to it.
const WAITER: &str = r#"
(component
  (type $s (stream u8))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $memory))
  (core func $new (canon stream.new $s))
  (core func $read (canon stream.read $s async (memory $memory)))
  (core func $write (canon stream.write $s async (memory $memory)))
  (core func $set (canon waitable-set.new))
  (core func $join (canon waitable.join))
  (core func $return (canon task.return (result u32)))
  (core module $m
    (import "" "new" (func $new (result i64)))
    (import "" "read" (func $read (param i32 i32 i32) (result i32)))
    (import "" "write" (func $write (param i32 i32 i32) (result i32)))
    (import "" "set" (func $set (result i32)))
    (import "" "join" (func $join (param i32 i32)))
    (import "" "return" (func $return (param i32)))
    (global $ends (mut i64) (i64.const 0))
    (func (export "wait") (result i32) (local $reader i32) (local $set i32)
      (global.set $ends (call $new))
      (local.set $reader (i32.wrap_i64 (global.get $ends)))
      (local.set $set (call $set))
      (drop (call $read (local.get $reader) (i32.const 0) (i32.const 1)))
      (call $join (local.get $reader) (local.get $set))
      (i32.or (i32.const 2) (i32.shl (local.get $set) (i32.const 4))))
    (func (export "callback") (param i32 i32) (param $payload i32) (result i32)
      (call $return (local.get $payload))
      (i32.const 0))
    (func (export "wake") (result i32)
      (call $return (call $write (i32.wrap_i64 (i64.shr_u (global.get $ends) (i64.const 32))) (i32.const 0) (i32.const 1)))
      (i32.const 0)))
  (core instance $i (instantiate $m (with "" (instance
    (export "new" (func $new)) (export "read" (func $read)) (export "write" (func $write)) (export "set" (func $set))
    (export "join" (func $join)) (export "return" (func $return))))))
  (func (export "wait") async (result u32) (canon lift (core func $i "wait") async (callback (core func $i "callback"))))
  (func (export "wake") async (result u32) (canon lift (core func $i "wake") async (callback (core func $i "callback")))))
"#;

#[test]
fn a_task_that_the_last_call_makes_ready_goes_on_behind_it() {
    let component = link(WAITER, &Linker::new());
    for driven in [false, true] {
        let zone = super::zone(&component);
        let mut driver = Box::pin(zone.drive());
        let mut run = || match driven {
            // A second entry comes after a turn of others.
            true => (0..2).for_each(|_| assert!(poll_once(driver.as_mut()).is_none())),
            false => zone.run_now(),
        };
        let call = |name: &str| zone.call(component.export::<(), u32>(name).expect("it is there"), ());
        let waiting = call("wait");
        run();
        // Nothing else is there when it starts: the pump is to end with it.
        let wakes = call("wake");
        run();
        assert!(matches!(poll_once(wakes), Some(Ok(0x10))), "one byte was taken");
        assert!(matches!(poll_once(waiting), Some(Ok(0x10))), "and came, driven: {driven}");
    }
}
