//! The connections of one worker, and how long one may be open without a request.
//!
//! A connection rests while no request on it waits for its answer or the end of that: before the first request, between two, and
//! while a request's head does not come to its end. One that rests for too long is asked to finish, as all are when the server
//! drains; one that still rests a while after that is cut. A client that takes bytes is alive: a response may leave slowly.
//! No timer is armed for any of this, as it would be with each request: somebody looks through all connections now and then.
//! Knows nothing of HTTP.

use crate::executor::net::TcpStream;
use crate::executor::sync::{Notify, keep_waker};
use crate::executor::{self, turn_began};
use hyper::rt::{Read, ReadBufCursor, Write};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

/// How long a connection that was asked to finish may rest until it is cut.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// The connections that are open.
pub(super) struct Connections {
    open: RefCell<Slab<Rc<Connection>>>,
    closed: Notify,
}

/// One connection, as far as its end is concerned.
pub(super) struct Connection {
    /// Requests whose answers have not ended.
    requests: Cell<usize>,
    /// The last sign of life, or of ours: it was opened, a request's answer ended, the client took bytes, it was asked to finish.
    rests_since: Cell<Instant>,
    order: Cell<Order>,
    /// The task that serves it.
    waker: RefCell<Option<Waker>>,
}

/// What a connection is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// Go on.
    Serve,
    /// Take no more requests, and close. The connection has not looked yet.
    Finish,
    /// It has.
    Finishing,
    /// Close now, whatever is under way.
    Cut,
}

impl Connections {
    /// None yet. One may rest for `idle`. Call on the worker's thread.
    pub fn new(idle: Duration) -> Rc<Connections> {
        let connections = Rc::new(Connections { open: RefCell::default(), closed: Notify::new() });
        executor::look_after(&connections, idle, move |connections, now| {
            connections.tell(|connection| connection.is_due(now, idle));
        });
        connections
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.open.borrow().len()
    }

    /// One more, for as long as what is returned lives.
    pub fn open(self: &Rc<Self>) -> Open {
        let connection = Rc::new(Connection {
            requests: Cell::new(0),
            rests_since: Cell::new(turn_began()),
            order: Cell::new(Order::Serve),
            waker: RefCell::default(),
        });
        let key = self.open.borrow_mut().insert(connection.clone());
        Open { connection, key, connections: self.clone() }
    }

    /// Asks all to finish.
    pub fn finish_all(&self) {
        self.tell(|connection| matches!(connection.order.get(), Order::Serve).then_some(Order::Finish));
    }

    /// Ready when none is open.
    pub async fn all_closed(&self) {
        while self.len() > 0 {
            self.closed.notified().await;
        }
    }

    /// Gives each the order that `what` has for it.
    fn tell(&self, what: impl Fn(&Connection) -> Option<Order>) {
        let told = |(_, connection): (usize, &Rc<Connection>)| {
            connection.order.set(what(connection)?);
            connection.waker.borrow().clone()
        };
        let wakers: Vec<Waker> = self.open.borrow().iter().filter_map(told).collect();
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// A connection that is open.
pub(super) struct Open {
    pub connection: Rc<Connection>,
    key: usize,
    connections: Rc<Connections>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let closed = self.connections.open.borrow_mut().remove(self.key);
        drop(closed);
        self.connections.closed.notify_waiters();
    }
}

impl Connection {
    /// A request has come; its answer ends when what is returned goes.
    pub fn begin(self: &Rc<Self>) -> InFlight {
        self.requests.update(|requests| requests + 1);
        InFlight(self.clone())
    }

    /// What to do. Wakes `task` when that changes. `Finish` is said once.
    pub fn order(&self, task: &Context<'_>) -> Order {
        let old = keep_waker(&mut self.waker.borrow_mut(), task);
        drop(old);
        let order = self.order.get();
        if order == Order::Finish {
            self.order.set(Order::Finishing);
            self.rests_since.set(turn_began());
        }
        order
    }

    fn is_due(&self, now: Instant, idle: Duration) -> Option<Order> {
        if self.requests.get() > 0 {
            return None;
        }
        let rests = now.duration_since(self.rests_since.get());
        match self.order.get() {
            Order::Serve if rests >= idle => Some(Order::Finish),
            Order::Finishing if rests >= idle.min(FINISH_MAX) => Some(Order::Cut),
            _ => None,
        }
    }
}

/// A request on a connection, until its answer has ended.
pub(super) struct InFlight(Rc<Connection>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.requests.update(|requests| requests - 1);
        self.0.rests_since.set(turn_began());
    }
}

/// A connection's bytes.
pub(super) struct Watched {
    pub stream: TcpStream,
    pub connection: Rc<Connection>,
}

impl Watched {
    fn note(&self, taken: usize) -> Poll<io::Result<usize>> {
        self.connection.rests_since.set(turn_began());
        Poll::Ready(Ok(taken))
    }
}

impl Read for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Read::poll_read(Pin::new(&mut self.stream), cx, buf)
    }
}

impl Write for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let taken = ready!(Write::poll_write(Pin::new(&mut self.stream), cx, buf))?;
        self.note(taken)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Write::poll_flush(Pin::new(&mut self.stream), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Write::poll_shutdown(Pin::new(&mut self.stream), cx)
    }

    fn is_write_vectored(&self) -> bool {
        Write::is_write_vectored(&self.stream)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = ready!(Write::poll_write_vectored(Pin::new(&mut self.stream), cx, bufs))?;
        self.note(taken)
    }
}
