//! `wasi:cli`: environment, exit, stdin, stdout, stderr, in both versions.
//!
//! stdin is empty: a server's input is its requests. Guests cannot end the server; one that tries ends itself.

use std::rc::Rc;
use std::task::{Context, Poll};

use wasmtime::bail;

use super::ctx::WasiCtx;
use super::io::{InputStream, OutputStream};
use super::output::Lines;
use super::p3::wasi::cli::types::ErrorCode;
use super::{Wasi, p2, p3};
use crate::abi::{Destination, HostCx, Produced, Result, Source};
use crate::executor::oneshot;
use crate::host::data::HostData;
use crate::host::stream::{FutureReader, StreamReader};
use crate::host::value::Own;

/// What a stream over stdin or stdout comes to.
type Outcome = std::result::Result<(), ErrorCode>;

impl p3::wasi::cli::environment::Host for Wasi {
    fn get_environment(cx: &mut HostCx<'_>) -> Result<Vec<(String, String)>> {
        Ok(HostData::of(cx).wasi.environment.to_vec())
    }

    fn get_arguments(cx: &mut HostCx<'_>) -> Result<Vec<String>> {
        Ok(HostData::of(cx).wasi.arguments.to_vec())
    }

    fn get_initial_cwd(_: &mut HostCx<'_>) -> Result<Option<String>> {
        Ok(None)
    }
}

impl p2::wasi::cli::environment::Host for Wasi {
    fn get_environment(cx: &mut HostCx<'_>) -> Result<Vec<(String, String)>> {
        <Wasi as p3::wasi::cli::environment::Host>::get_environment(cx)
    }

    fn get_arguments(cx: &mut HostCx<'_>) -> Result<Vec<String>> {
        <Wasi as p3::wasi::cli::environment::Host>::get_arguments(cx)
    }

    fn initial_cwd(_: &mut HostCx<'_>) -> Result<Option<String>> {
        Ok(None)
    }
}

impl p3::wasi::cli::exit::Host for Wasi {
    fn exit(_: &mut HostCx<'_>, status: std::result::Result<(), ()>) -> Result<()> {
        exit(status)
    }

    fn exit_with_code(_: &mut HostCx<'_>, status_code: u8) -> Result<()> {
        exit_with_code(status_code)
    }
}

impl p2::wasi::cli::exit::Host for Wasi {
    fn exit(_: &mut HostCx<'_>, status: std::result::Result<(), ()>) -> Result<()> {
        exit(status)
    }

    fn exit_with_code(_: &mut HostCx<'_>, status_code: u8) -> Result<()> {
        exit_with_code(status_code)
    }
}

fn exit(status: std::result::Result<(), ()>) -> Result<()> {
    let status = match status {
        Ok(()) => "ok",
        Err(()) => "err",
    };
    bail!("the guest called `exit({status})`; it cannot end the server and ends itself")
}

fn exit_with_code(status_code: u8) -> Result<()> {
    bail!("the guest called `exit-with-code({status_code})`; it cannot end the server and ends itself")
}

impl p3::wasi::cli::stdin::Host for Wasi {
    fn read_via_stream(_: &mut HostCx<'_>) -> Result<(StreamReader<u8>, FutureReader<Outcome>)> {
        Ok((StreamReader::new(Stdin), FutureReader::ready(Ok(()))))
    }
}

/// A stream that is at its end.
struct Stdin;

impl Source for Stdin {
    fn poll_produce(&mut self, _: &mut Context<'_>, _: &mut Destination<'_>) -> Poll<Result<Produced>> {
        Poll::Ready(Ok(Produced::End))
    }
}

impl p3::wasi::cli::stdout::Host for Wasi {
    fn write_via_stream(cx: &mut HostCx<'_>, data: StreamReader<u8>) -> Result<FutureReader<Outcome>> {
        let wasi = &HostData::of(cx).wasi;
        Ok(write_via_stream(wasi, &wasi.stdout, data))
    }
}

impl p3::wasi::cli::stderr::Host for Wasi {
    fn write_via_stream(cx: &mut HostCx<'_>, data: StreamReader<u8>) -> Result<FutureReader<Outcome>> {
        let wasi = &HostData::of(cx).wasi;
        Ok(write_via_stream(wasi, &wasi.stderr, data))
    }
}

fn write_via_stream(wasi: &WasiCtx, lines: &Rc<Lines>, data: StreamReader<u8>) -> FutureReader<Outcome> {
    let data = match data.into_source::<Stdin>() {
        Ok(_at_its_end) => return FutureReader::ready(Ok(())),
        Err(data) => data,
    };
    let (done, outcome) = oneshot::channel();
    wasi.drains.start(data, lines.clone(), |drained| {
        // A guest that has dropped the future does not want to know.
        let _unwanted = done.send(drained.map_err(|_| ErrorCode::Io));
    });
    // Without an outcome the zone is gone, and nobody reads what this says.
    FutureReader::new(async { Ok(outcome.await.unwrap_or(Err(ErrorCode::Io))) })
}

impl p2::wasi::cli::stdin::Host for Wasi {
    fn get_stdin(_: &mut HostCx<'_>) -> Result<Own<InputStream>> {
        Ok(Own::new(InputStream))
    }
}

impl p2::wasi::cli::stdout::Host for Wasi {
    fn get_stdout(cx: &mut HostCx<'_>) -> Result<Own<OutputStream>> {
        Ok(Own::new(OutputStream::new(HostData::of(cx).wasi.stdout.clone())))
    }
}

impl p2::wasi::cli::stderr::Host for Wasi {
    fn get_stderr(cx: &mut HostCx<'_>) -> Result<Own<OutputStream>> {
        Ok(Own::new(OutputStream::new(HostData::of(cx).wasi.stderr.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::{exit, exit_with_code};

    #[test]
    fn exit_is_a_trap_that_names_itself() {
        let message = |result: crate::abi::Result<()>| result.expect_err("a trap").to_string();
        assert!(message(exit(Ok(()))).contains("`exit(ok)`"));
        assert!(message(exit(Err(()))).contains("`exit(err)`"));
        assert!(message(exit_with_code(3)).contains("`exit-with-code(3)`"));
    }
}
