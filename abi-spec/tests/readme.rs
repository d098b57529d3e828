//! README.md shows what the model shows.

use std::sync::Arc;

use abi_spec::explore::explore;
use abi_spec::figure::{Subject, figure};
use abi_spec::profile::Profile;
use abi_spec::world::{Code, World};

const README: &str = include_str!("../README.md");

#[test]
fn the_figures_are_those_of_the_model() {
    for subject in [Subject::Subtask, Subject::StreamEnd] {
        let figure = figure(subject);
        assert!(README.contains(&figure), "README.md does not have this figure of {subject:?}:\n{figure}");
    }
}

#[test]
fn the_report_is_that_of_the_explorer() {
    let program = include_str!("../examples/two_listeners.txt").parse().expect("a program");
    let report = explore(World::new(Profile::R1, Arc::new(Code { program, extensions: Vec::new() })), 1000).report();
    for line in report.lines().take(15) {
        assert!(README.contains(line), "README.md does not have this line:\n{line}");
    }
}
