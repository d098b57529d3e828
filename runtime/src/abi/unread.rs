//! Bytes that the host has read from a guest and not used, when somebody else gets the stream.
//!
//! They lie at the stream, as an `Extension`, before all that is still to come: who reads next gets them first, and sees a stream
//! that nobody has read from. Who wrote them was told that they were taken.
//! Rule: where there are such bytes the host has no read open, so nothing overtakes them.

use super::Result;
use super::account::{Account, Held};
use super::lab::Extension;
use super::state::State;
use super::stream::{COMPLETED, Operation, Stream, pack};
use std::any::Any;
use std::rc::Rc;
use wasmtime::bail;

struct Unread {
    bytes: Vec<u8>,
    /// How many of them were read again.
    read: usize,
    _held: Held,
}

impl Unread {
    fn new(account: &Rc<Account>, bytes: Vec<u8>) -> Self {
        let mut held = account.open();
        held.add(bytes.len());
        Unread { bytes, read: 0, _held: held }
    }

    /// Moves as much to a buffer in a guest's memory as it takes; gives how much that was.
    fn fill(&mut self, state: &mut State, memory: Option<u32>, at: usize, len: u32) -> u32 {
        let bytes = &self.bytes[self.read..];
        let bytes = &bytes[..bytes.len().min(len as usize)];
        if let Some(memory) = memory {
            state.memory_mut(memory)[at..at + bytes.len()].copy_from_slice(bytes);
        }
        self.read += bytes.len();
        bytes.len() as u32
    }
}

impl Extension for Unread {
    /// A read gets what is there; one without room is told that something is.
    fn before_copy(&mut self, state: &mut State, _: u32, own: &mut Operation<'_>) -> Result<Option<u32>> {
        if own.op.end.write {
            return Ok(None);
        }
        let count = self.fill(state, own.op.memory, own.ptr as usize, own.len);
        Ok(Some(pack(false, COMPLETED, count)))
    }

    fn is_over(&self) -> bool {
        self.read == self.bytes.len()
    }
}

impl Stream {
    fn unread(&mut self) -> Option<&mut Unread> {
        let extension: &mut dyn Any = self.extension.as_deref_mut()?;
        extension.downcast_mut()
    }

    pub(super) fn has_unread(&mut self) -> bool {
        self.unread().is_some()
    }

    /// Puts `bytes` before all that comes.
    ///
    /// # Errors
    /// When an experiment is at work on the stream: two extensions cannot share one.
    pub(super) fn put_unread(&mut self, account: &Rc<Account>, mut bytes: Vec<u8>) -> Result<()> {
        bytes.extend(self.take_unread(usize::MAX).unwrap_or_default());
        if self.extension.is_some() {
            bail!("another extension is at work on the stream");
        }
        self.extension = Some(Box::new(Unread::new(account, bytes)));
        Ok(())
    }

    /// Takes at most `max` of them, if there are any.
    pub(super) fn take_unread(&mut self, max: usize) -> Option<Vec<u8>> {
        let unread = self.unread()?;
        let left = &unread.bytes[unread.read..];
        let bytes = left[..left.len().min(max)].to_vec();
        unread.read += bytes.len();
        if unread.is_over() {
            self.extension = None;
        }
        Some(bytes)
    }
}

/// `bytes` come to a stream, behind those that are unread there; who waits for them gets them.
///
/// # Errors
/// As `put_unread`, if they are more than a reader with an experiment has room for.
pub(super) fn append(state: &mut State, stream: u32, bytes: Vec<u8>) -> Result<()> {
    let entry = &mut state.streams[stream as usize];
    let mut all = entry.take_unread(usize::MAX).unwrap_or_default();
    all.extend(bytes);
    let mut unread = Unread::new(&state.account, all);
    if let Some(read) = &mut entry.read {
        unread.read = read.fill_with_bytes(&unread.bytes);
    }
    if let Some(read) = entry.pending.filter(|pending| !pending.op.end.write) {
        let count = unread.fill(state, read.op.memory, read.at(), read.remain());
        match count {
            0 => state.notify_pending(stream, COMPLETED),
            _ => state.progress_pending(stream, count),
        }
    }
    match unread.is_over() {
        true => Ok(()),
        false => state.streams[stream as usize].put_unread(&state.account, unread.bytes.split_off(unread.read)),
    }
}
