//! Listening: connections come one by one, and no refusal of the kernel ends it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use super::TcpStream;
use crate::executor::{self, sleep};
use crate::ring::{Completion, Fd, Op, Request, Ring, SockAddr};

/// How long a bind waits for an address that is in use: a process that used io_uring keeps its ports for about 10 ms
/// after its end, while the kernel takes its rings down.
const BIND_RETRY_MAX: Duration = Duration::from_millis(250);
/// Between two attempts.
const BIND_RETRY_STEP: Duration = Duration::from_millis(10);
/// The first rest when the kernel has no descriptors or memory for a connection; it doubles up to the second.
const ACCEPT_BACKOFF_MIN: Duration = Duration::from_millis(2);
const ACCEPT_BACKOFF_MAX: Duration = Duration::from_millis(500);

/// How to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindOptions {
    /// Several listeners may bind the same address, one per worker; the kernel spreads connections over them.
    pub reuse_port: bool,
    /// Connections that wait to be accepted; the kernel refuses more, and caps this at `net.core.somaxconn`.
    pub backlog: u32,
}

impl Default for BindOptions {
    fn default() -> Self {
        BindOptions { reuse_port: false, backlog: 1024 }
    }
}

/// A TCP listener of this thread.
///
/// Dropping it ends listening within the next turn. [`TcpListener::close`] waits for that, so that the address is free
/// afterwards.
pub struct TcpListener {
    ring: Ring,
    fd: Fd,
    /// Lives here, not in the future of `accept`: dropping that must not lose a connection.
    accepting: Option<Op>,
    backoff: Duration,
}

/// What to do about an accept that failed.
enum Verdict {
    /// The connection broke before we had it: the next one may be fine.
    Next,
    /// Out of descriptors or memory: later.
    Rest,
    /// The listener itself is of no use any more.
    Fail,
}

impl Verdict {
    fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Verdict::Rest,
            // What a listener cannot recover from; everything else is the connection's own trouble (accept(2)).
            Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP | libc::EFAULT | libc::ECANCELED) => {
                Verdict::Fail
            }
            _ => Verdict::Next,
        }
    }
}

impl TcpListener {
    /// Listens on `addr`; port 0 lets the kernel choose. Tries again for up to 250 ms while the address is in use.
    ///
    /// # Errors
    ///
    /// The kernel's, such as `EADDRINUSE` or `EACCES`.
    ///
    /// # Panics
    ///
    /// The thread is not running an executor.
    pub async fn bind(addr: SocketAddr, options: BindOptions) -> io::Result<Self> {
        let ring = executor::ring();
        let give_up = executor::now() + BIND_RETRY_MAX;
        loop {
            match ring.listen(&addr, options.reuse_port, options.backlog) {
                Ok(fd) => {
                    return Ok(TcpListener { ring, fd, accepting: None, backoff: ACCEPT_BACKOFF_MIN });
                }
                Err(e) if e.kind() == io::ErrorKind::AddrInUse && executor::now() < give_up => {
                    sleep(BIND_RETRY_STEP).await;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// The address it listens on, with the port that the kernel chose.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.fd.local_addr()
    }

    /// The next connection and its peer. Dropping the future loses none.
    ///
    /// Connections that break before they are accepted are skipped. Out of descriptors or memory, it rests and tries
    /// again, with a warning; connections wait in the kernel's backlog meanwhile.
    ///
    /// # Errors
    ///
    /// Only what no later connection could recover from, such as the end of the executor (`ECANCELED`).
    pub async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let completion = self.next_completion().await;
            let error = match self.connection(completion) {
                Ok(connection) => {
                    self.backoff = ACCEPT_BACKOFF_MIN;
                    return Ok(connection);
                }
                Err(error) => error,
            };
            match Verdict::of(&error) {
                Verdict::Next => {}
                Verdict::Rest => {
                    tracing::warn!(%error, rest_ms = self.backoff.as_millis(), "cannot accept connections for now");
                    let rest = self.backoff;
                    self.backoff = (self.backoff * 2).min(ACCEPT_BACKOFF_MAX);
                    sleep(rest).await;
                }
                Verdict::Fail => return Err(error),
            }
        }
    }

    async fn next_completion(&mut self) -> Completion {
        poll_fn(|cx| {
            let accepting = self
                .accepting
                .get_or_insert_with(|| self.ring.start(&self.fd, Request::Accept(Box::new(SockAddr::empty()))));
            let polled = Pin::new(accepting).poll(cx);
            if polled.is_ready() {
                self.accepting = None;
            }
            polled
        })
        .await
    }

    fn connection(&self, completion: Completion) -> io::Result<(TcpStream, SocketAddr)> {
        let (fd, peer) = completion.into_accepted()?;
        let stream = TcpStream::new(self.ring.clone(), self.ring.adopt(fd));
        // The kernel wrote the address together with the descriptor; it is missing only for what is not IP.
        let peer = peer.ok_or_else(|| io::Error::from_raw_os_error(libc::EPROTO))?;
        Ok((stream, peer))
    }

    /// Stops listening, and returns when the kernel has let go of the address. A connection that was accepted at the last
    /// moment is returned, since its peer believes to be served.
    pub async fn close(mut self) -> Option<(TcpStream, SocketAddr)> {
        let accepting = self.accepting.take()?;
        accepting.cancel();
        self.connection(accepting.await).ok()
    }
}

impl std::fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpListener").field("local_addr", &self.local_addr().ok()).finish_non_exhaustive()
    }
}
