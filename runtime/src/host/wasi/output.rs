//! The guests' output: bytes in, lines out.
//!
//! What guests write to stdout and stderr reaches an `OutputSink` line by line, each with its zone's name before it and in one
//! call, so that lines of several zones and threads do not mix. A line waits for its newline, up to a length, and at the latest
//! until the zone ends. Nothing is queued: a sink has taken a line when it returns.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;

use crate::abi::Result;
use crate::executor::{self, JoinHandle};
use crate::host::stream::StreamReader;

/// Bytes of a line that wait for its newline; a longer one goes out in pieces, before a guest that writes none takes memory.
const LINE_LEN_MAX: usize = 8 * 1024;
/// Bytes that one read of a guest's stream takes.
const READ_LEN_MAX: usize = 64 * 1024;
/// Below this many tasks it is not worth looking for ended ones.
const SWEEP_MIN: usize = 16;

/// Which of a program's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// What it has to say.
    Stdout,
    /// What there is to say about it.
    Stderr,
}

/// Where guests' lines go.
pub trait OutputSink: Send + Sync + 'static {
    /// Takes a line, prefix and newline included. It is called on the thread that runs the guest and should return soon.
    /// It has no error: a log that nobody takes any more must not end the service that writes it.
    fn write_line(&self, output: Output, line: &[u8]);
}

/// Our own stdout and stderr. A line that they refuse is lost.
pub struct Stdio;

impl OutputSink for Stdio {
    fn write_line(&self, output: Output, line: &[u8]) {
        // Both write a buffer that ends in a newline with one system call, unless the kernel takes a part only.
        let _refused = match output {
            Output::Stdout => std::io::stdout().lock().write_all(line),
            Output::Stderr => std::io::stderr().lock().write_all(line),
        };
    }
}

/// Cuts one output of a zone into lines.
pub(super) struct Lines {
    output: Output,
    sink: Arc<dyn OutputSink>,
    prefix_len: usize,
    /// The prefix, and behind it what there is of the next line.
    line: RefCell<Vec<u8>>,
}

impl Lines {
    /// Lines of the zone `name`.
    pub fn new(name: &str, output: Output, sink: Arc<dyn OutputSink>) -> Lines {
        let prefix = match name {
            "" => String::new(),
            name => format!("[{name}] "),
        };
        Lines { output, sink, prefix_len: prefix.len(), line: RefCell::new(prefix.into_bytes()) }
    }

    /// Takes bytes of the guest and hands on the lines that they complete.
    pub fn write(&self, bytes: &[u8]) {
        let mut line = self.line.borrow_mut();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            match piece.split_last() {
                Some((b'\n', text)) => {
                    self.append(&mut line, text);
                    self.end_line(&mut line);
                }
                _ => self.append(&mut line, piece),
            }
        }
    }

    /// Appends text without newlines. What is too long for a line is forced out.
    fn append(&self, line: &mut Vec<u8>, mut text: &[u8]) {
        loop {
            let room = LINE_LEN_MAX - (line.len() - self.prefix_len);
            if text.len() <= room {
                return line.extend_from_slice(text);
            }
            let (fits, rest) = text.split_at(room);
            line.extend_from_slice(fits);
            self.end_line(line);
            text = rest;
        }
    }

    fn end_line(&self, line: &mut Vec<u8>) {
        line.push(b'\n');
        self.sink.write_line(self.output, line);
        line.truncate(self.prefix_len);
    }
}

/// What is left of a line goes out with the last who could have completed it.
impl Drop for Lines {
    fn drop(&mut self) {
        let mut line = self.line.take();
        if self.prefix_len < line.len() {
            self.end_line(&mut line);
        }
    }
}

/// The tasks that read the guests' streams into lines, whether or not a guest looks at the outcome. They end with their zone:
/// a stream of a zone that is gone would never wake its reader.
pub(super) struct Drains {
    tasks: RefCell<Vec<JoinHandle<()>>>,
    /// How many tasks make it worth to look for ended ones.
    sweep_at: Cell<usize>,
}

impl Default for Drains {
    fn default() -> Self {
        Drains { tasks: RefCell::default(), sweep_at: Cell::new(SWEEP_MIN) }
    }
}

impl Drains {
    /// Writes `data` to `lines` until it ends, then calls `done`.
    ///
    /// A task lives as long as the guest holds the writing end, so the guest's handles bound how many there are.
    pub fn start(&self, data: StreamReader<u8>, lines: Rc<Lines>, done: impl FnOnce(Result<()>) + 'static) {
        self.sweep();
        let task = executor::spawn(async move { done(drain(data, &lines).await) });
        self.tasks.borrow_mut().push(task);
    }

    /// Forgets ended tasks each time their number may have doubled: constant work per task.
    fn sweep(&self) {
        let mut tasks = self.tasks.borrow_mut();
        if tasks.len() < self.sweep_at.get() {
            return;
        }
        tasks.retain(|task| !task.is_finished());
        self.sweep_at.set(SWEEP_MIN.max(2 * tasks.len()));
    }
}

impl Drop for Drains {
    fn drop(&mut self) {
        self.tasks.get_mut().iter().for_each(JoinHandle::abort);
    }
}

async fn drain(mut data: StreamReader<u8>, lines: &Lines) -> Result<()> {
    while let Some(bytes) = data.next(READ_LEN_MAX).await? {
        lines.write(&bytes);
        // A guest can offer gigabytes in one write; the thread's other tasks are not to wait for all of it.
        executor::yield_now().await;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::{LINE_LEN_MAX, Lines, Output, OutputSink};
    use std::sync::{Arc, Mutex};

    /// Keeps the lines.
    #[derive(Default)]
    pub(in super::super) struct Captured(Mutex<Vec<(Output, String)>>);

    impl Captured {
        /// The lines since the last time.
        pub fn take(&self) -> Vec<(Output, String)> {
            std::mem::take(&mut *self.0.lock().expect("nobody panics with it"))
        }
    }

    impl OutputSink for Captured {
        fn write_line(&self, output: Output, line: &[u8]) {
            let line = String::from_utf8_lossy(line).into_owned();
            self.0.lock().expect("nobody panics with it").push((output, line));
        }
    }

    /// The lines that come of `writes`, before and after the zone ends.
    fn lines_of(name: &str, writes: &[&[u8]]) -> (Vec<String>, Vec<String>) {
        let sink = Arc::new(Captured::default());
        let taken = || -> Vec<String> { sink.take().into_iter().map(|(_, line)| line).collect() };
        let lines = Lines::new(name, Output::Stdout, sink.clone());
        writes.iter().for_each(|bytes| lines.write(bytes));
        let before = taken();
        drop(lines);
        (before, taken())
    }

    fn check(writes: &[&str], before: &[&str], at_the_end: &[&str]) {
        let writes: Vec<&[u8]> = writes.iter().map(|text| text.as_bytes()).collect();
        let (a, b) = lines_of("app#3", &writes);
        assert_eq!((a, b), (owned(before), owned(at_the_end)), "after {writes:?}");
    }

    fn owned(lines: &[&str]) -> Vec<String> {
        lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn output_is_cut_into_prefixed_lines_however_it_comes() {
        check(&[], &[], &[]);
        check(&[""], &[], &[]);
        check(&["one\n"], &["[app#3] one\n"], &[]);
        check(&["one\ntwo\n"], &["[app#3] one\n", "[app#3] two\n"], &[]);
        check(&["o", "n", "e", "\n"], &["[app#3] one\n"], &[]);
        check(&["one\ntw", "o\nthree"], &["[app#3] one\n", "[app#3] two\n"], &["[app#3] three\n"]);
        check(&["\n\n"], &["[app#3] \n", "[app#3] \n"], &[]);
        check(&["one\r\n"], &["[app#3] one\r\n"], &[]);
    }

    #[test]
    fn a_line_waits_for_its_newline_up_to_its_maximum() {
        let full = "x".repeat(LINE_LEN_MAX);
        let line = format!("[app#3] {full}\n");
        check(&[&full], &[], &[&line]);
        check(&[&full, "\n"], &[&line], &[]);
        check(&[&full, "y"], &[&line], &["[app#3] y\n"]);
        check(&[&full, &full, "\n", "y\n"], &[&line, &line, "[app#3] y\n"], &[]);
    }

    #[test]
    fn every_byte_comes_out_once_and_no_line_is_too_long() {
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed_u64);
        eprintln!("SEED={seed}");
        let mut state = seed | 1;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..50 {
            let newline_one_in = 1 + random(20_000);
            let text: Vec<u8> =
                (0..random(60_000)).map(|_| if random(newline_one_in) == 0 { b'\n' } else { b'a' }).collect();
            let mut writes = Vec::new();
            let mut rest = &text[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(1 + random(rest.len() as u64) as usize);
                writes.push(now);
                rest = later;
            }
            let (before, at_the_end) = lines_of("", &writes);
            let lines: Vec<String> = before.into_iter().chain(at_the_end).collect();
            assert!(lines.iter().all(|line| line.ends_with('\n') && line.len() <= LINE_LEN_MAX + 1));
            let letters = |text: &[u8]| text.iter().filter(|&&byte| byte != b'\n').count();
            assert_eq!(letters(lines.concat().as_bytes()), letters(&text));
            let newlines = text.iter().filter(|&&byte| byte == b'\n').count();
            assert!(newlines <= lines.len());
        }
    }

    #[test]
    fn a_zone_without_a_name_has_no_prefix() {
        assert_eq!(lines_of("", &[b"one\ntwo"]), (owned(&["one\n"]), owned(&["two\n"])));
    }
}
