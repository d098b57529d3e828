//! Counts what is left inside the server after clients have hung up in the middle of everything.
//!
//! The server runs in this process, so that its zones can be asked: no task, subtask, stream, waitable set, handle or host
//! resource may be left, no connection, no file. Both I/O drivers.
#![expect(clippy::print_stdout, reason = "a test prints what it has counted")]

use interflow::abi::Census;
use interflow::component::compose::Link;
use interflow::executor::net::TcpStream;
use interflow::executor::{self, Executor, Phase, Shutdown};
use interflow::graph::{Service, ServiceConfig};
use interflow::http::client::{Allow, OutboundConfig};
use interflow::http::server::{Server, ServerConfig, reserve};
use interflow::ring::{self, IoMode};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Clients that hang up, for each way to do it.
const CLIENTS: usize = 250;

fn engine() -> &'static interflow::Engine {
    static ENGINE: OnceLock<interflow::Engine> = OnceLock::new();
    ENGINE.get_or_init(|| interflow::component::engine().expect("the engine starts"))
}

fn guest(name: &str) -> Link {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("guests/target/wasm32-wasip2/release/{name}.wasm"));
    let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}; run `make guests`", file.display()));
    Link { name: name.to_string(), bytes }
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux has it").count()
}

/// One test at a time: open files are counted for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// What a guest keeps for itself once it has answered its first request, such as the handle of its stdout.
async fn kept(server: &Rc<Server>, addr: std::net::SocketAddr) -> Census {
    hang_up(addr, get("/status/204"), usize::MAX).await;
    settle(server, None).await;
    server.pool().census().2.first().copied().unwrap_or_default()
}

/// Runs `clients` against a server with the chain, on each driver, and checks that nothing is left.
fn nothing_is_left<F: Future<Output = ()>>(chain: &[&str], clients: impl Fn(std::net::SocketAddr) -> F) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let links: Vec<Link> = chain.iter().map(|name| guest(name)).collect();
    let config = ServiceConfig { timeout: Duration::from_secs(5), ..ServiceConfig::default() };
    let service = Service::load(engine(), &links, None, config).expect("the chain is served");
    for mode in [IoMode::Uring, IoMode::Epoll] {
        let Ok(choice) = ring::probe(mode) else {
            println!("{mode} is not allowed here");
            continue;
        };
        let executor = Executor::new(&choice).expect("the executor starts");
        executor.block_on(async {
            let reserved = reserve("127.0.0.1:0".parse().expect("an address")).expect("a free port");
            let shutdown = Shutdown::new();
            let config = ServerConfig {
                addr: reserved.addr(),
                drain: Duration::from_secs(5),
                idle: Duration::from_secs(75),
                shutdown: shutdown.clone(),
                outbound: OutboundConfig::new(Allow::nothing()),
            };
            let server = Server::listen(0, Arc::clone(&service), config).await.expect("it listens");
            let serving = executor::spawn(server.clone().run());
            let kept = kept(&server, reserved.addr()).await;
            let before = open_files();
            clients(reserved.addr()).await;
            settle(&server, Some(kept)).await;
            let (zones, active, censuses) = server.pool().census();
            assert_eq!((active, server.connections()), (0, 0), "{mode}: requests or connections are left");
            assert_eq!(censuses.len(), zones, "{mode}: all zones rest");
            for census in censuses {
                assert!(
                    census == kept || census == Census::default(),
                    "{mode}: {census:?} is left in a zone, {kept:?} before"
                );
            }
            assert!(open_files() <= before, "{mode}: {} files, {before} before", open_files());
            println!("{mode}: {zones} zones, {:?}", executor::stats());
            shutdown.advance(Phase::Stopping);
            serving.await.expect("the server ends");
        });
    }
}

/// Waits until requests and connections are gone, at most ten seconds.
async fn settle(server: &Rc<Server>, kept: Option<Census>) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        let (zones, active, censuses) = server.pool().census();
        let clean = |census: &Census| kept.is_none_or(|kept| *census == kept || *census == Census::default());
        let clean = censuses.len() == zones && censuses.iter().all(clean);
        if active == 0 && server.connections() == 0 && clean {
            return;
        }
        executor::sleep(Duration::from_millis(10)).await;
    }
}

/// Sends `request`, reads `read` bytes of the answer, and hangs up.
async fn hang_up(addr: std::net::SocketAddr, request: String, read: usize) {
    let mut stream = TcpStream::connect(addr).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut buffer = [0; 4096];
    let mut got = 0;
    while got < read {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(n) => got += n,
        }
    }
}

async fn many(addr: std::net::SocketAddr, request: impl Fn(usize) -> String, read: impl Fn(usize) -> usize) {
    let mut open = Vec::new();
    for n in 0..CLIENTS {
        open.push(executor::spawn(hang_up(addr, request(n), read(n))));
        if open.len() == 25 {
            for client in open.drain(..) {
                client.await.expect("the client ends");
            }
        }
    }
    for client in open {
        client.await.expect("the client ends");
    }
}

/// Ends the connection with the answer, for who waits for it.
const CLOSE: &str = "accept-encoding: gzip\r\nconnection: close\r\n";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer letmein\r\n{CLOSE}\r\n")
}

fn cut_upload(path: &str, sent: usize) -> String {
    let body = "x".repeat(sent);
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer letmein\r\ncontent-length: 1000000\r\n\r\n{body}"
    )
}

#[test]
fn nothing_is_left_of_clients_that_hang_up_in_the_middle_of_a_download() {
    nothing_is_left(&["echo"], |addr| many(addr, |_| get("/source/10000000"), |n| n * 997));
}

#[test]
fn nothing_is_left_of_clients_that_hang_up_in_the_middle_of_an_upload() {
    nothing_is_left(&["echo"], async |addr| {
        many(addr, |n| cut_upload("/echo", n * 211), |n| n % 3 * 50).await;
        many(addr, |n| cut_upload("/splice", n * 211), |n| n % 3 * 50).await;
        many(addr, |n| cut_upload("/sink", n * 211), |_| 0).await;
    });
}

#[test]
fn nothing_is_left_of_clients_that_do_not_wait_for_the_answer() {
    nothing_is_left(&["echo"], |addr| many(addr, |_| get("/slow/50"), |_| 0));
}

#[test]
fn nothing_is_left_of_a_chain_whose_clients_hang_up() {
    nothing_is_left(&["log", "auth", "gzip", "middleware", "trailer_mw", "echo"], async |addr| {
        many(addr, |_| get("/source/3000000"), |n| n * 997).await;
        many(addr, |n| cut_upload("/echo", n * 211), |n| n % 3 * 50).await;
        many(addr, |_| get("/headers"), |_| 1).await;
    });
}
