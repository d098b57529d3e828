//! A stream of bytes that is read ahead, on top of `wit-bindgen`'s reader.
//!
//! That reader knows one read at a time: it begins one, and waits for the stream's next event if it is told BLOCKED. So it is given
//! elements without a size, and operations of ours: what it takes for the beginning of a read begins several, into buffers that are kept
//! here, or nothing if there are some in flight. Each event is about the oldest buffer.

use std::alloc::Layout;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use wasip3::wit_bindgen::rt::async_support::{RawStreamReader, StreamOps, StreamReader, StreamResult, StreamVtable};
use wasip3::wit_stream::StreamPayload;

/// Reads in flight.
const READS: usize = 4;

/// Bytes of each.
const READ_BYTES: usize = 16 * 1024;

/// What an operation gives that has not finished.
const BLOCKED: u32 = u32::MAX;

/// A readable end with several reads in flight. Read it to its end, or drop it in the middle of a read: between two reads one does not
/// know whether the stream has ended all of them.
pub struct Ahead {
    reader: RawStreamReader<Ops>,
    reads: Rc<RefCell<Reads>>,
}

#[derive(Default)]
struct Reads {
    in_flight: VecDeque<Box<[u8]>>,
    most: usize,
}

impl Ahead {
    pub fn new(stream: StreamReader<u8>) -> Ahead {
        let reads = Rc::<RefCell<Reads>>::default();
        let ops = Ops { bytes: u8::VTABLE, reads: reads.clone() };
        Ahead { reader: RawStreamReader::new(stream.take_handle(), ops), reads }
    }

    /// What the oldest read has got; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        let (result, _) = self.reader.read(Vec::new()).await;
        let mut reads = self.reads.borrow_mut();
        match result {
            StreamResult::Complete(count) => {
                let mut bytes = reads.in_flight.pop_front()?.into_vec();
                bytes.truncate(count);
                Some(bytes)
            }
            // It ends the others as well.
            StreamResult::Dropped | StreamResult::Cancelled => {
                reads.in_flight.clear();
                None
            }
        }
    }

    /// How many reads there have been at once.
    pub fn most_in_flight(&self) -> usize {
        self.reads.borrow().most
    }
}

/// The operations of a stream of bytes, for a reader that keeps no buffers.
#[derive(Clone)]
struct Ops {
    bytes: &'static StreamVtable<u8>,
    reads: Rc<RefCell<Reads>>,
}

impl Reads {
    fn add(&mut self, begin: impl FnOnce(*mut u8) -> bool) -> bool {
        let mut buffer = vec![0; READ_BYTES].into_boxed_slice();
        let begun = begin(buffer.as_mut_ptr());
        if begun {
            self.in_flight.push_back(buffer);
            self.most = self.most.max(self.in_flight.len());
        }
        begun
    }
}

// SAFETY: elements have no size, so nothing is read or written where the reader says; the buffers that the stream has are boxed, and
// kept until its event, DROPPED or a cancel has given them back.
unsafe impl StreamOps for Ops {
    type Payload = ();

    fn new(&mut self) -> u64 {
        unreachable!("readers are made of streams that there are")
    }

    fn elem_layout(&self) -> Layout {
        Layout::new::<()>()
    }

    fn native_abi_matches_canonical_abi(&self) -> bool {
        true
    }

    fn contains_lists(&self) -> bool {
        false
    }

    unsafe fn lower(&mut self, _: (), _: *mut u8) {}

    unsafe fn dealloc_lists(&mut self, _: *mut u8) {}

    unsafe fn lift(&mut self, _: *mut u8) {}

    unsafe fn start_read(&mut self, stream: u32, _: *mut u8, _: usize) -> u32 {
        let mut reads = self.reads.borrow_mut();
        let mut code = BLOCKED;
        if reads.in_flight.is_empty() {
            // SAFETY: as above.
            let read = |buffer| unsafe { (self.bytes.start_read)(stream, buffer, READ_BYTES) };
            reads.add(|buffer| {
                code = read(buffer);
                true
            });
        }
        let ahead = |buffer: *mut u8| super::lab::read_ahead(stream, buffer as u32, READ_BYTES as u32);
        while code == BLOCKED && reads.in_flight.len() < READS && reads.add(ahead) {}
        code
    }

    unsafe fn start_write(&mut self, _: u32, _: *const u8, _: usize) -> u32 {
        unreachable!("a reader writes nothing")
    }

    unsafe fn cancel_read(&mut self, stream: u32) -> u32 {
        // SAFETY: the reader has a read in progress.
        let code = unsafe { (self.bytes.cancel_read)(stream) };
        self.reads.borrow_mut().in_flight.clear();
        code
    }

    unsafe fn cancel_write(&mut self, _: u32) -> u32 {
        unreachable!("a reader writes nothing")
    }

    unsafe fn drop_readable(&mut self, stream: u32) {
        if !self.reads.borrow().in_flight.is_empty() {
            // SAFETY: what is in flight has neither been ended by an event nor by a cancel.
            unsafe { self.cancel_read(stream) };
        }
        // SAFETY: the reader has no use for it any more.
        unsafe { (self.bytes.drop_readable)(stream) }
    }

    unsafe fn drop_writable(&mut self, _: u32) {
        unreachable!("a reader writes nothing")
    }
}
