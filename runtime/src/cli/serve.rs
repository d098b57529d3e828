//! `interflow serve`: link a chain and serve it until a signal comes.

use super::{Failure, seconds, size};
use crate::component;
use crate::component::cache::{self, Cache};
use crate::component::compose::Link;
use crate::executor::signal::{Signal, Signals};
use crate::executor::worker::{WorkerConfig, Workers};
use crate::executor::{Executor, Phase, Shutdown};
use crate::graph::{Service, ServiceConfig};
use crate::host::wasi::WasiCtxBuilder;
use crate::http::client::{OutboundConfig, Rule};
use crate::http::server::{self, Server, ServerConfig};
use crate::ring::{self, IoMode};
use anyhow::{Context, anyhow};
use clap::Args;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Serves a chain of components over HTTP/1.1 and HTTP/2.
///
/// The first file is the outermost: its import of `wasi:http/handler` is linked to the next file's export, and so on; the last is
/// a `wasi:http/service`. A request travels through all of them as one asynchronous function call.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// Components, outermost first
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "IP:PORT")]
    addr: SocketAddr,

    /// Threads that serve, each with its own connections and zones [default: one per core]
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,

    /// How to do I/O: auto, uring or epoll
    #[arg(long, default_value = "auto", value_name = "DRIVER")]
    io: IoMode,

    /// Requests that one zone (a set of instances of the chain) takes at once
    #[arg(long, default_value = "64", value_name = "N")]
    max_concurrent: NonZeroUsize,

    /// Requests after which a zone is replaced by a fresh one
    #[arg(long, default_value = "100000", value_name = "N")]
    max_requests: NonZeroUsize,

    /// Zones per worker
    #[arg(long, default_value = "256", value_name = "N")]
    max_zones: NonZeroUsize,

    /// Requests per worker that wait for a zone; more are answered with 503
    #[arg(long, default_value = "1024", value_name = "N")]
    queue: usize,

    /// Seconds until a response must have begun, else 504
    #[arg(long, default_value = "30", value_name = "SECONDS", value_parser = seconds)]
    timeout: Duration,

    /// Memory of one zone, like 256M or 1G; the host keeps at most 64M for it besides
    #[arg(long, default_value = "512M", value_name = "SIZE", value_parser = size::parse)]
    max_memory: usize,

    /// Seconds that a connection may be open without a request; a request's head may take as long
    #[arg(long, default_value = "75", value_name = "SECONDS", value_parser = seconds)]
    idle: Duration,

    /// Seconds that requests in flight get to finish after a stop signal
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = seconds)]
    drain: Duration,

    /// Lets guests send requests to this host; `*` for any host, ports 80 and 443 if none is given. May be repeated
    #[arg(long, value_name = "HOST[:PORT]")]
    allow_outbound: Vec<Rule>,

    /// Sets an environment variable of the guests. May be repeated
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    environment: Vec<(String, String)>,

    /// Offers `lab:` imports to guests: operations on streams that the Component Model does not have. They are experiments
    /// and may change with any version
    #[arg(long)]
    lab: bool,

    /// Where compiled chains are kept, or `off` [default: interflow in the user's cache directory]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

/// How much longer than the drain the workers get before they are told to stop.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_string(), value.to_string())),
        _ => Err(format!("`{text}` is not NAME=VALUE")),
    }
}

impl Serve {
    pub(crate) fn run(self) -> Result<(), Failure> {
        raise_file_limit();
        let choice = ring::probe(self.io).map_err(|error| Failure::Input(error.into()))?;
        tracing::info!("I/O by {choice}");
        let engine = component::engine().map_err(Failure::Run)?;
        let service = self.load(&engine)?;
        component::tick(&engine).context("cannot start the epoch thread").map_err(Failure::Run)?;
        let count = self.workers.unwrap_or_else(|| std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN));
        self.serve(service, count, choice).map_err(Failure::Run)
    }

    fn load(&self, engine: &wasmtime::Engine) -> Result<Arc<Service>, Failure> {
        let chain = self.files.iter().map(read).collect::<anyhow::Result<Vec<_>>>().map_err(Failure::Input)?;
        let wasi = self.environment.iter().fold(WasiCtxBuilder::new(), |wasi, (name, value)| wasi.env(name, value));
        let config = ServiceConfig {
            concurrent_max: self.max_concurrent,
            requests_max: self.max_requests,
            zones_max: self.max_zones,
            queue_max: self.queue,
            timeout: self.timeout,
            memory_bytes_max: self.max_memory,
            wasi,
            lab: self.lab,
        };
        let cache = self.open_cache();
        Service::load(engine, &chain, cache.as_ref(), config).map_err(|error| Failure::Input(error.into()))
    }

    /// A cache that cannot be used is no reason not to serve.
    fn open_cache(&self) -> Option<Cache> {
        let dir = match &self.cache {
            Some(dir) if dir.as_os_str() == "off" => return None,
            Some(dir) => dir.clone(),
            None => Cache::default_dir()?,
        };
        Cache::open(&dir, cache::SIZE_MAX_DEFAULT)
            .map_err(|error| tracing::warn!("compiled chains are not kept: {:#}", anyhow!(error)))
            .ok()
    }

    fn serve(&self, service: Arc<Service>, count: NonZeroUsize, choice: ring::Choice) -> anyhow::Result<()> {
        let shutdown = Shutdown::new();
        // One listener first: it says whether the address can be had, and which port it is.
        let addr = server::reserve(self.addr).with_context(|| format!("cannot listen on {}", self.addr))?;
        let outbound = OutboundConfig::new(self.allow_outbound.iter().cloned().collect());
        let server = ServerConfig {
            addr: addr.addr(),
            drain: self.drain,
            idle: self.idle,
            shutdown: shutdown.clone(),
            outbound,
        };
        let mut workers = WorkerConfig::new(count, choice.clone());
        workers.shutdown = shutdown.clone();
        let left = Arc::new(AtomicUsize::new(count.get()));
        let (listening, listens) = std::sync::mpsc::channel();
        let start = move |worker| {
            let (service, server, left, listening) = (service.clone(), server.clone(), left.clone(), listening.clone());
            async move {
                let shutdown = server.shutdown.clone();
                let result = match Server::listen(worker, service, server).await {
                    Ok(server) => {
                        // Nobody waits for it only when another worker has failed.
                        let _ = listening.send(());
                        drop(listening);
                        server.run().await;
                        Ok(())
                    }
                    Err(error) => Err(error),
                };
                // The last one out, or one that cannot work, ends the process.
                if left.fetch_sub(1, Ordering::AcqRel) == 1 || result.is_err() {
                    shutdown.advance(Phase::Stopping);
                }
                result
            }
        };
        let workers = Workers::start(workers, start).context("cannot start the workers")?;
        // Before anybody is told that it serves, and so may send one.
        let mut stop = Signals::install().context("cannot wait for signals")?;
        let signals = Executor::new(&choice).context("cannot wait for signals")?;
        if listens.iter().take(count.get()).count() == count.get() {
            eprintln!("serving {} on http://{} with {count} workers", self.chain_name(), addr.addr());
        }
        signals.block_on(wait_for_stop(&mut stop, &shutdown, self.drain))?;
        drop(addr);
        let errors: Vec<_> = workers.join()?.into_iter().filter_map(Result::err).collect();
        match errors.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn chain_name(&self) -> String {
        self.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" -> ")
    }
}

/// Each connection is a file; the soft limit is made for programs that use few.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!("cannot raise the number of open files beyond {current:?}: {error}");
    }
}

fn read(file: &PathBuf) -> anyhow::Result<Link> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Link { name: file.display().to_string(), bytes })
}

/// The first signal drains, the second stops; workers stop of themselves when they have failed.
async fn wait_for_stop(signals: &mut Signals, shutdown: &Shutdown, drain: Duration) -> anyhow::Result<()> {
    if let Some(asked) = signal_before(signals, shutdown, None).await? {
        tracing::info!(
            "{asked:?}: requests in flight get {} s to finish, a second signal stops at once",
            drain.as_secs_f64()
        );
        shutdown.advance(Phase::Draining);
        // Workers cut what is left at the end of the drain themselves; this is for those that hang.
        signal_before(signals, shutdown, Some(drain + DRAIN_GRACE)).await?;
    }
    shutdown.advance(Phase::Stopping);
    Ok(())
}

/// A signal, if one comes before the workers have stopped and before the time is up.
async fn signal_before(
    signals: &mut Signals,
    shutdown: &Shutdown,
    limit: Option<Duration>,
) -> anyhow::Result<Option<Signal>> {
    let signal = std::pin::pin!(signals.recv());
    let stopped = std::pin::pin!(shutdown.reached(Phase::Stopping));
    let first = futures::future::select(signal, stopped);
    let first = match limit {
        None => first.await,
        Some(limit) => match crate::executor::timeout(limit, first).await {
            Ok(first) => first,
            Err(_) => return Ok(None),
        },
    };
    match first {
        futures::future::Either::Left((signal, _)) => Ok(Some(signal?)),
        futures::future::Either::Right(_) => Ok(None),
    }
}
