//! `wasi:clocks`: the monotonic clock and the system's, in both versions.
//!
//! A mark counts nanoseconds from a moment early in this process's life, the same for all zones. Guests may ask for any mark or
//! duration; arithmetic on them saturates, and a wait that is longer than anyone lives is as good as one for ever.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::io::Pollable;
use super::{Wasi, p2, p3};
use crate::abi::{HostCx, HostFuture, Result};
use crate::executor;
use crate::host::value::Own;
use crate::sim;

/// Nanoseconds of both clocks' tick: Linux counts them in nanoseconds.
const RESOLUTION_NS: u64 = 1;
const NANOS_PER_SEC: u32 = 1_000_000_000;
/// The last mark that is waited for, a hundred years after the start. Kernels count timeouts up to 292 years, and nothing
/// here is to depend on what they make of longer ones.
const WAIT_MARK_MAX: u64 = 100 * 365 * 24 * 60 * 60 * NANOS_PER_SEC as u64;

/// Where marks count from.
static ORIGIN: LazyLock<Instant> = LazyLock::new(executor::now);

fn origin() -> Instant {
    sim::start().unwrap_or_else(|| *ORIGIN)
}

/// The monotonic clock: nanoseconds since `ORIGIN`.
pub(super) fn now() -> u64 {
    // The origin first: it may be made by this.
    let origin = origin();
    let elapsed = executor::now().saturating_duration_since(origin);
    // 64 bits last for 584 years.
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

/// When the clock will show `mark`, or `WAIT_MARK_MAX` if that is later.
fn instant_of(mark: u64) -> Instant {
    origin() + Duration::from_nanos(mark.min(WAIT_MARK_MAX))
}

/// What the clock will show after `duration` nanoseconds.
fn mark_after(duration: u64) -> u64 {
    now().saturating_add(duration)
}

pub(super) fn wait_until(mark: u64) -> HostFuture<()> {
    let sleep = executor::sleep_until(instant_of(mark));
    Box::pin(async {
        sleep.await;
        Ok(())
    })
}

/// Seconds since 1970 and nanoseconds that go forward from there, also where the seconds are negative.
fn since_epoch(time: SystemTime) -> (i64, u32) {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (seconds(after), after.subsec_nanos()),
        Err(error) => {
            let before = error.duration();
            match before.subsec_nanos() {
                0 => (-seconds(before), 0),
                nanos => (-seconds(before) - 1, NANOS_PER_SEC - nanos),
            }
        }
    }
}

impl p3::wasi::clocks::monotonic_clock::Host for Wasi {
    fn now(_: &mut HostCx<'_>) -> Result<u64> {
        Ok(now())
    }

    fn get_resolution(_: &mut HostCx<'_>) -> Result<u64> {
        Ok(RESOLUTION_NS)
    }

    fn wait_until(_: &mut HostCx<'_>, when: u64) -> HostFuture<()> {
        wait_until(when)
    }

    fn wait_for(_: &mut HostCx<'_>, how_long: u64) -> HostFuture<()> {
        wait_until(mark_after(how_long))
    }
}

impl p3::wasi::clocks::system_clock::Host for Wasi {
    fn now(_: &mut HostCx<'_>) -> Result<p3::wasi::clocks::system_clock::Instant> {
        let (seconds, nanoseconds) = since_epoch(sim::wall_clock());
        Ok(p3::wasi::clocks::system_clock::Instant { seconds, nanoseconds })
    }

    fn get_resolution(_: &mut HostCx<'_>) -> Result<u64> {
        Ok(RESOLUTION_NS)
    }
}

impl p2::wasi::clocks::monotonic_clock::Host for Wasi {
    fn now(_: &mut HostCx<'_>) -> Result<u64> {
        Ok(now())
    }

    fn resolution(_: &mut HostCx<'_>) -> Result<u64> {
        Ok(RESOLUTION_NS)
    }

    fn subscribe_instant(_: &mut HostCx<'_>, when: u64) -> Result<Own<Pollable>> {
        Ok(Own::new(Pollable::At(when)))
    }

    fn subscribe_duration(_: &mut HostCx<'_>, when: u64) -> Result<Own<Pollable>> {
        Ok(Own::new(Pollable::At(mark_after(when))))
    }
}

impl p2::wasi::clocks::wall_clock::Host for Wasi {
    fn now(_: &mut HostCx<'_>) -> Result<p2::wasi::clocks::wall_clock::Datetime> {
        let (seconds, nanoseconds) = since_epoch(sim::wall_clock());
        // 0.2 cannot say a time before 1970: such a clock shows its beginning.
        Ok(match u64::try_from(seconds) {
            Ok(seconds) => p2::wasi::clocks::wall_clock::Datetime { seconds, nanoseconds },
            Err(_) => p2::wasi::clocks::wall_clock::Datetime { seconds: 0, nanoseconds: 0 },
        })
    }

    fn resolution(_: &mut HostCx<'_>) -> Result<p2::wasi::clocks::wall_clock::Datetime> {
        Ok(p2::wasi::clocks::wall_clock::Datetime { seconds: 0, nanoseconds: RESOLUTION_NS as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::{WAIT_MARK_MAX, instant_of, mark_after, now, since_epoch, wait_until};
    use crate::executor::{self, Executor};
    use crate::ring::{IoMode, probe};
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn marks_do_not_decrease() {
        let marks: Vec<u64> = (0..1000).map(|_| now()).collect();
        assert!(marks.is_sorted());
    }

    #[test]
    fn durations_and_marks_saturate() {
        assert_eq!(mark_after(u64::MAX), u64::MAX);
        assert!(now() <= mark_after(0));
        assert_eq!(instant_of(u64::MAX), instant_of(WAIT_MARK_MAX));
        assert!(instant_of(WAIT_MARK_MAX - 1) < instant_of(WAIT_MARK_MAX));
        let year = Duration::from_secs(365 * 24 * 60 * 60);
        assert!(executor::now() + 99 * year < instant_of(u64::MAX));
    }

    #[test]
    fn a_mark_that_has_passed_is_not_waited_for_and_one_to_come_is() {
        for mode in [IoMode::Auto, IoMode::Epoll] {
            let executor = Executor::new(&probe(mode).expect("a driver")).expect("an executor");
            executor.block_on(async {
                let mark = now();
                wait_until(0).await.expect("a clock does not fail");
                wait_until(mark).await.expect("a clock does not fail");
                let soon = mark_after(5_000_000);
                wait_until(soon).await.expect("a clock does not fail");
                assert!(soon <= now());
            });
        }
    }

    #[test]
    fn a_wait_for_ever_lets_the_thread_rest() {
        for mode in [IoMode::Auto, IoMode::Epoll] {
            let executor = Executor::new(&probe(mode).expect("a driver")).expect("an executor");
            let turns = executor.block_on(async {
                let waits: Vec<_> = [u64::MAX, u64::MAX - 1, WAIT_MARK_MAX]
                    .into_iter()
                    .map(|mark| executor::spawn(wait_until(mark)))
                    .collect();
                let before = executor::stats().turns;
                // Nothing but the beside thread ends this rest, so that the far deadlines alone bound the ring's wait.
                let (wake, woken) = futures::channel::oneshot::channel();
                let thread = std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(50));
                    let _gone = wake.send(());
                });
                woken.await.expect("the thread wakes us");
                thread.join().expect("the thread ends");
                assert!(waits.iter().all(|wait| !wait.is_finished()));
                waits.iter().for_each(executor::JoinHandle::abort);
                executor::stats().turns - before
            });
            assert!(turns < 20, "{turns} turns in 50 ms of rest");
        }
    }

    #[test]
    fn time_before_1970_counts_forward_from_a_negative_second() {
        assert_eq!(since_epoch(UNIX_EPOCH), (0, 0));
        assert_eq!(since_epoch(UNIX_EPOCH + Duration::new(5, 7)), (5, 7));
        assert_eq!(since_epoch(UNIX_EPOCH - Duration::from_nanos(1)), (-1, 999_999_999));
        assert_eq!(since_epoch(UNIX_EPOCH - Duration::from_secs(1)), (-1, 0));
        assert_eq!(since_epoch(UNIX_EPOCH - Duration::new(1, 1)), (-2, 999_999_999));
    }
}
