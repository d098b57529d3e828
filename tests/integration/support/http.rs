//! A small blocking HTTP/1.1 client that sends what it is told, right or wrong, and takes responses apart byte by byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long the client waits for bytes before it takes a connection for dead.
const READ_LIMIT: Duration = Duration::from_secs(20);

/// Bytes asked of the kernel at once.
const READ_LEN: usize = 64 * 1024;

/// A connection, and what has been read from it but not been used.
pub(crate) struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// The first line of a response, and its headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// `HTTP/1.1`
    pub(crate) version: String,
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    /// The values of a header, joined as RFC 9110, 5.3 allows.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        joined(&self.headers, name)
    }
}

/// A whole response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.head.header(name)
    }

    pub(crate) fn trailer(&self, name: &str) -> Option<String> {
        joined(&self.trailers, name)
    }

    /// Checks status and body.
    ///
    /// # Panics
    /// When they are others.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16, body: &str) -> &Response {
        assert_eq!((self.status(), self.text().as_str()), (status, body), "{:?}", self.head);
        self
    }

    /// Checks the status.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub(crate) fn expect_status(&self, status: u16) -> &Response {
        assert_eq!(self.status(), status, "{:?} {}", self.head, self.text());
        self
    }
}

fn joined(fields: &[(String, String)], name: &str) -> Option<String> {
    let values: Vec<&str> = fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// A response that did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The head, if that came.
    pub(crate) head: Option<Head>,
    /// What came of the body.
    pub(crate) body: Vec<u8>,
    /// What came instead of the rest.
    pub(crate) reason: String,
}

/// How a body is framed (RFC 9112, 6.3).
enum Framing {
    Empty,
    Length(u64),
    Chunked,
    UntilClose,
}

impl Framing {
    fn of(head: &Head, method: &str) -> Framing {
        let chunked = head.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        match (method, head.status) {
            ("HEAD", _) | (_, 100..=199 | 204 | 304) => Framing::Empty,
            _ if chunked => Framing::Chunked,
            _ => head.header("content-length").map_or(Framing::UntilClose, |length| {
                Framing::Length(length.parse().unwrap_or_else(|_| panic!("content-length: {length}")))
            }),
        }
    }
}

impl Connection {
    /// # Panics
    /// When the server does not take it.
    pub(crate) fn open(addr: SocketAddr) -> Connection {
        let stream = TcpStream::connect_timeout(&addr, READ_LIMIT)
            .unwrap_or_else(|error| panic!("cannot connect to {addr}: {error}"));
        Connection::over(stream)
    }

    pub(crate) fn over(stream: TcpStream) -> Connection {
        stream.set_read_timeout(Some(READ_LIMIT)).expect("not zero");
        stream.set_write_timeout(Some(READ_LIMIT)).expect("not zero");
        stream.set_nodelay(true).expect("a TCP stream");
        Connection { stream, unread: Vec::new() }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Another handle of the connection, to write with while this one reads.
    pub(crate) fn writer(&self) -> TcpStream {
        self.stream.try_clone().expect("descriptors are left")
    }

    /// Writes all of it.
    ///
    /// # Panics
    /// When the server does not take it.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the server takes what is sent");
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// A request without a body, and its response.
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.request("GET", path, "", b"")
    }

    /// A request and its response. `headers` are lines that end in CRLF; `content-length` is added if there is a body.
    ///
    /// # Panics
    /// When no whole response comes.
    pub(crate) fn request(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Response {
        let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        self.send(format!("{method} {path} HTTP/1.1\r\nhost: test\r\n{headers}{length}\r\n"));
        // What is larger than the sockets' buffers must be read back meanwhile.
        let mut writer = self.writer();
        std::thread::scope(|scope| {
            scope.spawn(move || writer.write_all(body));
            self.response_to(method)
                .unwrap_or_else(|cut| panic!("{method} {path}: {} after {:?}", cut.reason, cut.head))
        })
    }

    /// Nothing more will be sent.
    pub(crate) fn finish_sending(&self) {
        self.stream.shutdown(Shutdown::Write).expect("connected");
    }

    /// The response to a GET.
    pub(crate) fn response(&mut self) -> Result<Response, Cut> {
        self.response_to("GET")
    }

    pub(crate) fn response_to(&mut self, method: &str) -> Result<Response, Cut> {
        let head = self.head()?;
        let mut body = Vec::new();
        match self.body(&head, method, |bytes| body.extend_from_slice(bytes)) {
            Ok(trailers) => Ok(Response { head, body, trailers }),
            Err(reason) => Err(Cut { head: Some(head), body, reason }),
        }
    }

    /// The head of the next response; 100 (Continue) is one.
    pub(crate) fn head(&mut self) -> Result<Head, Cut> {
        let cut = |reason| Cut { head: None, body: Vec::new(), reason };
        let first = self.line().map_err(cut)?;
        let mut words = first.split(' ');
        let (version, status) = (words.next().unwrap_or_default(), words.next().and_then(|status| status.parse().ok()));
        let Some(status) = status else { return Err(cut(format!("`{first}` is no status line"))) };
        Ok(Head { version: version.to_string(), status, headers: self.fields().map_err(cut)? })
    }

    /// The body that follows `head`, in the pieces in which it comes; then its trailers.
    pub(crate) fn body(
        &mut self,
        head: &Head,
        method: &str,
        take: impl FnMut(&[u8]),
    ) -> Result<Vec<(String, String)>, String> {
        let mut take = take;
        match Framing::of(head, method) {
            Framing::Empty => Ok(Vec::new()),
            Framing::Length(length) => self.exactly(length, &mut take).map(|()| Vec::new()),
            Framing::Chunked => self.chunks(&mut take),
            Framing::UntilClose => loop {
                take(&std::mem::take(&mut self.unread));
                match self.fill() {
                    Ok(()) => {}
                    Err(reason) if reason == CLOSED => return Ok(Vec::new()),
                    Err(reason) => return Err(reason),
                }
            },
        }
    }

    fn chunks(&mut self, take: &mut impl FnMut(&[u8])) -> Result<Vec<(String, String)>, String> {
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(size.trim(), 16).map_err(|_| format!("`{line}` is no chunk size"))?;
            if size == 0 {
                return self.fields();
            }
            self.exactly(size, take)?;
            let end = self.line()?;
            if !end.is_empty() {
                return Err(format!("`{end}` after a chunk"));
            }
        }
    }

    fn exactly(&mut self, length: u64, take: &mut impl FnMut(&[u8])) -> Result<(), String> {
        let mut left = length;
        while 0 < left {
            if self.unread.is_empty() {
                self.fill()?;
            }
            let now = left.min(self.unread.len() as u64) as usize;
            take(&self.unread[..now]);
            self.unread.drain(..now);
            left -= now as u64;
        }
        Ok(())
    }

    /// Lines `name: value` up to an empty one.
    fn fields(&mut self) -> Result<Vec<(String, String)>, String> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| format!("`{line}` is no field"))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_string()));
        }
    }

    fn line(&mut self) -> Result<String, String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.unread[..end]).into_owned();
                self.unread.drain(..end + 2);
                return Ok(line);
            }
            self.fill()?;
        }
    }

    /// Reads once.
    fn fill(&mut self) -> Result<(), String> {
        let mut buffer = [0; READ_LEN];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(CLOSED.to_string()),
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(SILENT.to_string())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Waits for the server to close the connection; what it sends before that is dropped.
    ///
    /// # Panics
    /// When it does not within `limit`.
    pub(crate) fn expect_close(&mut self, limit: Duration) {
        self.stream.set_read_timeout(Some(limit)).expect("not zero");
        loop {
            match self.fill() {
                Ok(()) => self.unread.clear(),
                Err(reason) if reason == SILENT => panic!("not closed within {limit:?}"),
                Err(_) => return,
            }
        }
    }
}

/// The server has closed the connection.
pub(crate) const CLOSED: &str = "closed";
/// Nothing came for long.
pub(crate) const SILENT: &str = "silent";

/// Frames `body` as chunks of these sizes, used in turns (RFC 9112, 7.1).
pub(crate) fn chunked(body: &[u8], mut next_size: impl FnMut() -> usize) -> Vec<u8> {
    let mut framed = Vec::with_capacity(body.len() * 2);
    let mut rest = body;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(next_size().clamp(1, rest.len()));
        framed.extend_from_slice(format!("{:x}\r\n", now.len()).as_bytes());
        framed.extend_from_slice(now);
        framed.extend_from_slice(b"\r\n");
        rest = later;
    }
    framed.extend_from_slice(b"0\r\n\r\n");
    framed
}
