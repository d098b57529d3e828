//! What the ring promises, on every driver this machine allows.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread;

use proptest::prelude::*;

use super::probe::probe_with;
use super::*;

/// Every driver: the rungs of the ladder that hold here, and epoll.
pub(crate) fn choices() -> Vec<Choice> {
    let uring = match probe(IoMode::Uring) {
        Ok(_) => Rung::LADDER.map(Choice::of_rung).to_vec(),
        Err(e) => {
            eprintln!("testing epoll only: {e}");
            Vec::new()
        }
    };
    let epoll = probe(IoMode::Epoll).expect("epoll needs no permission");
    uring.into_iter().chain([epoll]).collect()
}

fn on_all(test: impl Fn(Ring)) {
    on_all_sized(64, test);
}

fn on_all_sized(sq_entries: u32, test: impl Fn(Ring)) {
    for choice in choices() {
        eprintln!("on {choice}");
        let ring = Ring::new(&choice.with_sq_entries(sq_entries)).expect("a ring");
        test(ring.clone());
        assert_eq!(ring.stats().unmatched, 0);
    }
}

#[derive(Default)]
struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll_once(op: &mut Op) -> Poll<Completion> {
    Pin::new(op).poll(&mut Context::from_waker(Waker::noop()))
}

/// Turns until the operation is over.
fn finish(ring: &Ring, mut op: Op) -> Completion {
    for _ in 0..1000 {
        if let Poll::Ready(completion) = poll_once(&mut op) {
            return completion;
        }
        ring.turn(Wait::For(Duration::from_millis(10))).expect("a turn");
    }
    panic!("the operation did not end within 10 s");
}

/// Turns until nothing is in flight.
fn settle(ring: &Ring) {
    for _ in 0..1000 {
        if ring.in_flight() == 0 {
            return;
        }
        ring.turn(Wait::For(Duration::from_millis(10))).expect("a turn");
    }
    panic!("operations in flight after 10 s: {:?}", ring.stats());
}

/// A connection: our end in the ring, the peer's as `std` knows it.
fn connection(ring: &Ring) -> (Fd, TcpStream) {
    let listener = ring.listen(&(Ipv4Addr::LOCALHOST, 0).into(), false, 16).expect("a listener");
    let addr = listener.local_addr().expect("an address");
    let peer = TcpStream::connect(addr).expect("a connection");
    let accepted = finish(ring, ring.start(&listener, accept())).into_accepted();
    let (fd, from) = accepted.expect("an accepted connection");
    assert_eq!(from, peer.local_addr().ok());
    (ring.adopt(fd), peer)
}

fn accept() -> Request {
    Request::Accept(Box::new(SockAddr::empty()))
}

fn recv() -> Request {
    Request::Recv(vec![0; 64])
}

/// An error number as the kernel's answer to a rung.
fn refuse(errno: i32) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(errno))
}

#[test]
fn the_ladder_is_climbed_from_the_top() {
    let choice = probe_with(IoMode::Auto, |_| Ok(()), || None).expect("a choice");
    assert_eq!(choice.to_string(), "io_uring (DEFER_TASKRUN)");
    let old_kernel = |rung| {
        if rung == Rung::DeferTaskrun { refuse(libc::EINVAL) } else { Ok(()) }
    };
    let choice = probe_with(IoMode::Uring, old_kernel, || None).expect("a choice");
    assert_eq!(choice.to_string(), "io_uring (COOP_TASKRUN)");
}

#[test]
fn a_refusal_chooses_epoll_and_says_why() {
    let table = [
        (libc::EPERM, Some(2), "(EPERM; kernel.io_uring_disabled=2); to allow it: sysctl"),
        (libc::EPERM, Some(1), "(EPERM; kernel.io_uring_disabled=1); to allow it: sysctl"),
        (libc::EPERM, Some(0), "(EPERM; kernel.io_uring_disabled=0, so by seccomp); to allow it: permit"),
        (libc::ENOSYS, None, "(ENOSYS; seccomp, or a kernel without it); to allow it: permit"),
        (libc::EINVAL, Some(0), "to use it: Linux 5.19 or later"),
    ];
    for (errno, sysctl, text) in table {
        let auto = probe_with(IoMode::Auto, |_| refuse(errno), || sysctl).expect("a fallback");
        assert!(!auto.is_uring());
        assert!(auto.refusal().is_some());
        let said = auto.to_string();
        assert!(said.starts_with("epoll: ") && said.contains(text), "{said}");

        let forced = probe_with(IoMode::Uring, |_| refuse(errno), || sysctl).expect_err("an error");
        let said = forced.to_string();
        assert!(said.contains(text) && said.ends_with("or run with --io epoll"), "{said}");
    }
}

#[test]
fn a_lack_of_resources_is_an_error_not_a_fallback() {
    for errno in [libc::ENOMEM, libc::EMFILE, libc::ENFILE] {
        let error = probe_with(IoMode::Auto, |_| refuse(errno), || None).expect_err("an error");
        assert!(matches!(error, RingError::Setup { .. }), "{error}");
    }
}

#[test]
fn epoll_is_taken_unasked_when_it_is_forced() {
    let choice = probe_with(IoMode::Epoll, |_| panic!("the kernel is not asked"), || None).expect("a choice");
    assert_eq!(choice.to_string(), "epoll (as asked)");
}

#[test]
fn io_modes_parse_as_they_print() {
    for mode in [IoMode::Auto, IoMode::Uring, IoMode::Epoll] {
        assert_eq!(mode.to_string().parse::<IoMode>().expect("its own text"), mode);
    }
    let error = "io_uring".parse::<IoMode>().expect_err("not a mode");
    assert_eq!(error.to_string(), "unknown I/O mode \"io_uring\": one of auto, uring, epoll");
}

#[test]
fn a_choice_goes_to_every_thread() {
    fn check<T: Clone + Send + Sync + 'static>() {}
    check::<Choice>();
    check::<WakeUp>();
}

#[test]
fn bytes_are_received_and_the_end_is_zero() {
    on_all(|ring| {
        let (fd, mut peer) = connection(&ring);
        let op = ring.start(&fd, recv());
        peer.write_all(b"hello").expect("a write");
        let completion = finish(&ring, op);
        assert_eq!(completion.result().expect("bytes"), 5);
        assert_eq!(&completion.into_buffer()[..5], b"hello");
        drop(peer);
        let completion = finish(&ring, ring.start(&fd, recv()));
        assert_eq!(completion.result().expect("the end"), 0);
    });
}

#[test]
fn connecting_works_and_a_refusal_is_reported() {
    on_all(|ring| {
        let listener = ring.listen(&(Ipv4Addr::LOCALHOST, 0).into(), false, 16).expect("a listener");
        let addr = listener.local_addr().expect("an address");
        let socket = ring.stream_socket(&addr).expect("a socket");
        let connect = |addr: SocketAddr| Request::Connect(Box::new(addr.into()));
        finish(&ring, ring.start(&socket, connect(addr))).result().expect("a connection");
        assert_eq!(socket.peer_addr().expect("a peer"), addr);

        // Bound, but nobody listens.
        let deaf = sys::stream_socket(&addr, sys::Blocking::No).expect("a socket");
        sys::bind(&deaf, &SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).expect("bound");
        let addr = sys::address(deaf.as_raw_fd(), sys::End::Local).expect("an address");
        let socket = ring.stream_socket(&addr).expect("a socket");
        let error = finish(&ring, ring.start(&socket, connect(addr))).result().expect_err("a refusal");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_dropped_receive_keeps_its_buffer_until_the_completion() {
    on_all(|ring| {
        let (fd, mut peer) = connection(&ring);
        let mut op = ring.start(&fd, recv());
        assert!(poll_once(&mut op).is_pending());
        ring.turn(Wait::No).expect("a turn");
        drop(op);
        // The future is gone; the operation and what it owns are not.
        assert_eq!((ring.in_flight(), ring.stats().orphans), (1, 1));
        // Memory that took the buffer's place would show what the kernel writes late.
        let canary: Box<[u8]> = vec![0xa5; 64].into();
        peer.write_all(&[0x5a; 64]).expect("a write");
        settle(&ring);
        assert!(canary.iter().all(|&byte| byte == 0xa5));
        assert_eq!(ring.stats().orphans, 0);
    });
}

#[test]
fn an_operation_that_is_dropped_before_the_first_turn_leaves_nothing() {
    on_all(|ring| {
        let (fd, _peer) = connection(&ring);
        drop(ring.start(&fd, recv()));
        settle(&ring);
    });
}

#[test]
fn a_descriptor_stays_open_until_its_operations_are_over() {
    on_all(|ring| {
        let (fd, mut peer) = connection(&ring);
        let op = ring.start(&fd, recv());
        ring.turn(Wait::No).expect("a turn");
        drop(fd);
        peer.write_all(b"late").expect("a write");
        assert_eq!(finish(&ring, op).result().expect("bytes"), 4);
        // Now nobody needs it: the peer sees the end.
        assert_eq!(peer.read(&mut [0; 8]).expect("the end"), 0);
    });
}

#[test]
fn a_connection_that_nobody_takes_is_closed() {
    on_all(|ring| {
        let listener = ring.listen(&(Ipv4Addr::LOCALHOST, 0).into(), false, 16).expect("a listener");
        let addr = listener.local_addr().expect("an address");
        let op = ring.start(&listener, accept());
        ring.turn(Wait::No).expect("a turn");
        let mut peer = TcpStream::connect(addr).expect("a connection");
        ring.turn(Wait::For(Duration::from_millis(100))).expect("a turn");
        drop(op);
        settle(&ring);
        drop(listener);
        // The end, or a reset if the kernel still had it in the backlog; never a hang.
        let read = peer.read(&mut [0; 8]);
        assert!(matches!(&read, Ok(0)) || read.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset));
    });
}

#[test]
fn a_cancelled_receive_ends_as_cancelled_or_with_its_bytes_never_both() {
    on_all(|ring| {
        let (fd, mut peer) = connection(&ring);
        let (mut cancelled, mut received) = (0, 0);
        for i in 0..1000_u32 {
            let op = ring.start(&fd, recv());
            let byte = i as u8;
            // The byte comes before the submission, between it and the cancellation, or after both.
            if i % 3 == 0 {
                peer.write_all(&[byte]).expect("a write");
            }
            if i % 2 == 0 {
                ring.turn(Wait::No).expect("a turn");
            }
            if i % 3 == 1 {
                peer.write_all(&[byte]).expect("a write");
            }
            op.cancel();
            let completion = finish(&ring, op);
            if i % 3 == 2 {
                peer.write_all(&[byte]).expect("a write");
            }
            let completion = if completion.was_cancelled() {
                cancelled += 1;
                finish(&ring, ring.start(&fd, recv()))
            } else {
                received += 1;
                completion
            };
            assert_eq!(completion.result().expect("one byte"), 1, "in round {i}");
            assert_eq!(completion.into_buffer()[0], byte, "in round {i}");
        }
        assert!(0 < cancelled && 0 < received, "{cancelled} cancelled, {received} received");
        assert_eq!(ring.in_flight(), 0);
    });
}

#[test]
fn more_operations_than_the_queue_holds_all_end() {
    on_all_sized(2, |ring| {
        let connections: Vec<_> = (0..40).map(|_| connection(&ring)).collect();
        let ops: Vec<_> = connections.iter().map(|(fd, _)| ring.start(fd, recv())).collect();
        for (_, peer) in &connections {
            (&*peer).write_all(b"x").expect("a write");
        }
        for op in ops {
            assert_eq!(finish(&ring, op).result().expect("a byte"), 1);
        }
    });
}

#[test]
fn more_cancellations_than_the_queue_holds_are_all_heard() {
    on_all_sized(2, |ring| {
        let connections: Vec<_> = (0..40).map(|_| connection(&ring)).collect();
        let ops: Vec<_> = connections.iter().map(|(fd, _)| ring.start(fd, recv())).collect();
        ring.turn(Wait::No).expect("a turn");
        drop(ops);
        settle(&ring);
    });
}

#[test]
fn more_completions_than_the_queue_holds_are_not_lost() {
    // 2 entries make 16 completions; 200 operations end in one turn.
    on_all_sized(2, |ring| {
        let (reader, writer) = sys::pipe().expect("a pipe");
        sys::eventfd_add_one(writer.as_raw_fd());
        let waker = Arc::new(CountingWaker::default());
        let mut ops: Vec<_> = (0..200).map(|_| ring.poll_ready(reader.as_fd(), Interest::Readable)).collect();
        let counting = Waker::from(waker.clone());
        for op in &mut ops {
            assert!(Pin::new(op).poll(&mut Context::from_waker(&counting)).is_pending());
        }
        settle(&ring);
        assert_eq!(waker.0.load(Ordering::SeqCst), 200);
        for mut op in ops {
            assert!(poll_once(&mut op).is_ready());
        }
    });
}

#[test]
fn closing_cancels_what_is_in_flight_and_refuses_what_comes() {
    on_all(|ring| {
        let (fd, _peer) = connection(&ring);
        let mut waits = ring.start(&fd, recv());
        let orphan = ring.start(&fd, recv());
        ring.turn(Wait::No).expect("a turn");
        drop(orphan);
        ring.close();
        assert_eq!(ring.in_flight(), 0);
        let Poll::Ready(completion) = poll_once(&mut waits) else { panic!("over after the close") };
        assert!(completion.was_cancelled());
        let Poll::Ready(completion) = poll_once(&mut ring.start(&fd, recv())) else { panic!("over at once") };
        assert!(completion.was_cancelled());
    });
}

#[test]
fn a_ring_that_is_dropped_takes_its_orphans_with_it() {
    for choice in choices() {
        let ring = Ring::new(&choice).expect("a ring");
        let (fd, mut peer) = connection(&ring);
        drop(ring.start(&fd, recv()));
        drop(ring);
        drop(fd);
        assert_eq!(peer.read(&mut [0; 8]).expect("the end"), 0);
    }
}

#[test]
fn a_wait_ends_at_its_timeout_and_not_before() {
    on_all(|ring| {
        for wait_ms in [0, 1, 20] {
            let wait = Duration::from_millis(wait_ms);
            let started = Instant::now();
            while started.elapsed() < wait {
                ring.turn(Wait::For(wait - started.elapsed().min(wait))).expect("a turn");
            }
            assert!(started.elapsed() < wait + Duration::from_secs(2));
        }
    });
}

#[test]
fn another_thread_ends_a_wait_again_and_again() {
    on_all(|ring| {
        // The first turn arms the wake-up; a wake-up before it must count as well.
        for _ in 0..100 {
            let wake_up = ring.wake_up();
            let waking = thread::spawn(move || wake_up.wake());
            ring.turn(Wait::Forever).expect("a turn");
            waking.join().expect("the waking thread");
        }
    });
}

#[test]
fn a_wake_up_outlives_its_ring() {
    on_all(|ring| {
        let wake_up = ring.wake_up();
        drop(ring);
        wake_up.wake();
    });
}

#[test]
fn pipes_are_ready_when_they_are_and_regular_files_always() {
    on_all(|ring| {
        let (reader, writer) = sys::pipe().expect("a pipe");
        let mut op = ring.poll_ready(reader.as_fd(), Interest::Readable);
        ring.turn(Wait::For(Duration::from_millis(5))).expect("a turn");
        assert!(poll_once(&mut op).is_pending());
        finish(&ring, ring.poll_ready(writer.as_fd(), Interest::Writable)).result().expect("room");
        sys::eventfd_add_one(writer.as_raw_fd());
        finish(&ring, op).result().expect("a byte");
        // Still readable: readiness is a level, not an edge.
        finish(&ring, ring.poll_ready(reader.as_fd(), Interest::Readable)).result().expect("a byte");

        let file = std::fs::File::open("/proc/self/exe").expect("this program");
        finish(&ring, ring.poll_ready(file.as_fd(), Interest::Readable)).result().expect("always");
    });
}

#[test]
fn a_borrowed_descriptor_may_be_closed_and_its_number_used_again() {
    on_all(|ring| {
        for _ in 0..20 {
            let (reader, writer) = sys::pipe().expect("a pipe");
            let op = ring.poll_ready(reader.as_fd(), Interest::Readable);
            sys::eventfd_add_one(writer.as_raw_fd());
            finish(&ring, op).result().expect("a byte");
            // Both close here; the next round most likely gets the same numbers.
        }
    });
}

#[test]
fn a_descriptor_that_nobody_waits_for_does_not_keep_the_thread_awake() {
    on_all(|ring| {
        let (fd, peer) = connection(&ring);
        let op = ring.start(&fd, Request::Poll(Interest::Readable));
        (&peer).write_all(b"x").expect("a write");
        finish(&ring, op).result().expect("a byte");
        // Readable, half-closed and, on both ends, broken: and nobody asks.
        drop(peer);
        let before = ring.stats().enters;
        let until = Instant::now() + Duration::from_millis(50);
        while Instant::now() < until {
            ring.turn(Wait::For(Duration::from_millis(50))).expect("a turn");
        }
        let enters = ring.stats().enters - before;
        assert!(enters < 10, "{enters} calls in 50 ms");
        let completion = finish(&ring, ring.start(&fd, recv()));
        assert_eq!(completion.result().expect("the byte"), 1);
    });
}

#[test]
fn a_reader_and_a_writer_wait_on_one_descriptor() {
    on_all(|ring| {
        let (fd, peer) = connection(&ring);
        // Fill the socket, so that writing has to wait.
        while sys::send(fd.as_raw_fd(), &[0; 65536]).is_ok() {}
        let mut readable = ring.start(&fd, Request::Poll(Interest::Readable));
        let writable = ring.start(&fd, Request::Poll(Interest::Writable));
        ring.turn(Wait::No).expect("a turn");
        let draining = thread::spawn(move || {
            peer.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
            while (&peer).read(&mut [0; 65536]).is_ok() {}
            peer
        });
        finish(&ring, writable).result().expect("room");
        assert!(poll_once(&mut readable).is_pending());
        let peer = draining.join().expect("the draining thread");
        (&peer).write_all(b"x").expect("a write");
        finish(&ring, readable).result().expect("a byte");
    });
}

/// What a random program does with the table of operations.
#[derive(Clone, Copy, Debug)]
enum Act {
    Insert,
    Complete(usize),
    Abandon(usize),
    Take(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        Just(Act::Insert),
        any::<usize>().prop_map(Act::Complete),
        any::<usize>().prop_map(Act::Abandon),
        any::<usize>().prop_map(Act::Take),
    ];
    proptest::collection::vec(act, 0..200)
}

proptest! {
    /// The table against the plain account of it: which operations the kernel has, which a future has.
    #[test]
    fn the_table_knows_who_owns_what(acts in acts()) {
        let mut table = Table::default();
        // (id, in the kernel, has a future)
        let mut model: Vec<(OpId, bool, bool)> = Vec::new();
        for act in acts {
            let pick = |n: usize, model: &[(OpId, bool, bool)]| (!model.is_empty()).then(|| n % model.len());
            match act {
                Act::Insert => model.push((table.insert(Target::Borrowed(0), recv()), true, true)),
                Act::Complete(n) => {
                    let Some(i) = pick(n, &model) else { continue };
                    let (id, in_kernel, has_future) = model[i];
                    if !in_kernel { continue }
                    let after = table.complete(id, Outcome { result: 7, nonempty: false });
                    prop_assert_eq!(matches!(after, After::Free(_)), !has_future);
                    model[i].1 = false;
                    if !has_future { model.swap_remove(i); }
                }
                Act::Abandon(n) => {
                    let Some(i) = pick(n, &model) else { continue };
                    let (id, in_kernel, has_future) = model[i];
                    if !has_future { continue }
                    let (abandoned, _) = table.abandon(id);
                    prop_assert_eq!(matches!(abandoned, Abandoned::InFlight), in_kernel);
                    model[i].2 = false;
                    if !in_kernel { model.swap_remove(i); }
                }
                Act::Take(n) => {
                    let Some(i) = pick(n, &model) else { continue };
                    let (id, in_kernel, has_future) = model[i];
                    if !has_future { continue }
                    let (taken, _) = table.take(id, Waker::noop());
                    prop_assert_eq!(taken.is_pending(), in_kernel);
                    if !in_kernel { model.swap_remove(i); }
                }
            }
            prop_assert_eq!(table.in_flight(), model.iter().filter(|(_, in_kernel, _)| *in_kernel).count());
            prop_assert_eq!(table.orphans(), model.iter().filter(|(_, _, has_future)| !has_future).count());
            prop_assert_eq!(table.unmatched(), 0);
        }
    }
}
