//! Components that nobody trusts: compiled, linked, started, and each exported function called.
//!
//! An input is a component, as a binary or as text. Guests run on the executor as in a server, with so little time and memory
//! that whatever they do ends soon.

use crate::random::Random;
use crate::{engine, text};
use interflow::abi::{Call, Component, Limits, Zone};
use interflow::component::{self, Compiled};
use interflow::executor::{self, Executor};
use interflow::host::linker::Linker;
use interflow::host::value::InterfaceType;
use interflow::host::value::dynamic::{Handle, Value};
use interflow::ring::{self, IoMode};
use interflow::wast;
use std::cell::OnceCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

/// Bytes of a component: larger ones only take longer.
const BYTES_MAX: usize = 64 << 10;
/// Functions that are called.
const CALLS_MAX: usize = 8;
/// How long a call may rest before we ask whether anything can still happen to it, and how often.
const REST: Duration = Duration::from_millis(1);
const RESTS_MAX: usize = 40;

const LIMITS: Limits = Limits {
    memory_bytes_max: 16 << 20,
    table_elements_max: 20_000,
    slices_max: 3,
    held_bytes_max: 1 << 20,
    jobs_per_entry: 16,
};

/// Does everything with the component `data` that can be done.
pub fn run(data: &[u8]) {
    let Some(bytes) = text::binary(data).filter(|bytes| bytes.len() <= BYTES_MAX) else { return };
    let compiled = match component::compile(ticking(), &bytes) {
        Ok(compiled) => Arc::new(compiled),
        Err(error) => {
            let error = format!("{error:#}");
            assert!(!error.contains("the generated shims are not valid"), "{error}");
            return;
        }
    };
    let Ok(component) = linker().link(engine(), compiled.clone()) else { return };
    on_executor(|executor| executor.block_on(run_zone(component, &compiled, Random::of(data))));
}

fn ticking() -> &'static interflow::Engine {
    static TICKS: OnceLock<()> = OnceLock::new();
    TICKS.get_or_init(|| component::tick(engine()).expect("a thread starts"));
    engine()
}

fn on_executor(use_it: impl FnOnce(&Executor)) {
    thread_local! {
        static EXECUTOR: OnceCell<&'static Executor> = const { OnceCell::new() };
    }
    EXECUTOR.with(|executor| {
        use_it(executor.get_or_init(|| {
            let choice = ring::probe(IoMode::Epoll).expect("epoll is always there");
            // It outlives the thread: nothing can be dropped in order when the fuzzer exits.
            Box::leak(Box::new(Executor::new(&choice).expect("the executor starts")))
        }));
    });
}

async fn run_zone(component: Component, compiled: &Compiled, mut random: Random) {
    let Ok(zone) = Zone::new(&component, LIMITS, wast::host_data()) else { return };
    let driver = executor::spawn(zone.drive());
    let mut handles = Vec::new();
    let mut calls = Vec::new();
    for name in compiled.plan.exports.keys().take(CALLS_MAX) {
        let export = component.export_dynamic(name).expect("the plan has it");
        let types = &compiled.plan.types;
        let params = &types[types[export.ty()].params].types;
        let params: Option<Vec<Value>> =
            params.iter().map(|ty| value(compiled, *ty, &mut random, &mut handles, 4)).collect();
        let Some(params) = params else { continue };
        let mut call = zone.call_dynamic(export, params);
        match outcome(&zone, &mut call).await {
            Some(value) => keep_handles(value, &mut handles),
            None => calls.push(call),
        }
        if zone.poison().is_some() {
            break;
        }
    }
    calls.iter().for_each(|call| call.canceller().cancel());
    let mut going_on = Vec::new();
    for mut call in calls {
        match outcome(&zone, &mut call).await {
            Some(value) => keep_handles(value, &mut handles),
            None => going_on.push(call),
        }
    }
    drop(handles);
    executor::yield_now().await;
    // Also what is counted is made by guests.
    let _ = (zone.census(), zone.deadlock());
    zone.kill("the input is over");
    driver.await.unwrap_or_else(|error| panic!("the engine panicked: {error}"));
    for mut call in going_on {
        let settled = poll_fn(|task| Poll::Ready(Pin::new(&mut call).poll(task).is_ready())).await;
        assert!(settled, "a call does not know that its zone is dead");
    }
}

/// What the call gives, if it gives anything soon.
async fn outcome(zone: &Zone, call: &mut Call<Option<Value>>) -> Option<Option<Value>> {
    for _ in 0..RESTS_MAX {
        match executor::timeout(REST, &mut *call).await {
            Ok(outcome) => return Some(outcome.unwrap_or(None)),
            Err(_) if zone.poison().is_some() => panic!("the zone is dead, and a call does not know"),
            Err(_) if zone.deadlock().is_some() => return None,
            Err(_) => {}
        }
    }
    None
}

fn keep_handles(value: Option<Value>, handles: &mut Vec<Handle>) {
    match value {
        Some(Value::Handle(handle)) => handles.push(handle),
        Some(Value::List(values) | Value::Tuple(values)) => {
            values.into_iter().for_each(|value| keep_handles(Some(value), handles));
        }
        Some(Value::Record(fields)) => {
            fields.into_iter().for_each(|(_, value)| keep_handles(Some(value), handles));
        }
        Some(Value::Option(Some(value)) | Value::Result(Ok(Some(value)) | Err(Some(value)))) => {
            keep_handles(Some(*value), handles);
        }
        _ => {}
    }
}

/// A value of type `ty`; `None` if we have no handle for it.
fn value(
    compiled: &Compiled,
    ty: InterfaceType,
    random: &mut Random,
    handles: &mut Vec<Handle>,
    depth: usize,
) -> Option<Value> {
    use InterfaceType as T;
    let types = &compiled.plan.types;
    let mut of = |ty, random: &mut Random| value(compiled, ty, random, handles, depth.checked_sub(1)?);
    let len = random.below(4);
    Some(match ty {
        T::Bool => Value::Bool(random.once_in(2)),
        T::S8 => Value::S8(random.bits() as i8),
        T::U8 => Value::U8(random.bits() as u8),
        T::S16 => Value::S16(random.bits() as i16),
        T::U16 => Value::U16(random.bits() as u16),
        T::S32 => Value::S32(number(random) as i32),
        T::U32 => Value::U32(number(random) as u32),
        T::S64 => Value::S64(number(random) as i64),
        T::U64 => Value::U64(number(random)),
        T::Float32 => Value::Float32(f32::from_bits(random.bits() as u32)),
        T::Float64 => Value::Float64(f64::from_bits(number(random))),
        T::Char => Value::Char(char::from_u32(random.bits() as u32 & 0x1_ffff).unwrap_or('?')),
        T::String => Value::String(["", "abc", "grüße", "🌍\0"][len].repeat(1 + random.below(3))),
        T::List(i) => Value::List((0..len).map(|_| of(types[i].element, random)).collect::<Option<_>>()?),
        T::FixedLengthList(i) if types[i].size <= 64 => {
            Value::List((0..types[i].size).map(|_| of(types[i].element, random)).collect::<Option<_>>()?)
        }
        T::FixedLengthList(_) => return None,
        T::Map(i) => {
            let (key, value) = (types[i].key, types[i].value);
            Value::Map((0..len).map(|_| Some((of(key, random)?, of(value, random)?))).collect::<Option<_>>()?)
        }
        T::Tuple(i) => Value::Tuple(types[i].types.iter().map(|ty| of(*ty, random)).collect::<Option<_>>()?),
        T::Record(i) => {
            let field =
                |field: &wasmtime_environ::component::RecordField| Some((field.name.clone(), of(field.ty, random)?));
            Value::Record(types[i].fields.iter().map(field).collect::<Option<_>>()?)
        }
        T::Flags(i) => Value::Flags(types[i].names.iter().filter(|_| random.once_in(2)).cloned().collect()),
        T::Enum(i) => Value::Enum(types[i].names.iter().nth(random.below(types[i].names.len()))?.clone()),
        T::Variant(i) => {
            let (name, payload) = types[i].cases.iter().nth(random.below(types[i].cases.len()))?;
            let payload = match payload {
                Some(ty) => Some(Box::new(of(*ty, random)?)),
                None => None,
            };
            Value::Variant(name.clone(), payload)
        }
        T::Option(_) if len == 0 => Value::Option(None),
        T::Option(i) => Value::Option(Some(Box::new(of(types[i].ty, random)?))),
        T::Result(i) => {
            let ok = len.is_multiple_of(2);
            let payload = match if ok { types[i].ok } else { types[i].err } {
                Some(ty) => Some(Box::new(of(ty, random)?)),
                None => None,
            };
            Value::Result(if ok { Ok(payload) } else { Err(payload) })
        }
        T::Own(_) | T::Borrow(_) | T::Stream(_) | T::Future(_) => Value::Handle(handles.pop()?),
        T::ErrorContext(_) => return None,
    })
}

fn number(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => random.bits(),
        1 => u64::MAX - random.below(3) as u64,
        _ => random.below(40) as u64,
    }
}

/// What scripts import, which the seeds are taken from.
fn linker() -> &'static Linker {
    static LINKER: OnceLock<Linker> = OnceLock::new();
    LINKER.get_or_init(wast::host_linker)
}
