//! Load generators and what they say: `wrk` for requests, `curl` for bodies.

use crate::process::{Server, pinned};
use anyhow::{Context as _, Result, bail, ensure};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What one run against a server has given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Answers, of any status.
    pub requests: u64,
    /// Per second.
    pub rate: f64,
    /// Half of the answers took no longer.
    pub p50: Duration,
    /// All but one in a hundred took no longer.
    pub p99: Duration,
    /// Answers with another status than 2xx or 3xx, and broken connections.
    pub errors: u64,
}

/// Runs `wrk` on `core` for `seconds`, and takes the processor time that `server` used meanwhile.
///
/// # Errors
/// When one of them fails.
pub fn wrk(
    program: &Path,
    core: Option<usize>,
    server: &Server,
    connections: usize,
    seconds: u64,
) -> Result<(Load, Duration)> {
    let mut command = pinned(program, core);
    command.args(["--threads", "1", "--latency"]);
    command.args(["--connections", &connections.to_string(), "--duration", &format!("{seconds}s")]);
    command.arg(format!("http://{}/", server.addr));
    let before = server.cpu()?;
    let said = output(&mut command)?;
    let after = server.cpu()?;
    let load = parse_wrk(&said).with_context(|| format!("cannot read what wrk said of {}: {said}", server.name))?;
    ensure!(load.requests > 0, "{} has answered nothing: {said}", server.name);
    Ok((load, after - before))
}

/// Uploads `file` to `path` with `curl` on `core`; gives what came back in bytes, the seconds it took, and processor time.
///
/// # Errors
/// When one of them fails, or the answer is not 200.
pub fn upload(core: Option<usize>, server: &Server, path: &str, file: &Path) -> Result<(u64, f64, Duration)> {
    let mut command = pinned(Path::new("curl"), core);
    command.args([
        "--silent",
        "--show-error",
        "--http1.1",
        "--request",
        "POST",
        "--header",
        "expect:",
        "--output",
        "/dev/null",
    ]);
    command.args(["--write-out", "%{http_code} %{size_download} %{time_total}", "--upload-file"]).arg(file);
    command.arg(format!("http://{}{path}", server.addr));
    let before = server.cpu()?;
    let said = output(&mut command)?;
    let after = server.cpu()?;
    let mut words = said.split_ascii_whitespace();
    let (status, bytes, seconds) = (words.next(), words.next(), words.next());
    ensure!(status == Some("200"), "{} answers {path} with {}", server.name, status.unwrap_or("nothing"));
    let parsed = bytes.and_then(|bytes| bytes.parse().ok()).zip(seconds.and_then(|seconds| seconds.parse().ok()));
    let (bytes, seconds) = parsed.with_context(|| format!("cannot read what curl said: {said}"))?;
    Ok((bytes, seconds, after - before))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse_wrk(said: &str) -> Option<Load> {
    let line = |start: &str| said.lines().map(str::trim).find_map(|line| line.strip_prefix(start));
    let (requests, _) = said.lines().find_map(|line| line.trim().split_once(" requests in "))?;
    let numbers = |text: &str| -> u64 {
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<u64>().ok()).sum()
    };
    Some(Load {
        requests: requests.parse().ok()?,
        rate: line("Requests/sec:")?.trim().parse().ok()?,
        p50: duration(line("50%")?.trim())?,
        p99: duration(line("99%")?.trim())?,
        errors: line("Socket errors:").map_or(0, numbers) + line("Non-2xx or 3xx responses:").map_or(0, numbers),
    })
}

/// As wrk writes them: `84.00us`, `1.20ms`, `2.00s`.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number: f64 = text[..text.len() - unit.len()].parse().ok()?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        _ => return None,
    };
    Some(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::{Load, parse_wrk};
    use std::time::Duration;

    const SAID: &str = "Running 3s test @ http://127.0.0.1:1/
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   170.45us  100.06us   6.44ms   97.98%
    Req/Sec    93.45k     3.37k   98.10k    70.97%
  Latency Distribution
     50%  164.00us
     75%  172.00us
     90%  190.00us
     99%    1.25ms
  288231 requests in 3.10s, 35.46MB read
  Socket errors: connect 0, read 3, write 0, timeout 1
  Non-2xx or 3xx responses: 5
Requests/sec:  92976.52
Transfer/sec:     11.44MB
";

    #[test]
    fn what_wrk_says_is_understood() {
        let load = Load {
            requests: 288_231,
            rate: 92976.52,
            p50: Duration::from_micros(164),
            p99: Duration::from_micros(1250),
            errors: 9,
        };
        assert_eq!(parse_wrk(SAID), Some(load));
        assert_eq!(parse_wrk("unable to connect"), None);
    }
}
