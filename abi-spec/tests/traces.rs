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
    let records: usize = traces.iter().map(|trace| trace.log.len()).sum();
    println!("{name}: {} programs, {records} records", traces.len());
    assert!(failed.is_empty(), "{} of {} logs are refused:\n{}", failed.len(), traces.len(), failed.join("\n"));
}

/// `TRACES=file cargo test --test traces` checks fresh recordings.
#[test]
fn fresh_logs_of_the_reference_are_allowed() {
    if let Ok(file) = std::env::var("TRACES") {
        check(&file, &std::fs::read_to_string(&file).expect("a file of traces"));
    }
}
