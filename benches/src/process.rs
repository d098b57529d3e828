//! Servers as child processes: started on a core of their own, asked for their processor time, and never left behind.
//!
//! They are started through `setpriv` and `taskset` (util-linux), which replace themselves: the child's pid is the server's.
//! The kernel kills a server when the thread that started it ends, however it ends; dropping a `Server` does so earlier.

use anyhow::{Context as _, Result, bail, ensure};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long a server may take until it listens: it may have to compile a chain first.
const START_MAX: Duration = Duration::from_secs(120);

/// Which cores servers and load generators run on; `None` if there is only one.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Cores {
    /// The servers' core.
    pub server: usize,
    /// The load generator's core.
    pub load: usize,
}

impl Cores {
    /// The first core for servers and the second for the load; `None` on a machine with one.
    pub fn choose() -> Option<Cores> {
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        (count >= 2).then_some(Cores { server: 0, load: 1 })
    }
}

/// A command that runs `program` on `core`.
pub fn pinned(program: &Path, core: Option<usize>) -> Command {
    let Some(core) = core else { return Command::new(program) };
    let mut command = Command::new("taskset");
    command.arg("--cpu-list").arg(core.to_string()).arg(program);
    command
}

/// Looks `program` up in the path.
///
/// # Errors
/// When it is not there; the message names the package that has it.
pub fn require(program: &str, package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file()) {
        Some(file) => Ok(file),
        None => bail!("`{program}` is not installed: run `apt-get install {package}`"),
    }
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    /// What messages call it.
    pub name: String,
    /// `IP:PORT`
    pub addr: String,
    child: Child,
}

impl Server {
    /// Starts `program` with `args` on `core`, and waits until it says on standard error where it listens.
    ///
    /// # Errors
    /// When it ends, or does not listen in time; the message has what it said.
    pub fn start(name: &str, program: &Path, args: &[String], core: Option<usize>) -> Result<Server> {
        let target = pinned(program, core);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(target.get_program()).args(target.get_args()).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().with_context(|| format!("cannot start {name}: `setpriv` is part of util-linux"))?;
        let mut server = Server { name: name.to_string(), addr: String::new(), child };
        let stderr = server.child.stderr.take().expect("it is piped");
        let (sender, lines) = channel();
        // Reads to the end, so that a server that complains is not held up by a full pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                drop(sender.send(line));
            }
        });
        server.addr = address(&lines).with_context(|| format!("{name} does not start"))?;
        Ok(server)
    }

    /// Processor time that the server has used so far, user and system, all threads.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))
            .with_context(|| format!("{} has ended", self.name))?;
        let ticks = cpu_ticks(&stat).with_context(|| format!("{}: strange /proc/pid/stat: {stat}", self.name))?;
        Ok(Duration::from_nanos(ticks * (1_000_000_000 / TICKS_PER_SECOND)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended of itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Keeps cores from sleeping, with programs that run while nobody else wants to, until it is dropped.
#[derive(Debug)]
pub struct Awake(Vec<Child>);

impl Awake {
    /// Keeps these cores awake.
    ///
    /// # Errors
    /// When `chrt` is missing, or may not lower a priority.
    pub fn start(cores: Cores) -> Result<Awake> {
        let chrt = require("chrt", "util-linux")?;
        let mut awake = Awake(Vec::new());
        for core in [cores.server, cores.load] {
            let idle = pinned(&chrt, Some(core));
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL"]).arg(idle.get_program()).args(idle.get_args());
            command.args(["--idle", "0", "sh", "-c", "while :; do :; done"]).stdin(Stdio::null());
            awake.0.push(command.spawn().context("cannot keep a core awake: `setpriv` is part of util-linux")?);
        }
        Ok(awake)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended of itself.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// `USER_HZ`: 100 on every architecture that this runs on, whatever the kernel's own tick is.
const TICKS_PER_SECOND: u64 = 100;

/// utime and stime of proc(5)'s `stat`. The second field is a name in parentheses that may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let (utime, stime): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(utime + stime)
}

/// The address in the first line that has one.
fn address(lines: &Receiver<String>) -> Result<String> {
    let deadline = Instant::now() + START_MAX;
    let mut said = Vec::new();
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => match address_in(&line) {
                Some(address) => return Ok(address),
                None => said.push(line),
            },
            Err(RecvTimeoutError::Timeout) => {
                bail!("it does not listen after {} s: {}", START_MAX.as_secs(), said.join("\n"))
            }
            Err(RecvTimeoutError::Disconnected) => {
                ensure!(!said.is_empty(), "it has ended without a word");
                bail!("{}", said.join("\n"));
            }
        }
    }
}

fn address_in(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("http://")?;
    let end = rest.find(|c: char| c.is_whitespace() || c == '/').unwrap_or(rest.len());
    Some(rest[..end].to_string())
}

#[cfg(test)]
mod tests {
    use super::{address_in, cpu_ticks};

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194304 900 0 0 0 17 25 0 0 20 0 3 0 100 1000 10";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(cpu_ticks("42 (a) S 1"), None);
    }

    #[test]
    fn the_address_is_taken_from_whatever_a_server_says() {
        assert_eq!(address_in("serving a.wasm on http://127.0.0.1:41 with 1 workers").as_deref(), Some("127.0.0.1:41"));
        assert_eq!(address_in("Serving HTTP on http://127.0.0.1:41/").as_deref(), Some("127.0.0.1:41"));
        assert_eq!(address_in("I/O by io_uring"), None);
    }
}
