//! Checked access to linear memory. All addresses come from guests, directly or through `realloc`; none is trusted.

use crate::abi::Result;

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
pub(super) fn read_pair(memory: &[u8], at: usize) -> Result<(u32, u32)> {
    let [p0, p1, p2, p3, l0, l1, l2, l3] = read::<8>(memory, at)?;
    Ok((u32::from_le_bytes([p0, p1, p2, p3]), u32::from_le_bytes([l0, l1, l2, l3])))
}

/// Writes a pointer and a length.
pub(super) fn write_pair(memory: &mut [u8], at: usize, (pointer, len): (u32, u32)) -> Result<()> {
    write(memory, at, pointer.to_le_bytes())?;
    write(memory, at + 4, len.to_le_bytes())
}

/// A guest's pointer to something with alignment `align`.
pub(super) fn aligned(pointer: u32, align: usize) -> Result<usize> {
    let at = pointer as usize;
    if at & (align - 1) != 0 {
        return Err(format_err!("pointer {at:#x} is not aligned to {align}"));
    }
    Ok(at)
}

#[cold]
fn out_of_bounds(at: usize, len: usize, memory_len: usize) -> wasmtime::Error {
    format_err!("{len} bytes at {at:#x} are out of bounds of a memory of {memory_len} bytes")
}
