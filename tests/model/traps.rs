//! Which rule of the model each message of the runtime is about.
//! Where an operation breaks several rules the runtime may name any of them. So the model is asked again without the rule that
//! it has named itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use abi_spec::accept::Acceptor;
use abi_spec::ext::shipped;
use abi_spec::op::{Kind, Mode, Op};
use abi_spec::profile::{Profile, Rule};
use abi_spec::program::Program;
use abi_spec::world::{Code, MEMORY, World};

use super::run::Shown;

/// Parts of messages, and the rules that they name.
const NAMES: &[(&str, &[Rule])] = &[
    ("cannot enter component instance", &[Rule::MayEnter]),
    ("exited without calling `task.return`", &[Rule::ThreadsResolve]),
    ("more than once for current task", &[Rule::ReturnOnce, Rule::CancelDelivered]),
    ("by a task that has not been cancelled", &[Rule::CancelDelivered]),
    ("invalid `task.return` signature", &[Rule::TaskReturnAsync, Rule::TaskCancelAsync]),
    ("borrow handles still remain", &[Rule::ReturnBorrows, Rule::CancelBorrows]),
    ("unknown handle index", &[Rule::Handle]),
    ("unknown thread index", &[Rule::Handle]),
    (", not a ", &[Rule::Handle]),
    (", not the readable end", &[Rule::Handle]),
    ("of another type", &[Rule::ElemType, Rule::TransferElem, Rule::ResourceType]),
    ("used with the wrong type", &[Rule::ResourceType]),
    ("not a resource of the expected type", &[Rule::ResourceType]),
    ("cannot remove owned resource while borrowed", &[Rule::OwnLent, Rule::DropLent]),
    ("cannot lift own resource from a borrow", &[Rule::OwnOwned]),
    ("cannot drop waitable set with waiters", &[Rule::SetDropNoWaiters]),
    ("waitables are in it", &[Rule::SetDropEmpty]),
    ("cannot drop a subtask which has not yet resolved", &[Rule::SubtaskDropDelivered]),
    ("called after terminal status delivered", &[Rule::SubtaskCancelDelivered]),
    ("called twice for one subtask", &[Rule::SubtaskCancelTwice]),
    ("count too large", &[Rule::BufferLength]),
    ("is not aligned to", &[Rule::BufferAligned]),
    ("stream buffer is out of bounds", &[Rule::BufferInBounds]),
    ("intra-component", &[Rule::SameInstance]),
    ("cannot drop busy", &[Rule::DropCopying]),
    ("without first writing a value", &[Rule::FutureWritten]),
    ("cannot lift busy", &[Rule::TransferIdle]),
    ("cannot lift stream after", &[Rule::TransferIdle]),
    ("cannot lift future after", &[Rule::TransferIdle]),
    ("while it's in a waitable set", &[Rule::TransferNotInSet]),
    ("unsupported callback code", &[Rule::CallbackCode]),
    ("cannot block a synchronous task", &[Rule::CannotBlock]),
    ("a synchronous task waits", &[Rule::CannotBlock]),
    ("cannot leave component instance", &[Rule::MayLeave]),
    ("backpressure counter overflow", &[Rule::BackpressureMax]),
    ("backpressure counter underflow", &[Rule::BackpressureMin]),
    ("cannot have concurrent operations", &[Rule::CopyIdle]),
    ("cannot read from ", &[Rule::CopyIdle]),
    ("cannot write to ", &[Rule::CopyIdle]),
    // Set or synchronous operation, whichever came first.
    (
        "while added to a waitable set",
        &[Rule::CopySyncInSet, Rule::CancelSyncInSet, Rule::SubtaskCancelSyncInSet, Rule::JoinSyncWaiter],
    ),
    ("no operation is in progress", &[Rule::CancelCopying, Rule::CancelSyncWaiter]),
    ("ends of different types", &[Rule::ElemType]),
    ("the end is busy or done", &[Rule::ForwardIdle]),
    ("the end is in a waitable set", &[Rule::ForwardNotInSet]),
    ("only numbers can be read ahead", &[Rule::ElemType]),
    ("cannot read ahead", &[Rule::ReadAheadBehind]),
    ("reads in flight are too large", &[Rule::BufferLength]),
    ("which is not suspended", &[Rule::ResumeSuspended, Rule::SwitchSuspended]),
];

/// Faults of one operation that are looked for.
const FAULTS_MAX: usize = 4;

/// `Err` says what the message is about, and what it should be about: the worlds are those that the log's trap ended.
pub fn agree(program: &Program, shown: &Shown, message: &str, worlds: &[World]) -> Result<(), String> {
    let message = message.lines().next().unwrap_or_default();
    let named: BTreeSet<Rule> =
        NAMES.iter().filter(|(part, _)| message.contains(part)).flat_map(|(_, rules)| rules.iter().copied()).collect();
    let mut broken = BTreeSet::new();
    let mut open: Vec<Rule> = worlds.iter().filter_map(|world| world.trapped).collect();
    // A synchronous operation that may not block is that before it is anything else.
    if worlds.iter().filter_map(World::trapped_op).any(|op| is_synchronous(&op)) {
        broken.insert(Rule::CannotBlock);
    }
    // A task may return once, and with nothing borrowed, whatever it returns.
    broken.extend(worlds.iter().flat_map(World::wrong_return));
    // A buffer can be wrong whatever else is.
    broken.extend(worlds.iter().filter_map(World::trapped_op).flat_map(|op| wrong_buffer(&op)));
    while let Some(rule) = open.pop() {
        if broken.insert(rule) && broken.len() < FAULTS_MAX && named.is_disjoint(&broken) && rule.flippable() {
            open.extend(faults(program, shown, rule));
        }
    }
    match named.is_disjoint(&broken) {
        true => Err(format!("the trap \"{message}\" is about {named:?}, but what was broken is {broken:?}")),
        false => Ok(()),
    }
}

/// A part of the message that names the rule.
pub fn part(rule: Rule) -> &'static str {
    NAMES.iter().find(|(_, rules)| rules.contains(&rule)).map_or("", |(part, _)| *part)
}

fn wrong_buffer(op: &Op) -> Vec<Rule> {
    let Op::Copy { t, ptr, n, .. } = *op else { return Vec::new() };
    let bytes = t.elem.size() * if t.kind == Kind::Future { 1 } else { n };
    let faults = [
        (Rule::BufferAligned, !ptr.is_multiple_of(t.elem.alignment())),
        (Rule::BufferInBounds, ptr as usize + bytes as usize > MEMORY),
    ];
    faults.into_iter().filter(|(_, wrong)| *wrong && bytes > 0).map(|(rule, _)| rule).collect()
}

fn is_synchronous(op: &Op) -> bool {
    matches!(
        op,
        Op::Copy { mode: Mode::Sync, .. }
            | Op::CancelCopy { mode: Mode::Sync, .. }
            | Op::SubtaskCancel { mode: Mode::Sync, .. }
    )
}

/// What the log's trap is about if this rule does not hold.
fn faults(program: &Program, shown: &Shown, without: Rule) -> Vec<Rule> {
    let code = Code { program: program.clone(), extensions: shipped() };
    let world = World::new(Profile::INTERFLOW.without(without), Arc::new(code));
    let mut acceptor = Acceptor::new(world).with_silent_host();
    match shown.log.iter().try_for_each(|record| acceptor.observe(record)) {
        Ok(()) => acceptor.worlds().iter().filter_map(|world| world.trapped).collect(),
        Err(_) => Vec::new(),
    }
}
