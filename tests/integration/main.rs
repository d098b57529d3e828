//! The `interflow` binary from outside: real components, real sockets, both I/O drivers.
//!
//! Each file holds one kind of promise, each test's name is the promise. `make test` builds the binary and the guests first;
//! what takes minutes or gigabytes is ignored here and run by `make test-heavy`. Knows nothing of the library.

#![expect(clippy::print_stdout, reason = "the harness shows it for a test that has failed")]

mod bad_input;
mod bodies;
mod chain;
mod clients;
mod explore;
mod faults;
mod lab;
mod leaks;
mod limits;
mod outbound;
mod serve;
mod shutdown;
mod support;
mod wast;
