//! Runs component-model `.wast` scripts: the test suites of the specification and of wasmtime, and our own.
//!
//! A script is parsed as a whole and run directive by directive; the first that does not hold ends it. Every component instance
//! is a zone of its own, driven by the executor as in a server, so what is tested is our scheduler and nothing made for tests.
//! `header` reads the `;;!` lines, `script` runs directives, `instance` calls zones, `host` is what scripts may import, `imports`
//! what they do, `value` turns constants into values and compares results, `messages` compares the texts of errors.
//! Knows nothing of how outcomes are printed.

mod header;
mod host;
mod imports;
mod instance;
mod messages;
mod script;
mod value;

use crate::host::linker::Linker;
use header::Header;
pub(crate) use script::CompiledComponents;
use script::Script;
use std::any::Any;
use std::rc::Rc;
use std::time::{Duration, Instant};
use wasmtime::Engine;
use wast::lexer::Lexer;
use wast::parser::{self, ParseBuffer};
use wast::token::Span;

/// What scripts may import, for others who run their components; their zones keep `host_data`.
pub fn host_linker() -> Linker {
    host::linker()
}

/// What the host keeps for a zone that imports of `host_linker`.
pub fn host_data() -> Rc<dyn Any> {
    Rc::new(host::Host::default())
}

/// What became of one script.
pub(crate) struct Report {
    pub outcome: Outcome,
    /// Assertions that held.
    pub assertions: usize,
    pub elapsed: Duration,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    /// It failed, and says so itself.
    KnownFailure {
        reason: String,
        fault: Fault,
    },
    Failed(Fault),
}

/// Where and why a script failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// From 1.
    pub line: usize,
    pub message: String,
}

/// Runs the script `text`. A directive that has not finished after `timeout`, counted from the start of the script, fails.
pub(crate) async fn run(engine: &Engine, text: &str, timeout: Duration) -> Report {
    run_compiled(engine, text, timeout, Rc::default()).await
}

/// As `run`, for a script that is run often: what it compiles is kept in `compiled`.
pub(crate) async fn run_compiled(
    engine: &Engine,
    text: &str,
    timeout: Duration,
    compiled: Rc<CompiledComponents>,
) -> Report {
    let start = Instant::now();
    let (result, assertions) = match Header::parse(text) {
        Ok(header) => {
            let script = Script::new(engine, header.features, timeout, compiled);
            let (result, assertions) = run_directives(script, text).await;
            (expected_to_fail(result, header.known_failure), assertions)
        }
        Err(message) => (Outcome::Failed(Fault { line: 1, message }), 0),
    };
    Report { outcome: result, assertions, elapsed: start.elapsed() }
}

/// A known failure that passes is an error: somebody has to take the mark away.
fn expected_to_fail(result: Result<(), Fault>, known_failure: Option<String>) -> Outcome {
    match (result, known_failure) {
        (Ok(()), None) => Outcome::Passed,
        (Err(fault), None) => Outcome::Failed(fault),
        (Err(fault), Some(reason)) => Outcome::KnownFailure { reason, fault },
        (Ok(()), Some(reason)) => Outcome::Failed(Fault {
            line: 1,
            message: format!("heals: it passes, but is marked as a known failure ({reason}); remove the mark"),
        }),
    }
}

/// Can `text` be read as a script? It may fail all the same.
pub(crate) fn check(text: &str) -> Result<(), Fault> {
    Header::parse(text).map_err(|message| Fault { line: 1, message })?;
    let buffer = buffer(text)?;
    parse(text, &buffer).map(drop)
}

fn buffer(text: &str) -> Result<ParseBuffer<'_>, Fault> {
    let mut lexer = Lexer::new(text);
    // Names are under test, also those that look like others.
    lexer.allow_confusing_unicode(true);
    ParseBuffer::new_with_lexer(lexer).map_err(|error| malformed(text, &error))
}

fn parse<'a>(text: &str, buffer: &'a ParseBuffer<'a>) -> Result<wast::Wast<'a>, Fault> {
    parser::parse(buffer).map_err(|error| malformed(text, &error))
}

fn malformed(text: &str, error: &wast::Error) -> Fault {
    Fault { line: line(error.span(), text), message: error.message() }
}

async fn run_directives(mut script: Script<'_>, text: &str) -> (Result<(), Fault>, usize) {
    let fault = |span: Span, message: String| Fault { line: line(span, text), message };
    let buffer = match buffer(text) {
        Ok(buffer) => buffer,
        Err(fault) => return (Err(fault), 0),
    };
    let wast = match parse(text, &buffer) {
        Ok(wast) => wast,
        Err(fault) => return (Err(fault), 0),
    };
    for directive in wast.directives {
        let span = directive.span();
        if let Err(error) = script.run(directive).await {
            return (Err(fault(span, first_line(&format!("{error:#}")))), script.assertions);
        }
    }
    (Ok(()), script.assertions)
}

/// Errors may have a backtrace behind their first line.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_string()
}

fn line(span: Span, text: &str) -> usize {
    span.linecol_in(text).0 + 1
}
