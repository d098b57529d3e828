//! All schedules of a small program: what it can end in, and the shortest way there.
//! Breadth first over *turns* (from one choice of the scheduler to the next), so the first schedule that shows something is
//! a shortest one. Worlds that are equal and have shown the same are visited once.
//! Knows nothing of what a program is meant to do: it reports, the reader judges.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt::Write;
use std::sync::Arc;

use crate::elem::InstanceId;
use crate::op::{Outcome, Record};
use crate::sched::{Cx, Replay, exhaustive, run};
use crate::world::{Ending, Progress, World};

/// What each body saw, in its own order: position in its list, and what.
pub type Views = BTreeMap<(InstanceId, u32), Vec<(u32, Outcome)>>;

/// A way in which the program can end.
#[derive(Clone, Debug)]
pub struct End {
    /// How it ends.
    pub ending: Ending,
    /// What the bodies saw.
    pub views: Views,
    /// The picks of a shortest schedule that ends like this.
    pub picks: Vec<u8>,
}

/// What all schedules together show.
pub struct Explored {
    /// All ends, those with the shortest schedules first.
    pub ends: Vec<End>,
    /// Worlds visited.
    pub worlds: usize,
    /// False if the bound was reached before all schedules were.
    pub complete: bool,
    /// A schedule after which an invariant of the model did not hold, and which one.
    pub violation: Option<(Vec<u8>, String)>,
    start: World,
}

/// Something that a reader wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Finding {
    /// Some schedule breaks a rule.
    Trap,
    /// Every schedule ends with somebody waiting for ever.
    Hang,
    /// Some schedules end with somebody waiting for ever, others don't.
    LostWakeUp,
    /// What bodies see depends on the schedule.
    ScheduleDependent,
}

/// Steps of a turn after which it is taken to be endless, as when a body calls itself.
const TURN_STEPS_MAX: u32 = 10_000;

struct Node {
    world: World,
    views: Views,
    picks: Vec<u8>,
}

/// Visits all schedules, or the shortest ones up to `worlds_max` worlds.
pub fn explore(start: World, worlds_max: usize) -> Explored {
    let mut explored = Explored { ends: Vec::new(), worlds: 0, complete: true, violation: None, start: start.clone() };
    let mut seen: HashSet<Arc<(World, Views)>> = HashSet::new();
    let mut ended: HashSet<(Ending, Views)> = HashSet::new();
    let mut open = VecDeque::from([Node { world: start, views: Views::new(), picks: Vec::new() }]);
    while let Some(node) = open.pop_front() {
        explored.worlds += 1;
        if let (None, Err(violation)) = (&explored.violation, node.world.check_invariants()) {
            explored.violation = Some((node.picks.clone(), violation));
        }
        if explored.worlds >= worlds_max {
            explored.complete = false;
            break;
        }
        exhaustive(|replay| match turn(&node, replay) {
            (next, Progress::Idle) => {
                let ending = next.world.ending();
                if ended.insert((ending.clone(), next.views.clone())) {
                    explored.ends.push(End { ending, views: next.views, picks: next.picks });
                }
            }
            (next, Progress::Ran) if !next.world.between_turns() && next.world.trapped.is_none() => {
                explored.complete = false;
            }
            (next, Progress::Ran) => {
                if seen.insert(Arc::new((next.world.clone(), next.views.clone()))) {
                    open.push_back(next);
                }
            }
        });
    }
    explored
}

/// From one choice of the scheduler to the next.
fn turn(node: &Node, replay: &mut Replay) -> (Node, Progress) {
    let Node { mut world, mut views, mut picks } =
        Node { world: node.world.clone(), views: node.views.clone(), picks: node.picks.clone() };
    let mut log = Vec::new();
    let mut steps = 0;
    let progress = loop {
        steps += 1;
        let progress = world.advance(&mut Cx { chooser: replay, log: &mut log });
        let over = world.between_turns() || world.trapped.is_some() || steps == TURN_STEPS_MAX;
        if progress == Progress::Idle || over {
            break progress;
        }
    };
    for Record { inst, run, at, outcome } in log {
        views.entry((inst, run)).or_default().push((at, outcome));
    }
    picks.extend_from_slice(&replay.picks[..replay.options.len()]);
    (Node { world, views, picks }, progress)
}

impl Explored {
    /// What is worth telling, each with the end that has the shortest schedule to it.
    pub fn findings(&self) -> Vec<(Finding, &End)> {
        let first = |wanted: fn(&End) -> bool| self.ends.iter().find(|end| wanted(end));
        let done: Vec<&End> = self.ends.iter().filter(|end| end.ending == Ending::Done).collect();
        let mut findings = Vec::new();
        if let Some(end) = first(|end| matches!(end.ending, Ending::Trapped(_))) {
            findings.push((Finding::Trap, end));
        }
        if let Some(end) = first(|end| matches!(end.ending, Ending::Stuck(_))) {
            let always = done.is_empty();
            findings.push((if always { Finding::Hang } else { Finding::LostWakeUp }, end));
        }
        if let [_, other, ..] = done[..] {
            findings.push((Finding::ScheduleDependent, other));
        }
        findings
    }

    /// The findings in words, each with its schedule as a table.
    pub fn report(&self) -> String {
        let mut text = String::new();
        let schedules = if self.complete { "all schedules" } else { "the shortest schedules" };
        let _ = writeln!(text, "{schedules}: {} worlds, {} ends", self.worlds, self.ends.len());
        for (finding, end) in self.findings() {
            let _ = writeln!(text, "\n{}", sentence(finding, end));
            text.push_str(&table(&self.start, &end.picks));
        }
        if let Some((picks, violation)) = &self.violation {
            let _ = writeln!(text, "\nthe model contradicts itself: {violation}");
            text.push_str(&table(&self.start, picks));
        }
        text
    }
}

fn sentence(finding: Finding, end: &End) -> String {
    match (finding, &end.ending) {
        (Finding::Trap, Ending::Trapped(rule)) => format!("a schedule traps: {rule}"),
        (Finding::Hang, Ending::Stuck(waiting)) => format!("every schedule hangs; waiting: {}", places(waiting)),
        (Finding::LostWakeUp, Ending::Stuck(waiting)) => {
            format!("a schedule loses a wake-up; waiting: {}", places(waiting))
        }
        _ => "what bodies see depends on the schedule; one of the others:".to_owned(),
    }
}

fn places(waiting: &[(InstanceId, u32, u32)]) -> String {
    let place = |&(inst, run, at): &(InstanceId, u32, u32)| format!("{} at {at}", body(inst, run));
    waiting.iter().map(place).collect::<Vec<_>>().join(", ")
}

fn body(inst: InstanceId, run: u32) -> String {
    match inst {
        InstanceId::HOST => format!("host.{run}"),
        InstanceId(inst) => format!("{inst}.{run}"),
    }
}

/// Who did what in a schedule: a row per record, a column per body.
pub fn table(start: &World, picks: &[u8]) -> String {
    let run = run(start.clone(), &mut Replay::new(picks.to_vec()));
    let bodies = columns(&run.log);
    let cell = |record: &Record| {
        let script = run.world.instances[record.inst.index()].bodies.get(record.run.wrapping_sub(1) as usize);
        let op = script.and_then(|&script| start.program().op(script, record.at));
        let op = op.filter(|_| !matches!(record.outcome, Outcome::Start(_)));
        op.map_or(shown(&record.outcome), |op| format!("{op} -> {}", shown(&record.outcome)))
    };
    let cells: Vec<String> = run.log.iter().map(cell).collect();
    let column = |record: &Record| bodies.iter().position(|&body| body == (record.inst, record.run));
    let width = |column_at: usize| {
        let own = run.log.iter().zip(&cells).filter(|(record, _)| column(record) == Some(column_at));
        own.map(|(_, cell)| cell.len()).max().unwrap_or(0).max(6)
    };
    let widths: Vec<usize> = (0..bodies.len()).map(width).collect();
    let mut text = String::new();
    row(&mut text, &widths, |at| body(bodies[at].0, bodies[at].1));
    for (record, cell) in run.log.iter().zip(&cells) {
        row(&mut text, &widths, |at| if column(record) == Some(at) { cell.clone() } else { String::new() });
    }
    text
}

fn columns(log: &[Record]) -> Vec<(InstanceId, u32)> {
    let mut bodies: Vec<_> = log.iter().map(|record| (record.inst, record.run)).collect();
    bodies.sort_unstable();
    bodies.dedup();
    bodies
}

fn row(text: &mut String, widths: &[usize], cell: impl Fn(usize) -> String) {
    let cells: Vec<String> = widths.iter().enumerate().map(|(at, &width)| format!("{:width$}", cell(at))).collect();
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

fn shown(outcome: &Outcome) -> String {
    let record = Record { inst: InstanceId::HOST, run: 0, at: 0, outcome: outcome.clone() }.to_string();
    record.strip_prefix("0.0.0 ").map_or(record.clone(), str::to_owned)
}
