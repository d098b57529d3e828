//! What exploring schedules needs of a zone: who decides where the law leaves something open, and who takes note.
//!
//! A `State` has a `Watch` if its thread explored a run when it was made, and else asks nobody. Notes are taken of what comes to
//! an instance from outside of it: the start of a task or thread, an event, the result of a built-in, and a call of async type
//! that shims make by themselves, because its gate is never quite open (`GATE_WATCHED`). With that, what is in an instance
//! follows from its notes. Where calls of sync type are between instances, which nobody is asked for, the order of all notes
//! counts.

use super::state::{Ready, State};
use super::table::{EventCode, Kind};
use super::task::Cancel;
use super::waitable::Event;
use crate::component::plan::{Builtin, Pause, Plan, Then};
use crate::component::shims::record;
use crate::executor;
use crate::sim::{self, Choice, Column, Sim};
use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;

/// The thread's run, and the zone's number in it.
pub(crate) struct Watch {
    sim: Rc<Sim>,
    zone: u32,
}

impl Watch {
    /// A new zone in the run that this thread explores.
    pub fn current() -> Option<Watch> {
        sim::current().map(|sim| Watch { zone: sim.zone(), sim })
    }

    /// See `Sim::choose`.
    #[cold]
    pub fn choose(&self, choice: Choice, options: usize, rest: u64) -> usize {
        self.sim.choose(choice, options, rest)
    }

    fn column(&self, instance: u32) -> Column {
        Column::Instance(self.zone, instance)
    }
}

impl State {
    /// Asks to be asked for calls.
    pub(super) fn watch_gates(&mut self) {
        let Some(watch) = &self.watch else { return };
        let plan = &self.compiled.plan;
        let silent = |builtin: &Builtin| matches!(builtin, Builtin::EnterSyncCall);
        let sync = plan.adapters.iter().any(|adapter| !adapter.async_type);
        if sync || watch.zone > 0 || plan.trampolines.iter().any(|trampoline| silent(&trampoline.builtin)) {
            watch.sim.tell_all_orders_apart();
        }
        for instance in 0..plan.instances {
            self.records().set_gate(instance, record::GATE_WATCHED, true);
        }
    }

    /// What runs next. Behind the last that is ready: the host goes first.
    #[cold]
    pub(super) fn choose_ready(&mut self) -> Option<Ready> {
        let watch = self.watch.as_ref()?;
        if self.told_next().is_some() {
            return self.ready.pop_front();
        }
        let (others, who) = executor::others(&watch.sim);
        let jobs = self.ready.len();
        let state = sim::of_all(&self.ready).wrapping_mul(3).wrapping_add(who);
        let options = if jobs == 0 { 0 } else { jobs + usize::from(others) };
        let pick = watch.choose(Choice::Ready, options, state);
        if pick == jobs || watch.sim.is_stopped() {
            self.budget = 0;
            return None;
        }
        let ready = self.ready.remove(pick);
        if let Some(Ready::HostCall(_) | Ready::HostEnd(_)) = ready {
            watch.sim.polls((watch.zone, ready));
        }
        ready
    }

    /// Does the host answer before the guest goes on? Else `ready` has its turn later. `async_`: the guest does not wait.
    #[inline]
    pub(super) fn answers_at_once(&mut self, async_: bool, ready: Ready) -> bool {
        let Some(watch) = &self.watch else { return true };
        let may_wait = async_ || self.compiled.fibers;
        let later = may_wait && watch.choose(Choice::Answer, 2, sim::of_all(&self.ready)) == 1;
        if later {
            self.ready.push_back(ready);
        }
        !later
    }

    /// Does a thread that waits for an event of a set go on at once, if there is one?
    #[inline]
    pub(super) fn goes_on(&mut self, instance: u32, set: u32) -> bool {
        if self.watch.is_none() || self.is_told_next() {
            return true;
        }
        let Some(watch) = &self.watch else { return true };
        let slot = self.instances[instance as usize].handles.get(set).ok().filter(|slot| slot.kind == Kind::Set);
        let has_event = slot.is_some_and(|slot| self.sets[slot.object as usize].has_event());
        !(has_event && self.compiled.fibers && watch.choose(Choice::GoOn, 2, sim::of_all(&self.ready)) == 1)
    }

    /// Is the current task to be told of its cancellation as soon as it may be?
    fn is_told_next(&mut self) -> bool {
        let record = self.current_task();
        let task = self.task_of(record).and_then(|task| self.tasks.get(task as usize));
        task.is_some_and(|task| task.cancel == Cancel::Pending)
    }

    /// What comes to a task.
    #[inline]
    fn note_of(&self, task: u32, facts: impl Hash, line: impl FnOnce() -> String) {
        let Some(watch) = &self.watch else { return };
        let instance = self.tasks[task as usize].instance;
        watch.sim.note(watch.column(instance), facts, line);
    }

    /// A task starts.
    #[inline]
    pub(super) fn note_start(&self, task: u32) {
        self.note_of(task, ("start", task), || format!("task {task} starts"));
    }

    /// A thread goes on, or starts.
    #[inline]
    pub(super) fn note_thread(&self, thread: u32, value: u64) {
        let Some(watch) = &self.watch else { return };
        let instance = self.threads[thread as usize].instance;
        watch.sim.note(watch.column(instance), ("thread", thread, value), || format!("thread {thread} goes on"));
    }

    /// A task returns to a guest.
    #[inline]
    pub(super) fn note_return(&self, task: u32) {
        self.note_of(task, ("returns", task), || format!("task {task} returns"));
    }

    /// The host takes what a guest has written.
    #[inline]
    pub(super) fn note_host_read(&self, stream: u32, count: u32) {
        let Some(watch) = &self.watch else { return };
        watch.sim.note_detail(Column::Host, ("reads", watch.zone, stream, count), || format!("reads {count}"));
    }

    /// A callback gets an event.
    #[inline]
    pub(super) fn note_event(&self, task: u32, event: Event) {
        let facts = ("event", task, event.0 as u32, event.1, event.2);
        self.note_of(task, facts, || format!("task {task}: {}", event_text(event)));
    }

    /// A guest calls through adapter `n`.
    #[inline]
    pub(super) fn note_call(&self, n: u32, enters: bool) {
        let Some(watch) = &self.watch else { return };
        let adapter = &self.compiled.plan.adapters[n as usize];
        let (caller, callee) = (watch.column(adapter.caller), watch.column(adapter.callee));
        watch.sim.note(caller, ("calls", n, enters), || "calls".to_string());
        watch.sim.note(callee, ("called", n, enters), || match enters {
            true => "is called".to_string(),
            false => "is called, and not ready: the call waits".to_string(),
        });
    }
}

/// What takes note of the calls of one built-in.
#[derive(Clone)]
pub(super) struct Observed {
    instance: u32,
    name: Arc<str>,
    shape: Shape,
    /// It has no part in who goes on when.
    detail: bool,
}

/// What a result means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Shape {
    Nothing,
    Number,
    /// Two handles in 64 bits.
    Ends,
    /// `CopyResult` and progress, or blocked.
    Copy,
    /// An event's code.
    Code,
    /// A subtask's state and handle.
    Status,
}

impl Observed {
    /// What to take note of when `builtin` is called; nothing for helpers of adapters.
    pub fn of(plan: &Plan, builtin: &Builtin) -> Option<Observed> {
        use Builtin as B;
        let instance = match builtin {
            B::BackpressureInc { instance }
            | B::BackpressureDec { instance }
            | B::TaskReturn { instance, .. }
            | B::ResourceRep { instance, .. }
            | B::ErrorContextNew { instance, .. }
            | B::ErrorContextDebugMessage { instance, .. }
            | B::ErrorContextDrop { instance } => *instance,
            other => other.leaves()?,
        };
        let shape = match builtin {
            B::StreamNew { .. } | B::FutureNew { .. } => Shape::Ends,
            B::StreamRead { .. }
            | B::StreamWrite { .. }
            | B::FutureRead { .. }
            | B::FutureWrite { .. }
            | B::StreamCancelRead { .. }
            | B::StreamCancelWrite { .. }
            | B::FutureCancelRead { .. }
            | B::FutureCancelWrite { .. } => Shape::Copy,
            B::WaitableSetWait { .. } | B::WaitableSetPoll { .. } => Shape::Code,
            B::SubtaskCancel { .. } => Shape::Number,
            B::LowerImport { lowering, .. } => {
                let options = plan.lowerings[*lowering as usize].options;
                if plan.options[options as usize].async_ { Shape::Status } else { Shape::Number }
            }
            _ => Shape::Number,
        };
        let detail = match builtin {
            B::LowerImport { .. } => shape == Shape::Number,
            other => matches!(
                other,
                B::ResourceNew { .. }
                    | B::ResourceRep { .. }
                    | B::ResourceDrop { .. }
                    | B::WaitableSetNew { .. }
                    | B::WaitableSetDrop { .. }
                    | B::WaitableJoin { .. }
                    | B::ErrorContextNew { .. }
                    | B::ErrorContextDebugMessage { .. }
                    | B::ErrorContextDrop { .. }
            ),
        };
        Some(Observed { instance, name: name_of(plan, builtin).into(), shape, detail })
    }

    /// The built-in was called with `args` and has given `result`, if it gives one.
    pub fn note(&self, state: &State, args: &[u64], result: Option<u64>) {
        let Some(watch) = &state.watch else { return };
        let shape = if result.is_none() { Shape::Nothing } else { self.shape };
        let result = result.unwrap_or_default();
        let facts = (&*self.name, args, result);
        let column = watch.column(self.instance);
        let text = || {
            // Addresses in memory are of no interest.
            let shown: &[usize] = match (self.shape, args.len()) {
                (Shape::Copy, 3) => &[0, 2],
                (Shape::Copy | Shape::Code, _) => &[0],
                (Shape::Status, _) | (_, 3..) => &[],
                (_, 2) => &[0, 1],
                (_, 1) => &[0],
                _ => &[],
            };
            let args: Vec<String> = shown.iter().map(|at| args[*at].to_string()).collect();
            format!("{}({}){}", self.name, args.join(", "), shape.text(result))
        };
        match self.detail || (shape, result) == (Shape::Code, 0) {
            true => watch.sim.note_detail(column, facts, text),
            false => watch.sim.note(column, facts, text),
        }
    }
}

/// `stream.read`; for a function of the host its own name.
fn name_of(plan: &Plan, builtin: &Builtin) -> String {
    match builtin {
        Builtin::LowerImport { lowering, .. } => {
            let import = plan.lowerings[*lowering as usize].import;
            let name = &plan.imports[import as usize].name;
            name.path.last().unwrap_or(&name.outer).clone()
        }
        Builtin::ThreadPause { pause, then, .. } => {
            let pause = if *pause == Pause::Suspend { "suspend" } else { "yield" };
            match then {
                Then::Anyone => format!("thread.{pause}"),
                Then::Resume => format!("thread.{pause}-then-resume"),
                Then::Promote => format!("thread.{pause}-then-promote"),
            }
        }
        Builtin::ResourceNew { .. } => "resource.new".to_string(),
        other => {
            let debug = format!("{other:?}");
            let variant = debug.split([' ', '(']).next().unwrap_or_default();
            spec_name(variant)
        }
    }
}

/// `WaitableSetNew` is `waitable-set.new`.
fn spec_name(variant: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for letter in variant.chars() {
        match words.last_mut() {
            Some(word) if letter.is_lowercase() => word.push(letter),
            _ => words.push(letter.to_lowercase().to_string()),
        }
    }
    let of_two = variant.starts_with("WaitableSet") || variant.starts_with("ErrorContext");
    let (noun, verb) = words.split_at(if of_two { 2 } else { 1 }.min(words.len()));
    format!("{}.{}", noun.join("-"), verb.join("-"))
}

impl Shape {
    fn text(self, result: u64) -> String {
        match self {
            Shape::Nothing => String::new(),
            Shape::Number if result == u64::from(super::BLOCKED) => " -> waits".to_string(),
            Shape::Number => format!(" -> {result}"),
            Shape::Ends => format!(" -> {}, {}", result & 0xffff_ffff, result >> 32),
            Shape::Copy => format!(" -> {}", copy_text(result as u32)),
            Shape::Code => match EVENTS.get(result as usize) {
                Some(event) => format!(" -> {event}"),
                None => " -> waits".to_string(),
            },
            Shape::Status => match (STATES.get(result as usize & 0xf), result >> 4) {
                (Some(state), 0) => format!(" -> {state}"),
                (Some(state), handle) => format!(" -> {state}, subtask {handle}"),
                (None, _) => format!(" -> {result}"),
            },
        }
    }
}

const EVENTS: [&str; 7] =
    ["no event", "SUBTASK", "STREAM_READ", "STREAM_WRITE", "FUTURE_READ", "FUTURE_WRITE", "TASK_CANCELLED"];

const STATES: [&str; 5] = ["starting", "started", "returned", "cancelled before started", "cancelled before returned"];

fn copy_text(result: u32) -> String {
    let progress = result >> 4;
    match (result, result & 0xf) {
        (super::BLOCKED, _) => "blocked".to_string(),
        (_, 0) => format!("completed {progress}"),
        (_, 1) => format!("dropped {progress}"),
        (_, 2) => format!("cancelled {progress}"),
        _ => result.to_string(),
    }
}

fn event_text((code, p1, p2): Event) -> String {
    let name = EVENTS.get(code as usize).copied().unwrap_or("an event");
    match code {
        EventCode::None => "its turn".to_string(),
        EventCode::TaskCancelled => name.to_string(),
        EventCode::Subtask => {
            let state = STATES.get(p2 as usize).copied().unwrap_or("another state");
            format!("{name} {p1} {state}")
        }
        _ => format!("{name} {p1} {}", copy_text(p2)),
    }
}
