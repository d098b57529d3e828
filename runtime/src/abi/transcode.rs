//! Strings from one linear memory to another (CanonicalABI.md, "Storing": `store_string_into_range`).
//!
//! An adapter transcodes in passes and calls realloc between them; a `TranscodeOp` is one pass. Each pass is a function over
//! bytes: the source, the room in the destination, and what it consumed and wrote. Text in memory is little endian.
//! Knows nothing of realloc, and keeps nothing: what a second pass must know of the first, the caller hands in.

#[cfg(test)]
mod tests;

use super::Result;
use super::memory::GuestMemory;
use super::state::State;
use crate::component::plan::TranscodeOp;
use crate::component::width::PointerWidth;
use std::iter::zip;
use std::ops::Range;
use wasmtime::{bail, format_err};

/// Runs one pass from memory `from` to memory `to`.
///
/// `args` are the source's address and code units and the destination's address; passes that may end early, or go on after
/// one that did, get two more. `results` takes as many values as the pass has: code units (`run` says which).
/// The memories' lengths must be fresh. Traps if a range is out of bounds, the ranges overlap, or the text is malformed.
pub(crate) fn transcode(
    state: &mut State,
    op: TranscodeOp,
    from: u32,
    to: u32,
    args: &[u64],
    results: &mut [u64],
) -> Result<()> {
    let Some(operands) = Operands::new(op, args) else { return out_of_bounds() };
    let width = state.plan().memories[to as usize];
    let (src, dst) = two(&mut state.memories, (from, operands.src), (to, operands.dst))?;
    for (result, value) in zip(results, run(op, src, dst, operands.last, width)?) {
        *result = value as u64;
    }
    Ok(())
}

/// Arguments of a pass, as byte ranges.
struct Operands {
    src: Range<usize>,
    dst: Range<usize>,
    /// The fifth argument: is it the first pass (to UTF-8), or how many bytes of Latin-1 the first pass wrote (to UTF-16).
    last: usize,
}

impl Operands {
    /// `None` if no memory is as large.
    fn new(op: TranscodeOp, args: &[u64]) -> Option<Self> {
        let arg = |i: usize| args[i] as usize;
        let range = |at: usize, units: usize, width| Some(at..at.checked_add(units.checked_mul(width)?)?);
        let (src_width, dst_width) = widths(op);
        let (at, units, to) = (arg(0), arg(1), arg(2));
        let (room, last) = if is_resumable(op) { (arg(3), arg(4)) } else { (units, 0) };
        Some(Operands { src: range(at, units, src_width)?, dst: range(to, room, dst_width)?, last })
    }
}

/// Bytes of a code unit: at the source, at the destination.
fn widths(op: TranscodeOp) -> (usize, usize) {
    use TranscodeOp::*;
    match op {
        CopyUtf8 | CopyLatin1 | Latin1ToUtf8 | Utf8ToLatin1 => (1, 1),
        Utf8ToUtf16 | Utf8ToCompactUtf16 | Latin1ToUtf16 => (1, 2),
        Utf16ToUtf8 | Utf16ToLatin1 => (2, 1),
        CopyUtf16 | Utf16ToCompactUtf16 | Utf16ToCompactProbablyUtf16 => (2, 2),
    }
}

/// These passes are told the room of the destination. The others have as many code units there as at the source.
fn is_resumable(op: TranscodeOp) -> bool {
    use TranscodeOp::*;
    matches!(op, Latin1ToUtf8 | Utf16ToUtf8 | Utf8ToCompactUtf16 | Utf16ToCompactUtf16)
}

/// One pass. Two results are code units consumed and written; a single one is code units written, perhaps tagged.
///
/// `width` is that of the destination, whose tag it is.
fn run(op: TranscodeOp, src: &[u8], dst: &mut [u8], last: usize, width: PointerWidth) -> Result<[usize; 2]> {
    use TranscodeOp::*;
    let one = |written| [written, 0];
    match op {
        CopyUtf8 => copy_utf8(src, dst).map(|()| [0, 0]),
        CopyUtf16 => copy_utf16(src, dst).map(|()| [0, 0]),
        CopyLatin1 => copy(src, dst).map(|()| [0, 0]),
        Latin1ToUtf16 => latin1_to_utf16(src, dst).map(|()| [0, 0]),
        Utf8ToUtf16 => utf8_to_utf16(src, dst).map(one),
        Utf16ToCompactProbablyUtf16 => utf16_to_compact(src, dst, width).map(one),
        Utf8ToCompactUtf16 => after_latin1(dst, last, |rest| utf8_to_utf16(src, rest)).map(one),
        Utf16ToCompactUtf16 => after_latin1(dst, last, |rest| copy_utf16(src, rest).map(|()| src.len() / 2)).map(one),
        Utf8ToLatin1 => utf8_to_latin1(src, dst),
        Utf16ToLatin1 => Ok(units_to_bytes(units(src), 0xff, dst)),
        Latin1ToUtf8 if last != 0 => Ok(units_to_bytes(src.iter().map(|byte| u16::from(*byte)), 0x7f, dst)),
        Utf16ToUtf8 if last != 0 => Ok(units_to_bytes(units(src), 0x7f, dst)),
        Latin1ToUtf8 => {
            chars_to_utf8(src.iter().map(|byte| Ok(char::from(*byte))), dst).map(|written| [src.len(), written])
        }
        Utf16ToUtf8 => chars_to_utf8(chars(src), dst).map(|written| [src.len() / 2, written]),
    }
}

/// UTF-8 to the same.
fn copy_utf8(src: &[u8], dst: &mut [u8]) -> Result<()> {
    utf8(src)?;
    copy(src, dst)
}

/// UTF-16 to the same.
fn copy_utf16(src: &[u8], dst: &mut [u8]) -> Result<()> {
    utf16_is_latin1(src)?;
    copy(src, dst)
}

fn latin1_to_utf16(src: &[u8], dst: &mut [u8]) -> Result<()> {
    let (places, _) = room(dst, 2 * src.len())?.as_chunks_mut::<2>();
    for (place, byte) in zip(places, src) {
        *place = [*byte, 0];
    }
    Ok(())
}

/// Gives the code units written.
fn utf8_to_utf16(src: &[u8], dst: &mut [u8]) -> Result<usize> {
    let text = utf8(src)?;
    let (places, _) = dst.as_chunks_mut::<2>();
    let mut written = 0;
    for unit in text.encode_utf16() {
        let Some(place) = places.get_mut(written) else { return no_room() };
        *place = unit.to_le_bytes();
        written += 1;
    }
    Ok(written)
}

/// A compact string that was UTF-16 is probably still: gives its code units, tagged unless all of them fit in bytes.
fn utf16_to_compact(src: &[u8], dst: &mut [u8], width: PointerWidth) -> Result<usize> {
    let units = src.len() / 2;
    if utf16_is_latin1(src)? {
        units_to_bytes(self::units(src), 0xff, room(dst, units)?);
        return Ok(units);
    }
    copy(src, dst)?;
    Ok(units | width.utf16_tag() as usize)
}

/// The first `latin1` bytes of `dst` are Latin-1: makes them UTF-16, and lets `fill` write what comes after them.
///
/// Gives the code units of all.
fn after_latin1(dst: &mut [u8], latin1: usize, fill: impl FnOnce(&mut [u8]) -> Result<usize>) -> Result<usize> {
    let Some((start, rest)) = dst.split_at_mut_checked(latin1.saturating_mul(2)) else { return no_room() };
    // From the end: a code unit covers its own byte, or bytes that have been read already.
    for i in (0..latin1).rev() {
        [start[2 * i], start[2 * i + 1]] = [start[i], 0];
    }
    Ok(latin1 + fill(rest)?)
}

/// Stops before the first character that is not in Latin-1. Gives the bytes consumed and written.
fn utf8_to_latin1(src: &[u8], dst: &mut [u8]) -> Result<[usize; 2]> {
    let text = utf8(src)?;
    let mut written = 0;
    for (place, (at, c)) in zip(dst, text.char_indices()) {
        match u8::try_from(c) {
            Ok(byte) => *place = byte,
            Err(_) => return Ok([at, written]),
        }
        written += 1;
    }
    Ok([src.len(), written])
}

/// Narrows code units up to the first one above `max`, which is below 256. Gives the units consumed and written.
fn units_to_bytes(units: impl Iterator<Item = u16>, max: u8, dst: &mut [u8]) -> [usize; 2] {
    let mut written = 0;
    for (place, unit) in zip(dst, units.take_while(|unit| *unit <= u16::from(max))) {
        *place = unit as u8;
        written += 1;
    }
    [written, written]
}

/// Gives the bytes written.
fn chars_to_utf8(chars: impl Iterator<Item = Result<char>>, dst: &mut [u8]) -> Result<usize> {
    let mut written = 0;
    for c in chars {
        let c = c?;
        let end = written + c.len_utf8();
        let Some(place) = dst.get_mut(written..end) else { return no_room() };
        c.encode_utf8(place);
        written = end;
    }
    Ok(written)
}

fn utf8(src: &[u8]) -> Result<&str> {
    std::str::from_utf8(src).map_err(|error| format_err!("a string is not UTF-8: {error}"))
}

/// Is every character in Latin-1? Traps if the text is not UTF-16.
fn utf16_is_latin1(src: &[u8]) -> Result<bool> {
    let mut all = true;
    for c in chars(src) {
        all &= c? <= '\u{ff}';
    }
    Ok(all)
}

fn units(src: &[u8]) -> impl Iterator<Item = u16> {
    src.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit))
}

fn chars(src: &[u8]) -> impl Iterator<Item = Result<char>> {
    char::decode_utf16(units(src)).map(|c| c.map_err(|error| format_err!("a string is not UTF-16: {error}")))
}

fn copy(src: &[u8], dst: &mut [u8]) -> Result<()> {
    room(dst, src.len())?.copy_from_slice(src);
    Ok(())
}

fn room(dst: &mut [u8], len: usize) -> Result<&mut [u8]> {
    match dst.get_mut(..len) {
        Some(dst) => Ok(dst),
        None => no_room(),
    }
}

#[cold]
fn no_room<T>() -> Result<T> {
    bail!("a transcoded string does not fit in what was allocated for it")
}

/// A range to read and a range to write, in two memories or in one.
fn two(
    memories: &mut [Option<GuestMemory>],
    (from, src): (u32, Range<usize>),
    (to, dst): (u32, Range<usize>),
) -> Result<(&[u8], &mut [u8])> {
    let (from, to) = (from as usize, to as usize);
    if is_one_memory(memories, from, to) {
        let memory = memories.get_mut(to).and_then(Option::as_mut);
        let bytes = memory.map_or(&mut [][..], GuestMemory::bytes_mut);
        return disjoint(bytes, src, dst);
    }
    let Ok([Some(from), Some(to)]) = memories.get_disjoint_mut([from, to]) else {
        bail!("transcoding needs two memories")
    };
    match (from.bytes().get(src), to.bytes_mut().get_mut(dst)) {
        (Some(src), Some(dst)) => Ok((src, dst)),
        _ => out_of_bounds(),
    }
}

/// A memory that its module exports under two names has two indices.
fn is_one_memory(memories: &[Option<GuestMemory>], from: usize, to: usize) -> bool {
    match (memories.get(from), memories.get(to)) {
        (Some(Some(from)), Some(Some(to))) => from.is_same(to),
        _ => false,
    }
}

/// Two ranges of the same bytes that do not overlap.
fn disjoint(bytes: &mut [u8], src: Range<usize>, dst: Range<usize>) -> Result<(&[u8], &mut [u8])> {
    if bytes.len() < src.end || bytes.len() < dst.end {
        return out_of_bounds();
    }
    if src.is_empty() {
        return Ok((&[], &mut bytes[dst]));
    }
    if dst.is_empty() {
        return Ok((&bytes[src], &mut []));
    }
    if src.end <= dst.start {
        let (low, high) = bytes.split_at_mut(dst.start);
        return Ok((&low[src], &mut high[..dst.len()]));
    }
    if dst.end <= src.start {
        let (low, high) = bytes.split_at_mut(src.start);
        return Ok((&high[..src.len()], &mut low[dst]));
    }
    bail!("a string is transcoded into the bytes that it is read from")
}

#[cold]
fn out_of_bounds<T>() -> Result<T> {
    bail!("string content out-of-bounds")
}
