//! What is explored of components: a chain that answers the requests of virtual clients, or a command.
//!
//! Clients send their bodies chunk by chunk, each when the schedule says so, and read what comes. Nothing leaves the process.

use super::{Outcome, Subject, table};
use crate::abi::{CallError, Component, Export, Limits, Zone};
use crate::component::compose::Link;
use crate::component::{self, translate};
use crate::executor::{self, Executor};
use crate::graph::service::ServiceError;
use crate::graph::{Service, ServiceConfig};
use crate::host::HostData;
use crate::host::linker::{LinkError, Linker};
use crate::host::value::Own;
use crate::host::wasi::http::{
    self as wasi_http, ErrorCode, HandleExport, HostBody, HttpCtx, Message, Origin, Outbound,
};
use crate::host::wasi::http::{OutgoingRequest, Sent};
use crate::host::wasi::{self, Output, OutputSink, WasiCtxBuilder};
use crate::ring::{self, IoMode};
use crate::sim::{self, Column, Schedule, Sim};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Uri, header};
use http_body::{Body, Frame, SizeHint};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use wasmtime::Engine;

/// What one client sends.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub method: Method,
    pub target: Uri,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body, as it comes.
    pub chunks: Vec<Bytes>,
}

/// Components that are explored.
pub(crate) struct Chain {
    component: Component,
    entry: Entry,
    wasi: WasiCtxBuilder,
    lines: Arc<Lines>,
    memory_bytes_max: usize,
    driver: ring::Choice,
    names: Vec<(u32, u32, String)>,
}

enum Entry {
    /// `wasi:http/handler.handle`
    Handle(HandleExport, Vec<Request>),
    /// `wasi:cli/run.run`
    Run(RunExport),
}

/// Why components cannot be explored. All but `Driver` are the user's to mend.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChainError {
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("{0}")]
    Command(String),
    #[error("no executor: {0}")]
    Driver(String),
}

/// `wasi:cli/run.run`
type RunExport = Export<(), Result<(), ()>>;

/// Its name.
const RUN: &str = "wasi:cli/run#run";

impl Chain {
    /// Loads `links`, outermost first, for `requests`; a single command is run instead.
    ///
    /// # Errors
    /// When they do not make a service or a command.
    pub fn load(engine: &Engine, links: &[Link], requests: Vec<Request>) -> Result<Chain, ChainError> {
        let driver = ring::probe(IoMode::Epoll).map_err(|error| ChainError::Driver(error.to_string()))?;
        // What is linked in a run takes note of its calls.
        let sim = Rc::new(Sim::new(Schedule::default(), 0, false, None));
        let _entered = sim.enter();
        let lines = Arc::new(Lines::default());
        let wasi = WasiCtxBuilder::new().sink(lines.clone());
        let memory_bytes_max = ServiceConfig::default().memory_bytes_max;
        let (component, entry) = match command(engine, links)? {
            Some((component, export)) => (component, Entry::Run(export)),
            None => {
                let service = Service::load(engine, links, None, ServiceConfig::default())?;
                (service.component.clone(), Entry::Handle(service.handle, requests))
            }
        };
        let names = names(&component, links);
        Ok(Chain { component, entry, wasi, lines, memory_bytes_max, driver, names })
    }

    /// Is it a command, which takes no requests?
    pub fn is_command(&self) -> bool {
        matches!(self.entry, Entry::Run(_))
    }

    fn zone(&self) -> crate::abi::Result<Zone> {
        let host = HostData { wasi: self.wasi.build(""), http: HttpCtx::new(Rc::new(Nowhere)) };
        let limits = Limits { memory_bytes_max: self.memory_bytes_max, jobs_per_entry: u32::MAX, ..Limits::default() };
        Zone::new(&self.component, limits, Rc::new(host))
    }

    async fn enter(&self, zone: Zone) -> String {
        match &self.entry {
            Entry::Run(export) => {
                let outcome = zone.call(*export, ()).await;
                format!("{}{}", self.lines.text(), ended(&outcome.map(|outcome| format!("{outcome:?}"))))
            }
            Entry::Handle(handle, requests) => {
                let client = |(n, request): (usize, &Request)| {
                    executor::spawn(client(n as u32, zone.clone(), *handle, request.clone()))
                };
                let clients: Vec<_> = requests.iter().enumerate().map(client).collect();
                let mut answers = Vec::new();
                for client in clients {
                    answers.push(client.await.unwrap_or_else(|error| format!("a client of ours failed: {error}")));
                }
                answers.join("\n")
            }
        }
    }
}

/// The only component, if it is a command.
fn command(engine: &Engine, links: &[Link]) -> Result<Option<(Component, RunExport)>, ChainError> {
    let [link] = links else { return Ok(None) };
    // Whatever is wrong with it, loading it as a service says so better.
    let translated = translate::translate_with(&link.bytes, translate::features());
    let is_one = |name: &String| name.starts_with("wasi:cli/run@0.3") && name.ends_with("#run");
    if !translated.is_ok_and(|translated| translated.plan.exports.keys().any(is_one)) {
        return Ok(None);
    }
    let failed = |error: anyhow::Error| ChainError::Command(format!("{}: {error:#}", link.name));
    let compiled = component::compile(engine, &link.bytes).map_err(failed)?;
    let mut linker = Linker::new();
    wasi::link(&mut linker);
    let component = linker.link(engine, Arc::new(compiled))?;
    let export = component.export(RUN).map_err(|error| failed(anyhow::anyhow!("{error:#}")))?;
    Ok(Some((component, export)))
}

/// The files' names for the instances that call each other: the outermost has the export, the next is whom it calls.
fn names(component: &Component, links: &[Link]) -> Vec<(u32, u32, String)> {
    let plan = &component.compiled().plan;
    let mut instance = plan.exports.values().next().map(|lift| plan.lifts[*lift as usize].instance);
    let mut names = Vec::new();
    for link in links {
        let Some(own) = instance else { break };
        names.push((0, own, short_name(&link.name)));
        let called = |adapter: &&component::plan::Adapter| {
            adapter.caller == own && !names.iter().any(|(_, known, _)| *known == adapter.callee)
        };
        instance = plan.adapters.iter().find(called).map(|adapter| adapter.callee);
    }
    names
}

/// `target/app.wasm` is `app`.
fn short_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.strip_suffix(".wasm").unwrap_or(name).to_string()
}

impl Subject for Chain {
    fn run(&self, sim: &Rc<Sim>) -> Outcome {
        self.lines.clear();
        let executor = match Executor::new(&self.driver) {
            Ok(executor) => executor,
            Err(error) => return Outcome::Fault(format!("no executor: {error}")),
        };
        let made: RefCell<Option<Zone>> = RefCell::default();
        let done = executor.simulate(sim, async {
            let zone = match self.zone() {
                Ok(zone) => zone,
                Err(error) => return Outcome::Fault(format!("it cannot be instantiated: {error:#}")),
            };
            *made.borrow_mut() = Some(zone.clone());
            executor::spawn(zone.drive());
            Outcome::Done(self.enter(zone).await)
        });
        let zone = made.take();
        let poison = zone.as_ref().and_then(Zone::poison);
        let name = |instance| table::name(Column::Instance(0, instance), &self.names);
        let waiting = || zone.as_ref().map(|zone| zone.waits(&name).join("\n")).unwrap_or_default();
        match (done, poison) {
            (_, Some(trap)) => Outcome::Fault(format!("it traps: {trap}")),
            (Some(outcome), None) => outcome,
            (None, None) => Outcome::Deadlock(waiting()),
        }
    }

    fn has_timers(&self) -> bool {
        true
    }

    fn names(&self) -> Vec<(u32, u32, String)> {
        self.names.clone()
    }
}

fn note(column: Column, text: String) {
    if let Some(sim) = sim::current() {
        sim.note(column, &text, || text.clone());
    }
}

fn ended(outcome: &Result<String, CallError>) -> String {
    match outcome {
        Ok(value) => value.clone(),
        Err(error) => error.to_string(),
    }
}

/// Sends a request and reads the answer to its end; gives what it has seen.
async fn client(n: u32, zone: Zone, handle: HandleExport, request: Request) -> String {
    let column = Column::Client(n);
    let method = request.method.clone();
    note(column, format!("sends {method} {}", request.target));
    let upload = Upload::new(&request.chunks);
    let request = match into_wasi(&request, upload.clone()) {
        Ok(request) => request,
        Err(error) => return error,
    };
    let mut call = zone.call(handle, (Own::new(request),));
    executor::spawn(send(column, upload));
    let answer = match (&mut call).await {
        Ok(Ok(response)) => read(column, response, &method).await,
        Ok(Err(code)) => format!("error {code:?}"),
        Err(error) => error.to_string(),
    };
    note(column, "has its answer".to_string());
    // A call that never ends holds its place in a zone.
    call.exited().await;
    answer
}

fn into_wasi(request: &Request, upload: Rc<Upload>) -> Result<wasi_http::Request, String> {
    let mut head = http::Request::new(());
    *head.method_mut() = request.method.clone();
    *head.uri_mut() = request.target.clone();
    let headers = head.headers_mut();
    if !request.chunks.is_empty() {
        let length: usize = request.chunks.iter().map(Bytes::len).sum();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    for (name, value) in &request.headers {
        headers.append(name, value.clone());
    }
    headers.entry(header::HOST).or_insert(HeaderValue::from_static("explore"));
    let origin = Origin::new(http::uri::Scheme::HTTP, http::uri::Authority::from_static("explore"));
    let (head, ()) = head.into_parts();
    let body = HostBody::new(UploadBody(upload), Message::Request);
    wasi_http::Request::from_hyper(head, body, &origin).map_err(|error| format!("it cannot be sent: {error}"))
}

/// A body on its way from a client.
struct Upload(RefCell<Arriving>);

struct Arriving {
    /// Not sent yet.
    to_come: VecDeque<Bytes>,
    /// Sent, and not taken yet.
    here: VecDeque<Bytes>,
    reader: Option<Waker>,
}

impl Upload {
    fn new(chunks: &[Bytes]) -> Rc<Upload> {
        let to_come = chunks.iter().filter(|chunk| !chunk.is_empty()).cloned().collect();
        Rc::new(Upload(RefCell::new(Arriving { to_come, here: VecDeque::new(), reader: None })))
    }
}

/// Lets the chunks arrive, one each time that it is this client's turn.
async fn send(column: Column, upload: Rc<Upload>) {
    loop {
        let reader = {
            let mut arriving = upload.0.borrow_mut();
            let Some(chunk) = arriving.to_come.pop_front() else { return };
            note(column, format!("sends {:?}", String::from_utf8_lossy(&chunk)));
            arriving.here.push_back(chunk);
            arriving.reader.take()
        };
        reader.into_iter().for_each(Waker::wake);
        executor::yield_now().await;
    }
}

struct UploadBody(Rc<Upload>);

impl Body for UploadBody {
    type Data = Bytes;
    type Error = ErrorCode;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ErrorCode>>> {
        let mut arriving = self.0.0.borrow_mut();
        match arriving.here.pop_front() {
            Some(chunk) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
            None if arriving.to_come.is_empty() => Poll::Ready(None),
            None => {
                arriving.reader = Some(task.waker().clone());
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let arriving = self.0.0.borrow();
        arriving.here.is_empty() && arriving.to_come.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let arriving = self.0.0.borrow();
        SizeHint::with_exact(arriving.here.iter().chain(&arriving.to_come).map(|chunk| chunk.len() as u64).sum())
    }
}

/// Reads a response to its end.
async fn read(column: Column, response: Own<wasi_http::Response>, method: &Method) -> String {
    let response = match response.0.into_hyper(method) {
        Ok(response) => response,
        Err(code) => return format!("error {code:?}"),
    };
    note(column, format!("gets {}", response.status()));
    let mut seen = format!("{}\n", response.status());
    for (name, value) in response.headers() {
        seen.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    }
    let mut body = std::pin::pin!(response.into_body());
    let mut bytes = Vec::new();
    let end = loop {
        match std::future::poll_fn(|task| body.as_mut().poll_frame(task)).await {
            None => break String::new(),
            Some(Err(code)) => break format!("\nthe body ends with error {code:?}"),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    note(column, format!("reads {:?}", String::from_utf8_lossy(&data)));
                    bytes.extend_from_slice(&data);
                }
                Err(trailers) => seen.push_str(&format!("trailers: {:?}\n", trailers.trailers_ref())),
            },
        }
    };
    format!("{seen}\n{}{end}", String::from_utf8_lossy(&bytes))
}

/// There is nobody outside.
struct Nowhere;

impl Outbound for Nowhere {
    fn send(&self, request: OutgoingRequest) -> Sent {
        note(Column::Host, "client.send is denied: nobody is outside".to_string());
        wasi_http::Denied.send(request)
    }
}

/// The guests' output.
#[derive(Default)]
struct Lines(Mutex<String>);

impl Lines {
    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl OutputSink for Lines {
    fn write_line(&self, _: Output, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        note(Column::Host, format!("output: {}", line.trim_end()));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(&line);
    }
}
