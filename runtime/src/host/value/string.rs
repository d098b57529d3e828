//! `string` as `String`, in the three encodings a component can choose.
//! CanonicalABI.md, "Loading": `load_string_from_range`, "Storing": `store_string_into_range`. Our side is always
//! UTF-8, so of the storing table only the rows with a UTF-8 source are here.

use super::memory::{BYTE_LENGTH_MAX, Range, aligned, lift_pair, load_pair, lower_pair, slice, slice_mut, store_pair};
use super::{ComponentType, InterfaceType, Layout, Lift, Lower, TypeChecker, check};
use crate::abi::{FlatSink, FlatSource, LiftCx, LowerCx, Result};

use wasmtime::{bail, format_err};
use wasmtime_environ::component::StringEncoding;

impl ComponentType for String {
    const LAYOUT: Layout = Layout::RANGE;

    fn check(ty: &InterfaceType, _: &TypeChecker<'_>) -> std::result::Result<(), String> {
        check::scalar(ty, InterfaceType::String)
    }
}

impl Lift for String {
    fn lift(cx: &mut LiftCx<'_>, _: InterfaceType, src: &mut FlatSource<'_>) -> Result<Self> {
        let range = lift_pair(cx, src);
        load_range(cx, range)
    }

    fn load(cx: &mut LiftCx<'_>, _: InterfaceType, at: usize) -> Result<Self> {
        let range = load_pair(cx, at)?;
        load_range(cx, range)
    }
}

impl Lower for String {
    fn lower(self, cx: &mut LowerCx<'_>, _: InterfaceType, dst: &mut FlatSink<'_>) -> Result<()> {
        let range = store_range(&self, cx)?;
        lower_pair(dst, range);
        Ok(())
    }

    fn store(self, cx: &mut LowerCx<'_>, _: InterfaceType, at: usize) -> Result<()> {
        let range = store_range(&self, cx)?;
        store_pair(cx, at, range)
    }
}

/// A string that a guest points to. `code_units` may carry the tag of UTF-16, where the encoding has it.
fn load_range(cx: &mut LiftCx<'_>, (pointer, code_units): Range) -> Result<String> {
    let tag = cx.width().utf16_tag();
    match cx.encoding() {
        StringEncoding::Utf8 => load_utf8(cx, pointer, code_units),
        StringEncoding::Utf16 => load_utf16(cx, pointer, code_units),
        StringEncoding::CompactUtf16 if code_units & tag == 0 => load_latin1(cx, pointer, code_units),
        StringEncoding::CompactUtf16 => load_utf16(cx, pointer, code_units ^ tag),
    }
}

fn load_utf8(cx: &mut LiftCx<'_>, pointer: u64, code_units: u64) -> Result<String> {
    let byte_len = admitted(code_units, 1)?;
    cx.charge(byte_len)?;
    let bytes = range(cx.memory(), aligned(pointer, 1)?, byte_len)?;
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(e) => Err(format_err!("a string is not UTF-8: {e}")),
    }
}

fn load_utf16(cx: &mut LiftCx<'_>, pointer: u64, code_units: u64) -> Result<String> {
    let byte_len = admitted(code_units, 2)?;
    let code_units = byte_len / 2;
    let at = aligned_to_2(pointer)?;
    // One code unit becomes at most three bytes of UTF-8.
    cx.charge(3 * code_units)?;
    let (units, _) = range(cx.memory(), at, byte_len)?.as_chunks::<2>();
    let mut text = String::with_capacity(code_units);
    for decoded in char::decode_utf16(units.iter().map(|unit| u16::from_le_bytes(*unit))) {
        match decoded {
            Ok(c) => text.push(c),
            Err(e) => bail!("a string is not UTF-16: {e}"),
        }
    }
    Ok(text)
}

fn load_latin1(cx: &mut LiftCx<'_>, pointer: u64, code_units: u64) -> Result<String> {
    let byte_len = admitted(code_units, 1)?;
    // The encoding aligns to 2 also where its strings happen to be bytes.
    let at = aligned_to_2(pointer)?;
    // One byte becomes at most two of UTF-8.
    cx.charge(2 * byte_len)?;
    let bytes = range(cx.memory(), at, byte_len)?;
    Ok(bytes.iter().map(|byte| char::from(*byte)).collect())
}

/// The bytes of a string that a guest points to.
fn range(memory: &[u8], at: usize, len: usize) -> Result<&[u8]> {
    slice(memory, at, len).map_err(|error| format_err!("string pointer/length out of bounds of memory: {error}"))
}

fn aligned_to_2(pointer: u64) -> Result<usize> {
    aligned(pointer, 2).map_err(|_| format_err!("string pointer not aligned to 2: {pointer:#x}"))
}

/// The bytes of so many code units, if a string may have them.
fn admitted(code_units: u64, width: u64) -> Result<usize> {
    if code_units <= BYTE_LENGTH_MAX as u64 / width {
        return Ok((code_units * width) as usize);
    }
    Err(format_err!("a string of {code_units} code units of {width} bytes is longer than {BYTE_LENGTH_MAX} bytes"))
}

/// Allocates in the guest and writes the string there: its pointer and its tagged code units.
///
/// The guest sees each `realloc`, so the calls are those of the specification, also where one could do with fewer.
fn store_range(text: &str, cx: &mut LowerCx<'_>) -> Result<Range> {
    // With at most 28 bits of length, twice the length fits in 32 bits too.
    admitted(text.len() as u64, 1)?;
    match cx.encoding() {
        StringEncoding::Utf8 => store_utf8(text, cx),
        StringEncoding::Utf16 => store_utf16(text, cx),
        StringEncoding::CompactUtf16 => store_latin1_or_utf16(text, cx),
    }
}

/// `store_string_copy`.
fn store_utf8(text: &str, cx: &mut LowerCx<'_>) -> Result<Range> {
    let pointer = cx.realloc(0, 0, 1, text.len())?;
    slice_mut(cx.memory(), pointer as usize, text.len())?.copy_from_slice(text.as_bytes());
    Ok((pointer, text.len() as u64))
}

/// `store_utf8_to_utf16`: room for two bytes per byte, then what is left over goes back.
fn store_utf16(text: &str, cx: &mut LowerCx<'_>) -> Result<Range> {
    let worst = 2 * text.len();
    let pointer = cx.realloc(0, 0, 2, worst)?;
    fill_utf16(text, cx, pointer, worst)
}

/// `store_string_to_latin1_or_utf16`: bytes, until a character does not fit in one.
fn store_latin1_or_utf16(text: &str, cx: &mut LowerCx<'_>) -> Result<Range> {
    let len = text.len();
    let pointer = cx.realloc(0, 0, 2, len)?;
    let place = slice_mut(cx.memory(), pointer as usize, len)?;
    let mut written = 0;
    for (byte, c) in place.iter_mut().zip(text.chars()) {
        match u8::try_from(u32::from(c)) {
            Ok(latin1) => *byte = latin1,
            Err(_) => {
                let worst = 2 * len;
                let pointer = cx.realloc(pointer, len, 2, worst)?;
                let (pointer, code_units) = fill_utf16(text, cx, pointer, worst)?;
                return Ok((pointer, code_units | cx.width().utf16_tag()));
            }
        }
        written += 1;
    }
    let pointer = if written < len { cx.realloc(pointer, len, 2, written)? } else { pointer };
    Ok((pointer, written as u64))
}

/// Writes the whole text as UTF-16 into `room` bytes at `pointer` and shrinks them to fit: pointer and code units.
fn fill_utf16(text: &str, cx: &mut LowerCx<'_>, pointer: u64, room: usize) -> Result<Range> {
    let (places, _) = slice_mut(cx.memory(), pointer as usize, room)?.as_chunks_mut::<2>();
    let mut code_units = 0;
    for (place, unit) in places.iter_mut().zip(text.encode_utf16()) {
        *place = unit.to_le_bytes();
        code_units += 1;
    }
    let pointer = if 2 * code_units < room { cx.realloc(pointer, room, 2, 2 * code_units)? } else { pointer };
    Ok((pointer, code_units as u64))
}
