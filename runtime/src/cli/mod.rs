//! The `interflow` command.
//!
//! Parses what was typed, runs one command, and turns its outcome into an exit code: 0 for success, 1 for a failure at run
//! time, 2 for input that the user has to change. An error is printed once, with all its causes.

mod explore;
mod serve;
mod size;
mod wast;

use clap::{Parser, Subcommand};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

/// Runs WASI 0.3 components whose calls to each other are real asynchronous function calls.
#[derive(Parser, Debug)]
#[command(name = "interflow", version, about, max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    command: Command,

    /// What to log to standard error: error, warn, info, debug, trace, or directives like `interflow::http=debug`
    #[arg(long, global = true, default_value = "info", env = "INTERFLOW_LOG", value_name = "FILTER")]
    log: String,
}

#[derive(Subcommand, Debug)]
enum Command {
    Serve(serve::Serve),
    Wast(wast::Wast),
    Explore(explore::Explore),
}

/// Why a command has failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The user has to change the input.
    Input(anyhow::Error),
    /// It did not work this time.
    Run(anyhow::Error),
    /// As `Run`, and the command has said why.
    Told,
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = start_log(&args.log) {
        return report(&Failure::Input(error));
    }
    let outcome = match args.command {
        Command::Serve(serve) => serve.run(),
        Command::Wast(wast) => wast.run(),
        Command::Explore(explore) => explore.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    match failure {
        Failure::Input(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
        Failure::Run(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
        Failure::Told => ExitCode::FAILURE,
    }
}

/// A number of seconds, also a fraction of one.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("`{text}` is not a duration"))
}

fn start_log(filter: &str) -> anyhow::Result<()> {
    let filter =
        tracing_subscriber::EnvFilter::try_new(filter).map_err(|error| anyhow::anyhow!("--log {filter}: {error}"))?;
    let color = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(color)
        .init();
    Ok(())
}
