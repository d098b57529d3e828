//! Programs that use the extensions which both sides have, and their comparison.

use abi_spec::ext::shipped;
use abi_spec::generate::{Shape, program, scrambled};
use abi_spec::profile::{Profile, Rule};
use abi_spec::sched::{Fifo, run};
use abi_spec::world::{Code, World};

use super::compare;

/// Programs of each kind, if nobody asks for more.
const COUNT: u64 = 250;

#[test]
fn bodies_that_forward_and_read_ahead_see_what_the_model_allows() {
    compare("extensions, one body", COUNT, |seed| program(Shape::SingleExtensions, seed));
    compare("extensions, calls", COUNT, |seed| program(Shape::LayerExtensions, seed));
}

#[test]
fn programs_with_extensions_that_make_no_sense_see_what_the_model_allows() {
    compare("scrambled, extensions, one body", COUNT, |seed| scrambled(Shape::SingleExtensions, seed));
    compare("scrambled, extensions, calls", COUNT, |seed| scrambled(Shape::LayerExtensions, seed));
}

/// Programs that do nothing of what they are about would agree as well: that a rule is missing shows in some of them.
#[test]
fn programs_with_extensions_show_their_rules() {
    let log = |seed, profile| {
        let code = Code { program: program(Shape::SingleExtensions, seed), extensions: shipped() };
        run(World::new(profile, code.into()), &mut Fifo).log
    };
    for rule in [Rule::ReadAheadFlows, Rule::ReadAheadOrder, Rule::ForwardMeets] {
        let shows = |seed: &u64| log(*seed, Profile::R1) != log(*seed, Profile::R1.without(rule));
        let count = (1..=COUNT).filter(shows).count();
        assert!(count > 0, "{rule:?} shows in no program");
        eprintln!("{rule:?} shows in {count} of {COUNT} programs");
    }
}
