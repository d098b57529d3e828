//! Tries the schedules of a composition on the engine itself, until one deadlocks, traps or comes to another result.
//!
//! Instances cannot be copied, so each schedule is run from the start: clock, randomness and clients are virtual (`sim`), and
//! wherever something is left open (who runs next, which event comes first, when the host answers), the schedule says what is
//! taken. The first options together are what a server does that has nobody else to serve. From there the search goes outwards
//! by the number of choices that are not the first, so that what it finds first has few. A run ends where it meets a state
//! that an earlier one has been in.
//! `chain` and `script` say what is run, `table` prints it. Knows nothing of the command line.

mod chain;
mod script;
mod table;

pub(crate) use chain::{Chain, ChainError, Request};
pub(crate) use script::{Script, ScriptError};
pub(crate) use table::{name, table};

use crate::sim::{Schedule, Sim, Stopped, Trace};
use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What is run again and again.
pub(crate) trait Subject {
    /// Runs it as the schedule of `sim`, the thread's run, says. What comes of a run that is stopped is of no interest.
    fn run(&self, sim: &Rc<Sim>) -> Outcome;

    /// Does time pass in timers of guests alone, so that others may be slower than they?
    fn has_timers(&self) -> bool;

    /// What the columns of its instances are called: zone, instance, name.
    fn names(&self) -> Vec<(u32, u32, String)>;
}

/// What comes of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It comes to its end, and this is what is seen from outside.
    Done(String),
    /// Nobody can go on, though not all is done: who waits for what.
    Deadlock(String),
    /// An instance has trapped, or does not hold what a script promises.
    Fault(String),
}

/// Where to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub runs: u64,
    pub time: Duration,
    /// Choices of one schedule that are not the first.
    pub deviations: usize,
}

/// What was found.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub schedule: Schedule,
    pub outcome: Outcome,
    /// What the schedule of first choices comes to, if that is another.
    pub first: Option<Outcome>,
}

/// How far the search has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub runs: u64,
    /// States in which there was a choice.
    pub states: usize,
    /// Choices of the longest run.
    pub choices: usize,
    /// Deviations of the schedules that are being tried.
    pub deviations: usize,
    /// Runs that made so many choices that they were given up.
    pub endless: u64,
}

/// What the search has come to.
#[derive(Clone, Debug)]
pub(crate) struct Explored {
    pub progress: Progress,
    /// All schedules were tried, or such that come to the same.
    pub complete: bool,
    pub finding: Option<Finding>,
}

/// States in which there was a choice.
type Known = Rc<RefCell<HashSet<u64>>>;

/// Tries schedules of `subject` until one is worth telling. `tell` hears of the progress after each run.
pub(crate) fn explore(subject: &dyn Subject, seed: u64, bounds: Bounds, mut tell: impl FnMut(&Progress)) -> Explored {
    let mut first = None;
    let mut finding = None;
    let (progress, complete) = search(subject, seed, bounds, Some(Known::default()), |schedule, progress, outcome| {
        tell(progress);
        let Some(outcome) = outcome else { return ControlFlow::Continue(()) };
        finding = judge(schedule, &outcome, first.as_ref());
        first.get_or_insert(outcome);
        if finding.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    Explored { progress, complete, finding }
}

/// Runs schedules, those with few deviations first, and tells `see` of each and of what came of it, if it came to its end. Runs
/// end where they meet what is `known`, if anything is to be known. Gives how far it came, and whether that was all.
fn search(
    subject: &dyn Subject,
    seed: u64,
    bounds: Bounds,
    known: Option<Known>,
    mut see: impl FnMut(&Schedule, &Progress, Option<Outcome>) -> ControlFlow<()>,
) -> (Progress, bool) {
    let start = Instant::now();
    let (mut progress, mut complete) = (Progress::default(), true);
    let mut open = VecDeque::from([Schedule::default()]);
    while let Some(schedule) = open.pop_front() {
        if progress.runs >= bounds.runs || start.elapsed() >= bounds.time {
            return (progress, false);
        }
        let (outcome, trace) = run(subject, &schedule, seed, false, known.clone());
        progress.runs += 1;
        progress.deviations = schedule.deviations();
        progress.choices = progress.choices.max(trace.options.len());
        progress.states = known.as_ref().map_or(0, |known| known.borrow().len());
        if trace.stopped == Some(Stopped::Endless) {
            progress.endless += 1;
            complete = false;
        }
        let outcome = trace.stopped.is_none().then_some(outcome);
        if see(&schedule, &progress, outcome).is_break() {
            return (progress, false);
        }
        let mut next = deviations(&schedule, &trace).peekable();
        if schedule.deviations() < bounds.deviations {
            let room = bounds.runs.saturating_sub(progress.runs).saturating_sub(open.len() as u64);
            open.extend(next.by_ref().take(usize::try_from(room).unwrap_or(usize::MAX)));
        }
        complete &= next.peek().is_none();
    }
    (progress, complete)
}

/// A run whose rows are kept. The schedule may have come from elsewhere: `None` if it has an option that there is not.
pub(crate) fn replay(subject: &dyn Subject, seed: u64, schedule: &Schedule) -> Option<(Outcome, Trace)> {
    let (outcome, trace) = run(subject, schedule, seed, true, None);
    let fits = trace.stopped != Some(Stopped::NoSuchOption) && schedule.end() as usize <= trace.options.len();
    fits.then_some((outcome, trace))
}

fn run(subject: &dyn Subject, schedule: &Schedule, seed: u64, traced: bool, known: Option<Known>) -> (Outcome, Trace) {
    let known =
        known.map(|known| -> Box<dyn FnMut(u64) -> bool> { Box::new(move |state| !known.borrow_mut().insert(state)) });
    let mut sim = Sim::new(schedule.clone(), seed, traced, known);
    sim.early_timers = subject.has_timers();
    let sim = Rc::new(sim);
    let entered = sim.enter();
    let outcome = subject.run(&sim);
    drop(entered);
    (outcome, sim.finish())
}

/// Is this worth telling?
fn judge(schedule: &Schedule, outcome: &Outcome, first: Option<&Outcome>) -> Option<Finding> {
    let worth = match (outcome, first) {
        (Outcome::Deadlock(_) | Outcome::Fault(_), _) => true,
        (Outcome::Done(_), first) => first.is_some_and(|first| first != outcome),
    };
    worth.then(|| Finding { schedule: schedule.clone(), outcome: outcome.clone(), first: first.cloned() })
}

/// The schedules that go another way at one choice which `schedule` leaves to the first option.
fn deviations<'a>(schedule: &'a Schedule, trace: &'a Trace) -> impl Iterator<Item = Schedule> + 'a {
    let known = usize::from(trace.stopped == Some(Stopped::Known));
    let end = trace.options.len().saturating_sub(known);
    (schedule.end()..end as u32).flat_map(move |position| {
        (1..trace.options[position as usize]).map(move |option| schedule.with(position, option))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component;
    use std::collections::BTreeSet;

    /// What can come of a script within `deviations`, and how many runs it took to know.
    fn ends(name: &str, text: &str, deviations: usize, known: Option<Known>) -> (BTreeSet<String>, Progress, bool) {
        let engine = component::engine().expect("the engine starts");
        let script = Script::new(&engine, name.to_string(), text.to_string()).expect("a script");
        let bounds = Bounds { runs: 20_000, time: Duration::from_secs(600), deviations };
        let mut ends = BTreeSet::new();
        let (progress, complete) = search(&script, 1, bounds, known, |_, _, outcome| {
            ends.extend(outcome.map(|outcome| format!("{outcome:?}")));
            ControlFlow::Continue(())
        });
        (ends, progress, complete)
    }

    #[test]
    fn what_is_left_out_comes_to_what_was_seen() {
        macro_rules! scripts {
            ($($path:literal),* $(,)?) => {
                [$(($path, include_str!(concat!("../../../tests/", $path)))),*]
            };
        }
        let scripts = scripts![
            "schedules/first-of-two.wast",
            "schedules/both-of-two.wast",
            "schedules/two-callees.wast",
            "conformance/cancel/host-call.wast",
            "conformance/waiting/set-wait.wast",
            "conformance/calls/exclusive-over-a-wait.wast",
        ];
        let mut found = 0;
        for (name, text) in scripts {
            // Without what is known there is no end: who gives way may do so again.
            let (all, all_progress, _) = ends(name, text, 3, None);
            let (seen, progress, complete) = ends(name, text, usize::MAX, Some(Known::default()));
            println!("{name}: {} ends; {} runs, {} within 3 deviations", seen.len(), progress.runs, all_progress.runs);
            assert!(complete && all_progress.runs < 20_000, "{name}");
            assert!(all.is_subset(&seen), "{name}: {seen:?}, but there is {all:?}");
            found += seen.len() - 1;
        }
        assert!(found > 0, "some have more than one end");
    }
}
