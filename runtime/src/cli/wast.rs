//! `interflow wast`: run scripts and say which hold.

use super::Failure;
use crate::component;
use crate::executor::{self, Executor};
use crate::ring::{self, IoMode};
use crate::wast::{self, Outcome, Report};
use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use serde::Serialize;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Runs component-model `.wast` scripts through interflow's own scheduler.
///
/// Prints a line per file and a total. The exit code is 1 if a script fails, and 2 if there is nothing to run.
#[derive(Args, Debug)]
pub(crate) struct Wast {
    /// Scripts, and directories that have some
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,

    /// Print one JSON document instead of lines
    #[arg(long)]
    json: bool,

    /// Seconds that one script may take
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = super::seconds)]
    timeout: Duration,
}

/// One script, as it is printed.
#[derive(Serialize)]
struct Line {
    path: String,
    status: Status,
    assertions: usize,
    milliseconds: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    known_failure: Option<String>,
}

#[derive(Serialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Status {
    Ok,
    KnownFailure,
    Fail,
}

/// All of them.
#[derive(Serialize, Default)]
struct Total {
    files: usize,
    passed: usize,
    known_failures: usize,
    failed: usize,
    assertions: usize,
}

#[derive(Serialize)]
struct Document<'a> {
    files: &'a [Line],
    total: &'a Total,
}

impl Wast {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let files = scripts(&self.paths).map_err(Failure::Input)?;
        match self.report(&files) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Failure::Told),
            // Whoever reads has seen enough.
            Err(error) if is_broken_pipe(&error) => Err(Failure::Told),
            Err(error) => Err(Failure::Run(error)),
        }
    }

    /// Runs `files` and prints what came of them; tells how many have failed.
    fn report(&self, files: &[PathBuf]) -> Result<usize> {
        let (lines, total) = self.run_all(files)?;
        if self.json {
            let document = Document { files: &lines, total: &total };
            print(&serde_json::to_string_pretty(&document).context("cannot write the report")?)?;
        } else {
            print(&total)?;
        }
        Ok(total.failed)
    }

    fn run_all(&self, files: &[PathBuf]) -> Result<(Vec<Line>, Total)> {
        let engine = component::engine()?;
        component::tick(&engine).context("cannot start the epoch thread")?;
        let executor = Executor::new(&ring::probe(IoMode::Auto)?)?;
        let mut lines = Vec::new();
        let mut total = Total::default();
        for file in files {
            let line = executor.block_on(run_file(engine.clone(), file.clone(), self.timeout));
            if !self.json {
                print(&line)?;
            }
            total.add(&line);
            lines.push(line);
        }
        Ok((lines, total))
    }
}

/// A panic of the engine is one script's failure, not everybody's: it runs in a task of its own.
async fn run_file(engine: wasmtime::Engine, file: PathBuf, timeout: Duration) -> Line {
    let path = file.display().to_string();
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) => return Line::failed(path, 1, format!("cannot read it: {error}")),
    };
    let task = executor::spawn(async move { wast::run(&engine, &text, timeout).await });
    match task.await {
        Ok(report) => Line::new(path, report),
        Err(error) => Line::failed(path, 1, format!("the engine panicked: {error}")),
    }
}

impl Line {
    fn new(path: String, report: Report) -> Line {
        let mut line = Line {
            path,
            status: Status::Ok,
            assertions: report.assertions,
            milliseconds: report.elapsed.as_millis(),
            line: None,
            message: None,
            known_failure: None,
        };
        let fault = match report.outcome {
            Outcome::Passed => return line,
            Outcome::KnownFailure { reason, fault } => {
                line.status = Status::KnownFailure;
                line.known_failure = Some(reason);
                fault
            }
            Outcome::Failed(fault) => {
                line.status = Status::Fail;
                fault
            }
        };
        line.line = Some(fault.line);
        line.message = Some(fault.message);
        line
    }

    fn failed(path: String, line: usize, message: String) -> Line {
        Line {
            path,
            status: Status::Fail,
            assertions: 0,
            milliseconds: 0,
            line: Some(line),
            message: Some(message),
            known_failure: None,
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { path, assertions, milliseconds, .. } = self;
        let (line, message) = (self.line.unwrap_or(1), self.message.as_deref().unwrap_or_default());
        match self.status {
            Status::Ok => write!(f, "ok   {path} ({assertions} assertions, {milliseconds} ms)"),
            Status::Fail => write!(f, "FAIL {path}:{line}: {message}"),
            Status::KnownFailure => {
                let reason = self.known_failure.as_deref().unwrap_or_default();
                write!(f, "known-failure {path}:{line}: {reason}: {message}")
            }
        }
    }
}

impl Total {
    fn add(&mut self, line: &Line) {
        self.files += 1;
        self.assertions += line.assertions;
        match line.status {
            Status::Ok => self.passed += 1,
            Status::KnownFailure => self.known_failures += 1,
            Status::Fail => self.failed += 1,
        }
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Total { files, passed, known_failures, failed, assertions } = self;
        write!(f, "{files} files: {passed} passed, {failed} failed")?;
        if *known_failures > 0 {
            write!(f, ", {known_failures} known to fail")?;
        }
        write!(f, "; {assertions} assertions")
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn print(line: &dyn fmt::Display) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("cannot write to standard output")
}

/// The scripts among `paths`: files as they are, directories with everything below them, in order.
fn scripts(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let metadata = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        if !metadata.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        collect(path, &mut files)?;
        ensure!(files.len() > before, "{}: no .wast file in it", path.display());
    }
    Ok(files)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(dir).and_then(|entries| entries.collect::<std::io::Result<Vec<_>>>());
    let entries = entries.with_context(|| format!("cannot read {}", dir.display()))?;
    let mut entries: Vec<_> = entries
        .into_iter()
        .map(|entry| Ok((entry.path(), entry.file_type()?.is_dir())))
        .collect::<std::io::Result<_>>()
        .map_err(|error| anyhow!("cannot read {}: {error}", dir.display()))?;
    entries.sort();
    for (path, is_dir) in entries {
        // Links to directories are not followed: they may lead in a circle.
        if is_dir {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "wast") {
            files.push(path);
        }
    }
    Ok(())
}
