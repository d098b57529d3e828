//! A guest written by hand that writes to a stream that it never closes, and one that tries to exit. What standard libraries
//! make of WASI is tested with real guests, in the `tests` package.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::http::HttpCtx;
use super::output::tests::Captured;
use super::{Output, WasiCtxBuilder, link};
use crate::abi::{Component, Limits, Zone};
use crate::component;
use crate::executor::{self, Executor};
use crate::host::HostData;
use crate::host::linker::Linker;
use crate::ring::{IoMode, probe};

const GUEST: &str = r#"
(component
  (import "wasi:cli/exit@0.2.3" (instance $exit (export "exit" (func (param "status" (result))))))
  (import "wasi:cli/types@0.3.0" (instance $types
    (type $error-code (enum "io" "illegal-byte-sequence" "pipe"))
    (export "error-code" (type (eq $error-code)))))
  (alias export $types "error-code" (type $error-code))
  (import "wasi:cli/stdout@0.3.0" (instance $stdout
    (alias outer 1 $error-code (type $outer-error-code))
    (export "error-code" (type $error-code (eq $outer-error-code)))
    (type $outcome (result (error $error-code)))
    (type $stream (stream u8))
    (type $future (future $outcome))
    (export "write-via-stream" (func (param "data" $stream) (result $future)))))
  (type $stream (stream u8))
  (core module $memory (memory (export "memory") 1) (data (i32.const 0) "one\ntwo\nthree"))
  (core instance $memory (instantiate $memory))
  (core func $exit (canon lower (func $exit "exit")))
  (core func $write-via-stream (canon lower (func $stdout "write-via-stream")))
  (core func $new (canon stream.new $stream))
  (core func $write (canon stream.write $stream async (memory (core memory $memory "memory"))))
  (core module $m
    (import "" "exit" (func $exit (param i32)))
    (import "" "write-via-stream" (func $write-via-stream (param i32) (result i32)))
    (import "" "new" (func $new (result i64)))
    (import "" "write" (func $write (param i32 i32 i32) (result i32)))
    (func (export "say") (local $ends i64)
      (local.set $ends (call $new))
      (drop (call $write-via-stream (i32.wrap_i64 (local.get $ends))))
      (drop (call $write (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))) (i32.const 0) (i32.const 13))))
    (func (export "leave") (call $exit (i32.const 0))))
  (core instance $i (instantiate $m (with "" (instance
    (export "exit" (func $exit)) (export "write-via-stream" (func $write-via-stream)) (export "new" (func $new))
    (export "write" (func $write))))))
  (func (export "say") (canon lift (core func $i "say")))
  (func (export "leave") (canon lift (core func $i "leave"))))
"#;

fn guest() -> Component {
    let engine = component::engine().expect("the engine starts");
    let bytes = wat::parse_str(GUEST).expect("the text is well formed");
    let compiled = component::compile(&engine, &bytes).expect("the component compiles");
    let mut linker = Linker::new();
    link(&mut linker);
    linker.link(&engine, Arc::new(compiled)).expect("all imports are there")
}

/// Calls `export` in a new zone named `app#1`, and tells `look` about it when everything has come to rest.
async fn call(component: &Component, export: &str, sink: &Arc<Captured>, look: impl FnOnce(&Zone)) {
    let wasi = WasiCtxBuilder::new().sink(sink.clone()).build("app#1");
    let data = Rc::new(HostData { wasi, http: HttpCtx::denied() });
    let zone = Zone::new(component, Limits::default(), data).expect("the component starts");
    let driver = executor::spawn(zone.drive());
    let export = component.export::<(), ()>(export).expect("the export is there");
    let _outcome = zone.call(export, ()).await;
    rest().await;
    look(&zone);
    drop(zone);
    driver.await.expect("a driver ends with its zone");
    rest().await;
}

/// Long enough for tasks that are woken one by the other.
async fn rest() {
    executor::sleep(Duration::from_millis(5)).await;
}

pub(super) fn on_both_drivers<F: Future<Output = ()>>(test: impl Fn() -> F) {
    for mode in [IoMode::Auto, IoMode::Epoll] {
        let choice = probe(mode).expect("there is a driver");
        Executor::new(&choice).expect("the executor starts").block_on(test());
    }
}

#[test]
fn output_is_read_as_it_comes_and_nothing_of_a_zone_outlives_it() {
    on_both_drivers(|| async {
        let sink = Arc::new(Captured::default());
        let tasks = executor::stats().tasks;
        call(&guest(), "say", &sink, |zone| {
            assert_eq!(zone.poison(), None);
            assert_eq!(sink.take(), lines(&["[app#1] one\n", "[app#1] two\n"]));
        })
        .await;
        assert_eq!(sink.take(), lines(&["[app#1] three\n"]), "the rest of a line comes when its zone ends");
        assert_eq!(executor::stats().tasks, tasks, "who read the guest's stream is gone");
    });
}

#[test]
fn a_guest_that_exits_ends_its_zone_and_nothing_else() {
    on_both_drivers(|| async {
        let sink = Arc::new(Captured::default());
        call(&guest(), "leave", &sink, |zone| {
            let poison = zone.poison().expect("exit is a trap");
            assert!(poison.contains("the guest called `exit(ok)`"), "{poison}");
        })
        .await;
    });
}

fn lines(lines: &[&str]) -> Vec<(Output, String)> {
    lines.iter().map(|line| (Output::Stdout, line.to_string())).collect()
}
