//! Does anybody notice when a rule is missing? Each rule of the model is broken alone; the suite has to fail.
//! Survivors are printed. A rule that survives is one that the suite does not test.

mod common;
#[path = "common/promises.rs"]
mod promises;

use std::panic::{AssertUnwindSafe, catch_unwind};

use abi_spec::profile::{Profile, Rule};
use common::{Trace, all_traces};
use promises::broken_promise;

/// Rules without which the suite passes, and why that is right.
const SURVIVORS: &[(Rule, &str)] = &[];

/// Who notices first that a rule is missing, if anybody does.
fn noticed(rule: Rule, traces: &[Trace], scenarios: &[Trace]) -> Option<String> {
    let broken = Profile::R1.without(rule);
    if let Some(trace) = traces.iter().find(|trace| trace.accept(broken).is_err()) {
        return Some(format!("the log of {} is refused", trace.name));
    }
    if let Some(trace) = scenarios.iter().find(|trace| !trace.unseen(broken).is_empty()) {
        return Some(format!("{} goes as never in the reference", trace.name));
    }
    broken_promise(Profile::R2.without(rule)).map(|promise| format!("not kept: {promise}"))
}

#[test]
fn every_rule_is_missed_when_it_is_broken() {
    let traces = all_traces();
    let mut scenarios = common::traces("scenario", include_str!("../traces/scenarios.txt"));
    scenarios.extend(common::traces("small", include_str!("../traces/small.txt")));
    let flippable: Vec<Rule> = Rule::ALL.iter().copied().filter(|rule| rule.flippable()).collect();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut survivors = Vec::new();
    let mut contradictions = 0;
    for &rule in &flippable {
        // A model without a rule may contradict itself; its assertions notice then.
        match catch_unwind(AssertUnwindSafe(|| noticed(rule, &traces, &scenarios))) {
            Ok(None) => survivors.push(rule),
            Ok(Some(how)) => eprintln!("{rule:?}: {how}"),
            Err(_) => contradictions += 1,
        }
    }
    std::panic::set_hook(hook);
    eprintln!("{} rules broken, {contradictions} by contradiction, survivors: {survivors:?}", flippable.len());
    let known: Vec<Rule> = SURVIVORS.iter().map(|(rule, _)| *rule).collect();
    assert_eq!(survivors, known);
}
