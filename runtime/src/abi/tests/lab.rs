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
