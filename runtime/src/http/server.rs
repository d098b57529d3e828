//! The server: connections in, requests to the pool, responses out.
//!
//! Each worker has a listener of its own on the shared address and serves what it accepts; a connection never changes its
//! thread. hyper speaks HTTP/1.1 (keep-alive, pipelining) and HTTP/2 (prior knowledge). A request gets a place in a zone, is
//! called there, and its place is given back when the guest's task and the response body have both ended.
//! Knows nothing of components: what is called is `wasi:http/handler.handle`.

use crate::abi::CallError;
use crate::executor::net::{BindOptions, TcpListener, TcpStream};
use crate::executor::sync::Semaphore;
use crate::executor::{self, HyperExecutor, HyperTimer, Phase, Shutdown};
use crate::graph::{AcquireError, Lease, Pool, Service};
use crate::host::value::Own;
use crate::host::wasi::http::{
    BadRequest, ErrorCode, HostBody, Message, Origin, OutgoingBody, Request, Response, status_of,
};
use crate::http::client::{Client, OutboundConfig};
use crate::http::connection::{Connection, Connections, InFlight, Order, Watched};
use anyhow::Context;
use http::{HeaderValue, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::server::conn::auto;
use socket2::{Domain, Socket, Type};
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Connections of one worker. Beyond, the kernel keeps them waiting.
const CONNECTIONS_MAX: usize = 16_384;

/// How often an HTTP/2 connection is asked whether it is alive while requests are on it.
const PING: Duration = Duration::from_secs(30);

/// What a request gets.
type Answer = hyper::Response<Box<OutgoingBody>>;

/// How one process serves.
#[derive(Clone)]
pub struct ServerConfig {
    /// Where to listen. The port is not 0: `reserve` has found one.
    pub addr: SocketAddr,
    /// How long requests in flight may take to finish once the phase is `Draining`.
    pub drain: Duration,
    /// How long a connection may be open without a request, and so how long a request's head may take.
    pub idle: Duration,
    /// When to stop.
    pub shutdown: Shutdown,
    /// What guests may send, and where.
    pub outbound: OutboundConfig,
}

/// An address that this process has, and that its workers can listen on too.
pub struct Reserved {
    addr: SocketAddr,
    /// Bound, but not listening: connections only go to the workers.
    _socket: Socket,
}

impl Reserved {
    /// The address, with the port that the system chose if 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// How long an address may be in use by a process that has just ended.
const RESERVE_TIMEOUT: Duration = Duration::from_millis(250);

/// Takes hold of `addr`, so that it is known to be free before anything starts.
///
/// # Errors
/// When the address is in use, or may not be used.
pub fn reserve(addr: SocketAddr) -> io::Result<Reserved> {
    let until = Instant::now() + RESERVE_TIMEOUT;
    loop {
        // Workers share the address among themselves, which would share it with another server too: ask alone first.
        match bind(addr, false).and_then(|alone| {
            drop(alone);
            bind(addr, true)
        }) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error),
            Ok(socket) => {
                let addr = socket.local_addr()?.as_socket().expect("bound to an internet address");
                return Ok(Reserved { addr, _socket: socket });
            }
        }
    }
}

fn bind(addr: SocketAddr, share: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    socket.bind(&addr.into())?;
    if !share {
        // Only listening tells whether somebody else listens: binding alone is allowed beside it.
        socket.listen(1)?;
    }
    Ok(socket)
}

/// The server of one worker.
pub struct Server {
    listener: RefCell<Option<TcpListener>>,
    config: ServerConfig,
    pool: Rc<Pool>,
    places: Semaphore,
    connections: Rc<Connections>,
}

impl Server {
    /// Listens; connections wait until `run`.
    ///
    /// # Errors
    /// When the worker cannot listen.
    pub async fn listen(worker: usize, service: Arc<Service>, config: ServerConfig) -> anyhow::Result<Rc<Server>> {
        let options = BindOptions { reuse_port: true, ..BindOptions::default() };
        let listener = TcpListener::bind(config.addr, options).await;
        let listener = listener.with_context(|| format!("cannot listen on {}", config.addr))?;
        let outbound = Rc::new(Client::new(config.outbound.clone()));
        Ok(Rc::new(Server {
            listener: RefCell::new(Some(listener)),
            pool: Pool::new(service, worker, outbound),
            places: Semaphore::new(CONNECTIONS_MAX, 1),
            connections: Connections::new(config.idle),
            config,
        }))
    }

    /// The zones that it serves with.
    pub fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Serves until the shutdown reaches its end. Once.
    pub async fn run(self: Rc<Self>) {
        let Some(listener) = self.listener.take() else { return };
        self.clone().accept(listener).await;
        self.drain().await;
        self.pool.kill_all();
    }

    /// Accepts until it is time to stop; then new connections are refused.
    async fn accept(self: Rc<Self>, mut listener: TcpListener) {
        loop {
            // At most one waits for a permit: this loop.
            let Ok(permit) = self.places.acquire().await else { unreachable!("one place to wait is enough for one") };
            let accepted = {
                let accept = pin!(listener.accept());
                let stop = pin!(self.config.shutdown.reached(Phase::Draining));
                match futures::future::select(accept, stop).await {
                    futures::future::Either::Left((accepted, _)) => accepted,
                    futures::future::Either::Right(_) => break,
                }
            };
            match accepted {
                Ok((stream, peer)) => {
                    let (server, open) = (self.clone(), self.connections.open());
                    executor::spawn(async move {
                        server.serve(stream, peer, &open.connection).await;
                        drop((permit, open));
                    });
                }
                Err(error) => {
                    tracing::error!("the listener has failed: {error}");
                    self.config.shutdown.advance(Phase::Stopping);
                    break;
                }
            }
        }
        listener.close().await;
    }

    /// Waits for open connections to finish what they have begun.
    async fn drain(&self) {
        self.connections.finish_all();
        let stopped = pin!(self.config.shutdown.reached(Phase::Stopping));
        let finished = pin!(executor::timeout(self.config.drain, self.connections.all_closed()));
        futures::future::select(finished, stopped).await;
        if self.connections() > 0 {
            tracing::warn!("{} connections are cut: their requests did not finish in time", self.connections());
        }
    }

    async fn serve(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr, connection: &Rc<Connection>) {
        let origin = match stream.local_addr() {
            Ok(local) => origin_of(local),
            Err(error) => return tracing::debug!("{peer}: {error}"),
        };
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let (server, in_flight) = (self.clone(), connection.begin());
            // Not in the future, which would be larger by all of it, and is moved.
            let (parts, body) = request.into_parts();
            let method = parts.method.clone();
            let body = HostBody::hyper(body, Message::Request);
            let request = Request::from_hyper(parts, body, &origin).map(Own::new);
            async move { Ok::<_, Infallible>(server.answer(request, &method, in_flight).await) }
        });
        let mut builder = auto::Builder::new(HyperExecutor);
        // Without `pipeline_flush`: with it hyper takes a body in without end while the client does not read. Without a time for
        // heads: how long a connection may rest bounds it, before hyper knows which protocol it speaks as well.
        builder.http1().header_read_timeout(None);
        builder.http2().timer(HyperTimer).keep_alive_interval(Some(PING)).max_concurrent_streams(1024);
        let stream = Watched { stream, connection: connection.clone() };
        let mut http = pin!(builder.serve_connection(stream, service));
        let finished = poll_fn(|task| {
            match connection.order(task) {
                Order::Serve | Order::Finishing => {}
                Order::Finish => http.as_mut().graceful_shutdown(),
                Order::Cut => return Poll::Ready(Ok(())),
            }
            http.as_mut().poll(task)
        });
        if let Err(error) = finished.await {
            tracing::debug!("{peer}: {error}");
        }
    }

    /// One request: it always gets an answer.
    async fn answer(
        &self,
        request: Result<Own<Request>, BadRequest>,
        method: &http::Method,
        in_flight: InFlight,
    ) -> Answer {
        let request = match request {
            Ok(request) => request,
            Err(bad) => return plain(bad.status(), &bad.to_string()),
        };
        let guard = match self.pool.acquire().await {
            Ok(lease) => Guard { lease, _in_flight: in_flight },
            Err(AcquireError::Overloaded) => return overloaded(),
            Err(AcquireError::Zone(error)) => {
                tracing::error!("{error}");
                return plain(StatusCode::SERVICE_UNAVAILABLE, "the service cannot start another instance");
            }
        };
        match self.call(request, &guard.lease).await {
            Ok(response) => self.send(response, method, guard).await,
            Err(response) => response,
        }
    }

    /// Calls the handler; an answer of ours if it has none.
    async fn call(&self, request: Own<Request>, lease: &Lease) -> Result<Own<Response>, Answer> {
        let service = self.pool.service();
        let call = lease.zone().call_guarded(service.handle, (request,), lease.clone());
        lease.on_gone(call.canceller());
        match lease.in_time(call).await {
            Some(Ok(Ok(response))) => Ok(response),
            Some(Ok(Err(code))) => Err(self.failed(&code)),
            Some(Err(CallError::Trap(reason))) => Err(self.trapped(&reason)),
            Some(Err(CallError::Cancelled)) => Err(plain(StatusCode::BAD_GATEWAY, "the component gave no answer")),
            None => Err(plain(StatusCode::GATEWAY_TIMEOUT, "the component did not answer in time")),
        }
    }

    /// Why a component failed is for the log, not for its clients.
    fn trapped(&self, reason: &str) -> Answer {
        tracing::error!("{}: {reason}", self.pool.service().name);
        plain(StatusCode::BAD_GATEWAY, "the component failed")
    }

    fn failed(&self, code: &ErrorCode) -> Answer {
        tracing::debug!("{}: answered with {code:?}", self.pool.service().name);
        let text = format!("{code:?}");
        let name = text.split(['(', ' ', '{']).next().unwrap_or_default();
        plain(status_of(code), &format!("the component answered with the error {name}"))
    }

    async fn send(&self, response: Own<Response>, method: &http::Method, guard: Guard) -> Answer {
        let mut response = match response.0.into_hyper(method) {
            Ok(response) => response,
            Err(code) => return self.failed(&code),
        };
        guard.lease.streaming();
        if let Err(code) = response.body_mut().look_ahead().await {
            return match guard.lease.zone().poison() {
                Some(reason) => self.trapped(&reason),
                None => self.failed(&code),
            };
        }
        response.body_mut().on_end(move |_| drop(guard));
        response
    }
}

/// Nobody waits for the guest any more when this goes: the response is sent, or the client has gone.
struct Guard {
    lease: Lease,
    _in_flight: InFlight,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.lease.finishing();
    }
}

fn origin_of(local: SocketAddr) -> Origin {
    let authority = local.to_string().parse().expect("an address is an authority");
    Origin::new(http::uri::Scheme::HTTP, authority)
}

/// An answer that no guest made.
fn plain(status: StatusCode, text: &str) -> Answer {
    let mut response = hyper::Response::new(Box::new(OutgoingBody::text(format!("{text}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn overloaded() -> Answer {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, "too many requests wait; try again");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
