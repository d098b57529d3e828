//! From a request's target to a connection that hyper drives.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::HeaderValue;
use http::uri::Scheme;
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use rustls::pki_types::ServerName;

use super::allow::Host;
use super::pool::{Full, Key, Slot, Turn};
use super::{Sender, Shared};
use crate::executor::net::TcpStream;
use crate::executor::{beside, now, spawn, timeout};
use crate::host::wasi::http::bindings::wasi::http::types::DnsErrorPayload;
use crate::host::wasi::http::{ErrorCode, Message, OutgoingRequest, hyper_error, io_error};
use crate::http::tls;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Where a request goes.
pub(super) struct Target {
    pub https: bool,
    pub host: Host,
    pub port: u16,
    pub host_header: HeaderValue,
    /// Requests with the same key can use each other's connections.
    pub key: Key,
}

/// What takes the time, for the error if it takes too long.
#[derive(Clone, Copy)]
enum Phase {
    Resolving,
    Connecting,
}

impl Target {
    /// The target of `request`; https unless it says otherwise.
    pub fn of(request: &OutgoingRequest) -> Result<Target, ErrorCode> {
        let https = match &request.scheme {
            None => true,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(_) => return Err(ErrorCode::HttpProtocolError),
        };
        let invalid = ErrorCode::HttpRequestUriInvalid;
        let authority = request.authority.as_ref().ok_or(invalid.clone())?;
        // RFC 9110, 4.2.4: credentials in a URI are not to be sent.
        if authority.as_str().contains('@') {
            return Err(invalid);
        }
        let host = Host::parse(authority.host()).ok_or(invalid.clone())?;
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        let host_header = HeaderValue::from_str(authority.as_str()).map_err(|_| invalid)?;
        let scheme = if https { "https" } else { "http" };
        let key = format!("{scheme}://{host}:{port}").into();
        Ok(Target { https, host, port, host_header, key })
    }

    /// Whom the server's certificate must be for.
    fn server_name(&self) -> Result<ServerName<'static>, ErrorCode> {
        match &self.host {
            Host::Address(address) => Ok(ServerName::from(*address)),
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| ErrorCode::HttpRequestUriInvalid),
        }
    }
}

impl Shared {
    /// A connection that a request can be sent on, and whether it was kept from an earlier one. `limit` is for all of it:
    /// waiting in line, resolving, connecting, greeting.
    pub(super) async fn connection(
        self: &Rc<Self>,
        target: &Target,
        limit: Duration,
    ) -> Result<(Sender, bool), ErrorCode> {
        let phase = Cell::new(Phase::Connecting);
        match timeout(limit, self.obtain(target, limit, &phase)).await {
            Ok(result) => result,
            Err(_) => Err(match phase.get() {
                Phase::Resolving => ErrorCode::DnsTimeout,
                Phase::Connecting => ErrorCode::ConnectionTimeout,
            }),
        }
    }

    async fn obtain(&self, target: &Target, limit: Duration, phase: &Cell<Phase>) -> Result<(Sender, bool), ErrorCode> {
        loop {
            let turn = self.pool.acquire(&target.key).await;
            match turn.map_err(|Full| ErrorCode::ConnectionLimitReached)? {
                Turn::Reuse(mut sender) => {
                    // One that was closed meanwhile is not ready, and is dropped.
                    if sender.ready().await.is_ok() {
                        return Ok((sender, true));
                    }
                }
                Turn::Open(slot) => {
                    let sender = self.open(target, limit, phase, slot).await?;
                    return Ok((sender, false));
                }
            }
        }
    }

    async fn open(
        &self,
        target: &Target,
        limit: Duration,
        phase: &Cell<Phase>,
        slot: Slot<Sender>,
    ) -> Result<Sender, ErrorCode> {
        let stream = dial(target, limit, phase).await?;
        if !target.https {
            return start(stream, slot).await;
        }
        let stream = tls::connect(self.tls()?, target.server_name()?, stream).await;
        start(stream.map_err(|error| io_error(&error))?, slot).await
    }
}

/// Connects to the first address that answers; each gets its share of the time that is left.
async fn dial(target: &Target, limit: Duration, phase: &Cell<Phase>) -> Result<TcpStream, ErrorCode> {
    let deadline = now() + limit;
    let addresses = match &target.host {
        Host::Address(address) => vec![SocketAddr::new(*address, target.port)],
        Host::Name(name) => {
            phase.set(Phase::Resolving);
            let resolved = resolve(name.clone(), target.port).await;
            phase.set(Phase::Connecting);
            resolved?
        }
    };
    let mut failed = ErrorCode::DestinationNotFound;
    for (at, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(now());
        let share = left / (addresses.len() - at) as u32;
        match timeout(share, TcpStream::connect(*address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failed = io_error(&error),
            Err(_) => failed = ErrorCode::ConnectionTimeout,
        }
    }
    Err(failed)
}

/// The system's resolver blocks, so it runs beside.
async fn resolve(name: String, port: u16) -> Result<Vec<SocketAddr>, ErrorCode> {
    let failed = |error: io::Error| {
        tracing::debug!(%error, "cannot resolve a name");
        ErrorCode::DnsError(DnsErrorPayload { rcode: None, info_code: None })
    };
    let runtime = beside::handle().map_err(|error| io_error(&error))?;
    let lookup = runtime.spawn(async move {
        let found = tokio::net::lookup_host((name, port)).await?;
        Ok(found.take(ADDRESSES_MAX).collect())
    });
    match lookup.await {
        Ok(found) => found.map_err(failed),
        Err(lost) => Err(ErrorCode::InternalError(Some(lost.to_string()))),
    }
}

/// Lets hyper speak on a connection, in a task that lives as long as the socket.
async fn start<T>(io: T, slot: Slot<Sender>) -> Result<Sender, ErrorCode>
where
    T: Read + Write + Unpin + 'static,
{
    let greeted = http1::Builder::new().handshake(io).await;
    let (sender, connection) = greeted.map_err(|error| hyper_error(&error, Message::Response))?;
    drop(spawn(async move {
        if let Err(error) = connection.await {
            // Whoever waits for a response on it is told.
            tracing::debug!(%error, "an outgoing connection ended");
        }
        drop(slot);
    }));
    Ok(sender)
}
