//! What the extensions promise. The suite runs these again without each rule, see `mutation.rs`.

use std::sync::Arc;

use abi_spec::ext::shipped;
use abi_spec::op::Outcome;
use abi_spec::profile::Profile;
use abi_spec::sched::{Fifo, run};
use abi_spec::world::{Code, World};

/// Extension 0 is `forward`, 1 is `read-ahead`.
pub fn world(profile: Profile, program: &str) -> World {
    World::new(profile, Arc::new(Code { program: program.parse().expect("a program"), extensions: shipped() }))
}

/// One guest that the host calls once.
fn alone(body: &str) -> String {
    format!(
        "instance - -\nfunc 1 async stackful 0 - - - -\nhost 1\nscript\n{body}\nresolve #0\nscript\ncall 0 async #0 #0 #0 0 1\n"
    )
}

/// What the guest's operations returned.
pub fn returns_under(profile: Profile, body: &str) -> String {
    let run = run(world(profile, &alone(body)), &mut Fifo);
    let shown = |outcome: &Outcome| match outcome {
        Outcome::Ret(u32::MAX) => Some("blocked".to_owned()),
        Outcome::Ret(value) => Some(value.to_string()),
        Outcome::Event(code, index, payload) => Some(format!("({code} {index} {payload})")),
        Outcome::Trap(rule) => Some(format!("{rule:?}")),
        Outcome::Start(_) | Outcome::Ends(..) | Outcome::SomeTrap => None,
    };
    let ops = body.lines().count();
    let guest = run.log.iter().filter(|record| record.inst.0 == 1 && (record.at as usize) < ops);
    guest.filter_map(|record| shown(&record.outcome)).collect::<Vec<_>>().join(" ")
}

/// A promise, a body, and what its operations return if it is kept.
pub struct Case {
    pub promise: &'static str,
    pub body: &'static str,
    pub returns: &'static str,
}

/// Too long for a list: 2^16 times `backpressure.inc`.
fn backpressure_has_a_maximum(profile: Profile) -> bool {
    let incs = |count| returns_under(profile, &vec!["backpressure.inc"; count].join("\n"));
    !incs(65_535).contains("Max") && incs(65_536).ends_with("BackpressureMax")
}

/// All of them.
pub const CASES: &[Case] = &[
    Case {
        promise: "an idle end is told when the other one is dropped, and is done then",
        body: "stream.new u8 1 2\nwaitable-set.new 3\nwaitable.join 2 s3\nstream.drop-readable u8 1\n\
               waitable-set.poll 3 plain\nwaitable-set.poll 3 plain\nstream.write u8 async 2 0 1",
        returns: "3 0 0 (3 2 1) (0 0 0) CopyIdle",
    },
    Case {
        promise: "an idle end of which nobody has taken the event still gets DROPPED at its next copy, once",
        body: "stream.new u8 1 2\nwaitable-set.new 3\nwaitable.join 2 s3\nstream.drop-readable u8 1\n\
               stream.write u8 async 2 0 1\nwaitable-set.poll 3 plain",
        returns: "3 0 0 1 (0 0 0)",
    },
    Case {
        promise: "what is written behind a forward arrives before it",
        body: "stream.new u8 1 2\nstream.new u8 3 4\next 0 s1 s4 #0\nstream.write u8 async 2 0 3\n\
               stream.read u8 async 3 16 4\nload 16",
        returns: "0 blocked 48 1396851008",
    },
    Case {
        promise: "a read that waits when its stream is forwarded meets the write that waits",
        body: "stream.new u8 1 2\nstream.new u8 3 4\nstream.write u8 async 2 0 3\nstream.read u8 async 3 16 4\n\
               ext 0 s1 s4 #0\nwaitable-set.new 5\nwaitable.join 3 s5\nwaitable-set.poll 5 plain",
        returns: "blocked blocked 0 4 0 (2 3 48)",
    },
    Case {
        promise: "dropping the writer is seen by the reader through a forward",
        body: "stream.new u8 1 2\nstream.new u8 3 4\nstream.read u8 async 3 16 4\nstream.drop-writable u8 2\n\
               ext 0 s1 s4 #0\nwaitable-set.new 5\nwaitable.join 3 s5\nwaitable-set.poll 5 plain",
        returns: "blocked 0 0 4 0 (2 3 1)",
    },
    Case {
        promise: "dropping the reader is seen by the writer through a forward",
        body: "stream.new u8 1 2\nstream.new u8 3 4\nstream.drop-readable u8 3\nstream.write u8 async 2 0 1\n\
               ext 0 s1 s4 #0\nwaitable-set.new 5\nwaitable.join 2 s5\nwaitable-set.poll 5 plain",
        returns: "0 blocked 0 4 0 (3 2 1)",
    },
    Case {
        promise: "a future is forwarded like a stream",
        body: "future.new u8 1 2\nfuture.new u8 3 4\nfuture.read u8 async 3 16 0\nfuture.write u8 async 2 5 0\n\
               ext 0 s1 s4 #0\nload 16\nwaitable-set.new 5\nwaitable.join 3 s5\nwaitable-set.poll 5 plain\n\
               future.cancel-write u8 async 2\nfuture.drop-writable u8 2",
        returns: "blocked blocked 0 1397903685 4 0 (4 3 0) 0 0",
    },
    Case {
        promise: "an end that copies is not forwarded",
        body: "stream.new u8 1 2\nstream.new u8 3 4\nstream.write u8 async 4 0 1\next 0 s1 s4 #0",
        returns: "blocked ForwardIdle",
    },
    Case {
        promise: "an end in a set is not forwarded",
        body: "stream.new u8 1 2\nstream.new u8 3 4\nwaitable-set.new 5\nwaitable.join 4 s5\next 0 s1 s4 #0",
        returns: "5 0 ForwardNotInSet",
    },
    Case {
        promise: "a stream forwarded onto itself is gone",
        body: "stream.new u8 1 2\next 0 s1 s2 #0\nstream.new u8 1 2\nstream.read u8 async 1 0 1",
        returns: "0 blocked",
    },
    Case {
        promise: "a write goes on in the reads that follow, each with its event, in order",
        body: "stream.new u8 1 2\nstream.read u8 async 1 16 2\next 1 s1 #18 #3\next 1 s1 #24 #4\n\
               stream.write u8 async 2 0 7\nwaitable-set.new 3\nwaitable.join 1 s3\nwaitable-set.poll 3 plain\n\
               waitable-set.poll 3 plain\nwaitable-set.poll 3 plain\nwaitable-set.poll 3 plain\nload 16\nload 24",
        returns: "blocked 1 1 112 3 0 (2 1 32) (2 1 48) (2 1 32) (0 0 0) 1128415552 1532642885",
    },
    Case {
        promise: "a read that has some elements ends, and the next one goes on",
        body: "stream.new u8 1 2\nstream.read u8 async 1 16 4\next 1 s1 #20 #4\nstream.write u8 async 2 0 1\n\
               waitable-set.new 3\nwaitable.join 1 s3\nwaitable-set.poll 3 plain\nwaitable-set.poll 3 plain\n\
               stream.write u8 async 2 1 2\nwaitable-set.poll 3 plain\nload 20\nstream.read u8 async 1 16 1",
        returns: "blocked 1 16 3 0 (2 1 16) (0 0 0) 32 (2 1 32) 1465270849 blocked",
    },
    Case {
        promise: "an empty write asks, and the reads stay",
        body: "stream.new u8 1 2\nstream.read u8 async 1 16 0\next 1 s1 #16 #4\nstream.write u8 async 2 0 0\n\
               stream.write u8 async 2 0 1\nwaitable-set.new 3\nwaitable.join 1 s3\nwaitable-set.poll 3 plain\n\
               waitable-set.poll 3 plain",
        returns: "blocked 1 0 16 3 0 (2 1 0) (2 1 16)",
    },
    Case {
        promise: "a cancel ends all reads and counts the elements of all",
        body: "stream.new u8 1 2\nstream.read u8 async 1 16 2\next 1 s1 #18 #3\next 1 s1 #24 #4\n\
               stream.write u8 async 2 0 4\nstream.cancel-read u8 async 1\nstream.read u8 async 1 16 2",
        returns: "blocked 1 1 64 64 blocked",
    },
    Case {
        promise: "DROPPED ends all reads",
        body: "stream.new u8 1 2\nstream.read u8 async 1 16 2\next 1 s1 #18 #3\next 1 s1 #24 #4\n\
               stream.write u8 async 2 0 3\nstream.drop-writable u8 2\nwaitable-set.new 3\nwaitable.join 1 s3\n\
               waitable-set.poll 3 plain\nwaitable-set.poll 3 plain\nwaitable-set.poll 3 plain\nstream.read u8 async 1 0 1",
        returns: "blocked 1 1 48 0 2 0 (2 1 32) (2 1 17) (0 0 0) CopyIdle",
    },
    Case {
        promise: "nothing is read ahead without a read",
        body: "stream.new u8 1 2\next 1 s1 #16 #4",
        returns: "ReadAheadBehind",
    },
    Case {
        promise: "nothing is read ahead of a read that is over",
        body: "stream.new u8 1 2\nstream.read u8 async 1 16 1\nstream.write u8 async 2 0 1\nstream.write u8 async 2 1 1\n\
               ext 1 s1 #20 #4",
        returns: "blocked 16 blocked 0",
    },
    Case {
        promise: "reads in flight are as many as the maximum",
        body: "stream.new unit 1 2\nstream.read unit async 1 0 1\n\
               ext 1 s1 #0 #1\next 1 s1 #0 #1\next 1 s1 #0 #1\next 1 s1 #0 #1\next 1 s1 #0 #1\n\
               ext 1 s1 #0 #1\next 1 s1 #0 #1\next 1 s1 #0 #1\next 1 s1 #0 #1\next 1 s1 #0 #1\n\
               ext 1 s1 #0 #1\next 1 s1 #0 #1\next 1 s1 #0 #1\next 1 s1 #0 #1\next 1 s1 #0 #1\n\
               ext 1 s1 #0 #1\nstream.write unit async 2 0 99",
        returns: "blocked 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 0 256",
    },
    Case {
        promise: "reads in flight go on at the stream that is forwarded to them",
        body: "stream.new u8 1 2\nstream.new u8 3 4\nstream.write u8 async 2 0 3\nstream.read u8 async 3 16 2\n\
               ext 1 s3 #18 #2\next 0 s1 s4 #0\nwaitable-set.new 5\nwaitable.join 3 s5\nwaitable-set.poll 5 plain\n\
               waitable-set.poll 5 plain\nstream.cancel-write u8 async 2",
        returns: "blocked blocked 1 0 4 0 (2 3 32) (2 3 16) 48",
    },
];

/// The first promise that is not kept.
pub fn broken_promise(profile: Profile) -> Option<&'static str> {
    if !backpressure_has_a_maximum(profile) {
        return Some("backpressure has a maximum");
    }
    let kept = |case: &&Case| returns_under(profile, case.body) != case.returns;
    CASES.iter().find(kept).map(|case| case.promise)
}
