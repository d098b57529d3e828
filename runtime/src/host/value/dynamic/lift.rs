//! Values out of a guest, by type. CanonicalABI.md, "Loading" and "Flat Lifting".

use super::{Handle, Readable, Value, cases, layout, variant_layout};
use crate::abi::{FlatSource, LiftCx, Result};
use crate::component::width::Place as Room;
use crate::host::value::list::byte_len;
use crate::host::value::memory::{aligned, lift_pair, load_pair, read, slice};
use crate::host::value::{InterfaceType, Lift};

use wasmtime::bail;

/// Where the value is: in core values, or in memory at an address.
enum Place<'a, 'b> {
    Flat(&'a mut FlatSource<'b>),
    Memory(usize),
}

/// Takes a value from core values.
pub(super) fn lift(cx: &mut LiftCx<'_>, ty: InterfaceType, src: &mut FlatSource<'_>) -> Result<Value> {
    take(cx, ty, Place::Flat(src))
}

/// Takes a value from the memory that `pointer`, which comes from a guest, points to.
pub(super) fn load_through(cx: &mut LiftCx<'_>, ty: InterfaceType, pointer: u64) -> Result<Value> {
    let place = layout(ty, cx.types()).at(cx.width());
    let at = aligned(pointer, place.align)?;
    slice(cx.memory(), at, place.size)?;
    take(cx, ty, Place::Memory(at))
}

/// A Rust type that lifts itself.
fn scalar<T: Lift>(cx: &mut LiftCx<'_>, ty: InterfaceType, place: Place<'_, '_>) -> Result<T> {
    match place {
        Place::Flat(src) => T::lift(cx, ty, src),
        Place::Memory(at) => T::load(cx, ty, at),
    }
}

fn take(cx: &mut LiftCx<'_>, ty: InterfaceType, place: Place<'_, '_>) -> Result<Value> {
    use InterfaceType as T;
    Ok(match ty {
        T::Bool => Value::Bool(scalar(cx, ty, place)?),
        T::S8 => Value::S8(scalar(cx, ty, place)?),
        T::U8 => Value::U8(scalar(cx, ty, place)?),
        T::S16 => Value::S16(scalar(cx, ty, place)?),
        T::U16 => Value::U16(scalar(cx, ty, place)?),
        T::S32 => Value::S32(scalar(cx, ty, place)?),
        T::U32 => Value::U32(scalar(cx, ty, place)?),
        T::S64 => Value::S64(scalar(cx, ty, place)?),
        T::U64 => Value::U64(scalar(cx, ty, place)?),
        T::Float32 => Value::Float32(scalar(cx, ty, place)?),
        T::Float64 => Value::Float64(scalar(cx, ty, place)?),
        T::Char => Value::Char(scalar(cx, ty, place)?),
        T::String => Value::String(scalar(cx, ty, place)?),
        T::List(i) => Value::List(list(cx, cx.types()[i].element, place)?),
        T::Map(i) => map(cx, i, place)?,
        T::FixedLengthList(i) => {
            let list = &cx.types()[i];
            Value::List(sequence(cx, std::iter::repeat_n(list.element, list.size as usize), place)?)
        }
        T::Tuple(i) => Value::Tuple(sequence(cx, cx.types()[i].types.iter().copied(), place)?),
        T::Record(i) => {
            let fields = &cx.types()[i].fields;
            let values = sequence(cx, fields.iter().map(|field| field.ty), place)?;
            Value::Record(fields.iter().map(|field| field.name.clone()).zip(values).collect())
        }
        T::Flags(i) => flags(cx, i, place)?,
        T::Variant(_) | T::Enum(_) | T::Option(_) | T::Result(_) => variant(cx, ty, place)?,
        T::Own(_) | T::Stream(_) | T::Future(_) => {
            let index = scalar::<u32>(cx, ty, place)?;
            Value::Handle(handle(cx, ty, index)?)
        }
        T::Borrow(_) => bail!("a borrow cannot be a result"),
        T::ErrorContext(_) => bail!("an error-context cannot be passed to this host"),
    })
}

/// Values one behind the other: fields, elements.
fn sequence(
    cx: &mut LiftCx<'_>,
    types: impl ExactSizeIterator<Item = InterfaceType>,
    place: Place<'_, '_>,
) -> Result<Vec<Value>> {
    cx.charge(types.len().saturating_mul(size_of::<Value>()))?;
    let mut values = Vec::with_capacity(types.len());
    match place {
        Place::Flat(src) => {
            for ty in types {
                values.push(lift(cx, ty, src)?);
            }
        }
        Place::Memory(mut at) => {
            for ty in types {
                let start = layout(ty, cx.types()).at(cx.width()).next_field(&mut at);
                values.push(take(cx, ty, Place::Memory(start))?);
            }
        }
    }
    Ok(values)
}

/// The range of a list: its pointer and length, checked to be inside the memory before anything is allocated for it.
fn range(cx: &mut LiftCx<'_>, element: Room, place: Place<'_, '_>) -> Result<(usize, usize)> {
    let (pointer, len) = match place {
        Place::Flat(src) => lift_pair(cx, src),
        Place::Memory(at) => load_pair(cx, at)?,
    };
    let bytes = byte_len(len, element.size)?;
    let at = aligned(pointer, element.align)?;
    slice(cx.memory(), at, bytes)?;
    Ok((at, len as usize))
}

fn list(cx: &mut LiftCx<'_>, element: InterfaceType, place: Place<'_, '_>) -> Result<Vec<Value>> {
    let (at, len) = range(cx, layout(element, cx.types()).at(cx.width()), place)?;
    sequence(cx, std::iter::repeat_n(element, len), Place::Memory(at))
}

fn map(cx: &mut LiftCx<'_>, index: wasmtime_environ::component::TypeMapIndex, place: Place<'_, '_>) -> Result<Value> {
    let ty = &cx.types()[index];
    let entry_place = cx.width().place(&ty.entry_abi);
    let (at, len) = range(cx, entry_place, place)?;
    cx.charge(len.saturating_mul(2 * size_of::<Value>()))?;
    let mut entries = Vec::with_capacity(len);
    for n in 0..len {
        let entry = at + n * entry_place.size;
        let key = take(cx, ty.key, Place::Memory(entry))?;
        let value = Place::Memory(entry + cx.width().value_offset(ty));
        entries.push((key, take(cx, ty.value, value)?));
    }
    Ok(Value::Map(entries))
}

/// `load_flags`: bits beyond the last label are ignored.
fn flags(
    cx: &mut LiftCx<'_>,
    index: wasmtime_environ::component::TypeFlagsIndex,
    place: Place<'_, '_>,
) -> Result<Value> {
    let ty = InterfaceType::Flags(index);
    let bits = match place {
        Place::Flat(src) => src.next() as u32,
        Place::Memory(at) => match layout(ty, cx.types()).at(cx.width()).size {
            1 => u32::from(u8::from_le_bytes(read(cx.memory(), at)?)),
            2 => u32::from(u16::from_le_bytes(read(cx.memory(), at)?)),
            _ => u32::from_le_bytes(read(cx.memory(), at)?),
        },
    };
    let names = cx.types()[index].names.iter().enumerate();
    let set = names.filter(|(n, _)| bits.checked_shr(*n as u32).unwrap_or(0) & 1 != 0);
    Ok(Value::Flags(set.map(|(_, name)| name.clone()).collect()))
}

fn variant(cx: &mut LiftCx<'_>, ty: InterfaceType, place: Place<'_, '_>) -> Result<Value> {
    let types = cx.types();
    let Some(cases) = cases(ty, types) else { bail!("a variant was expected") };
    let place_of = variant_layout(&cases, types);
    let (case, payload) = match place {
        Place::Flat(src) => {
            let case = place_of.lift_case(src)?;
            let payload = cases[case as usize].1;
            let value = payload.map(|ty| lift(cx, ty, src)).transpose()?;
            // Past the slots that only wider cases use.
            let used = payload.map_or(0, |ty| layout(ty, types).flat);
            for _ in 1 + used..place_of.whole.flat {
                src.next();
            }
            (case, value)
        }
        Place::Memory(at) => {
            let case = place_of.load_case(cx, at)?;
            let start = Place::Memory(at + place_of.payload(cx.width()));
            (case, cases[case as usize].1.map(|ty| take(cx, ty, start)).transpose()?)
        }
    };
    let payload = payload.map(Box::new);
    let name = cases[case as usize].0.to_string();
    Ok(match ty {
        InterfaceType::Enum(_) => Value::Enum(name),
        InterfaceType::Option(_) => Value::Option(payload),
        InterfaceType::Result(_) if case == 0 => Value::Result(Ok(payload)),
        InterfaceType::Result(_) => Value::Result(Err(payload)),
        _ => Value::Variant(name, payload),
    })
}

fn handle(cx: &mut LiftCx<'_>, ty: InterfaceType, index: u32) -> Result<Handle> {
    match ty {
        InterfaceType::Own(table) => cx.own_dynamic(table, index),
        InterfaceType::Stream(table) => {
            let stream = cx.stream(table, index)?;
            Ok(Handle::Readable(Readable { end: cx.read_end(stream), ty }))
        }
        InterfaceType::Future(table) => {
            let future = cx.future(table, index)?;
            Ok(Handle::Readable(Readable { end: cx.read_end(future), ty }))
        }
        _ => bail!("a handle was expected"),
    }
}
