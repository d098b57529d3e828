//! Deadlines: never early, in order, cancelled without a trace.

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;

use proptest::prelude::*;

use super::super::timer::Timers;
use super::*;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn zero_and_past_deadlines_are_ready_at_once() {
    on_both(|| async {
        let turns = stats().turns;
        sleep(Duration::ZERO).await;
        sleep_until(Instant::now()).await;
        sleep_until(Instant::now().checked_sub(ms(1000)).unwrap_or_else(Instant::now)).await;
        assert_eq!(stats().turns, turns);
    });
}

#[test]
fn a_sleep_is_never_early_and_knows_less_than_a_millisecond() {
    on_both(|| async {
        for wait in [Duration::from_nanos(1), Duration::from_micros(100), ms(1), ms(15)] {
            let started = Instant::now();
            sleep(wait).await;
            assert!(wait <= started.elapsed());
        }
    });
}

#[test]
fn timers_fire_in_the_order_of_their_deadlines_and_equal_ones_in_the_order_of_arming() {
    on_both(|| async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let start = Instant::now() + ms(5);
        let tasks: Vec<_> = [(0, 20), (1, 0), (2, 10), (3, 10), (4, 0), (5, 10)]
            .map(|(name, after)| {
                let order = order.clone();
                spawn(async move {
                    sleep_until(start + ms(after)).await;
                    order.borrow_mut().push(name);
                })
            })
            .into();
        for task in tasks {
            task.await.expect("a result");
        }
        assert_eq!(*order.borrow(), [1, 4, 2, 3, 5, 0]);
    });
}

#[test]
fn a_sleep_that_never_ends_is_armed_and_cancelled() {
    on_both(|| async {
        let forever = sleep(Duration::MAX);
        assert_eq!(timeout(ms(2), forever).await, Err(Elapsed));
        assert_eq!(stats().timers, 1, "the scenario's own");
    });
}

#[test]
fn thousands_of_timers_are_cancelled_without_a_trace() {
    on_both(|| async {
        let mut tasks = Vec::new();
        let fired = Rc::new(Cell::new(0));
        for i in 0..20_000_u64 {
            let fired = fired.clone();
            tasks.push(spawn(async move {
                let late = sleep(Duration::from_secs(60 + i % 7));
                let early = sleep(ms(i % 11));
                futures::future::select(late, early).await;
                fired.set(fired.get() + 1);
            }));
        }
        for task in tasks {
            task.await.expect("a result");
        }
        assert_eq!(fired.get(), 20_000);
        assert_eq!(stats().timers, 1, "the scenario's own");
    });
}

#[test]
fn a_sleep_starts_over_when_it_is_reset() {
    on_both(|| async {
        let mut nap = sleep(Duration::from_secs(60));
        assert!(!poll_once(&mut nap).await);
        let started = Instant::now();
        nap.reset(started + ms(5));
        (&mut nap).await;
        assert!(ms(5) <= started.elapsed());
        nap.reset(Instant::now() + ms(1));
        nap.await;
    });
}

#[test]
fn a_sleep_wakes_whoever_polled_it_last() {
    on_both(|| async {
        let mut nap = sleep(ms(10));
        // Polled by this task first, then handed on.
        poll_once(&mut nap).await;
        spawn(nap).await.expect("the second task is woken");
    });
}

#[test]
fn a_timeout_gives_the_output_or_elapsed() {
    on_both(|| async {
        assert_eq!(timeout(ms(1000), async { 5 }).await, Ok(5));
        assert_eq!(timeout(Duration::ZERO, async { 5 }).await, Ok(5), "what is ready at once wins");
        assert_eq!(timeout(ms(2), pending::<()>()).await, Err(Elapsed));
    });
}

#[test]
fn a_timer_dropped_on_another_thread_or_after_its_executor_is_harmless() {
    for choice in choices() {
        let executor = Executor::new(&choice).expect("an executor");
        let (elsewhere, later) = executor.block_on(async {
            let (mut elsewhere, mut later) = (sleep(ms(20)), sleep(Duration::from_secs(60)));
            poll_once(&mut elsewhere).await;
            assert!(!poll_once(&mut later).await);
            (elsewhere, later)
        });
        std::thread::spawn(move || drop(elsewhere)).join().expect("a drop");
        executor.block_on(sleep(ms(30)));
        drop(executor);
        drop(later);
    }
}

#[test]
fn hyper_sees_the_same_timers() {
    use hyper::rt::Timer;
    on_both(|| async {
        let started = Instant::now();
        HyperTimer.sleep(ms(3)).await;
        assert!(ms(3) <= started.elapsed());
        let mut nap = HyperTimer.sleep_until(started + Duration::from_secs(60));
        HyperTimer.reset(&mut nap, Instant::now() + ms(2));
        nap.await;
    });
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Arm(u16),
    Cancel(usize),
    Expire(u16),
}

#[test]
fn timers_among_many_that_were_cancelled_fire_in_their_order() {
    let start = Instant::now();
    let at = |n: u64| start + Duration::from_secs(n);
    let mut timers = Timers::default();
    // The last are due first, and every hundredth stays.
    let keys: Vec<_> = (0..1000).rev().map(|n| (n, timers.arm(at(n), Waker::noop().clone()))).collect();
    for (n, key) in keys {
        if n % 100 != 0 {
            assert!(timers.cancel(key).is_some(), "{n}");
        }
    }
    assert_eq!(timers.len(), 10);
    let mut fired = Vec::new();
    for n in (0..1000).step_by(100) {
        assert_eq!(timers.next_deadline(), Some(at(n)));
        timers.expire(at(n), &mut fired);
    }
    assert_eq!((fired.len(), timers.len(), timers.next_deadline()), (10, 0, None));
}

proptest! {
    /// The heap against a sorted list.
    #[test]
    fn the_heap_agrees_with_a_sorted_list(
        acts in proptest::collection::vec(
            prop_oneof![
                4 => any::<u16>().prop_map(Act::Arm),
                2 => any::<usize>().prop_map(Act::Cancel),
                1 => any::<u16>().prop_map(Act::Expire),
            ],
            0..300,
        )
    ) {
        let start = Instant::now();
        let at = |n: u16| start + Duration::from_micros(u64::from(n));
        let mut timers = Timers::default();
        let mut model = Vec::new();
        let mut gone = Vec::new();
        let mut fired = Vec::new();
        for (order, act) in acts.into_iter().enumerate() {
            match act {
                Act::Arm(n) => model.push((at(n), order, timers.arm(at(n), Waker::noop().clone()))),
                Act::Cancel(n) if !model.is_empty() => {
                    let (_, _, key) = model.remove(n % model.len());
                    prop_assert!(timers.cancel(key).is_some());
                    gone.push(key);
                }
                Act::Cancel(_) => {}
                Act::Expire(n) => {
                    fired.clear();
                    timers.expire(at(n), &mut fired);
                    let due = model.iter().filter(|(deadline, _, _)| *deadline <= at(n)).count();
                    prop_assert_eq!(fired.len(), due);
                    gone.extend(model.extract_if(.., |(deadline, _, _)| *deadline <= at(n)).map(|(_, _, key)| key));
                }
            }
            model.sort_by_key(|(deadline, order, _)| (*deadline, *order));
            prop_assert_eq!(timers.len(), model.len());
            prop_assert_eq!(timers.next_deadline(), model.first().map(|(deadline, _, _)| *deadline));
        }
        for key in gone {
            prop_assert!(timers.cancel(key).is_none(), "a key is good once");
        }
    }
}

#[test]
fn things_are_looked_after_until_they_are_gone() {
    on_both(|| async {
        let looks = Rc::new(Cell::new(0));
        let (things, seen, began) = (Rc::new(()), looks.clone(), Instant::now());
        look_after(&things, ms(160), move |(), now| {
            assert!(began + between_looks(ms(160)) <= now);
            seen.set(seen.get() + 1);
        });
        while looks.get() < 3 {
            sleep(ms(1)).await;
        }
        drop(things);
        // The last look finds nothing, and its task ends.
        while Rc::strong_count(&looks) > 1 {
            sleep(ms(1)).await;
        }
        assert_eq!((looks.get(), stats().tasks), (3, 0));
    });
}
