//! The async Canonical ABI as an executable specification.
//!
//! A pure model: no engine, no I/O, no clock, no threads. It is the law for the runtime, and small enough to read in an
//! afternoon; README.md has the order. What it knows of the law is in `profile::Rule`, rule by rule.
//!
//! Not modelled: strings, lists, records and variants (elements are opaque), `realloc`, `error-context`, shared memory,
//! hosts that need time to give a buffer back, and what a trap leaves behind.
#![forbid(unsafe_code)]

pub mod accept;
mod canonical;
pub mod elem;
pub mod explore;
pub mod ext;
pub mod figure;
pub mod future;
pub mod generate;
pub mod instance;
mod invariants;
pub mod op;
pub mod profile;
pub mod program;
pub mod sched;
pub mod shrink;
pub mod stream;
pub mod table;
pub mod task;
pub mod thread;
pub mod waitable;
pub mod world;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
