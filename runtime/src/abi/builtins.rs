//! Binds what the shims import from the host to the functions that do it.
//!
//! One closure per import, made once per component and shared by all zones: what a built-in needs to know of its component
//! (instance, types, options) is in the closure. Knows the core calling convention, and nothing of what happens behind it.
#![expect(
    unsafe_code,
    reason = "host functions take core values without type checks; their types are given when they are bound"
)]

use super::cx::{FlatSource, LiftCx, LowerCx, Memories};
use super::host_call::{HostFunction, Lowered};
use super::record::Record;
use super::state::State;
use super::stream::{self, CopyOp, Element, EndType};
use super::waitable::{self, store_event};
use super::watch::Observed;
use super::{Result, call, resource, task, thread, transcode};
use crate::component::Compiled;
use crate::component::plan::{Builtin, CoreType, Signature, Then};
use crate::component::shims::HostImport;
use crate::host::value::{Lift, store_at};
use crate::sim;
use std::mem::MaybeUninit;
use std::sync::Arc;
use wasmtime::{AsContextMut, Caller, Engine, FuncType, Linker, StoreContextMut, ValRaw, ValType, bail};
use wasmtime_environ::component::{InterfaceType, TypeFutureTableIndex, TypeStreamTableIndex};

/// The core values of one call: arguments, then results in the same places.
struct Values<'a>(&'a mut [MaybeUninit<ValRaw>]);

impl Values<'_> {
    fn raw(&self, n: usize) -> ValRaw {
        // SAFETY: the engine has initialised as many values as the function's type has parameters, and no binding below reads
        // more than its type has.
        unsafe { self.0[n].assume_init() }
    }
    #[inline]
    fn u32(&self, n: usize) -> u32 {
        self.raw(n).get_u32()
    }
    /// A pointer of type `ty`, which is as wide as those of the memory that it points into, or narrower: the validator has
    /// streams and error contexts take an i32 whatever their memory.
    #[inline]
    fn pointer(&self, n: usize, ty: CoreType) -> u64 {
        if ty == CoreType::I64 { self.raw(n).get_u64() } else { u64::from(self.u32(n)) }
    }
    /// The first `n` values, widened to 64 bits.
    fn flat<'b>(&self, n: usize, buffer: &'b mut [u64; FLAT_MAX], types: &[CoreType]) -> &'b [u64] {
        for (slot, ty) in types[..n].iter().enumerate() {
            buffer[slot] = match ty {
                CoreType::I32 | CoreType::FuncRef => u64::from(self.raw(slot).get_u32()),
                CoreType::I64 => self.raw(slot).get_u64(),
                CoreType::F32 => u64::from(self.raw(slot).get_f32()),
                CoreType::F64 => self.raw(slot).get_f64(),
            };
        }
        &buffer[..n]
    }
    #[inline]
    fn set_u32(&mut self, n: usize, value: u32) {
        self.0[n] = MaybeUninit::new(ValRaw::u32(value));
    }
    #[inline]
    fn set_all<const N: usize>(&mut self, values: [u32; N]) {
        let places = self.0.first_chunk_mut::<N>().expect("a binding gives as many results as its type has");
        *places = values.map(|value| MaybeUninit::new(ValRaw::u32(value)));
    }
    fn set_u64(&mut self, n: usize, value: u64) {
        self.0[n] = MaybeUninit::new(ValRaw::u64(value));
    }
    fn set_typed(&mut self, n: usize, value: u64, ty: CoreType) {
        self.0[n] = MaybeUninit::new(match ty {
            CoreType::I32 | CoreType::FuncRef => ValRaw::u32(value as u32),
            CoreType::I64 => ValRaw::u64(value),
            CoreType::F32 => ValRaw::f32(value as u32),
            CoreType::F64 => ValRaw::f64(value),
        });
    }
}

/// Flat parameters of one call: 16, and a return pointer.
const FLAT_MAX: usize = 17;

/// Where bindings go.
struct Binder<'a> {
    linker: &'a mut Linker<State>,
    engine: &'a Engine,
    /// The instance that the next binding leaves, if it may not always be left.
    leaves: Option<u32>,
    /// What the next binding takes note of, while schedules are explored.
    observed: Option<Observed>,
}

impl Binder<'_> {
    fn bind<F>(&mut self, name: &str, signature: &Signature, function: F) -> Result<()>
    where
        F: Fn(StoreContextMut<'_, State>, &mut Values<'_>) -> Result<()> + Send + Sync + 'static,
    {
        let Some(observed) = self.observed.take() else { return self.bind_silent(name, signature, function) };
        let types = signature.clone();
        self.bind_silent(name, signature, move |mut store, values| {
            let mut buffer = [0; FLAT_MAX];
            let args = values.flat(types.params.len(), &mut buffer, &types.params);
            function(store.as_context_mut(), values)?;
            let mut buffer = [0; FLAT_MAX];
            let result = values.flat(types.results.len(), &mut buffer, &types.results).first().copied();
            observed.note(store.data(), args, result);
            Ok(())
        })
    }

    fn bind_silent<F>(&mut self, name: &str, signature: &Signature, function: F) -> Result<()>
    where
        F: Fn(StoreContextMut<'_, State>, &mut Values<'_>) -> Result<()> + Send + Sync + 'static,
    {
        let ty = func_type(self.engine, signature);
        let room = signature.params.len().max(signature.results.len());
        let leaves = self.leaves.take();
        let host = move |mut caller: Caller<'_, State>, values: &mut [MaybeUninit<ValRaw>]| {
            debug_assert!(values.len() >= room, "the engine gives room for parameters and results");
            if let Some(instance) = leaves
                && !caller.data_mut().records().may_leave(instance)
            {
                return cannot_leave();
            }
            function(caller.as_context_mut(), &mut Values(values))
        };
        // SAFETY: `host` reads the parameters and writes the results that `ty` says: each binding below is made from the
        // signature that the plan gives for it, and its built-in's type is fixed by component validation.
        unsafe { self.linker.func_new_unchecked("host", name, ty, host) }.map(drop)
    }
}

#[cold]
fn cannot_leave() -> Result<()> {
    bail!("cannot leave component instance")
}

fn func_type(engine: &Engine, signature: &Signature) -> FuncType {
    let convert = |ty: &CoreType| match ty {
        CoreType::I32 => ValType::I32,
        CoreType::I64 => ValType::I64,
        CoreType::F32 => ValType::F32,
        CoreType::F64 => ValType::F64,
        CoreType::FuncRef => ValType::FUNCREF,
    };
    FuncType::new(engine, signature.params.iter().map(convert), signature.results.iter().map(convert))
}

/// Binds everything that the shims of `compiled` import. `functions` are the host's, one per lowering.
pub(crate) fn bind(
    linker: &mut Linker<State>,
    compiled: &Arc<Compiled>,
    functions: &[Arc<dyn HostFunction>],
) -> Result<()> {
    let engine = linker.engine().clone();
    let mut binder = Binder { linker, engine: &engine, leaves: None, observed: None };
    for import in &compiled.shim_imports {
        let name = import.name();
        let signature = import.signature(&compiled.plan);
        match import {
            HostImport::Trampoline(n) => bind_builtin(&mut binder, &name, &signature, compiled, *n, functions)?,
            HostImport::Admit(n) => {
                let params = compiled.plan.adapters[*n as usize].signature.params.clone();
                binder.bind(&name, &signature, move |mut store, values| {
                    task::ensure_record(&mut store)?;
                    let adapter = values.u32(params.len());
                    let mut buffer = [0; FLAT_MAX];
                    let params = values.flat(params.len(), &mut buffer, &params);
                    let status = task::admit(store, adapter, params)?;
                    values.set_u32(0, status.unwrap_or(u32::MAX));
                    Ok(())
                })?;
            }
            HostImport::Promote => binder.bind(&name, &signature, |mut store, values| {
                let status = store.data_mut().promote(values.u32(0), Record(values.u32(1)), values.u32(2))?;
                values.set_u32(0, status);
                Ok(())
            })?,
            HostImport::SyncReturn(n) => {
                let lift = &compiled.plan.lifts[*n as usize];
                let (options, results, count) =
                    (lift.options, compiled.plan.types[lift.ty].results, lift.signature.results.len());
                let compiled = compiled.clone();
                binder.bind(&name, &signature, move |mut store, _| {
                    let mut flat = [0; FLAT_MAX];
                    for (slot, value) in flat.iter_mut().enumerate().take(count) {
                        *value = store.data_mut().records().scratch(slot as u32);
                    }
                    task::return_to_host(store, &compiled.plan, options, results, &flat[..count])
                })?;
            }
            HostImport::Next => binder.bind(&name, &signature, |store, values| {
                let next = task::next(store, Record(values.u32(0)), values.u32(1))?;
                let (record, [a, b, c, job]) = next.unwrap_or((Record::NONE, [0, 0, 0, u32::MAX]));
                values.set_all([record.0, a, b, c, job]);
                Ok(())
            })?,
            HostImport::Finished => binder.bind(&name, &signature, |mut store, values| {
                let state = store.data_mut();
                state.finish(Record(values.u32(0)), values.u32(1))?;
                if !state.tell_of_cancellation() {
                    state.worker_rests();
                }
                Ok(())
            })?,
            HostImport::NewFiber => binder.bind(&name, &signature, |mut store, values| {
                let fiber = store.data_mut().idle_stack()?;
                values.set_u32(0, fiber);
                Ok(())
            })?,
            HostImport::Idle => binder.bind(&name, &signature, |mut store, values| {
                store.data_mut().idle(values.u32(0));
                Ok(())
            })?,
            HostImport::Block => binder.bind(&name, &signature, |store, values| {
                let next = thread::block(store)?;
                values.set_u32(0, next.cast_unsigned());
                Ok(())
            })?,
            HostImport::CancelDone(n) => {
                let Builtin::SubtaskCancel { instance, async_ } = compiled.plan.trampolines[*n as usize].builtin else {
                    bail!("trampoline {n} is not a `subtask.cancel`")
                };
                binder.bind(&name, &signature, move |store, values| {
                    let state = task::cancel_done(store, instance, values.u32(0), async_)?;
                    values.set_u32(0, state);
                    Ok(())
                })?;
            }
            HostImport::Exited => {
                binder.bind(&name, &signature, |mut store, values| store.data_mut().exited(Record(values.u32(0))))?;
            }
            HostImport::Resolved => binder.bind(&name, &signature, |mut store, values| {
                store.data_mut().resolved(Record(values.u32(0)));
                Ok(())
            })?,
            HostImport::ReturnTrap => binder.bind(&name, &signature, |mut store, values| {
                store.data_mut().return_trap(Record(values.u32(0)), values.u32(1))
            })?,
            HostImport::Grow => binder.bind(&name, &signature, |mut store, _| task::ensure_record(&mut store))?,
            HostImport::Opened => binder.bind(&name, &signature, |mut store, values| {
                store.data_mut().opened(values.u32(0));
                Ok(())
            })?,
            HostImport::Uncaught => binder.bind(&name, &signature, |_, _| bail!("{}", call::UNCAUGHT))?,
            HostImport::MayNotBlock => {
                binder.bind(&name, &signature, |mut store, _| store.data_mut().check_may_block())?;
            }
            HostImport::MayNotEnter => {
                binder.bind(&name, &signature, |mut store, values| store.data_mut().may_not_enter(values.u32(0)))?;
            }
            HostImport::MayNotLeave => binder.bind(&name, &signature, |_, _| cannot_leave())?,
            HostImport::BorrowsRemain => {
                binder.bind(&name, &signature, |_, _| bail!("borrow handles still remain at the end of the call"))?;
            }
        }
    }
    Ok(())
}

fn bind_builtin(
    binder: &mut Binder<'_>,
    name: &str,
    signature: &Signature,
    compiled: &Arc<Compiled>,
    n: u32,
    functions: &[Arc<dyn HostFunction>],
) -> Result<()> {
    let plan = &compiled.plan;
    let builtin = &plan.trampolines[n as usize].builtin;
    binder.leaves = builtin.leaves();
    if sim::current().is_some() {
        binder.observed = Observed::of(plan, builtin);
    }
    let stream = |instance, ty: TypeStreamTableIndex, write| {
        let ty = plan.types[ty].ty.as_u32();
        EndType { instance, future: false, write, ty }
    };
    let future = |instance, ty: TypeFutureTableIndex, write| {
        let ty = plan.types[ty].ty.as_u32();
        EndType { instance, future: true, write, ty }
    };
    let width = |options: u32| plan.width(&plan.options[options as usize]);
    match builtin.clone() {
        Builtin::LowerImport { lowering, .. } => {
            let entry = &plan.lowerings[lowering as usize];
            let (function, compiled, signature_) =
                (functions[lowering as usize].clone(), compiled.clone(), signature.clone());
            let (ty, options_index) = (entry.ty, entry.options);
            binder.bind(name, signature, move |store, values| {
                let mut buffer = [0; FLAT_MAX];
                let args = values.flat(signature_.params.len(), &mut buffer, &signature_.params);
                let options = &compiled.plan.options[options_index as usize];
                let mut result = 0;
                function.call(
                    store,
                    &Lowered { compiled: &compiled, options, options_index, ty },
                    args,
                    &mut result,
                )?;
                if let Some(ty) = signature_.results.first() {
                    values.set_typed(0, result, *ty);
                }
                Ok(())
            })
        }
        Builtin::Transcode { op, from, to } => {
            let signature_ = signature.clone();
            binder.bind(name, signature, move |mut store, values| {
                store.refresh_memory(from);
                store.refresh_memory(to);
                let mut buffer = [0; FLAT_MAX];
                let args = values.flat(signature_.params.len(), &mut buffer, &signature_.params);
                let mut results = [0; 2];
                transcode::transcode(store.data_mut(), op, from, to, args, &mut results[..signature_.results.len()])?;
                for (slot, ty) in signature_.results.iter().enumerate() {
                    values.set_typed(slot, results[slot], *ty);
                }
                Ok(())
            })
        }
        Builtin::ResourceNew { instance, ty } => {
            let rt = plan.types[ty].unwrap_concrete_ty().as_u32();
            give(binder, name, signature, move |state, values| state.resource_new(instance, rt, values.u32(0)))
        }
        Builtin::ResourceRep { instance, ty } => {
            let rt = plan.types[ty].unwrap_concrete_ty().as_u32();
            give(binder, name, signature, move |state, values| state.resource_rep(instance, rt, values.u32(0)))
        }
        Builtin::ResourceDrop { instance, ty } => {
            let rt = plan.types[ty].unwrap_concrete_ty().as_u32();
            binder
                .bind(name, signature, move |store, values| resource::resource_drop(store, instance, rt, values.u32(0)))
        }
        Builtin::BackpressureInc { instance } => {
            take(binder, name, signature, move |state, _| state.backpressure(instance, true))
        }
        Builtin::BackpressureDec { instance } => {
            take(binder, name, signature, move |state, _| state.backpressure(instance, false))
        }
        Builtin::TaskReturn { options, results, .. } => {
            let (compiled, signature_) = (compiled.clone(), signature.clone());
            binder.bind(name, signature, move |store, values| {
                let mut buffer = [0; FLAT_MAX];
                let flat = values.flat(signature_.params.len(), &mut buffer, &signature_.params);
                task::return_to_host(store, &compiled.plan, options, results, flat)
            })
        }
        Builtin::TaskCancel { instance } => take(binder, name, signature, move |state, _| state.task_cancel(instance)),
        Builtin::WaitableSetNew { instance } => {
            give(binder, name, signature, move |state, _| state.waitable_set_new(instance))
        }
        Builtin::WaitableSetWait { instance, options } => {
            let pointer = signature.params[1];
            binder.bind(name, signature, move |store, values| {
                let (set, at) = (values.u32(0), values.pointer(1, pointer));
                let code = waitable::waitable_set_wait(store, instance, options, set, at)?;
                values.set_u32(0, code);
                Ok(())
            })
        }
        Builtin::WaitableSetPoll { instance, options } => {
            let pointer = signature.params[1];
            binder.bind(name, signature, move |mut store, values| {
                let cancellable = store.data().plan().options[options as usize].cancellable;
                let event = store.data_mut().waitable_set_poll(instance, values.u32(0), cancellable)?;
                let code = store_event(store, options, values.pointer(1, pointer), event)?;
                values.set_u32(0, code);
                Ok(())
            })
        }
        Builtin::WaitableSetDrop { instance } => {
            take(binder, name, signature, move |state, values| state.waitable_set_drop(instance, values.u32(0)))
        }
        Builtin::WaitableJoin { instance } => take(binder, name, signature, move |state, values| {
            state.waitable_join(instance, values.u32(0), values.u32(1))
        }),
        Builtin::SubtaskDrop { instance } => {
            take(binder, name, signature, move |state, values| state.subtask_drop(instance, values.u32(0)))
        }
        Builtin::SubtaskCancel { instance, async_ } => binder.bind(name, signature, move |store, values| {
            let state = task::subtask_cancel(store, instance, values.u32(0), async_)?;
            values.set_u32(0, state);
            Ok(())
        }),
        Builtin::StreamNew { instance, ty } => {
            let ty = plan.types[ty].ty.as_u32();
            new_stream(binder, name, signature, instance, false, ty)
        }
        Builtin::FutureNew { instance, ty } => {
            let ty = plan.types[ty].ty.as_u32();
            new_stream(binder, name, signature, instance, true, ty)
        }
        Builtin::StreamRead { instance, ty, options } => {
            let element = Element::of_stream(&plan.types, ty, width(options));
            copy(binder, name, signature, copy_op(compiled, stream(instance, ty, false), element, options))
        }
        Builtin::StreamWrite { instance, ty, options } => {
            let element = Element::of_stream(&plan.types, ty, width(options));
            copy(binder, name, signature, copy_op(compiled, stream(instance, ty, true), element, options))
        }
        Builtin::FutureRead { instance, ty, options } => {
            let element = Element::of_future(&plan.types, ty, width(options));
            copy(binder, name, signature, copy_op(compiled, future(instance, ty, false), element, options))
        }
        Builtin::FutureWrite { instance, ty, options } => {
            let element = Element::of_future(&plan.types, ty, width(options));
            copy(binder, name, signature, copy_op(compiled, future(instance, ty, true), element, options))
        }
        Builtin::StreamCancelRead { instance, ty, async_ } => {
            cancel(binder, name, signature, stream(instance, ty, false), async_)
        }
        Builtin::StreamCancelWrite { instance, ty, async_ } => {
            cancel(binder, name, signature, stream(instance, ty, true), async_)
        }
        Builtin::FutureCancelRead { instance, ty, async_ } => {
            cancel(binder, name, signature, future(instance, ty, false), async_)
        }
        Builtin::FutureCancelWrite { instance, ty, async_ } => {
            cancel(binder, name, signature, future(instance, ty, true), async_)
        }
        Builtin::StreamDropReadable { instance, ty } => drop_end(binder, name, signature, stream(instance, ty, false)),
        Builtin::StreamDropWritable { instance, ty } => drop_end(binder, name, signature, stream(instance, ty, true)),
        Builtin::FutureDropReadable { instance, ty } => drop_end(binder, name, signature, future(instance, ty, false)),
        Builtin::FutureDropWritable { instance, ty } => drop_end(binder, name, signature, future(instance, ty, true)),
        Builtin::ErrorContextNew { instance, options } => {
            let (compiled, types) = (compiled.clone(), signature.params.clone());
            binder.bind(name, signature, move |mut store, values| {
                let options = &compiled.plan.options[options as usize];
                if let Some(memory) = options.memory() {
                    store.refresh_memory(memory.as_u32());
                }
                let flat = [values.pointer(0, types[0]), values.pointer(1, types[1])];
                let mut cx = LiftCx::new(store.data_mut(), &compiled.plan, options);
                let message = String::lift(&mut cx, InterfaceType::String, &mut FlatSource::new(&flat))?;
                let handle = store.data_mut().error_context_new(instance, message)?;
                values.set_u32(0, handle);
                Ok(())
            })
        }
        Builtin::ErrorContextDebugMessage { instance, options } => {
            let (compiled, pointer) = (compiled.clone(), signature.params[1]);
            binder.bind(name, signature, move |mut store, values| {
                let message = store.data_mut().error_context_message(instance, values.u32(0))?;
                let options = &compiled.plan.options[options as usize];
                let mut cx = LowerCx::new(store.as_context_mut(), &compiled.plan, options);
                store_at(&mut cx, InterfaceType::String, message, values.pointer(1, pointer))
            })
        }
        Builtin::ErrorContextDrop { instance } => {
            take(binder, name, signature, move |state, values| state.error_context_drop(instance, values.u32(0)))
        }
        Builtin::ErrorContextTransfer => give(binder, name, signature, move |state, values| {
            let types = &state.compiled.clone().plan.types;
            let table = |n: usize| {
                wasmtime_environ::component::TypeComponentLocalErrorContextTableIndex::from_u32(values.u32(n))
            };
            state.error_context_transfer(
                types[table(1)].instance.as_u32(),
                values.u32(0),
                types[table(2)].instance.as_u32(),
            )
        }),
        Builtin::ResourceTransferOwn => transfer_resource(binder, name, signature, State::transfer_own),
        Builtin::ResourceTransferBorrow => transfer_resource(binder, name, signature, State::transfer_borrow),
        Builtin::StreamTransfer => transfer_end(binder, name, signature, |compiled, table| {
            let table = &compiled.plan.types[TypeStreamTableIndex::from_u32(table)];
            EndType { instance: table.instance.as_u32(), future: false, write: false, ty: table.ty.as_u32() }
        }),
        Builtin::FutureTransfer => transfer_end(binder, name, signature, |compiled, table| {
            let table = &compiled.plan.types[TypeFutureTableIndex::from_u32(table)];
            EndType { instance: table.instance.as_u32(), future: true, write: false, ty: table.ty.as_u32() }
        }),
        Builtin::Trap => binder.bind(name, signature, |_, values| {
            let code = values.u32(0);
            match u8::try_from(code).ok().and_then(wasmtime_environ::Trap::from_u8) {
                Some(trap) => bail!("{trap}"),
                None => bail!("trap with code {code} in an adapter"),
            }
        }),
        Builtin::ThreadIndex { .. } => give(binder, name, signature, |state, _| state.thread_index()),
        Builtin::ThreadNewIndirect { instance, table } => binder.bind(name, signature, move |store, values| {
            let index = thread::new_indirect(store, instance, table, values.u32(0), values.u32(1))?;
            values.set_u32(0, index);
            Ok(())
        }),
        Builtin::ThreadResumeLater { instance } => {
            take(binder, name, signature, move |state, values| state.thread_resume_later(instance, values.u32(0)))
        }
        Builtin::ThreadPause { instance, cancellable, pause, then } => {
            binder.bind(name, signature, move |store, values| {
                let other = if then == Then::Anyone { 0 } else { values.u32(0) };
                let cancelled = thread::pause(store, instance, cancellable, (pause, then), other)?;
                values.set_u32(0, cancelled);
                Ok(())
            })
        }
        Builtin::Unsupported(what) => {
            binder.bind(name, signature, move |_, _| bail!("`{what}` is not supported by this runtime yet"))
        }
        Builtin::Replaced | Builtin::EnterSyncCall | Builtin::ExitSyncCall => {
            unreachable!("shims implement these alone")
        }
    }
}

/// A built-in that gives one i32.
fn give<F>(binder: &mut Binder<'_>, name: &str, signature: &Signature, function: F) -> Result<()>
where
    F: Fn(&mut State, &Values<'_>) -> Result<u32> + Send + Sync + 'static,
{
    binder.bind(name, signature, move |mut store, values| {
        let result = function(store.data_mut(), values)?;
        values.set_u32(0, result);
        Ok(())
    })
}

/// A built-in without a result.
fn take<F>(binder: &mut Binder<'_>, name: &str, signature: &Signature, function: F) -> Result<()>
where
    F: Fn(&mut State, &Values<'_>) -> Result<()> + Send + Sync + 'static,
{
    binder.bind(name, signature, move |mut store, values| function(store.data_mut(), values))
}

fn new_stream(
    binder: &mut Binder<'_>,
    name: &str,
    signature: &Signature,
    instance: u32,
    future: bool,
    ty: u32,
) -> Result<()> {
    binder.bind(name, signature, move |mut store, values| {
        let handles = store.data_mut().stream_new(instance, future, ty)?;
        values.set_u64(0, handles);
        Ok(())
    })
}

fn copy_op(compiled: &Compiled, end: EndType, element: Element, options: u32) -> CopyOp {
    let opts = &compiled.plan.options[options as usize];
    let memory = element.payload.and_then(|_| opts.memory()).map(|memory| memory.as_u32());
    CopyOp { end, kind: end.kind(), element, options, memory, async_: opts.async_ }
}

fn copy(binder: &mut Binder<'_>, name: &str, signature: &Signature, op: CopyOp) -> Result<()> {
    let pointer = signature.params[1];
    binder.bind(name, signature, move |store, values| {
        let len = if op.end.future { 1 } else { values.u32(2) };
        let result = stream::copy(store, &op, values.u32(0), values.pointer(1, pointer), len)?;
        values.set_u32(0, result);
        Ok(())
    })
}

fn cancel(binder: &mut Binder<'_>, name: &str, signature: &Signature, end: EndType, async_: bool) -> Result<()> {
    give(binder, name, signature, move |state, values| state.cancel_copy(end, async_, values.u32(0)))
}

fn drop_end(binder: &mut Binder<'_>, name: &str, signature: &Signature, end: EndType) -> Result<()> {
    take(binder, name, signature, move |state, values| state.drop_end(end, values.u32(0)))
}

/// `(handle, source table, destination table)`; `end` says which ends are in a table.
fn transfer_end(
    binder: &mut Binder<'_>,
    name: &str,
    signature: &Signature,
    end: fn(&Compiled, u32) -> EndType,
) -> Result<()> {
    give(binder, name, signature, move |state, values| {
        let (from, to) = (end(&state.compiled, values.u32(1)), end(&state.compiled, values.u32(2)));
        let object = state.take_readable(from.instance, from.kind(), from.ty, values.u32(0))?;
        state.put_readable(to.instance, to.kind(), to.ty, object)
    })
}

/// `(handle, source table, destination table)`
fn transfer_resource(
    binder: &mut Binder<'_>,
    name: &str,
    signature: &Signature,
    transfer: fn(&mut State, u32, u32, u32, u32, u32) -> Result<u32>,
) -> Result<()> {
    give(binder, name, signature, move |state, values| {
        let table = |n: usize| wasmtime_environ::component::TypeResourceTableIndex::from_u32(values.u32(n));
        let ((from_rt, from), (to_rt, to)) = (state.resource_type(table(1)), state.resource_type(table(2)));
        transfer(state, from, from_rt, values.u32(0), to, to_rt)
    })
}
