//! `interflow explore`: try schedules until one goes wrong, and show it.

use super::{Failure, seconds};
use crate::component;
use crate::component::compose::Link;
use crate::explore::{
    self, Bounds, Chain, ChainError, Explored, Finding, Outcome, Progress, Request, Script, ScriptError, Subject,
};
use crate::sim::{Row, Schedule};
use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use clap::Args;
use http::{HeaderName, HeaderValue, Method, Uri};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wasmtime::Engine;

/// Tries the schedules of a composition until one deadlocks, traps or comes to another result.
///
/// Takes a chain as `serve` does, a command, or a `.wast` script. Clock, randomness, clients and I/O are virtual: nothing is sent,
/// and the same input with the same schedule is the same run on every machine. Prints the first finding, which has the fewest
/// choices that differ from first come, first served, as a table of who did what, and how to run it again. The exit code is 1 if
/// there is a finding, 0 if there is none, and 2 if the input is wrong.
#[derive(Args, Debug)]
pub(crate) struct Explore {
    /// Components, outermost first; or one script
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// What a client asks for. May be repeated: requests are sent at once [default: GET /]
    #[arg(long, value_name = "METHOD PATH", value_parser = request_line)]
    request: Vec<(Method, Uri)>,

    /// A header of the requests. May be repeated
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,

    /// The body of the requests. May be repeated: each is a chunk, and arrives when the schedule says
    #[arg(long, value_name = "TEXT")]
    body: Vec<String>,

    /// Runs at most
    #[arg(long, default_value = "100000", value_name = "N")]
    runs: u64,

    /// Seconds to search
    #[arg(long, default_value = "30", value_name = "SECONDS", value_parser = seconds)]
    seconds: Duration,

    /// Choices of one schedule that may differ from first come, first served [default: any number]
    #[arg(long, value_name = "N")]
    depth: Option<usize>,

    /// What the guests' random numbers are made of
    #[arg(long, default_value = "1", value_name = "N")]
    seed: u64,

    /// Run this schedule only, and show it: `first`, or as printed with a finding
    #[arg(long, value_name = "CHOICES")]
    replay: Option<Schedule>,

    /// Show calls of the host that answer at once, and other steps that have no part in who goes on when
    #[arg(long)]
    details: bool,

    /// Print one JSON document instead of text
    #[arg(long)]
    json: bool,
}

/// How long a guest may run without a pause, in seconds: twice as long at most. A guest on a machine that is busy is slow.
const PAUSE: Duration = Duration::from_secs(5);

/// How often the progress is told, if it takes long.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// What is printed for machines.
#[derive(Serialize)]
struct Document<'a> {
    runs: u64,
    states: usize,
    deviations: usize,
    endless: u64,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    finding: Option<Found<'a>>,
}

#[derive(Serialize)]
struct Found<'a> {
    kind: &'static str,
    message: &'a str,
    replay: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<&'a str>,
    rows: Vec<Cell>,
}

#[derive(Serialize)]
struct Cell {
    column: String,
    text: String,
    detail: bool,
}

impl Explore {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let engine = component::engine().map_err(Failure::Run)?;
        let subject = self.subject(&engine)?;
        watch_for_spinning(engine).map_err(Failure::Run)?;
        let found = match &self.replay {
            Some(schedule) => self.replay(&*subject, schedule)?,
            None => self.search(&*subject).map_err(Failure::Run)?,
        };
        if found { Err(Failure::Told) } else { Ok(()) }
    }

    fn subject(&self, engine: &Engine) -> Result<Box<dyn Subject>, Failure> {
        if let [file] = &self.files[..]
            && file.extension().is_some_and(|extension| extension == "wast")
        {
            if self.asks() {
                return Err(Failure::Input(anyhow!("{}: a script takes no requests", file.display())));
            }
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()));
            let script = Script::new(engine, file.display().to_string(), text.map_err(Failure::Input)?);
            let script = script.map_err(|error| match error {
                ScriptError::Text { .. } => Failure::Input(error.into()),
                ScriptError::Driver(_) => Failure::Run(error.into()),
            })?;
            return Ok(Box::new(script));
        }
        let links = self.files.iter().map(|file| read(file)).collect::<Result<Vec<_>>>().map_err(Failure::Input)?;
        let chain = Chain::load(engine, &links, self.requests()).map_err(|error| match error {
            ChainError::Driver(_) => Failure::Run(error.into()),
            _ => Failure::Input(error.into()),
        })?;
        if chain.is_command() && self.asks() {
            return Err(Failure::Input(anyhow!("{}: a command takes no requests", links[0].name)));
        }
        Ok(Box::new(chain))
    }

    /// Was something said of requests?
    fn asks(&self) -> bool {
        !(self.request.is_empty() && self.header.is_empty() && self.body.is_empty())
    }

    fn requests(&self) -> Vec<Request> {
        let chunks: Vec<Bytes> = self.body.iter().map(|text| Bytes::from(text.clone())).collect();
        let request = |(method, target): &(Method, Uri)| Request {
            method: method.clone(),
            target: target.clone(),
            headers: self.header.clone(),
            chunks: chunks.clone(),
        };
        match &self.request[..] {
            [] => vec![request(&(Method::GET, Uri::from_static("/")))],
            lines => lines.iter().map(request).collect(),
        }
    }

    /// Tells whether there was a finding.
    fn search(&self, subject: &dyn Subject) -> Result<bool> {
        let bounds = Bounds { runs: self.runs, time: self.seconds, deviations: self.depth.unwrap_or(usize::MAX) };
        let mut last = Instant::now();
        let explored = explore::explore(subject, self.seed, bounds, |progress| {
            if last.elapsed() >= TELL_EVERY {
                last = Instant::now();
                eprintln!("{}", so_far(progress));
            }
        });
        let rows = match &explored.finding {
            None => Vec::new(),
            Some(finding) => {
                let again = explore::replay(subject, self.seed, &finding.schedule);
                let (outcome, trace) = again.context("a schedule that was found does not fit any more")?;
                ensure!(outcome == finding.outcome, "{} came to another end when run again", finding.schedule);
                trace.rows
            }
        };
        match self.json {
            true => print(&json(subject, &explored, &rows)?)?,
            false => print(&self.text(subject, &explored, &rows))?,
        }
        Ok(explored.finding.is_some())
    }

    /// Tells whether the schedule goes wrong.
    fn replay(&self, subject: &dyn Subject, schedule: &Schedule) -> Result<bool, Failure> {
        let Some((outcome, trace)) = explore::replay(subject, self.seed, schedule) else {
            return Err(Failure::Input(anyhow!(
                "--replay {schedule}: there are no such choices in a run of this; are input and --seed the same?"
            )));
        };
        let wrong = !matches!(outcome, Outcome::Done(_));
        let text = match self.json {
            true => {
                let finding = Finding { schedule: schedule.clone(), outcome, first: None };
                let progress = Progress { runs: 1, deviations: schedule.deviations(), ..Progress::default() };
                let explored = Explored { progress, complete: false, finding: Some(finding) };
                json(subject, &explored, &trace.rows).map_err(Failure::Run)?
            }
            false => format!(
                "{}\n{}",
                sentence(&outcome),
                explore::table(&trace.rows, self.details, &subject.names()).trim_end()
            ),
        };
        print(&text).map_err(Failure::Run)?;
        Ok(wrong)
    }

    fn text(&self, subject: &dyn Subject, explored: &Explored, rows: &[Row]) -> String {
        let Some(finding) = &explored.finding else {
            let seen = match explored.complete {
                true => "all schedules were tried, or such that come to the same",
                false => "the bound was reached before all schedules were tried",
            };
            return format!("nothing found: {seen}\n{}", so_far(&explored.progress));
        };
        let mut text = format!("{}\n", sentence(&finding.outcome));
        text.push_str(&match (&finding.first, &finding.outcome) {
            (None, _) => "first come, first served, as here\n\n".to_string(),
            (Some(first), Outcome::Done(_)) => format!("first come, first served, {}\n\n", sentence(first)),
            (Some(_), _) => "first come, first served, all goes well; not so here:\n\n".to_string(),
        });
        text.push_str(&explore::table(rows, self.details, &subject.names()));
        text.push_str(&format!("\n{}\nto run it again: {}", so_far(&explored.progress), self.again(&finding.schedule)));
        text
    }

    /// The command that runs `schedule` again.
    fn again(&self, schedule: &Schedule) -> String {
        let mut words = vec!["interflow".to_string(), "explore".to_string()];
        words.extend(self.files.iter().map(|file| quoted(&file.display().to_string())));
        for (method, target) in &self.request {
            words.extend(["--request".to_string(), quoted(&format!("{method} {target}"))]);
        }
        for (name, value) in &self.header {
            words.extend([
                "--header".to_string(),
                quoted(&format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))),
            ]);
        }
        for chunk in &self.body {
            words.extend(["--body".to_string(), quoted(chunk)]);
        }
        if self.seed != 1 {
            words.extend(["--seed".to_string(), self.seed.to_string()]);
        }
        words.extend(["--replay".to_string(), schedule.to_string()]);
        words.join(" ")
    }
}

/// As a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:,=".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn sentence(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done(seen) => format!("it comes to this result:\n{}", indented(seen)),
        Outcome::Deadlock(waiting) => format!("it deadlocks:\n{}", indented(waiting)),
        Outcome::Fault(reason) => format!("it fails: {reason}"),
    }
}

fn indented(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

fn so_far(progress: &Progress) -> String {
    let Progress { runs, states, choices, deviations, endless } = progress;
    let mut text = format!(
        "{runs} runs of up to {choices} choices, {states} states; up to {deviations} choices away from first come, first served"
    );
    if *endless > 0 {
        text.push_str(&format!("; {endless} runs were given up, they did not end"));
    }
    text
}

fn json(subject: &dyn Subject, explored: &Explored, rows: &[Row]) -> Result<String> {
    let Progress { runs, states, deviations, endless, .. } = explored.progress;
    let names = subject.names();
    let cell =
        |row: &Row| Cell { column: explore::name(row.column, &names), text: row.text.clone(), detail: row.detail };
    let finding = explored.finding.as_ref().map(|finding| Found {
        kind: kind(&finding.outcome),
        message: message(&finding.outcome),
        replay: finding.schedule.to_string(),
        first: finding.first.as_ref().map(message),
        rows: rows.iter().map(cell).collect(),
    });
    let document = Document { runs, states, deviations, endless, complete: explored.complete, finding };
    serde_json::to_string_pretty(&document).context("cannot write the report")
}

fn kind(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done(_) => "result",
        Outcome::Deadlock(_) => "deadlock",
        Outcome::Fault(_) => "fault",
    }
}

fn message(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Done(text) | Outcome::Deadlock(text) | Outcome::Fault(text) => text,
    }
}

fn print(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").context("cannot write to standard output")
}

fn read(file: &Path) -> Result<Link> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Link { name: file.display().to_string(), bytes })
}

fn request_line(text: &str) -> Result<(Method, Uri), String> {
    let wrong = || format!("`{text}` is not METHOD PATH, like `POST /path`");
    let (method, target) = text.split_once(' ').ok_or_else(wrong)?;
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| wrong())?;
    let target = target.parse().ok().filter(|_| target.starts_with('/')).ok_or_else(wrong)?;
    Ok((method, target))
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || format!("`{text}` is not NAME: VALUE");
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    Ok((name.trim().parse().map_err(|_| wrong())?, value.trim().parse().map_err(|_| wrong())?))
}

/// Guests that run on and on are stopped; nothing else takes real time.
fn watch_for_spinning(engine: Engine) -> Result<()> {
    let ticks = move || loop {
        std::thread::sleep(PAUSE);
        engine.increment_epoch();
    };
    let thread = std::thread::Builder::new().name("interflow-epoch".to_string()).spawn(ticks);
    thread.map(drop).context("cannot start the epoch thread")
}
