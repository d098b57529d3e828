//! Programs for the puppets: what the host does, and what each script of each instance does.
//!
//! An input is a byte of modes and a list of records of five bytes: who acts, what it does, three operands. Whatever it is, it
//! ends: scripts only get shorter. Time plays no part; a guest is interrupted where a program says so.

use crate::engine;
use crate::puppet::{self, END, NUMBERS, OP_BYTES, OPS_MAX, SCRIPTS};
use crate::random::Random;
use interflow::abi::{
    self, CallError, Canceller, Census, Component, Destination, HostCx, HostFuture, Limits, Produced, Source, Zone,
};
use interflow::component;
use interflow::host::linker::Linker;
use interflow::host::stream::{FutureReader, StreamReader};
use interflow::host::value::dynamic::Value;
use interflow::host::value::{Borrow, Lift, Lower, Own};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

/// Bytes of a record.
const RECORD: usize = 5;
/// Records of one program.
const RECORDS_MAX: usize = 96;
/// Who may act: the host, twice as likely as each script, and the scripts of the leaf and of the top.
const ACTORS: u8 = 2 + 2 * SCRIPTS as u8;
/// What the host can do.
const HOST_OPS: u8 = 16;

/// Polls after which guests rest, or never will.
const POLLS_MAX: usize = 200;

/// Guests run on a fiber.
const ON_FIBER: u8 = 1;
/// One job an entry.
const ONE_JOB: u8 = 2;
/// The zone is dropped as it is, at the end.
const DROP: u8 = 4;

struct Puppets {
    component: Component,
    ops: [usize; 2],
}

fn puppets() -> &'static Puppets {
    static PUPPETS: OnceLock<Puppets> = OnceLock::new();
    PUPPETS.get_or_init(|| {
        let (text, ops) = puppet::component();
        let bytes = wat::parse_str(&text).expect("the puppet's text is well formed");
        let compiled = component::compile(engine(), &bytes).expect("the puppet compiles");
        let component = linker().link(engine(), Arc::new(compiled)).expect("the puppet's imports are there");
        Puppets { component, ops: ops.map(|ops| ops.len()) }
    })
}

/// What the host keeps for one zone.
#[derive(Default)]
struct Host {
    /// Calls end.
    open: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
    streams: RefCell<Vec<StreamReader<u8>>>,
    futures: RefCell<Vec<FutureReader<u32>>>,
}

impl Host {
    fn of(cx: &HostCx<'_>) -> Rc<Host> {
        cx.data().expect("the zone is made with it")
    }

    fn open(&self) {
        self.open.set(true);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Ready once the gate is open.
    fn gate(self: Rc<Host>, value: u32) -> HostFuture<u32> {
        Box::pin(poll_fn(move |task| {
            if self.open.get() {
                return Poll::Ready(Ok(value));
            }
            self.waiting.borrow_mut().push(task.waker().clone());
            Poll::Pending
        }))
    }
}

struct Thing;

/// Bytes, a few at a time, each time after one more poll.
struct Bytes {
    left: u32,
    ready: bool,
}

impl Source for Bytes {
    fn poll_produce(
        &mut self,
        task: &mut Context<'_>,
        destination: &mut Destination<'_>,
    ) -> Poll<abi::Result<Produced>> {
        self.ready = !self.ready;
        if self.ready {
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.left == 0 {
            return Poll::Ready(Ok(Produced::End));
        }
        let len = destination.put_bytes(&vec![b'x'; self.left.min(3) as usize]);
        self.left -= len as u32;
        Poll::Ready(Ok(Produced::Items))
    }
}

fn linker() -> Linker {
    let mut linker = Linker::new();
    linker.resource::<Thing>("", "h");
    linker.async_func("", "wait", |cx, (x,): (u32,)| match x & 1 {
        0 => Box::pin(async move { Ok(x) }),
        _ => Host::of(cx).gate(x),
    });
    linker.func("", "echo", |_, (x,): (u32,)| {
        // As if the guest had run for that many ticks.
        (0..x & 3).for_each(|_| engine().increment_epoch());
        Ok(x)
    });
    linker.func("", "source", |_, (n,): (u32,)| Ok(StreamReader::<u8>::new(Bytes { left: n & 7, ready: n & 8 != 0 })));
    linker.func("", "sink", |cx, (stream,): (StreamReader<u8>,)| {
        Host::of(cx).streams.borrow_mut().push(stream);
        Ok(())
    });
    linker.func("", "value", |cx, ()| Ok(FutureReader::new(Host::of(cx).gate(5))));
    linker.func("", "take", |cx, (future,): (FutureReader<u32>,)| {
        Host::of(cx).futures.borrow_mut().push(future);
        Ok(())
    });
    linker.func("", "make", |_, ()| Ok(Own::new(Thing)));
    linker.async_func("", "keep", |cx, (_,): (Borrow<Thing>,)| Host::of(cx).gate(6));
    linker
}

/// What a call has given.
enum Outcome {
    Nothing,
    Bytes(StreamReader<u8>),
    Resource(Value),
}

/// A call of the host.
struct Call {
    outcome: Option<Pin<Box<dyn Future<Output = Outcome>>>>,
    exited: Option<Pin<Box<dyn Future<Output = ()>>>>,
    canceller: Canceller,
}

/// The host's side of a program.
struct Driver {
    zone: Zone,
    host: Rc<Host>,
    /// The zone's driver, unless guests run on this stack.
    fiber: Option<Pin<Box<dyn Future<Output = ()>>>>,
    calls: Vec<Call>,
    resources: Vec<Value>,
}

/// Compiles the puppets.
pub fn prepare() {
    puppets();
}

/// Runs the program that `data` is.
pub fn run(data: &[u8]) {
    let Some((modes, records)) = data.split_first() else { return };
    let mut host_ops = Vec::new();
    let mut scripts = [(); 2].map(|()| [END; SCRIPTS * OPS_MAX * OP_BYTES]);
    let mut lengths = [[0; SCRIPTS]; 2];
    for record in records.chunks_exact(RECORD).take(RECORDS_MAX) {
        let (actor, op) = (record[0] % ACTORS, &record[1..]);
        let Some(script) = actor.checked_sub(2) else {
            host_ops.push([op[0] % HOST_OPS, op[1], op[2], op[3]]);
            continue;
        };
        let (instance, script) = (usize::from(script) / SCRIPTS, usize::from(script) % SCRIPTS);
        let length = &mut lengths[instance][script];
        if *length < OPS_MAX {
            let at = (script * OPS_MAX + *length) * OP_BYTES;
            scripts[instance][at..at + OP_BYTES].copy_from_slice(op);
            *length += 1;
        }
    }
    let stacks = abi::stack_count();
    run_program(*modes, &host_ops, scripts);
    assert_eq!(abi::stack_count(), stacks, "stacks are left");
}

fn run_program(modes: u8, host_ops: &[[u8; 4]], scripts: [[u8; SCRIPTS * OPS_MAX * OP_BYTES]; 2]) {
    let host = Rc::new(Host::default());
    let limits = Limits {
        memory_bytes_max: 4 << 20,
        table_elements_max: 4096,
        slices_max: 8,
        jobs_per_entry: if modes & ONE_JOB != 0 { 1 } else { 256 },
        ..Limits::default()
    };
    let zone = Zone::new(&puppets().component, limits, host.clone()).expect("the puppet starts");
    let weak = zone.downgrade();
    let fiber: Option<Pin<Box<dyn Future<Output = ()>>>> =
        if modes & ON_FIBER != 0 { Some(Box::pin(zone.drive())) } else { None };
    let mut driver = Driver { zone, host, fiber, calls: Vec::new(), resources: Vec::new() };
    for (name, script) in std::iter::zip(["leaf#load", "top#load"], scripts) {
        driver.call::<_, ()>(name, (script.to_vec(),), |()| Outcome::Nothing);
    }
    driver.run();
    host_ops.iter().for_each(|op| driver.act(*op));
    if modes & DROP == 0 {
        driver.finish();
    }
    drop(driver);
    assert!(weak.upgrade().is_none(), "somebody holds a zone that was dropped");
}

impl Driver {
    fn call<P: Lower, R: Lift>(&mut self, name: &str, params: P, then: fn(R) -> Outcome) {
        let export = puppets().component.export::<P, R>(name).expect("the puppets have it");
        let call = self.zone.call(export, params);
        let (canceller, exited) = (call.canceller(), Box::pin(call.exited()));
        let outcome = async move { call.await.map_or_else(failed, then) };
        self.calls.push(Call { outcome: Some(Box::pin(outcome)), exited: Some(exited), canceller });
    }

    fn call_dynamic(&mut self, name: &str, params: Vec<Value>) {
        let export = puppets().component.export_dynamic(name).expect("the puppets have it");
        let call = self.zone.call_dynamic(export, params);
        let (canceller, exited) = (call.canceller(), Box::pin(call.exited()));
        let outcome =
            async move { call.await.map_or_else(failed, |value| value.map_or(Outcome::Nothing, Outcome::Resource)) };
        self.calls.push(Call { outcome: Some(Box::pin(outcome)), exited: Some(exited), canceller });
    }

    fn act(&mut self, [op, a, b, c]: [u8; 4]) {
        let instance = if c & 1 == 0 { "leaf" } else { "top" };
        let script = u32::from(a) % SCRIPTS as u32;
        match op {
            0..=3 => {
                let name = format!("{instance}#{}", NUMBERS[usize::from(op)]);
                self.call::<_, u32>(&name, (script,), |_| Outcome::Nothing);
            }
            4 => {
                let taken = self.host.streams.borrow_mut().pop();
                let stream = taken.unwrap_or_else(|| StreamReader::new(Bytes { left: 4, ready: b & 1 != 0 }));
                let taken = self.host.futures.borrow_mut().pop();
                let future = taken.unwrap_or_else(|| FutureReader::new(self.host.clone().gate(3)));
                self.call::<_, StreamReader<u8>>(&format!("{instance}#give"), (script, stream, future), Outcome::Bytes);
            }
            5 => self.call::<_, String>(
                &format!("{instance}#text"),
                (script, "grüße".repeat(usize::from(b & 3))),
                |_| Outcome::Nothing,
            ),
            6 => self.call_dynamic("leaf#new", vec![Value::U32(u32::from(b))]),
            // Only guests lend what guests implement: it is a resource for nobody.
            7 => drop(self.resources.pop()),
            8 => {
                if let Some(call) = self.calls.get(usize::from(a)) {
                    call.canceller.cancel();
                }
            }
            9 => self.host.open(),
            10 => {
                if let Some(call) = self.calls.get_mut(usize::from(a)) {
                    call.outcome = None;
                }
            }
            11 => drop(self.host.streams.borrow_mut().pop()),
            12 => drop(self.host.futures.borrow_mut().pop()),
            13 => {
                let stream = self.host.streams.borrow_mut().pop();
                if let Some(mut stream) = stream {
                    // A zone that is dead is an error of the reader.
                    let _ = stream.poll_next(&mut Context::from_waker(Waker::noop()), usize::from(b));
                    self.host.streams.borrow_mut().insert(0, stream);
                }
            }
            14 => {
                let future = self.host.futures.borrow_mut().pop();
                if let Some(mut future) = future {
                    let pending = future.poll_value(&mut Context::from_waker(Waker::noop())).is_pending();
                    if pending {
                        self.host.futures.borrow_mut().insert(0, future);
                    }
                }
            }
            // Something happens while guests are in the middle of what they do.
            _ => return self.run_for(1 + usize::from(b)),
        }
        // Some calls arrive together.
        if c & 2 == 0 {
            self.run();
        }
    }

    /// Lets the guests run until they rest.
    fn run(&mut self) {
        self.run_for(POLLS_MAX);
    }

    /// Lets the guests run for so many polls, and takes what the calls give.
    fn run_for(&mut self, polls: usize) {
        match &mut self.fiber {
            None => self.zone.run_now(),
            Some(fiber) => {
                for _ in 0..polls.min(POLLS_MAX) {
                    let over = fiber.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
                    if over {
                        self.fiber = Some(Box::pin(std::future::pending()));
                        break;
                    }
                }
            }
        }
        let task = &mut Context::from_waker(Waker::noop());
        for call in &mut self.calls {
            if let Some(outcome) = &mut call.outcome
                && let Poll::Ready(outcome) = outcome.as_mut().poll(task)
            {
                call.outcome = None;
                match outcome {
                    Outcome::Nothing => {}
                    Outcome::Bytes(stream) => self.host.streams.borrow_mut().push(stream),
                    Outcome::Resource(value) => self.resources.push(value),
                }
            }
            if let Some(exited) = &mut call.exited
                && exited.as_mut().poll(task).is_ready()
            {
                call.exited = None;
            }
        }
    }

    /// Ends what can end, and looks at what is left.
    fn finish(&mut self) {
        self.host.open();
        self.run();
        self.calls.iter().for_each(|call| call.canceller.cancel());
        self.run();
        if self.zone.is_busy() {
            return;
        }
        let census = self.zone.census().expect("the zone rests");
        match self.zone.poison() {
            Some(reason) => self.is_dead(&reason),
            None => self.is_alive(&census),
        }
    }

    /// Whoever waits for a dead zone has learnt of it.
    fn is_dead(&self, reason: &str) {
        for (n, call) in self.calls.iter().enumerate() {
            assert!(call.outcome.is_none(), "the zone is dead, and call {n} does not know: {reason}");
            assert!(call.exited.is_none(), "the zone is dead, and call {n} goes on: {reason}");
        }
        // What is wrong with us must not look like a guest's fault.
        for ours in ["internal error", "BUG"] {
            assert!(!reason.contains(ours), "{reason}");
        }
    }

    fn is_alive(&self, census: &Census) {
        assert_eq!(census.host_calls, 0, "all calls of the host have ended");
        assert!(census.subtasks + census.waitable_sets <= census.handles, "each has a handle: {census:?}");
        let going_on = self.calls.iter().filter(|call| call.exited.is_some()).count();
        assert!(going_on <= census.tasks, "{going_on} calls go on in {census:?}");
        let held = self.host.streams.borrow().len() + self.host.futures.borrow().len();
        assert!(census.streams <= census.handles + held + self.calls.len(), "each has an end: {census:?}");
    }
}

fn failed(error: CallError) -> Outcome {
    drop(error);
    Outcome::Nothing
}

/// Another program like this one: `data[..size]` is changed, and its new length given.
pub fn mutate(data: &mut [u8], size: usize, seed: u32) -> usize {
    let mut random = Random::new(u64::from(seed));
    let (modes, records) = data[..size].split_first().map_or((0, &[][..]), |(modes, records)| (*modes, records));
    let mut records: Vec<[u8; RECORD]> = records.as_chunks::<RECORD>().0.iter().take(RECORDS_MAX).copied().collect();
    let modes = if random.once_in(16) { random.bits() as u8 } else { modes };
    for _ in 0..1 + random.below(4) {
        let at = random.below(records.len());
        match random.below(8) {
            0..=2 => records.insert(at, record(&mut random)),
            3 if !records.is_empty() => drop(records.remove(at)),
            4 if !records.is_empty() => {
                let (other, copy) = (random.below(records.len()), records[at]);
                records.insert(other, copy);
            }
            5 if !records.is_empty() => {
                let other = random.below(records.len());
                records.swap(at, other);
            }
            6 if !records.is_empty() => records[at] = record(&mut random),
            7 if !records.is_empty() => {
                let field = random.below(RECORD);
                records[at][field] = if random.once_in(2) { random.below(4) as u8 } else { random.bits() as u8 };
            }
            _ => records.push(record(&mut random)),
        }
    }
    records.truncate(RECORDS_MAX.min(data.len().saturating_sub(1) / RECORD));
    let program: Vec<u8> = std::iter::once(modes).chain(records.into_iter().flatten()).take(data.len()).collect();
    data[..program.len()].copy_from_slice(&program);
    program.len()
}

/// A record that has a chance to do something.
fn record(random: &mut Random) -> [u8; RECORD] {
    let actor = random.below(usize::from(ACTORS)) as u8;
    let ops = match actor {
        0 | 1 => usize::from(HOST_OPS),
        2..6 => puppets().ops[0],
        _ => puppets().ops[1],
    };
    let op = random.below(ops) as u8;
    let mut operand = |below| if random.once_in(80) { random.bits() as u8 } else { random.below(below) as u8 };
    [actor, op, operand(4), operand(if actor < 2 { 4 } else { 32 }), operand(4)]
}

/// A program of `len` records.
pub fn program(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let modes = random.bits() as u8 & (ON_FIBER | ONE_JOB);
    std::iter::once(modes).chain((0..len).flat_map(|_| record(&mut random))).collect()
}
