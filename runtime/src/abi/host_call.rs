//! Calls of guests to functions of the host.
//!
//! A host function is a Rust function with typed parameters and result, behind `HostFunction`. A sync one runs to its end. An
//! async one gives a future, which is polled once at the call: if it is ready the caller gets its result at once, else a
//! subtask. Futures never touch the zone while they are polled; only their results are lowered into it.

use super::cx::{FlatSink, FlatSource, HostCx, LiftCx, LowerCx, Memories};
use super::state::{HostCall, PendingCall, Ready, State, Waiter};
use super::task::{Callee, Lender, SubtaskState};
use super::thread::Wait;
use super::{MAX_FLAT_ASYNC_PARAMS, MAX_FLAT_PARAMS, MAX_FLAT_RESULTS, Result};
use crate::component::Compiled;
use crate::component::shims::record;
use crate::host::value::{Lift, Lower, TypeChecker, check_function, lift_params, lower_result};
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use wasmtime::{AsContextMut, StoreContextMut, format_err};
use wasmtime_environ::component::{CanonicalOptions, TypeFuncIndex, TypeTupleIndex};

/// What an async host function gives. It must not touch the zone while it is polled.
pub type HostFuture<R> = Pin<Box<dyn Future<Output = Result<R>>>>;

/// One lowering of a host function, as its trampoline knows it.
pub(crate) struct Lowered<'a> {
    pub compiled: &'a Compiled,
    pub options: &'a CanonicalOptions,
    /// Position of `options` in the plan.
    pub options_index: u32,
    pub ty: TypeFuncIndex,
}

impl Lowered<'_> {
    fn params(&self) -> TypeTupleIndex {
        self.compiled.plan.types[self.ty].params
    }
    fn results(&self) -> TypeTupleIndex {
        self.compiled.plan.types[self.ty].results
    }
    fn max_flat_params(&self) -> usize {
        if self.options.async_ { MAX_FLAT_ASYNC_PARAMS } else { MAX_FLAT_PARAMS }
    }
    fn max_flat_results(&self) -> usize {
        if self.options.async_ { 0 } else { MAX_FLAT_RESULTS }
    }
    fn cx<'a>(&self, store: &'a mut StoreContextMut<'_, State>) -> HostCx<'a> {
        HostCx { store: store.as_context_mut(), instance: self.options.instance.as_u32() }
    }
}

/// A function of the host, whatever its Rust types.
pub(crate) trait HostFunction: Send + Sync + 'static {
    /// Does the function have this type?
    fn check(&self, ty: TypeFuncIndex, types: &TypeChecker<'_>) -> std::result::Result<(), String>;
    /// May its caller have to wait?
    fn may_wait(&self) -> bool;
    /// Calls it. `args` are the core arguments; the core result, if there is one, goes to `result`.
    fn call(&self, store: StoreContextMut<'_, State>, call: &Lowered<'_>, args: &[u64], result: &mut u64)
    -> Result<()>;
}

/// A sync function.
pub(crate) struct SyncFunction<F, P, R> {
    function: F,
    _types: PhantomData<fn(P) -> R>,
}

/// An async function.
pub(crate) struct AsyncFunction<F, P, R> {
    function: F,
    _types: PhantomData<fn(P) -> R>,
}

impl<F, P, R> SyncFunction<F, P, R> {
    pub fn new(function: F) -> Self {
        SyncFunction { function, _types: PhantomData }
    }
}

impl<F, P, R> AsyncFunction<F, P, R> {
    pub fn new(function: F) -> Self {
        AsyncFunction { function, _types: PhantomData }
    }
}

/// The parameters, and the handles that are lent to the call with them.
fn lift<P: Lift>(store: &mut StoreContextMut<'_, State>, call: &Lowered<'_>, args: &[u64]) -> Result<(P, Vec<Lender>)> {
    if let Some(memory) = call.options.memory() {
        store.refresh_memory(memory.as_u32());
    }
    let mut cx = LiftCx::new(store.data_mut(), &call.compiled.plan, call.options);
    let params = lift_params(&mut cx, call.params(), &mut FlatSource::new(args), call.max_flat_params())?;
    Ok((params, cx.take_lent()))
}

/// The call has returned at once: gives its result, or for an async lowering the state of a subtask that is none.
fn lower<R: Lower>(
    mut store: StoreContextMut<'_, State>,
    call: &Lowered<'_>,
    lent: Vec<Lender>,
    value: R,
    retptr: Option<u64>,
    result: &mut u64,
) -> Result<()> {
    let mut cx = LowerCx::new(store.as_context_mut(), &call.compiled.plan, call.options);
    let mut sink = FlatSink::new(std::slice::from_mut(result));
    lower_result(&mut cx, call.results(), value, call.max_flat_results(), retptr, &mut sink)?;
    if call.options.async_ {
        *result = SubtaskState::Returned as u64;
    }
    store.data_mut().give_back(lent);
    Ok(())
}

/// The return pointer is the last argument, if the result does not fit flat.
fn retptr<R: Lower>(call: &Lowered<'_>, args: &[u64]) -> Option<u64> {
    (R::LAYOUT.flat > call.max_flat_results()).then(|| *args.last().expect("the core type has a return pointer"))
}

impl<F, P, R> HostFunction for SyncFunction<F, P, R>
where
    F: Fn(&mut HostCx<'_>, P) -> Result<R> + Send + Sync + 'static,
    P: Lift,
    R: Lower,
{
    fn check(&self, ty: TypeFuncIndex, types: &TypeChecker<'_>) -> std::result::Result<(), String> {
        check_function::<P, R>(ty, types)
    }

    fn may_wait(&self) -> bool {
        false
    }

    fn call(
        &self,
        mut store: StoreContextMut<'_, State>,
        call: &Lowered<'_>,
        args: &[u64],
        result: &mut u64,
    ) -> Result<()> {
        let (params, lent) = lift::<P>(&mut store, call, args)?;
        let value = (self.function)(&mut call.cx(&mut store), params)?;
        lower(store, call, lent, value, retptr::<R>(call, args), result)
    }
}

impl<F, P, R> HostFunction for AsyncFunction<F, P, R>
where
    F: Fn(&mut HostCx<'_>, P) -> HostFuture<R> + Send + Sync + 'static,
    P: Lift,
    R: Lower,
{
    fn check(&self, ty: TypeFuncIndex, types: &TypeChecker<'_>) -> std::result::Result<(), String> {
        check_function::<P, R>(ty, types)
    }

    fn may_wait(&self) -> bool {
        true
    }

    fn call(
        &self,
        mut store: StoreContextMut<'_, State>,
        call: &Lowered<'_>,
        args: &[u64],
        result: &mut u64,
    ) -> Result<()> {
        let (params, lent) = lift::<P>(&mut store, call, args)?;
        let retptr = retptr::<R>(call, args);
        let future = (self.function)(&mut call.cx(&mut store), params);
        let mut pending = Box::pin(Pending { future: Some(future), value: None });
        let state = store.data_mut();
        let entry = state.host_calls.vacant_entry();
        let index = entry.key() as u32;
        let instance = call.options.instance.as_u32();
        entry.insert(HostCall {
            future: None,
            waiter: Waiter::None,
            options: call.options_index,
            retptr,
            results: call.results(),
        });
        let waker = state.wakes.waker(Ready::HostCall(index));
        let answer = match state.answers_at_once(call.options.async_, Ready::HostCall(index)) {
            true => pending.as_mut().poll_result(&mut Context::from_waker(&waker)),
            false => Poll::Pending,
        };
        match answer {
            Poll::Ready(done) => {
                store.data_mut().host_calls.remove(index as usize);
                done?;
                let value = pending.value.take().expect("a ready call has a value");
                lower(store, call, lent, value, retptr, result)
            }
            Poll::Pending if !call.options.async_ => {
                let state = store.data_mut();
                let thread = state.park("a synchronous call of a function of the host", Wait::Result)?;
                state.records().set(record::BLOCKED, 1);
                let entry = &mut state.host_calls[index as usize];
                entry.waiter = Waiter::Thread { thread, lent };
                entry.future = Some(pending);
                Ok(())
            }
            Poll::Pending => {
                let state = store.data_mut();
                let (handle, subtask) =
                    state.add_subtask(instance, SubtaskState::Started, Callee::Host(index), lent)?;
                let entry = &mut state.host_calls[index as usize];
                entry.waiter = Waiter::Subtask(subtask);
                entry.future = Some(pending);
                *result = u64::from(SubtaskState::Started as u32 | handle << 4);
                Ok(())
            }
        }
    }
}

struct Pending<R> {
    future: Option<HostFuture<R>>,
    value: Option<R>,
}

// The future is boxed; `R` is only ever moved out.
impl<R> Unpin for Pending<R> {}

impl<R: Lower> PendingCall for Pending<R> {
    fn poll_result(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(future) = &mut self.future else { return Poll::Ready(Ok(())) };
        let Poll::Ready(value) = future.as_mut().poll(task) else { return Poll::Pending };
        self.future = None;
        Poll::Ready(value.map(|value| self.value = Some(value)))
    }

    fn lower(
        mut self: Pin<&mut Self>,
        cx: &mut LowerCx<'_>,
        results: TypeTupleIndex,
        retptr: Option<u64>,
        flat: &mut u64,
    ) -> Result<()> {
        let value = self.value.take().ok_or_else(|| format_err!("a host call ended without a value"))?;
        let max_flat = if retptr.is_some() { 0 } else { MAX_FLAT_RESULTS };
        lower_result(cx, results, value, max_flat, retptr, &mut FlatSink::new(std::slice::from_mut(flat)))
    }
}

/// A host call was woken: if it has finished, its result goes to the guest.
pub(crate) fn poll(mut store: StoreContextMut<'_, State>, index: u32) -> Result<()> {
    let state = store.data_mut();
    let Some(call) = state.host_calls.get_mut(index as usize) else { return Ok(()) };
    let Some(mut future) = call.future.take() else { return Ok(()) };
    let waker = state.wakes.waker(Ready::HostCall(index));
    match future.as_mut().poll_result(&mut Context::from_waker(&waker)) {
        Poll::Pending => {
            // The call may have been cancelled by what the future did; then nobody waits for it.
            if let Some(call) = store.data_mut().host_calls.get_mut(index as usize) {
                call.future = Some(future);
            }
            return Ok(());
        }
        Poll::Ready(done) => done?,
    }
    let call = store.data_mut().host_calls.remove(index as usize);
    let compiled = store.data().compiled.clone();
    let options = &compiled.plan.options[call.options as usize];
    if let Some(memory) = options.memory() {
        store.refresh_memory(memory.as_u32());
    }
    let mut cx = LowerCx::new(store.as_context_mut(), &compiled.plan, options);
    let mut flat = 0;
    future.as_mut().lower(&mut cx, call.results, call.retptr, &mut flat)?;
    match call.waiter {
        Waiter::None => unreachable!("who waits is known before the future is polled again"),
        Waiter::Subtask(subtask) => store.data_mut().host_call_returned(subtask),
        Waiter::Thread { thread, lent } => {
            store.data_mut().give_back(lent);
            store.data_mut().give(thread, flat);
        }
    }
    Ok(())
}
