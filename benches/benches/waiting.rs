//! What a task that waits takes of memory: without a stack, in its callback, and with one; ours and wasmtime's component
//! runtime on the same bytes (`wat/waiting.wat`).
//!
//! Each figure comes from a process of its own, which makes the calls, looks at its resident memory and page tables, wakes
//! them all and checks every answer.
//!
//!     cargo bench -p benches --bench waiting
#![expect(clippy::print_stdout, reason = "the table is what the program is for")]

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use benches::table::{Table, number};
use clap::{Parser, ValueEnum};
use std::process::Command;

const WAITING: &str = include_str!("wat/waiting.wat");

#[derive(Parser, Debug)]
#[command(about = "What a task that waits takes of memory: ours beside wasmtime's component runtime")]
struct Args {
    /// Measures one figure in this process: how the tasks wait, and who runs them
    #[arg(long, hide = true, num_args = 3, value_names = ["EXPORT", "SIDE", "TASKS"])]
    only: Option<Vec<String>>,

    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Side {
    Ours,
    Wasmtime,
}

struct Row {
    name: &'static str,
    export: &'static str,
    tasks: u32,
    target: f64,
}

const ROWS: [Row; 3] = [
    Row { name: "waits in its callback", export: "callback", tasks: 10_000, target: 1024.0 },
    Row { name: "waits in its callback", export: "callback", tasks: 100_000, target: 1024.0 },
    Row { name: "waits with its stack", export: "stack", tasks: 10_000, target: 8192.0 },
];

/// Bytes of resident memory and of page tables.
fn memory() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
    };
    Ok((kib("VmRSS:")? + kib("VmPTE:")?) * 1024)
}

/// Bytes per task, as a process of its own says.
fn measure(row: &Row, side: Side) -> Result<f64> {
    let side = side.to_possible_value().expect("no side is hidden");
    let tasks = row.tasks.to_string();
    let output = Command::new(std::env::current_exe()?)
        .args(["--only", row.export, side.get_name(), &tasks])
        .output()
        .context("cannot start the measurement")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("failed"));
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// The innermost cause.
fn reason(error: &anyhow::Error) -> String {
    let text = error.to_string();
    text.rsplit(": ").next().unwrap_or(&text).to_string()
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(only) = args.only {
        let [export, side, tasks] = &only[..] else { bail!("three values") };
        let side = Side::from_str(side, true).map_err(|error| anyhow!(error))?;
        let tasks = tasks.parse()?;
        let bytes = wat::parse_str(WAITING)?;
        let taken = match side {
            Side::Ours => ours::measure(&bytes, export, tasks)?,
            Side::Wasmtime => baseline::measure(&bytes, export, tasks)?,
        };
        println!("{:.1}", taken as f64 / f64::from(tasks));
        return Ok(());
    }
    println!("{}", benches::machine());
    println!("bytes of memory and page tables per task, all tasks waiting at once in one zone or store");
    println!();
    let mut table = Table::new(&["a task that", "tasks", "ours", "wasmtime", "target", ""]);
    for row in &ROWS {
        let ours = measure(row, Side::Ours)?;
        let theirs = measure(row, Side::Wasmtime).map_or_else(|error| reason(&error), number);
        let verdict = if ours <= row.target { "ok" } else { "over" };
        let cells = [row.name, &row.tasks.to_string(), &number(ours), &theirs, &number(row.target), verdict];
        table.row(cells.map(str::to_string).into());
    }
    print!("{table}");
    Ok(())
}

/// The runtime that this repository is about.
mod ours {
    use super::{Result, anyhow, ensure, memory};
    use interflow::abi::{Call, Limits, Zone};
    use interflow::component;
    use interflow::host::linker::Linker;
    use std::pin::Pin;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    pub fn measure(bytes: &[u8], export: &str, tasks: u32) -> Result<u64> {
        let engine = component::engine()?;
        component::tick(&engine)?;
        let component = Linker::new().link(&engine, Arc::new(component::compile(&engine, bytes)?))?;
        let zone = Zone::new(&component, Limits::default(), Rc::new(())).map_err(|error| anyhow!("{error:?}"))?;
        let wait = component.export::<(u32,), u32>(export).map_err(|error| anyhow!("{error:?}"))?;
        let wake = component.export::<(), u32>("wake").map_err(|error| anyhow!("{error:?}"))?;
        let mut calls = Vec::with_capacity(tasks as usize);
        let before = memory()?;
        for x in 0..tasks {
            calls.push(zone.call(wait, (x,)));
            zone.run_now();
        }
        let taken = memory()?.saturating_sub(before);
        let census = zone.census().ok_or_else(|| anyhow!("the zone does not rest"))?;
        ensure!(census.tasks == tasks as usize, "{} tasks wait, not {tasks}: {:?}", census.tasks, zone.poison());
        let woken = zone.call(wake, ());
        zone.run_now();
        ensure!(answer(woken)? == tasks, "not everybody was woken");
        for (x, call) in (0..).zip(calls) {
            ensure!(answer(call)? == x, "call {x} has another answer");
        }
        Ok(taken)
    }

    fn answer<R>(mut call: Call<R>) -> Result<R> {
        match Pin::new(&mut call).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result.map_err(|error| anyhow!("{error}")),
            Poll::Pending => Err(anyhow!("a call has not returned")),
        }
    }
}

/// wasmtime's own component runtime.
mod baseline {
    use super::{Result, anyhow, memory};
    use futures::future::try_join_all;
    use wasmtime::component::{Accessor, Component, Linker, TypedFunc};
    use wasmtime::{Config, Engine, Store};

    pub fn measure(bytes: &[u8], export: &str, tasks: u32) -> Result<u64> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(run(bytes, export, tasks)).map_err(|error| anyhow!("{error:#}"))
    }

    async fn run(bytes: &[u8], export: &str, tasks: u32) -> wasmtime::Result<u64> {
        let mut config = Config::new();
        config.wasm_component_model_async(true).wasm_component_model_async_stackful(true);
        let engine = Engine::new(&config)?;
        let component = Component::new(&engine, bytes)?;
        let mut store = Store::new(&engine, ());
        let instance = Linker::new(&engine).instantiate_async(&mut store, &component).await?;
        let wait: TypedFunc<(u32,), (u32,)> = instance.get_typed_func(&mut store, export)?;
        let wake: TypedFunc<(), (u32,)> = instance.get_typed_func(&mut store, "wake")?;
        let all = async |accessor: &Accessor<()>| {
            let before = memory().map_err(|error| wasmtime::format_err!("{error}"))?;
            let waiting = try_join_all((0..tasks).map(|x| wait.call_concurrent(accessor, (x,))));
            let look = async {
                // The calls begin when the store's event loop gets to them.
                for _ in 0..tasks {
                    tokio::task::yield_now().await;
                }
                let taken = memory().map_err(|error| wasmtime::format_err!("{error}"))?.saturating_sub(before);
                let (woken,) = wake.call_concurrent(accessor, ()).await?;
                if woken != tasks {
                    wasmtime::bail!("{woken} tasks wait, not {tasks}");
                }
                wasmtime::error::Ok(taken)
            };
            let (answers, taken) = futures::join!(waiting, look);
            for (x, (answer,)) in (0..).zip(answers?) {
                if answer != x {
                    wasmtime::bail!("call {x} has another answer");
                }
            }
            taken
        };
        store.run_concurrent(all).await?
    }
}
