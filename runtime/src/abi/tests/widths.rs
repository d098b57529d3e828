//! Guests with 64-bit pointers and the host's typed values, and maps, which no script can write.

use super::{assert_empty, link, poll_once, returned, zone};
use crate::host::linker::Linker;
use crate::host::value::dynamic::Value;
use std::cell::Cell;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// A memory with pointers of this type, and a realloc that gives nothing back; what shrinks stays where it is.
fn memory(pointer: &str) -> String {
    let text = r#"
      (core module $memory
        (memory (export "memory") P 1)
        (global $free (mut P) (P.const 4096))
        (func (export "realloc") (param P P P P) (result P)
          (if (i32.and (P.ne (local.get 0) (P.const 0)) (P.le_u (local.get 3) (local.get 1)))
            (then (return (local.get 0))))
          (global.set $free (P.and (P.add (global.get $free) (P.const 7)) (P.const -8)))
          (memory.copy (global.get $free) (local.get 0) (local.get 1))
          (global.get $free)
          (global.set $free (P.add (global.get $free) (local.get 3)))))
      (core instance $memory (instantiate $memory))
      (alias core export $memory "memory" (core memory $memory))
      (alias core export $memory "realloc" (core func $realloc))"#;
    text.replace('P', pointer)
}

/// Gives its argument to the host and returns what the host says: in the sync ABI and in the async ABI.
fn asking() -> String {
    let memory = memory("i64");
    format!(
        r#"(component
      (import "host" (instance $host
        (export "join" (func (param "v" (list (tuple u8 string))) (result (tuple string (option u64)))))
        (export "ask" (func async (param "v" (list (tuple u8 string))) (result (tuple string (option u64)))))))
      {memory}
      (core func $join (canon lower (func $host "join") (memory $memory) (realloc (core func $realloc))))
      (core func $ask (canon lower (func $host "ask") (memory $memory) (realloc (core func $realloc))))
      (core func $ask-async (canon lower (func $host "ask") async (memory $memory) (realloc (core func $realloc))))
      (core module $m
        (import "" "memory" (memory i64 1))
        (import "" "join" (func $join (param i64 i64 i64)))
        (import "" "ask" (func $ask (param i64 i64 i64)))
        (import "" "ask-async" (func $ask-async (param i64 i64 i32) (result i32)))
        (func (export "join") (param i64 i64) (result i64)
          (call $join (local.get 0) (local.get 1) (i64.const 512))
          (i64.const 512))
        (func (export "ask") (param i64 i64) (result i64)
          (call $ask (local.get 0) (local.get 1) (i64.const 544))
          (i64.const 544))
        (func (export "ask-async") (param i64 i64) (result i64)
          (if (i32.ne (i32.const 2) (call $ask-async (local.get 0) (local.get 1) (i32.const 576))) (then unreachable))
          (i64.const 576)))
      (core instance $i (instantiate $m (with "" (instance
        (export "memory" (memory $memory)) (export "join" (func $join)) (export "ask" (func $ask))
        (export "ask-async" (func $ask-async))))))
      (func (export "join") (param "v" (list (tuple u8 string))) (result (tuple string (option u64)))
        (canon lift (core func $i "join") (memory $memory) (realloc (core func $realloc))))
      (func (export "ask") async (param "v" (list (tuple u8 string))) (result (tuple string (option u64)))
        (canon lift (core func $i "ask") (memory $memory) (realloc (core func $realloc))))
      (func (export "ask-async") async (param "v" (list (tuple u8 string))) (result (tuple string (option u64)))
        (canon lift (core func $i "ask-async") (memory $memory) (realloc (core func $realloc)))))"#
    )
}

type Parts = Vec<(u8, String)>;
type Joined = (String, Option<u64>);

fn join(parts: Parts) -> Joined {
    let text = parts.iter().map(|(count, text)| text.repeat(usize::from(*count))).collect();
    (text, parts.last().map(|(count, _)| u64::from(*count) << 32))
}

fn parts() -> Parts {
    vec![(2, "ab".to_string()), (0, "x".to_string()), (1, "ö".to_string())]
}

#[test]
fn typed_values_go_to_and_from_a_guest_with_64_bit_pointers() {
    thread_local!(static WAITS: Cell<u32> = const { Cell::new(0) });
    let mut linker = Linker::new();
    linker.func("host", "join", |_, (parts,): (Parts,)| Ok(join(parts)));
    linker.async_func("host", "ask", |_, (parts,): (Parts,)| {
        let wait = std::future::poll_fn(|task: &mut Context<'_>| match WAITS.get() {
            0 => Poll::Ready(()),
            more => {
                WAITS.set(more - 1);
                task.waker().wake_by_ref();
                Poll::Pending
            }
        });
        Box::pin(async move {
            wait.await;
            Ok(join(parts))
        })
    });
    let component = link(&asking(), &linker);
    let zone = zone(&component);
    let expected = ("ababö".to_string(), Some(1 << 32));
    for name in ["join", "ask", "ask-async"] {
        assert_eq!(returned::<_, Joined>(&component, &zone, name, (parts(),)), expected, "{name}");
        assert_eq!(returned::<_, Joined>(&component, &zone, name, (Parts::new(),)), (String::new(), None), "{name}");
    }
    // The caller is put aside, and its result goes to memory when it is there.
    WAITS.set(3);
    let asked = zone.call(component.export::<_, Joined>("ask").expect("it is there"), (parts(),));
    let mut asked = pin!(asked);
    let mut task = Context::from_waker(Waker::noop());
    for _ in 0..8 {
        zone.run_now();
    }
    assert_eq!(std::future::Future::poll(asked.as_mut(), &mut task).map(Result::ok), Poll::Ready(Some(expected)));
    assert_empty(&zone);
}

/// Passes maps on from a component with pointers of one type to one with pointers of another, which gives them back.
fn passing([caller, callee]: [&str; 2]) -> String {
    let (caller_memory, callee_memory) = (memory(caller), memory(callee));
    let size = if callee == "i64" { 8 } else { 4 };
    format!(
        r#"(component
      (component $callee
        {callee_memory}
        (core module $m
          (import "" "memory" (memory {callee} 1))
          (func (export "pair") (param {callee} {callee}) (result {callee})
            ({callee}.store ({callee}.const 16) (local.get 0))
            ({callee}.store ({callee}.const {second}) (local.get 1))
            ({callee}.const 16)))
        (core instance $i (instantiate $m (with "" (instance (export "memory" (memory $memory))))))
        (func (export "f") (param "v" (map string (tuple u8 (list u16)))) (result (map string (tuple u8 (list u16))))
          (canon lift (core func $i "pair") (memory $memory) (realloc (core func $realloc)) string-encoding=utf16)))
      (component $caller
        (import "f" (func $f (param "v" (map string (tuple u8 (list u16)))) (result (map string (tuple u8 (list u16))))))
        {caller_memory}
        (core func $f (canon lower (func $f) (memory $memory) (realloc (core func $realloc))))
        (core module $m
          (import "" "f" (func $f (param {caller} {caller} {caller})))
          (func (export "run") (param {caller} {caller}) (result {caller})
            (call $f (local.get 0) (local.get 1) ({caller}.const 512))
            ({caller}.const 512)))
        (core instance $i (instantiate $m (with "" (instance (export "f" (func $f))))))
        (func (export "run") (param "v" (map string (tuple u8 (list u16)))) (result (map string (tuple u8 (list u16))))
          (canon lift (core func $i "run") (memory $memory) (realloc (core func $realloc)))))
      (instance $callee (instantiate $callee))
      (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
      (export "run" (func $caller "run")))"#,
        second = 16 + size
    )
}

#[test]
fn maps_are_passed_between_all_widths_of_pointers() {
    let entry = |key: &str, n: u8, list: &[u16]| {
        let list = Value::List(list.iter().map(|n| Value::U16(*n)).collect());
        (Value::String(key.to_string()), Value::Tuple(vec![Value::U8(n), list]))
    };
    let map = || Value::Map(vec![entry("one", 1, &[1, 2, 3]), entry("", 2, &[]), entry("drei", 3, &[0xffff])]);
    for widths in [["i32", "i64"], ["i64", "i32"], ["i64", "i64"]] {
        let component = link(&passing(widths), &Linker::new());
        let zone = zone(&component);
        let call = zone.call_dynamic(component.export_dynamic("run").expect("it is there"), vec![map()]);
        zone.run_now();
        let answer = poll_once(call).expect("the call returns").expect("the call does not trap");
        assert_eq!(format!("{answer:?}"), format!("{:?}", Some(map())), "{widths:?}");
    }
}
