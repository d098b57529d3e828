//! What `explore`, the acceptor and the shrinker find in programs of which one knows what there is to find.

use std::sync::Arc;

use abi_spec::accept::{Refusal, accept};
use abi_spec::elem::InstanceId;
use abi_spec::explore::{Explored, Finding, explore};
use abi_spec::generate::{Shape, program};
use abi_spec::op::{Op, Outcome, Record};
use abi_spec::profile::{Profile, Quirk, Quirks, Rule};
use abi_spec::program::Program;
use abi_spec::sched::{Fifo, Seeded, run};
use abi_spec::shrink::shrink;
use abi_spec::world::{Code, Ending, World};

fn world(program: &Program, profile: Profile) -> World {
    World::new(profile, Arc::new(Code { program: program.clone(), extensions: Vec::new() }))
}

fn explored(program: &str) -> Explored {
    explore(world(&program.parse().expect("a program"), Profile::R1), 20_000)
}

fn findings(explored: &Explored) -> Vec<Finding> {
    assert!(explored.complete && explored.violation.is_none());
    explored.findings().into_iter().map(|(finding, _)| finding).collect()
}

/// A guest waits for its write; another body of the instance takes a look at the same set.
const TWO_LISTENERS: &str = "
    instance - -
    func 1 async stackful 0 - - - -
    func 1 async stackful 1 - - - -
    host 2
    script
      stream.new u8 1 2
      waitable-set.new 3
      waitable.join 2 s3
      stream.write u8 async 2 0 1
      stream.read u8 async 1 8 1
      waitable-set.wait 3 plain
      resolve #0
    script
      waitable-set.poll 3 plain
      resolve #0
    script
      call 0 async #0 #0 #0 0 1
      call 1 async #0 #0 #0 2 3
";

#[test]
fn a_lost_wake_up_is_found_with_a_shortest_schedule() {
    let explored = explored(TWO_LISTENERS);
    assert!(findings(&explored).contains(&Finding::LostWakeUp));
    eprintln!("{}", explored.report());
}

#[test]
fn a_hang_is_found_whatever_the_schedule() {
    let explored = explored(
        "instance - -\nfunc 1 async stackful 0 - - - -\nhost 1\nscript\nstream.new u8 1 2\nstream.read u8 sync 1 0 1\n\
         resolve #0\nscript\ncall 0 async #0 #0 #0 0 1\n",
    );
    assert_eq!(findings(&explored), [Finding::Hang]);
}

#[test]
fn a_result_that_depends_on_the_schedule_is_found() {
    let explored = explored(
        "instance - -\nfunc 1 async stackful 0 u32:0 - - u32\nhost 1\nhost 2\nscript\nstore 0 s0\nthread.yield plain\nload 0\n\
         resolve #0\nscript\ncall 0 sync #1 #0 #0 0 1\nscript\ncall 0 sync #2 #0 #0 0 1\n",
    );
    assert_eq!(findings(&explored), [Finding::ScheduleDependent]);
}

#[test]
fn a_trap_in_one_schedule_is_found() {
    // Dropping an end traps while it copies; whether it still does is up to the schedule.
    let explored = explored(
        "instance - -\nfunc 1 async stackful 0 - - - -\nfunc 1 async stackful 1 - - - -\nhost 2\nhost 3\nscript\n\
         stream.new u8 1 2\nstream.read u8 sync 1 0 1\nresolve #0\nscript\nstream.write u8 async 2 0 1\nresolve #0\n\
         script\ncall 0 async #0 #0 #0 0 1\nscript\ncall 1 async #0 #0 #0 2 3\n",
    );
    let ends: Vec<&Ending> = explored.ends.iter().map(|end| &end.ending).collect();
    assert_eq!(findings(&explored), [Finding::Trap]);
    assert!(ends.contains(&&Ending::Done) && ends.contains(&&Ending::Trapped(Rule::Handle)));
}

#[test]
fn nothing_is_found_where_the_law_is_deterministic() {
    // Concurrency.md: an async call runs the callee at once, and what guests do to a stream is determined by its order.
    let explored = explored(
        "instance - -\ninstance - -\nfunc 1 async stackful 0 - - - -\nfunc 2 async callback 1 stream/u8:0 - - -\nhost 2\n\
         script\nstream.new u8 1 2\ncall 1 async s1 #0 #0 3 4\nstream.write u8 async 2 0 5\nresolve #0\nscript\n\
         stream.read u8 async 0 0 3\nstream.cancel-read u8 async 0\nstream.drop-readable u8 0\nresolve #0\nscript\n\
         call 0 async #0 #0 #0 0 1\n",
    );
    assert_eq!(findings(&explored), []);
    assert_eq!(explored.ends.len(), 1);
}

#[test]
fn a_log_with_one_wrong_result_is_refused_there() {
    for seed in 1..40 {
        let program = program(Shape::Calls, seed);
        let log = run(world(&program, Profile::R1), &mut Seeded::new(seed)).log;
        for (at, record) in log.iter().enumerate() {
            let Outcome::Ret(value) = record.outcome else { continue };
            let mut wrong = log.clone();
            wrong[at] = Record { outcome: Outcome::Ret(value ^ 0x1000), ..record.clone() };
            match accept(world(&program, Profile::R1), &wrong) {
                Err(Refusal::Forbidden { after, .. }) => assert_eq!(after, at, "{seed}"),
                other => panic!("{seed} {at}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_log_that_stops_while_somebody_could_run_is_refused() {
    for seed in 1..40 {
        let program = program(Shape::Single, seed);
        let mut log = run(world(&program, Profile::R1), &mut Fifo).log;
        log.pop();
        assert!(accept(world(&program, Profile::R1), &log).is_err(), "{seed}");
    }
}

#[test]
fn a_quirk_is_found_and_shrunk_to_what_shows_it() {
    let quirky = Profile { quirks: Quirks::NONE.with(Quirk::CancelForgetsCompletion), ..Profile::R1 };
    let differs = |program: &Program| {
        let log = run(world(program, quirky), &mut Fifo).log;
        accept(world(program, Profile::R1), &log).is_err()
    };
    let found = (1..).map(|seed| program(Shape::Single, seed)).find(|program| differs(program)).expect("a program");
    let small = shrink(found, differs);
    let guest = &small.scripts[0];
    assert_eq!(guest.len(), 4, "{small}");
    assert!(matches!(guest[0], Op::New { .. }) && matches!(guest[3], Op::CancelCopy { .. }), "{small}");
}

#[test]
fn a_body_that_calls_itself_does_not_hold_the_explorer_up() {
    let explored = explored(
        "instance - -\nfunc 1 async stackful 0 - - - -\nhost 1\nscript\ncall 0 async #0 #0 #0 0 1\nscript\n\
         call 0 async #0 #0 #0 0 1\n",
    );
    assert!(!explored.complete && explored.ends.is_empty());
}

#[test]
fn a_program_that_names_an_instance_it_does_not_have_traps() {
    let mut program: Program = "instance - -\nhost 0\nscript\nresource.drop 1 0\n".parse().expect("a program");
    program.scripts[0] = vec![Op::ResourceDrop { rt: InstanceId(9), handle: 0 }];
    assert_eq!(run(world(&program, Profile::R1), &mut Fifo).ending, Ending::Trapped(Rule::Handle));
}

#[test]
fn a_law_that_forgets_to_wake_somebody_contradicts_its_invariants() {
    let program = "
        instance - -
        func 1 async stackful 0 - - - -
        func 1 async stackful 1 - - - -
        host 2
        script
          stream.new u8 1 2
          stream.write u8 sync 2 0 1
          resolve #0
        script
          stream.drop-readable u8 1
          resolve #0
        script
          call 0 async #0 #0 #0 0 1
          call 1 async #0 #0 #0 2 3
    ";
    let program: Program = program.parse().expect("a program");
    let sound = explore(world(&program, Profile::R1), 1000);
    assert!(sound.violation.is_none() && sound.findings().is_empty(), "{}", sound.report());
    let broken = explore(world(&program, Profile::R1.without(Rule::DropWakesPending)), 1000);
    let (_, violation) = broken.violation.as_ref().expect("a violation");
    assert!(violation.ends_with("copies, but neither waits nor has an event"), "{violation}");
    assert_eq!(broken.findings()[0].0, Finding::Hang);
}
