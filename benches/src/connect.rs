//! How the baseline servers listen: what is the same for both is written once.

use anyhow::{Context as _, Result};
use std::future::Future;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};

/// Listens on `addr`, says where on standard error, and runs `serve` for each connection until the process ends.
///
/// # Errors
/// When the address cannot be had, or nothing more can be accepted.
pub async fn serve_forever<F, S>(addr: SocketAddr, serve: S) -> Result<()>
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(TcpStream) -> F + Send + Sync + 'static,
{
    let listener = TcpListener::bind(addr).await.with_context(|| format!("cannot listen on {addr}"))?;
    let addr = listener.local_addr()?;
    // Accept on a worker: the thread that blocks on the runtime is not one.
    let accepting = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(serve(stream));
        }
    });
    eprintln!("serving on http://{addr}");
    accepting.await?
}
