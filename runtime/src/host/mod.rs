//! Hosts: Rust functions that components import.
//!
//! `value` says how values travel, `linker` who implements which import, `stream` how the host holds ends of streams and
//! futures. The macro `interflow_macros::host!` makes traits from WIT on top of them; `wasi` implements those for WASI,
//! and `lab` for experiments with the ABI.

pub mod data;
pub mod lab;
pub mod linker;
pub mod stream;
pub mod value;
pub mod wasi;

pub use crate::abi::HostFuture;
pub use data::HostData;
