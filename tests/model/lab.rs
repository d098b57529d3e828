//! Programs that use the extensions which both sides have: what puppets import for them, and their comparison.

use abi_spec::generate::{Shape, program, scrambled};
use abi_spec::op::Op;
use abi_spec::program::Program;

use super::compare;

fn is_used(program: &Program) -> bool {
    program.scripts.iter().flatten().any(|op| matches!(op, Op::Ext { .. }))
}

/// What the component of all guests imports.
pub fn imports(program: &Program) -> String {
    if !is_used(program) {
        return String::new();
    }
    let import = |name: &str, ty: &str| {
        format!(
            "  (import \"lab:streams/{name}@0.1.0\" (instance $lab-{name} (export \"{name}\" (func {ty}))))\n\
             \x20 (alias export $lab-{name} \"{name}\" (func ${name}))\n"
        )
    };
    import("forward", FORWARD) + &import("read-ahead", READ_AHEAD)
}

/// What each guest's component is given.
pub fn arguments(program: &Program) -> &'static str {
    match is_used(program) {
        true => " (with \"forward\" (func $forward)) (with \"read-ahead\" (func $read-ahead))",
        false => "",
    }
}

/// What each guest's component imports.
pub fn inner_imports(program: &Program) -> String {
    match is_used(program) {
        true => format!(
            "    (import \"forward\" (func $forward {FORWARD}))\n    (import \"read-ahead\" (func $read-ahead {READ_AHEAD}))\n"
        ),
        false => String::new(),
    }
}

const FORWARD: &str = r#"(param "readable" u32) (param "writable" u32)"#;
const READ_AHEAD: &str = r#"(param "readable" u32) (param "pointer" u32) (param "length" u32) (result bool)"#;

#[test]
fn guests_that_forward_and_read_ahead_see_what_the_model_allows() {
    compare("extensions", |seed| program(Shape::LayerExtensions, seed));
    compare("scrambled, extensions", |seed| scrambled(Shape::LayerExtensions, seed));
}

/// Programs that do nothing of what they are about would agree as well.
#[test]
fn many_programs_forward_and_read_ahead() {
    let used = |wanted: u8| {
        let uses = |op: &Op| matches!(op, Op::Ext { ext, .. } if *ext == wanted);
        (1..100).filter(|seed| program(Shape::LayerExtensions, *seed).scripts.iter().flatten().any(uses)).count()
    };
    assert!(used(0) > 10 && used(1) > 10, "{} forward and {} read ahead of 99", used(0), used(1));
}
