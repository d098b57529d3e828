//! A zone: one store with the component instances linked in it, and the loop that runs them.
//!
//! A zone lives on one thread. Whoever wants something of it says so and wakes it; `drive` is the task that then enters wasm,
//! on a fiber, so that a guest that runs longer than a slice lets the thread's other tasks go on. While the store is entered,
//! or suspended in the middle of a slice, everybody else waits (`with_store`, `Deferred`).
//! A trap poisons the zone: all that waits for it fails with the same reason, and it is never entered again.

mod dynamic;

use super::cx::{FlatSink, FlatSource, LiftCx, LowerCx};
use super::state::{Census, Limits, State};
use super::task::HostCaller;
use super::wake::Bell;
use super::{Component, MAX_FLAT_PARAMS, MAX_FLAT_RESULTS, Result, host_end, instantiate};
use crate::component::{EPOCH_TICK, epoch};
use crate::executor;
use crate::host::value::{Lift, Lower, lift_result, lower_params};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use wasmtime::{
    AsContextMut, ResourceLimiter, Store, StoreContextMut, TypedFunc, UpdateDeadline, WasmBacktrace, format_err,
};
use wasmtime_environ::component::TypeTupleIndex;

/// Epoch ticks of one slice. With one, an entry that begins right before a tick would be put aside though it is short.
const SLICE_TICKS: u64 = 2;

/// How long a guest may hold its thread while others wait: a slice is over between one tick earlier and now.
pub const SLICE: Duration = EPOCH_TICK.saturating_mul(SLICE_TICKS as u32);

const _: () = assert!(SLICE_TICKS < epoch::LOOK_TICKS as u64, "the epoch must not stand still before a slice is over");

/// Slices that instantiation may take: start functions run without a fiber, so they cannot be put aside.
const START_SLICES_MAX: u32 = 400;

/// A zone. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Zone(Rc<Inner>);

/// A handle that does not keep the zone alive.
#[derive(Clone, Default)]
pub struct WeakZone(Weak<Inner>);

struct Inner {
    store: RefCell<Store<State>>,
    pump: TypedFunc<(), ()>,
    bell: Rc<Bell>,
    deferred: RefCell<Deferred>,
    /// Something is in `deferred`, hardly ever.
    has_deferred: Cell<bool>,
    poison: RefCell<Option<Rc<str>>>,
    control: Arc<Control>,
}

/// What could not be done because the store was in use.
#[derive(Default)]
struct Deferred {
    calls: Calls,
    dropped_readers: Vec<u32>,
    cancelled: Calls,
    /// Who wants to look again when the store is free.
    waiting: Vec<Waker>,
}

type Calls = Vec<Rc<dyn HostCaller>>;

impl Deferred {
    fn has_work(&self) -> bool {
        !(self.calls.is_empty() && self.dropped_readers.is_empty() && self.cancelled.is_empty())
    }

    /// Calls to make, streams whose readers are gone, and calls to cancel.
    fn take_work(&mut self) -> (Calls, Vec<u32>, Calls) {
        let Deferred { calls, dropped_readers, cancelled, .. } = self;
        (std::mem::take(calls), std::mem::take(dropped_readers), std::mem::take(cancelled))
    }
}

/// What the epoch callback looks at while wasm runs.
#[derive(Default)]
struct Control {
    /// Stop at the next tick.
    kill: AtomicBool,
    /// Wasm runs on a fiber and may be put aside.
    on_fiber: AtomicBool,
    /// Slices that the entry under way has used up.
    slices: AtomicU32,
}

impl WeakZone {
    /// The zone, if it is still there.
    pub fn upgrade(&self) -> Option<Zone> {
        self.0.upgrade().map(Zone)
    }

    pub(crate) fn is(&self, other: &WeakZone) -> bool {
        self.0.ptr_eq(&other.0)
    }
}

impl Zone {
    /// Instantiates `component`.
    ///
    /// `host` is what the host's functions keep for this zone.
    ///
    /// # Errors
    /// When a start function traps, or memory is short.
    pub fn new(component: &Component, limits: Limits, host: Rc<dyn Any>) -> Result<Zone> {
        let bell = Rc::new(Bell::default());
        let control = Arc::new(Control::default());
        let mut error = None;
        let inner = Rc::new_cyclic(|weak| {
            let state =
                State::new(component.compiled.clone(), bell.wakes().clone(), WeakZone(weak.clone()), limits, host);
            let mut store = Store::new(component.shims.module().engine(), state);
            store.limiter(|state| state as &mut dyn ResourceLimiter);
            interrupt(&mut store, control.clone(), limits.slices_max);
            begin_slice(&mut store);
            let pump = match instantiate::instantiate(&mut store, &component.compiled, &component.shims) {
                Ok(pump) => pump,
                Err(failed) => {
                    error = Some(failed);
                    idle(&mut store)
                }
            };
            Inner {
                store: RefCell::new(store),
                pump,
                bell,
                deferred: RefCell::default(),
                has_deferred: Cell::new(false),
                poison: RefCell::default(),
                control,
            }
        });
        match error {
            Some(error) => Err(error),
            None => Ok(Zone(inner)),
        }
    }

    /// A handle that does not keep the zone alive.
    pub fn downgrade(&self) -> WeakZone {
        WeakZone(Rc::downgrade(&self.0))
    }

    /// Calls an exported function. The call starts when the zone is driven.
    pub fn call<P: Lower, R: Lift>(&self, export: Export<P, R>, params: P) -> Call<R> {
        self.call_guarded(export, params, ())
    }

    /// As `call`; `guard` is dropped when nothing of the call runs any more.
    pub(crate) fn call_guarded<P: Lower, R: Lift>(&self, export: Export<P, R>, params: P, guard: impl Any) -> Call<R> {
        let values = Typed { params: Some(params) };
        let call = HostCall::new(export.lift, values, guard);
        self.begin(call.clone());
        Call { shared: call, zone: self.downgrade() }
    }

    /// Hands a call to the store: now, or when nobody uses it.
    fn begin(&self, caller: Rc<dyn HostCaller>) {
        if let Some(poison) = &*self.0.poison.borrow() {
            return caller.give_up(Some(poison.clone()));
        }
        match self.0.store.try_borrow_mut() {
            Ok(mut store) => drop(store.data_mut().call_from_host(caller)),
            Err(_) => self.0.defer(|deferred| deferred.calls.push(caller)),
        }
        self.0.bell.ring();
    }

    /// Runs the zone whenever there is something to do, until it is dropped or poisoned. Spawn it once per zone.
    pub fn drive(&self) -> impl Future<Output = ()> + 'static {
        let weak = self.downgrade();
        let bell = self.0.bell.clone();
        async move {
            loop {
                let Some(zone) = weak.upgrade() else { return };
                zone.run().await;
                if zone.poison().is_some() {
                    return;
                }
                drop(zone);
                poll_fn(|task| if bell.sleep(task.waker()) { once_pending(&weak) } else { Poll::Ready(()) }).await;
            }
        }
    }

    /// Enters wasm until nothing is ready, on a fiber.
    #[expect(
        clippy::await_holding_refcell_ref,
        reason = "whoever finds the store in use waits: that is what the cell is for"
    )]
    async fn run(&self) {
        let Ok(mut store) = self.0.store.try_borrow_mut() else { return };
        let mut more = self.prepare(&mut store);
        while more {
            self.0.control.on_fiber.store(true, Ordering::Relaxed);
            self.0.control.slices.store(0, Ordering::Relaxed);
            let result = slices(self.0.pump.call_async(&mut *store, ())).await;
            self.0.control.on_fiber.store(false, Ordering::Relaxed);
            more = self.finish(&mut store, result);
            if more {
                executor::end_turn();
                executor::yield_now().await;
                // Others have had their turn, and may have asked for something.
                self.prepare(&mut store);
            }
        }
        drop(store);
        self.wake_waiting();
    }

    /// Enters wasm until nothing is ready, on this stack. A guest that spins holds the thread: for tests and measurements.
    pub fn run_now(&self) {
        let mut store = self.0.store.borrow_mut();
        let mut more = self.prepare(&mut store);
        while more {
            let result = self.0.pump.call(&mut *store, ());
            more = self.finish(&mut store, result);
        }
        drop(store);
        self.wake_waiting();
    }

    /// Takes in what came from outside; tells whether there is something to run.
    #[inline(always)]
    fn prepare(&self, store: &mut Store<State>) -> bool {
        if self.0.poison.borrow().is_some() {
            return false;
        }
        let state = store.data_mut();
        if self.0.has_deferred.get() {
            self.0.take_deferred(state);
        }
        self.0.bell.take(&mut state.ready);
        state.budget = state.limits.jobs_per_entry;
        let ready = state.has_work();
        if ready {
            begin_slice(store);
        }
        ready
    }

    /// Has something happened since the zone was prepared, or is something left?
    #[inline]
    fn has_news(&self, store: &Store<State>) -> bool {
        store.data().has_work()
            || self.0.bell.has_news()
            || self.0.has_deferred.get() && self.0.deferred.borrow().has_work()
    }

    /// As `prepare`, apart from what an entry that is alone passes.
    #[inline(never)]
    fn prepare_again(&self, store: &mut Store<State>) -> bool {
        self.prepare(store)
    }

    /// After an entry: poisons the zone if it trapped; tells whether there is more to run.
    #[inline(always)]
    fn finish(&self, store: &mut Store<State>, result: Result<()>) -> bool {
        match result.and_then(|()| store.data_mut().finish_last()) {
            Ok(()) if self.0.control.kill.load(Ordering::Relaxed) => {
                self.0.poison_with(store, "the zone was killed while it was in use".into());
                false
            }
            Ok(()) => self.has_news(store) && self.prepare_again(store),
            Err(error) => {
                self.0.poison_with(store, reason(&error));
                false
            }
        }
    }

    #[inline]
    fn wake_waiting(&self) {
        if self.0.has_deferred.get() {
            let waiting = self.0.take_out(|deferred| std::mem::take(&mut deferred.waiting));
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    /// Why the zone is dead, if it is.
    pub fn poison(&self) -> Option<Rc<str>> {
        self.0.poison.borrow().clone()
    }

    /// Kills the zone: at once if it rests, at the next epoch tick if a guest is running.
    pub fn kill(&self, reason: &str) {
        if self.poison().is_some() {
            return;
        }
        match self.0.store.try_borrow_mut() {
            Ok(mut store) => {
                self.0.poison_with(&mut store, reason.into());
                drop(store);
                self.wake_waiting();
                self.0.bell.ring();
            }
            Err(_) => self.0.control.kill.store(true, Ordering::Relaxed),
        }
    }

    /// Is a guest in the middle of a slice that has not ended yet?
    pub fn is_busy(&self) -> bool {
        self.0.store.try_borrow().is_err()
    }

    /// What is alive in the zone; `None` while a guest is in the middle of a slice.
    pub fn census(&self) -> Option<Census> {
        self.0.store.try_borrow().ok().map(|store| store.data().census())
    }

    /// Who waits for what, if tasks wait and only another call could change that: nothing is ready, and the host has neither
    /// calls to finish nor ends of streams. `None` while a guest is in the middle of a slice.
    pub fn deadlock(&self) -> Option<String> {
        let store = self.0.store.try_borrow().ok()?;
        if self.has_news(&store) { None } else { store.data().deadlock() }
    }

    /// Who waits for what in the zone, for people; `None` while a guest is in the middle of a slice.
    pub fn waiting(&self) -> Option<String> {
        self.0.store.try_borrow().ok().map(|store| store.data().waiting())
    }

    /// Who waits for whom, a line each; `name` is what an instance is called.
    pub(crate) fn waits(&self, name: &dyn Fn(u32) -> String) -> Vec<String> {
        self.0.store.try_borrow().map(|store| store.data().waits(name)).unwrap_or_default()
    }

    /// The host's own data of this zone.
    pub fn data<T: Any>(&self) -> Option<Rc<T>> {
        let store = self.0.store.try_borrow().ok()?;
        store.data().host.clone().downcast().ok()
    }

    /// Uses the store from outside of wasm; `Pending` while it is in use, and then the task is woken.
    pub(crate) fn with_store<T>(
        &self,
        task: &mut Context<'_>,
        function: impl FnOnce(StoreContextMut<'_, State>, &mut Context<'_>) -> Poll<Result<T>>,
    ) -> Poll<Result<T>> {
        let Ok(mut store) = self.0.store.try_borrow_mut() else {
            self.0.defer(|deferred| deferred.waiting.push(task.waker().clone()));
            return Poll::Pending;
        };
        let result = function(store.as_context_mut(), task);
        let work = store.data().has_work();
        if let Poll::Ready(Err(error)) = &result
            && self.poison().is_none()
        {
            self.0.poison_with(&mut store, reason(error));
        }
        drop(store);
        if work {
            self.0.bell.ring();
        }
        result
    }

    fn cancel(&self, call: Rc<dyn HostCaller>) {
        match self.0.store.try_borrow_mut() {
            Ok(mut store) => store.data_mut().cancel_from_host(&call),
            Err(_) => self.0.defer(|deferred| deferred.cancelled.push(call)),
        }
        self.0.bell.ring();
    }

    pub(crate) fn drop_reader(&self, stream: u32) {
        match self.0.store.try_borrow_mut() {
            Ok(mut store) => host_end::drop_reader(store.data_mut(), stream),
            Err(_) => self.0.defer(|deferred| deferred.dropped_readers.push(stream)),
        }
        self.0.bell.ring();
    }
}

/// The cause first, then where it happened.
fn reason(error: &wasmtime::Error) -> Rc<str> {
    let cause = error.root_cause();
    match error.downcast_ref::<WasmBacktrace>() {
        Some(backtrace) => format!("{cause}\n{backtrace}").trim_end().into(),
        None => format!("{error:#}").into(),
    }
}

/// `sleep` has registered the driver: stay pending, unless the zone is gone and nobody will wake it.
fn once_pending(zone: &WeakZone) -> Poll<()> {
    if zone.0.strong_count() == 0 { Poll::Ready(()) } else { Poll::Pending }
}

impl Inner {
    /// The store is in use.
    fn defer(&self, what: impl FnOnce(&mut Deferred)) {
        what(&mut self.deferred.borrow_mut());
        self.has_deferred.set(true);
    }

    fn take_out<T>(&self, what: impl FnOnce(&mut Deferred) -> T) -> T {
        let mut deferred = self.deferred.borrow_mut();
        let taken = what(&mut deferred);
        self.has_deferred.set(deferred.has_work() || !deferred.waiting.is_empty());
        taken
    }

    #[cold]
    fn take_deferred(&self, state: &mut State) {
        let (calls, dropped_readers, cancelled) = self.take_out(Deferred::take_work);
        for stream in dropped_readers {
            host_end::drop_reader(state, stream);
        }
        for caller in calls {
            // A refused call has told its caller.
            drop(state.call_from_host(caller));
        }
        for call in cancelled {
            state.cancel_from_host(&call);
        }
    }

    fn poison_with(&self, store: &mut Store<State>, reason: Rc<str>) {
        *self.poison.borrow_mut() = Some(reason.clone());
        store.data_mut().kill_all(&reason);
        let (calls, ..) = self.take_out(Deferred::take_work);
        for caller in calls {
            caller.give_up(Some(reason.clone()));
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Whoever awaits a call must not do so for ever.
        if self.poison.borrow().is_none() {
            self.poison_with(&mut self.store.borrow_mut(), "the component instance is gone".into());
        }
        // The driver holds no strong handle while it sleeps: let it see that there is nothing left to drive.
        self.bell.ring();
    }
}

/// What is entered next may run for a slice.
#[inline]
fn begin_slice(store: &mut Store<State>) {
    store.set_epoch_deadline(SLICE_TICKS);
    epoch::guest_runs();
}

/// Runs an entry, slice by slice. After each, everybody else on this thread goes first.
async fn slices<T>(entry: impl Future<Output = T>) -> T {
    let mut entry = std::pin::pin!(entry);
    poll_fn(|task| {
        epoch::guest_runs();
        let entry = entry.as_mut().poll(task);
        if entry.is_pending() {
            executor::give_way();
        }
        entry
    })
    .await
}

/// A pump for a store whose instantiation has failed; it is dropped without being called.
fn idle(store: &mut Store<State>) -> TypedFunc<(), ()> {
    wasmtime::Func::wrap(&mut *store, || {}).typed(&*store).expect("the type is the function's own")
}

/// Lets the thread's other tasks run when a slice is over.
fn interrupt(store: &mut Store<State>, control: Arc<Control>, slices_max: u32) {
    store.epoch_deadline_callback(move |cx| {
        if cx.data().watch.is_some() {
            return Err(format_err!("a guest runs on without a pause"));
        }
        if control.kill.load(Ordering::Relaxed) {
            return Err(format_err!("the zone was killed while a guest was running"));
        }
        epoch::guest_runs();
        let slices = control.slices.fetch_add(1, Ordering::Relaxed);
        if control.on_fiber.load(Ordering::Relaxed) {
            if slices >= slices_max {
                return Err(format_err!(
                    "a guest ran for longer than it may without a pause ({slices} slices of {SLICE:?})"
                ));
            }
            return Ok(UpdateDeadline::Yield(SLICE_TICKS));
        }
        if slices > START_SLICES_MAX {
            return Err(format_err!("a start function took too long"));
        }
        Ok(UpdateDeadline::Continue(SLICE_TICKS))
    });
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        if self.growing_records || self.records.is_none() {
            return Ok(true);
        }
        let wanted = self.memory_bytes + (desired - current);
        let allowed = wanted <= self.limits.memory_bytes_max;
        if allowed {
            self.memory_bytes = wanted;
        }
        Ok(allowed)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let wanted = self.table_elements + (desired - current);
        let allowed = wanted <= self.limits.table_elements_max;
        if allowed {
            self.table_elements = wanted;
        }
        Ok(allowed)
    }
}

/// An exported function with its Rust types, found by name and checked once.
pub struct Export<P, R> {
    pub(crate) lift: u32,
    pub(crate) _types: PhantomData<fn(P) -> R>,
}

impl<P, R> Clone for Export<P, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P, R> Copy for Export<P, R> {}

/// A call of the host to a guest.
///
/// Awaiting it gives the result. Dropping it lets the guest go on; nobody will see what it returns.
pub struct Call<R> {
    shared: Rc<dyn Shared<R>>,
    zone: WeakZone,
}

/// What a call and its task share.
trait Shared<R>: HostCaller {
    fn state(&self) -> &RefCell<CallState<R>>;
}

struct CallState<R> {
    outcome: Option<std::result::Result<R, CallError>>,
    /// Its task, from when the zone has taken the call in until it has exited.
    task: Option<u32>,
    exited: bool,
    waker: Option<Waker>,
    exit_waker: Option<Waker>,
}

impl<R> Default for CallState<R> {
    fn default() -> Self {
        CallState { outcome: None, task: None, exited: false, waker: None, exit_waker: None }
    }
}

impl<R> CallState<R> {
    fn settle(&mut self, outcome: std::result::Result<R, CallError>) {
        self.outcome = Some(outcome);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn exited(&mut self) {
        self.task = None;
        self.exited = true;
        if let Some(waker) = self.exit_waker.take() {
            waker.wake();
        }
    }
}

/// Why a call has no result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The zone is dead.
    #[error("the guest trapped: {0}")]
    Trap(Rc<str>),
    /// The task was cancelled, and acknowledged it.
    #[error("the call was cancelled")]
    Cancelled,
}

impl<R> Future for Call<R> {
    type Output = std::result::Result<R, CallError>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.shared.state().borrow_mut();
        match state.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                state.waker = Some(task.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<R: 'static> Call<R> {
    /// What cancels the call, now or later (CanonicalABI.md, `Task.request_cancellation`). A guest that waits gets the event
    /// TASK_CANCELLED; what it makes of it is its own affair.
    pub fn canceller(&self) -> Canceller {
        let shared = Rc::downgrade(&self.shared);
        Canceller { call: shared, zone: self.zone.clone() }
    }

    /// Ready when nothing of the call runs any more: after the result, a guest may go on with its body.
    pub fn exited(&self) -> impl Future<Output = ()> + 'static {
        let shared = self.shared.clone();
        poll_fn(move |task| {
            let mut state = shared.state().borrow_mut();
            if state.exited {
                return Poll::Ready(());
            }
            state.exit_waker = Some(task.waker().clone());
            Poll::Pending
        })
    }
}

/// What cancels a call. It keeps neither the call nor its zone.
pub struct Canceller {
    call: Weak<dyn HostCaller>,
    zone: WeakZone,
}

impl Canceller {
    /// Cancels the call, if it is not over (see [`Call::canceller`]).
    pub fn cancel(&self) {
        if let (Some(call), Some(zone)) = (self.call.upgrade(), self.zone.upgrade()) {
            zone.cancel(call);
        }
    }
}

/// A call of the host: what its task asks, and what `Call` looks at.
struct HostCall<R, V, G> {
    lift: u32,
    state: RefCell<CallState<R>>,
    values: RefCell<V>,
    /// Dropped when nothing of the call runs any more.
    guard: Cell<Option<G>>,
}

/// How the parameters of a call get into a zone, and its result out.
trait Values<R> {
    /// Asked once.
    fn lower(&mut self, cx: &mut LowerCx<'_>, params: TypeTupleIndex, sink: &mut FlatSink<'_>) -> Result<()>;
    fn lift(&mut self, cx: &mut LiftCx<'_>, results: TypeTupleIndex, flat: &[u64]) -> Result<R>;
}

impl<R, V, G> HostCall<R, V, G> {
    /// Made where it stays: what is made before its place is there gets copied, and in words that were not written as such.
    fn new(lift: u32, values: V, guard: G) -> Rc<Self> {
        Rc::new_cyclic(|_| HostCall {
            lift,
            state: RefCell::default(),
            values: RefCell::new(values),
            guard: Cell::new(Some(guard)),
        })
    }
}

impl<R, V: Values<R>, G> Shared<R> for HostCall<R, V, G> {
    fn state(&self) -> &RefCell<CallState<R>> {
        &self.state
    }
}

impl<R, V: Values<R>, G> HostCaller for HostCall<R, V, G> {
    fn lift_index(&self) -> u32 {
        self.lift
    }

    fn lower(&self, cx: &mut LowerCx<'_>, params: TypeTupleIndex, sink: &mut FlatSink<'_>) -> Result<()> {
        self.values.borrow_mut().lower(cx, params, sink)
    }

    fn lift(&self, cx: &mut LiftCx<'_>, results: TypeTupleIndex, flat: &[u64]) -> Result<()> {
        let value = self.values.borrow_mut().lift(cx, results, flat)?;
        self.state.borrow_mut().settle(Ok(value));
        Ok(())
    }

    fn end(&self, trap: Option<Rc<str>>) {
        let mut state = self.state.borrow_mut();
        if state.outcome.is_none() {
            state.settle(Err(trap.map_or(CallError::Cancelled, CallError::Trap)));
        }
    }

    fn is_task(&self, task: u32) {
        self.state.borrow_mut().task = Some(task);
    }

    fn task(&self) -> Option<u32> {
        self.state.borrow().task
    }

    fn exited(&self) {
        self.state.borrow_mut().task = None;
        // While nothing is borrowed: what it does is its own affair.
        drop(self.guard.take());
        self.state.borrow_mut().exited();
    }
}

/// Values of Rust types.
struct Typed<P> {
    params: Option<P>,
}

impl<P: Lower, R: Lift> Values<R> for Typed<P> {
    fn lower(&mut self, cx: &mut LowerCx<'_>, params: TypeTupleIndex, sink: &mut FlatSink<'_>) -> Result<()> {
        let value = self.params.take().expect("a call is started once");
        lower_params(cx, params, value, MAX_FLAT_PARAMS, sink)
    }

    fn lift(&mut self, cx: &mut LiftCx<'_>, results: TypeTupleIndex, flat: &[u64]) -> Result<R> {
        // `task.return` passes up to 16 flat values, a sync function's result only one.
        let max =
            if flat.len() > 1 || R::LAYOUT.flat <= MAX_FLAT_RESULTS { MAX_FLAT_PARAMS } else { flat_max::<R>(flat) };
        lift_result::<R>(cx, results, &mut FlatSource::new(flat), max)
    }
}

/// One flat value for a type that has more: it is a pointer.
fn flat_max<R: Lift>(flat: &[u64]) -> usize {
    if flat.len() == R::LAYOUT.flat { MAX_FLAT_PARAMS } else { 0 }
}
