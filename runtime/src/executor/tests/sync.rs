//! Waiting in line.

use std::cell::Cell;
use std::rc::Rc;

use super::super::sync::{Full, Notify, Semaphore, keep_waker};
use super::*;

#[test]
fn a_notification_wakes_one_or_is_remembered_once() {
    on_both(|| async {
        let notify = Rc::new(Notify::new());
        notify.notify_one();
        notify.notify_one();
        notify.notified().await;
        assert!(timeout(Duration::from_millis(1), notify.notified()).await.is_err());

        let woken = Rc::new(Cell::new(0));
        for _ in 0..3 {
            let (notify, woken) = (notify.clone(), woken.clone());
            drop(spawn(async move {
                notify.notified().await;
                woken.set(woken.get() + 1);
            }));
        }
        yield_now().await;
        notify.notify_one();
        yield_now().await;
        assert_eq!(woken.get(), 1);
        notify.notify_waiters();
        yield_now().await;
        assert_eq!(woken.get(), 3);
    });
}

#[test]
fn a_notification_for_a_waiter_that_is_gone_goes_to_the_next() {
    on_both(|| async {
        let notify = Rc::new(Notify::new());
        let wait = |notify: Rc<Notify>| spawn(async move { notify.notified().await });
        let (first, second) = (wait(notify.clone()), wait(notify.clone()));
        yield_now().await;
        notify.notify_one();
        // Served, but aborted before it looks.
        first.abort();
        second.await.expect("the second is notified instead");
    });
}

#[test]
fn permits_are_given_in_order_and_the_line_is_bounded() {
    on_both(|| async {
        let semaphore = Semaphore::new(1, 2);
        let order = Rc::new(RefCell::new(Vec::new()));
        let held = semaphore.acquire().await.expect("free");
        assert!(semaphore.try_acquire().is_none());
        let wait = |name: u32| {
            let (semaphore, order) = (semaphore.clone(), order.clone());
            spawn(async move {
                let _permit = semaphore.acquire().await?;
                order.borrow_mut().push(name);
                yield_now().await;
                Ok::<(), Full>(())
            })
        };
        let tasks = [wait(0), wait(1)];
        yield_now().await;
        assert_eq!(semaphore.waiting(), 2);
        assert_eq!(semaphore.acquire().await.expect_err("the line is full"), Full);
        drop(held);
        for task in tasks {
            task.await.expect("a result").expect("a permit");
        }
        assert_eq!(*order.borrow(), [0, 1]);
        assert_eq!((semaphore.free(), semaphore.waiting()), (1, 0));
    });
}

#[test]
fn a_permit_for_a_waiter_that_is_gone_is_not_lost() {
    on_both(|| async {
        let semaphore = Semaphore::new(1, 8);
        let held = semaphore.acquire().await.expect("free");
        let wait = || {
            let semaphore = semaphore.clone();
            spawn(async move { semaphore.acquire().await })
        };
        let (gone, served, left) = (wait(), wait(), wait());
        yield_now().await;
        left.abort();
        yield_now().await;
        assert_eq!(semaphore.waiting(), 2);
        drop(held);
        gone.abort();
        drop(served.await.expect("a result").expect("the permit of the one that is gone"));
        yield_now().await;
        assert_eq!((semaphore.free(), semaphore.waiting()), (1, 0));
    });
}

#[test]
fn an_early_phase_is_reached_by_a_later_one() {
    on_both(|| async {
        let shutdown = Shutdown::new();
        shutdown.reached(Phase::Running).await;
        let draining = spawn(shutdown.reached(Phase::Draining));
        let stopping = spawn(shutdown.reached(Phase::Stopping));
        yield_now().await;
        shutdown.advance(Phase::Stopping);
        shutdown.advance(Phase::Draining);
        assert_eq!(shutdown.phase(), Phase::Stopping);
        draining.await.expect("a result");
        stopping.await.expect("a result");
    });
}

struct Silent;

impl std::task::Wake for Silent {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_waker_is_kept_once_and_the_one_that_it_replaces_is_given_back() {
    let [first, second] = [Arc::new(Silent), Arc::new(Silent)];
    let wakers = [first.clone(), second.clone()].map(std::task::Waker::from);
    let tasks = wakers.each_ref().map(std::task::Context::from_waker);
    let mut place = None;
    assert!(keep_waker(&mut place, &tasks[0]).is_none());
    assert!(keep_waker(&mut place, &tasks[0]).is_none(), "it is there");
    assert_eq!(Arc::strong_count(&first), 3, "ours, the task's, the one kept");
    let old = keep_waker(&mut place, &tasks[1]).expect("another was there");
    assert!(old.will_wake(tasks[0].waker()));
    drop((old, place));
    assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (2, 2));
}
