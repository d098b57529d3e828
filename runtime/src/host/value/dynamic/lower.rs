//! Values into a guest, by type. CanonicalABI.md, "Storing" and "Flat Lowering".

use super::{Handle, Value, case_of, cases, layout, variant_layout};
use crate::abi::{FlatSink, LowerCx, Result};
use crate::component::width::Place as Room;
use crate::host::value::list::byte_len;
use crate::host::value::memory::{Range, aligned, lower_pair, slice, store_pair, write};
use crate::host::value::variant::VariantLayout;
use crate::host::value::{InterfaceType, Lower, NO_TYPE};

use wasmtime::bail;
use wasmtime_environ::component::ComponentTypes;

/// Where the value goes: to core values, or to memory at an address.
enum Place<'a, 'b> {
    Flat(&'a mut FlatSink<'b>),
    Memory(usize),
}

/// Gives a value as core values.
pub(super) fn lower(value: Value, cx: &mut LowerCx<'_>, ty: InterfaceType, dst: &mut FlatSink<'_>) -> Result<()> {
    give(value, cx, ty, Place::Flat(dst))
}

/// Writes a value to memory that the callee's `realloc` gives, and tells where that is.
pub(super) fn store_through(value: Value, cx: &mut LowerCx<'_>, ty: InterfaceType) -> Result<u64> {
    let place = layout(ty, cx.types()).at(cx.width());
    let pointer = cx.realloc(0, 0, place.align, place.size)?;
    let at = aligned(pointer, place.align)?;
    slice(cx.memory(), at, place.size)?;
    give(value, cx, ty, Place::Memory(at))?;
    Ok(pointer)
}

/// A Rust type that lowers itself.
fn scalar<T: Lower>(value: T, cx: &mut LowerCx<'_>, ty: InterfaceType, place: Place<'_, '_>) -> Result<()> {
    match place {
        Place::Flat(dst) => value.lower(cx, ty, dst),
        Place::Memory(at) => value.store(cx, ty, at),
    }
}

fn give(value: Value, cx: &mut LowerCx<'_>, ty: InterfaceType, place: Place<'_, '_>) -> Result<()> {
    use InterfaceType as T;
    let types = cx.types();
    match (value, ty) {
        (Value::Bool(v), T::Bool) => scalar(v, cx, ty, place),
        (Value::S8(v), T::S8) => scalar(v, cx, ty, place),
        (Value::U8(v), T::U8) => scalar(v, cx, ty, place),
        (Value::S16(v), T::S16) => scalar(v, cx, ty, place),
        (Value::U16(v), T::U16) => scalar(v, cx, ty, place),
        (Value::S32(v), T::S32) => scalar(v, cx, ty, place),
        (Value::U32(v), T::U32) => scalar(v, cx, ty, place),
        (Value::S64(v), T::S64) => scalar(v, cx, ty, place),
        (Value::U64(v), T::U64) => scalar(v, cx, ty, place),
        (Value::Float32(v), T::Float32) => scalar(v, cx, ty, place),
        (Value::Float64(v), T::Float64) => scalar(v, cx, ty, place),
        (Value::Char(v), T::Char) => scalar(v, cx, ty, place),
        (Value::String(v), T::String) => scalar(v, cx, ty, place),
        (Value::List(values), T::List(i)) => list(values, cx, types[i].element, place),
        (Value::Map(entries), T::Map(i)) => map(entries, cx, i, place),
        (Value::List(values), T::FixedLengthList(i)) => {
            sequence(values, cx, std::iter::repeat_n(types[i].element, types[i].size as usize), place)
        }
        (Value::Tuple(values), T::Tuple(i)) => sequence(values, cx, types[i].types.iter().copied(), place),
        (Value::Record(fields), T::Record(i)) => {
            let values = fields.into_iter().map(|(_, value)| value).collect();
            sequence(values, cx, types[i].fields.iter().map(|field| field.ty), place)
        }
        (Value::Flags(names), T::Flags(i)) => flags(&names, cx, i, place),
        (Value::Handle(handle), _) => {
            let index = lower_handle(handle, cx, ty)?;
            scalar(index, cx, T::U32, place)
        }
        (value, _) => variant(value, cx, ty, place),
    }
}

/// Values one behind the other: fields, elements.
fn sequence(
    values: Vec<Value>,
    cx: &mut LowerCx<'_>,
    types: impl ExactSizeIterator<Item = InterfaceType>,
    place: Place<'_, '_>,
) -> Result<()> {
    if values.len() != types.len() {
        bail!("expected {} values, found {}", types.len(), values.len());
    }
    match place {
        Place::Flat(dst) => values.into_iter().zip(types).try_for_each(|(value, ty)| lower(value, cx, ty, dst)),
        Place::Memory(mut at) => values.into_iter().zip(types).try_for_each(|(value, ty)| {
            let start = layout(ty, cx.types()).at(cx.width()).next_field(&mut at);
            give(value, cx, ty, Place::Memory(start))
        }),
    }
}

/// Room for `len` elements in the guest: where it is.
fn room(cx: &mut LowerCx<'_>, len: usize, element: Room) -> Result<Range> {
    let bytes = byte_len(len as u64, element.size)?;
    let pointer = cx.realloc(0, 0, element.align, bytes)?;
    slice(cx.memory(), pointer as usize, bytes)?;
    Ok((pointer, len as u64))
}

fn list(values: Vec<Value>, cx: &mut LowerCx<'_>, element: InterfaceType, place: Place<'_, '_>) -> Result<()> {
    let (pointer, len) = room(cx, values.len(), layout(element, cx.types()).at(cx.width()))?;
    sequence(values, cx, std::iter::repeat_n(element, len as usize), Place::Memory(pointer as usize))?;
    give_range((pointer, len), cx, place)
}

fn map(
    entries: Vec<(Value, Value)>,
    cx: &mut LowerCx<'_>,
    index: wasmtime_environ::component::TypeMapIndex,
    place: Place<'_, '_>,
) -> Result<()> {
    let ty = &cx.types()[index];
    let (width, entry_place) = (cx.width(), cx.width().place(&ty.entry_abi));
    let (pointer, len) = room(cx, entries.len(), entry_place)?;
    for (n, (key, value)) in entries.into_iter().enumerate() {
        let entry = pointer as usize + n * entry_place.size;
        give(key, cx, ty.key, Place::Memory(entry))?;
        give(value, cx, ty.value, Place::Memory(entry + width.value_offset(ty)))?;
    }
    give_range((pointer, len), cx, place)
}

fn give_range(range: Range, cx: &mut LowerCx<'_>, place: Place<'_, '_>) -> Result<()> {
    match place {
        Place::Flat(dst) => {
            lower_pair(dst, range);
            Ok(())
        }
        Place::Memory(at) => store_pair(cx, at, range),
    }
}

fn flags(
    names: &[String],
    cx: &mut LowerCx<'_>,
    index: wasmtime_environ::component::TypeFlagsIndex,
    place: Place<'_, '_>,
) -> Result<()> {
    let ty = InterfaceType::Flags(index);
    let labels = cx.types()[index].names.iter().enumerate();
    let set = labels.filter(|(_, label)| names.contains(label));
    let bits = set.fold(0u32, |bits, (n, _)| bits | 1u32.checked_shl(n as u32).unwrap_or(0));
    match place {
        Place::Flat(dst) => dst.push(u64::from(bits)),
        Place::Memory(at) => match layout(ty, cx.types()).at(cx.width()).size {
            1 => write(cx.memory(), at, (bits as u8).to_le_bytes())?,
            2 => write(cx.memory(), at, (bits as u16).to_le_bytes())?,
            _ => write(cx.memory(), at, bits.to_le_bytes())?,
        },
    }
    Ok(())
}

fn variant(value: Value, cx: &mut LowerCx<'_>, ty: InterfaceType, place: Place<'_, '_>) -> Result<()> {
    let types = cx.types();
    let (case, payload_ty, place_of) = find_case(&value, ty, types)?;
    let payload = match value {
        Value::Variant(_, payload) | Value::Option(payload) | Value::Result(Ok(payload) | Err(payload)) => payload,
        _ => None,
    };
    match place {
        Place::Flat(dst) => {
            dst.push(u64::from(case));
            let used = payload_ty.map_or(0, |ty| layout(ty, types).flat);
            if let (Some(payload), Some(ty)) = (payload, payload_ty) {
                lower(*payload, cx, ty, dst)?;
            }
            dst.pad((place_of.whole.flat - 1).saturating_sub(used));
            Ok(())
        }
        Place::Memory(at) => {
            place_of.store_case(case, (), cx, NO_TYPE, at)?;
            match (payload, payload_ty) {
                (Some(payload), Some(ty)) => {
                    let start = Place::Memory(at + place_of.payload(cx.width()));
                    give(*payload, cx, ty, start)
                }
                _ => Ok(()),
            }
        }
    }
}

type Case = (u32, Option<InterfaceType>, VariantLayout);

fn find_case(value: &Value, ty: InterfaceType, types: &ComponentTypes) -> Result<Case> {
    let (Some((name, _)), Some(cases)) = (case_of(value), cases(ty, types)) else {
        bail!("a value of another type than the function has")
    };
    let Some(case) = cases.iter().position(|(case, _)| *case == name) else { bail!("no case `{name}`") };
    Ok((case as u32, cases[case].1, variant_layout(&cases, types)))
}

fn lower_handle(handle: Handle, cx: &mut LowerCx<'_>, ty: InterfaceType) -> Result<u32> {
    match (handle, ty) {
        (Handle::Readable(readable), _) if same_elements(readable.ty, ty, cx.types()) => cx.lower_end(ty, readable.end),
        (Handle::Readable(_), _) => bail!("a stream or future of another type than the function has"),
        (handle, InterfaceType::Own(table)) => cx.own_dynamic(table, handle),
        _ => bail!("a handle of another kind than the function has"),
    }
}

/// Are these streams, or futures, of the same elements? Instances have different tables of handles for one resource type.
fn same_elements(one: InterfaceType, other: InterfaceType, types: &ComponentTypes) -> bool {
    use InterfaceType::{Future, Own, Stream};
    let (one, other) = match (one, other) {
        (Stream(one), Stream(other)) => (types[types[one].ty].payload, types[types[other].ty].payload),
        (Future(one), Future(other)) => (types[types[one].ty].payload, types[types[other].ty].payload),
        _ => return false,
    };
    match (one, other) {
        (Some(Own(one)), Some(Own(other))) => types[one].unwrap_concrete_ty() == types[other].unwrap_concrete_ty(),
        (one, other) => one == other,
    }
}
