//! The data of a store: everything that the Canonical ABI keeps for the instances of one zone.
//!
//! Objects live in slabs and name each other by position; handles of guests are in the tables of their instances.
//! The functions that change it are in `waitable`, `task`, `stream` and `resource`, one file a concern.
#![expect(unsafe_code, reason = "the engine wants store data that may change threads; a zone's never does")]

use super::Result;
use super::account::Account;
use super::memory::GuestMemory;
use super::record::{Record, Records};
use super::stream::{End, Stream};
use super::table::Table;
use super::task::{Direct, Entrant, Lender, Subtask, Task};
use super::thread::{DEADLOCK, Stacks, Switch, Thread, ThreadTable};
use super::waitable::WaitableSet;
use super::wake::Wakes;
use super::watch::Watch;
use super::zone::WeakZone;
use crate::component::Compiled;
use crate::component::plan::Plan;
use slab::Slab;
use std::any::Any;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use wasmtime::{Func, bail};

/// What is ready to run in a zone, in the order in which it became so.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Ready {
    /// A task that yielded, or whose set has an event.
    Task(u32),
    /// A thread that waits with its stack.
    Thread(u32),
    /// A call that waits at the gate of this instance may be let in.
    Enter(u32),
    /// A future of the host that was woken.
    HostCall(u32),
    /// The host end of a stream or future can go on.
    HostEnd(u32),
}

/// The component of a zone, counted by its thread alone: it is cloned on the way of every call.
#[derive(Clone)]
#[expect(clippy::redundant_allocation, reason = "the outer count is not atomic")]
pub(crate) struct SharedCompiled(Rc<Arc<Compiled>>);

impl std::ops::Deref for SharedCompiled {
    type Target = Compiled;

    fn deref(&self) -> &Compiled {
        &self.0
    }
}

/// Tasks and threads that a report of who waits names; the others are counted.
const WAITING_NAMED_MAX: usize = 8;

/// One component instance.
pub(crate) struct Instance {
    pub handles: Table,
    pub backpressure: u32,
    /// Who waits to enter (`num_waiting_to_enter`), oldest first.
    pub entering: VecDeque<Entrant>,
    /// How many of them need no exclusivity.
    pub entering_shared: u32,
    /// `Ready::Enter` is in the queue.
    pub opening: bool,
    /// Tasks that could go on if nobody else ran in the instance (`Task::held`).
    pub held: Vec<u32>,
    pub threads: ThreadTable,
}

/// Who waits for a call to the host.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// Nobody: the call has just been made.
    None,
    /// The subtask that stands for it in the caller's table.
    Subtask(u32),
    /// The caller itself, which has lent these handles to the call.
    Thread { thread: u32, lent: Vec<Lender> },
}

/// A call of the guest to an async host function that has not finished.
pub(crate) struct HostCall {
    pub future: Option<Pin<Box<dyn PendingCall>>>,
    pub waiter: Waiter,
    pub options: u32,
    /// Where the caller wants the result, if not flat.
    pub retptr: Option<u64>,
    pub results: wasmtime_environ::component::TypeTupleIndex,
}

/// The future of an async host function, with the means to lower its result.
pub(crate) trait PendingCall {
    /// `Ready` once the result is there; it is kept until `lower`.
    fn poll_result(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<super::Result<()>>;
    /// Lowers the kept result: through `retptr`, or as one flat value to `flat`.
    fn lower(
        self: Pin<&mut Self>,
        cx: &mut super::LowerCx<'_>,
        results: wasmtime_environ::component::TypeTupleIndex,
        retptr: Option<u64>,
        flat: &mut u64,
    ) -> super::Result<()>;
}

/// The store data of a zone.
pub struct State {
    pub(crate) compiled: SharedCompiled,
    /// `None` only until the shim module is instantiated.
    pub(crate) records: Option<Records>,
    pub(crate) memories: Vec<Option<GuestMemory>>,
    pub(crate) reallocs: Vec<Option<Func>>,
    pub(crate) callbacks: Vec<Option<Func>>,
    pub(crate) dtors: Vec<Option<Func>>,
    /// See `call::give_way`; `None` only until the shim module is instantiated.
    pub(crate) give_way: Option<Func>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) tasks: Slab<Task>,
    pub(crate) subtasks: Slab<Subtask>,
    pub(crate) sets: Slab<WaitableSet>,
    pub(crate) streams: Slab<Stream>,
    pub(crate) host_calls: Slab<HostCall>,
    /// Representations of host resources.
    pub(crate) host_resources: Slab<Rc<dyn Any>>,
    pub(crate) error_contexts: Slab<super::resource::ErrorContext>,
    /// Bytes of their messages.
    pub(crate) message_bytes: usize,
    pub(crate) ready: VecDeque<Ready>,
    /// What goes before all that is ready.
    pub(crate) direct: Direct,
    pub(crate) threads: Slab<Thread>,
    pub(crate) stacks: Stacks,
    /// The thread in whose favour the one that has just parked is put aside.
    pub(crate) switch: Option<Switch>,
    /// Tables that guests take the functions of new threads from.
    pub(crate) tables: Vec<Option<wasmtime::Table>>,
    /// Where those functions are for the shims; `None` if stacks cannot be put aside.
    pub(crate) thread_table: Option<wasmtime::Table>,
    pub(crate) wakes: Arc<Wakes>,
    pub(crate) zone: WeakZone,
    /// Memory growth of ours, which the limit on the guests' memory does not count.
    pub(crate) growing_records: bool,
    pub(crate) limits: Limits,
    /// What guests make the host keep.
    pub(crate) account: Rc<Account>,
    /// Bytes of linear memory and table elements that guests have, counted against `limits`.
    pub(crate) memory_bytes: usize,
    pub(crate) table_elements: usize,
    /// Why the zone is dead.
    pub(crate) poison: Option<Rc<str>>,
    /// Jobs that the pump may still run before it lets others go on.
    pub(crate) budget: u32,
    /// What hosts keep per zone.
    pub(crate) host: Rc<dyn Any>,
    /// Who decides what is open, and takes note, while schedules are explored.
    pub(crate) watch: Option<Watch>,
}

// SAFETY: The engine asks for `Send` where a call may be suspended, and for `Sync` in resource limits, because its own futures
// may move between threads. A `State` is only ever inside the store of a `Zone`, which is an `Rc` and hence stays on the thread
// that made it; `Zone` hands out neither the store nor a future that owns it, and `State` cannot be made elsewhere.
unsafe impl Send for State {}
// SAFETY: as above: there is no other thread that could share it.
unsafe impl Sync for State {}

/// Bounds on what the guests of one zone may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of linear memory, all memories of the zone together.
    pub memory_bytes_max: usize,
    /// Bytes that guests make the host keep: fields, requests, and what it has read of a response that is not sent.
    pub held_bytes_max: usize,
    /// Elements of all tables of the zone together.
    pub table_elements_max: usize,
    /// Slices (`SLICE`) that guests may run on end before the zone is ended.
    pub slices_max: u32,
    /// Jobs (starts of calls, callbacks, threads) that one entry runs before the worker's other tasks get a turn.
    pub jobs_per_entry: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory_bytes_max: 1 << 30,
            held_bytes_max: 64 << 20,
            table_elements_max: 1 << 22,
            slices_max: u32::MAX,
            jobs_per_entry: 256,
        }
    }
}

/// Objects of one sort that a zone may have: what is behind a handle takes up to a few hundred bytes of the host's memory.
const OBJECTS_MAX: usize = 1 << 18;

/// Keeps an object for guests; `what` names its sort. Gives its position. Always inlined, so that objects are made in their place.
#[inline(always)]
pub(super) fn add<T>(objects: &mut Slab<T>, object: T, what: &str) -> Result<u32> {
    if objects.len() >= OBJECTS_MAX {
        bail!("too many {what} in one zone ({OBJECTS_MAX})");
    }
    Ok(objects.insert(object) as u32)
}

impl State {
    pub(crate) fn new(
        compiled: Arc<Compiled>,
        wakes: Arc<Wakes>,
        zone: WeakZone,
        limits: Limits,
        host: Rc<dyn Any>,
    ) -> Self {
        let plan = &compiled.plan;
        let none = |n: u32| (0..n).map(|_| None).collect();
        State {
            memories: plan.memories.iter().map(|_| None).collect(),
            reallocs: none(plan.reallocs),
            callbacks: none(plan.callbacks),
            dtors: none(plan.defined_resources.len() as u32),
            instances: (0..plan.instances)
                .map(|_| Instance {
                    handles: Table::new(),
                    backpressure: 0,
                    entering: VecDeque::new(),
                    entering_shared: 0,
                    opening: false,
                    held: Vec::new(),
                    threads: ThreadTable::default(),
                })
                .collect(),
            tasks: Slab::new(),
            subtasks: Slab::new(),
            sets: Slab::new(),
            streams: Slab::new(),
            host_calls: Slab::new(),
            host_resources: Slab::new(),
            error_contexts: Slab::new(),
            message_bytes: 0,
            ready: VecDeque::new(),
            direct: Direct::default(),
            threads: Slab::new(),
            stacks: Stacks::default(),
            switch: None,
            tables: vec![None; plan.tables as usize],
            thread_table: None,
            records: None,
            give_way: None,
            growing_records: false,
            memory_bytes: 0,
            table_elements: 0,
            poison: None,
            budget: 0,
            compiled: SharedCompiled(Rc::new(compiled)),
            wakes,
            zone,
            account: Account::new(limits.held_bytes_max),
            limits,
            host,
            watch: Watch::current(),
        }
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.compiled.plan
    }

    #[inline]
    pub(crate) fn records(&mut self) -> &mut Records {
        self.records.as_mut().expect("the shims are instantiated first")
    }

    #[inline]
    pub(crate) fn current(&mut self) -> Record {
        self.records().current()
    }

    #[inline]
    pub(crate) fn handles(&mut self, instance: u32) -> &mut Table {
        &mut self.instances[instance as usize].handles
    }

    /// Is there something to run?
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        !self.ready.is_empty() || self.direct.has_next()
    }

    /// See `Zone::deadlock`.
    pub(crate) fn deadlock(&self) -> Option<String> {
        let host_may_act = self.has_work()
            || !self.host_calls.is_empty()
            || self.streams.iter().any(|(_, stream)| stream.reader == End::Host || stream.writer == End::Host);
        if host_may_act || self.tasks.is_empty() {
            return None;
        }
        Some(format!("{DEADLOCK}: {}", self.waiting()))
    }

    /// See `Zone::waiting`.
    pub(crate) fn waiting(&self) -> String {
        let mut waiting = self.waiting_threads();
        waiting.extend(self.waiting_tasks());
        let more = waiting.len().saturating_sub(WAITING_NAMED_MAX);
        waiting.truncate(WAITING_NAMED_MAX);
        if more > 0 {
            waiting.push(format!("and {more} more"));
        }
        waiting.join("; ")
    }

    /// Counts of what is alive, for leak tests and metrics.
    pub(crate) fn census(&self) -> Census {
        Census {
            tasks: self.records.as_ref().map_or(0, |records| records.in_use(self.plan().instances)),
            subtasks: self.subtasks.len(),
            streams: self.streams.len(),
            waitable_sets: self.sets.len(),
            host_calls: self.host_calls.len(),
            host_resources: self.host_resources.len(),
            handles: self.instances.iter().map(|instance| instance.handles.len()).sum(),
        }
    }
}

/// How many objects of each kind a zone holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Tasks that have not exited.
    pub tasks: usize,
    /// Subtasks that have not been dropped.
    pub subtasks: usize,
    /// Streams and futures with an end alive.
    pub streams: usize,
    /// Waitable sets.
    pub waitable_sets: usize,
    /// Calls to async host functions that have not finished.
    pub host_calls: usize,
    /// Representations of host resources.
    pub host_resources: usize,
    /// Handles in the tables of all instances.
    pub handles: usize,
}
