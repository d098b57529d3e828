//! `wasi:io` 0.2: pollables and streams.
//!
//! Input is at its end and output takes whatever comes, so streams never make anyone wait. What remains to wait for is time. Who
//! polls is put aside with its stack, and keeps its instance to itself: it is synchronous code, and expects that.

use std::cell::Cell;
use std::rc::Rc;

use wasmtime::bail;

use super::output::Lines;
use super::p2::wasi::io::streams::StreamError;
use super::{Wasi, clocks, p2};
use crate::abi::{HostCx, HostFuture, Result};
use crate::host::value::{Borrow, Failure, Own};

/// What `check-write` permits.
const PERMIT_LEN: u64 = 64 * 1024;
/// What the WIT lets the `blocking-write-*-and-flush` functions take.
const BLOCKING_WRITE_LEN_MAX: u64 = 4096;

/// `error`. The streams here do not fail, so there is none.
pub enum IoError {}

/// `pollable`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pollable {
    /// Always ready.
    Ready,
    /// Ready when the monotonic clock shows this.
    At(u64),
}

impl Pollable {
    /// When it is ready.
    fn mark(self) -> u64 {
        match self {
            Pollable::Ready => 0,
            Pollable::At(mark) => mark,
        }
    }

    fn is_ready(self, now: u64) -> bool {
        self.mark() <= now
    }
}

/// `input-stream`: stdin, which is closed.
pub struct InputStream;

/// `output-stream`: stdout or stderr.
pub struct OutputStream {
    lines: Rc<Lines>,
    /// Bytes that `check-write` has permitted and no write has used.
    permit: Cell<u64>,
}

impl OutputStream {
    pub(super) fn new(lines: Rc<Lines>) -> Self {
        OutputStream { lines, permit: Cell::new(0) }
    }

    fn check_write(&self) -> u64 {
        self.permit.set(PERMIT_LEN);
        PERMIT_LEN
    }

    fn use_permit(&self, len: u64) -> Result<()> {
        match self.permit.get().checked_sub(len) {
            Some(rest) => self.permit.set(rest),
            None => {
                bail!("a write of {len} bytes to an output stream, of which `check-write` has not permitted so many")
            }
        }
        Ok(())
    }
}

impl p2::wasi::io::error::Host for Wasi {
    fn error_to_debug_string(_: &mut HostCx<'_>, self_: Borrow<IoError>) -> Result<String> {
        match *self_.0 {}
    }
}

impl p2::wasi::io::poll::Host for Wasi {
    fn pollable_ready(_: &mut HostCx<'_>, self_: Borrow<Pollable>) -> Result<bool> {
        Ok(self_.is_ready(clocks::now()))
    }

    fn pollable_block(_: &mut HostCx<'_>, self_: Borrow<Pollable>) -> HostFuture<()> {
        let pollable = *self_.0;
        Box::pin(async move { poll(&[pollable]).await.map(drop) })
    }

    fn poll(_: &mut HostCx<'_>, in_: Vec<Borrow<Pollable>>) -> HostFuture<Vec<u32>> {
        let pollables: Vec<Pollable> = in_.iter().map(|pollable| *pollable.0).collect();
        Box::pin(async move { poll(&pollables).await })
    }
}

/// Waits until one of them is ready; gives the positions of those that are.
async fn poll(pollables: &[Pollable]) -> Result<Vec<u32>> {
    let Some(first) = pollables.iter().map(|pollable| pollable.mark()).min() else {
        bail!("`wasi:io/poll` of an empty list would block for ever");
    };
    if clocks::now() < first {
        clocks::wait_until(first).await?;
    }
    Ok(ready(pollables, clocks::now().max(first)))
}

fn ready(pollables: &[Pollable], now: u64) -> Vec<u32> {
    (0..).zip(pollables).filter(|(_, pollable)| pollable.is_ready(now)).map(|(i, _)| i).collect()
}

/// What stdin has to say.
fn closed<T>() -> std::result::Result<T, Failure<StreamError>> {
    Err(Failure::Code(StreamError::Closed))
}

fn write(stream: &OutputStream, contents: &[u8]) -> std::result::Result<(), Failure<StreamError>> {
    stream.use_permit(contents.len() as u64).map_err(Failure::Trap)?;
    stream.lines.write(contents);
    Ok(())
}

fn write_and_flush(stream: &OutputStream, contents: &[u8]) -> std::result::Result<(), Failure<StreamError>> {
    check_blocking_len(contents.len() as u64).map_err(Failure::Trap)?;
    stream.lines.write(contents);
    Ok(())
}

fn check_blocking_len(len: u64) -> Result<()> {
    if BLOCKING_WRITE_LEN_MAX < len {
        bail!("a blocking write of {len} bytes to an output stream; {BLOCKING_WRITE_LEN_MAX} at most");
    }
    Ok(())
}

impl p2::wasi::io::streams::Host for Wasi {
    fn input_stream_read(
        _: &mut HostCx<'_>,
        _: Borrow<InputStream>,
        _: u64,
    ) -> std::result::Result<Vec<u8>, Failure<StreamError>> {
        closed()
    }

    fn input_stream_blocking_read(
        _: &mut HostCx<'_>,
        _: Borrow<InputStream>,
        _: u64,
    ) -> std::result::Result<Vec<u8>, Failure<StreamError>> {
        closed()
    }

    fn input_stream_skip(
        _: &mut HostCx<'_>,
        _: Borrow<InputStream>,
        _: u64,
    ) -> std::result::Result<u64, Failure<StreamError>> {
        closed()
    }

    fn input_stream_blocking_skip(
        _: &mut HostCx<'_>,
        _: Borrow<InputStream>,
        _: u64,
    ) -> std::result::Result<u64, Failure<StreamError>> {
        closed()
    }

    fn input_stream_subscribe(_: &mut HostCx<'_>, _: Borrow<InputStream>) -> Result<Own<Pollable>> {
        Ok(Own::new(Pollable::Ready))
    }

    fn output_stream_check_write(
        _: &mut HostCx<'_>,
        self_: Borrow<OutputStream>,
    ) -> std::result::Result<u64, Failure<StreamError>> {
        Ok(self_.check_write())
    }

    fn output_stream_write(
        _: &mut HostCx<'_>,
        self_: Borrow<OutputStream>,
        contents: Vec<u8>,
    ) -> std::result::Result<(), Failure<StreamError>> {
        write(&self_, &contents)
    }

    fn output_stream_blocking_write_and_flush(
        _: &mut HostCx<'_>,
        self_: Borrow<OutputStream>,
        contents: Vec<u8>,
    ) -> std::result::Result<(), Failure<StreamError>> {
        write_and_flush(&self_, &contents)
    }

    // A flush finds nothing to do: whole lines are out, and the rest of one waits for its newline.
    fn output_stream_flush(
        _: &mut HostCx<'_>,
        _: Borrow<OutputStream>,
    ) -> std::result::Result<(), Failure<StreamError>> {
        Ok(())
    }

    fn output_stream_blocking_flush(
        _: &mut HostCx<'_>,
        _: Borrow<OutputStream>,
    ) -> std::result::Result<(), Failure<StreamError>> {
        Ok(())
    }

    fn output_stream_subscribe(_: &mut HostCx<'_>, _: Borrow<OutputStream>) -> Result<Own<Pollable>> {
        Ok(Own::new(Pollable::Ready))
    }

    fn output_stream_write_zeroes(
        _: &mut HostCx<'_>,
        self_: Borrow<OutputStream>,
        len: u64,
    ) -> std::result::Result<(), Failure<StreamError>> {
        self_.use_permit(len).map_err(Failure::Trap)?;
        self_.lines.write(&vec![0; len as usize]);
        Ok(())
    }

    fn output_stream_blocking_write_zeroes_and_flush(
        _: &mut HostCx<'_>,
        self_: Borrow<OutputStream>,
        len: u64,
    ) -> std::result::Result<(), Failure<StreamError>> {
        check_blocking_len(len).map_err(Failure::Trap)?;
        self_.lines.write(&vec![0; len as usize]);
        Ok(())
    }

    // "any error reported by the call to .. `read` .. ends the splice": there is no input that could be spliced.
    fn output_stream_splice(
        _: &mut HostCx<'_>,
        _: Borrow<OutputStream>,
        _: Borrow<InputStream>,
        _: u64,
    ) -> std::result::Result<u64, Failure<StreamError>> {
        closed()
    }

    fn output_stream_blocking_splice(
        _: &mut HostCx<'_>,
        _: Borrow<OutputStream>,
        _: Borrow<InputStream>,
        _: u64,
    ) -> std::result::Result<u64, Failure<StreamError>> {
        closed()
    }
}

#[cfg(test)]
mod tests {
    use super::{OutputStream, PERMIT_LEN, Pollable, clocks, poll, ready, write, write_and_flush};
    use crate::host::value::Failure;
    use crate::host::wasi::output::tests::Captured;
    use crate::host::wasi::output::{Lines, Output};
    use crate::host::wasi::tests::on_both_drivers;
    use std::rc::Rc;
    use std::sync::Arc;

    #[test]
    fn poll_gives_all_that_are_ready() {
        use Pollable::{At, Ready};
        for (pollables, expected) in
            [(&[Ready][..], &[0][..]), (&[At(100)], &[0]), (&[At(101)], &[]), (&[At(101), Ready, At(0)], &[1, 2])]
        {
            assert_eq!(ready(pollables, 100), expected);
        }
    }

    #[test]
    fn poll_waits_for_the_first_that_becomes_ready() {
        use Pollable::{At, Ready};
        on_both_drivers(|| async {
            let soon = clocks::now() + 5_000_000;
            assert_eq!(poll(&[At(u64::MAX), At(soon)]).await.expect("it waits"), [1]);
            assert!(soon <= clocks::now());
            assert_eq!(poll(&[At(u64::MAX), Ready]).await.expect("no wait"), [1]);
            let trap = poll(&[]).await.expect_err("nothing to wait for").to_string();
            assert!(trap.contains("`wasi:io/poll`"), "{trap}");
        });
    }

    #[test]
    fn a_write_beyond_its_permit_traps_and_writes_nothing() {
        let sink = Arc::new(Captured::default());
        let stream = OutputStream::new(Rc::new(Lines::new("a", Output::Stderr, sink.clone())));
        let is_trap = |result| matches!(result, Err(Failure::Trap(_)));
        assert!(is_trap(write(&stream, b"x\n")), "nothing was permitted");
        assert_eq!(stream.check_write(), PERMIT_LEN);
        write(&stream, b"y\n").expect("this is permitted");
        assert!(is_trap(write(&stream, &vec![b'z'; PERMIT_LEN as usize - 1])), "a part of the permit is used");
        write_and_flush(&stream, &[b'\n'; 1]).expect("needs no permit");
        assert!(is_trap(write_and_flush(&stream, &[b'\n'; 4097])));
        let lines = sink.take();
        assert_eq!(lines, [(Output::Stderr, "[a] y\n".to_string()), (Output::Stderr, "[a] \n".to_string())]);
    }
}
