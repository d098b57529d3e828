//! What is served: a linked chain with its limits, and the pool of zones that runs it on each worker.
//!
//! Knows components and hosts, and nothing of sockets: `http::server` asks a `Pool` for a place and calls.

pub mod pool;
pub mod service;

pub use pool::{AcquireError, Lease, Pool};
pub use service::{Service, ServiceConfig};
