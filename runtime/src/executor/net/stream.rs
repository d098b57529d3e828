//! A TCP connection: bytes go straight between the socket and the caller's buffers where they can at once, and through
//! the ring where somebody has to wait.
//!
//! Reading tries the socket only when something is known to be there. Otherwise it waits in the ring: with a small
//! buffer of ours that the kernel fills when the bytes come, which for a request head is all, or, in the middle of a
//! large transfer and on epoll, for readiness. Writing tries the socket first and waits for room. So a keep-alive request
//! costs one call for the answer and a share of one for the ring; an idle connection holds [`SMALL`] bytes; a large body
//! is copied once. The operation that waits lives here, not in the future that asked, so dropping a read loses nothing.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::executor::{self, poll_step};
use crate::ring::{Fd, Interest, Op, Request, Ring, SockAddr, sys};

/// Bytes that a waiting read lends to the kernel: most request heads, and cheap enough for every idle connection.
const SMALL: usize = 1024;

/// Bytes in several buffers up to which they are copied into one: a head and a short body.
const JOINED_MAX: usize = 1024;

/// A TCP connection of this thread. `TCP_NODELAY` is set.
///
/// Reading and writing go on independently. Dropping it closes it once the kernel has let go of what was lent to it,
/// within the next turn.
pub struct TcpStream {
    ring: Ring,
    fd: Fd,
    reading: Reading,
    writing: Writing,
    /// The small buffer, while it is not lent. Empty until first used.
    small: Vec<u8>,
    /// Bytes in `small` that nobody has read yet.
    unread: std::ops::Range<usize>,
}

/// What is known about the socket's receive queue.
enum Reading {
    /// Something may be there: try.
    Try,
    /// Nothing was there; `bulk` if what came before was more than [`SMALL`].
    Empty { bulk: bool },
    /// The kernel has the small buffer and fills it when something comes.
    Receiving(Op),
    /// We are told when something comes.
    Waiting(Op),
}

/// What is known about the socket's send queue.
enum Writing {
    /// It may have room: try.
    Try,
    /// It was full.
    Full,
    /// We are told when it has room.
    Waiting(Op),
}

impl TcpStream {
    pub(super) fn new(ring: Ring, fd: Fd) -> Self {
        TcpStream {
            ring,
            fd,
            // A client that has just connected has usually not sent yet.
            reading: Reading::Empty { bulk: false },
            writing: Writing::Try,
            small: Vec::new(),
            unread: 0..0,
        }
    }

    /// Bytes of ours that this connection holds now, without the kernel's.
    #[cfg(test)]
    pub(in crate::executor) fn memory(&self) -> usize {
        let lent = if matches!(self.reading, Reading::Receiving(_)) { SMALL } else { 0 };
        size_of::<Self>() + self.small.capacity() + lent
    }

    /// Connects to `addr`. Dropping the future gives the attempt up.
    ///
    /// # Errors
    ///
    /// The kernel's, such as `ECONNREFUSED`.
    ///
    /// # Panics
    ///
    /// The thread is not running an executor.
    pub async fn connect(addr: SocketAddr) -> io::Result<Self> {
        let ring = executor::ring();
        let fd = ring.stream_socket(&addr)?;
        fd.set_nodelay(true)?;
        let request = Request::Connect(Box::new(SockAddr::from(addr)));
        ring.start(&fd, request).await.result()?;
        Ok(TcpStream::new(ring, fd))
    }

    /// The other end.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` when the connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.fd.peer_addr()
    }

    /// This end.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.fd.local_addr()
    }

    /// Whether small writes go out at once (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.fd.set_nodelay(on)
    }

    /// Closes one direction or both, at once. After `Write` the peer reads the end of the stream and may still send.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` when the connection is gone.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.fd.shutdown(how)
    }

    /// Reads into `buf`: the number of bytes, 0 at the end of the stream. `Pending` means that nothing was read.
    ///
    /// # Errors
    ///
    /// The kernel's, such as `ECONNRESET`.
    pub fn poll_read_into(&mut self, cx: &mut Context<'_>, buf: &mut [MaybeUninit<u8>]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(poll_step(cx));
        loop {
            if !self.unread.is_empty() {
                return Poll::Ready(Ok(self.take_unread(buf)));
            }
            match &mut self.reading {
                Reading::Try => match sys::recv(self.fd.as_raw_fd(), buf) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.reading = Reading::Empty { bulk: true },
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Ok(n) => {
                        self.note_received(n, buf.len());
                        return Poll::Ready(Ok(n));
                    }
                    Err(e) => return Poll::Ready(Err(e)),
                },
                Reading::Empty { bulk } => {
                    let bulk = *bulk;
                    self.wait_for_bytes(bulk);
                }
                Reading::Receiving(op) => {
                    let completion = ready!(Pin::new(op).poll(cx));
                    // Whatever came, the socket is worth a try next time, unless the bytes say otherwise.
                    self.reading = Reading::Try;
                    let result = completion.result();
                    let more = completion.nonempty();
                    self.small = completion.into_buffer();
                    let n = result? as usize;
                    if n == 0 {
                        return Poll::Ready(Ok(0));
                    }
                    self.unread = 0..n;
                    if !more && n < SMALL {
                        self.reading = Reading::Empty { bulk: false };
                    }
                }
                Reading::Waiting(op) => {
                    let completion = ready!(Pin::new(op).poll(cx));
                    self.reading = Reading::Try;
                    completion.result()?;
                }
            }
        }
    }

    /// A read that did not fill the buffer has emptied the socket, or nearly so; the ring sees the difference.
    fn note_received(&mut self, n: usize, room: usize) {
        self.reading = match n {
            // The end stays readable.
            0 => Reading::Try,
            n if n == room => Reading::Try,
            n => Reading::Empty { bulk: SMALL <= n },
        };
    }

    fn wait_for_bytes(&mut self, bulk: bool) {
        self.reading = if bulk || !self.ring.is_uring() {
            Reading::Waiting(self.ring.start(&self.fd, Request::Poll(Interest::Readable)))
        } else {
            let mut small = std::mem::take(&mut self.small);
            small.resize(SMALL, 0);
            Reading::Receiving(self.ring.start(&self.fd, Request::Recv(small)))
        };
    }

    /// Moves bytes out of the small buffer and, if the socket has more, fills up from there.
    fn take_unread(&mut self, buf: &mut [MaybeUninit<u8>]) -> usize {
        let n = self.unread.len().min(buf.len());
        let from = &self.small[self.unread.start..self.unread.start + n];
        buf[..n].write_copy_of_slice(from);
        self.unread.start += n;
        let rest = &mut buf[n..];
        if !matches!(self.reading, Reading::Try) || rest.is_empty() {
            return n;
        }
        match sys::recv(self.fd.as_raw_fd(), rest) {
            // The end, or an error: the next read meets it again and reports it.
            Ok(0) | Err(_) => n,
            Ok(more) => {
                let room = rest.len();
                self.note_received(more, room);
                n + more
            }
        }
    }

    /// Writes from `bufs` what the socket takes now, at least one byte. `Pending` means that nothing was written.
    ///
    /// # Errors
    ///
    /// The kernel's, such as `EPIPE` or `ECONNRESET`.
    pub fn poll_write_from(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(poll_step(cx));
        let fd = self.fd.as_raw_fd();
        loop {
            match &mut self.writing {
                Writing::Try => {
                    let sent = match bufs {
                        [] => return Poll::Ready(Ok(0)),
                        [buf] => sys::send(fd, buf),
                        bufs => send_all(fd, bufs),
                    };
                    match sent {
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writing = Writing::Full,
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                        sent => return Poll::Ready(sent),
                    }
                }
                Writing::Full => {
                    let op = self.ring.start(&self.fd, Request::Poll(Interest::Writable));
                    self.writing = Writing::Waiting(op);
                }
                Writing::Waiting(op) => {
                    let completion = ready!(Pin::new(op).poll(cx));
                    self.writing = Writing::Try;
                    completion.result()?;
                }
            }
        }
    }

    /// Reads what there is into `buf`: the number of bytes, 0 at the end of the stream. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// The kernel's, such as `ECONNRESET`.
    pub async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = tokio::io::ReadBuf::new(buf);
        std::future::poll_fn(|cx| tokio::io::AsyncRead::poll_read(Pin::new(self), cx, &mut buf)).await?;
        Ok(buf.filled().len())
    }

    /// Writes some of `buf`: the number of bytes. Dropping the future writes nothing.
    ///
    /// # Errors
    ///
    /// The kernel's, such as `EPIPE`.
    pub async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_write_from(cx, &[IoSlice::new(buf)])).await
    }

    /// Writes all of `buf`. Dropping the future leaves it unknown how much was written.
    ///
    /// # Errors
    ///
    /// The kernel's, such as `EPIPE`.
    pub async fn write_all(&mut self, mut buf: &[u8]) -> io::Result<()> {
        while !buf.is_empty() {
            let n = self.write(buf).await?;
            buf = &buf[n..];
        }
        Ok(())
    }
}

/// Sends what fits of several buffers. Short ones are put together: the kernel takes one piece faster.
fn send_all(fd: RawFd, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut joined = [0; JOINED_MAX];
    let mut len = 0;
    for buf in bufs {
        let Some(room) = joined.get_mut(len..len + buf.len()) else { return sys::send_vectored(fd, bufs) };
        room.copy_from_slice(buf);
        len += buf.len();
    }
    sys::send(fd, &joined[..len])
}

impl std::fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpStream").field("fd", &self.fd.as_raw_fd()).finish_non_exhaustive()
    }
}
