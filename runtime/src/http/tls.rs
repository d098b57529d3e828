//! TLS on a connection, for hyper. HTTP/1.1 is all that is negotiated.
//!
//! Certificates are checked against the roots that Mozilla trusts, and those that the configuration adds.
#![expect(unsafe_code, reason = "hyper hands out uninitialised memory and must be told how much was filled")]

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;

use crate::executor::net::TcpStream;

/// A client's side of TLS.
pub struct TlsStream(tokio_rustls::client::TlsStream<TcpStream>);

/// What all connections share: roots and session tickets.
pub type TlsConfig = Arc<rustls::ClientConfig>;

/// A configuration that trusts `extra_roots` too.
///
/// # Errors
///
/// One of `extra_roots` is not a certificate.
pub fn client_config(extra_roots: &[CertificateDer<'static>]) -> Result<TlsConfig, rustls::Error> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for root in extra_roots {
        roots.add(root.clone())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Greets the server as a client that expects `name`.
///
/// # Errors
///
/// The connection's, or with a `rustls::Error` inside.
pub async fn connect(config: TlsConfig, name: ServerName<'static>, stream: TcpStream) -> io::Result<TlsStream> {
    TlsConnector::from(config).connect(name, stream).await.map(TlsStream)
}

impl hyper::rt::Read for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // SAFETY: the slice goes into a `ReadBuf`, which only ever adds initialised bytes.
        let mut filled = ReadBuf::uninit(unsafe { buf.as_mut() });
        ready!(Pin::new(&mut self.get_mut().0).poll_read(cx, &mut filled))?;
        let n = filled.filled().len();
        // SAFETY: the first `n` bytes are filled, which `ReadBuf` answers for.
        unsafe { buf.advance(n) };
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write_vectored(cx, bufs)
    }
}
