//! Random programs do the same on the runtime as on the model of the law.
//! The generator of `abi-spec` writes programs, `puppet` makes components of them, `host` is their host, `run` runs them, and what
//! their bodies saw, in the order in which they saw it, has to be what some schedule of the model shows. So has the memory of
//! guests and host at the end; and a trap has to be about what was broken (`traps`). Where the runtime differs on purpose is in
//! `Profile::INTERFLOW`; a program that shows something else is made small, printed, and written as a script (`script`).
//! `PROGRAMS=100000 SEED=7 cargo test -p tests --test model` runs as many of each kind, beginning elsewhere.
//!
//! Two pairs: the model and the engine's side of the runtime, with a host that only calls; and the model and its host ends, with
//! hosts that write, read, drop and pass on ends of streams and futures, answer late, call several functions at once and cancel.
//! The log says when each operation of the host began and was over, not what it saw: that is in its memory. Programs run on both
//! I/O drivers in turn; one of four zones with a busy host is dropped in the middle, and nothing may be left.
//!
//! Not compared: calls in circles (components cannot be linked so), what a `post-return` does (it could not tell), ends that the
//! host holds of other streams than those of bytes, and a host that cancels its own reads (its interface has no such thing).
//! Elements that are handles only trap, because the generator passes no streams of them between instances. The runtime gives
//! a thread its index when somebody asks for it, so bodies of programs that name threads ask first.

mod host;
mod lab;
mod puppet;
mod run;
mod runs;
mod script;
mod traps;

use std::sync::Arc;
use std::time::Instant;

use abi_spec::accept::{Acceptor, Refusal};
use abi_spec::generate::{Shape, program, scrambled};
use abi_spec::op::{Outcome, Record};
use abi_spec::profile::Profile;
use abi_spec::program::Program;
use abi_spec::sched::Rng;
use abi_spec::shrink::shrink;
use abi_spec::world::{Code, World};
use run::{Drivers, Shown, Way};
use runs::{number, report};

/// Programs of each kind of guests, if nobody asks for more.
const PROGRAMS: u64 = 350;

/// Programs with a busy host, of each of two kinds.
const HOSTED: u64 = 1000;

/// What came of a program.
enum Verdict {
    /// The model allows the log, which has so many records.
    Allowed(usize),
    /// There are too many schedules to tell.
    Unclear,
    /// It cannot be a component.
    Other,
    /// The model forbids it.
    Forbidden(Box<Difference>),
}

/// What the model forbids.
struct Difference {
    /// For people.
    why: String,
    /// The log before it, and what could have come.
    seen: Vec<Record>,
    allowed: Vec<Record>,
    /// What the trap says that should be its end, as far as one can tell.
    trap: Option<String>,
}

fn check(drivers: &Drivers, program: &Program, way: Way) -> Verdict {
    match run::prepare(program) {
        Ok(component) => judge(program, &run::run(drivers, program, &component, way)),
        Err(_) => Verdict::Other,
    }
}

fn judge(program: &Program, shown: &Shown) -> Verdict {
    let code = Code { program: program.clone(), extensions: abi_spec::ext::shipped() };
    let mut acceptor = Acceptor::new(World::new(Profile::INTERFLOW, Arc::new(code))).with_silent_host();
    let mut accepted = shown.log.iter().try_for_each(|record| acceptor.observe(record));
    if !shown.cut {
        accepted = accepted.and_then(|()| acceptor.finish());
    }
    let forbidden = |why: String, after: usize, allowed: Vec<Record>| {
        let lines: String = shown.log.iter().map(|record| format!("{record}\n")).collect();
        let why = format!("{lines}{}\n{why}", shown.trap.as_deref().unwrap_or("no trap"));
        let (seen, refused) = shown.log.split_at(after);
        let rule = allowed.iter().find_map(|record| match record.outcome {
            Outcome::Trap(rule) => Some(rule),
            _ => None,
        });
        let trap = match (rule, refused.first()) {
            (Some(rule), _) => Some(traps::part(rule).to_owned()),
            (None, Some(Record { outcome: Outcome::SomeTrap, .. })) => None,
            (None, _) => shown.trap.as_deref().and_then(|trap| trap.lines().next()).map(str::to_owned),
        };
        Verdict::Forbidden(Box::new(Difference { why, seen: seen.to_vec(), allowed, trap }))
    };
    match accepted {
        Err(Refusal::TooMany) => return Verdict::Unclear,
        Err(Refusal::Forbidden { after, seen, allowed }) => {
            let why = Refusal::Forbidden { after, seen, allowed: allowed.clone() }.to_string();
            return forbidden(why, after, allowed);
        }
        Ok(()) => {}
    }
    if let Some(message) = &shown.trap
        && let Err(difference) = traps::agree(program, shown, message, acceptor.worlds())
    {
        return forbidden(difference, shown.log.len(), Vec::new());
    }
    let same = |world: &World| world.instances.iter().map(|inst| &inst.memory).eq(&shown.memories);
    match shown.memories.is_empty() || acceptor.worlds().iter().any(same) {
        true => Verdict::Allowed(shown.log.len()),
        false => forbidden(format!("the memory is another: {:?}", shown.memories), shown.log.len(), Vec::new()),
    }
}

/// On each driver in turn. If the host does something, the zone is now and then dropped in the middle.
fn way(drivers: &Drivers, program: &Program, seed: u64) -> Way {
    let mut rng = Rng(seed);
    let cut = (program.host.len() > 1 && rng.one_in(4)).then(|| rng.below(60) as u32);
    Way { seed: rng.next_u64(), driver: seed as usize % drivers.len(), cut }
}

/// Runs programs of one kind and fails if one shows what the model forbids.
fn compare(name: &str, count: u64, write: impl Fn(u64) -> Program) {
    let (first, count) = (number("SEED", 1), number("PROGRAMS", count));
    let (drivers, begun) = (Drivers::new(), Instant::now());
    let (mut operations, mut unclear, mut others, mut divergences) = (0, 0, 0, 0);
    for seed in first..first + count {
        let program = puppet::prepared(write(seed));
        let way = way(&drivers, &program, seed);
        match check(&drivers, &program, way) {
            Verdict::Allowed(records) => operations += records,
            Verdict::Unclear => unclear += 1,
            Verdict::Other => others += 1,
            Verdict::Forbidden(first) => {
                // One that ends well is not made into one that doesn't.
                let shows = |program: &Program| match check(&drivers, program, way) {
                    Verdict::Forbidden(other) => other.trap.is_some() == first.trap.is_some(),
                    _ => false,
                };
                let program = shrink(program, shows);
                let Verdict::Forbidden(difference) = check(&drivers, &program, way) else {
                    unreachable!("it showed just now")
                };
                let written = script::write(&program, name, seed, &difference);
                eprintln!("{name}, seed {seed}:\n{program}{}\n{written}\n", difference.why);
                divergences += 1;
            }
        }
    }
    report(format_args!(
        "model and runtime, {name}: SEED={first}, {count} programs, {operations} operations, {unclear} inconclusive, {others} not components, \
         {divergences} divergences, {:.1?}",
        begun.elapsed()
    ));
    assert_eq!(divergences, 0, "{name}");
}

/// Programs that showed faults of the runtime, made small.
const ONCE: [(&str, &str); 8] = [
    (
        "a task that returns twice, and nothing good the second time, breaks two rules",
        "instance - -
        instance - -
        func 1 async callback 0 - - - -
        func 2 async callback 1 - - - own2
        host 2
        script
          call 1 async #0 #0 #4 0 0
        script
          resource.new 7 6
          resolve s6
          resolve #4
        script
          call 0 async #0 #0 #0 0 2",
    ),
    (
        "a cancellation that comes late is not delivered to a task that has returned",
        "instance - -
        instance - -
        func 1 async callback 0 - - - -
        func 2 async stackful 1 - - - -
        host 2
        script
          call 1 async #0 #0 #0 1 2
          subtask.cancel async 1
          resolve #0
        script
          thread.yield plain
          resolve #0
          thread.yield cancellable
        script
          call 0 async #0 #0 #0 0 1",
    ),
    (
        "the index of a destructor's thread is free when it has ended",
        "instance - 1
        func 1 async stackful 0 - - - -
        host 3
        script
          resource.new 5 1
          resource.drop 1 1
          thread.new-indirect 2 2
          thread.resume-later 2
          resolve #0
        script
        script
        script
          call 0 async #0 #0 #0 0 1",
    ),
    (
        "a call that needs no exclusivity does not wait for it because of others that do",
        "instance - -
        instance - -
        func 1 async callback 0 - - - -
        func 2 async callback 1 - - - -
        func 2 async stackful 2 - - - -
        host 3
        script
          call 1 async #0 #0 #0 3 4
          call 1 async #0 #0 #0 5 6
          call 2 async #0 #0 #0 7 8
          resolve #0
        script
          stream.new u8 13 14
          stream.read u8 sync 13 0 1
        script
          resolve #0
        script
          call 0 async #0 #0 #0 0 2",
    ),
    (
        "a source that is gone and wakes does not end a write to a stream that has its place",
        "instance - -
        func 1 async stackful 0 stream/u8:0 - - -
        host 1
        host 2
        script
          stream.read u8 async 0 0 1
          stream.cancel-read u8 sync 0
          stream.drop-readable u8 0
          stream.new future 0 1
          stream.write future sync 1 24 0
          resolve #0
        script
          stream.new u8 6 7
          call 0 async s6 #0 #0 8 255
          stream.write u8 async 7 0 1
        script
          gate.open 0",
    ),
    (
        "nobody runs between a callback that waits and the cancellation that is pending for it",
        "instance - -
        instance - -
        func 1 async stackful 0 - - - -
        func 2 async callback 1 - - - -
        host 2
        script
          thread.new-indirect 3 0
          call 1 async #0 #0 #0 8 9
          subtask.cancel async 8
          thread.resume-later 0
          resolve #0
        script
          thread.yield plain
          waitable-set.new 13
          wait 13
          resolve #0
        script
          call 0 async #0 #0 #0 0 2
        script
          load 0",
    ),
    (
        "who called the holder of an exclusivity does not go on before the call that waits for it enters",
        "instance - -
        instance - -
        instance - -
        func 1 async sync 0 - - - -
        func 2 async stackful 1 - - - -
        func 3 async sync 2 - - - -
        func 3 async sync 3 stream/u8:10 - - stream/u8
        host 4
        script
          call 1 async #0 #0 #0 0 3
          call 3 async #0 #1 #2 3 1
        script
          call 2 sync #0 #0 #0 4 1
        script
          thread.yield cancellable
        script
        script
          call 0 async #0 #0 #0 0 2",
    ),
    (
        "a holder that a call has let go on is told of its cancellation before the call enters",
        "instance - -
        instance - -
        func 1 async stackful 0 - - - -
        func 2 async callback 1 - - - -
        func 2 async callback 2 - - - -
        host 3
        script
          call 1 async #0 #0 #0 8 9
          subtask.cancel async 8
          call 2 async #0 #0 #0 10 11
          resolve #0
        script
          thread.yield plain
          waitable-set.new 13
          wait 13
          resolve #0
        script
          resolve #0
        script
          call 0 async #0 #0 #0 0 2",
    ),
];

#[test]
fn programs_that_once_differed_see_what_the_model_allows() {
    let drivers = Drivers::new();
    let file = std::env::var("PROGRAM").map(|path| std::fs::read_to_string(path).expect("PROGRAM names a file"));
    let of_file = file.iter().map(|text| ("the program of the file", text.as_str()));
    for (name, program) in ONCE.into_iter().chain(of_file) {
        let program: Program = program.parse().expect("a program");
        for seed in 0..12 {
            match check(&drivers, &program, Way { cut: None, ..way(&drivers, &program, seed) }) {
                Verdict::Allowed(_) => {}
                Verdict::Forbidden(difference) => panic!("{name}:\n{}", difference.why),
                Verdict::Unclear | Verdict::Other => panic!("{name}: no verdict"),
            }
        }
    }
}

// Two, so that two cores share them.
#[test]
fn hosts_with_ends_and_calls_see_what_the_model_allows() {
    compare("host ends, even", HOSTED, |seed| program(Shape::Hosted, 2 * seed));
}

#[test]
fn other_hosts_with_ends_and_calls_see_what_the_model_allows() {
    compare("host ends, odd", HOSTED, |seed| program(Shape::Hosted, 2 * seed - 1));
}

#[test]
fn bodies_with_streams_futures_and_sets_see_what_the_model_allows() {
    compare("one body", PROGRAMS, |seed| program(Shape::Single, seed));
}

#[test]
fn bodies_that_call_each_other_see_what_the_model_allows() {
    compare("calls", PROGRAMS, |seed| program(Shape::Layers, seed));
}

#[test]
fn threads_see_what_the_model_allows() {
    compare("threads", PROGRAMS, |seed| program(Shape::LayerThreads, seed));
}

#[test]
fn programs_that_make_no_sense_see_what_the_model_allows() {
    compare("scrambled, one body", PROGRAMS, |seed| scrambled(Shape::Single, seed));
    compare("scrambled, calls", PROGRAMS, |seed| scrambled(Shape::Layers, seed));
    compare("scrambled, threads", PROGRAMS, |seed| scrambled(Shape::LayerThreads, seed));
}
