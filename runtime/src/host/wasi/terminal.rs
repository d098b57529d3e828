//! `wasi:cli/terminal-*`: guests have no terminal. Their output is a log with many writers, their input is empty.

use super::{Wasi, p2, p3};
use crate::abi::{HostCx, Result};
use crate::host::value::Own;

/// `terminal-input`; there is none.
pub enum TerminalInput {}

/// `terminal-output`; there is none.
pub enum TerminalOutput {}

impl p3::wasi::cli::terminal_input::Host for Wasi {}
impl p3::wasi::cli::terminal_output::Host for Wasi {}
impl p2::wasi::cli::terminal_input::Host for Wasi {}
impl p2::wasi::cli::terminal_output::Host for Wasi {}

impl p3::wasi::cli::terminal_stdin::Host for Wasi {
    fn get_terminal_stdin(_: &mut HostCx<'_>) -> Result<Option<Own<TerminalInput>>> {
        Ok(None)
    }
}

impl p3::wasi::cli::terminal_stdout::Host for Wasi {
    fn get_terminal_stdout(_: &mut HostCx<'_>) -> Result<Option<Own<TerminalOutput>>> {
        Ok(None)
    }
}

impl p3::wasi::cli::terminal_stderr::Host for Wasi {
    fn get_terminal_stderr(_: &mut HostCx<'_>) -> Result<Option<Own<TerminalOutput>>> {
        Ok(None)
    }
}

impl p2::wasi::cli::terminal_stdin::Host for Wasi {
    fn get_terminal_stdin(_: &mut HostCx<'_>) -> Result<Option<Own<TerminalInput>>> {
        Ok(None)
    }
}

impl p2::wasi::cli::terminal_stdout::Host for Wasi {
    fn get_terminal_stdout(_: &mut HostCx<'_>) -> Result<Option<Own<TerminalOutput>>> {
        Ok(None)
    }
}

impl p2::wasi::cli::terminal_stderr::Host for Wasi {
    fn get_terminal_stderr(_: &mut HostCx<'_>) -> Result<Option<Own<TerminalOutput>>> {
        Ok(None)
    }
}
