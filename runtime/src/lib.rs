//! interflow: a runtime for WASI 0.3 components whose calls to each other are real asynchronous function calls.
//!
//! From the kernel up: `ring` submits I/O, `executor` runs tasks on it, one thread per core. `component` turns binaries into
//! plans and compiled modules, `abi` runs them in zones, `host` gives them functions of ours, `http` speaks with the world,
//! `graph` holds what is served, `wast` runs test scripts, `explore` tries schedules, with `sim` below all others as its chance
//! and time, `cli` is the command, `allocator` what its memory comes from. ARCHITECTURE.md says who may know whom.

pub mod abi;
pub mod allocator;
pub mod cli;
pub mod component;
pub mod executor;
mod explore;
pub mod graph;
pub mod host;
pub mod http;
pub mod ring;
mod sim;
pub mod wast;

pub use wasmtime::Engine;
