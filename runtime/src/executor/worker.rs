//! One thread per core, each with its executor and one main future.
//!
//! Either all workers start or none runs. A worker that panics takes the others down in an orderly way: it advances the
//! [`Shutdown`] to [`Phase::Stopping`], and [`Workers::join`] reports it.

use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use super::task::panic_message;
use super::{Executor, Phase, Shutdown};
use crate::ring::{Choice, RingError, sys};

/// What the workers of a process have in common.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// How many threads.
    pub count: NonZeroUsize,
    /// What their rings are.
    pub choice: Choice,
    /// Threads are called `{name}-0`, `{name}-1` and so on.
    pub name: String,
    /// Each worker stays on one of the CPUs that the process may use, in turn.
    pub pin: bool,
    /// Bytes of stack per thread.
    pub stack_size: usize,
    /// Advanced to [`Phase::Stopping`] when a worker panics.
    pub shutdown: Shutdown,
}

impl WorkerConfig {
    /// Enough for compiled guests, which run on the worker's stack.
    const STACK_SIZE: usize = 8 << 20;

    /// `count` workers with the defaults: not pinned, 8 MiB of stack, a broadcast of their own.
    pub fn new(count: NonZeroUsize, choice: Choice) -> Self {
        WorkerConfig {
            count,
            choice,
            name: "worker".to_owned(),
            pin: false,
            stack_size: Self::STACK_SIZE,
            shutdown: Shutdown::new(),
        }
    }
}

/// Why the workers are not, or no longer, working.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The system gives no more threads.
    #[error("cannot start worker {worker}")]
    Spawn {
        /// Its number.
        worker: usize,
        /// The system's answer.
        source: io::Error,
    },
    /// A worker's ring cannot be set up.
    #[error("cannot start worker {worker}")]
    Ring {
        /// Its number.
        worker: usize,
        /// What failed.
        source: RingError,
    },
    /// A worker's main future panicked.
    #[error("worker {worker} panicked: {message}")]
    Panicked {
        /// Its number.
        worker: usize,
        /// The text of the panic.
        message: String,
    },
}

/// Threads that run until their main futures are ready.
#[derive(Debug)]
pub struct Workers<T> {
    threads: Vec<JoinHandle<Result<T, String>>>,
}

/// What a thread tells before it starts to work.
type Ready = Result<(), WorkerError>;

impl<T: Send + 'static> Workers<T> {
    /// Starts the workers. Worker `i` runs `init(i)`, called on its thread inside its executor.
    ///
    /// # Errors
    ///
    /// A thread or a ring cannot be made; then none of the futures has run.
    pub fn start<F, I>(config: WorkerConfig, init: I) -> Result<Self, WorkerError>
    where
        F: Future<Output = T>,
        I: Fn(usize) -> F + Send + Sync + 'static,
    {
        let init = Arc::new(init);
        let config = Arc::new(config);
        let cpus = if config.pin { sys::allowed_cpus() } else { Vec::new() };
        let (ready_tx, ready_rx) = mpsc::channel();
        let mut threads = Vec::new();
        let mut starts = Vec::new();
        let mut outcome = Ok(());
        for worker in 0..config.count.get() {
            let (start_tx, start_rx) = mpsc::channel();
            let (config, init, ready) = (config.clone(), init.clone(), ready_tx.clone());
            let cpu = cpus.get(worker % cpus.len().max(1)).copied();
            let builder =
                thread::Builder::new().name(format!("{}-{worker}", config.name)).stack_size(config.stack_size);
            let spawned = builder.spawn(move || work(worker, cpu, &config, &*init, ready, &start_rx));
            match spawned {
                Ok(thread) => {
                    threads.push(thread);
                    starts.push(start_tx);
                }
                Err(source) => {
                    outcome = Err(WorkerError::Spawn { worker, source });
                    break;
                }
            }
        }
        drop(ready_tx);
        for ready in ready_rx {
            // Each thread drops its sender with its report, so the last one ends the loop.
            outcome = outcome.and(ready);
        }
        match outcome {
            Ok(()) => {
                for start in starts {
                    // It fails if the worker is gone, which `join` will report.
                    let _ = start.send(());
                }
                Ok(Workers { threads })
            }
            Err(e) => {
                // Without a start the workers end.
                drop(starts);
                for thread in threads {
                    drop(thread.join());
                }
                Err(e)
            }
        }
    }

    /// Waits until all workers have ended and returns what their futures gave, by number.
    ///
    /// # Errors
    ///
    /// A worker panicked; the first by number is reported, all are logged.
    pub fn join(self) -> Result<Vec<T>, WorkerError> {
        let mut outputs = Vec::with_capacity(self.threads.len());
        let mut failed = None;
        for (worker, thread) in self.threads.into_iter().enumerate() {
            let ended = match thread.join() {
                Ok(ended) => ended,
                Err(payload) => Err(panic_message(&*payload).to_owned()),
            };
            match ended {
                Ok(output) => outputs.push(output),
                Err(message) => {
                    failed.get_or_insert(WorkerError::Panicked { worker, message });
                }
            }
        }
        failed.map_or(Ok(outputs), Err)
    }
}

/// A worker's thread.
fn work<F: Future>(
    worker: usize,
    cpu: Option<usize>,
    config: &WorkerConfig,
    init: &impl Fn(usize) -> F,
    ready: mpsc::Sender<Ready>,
    start: &mpsc::Receiver<()>,
) -> Result<F::Output, String> {
    if let Some(cpu) = cpu
        && let Err(source) = sys::pin_to_cpu(cpu)
    {
        // A wish, not a need.
        tracing::warn!(worker, cpu, %source, "cannot pin");
    }
    // Here, not where the thread is made: a ring belongs to the thread that sets it up.
    let executor = Executor::new(&config.choice);
    let (executor, report) = match executor {
        Ok(executor) => (Some(executor), Ok(())),
        Err(source) => (None, Err(WorkerError::Ring { worker, source })),
    };
    // The receiver is there until all senders are gone, so this cannot fail.
    drop(ready.send(report));
    drop(ready);
    match (executor, start.recv()) {
        (Some(executor), Ok(())) => run(worker, config, &executor, init),
        _ => Err("not started".to_owned()),
    }
}

fn run<F: Future>(
    worker: usize,
    config: &WorkerConfig,
    executor: &Executor,
    init: &impl Fn(usize) -> F,
) -> Result<F::Output, String> {
    let main = async { init(worker).await };
    catch_unwind(AssertUnwindSafe(|| executor.block_on(main))).map_err(|payload| {
        let message = panic_message(&*payload).to_owned();
        tracing::error!(worker, panic = message, "a worker panicked; stopping the others");
        config.shutdown.advance(Phase::Stopping);
        message
    })
}
