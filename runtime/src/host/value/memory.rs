//! Checked access to linear memory. All addresses come from guests, directly or through `realloc`; none is trusted.

use crate::abi::{FlatSink, FlatSource, LiftCx, LowerCx, Result};
use crate::component::width::PointerWidth;

use wasmtime::format_err;

/// Lists and strings that a guest passes have at most this many bytes.
/// CanonicalABI.md, "Loading": `MAX_LIST_BYTE_LENGTH` and `MAX_STRING_BYTE_LENGTH`.
pub(super) const BYTE_LENGTH_MAX: usize = (1 << 28) - 1;

/// The `len` bytes from `at`.
pub(super) fn slice(memory: &[u8], at: usize, len: usize) -> Result<&[u8]> {
    let end = at.checked_add(len);
    end.and_then(|end| memory.get(at..end)).ok_or_else(|| out_of_bounds(at, len, memory.len()))
}

/// The `len` bytes from `at`, to be written.
pub(super) fn slice_mut(memory: &mut [u8], at: usize, len: usize) -> Result<&mut [u8]> {
    let memory_len = memory.len();
    let end = at.checked_add(len);
    end.and_then(|end| memory.get_mut(at..end)).ok_or_else(|| out_of_bounds(at, len, memory_len))
}

/// The `N` bytes from `at`.
#[inline]
pub(super) fn read<const N: usize>(memory: &[u8], at: usize) -> Result<[u8; N]> {
    match memory.get(at..).and_then(|rest| rest.first_chunk::<N>()) {
        Some(bytes) => Ok(*bytes),
        None => Err(out_of_bounds(at, N, memory.len())),
    }
}

/// Writes `bytes` to `at`.
#[inline]
pub(super) fn write<const N: usize>(memory: &mut [u8], at: usize, bytes: [u8; N]) -> Result<()> {
    let memory_len = memory.len();
    match memory.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<N>()) {
        Some(place) => {
            *place = bytes;
            Ok(())
        }
        None => Err(out_of_bounds(at, N, memory_len)),
    }
}

/// A pointer and a length, as lists and strings have them.
pub(super) type Range = (u64, u64);

/// Takes a range from core values.
pub(super) fn lift_pair(cx: &LiftCx<'_>, src: &mut FlatSource<'_>) -> Range {
    (cx.width().wrap(src.next()), cx.width().wrap(src.next()))
}

/// Takes a range from memory.
pub(super) fn load_pair(cx: &LiftCx<'_>, at: usize) -> Result<Range> {
    let memory = cx.memory();
    match cx.width() {
        PointerWidth::Bits32 => {
            let pair = u64::from_le_bytes(read(memory, at)?);
            Ok((u64::from(pair as u32), pair >> 32))
        }
        PointerWidth::Bits64 => {
            let pair = u128::from_le_bytes(read(memory, at)?);
            Ok((pair as u64, (pair >> 64) as u64))
        }
    }
}

/// Gives a range as core values.
pub(super) fn lower_pair(dst: &mut FlatSink<'_>, (pointer, len): Range) {
    dst.push(pointer);
    dst.push(len);
}

/// Writes a range to memory. Both its numbers are as wide as the memory's pointers.
pub(super) fn store_pair(cx: &mut LowerCx<'_>, at: usize, (pointer, len): Range) -> Result<()> {
    match cx.width() {
        PointerWidth::Bits32 => write(cx.memory(), at, (pointer | len << 32).to_le_bytes()),
        PointerWidth::Bits64 => write(cx.memory(), at, (u128::from(pointer) | u128::from(len) << 64).to_le_bytes()),
    }
}

/// A guest's pointer to something with alignment `align`.
pub(super) fn aligned(pointer: u64, align: usize) -> Result<usize> {
    let at = usize::try_from(pointer)?;
    if at & (align - 1) != 0 {
        return Err(format_err!("pointer {at:#x} is not aligned to {align}"));
    }
    Ok(at)
}

#[cold]
fn out_of_bounds(at: usize, len: usize, memory_len: usize) -> wasmtime::Error {
    format_err!("{len} bytes at {at:#x} are out of bounds of a memory of {memory_len} bytes")
}
