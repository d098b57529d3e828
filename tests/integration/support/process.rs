//! Programs beside the server: run to their end, with a limit, and their output.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a program has left.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Finished {
    /// The output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The same, if it ended with code 0.
    ///
    /// # Panics
    /// When it did not.
    pub(crate) fn success(self) -> Finished {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.text(), self.stderr);
        self
    }
}

/// Runs a program until it ends.
///
/// # Panics
/// When it cannot be started, or does not end within `limit`.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Finished {
    let start = Instant::now();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(|error| {
            panic!("cannot start {:?}: {error}; run `make test`, which says what is needed", command.get_program())
        });
    let (mut out, mut err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let stdout = thread::spawn(move || read_all(&mut out));
    let stderr = thread::spawn(move || read_all(&mut err));
    let status = loop {
        match child.try_wait().expect("our child can be waited for") {
            Some(status) => break status,
            None if limit < start.elapsed() => {
                // It may have ended by itself in between.
                let _ended = child.kill();
                let _status = child.wait();
                let stderr = stderr.join().expect("reading does not panic");
                panic!("{command:?} does not end within {limit:?}; stderr: {}", String::from_utf8_lossy(&stderr));
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    Finished {
        code: status.code(),
        stdout: stdout.join().expect("reading does not panic"),
        stderr: String::from_utf8_lossy(&stderr.join().expect("reading does not panic")).into_owned(),
    }
}

fn read_all(from: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).expect("a pipe can be read");
    bytes
}

/// How long `curl` and `h2load` may take.
const TOOL_LIMIT: Duration = Duration::from_secs(60);

/// `curl`, silent, without anybody's configuration.
pub(crate) fn curl(args: &[&str]) -> Finished {
    run(Command::new("curl").args(["-q", "--silent", "--show-error", "--max-time", "50"]).args(args), TOOL_LIMIT)
}

/// `curl` over HTTP/2 with prior knowledge.
pub(crate) fn curl_h2(args: &[&str]) -> Finished {
    run(
        Command::new("curl")
            .args(["-q", "--silent", "--show-error", "--max-time", "50", "--http2-prior-knowledge"])
            .args(args),
        TOOL_LIMIT,
    )
}

/// `h2load`, and checks that all `requests` were answered with a status of 2xx.
///
/// # Panics
/// When they were not.
pub(crate) fn h2load(requests: usize, args: &[&str]) {
    let finished = run(Command::new("h2load").args(["-n", &requests.to_string()]).args(args), TOOL_LIMIT).success();
    let text = finished.text();
    let expected = [
        format!("{requests} done, {requests} succeeded, 0 failed, 0 errored, 0 timeout"),
        format!("{requests} 2xx, 0 3xx, 0 4xx, 0 5xx"),
    ];
    for expected in expected {
        assert!(text.contains(&expected), "`{expected}` is not in: {text}");
    }
}
