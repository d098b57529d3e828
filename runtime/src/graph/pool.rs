//! The zones of one service on one worker, and the places for requests in them.
//!
//! A request gets a place in a zone that has room (`Lease`), the most recently used first, so that idle zones can go; else in a
//! new zone; else it waits, and when too many wait it is turned away. A zone takes its last request after `requests_max`, a
//! trap, or a request that did not answer or finish in time; it goes when its last place is given back. Places of requests that
//! will never finish do not hold a zone that is retired: it is killed when nothing else is in it.
//! No timer is armed with a request: somebody looks through all of them now and then.
//! Nothing here leaves the worker's thread.

use super::service::Service;
use crate::abi::{Canceller, Census, Zone};
use crate::executor;
use crate::executor::sync::{Full, Permit, Semaphore, keep_waker};
use crate::host::HostData;
use crate::host::wasi::http::{HttpCtx, Outbound};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How long a zone may be without a request before it goes, if there are others.
const IDLE: Duration = Duration::from_secs(10);

/// All zones of a service on this worker.
pub struct Pool {
    service: Arc<Service>,
    worker: usize,
    outbound: Rc<dyn Outbound>,
    zones: RefCell<Vec<Rc<Member>>>,
    /// One permit per place that can exist.
    places: Semaphore,
    /// Zones made so far, for their names.
    zones_made: Cell<u64>,
}

/// A zone in the pool.
struct Member {
    zone: Zone,
    /// Requests that have a place now.
    requests: RefCell<Slab<Active>>,
    /// How many of them are `Phase::Cancelled`.
    cancelled: Cell<usize>,
    /// Requests so far.
    taken: Cell<usize>,
    retired: Cell<bool>,
    idle_since: Cell<Instant>,
}

/// A request that has a place.
struct Active {
    phase: Phase,
    /// Cancels the guest's task, for when the client is gone before there was a response.
    cancel: Option<Canceller>,
    /// Who waits for the guest's answer.
    waker: Option<Waker>,
}

/// A place in a zone. It is given back when the last clone goes: the guest's task and the response body each hold one.
#[derive(Clone)]
pub struct Lease(Rc<Place>);

struct Place {
    pool: Weak<Pool>,
    member: Rc<Member>,
    /// Position in the zone's requests.
    key: usize,
    _permit: Permit,
}

/// What a request is doing, as far as time limits go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The guest has not answered yet.
    Handling { since: Instant },
    /// The response body is on its way; how long that takes is the client's affair.
    Streaming,
    /// Everything is sent, or nobody wants it; the guest may finish.
    Finishing { since: Instant },
    /// The client has gone, and the guest is being told: it may trap.
    Cancelled { since: Instant },
    /// It did not answer, or finish, in time.
    Abandoned,
}

impl Phase {
    /// Somebody waits for the guest.
    fn is_wanted(self) -> bool {
        matches!(self, Phase::Handling { .. } | Phase::Streaming)
    }

    fn is_late(self, now: Instant, timeout: Duration) -> bool {
        match self {
            Phase::Handling { since } | Phase::Finishing { since } | Phase::Cancelled { since } => {
                now.duration_since(since) > timeout
            }
            Phase::Streaming | Phase::Abandoned => false,
        }
    }
}

impl Pool {
    /// An empty pool; zones are made when requests come, and what their guests send leaves through `outbound`. Call on the
    /// worker's thread.
    pub fn new(service: Arc<Service>, worker: usize, outbound: Rc<dyn Outbound>) -> Rc<Pool> {
        let config = &service.config;
        let places = config.zones_max.get().saturating_mul(config.concurrent_max.get());
        let pool = Rc::new(Pool {
            places: Semaphore::new(places, config.queue_max),
            zones: RefCell::default(),
            zones_made: Cell::new(0),
            service,
            worker,
            outbound,
        });
        executor::look_after(&pool, pool.service.config.timeout, Pool::sweep);
        pool
    }

    /// What is served.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// A place for a request; waits for one if there is room to wait.
    ///
    /// # Errors
    /// When there is not; or when a zone cannot be made, with the reason.
    pub async fn acquire(self: &Rc<Self>) -> Result<Lease, AcquireError> {
        let permit = match self.places.try_acquire() {
            Some(permit) => permit,
            None => self.places.acquire().await.map_err(|Full| AcquireError::Overloaded)?,
        };
        let member = match self.with_room() {
            Some(member) => member,
            None => self.make().map_err(|error| AcquireError::Zone(format!("{error:#}")))?,
        };
        member.taken.set(member.taken.get() + 1);
        if member.taken.get() >= self.service.config.requests_max.get() {
            member.retired.set(true);
        }
        let phase = Phase::Handling { since: executor::turn_began() };
        let active = Active { phase, cancel: None, waker: None };
        let key = member.requests.borrow_mut().insert(active);
        Ok(Lease(Rc::new(Place { pool: Rc::downgrade(self), member, key, _permit: permit })))
    }

    /// The zone at the end of the list was used last.
    fn with_room(&self) -> Option<Rc<Member>> {
        let max = self.service.config.concurrent_max.get();
        let has_room = |member: &&Rc<Member>| !member.retired.get() && member.active() < max && member.may_be_entered();
        self.zones.borrow().iter().rev().find(has_room).cloned()
    }

    fn make(&self) -> crate::abi::Result<Rc<Member>> {
        let number = self.zones_made.get() + 1;
        self.zones_made.set(number);
        let name = format!("{}#{}.{number}", self.service.name, self.worker);
        let wasi = self.service.config.wasi.build(name);
        let host = HostData { wasi, http: HttpCtx::new(self.outbound.clone()) };
        let zone = Zone::new(&self.service.component, self.service.config.limits(), Rc::new(host))?;
        executor::spawn(zone.drive());
        let member = Rc::new(Member {
            zone,
            requests: RefCell::default(),
            cancelled: Cell::new(0),
            taken: Cell::new(0),
            retired: Cell::new(false),
            idle_since: Cell::new(executor::turn_began()),
        });
        self.zones.borrow_mut().push(member.clone());
        Ok(member)
    }

    fn remove(&self, member: &Rc<Member>) {
        self.zones.borrow_mut().retain(|known| !Rc::ptr_eq(known, member));
    }

    /// Gives up requests that take too long, and lets idle zones go.
    fn sweep(&self, now: Instant) {
        let timeout = self.service.config.timeout;
        let zones = self.zones.borrow().clone();
        for member in &zones {
            let is_late =
                |(key, active): (usize, &Active)| active.phase.is_late(now, timeout).then_some((key, active.phase));
            let late: Vec<_> = member.requests.borrow().iter().filter_map(is_late).collect();
            for (key, phase) in late {
                if let Phase::Handling { .. } = phase {
                    let waiting = member.zone.waiting().unwrap_or_else(|| "a guest is running".to_string());
                    tracing::warn!("{}: no answer within {timeout:?}: {waiting}", self.service.name);
                }
                member.abandon(key);
            }
            let unused = member.active() == 0;
            let idle = now.duration_since(member.idle_since.get()) >= IDLE && self.zones.borrow().len() > 1;
            if unused && (idle || member.zone.poison().is_some()) {
                self.remove(member);
            }
        }
    }

    /// Ends all zones: requests that are still in them fail.
    pub fn kill_all(&self) {
        let zones = std::mem::take(&mut *self.zones.borrow_mut());
        zones.iter().for_each(|member| member.zone.kill("the server stops"));
    }

    /// Number of zones, requests in them, and what is alive in those that rest.
    pub fn census(&self) -> (usize, usize, Vec<Census>) {
        let zones = self.zones.borrow();
        let active = zones.iter().map(|member| member.active()).sum();
        (zones.len(), active, zones.iter().filter_map(|member| member.zone.census()).collect())
    }
}

/// Why there is no place.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AcquireError {
    /// Too many wait already.
    #[error("too many requests wait")]
    Overloaded,
    /// A zone could not be made.
    #[error("cannot make a zone: {0}")]
    Zone(String),
}

impl Lease {
    /// The zone in which the place is.
    pub fn zone(&self) -> &Zone {
        &self.0.member.zone
    }

    /// What to do if the client goes before there is a response.
    pub fn on_gone(&self, cancel: Canceller) {
        self.0.member.requests.borrow_mut()[self.0.key].cancel = Some(cancel);
    }

    /// What the guest answers; `None` if it does not in time. Then its zone takes no more requests, and goes when only such requests
    /// are left in it; one that is running is stopped, because it would hold its neighbours in the zone as well.
    pub async fn in_time<F: Future>(&self, answer: F) -> Option<F::Output> {
        let mut answer = pin!(answer);
        poll_fn(|task| {
            let answer = answer.as_mut().poll(task);
            match self.0.member.poll_abandoned(self.0.key, task) {
                // What came of it is not the guest's answer, if its zone had to be killed.
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => answer.map(Some),
            }
        })
        .await
    }

    /// The response has begun.
    pub fn streaming(&self) {
        self.0.member.advance(self.0.key, Phase::Streaming);
        let of_handling = {
            let active = &mut self.0.member.requests.borrow_mut()[self.0.key];
            (active.cancel.take(), active.waker.take())
        };
        // Here: what they hold may be anything, and nothing is borrowed.
        drop(of_handling);
    }

    /// Nobody waits for the guest any more: the response is sent, or the client is gone.
    pub fn finishing(&self) {
        self.0.member.advance(self.0.key, Phase::Finishing { since: executor::turn_began() });
        self.0.member.cancel_unwanted();
    }
}

impl Member {
    /// Number of requests that have a place now.
    fn active(&self) -> usize {
        self.requests.borrow().len()
    }

    /// One that is in the middle of a slice may be for long. One in which guests are being cancelled may not survive that.
    fn may_be_entered(&self) -> bool {
        self.zone.poison().is_none() && !self.zone.is_busy() && self.cancelled.get() == 0
    }

    /// What is given up stays so. Tells whether the phase is another now; not if the request has gone, with its zone perhaps.
    fn advance(&self, key: usize, phase: Phase) -> bool {
        match self.requests.borrow_mut().get_mut(key) {
            Some(active) if active.phase != Phase::Abandoned => {
                active.phase = phase;
                true
            }
            _ => false,
        }
    }

    /// Ready when the request was given up.
    fn poll_abandoned(&self, key: usize, task: &Context<'_>) -> Poll<()> {
        let old = match &mut self.requests.borrow_mut()[key] {
            Active { phase: Phase::Abandoned, .. } => return Poll::Ready(()),
            active => keep_waker(&mut active.waker, task),
        };
        drop(old);
        Poll::Pending
    }

    /// Gives a request up that takes too long.
    fn abandon(&self, key: usize) {
        if !self.advance(key, Phase::Abandoned) {
            return;
        }
        let waker = self.requests.borrow_mut()[key].waker.take();
        waker.into_iter().for_each(Waker::wake);
        // For ever: so it does not matter that `cancelled` may count the request still.
        self.retired.set(true);
        if self.zone.is_busy() {
            self.zone.kill("a guest did not answer in time and was still running");
        }
        self.settle();
    }

    /// Cancels the guests whose clients are gone, if nobody waits for anything in the zone any more.
    ///
    /// Not before: the bindings of many guests trap when they are cancelled, which would take the neighbours along.
    fn cancel_unwanted(&self) {
        if self.requests.borrow().iter().any(|(_, active)| active.phase.is_wanted()) {
            return;
        }
        let with_cancel = |(key, active): (usize, &mut Active)| active.cancel.take().map(|cancel| (key, cancel));
        let cancels: Vec<_> = self.requests.borrow_mut().iter_mut().filter_map(with_cancel).collect();
        for (key, cancel) in cancels {
            if self.advance(key, Phase::Cancelled { since: executor::turn_began() }) {
                self.cancelled.update(|cancelled| cancelled + 1);
            }
            cancel.cancel();
        }
    }

    /// A retired zone in which nothing of use is left goes.
    fn settle(&self) {
        let given_up = |requests: &Slab<Active>| {
            !requests.is_empty() && requests.iter().all(|(_, active)| active.phase == Phase::Abandoned)
        };
        if self.retired.get() && given_up(&self.requests.borrow()) {
            self.zone.kill("its requests did not finish in time");
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let member = &self.member;
        // As in `streaming`.
        let active = member.requests.borrow_mut().remove(self.key);
        if let Phase::Cancelled { .. } = active.phase {
            member.cancelled.update(|cancelled| cancelled - 1);
        }
        drop(active);
        member.idle_since.set(executor::turn_began());
        if member.zone.poison().is_some() {
            member.retired.set(true);
        }
        member.settle();
        let Some(pool) = self.pool.upgrade() else { return };
        if member.retired.get() && member.active() == 0 {
            pool.remove(member);
        }
    }
}
