//! Calls and streams between two components, and calls from the host: ours and wasmtime's component runtime in one run.
//!
//! Both get the same bytes (`wat/`). A sample is a fresh zone or store that does one piece of work `n` times inside; its answer
//! is checked, every time, and before anything is measured also every byte that streams move. Samples of both sides are taken
//! in turn. Ours runs as the product does: its engine configuration, with epochs on and ticking.
//!
//!     cargo bench -p benches --bench calls -- --quick --rows stream
#![expect(clippy::print_stdout, reason = "the table is what the program is for")]

use anyhow::{Context as _, Result, anyhow, ensure};
use benches::samples::{Samples, order};
use benches::table::{Table, number};
use clap::Parser;
use std::time::{Duration, Instant};

/// The product's, for both.
#[global_allocator]
static ALLOCATOR: interflow::allocator::Allocator = interflow::allocator::Allocator;

const CALLS: &str = include_str!("wat/calls.wat");
const STREAMS: &str = include_str!("wat/streams.wat");
const BLOCKING: &str = include_str!("wat/blocking.wat");

#[derive(Parser, Debug)]
#[command(about = "Calls and streams between components: ours beside wasmtime's component runtime")]
struct Args {
    /// Short samples and few rounds: to see that it works, not to quote
    #[arg(long)]
    quick: bool,

    /// Only rows whose name contains this
    #[arg(long, value_name = "FILTER", default_value = "")]
    rows: String,

    /// Samples of each side per row [default: 25, with --quick 5]
    #[arg(long, value_name = "N")]
    rounds: Option<std::num::NonZeroUsize>,

    /// Do the work this often in a sample, however long that takes: with `--ours-only`, for counting instructions
    #[arg(long, value_name = "N")]
    times: Option<std::num::NonZeroU32>,

    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,

    /// Only our side: for profilers
    #[arg(long)]
    ours_only: bool,

    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a sample does, `n` times.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// This export of `calls.wat` makes `n` calls.
    Calls(&'static str),
    /// This export of `blocking.wat` does `n` times what waits with a stack, or could.
    Blocking(&'static str),
    /// A chunk of this many bytes goes from guest to guest.
    Stream { chunk: u32 },
    /// The host calls `at-once`, one call after the other, on its own stack.
    Host,
    /// As `Host`, driven as a server does: each entry on a fiber, so that it can be put aside.
    HostDriven,
    /// As `Host`, `BATCH` calls under way together.
    HostBatch,
}

/// Calls that `Work::HostBatch` makes together.
const BATCH: u32 = 64;

#[derive(Debug, Clone, Copy)]
enum Unit {
    /// Nanoseconds for one; the target is a maximum.
    Ns,
    /// Gigabytes per second; the target is a minimum.
    GigabytesPerSecond { chunk: u32 },
}

impl Unit {
    fn of(self, ns: f64) -> f64 {
        match self {
            Unit::Ns => ns,
            Unit::GigabytesPerSecond { chunk } => f64::from(chunk) / ns,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Unit::Ns => "ns",
            Unit::GigabytesPerSecond { .. } => "GB/s",
        }
    }

    fn meets(self, value: f64, target: f64) -> bool {
        match self {
            Unit::Ns => value <= target,
            Unit::GigabytesPerSecond { .. } => value >= target,
        }
    }
}

struct Row {
    name: &'static str,
    work: Work,
    unit: Unit,
    /// Rows without one are there for comparison.
    target: Option<f64>,
}

const fn row(name: &'static str, work: Work, target: Option<f64>) -> Row {
    Row { name, work, unit: Unit::Ns, target }
}

const fn bulk(name: &'static str, chunk: u32, target: Option<f64>) -> Row {
    Row { name, work: Work::Stream { chunk }, unit: Unit::GigabytesPerSecond { chunk }, target }
}

const ROWS: &[Row] = &[
    row("async call, returns at once", Work::Calls("async-callback"), Some(25.0)),
    row("async call, callee yields once", Work::Calls("async-yielding"), Some(150.0)),
    row("stream rendezvous, 1 B", Work::Stream { chunk: 1 }, Some(60.0)),
    row("stream rendezvous, 64 B", Work::Stream { chunk: 64 }, Some(60.0)),
    row("stream rendezvous, 1 KiB", Work::Stream { chunk: 1 << 10 }, Some(70.0)),
    row("stream rendezvous, 4 KiB", Work::Stream { chunk: 4 << 10 }, Some(100.0)),
    bulk("stream, 64 KiB chunks", 64 << 10, Some(50.0)),
    row("host -> async export, one by one", Work::Host, Some(80.0)),
    bulk("stream, 1 MiB chunks", 1 << 20, None),
    row("sync call, sync callee", Work::Calls("sync-sync"), None),
    row("host -> async export, on a fiber", Work::HostDriven, None),
    row("host -> async export, 64 together", Work::HostBatch, None),
    row("sync call, async callee returns at once", Work::Blocking("sync-call"), None),
    row("async call, callee may block", Work::Blocking("async-call"), None),
    row("sync call, callee yields once (park)", Work::Blocking("sync-call-yielding"), None),
    row("sync stream.read meets sync write", Work::Blocking("stream"), None),
    row("thread.yield", Work::Blocking("yield"), None),
    row("switch to a thread and back", Work::Blocking("switch"), None),
];

/// What a sample has given.
struct Sample {
    /// Sum of what the calls returned, or bytes that came.
    answer: u64,
    took: Duration,
}

/// A runtime that can do the work.
trait Side {
    fn sample(&self, work: Work, n: u32) -> Result<Sample>;
    /// The reader's hash of `n` chunks.
    fn hash(&self, chunk: u32, n: u32) -> Result<u32>;
}

/// The sum that `n` calls must give: callees add one.
fn sum(n: u32) -> u64 {
    u64::from((1..=n).fold(0u32, u32::wrapping_add))
}

fn expected(work: Work, n: u32) -> u64 {
    match work {
        Work::Stream { chunk } => u64::from(n) * u64::from(chunk),
        Work::Calls(_) | Work::Blocking(_) | Work::Host | Work::HostDriven | Work::HostBatch => sum(n),
    }
}

/// The hash that `streams.wat` computes of the bytes that it makes up.
fn expected_hash(chunk: u32, n: u32) -> u32 {
    let byte = |left: u32, i: u32| u32::from(i.wrapping_mul(7).wrapping_add(left) as u8);
    (1..=n)
        .rev()
        .flat_map(|left| (0..chunk).map(move |i| byte(left, i)))
        .fold(0, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte))
}

/// Nanoseconds that one of `n` takes.
fn measure(side: &dyn Side, work: Work, n: u32) -> Result<f64> {
    let sample = side.sample(work, n)?;
    let expected = expected(work, n);
    ensure!(sample.answer == expected, "{work:?} x {n} gave {}, not {expected}", sample.answer);
    Ok(sample.took.as_nanos() as f64 / f64::from(n))
}

/// How many times make a sample of about `length`.
fn calibrate(side: &dyn Side, work: Work, length: Duration) -> Result<u32> {
    let mut n = BATCH;
    loop {
        let took = measure(side, work, n)? * f64::from(n);
        let wanted = length.as_nanos() as f64;
        if wanted <= took * 4.0 || n >= 1 << 28 {
            let exact = (f64::from(n) * wanted / took).clamp(f64::from(BATCH), f64::from(1 << 28));
            return Ok(exact as u32 / BATCH * BATCH);
        }
        n *= 4;
    }
}

/// Before anything is measured: both count right, and every byte arrives.
fn verify(name: &str, side: &dyn Side, row: &Row) -> Result<()> {
    for n in [BATCH, 17 * BATCH] {
        measure(side, row.work, n).with_context(|| format!("{name}: {}", row.name))?;
    }
    if let Work::Stream { chunk } = row.work {
        let n = 5;
        let (got, expected) = (side.hash(chunk, n)?, expected_hash(chunk, n));
        ensure!(got == expected, "{name}: {}: {n} chunks have hash {got:#x}, not {expected:#x}", row.name);
    }
    Ok(())
}

#[derive(serde::Serialize)]
struct Measured {
    row: &'static str,
    unit: &'static str,
    ours_best: f64,
    ours_median: f64,
    wasmtime_best: Option<f64>,
    wasmtime_median: Option<f64>,
    /// How many times better ours is, by medians.
    ratio: Option<f64>,
    target: Option<f64>,
    /// By ours' best.
    ok: Option<bool>,
}

/// How many samples of each side, and how long each is.
struct Plan {
    rounds: usize,
    length: Duration,
    /// Fixed instead of found out.
    times: Option<u32>,
}

fn measure_row(row: &Row, sides: &[(&str, &dyn Side)], plan: &Plan) -> Result<Measured> {
    let mut counts = Vec::new();
    for (name, side) in sides {
        verify(name, *side, row)?;
        counts.push(match plan.times {
            Some(times) => times,
            None => calibrate(*side, row.work, plan.length)?,
        });
    }
    let mut samples = vec![Samples::default(); sides.len()];
    for round in 0..plan.rounds {
        for side in order(round, sides.len()) {
            samples[side].push(measure(sides[side].1, row.work, counts[side])?);
        }
    }
    let unit = row.unit;
    let ours = &samples[0];
    let theirs = samples.get(1);
    let ours_best = unit.of(ours.best());
    Ok(Measured {
        row: row.name,
        unit: unit.name(),
        ours_best,
        ours_median: unit.of(ours.median()),
        wasmtime_best: theirs.map(|theirs| unit.of(theirs.best())),
        wasmtime_median: theirs.map(|theirs| unit.of(theirs.median())),
        ratio: theirs.map(|theirs| theirs.median() / ours.median()),
        target: row.target,
        ok: row.target.map(|target| unit.meets(ours_best, target)),
    })
}

fn print(rows: &[Measured]) {
    let mut table = Table::new(&["row", "unit", "ours", "median", "wasmtime", "median", "ratio", "target", ""]);
    let optional = |value: Option<f64>| value.map_or_else(String::new, number);
    for row in rows {
        table.row(vec![
            row.row.to_string(),
            row.unit.to_string(),
            number(row.ours_best),
            number(row.ours_median),
            optional(row.wasmtime_best),
            optional(row.wasmtime_median),
            row.ratio.map_or_else(String::new, |ratio| format!("{}x", number(ratio))),
            optional(row.target),
            row.ok.map_or("", |ok| if ok { "ok" } else { "over" }).to_string(),
        ]);
    }
    print!("{table}");
}

fn main() -> Result<()> {
    let args = Args::parse();
    let (length, rounds) = if args.quick { (Duration::from_millis(10), 5) } else { (Duration::from_millis(30), 25) };
    let rounds = args.rounds.map_or(rounds, std::num::NonZeroUsize::get);
    let plan = Plan { rounds, length, times: args.times.map(std::num::NonZeroU32::get) };
    let bytes = |text: &str| wat::parse_str(text).context("the text of a component");
    let (calls, streams, blocking) = (bytes(CALLS)?, bytes(STREAMS)?, bytes(BLOCKING)?);
    let ours = ours::Interflow::new(&calls, &streams, &blocking)?;
    let theirs = baseline::Wasmtime::new(&calls, &streams, &blocking)?;
    let mut sides: Vec<(&str, &dyn Side)> = vec![("interflow", &ours), ("wasmtime", &theirs)];
    if args.ours_only {
        sides.pop();
    }
    let chosen: Vec<&Row> = ROWS.iter().filter(|row| row.name.contains(&args.rows)).collect();
    ensure!(!chosen.is_empty(), "no row contains `{}`", args.rows);
    let mut rows = Vec::new();
    for row in chosen {
        rows.push(measure_row(row, &sides, &plan)?);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    println!("{}", benches::machine());
    let size = plan.times.map_or_else(|| format!("{} ms", length.as_millis()), |times| format!("{times} times"));
    println!("best and median of {rounds} samples of {size}, taken in turn; `ok` looks at ours' best");
    println!(
        "ours: the product's engine configuration, epochs ticking; wasmtime: its default one with component-model-async"
    );
    println!();
    print(&rows);
    Ok(())
}

/// The runtime that this repository is about.
mod ours {
    use super::{BATCH, Result, Sample, Side, Work, anyhow, ensure};
    use interflow::abi::{Call, Census, Component, Export, Limits, Zone};
    use interflow::component;
    use interflow::host::linker::Linker;
    use interflow::host::value::Lift;
    use std::pin::{Pin, pin};
    use std::rc::Rc;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};
    use std::time::Instant;

    pub struct Interflow {
        calls: Component,
        streams: Component,
        blocking: Component,
    }

    impl Interflow {
        pub fn new(calls: &[u8], streams: &[u8], blocking: &[u8]) -> Result<Interflow> {
            let engine = component::engine()?;
            component::tick(&engine)?;
            let link = |bytes: &[u8]| -> Result<Component> {
                let compiled = Arc::new(component::compile(&engine, bytes)?);
                Ok(Linker::new().link(&engine, compiled)?)
            };
            Ok(Interflow { calls: link(calls)?, streams: link(streams)?, blocking: link(blocking)? })
        }

        fn zone(component: &Component) -> Result<Zone> {
            Zone::new(component, Limits::default(), Rc::new(())).map_err(|error| anyhow!("{error:?}"))
        }

        fn at_once(&self) -> Result<Export<(u32,), u32>> {
            self.calls.export("at-once").map_err(|error| anyhow!("{error:?}"))
        }

        fn stream(&self, n: u32, chunk: u32, fill: bool) -> Result<Sample> {
            let zone = Self::zone(&self.streams)?;
            let run = self.streams.export::<(u32, u32, bool), u64>("run").map_err(|error| anyhow!("{error:?}"))?;
            finish(&zone, zone.call(run, (2, chunk, true)))?;
            let start = Instant::now();
            let answer = finish(&zone, zone.call(run, (n, chunk, fill)))?;
            let took = start.elapsed();
            assert_empty(&zone)?;
            Ok(Sample { answer, took })
        }

        fn inside(&self, component: &Component, export: &str, n: u32) -> Result<Sample> {
            let zone = Self::zone(component)?;
            let run = component.export::<(u32,), u32>(export).map_err(|error| anyhow!("{error:?}"))?;
            finish(&zone, zone.call(run, (1,)))?;
            let start = Instant::now();
            let answer = finish(&zone, zone.call(run, (n,)))?.into();
            let took = start.elapsed();
            assert_empty(&zone)?;
            Ok(Sample { answer, took })
        }

        fn host(&self, n: u32) -> Result<Sample> {
            let zone = Self::zone(&self.calls)?;
            let export = self.at_once()?;
            finish(&zone, zone.call(export, (0,)))?;
            let start = Instant::now();
            let mut sum = 0u32;
            for x in 0..n {
                sum = sum.wrapping_add(finish(&zone, zone.call(export, (x,)))?);
            }
            Ok(Sample { answer: sum.into(), took: start.elapsed() })
        }

        fn host_driven(&self, n: u32) -> Result<Sample> {
            let zone = Self::zone(&self.calls)?;
            let export = self.at_once()?;
            let mut driver = pin!(zone.drive());
            let mut task = Context::from_waker(Waker::noop());
            let start = Instant::now();
            let mut sum = 0u32;
            for x in 0..n {
                let mut call = zone.call(export, (x,));
                let result = loop {
                    ensure!(driver.as_mut().poll(&mut task).is_pending(), "the zone is dead: {:?}", zone.poison());
                    if let Poll::Ready(result) = Pin::new(&mut call).poll(&mut task) {
                        break result.map_err(|error| anyhow!("{error}"))?;
                    }
                };
                sum = sum.wrapping_add(result);
            }
            Ok(Sample { answer: sum.into(), took: start.elapsed() })
        }

        fn host_batch(&self, n: u32) -> Result<Sample> {
            let zone = Self::zone(&self.calls)?;
            let export = self.at_once()?;
            let start = Instant::now();
            let mut sum = 0u32;
            let mut calls = Vec::with_capacity(BATCH as usize);
            for first in (0..n).step_by(BATCH as usize) {
                calls.extend((first..first + BATCH).map(|x| zone.call(export, (x,))));
                zone.run_now();
                for call in calls.drain(..) {
                    sum = sum.wrapping_add(answer(call)?);
                }
            }
            Ok(Sample { answer: sum.into(), took: start.elapsed() })
        }
    }

    impl Side for Interflow {
        fn sample(&self, work: Work, n: u32) -> Result<Sample> {
            match work {
                Work::Calls(export) => self.inside(&self.calls, export, n),
                Work::Blocking(export) => self.inside(&self.blocking, export, n),
                Work::Stream { chunk } => self.stream(n, chunk, false),
                Work::Host => self.host(n),
                Work::HostDriven => self.host_driven(n),
                Work::HostBatch => self.host_batch(n),
            }
        }

        fn hash(&self, chunk: u32, n: u32) -> Result<u32> {
            Ok(self.stream(n, chunk, true)?.answer as u32)
        }
    }

    /// Runs the zone until nothing is ready; the call has returned then.
    fn finish<R: Lift>(zone: &Zone, call: Call<R>) -> Result<R> {
        zone.run_now();
        answer(call)
    }

    /// Who leaves something behind is faster for it.
    fn assert_empty(zone: &Zone) -> Result<()> {
        let census = zone.census().ok_or_else(|| anyhow!("the zone does not rest"))?;
        ensure!(census == Census::default(), "something is left in the zone: {census:?}");
        Ok(())
    }

    fn answer<R>(mut call: Call<R>) -> Result<R> {
        match Pin::new(&mut call).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result.map_err(|error| anyhow!("{error}")),
            Poll::Pending => Err(anyhow!("the call has not returned")),
        }
    }
}

/// wasmtime's own component runtime.
mod baseline {
    use super::{BATCH, Instant, Result, Sample, Side, Work, anyhow};
    use std::future::Future;
    use wasmtime::component::{Component, ComponentNamedList, Instance, Lift, Linker, Lower, TypedFunc};
    use wasmtime::{Config, Engine, Store};

    pub struct Wasmtime {
        runtime: tokio::runtime::Runtime,
        engine: Engine,
        calls: Component,
        streams: Component,
        blocking: Component,
    }

    impl Wasmtime {
        pub fn new(calls: &[u8], streams: &[u8], blocking: &[u8]) -> Result<Wasmtime> {
            let mut config = Config::new();
            config.wasm_component_model_async(true).wasm_component_model_more_async_builtins(true);
            config.wasm_component_model_threading(true);
            let engine = Engine::new(&config).map_err(debug)?;
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            let calls = Component::new(&engine, calls).map_err(debug)?;
            let streams = Component::new(&engine, streams).map_err(debug)?;
            let blocking = Component::new(&engine, blocking).map_err(debug)?;
            Ok(Wasmtime { runtime, engine, calls, streams, blocking })
        }

        async fn instantiate(&self, component: &Component) -> wasmtime::Result<(Store<()>, Instance)> {
            let mut store = Store::new(&self.engine, ());
            let instance = Linker::new(&self.engine).instantiate_async(&mut store, component).await?;
            Ok((store, instance))
        }

        fn block_on<T>(&self, future: impl Future<Output = wasmtime::Result<T>>) -> Result<T> {
            self.runtime.block_on(future).map_err(debug)
        }

        async fn stream(&self, n: u32, chunk: u32, fill: bool) -> wasmtime::Result<Sample> {
            let (mut store, instance) = self.instantiate(&self.streams).await?;
            let run: TypedFunc<(u32, u32, bool), (u64,)> = find(&mut store, &instance, "run")?;
            run.call_async(&mut store, (2, chunk, true)).await?;
            let start = Instant::now();
            let (answer,) = run.call_async(&mut store, (n, chunk, fill)).await?;
            Ok(Sample { answer, took: start.elapsed() })
        }

        async fn inside(&self, component: &Component, export: &str, n: u32) -> wasmtime::Result<Sample> {
            let (mut store, instance) = self.instantiate(component).await?;
            let run: TypedFunc<(u32,), (u32,)> = find(&mut store, &instance, export)?;
            run.call_async(&mut store, (1,)).await?;
            let start = Instant::now();
            let (answer,) = run.call_async(&mut store, (n,)).await?;
            Ok(Sample { answer: answer.into(), took: start.elapsed() })
        }

        async fn host(&self, n: u32) -> wasmtime::Result<Sample> {
            let (mut store, instance) = self.instantiate(&self.calls).await?;
            let call: TypedFunc<(u32,), (u32,)> = find(&mut store, &instance, "at-once")?;
            let calls = async |accessor: &wasmtime::component::Accessor<()>| {
                let mut sum = 0u32;
                for x in 0..n {
                    let (result,) = call.call_concurrent(accessor, (x,)).await?;
                    sum = sum.wrapping_add(result);
                }
                wasmtime::error::Ok(sum)
            };
            let start = Instant::now();
            let answer = store.run_concurrent(calls).await??.into();
            Ok(Sample { answer, took: start.elapsed() })
        }

        async fn host_batch(&self, n: u32) -> wasmtime::Result<Sample> {
            let (mut store, instance) = self.instantiate(&self.calls).await?;
            let call: TypedFunc<(u32,), (u32,)> = find(&mut store, &instance, "at-once")?;
            let calls = async |accessor: &wasmtime::component::Accessor<()>| {
                let mut sum = 0u32;
                for first in (0..n).step_by(BATCH as usize) {
                    let batch = (first..first + BATCH).map(|x| call.call_concurrent(accessor, (x,)));
                    for (result,) in futures::future::try_join_all(batch).await? {
                        sum = sum.wrapping_add(result);
                    }
                }
                wasmtime::error::Ok(sum)
            };
            let start = Instant::now();
            let answer = store.run_concurrent(calls).await??.into();
            Ok(Sample { answer, took: start.elapsed() })
        }
    }

    impl Side for Wasmtime {
        fn sample(&self, work: Work, n: u32) -> Result<Sample> {
            match work {
                Work::Calls(export) => self.block_on(self.inside(&self.calls, export, n)),
                Work::Blocking(export) => self.block_on(self.inside(&self.blocking, export, n)),
                Work::Stream { chunk } => self.block_on(self.stream(n, chunk, false)),
                // It always runs guests on fibers.
                Work::Host | Work::HostDriven => self.block_on(self.host(n)),
                Work::HostBatch => self.block_on(self.host_batch(n)),
            }
        }

        fn hash(&self, chunk: u32, n: u32) -> Result<u32> {
            Ok(self.block_on(self.stream(n, chunk, true))?.answer as u32)
        }
    }

    fn find<P, R>(store: &mut Store<()>, instance: &Instance, name: &str) -> wasmtime::Result<TypedFunc<P, R>>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync,
    {
        instance.get_typed_func(store, name)
    }

    fn debug(error: wasmtime::Error) -> anyhow::Error {
        anyhow!("{error:?}")
    }
}
