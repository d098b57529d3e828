//! Connections that are kept for the next request, and the limit on how many there are.
//!
//! Whoever wants a connection gets an idle one to the same server, or the right to open one, or waits: first come first
//! served, in a line of limited length. While somebody waits nothing rests: a connection that comes back goes to the first in
//! line if it is the right one, and is closed to make room if not.
//! Knows nothing of HTTP: `T` is what is used of a connection, a `Slot` lives as long as its socket.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::executor::{JoinHandle, now, oneshot, sleep_until, spawn};

/// What connections are kept by: those with the same key can stand in for one another.
pub type Key = Rc<str>;

/// Connections of one thread.
pub struct Pool<T>(Rc<RefCell<Inner<T>>>);

/// Bounds on a pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Connections open at a time, idle ones included.
    pub connections_max: usize,
    /// Requests that may wait for one; more are refused.
    pub waiting_max: usize,
    /// Idle connections kept per server.
    pub idle_per_key_max: usize,
    /// How long one is kept.
    pub idle_timeout: Duration,
}

struct Inner<T> {
    limits: PoolLimits,
    open: usize,
    /// Oldest first.
    idle: HashMap<Key, VecDeque<Idle<T>>>,
    waiting: VecDeque<Waiter<T>>,
    /// Closes what has been idle for too long; there is one while something is idle.
    reaper: Option<JoinHandle<()>>,
}

struct Idle<T> {
    connection: T,
    since: Instant,
}

struct Waiter<T> {
    key: Key,
    turn: oneshot::Sender<Turn<T>>,
}

/// What one gets from the pool.
pub enum Turn<T> {
    /// An idle connection. It may have been closed by the other side.
    Reuse(T),
    /// The right to open one.
    Open(Slot<T>),
}

/// The place of one open connection. Drop it when the socket is closed.
pub struct Slot<T>(Weak<RefCell<Inner<T>>>);

/// Too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Pool(self.0.clone())
    }
}

impl<T: 'static> Pool<T> {
    /// An empty pool.
    pub fn new(limits: PoolLimits) -> Self {
        Pool(Rc::new(RefCell::new(Inner {
            limits,
            open: 0,
            idle: HashMap::new(),
            waiting: VecDeque::new(),
            reaper: None,
        })))
    }

    /// A connection or the right to open one, when it is our turn. Dropping the future leaves the line.
    pub async fn acquire(&self, key: &Key) -> Result<Turn<T>, Full> {
        let turn = match self.try_acquire(key)? {
            Ok(turn) => return Ok(turn),
            Err(turn) => turn,
        };
        // The pool outlives its waiters: they hold it.
        turn.await.map_err(|_| Full)
    }

    /// A turn, or a place in the line.
    fn try_acquire(&self, key: &Key) -> Result<Result<Turn<T>, oneshot::Receiver<Turn<T>>>, Full> {
        let mut inner = self.0.borrow_mut();
        if let Some(connection) = inner.take_idle(key) {
            return Ok(Ok(Turn::Reuse(connection)));
        }
        if inner.open < inner.limits.connections_max {
            inner.open += 1;
            return Ok(Ok(Turn::Open(Slot(Rc::downgrade(&self.0)))));
        }
        inner.waiting.retain(|waiter| !waiter.turn.is_canceled());
        if inner.limits.waiting_max <= inner.waiting.len() {
            return Err(Full);
        }
        let (sender, turn) = oneshot::channel();
        inner.waiting.push_back(Waiter { key: key.clone(), turn: sender });
        let evicted = inner.take_oldest();
        drop(inner);
        // Its slot comes back when its socket is closed, and goes to the line.
        drop(evicted);
        Ok(Err(turn))
    }

    /// A connection is not used any more and can be used again.
    pub fn give_back(&self, key: Key, connection: T) {
        let mut connection = connection;
        loop {
            let mut inner = self.0.borrow_mut();
            let Some(first) = inner.waiting.front() else {
                let closed = inner.rest(key, connection);
                if inner.reaper.is_none() {
                    inner.reaper = Some(spawn(reap(Rc::downgrade(&self.0))));
                }
                drop(inner);
                return drop(closed);
            };
            if first.key != key && !first.turn.is_canceled() {
                drop(inner);
                // Not the one they wait for; its slot is.
                return drop(connection);
            }
            let waiter = inner.waiting.pop_front().expect("looked at above");
            drop(inner);
            match waiter.turn.send(Turn::Reuse(connection)) {
                Ok(()) => return,
                // Gone since: the next.
                Err(Turn::Reuse(back)) => connection = back,
                Err(Turn::Open(_)) => unreachable!("what was sent comes back"),
            }
        }
    }

    /// Closes the idle connections of `key`: one of them was found dead.
    pub fn forget(&self, key: &Key) {
        let forgotten = self.0.borrow_mut().idle.remove(key);
        drop(forgotten);
    }

    /// Connections that are open, and those of them that are idle.
    pub fn counts(&self) -> (usize, usize) {
        let inner = self.0.borrow();
        (inner.open, inner.idle.values().map(VecDeque::len).sum())
    }

    /// Closes all that is idle.
    pub fn close_idle(&self) {
        let idle = std::mem::take(&mut self.0.borrow_mut().idle);
        drop(idle);
    }
}

impl<T> Inner<T> {
    /// The one used last: it is the least likely to have been closed.
    fn take_idle(&mut self, key: &Key) -> Option<T> {
        let of_key = self.idle.get_mut(key)?;
        let taken = of_key.pop_back().map(|idle| idle.connection);
        if of_key.is_empty() {
            self.idle.remove(key);
        }
        taken
    }

    fn take_oldest(&mut self) -> Option<T> {
        let age = |of_key: &VecDeque<Idle<T>>| of_key.front().map(|idle| idle.since);
        let key = self.idle.iter().min_by_key(|(_, of_key)| age(of_key)).map(|(key, _)| key.clone())?;
        let of_key = self.idle.get_mut(&key)?;
        let taken = of_key.pop_front().map(|idle| idle.connection);
        if of_key.is_empty() {
            self.idle.remove(&key);
        }
        taken
    }

    /// Keeps a connection; gives the one that is then too many.
    fn rest(&mut self, key: Key, connection: T) -> Option<Idle<T>> {
        let of_key = self.idle.entry(key).or_default();
        of_key.push_back(Idle { connection, since: now() });
        if self.limits.idle_per_key_max < of_key.len() { of_key.pop_front() } else { None }
    }

    /// Takes out what has been idle for too long, and tells when to look again.
    fn expire(&mut self, now: Instant) -> (Vec<Idle<T>>, Option<Instant>) {
        let timeout = self.limits.idle_timeout;
        let mut expired = Vec::new();
        for of_key in self.idle.values_mut() {
            while of_key.front().is_some_and(|idle| idle.since + timeout <= now) {
                expired.extend(of_key.pop_front());
            }
        }
        self.idle.retain(|_, of_key| !of_key.is_empty());
        let oldest = self.idle.values().filter_map(|of_key| of_key.front()).map(|idle| idle.since).min();
        (expired, oldest.map(|since| since + timeout))
    }
}

async fn reap<T>(pool: Weak<RefCell<Inner<T>>>) {
    loop {
        let Some(inner) = pool.upgrade() else { return };
        let (expired, next) = inner.borrow_mut().expire(now());
        drop(expired);
        let Some(next) = next else {
            inner.borrow_mut().reaper = None;
            return;
        };
        drop(inner);
        sleep_until(next).await;
    }
}

impl<T> Drop for Inner<T> {
    fn drop(&mut self) {
        if let Some(reaper) = &self.reaper {
            reaper.abort();
        }
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        let Some(pool) = self.0.upgrade() else { return };
        loop {
            let Some(waiter) = pool.borrow_mut().waiting.pop_front() else { break };
            match waiter.turn.send(Turn::Open(Slot(self.0.clone()))) {
                // Gone since. The place is still ours, to be given to the next.
                Err(Turn::Open(mut slot)) => slot.0 = Weak::new(),
                Ok(()) | Err(Turn::Reuse(_)) => return,
            }
        }
        pool.borrow_mut().open -= 1;
    }
}
