//! `interflow serve` as a child process on a free port of 127.0.0.1.
//!
//! Output is kept line by line. When a server goes out of scope it must still have been running and must not have panicked;
//! then it is killed. If the test has failed, what the server said is printed.

use super::http::{Connection, Cut, Response};
use super::{Io, process};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take until it serves; compiling a long chain in a debug build takes seconds.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Rounds of the same work after which memory must have come to rest.
const SETTLE_ROUNDS_MAX: usize = 14;

/// The binary under test.
///
/// # Panics
/// When it is not there.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        // target/debug/deps/integration-0123 -> target/debug/interflow
        let tests = std::env::current_exe().expect("a process has a binary");
        let target = tests.ancestors().nth(2).expect("tests are in target/PROFILE/deps");
        let binary = target.join("interflow");
        assert!(binary.exists(), "{} is not there: run `make test`, which builds it", binary.display());
        binary
    })
}

/// Whether this machine lets us use the driver: containers often forbid io_uring.
pub(crate) fn allowed(io: Io) -> bool {
    static URING: OnceLock<bool> = OnceLock::new();
    match io {
        Io::Epoll => true,
        Io::Uring => *URING.get_or_init(|| {
            // The driver is chosen before files are read.
            let mut command = Command::new(binary());
            command.args(["serve", "no-such-file", "--io", "uring"]);
            let finished = process::run(&mut command, START_LIMIT);
            finished.stderr.contains("cannot read")
        }),
    }
}

/// The component of a guest, by the name of its file.
///
/// # Panics
/// When it is not there.
pub(crate) fn guest(name: &str) -> PathBuf {
    let release = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/target/wasm32-wasip2/release");
    let file = release.join(format!("{name}.wasm"));
    assert!(file.exists(), "{} is not there: run `make test`, which builds the guests", file.display());
    file
}

/// A directory of this test run for files that tests make.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&dir).expect("the target directory can be written");
    dir
}

/// How a server is started.
#[must_use]
pub(crate) struct Setup {
    io: Io,
    workers: usize,
    files: Vec<PathBuf>,
    args: Vec<OsString>,
    cache: OsString,
    addr: SocketAddr,
}

/// A server of `guests`, outermost first; one worker, unless told otherwise.
pub(crate) fn serve(io: Io, guests: &[&str]) -> Setup {
    Setup {
        io,
        workers: 1,
        files: guests.iter().map(|name| guest(name)).collect(),
        args: Vec::new(),
        // Shared by all tests of all runs: a chain is compiled once per version of the runtime.
        cache: shared_cache().into(),
        addr: ([127, 0, 0, 1], 0).into(),
    }
}

/// Where tests that are not about the cache keep compiled chains.
pub(crate) fn shared_cache() -> PathBuf {
    scratch("").join("cache")
}

impl Setup {
    /// More arguments, separated by spaces.
    pub(crate) fn args(mut self, args: &str) -> Setup {
        self.args.extend(args.split_whitespace().map(OsString::from));
        self
    }

    pub(crate) fn workers(mut self, workers: usize) -> Setup {
        self.workers = workers;
        self
    }

    /// Serves these files instead of guests by name.
    pub(crate) fn files(mut self, files: &[PathBuf]) -> Setup {
        self.files = files.to_vec();
        self
    }

    pub(crate) fn cache(mut self, cache: impl Into<OsString>) -> Setup {
        self.cache = cache.into();
        self
    }

    /// Listens there instead of on a free port.
    pub(crate) fn at(mut self, addr: SocketAddr) -> Setup {
        self.addr = addr;
        self
    }

    /// Starts the server and waits until it serves.
    ///
    /// # Panics
    /// When it ends instead, or takes too long.
    pub(crate) fn start(self) -> Server {
        let mut child = Command::new(binary())
            .arg("serve")
            .args(&self.files)
            .args([
                "--addr",
                &self.addr.to_string(),
                "--io",
                &self.io.to_string(),
                "--workers",
                &self.workers.to_string(),
            ])
            .arg("--cache")
            .arg(&self.cache)
            .args(&self.args)
            .env_remove("INTERFLOW_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be started");
        let stdout = Lines::read(child.stdout.take().expect("piped"));
        let stderr = Lines::read(child.stderr.take().expect("piped"));
        let mut server = Server { child, addr: self.addr, stdout, stderr, expected_to_run: true };
        let line =
            server.stderr.wait_for("serving ... on http://ADDRESS", START_LIMIT, |line| line.starts_with("serving "));
        server.addr = address_in(&line).unwrap_or_else(|| panic!("no address in `{line}`"));
        server
    }
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The number behind `name` in a `status` file of `/proc`.
fn status_value(status: &str, name: &str) -> u64 {
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {status}"));
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// A server that runs.
pub(crate) struct Server {
    child: Child,
    addr: SocketAddr,
    /// What the guests print.
    pub(crate) stdout: Lines,
    /// What the server logs, and what the guests say there.
    pub(crate) stderr: Lines,
    expected_to_run: bool,
}

impl Server {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.addr)
    }

    /// A GET on a connection of its own.
    ///
    /// # Panics
    /// When no whole response comes.
    pub(crate) fn get(&self, path: &str) -> Response {
        self.try_get(path).unwrap_or_else(|cut| panic!("GET {path}: {cut:?}"))
    }

    /// A GET on a connection of its own, of which anything may come.
    pub(crate) fn try_get(&self, path: &str) -> Result<Response, Cut> {
        let mut connection = self.connect();
        connection.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"));
        connection.response()
    }

    /// What the process has open: what each of its file descriptors is.
    pub(crate) fn fds(&self) -> Vec<String> {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("our child has a /proc entry");
        // One that is closed in between is left out.
        let links = entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        let mut names: Vec<String> = links.map(|name| name.display().to_string()).collect();
        names.sort();
        names
    }

    /// A value of `/proc/PID/status` in KiB: `VmRSS` is the resident memory, `VmHWM` its peak.
    pub(crate) fn memory_kib(&self, name: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("our child has a /proc entry");
        status_value(&status, name)
    }

    /// How often its threads have gone to sleep so far.
    pub(crate) fn sleeps(&self) -> u64 {
        let threads =
            std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("our child has a /proc entry");
        // One that ends in between is left out.
        let statuses =
            threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("status")).ok());
        statuses.map(|status| status_value(&status, "voluntary_ctxt_switches")).sum()
    }

    /// Repeats `round` until the resident memory has come to rest: a round has added less than `growth_kib_max`.
    ///
    /// # Panics
    /// When every round adds more: it would go on for ever.
    pub(crate) fn expect_memory_to_settle(&self, growth_kib_max: u64, mut round: impl FnMut()) {
        let mut seen_kib = vec![self.memory_kib("VmRSS")];
        for _ in 0..SETTLE_ROUNDS_MAX {
            round();
            let (before_kib, after_kib) = (seen_kib[seen_kib.len() - 1], self.memory_kib("VmRSS"));
            seen_kib.push(after_kib);
            if after_kib < before_kib + growth_kib_max {
                println!("KiB resident: {seen_kib:?}");
                return;
            }
        }
        panic!("memory grows with every round: {seen_kib:?} KiB");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("our child can be signalled");
    }

    /// Waits for the process to end, which is now expected.
    ///
    /// # Panics
    /// When it does not within `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        self.expected_to_run = false;
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our child can be waited for") {
                return status;
            }
            assert!(start.elapsed() < limit, "the server does not end within {limit:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops it with SIGTERM and checks that it ends with code 0.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait(Duration::from_secs(5));
        assert_eq!(status.code(), Some(0), "signal {:?}", status.signal());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.child.try_wait().ok().flatten();
        // Both fail if it has ended by itself, which is checked below.
        let _ended = self.child.kill();
        let _status = self.child.wait();
        let stderr = self.stderr.all();
        if thread::panicking() {
            let from = stderr.len().saturating_sub(40);
            println!("--- the last lines of the server's stderr");
            stderr[from..].iter().for_each(|line| println!("{line}"));
            return;
        }
        if let (true, Some(status)) = (self.expected_to_run, ended) {
            panic!("the server has ended by itself: {status}");
        }
        // Panics of guests have their zone's name before them.
        let own = stderr.iter().find(|line| line.starts_with("thread '"));
        assert!(own.is_none(), "the server has panicked: {}", own.expect("is some"));
    }
}

/// Lines that a process prints, as they come.
#[derive(Clone)]
pub(crate) struct Lines(Arc<(Mutex<Kept>, Condvar)>);

#[derive(Default)]
struct Kept {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn read(from: impl Read + Send + 'static) -> Lines {
        let lines = Lines(Arc::default());
        let kept = lines.clone();
        thread::spawn(move || kept.keep(BufReader::new(from)));
        lines
    }

    fn keep(&self, mut from: impl BufRead) {
        let (kept, changed) = &*self.0;
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned();
            kept.lock().expect("nobody panics with it").lines.push(text);
            changed.notify_all();
            line.clear();
        }
        kept.lock().expect("nobody panics with it").ended = true;
        changed.notify_all();
    }

    /// All lines so far.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.0.lock().expect("nobody panics with it").lines.clone()
    }

    /// The first line, of all there were and come, for which `wanted` holds.
    ///
    /// # Panics
    /// When the output ends before, or the time `limit` does. The message names `what`.
    pub(crate) fn wait_for(&self, what: &str, limit: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + limit;
        let (kept, changed) = &*self.0;
        let mut kept = kept.lock().expect("nobody panics with it");
        loop {
            if let Some(line) = kept.lines.iter().find(|line| wanted(line)) {
                return line.clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            let (ended, lines) = (kept.ended, &kept.lines);
            // Not under the lock: who prints these lines after the panic takes it again.
            if ended || left.is_zero() {
                let lines = lines.clone();
                drop(kept);
                panic!("no line `{what}` {}: {lines:#?}", if ended { "before the end" } else { "in time" });
            }
            kept = changed.wait_timeout(kept, left).expect("nobody panics with it").0;
        }
    }

    /// How many lines each zone has printed that contain `text`; zones are named before their lines, as `[app#0.1] `.
    pub(crate) fn by_zone(&self, text: &str) -> HashMap<String, usize> {
        let mut zones = HashMap::new();
        for line in self.all().iter().filter(|line| line.contains(text)) {
            let zone = line.strip_prefix('[').and_then(|line| line.split_once("] ")).map(|(zone, _)| zone.to_string());
            *zones.entry(zone.unwrap_or_default()).or_default() += 1;
        }
        zones
    }
}
