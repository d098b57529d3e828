//! Spawning, joining, aborting, waking, ending.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc as threads;
use std::thread;

use super::*;
use crate::ring::sys;

/// Sets a flag when dropped.
struct Flag(Rc<Cell<bool>>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

fn flag() -> (Flag, Rc<Cell<bool>>) {
    let raised = Rc::new(Cell::new(false));
    (Flag(raised.clone()), raised)
}

#[test]
fn a_task_runs_and_its_handle_gives_the_result() {
    on_both(|| async {
        let not_send = Rc::new(21);
        let task = spawn(async move { *not_send * 2 });
        assert_eq!(task.await.expect("a result"), 42);
    });
}

#[test]
fn tasks_run_in_the_order_they_were_woken() {
    on_both(|| async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = (0..3)
            .map(|i| {
                let order = order.clone();
                spawn(async move {
                    for _ in 0..3 {
                        order.borrow_mut().push(i);
                        yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("a result");
        }
        assert_eq!(*order.borrow(), [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    });
}

#[test]
fn a_task_that_yields_goes_on_in_another_poll_even_if_it_is_polled_again_in_this_one() {
    on_both(|| async {
        let mut once = Box::pin(yield_now());
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            // As hyper polls its service: more than once while it can do something else.
            let (first, second) =
                (once.as_mut().poll(cx), if polls == 1 { once.as_mut().poll(cx) } else { Poll::Pending });
            assert_eq!((first.is_ready(), second.is_ready()), (polls == 2, false), "poll {polls}");
            first
        })
        .await;
    });
}

/// Gives way `times`, busy for a while before each.
async fn spin(times: usize, busy: Duration) {
    for _ in 0..times {
        let start = now();
        while start.elapsed() < busy {
            std::hint::spin_loop();
        }
        give_way();
        yield_now().await;
    }
}

/// Who is first: a task that gives way, or one that needs many polls.
async fn who_is_first() -> &'static str {
    let first = Rc::new(Cell::new(""));
    let finish = |what: &'static str| {
        let first = first.clone();
        move || first.set(if first.get().is_empty() { what } else { first.get() })
    };
    let (late, other) = (finish("late"), finish("other"));
    let late = spawn(async move {
        spin(1, Duration::ZERO).await;
        late();
    });
    let other = spawn(async move {
        // A chain of steps, as a request is.
        for _ in 0..100 {
            yield_now().await;
        }
        other();
    });
    late.await.expect("a result");
    other.await.expect("a result");
    first.get()
}

#[test]
fn a_task_that_gives_way_goes_on_when_nobody_else_can() {
    on_both(|| async {
        // A machine that does something else for 10 ms in between may spoil one, not all.
        for _ in 0..5 {
            if who_is_first().await == "other" {
                return;
            }
        }
        panic!("the task that gave way was first, every time");
    });
}

#[test]
fn a_task_that_gives_way_goes_on_after_a_while_though_others_never_rest() {
    on_both(|| async {
        let restless = spawn(async {
            loop {
                yield_now().await;
            }
        });
        let start = now();
        let several: Vec<_> = (0..3).map(|_| spawn(spin(3, Duration::from_millis(1)))).collect();
        for one in several {
            one.await.expect("a result");
        }
        restless.abort();
        // Nine times, one at a time.
        assert!(GIVE_WAY_MAX * 9 <= start.elapsed(), "{:?}", start.elapsed());
    });
}

#[test]
fn dropping_a_handle_lets_the_task_go_on() {
    on_both(|| async {
        let done = Rc::new(Cell::new(false));
        let inner = done.clone();
        drop(spawn(async move {
            yield_now().await;
            inner.set(true);
        }));
        while !done.get() {
            yield_now().await;
        }
    });
}

#[test]
fn a_panic_ends_its_task_only_and_reaches_the_handle() {
    on_both(|| async {
        let (flag, dropped) = flag();
        let task = spawn(async move {
            let _flag = flag;
            yield_now().await;
            panic!("on purpose: {}", 7);
        });
        let neighbour = spawn(async { "fine" });
        let error = task.await.expect_err("a panic");
        assert_eq!(error.to_string(), "the task panicked: on purpose: 7");
        assert!(matches!(error, JoinError::Panicked(_)));
        assert_eq!(neighbour.await.expect("a result"), "fine");
        yield_now().await;
        assert!(dropped.get());
    });
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("on purpose, in a destructor");
    }
}

#[test]
fn a_result_that_nobody_wants_and_that_panics_does_not_take_the_thread_down() {
    on_both(|| async {
        drop(spawn(async { Bomb }));
        yield_now().await;
        assert_eq!(stats().tasks, 0);
    });
}

#[test]
fn a_destructor_that_panics_does_not_take_the_thread_down() {
    on_both(|| async {
        let bomb = Bomb;
        let task = spawn(async move {
            let _bomb = bomb;
            pending::<()>().await;
        });
        yield_now().await;
        task.abort();
        assert!(matches!(task.await, Err(JoinError::Aborted)));
    });
}

#[test]
fn aborting_drops_the_task_and_is_harmless_later() {
    on_both(|| async {
        let (flag, dropped) = flag();
        let task = spawn(async move {
            let _flag = flag;
            pending::<()>().await;
        });
        yield_now().await;
        assert!(!task.is_finished());
        task.abort();
        task.abort();
        assert!(!dropped.get(), "not inside abort, whose caller may hold borrows");
        while !task.is_finished() {
            yield_now().await;
        }
        assert!(dropped.get());
        task.abort();
        assert!(matches!(task.await, Err(JoinError::Aborted)));

        let task = spawn(async { 1 });
        yield_now().await;
        task.abort();
        assert_eq!(task.await.expect("a task that has ended keeps its result"), 1);
    });
}

#[test]
fn a_task_may_abort_itself() {
    on_both(|| async {
        let own: Rc<RefCell<Option<JoinHandle<()>>>> = Rc::default();
        let inner = own.clone();
        let task = spawn(async move {
            inner.borrow().as_ref().expect("set below").abort();
            pending::<()>().await;
        });
        *own.borrow_mut() = Some(task);
        yield_now().await;
        yield_now().await;
        assert!(own.borrow().as_ref().expect("set above").is_finished());
    });
}

#[test]
fn runnable_tasks_do_not_keep_the_ring_from_working() {
    on_both(|| async {
        let stop = Rc::new(Cell::new(false));
        let busy: Vec<_> = (0..4)
            .map(|_| {
                let stop = stop.clone();
                spawn(async move {
                    while !stop.get() {
                        yield_now().await;
                    }
                })
            })
            .collect();
        let (reader, writer) = sys::pipe().expect("a pipe");
        let waking = thread::spawn(move || {
            thread::sleep(Duration::from_millis(5));
            sys::eventfd_add_one(std::os::fd::AsRawFd::as_raw_fd(&writer));
            writer
        });
        crate::executor::net::readable(&reader).await.expect("readiness among busy tasks");
        sleep(Duration::from_millis(5)).await;
        stop.set(true);
        for task in busy {
            task.await.expect("a result");
        }
        drop(waking.join());
    });
}

#[test]
fn what_is_not_held_by_the_root_goes_on_in_the_next_run() {
    for choice in choices() {
        let executor = Executor::new(&choice).expect("an executor");
        let mut task = None;
        executor.block_on(async {
            task = Some(spawn(async {
                yield_now().await;
                5
            }));
        });
        let task = task.expect("spawned above");
        assert_eq!(executor.stats().tasks, 1);
        assert_eq!(executor.block_on(task).expect("a result"), 5);
    }
}

#[test]
fn dropping_the_executor_drops_its_tasks_and_aborts_what_they_spawn() {
    /// Spawns from its destructor.
    struct Spawner(Rc<RefCell<Option<JoinHandle<()>>>>);
    impl Drop for Spawner {
        fn drop(&mut self) {
            *self.0.borrow_mut() = Some(spawn(async {}));
        }
    }
    for choice in choices() {
        let executor = Executor::new(&choice).expect("an executor");
        let (flag, dropped) = flag();
        let spawned = Rc::default();
        let spawner = Spawner(Rc::clone(&spawned));
        let mut task = None;
        executor.block_on(async {
            task = Some(spawn(async move {
                let _owned = (flag, spawner, sleep(Duration::from_secs(60)).await);
            }));
            yield_now().await;
        });
        let task = task.expect("spawned above");
        drop(executor);
        assert!(dropped.get());
        assert!(task.is_finished());
        assert!(spawned.borrow().as_ref().expect("a handle").is_finished());
    }
}

#[test]
fn wakers_work_from_any_thread_also_when_the_executor_is_gone() {
    for choice in choices() {
        let (wakers, from_task) = threads::channel();
        let executor = Executor::new(&choice).expect("an executor");
        executor.block_on(async {
            drop(spawn(poll_fn::<(), _>(move |cx| {
                wakers.send(cx.waker().clone()).expect("the thread listens");
                Poll::Pending
            })));
            yield_now().await;
        });
        let waker = from_task.recv().expect("a waker");
        drop(executor);
        thread::spawn(move || {
            waker.wake_by_ref();
            let other = waker.clone();
            drop(waker);
            other.wake();
        })
        .join()
        .expect("waking is harmless");
    }
}

#[test]
fn a_storm_of_wake_ups_from_other_threads_loses_none() {
    const THREADS: usize = 3;
    const WAKES: usize = 10_000;
    on_both(|| async {
        let asked = Arc::new(AtomicUsize::new(0));
        let answered = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (wakers, from_task) = threads::channel::<Waker>();
        // The task answers whatever was asked before its last wake-up.
        let task = {
            let (asked, answered, stop) = (asked.clone(), answered.clone(), stop.clone());
            let mut sent = false;
            spawn(poll_fn(move |cx| {
                answered.store(asked.load(Ordering::SeqCst), Ordering::SeqCst);
                if !std::mem::replace(&mut sent, true) {
                    wakers.send(cx.waker().clone()).expect("the thread listens");
                }
                if stop.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
            }))
        };
        yield_now().await;
        let waker = from_task.recv().expect("a waker");
        let waking: Vec<_> = (0..THREADS)
            .map(|_| {
                let (asked, answered, waker) = (asked.clone(), answered.clone(), waker.clone());
                thread::spawn(move || {
                    for i in 0..WAKES {
                        let mine = asked.fetch_add(1, Ordering::SeqCst) + 1;
                        waker.wake_by_ref();
                        // Now and then wait for the answer, so that the other side parks.
                        while i % 64 == 0 && answered.load(Ordering::SeqCst) < mine {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let finished = spawn(async move {
            while !waking.iter().all(thread::JoinHandle::is_finished) {
                sleep(Duration::from_millis(2)).await;
            }
        });
        finished.await.expect("all threads got their answers");
        while answered.load(Ordering::SeqCst) < THREADS * WAKES {
            sleep(Duration::from_millis(1)).await;
        }
        stop.store(true, Ordering::SeqCst);
        waker.wake();
        task.await.expect("a result");
    });
}

#[test]
fn a_thread_that_runs_is_not_woken_by_a_system_call() {
    on_both(|| async {
        let (wakers, from_task) = threads::channel::<Waker>();
        let root = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        wakers.send(root).expect("we listen ourselves");
        let waker = from_task.recv().expect("a waker");
        let enters = stats().ring.enters;
        // While this thread does not park, foreign wake-ups go through the inbox alone.
        thread::spawn(move || (0..1000).for_each(|_| waker.wake_by_ref())).join().expect("the waking thread");
        yield_now().await;
        assert!(stats().ring.enters - enters < 4);
    });
}

#[test]
fn an_executor_inside_another_is_refused() {
    for choice in choices() {
        let outer = Executor::new(&choice).expect("an executor");
        let inner = Executor::new(&choice).expect("an executor");
        outer.block_on(async {
            let nested = catch_unwind(AssertUnwindSafe(|| inner.block_on(async {})));
            assert!(nested.is_err());
            // And dropping one there leaves the outer one in charge.
            drop(inner);
            spawn(async {}).await.expect("a result");
        });
    }
}

#[test]
fn a_panic_of_the_root_leaves_the_executor_usable() {
    for choice in choices() {
        let executor = Executor::new(&choice).expect("an executor");
        let panicked = catch_unwind(AssertUnwindSafe(|| executor.block_on(async { panic!("on purpose") })));
        assert!(panicked.is_err());
        assert!(!is_running());
        assert_eq!(executor.block_on(async { 3 }), 3);
    }
}

#[test]
fn tokio_works_beside() {
    on_both(|| async {
        let _guard = beside::enter().expect("the runtime starts");
        let slow = tokio::task::spawn_blocking(|| {
            thread::sleep(Duration::from_millis(5));
            7
        });
        assert_eq!(slow.await.expect("a result"), 7);

        let started = Instant::now();
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(Duration::from_millis(5) <= started.elapsed());

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let addr = listener.local_addr().expect("an address");
        let (accepted, mut ours) = futures::join!(listener.accept(), async {
            crate::executor::net::TcpStream::connect(addr).await.expect("a connection")
        });
        let (theirs, _) = accepted.expect("a connection");
        ours.write_all(b"across").await.expect("a write");
        theirs.readable().await.expect("readiness");
        let mut buf = [0; 16];
        let n = theirs.try_read(&mut buf).expect("bytes");
        assert_eq!(&buf[..n], b"across");
    });
}
