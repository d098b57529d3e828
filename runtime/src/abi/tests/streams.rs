//! Streams and futures between guests, and between guest and host.

use super::waiting::tick;
use super::{assert_empty, link, poll_once, returned, zone};
use crate::abi::{Destination, Produced, Result, Source, Zone};
use crate::host::linker::Linker;
use crate::host::stream::{FutureReader, StreamReader};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// `$writer` gives a stream of `n` chunks; `$reader` reads it to the end and returns how many bytes came, checked.
const GUEST_TO_GUEST: &str = r#"
(component
  (component $writer
    (type $s (stream u8))
    (core module $memory (memory (export "memory") 4))
    (core instance $memory (instantiate $memory))
    (core func $return (canon task.return (result $s)))
    (core func $new (canon stream.new $s))
    (core func $write (canon stream.write $s async (memory (core memory $memory "memory"))))
    (core func $drop (canon stream.drop-writable $s))
    (core func $set.new (canon waitable-set.new))
    (core func $set.drop (canon waitable-set.drop))
    (core func $join (canon waitable.join))
    (core module $m
      (import "" "memory" (memory 4))
      (import "" "return" (func $return (param i32)))
      (import "" "new" (func $new (result i64)))
      (import "" "write" (func $write (param i32 i32 i32) (result i32)))
      (import "" "drop" (func $drop (param i32)))
      (import "" "set.new" (func $set.new (result i32)))
      (import "" "set.drop" (func $set.drop (param i32)))
      (import "" "join" (func $join (param i32 i32)))
      (global $w (mut i32) (i32.const 0))
      (global $set (mut i32) (i32.const 0))
      (global $left (mut i32) (i32.const 0))
      (global $chunk (mut i32) (i32.const 0))
      (global $rest (mut i32) (i32.const 0))
      ;; after a write of the rest of a chunk, which may have moved a part of it
      (func $wrote (param $packed i32)
        (if (i32.and (local.get $packed) (i32.const 15)) (then unreachable))
        (global.set $rest (i32.sub (global.get $rest) (i32.shr_u (local.get $packed) (i32.const 4))))
        (if (i32.eqz (global.get $rest)) (then
          (global.set $rest (global.get $chunk))
          (global.set $left (i32.sub (global.get $left) (i32.const 1))))))
      (func $go (result i32) (local $packed i32)
        (loop $more
          (if (global.get $left) (then
            (memory.fill (i32.const 64) (global.get $left) (global.get $chunk))
            (local.set $packed (call $write (global.get $w) (i32.const 64) (global.get $rest)))
            (if (i32.eq (local.get $packed) (i32.const -1)) (then
              (return (i32.or (i32.const 2) (i32.shl (global.get $set) (i32.const 4))))))
            (call $wrote (local.get $packed))
            (br $more))))
        (call $join (global.get $w) (i32.const 0))
        (call $drop (global.get $w))
        (call $set.drop (global.get $set))
        (i32.const 0))
      (func (export "open") (param $n i32) (param $chunk i32) (result i32) (local $ends i64)
        (global.set $left (local.get $n))
        (global.set $chunk (local.get $chunk))
        (global.set $rest (local.get $chunk))
        (local.set $ends (call $new))
        (global.set $w (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
        (global.set $set (call $set.new))
        (call $join (global.get $w) (global.get $set))
        (call $return (i32.wrap_i64 (local.get $ends)))
        (call $go))
      (func (export "callback") (param $event i32) (param $handle i32) (param $packed i32) (result i32)
        (if (i32.ne (local.get $event) (i32.const 3)) (then unreachable))
        (call $wrote (local.get $packed))
        (call $go)))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "return" (func $return)) (export "new" (func $new))
      (export "write" (func $write)) (export "drop" (func $drop)) (export "set.new" (func $set.new))
      (export "set.drop" (func $set.drop)) (export "join" (func $join))))))
    (func (export "open") async (param "n" u32) (param "chunk" u32) (result $s)
      (canon lift (core func $i "open") async (memory (core memory $memory "memory")) (callback (core func $i "callback")))))
  (instance $writer (instantiate $writer))
  (component $reader
    (type $s (stream u8))
    (import "open" (func $open async (param "n" u32) (param "chunk" u32) (result $s)))
    (core module $memory (memory (export "memory") 4))
    (core instance $memory (instantiate $memory))
    (core func $open (canon lower (func $open) async (memory (core memory $memory "memory"))))
    (core func $return (canon task.return (result u32)))
    (core func $read (canon stream.read $s async (memory (core memory $memory "memory"))))
    (core func $drop (canon stream.drop-readable $s))
    (core func $set.new (canon waitable-set.new))
    (core func $set.drop (canon waitable-set.drop))
    (core func $join (canon waitable.join))
    (core module $m
      (import "" "memory" (memory 4))
      (import "" "open" (func $open (param i32 i32 i32) (result i32)))
      (import "" "return" (func $return (param i32)))
      (import "" "read" (func $read (param i32 i32 i32) (result i32)))
      (import "" "drop" (func $drop (param i32)))
      (import "" "set.new" (func $set.new (result i32)))
      (import "" "set.drop" (func $set.drop (param i32)))
      (import "" "join" (func $join (param i32 i32)))
      (global $r (mut i32) (i32.const 0))
      (global $set (mut i32) (i32.const 0))
      (global $got (mut i32) (i32.const 0))
      (global $size (mut i32) (i32.const 0))
      ;; 1 at the end of the stream
      (func $took (param $packed i32) (result i32)
        (global.set $got (i32.add (global.get $got) (i32.shr_u (local.get $packed) (i32.const 4))))
        (i32.and (local.get $packed) (i32.const 15)))
      (func $go (result i32) (local $packed i32)
        (loop $more
          (local.set $packed (call $read (global.get $r) (i32.const 64) (global.get $size)))
          (if (i32.eq (local.get $packed) (i32.const -1)) (then
            (return (i32.or (i32.const 2) (i32.shl (global.get $set) (i32.const 4))))))
          (br_if $more (i32.eqz (call $took (local.get $packed)))))
        (call $end))
      (func $end (result i32)
        (call $join (global.get $r) (i32.const 0))
        (call $drop (global.get $r))
        (call $set.drop (global.get $set))
        (call $return (global.get $got))
        (i32.const 0))
      (func (export "run") (param $n i32) (param $chunk i32) (param $size i32) (result i32)
        (global.set $got (i32.const 0))
        (global.set $size (local.get $size))
        (if (i32.ne (call $open (local.get $n) (local.get $chunk) (i32.const 16)) (i32.const 2)) (then unreachable))
        (global.set $r (i32.load (i32.const 16)))
        (global.set $set (call $set.new))
        (call $join (global.get $r) (global.get $set))
        (call $go))
      (func (export "callback") (param $event i32) (param $handle i32) (param $packed i32) (result i32)
        (if (i32.ne (local.get $event) (i32.const 2)) (then unreachable))
        (if (call $took (local.get $packed)) (then (return (call $end))))
        (call $go)))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "open" (func $open)) (export "return" (func $return))
      (export "read" (func $read)) (export "drop" (func $drop)) (export "set.new" (func $set.new))
      (export "set.drop" (func $set.drop)) (export "join" (func $join))))))
    (func (export "run") async (param "n" u32) (param "chunk" u32) (param "size" u32) (result u32)
      (canon lift (core func $i "run") async (memory (core memory $memory "memory")) (callback (core func $i "callback")))))
  (instance $reader (instantiate $reader (with "open" (func $writer "open"))))
  (export "run" (func $reader "run"))
  (export "open" (func $writer "open")))
"#;

#[test]
fn every_byte_of_a_stream_arrives_whatever_the_buffers() {
    let component = link(GUEST_TO_GUEST, &Linker::new());
    let zone = zone(&component);
    for (n, chunk, size) in
        [(10u32, 16u32, 16u32), (7, 100, 30), (7, 30, 100), (1, 1, 1), (0, 5, 5), (3, 100_000, 65_536)]
    {
        let got: u32 = returned(&component, &zone, "run", (n, chunk, size));
        assert_eq!(got, n * chunk, "{n} chunks of {chunk} into {size}");
        assert_empty(&zone);
    }
}

/// What a guest writes, as reads of at most `max` bytes give it; the stream is dropped at its end.
fn read_all(zone: &Zone, mut stream: StreamReader<u8>, max: usize) -> Vec<Vec<u8>> {
    let mut got = Vec::new();
    loop {
        match poll_once(stream.next(max)) {
            Some(Ok(Some(bytes))) => got.push(bytes),
            Some(Ok(None)) => break,
            Some(Err(error)) => panic!("{error:?}"),
            None => zone.run_now(),
        }
    }
    drop(stream);
    zone.run_now();
    got
}

#[test]
fn the_host_reads_what_a_guest_writes() {
    let component = link(GUEST_TO_GUEST, &Linker::new());
    let zone = zone(&component);
    let stream: StreamReader<u8> = returned(&component, &zone, "open", (3u32, 5u32));
    assert_eq!(read_all(&zone, stream, 4).concat(), [3, 3, 3, 3, 3, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1]);
    assert_empty(&zone);
}

#[test]
fn a_reader_that_the_host_drops_traps_a_writer_that_expects_all_to_be_read() {
    let component = link(GUEST_TO_GUEST, &Linker::new());
    let zone = zone(&component);
    let stream: StreamReader<u8> = returned(&component, &zone, "open", (3u32, 5u32));
    drop(stream);
    zone.run_now();
    // The guest's `$wrote` does not accept DROPPED.
    assert!(zone.poison().is_some_and(|reason| reason.contains("unreachable")), "{:?}", zone.poison());
}

/// Gives `left` bytes, `step` at a time, each time after one more poll.
struct Bytes {
    left: usize,
    step: usize,
    ready: bool,
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
        let len = destination.put_bytes(&vec![9; self.step.min(self.left)]);
        self.left -= len;
        Poll::Ready(Ok(Produced::Items))
    }
}

#[test]
fn a_guest_reads_what_the_host_writes_and_the_host_gets_its_own_source_back() {
    let mut linker = Linker::new();
    linker.async_func("test:host/source@1.0.0", "open", |_, (n, chunk): (u32, u32)| {
        Box::pin(async move {
            Ok(StreamReader::<u8>::new(Bytes { left: (n * chunk) as usize, step: chunk as usize, ready: false }))
        })
    });
    let reader = GUEST_TO_GUEST.split("(component $reader").nth(1).expect("it is there");
    let reader = reader.split("(instance $reader").next().expect("it is there");
    let wat = format!(
        r#"(component (type $t (stream u8))
             (import "test:host/source@1.0.0" (instance $host (export "open" (func async (param "n" u32) (param "chunk" u32) (result $t)))))
             (component $reader {reader}
             (instance $reader (instantiate $reader (with "open" (func $host "open"))))
             (export "run" (func $reader "run")))"#
    )
    .replace("(import \"test:host/source@1.0.0\" (instance $host (export \"open\" (func async (param \"n\" u32) (param \"chunk\" u32) (result $t)))))",
        "(import \"test:host/source@1.0.0\" (instance $host (type $t (stream u8)) (export \"open\" (func async (param \"n\" u32) (param \"chunk\" u32) (result $t)))))");
    let component = link(&wat, &linker);
    let zone = zone(&component);
    for (n, chunk, size) in [(4u32, 10u32, 7u32), (4, 3, 100), (0, 1, 1)] {
        let got: u32 = returned(&component, &zone, "run", (n, chunk, size));
        assert_eq!(got, n * chunk);
        assert_empty(&zone);
    }
}

/// Gives back what it gets: a stream and a future, untouched.
const PASS: &str = r#"
(component
  (type $s (stream u8))
  (type $f (future string))
  (core module $m
    (import "" "return" (func $return (param i32 i32)))
    (func (export "pass") (param i32 i32) (result i32) (call $return (local.get 0) (local.get 1)) (i32.const 0))
    (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
  (type $r (tuple $s $f))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $return (canon task.return (result $r) (memory (core memory $memory "memory"))))
  (core instance $i (instantiate $m (with "" (instance (export "return" (func $return))))))
  (func (export "pass") async (param "s" $s) (param "f" $f) (result $r)
    (canon lift (core func $i "pass") async (memory (core memory $memory "memory")) (callback (core func $i "callback")))))
"#;

#[test]
fn ends_that_a_guest_passes_through_come_back_as_they_were() {
    let component = link(PASS, &Linker::new());
    let zone = zone(&component);
    let stream = StreamReader::<u8>::new(Bytes { left: 77, step: 1, ready: false });
    let future = FutureReader::ready("moin".to_string());
    let (stream, future): (StreamReader<u8>, FutureReader<String>) =
        returned(&component, &zone, "pass", (stream, future));
    let source = stream.into_source::<Bytes>().ok().expect("it is the host's own");
    assert_eq!(source.left, 77);
    assert_eq!(poll_once(future.value()).expect("it is ready").expect("it is a value"), "moin");
    assert_empty(&zone);
}

/// `open` gives a stream, `write` writes a text to it that lies in memory that was grown just before.
const GROWS: &str = r#"
(component
  (type $s (stream string))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $new (canon stream.new $s))
  (core func $write (canon stream.write $s async (memory (core memory $memory "memory"))))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "new" (func $new (result i64)))
    (import "" "write" (func $write (param i32 i32 i32) (result i32)))
    (global $writable (mut i32) (i32.const 0))
    (func (export "open") (result i32) (local $ends i64)
      (local.set $ends (call $new))
      (global.set $writable (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
      (i32.wrap_i64 (local.get $ends)))
    (func (export "write") (local $text i32)
      (local.set $text (i32.shl (memory.grow (i32.const 1)) (i32.const 16)))
      (i32.store (local.get $text) (i32.const 0x6e696f6d))
      (i64.store (i32.const 0) (i64.or (i64.extend_i32_u (local.get $text)) (i64.const 0x400000000)))
      (drop (call $write (global.get $writable) (i32.const 0) (i32.const 1)))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "new" (func $new)) (export "write" (func $write))))))
  (func (export "open") (result $s) (canon lift (core func $i "open")))
  (func (export "write") (canon lift (core func $i "write"))))
"#;

#[test]
fn the_host_reads_what_lies_in_memory_that_has_grown() {
    let component = link(GROWS, &Linker::new());
    for asks_first in [false, true] {
        let zone = zone(&component);
        let mut stream: StreamReader<String> = returned(&component, &zone, "open", ());
        if asks_first {
            assert!(poll_once(stream.next(1)).is_none());
        }
        returned::<(), ()>(&component, &zone, "write", ());
        let items = poll_once(stream.next(1)).expect("it was written").expect("it is there");
        assert_eq!(items, Some(vec!["moin".to_string()]), "asks first: {asks_first}");
    }
}

/// Many pairs go from one component to the other in one operation.
const PAIRS: &str = r#"
(component
  (component $writer
    (type $s (stream (tuple u8 u16)))
    (core module $memory (memory (export "memory") 128))
    (core instance $memory (instantiate $memory))
    (core func $new (canon stream.new $s))
    (core func $write (canon stream.write $s async (memory (core memory $memory "memory"))))
    (core module $m
      (import "" "memory" (memory 128))
      (import "" "new" (func $new (result i64)))
      (import "" "write" (func $write (param i32 i32 i32) (result i32)))
      (func (export "open") (result i32) (local $ends i64)
        (local.set $ends (call $new))
        ;; The last one: 7 and 9.
        (i32.store (i32.const 8388604) (i32.const 0x90007))
        (drop (call $write
          (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))) (i32.const 0) (i32.const 2097152)))
        (i32.wrap_i64 (local.get $ends))))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "new" (func $new)) (export "write" (func $write))))))
    (func (export "open") (result $s) (canon lift (core func $i "open"))))
  (component $reader
    (type $s (stream (tuple u8 u16)))
    (import "open" (func $open (result $s)))
    (core module $memory (memory (export "memory") 128))
    (core instance $memory (instantiate $memory))
    (core func $open (canon lower (func $open)))
    (core func $read (canon stream.read $s async (memory (core memory $memory "memory"))))
    (core func $drop (canon stream.drop-readable $s))
    (core module $m
      (import "" "memory" (memory 128))
      (import "" "open" (func $open (result i32)))
      (import "" "read" (func $read (param i32 i32 i32) (result i32)))
      (func (export "run") (result i32)
        (if (i32.ne (i32.const 0x2000000) (call $read (call $open) (i32.const 0) (i32.const 2097152)))
          (then unreachable))
        (i32.load (i32.const 8388604))))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "open" (func $open)) (export "read" (func $read))))))
    (func (export "run") (result u32) (canon lift (core func $i "run"))))
  (instance $writer (instantiate $writer))
  (instance $reader (instantiate $reader (with "open" (func $writer "open"))))
  (export "run" (func $reader "run")))
"#;

/// On the pump's own stack, and on one that could be put aside because the reader could have to wait.
#[test]
fn copying_many_elements_gives_way_to_others_and_is_one_operation() {
    tick();
    for text in [PAIRS.to_string(), PAIRS.replace("stream.read $s async", "stream.read $s")] {
        let component = link(&text, &Linker::new());
        let zone = zone(&component);
        let mut driver = pin!(zone.drive());
        let mut task = Context::from_waker(Waker::noop());
        let mut copying = zone.call(component.export::<(), u32>("run").expect("it is there"), ());
        let (start, mut slices) = (Instant::now(), 0);
        let answer = loop {
            assert!(driver.as_mut().poll(&mut task).is_pending(), "{:?}", zone.poison());
            if let Some(answer) = poll_once(&mut copying) {
                break answer;
            }
            slices += u32::from(zone.is_busy());
            assert!(start.elapsed() < Duration::from_secs(60), "it has an end");
        };
        // Two million pairs take far longer than a slice of 5 ms, and what fills the rest of a pair is not copied.
        assert_eq!(answer.expect("it does not trap"), 0x90007);
        assert!(slices > 2, "only {slices} pauses in {:?}", start.elapsed());
    }
}

#[test]
fn copying_many_elements_can_be_stopped() {
    tick();
    let component = link(PAIRS, &Linker::new());
    let zone = zone(&component);
    let mut driver = pin!(zone.drive());
    let mut task = Context::from_waker(Waker::noop());
    let mut copying = zone.call(component.export::<(), u32>("run").expect("it is there"), ());
    while !zone.is_busy() {
        assert!(driver.as_mut().poll(&mut task).is_pending(), "it cannot be done yet");
    }
    zone.kill("enough");
    let outcome = loop {
        let over = driver.as_mut().poll(&mut task).is_ready();
        match poll_once(&mut copying) {
            Some(outcome) => break outcome,
            None => assert!(!over, "the driver ends after it has told the callers"),
        }
    };
    assert!(outcome.is_err(), "{outcome:?}");
}

/// Writes three million bytes from one place and reads them at another, in one memory. The first of them counts them.
const OVERLAP: &str = r#"
(component
  (type $s (stream u8))
  (core module $memory (memory (export "memory") 64))
  (core instance $memory (instantiate $memory))
  (core func $new (canon stream.new $s))
  (core func $write (canon stream.write $s async (memory (core memory $memory "memory"))))
  (core func $read (canon stream.read $s async (memory (core memory $memory "memory"))))
  (core module $m
    (import "" "memory" (memory 64))
    (import "" "new" (func $new (result i64)))
    (import "" "write" (func $write (param i32 i32 i32) (result i32)))
    (import "" "read" (func $read (param i32 i32 i32) (result i32)))
    (func (export "run") (param $from i32) (param $to i32) (result i32) (local $ends i64) (local $i i32)
      ;; Each word says where it is.
      (loop $next
        (i32.store (i32.add (local.get $from) (local.get $i)) (local.get $i))
        (local.set $i (i32.add (local.get $i) (i32.const 4)))
        (br_if $next (i32.lt_u (local.get $i) (i32.const 3000000))))
      (local.set $ends (call $new))
      (drop (call $write
        (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))) (local.get $from) (i32.const 3000000)))
      (drop (call $read (i32.wrap_i64 (local.get $ends)) (local.get $to) (i32.const 3000000)))
      ;; How many do so elsewhere.
      (local.set $i (i32.const 0))
      (block $end (loop $next
        (br_if $end (i32.ge_u (local.get $i) (i32.const 3000000)))
        (br_if $end (i32.ne (i32.load (i32.add (local.get $to) (local.get $i))) (local.get $i)))
        (local.set $i (i32.add (local.get $i) (i32.const 4)))
        (br $next)))
      (local.get $i)))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "new" (func $new)) (export "write" (func $write))
    (export "read" (func $read))))))
  (func (export "run") (param "from" u32) (param "to" u32) (result u32) (canon lift (core func $i "run"))))
"#;

#[test]
fn many_bytes_of_one_memory_arrive_whole_where_they_overlap() {
    let component = link(OVERLAP, &Linker::new());
    for (from, to) in [(0u32, 4u32), (4, 0), (0, 1 << 20), (1 << 20, 0), (0, 1_048_580), (64, 64)] {
        let zone = zone(&component);
        let moved: u32 = returned(&component, &zone, "run", (from, to));
        assert_eq!(moved, 3_000_000, "from {from} to {to}");
    }
}
