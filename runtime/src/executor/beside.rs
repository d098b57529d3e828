//! The one tokio runtime, for libraries that need one: name resolution, blocking calls, database clients.
//!
//! It has one worker thread and starts when it is first asked for. Its futures may be awaited by our tasks on any worker
//! that holds the guard of [`enter`]: readiness and timers come from its thread through our wakers, at the cost of one
//! wake-up across threads each. Nothing on the way of a request goes through it.

use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};

/// Threads for `spawn_blocking`; more calls than these wait for one another.
const BLOCKING_THREADS_MAX: usize = 64;

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// The runtime's handle. The first call starts it; it lives as long as the process.
///
/// # Errors
///
/// A thread or its descriptors cannot be made. A later call tries again.
pub fn handle() -> io::Result<&'static Handle> {
    static STARTING: Mutex<()> = Mutex::new(());
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.handle());
    }
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if RUNTIME.get().is_none() {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("interflow-tokio")
            .enable_all()
            .build()?;
        assert!(RUNTIME.set(runtime).is_ok(), "only the holder of the lock starts the runtime");
    }
    Ok(RUNTIME.get().expect("just started").handle())
}

/// Makes the runtime the current one of this thread for as long as the guard lives: then `tokio::net`, `tokio::time` and
/// `tokio::task::spawn_blocking` work in our tasks. What needs tokio's own scheduler does not: `spawn_local`,
/// `block_in_place`.
///
/// # Errors
///
/// As [`handle`].
pub fn enter() -> io::Result<EnterGuard<'static>> {
    handle().map(Handle::enter)
}
