//! Which kernel interface this process uses, decided once by asking the kernel.
//!
//! The question is a real `io_uring_setup` with the flags that will be used, since neither the kernel's version nor a
//! sysctl says what a seccomp filter lets through. Only a refusal (`ENOSYS`, `EPERM`, `EINVAL`) chooses epoll; a lack
//! of memory or descriptors is an error, for it would hit epoll just as well.

use std::fmt;
use std::io;
use std::str::FromStr;

use io_uring::{IoUring, Probe, opcode};

use super::RingError;

/// Entries of a submission queue; more operations than this in one turn are submitted in several calls.
const SQ_ENTRIES: u32 = 512;
/// Completions per submission entry that fit before the kernel keeps a backlog of its own.
const CQ_PER_SQ: u32 = 8;

/// What the user asks for: the value of `--io`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoMode {
    /// io_uring where it is allowed, epoll otherwise.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// epoll, without asking.
    Epoll,
}

impl FromStr for IoMode {
    type Err = UnknownIoMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(IoMode::Auto),
            "uring" => Ok(IoMode::Uring),
            "epoll" => Ok(IoMode::Epoll),
            other => Err(UnknownIoMode(other.to_owned())),
        }
    }
}

impl fmt::Display for IoMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IoMode::Auto => "auto",
            IoMode::Uring => "uring",
            IoMode::Epoll => "epoll",
        })
    }
}

/// The text is not an [`IoMode`].
#[derive(Debug, thiserror::Error)]
#[error("unknown I/O mode {0:?}: one of auto, uring, epoll")]
pub struct UnknownIoMode(String);

/// A rung of the io_uring ladder: a set of setup flags, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// `SINGLE_ISSUER | DEFER_TASKRUN`: completions are made only inside our own `io_uring_enter` (Linux 6.1).
    DeferTaskrun,
    /// `COOP_TASKRUN`: completions never interrupt, but may be made on any system call (Linux 5.19).
    CoopTaskrun,
}

impl Rung {
    /// All rungs, in the order they are tried.
    pub(super) const LADDER: [Rung; 2] = [Rung::DeferTaskrun, Rung::CoopTaskrun];

    fn name(self) -> &'static str {
        match self {
            Rung::DeferTaskrun => "DEFER_TASKRUN",
            Rung::CoopTaskrun => "COOP_TASKRUN",
        }
    }

    /// Sets up a ring with this rung's flags on the calling thread.
    pub(super) fn setup(self, sq_entries: u32) -> io::Result<IoUring> {
        let mut builder = IoUring::builder();
        // SUBMIT_ALL: without it one bad submission ends the batch, and the wait is skipped. TASKRUN_FLAG: tells when
        // an enter would bring something although there is nothing to submit.
        builder.setup_submit_all().setup_taskrun_flag().setup_cqsize(sq_entries * CQ_PER_SQ);
        match self {
            Rung::DeferTaskrun => builder.setup_single_issuer().setup_defer_taskrun(),
            Rung::CoopTaskrun => builder.setup_coop_taskrun(),
        };
        builder.build(sq_entries)
    }
}

/// Why there is no io_uring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `EPERM`, or `ENOSYS` from a filter that plays an old kernel; `sysctl` is `kernel.io_uring_disabled`, if it exists.
    NotAllowed {
        /// What `io_uring_setup` returned.
        errno: i32,
        /// The value of `kernel.io_uring_disabled`.
        sysctl: Option<u8>,
    },
    /// `EINVAL` for every rung, or an operation is missing: the kernel is older than 5.19.
    TooOld,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Refusal::NotAllowed { errno, sysctl } => {
                let name = match errno {
                    libc::EPERM => "EPERM",
                    _ => "ENOSYS",
                };
                match sysctl {
                    Some(level @ 1..) => write!(
                        f,
                        "io_uring is not allowed here ({name}; kernel.io_uring_disabled={level}); \
                         to allow it: sysctl kernel.io_uring_disabled=0"
                    ),
                    Some(0) => write!(
                        f,
                        "io_uring is not allowed here ({name}; kernel.io_uring_disabled=0, so by seccomp); \
                         to allow it: permit io_uring_setup, io_uring_enter and io_uring_register \
                         in the container's seccomp profile"
                    ),
                    None => write!(
                        f,
                        "io_uring is not allowed here ({name}; seccomp, or a kernel without it); \
                         to allow it: permit io_uring_setup, io_uring_enter and io_uring_register \
                         in the container's seccomp profile"
                    ),
                }
            }
            Refusal::TooOld => {
                f.write_str("this kernel's io_uring lacks what is needed; to use it: Linux 5.19 or later")
            }
        }
    }
}

/// The outcome of [`probe`]: what every executor of this process is built on.
#[derive(Clone, Debug)]
pub struct Choice {
    pub(super) backend: Backend,
    pub(super) sq_entries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    Uring(Rung),
    /// With the reason, unless the user asked for it.
    Epoll(Option<Refusal>),
}

impl Choice {
    /// Whether operations go through io_uring.
    pub fn is_uring(&self) -> bool {
        matches!(self.backend, Backend::Uring(_))
    }

    /// Why io_uring is not used, if it was wanted.
    pub fn refusal(&self) -> Option<Refusal> {
        match self.backend {
            Backend::Epoll(refusal) => refusal,
            Backend::Uring(_) => None,
        }
    }

    /// The same choice with another size of the submission queue, a power of two.
    #[cfg(test)]
    pub(crate) fn with_sq_entries(mut self, sq_entries: u32) -> Self {
        self.sq_entries = sq_entries;
        self
    }

    /// A given rung, whether or not a better one exists.
    #[cfg(test)]
    pub(crate) fn of_rung(rung: Rung) -> Self {
        Choice::new(Backend::Uring(rung))
    }

    fn new(backend: Backend) -> Self {
        Choice { backend, sq_entries: SQ_ENTRIES }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.backend {
            Backend::Uring(rung) => write!(f, "io_uring ({})", rung.name()),
            Backend::Epoll(None) => f.write_str("epoll (as asked)"),
            Backend::Epoll(Some(refusal)) => write!(f, "epoll: {refusal}"),
        }
    }
}

/// Asks the kernel and decides. Call once per process and hand the [`Choice`] to every worker.
///
/// # Errors
///
/// [`RingError::Refused`] if `mode` is [`IoMode::Uring`] and the kernel refuses; [`RingError::Setup`] if the kernel would
/// allow io_uring but lacks memory or descriptors, in every mode but [`IoMode::Epoll`].
pub fn probe(mode: IoMode) -> Result<Choice, RingError> {
    probe_with(mode, try_rung, io_uring_disabled)
}

/// [`probe`] with the kernel's two answers as arguments: `setup` for a rung and the value of the sysctl.
pub(super) fn probe_with(
    mode: IoMode,
    setup: impl Fn(Rung) -> io::Result<()>,
    sysctl: impl Fn() -> Option<u8>,
) -> Result<Choice, RingError> {
    if mode == IoMode::Epoll {
        return Ok(Choice::new(Backend::Epoll(None)));
    }
    let refusal = match climb(setup, sysctl)? {
        Ok(rung) => return Ok(Choice::new(Backend::Uring(rung))),
        Err(refusal) => refusal,
    };
    match mode {
        IoMode::Uring => Err(RingError::Refused(refusal)),
        IoMode::Auto | IoMode::Epoll => Ok(Choice::new(Backend::Epoll(Some(refusal)))),
    }
}

/// The first rung that holds, or why none does.
fn climb(
    setup: impl Fn(Rung) -> io::Result<()>,
    sysctl: impl Fn() -> Option<u8>,
) -> Result<Result<Rung, Refusal>, RingError> {
    for rung in Rung::LADDER {
        let Err(source) = setup(rung) else {
            return Ok(Ok(rung));
        };
        match source.raw_os_error() {
            Some(libc::EINVAL) => {}
            Some(errno @ (libc::EPERM | libc::ENOSYS)) => {
                return Ok(Err(Refusal::NotAllowed { errno, sysctl: sysctl() }));
            }
            _ => return Err(RingError::Setup { source }),
        }
    }
    Ok(Err(Refusal::TooOld))
}

/// Sets a ring up, looks at what it can do, and takes it down again.
fn try_rung(rung: Rung) -> io::Result<()> {
    let ring = rung.setup(SQ_ENTRIES)?;
    let params = ring.params();
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let operations = [
        opcode::Accept::CODE,
        opcode::AsyncCancel::CODE,
        opcode::Connect::CODE,
        opcode::PollAdd::CODE,
        opcode::Recv::CODE,
    ];
    let complete = params.is_feature_ext_arg()
        && params.is_feature_nodrop()
        && params.is_feature_fast_poll()
        && operations.iter().all(|&code| probe.is_supported(code));
    if complete { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EINVAL)) }
}

fn io_uring_disabled() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}
