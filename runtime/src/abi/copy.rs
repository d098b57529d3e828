//! Payloads of streams and futures that are more than a number, from one guest's memory to another's.
//!
//! `load` by the writer's type and `store` by the reader's (CanonicalABI.md, "Loading" and "Storing") in one walk: no value
//! is held in between. Both types are of one shape; they differ in the tables of their handles, and in layout if only one of
//! the memories has 64-bit pointers.
//! Everything that is read may have been made to harm, and realloc may answer anything: each range is checked where it is
//! used. Knows nothing of what a stream's ends are doing.

#[cfg(test)]
mod tests;

use super::cx::{LowerCx, Memories};
use super::memory::GuestMemory;
use super::state::State;
use super::stream::Pending;
use super::table::Kind;
use super::transcode::transcode;
use super::{Result, call};
use crate::component::plan::{Plan, TranscodeOp};
use crate::component::width::{Place, PointerWidth};
use std::iter::zip;
use wasmtime::{AsContextMut, StoreContextMut, bail};
use wasmtime_environ::component::{
    CanonicalAbiInfo, CanonicalOptions, ComponentTypes, FixedEncoding, InterfaceType, StringEncoding, VariantInfo,
};

/// `MAX_LIST_BYTE_LENGTH` and `MAX_STRING_BYTE_LENGTH`. So small that three times as much still fits in 32 bits.
const BYTE_LENGTH_MAX: u64 = (1 << 28) - 1;

/// Bytes that are copied, or values that are looked at, before others may have a turn: far less than a slice. An operation
/// copies all that both buffers have room for (CanonicalABI.md, `SharedStreamImpl`), up to 2^28 elements, so it cannot end there.
pub(crate) const BYTES_AT_ONCE: usize = 1 << 20;
const VALUES_AT_ONCE: u32 = 1 << 12;

/// Moves bytes from one memory to another or to the same one, as `GuestMemory::copy` does.
#[inline]
pub(crate) fn bytes(store: StoreContextMut<'_, State>, from: (u32, usize), to: (u32, usize), len: usize) -> Result<()> {
    match len <= BYTES_AT_ONCE {
        true => piece(&store.data().memories, from, to, len),
        false => many_bytes(store, from, to, len),
    }
}

#[cold]
fn many_bytes(
    mut store: StoreContextMut<'_, State>,
    (from, from_at): (u32, usize),
    (to, to_at): (u32, usize),
    len: usize,
) -> Result<()> {
    let pieces = len.div_ceil(BYTES_AT_ONCE);
    for n in 0..pieces {
        // Bytes that move up are moved from the end, or they would cover those that come after them.
        let n = if from_at < to_at { pieces - 1 - n } else { n };
        let start = n * BYTES_AT_ONCE;
        let memories = &store.data().memories;
        piece(memories, (from, from_at + start), (to, to_at + start), BYTES_AT_ONCE.min(len - start))?;
        call::give_way(store.as_context_mut())?;
    }
    Ok(())
}

/// As `bytes`, in one go.
#[inline]
pub(crate) fn piece(memories: &[Option<GuestMemory>], from: (u32, usize), to: (u32, usize), len: usize) -> Result<()> {
    let copied = match (memories[from.0 as usize].as_ref(), memories[to.0 as usize].as_ref()) {
        (Some(from_memory), Some(to_memory)) => GuestMemory::copy(from_memory, from.1, to_memory, to.1, len),
        _ => None,
    };
    match copied {
        Some(()) => Ok(()),
        None => out_of_bounds(),
    }
}

/// Copies `count` elements, those that come next in each buffer, and adds nothing to the buffers' progress.
///
/// Handles move from the writer's table to the reader's, strings and lists go where the reader's realloc says.
/// Traps if the writer's bytes are not values of its type, or the reader's realloc does not give what it is asked for.
pub(crate) fn elements(mut store: StoreContextMut<'_, State>, from: &Pending, to: &Pending, count: u32) -> Result<()> {
    let compiled = store.data().compiled.clone();
    let (Some(from_ty), Some(to_ty)) = (from.op.element.payload, to.op.element.payload) else { return Ok(()) };
    let sides = Pair { from: Side::new(&compiled.plan, from)?, to: Side::new(&compiled.plan, to)? };
    store.refresh_memory(sides.from.memory);
    store.refresh_memory(sides.to.memory);
    let left = (store.data().limits.memory_bytes_max as u64).saturating_mul(2);
    let mut walk = Walk { store, plan: &compiled.plan, sides, left, looked_at: 0 };
    walk.items(Pair { from: &[from_ty], to: &[to_ty] }, Pair { from: from.at(), to: to.at() }, u64::from(count))
}

/// The same thing at the writer's and at the reader's.
#[derive(Clone, Copy)]
struct Pair<T> {
    from: T,
    to: T,
}

impl<T> Pair<T> {
    fn map<U>(self, f: impl Fn(T) -> U) -> Pair<U> {
        Pair { from: f(self.from), to: f(self.to) }
    }
}

impl Pair<usize> {
    fn offset(self, by: Pair<usize>) -> Self {
        Pair { from: self.from + by.from, to: self.to + by.to }
    }

    /// `n` times as much.
    fn times(self, n: usize) -> Self {
        self.map(|one| n * one)
    }
}

/// One guest.
#[derive(Clone, Copy)]
struct Side<'a> {
    options: &'a CanonicalOptions,
    instance: u32,
    memory: u32,
    width: PointerWidth,
}

impl<'a> Side<'a> {
    fn new(plan: &'a Plan, pending: &Pending) -> Result<Self> {
        let options = &plan.options[pending.op.options as usize];
        let Some(memory) = options.memory() else {
            bail!("a stream operation with a payload needs the `memory` option")
        };
        let width = plan.width(options);
        Ok(Side { options, instance: pending.op.end.instance, memory: memory.as_u32(), width })
    }
}

struct Walk<'a> {
    store: StoreContextMut<'a, State>,
    plan: &'a Plan,
    sides: Pair<Side<'a>>,
    /// Bytes that lists and strings may still have. Lists of lists that overlap, and a realloc that always gives the same
    /// answer, would otherwise keep the host busy for as long as they like: each level of a type multiplies the work.
    left: u64,
    /// Values since others have had a turn.
    looked_at: u32,
}

/// Bytes of a number, which is copied as it is; `None` for everything else.
fn number_width(ty: InterfaceType) -> Option<usize> {
    use InterfaceType::*;
    match ty {
        U8 | S8 => Some(1),
        U16 | S16 => Some(2),
        U32 | S32 | Float32 => Some(4),
        U64 | S64 | Float64 => Some(8),
        _ => None,
    }
}

/// Types that `despecialize` makes variants of: layout and number of cases.
fn cases(types: &ComponentTypes, ty: InterfaceType) -> Option<(&VariantInfo, usize)> {
    match ty {
        InterfaceType::Variant(ty) => Some((&types[ty].info, types[ty].cases.len())),
        InterfaceType::Enum(ty) => Some((&types[ty].info, types[ty].names.len())),
        InterfaceType::Option(ty) => Some((&types[ty].info, 2)),
        InterfaceType::Result(ty) => Some((&types[ty].info, 2)),
        _ => None,
    }
}

/// What case number `case` of such a type carries.
fn case_payload(types: &ComponentTypes, ty: InterfaceType, case: usize) -> Option<InterfaceType> {
    match ty {
        InterfaceType::Variant(ty) => types[ty].cases[case],
        InterfaceType::Option(ty) => (case == 1).then_some(types[ty].ty),
        InterfaceType::Result(ty) => {
            if case == 0 {
                types[ty].ok
            } else {
                types[ty].err
            }
        }
        _ => None,
    }
}

impl Walk<'_> {
    /// `count` items, each one a record of these fields, side by side.
    fn items(&mut self, fields: Pair<&[InterfaceType]>, at: Pair<usize>, count: u64) -> Result<()> {
        if let [field] = *fields.from
            && let Some(width) = number_width(field)
        {
            return self.bytes(at, count as usize * width);
        }
        let size = self.record_place(fields.from).map(|place| place.size);
        for i in 0..count as usize {
            let at = at.offset(size.times(i));
            let pairs = zip(fields.from, fields.to).map(|(from, to)| Pair { from: *from, to: *to });
            self.fields(pairs, at)?;
        }
        Ok(())
    }

    /// What a record with these fields takes on either side.
    fn record_place(&self, fields: &[InterfaceType]) -> Pair<Place> {
        let abi = CanonicalAbiInfo::record(fields.iter().map(|ty| self.plan.types.canonical_abi(ty)));
        self.sides.map(|side| side.width.place(&abi))
    }

    fn fields(&mut self, fields: impl Iterator<Item = Pair<InterfaceType>>, at: Pair<usize>) -> Result<()> {
        let mut end = Pair { from: 0, to: 0 };
        for ty in fields {
            let abi = self.plan.types.canonical_abi(&ty.from);
            let start = Pair {
                from: self.sides.from.width.place(abi).next_field(&mut end.from),
                to: self.sides.to.width.place(abi).next_field(&mut end.to),
            };
            self.value(ty, at.offset(start))?;
        }
        Ok(())
    }

    fn value(&mut self, ty: Pair<InterfaceType>, at: Pair<usize>) -> Result<()> {
        use InterfaceType::*;
        self.looked_at += 1;
        if self.looked_at == VALUES_AT_ONCE {
            self.looked_at = 0;
            call::give_way(self.store.as_context_mut())?;
        }
        let types = &self.plan.types;
        if let Some(width) = number_width(ty.from) {
            return self.bytes(at, width);
        }
        match (ty.from, ty.to) {
            (Bool, Bool) => self.bool(at),
            (Char, Char) => self.char(at),
            (String, String) => self.string(at),
            (Flags(flags), Flags(_)) => self.flags(at, types[flags].names.len()),
            (Record(from), Record(to)) => {
                let fields = zip(&types[from].fields, &types[to].fields);
                self.fields(fields.map(|(from, to)| Pair { from: from.ty, to: to.ty }), at)
            }
            (Tuple(from), Tuple(to)) => {
                let fields = zip(&types[from].types, &types[to].types);
                self.fields(fields.map(|(from, to)| Pair { from: *from, to: *to }), at)
            }
            (Variant(_), Variant(_)) | (Enum(_), Enum(_)) | (Option(_), Option(_)) | (Result(_), Result(_)) => {
                self.variant(ty, at)
            }
            (List(from), List(to)) => self.list(Pair { from: &[types[from].element], to: &[types[to].element] }, at),
            (Map(from), Map(to)) => {
                let (from, to) = (&types[from], &types[to]);
                self.list(Pair { from: &[from.key, from.value], to: &[to.key, to.value] }, at)
            }
            (FixedLengthList(from), FixedLengthList(to)) => {
                let (from, to) = (&types[from], &types[to]);
                self.items(Pair { from: &[from.element], to: &[to.element] }, at, u64::from(from.size))
            }
            (Own(_), Own(_)) | (Stream(_), Stream(_)) | (Future(_), Future(_)) | (ErrorContext(_), ErrorContext(_)) => {
                self.handle(ty, at)
            }
            (Borrow(_), _) => bail!("a borrowed handle cannot go through a stream or future"),
            (from, to) => unreachable!("validation gives the two ends of a stream one type, not {from:?} and {to:?}"),
        }
    }

    fn bool(&mut self, at: Pair<usize>) -> Result<()> {
        let value = self.load(at.from, 1)?;
        self.store(at.to, 1, u64::from(value != 0))
    }

    fn char(&mut self, at: Pair<usize>) -> Result<()> {
        let value = self.load(at.from, 4)?;
        if char::from_u32(value as u32).is_none() {
            bail!("invalid `char` bit pattern: {value:#x}");
        }
        self.store(at.to, 4, value)
    }

    /// Bits that stand for no flag are not part of the value.
    fn flags(&mut self, at: Pair<usize>, count: usize) -> Result<()> {
        for byte in 0..CanonicalAbiInfo::flags(count).size32 as usize {
            let at = at.map(|at| at + byte);
            let used = count.saturating_sub(8 * byte).min(8);
            let value = self.load(at.from, 1)?;
            self.store(at.to, 1, value & ((1 << used) - 1))?;
        }
        Ok(())
    }

    fn variant(&mut self, ty: Pair<InterfaceType>, at: Pair<usize>) -> Result<()> {
        let (info, count) = cases(&self.plan.types, ty.from).expect("the caller knows that it has cases");
        let width = info.size.byte_size() as usize;
        let case = self.load(at.from, width)?;
        if count <= case as usize {
            bail!("invalid variant discriminant: {case}, there are {count} cases");
        }
        self.store(at.to, width, case)?;
        let payload = |ty| case_payload(&self.plan.types, ty, case as usize);
        match (payload(ty.from), payload(ty.to)) {
            (Some(from), Some(to)) => {
                let start = self.sides.map(|side| side.width.payload_offset(info));
                self.value(Pair { from, to }, at.offset(start))
            }
            _ => Ok(()),
        }
    }

    /// `load_list`, `store_list`; a map is a list of keys with values.
    fn list(&mut self, fields: Pair<&[InterfaceType]>, at: Pair<usize>) -> Result<()> {
        let place = self.record_place(fields.from);
        let (ptr, len) = self.load_pair(at.from)?;
        self.spend("list", len, place.from.size)?;
        if !ptr.is_multiple_of(place.from.align as u64) {
            bail!("unaligned pointer: list at {ptr:#x}");
        }
        if !self.is_in_bounds(ptr, len, place.from.size) {
            bail!("list content out-of-bounds");
        }
        // What was spent is at most 28 bits, and a value takes at most twice as much where pointers are wider.
        let to = self.realloc(0, 0, place.to.align, len as usize * place.to.size)?;
        self.items(fields, Pair { from: ptr as usize, to: to as usize }, len)?;
        self.store_pair(at.to, (to, len))
    }

    /// Moves or shares a handle (`lift_own`, `lift_async_value`, `lift_error_context`, and what lowers them).
    fn handle(&mut self, ty: Pair<InterfaceType>, at: Pair<usize>) -> Result<()> {
        use InterfaceType::*;
        let handle = self.load(at.from, 4)? as u32;
        let (types, state) = (&self.plan.types, self.store.data_mut());
        let (from, to) = (self.sides.from.instance, self.sides.to.instance);
        let handle = match (ty.from, ty.to) {
            (Own(from_ty), Own(to_ty)) => {
                let rt =
                    |ty: wasmtime_environ::component::TypeResourceTableIndex| types[ty].unwrap_concrete_ty().as_u32();
                state.transfer_own(from, rt(from_ty), handle, to, rt(to_ty))?
            }
            (Stream(from_ty), Stream(to_ty)) => {
                let stream = state.take_readable(from, Kind::StreamRead, types[from_ty].ty.as_u32(), handle)?;
                state.put_readable(to, Kind::StreamRead, types[to_ty].ty.as_u32(), stream)?
            }
            (Future(from_ty), Future(to_ty)) => {
                let future = state.take_readable(from, Kind::FutureRead, types[from_ty].ty.as_u32(), handle)?;
                state.put_readable(to, Kind::FutureRead, types[to_ty].ty.as_u32(), future)?
            }
            (ErrorContext(_), ErrorContext(_)) => state.error_context_transfer(from, handle, to)?,
            (from, to) => unreachable!("not two handles: {from:?} and {to:?}"),
        };
        self.store(at.to, 4, u64::from(handle))
    }
}

/// A string at the writer's.
#[derive(Clone, Copy)]
struct Text {
    ptr: u64,
    units: u64,
    encoding: FixedEncoding,
}

impl Text {
    /// A pointer and the length that comes with it, which carries a tag if the encoding has one.
    fn new(side: Side<'_>, (ptr, tagged_units): (u64, u64)) -> Self {
        let tag = side.width.utf16_tag();
        let (encoding, units) = match side.options.string_encoding {
            StringEncoding::Utf8 => (FixedEncoding::Utf8, tagged_units),
            StringEncoding::Utf16 => (FixedEncoding::Utf16, tagged_units),
            StringEncoding::CompactUtf16 if tagged_units & tag == 0 => (FixedEncoding::Latin1, tagged_units),
            StringEncoding::CompactUtf16 => (FixedEncoding::Utf16, tagged_units ^ tag),
        };
        Text { ptr, units, encoding }
    }

    fn width(&self) -> usize {
        usize::from(self.encoding.width())
    }

    /// What is left after the first `units`.
    fn after(self, units: u64) -> Self {
        Text { ptr: self.ptr + units * self.width() as u64, units: self.units - units, ..self }
    }
}

/// A string at the reader's: pointer and tagged code units.
type Stored = (u64, u64);

/// The guest sees each realloc, so the calls are those of the specification, also where one would do with fewer.
impl Walk<'_> {
    /// `load_string`, `store_string`
    fn string(&mut self, at: Pair<usize>) -> Result<()> {
        let encoding = self.sides.from.options.string_encoding;
        let src = Text::new(self.sides.from, self.load_pair(at.from)?);
        self.spend("string", src.units, src.width())?;
        if !src.ptr.is_multiple_of(u64::from(src.encoding.align())) {
            bail!("unaligned pointer: string at {:#x}", src.ptr);
        }
        if !self.is_in_bounds(src.ptr, src.units, src.width()) {
            bail!("string content out-of-bounds");
        }
        let stored = self.store_string(src, encoding)?;
        self.store_pair(at.to, stored)
    }

    /// `store_string_into_range`
    fn store_string(&mut self, src: Text, encoding: StringEncoding) -> Result<Stored> {
        use FixedEncoding::{Latin1, Utf8, Utf16};
        use TranscodeOp::*;
        match (src.encoding, self.sides.to.options.string_encoding) {
            (Utf8, StringEncoding::Utf8) => self.store_string_copy(CopyUtf8, src, 1, 1),
            (Utf16, StringEncoding::Utf8) => self.store_string_to_utf8(Utf16ToUtf8, src, 3),
            (Latin1, StringEncoding::Utf8) => self.store_string_to_utf8(Latin1ToUtf8, src, 2),
            (Utf8, StringEncoding::Utf16) => self.store_utf8_to_utf16(src),
            (Utf16, StringEncoding::Utf16) => self.store_string_copy(CopyUtf16, src, 2, 2),
            (Latin1, StringEncoding::Utf16) => self.store_string_copy(Latin1ToUtf16, src, 2, 2),
            (Latin1, StringEncoding::CompactUtf16) => self.store_string_copy(CopyLatin1, src, 1, 2),
            (Utf8, StringEncoding::CompactUtf16) => {
                self.store_string_to_latin1_or_utf16([Utf8ToLatin1, Utf8ToCompactUtf16], src)
            }
            (Utf16, StringEncoding::CompactUtf16) if encoding == StringEncoding::CompactUtf16 => {
                self.store_probably_utf16_to_latin1_or_utf16(src)
            }
            (Utf16, StringEncoding::CompactUtf16) => {
                self.store_string_to_latin1_or_utf16([Utf16ToLatin1, Utf16ToCompactUtf16], src)
            }
        }
    }

    fn store_string_copy(&mut self, op: TranscodeOp, src: Text, dst_width: usize, dst_align: usize) -> Result<Stored> {
        let ptr = self.realloc(0, 0, dst_align, dst_width * src.units as usize)?;
        self.pass(op, &[src.ptr, src.units, ptr])?;
        Ok((ptr, src.units))
    }

    /// A byte for each code unit will do for ASCII; else `worst` bytes for each, and what is left over goes back.
    fn store_string_to_utf8(&mut self, op: TranscodeOp, src: Text, worst: u64) -> Result<Stored> {
        let ptr = self.realloc(0, 0, 1, src.units as usize)?;
        let [read, ascii] = self.pass(op, &[src.ptr, src.units, ptr, src.units, 1])?;
        if read == src.units {
            return Ok((ptr, ascii));
        }
        let room = worst * src.units;
        let ptr = self.realloc(ptr, src.units as usize, 1, room as usize)?;
        let rest = src.after(read);
        let [_, written] = self.pass(op, &[rest.ptr, rest.units, ptr + ascii, room - ascii, 0])?;
        let len = ascii + written;
        Ok((self.shrink(ptr, room, 1, len)?, len))
    }

    fn store_utf8_to_utf16(&mut self, src: Text) -> Result<Stored> {
        let room = 2 * src.units;
        let ptr = self.realloc(0, 0, 2, room as usize)?;
        let [units, _] = self.pass(TranscodeOp::Utf8ToUtf16, &[src.ptr, src.units, ptr])?;
        Ok((self.shrink(ptr, room, 2, 2 * units)?, units))
    }

    /// Latin-1 until a character is not in it; then the bytes so far become UTF-16, and the rest follows.
    fn store_string_to_latin1_or_utf16(&mut self, [latin1, utf16]: [TranscodeOp; 2], src: Text) -> Result<Stored> {
        let ptr = self.realloc(0, 0, 2, src.units as usize)?;
        let [read, written] = self.pass(latin1, &[src.ptr, src.units, ptr])?;
        if read == src.units {
            return Ok((self.shrink(ptr, src.units, 2, written)?, written));
        }
        let room = 2 * src.units;
        let ptr = self.realloc(ptr, src.units as usize, 2, room as usize)?;
        let rest = src.after(read);
        let [units, _] = self.pass(utf16, &[rest.ptr, rest.units, ptr, src.units, written])?;
        Ok((self.shrink(ptr, room, 2, 2 * units)?, units | self.sides.to.width.utf16_tag()))
    }

    fn store_probably_utf16_to_latin1_or_utf16(&mut self, src: Text) -> Result<Stored> {
        let room = 2 * src.units as usize;
        let ptr = self.realloc(0, 0, 2, room)?;
        let [tagged_units, _] = self.pass(TranscodeOp::Utf16ToCompactProbablyUtf16, &[src.ptr, src.units, ptr])?;
        if tagged_units & self.sides.to.width.utf16_tag() != 0 {
            return Ok((ptr, tagged_units));
        }
        Ok((self.realloc(ptr, room, 1, src.units as usize)?, src.units))
    }

    fn shrink(&mut self, ptr: u64, room: u64, align: usize, len: u64) -> Result<u64> {
        if len == room { Ok(ptr) } else { self.realloc(ptr, room as usize, align, len as usize) }
    }

    fn pass(&mut self, op: TranscodeOp, args: &[u64]) -> Result<[u64; 2]> {
        let mut results = [0; 2];
        let (from, to) = (self.sides.from.memory, self.sides.to.memory);
        transcode(self.store.data_mut(), op, from, to, args, &mut results)?;
        Ok(results)
    }
}

/// Access to the two memories.
impl Walk<'_> {
    /// `len` bytes as they are.
    fn bytes(&mut self, at: Pair<usize>, len: usize) -> Result<()> {
        let (from, to) = (self.sides.from.memory, self.sides.to.memory);
        bytes(self.store.as_context_mut(), (from, at.from), (to, at.to), len)
    }

    /// An unsigned number of `width` bytes, 8 at most.
    fn load(&self, at: usize, width: usize) -> Result<u64> {
        let bytes = at.checked_add(width).and_then(|end| self.memory(self.sides.from).get(at..end));
        let Some(bytes) = bytes else { return out_of_bounds() };
        let mut value = [0; 8];
        value[..width].copy_from_slice(bytes);
        Ok(u64::from_le_bytes(value))
    }

    fn store(&mut self, at: usize, width: usize, value: u64) -> Result<()> {
        let memory = self.store.data_mut().memory_mut(self.sides.to.memory);
        let bytes = at.checked_add(width).and_then(|end| memory.get_mut(at..end));
        let Some(bytes) = bytes else { return out_of_bounds() };
        bytes.copy_from_slice(&value.to_le_bytes()[..width]);
        Ok(())
    }

    fn memory(&self, side: Side<'_>) -> &[u8] {
        self.store.data().memory(side.memory)
    }

    fn load_pair(&self, at: usize) -> Result<(u64, u64)> {
        let width = self.sides.from.width.bytes();
        Ok((self.load(at, width)?, self.load(at + width, width)?))
    }

    fn store_pair(&mut self, at: usize, (ptr, len): (u64, u64)) -> Result<()> {
        let width = self.sides.to.width.bytes();
        self.store(at, width, ptr)?;
        self.store(at + width, width, len)
    }

    /// Are these `count` elements of `size` bytes in the writer's memory?
    fn is_in_bounds(&self, ptr: u64, count: u64, size: usize) -> bool {
        let end = count.checked_mul(size as u64).and_then(|byte_len| ptr.checked_add(byte_len));
        end.is_some_and(|end| end <= self.memory(self.sides.from).len() as u64)
    }

    /// Counts what a list or string has against what one may have, and against what one operation may copy.
    ///
    /// The reader must keep everything, in no less than half of the bytes that the writer needs for it (UTF-16 that becomes
    /// bytes, pointers that become narrower), so twice the zone's memory is more than an operation that can succeed will spend.
    fn spend(&mut self, what: &str, count: u64, size: usize) -> Result<()> {
        let byte_len = count.saturating_mul(size as u64);
        if BYTE_LENGTH_MAX < byte_len {
            bail!("a {what} of {byte_len} bytes; {BYTE_LENGTH_MAX} at most");
        }
        match self.left.checked_sub(byte_len) {
            Some(left) => self.left = left,
            None => bail!("a stream operation copies more than the reader's memory can hold"),
        }
        Ok(())
    }

    /// The reader's realloc.
    fn realloc(&mut self, old_ptr: u64, old_len: usize, align: usize, new_len: usize) -> Result<u64> {
        let Side { options, memory, .. } = self.sides.to;
        let mut cx = LowerCx::new(self.store.as_context_mut(), self.plan, options);
        let ptr = cx.realloc(old_ptr, old_len, align, new_len)?;
        // `LowerCx` has refreshed the reader's memory. The writer's can have grown only if it is the same instance's.
        if self.sides.from.memory != memory && self.sides.from.instance == self.sides.to.instance {
            self.store.refresh_memory(self.sides.from.memory);
        }
        Ok(ptr)
    }
}

#[cold]
fn out_of_bounds<T>() -> Result<T> {
    bail!("a value is out of bounds of memory")
}
