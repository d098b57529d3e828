//! Threads, their end, and the signals that bring it.

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicUsize;
use std::thread;

use super::super::signal::{Signal, Signals};
use super::super::worker::{WorkerConfig, WorkerError, Workers};
use super::*;

fn config(count: usize, choice: Choice) -> WorkerConfig {
    WorkerConfig::new(NonZeroUsize::new(count).expect("not zero"), choice)
}

#[test]
fn every_worker_runs_its_future_and_join_gives_the_results_in_order() {
    for choice in choices() {
        let mut config = config(3, choice);
        config.name = "tester".to_owned();
        config.pin = true;
        let workers = Workers::start(config, |i| async move {
            spawn(yield_now()).await.expect("a result");
            (i, thread::current().name().map(str::to_owned))
        });
        let results = workers.expect("workers").join().expect("results");
        let expected: Vec<_> = (0..3).map(|i| (i, Some(format!("tester-{i}")))).collect();
        assert_eq!(results, expected);
    }
}

#[test]
fn a_shutdown_from_any_thread_reaches_all_tasks_of_all_workers() {
    for choice in choices() {
        let config = config(3, choice);
        let shutdown = config.shutdown.clone();
        let waiting = Arc::new(AtomicUsize::new(0));
        let waits = waiting.clone();
        let inner = shutdown.clone();
        let workers = Workers::start(config, move |_| {
            let (shutdown, waiting) = (inner.clone(), waits.clone());
            async move {
                let tasks: Vec<_> = (0..50).map(|_| spawn(shutdown.reached(Phase::Draining))).collect();
                yield_now().await;
                waiting.fetch_add(1, Ordering::SeqCst);
                for task in tasks {
                    task.await.expect("a result");
                }
                stats().tasks
            }
        });
        let workers = workers.expect("workers");
        while waiting.load(Ordering::SeqCst) < 3 {
            thread::yield_now();
        }
        shutdown.advance(Phase::Draining);
        assert_eq!(workers.join().expect("results"), [0, 0, 0]);
    }
}

#[test]
fn a_worker_that_panics_stops_the_others_and_is_reported() {
    for choice in choices() {
        let config = config(3, choice);
        let shutdown = config.shutdown.clone();
        let workers = Workers::start(config, move |i| {
            let stopping = shutdown.reached(Phase::Stopping);
            async move {
                assert!(i != 1, "worker one, on purpose");
                stopping.await;
            }
        });
        let error = workers.expect("workers").join().expect_err("a panic");
        assert_eq!(error.to_string(), "worker 1 panicked: worker one, on purpose");
        assert!(matches!(error, WorkerError::Panicked { worker: 1, .. }));
    }
}

#[test]
fn a_worker_without_a_ring_keeps_all_from_starting() {
    in_own_process("workers::a_worker_without_a_ring_keeps_all_from_starting", || {
        for choice in choices() {
            // Descriptors for the first worker or two, not for all.
            let in_use = std::fs::read_dir("/proc/self/fd").expect("descriptors").count();
            limit_descriptors(in_use + 3);
            let ran = Arc::new(AtomicUsize::new(0));
            let counter = ran.clone();
            let started = Workers::start(config(8, choice), move |_| {
                counter.fetch_add(1, Ordering::SeqCst);
                async {}
            });
            limit_descriptors(1024);
            let error = started.expect_err("descriptors run out");
            assert!(matches!(error, WorkerError::Ring { .. }), "{error}");
            assert_eq!(ran.load(Ordering::SeqCst), 0);
        }
    });
}

#[expect(unsafe_code, reason = "a test sets the process's own limit")]
pub(super) fn limit_descriptors(count: usize) {
    let limit = libc::rlimit { rlim_cur: count as libc::rlim_t, rlim_max: 1024 };
    // SAFETY: the kernel reads `limit`, which outlives the call.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[expect(unsafe_code, reason = "a test sends its own process a signal")]
fn send_myself(signal: libc::c_int) {
    // SAFETY: no pointers; the process handles these signals.
    let result = unsafe { libc::kill(libc::getpid(), signal) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn signals_are_received_one_by_one_and_by_one_receiver() {
    in_own_process("workers::signals_are_received_one_by_one_and_by_one_receiver", || {
        on_both(|| async {
            let mut signals = Signals::install().expect("nobody else takes them");
            let second = Signals::install().expect_err("taken");
            assert_eq!(second.kind(), std::io::ErrorKind::AlreadyExists);
            assert!(timeout(Duration::from_millis(1), signals.recv()).await.is_err());
            send_myself(libc::SIGTERM);
            assert_eq!(signals.recv().await.expect("a signal"), Signal::Terminate);
            // The second one, while somebody waits for it.
            let waking = thread::spawn(|| {
                thread::sleep(Duration::from_millis(5));
                send_myself(libc::SIGINT);
                send_myself(libc::SIGTERM);
            });
            let mut received = [signals.recv().await, signals.recv().await].map(|signal| signal.expect("a signal"));
            received.sort_by_key(|signal| *signal == Signal::Terminate);
            assert_eq!(received, [Signal::Interrupt, Signal::Terminate]);
            waking.join().expect("the signalling thread");
        });
    });
}
