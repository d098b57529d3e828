//! One value, once.

use std::cell::Cell;
use std::rc::Rc;

use super::super::oneshot::{Canceled, channel};
use super::*;

#[test]
fn a_value_comes_to_who_waits_and_to_who_looks_later() {
    on_both(|| async {
        let (sender, receiver) = channel();
        let waits = spawn(receiver);
        yield_now().await;
        assert!(!waits.is_finished());
        sender.send(7).expect("somebody waits");
        assert_eq!(waits.await.expect("no panic"), Ok(7));

        let (sender, receiver) = channel();
        sender.send(8).expect("somebody may look");
        assert_eq!(receiver.await, Ok(8));
    });
}

#[test]
fn an_end_that_goes_tells_the_other() {
    on_both(|| async {
        let (sender, receiver) = channel::<u32>();
        let waits = spawn(receiver);
        yield_now().await;
        drop(sender);
        assert_eq!(waits.await.expect("no panic"), Err(Canceled));

        let (sender, receiver) = channel();
        assert!(!sender.is_canceled());
        drop(receiver);
        assert!(sender.is_canceled());
        assert_eq!(sender.send(9), Err(9));
    });
}

#[test]
fn a_value_that_nobody_took_is_dropped_with_the_ends() {
    struct Counts(Rc<Cell<u32>>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    on_both(|| async {
        let dropped = Rc::new(Cell::new(0));
        let (sender, receiver) = channel();
        sender.send(Counts(dropped.clone())).ok().expect("somebody may look");
        assert_eq!(dropped.get(), 0);
        drop(receiver);
        assert_eq!(dropped.get(), 1);
    });
}

#[test]
fn who_waits_in_vain_and_goes_is_not_woken() {
    on_both(|| async {
        let (sender, receiver) = channel::<u32>();
        let waits = spawn(receiver);
        yield_now().await;
        waits.abort();
        yield_now().await;
        let polls = stats().polls;
        drop(sender);
        yield_now().await;
        assert_eq!(stats().polls, polls + 1, "only this task was polled");
    });
}
