//! Random programs do the same on wasmtime's own component runtime as on the model: the third opinion.
//! The programs, their components and the acceptor are those of `main.rs`, and the profile is that of wasmtime 48. What is left
//! is a fault of the model, of the puppet or of wasmtime. Each disagreement has a class, told from the record that the model refuses;
//! `KNOWN` has those that were looked at. One that is not in it fails the test with its smallest program.
//! Rows V1 to V12 are the known divergences of wasmtime 48 that `conformance/divergences` has a script for: each is counted, or
//! listed as not seen. `make soak-theirs N=100000 SEED=7` runs as many programs of each kind, beginning elsewhere.
//!
//! Not compared: hosts that do more than call, extensions, memory at the end, and what a trap is about that both sides have.

mod puppet;
mod runs;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use abi_spec::accept::{Acceptor, Refusal};
use abi_spec::elem::InstanceId;
use abi_spec::generate::{Shape, program, scrambled};
use abi_spec::op::{Arg, BLOCKED, EventCode, Op, Outcome, Record, Target};
use abi_spec::profile::{Profile, Quirk, Rule, WhenReady};
use abi_spec::program::{Func, Program};
use abi_spec::shrink::shrink;
use abi_spec::world::{Code, World};
use puppet::Line;
use runs::{number, report};
use wasmtime::component::{Accessor, Component, Instance, Linker, TypedFunc};
use wasmtime::{Config, Engine, OptLevel, Store, StoreContextMut};

/// Programs of each kind, if nobody asks for more.
const PROGRAMS: u64 = 340;

/// Turns without a record after which nobody is taken to go on.
const QUIET_TURNS: u32 = 200;

/// Turns after which a program is taken to hang.
const TURNS_MAX: u32 = 100_000;

/// Programs that are tried to make one smaller.
const TRIES_MAX: u32 = 400;

/// What a run showed.
struct Shown {
    log: Vec<Record>,
    trap: Option<String>,
}

/// What came of a program.
enum Verdict {
    /// The model allows the log.
    Allowed(Vec<Record>),
    /// There are too many schedules to tell.
    Unclear,
    /// It cannot be a component.
    Other,
    /// The model forbids it.
    Forbidden { class: String, why: String },
}

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let mut config = Config::new();
        config
            .wasm_component_model_async(true)
            .wasm_component_model_more_async_builtins(true)
            .wasm_component_model_async_stackful(true)
            .wasm_component_model_threading(true)
            .wasm_component_model_error_context(true)
            .cranelift_opt_level(OptLevel::None);
        Engine::new(&config).expect("the engine starts")
    })
}

/// wasmtime 48: where the law leaves the choice it goes on at a wait and blocks at a yield. Synchronous calls in tasks of synchronous
/// types belong to row V12. The host is not the model's: it calls beside the guests.
fn profile() -> Profile {
    let quirks = Profile::WASMTIME_48.quirks.with(Quirk::EagerSyncCall).with(Quirk::HostBeside);
    Profile { quirks, when_ready: WhenReady::Either, ..Profile::WASMTIME_48 }
}

/// `Err` if the program cannot be a component.
fn prepare(program: &Program) -> Result<Component, &'static str> {
    let text = puppet::component(program)?;
    let bytes = puppet::encode(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    Ok(Component::new(engine(), bytes).unwrap_or_else(|error| panic!("{text}\n{error:#}")))
}

/// Polls until it is ready; nothing if that takes too long.
fn block_on<R>(future: impl Future<Output = R>) -> Option<R> {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    (0..TURNS_MAX).find_map(|_| match future.as_mut().poll(&mut cx) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    })
}

/// Calls of the host that are not over.
type Calls<'a> = Vec<Pin<Box<dyn Future<Output = wasmtime::Result<()>> + Send + 'a>>>;

/// Waits until nobody does anything any more. Each time that it is polled the event loop does one piece of work.
async fn quiet(accessor: &Accessor<Vec<Line>>, calls: &mut Calls<'_>) -> wasmtime::Result<()> {
    let (mut turns, mut before) = (0, 0);
    poll_fn(|cx| {
        let mut fault = None;
        calls.retain_mut(|call| match call.as_mut().poll(cx) {
            Poll::Ready(over) => {
                fault = fault.take().or(over.err());
                false
            }
            Poll::Pending => true,
        });
        let now = accessor.with(|mut access| access.data_mut().len());
        turns = if now == before { turns + 1 } else { 0 };
        before = now;
        match fault {
            Some(fault) => Poll::Ready(Err(fault)),
            None if turns > QUIET_TURNS => Poll::Ready(Ok(())),
            None => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    })
    .await
}

/// Runs it until nobody can go on, and looks at what is left then. The host's calls come one after the other, each when all is
/// quiet.
fn run(program: &Program, component: &Component) -> Shown {
    let mut linker = Linker::new(engine());
    let log = |mut store: StoreContextMut<'_, Vec<Line>>, line: Line| {
        store.data_mut().push(line);
        Ok(())
    };
    linker.root().func_wrap("log", log).expect("there is no other");
    let mut store = Store::new(engine(), Vec::new());
    let instance = block_on(linker.instantiate_async(&mut store, component)).expect("it does not wait");
    let instance = instance.expect("the imports are there");
    let mut host = Vec::new();
    for (run, script) in (1..).zip(&program.host) {
        for (at, op) in (0..).zip(&program.scripts[usize::from(*script)]) {
            let Op::Call { func, .. } = op else { unreachable!("the host only calls") };
            host.push((run, at, export(&mut store, &instance, &format!("f{func}"))));
        }
    }
    let mark = |run, at, kind| (InstanceId::HOST.0.into(), run, at, kind, 0, 0, 0);
    let ended = block_on(store.run_concurrent(async |accessor| {
        let mut calls = Calls::new();
        for (run, at, func) in host {
            accessor.with(|mut access| access.data_mut().push(mark(run, at, puppet::START)));
            calls.push(Box::pin(func.call_concurrent(accessor, ())));
            quiet(accessor, &mut calls).await?;
            accessor.with(|mut access| access.data_mut().push(mark(run, at, puppet::RET)));
        }
        Ok(())
    }));
    let trap = match ended {
        None => Some("it hangs".to_owned()),
        Some(ended) => ended.and_then(|ended| ended).err().map(|error| message(&error)),
    };
    let mut log: Vec<Record> = store.data_mut().drain(..).map(puppet::record).collect();
    if trap.is_some() {
        log.push(Record { inst: InstanceId::HOST, run: 0, at: 0, outcome: Outcome::SomeTrap });
    }
    Shown { log, trap }
}

fn export(store: &mut Store<Vec<Line>>, instance: &Instance, name: &str) -> TypedFunc<(), ()> {
    instance.get_typed_func(store, name).expect("the function is there")
}

/// The first line of what an error is about, without numbers, which differ from program to program.
fn message(error: &wasmtime::Error) -> String {
    let cause = error.root_cause().to_string();
    let words = cause.lines().next().unwrap_or_default().split(' ');
    let is_number = |word: &&str| word.chars().any(|c| c.is_ascii_digit());
    words.map(|word| if is_number(&word) { "N" } else { word }).collect::<Vec<_>>().join(" ")
}

fn check(program: &Program) -> Verdict {
    let Ok(component) = prepare(program) else { return Verdict::Other };
    match catch_unwind(AssertUnwindSafe(|| run(program, &component))) {
        Ok(shown) => judge(program, shown),
        Err(_) => Verdict::Forbidden { class: "wasmtime panics".to_owned(), why: String::new() },
    }
}

fn judge(program: &Program, shown: Shown) -> Verdict {
    match accept(program, profile(), &shown.log) {
        (_, Ok(())) => Verdict::Allowed(shown.log),
        (_, Err(Refusal::TooMany)) => Verdict::Unclear,
        (world, Err(Refusal::Forbidden { after, seen, allowed })) => {
            let class = class(&world, &shown, seen.as_ref(), &allowed);
            let lines: String = shown.log.iter().map(|record| format!("{record}\n")).collect();
            let trap = shown.trap.as_deref().unwrap_or("no trap");
            let why = format!("{lines}{trap}\n{}", Refusal::Forbidden { after, seen, allowed });
            Verdict::Forbidden { class, why }
        }
    }
}

/// Whether the log is allowed, and a world that explains as much of it as can be.
fn accept(program: &Program, profile: Profile, log: &[Record]) -> (World, Result<(), Refusal>) {
    let code = Code { program: program.clone(), extensions: Vec::new() };
    let mut acceptor = Acceptor::new(World::new(profile, Arc::new(code))).with_silent_host();
    let accepted = log.iter().try_for_each(|record| acceptor.observe(record));
    let mut accepted = accepted.and_then(|()| acceptor.finish());
    let world = acceptor.worlds()[0].clone();
    // What guests could have done before the host went on.
    if let Err(Refusal::Forbidden { seen: Some(Record { inst: InstanceId::HOST, .. }), allowed, .. }) = &mut accepted
        && allowed.is_empty()
        && let Err(Refusal::Forbidden { allowed: of_guests, .. }) = acceptor.finish()
    {
        *allowed = of_guests;
    }
    (world, accepted)
}

/// What kind of disagreement it is.
fn class(world: &World, shown: &Shown, seen: Option<&Record>, allowed: &[Record]) -> String {
    let trap = allowed.iter().find_map(|record| match record.outcome {
        Outcome::Trap(rule) => Some((rule, record)),
        _ => None,
    });
    let told = allowed.iter().any(|record| match record.outcome {
        Outcome::Event(code, ..) => code == CANCELLED,
        Outcome::Ret(1) => op(world, record) == "thread.yield",
        _ => false,
    });
    let same =
        |other: &Record| seen.is_some_and(|seen| (seen.inst, seen.run, seen.at) == (other.inst, other.run, other.at));
    let others = !allowed.is_empty() && !allowed.iter().any(same);
    let is_start = |record: &Record| matches!(record.outcome, Outcome::Start(_));
    let starts = |inst| allowed.iter().any(|other| other.inst == inst && is_start(other));
    match (seen, trap) {
        (Some(Record { outcome: Outcome::SomeTrap, .. }), _) => {
            format!("traps: {}", shown.trap.as_deref().unwrap_or_default())
        }
        (_, Some((rule, record))) if GIVEN.contains(&rule) && is_call(&op(world, record)) => {
            "does not trap: what a call is given".to_owned()
        }
        (_, Some((rule, record))) => format!("does not trap: {rule:?}, {}", op(world, record)),
        (None, None) if world.program().scripts.iter().flatten().any(leaves_set) => {
            format!("nobody goes on after an unjoin: {}", ops(world, allowed))
        }
        (None, None) => format!("nobody goes on: {}", ops(world, allowed)),
        (Some(seen), None) if seen.inst == InstanceId::HOST && allowed.iter().any(is_start) => {
            format!("the host's call waits: {}", callee(world, seen))
        }
        (Some(Record { outcome: Outcome::Start(_), inst, .. }), None) if !starts(*inst) => {
            "begins before its time".to_owned()
        }
        (Some(Record { outcome: Outcome::Event(code, _, what), .. }), None) if !others => {
            format!("another event: {code}, {what}")
        }
        (Some(seen), None) => match allowed.iter().find(|other| same(other)) {
            Some(other) => format!("another result: {}, not {}: {}", result(seen), result(other), op(world, seen)),
            None if told => "another order: told of a cancellation".to_owned(),
            None if others => format!("another order: {}", ops(world, allowed)),
            None => format!("goes on: {}: {}", result(seen), op(world, seen)),
        },
    }
}

/// Rules of the values that a call is given.
const GIVEN: [Rule; 7] = [
    Rule::Handle,
    Rule::ResourceType,
    Rule::TransferIdle,
    Rule::TransferNotInSet,
    Rule::TransferElem,
    Rule::OwnLent,
    Rule::OwnOwned,
];

fn is_call(op: &str) -> bool {
    op == "start" || op.starts_with("call")
}

/// Whether the operation takes a waitable out of its set and into none.
fn leaves_set(op: &Op) -> bool {
    matches!(op, Op::Join { set: Arg::Imm(0), .. })
}

/// What an operation returned, as copies return it: how it went, and whether anything was copied.
fn result(record: &Record) -> String {
    match record.outcome {
        Outcome::Ret(BLOCKED) => "blocked".to_owned(),
        Outcome::Ret(value) => {
            let how = ["completed", "dropped", "cancelled"].get(value as usize & 15).unwrap_or(&"a number");
            format!("{how} {}", if value >> 4 == 0 { "0" } else { "n" })
        }
        Outcome::Start(_) | Outcome::Ends(..) | Outcome::Event(..) | Outcome::Trap(_) | Outcome::SomeTrap => {
            "other".to_owned()
        }
    }
}

/// The code of the event that tells a task of its cancellation.
const CANCELLED: u32 = EventCode::TaskCancelled as u32;

/// What kind of function the host calls.
fn callee(world: &World, record: &Record) -> String {
    let program = world.program();
    let script = program.host[record.run as usize - 1];
    match program.scripts[usize::from(script)][record.at as usize] {
        Op::Call { func, .. } => {
            let Func { is_async, lift, .. } = program.funcs[usize::from(func)];
            format!("{lift:?}, {} type", if is_async { "asynchronous" } else { "synchronous" })
        }
        other => unreachable!("the host only calls, and this is {other}"),
    }
}

/// What the records are of.
fn ops(world: &World, records: &[Record]) -> String {
    let names: BTreeSet<String> = records.iter().map(|record| op(world, record)).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// The operation that a record is of: its name, and whether it waits.
fn op(world: &World, record: &Record) -> String {
    let bodies = &world.instances[record.inst.index()].bodies;
    let script =
        bodies.get((record.run as usize).wrapping_sub(1)).map(|script| &world.program().scripts[usize::from(*script)]);
    let op = script.and_then(|ops| ops.get(record.at as usize));
    match (&record.outcome, op) {
        (Outcome::Start(_), _) | (_, None) => "start".to_owned(),
        (_, Some(op)) => {
            let text = op.to_string();
            let words = text.split(' ').enumerate().filter(|(i, word)| *i == 0 || ["sync", "async"].contains(word));
            words.map(|(_, word)| word).collect::<Vec<_>>().join(" ")
        }
    }
}

/// Classes of disagreements that were looked at, by how their names begin, and what they are.
const KNOWN: &[(&str, &str)] = &[
    ("another event: 2, 1", "V3"),
    ("another event: 3, 1", "V3"),
    ("another event: 5, 1", "V3"),
    ("another event: 4, 1", "V4"),
    ("another result: completed 0, not blocked: stream.write", "V5"),
    ("goes on: completed 0: stream.write", "V5"),
    ("another result: dropped 0, not cancelled 0: stream.cancel-", "V6"),
    ("another result: dropped n, not cancelled n: stream.cancel-", "V6"),
    ("traps: BUG: delivering non-present event", "V9"),
    ("traps: BUG: event expected to be present", "V9"),
    ("another order: start", "V11"),
    ("another order: call", "V11"),
    // What a call is given is looked at when it starts.
    ("does not trap: what a call is given", "V11"),
    ("traps: wasm trap: cannot block a synchronous task", "V12"),
    ("another order: subtask.cancel", "a cancellation is not handed over at once"),
    ("another order: told of a cancellation", "a cancellation is not handed over at once"),
    ("another order: thread.suspend", "cancel-wakes-the-suspended.wast"),
    ("does not trap: BufferAligned", "buffer-not-aligned.wast"),
    ("does not trap: CancelSyncWaiter", "a synchronous copy of another thread can be cancelled"),
    ("does not trap: CannotBlock", "a thread that gives way in a task of synchronous type lets others run"),
    ("does not trap: CopySyncInSet", "an end in a set may copy synchronously if it need not wait"),
    ("does not trap: Handle, stream.cancel-", "a cancel takes the end of the other side"),
    ("does not trap: Handle, future.cancel-", "a cancel takes the end of the other side"),
    (
        "does not trap: TaskReturnAsync",
        "`task.return` of a task that is lifted synchronously is a trap later, which calls itself a bug",
    ),
    ("the host's call waits: Stackful", "stackful-is-not-exclusive.wast"),
    (
        "the host's call waits: Sync, synchronous type",
        "a call by the host of a function of synchronous type waits for the holder",
    ),
    ("nobody goes on after an unjoin: stream.", "V10"),
    ("nobody goes on after an unjoin: future.", "V10"),
    ("nobody goes on: start", "stackful-is-not-exclusive.wast"),
    ("traps: resource is of another type", OUTLIVES),
    ("traps: resource not present", OUTLIVES),
    ("begins before its time", "sync-lift-at-backpressure.wast"),
    ("traps: unknown handle index", "sync-lift-at-backpressure.wast"),
    ("traps: handle is ", "sync-lift-at-backpressure.wast"),
    ("traps: index N is not a resource", "sync-lift-at-backpressure.wast"),
    ("traps: wasm trap: wasm `unreachable`", "a destructor has the context of who drops, if that is its own instance"),
];

const OUTLIVES: &str = "a call or a copy outlives the thread that began it, and is answered to whom it is no more";

/// Known divergences that the profile has: whether a program shows one is seen when it is taken away.
const QUIRKS: [(Quirk, &str); 6] = [
    (Quirk::CancelForgetsCompletion, "V1"),
    (Quirk::IdleDropEvent, "V2"),
    (Quirk::SecondCancelBlocks, "V7"),
    (Quirk::EarlyTaskCancel, "V8"),
    (Quirk::UnjoinWhileWaiting, "V10"),
    (Quirk::EagerCannotBlock, "V12"),
];

/// The script of `conformance/divergences` that shows each row of the known divergences without chance.
const ROWS: [(&str, &str); 12] = [
    ("V1", "corrected in later revisions of the specification: no script"),
    ("V2", "idle-end-is-told.wast"),
    ("V3", "told-inline-and-again.wast"),
    ("V4", "future-reader-after-its-value.wast"),
    ("V5", "zero-length-write-after-a-cancel.wast"),
    ("V6", "corrected in later revisions of the specification: no script"),
    ("V7", "cancelled-twice.wast"),
    ("V8", "agrees-before-it-is-told.wast"),
    ("V9", "event-taken-by-another.wast, event-taken-on-a-stack.wast"),
    ("V10", "leaves-a-set-while-waited-for.wast"),
    ("V11", "call-runs-the-callee-first.wast"),
    ("V12", "synchronous-type-*.wast"),
];

/// Disagreements of one class.
struct Class {
    count: u64,
    smallest: Program,
    seed: u64,
}

/// What all programs came to.
#[derive(Default)]
struct Found {
    /// How many programs showed each row of `KNOWN` and `QUIRKS`.
    rows: BTreeMap<&'static str, u64>,
    unknown: Vec<String>,
}

/// Without what would hide all else: wasmtime's `thread.*-then-promote` is another operation.
fn prepared(program: Program) -> Program {
    let mut program = puppet::prepared(program);
    let promotes = |op: &Op| matches!(op, Op::ThreadSwitch { target: Target::Promote, .. });
    program.scripts.iter_mut().for_each(|script| script.retain(|op| !promotes(op)));
    program
}

/// Runs programs of one kind, and prints the smallest of each kind of disagreement.
fn compare(name: &str, write: impl Fn(u64) -> Program, found: &mut Found) {
    let (first, count, begun) = (number("SEED", 1), number("PROGRAMS", PROGRAMS), Instant::now());
    let (mut operations, mut unclear, mut others) = (0, 0, 0);
    let mut classes: BTreeMap<String, Class> = BTreeMap::new();
    for seed in first..first + count {
        let program = prepared(write(seed));
        match check(&program) {
            Verdict::Allowed(log) => {
                operations += log.len();
                for (quirk, row) in QUIRKS {
                    let without = Profile { quirks: profile().quirks.without(quirk), ..profile() };
                    if matches!(accept(&program, without, &log).1, Err(Refusal::Forbidden { .. })) {
                        *found.rows.entry(row).or_default() += 1;
                    }
                }
            }
            Verdict::Unclear => unclear += 1,
            Verdict::Other => others += 1,
            Verdict::Forbidden { class, .. } => {
                let class = classes.entry(class).or_insert_with(|| Class { count: 0, smallest: program.clone(), seed });
                class.count += 1;
                if program.len() < class.smallest.len() {
                    (class.smallest, class.seed) = (program, seed);
                }
            }
        }
    }
    let divergences: u64 = classes.values().map(|class| class.count).sum();
    for (class, of_class) in classes {
        let known = KNOWN.iter().find(|(begins, _)| class.starts_with(begins));
        let row = known.map_or("not known", |(_, row)| row);
        eprintln!("{} times \"{class}\": {row}\n{}", of_class.count, smaller(&class, of_class.smallest, of_class.seed));
        match known {
            Some((_, row)) => *found.rows.entry(row).or_default() += of_class.count,
            None => found.unknown.push(format!("{name}: {class}")),
        }
    }
    report(format_args!(
        "model and wasmtime, {name}: SEED={first}, {count} programs, {operations} operations, {unclear} inconclusive, \
         {others} not components, {divergences} divergences, {:.1?}",
        begun.elapsed()
    ));
}

/// The program that shows this class, made smaller, and what it showed.
fn smaller(class: &str, program: Program, seed: u64) -> String {
    let tries = Cell::new(TRIES_MAX);
    let shows = |program: &Program| {
        tries.set(tries.get().saturating_sub(1));
        tries.get() > 0 && matches!(check(program), Verdict::Forbidden { class: other, .. } if other == class)
    };
    let program = shrink(program, shows);
    match check(&program) {
        Verdict::Forbidden { why, .. } => format!("seed {seed}, made smaller:\n{program}{why}\n"),
        _ => unreachable!("it showed just now"),
    }
}

#[test]
fn random_programs_on_wasmtime_see_what_the_model_allows_or_a_known_divergence() {
    let mut found = Found::default();
    compare("one body", |seed| program(Shape::Single, seed), &mut found);
    compare("calls", |seed| program(Shape::Layers, seed), &mut found);
    compare("threads", |seed| program(Shape::LayerThreads, seed), &mut found);
    compare("scrambled, one body", |seed| scrambled(Shape::Single, seed), &mut found);
    compare("scrambled, calls", |seed| scrambled(Shape::Layers, seed), &mut found);
    compare("scrambled, threads", |seed| scrambled(Shape::LayerThreads, seed), &mut found);
    report(format_args!("left out: promote-before-the-start.wast, promote-leaves-the-suspended.wast"));
    for (row, script) in ROWS {
        match found.rows.remove(row) {
            Some(count) => report(format_args!("{row}: shown by {count} programs ({script})")),
            None => report(format_args!("{row}: shown by no program ({script})")),
        }
    }
    found.rows.iter().for_each(|(row, count)| report(format_args!("{row}: shown by {count} programs")));
    assert!(found.unknown.is_empty(), "disagreements that are not known:\n{}", found.unknown.join("\n"));
}
