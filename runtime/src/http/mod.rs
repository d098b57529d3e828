//! HTTP on the wire: hyper over this thread's connections.
//!
//! `client` sends what guests send, with a pool of connections per thread; `tls` is for https. What a message is, its body,
//! and who may do what with it, is `host::wasi::http`'s business.
//! Knows nothing of wasm or zones: bodies are polled, and what is behind them is theirs.

pub mod client;
pub mod server;
mod tls;
