//! The system calls that `std` does not offer, each as a safe function over slices and descriptors.
//!
//! Every function makes one call, returns its `errno` as an `io::Error` and keeps no state. Knows nothing of rings,
//! operations or tasks.
#![expect(unsafe_code, reason = "this file is the border to libc")]

use std::io::{self, IoSlice};
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Slices one `sendmsg` takes; more are left for the next call (`UIO_MAXIOV` is 1024).
const IO_SLICES_MAX: usize = 64;

/// Whether a socket's calls may sleep in the kernel.
///
/// io_uring gives up on a non-blocking socket instead of waiting for it; epoll needs the opposite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocking {
    /// Calls wait; `MSG_DONTWAIT` is given where they must not.
    Yes,
    /// Calls return `EAGAIN`.
    No,
}

impl Blocking {
    fn socket_flags(self) -> libc::c_int {
        match self {
            Blocking::Yes => libc::SOCK_CLOEXEC,
            Blocking::No => libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
        }
    }
}

/// A socket address in the kernel's form, with room for the kernel to write one.
pub struct SockAddr {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

impl SockAddr {
    /// An address for the kernel to fill in.
    pub fn empty() -> Self {
        // SAFETY: `sockaddr_storage` is plain integers, for which all zeroes is a value (family `AF_UNSPEC`).
        let storage = unsafe { mem::zeroed() };
        SockAddr { storage, len: size_of::<libc::sockaddr_storage>() as libc::socklen_t }
    }

    /// The address as `std` knows it, or `None` if it is not an IP address.
    pub fn to_std(&self) -> Option<SocketAddr> {
        let len = self.len as usize;
        match i32::from(self.storage.ss_family) {
            libc::AF_INET if size_of::<libc::sockaddr_in>() <= len => {
                // SAFETY: the family says which struct was written, and `storage` is large enough and aligned for it.
                let v4 = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 if size_of::<libc::sockaddr_in6>() <= len => {
                // SAFETY: as above.
                let v6 = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }

    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        (&raw mut self.storage).cast()
    }

    pub(super) fn len(&self) -> libc::socklen_t {
        self.len
    }

    /// Where the kernel reads the room and writes the length.
    pub(super) fn len_mut_ptr(&mut self) -> *mut libc::socklen_t {
        self.len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        &raw mut self.len
    }
}

impl From<SocketAddr> for SockAddr {
    fn from(addr: SocketAddr) -> Self {
        let mut out = SockAddr::empty();
        match addr {
            SocketAddr::V4(v4) => {
                // SAFETY: `sockaddr_in` is plain integers, and zero is a value of each.
                let mut raw: libc::sockaddr_in = unsafe { mem::zeroed() };
                raw.sin_family = libc::AF_INET as libc::sa_family_t;
                raw.sin_port = v4.port().to_be();
                raw.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
                // SAFETY: `storage` is large enough and aligned for every address family's struct.
                unsafe { out.as_mut_ptr().cast::<libc::sockaddr_in>().write(raw) };
                out.len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            SocketAddr::V6(v6) => {
                // SAFETY: as above, for `sockaddr_in6`.
                let mut raw: libc::sockaddr_in6 = unsafe { mem::zeroed() };
                raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                raw.sin6_port = v6.port().to_be();
                raw.sin6_addr.s6_addr = v6.ip().octets();
                raw.sin6_flowinfo = v6.flowinfo();
                raw.sin6_scope_id = v6.scope_id();
                // SAFETY: as above.
                unsafe { out.as_mut_ptr().cast::<libc::sockaddr_in6>().write(raw) };
                out.len = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
        }
        out
    }
}

/// The result of a call that returns -1 and sets `errno`.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for calls that return a count.
fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The `errno` of an error that came from a system call in this file.
pub(super) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn owned(result: libc::c_int) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: the call just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes ownership of the descriptor that an accept completed with.
pub(super) fn accepted(fd: RawFd) -> OwnedFd {
    assert!(0 <= fd, "an accept succeeded with descriptor {fd}");
    // SAFETY: the kernel made this descriptor for the accept whose only result it is; each completion is taken once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

pub(super) fn stream_socket(addr: &SocketAddr, blocking: Blocking) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no pointers.
    owned(unsafe { libc::socket(family, libc::SOCK_STREAM | blocking.socket_flags(), 0) })
}

pub(super) fn bind(fd: &OwnedFd, addr: &SockAddr) -> io::Result<()> {
    // SAFETY: `addr` is alive during the call and `len` is its initialised part.
    check(unsafe { libc::bind(fd.as_raw_fd(), addr.as_ptr(), addr.len()) }).map(drop)
}

pub(super) fn listen(fd: &OwnedFd, backlog: u32) -> io::Result<()> {
    let backlog = libc::c_int::try_from(backlog).unwrap_or(libc::c_int::MAX);
    // SAFETY: no pointers.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) }).map(drop)
}

pub(super) fn connect(fd: RawFd, addr: &SockAddr) -> io::Result<()> {
    // SAFETY: `addr` is alive during the call and `len` is its initialised part.
    check(unsafe { libc::connect(fd, addr.as_ptr(), addr.len()) }).map(drop)
}

/// One non-blocking accept; the listener is `Blocking::No`.
pub(super) fn accept(fd: RawFd, addr: &mut SockAddr, blocking: Blocking) -> io::Result<RawFd> {
    let len = addr.len_mut_ptr();
    // SAFETY: `addr` is alive during the call and `len` says how much may be written.
    check(unsafe { libc::accept4(fd, addr.as_mut_ptr(), len, blocking.socket_flags()) })
}

/// Receives what is there, without waiting: `WouldBlock` if nothing is, 0 at the end of the stream.
pub fn recv(fd: RawFd, buf: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `len` bytes to `buf`, which this call borrows.
    check_len(unsafe { libc::recv(fd, buf.as_mut_ptr().cast(), buf.len(), libc::MSG_DONTWAIT) })
}

/// [`recv`] into bytes that have a value already.
pub(super) fn recv_initialised(fd: RawFd, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `len` bytes to `buf`, which this call borrows.
    check_len(unsafe { libc::recv(fd, buf.as_mut_ptr().cast(), buf.len(), libc::MSG_DONTWAIT) })
}

/// Sends what fits, without waiting: `WouldBlock` if nothing does.
pub fn send(fd: RawFd, buf: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the kernel reads at most `len` bytes of `buf`, which this call borrows.
    check_len(unsafe { libc::send(fd, buf.as_ptr().cast(), buf.len(), flags) })
}

/// Sends what fits of the first [`IO_SLICES_MAX`] slices, without waiting.
pub fn send_vectored(fd: RawFd, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: `msghdr` is integers and pointers; zero and null are values of them.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    // `IoSlice` is specified to have the layout of `iovec`. The kernel only reads through this pointer.
    message.msg_iov = bufs.as_ptr().cast_mut().cast();
    message.msg_iovlen = bufs.len().min(IO_SLICES_MAX);
    // SAFETY: `message` and the slices it points to are borrowed for the duration of the call.
    check_len(unsafe { libc::sendmsg(fd, &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) })
}

pub(super) fn shutdown(fd: RawFd, how: Shutdown) -> io::Result<()> {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    // SAFETY: no pointers.
    check(unsafe { libc::shutdown(fd, how) }).map(drop)
}

/// Which end of a connection [`address`] asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Local,
    Peer,
}

pub(super) fn address(fd: RawFd, end: End) -> io::Result<SocketAddr> {
    let mut addr = SockAddr::empty();
    let len = addr.len_mut_ptr();
    let call = match end {
        End::Local => libc::getsockname,
        End::Peer => libc::getpeername,
    };
    // SAFETY: `addr` is alive during the call and `len` says how much may be written.
    check(unsafe { call(fd, addr.as_mut_ptr(), len) })?;
    addr.to_std().ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
}

/// A socket option whose value is an `int`.
#[derive(Clone, Copy, Debug)]
pub(super) enum SocketOption {
    NoDelay,
    ReuseAddr,
    ReusePort,
}

pub(super) fn set_option(fd: RawFd, option: SocketOption, on: bool) -> io::Result<()> {
    let (level, name) = match option {
        SocketOption::NoDelay => (libc::IPPROTO_TCP, libc::TCP_NODELAY),
        SocketOption::ReuseAddr => (libc::SOL_SOCKET, libc::SO_REUSEADDR),
        SocketOption::ReusePort => (libc::SOL_SOCKET, libc::SO_REUSEPORT),
    };
    let value = libc::c_int::from(on);
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of `value`, which outlives the call.
    check(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), len) }).map(drop)
}

/// Takes the pending error of a socket (`SO_ERROR`): how a non-blocking connect reports its outcome.
pub(super) fn take_error(fd: RawFd) -> io::Result<()> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_ERROR);
    // SAFETY: the kernel writes at most `len` bytes to `value`, which outlives the call.
    check(unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &mut len) })?;
    if value == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(value)) }
}

/// A counter that makes its descriptor readable when it grows: wakes a parked thread.
pub(super) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
}

/// Adds one to an eventfd. Async-signal-safe.
pub(crate) fn eventfd_add_one(fd: RawFd) {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: the kernel reads the 8 bytes of `one`. The only error, a full counter, still leaves the reader woken.
    unsafe { libc::write(fd, one.as_ptr().cast(), one.len()) };
}

pub(super) fn epoll() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
}

/// What to do with a descriptor's registration in an epoll set.
#[derive(Clone, Copy, Debug)]
pub(super) enum EpollChange {
    Add(u32),
    Modify(u32),
    Delete,
}

pub(super) fn epoll_change(epoll: &OwnedFd, fd: RawFd, data: u64, change: EpollChange) -> io::Result<()> {
    let (call, events) = match change {
        EpollChange::Add(events) => (libc::EPOLL_CTL_ADD, events),
        EpollChange::Modify(events) => (libc::EPOLL_CTL_MOD, events),
        EpollChange::Delete => (libc::EPOLL_CTL_DEL, 0),
    };
    let mut event = libc::epoll_event { events, u64: data };
    // SAFETY: the kernel reads `event`, which outlives the call.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), call, fd, &mut event) }).map(drop)
}

/// Waits for events, at most `timeout` (for ever if `None`), and returns how many were written to `events`.
pub(super) fn epoll_wait(
    epoll: &OwnedFd,
    events: &mut [libc::epoll_event],
    timeout: Option<Duration>,
) -> io::Result<usize> {
    let room = libc::c_int::try_from(events.len()).unwrap_or(libc::c_int::MAX);
    let spec = timeout.map(|t| libc::timespec {
        tv_sec: libc::time_t::try_from(t.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: t.subsec_nanos().into(),
    });
    let spec_ptr = spec.as_ref().map_or(std::ptr::null(), |spec| spec as *const libc::timespec);
    let no_sigmask = std::ptr::null::<libc::sigset_t>();
    // SAFETY: the kernel writes at most `room` events to the slice and reads `spec`; both outlive the call. The raw
    // call, since older C libraries lack the wrapper.
    let result = unsafe {
        libc::syscall(libc::SYS_epoll_pwait2, epoll.as_raw_fd(), events.as_mut_ptr(), room, spec_ptr, no_sigmask, 0)
    };
    match usize::try_from(result) {
        Ok(n) => Ok(n),
        Err(_) => match io::Error::last_os_error() {
            // Linux before 5.11 has only milliseconds.
            e if e.raw_os_error() == Some(libc::ENOSYS) => epoll_wait_ms(epoll, events, timeout),
            e => Err(e),
        },
    }
}

fn epoll_wait_ms(epoll: &OwnedFd, events: &mut [libc::epoll_event], timeout: Option<Duration>) -> io::Result<usize> {
    // Rounded up: a timer may be late, never early, and a short rest must not become a busy loop.
    let timeout_ms = timeout.map_or(-1, |t| t.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(libc::c_int::MAX));
    let room = libc::c_int::try_from(events.len()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the kernel writes at most `room` events to the slice, which outlives the call.
    let n = unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), room, timeout_ms) };
    check(n).map(|n| n as usize)
}

/// The CPUs this thread may run on, ascending; empty if the kernel does not say.
pub(crate) fn allowed_cpus() -> Vec<usize> {
    // SAFETY: `cpu_set_t` is an array of integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes at most the given size to `set`, which outlives the call. 0 is the calling thread.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    match check(result) {
        // SAFETY: the indices are below the size of the set.
        Ok(_) => (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect(),
        Err(_) => Vec::new(),
    }
}

/// Keeps the calling thread on one CPU.
pub(crate) fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    assert!(cpu < libc::CPU_SETSIZE as usize, "CPU {cpu} was not among the allowed ones");
    // SAFETY: as above.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the index is below the size of the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the kernel reads the given size from `set`, which outlives the call. 0 is the calling thread.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) }).map(drop)
}

/// A pipe whose ends do not block: what is read, what is written.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: the kernel writes two descriptors to `ends`, which outlives the call.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    Ok((owned(ends[0])?, owned(ends[1])?))
}
