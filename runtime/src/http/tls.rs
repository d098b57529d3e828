//! TLS on a connection, for hyper. HTTP/1.1 is all that is negotiated.
//!
//! Certificates are checked against the roots that Mozilla trusts, and those that the configuration adds.

use std::io;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;

use crate::executor::net::TcpStream;

/// A client's side of TLS.
pub type TlsStream = TokioIo<tokio_rustls::client::TlsStream<TcpStream>>;

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
    TlsConnector::from(config).connect(name, stream).await.map(TokioIo::new)
}
