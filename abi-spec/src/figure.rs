//! Figures, drawn by watching the model: the life of a subtask, and of an end of a stream.
//! Random programs are run; every change of state that a step makes becomes an arrow with the operation's name.
//! Knows nothing of the law, so a figure shows no arrow that the model doesn't go.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use crate::elem::InstanceId;
use crate::generate::{Shape, program};
use crate::op::{Kind, Op, Outcome, Record};
use crate::profile::Profile;
use crate::sched::{Cx, Seeded};
use crate::stream::CopyState;
use crate::task::SubtaskState;
use crate::waitable::{Waitable, WaitableKind};
use crate::world::{Code, Frame, Progress, World};

/// Programs that are watched.
const PROGRAMS: u64 = 6000;

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A subtask that has a handle.
    Subtask,
    /// An end of a stream.
    StreamEnd,
}

/// From, to, and the operations that do it. `[*]` is what is before and after.
type Arrows = BTreeMap<(String, String), BTreeSet<String>>;

/// The life of the subject as a Mermaid state diagram.
pub fn figure(subject: Subject) -> String {
    let mut arrows = Arrows::new();
    for seed in 1..=PROGRAMS {
        let shape = [Shape::Single, Shape::Calls, Shape::Threads][seed as usize % 3];
        let code = Code { program: program(shape, seed), extensions: Vec::new() };
        watch(subject, World::new(Profile::R1, Arc::new(code)), seed, &mut arrows);
    }
    let mut text = "stateDiagram-v2\n".to_owned();
    for ((from, to), causes) in arrows {
        let causes: Vec<String> = causes.into_iter().collect();
        let _ = writeln!(text, "    {from} --> {to}: {}", causes.join(", "));
    }
    text
}

/// Who it is (its place in the model and in its table), and its state.
type States = BTreeMap<(u32, InstanceId, u32), String>;

fn watch(subject: Subject, mut world: World, seed: u64, arrows: &mut Arrows) {
    let mut chooser = Seeded::new(seed);
    let mut before = States::new();
    loop {
        let op = next_op(&world);
        let mut log = Vec::new();
        let progress = world.advance(&mut Cx { chooser: &mut chooser, log: &mut log });
        if progress == Progress::Idle || world.trapped.is_some() {
            return;
        }
        let cause = cause(&world, op, log.last());
        let waitables = world.waitables.iter();
        let after: States = waitables
            .filter_map(|(id, waitable)| Some(((id, waitable.inst, waitable.index), state(subject, waitable)?)))
            .collect();
        let keys: BTreeSet<_> = before.keys().chain(after.keys()).copied().collect();
        for key in keys {
            let state = |states: &States| states.get(&key).cloned().unwrap_or("[*]".to_owned());
            let (from, to) = (state(&before), state(&after));
            if from != to {
                let cause = told_apart(&cause, &from, &to);
                arrows.entry((from, to)).or_default().insert(cause);
            }
        }
        before = after;
    }
}

/// The operation that the running thread does next.
fn next_op(world: &World) -> Option<Op> {
    let Some(&Frame::Thread(t)) = world.stack.last() else { return None };
    let thread = &world.threads[t];
    world.program().op(thread.script?, thread.pc)
}

/// What the step did, in a few words.
fn cause(world: &World, op: Option<Op>, record: Option<&Record>) -> String {
    let logged = record.and_then(|record| {
        let bodies = &world.instances[record.inst.index()].bodies;
        world.program().op(*bodies.get(record.run.wrapping_sub(1) as usize)?, record.at)
    });
    match (record.map(|record| &record.outcome), logged.or(op)) {
        (Some(Outcome::Start(_)), _) => "the callee starts".to_owned(),
        (Some(Outcome::Event(..)), _) => "event".to_owned(),
        (_, Some(op)) => family(op),
        (_, None) => "the callee returns".to_owned(),
    }
}

fn family(op: Op) -> String {
    match op {
        Op::Copy { .. } => "read, write".to_owned(),
        Op::CancelCopy { .. } => "cancel".to_owned(),
        Op::DropEnd { .. } => "drop".to_owned(),
        Op::New { .. } => "new".to_owned(),
        Op::TaskReturn { .. } | Op::Resolve { .. } | Op::Return { .. } => "the callee returns".to_owned(),
        op => op.to_string().split(' ').next().unwrap_or_default().to_owned(),
    }
}

/// `resolve` is either of two operations, and an end that comes or goes with a value is passed on.
fn told_apart(cause: &str, from: &str, to: &str) -> String {
    match (cause, from, to) {
        ("the callee returns", _, to) if to.starts_with("CANCELLED") => "task.cancel".to_owned(),
        ("call" | "the callee starts" | "the callee returns" | "read, write", "[*]", "IDLE")
        | ("call" | "the callee starts" | "the callee returns" | "read, write", "IDLE", "[*]") => {
            "passed on".to_owned()
        }
        _ => cause.to_owned(),
    }
}

fn state(subject: Subject, waitable: &Waitable) -> Option<String> {
    match (subject, &waitable.kind) {
        (Subject::Subtask, WaitableKind::Subtask(subtask)) if waitable.index != 0 => {
            let name = match subtask.state {
                SubtaskState::Starting => "STARTING",
                SubtaskState::Started => "STARTED",
                SubtaskState::Returned => "RETURNED",
                SubtaskState::CancelledBeforeStarted => "CANCELLED_BEFORE_STARTED",
                SubtaskState::CancelledBeforeReturned => "CANCELLED_BEFORE_RETURNED",
            };
            Some(format!("{name}{}", if subtask.resolve_delivered { "_delivered" } else { "" }))
        }
        (Subject::StreamEnd, WaitableKind::End(end)) if end.t.kind == Kind::Stream => {
            let name = match end.state {
                CopyState::Idle => "IDLE",
                CopyState::Copying => "COPYING",
                CopyState::Cancelling => "CANCELLING_COPY",
                CopyState::Done => "DONE",
            };
            Some(name.to_owned())
        }
        _ => None,
    }
}
