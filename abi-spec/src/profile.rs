//! Which law holds: the revision, the quirks of an engine, and every rule by name.
//! A rule that can be broken alone can be tested alone: `Profile::broken` does that, and the suite has to notice.
//! Knows nothing of the machine.

use std::fmt;

/// A revision of the specification, by commit of WebAssembly/component-model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revision {
    /// `6d281648`, August 2026.
    R1,
    /// First steps of what was merged afterwards: `{stream,future}.forward` (#717, as `ext::Forward`) and events for idle ends whose
    /// peer is dropped (#720). Cancellation and reentrance are still those of R1.
    R2,
}

/// What engines do differently from R1: wasmtime 48, then the runtime of this repository. Each is a bit, so that exploration goes on behind a known difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Quirk {
    /// A cancel of a copy that has an undelivered COMPLETED says CANCELLED, with the same count.
    CancelForgetsCompletion = 1,
    /// An idle end gets a DROPPED event when its peer is dropped, and stays idle.
    IdleDropEvent = 2,
    /// A second `subtask.cancel` of an unresolved subtask returns BLOCKED instead of trapping.
    SecondCancelBlocks = 4,
    /// `task.cancel` is allowed while the cancellation is requested but not delivered.
    EarlyTaskCancel = 8,
    /// `waitable.join` with set 0 is allowed while another thread waits in a synchronous operation.
    UnjoinWhileWaiting = 16,
    /// Blocking in a task of a synchronous type traps even if another thread of the instance could run.
    EagerCannotBlock = 32,
    /// Before a call waits because a task is exclusive, that task may go on if it is ready: upstream's suite expects that such a
    /// call starts at once.
    ReadyHolderFirst = 64,
    /// A synchronous call of a guest's async function from the implicit thread of a task of a synchronous type traps before the callee starts, unless another
    /// thread of the caller's instance is ready: upstream's suite expects the trap even if the callee would not block.
    EagerSyncCall = 128,
    /// No callback is called while a synchronous call of its instance is unresolved: its code runs on no stack of its own, and
    /// would hold up what waits below it.
    CallbacksAreNoSiblings = 256,
    /// `thread.*-then-resume` delivers a pending cancellation before it looks at the other thread: upstream's suite expects that
    /// it does so even if that one is gone.
    CancelBeforeSwitch = 512,
    /// The host runs beside the guests: between any two operations of theirs a script of the host may copy, drop an end or open a
    /// gate. What it may not do it does not do, because it has no handles but values of a language that says so. CanonicalABI.md leaves
    /// ends that the host holds to the host.
    HostBeside = 1024,
    /// An empty read of a stream that the host writes completes at once: the host is asked for elements, not whether it has some or
    /// will have any.
    EmptyReadOfHost = 2048,
    /// A call of the host may wait before it starts though nothing holds it up, and others wait behind it: it starts when the guests that
    /// run have given way.
    HostCallsWait = 4096,
    /// A pending read is over when the host has written to it: it does not grow until its event is delivered.
    HostFillsOnce = 8192,
}

/// A set of quirks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quirks(u32);

impl Quirks {
    /// None.
    pub const NONE: Quirks = Quirks(0);
    /// Those of wasmtime 48.
    pub const WASMTIME_48: Quirks = Quirks(63);

    /// Those of the runtime of this repository.
    pub const INTERFLOW: Quirks = Quirks::NONE
        .with(Quirk::CancelForgetsCompletion)
        .with(Quirk::ReadyHolderFirst)
        .with(Quirk::EagerSyncCall)
        .with(Quirk::CallbacksAreNoSiblings)
        .with(Quirk::CancelBeforeSwitch)
        .with(Quirk::HostBeside)
        .with(Quirk::EmptyReadOfHost)
        .with(Quirk::HostCallsWait)
        .with(Quirk::HostFillsOnce);

    /// With one more.
    pub const fn with(self, quirk: Quirk) -> Quirks {
        Quirks(self.0 | quirk as u32)
    }

    /// With one less.
    pub const fn without(self, quirk: Quirk) -> Quirks {
        Quirks(self.0 & !(quirk as u32))
    }

    /// Whether it is in the set.
    pub fn has(self, quirk: Quirk) -> bool {
        self.0 & quirk as u32 != 0
    }
}

/// CanonicalABI.md, Threads, `wait_until`: what a thread does whose condition holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WhenReady {
    /// Either, as the chooser likes. This is the law.
    Either,
    /// Blocks always: the deterministic profile.
    Block,
    /// Goes on always, as wasmtime 48 does.
    GoOn,
}

/// A semantics. The model's functions ask it; nothing else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Profile {
    /// The revision.
    pub revision: Revision,
    /// The engine's quirks.
    pub quirks: Quirks,
    /// What a thread does whose condition holds already.
    pub when_ready: WhenReady,
    /// A rule that doesn't hold, to see whether anybody notices.
    pub broken: Option<Rule>,
}

impl Profile {
    /// The law of the first revision.
    pub const R1: Profile =
        Profile { revision: Revision::R1, quirks: Quirks::NONE, when_ready: WhenReady::Either, broken: None };
    /// As far as modelled, the law of the second.
    pub const R2: Profile = Profile { revision: Revision::R2, ..Profile::R1 };
    /// The first revision as wasmtime 48 implements it.
    pub const WASMTIME_48: Profile =
        Profile { quirks: Quirks::WASMTIME_48, when_ready: WhenReady::GoOn, ..Profile::R1 };

    /// The first revision as the runtime of this repository implements it.
    pub const INTERFLOW: Profile = Profile { quirks: Quirks::INTERFLOW, ..Profile::R1 };

    /// The same law without one rule.
    pub const fn without(self, rule: Rule) -> Profile {
        Profile { broken: Some(rule), ..self }
    }

    /// Whether the rule holds.
    pub fn holds(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }
}

macro_rules! rules {
    ($($(#[flip($flip:ident)])? $rule:ident: $section:literal, $text:literal;)*) => {
        /// Every rule of the model. A trap says which one was broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $(#[doc = concat!("CanonicalABI.md, ", $section, ": ", $text, ".")] $rule,)*
        }

        impl Rule {
            /// All of them, in the order of the specification.
            pub const ALL: &'static [Rule] = &[$(Rule::$rule),*];

            /// The section of CanonicalABI.md that has the rule.
            pub fn section(self) -> &'static str {
                match self { $(Rule::$rule => $section),* }
            }

            /// The rule in a sentence.
            pub fn text(self) -> &'static str {
                match self { $(Rule::$rule => $text),* }
            }

            /// Whether the model can run without the rule. It cannot without those that give an operation its operand.
            pub fn flippable(self) -> bool {
                match self { $(Rule::$rule => true $(&& $flip())?),* }
            }
        }
    };
}

const fn no() -> bool {
    false
}

rules! {
    // Instances, threads
    MayEnter: "Component Instances", "an instance is not entered while it runs or one of its callees does";
    CancellableOnly: "Threads", "only a thread that blocks cancellably is told of a cancellation";
    PendingCancelFirst: "Threads", "a pending cancellation is delivered by the next cancellable block";

    // Tasks
    Backpressure: "Tasks", "a task of an async function does not start while its instance has backpressure";
    Exclusive: "Tasks", "of the tasks lifted synchronously or with a callback only one runs at a time";
    NoOvertaking: "Tasks", "a task waits to start if others wait already";
    SyncBargesIn: "Tasks", "a task of a synchronous function waits for nobody";
    StackfulNotExclusive: "Tasks", "a task lifted without callback neither needs nor takes exclusivity";
    ExclusiveUntilExit: "Tasks", "exclusivity ends when the implicit thread exits";
    ThreadsResolve: "Tasks", "the last thread of a task does not exit before the task is resolved";
    CancelBeforeStart: "Tasks", "cancelling a task that waits to start resolves it at once";
    CancelAtOnce: "Tasks", "a cancellable thread gets the cancellation at once";
    CancelMayEnter: "Tasks", "a cancellation is not delivered into an instance that may not be entered";
    CancelNotExclusive: "Tasks", "the implicit thread does not get the cancellation while another thread is exclusive";
    ReturnOnce: "Tasks", "a task resolves once";
    ReturnBorrows: "Tasks", "a task gives borrowed resources back before it returns";
    CancelDelivered: "Tasks", "a task is cancelled only after it has been told to";
    CancelBorrows: "Tasks", "a task gives borrowed resources back before it is cancelled";

    // Tables, resources
    TableLifo: "Table State", "the last index freed is the next given out";
    #[flip(no)] Handle: "Table State", "an index names a handle of the right kind";
    #[flip(no)] TableFull: "Table State", "a table has at most 2^28 - 1 entries";
    ResourceType: "Resource State", "a handle is used with its own resource type";
    LendCount: "Resource State", "a handle counts the calls that it is lent to";
    BorrowCount: "Resource State", "a task counts the borrowed handles that it holds";

    // Waitables, sets
    #[flip(no)] OneEvent: "Waitable State", "a waitable has at most one event, and it is gone once delivered";
    JoinMoves: "Waitable State", "a waitable is in at most one set";
    DropLeavesSet: "Waitable State", "a dropped waitable leaves its set";
    SetDropEmpty: "Waitable State", "a set is dropped only when nothing is in it";
    SetDropNoWaiters: "Waitable State", "a set is dropped only when no thread waits for it";
    PollDeliversCancel: "Waitable State", "a cancellable poll prefers a pending cancellation to events";

    // Subtasks
    SubtaskDropDelivered: "Subtask State", "a subtask is dropped only after its end was delivered";
    DeliverEndsLends: "Subtask State", "lent handles come back when the end of the subtask is delivered";

    // Buffers
    BufferLength: "Buffer State", "a buffer has at most 2^28 - 1 elements";
    BufferAligned: "Buffer State", "a buffer is aligned";
    BufferInBounds: "Buffer State", "a buffer lies in the memory";
    BufferEmptyUnchecked: "Buffer State", "the pointer of an empty or untyped buffer means nothing";

    // Streams
    CopyAfterDrop: "Stream State", "a copy ends with DROPPED if the other end is gone";
    CopyMinimum: "Stream State", "a copy moves as many elements as both buffers allow";
    CopyWakesPending: "Stream State", "the side that was pending gets an event";
    PendingGrows: "Stream State", "a pending buffer can be filled further until its event is delivered";
    ZeroLengthMovesNothing: "Stream State", "an empty buffer completes at once and leaves a pending one as it is";
    FullIsReplaced: "Stream State", "a pending buffer with nothing left completes, and the arriving one becomes pending";
    ZeroWriteMeetsZeroRead: "Stream State", "an empty write completes while the empty read that it meets stays pending";
    DropWakesPending: "Stream State", "dropping an end gives a pending copy of the other one DROPPED";
    SameInstance: "Stream State", "both ends in one instance copy only numbers";
    CopyStateDone: "Stream State", "an end is done after DROPPED";
    DropCopying: "Stream State", "an end is not dropped while it copies";
    EventCarriesCount: "Stream State", "an event carries the count of its delivery";

    // Futures
    FutureDone: "Future State", "an end of a future is done after its one copy";
    FutureWritten: "Future State", "a writable end is dropped only when done";
    FutureWakesPending: "Future State", "the side that was pending gets an event";

    // Lifting and lowering values
    TransferIdle: "Loading", "an end that is passed on is idle";
    TransferNotInSet: "Loading", "an end that is passed on is in no set";
    TransferElem: "Loading", "an end that is passed on has the type of the parameter";
    OwnLent: "Loading", "a resource that is passed on is not lent";
    OwnOwned: "Loading", "a resource that is passed on is owned";
    BorrowInImplementer: "Storing", "the instance that implements a resource gets its representation";

    // canon lift
    PostReturnMayNotLeave: "canon lift", "a post-return calls no import";
    ExclusiveReleased: "canon lift", "a callback's task is not exclusive between its activations";
    ExclusiveRetaken: "canon lift", "a callback is not called while another task is exclusive";
    CallbackCode: "canon lift", "a callback returns EXIT, YIELD or WAIT";
    SyncRunsSiblings: "canon lift", "a synchronous call runs other threads of the instance until it is resolved";
    SyncNotExclusive: "canon lift", "a synchronous call does not run the exclusive thread";
    SyncOnlySiblings: "canon lift", "a synchronous call runs no thread of another instance";
    #[flip(no)] CannotBlock: "canon lift", "a synchronous call with nothing left to run traps";

    // canon lower
    MayLeave: "canon lower", "built-ins other than context and backpressure are not called by a post-return";
    StartEvent: "canon lower", "a subtask has an event when it starts";
    ResolveEvent: "canon lower", "a subtask has an event when it resolves";
    ResolvedHasNoHandle: "canon lower", "a call that resolves at once gives no subtask";

    // resource.drop
    DropLent: "canon resource.drop", "a resource is not dropped while lent";
    DropCallsDestructor: "canon resource.drop", "dropping an owned resource enters the instance that implements it";

    // context, backpressure, task
    ContextPerThread: "canon context.{get,set}", "each thread has its own context";
    BackpressureMax: "canon backpressure.{inc,dec}", "backpressure stays below 2^16";
    BackpressureMin: "canon backpressure.{inc,dec}", "backpressure does not become negative";
    TaskReturnAsync: "canon task.return", "only a task lifted with async calls it";
    TaskCancelAsync: "canon task.cancel", "only a task lifted with async calls it";

    // waitable.join, subtask.cancel
    JoinSyncWaiter: "canon waitable.join", "a waitable is not moved while a synchronous operation waits for it";
    SubtaskCancelDelivered: "canon subtask.cancel", "a subtask is not cancelled after its end was delivered";
    SubtaskCancelTwice: "canon subtask.cancel", "a subtask is cancelled once";
    SubtaskCancelSyncInSet: "canon subtask.cancel", "a synchronous cancel needs a subtask that is in no set";
    SubtaskCancelHandsOver: "canon subtask.cancel", "a subtask that resolves during its cancel is delivered by it";

    // streams and futures
    ElemType: "canon stream.{read,write}", "an end is used with its own type";
    CopyIdle: "canon stream.{read,write}", "an end copies one buffer at a time, and none when done";
    CopySyncInSet: "canon stream.{read,write}", "a synchronous copy needs an end that is in no set";
    CancelCopying: "canon {stream,future}.cancel-{read,write}", "only a copy in progress is cancelled";
    CancelSyncWaiter: "canon {stream,future}.cancel-{read,write}", "a synchronous copy is not cancelled";
    CancelSyncInSet: "canon {stream,future}.cancel-{read,write}", "a synchronous cancel needs an end that is in no set";
    CancelKeepsCompletion: "canon {stream,future}.cancel-{read,write}", "a cancel returns the event that is there";
    CancelResult: "canon {stream,future}.cancel-{read,write}", "a cancelled copy ends with CANCELLED and its count";

    // threads
    ResumeSuspended: "canon thread.resume-later", "only a suspended thread is resumed later";
    SwitchSuspended: "canon thread.suspend-then-resume", "only a suspended thread is switched to";
    SuspendStays: "canon thread.suspend", "a suspended thread does not run by itself";
    YieldIsReady: "canon thread.yield-then-resume", "a thread that yields is ready at once";
    PromoteReady: "canon thread.suspend-then-promote", "a thread that is not ready is not switched to";

    // beyond R1
    IdleDrop: "Stream State (R2, #720)", "an idle end gets DROPPED when the other one is dropped";
    ForwardIdle: "canon {stream,future}.forward (R2, #717)", "only idle ends are joined";
    ForwardNotInSet: "canon {stream,future}.forward (R2, #717)", "ends in a set are not joined";
    ForwardDrop: "canon {stream,future}.forward (R2, #717)", "a drop on one side is seen on the other";
    ForwardMeets: "canon {stream,future}.forward (R2, #717)", "copies that wait on both sides meet";
    ReadAheadBehind: "read-ahead (ours)", "a read ahead follows one that is in progress and waits for nobody";
    ReadAheadFlows: "read-ahead (ours)", "a write that fills a read goes on in the next";
    #[flip(no)] Extension: "(an extension's own)", "what an extension of somebody else forbids";
    ReadAheadOrder: "read-ahead (ours)", "reads end in the order in which they began";
    ReadAheadCancel: "read-ahead (ours)", "a cancel ends all reads and counts the elements of all";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({}: {})", self.section(), self.text())
    }
}
