//! The model against the reference implementation: every recorded log is one that some schedule of the model allows.

mod common;

use abi_spec::profile::Profile;
use common::{Trace, all_traces, traces};

fn check(name: &str, traces: &[Trace]) {
    let failed: Vec<String> = traces
        .iter()
        .filter_map(|trace| trace.accept(Profile::R1).err().map(|why| format!("{}: {why}", trace.name)))
        .collect();
    let records: usize = traces.iter().flat_map(|trace| &trace.logs).map(|log| log.records.len()).sum();
    println!("{name}: {} programs, {records} records", traces.len());
    assert!(failed.is_empty(), "{} of {} logs are refused:\n{}", failed.len(), traces.len(), failed.join("\n"));
}

#[test]
fn every_log_of_the_reference_is_allowed() {
    check("traces", &all_traces());
}

/// The other direction, for small programs: what the model allows is what the reference shows.
#[test]
fn scenarios_go_in_no_way_that_the_reference_never_goes() {
    for trace in traces("scenario", include_str!("../traces/scenarios.txt")) {
        let unseen = trace.unseen(Profile::R1);
        assert!(unseen.is_empty(), "{}: the reference never showed {:#?}", trace.name, unseen[0]);
    }
}

/// `TRACES=file cargo test --test traces` checks fresh recordings.
#[test]
fn fresh_logs_of_the_reference_are_allowed() {
    if let Ok(file) = std::env::var("TRACES") {
        let text = std::fs::read_to_string(&file).expect("a file of traces");
        check(&file, &traces(&file, &text));
    }
}
