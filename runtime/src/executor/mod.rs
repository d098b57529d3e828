//! One thread's tasks: polled in the order they were woken, parked in the ring when there is nothing to do.
//!
//! A task lives and dies on its thread and need not be `Send`; its wakers may go anywhere. A turn polls a bounded number
//! of tasks, lets the ring work, and fires timers; only when nothing is runnable does the ring wait. Everything here is
//! reached through free functions that find the thread's executor.
//!
//! | file | what |
//! |---|---|
//! | `task` | what a waker points to, how a task's result reaches its [`JoinHandle`] |
//! | `remote` | wake-ups from other threads |
//! | `timer` | deadlines |
//! | `net` | TCP, readiness |
//! | `sync`, `oneshot`, `shutdown` | waiting for each other, for a value, for the end |
//! | `worker`, `signal` | one thread per core, and how they are told to stop |
//! | `simulate` | no I/O: schedules are explored |
//! | `beside`, `adapt` | tokio's runtime for libraries that need it, hyper's traits |
//!
//! Knows nothing of protocols or wasm.

mod adapt;
pub mod beside;
pub mod net;
pub mod oneshot;
mod remote;
mod shutdown;
pub mod signal;
mod simulate;
pub mod sync;
mod task;
mod timer;
pub mod worker;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::ring::{Choice, Ring, RingError, RingStats, Wait};

pub use adapt::{HyperExecutor, HyperTimer};
pub use shutdown::{Phase, Reached, Shutdown};
pub(crate) use simulate::others;
pub use task::{JoinError, JoinHandle};
pub use timer::{Elapsed, Sleep, Timeout, between_looks, look_after, sleep, sleep_until, timeout};

use remote::Remote;
use task::Header;
use timer::Timers;

/// Tasks polled before the ring is looked at: bounds how long a completion waits behind runnable tasks.
const POLLS_PER_TURN: usize = 128;
/// Waits are cut here, far below where the kernel's arithmetic on times would overflow.
const WAIT_MAX: Duration = Duration::from_secs(60 * 60);
/// I/O steps that one poll of a task may take without waiting, so that a connection whose peer is as fast as we are does
/// not keep its thread.
const STEPS_PER_POLL: u32 = 64;

/// How long a task that gave way waits if there is always somebody else.
const GIVE_WAY_MAX: Duration = Duration::from_millis(10);

/// Runs tasks on the thread it was made on.
///
/// ```ignore
/// let choice = ring::probe(IoMode::Auto)?;
/// let executor = Executor::new(&choice)?;
/// let answer = executor.block_on(async { spawn(async { 6 * 7 }).await });
/// ```
///
/// Dropping it drops its tasks, then cancels all operations in flight and waits until the kernel has let go of their
/// buffers.
pub struct Executor {
    core: Rc<Core>,
}

/// Counts of this thread's executor, for metrics and for tests that nothing is left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Tasks that have not ended, without the one given to [`Executor::block_on`].
    pub tasks: usize,
    /// Timers armed.
    pub timers: usize,
    /// Operations the kernel has not finished, with those whose future is gone.
    pub ops: usize,
    /// Polls of tasks, since the start.
    pub polls: u64,
    /// Turns of the loop, since the start.
    pub turns: u64,
    /// More about the ring.
    pub ring: RingStats,
}

/// What the tasks of one thread share.
struct Core {
    /// Tells executors apart, for timers that outlive theirs.
    id: u64,
    ring: Ring,
    remote: Arc<Remote>,
    /// Woken tasks, each at most once: never longer than there are tasks.
    queue: RefCell<VecDeque<Arc<Header>>>,
    tasks: RefCell<Slab<Slot>>,
    timers: RefCell<Timers>,
    /// Wakers of timers that fire; kept for its capacity.
    fired: Cell<Vec<Waker>>,
    /// I/O steps left to the task being polled.
    steps: Cell<u32>,
    /// The executor is being dropped: tasks that are spawned now end at once.
    closing: Cell<bool>,
    /// Tasks that gave way: each at most once, like those in `queue`, and in one of the two.
    late: RefCell<VecDeque<Arc<Header>>>,
    /// Since when the first of them is the first.
    late_since: Cell<Instant>,
    /// The last turn had nothing for anybody.
    quiet: Cell<bool>,
    /// What the task being polled says of the turn.
    turn: Cell<Turn>,
    polls: Cell<u64>,
    turns: Cell<u64>,
    /// See [`turn_began`].
    turn_began: Cell<Instant>,
}

/// How the turn goes on after a poll.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    GoesOn,
    /// See [`end_turn`].
    IsOver,
    /// See [`give_way`].
    GivesWay,
}

/// The place of one task.
struct Slot {
    header: Arc<Header>,
    /// Taken out while the task is polled, for it may spawn others.
    body: Option<Body>,
}

struct Body {
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// Calls `f` with this thread's executor, if the thread is running one. `f` must not run foreign code.
fn with_current<R>(f: impl FnOnce(&Rc<Core>) -> R) -> Option<R> {
    // `try_with`: wakers and timers may be dropped by destructors of other thread-locals.
    CURRENT.try_with(|current| current.borrow().as_ref().map(f)).ok().flatten()
}

/// This thread's executor.
///
/// # Panics
///
/// The thread is not running one.
fn current() -> Rc<Core> {
    with_current(Rc::clone).expect("this must be called on a thread that runs an executor")
}

/// Makes an executor the thread's current one, for as long as it lives.
struct Entered {
    before: Option<Rc<Core>>,
}

impl Entered {
    fn new(core: &Rc<Core>) -> Self {
        Entered { before: CURRENT.replace(Some(core.clone())) }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let ours = CURRENT.replace(self.before.take());
        drop(ours);
    }
}

impl Executor {
    /// An executor for this thread.
    ///
    /// # Errors
    ///
    /// The kernel lacks memory or descriptors for a ring.
    pub fn new(choice: &Choice) -> Result<Self, RingError> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let ring = Ring::new(choice)?;
        let remote = Arc::new(Remote::new(ring.wake_up()));
        let core = Core {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            ring,
            remote,
            queue: RefCell::default(),
            tasks: RefCell::default(),
            timers: RefCell::default(),
            fired: Cell::default(),
            steps: Cell::new(STEPS_PER_POLL),
            closing: Cell::new(false),
            late: RefCell::default(),
            late_since: Cell::new(now()),
            quiet: Cell::default(),
            turn: Cell::default(),
            polls: Cell::new(0),
            turns: Cell::new(0),
            turn_began: Cell::new(now()),
        };
        Ok(Executor { core: Rc::new(core) })
    }

    /// Runs `future`, and the tasks it spawns, until `future` is ready. Tasks that are left go on with the next call.
    ///
    /// # Panics
    ///
    /// `future` panics; the thread already runs an executor; or the kernel refuses to wait for I/O.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let core = &*self.core;
        let _entered = self.enter();
        let future = pin!(future);
        let mut root = Root::new(core, future);
        loop {
            for _ in 0..POLLS_PER_TURN {
                let next = core.queue.borrow_mut().pop_front();
                match next {
                    None => break,
                    Some(header) if root.is(&header) => {
                        if let Poll::Ready(output) = root.poll(core) {
                            return output;
                        }
                    }
                    Some(header) => core.run(header),
                }
                if core.turn.take() != Turn::GoesOn {
                    break;
                }
            }
            core.turn();
        }
    }

    /// Makes this the thread's executor.
    fn enter(&self) -> Entered {
        assert!(with_current(|_| ()).is_none(), "an executor cannot run inside another's task");
        Entered::new(&self.core)
    }

    /// [`stats`] of this executor.
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }
}

/// The future that an executor is run for: a task among its tasks.
struct Root<'a, F> {
    header: Arc<Header>,
    waker: Waker,
    future: Pin<&'a mut F>,
}

impl<'a, F: Future> Root<'a, F> {
    /// It is woken, so that it has its first turn.
    fn new(core: &Core, future: Pin<&'a mut F>) -> Self {
        let header = Arc::new(Header::root(core.remote.clone()));
        let waker = Waker::from(header.clone());
        waker.wake_by_ref();
        Root { header, waker, future }
    }

    fn is(&self, header: &Arc<Header>) -> bool {
        Arc::ptr_eq(header, &self.header)
    }

    fn poll(&mut self, core: &Core) -> Poll<F::Output> {
        self.header.begin_poll();
        core.count_poll();
        self.future.as_mut().poll(&mut Context::from_waker(&self.waker))
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        let _entered = Entered::new(&self.core);
        let core = &*self.core;
        core.closing.set(true);
        // Tasks first: what they own may still use the ring and the timers.
        while let Some(header) = core.any_task() {
            core.end(&header);
        }
        let timers = core.timers.take();
        drop(timers);
        core.ring.close();
        // From here on wake-ups are dropped. They own no task, only its name.
        core.remote.close();
        let (queue, late) = (core.queue.take(), core.late.take());
        drop((queue, late));
    }
}

impl Core {
    /// Lets the ring work, waiting if no task is runnable, and makes runnable what became so.
    fn turn(&self) {
        self.turns.set(self.turns.get() + 1);
        let wait = self.wait();
        let turned = self.ring.turn(wait);
        self.remote.unpark(&mut self.queue.borrow_mut());
        if let Err(e) = turned {
            panic!("{e}: {}", std::error::Error::source(&e).map_or_else(String::new, ToString::to_string));
        }
        self.turn_began.set(now());
        self.fire_timers();
        self.admit_late();
    }

    /// Lets a task that gave way go on: when there is nothing else to do, or when it has waited long enough.
    fn admit_late(&self) {
        let mut late = self.late.borrow_mut();
        if late.is_empty() {
            return;
        }
        let now = now();
        let mut queue = self.queue.borrow_mut();
        // What a turn submits may be complete with the next one: a connection that has come is one whose bytes have too.
        let was_quiet = self.quiet.replace(queue.is_empty());
        if (was_quiet && queue.is_empty()) || now.duration_since(self.late_since.get()) >= GIVE_WAY_MAX {
            queue.extend(late.pop_front());
            self.late_since.set(now);
            self.quiet.set(false);
        }
    }

    /// `header` has been polled and gives way: if it is runnable, others are first.
    fn put_back(&self, header: &Arc<Header>) {
        let mut queue = self.queue.borrow_mut();
        // It has woken itself last, or nearly so.
        let Some(at) = queue.iter().rposition(|queued| Arc::ptr_eq(queued, header)) else { return };
        let mut late = self.late.borrow_mut();
        if late.is_empty() {
            self.late_since.set(now());
        }
        late.extend(queue.remove(at));
    }

    /// How long the ring may wait. If at all, the thread counts as parked from here until `unpark`.
    fn wait(&self) -> Wait {
        if !self.queue.borrow().is_empty() || !self.late.borrow().is_empty() {
            return Wait::No;
        }
        let wait = match self.timers.borrow().next_deadline() {
            None => Wait::Forever,
            Some(deadline) => match deadline.saturating_duration_since(now()) {
                Duration::ZERO => return Wait::No,
                left => Wait::For(left.min(WAIT_MAX)),
            },
        };
        if self.remote.park() { wait } else { Wait::No }
    }

    fn fire_timers(&self) {
        let mut fired = self.fired.take();
        {
            let mut timers = self.timers.borrow_mut();
            if !timers.is_empty() {
                timers.expire(now(), &mut fired);
            }
        }
        // No borrow held: wakers are foreign code.
        for waker in fired.drain(..) {
            waker.wake();
        }
        self.fired.set(fired);
    }

    /// Polls a task that was woken.
    fn run(&self, header: Arc<Header>) {
        let taken = {
            let mut tasks = self.tasks.borrow_mut();
            let slot = tasks.get_mut(header.key()).filter(|slot| Arc::ptr_eq(&slot.header, &header));
            slot.and_then(|slot| slot.body.take())
        };
        // A wake-up may come after the task's end.
        let Some(mut body) = taken else { return };
        header.begin_poll();
        self.count_poll();
        let over = header.is_aborted() || {
            let mut cx = Context::from_waker(&body.waker);
            body.future.as_mut().poll(&mut cx).is_ready()
        };
        let slot_body = Some(body);
        if over {
            self.tasks.borrow_mut().remove(header.key());
            drop_body(slot_body);
        } else {
            self.tasks.borrow_mut()[header.key()].body = slot_body;
            if self.turn.get() == Turn::GivesWay {
                self.put_back(&header);
            }
        }
    }

    /// Ends a task that is not being polled, wherever it is.
    fn end(&self, header: &Arc<Header>) {
        let slot = self.tasks.borrow_mut().remove(header.key());
        drop_body(slot.body);
    }

    fn any_task(&self) -> Option<Arc<Header>> {
        self.tasks.borrow().iter().next().map(|(_, slot)| slot.header.clone())
    }

    fn count_poll(&self) {
        self.polls.set(self.polls.get() + 1);
        self.steps.set(STEPS_PER_POLL);
    }

    /// Adds a task and makes it runnable.
    fn spawn<F: Future + 'static>(&self, future: F) -> JoinHandle<F::Output> {
        let key = self.tasks.borrow().vacant_key();
        let header = Arc::new(Header::new(key, self.remote.clone()));
        let (tracked, handle) = task::track(future, header.clone());
        if self.closing.get() {
            // Dropped here: the handle reports it as aborted.
            return handle;
        }
        let body = Body { future: Box::pin(tracked), waker: Waker::from(header.clone()) };
        let inserted = self.tasks.borrow_mut().insert(Slot { header: header.clone(), body: Some(body) });
        debug_assert_eq!(inserted, key, "boxing the future does not spawn");
        Waker::from(header).wake();
        handle
    }

    fn stats(&self) -> Stats {
        let ring = self.ring.stats();
        Stats {
            tasks: self.tasks.borrow().len(),
            timers: self.timers.borrow().len(),
            ops: ring.in_flight,
            polls: self.polls.get(),
            turns: self.turns.get(),
            ring,
        }
    }
}

/// Destroys a task's future. A destructor that panics ends with a line in the log, not with the thread.
fn drop_body(body: Option<Body>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(body))) {
        tracing::error!(panic = task::panic_message(&*panic), "a task's destructor panicked");
    }
}

/// Adds a task to this thread's executor and returns at once. Dropping the handle lets the task go on by itself.
///
/// # Panics
///
/// The thread is not running an executor.
pub fn spawn<F: Future + 'static>(future: F) -> JoinHandle<F::Output> {
    current().spawn(future)
}

/// Whether this thread is running an executor, so that [`spawn`] and its like may be called.
pub fn is_running() -> bool {
    with_current(|_| ()).is_some()
}

/// The counts of this thread's executor.
///
/// # Panics
///
/// The thread is not running an executor.
pub fn stats() -> Stats {
    current().stats()
}

/// This thread's ring, for those who start operations of their own.
///
/// # Panics
///
/// The thread is not running an executor.
pub fn ring() -> Ring {
    current().ring.clone()
}

/// The time, as timers see it.
pub fn now() -> Instant {
    crate::sim::now().unwrap_or_else(Instant::now)
}

/// The time when this turn of the executor began, for those to whom the time since then does not matter: it need not be asked for.
/// [`now`] on a thread that runs none.
pub fn turn_began() -> Instant {
    with_current(|core| core.turn_began.get()).unwrap_or_else(now)
}

/// The task that runs has taken long: the ring, timers and other threads' wake-ups are looked at before the next one runs.
pub fn end_turn() {
    let _ = with_current(|core| core.turn.set(Turn::IsOver));
}

/// The task that runs has used up a share that others wait for. If it is runnable it goes on when nobody else is, I/O
/// included, or 10 ms later: who comes in meanwhile is served from beginning to end.
pub fn give_way() {
    let _ = with_current(|core| core.turn.set(Turn::GivesWay));
}

/// Lets all tasks that are runnable now go first.
pub async fn yield_now() {
    let poll_number = || with_current(|core| core.polls.get());
    let mut yielded_in = None;
    std::future::poll_fn(|cx| {
        let now = poll_number();
        // Whoever owns us may poll us more than once in one poll of its task; then nobody else has had a turn.
        if yielded_in.is_some_and(|before| before != now || now.is_none()) {
            return Poll::Ready(());
        }
        yielded_in = Some(now);
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Takes one of the I/O steps of the task being polled; `Pending`, with the task woken again, if it has none left.
fn poll_step(cx: &Context<'_>) -> Poll<()> {
    let left = with_current(|core| {
        let left = core.steps.get();
        core.steps.set(left.saturating_sub(1));
        left
    });
    match left {
        Some(0) => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        // A thread without an executor has nobody else to be fair to.
        Some(_) | None => Poll::Ready(()),
    }
}
