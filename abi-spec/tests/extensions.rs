//! What the extensions promise: `forward` and idle drops as R2 has them, and `read-ahead`, which is ours.

#[path = "common/promises.rs"]
mod promises;

use std::collections::BTreeSet;

use abi_spec::explore::{Explored, explore};
use abi_spec::op::Outcome;
use abi_spec::profile::Profile;
use abi_spec::world::Ending;
use promises::{CASES, broken_promise, returns_under, world};

#[test]
fn extensions_keep_their_promises() {
    for case in CASES {
        assert_eq!(returns_under(Profile::R2, case.body), case.returns, "{}", case.promise);
    }
    assert_eq!(broken_promise(Profile::R2), None);
}

/// A writer and a reader in two instances; the host hands the stream over. The writer begins when the reader opens the gate.
fn transfer(reads: &str) -> Explored {
    let program = format!(
        "instance - -\ninstance - -\nfunc 1 async stackful 0 - - - stream/u8\nfunc 2 async stackful 1 stream/u8:0 - - -\n\
         host 2\nscript\nstream.new u8 0 1\ntask.return s0\ngate.wait 0\nstream.write u8 sync 1 0 4\n\
         stream.drop-writable u8 1\nscript\n{reads}\nload 16\ntask.return #0\n\
         script\ncall 0 async #0 #0 #0 0 1\ncall 1 async s1 #0 #0 2 3\n"
    );
    explore(world(Profile::R1, &program), 10_000)
}

/// What the reader can have in its memory at the end.
fn bytes_read(explored: &Explored, load_at: u32) -> BTreeSet<Outcome> {
    assert!(explored.complete && explored.violation.is_none());
    let mut bytes = BTreeSet::new();
    for end in &explored.ends {
        assert_eq!(end.ending, Ending::Done, "{}", explored.report());
        let reader = end.views.iter().filter(|((inst, _), _)| inst.0 == 2).flat_map(|(_, view)| view);
        bytes.extend(reader.filter(|(at, _)| *at == load_at).map(|(_, outcome)| outcome.clone()));
    }
    bytes
}

#[test]
fn read_ahead_changes_no_byte_that_a_reader_gets_in_any_schedule() {
    let plain = transfer("gate.open 0\nstream.read u8 sync 0 16 4");
    let plain = bytes_read(&plain, 2);
    assert_eq!(plain, BTreeSet::from([Outcome::Ret(u32::from_le_bytes([64, 65, 66, 67]))]));
    let ahead = "stream.read u8 async 0 16 2\next 1 s0 #18 #2\ngate.open 0\nwaitable-set.new 5\nwaitable.join 0 s5\n\
                 waitable-set.wait 5 plain\nwaitable-set.wait 5 plain";
    assert_eq!(bytes_read(&transfer(ahead), 7), plain);
}
