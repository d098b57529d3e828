//! Connections: bytes arrive as sent, ends are seen, nothing is left.

use std::cell::Cell;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Ipv4Addr, Shutdown as Half, SocketAddr};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::thread;

use futures::future::{Either, join, select};

use super::super::net::{BindOptions, TcpListener, TcpStream, readable, writable};
use super::workers::limit_descriptors;
use super::*;
use crate::ring::sys;

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

async fn listener() -> (TcpListener, SocketAddr) {
    listener_at(any_port()).await
}

/// For tests that connect to an address after its listener is gone: on an IP address of their own, lest another test has
/// taken the port meanwhile.
async fn lonely_listener() -> (TcpListener, SocketAddr) {
    listener_at((Ipv4Addr::new(127, 0, 0, 2), 0).into()).await
}

async fn listener_at(addr: SocketAddr) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(addr, BindOptions::default()).await.expect("a listener");
    let addr = listener.local_addr().expect("an address");
    (listener, addr)
}

/// Both ends of a connection.
async fn pair() -> (TcpStream, TcpStream) {
    let (mut listener, addr) = listener().await;
    let (connected, accepted) = join(TcpStream::connect(addr), listener.accept()).await;
    let (connected, (accepted, peer)) = (connected.expect("a connection"), accepted.expect("a connection"));
    assert_eq!(connected.local_addr().expect("an address"), peer);
    assert_eq!(accepted.peer_addr().expect("an address"), peer);
    (connected, accepted)
}

/// Sends back what it reads, until the end.
async fn echo(mut stream: TcpStream) -> io::Result<u64> {
    let mut buf = vec![0; 32 * 1024];
    let mut total = 0;
    loop {
        match stream.read(&mut buf).await? {
            0 => {
                stream.shutdown(Half::Write)?;
                return Ok(total);
            }
            n => {
                stream.write_all(&buf[..n]).await?;
                total += n as u64;
            }
        }
    }
}

async fn read_to_end(stream: &mut TcpStream, buf_len: usize) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buf = vec![0; buf_len];
    loop {
        match stream.read(&mut buf).await? {
            0 => return Ok(all),
            n => all.extend_from_slice(&buf[..n]),
        }
    }
}

#[test]
fn sixty_four_mebibytes_come_back_byte_for_byte() {
    const TOTAL: usize = 64 << 20;
    /// The byte at a position: neighbours, pages and buffers all differ.
    fn byte(at: usize) -> u8 {
        (at.wrapping_mul(0x9e37_79b9) >> 13) as u8
    }
    on_both(|| async {
        let (near, far) = pair().await;
        let echoing = spawn(echo(far));
        let (mut read_half, mut write_half) = futures_split(near);
        let writing = spawn(async move {
            let mut random = Random::new();
            let mut at = 0;
            while at < TOTAL {
                let n = (1 + random.below(200_000) as usize).min(TOTAL - at);
                let chunk: Vec<u8> = (at..at + n).map(byte).collect();
                write_half.write_all(&chunk).await.expect("a write");
                at += n;
            }
            write_half.end();
        });
        let mut buf = vec![0; 100_000];
        let mut at = 0;
        loop {
            let n = read_half.read(&mut buf).await.expect("bytes");
            if n == 0 {
                break;
            }
            for (i, &got) in buf[..n].iter().enumerate() {
                assert_eq!(got, byte(at + i), "at {}", at + i);
            }
            at += n;
        }
        assert_eq!(at, TOTAL);
        writing.await.expect("all written");
        assert_eq!(echoing.await.expect("no panic").expect("no error"), TOTAL as u64);
    });
}

/// One stream used by two tasks, as a full-duplex protocol does.
fn futures_split(stream: TcpStream) -> (HalfStream, HalfStream) {
    let shared = Rc::new(RefCell::new(stream));
    (HalfStream(shared.clone()), HalfStream(shared))
}

struct HalfStream(Rc<RefCell<TcpStream>>);

impl HalfStream {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = tokio::io::ReadBuf::new(buf);
        std::future::poll_fn(|cx| tokio::io::AsyncRead::poll_read(Pin::new(&mut *self.0.borrow_mut()), cx, &mut buf))
            .await?;
        Ok(buf.filled().len())
    }

    async fn write_all(&mut self, mut buf: &[u8]) -> io::Result<()> {
        while !buf.is_empty() {
            let slices = [IoSlice::new(&buf[..buf.len() / 2]), IoSlice::new(&buf[buf.len() / 2..])];
            let n = std::future::poll_fn(|cx| self.0.borrow_mut().poll_write_from(cx, &slices)).await?;
            buf = &buf[n..];
        }
        Ok(())
    }

    fn end(&self) {
        self.0.borrow().shutdown(Half::Write).expect("a half-close");
    }
}

#[test]
fn bytes_in_any_pieces_are_read_in_any_pieces() {
    on_both(|| async {
        let mut random = Random::new();
        for _ in 0..20 {
            let (mut near, mut far) = pair().await;
            let sent: Vec<u8> = (0..random.below(20_000)).map(|_| random.next() as u8).collect();
            let pieces: Vec<usize> = (0..64).map(|_| 1 + random.below(3000) as usize).collect();
            let pauses = random.next();
            let expected = sent.clone();
            let writing = spawn(async move {
                let mut left = &sent[..];
                for (i, piece) in pieces.iter().cycle().enumerate() {
                    if left.is_empty() {
                        break;
                    }
                    let (now, later) = left.split_at((*piece).min(left.len()));
                    near.write_all(now).await.expect("a write");
                    left = later;
                    if pauses >> (i % 64) & 1 == 1 {
                        yield_now().await;
                    }
                }
            });
            let buf_len = 1 + random.below(5000) as usize;
            assert_eq!(read_to_end(&mut far, buf_len).await.expect("bytes"), expected);
            writing.await.expect("all written");
        }
    });
}

#[test]
fn a_half_closed_connection_still_answers() {
    on_both(|| async {
        let (mut near, mut far) = pair().await;
        near.write_all(b"question").await.expect("a write");
        near.shutdown(Half::Write).expect("a half-close");
        assert_eq!(read_to_end(&mut far, 100).await.expect("bytes"), b"question");
        // The end stays the end.
        assert_eq!(far.read(&mut [0; 8]).await.expect("the end"), 0);
        far.write_all(b"answer").await.expect("a write");
        drop(far);
        assert_eq!(read_to_end(&mut near, 100).await.expect("bytes"), b"answer");
    });
}

#[test]
fn a_reset_is_an_error_and_writing_to_the_dead_is_too() {
    on_both(|| async {
        let (mut near, mut far) = pair().await;
        near.write_all(&[1; 5000]).await.expect("a write");
        readable_bytes(&mut far).await;
        // Closing with unread bytes resets.
        drop(far);
        let error = near.read(&mut [0; 8]).await.expect_err("a reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let error = near.write_all(&[0; 64]).await.expect_err("nobody reads");
        assert!(matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{error}");
    });
}

/// Waits until `stream` has something to read, and takes one byte of it.
async fn readable_bytes(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut [0; 1]).await.expect("a byte"), 1);
}

#[test]
fn a_read_that_is_dropped_loses_no_byte() {
    on_both(|| async {
        let (mut near, mut far) = pair().await;
        let mut got = Vec::new();
        let mut dropped = 0;
        for i in 0..500_u32 {
            let mut buf = [0; 3];
            // Give up reads before, while and after bytes arrive.
            match timeout(Duration::from_micros(u64::from(i % 5) * 20), far.read(&mut buf)).await {
                Ok(n) => got.extend_from_slice(&buf[..n.expect("bytes")]),
                Err(Elapsed) => dropped += 1,
            }
            near.write_all(&i.to_le_bytes()).await.expect("a write");
        }
        drop(near);
        got.extend(read_to_end(&mut far, 7).await.expect("bytes"));
        let expected: Vec<u8> = (0..500_u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(got, expected, "{dropped} reads were dropped");
    });
}

#[test]
fn a_connection_dropped_with_a_read_in_flight_is_seen_by_its_peer() {
    on_both(|| async {
        let (near, mut far) = pair().await;
        let mut near = near;
        assert!(timeout(Duration::from_millis(1), near.read(&mut [0; 8])).await.is_err());
        drop(near);
        assert_eq!(far.read(&mut [0; 8]).await.expect("the end"), 0);
    });
}

#[test]
fn a_writer_waits_for_its_reader() {
    on_both(|| async {
        let (mut near, mut far) = pair().await;
        let written = Rc::new(Cell::new(0));
        let counter = written.clone();
        let writing = spawn(async move {
            for _ in 0..512 {
                near.write_all(&[7; 64 * 1024]).await.expect("a write");
                counter.set(counter.get() + 64 * 1024);
            }
        });
        sleep(Duration::from_millis(50)).await;
        let stuck = written.get();
        assert!(stuck < 512 * 64 * 1024, "the kernel buffers less than 32 MiB");
        let all = read_to_end(&mut far, 256 * 1024).await.expect("bytes");
        assert_eq!(all.len(), 512 * 64 * 1024);
        writing.await.expect("all written");
    });
}

#[test]
fn a_busy_connection_lets_others_go() {
    on_both(|| async {
        let (mut near, mut far) = pair().await;
        let turns = Rc::new(Cell::new(0));
        let counter = turns.clone();
        let other = spawn(async move {
            loop {
                counter.set(counter.get() + 1);
                yield_now().await;
            }
        });
        // Both ends are always ready, so without a limit this loop would never leave its task.
        for _ in 0..1000 {
            near.write_all(b"x").await.expect("a write");
            far.read(&mut [0; 8]).await.expect("a byte");
        }
        assert!(10 < turns.get(), "{} turns", turns.get());
        other.abort();
    });
}

#[test]
fn a_listener_that_is_dropped_stops_listening() {
    in_own_process("net::a_listener_that_is_dropped_stops_listening", || {
        on_both(|| async {
            let (mut listener, addr) = lonely_listener().await;
            assert!(timeout(Duration::from_millis(1), listener.accept()).await.is_err());
            drop(listener);
            // Its accept is cancelled by the next turn; then nobody is there.
            while stats().ops != 0 {
                yield_now().await;
            }
            let error = TcpStream::connect(addr).await.expect_err("a refusal");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        });
    });
}

#[test]
fn an_address_is_free_when_close_returns() {
    in_own_process("net::an_address_is_free_when_close_returns", || {
        on_both(|| async {
            let (mut first, addr) = lonely_listener().await;
            for _ in 0..20 {
                assert!(timeout(Duration::from_micros(200), first.accept()).await.is_err());
                assert!(first.close().await.is_none());
                let turns = stats().turns;
                first = TcpListener::bind(addr, BindOptions::default()).await.expect("the same address");
                assert_eq!(stats().turns, turns, "bound at the first attempt");
            }
        });
    });
}

#[test]
fn a_connection_in_the_last_moment_is_handed_over_or_refused() {
    on_both(|| async {
        for _ in 0..50 {
            let (mut listener, addr) = lonely_listener().await;
            assert!(timeout(Duration::from_micros(1), listener.accept()).await.is_err());
            let connecting = thread::spawn(move || std::net::TcpStream::connect(addr));
            yield_now().await;
            let last = listener.close().await;
            let peer = connecting.join().expect("the connecting thread");
            match (last, peer) {
                (Some((mut stream, _)), Ok(mut peer)) => {
                    peer.write_all(b"x").expect("a write");
                    readable_bytes(&mut stream).await;
                }
                // It was in the backlog when the listener closed, and is reset. Or somebody else listens there by now, who may be
                // waiting likewise.
                (None, Ok(mut peer)) => {
                    peer.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
                    assert!(!matches!(peer.read(&mut [0; 8]), Ok(1..)));
                }
                (None, Err(_)) => {}
                (Some(_), Err(e)) => panic!("accepted, but the peer saw {e}"),
            }
        }
    });
}

#[test]
fn an_accept_that_is_dropped_loses_no_connection() {
    on_both(|| async {
        let (mut listener, addr) = listener().await;
        let mut peers = Vec::new();
        let mut accepted = Vec::new();
        for i in 0..100_u64 {
            peers.push(std::net::TcpStream::connect(addr).expect("a connection"));
            if let Ok(connection) = timeout(Duration::from_micros(i % 3 * 30), listener.accept()).await {
                accepted.push(connection.expect("a connection"));
            }
        }
        while accepted.len() < peers.len() {
            accepted.push(listener.accept().await.expect("a connection"));
        }
    });
}

#[test]
fn an_address_in_use_is_tried_for_a_while() {
    on_both(|| async {
        let (first, addr) = listener().await;
        let started = Instant::now();
        let error = TcpListener::bind(addr, BindOptions::default()).await.expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(Duration::from_millis(200) < started.elapsed());
        // Freed meanwhile, it is taken.
        let freeing = spawn(async move {
            sleep(Duration::from_millis(50)).await;
            drop(first);
        });
        TcpListener::bind(addr, BindOptions::default()).await.expect("freed");
        freeing.await.expect("a result");
    });
}

#[test]
fn listeners_share_an_address_if_asked() {
    on_both(|| async {
        let options = BindOptions { reuse_port: true, ..BindOptions::default() };
        let first = TcpListener::bind(any_port(), options).await.expect("a listener");
        let addr = first.local_addr().expect("an address");
        let second = TcpListener::bind(addr, options).await.expect("another on the same address");
        assert_eq!(second.local_addr().expect("an address"), addr);
    });
}

#[test]
fn a_lack_of_descriptors_delays_accepting_but_does_not_end_it() {
    in_own_process("net::a_lack_of_descriptors_delays_accepting_but_does_not_end_it", || {
        on_both(|| async {
            let (mut listener, addr) = listener().await;
            let peers: Vec<_> = (0..4).map(|_| std::net::TcpStream::connect(addr).expect("a connection")).collect();
            limit_descriptors(std::fs::read_dir("/proc/self/fd").expect("descriptors").count());
            let accepting = spawn(async move {
                let mut accepted = Vec::new();
                for _ in 0..4 {
                    accepted.push(listener.accept().await.expect("a connection, sooner or later"));
                }
                accepted.len()
            });
            sleep(Duration::from_millis(30)).await;
            assert!(!accepting.is_finished());
            limit_descriptors(1024);
            assert_eq!(accepting.await.expect("a result"), 4);
            drop(peers);
        });
    });
}

#[test]
fn a_thousand_connections_that_break_leave_nothing() {
    in_own_process("net::a_thousand_connections_that_break_leave_nothing", || {
        on_both(|| async {
            let (mut listener, addr) = listener().await;
            let serving = spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.expect("a connection");
                    drop(spawn(echo(stream)));
                }
            });
            yield_now().await;
            let before = std::fs::read_dir("/proc/self/fd").expect("descriptors").count();
            let breaking = thread::spawn(move || {
                for i in 0..1000 {
                    let mut peer = std::net::TcpStream::connect(addr).expect("a connection");
                    match i % 4 {
                        0 => {}
                        1 => peer.write_all(&[1; 1]).expect("a write"),
                        // Far more than is read back, then gone: a reset in the middle.
                        2 => drop(peer.write(&[2; 300_000])),
                        _ => {
                            peer.write_all(&[3; 5000]).expect("a write");
                            peer.read_exact(&mut [0; 100]).expect("some of the echo");
                        }
                    }
                }
            });
            while !breaking.is_finished() {
                sleep(Duration::from_millis(5)).await;
            }
            breaking.join().expect("the breaking thread");
            // What is left: this scenario's server and timeout, and the accept.
            while stats().tasks != 1 || stats().ops != 1 {
                sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(std::fs::read_dir("/proc/self/fd").expect("descriptors").count(), before);
            serving.abort();
        });
    });
}

#[test]
fn ten_thousand_idle_reads_are_cheap() {
    // Not as many connections, for descriptors are limited; the account per connection is what counts.
    on_both(|| async {
        let (mut near, mut far) = pair().await;
        for _ in 0..3 {
            near.write_all(b"request").await.expect("a write");
            far.read(&mut [0; 8192]).await.expect("bytes");
        }
        assert!(timeout(Duration::from_millis(1), far.read(&mut [0; 8192])).await.is_err());
        assert!(far.memory() <= 2048, "{} bytes", far.memory());
    });
}

#[test]
fn pipes_are_waited_for() {
    on_both(|| async {
        let (reader, writer) = sys::pipe().expect("a pipe");
        writable(&writer).await.expect("room");
        let waking = thread::spawn(move || {
            thread::sleep(Duration::from_millis(5));
            sys::eventfd_add_one(writer.as_raw_fd());
            // Dropping the writer ends the pipe.
        });
        readable(&reader).await.expect("bytes");
        waking.join().expect("the writing thread");
        readable(&reader).await.expect("still");
        // Ended by a drop as well.
        let (quiet, _writer) = sys::pipe().expect("a pipe");
        assert!(timeout(Duration::from_millis(1), readable(&quiet)).await.is_err());
    });
}

#[test]
fn a_select_of_accept_and_shutdown_ends() {
    on_both(|| async {
        let (mut listener, addr) = lonely_listener().await;
        let shutdown = Shutdown::new();
        let reached = shutdown.reached(Phase::Draining);
        let serving = spawn(async move {
            let mut reached = reached;
            let mut served = 0;
            loop {
                let accepting = std::pin::pin!(listener.accept());
                match select(accepting, &mut reached).await {
                    Either::Left((connection, _)) => {
                        connection.expect("a connection");
                        served += 1;
                    }
                    Either::Right(_) => break,
                }
            }
            drop(listener.close().await);
            served
        });
        for _ in 0..5 {
            let mut stream = TcpStream::connect(addr).await.expect("a connection");
            // The server drops it.
            assert_eq!(stream.read(&mut [0; 1]).await.expect("the end"), 0);
        }
        shutdown.advance(Phase::Draining);
        assert_eq!(serving.await.expect("a result"), 5);
    });
}

#[test]
fn hyper_serves_over_it() {
    use hyper::body::{Frame, Incoming, SizeHint};
    use hyper::{Request, Response, service::service_fn};

    /// A body of one piece.
    struct Once(Option<bytes::Bytes>);
    impl hyper::body::Body for Once {
        type Data = bytes::Bytes;
        type Error = std::convert::Infallible;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<bytes::Bytes>, Self::Error>>> {
            Poll::Ready(self.0.take().map(|data| Ok(Frame::data(data))))
        }
        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0.as_ref().map_or(0, |data| data.len() as u64))
        }
    }
    async fn hello(_: Request<Incoming>) -> Result<Response<Once>, std::convert::Infallible> {
        sleep(Duration::from_micros(50)).await;
        Ok(Response::new(Once(Some("hello".into()))))
    }

    on_both(|| async {
        let (mut listener, addr) = listener().await;
        let serving = spawn(async move {
            let (first, _) = listener.accept().await.expect("a connection");
            let http1 =
                hyper::server::conn::http1::Builder::new().timer(HyperTimer).serve_connection(first, service_fn(hello));
            http1.await.expect("HTTP/1.1");
            let (second, _) = listener.accept().await.expect("a connection");
            let http2 = hyper::server::conn::http2::Builder::new(HyperExecutor)
                .timer(HyperTimer)
                .serve_connection(second, service_fn(hello));
            http2.await.expect("HTTP/2");
        });
        let mut client = TcpStream::connect(addr).await.expect("a connection");
        let request = "GET / HTTP/1.1\r\nhost: here\r\n\r\nGET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n";
        client.write_all(request.as_bytes()).await.expect("two requests at once");
        let answers = String::from_utf8(read_to_end(&mut client, 1000).await.expect("answers")).expect("text");
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
        assert_eq!(answers.matches("\r\n\r\nhello").count(), 2, "{answers}");

        let stream = TcpStream::connect(addr).await.expect("a connection");
        let (mut send, connection) =
            hyper::client::conn::http2::handshake(HyperExecutor, stream).await.expect("a handshake");
        let driving = spawn(connection);
        for _ in 0..3 {
            let request = Request::get("http://here/").body(Once(None)).expect("a request");
            assert_eq!(send.send_request(request).await.expect("an answer").status(), 200);
        }
        drop(send);
        driving.await.expect("no panic").expect("no error");
        serving.await.expect("no panic");
    });
}
