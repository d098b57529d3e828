//! The same components on wasmtime's own runtime, served as `wasmtime serve` serves them.
//!
//! `wasmtime-wasi-http`'s `ProxyHandler`, the pooling allocator with its default sizes, instances that take 16 requests at once
//! and 128 in all, and go after a second of idleness; no logging. The chain is linked by `interflow`'s own `compose`, so that
//! both runtimes get the same component. Answers what the guest answers; what fails is an empty 500.

use anyhow::{Context as _, Result, anyhow};
use benches::connect::serve_forever;
use bytes::Bytes;
use clap::Parser;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use interflow::component::compose::{Link, compose};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use wasmtime::component::{Component, GuestTaskId, Linker, ResourceTable};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, StoreContextMut};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, ProxyHandler, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

#[derive(Parser, Debug)]
#[command(name = "baseline-wasmtime", about = "Serves a chain of components as `wasmtime serve` does, to compare with")]
struct Args {
    /// Components, outermost first
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "IP:PORT")]
    addr: SocketAddr,

    /// Threads that serve
    #[arg(long, default_value = "1", value_name = "N")]
    workers: NonZeroUsize,

    /// Requests that an instance takes in its life
    #[arg(long, default_value = "128", value_name = "N")]
    reuse: usize,

    /// Requests that an instance takes at once
    #[arg(long, default_value = "16", value_name = "N")]
    concurrent: usize,
}

/// Requests under way in the process.
const REQUESTS_MAX: usize = 1000;

/// How long an instance without requests is kept.
const IDLE: Duration = Duration::from_secs(1);

/// What a store holds.
struct Host {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: NoClient,
}

/// Guests here send no requests.
struct NoClient;

type SentBody = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for NoClient {
    fn send_request(
        &mut self,
        _request: Request<WasiBody>,
        _options: Option<RequestOptions>,
        _sent: SentBody,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, SentBody), Error>> + Send> {
        Box::new(std::future::ready(Err(Error::HttpRequestDenied)))
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

/// Ends an instance that has been idle for too long.
struct Expiration(Pin<Box<tokio::time::Sleep>>);

impl WorkerExpiration for Expiration {
    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>, status: WorkerStatus, start: Instant) -> Poll<()> {
        match status {
            WorkerStatus::Requests | WorkerStatus::PostReturn => Poll::Pending,
            WorkerStatus::Idle => {
                let deadline = (start + IDLE).into();
                if deadline != self.0.deadline() {
                    self.0.as_mut().reset(deadline);
                }
                self.0.as_mut().poll(task)
            }
        }
    }
}

/// How many requests an instance takes.
#[derive(Clone, Copy)]
struct Reuse {
    total: usize,
    concurrent: usize,
}

impl WorkerState for Reuse {
    type StoreData = Host;
    type RequestData = ();

    fn should_accept_request(&self, concurrent_count: usize, total_count: usize) -> ShouldAccept {
        match (total_count < self.total, concurrent_count < self.concurrent) {
            (false, _) => ShouldAccept::Never,
            (true, false) => ShouldAccept::No,
            (true, true) => ShouldAccept::Yes,
        }
    }

    fn on_request_start(
        &self,
        _store: StoreContextMut<'_, Host>,
        _data: (),
        _task: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        // As without `--wasm timeout`: a timer that never ends.
        Box::pin(tokio::time::sleep(Duration::MAX))
    }

    fn drop(&self, _store: Store<Host>, result: Result<(), wasmtime::Error>) {
        if let Err(error) = result {
            eprintln!("an instance has failed: {error:?}");
        }
    }
}

struct Service {
    engine: Engine,
    instance: ProxyPre<Host>,
    reuse: Reuse,
    requests: Semaphore,
}

impl HandlerState for Service {
    type StoreData = Host;
    type WorkerExpiration = Expiration;
    type WorkerState = Reuse;

    async fn instantiate(&self) -> wasmtime::Result<Instance<Host, Expiration, Reuse>> {
        let host = Host {
            table: ResourceTable::new(),
            wasi: WasiCtxBuilder::new().build(),
            http: WasiHttpCtx::new(),
            hooks: NoClient,
        };
        let mut store = Store::new(&self.engine, host);
        let proxy = self.instance.instantiate_async(&mut store).await?;
        let expiration = Expiration(Box::pin(tokio::time::sleep(Duration::MAX)));
        Ok(Instance { store, proxy, view: WasiHttpView::http, expiration, state: self.reuse })
    }
}

async fn answer(handler: &ProxyHandler<Service>, request: Request<Incoming>) -> wasmtime::Result<Response<WasiBody>> {
    let _permit = handler.state().requests.acquire().await?;
    let request = request.map(|body| body.map_err(Error::from).boxed_unsync());
    handler.handle((), request).await
}

fn failed(error: &wasmtime::Error) -> Response<WasiBody> {
    eprintln!("a request has failed: {error:?}");
    let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

fn load(args: &Args) -> Result<Service> {
    let read = |file: &PathBuf| -> Result<Link> {
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(Link { name: file.display().to_string(), bytes })
    };
    let chain = args.files.iter().map(read).collect::<Result<Vec<_>>>()?;
    let component = compose(&chain)?;
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(PoolingAllocationConfig::default()));
    let service = || -> wasmtime::Result<Service> {
        let engine = Engine::new(&config)?;
        let component = Component::new(&engine, &component)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
        let instance = wasmtime_wasi_http::p3::bindings::ServicePre::new(linker.instantiate_pre(&component)?)?;
        let reuse = Reuse { total: args.reuse, concurrent: args.concurrent };
        Ok(Service { engine, instance: ProxyPre::P3(instance), reuse, requests: Semaphore::new(REQUESTS_MAX) })
    };
    service().map_err(|error| anyhow!("{error:?}"))
}

fn main() -> Result<()> {
    let args = Args::parse();
    let handler = Arc::new(ProxyHandler::new(load(&args)?));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(args.workers.get())
        .enable_all()
        .build()
        .context("cannot start tokio")?;
    runtime.block_on(serve_forever(args.addr, move |stream| {
        let handler = handler.clone();
        async move {
            let service = hyper::service::service_fn(|request| async {
                Ok::<_, Infallible>(answer(&handler, request).await.unwrap_or_else(|error| failed(&error)))
            });
            // A client that goes away is not worth a word here.
            drop(http1::Builder::new().keep_alive(true).serve_connection(TokioIo::new(stream), service).await);
        }
    }))
}
