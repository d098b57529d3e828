//! The model against the reference implementation: every recorded log is one that some schedule of the model allows.

mod common;

use abi_spec::profile::Profile;
use common::traces;

fn check(name: &str, text: &str) {
    let traces = traces(name, text);
    let failed: Vec<String> = traces
        .iter()
        .filter_map(|trace| trace.accept(Profile::R1).err().map(|why| format!("{}: {why}", trace.name)))
        .collect();
    let records: usize = traces.iter().flat_map(|trace| &trace.logs).map(|log| log.records.len()).sum();
    println!("{name}: {} programs, {records} records", traces.len());
    assert!(failed.is_empty(), "{} of {} logs are refused:\n{}", failed.len(), traces.len(), failed.join("\n"));
}

/// For small programs the other direction as well: what the model allows is what the reference shows.
fn check_all_shown(name: &str, text: &str) {
    let traces = traces(name, text);
    for trace in &traces {
        let unseen = trace.unseen(Profile::R1);
        assert!(unseen.is_empty(), "{}: the reference never showed {:#?}", trace.name, unseen[0]);
    }
}

#[test]
fn scenarios_go_as_in_the_reference() {
    check("scenarios", include_str!("../traces/scenarios.txt"));
}

#[test]
fn scenarios_go_in_no_way_that_the_reference_never_goes() {
    check_all_shown("scenarios", include_str!("../traces/scenarios.txt"));
}

/// `TRACES=file cargo test --test traces` checks fresh recordings.
#[test]
fn fresh_logs_of_the_reference_are_allowed() {
    if let Ok(file) = std::env::var("TRACES") {
        check(&file, &std::fs::read_to_string(&file).expect("a file of traces"));
    }
}
