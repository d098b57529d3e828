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

/// Tries schedules of `subject`. `tell` hears of the progress after each run.
pub(crate) fn explore(subject: &dyn Subject, seed: u64, bounds: Bounds, mut tell: impl FnMut(&Progress)) -> Explored {
    let start = Instant::now();
    let known = Known::default();
    let mut explored = Explored { progress: Progress::default(), complete: true, finding: None };
    let mut open = VecDeque::from([Schedule::default()]);
    let mut first = None;
    while let Some(schedule) = open.pop_front() {
        let progress = &mut explored.progress;
        if progress.runs >= bounds.runs || start.elapsed() >= bounds.time {
            explored.complete = false;
            break;
        }
        let (outcome, trace) = run(subject, &schedule, seed, false, Some(known.clone()));
        progress.runs += 1;
        progress.deviations = schedule.deviations();
        progress.choices = progress.choices.max(trace.options.len());
        progress.states = known.borrow().len();
        tell(progress);
        match trace.stopped {
            Some(Stopped::Endless) => {
                progress.endless += 1;
                explored.complete = false;
            }
            Some(Stopped::Known | Stopped::NoSuchOption) => {}
            None => {
                if let Some(finding) = judge(&schedule, &outcome, first.as_ref()) {
                    explored.finding = Some(finding);
                    explored.complete = false;
                    break;
                }
                first.get_or_insert(outcome);
            }
        }
        let room = bounds.runs.saturating_sub(progress.runs).saturating_sub(open.len() as u64);
        let next = deviations(&schedule, &trace);
        if schedule.deviations() < bounds.deviations {
            let before = open.len();
            open.extend(next.take(usize::try_from(room).unwrap_or(usize::MAX)));
            explored.complete &= ((open.len() - before) as u64) < room;
        } else {
            explored.complete &= next.count() == 0;
        }
    }
    explored
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
