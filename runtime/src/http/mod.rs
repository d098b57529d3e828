//! HTTP on the wire: hyper over this thread's connections.
//!
//! `server` answers, `connection` says for how long a connection may be open meanwhile;
//! `client` sends what guests send, with a pool of connections per thread; `tls` is for https. What a message is, its body,
//! and who may do what with it, is `host::wasi::http`'s business.
//! Knows nothing of wasm or zones: bodies are polled, and what is behind them is theirs.

pub mod client;
mod connection;
pub mod server;
mod tls;
