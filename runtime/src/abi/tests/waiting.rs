//! Code that waits in the middle of itself, on a stack that is put aside; with the host on the other side.

use super::{assert_empty, call, engine, link, poll_once, returned, zone};
use crate::abi::{CallError, HostFuture};
use crate::component;
use crate::host::linker::Linker;
use std::pin::pin;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Imports `op` in both ways, and calls it synchronously.
const HOST: &str = r#"
(component
  (import "host" (instance $host
    (export "wide" (func async (param "x" u64) (result u64)))
    (export "float" (func async (param "x" f64) (result f64)))
    (export "pair" (func async (param "x" u32) (result (tuple u32 u64))))))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $wide (canon lower (func $host "wide")))
  (core func $float (canon lower (func $host "float")))
  (core func $pair (canon lower (func $host "pair") (memory (core memory $memory "memory"))))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "wide" (func $wide (param i64) (result i64)))
    (import "" "float" (func $float (param f64) (result f64)))
    (import "" "pair" (func $pair (param i32 i32)))
    (func (export "wide") (param i64) (result i64) (i64.add (call $wide (local.get 0)) (i64.const 1)))
    (func (export "float") (param f64) (result f64) (f64.add (call $float (local.get 0)) (f64.const 0.5)))
    (func (export "pair") (param i32) (result i64)
      (call $pair (local.get 0) (i32.const 32))
      (i64.add (i64.load32_u (i32.const 32)) (i64.load (i32.const 40)))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "wide" (func $wide)) (export "float" (func $float))
    (export "pair" (func $pair))))))
  (func (export "wide") async (param "x" u64) (result u64) (canon lift (core func $i "wide")))
  (func (export "float") async (param "x" f64) (result f64) (canon lift (core func $i "float")))
  (func (export "pair") async (param "x" u32) (result u64) (canon lift (core func $i "pair"))))
"#;

/// Ready when it is polled the second time.
fn later<T: 'static>(value: T) -> HostFuture<T> {
    let mut value = Some(value);
    let mut polled = false;
    Box::pin(std::future::poll_fn(move |task| {
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(Ok(value.take().expect("polled once after it is ready")));
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }))
}

#[test]
fn a_synchronous_call_of_an_async_host_function_gets_its_result_of_any_shape() {
    let mut linker = Linker::new();
    linker.async_func::<(u64,), u64, _>("host", "wide", |_, (x,)| later(x << 32));
    linker.async_func::<(f64,), f64, _>("host", "float", |_, (x,)| later(x * 2.0));
    linker.async_func::<(u32,), (u32, u64), _>("host", "pair", |_, (x,)| later((x, u64::from(x) << 33)));
    let component = link(HOST, &linker);
    let zone = zone(&component);
    for x in [1u32, 77, u32::MAX] {
        assert_eq!(returned::<_, u64>(&component, &zone, "wide", (u64::from(x),)), (u64::from(x) << 32) + 1);
        assert_eq!(returned::<_, f64>(&component, &zone, "float", (f64::from(x),)), f64::from(x) * 2.0 + 0.5);
        assert_eq!(returned::<_, u64>(&component, &zone, "pair", (x,)), u64::from(x) + (u64::from(x) << 33));
    }
    assert_empty(&zone);
}

#[test]
fn a_host_that_never_answers_holds_only_who_waits_for_it_and_dies_with_the_zone() {
    static POLLED: AtomicU32 = AtomicU32::new(0);
    let mut linker = Linker::new();
    linker.async_func::<(u64,), u64, _>("host", "wide", |_, _| {
        Box::pin(std::future::poll_fn(|_| {
            POLLED.fetch_add(1, Ordering::Relaxed);
            Poll::Pending
        }))
    });
    linker.async_func::<(f64,), f64, _>("host", "float", |_, (x,)| later(x));
    linker.async_func::<(u32,), (u32, u64), _>("host", "pair", |_, (x,)| later((x, 0)));
    let component = link(HOST, &linker);
    let first = zone(&component);
    let waiting = first.call(component.export::<(u64,), u64>("wide").expect("it is there"), (1,));
    first.run_now();
    assert_eq!(POLLED.load(Ordering::Relaxed), 1, "asked once, and nobody has woken it");
    assert_eq!(first.deadlock(), None, "the host may still answer");
    let beside = zone(&component);
    assert_eq!(returned::<_, f64>(&component, &beside, "float", (2.0,)), 2.5);
    first.kill("it took too long");
    assert!(matches!(poll_once(waiting), Some(Err(CallError::Trap(reason))) if &*reason == "it took too long"));
}

#[test]
fn who_awaits_a_call_hears_that_its_zone_is_gone() {
    let mut linker = Linker::new();
    linker.async_func::<(u64,), u64, _>("host", "wide", |_, _| Box::pin(std::future::pending()));
    linker.async_func::<(f64,), f64, _>("host", "float", |_, (x,)| later(x));
    linker.async_func::<(u32,), (u32, u64), _>("host", "pair", |_, (x,)| later((x, 0)));
    let component = link(HOST, &linker);
    let first = zone(&component);
    let export = component.export::<(u64,), u64>("wide").expect("it is there");
    let waiting = first.call(export, (1,));
    first.run_now();
    let not_begun = first.call(export, (2,));
    drop(first);
    for call in [waiting, not_begun] {
        let ended = poll_once(call);
        assert!(matches!(&ended, Some(Err(CallError::Trap(reason))) if reason.contains("gone")), "{ended:?}");
    }
}

/// `spin` counts to its parameter on a stack that could be put aside.
const SPIN: &str = r#"
(component
  (core func $yield (canon thread.yield))
  (core func $return (canon task.return (result u32)))
  (core module $m
    (import "" "yield" (func $yield (result i32)))
    (import "" "return" (func $return (param i32)))
    (func (export "spin") (param $n i32) (local $i i32)
      (drop (call $yield))
      (loop $next
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $i) (local.get $n))))
      (drop (call $yield))
      (call $return (local.get $i))))
  (core instance $i (instantiate $m (with "" (instance
    (export "yield" (func $yield)) (export "return" (func $return))))))
  (func (export "spin") async (param "n" u32) (result u32) (canon lift (core func $i "spin") async)))
"#;

pub(super) fn tick() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| component::tick(engine()).expect("the thread starts"));
}

#[test]
fn a_guest_that_spins_on_its_own_stack_is_put_aside_after_a_slice_and_goes_on() {
    tick();
    let component = link(SPIN, &Linker::new());
    let zone = zone(&component);
    let spin = component.export::<(u32,), u32>("spin").expect("it is there");
    let mut driver = pin!(zone.drive());
    let mut task = Context::from_waker(Waker::noop());
    let mut spinning = zone.call(spin, (1_000_000_000,));
    let (start, mut slices) = (Instant::now(), 0);
    let answer = loop {
        assert!(driver.as_mut().poll(&mut task).is_pending(), "{:?}", zone.poison());
        if let Some(answer) = poll_once(&mut spinning) {
            break answer;
        }
        slices += u32::from(zone.is_busy());
        assert!(start.elapsed() < Duration::from_secs(60), "it has an end");
    };
    assert_eq!(answer.expect("it does not trap"), 1_000_000_000);
    assert!(slices > 2, "only {slices} pauses in {:?}", start.elapsed());
    assert_empty(&zone);
}

#[test]
fn a_guest_that_spins_on_its_own_stack_can_be_killed() {
    tick();
    let component = link(SPIN, &Linker::new());
    let zone = zone(&component);
    let spin = component.export::<(u32,), u32>("spin").expect("it is there");
    let mut driver = pin!(zone.drive());
    let mut task = Context::from_waker(Waker::noop());
    let mut spinning = zone.call(spin, (u32::MAX,));
    while !zone.is_busy() {
        assert!(driver.as_mut().poll(&mut task).is_pending(), "it cannot be done yet");
    }
    zone.kill("enough");
    let outcome = loop {
        let over = driver.as_mut().poll(&mut task).is_ready();
        match poll_once(&mut spinning) {
            Some(outcome) => break outcome,
            None => assert!(!over, "the driver ends after it has told the callers"),
        }
    };
    assert!(matches!(outcome, Err(CallError::Trap(_))), "{outcome:?}");
    assert!(call::<_, u32>(&component, &zone, "spin", (1u32,)).expect("refused at once").is_err());
}
