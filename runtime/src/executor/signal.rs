//! SIGINT and SIGTERM as something a task can wait for.
//!
//! The handler writes the signal's number into a pipe, which is all that a handler may do; a task reads the pipe. One
//! [`Signals`] at a time takes them for the whole process, every signal counts, and the handlers from before come back
//! when it is dropped.
#![expect(unsafe_code, reason = "signal handlers are installed through libc")]

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::IntoRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use super::net;
use crate::ring::sys;

/// A request to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: a user at a terminal.
    Interrupt,
    /// SIGTERM: a supervisor.
    Terminate,
}

impl Signal {
    const ALL: [Signal; 2] = [Signal::Interrupt, Signal::Terminate];

    fn number(self) -> libc::c_int {
        match self {
            Signal::Interrupt => libc::SIGINT,
            Signal::Terminate => libc::SIGTERM,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        Signal::ALL.into_iter().find(|signal| signal.number() == libc::c_int::from(byte))
    }
}

/// The writing end of the pipe. It is made once and never closed, for a handler may be about to use it at any time.
static WRITER: AtomicI32 = AtomicI32::new(-1);
/// The reading end, made with it.
static READER: OnceLock<File> = OnceLock::new();
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes SIGINT and SIGTERM for this process, until dropped.
#[derive(Debug)]
pub struct Signals {
    reader: &'static File,
    /// What they did before.
    before: [Before; 2],
}

/// A signal's action before ours.
struct Before(libc::sigaction);

impl std::fmt::Debug for Before {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Before")
    }
}

impl Signals {
    /// From here on the signals do not end the process but are received.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if another `Signals` takes them; or no pipe can be made.
    pub fn install() -> io::Result<Self> {
        if TAKEN.swap(true, Ordering::SeqCst) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "signals are received elsewhere in this process"));
        }
        let installed = reader().and_then(|reader| {
            let [interrupt, terminate] = Signal::ALL;
            let before = [set_action(interrupt, &our_action())?, set_action(terminate, &our_action())?];
            Ok(Signals { reader, before })
        });
        if installed.is_err() {
            TAKEN.store(false, Ordering::SeqCst);
        }
        installed
    }

    /// The next signal. Dropping the future loses none.
    ///
    /// # Errors
    ///
    /// The executor ends.
    pub async fn recv(&mut self) -> io::Result<Signal> {
        loop {
            let mut byte = [0];
            match self.reader.read(&mut byte) {
                Ok(_) => {
                    if let Some(signal) = Signal::of(byte[0]) {
                        return Ok(signal);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => net::readable(self.reader).await?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for (signal, before) in Signal::ALL.into_iter().zip(&self.before) {
            // The arguments worked when the signals were taken, so they work now.
            drop(set_action(signal, &before.0));
        }
        TAKEN.store(false, Ordering::SeqCst);
    }
}

/// The pipe, made by whoever holds `TAKEN` first.
fn reader() -> io::Result<&'static File> {
    if let Some(reader) = READER.get() {
        return Ok(reader);
    }
    let (reader, writer) = sys::pipe()?;
    WRITER.store(writer.into_raw_fd(), Ordering::SeqCst);
    Ok(READER.get_or_init(|| File::from(reader)))
}

extern "C" fn on_signal(number: libc::c_int) {
    let byte = [number as u8];
    // SAFETY: `errno` is this thread's, and the interrupted code must find it as it was.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: write(2) is async-signal-safe; the descriptor is never closed. A full pipe holds 64 Ki signals already.
    unsafe { libc::write(WRITER.load(Ordering::SeqCst), byte.as_ptr().cast(), 1) };
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

fn our_action() -> libc::sigaction {
    // SAFETY: `sigaction` is integers, an optional function and a set of signals; zeroes are an empty set and no flags.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    action
}

/// Sets a signal's action and returns the one before.
fn set_action(signal: Signal, action: &libc::sigaction) -> io::Result<Before> {
    // SAFETY: as in `our_action`.
    let mut before: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: both structs outlive the call, and the handler in `action` is `on_signal`, which is async-signal-safe, or
    // was there before.
    match unsafe { libc::sigaction(signal.number(), action, &mut before) } {
        0 => Ok(Before(before)),
        _ => Err(io::Error::last_os_error()),
    }
}
