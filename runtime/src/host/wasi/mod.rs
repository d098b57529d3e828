//! WASI: the functions that guests import of the system.
//!
//! 0.3 is native. 0.2 is here so that components run whose standard library imports it. `p3` and `p2` are the generated traits;
//! the files beside them implement them interface by interface, both versions in one place, on what `ctx` and `output` keep for a
//! zone.
//! Knows nothing of services and requests: who they are is in the name that their output carries.

pub mod cli;
pub mod clocks;
pub mod ctx;
pub mod filesystem;
pub mod http;
pub mod io;
pub mod output;
pub mod p2;
pub mod p3;
pub mod random;
pub mod terminal;
#[cfg(test)]
mod tests;

pub use ctx::{WasiCtx, WasiCtxBuilder};
pub use output::{Output, OutputSink, Stdio};

use crate::host::linker::Linker;

/// Implements all of WASI but HTTP, on the `WasiCtx` of the zone that calls.
pub struct Wasi;

/// Links all of WASI that there is: `wit/world.wit`.
pub fn link(linker: &mut Linker) {
    link_p3(linker);
    link_p2(linker);
    http::link(linker);
}

/// WASI 0.3 without HTTP.
fn link_p3(linker: &mut Linker) {
    use p3::wasi::{cli, clocks, random};

    clocks::monotonic_clock::link::<Wasi>(linker);
    clocks::system_clock::link::<Wasi>(linker);

    random::random::link::<Wasi>(linker);
    random::insecure::link::<Wasi>(linker);
    random::insecure_seed::link::<Wasi>(linker);

    cli::environment::link::<Wasi>(linker);
    cli::exit::link::<Wasi>(linker);
    cli::stdin::link::<Wasi>(linker);
    cli::stdout::link::<Wasi>(linker);
    cli::stderr::link::<Wasi>(linker);
    cli::terminal_input::link::<Wasi>(linker);
    cli::terminal_output::link::<Wasi>(linker);
    cli::terminal_stdin::link::<Wasi>(linker);
    cli::terminal_stdout::link::<Wasi>(linker);
    cli::terminal_stderr::link::<Wasi>(linker);
}

/// WASI 0.2.
fn link_p2(linker: &mut Linker) {
    use p2::wasi::{cli, clocks, filesystem, io, random};

    io::error::link::<Wasi>(linker);
    io::poll::link::<Wasi>(linker);
    io::streams::link::<Wasi>(linker);

    clocks::monotonic_clock::link::<Wasi>(linker);
    clocks::wall_clock::link::<Wasi>(linker);

    random::random::link::<Wasi>(linker);
    random::insecure::link::<Wasi>(linker);
    random::insecure_seed::link::<Wasi>(linker);

    filesystem::types::link::<Wasi>(linker);
    filesystem::preopens::link::<Wasi>(linker);

    cli::environment::link::<Wasi>(linker);
    cli::exit::link::<Wasi>(linker);
    cli::stdin::link::<Wasi>(linker);
    cli::stdout::link::<Wasi>(linker);
    cli::stderr::link::<Wasi>(linker);
    cli::terminal_input::link::<Wasi>(linker);
    cli::terminal_output::link::<Wasi>(linker);
    cli::terminal_stdin::link::<Wasi>(linker);
    cli::terminal_stdout::link::<Wasi>(linker);
    cli::terminal_stderr::link::<Wasi>(linker);
}
