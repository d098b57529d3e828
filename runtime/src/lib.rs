//! interflow: a runtime for WASI 0.3 components.
pub mod abi;
pub mod component;
pub mod executor;
pub mod host;
pub mod ring;
