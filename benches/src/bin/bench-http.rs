//! What a request costs: native, interflow, and wasmtime's own runtime, in one run.
//!
//! Builds nothing. Every server has one worker on one core, the load generator has another, and rounds go through all of them in
//! turn. What counts is the processor time that a server uses per request: it does not depend on how fast the client is.
//!
//!     make bench-http
#![expect(clippy::print_stdout, reason = "the table is what the program is for")]

use anyhow::{Context as _, Result, bail, ensure};
use benches::load::{upload, wrk};
use benches::process::{Awake, Cores, Server, require};
use benches::samples::{Samples, order};
use benches::table::{Table, number};
use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Parser, Debug)]
#[command(
    name = "bench-http",
    about = "HTTP through chains of components: interflow, native, and a server like `wasmtime serve`"
)]
struct Args {
    /// Connections at once
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256", value_name = "N,..")]
    conns: Vec<usize>,

    /// Seconds of each run
    #[arg(long, default_value = "3", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=60))]
    duration: u64,

    /// Runs of each server with each number of connections
    #[arg(long, default_value = "3", value_name = "N")]
    rounds: std::num::NonZeroUsize,

    /// Only servers whose name contains this
    #[arg(long, default_value = "", value_name = "FILTER")]
    variants: String,

    /// Also measure bodies of 1 GiB
    #[arg(long)]
    bulk: bool,

    /// Measure nothing but bodies of 1 GiB
    #[arg(long, conflicts_with = "bulk")]
    bulk_only: bool,

    /// Keep cores from sleeping between requests. With few connections much of what is measured else is what it costs to wake up:
    /// cold caches, above all
    #[arg(long)]
    awake: bool,

    /// Which driver interflow uses: auto, uring or epoll
    #[arg(long, default_value = "auto", value_name = "DRIVER")]
    io: String,

    /// Where the programs are [default: beside this one]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,

    /// Where the guests are
    #[arg(long, default_value = "tests/guests/target/wasm32-wasip2/release", value_name = "DIR")]
    guests: PathBuf,

    /// Write all that was measured to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Who serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Native,
    Interflow,
    Wasmtime,
}

/// A server, and how many middlewares stand before `hello`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Variant {
    kind: Kind,
    middlewares: usize,
}

/// Lengths of chains before `hello`.
const MIDDLEWARES: [usize; 4] = [0, 1, 4, 16];

/// Processor time of interflow's hello over native's.
const HELLO_RATIO_MAX: f64 = 1.4;
/// Microseconds that a middleware may add to a request.
const MIDDLEWARE_MICROS_MAX: f64 = 0.5;

impl Variant {
    fn all() -> Vec<Variant> {
        let chain = |kind| MIDDLEWARES.map(|middlewares| Variant { kind, middlewares });
        let native = Variant { kind: Kind::Native, middlewares: 0 };
        [&[native][..], &chain(Kind::Interflow), &chain(Kind::Wasmtime)].concat()
    }

    fn name(self) -> String {
        match (self.kind, self.middlewares) {
            (Kind::Native, _) => "native tokio+hyper".to_string(),
            (kind, 0) => format!("{} hello", kind.name()),
            (kind, middlewares) => format!("{} {middlewares} middlewares", kind.name()),
        }
    }

    fn of(self, kind: Kind) -> Variant {
        Variant { kind, ..self }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Native => "native",
            Kind::Interflow => "interflow",
            Kind::Wasmtime => "wasmtime",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Kind::Native => "baseline-native",
            Kind::Interflow => "interflow",
            Kind::Wasmtime => "baseline-wasmtime",
        }
    }
}

/// Programs, guests and cores: found before anything is started.
struct Bench {
    programs: PathBuf,
    guests: PathBuf,
    io: String,
    wrk: PathBuf,
    cores: Option<Cores>,
}

impl Bench {
    fn find(args: &Args) -> Result<Bench> {
        let programs = match &args.programs {
            Some(dir) => dir.clone(),
            None => std::env::current_exe()?.parent().context("this program is nowhere")?.to_path_buf(),
        };
        for kind in [Kind::Native, Kind::Interflow, Kind::Wasmtime] {
            let file = programs.join(kind.program());
            ensure!(file.is_file(), "{} is missing: run `make bench-http`, which builds it", file.display());
        }
        for guest in ["hello", "middleware", "echo"] {
            let file = args.guests.join(guest).with_extension("wasm");
            ensure!(file.is_file(), "{} is missing: run `make guests`", file.display());
        }
        let wrk = require("wrk", "wrk")?;
        for program in ["setpriv", "taskset"] {
            require(program, "util-linux")?;
        }
        Ok(Bench { programs, guests: args.guests.clone(), io: args.io.clone(), wrk, cores: Cores::choose() })
    }

    fn server_core(&self) -> Option<usize> {
        self.cores.map(|cores| cores.server)
    }

    fn load_core(&self) -> Option<usize> {
        self.cores.map(|cores| cores.load)
    }

    fn guest(&self, name: &str) -> String {
        self.guests.join(name).with_extension("wasm").display().to_string()
    }

    /// Starts a server with one worker; `chain` is what it serves, if it serves components.
    fn start(&self, kind: Kind, name: &str, chain: Vec<String>) -> Result<Server> {
        let common = ["--addr", "127.0.0.1:0", "--workers", "1"].map(String::from).to_vec();
        let args = match kind {
            Kind::Native => common,
            Kind::Wasmtime => [chain, common].concat(),
            Kind::Interflow => {
                let io = vec!["--io".to_string(), self.io.clone()];
                [vec!["serve".to_string()], chain, common, io].concat()
            }
        };
        Server::start(name, &self.programs.join(kind.program()), &args, self.server_core())
    }

    fn start_variant(&self, variant: Variant) -> Result<Server> {
        let mut chain = vec![self.guest("middleware"); variant.middlewares];
        chain.push(self.guest("hello"));
        self.start(variant.kind, &variant.name(), chain)
    }
}

/// Samples of one server with one number of connections.
#[derive(Debug, Clone, Default, serde::Serialize)]
struct Cell {
    rate: Samples,
    p50_micros: Samples,
    p99_micros: Samples,
    cpu_micros: Samples,
    errors: u64,
}

#[derive(serde::Serialize)]
struct Row {
    variant: String,
    connections: usize,
    samples: Cell,
    requests_per_second: f64,
    p50_micros: f64,
    p99_micros: f64,
    cpu_micros_per_request: f64,
    to_native: Option<f64>,
    to_wasmtime: Option<f64>,
}

#[derive(serde::Serialize)]
struct MiddlewareRow {
    runtime: &'static str,
    connections: usize,
    middlewares: usize,
    cpu_micros_each: f64,
}

#[derive(serde::Serialize)]
struct BulkRow {
    runtime: &'static str,
    path: &'static str,
    cpu_seconds_per_gib: f64,
    gib_per_second: f64,
}

#[derive(serde::Serialize, Default)]
struct Report {
    machine: String,
    cores: Option<Cores>,
    /// Cores did not sleep between requests.
    awake: bool,
    requests: Vec<Row>,
    middlewares: Vec<MiddlewareRow>,
    bulk: Vec<BulkRow>,
}

fn micros(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// All variants with all numbers of connections, in turn. `cells[variant][connections]`.
fn measure(bench: &Bench, args: &Args, variants: &[Variant]) -> Result<Vec<Vec<Cell>>> {
    let servers = variants.iter().map(|variant| bench.start_variant(*variant)).collect::<Result<Vec<_>>>()?;
    for server in &servers {
        eprintln!("warming up {}", server.name);
        wrk(&bench.wrk, bench.load_core(), server, 16, 1)?;
    }
    let mut cells = vec![vec![Cell::default(); args.conns.len()]; variants.len()];
    for round in 0..args.rounds.get() {
        for (column, connections) in args.conns.iter().enumerate() {
            eprintln!("round {} of {}, {connections} connections", round + 1, args.rounds);
            for variant in order(round, servers.len()) {
                let (load, cpu) = wrk(&bench.wrk, bench.load_core(), &servers[variant], *connections, args.duration)?;
                let cell = &mut cells[variant][column];
                cell.rate.push(load.rate);
                cell.p50_micros.push(micros(load.p50));
                cell.p99_micros.push(micros(load.p99));
                cell.cpu_micros.push(micros(cpu) / load.requests as f64);
                cell.errors += load.errors;
            }
        }
    }
    Ok(cells)
}

/// What was measured, as rows.
fn rows(args: &Args, variants: &[Variant], cells: &[Vec<Cell>]) -> (Vec<Row>, Vec<MiddlewareRow>) {
    let cpu = |variant: Variant, column: usize| {
        let position = variants.iter().position(|known| *known == variant)?;
        Some(cells[position][column].cpu_micros.median())
    };
    let native = Variant { kind: Kind::Native, middlewares: 0 };
    let (mut rows, mut middlewares) = (Vec::new(), Vec::new());
    for (column, connections) in args.conns.iter().enumerate() {
        for (variant, cells) in variants.iter().zip(cells) {
            let cell = &cells[column];
            let own = cell.cpu_micros.median();
            rows.push(Row {
                variant: variant.name(),
                connections: *connections,
                requests_per_second: cell.rate.median(),
                p50_micros: cell.p50_micros.median(),
                p99_micros: cell.p99_micros.median(),
                cpu_micros_per_request: own,
                to_native: cpu(native, column).map(|native| own / native),
                to_wasmtime: cpu(variant.of(Kind::Wasmtime), column).map(|wasmtime| own / wasmtime),
                samples: cell.clone(),
            });
        }
        for kind in [Kind::Interflow, Kind::Wasmtime] {
            let hello = cpu(Variant { kind, middlewares: 0 }, column);
            for middlewares_count in MIDDLEWARES.into_iter().filter(|count| *count > 0) {
                let chain = cpu(Variant { kind, middlewares: middlewares_count }, column);
                let Some((hello, chain)) = hello.zip(chain) else { continue };
                middlewares.push(MiddlewareRow {
                    runtime: kind.name(),
                    connections: *connections,
                    middlewares: middlewares_count,
                    cpu_micros_each: (chain - hello) / middlewares_count as f64,
                });
            }
        }
    }
    (rows, middlewares)
}

fn verdict(value: f64, max: f64) -> String {
    if value <= max { "ok" } else { "over" }.to_string()
}

fn print_requests(report: &Report) {
    let head = [
        "server",
        "conns",
        "req/s",
        "p50 us",
        "p99 us",
        "CPU us/req",
        "x native",
        "x wasmtime",
        "target",
        "",
        "errors",
    ];
    let mut table = Table::new(&head);
    let ratio = |ratio: Option<f64>| ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
    for row in &report.requests {
        let hello = row.variant == (Variant { kind: Kind::Interflow, middlewares: 0 }).name();
        let target = row.to_native.filter(|_| hello);
        table.row(vec![
            row.variant.clone(),
            row.connections.to_string(),
            format!("{:.0}", row.requests_per_second),
            number(row.p50_micros),
            number(row.p99_micros),
            format!("{:.2}", row.cpu_micros_per_request),
            ratio(row.to_native),
            ratio(row.to_wasmtime.filter(|_| !row.variant.starts_with(Kind::Native.name()))),
            target.map_or_else(String::new, |_| format!("{HELLO_RATIO_MAX} x native")),
            target.map_or_else(String::new, |ratio| verdict(ratio, HELLO_RATIO_MAX)),
            match row.samples.errors {
                0 => String::new(),
                errors => errors.to_string(),
            },
        ]);
    }
    for row in &report.middlewares {
        let ours = row.runtime == Kind::Interflow.name();
        let baseline = report.middlewares.iter().find(|other| {
            let same = (other.connections, other.middlewares) == (row.connections, row.middlewares);
            same && other.runtime == Kind::Wasmtime.name()
        });
        table.row(vec![
            format!("{}: each of {} middlewares adds", row.runtime, row.middlewares),
            row.connections.to_string(),
            String::new(),
            String::new(),
            String::new(),
            format!("{:+.2}", row.cpu_micros_each),
            String::new(),
            ratio(baseline.map(|baseline| row.cpu_micros_each / baseline.cpu_micros_each)),
            if ours { format!("{MIDDLEWARE_MICROS_MAX} us") } else { String::new() },
            if ours { verdict(row.cpu_micros_each, MIDDLEWARE_MICROS_MAX) } else { String::new() },
            String::new(),
        ]);
    }
    print!("{table}");
    if report.requests.iter().any(|row| row.samples.errors > 0) {
        println!("rows with errors: requests that fail cost less than those that are answered, so do not compare them");
    }
}

/// Size of an upload.
const BULK_BYTES: u64 = 1 << 30;

/// What is done with an upload, and how many processor seconds interflow may use for it.
const BULK: [(&str, f64); 3] = [("/sink", 0.25), ("/echo", 0.60), ("/splice", 0.50)];

fn measure_bulk(bench: &Bench, args: &Args) -> Result<Vec<BulkRow>> {
    require("curl", "curl")?;
    let kinds: Vec<Kind> = [Kind::Native, Kind::Interflow, Kind::Wasmtime]
        .into_iter()
        .filter(|kind| kind.name().contains(&args.variants))
        .collect();
    let start = |kind: &Kind| bench.start(*kind, &format!("{} echo", kind.name()), vec![bench.guest("echo")]);
    let servers = kinds.iter().map(start).collect::<Result<Vec<_>>>()?;
    // Without blocks on the disk: reading it costs the client little, and the server nothing.
    let file = Sparse::new(BULK_BYTES)?;
    let mut samples = vec![[const { (Vec::new(), Vec::new()) }; BULK.len()]; kinds.len()];
    for round in 0..args.rounds.get() {
        for (what, (path, _)) in BULK.into_iter().enumerate() {
            eprintln!("round {} of {}, {path}", round + 1, args.rounds);
            for server in order(round, servers.len()) {
                // The native server does not know a copy from a pass-through.
                if kinds[server] == Kind::Native && path == "/splice" {
                    continue;
                }
                let (bytes, seconds, cpu) = upload(bench.load_core(), &servers[server], path, &file.0)?;
                let complete = path == "/sink" || bytes == BULK_BYTES;
                ensure!(complete, "{}: {bytes} bytes came back from {path}", servers[server].name);
                samples[server][what].0.push(cpu.as_secs_f64());
                samples[server][what].1.push(1.0 / seconds);
            }
        }
    }
    let gib = BULK_BYTES as f64 / f64::from(1 << 30);
    let median = |values: &[f64]| {
        let mut samples = Samples::default();
        values.iter().for_each(|value| samples.push(*value));
        samples.median()
    };
    let mut rows = Vec::new();
    for (kind, samples) in kinds.iter().zip(&samples) {
        for ((path, _), (cpu, rate)) in BULK.into_iter().zip(samples).filter(|(_, (cpu, _))| !cpu.is_empty()) {
            let (cpu_seconds_per_gib, gib_per_second) = (median(cpu) / gib, median(rate) * gib);
            rows.push(BulkRow { runtime: kind.name(), path, cpu_seconds_per_gib, gib_per_second });
        }
    }
    Ok(rows)
}

fn print_bulk(rows: &[BulkRow]) {
    let mut table = Table::new(&["1 GiB upload", "path", "CPU s/GiB", "GiB/s", "x wasmtime", "target", ""]);
    for row in rows {
        let baseline = rows.iter().find(|other| other.runtime == Kind::Wasmtime.name() && other.path == row.path);
        let target = BULK.into_iter().find(|(path, _)| *path == row.path && row.runtime == Kind::Interflow.name());
        table.row(vec![
            row.runtime.to_string(),
            row.path.to_string(),
            format!("{:.2}", row.cpu_seconds_per_gib),
            format!("{:.2}", row.gib_per_second),
            baseline.map_or_else(String::new, |other| {
                format!("{:.2}", row.cpu_seconds_per_gib / other.cpu_seconds_per_gib)
            }),
            target.map_or_else(String::new, |(_, max)| format!("{max:.2} s")),
            target.map_or_else(String::new, |(_, max)| verdict(row.cpu_seconds_per_gib, max)),
        ]);
    }
    print!("{table}");
}

/// A file of zeros that takes no room, removed in the end.
struct Sparse(PathBuf);

impl Sparse {
    fn new(bytes: u64) -> Result<Sparse> {
        let path = std::env::temp_dir().join(format!("interflow-bench-{}", std::process::id()));
        let file = std::fs::File::create_new(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let sparse = Sparse(path);
        file.set_len(bytes)?;
        Ok(sparse)
    }
}

impl Drop for Sparse {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn write_json(path: &Path, report: &Report) -> Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let bench = Bench::find(args)?;
    let _awake = match bench.cores {
        Some(cores) if args.awake => Some(Awake::start(cores)?),
        None if args.awake => {
            bail!("`--awake` needs two cores: what keeps a core awake would take turns with the load")
        }
        _ => None,
    };
    let (machine, cores, awake) = (benches::machine(), bench.cores, args.awake);
    let mut report = Report { machine, cores, awake, ..Report::default() };
    if !args.bulk_only {
        let variants: Vec<Variant> =
            Variant::all().into_iter().filter(|variant| variant.name().contains(&args.variants)).collect();
        ensure!(!variants.is_empty(), "no server's name contains `{}`", args.variants);
        let cells = measure(&bench, args, &variants)?;
        (report.requests, report.middlewares) = rows(args, &variants, &cells);
    }
    if args.bulk || args.bulk_only {
        report.bulk = measure_bulk(&bench, args)?;
    }
    println!("{}", report.machine);
    match report.cores {
        Some(cores) => println!("one worker on core {}, load from core {}", cores.server, cores.load),
        None => println!("one core for servers and load: take ratios, not absolutes"),
    }
    let awake = if args.awake { "; cores do not sleep" } else { "" };
    println!("medians of {} runs, taken in turn; interflow --io {}{awake}", args.rounds, args.io);
    if !report.requests.is_empty() {
        println!();
        print_requests(&report);
    }
    if !report.bulk.is_empty() {
        println!();
        print_bulk(&report.bulk);
    }
    match &args.json {
        Some(path) => write_json(path, &report),
        None => Ok(()),
    }
}
