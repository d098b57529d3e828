//! Descriptors that operations point to, and when they close.
//!
//! An owned [`Fd`] is shared by its user and by every operation on it, and closes when the last of them lets go: never
//! under an operation, whose number would then mean another file. Knows nothing of what the descriptor is.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::{Rc, Weak};

use super::{Inner, sys};

/// A descriptor that stays open as long as an operation uses it. Cloning shares it.
#[derive(Clone)]
pub struct Fd(Rc<Shared>);

struct Shared {
    fd: OwnedFd,
    /// The ring that may have registered the descriptor; dead when the executor is gone.
    ring: Weak<Inner>,
}

impl Fd {
    pub(super) fn new(fd: OwnedFd, ring: Weak<Inner>) -> Self {
        Fd(Rc::new(Shared { fd, ring }))
    }

    /// This end's address, of a socket.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        sys::address(self.as_raw_fd(), sys::End::Local)
    }

    /// The other end's address, of a connected socket.
    ///
    /// # Errors
    ///
    /// `ENOTCONN`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        sys::address(self.as_raw_fd(), sys::End::Peer)
    }

    /// Sets `TCP_NODELAY` of a TCP socket.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        sys::set_option(self.as_raw_fd(), sys::SocketOption::NoDelay, on)
    }

    /// Ends one or both directions of a connected socket, at once; operations that wait for them end.
    ///
    /// # Errors
    ///
    /// `ENOTCONN`.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        sys::shutdown(self.as_raw_fd(), how)
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.fd.as_raw_fd()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Before the close: afterwards the number may already belong to someone else's registration.
        if let Some(ring) = self.ring.upgrade() {
            ring.forget(self.fd.as_raw_fd());
        }
    }
}

/// What an operation acts on.
pub(super) enum Target {
    /// Kept open until the operation is over.
    Owned(Fd),
    /// Somebody else's, such as standard input: used for readiness only, and not touched once the operation is over.
    Borrowed(RawFd),
}

impl Target {
    pub(super) fn raw(&self) -> RawFd {
        match self {
            Target::Owned(fd) => fd.as_raw_fd(),
            Target::Borrowed(fd) => *fd,
        }
    }
}
