//! TCP and readiness for tasks of this thread.
//!
//! Streams and listeners belong to the thread that made them. Knows nothing of what is said over a connection.

mod listener;
mod stream;
mod traits;

use std::io;
use std::os::fd::AsFd;

use super::ring;
use crate::ring::Interest;

pub use listener::{BindOptions, TcpListener};
pub use stream::TcpStream;

/// Waits until `fd` can be read, has ended or failed. For pipes, terminals, eventfds; a regular file is always ready.
///
/// Dropping the future ends the wait; nothing is taken from the descriptor.
///
/// # Errors
///
/// The kernel's, such as `EBADF`; `ECANCELED` when the executor ends.
pub async fn readable(fd: impl AsFd) -> io::Result<()> {
    ready(fd, Interest::Readable).await
}

/// Waits until `fd` can be written, or nobody reads it any more.
///
/// # Errors
///
/// As [`readable`].
pub async fn writable(fd: impl AsFd) -> io::Result<()> {
    ready(fd, Interest::Writable).await
}

async fn ready(fd: impl AsFd, interest: Interest) -> io::Result<()> {
    let op = ring().poll_ready(fd.as_fd(), interest);
    op.await.result().map(drop)
}
