//! Prints more than anyone wants: many lines, unfinished lines, one endless line, bytes that are not text.
//! Every line says which it is, so that what came out can be checked. Other paths are answered with hello.

use std::io::Write;

use guest_kit::{path, segments, text, wait_ms};
use wasip3::http::types::{ErrorCode, Request, Response};
use wasip3::wit_bindgen::spawn_local;
use wasip3::wit_stream;

struct Flood;

wasip3::http::service::export!(Flood);

/// What the path asks for.
enum Mode {
    Lines(u64),
    Partial,
    Long { bytes: usize },
    Binary,
    Native(u64),
    Hello,
}

impl Mode {
    fn parse(path: &str) -> Option<Mode> {
        Some(match segments(path)[..] {
            ["lines", n] => Mode::Lines(n.parse().ok()?),
            ["partial"] => Mode::Partial,
            ["long", n] => Mode::Long { bytes: n.parse().ok()? },
            ["binary"] => Mode::Binary,
            ["native", n] => Mode::Native(n.parse().ok()?),
            _ => Mode::Hello,
        })
    }
}

impl wasip3::exports::http::handler::Guest for Flood {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        match Mode::parse(&path(&request)) {
            Some(Mode::Lines(n)) => lines(n),
            Some(Mode::Partial) => partial().await,
            Some(Mode::Long { bytes }) => out(&vec![b'l'; bytes]),
            Some(Mode::Binary) => out(b"\xff\xfe binary \0 \x1b[31m \r\n"),
            Some(Mode::Native(n)) => native(n).await,
            Some(Mode::Hello) => {}
            None => return Ok(text(404, "that is not a number\n")),
        }
        Ok(text(200, "hello from a guest that prints\n"))
    }
}

/// To stdout, at once. What can't be printed is lost: this guest is about printing, not about failing.
fn out(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

fn err(bytes: &[u8]) {
    let _ = std::io::stderr().write_all(bytes);
}

fn lines(n: u64) {
    for i in 0..n {
        out(format!("out {i} of {n}\n").as_bytes());
        err(format!("err {i} of {n}\n").as_bytes());
    }
}

/// One line in two halves, with a pause in which others may print; then one that is never finished.
async fn partial() {
    out(b"first half, ");
    err(b"an unfinished line on stderr");
    wait_ms(20).await;
    out(b"second half\nan unfinished line on stdout");
}

/// The same through `wasi:cli/stdout@0.3`, whose output is a stream that the host reads.
async fn native(n: u64) {
    let (mut writer, reader) = wit_stream::new();
    let printed = wasip3::cli::stdout::write_via_stream(reader);
    spawn_local(async move {
        for i in 0..n {
            let unprinted = writer.write_all(format!("native {i} of {n}\n").into_bytes()).await;
            if !unprinted.is_empty() {
                return;
            }
        }
    });
    // A host that can't print says so here; the answer does not depend on it.
    let _ = printed.await;
}
