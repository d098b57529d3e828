//! Reads of the host that begin before anybody asks for what they bring, and where that goes then.

use super::{assert_empty, call, link, poll_once, returned};
use crate::abi::stream::{COMPLETED, DROPPED};
use crate::abi::{BLOCKED, Component, HostCx, Limits, Zone};
use crate::host::linker::Linker;
use crate::host::stream::{FutureReader, StreamReader};
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Does what it is told with handles that it is told. Its memory begins with the alphabet; what it reads is at 100.
const PUPPET: &str = r#"
(component
  (import "test:host/keep@0.1.0" (instance $host
    (type $s (stream u8)) (type $f (future u8))
    (export "keep" (func (param "s" $s)))
    (export "give" (func (result $s)))
    (export "keep-future" (func (param "f" $f)))
    (export "give-future" (func (result $f)))))
  (import "lab:streams/forward@0.1.0" (instance $lab
    (export "forward" (func (param "readable" u32) (param "writable" u32)))))
  (import "lab:streams/read-ahead@0.1.0" (instance $read-ahead
    (export "read-ahead" (func (param "readable" u32) (param "pointer" u32) (param "length" u32) (result bool)))))
  (type $s (stream u8))
  (type $f (future u8))
  (core module $memory (memory (export "memory") 1) (data (i32.const 0) "abcdefghijklmnopqrstuvwxyz"))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $m))
  (core func $keep (canon lower (func $host "keep")))
  (core func $give (canon lower (func $host "give")))
  (core func $keep-future (canon lower (func $host "keep-future")))
  (core func $give-future (canon lower (func $host "give-future")))
  (core func $forward (canon lower (func $lab "forward")))
  (core func $read-ahead (canon lower (func $read-ahead "read-ahead")))
  (core func $new (canon stream.new $s))
  (core func $read (canon stream.read $s async (memory $m)))
  (core func $write (canon stream.write $s async (memory $m)))
  (core func $drop-readable (canon stream.drop-readable $s))
  (core func $drop-writable (canon stream.drop-writable $s))
  (core func $cancel-read (canon stream.cancel-read $s))
  (core func $cancel-write (canon stream.cancel-write $s))
  (core func $new-future (canon future.new $f))
  (core func $read-future (canon future.read $f async (memory $m)))
  (core func $write-future (canon future.write $f async (memory $m)))
  (core func $drop-readable-future (canon future.drop-readable $f))
  (core func $drop-writable-future (canon future.drop-writable $f))
  (core module $load
    (import "" "memory" (memory 1))
    (func (export "load") (result i64) (i64.load (i32.const 100))))
  (core instance $load (instantiate $load (with "" (instance $memory))))
  (func (export "new") (result u64) (canon lift (core func $new)))
  (func (export "keep") (param "s" u32) (canon lift (core func $keep)))
  (func (export "give") (result u32) (canon lift (core func $give)))
  (func (export "read") (param "s" u32) (param "p" u32) (param "n" u32) (result u32) (canon lift (core func $read)))
  (func (export "write") (param "s" u32) (param "p" u32) (param "n" u32) (result u32) (canon lift (core func $write)))
  (func (export "drop-readable") (param "s" u32) (canon lift (core func $drop-readable)))
  (func (export "drop-writable") (param "s" u32) (canon lift (core func $drop-writable)))
  (func (export "cancel-read") (param "s" u32) (result u32) (canon lift (core func $cancel-read)))
  (func (export "cancel-write") (param "s" u32) (result u32) (canon lift (core func $cancel-write)))
  (func (export "forward") (param "r" u32) (param "w" u32) (canon lift (core func $forward)))
  (func (export "read-ahead") (param "r" u32) (param "p" u32) (param "n" u32) (result bool)
    (canon lift (core func $read-ahead)))
  (func (export "new-future") (result u64) (canon lift (core func $new-future)))
  (func (export "keep-future") (param "f" u32) (canon lift (core func $keep-future)))
  (func (export "give-future") (result u32) (canon lift (core func $give-future)))
  (func (export "read-future") (param "f" u32) (param "p" u32) (result u32) (canon lift (core func $read-future)))
  (func (export "write-future") (param "f" u32) (param "p" u32) (result u32) (canon lift (core func $write-future)))
  (func (export "drop-readable-future") (param "f" u32) (canon lift (core func $drop-readable-future)))
  (func (export "drop-writable-future") (param "f" u32) (canon lift (core func $drop-writable-future)))
  (func (export "load") (result u64) (canon lift (core func $load "load"))))
"#;

/// Bytes that the host reads of itself.
const MAX: usize = 8;

/// What the host has got, and begun to read.
#[derive(Default)]
struct Kept {
    stream: RefCell<Option<StreamReader<u8>>>,
    future: RefCell<Option<FutureReader<u8>>>,
}

fn kept(cx: &HostCx<'_>) -> Rc<Kept> {
    cx.data().expect("the zone was made with it")
}

struct Puppet {
    component: Component,
    zone: Zone,
    kept: Rc<Kept>,
}

impl Puppet {
    fn new() -> Puppet {
        Puppet::with(Limits::default())
    }

    fn with(limits: Limits) -> Puppet {
        const KEEP: &str = "test:host/keep@0.1.0";
        let mut linker = Linker::new();
        crate::host::lab::link(&mut linker);
        linker.func(KEEP, "keep", |cx, (stream,): (StreamReader<u8>,)| {
            stream.begin(cx, MAX)?;
            kept(cx).stream.replace(Some(stream));
            Ok(())
        });
        linker.func(KEEP, "give", |cx, ()| Ok(kept(cx).stream.take().expect("a test keeps it first")));
        linker.func(KEEP, "keep-future", |cx, (future,): (FutureReader<u8>,)| {
            future.begin(cx)?;
            kept(cx).future.replace(Some(future));
            Ok(())
        });
        linker.func(KEEP, "give-future", |cx, ()| Ok(kept(cx).future.take().expect("a test keeps it first")));
        let component = link(PUPPET, &linker);
        let kept = Rc::new(Kept::default());
        let zone = Zone::new(&component, limits, kept.clone()).expect("the component starts");
        Puppet { component, zone, kept }
    }

    /// A stream or a future, its reading end with the host: gives the writable end.
    fn keep(&self, kind: &str) -> u32 {
        let (readable, writable) = self.ends(&format!("new{kind}"));
        returned::<_, ()>(&self.component, &self.zone, &format!("keep{kind}"), (readable,));
        writable
    }

    /// A stream of which the host has read `text` before it gave it back; gives both ends.
    fn unread(&self, text: &str) -> (u32, u32) {
        let writable = self.keep("");
        assert_eq!(self.write(writable, text), text.len().to_string());
        (self.tell("give", ()), writable)
    }

    fn ends(&self, new: &str) -> (u32, u32) {
        let ends: u64 = returned(&self.component, &self.zone, new, ());
        (ends as u32, (ends >> 32) as u32)
    }

    fn tell<P: crate::host::value::Lower>(&self, what: &str, params: P) -> u32 {
        returned(&self.component, &self.zone, what, params)
    }

    fn act<P: crate::host::value::Lower>(&self, what: &str, params: P) {
        returned::<P, ()>(&self.component, &self.zone, what, params);
    }

    /// Writes letters that follow each other in the alphabet; gives how many were taken, or why none.
    fn write(&self, writable: u32, letters: &str) -> String {
        let first = letters.bytes().next().expect("a test writes something");
        outcome(self.tell("write", (writable, u32::from(first - b'a'), letters.len() as u32)), |count| {
            count.to_string()
        })
    }

    /// Gives what was read, or why nothing.
    fn read(&self, readable: u32, len: u32) -> String {
        outcome(self.tell("read", (readable, 100u32, len)), |count| self.text(count))
    }

    /// The first bytes of the buffer.
    fn text(&self, count: u32) -> String {
        let bytes: u64 = returned(&self.component, &self.zone, "load", ());
        String::from_utf8(bytes.to_le_bytes()[..count as usize].to_vec()).expect("letters")
    }

    /// What the host gets, if it asks for at most `max` bytes.
    fn next(&self, max: usize) -> String {
        let mut stream = self.kept.stream.borrow_mut();
        let stream = stream.as_mut().expect("a test keeps it first");
        match poll_once(stream.next(max)) {
            None => "blocked".to_string(),
            Some(Ok(None)) => "dropped".to_string(),
            Some(Ok(Some(bytes))) => String::from_utf8(bytes).expect("letters"),
            Some(Err(error)) => panic!("{error:?}"),
        }
    }

    /// Drops these ends and what the host has: nothing is left.
    fn end(self, ends: impl IntoIterator<Item = (&'static str, u32)>) {
        for (what, handle) in ends {
            self.act(what, (handle,));
        }
        self.kept.stream.take();
        self.kept.future.take();
        self.zone.run_now();
        assert_empty(&self.zone);
    }
}

fn outcome(packed: u32, completed: impl FnOnce(u32) -> String) -> String {
    match (packed, packed & 0xf) {
        (BLOCKED, _) => "blocked".to_string(),
        (_, COMPLETED) => completed(packed >> 4),
        (DROPPED, _) => "dropped".to_string(),
        _ => format!("{packed:#x}"),
    }
}

#[test]
fn a_read_that_has_begun_spares_the_guest_that_writes_next_a_wait() {
    let puppet = Puppet::new();
    let writable = puppet.keep("");
    assert_eq!(puppet.write(writable, "abcde"), "5", "nobody has asked for it");
    puppet.act("drop-writable", (writable,));
    assert_eq!([puppet.next(64), puppet.next(64)], ["abcde", "dropped"]);
    puppet.end([]);
}

#[test]
fn what_comes_behind_a_read_that_has_begun_waits_to_be_asked_for() {
    let puppet = Puppet::new();
    let writable = puppet.keep("");
    assert_eq!(puppet.write(writable, "abcdefghij"), "8", "one read is one buffer");
    assert_eq!(puppet.write(writable, "klm"), "blocked");
    assert_eq!([puppet.next(64), puppet.next(2), puppet.next(64)], ["abcdefgh", "kl", "m"]);
}

#[test]
fn a_read_begins_with_what_a_guest_has_written_before() {
    let puppet = Puppet::new();
    let (readable, writable) = puppet.ends("new");
    assert_eq!(puppet.write(writable, "abc"), "blocked");
    puppet.act("keep", (readable,));
    assert_eq!(puppet.tell("cancel-write", (writable,)), 3 << 4 | 2, "it has gone already");
    assert_eq!(puppet.next(64), "abc");
    puppet.end([("drop-writable", writable)]);
}

#[test]
fn a_read_that_has_begun_and_that_nobody_asks_for_leaves_nothing() {
    for text in ["", "abc"] {
        let puppet = Puppet::new();
        let writable = puppet.keep("");
        if !text.is_empty() {
            assert_eq!(puppet.write(writable, text), "3");
        }
        puppet.end([("drop-writable", writable)]);
    }
}

#[test]
fn what_was_read_before_a_trap_still_counts() {
    for given in [false, true] {
        let puppet = Puppet::new();
        let writable = puppet.keep("");
        assert_eq!(puppet.write(writable, "abc"), "3");
        if given {
            let readable = puppet.tell("give", ());
            puppet.act("keep", (readable,));
        }
        puppet.zone.kill("a test");
        assert_eq!(puppet.next(64), "abc");
        let mut stream = puppet.kept.stream.take().expect("it was kept");
        assert!(poll_once(stream.next(64)).expect("it is over").is_err());
    }
}

#[test]
fn a_guest_gets_what_the_host_has_read_before_what_comes() {
    let puppet = Puppet::new();
    let (readable, writable) = puppet.unread("abcde");
    assert_eq!(puppet.write(writable, "uvw"), "blocked");
    assert_eq!(puppet.read(readable, 0), "", "something is there");
    let reads: Vec<String> = [3, 8, 2, 8].map(|len| puppet.read(readable, len)).into();
    assert_eq!(reads, ["abc", "de", "uv", "w"]);
    assert_eq!(puppet.read(readable, 8), "blocked");
    assert_eq!(puppet.tell("cancel-read", (readable,)), 2);
    assert_eq!(puppet.tell("cancel-write", (writable,)), 3 << 4 | 2);
    puppet.end([("drop-readable", readable), ("drop-writable", writable)]);
}

#[test]
fn a_guest_that_gets_a_stream_of_which_nothing_came_meets_its_writer() {
    let puppet = Puppet::new();
    let writable = puppet.keep("");
    let readable = puppet.tell("give", ());
    assert_eq!(puppet.write(writable, "abc"), "blocked", "the host reads no more");
    assert_eq!(puppet.read(readable, 8), "abc");
}

#[test]
fn a_writer_that_is_done_leaves_what_the_host_has_read() {
    let puppet = Puppet::new();
    let (readable, writable) = puppet.unread("abcde");
    puppet.act("drop-writable", (writable,));
    assert_eq!([puppet.read(readable, 4), puppet.read(readable, 4)], ["abcd", "e"]);
    assert_eq!(puppet.read(readable, 4), "dropped");
    puppet.end([("drop-readable", readable)]);
}

#[test]
fn a_guest_that_does_not_want_what_the_host_has_read_leaves_nothing() {
    let puppet = Puppet::new();
    let (readable, writable) = puppet.unread("abcde");
    puppet.act("drop-readable", (readable,));
    assert_eq!(puppet.write(writable, "abc"), "dropped");
    puppet.end([("drop-writable", writable)]);
}

#[test]
fn the_host_gets_again_what_a_guest_has_left() {
    let puppet = Puppet::new();
    let (readable, writable) = puppet.unread("abcde");
    assert_eq!(puppet.read(readable, 1), "a");
    puppet.act("keep", (readable,));
    assert_eq!(puppet.write(writable, "uvw"), "blocked");
    assert_eq!([puppet.next(3), puppet.next(64), puppet.next(64), puppet.next(64)], ["bcd", "e", "uvw", "blocked"]);
    assert_eq!(puppet.tell("cancel-write", (writable,)), 3 << 4 | 2);
    // And once more.
    assert_eq!(puppet.write(writable, "xyz"), "3");
    let readable = puppet.tell("give", ());
    assert_eq!(puppet.read(readable, 8), "xyz");
    puppet.end([("drop-readable", readable), ("drop-writable", writable)]);
}

#[test]
fn a_future_that_the_host_has_read_is_read_again() {
    let puppet = Puppet::new();
    let writable = puppet.keep("-future");
    assert_eq!(puppet.tell("write-future", (writable, 7u32)), COMPLETED, "nobody has asked for it");
    let readable = puppet.tell("give-future", ());
    assert_eq!(puppet.tell("read-future", (readable, 100u32)), COMPLETED);
    assert_eq!(puppet.text(1), "h");
    puppet.end([("drop-readable-future", readable), ("drop-writable-future", writable)]);
}

#[test]
fn a_future_of_which_nothing_came_is_its_writers() {
    let puppet = Puppet::new();
    let writable = puppet.keep("-future");
    let readable = puppet.tell("give-future", ());
    assert_eq!(puppet.tell("write-future", (writable, 7u32)), BLOCKED, "the host reads no more");
    assert_eq!(puppet.tell("read-future", (readable, 100u32)), COMPLETED);
    assert_eq!(puppet.text(1), "h");
}

#[test]
fn a_value_that_the_host_has_read_counts_though_its_writer_is_gone() {
    let puppet = Puppet::new();
    let writable = puppet.keep("-future");
    assert_eq!(puppet.tell("write-future", (writable, 7u32)), COMPLETED);
    puppet.act("drop-writable-future", (writable,));
    let mut future = puppet.kept.future.take().expect("it was kept");
    let value = future.poll_value(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(value, Poll::Ready(Ok(b'h'))));
    drop(future);
    puppet.end([]);
}

#[test]
fn a_forward_brings_what_the_host_has_read_to_a_guest_that_waits() {
    for (room, rest) in [(8, "blocked"), (2, "cde")] {
        let puppet = Puppet::new();
        let (from, writable) = puppet.unread("abcde");
        let (readable, to) = puppet.ends("new");
        assert_eq!(puppet.read(readable, room), "blocked");
        puppet.act("forward", (from, to));
        let count = room.min(5);
        assert_eq!(puppet.tell("cancel-read", (readable,)), count << 4 | 2, "it came with the forward");
        assert_eq!(puppet.text(count), "abcde"[..count as usize]);
        assert_eq!(puppet.read(readable, 8), rest);
        if rest == "blocked" {
            assert_eq!(puppet.write(writable, "xyz"), "3");
            assert_eq!(puppet.text(3), "xyz");
        }
    }
}

#[test]
fn a_forward_brings_what_the_host_has_read_before_what_is_being_written() {
    let puppet = Puppet::new();
    let (from, writable) = puppet.unread("abcde");
    assert_eq!(puppet.write(writable, "xyz"), "blocked");
    let (readable, to) = puppet.ends("new");
    assert_eq!(puppet.read(readable, 5), "blocked");
    puppet.act("forward", (from, to));
    assert_eq!(puppet.tell("cancel-read", (readable,)), 5 << 4 | 2);
    assert_eq!([puppet.text(5), puppet.read(readable, 8)], ["abcde", "xyz"]);
}

#[test]
fn a_forward_brings_what_the_host_has_read_to_the_host() {
    // It asks before, or behind; or has begun and not asked.
    for asks in ["before", "behind", "never"] {
        let puppet = Puppet::new();
        let (from, writable) = puppet.unread("abcde");
        let to = puppet.keep("");
        if asks == "before" {
            assert_eq!(puppet.next(3), "blocked");
        }
        if asks == "never" {
            assert_eq!(puppet.write(to, "uvwxyz"), "6");
        }
        puppet.act("forward", (from, to));
        assert_eq!(puppet.write(writable, "klm"), "blocked", "{asks}");
        let expected: &[&str] = match asks {
            "before" => &["abc", "de", "klm"],
            "behind" => &["abcde", "klm"],
            _ => &["uvwxyz", "abcde", "klm"],
        };
        for text in expected {
            assert_eq!(puppet.next(64), *text, "{asks}");
        }
        assert_eq!(puppet.tell("cancel-write", (writable,)), 3 << 4 | 2);
        puppet.end([("drop-writable", writable)]);
    }
}

#[test]
fn a_forward_to_a_stream_with_unread_bytes_puts_more_behind_them() {
    let puppet = Puppet::new();
    let (from, writable) = puppet.unread("abc");
    let (readable, to) = puppet.unread("xyz");
    puppet.act("forward", (from, to));
    assert_eq!(puppet.read(readable, 8), "xyzabc");
    puppet.end([("drop-readable", readable), ("drop-writable", writable)]);
}

#[test]
fn a_forward_to_reads_in_flight_traps_if_the_host_has_read_more_than_the_first_takes() {
    for (room, traps) in [(8u32, false), (2, true)] {
        let puppet = Puppet::new();
        let (from, _) = puppet.unread("abcde");
        let (readable, to) = puppet.ends("new");
        assert_eq!(puppet.read(readable, room), "blocked");
        assert!(returned::<_, bool>(&puppet.component, &puppet.zone, "read-ahead", (readable, 200u32, 8u32)));
        let done = call::<_, ()>(&puppet.component, &puppet.zone, "forward", (from, to)).expect("it ends");
        assert_eq!(done.is_err(), traps, "{room}");
    }
}

#[test]
fn a_guest_that_makes_the_host_keep_too_much_waits_to_be_asked() {
    let puppet = Puppet::with(Limits { held_bytes_max: 4, ..Limits::default() });
    let (_, first) = puppet.unread("abcd");
    let second = puppet.keep("");
    assert_eq!(puppet.write(second, "uvw"), "blocked", "the first is kept still");
    assert_eq!(puppet.next(8), "uvw", "the host has asked");
    let third = puppet.keep("-future");
    assert_eq!(puppet.tell("write-future", (third, 7u32)), BLOCKED);
    let mut future = puppet.kept.future.take().expect("it was kept");
    assert!(matches!(future.poll_value(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(b'h'))));
    puppet.act("drop-writable", (first,));
}

#[test]
fn what_is_not_kept_any_more_makes_room() {
    let puppet = Puppet::with(Limits { held_bytes_max: 4, ..Limits::default() });
    for ends in ["the host asks", "the host drops it", "a guest reads it", "a guest drops it"] {
        let writable = puppet.keep("");
        assert_eq!(puppet.write(writable, "abcd"), "4", "before {ends}");
        match ends {
            "the host asks" => assert_eq!(puppet.next(8), "abcd"),
            "the host drops it" => drop(puppet.kept.stream.take()),
            "a guest reads it" => assert_eq!(puppet.read(puppet.tell("give", ()), 4), "abcd"),
            _ => puppet.act("drop-readable", (puppet.tell("give", ()),)),
        }
        puppet.zone.run_now();
    }
    let writable = puppet.keep("-future");
    assert_eq!(puppet.tell("write-future", (writable, 7u32)), COMPLETED);
    let readable = puppet.tell("give-future", ());
    assert_eq!(puppet.tell("read-future", (readable, 100u32)), COMPLETED);
    let writable = puppet.keep("");
    assert_eq!(puppet.write(writable, "abcd"), "4", "behind a future");
}
