//! `forward` between ends of the host, which neither scripts nor the model have.

use super::{assert_empty, call, link, returned, zone};
use crate::abi::{Component, Destination, Produced, Result, Source};
use crate::host::linker::Linker;
use crate::host::stream::{FutureReader, StreamReader};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// `open` gives a stream or future of its own, `join` forwards what it gets to that.
fn forwards(kind: &str, element: &str) -> Component {
    let wat = format!(
        r#"(component
          (import "lab:streams/forward@0.1.0" (instance $lab
            (export "forward" (func (param "readable" u32) (param "writable" u32)))))
          (type $t ({kind} {element}))
          (core func $forward (canon lower (func $lab "forward")))
          (core func $new (canon {kind}.new $t))
          (core module $m
            (import "" "forward" (func $forward (param i32 i32)))
            (import "" "new" (func $new (result i64)))
            (global $ends (mut i64) (i64.const 0))
            (func $open (export "open") (result i32)
              (global.set $ends (call $new))
              (i32.wrap_i64 (global.get $ends)))
            (func $join (export "join") (param i32)
              (call $forward (local.get 0) (i32.wrap_i64 (i64.shr_u (global.get $ends) (i64.const 32)))))
            (func (export "both") (param i32) (result i32)
              (drop (call $open))
              (call $join (local.get 0))
              (i32.wrap_i64 (global.get $ends))))
          (core instance $i (instantiate $m (with "" (instance
            (export "forward" (func $forward)) (export "new" (func $new))))))
          (func (export "open") (result $t) (canon lift (core func $i "open")))
          (func (export "join") (param "t" $t) (canon lift (core func $i "join")))
          (func (export "both") (param "t" $t) (result $t) (canon lift (core func $i "both"))))"#
    );
    let mut linker = Linker::new();
    crate::host::lab::link(&mut linker);
    link(&wat, &linker)
}

/// Gives `left` bytes, three at a time, each time after one more poll.
struct Bytes {
    left: u8,
    ready: bool,
    dropped: Rc<Cell<bool>>,
}

impl Source for Bytes {
    fn poll_produce(&mut self, task: &mut Context<'_>, destination: &mut Destination<'_>) -> Poll<Result<Produced>> {
        if self.left == 0 {
            return Poll::Ready(Ok(Produced::End));
        }
        self.ready = !self.ready;
        if self.ready {
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        let len = destination.put_bytes(&[self.left; 3][..usize::from(self.left.min(3))]);
        self.left -= len as u8;
        Poll::Ready(Ok(Produced::Items))
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.dropped.set(true);
    }
}

fn bytes(left: u8) -> (StreamReader<u8>, Rc<Cell<bool>>) {
    let dropped = Rc::new(Cell::new(false));
    (StreamReader::new(Bytes { left, ready: false, dropped: dropped.clone() }), dropped)
}

#[test]
fn a_stream_that_is_forwarded_before_the_host_has_it_is_its_own_source() {
    let component = forwards("stream", "u8");
    let zone = zone(&component);
    let (stream, _) = bytes(7);
    let stream: StreamReader<u8> = returned(&component, &zone, "both", (stream,));
    assert!(stream.into_source::<Bytes>().is_ok_and(|source| source.left == 7), "nothing is in between");
    assert_empty(&zone);
}

#[test]
fn the_host_reads_what_it_writes_through_a_forward() {
    let component = forwards("stream", "u8");
    let zone = zone(&component);
    let (source, dropped) = bytes(7);
    let mut stream: StreamReader<u8> = returned(&component, &zone, "open", ());
    let mut task = Context::from_waker(Waker::noop());
    assert!(stream.poll_next(&mut task, 100).is_pending(), "nobody writes yet");
    returned::<_, ()>(&component, &zone, "join", (source,));
    let mut got = Vec::new();
    loop {
        match stream.poll_next(&mut task, 100) {
            Poll::Pending => zone.run_now(),
            Poll::Ready(next) => match next.expect("the source has no error") {
                Some(items) => got.extend(items),
                None => break,
            },
        }
    }
    assert_eq!(got, [7, 7, 7, 4, 4, 4, 1]);
    assert!(dropped.get(), "the source is gone when it has ended");
    drop(stream);
    assert_empty(&zone);
}

/// Has two reads in flight when what it gets is forwarded to them; gives the counts of both and the bytes of the second.
const READS_AHEAD: &str = r#"
(component
  (import "lab:streams/forward@0.1.0" (instance $forward
    (export "forward" (func (param "readable" u32) (param "writable" u32)))))
  (import "lab:streams/read-ahead@0.1.0" (instance $read-ahead
    (export "read-ahead" (func (param "readable" u32) (param "pointer" u32) (param "length" u32) (result bool)))))
  (type $t (stream u8))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $forward (canon lower (func $forward "forward")))
  (core func $read-ahead (canon lower (func $read-ahead "read-ahead")))
  (core func $new (canon stream.new $t))
  (core func $read (canon stream.read $t async (memory (core memory $memory "memory"))))
  (core func $drop (canon stream.drop-readable $t))
  (core func $set-new (canon waitable-set.new))
  (core func $set-drop (canon waitable-set.drop))
  (core func $join (canon waitable.join))
  (core func $wait (canon waitable-set.wait (memory (core memory $memory "memory"))))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "forward" (func $forward (param i32 i32)))
    (import "" "read-ahead" (func $read-ahead (param i32 i32 i32) (result i32)))
    (import "" "new" (func $new (result i64)))
    (import "" "read" (func $read (param i32 i32 i32) (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (import "" "set-new" (func $set-new (result i32)))
    (import "" "set-drop" (func $set-drop (param i32)))
    (import "" "join" (func $join (param i32 i32)))
    (import "" "wait" (func $wait (param i32 i32) (result i32)))
    (func (export "run") (param $from i32) (result i64)
      (local $ends i64) (local $reader i32) (local $set i32) (local $counts i32)
      (local.set $ends (call $new))
      (local.set $reader (i32.wrap_i64 (local.get $ends)))
      (drop (call $read (local.get $reader) (i32.const 16) (i32.const 2)))
      (drop (call $read-ahead (local.get $reader) (i32.const 32) (i32.const 3)))
      (call $forward (local.get $from) (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
      (local.set $set (call $set-new))
      (call $join (local.get $reader) (local.get $set))
      (drop (call $wait (local.get $set) (i32.const 0)))
      (local.set $counts (i32.load (i32.const 4)))
      (drop (call $wait (local.get $set) (i32.const 0)))
      (local.set $counts (i32.or (i32.shl (local.get $counts) (i32.const 16)) (i32.load (i32.const 4))))
      (call $join (local.get $reader) (i32.const 0))
      (call $drop (local.get $reader))
      (call $set-drop (local.get $set))
      (i64.or (i64.shl (i64.extend_i32_u (local.get $counts)) (i64.const 32)) (i64.load32_u (i32.const 32)))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "forward" (func $forward))
    (export "read-ahead" (func $read-ahead)) (export "new" (func $new)) (export "read" (func $read))
    (export "drop" (func $drop)) (export "set-new" (func $set-new)) (export "set-drop" (func $set-drop))
    (export "join" (func $join)) (export "wait" (func $wait))))))
  (func (export "run") async (param "t" $t) (result u64) (canon lift (core func $i "run"))))
"#;

#[test]
fn reads_in_flight_are_filled_by_a_source_that_is_forwarded_to_them() {
    let mut linker = Linker::new();
    crate::host::lab::link(&mut linker);
    let component = link(READS_AHEAD, &linker);
    let zone = zone(&component);
    let (source, dropped) = bytes(7);
    let got: u64 = returned(&component, &zone, "run", (source,));
    assert_eq!(got, 0x0020_0030_0005_0505, "two elements, then three: {got:#x}");
    assert!(dropped.get());
    assert_empty(&zone);
}

#[test]
fn a_forward_wakes_the_host_that_reads() {
    let component = forwards("stream", "u8");
    let zone = zone(&component);
    let mut stream: StreamReader<u8> = returned(&component, &zone, "open", ());
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = woken.clone().into();
    assert!(stream.poll_next(&mut Context::from_waker(&waker), 100).is_pending());
    returned::<_, ()>(&component, &zone, "join", (bytes(1).0,));
    assert!(woken.0.load(Ordering::Relaxed));
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_source_goes_with_the_hosts_reader_behind_a_forward() {
    let component = forwards("stream", "u8");
    let zone = zone(&component);
    let (source, dropped) = bytes(7);
    let stream: StreamReader<u8> = returned(&component, &zone, "open", ());
    returned::<_, ()>(&component, &zone, "join", (source,));
    drop(stream);
    zone.run_now();
    assert!(dropped.get());
    assert_empty(&zone);
}

#[test]
fn only_bytes_are_forwarded_from_host_to_host() {
    let component = forwards("future", "string");
    let zone = zone(&component);
    let _future: FutureReader<String> = returned(&component, &zone, "open", ());
    let future = FutureReader::ready("moin".to_string());
    assert!(call::<_, ()>(&component, &zone, "join", (future,)).expect("it ends").is_err());
    assert!(zone.poison().expect("it has trapped").contains("only a stream of bytes"));
}
