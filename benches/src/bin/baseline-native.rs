//! The floor: what a request costs when there is no component at all.
//!
//! tokio and hyper as one would write it today: a multi-threaded runtime, HTTP/1.1 with keep-alive and HTTP/2 with prior
//! knowledge. Any path answers "hello world"; `/sink` and `/echo` do with a body what the guest `echo` does.

use anyhow::{Context as _, Result};
use benches::connect::serve_forever;
use bytes::Bytes;
use clap::Parser;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::net::SocketAddr;
use std::num::NonZeroUsize;

#[derive(Parser, Debug)]
#[command(name = "baseline-native", about = "A hello world server of tokio and hyper, to compare with")]
struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "IP:PORT")]
    addr: SocketAddr,

    /// Threads that serve
    #[arg(long, default_value = "1", value_name = "N")]
    workers: NonZeroUsize,
}

type Body = Either<Full<Bytes>, Incoming>;

async fn answer(request: Request<Incoming>) -> Result<Response<Body>> {
    let full = |bytes: Bytes| Response::new(Either::Left(Full::new(bytes)));
    match request.uri().path() {
        "/echo" => Ok(Response::new(Either::Right(request.into_body()))),
        "/sink" => {
            let mut body = request.into_body();
            let mut total = 0;
            while let Some(frame) = body.frame().await {
                total += frame?.data_ref().map_or(0, Bytes::len);
            }
            Ok(full(format!("{total}\n").into()))
        }
        _ => Ok(full(Bytes::from_static(b"hello world"))),
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(args.workers.get())
        .enable_all()
        .build()
        .context("cannot start tokio")?;
    runtime.block_on(serve_forever(args.addr, |stream| async {
        let builder = auto::Builder::new(TokioExecutor::new());
        // A client that goes away is not worth a word here.
        drop(builder.serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer)).await);
    }))
}
