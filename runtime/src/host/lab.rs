//! `lab:`: experiments with the ABI, as functions that guests import.
//!
//! `wit/lab` says what they do, `abi::lab` does it. To add one: an interface there, a file in `abi::lab`, and here a trait to
//! implement and a line in `link`. A chapter of `abi-spec/README.md` shows how.

use crate::abi::{HostCx, Result, lab};
use crate::host::linker::Linker;

mod bindings {
    //! The traits of `lab:streams`, generated from `wit/lab`.

    interflow_macros::host! {
        path: "../wit/lab",
        interfaces: ["lab:streams/forward@0.1.0", "lab:streams/read-ahead@0.1.0"],
    }
}

use bindings::lab::streams::{forward, read_ahead};

/// Implements them.
struct Lab;

impl forward::Host for Lab {
    fn forward(cx: &mut HostCx<'_>, readable: u32, writable: u32) -> Result<()> {
        lab::forward(cx, readable, writable)
    }
}

impl read_ahead::Host for Lab {
    fn read_ahead(cx: &mut HostCx<'_>, readable: u32, pointer: u32, length: u32) -> Result<bool> {
        lab::read_ahead(cx, readable, pointer, length)
    }
}

/// Every interface that there is.
const INTERFACES: [&str; 2] = [forward::INTERFACE, read_ahead::INTERFACE];

/// Offers them to guests.
pub fn link(linker: &mut Linker) {
    forward::link::<Lab>(linker);
    read_ahead::link::<Lab>(linker);
}

/// Tells whoever asks for them that they could be had.
pub fn withhold(linker: &mut Linker) {
    INTERFACES.iter().for_each(|interface| linker.withhold(interface, "it is an experiment; `--lab` offers it"));
}
