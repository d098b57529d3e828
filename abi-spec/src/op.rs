//! Operations of guests and what they see of them.
//! One variant per family of built-ins, with symbolic slots in place of handles; `Display` prints the specification's names.
//! Knows nothing of the rules; `world` executes.

use crate::elem::{Elem, InstanceId};
use crate::profile::Rule;

/// Where a guest keeps a number or handle. All bodies of an instance share the slots; an unset slot holds 0.
pub type Slot = u8;

/// Slots of an instance.
pub const SLOTS: usize = 16;

/// Most parameters of a function.
pub const PARAMS_MAX: usize = 3;

/// An argument of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arg {
    /// The number itself.
    Imm(u32),
    /// What is in the slot.
    Slot(Slot),
}

/// Whether a built-in may block its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Without the option `async`: blocks.
    Sync,
    /// With the option `async`: returns BLOCKED.
    Async,
}

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The readable end.
    Read,
    /// The writable end.
    Write,
}

impl Side {
    /// The other end.
    pub fn other(self) -> Side {
        match self {
            Side::Read => Side::Write,
            Side::Write => Side::Read,
        }
    }

    /// Position in pairs.
    pub fn index(self) -> usize {
        match self {
            Side::Read => 0,
            Side::Write => 1,
        }
    }
}

/// Stream or future.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Any number of elements.
    Stream,
    /// One element.
    Future,
}

/// The type of a stream or future.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CopyType {
    /// Stream or future.
    pub kind: Kind,
    /// The type of its elements.
    pub elem: Elem,
}

/// What a thread does with itself when it switches to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leave {
    /// Stays suspended until somebody resumes it.
    Suspend,
    /// Is ready at once.
    Yield,
}

/// Which threads may be switched to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A suspended one; any other traps.
    Resume,
    /// A ready one; with any other the thread just leaves.
    Promote,
}

/// One operation of a guest's or the host's flat list.
#[expect(missing_docs, reason = "the variants explain their operands")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// `{stream,future}.new`: the readable end goes to slot `r`, the writable one to `w`.
    New { t: CopyType, r: Slot, w: Slot },
    /// `{stream,future}.{read,write}` of `n` elements at `ptr`; `n` means nothing to a future.
    Copy { t: CopyType, side: Side, mode: Mode, end: Slot, ptr: u32, n: u32 },
    /// `{stream,future}.cancel-{read,write}`.
    CancelCopy { t: CopyType, side: Side, mode: Mode, end: Slot },
    /// `{stream,future}.drop-{readable,writable}`.
    DropEnd { t: CopyType, side: Side, end: Slot },
    /// `waitable-set.new`.
    SetNew { set: Slot },
    /// `waitable-set.wait`.
    SetWait { set: Slot, cancellable: bool },
    /// `waitable-set.poll`.
    SetPoll { set: Slot, cancellable: bool },
    /// `waitable-set.drop`.
    SetDrop { set: Slot },
    /// `waitable.join`; `set` may be the number 0, which takes the waitable out of its set.
    Join { waitable: Slot, set: Arg },
    /// A call through `canon lower`: an unresolved subtask goes to slot `sub`, the result to `ret`.
    Call { func: u8, mode: Mode, args: [Arg; PARAMS_MAX], sub: Slot, ret: Slot },
    /// `subtask.cancel`.
    SubtaskCancel { mode: Mode, sub: Slot },
    /// `subtask.drop`.
    SubtaskDrop { sub: Slot },
    /// `task.return`.
    TaskReturn { value: Arg },
    /// `task.cancel`.
    TaskCancel,
    /// What a well-behaved guest does last: `task.cancel` if it has seen a cancellation, else `task.return`.
    Resolve { value: Arg },
    /// `backpressure.inc`.
    BackpressureInc,
    /// `backpressure.dec`.
    BackpressureDec,
    /// `context.get`.
    ContextGet { i: u8 },
    /// `context.set`.
    ContextSet { i: u8, value: Arg },
    /// `resource.new` of the type that the instance implements.
    ResourceNew { rep: u32, handle: Slot },
    /// `resource.rep`.
    ResourceRep { handle: Slot },
    /// `resource.drop` of a resource that instance `rt` implements.
    ResourceDrop { rt: InstanceId, handle: Slot },
    /// `thread.new-indirect`: a thread that runs `script`; its index goes to slot `thread`.
    ThreadNew { script: u8, thread: Slot },
    /// `thread.index`: the index goes to slot `thread`.
    ThreadIndex { thread: Slot },
    /// `thread.resume-later`.
    ThreadResumeLater { thread: Slot },
    /// `thread.suspend`.
    ThreadSuspend { cancellable: bool },
    /// `thread.yield`.
    ThreadYield { cancellable: bool },
    /// `thread.{suspend,yield}-then-{resume,promote}`.
    ThreadSwitch { leave: Leave, target: Target, cancellable: bool, thread: Slot },
    /// Returns from a body that is lifted without `async`; what follows in the list is its `post-return`.
    Return { value: Arg },
    /// Returns EXIT from a callback, or returns from any other body.
    Exit,
    /// Returns YIELD from a callback; the list goes on when the callback is called.
    YieldCode,
    /// Returns WAIT from a callback; the list goes on when the callback is called.
    WaitCode { set: Slot },
    /// Returns a code from a callback that is none.
    BadCode,
    /// The guest's own code: stores a 32-bit number in its memory.
    Store { ptr: u32, value: Arg },
    /// The guest's own code: looks at four bytes of its memory.
    Load { ptr: u32 },
    /// Host only: waits until the gate is open. Can be cancelled.
    GateWait { gate: u8 },
    /// Host only: opens a gate for good.
    GateOpen { gate: u8 },
    /// An operation of the extension at this position of the profile's list.
    Ext { ext: u8, args: [Arg; PARAMS_MAX] },
}

/// CanonicalABI.md, Waitable State.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventCode {
    /// Nothing has happened.
    None = 0,
    /// A subtask has progressed.
    Subtask = 1,
    /// A read of a stream is over.
    StreamRead = 2,
    /// A write to a stream is over.
    StreamWrite = 3,
    /// A read of a future is over.
    FutureRead = 4,
    /// A write to a future is over.
    FutureWrite = 5,
    /// Somebody wants the task to be cancelled.
    TaskCancelled = 6,
}

/// What a built-in returns instead of waiting.
pub const BLOCKED: u32 = 0xffff_ffff;

/// What an operation showed to the guest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// A body began with these arguments.
    Start(Vec<u32>),
    /// A built-in returned.
    Ret(u32),
    /// A stream or future was made: readable and writable end.
    Ends(u32, u32),
    /// An event: code and two payloads.
    Event(u32, u32, u32),
    /// A rule was broken.
    Trap(Rule),
    /// A rule was broken; the log doesn't say which.
    SomeTrap,
}

/// One line of a log: who saw what. The order of lines is the order in which it happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// Whose body.
    pub inst: InstanceId,
    /// The how manieth body that this instance began.
    pub run: u32,
    /// Position in the body's list.
    pub at: u32,
    /// What it saw.
    pub outcome: Outcome,
}

impl Record {
    /// Whether a model that did `self` explains a log that says `seen`.
    ///
    /// Traps are told apart by rule only if the log knows the rule, and engines differ in which frame they blame.
    pub fn explains(&self, seen: &Record) -> bool {
        match (&self.outcome, &seen.outcome) {
            (Outcome::Trap(_), Outcome::SomeTrap) => true,
            (Outcome::Trap(rule), Outcome::Trap(seen)) => rule == seen,
            _ => self == seen,
        }
    }
}
