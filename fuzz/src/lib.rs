//! What the fuzz targets run, and where their inputs come from.
//!
//! `builtins` makes the two instances of `puppet` do what its input says. `components` compiles, links and calls whatever its
//! input is; `text` changes components as text. `random` is the only source of chance, and it is made from the input. `corpus` has what
//! a fuzzer begins with.

pub mod builtins;
pub mod components;
pub mod corpus;
pub mod puppet;
pub mod random;
pub mod text;

use interflow::{Engine, component};
use std::sync::OnceLock;

/// The engine of the process.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| component::engine().expect("the engine starts"))
}
