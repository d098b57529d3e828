//! The model against the reference implementation: every recorded log is one that some schedule of the model allows.

mod common;

use abi_spec::profile::{Profile, Quirk, Quirks};
use common::{Trace, all_traces, traces};

fn check(name: &str, traces: &[Trace]) {
    let failed: Vec<String> = traces
        .iter()
        .filter_map(|trace| trace.accept(Profile::R1).err().map(|why| format!("{}: {why}", trace.name)))
        .collect();
    let records: usize = traces.iter().flat_map(|trace| &trace.logs).map(|log| log.records.len()).sum();
    eprintln!("{name}: {} programs, {records} records", traces.len());
    assert!(failed.is_empty(), "{} of {} logs are refused:\n{}", failed.len(), traces.len(), failed.join("\n"));
}

#[test]
fn every_log_of_the_reference_is_allowed() {
    check("traces", &all_traces());
}

/// The other direction, for small programs: what the model allows is what the reference shows.
#[test]
fn small_programs_go_in_no_way_that_the_reference_never_goes() {
    check_unseen(&traces("scenario", include_str!("../traces/scenarios.txt")));
    check_unseen(&traces("small", include_str!("../traces/small.txt")));
}

fn check_unseen(traces: &[Trace]) {
    let unseen: Vec<String> = traces
        .iter()
        .filter_map(|trace| Some(format!("{}: {:?}", trace.name, trace.unseen(Profile::R1).first()?)))
        .collect();
    assert!(unseen.is_empty(), "the reference never showed, in {} programs:\n{}", unseen.len(), unseen.join("\n"));
}

#[test]
fn every_quirk_of_wasmtime_48_is_refused_by_a_log_of_the_reference() {
    let all = [
        Quirk::CancelForgetsCompletion,
        Quirk::IdleDropEvent,
        Quirk::SecondCancelBlocks,
        Quirk::EarlyTaskCancel,
        Quirk::UnjoinWhileWaiting,
        Quirk::EagerCannotBlock,
    ];
    for quirk in all {
        let quirky = Profile { quirks: Quirks::NONE.with(quirk), ..Profile::R1 };
        let shown = all_traces().into_iter().find(|trace| trace.accept(quirky).is_err());
        assert!(shown.is_some(), "{quirk:?}");
    }
}

/// `TRACES=file cargo test --test traces` checks fresh recordings.
#[test]
fn fresh_logs_of_the_reference_are_allowed() {
    if let Ok(file) = std::env::var("TRACES") {
        let text = std::fs::read_to_string(&file).expect("a file of traces");
        check(&file, &traces(&file, &text));
        if std::env::var("ALL_SHOWN").is_ok() {
            check_unseen(&traces(&file, &text));
        }
    }
}
