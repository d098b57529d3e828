//! Values whose type is known only at run time: for scripts, which name functions and write constants.
//!
//! A [`Value`] is lifted and lowered by the component's own type, with the same scalars, strings, layouts and memory checks as
//! the Rust types beside it. Whether a value is of a type is asked once, before a call ([`check()`]); what does not fit later is
//! an `Err` all the same, because a type is data here and nobody has linked it.
//! Knows nothing of scripts.

mod lift;
mod lower;

use super::check;
use super::layout::Layout;
use super::variant::VariantLayout;
use super::{InterfaceType, result_type};
use crate::abi::{FlatSink, FlatSource, LiftCx, LowerCx, ReadEnd, Result};
use crate::component::width::PointerWidth;

use std::fmt;

use wasmtime_environ::component::{ComponentTypes, TypeTupleIndex};

/// A component value of any type.
#[derive(Debug)]
#[expect(missing_docs, reason = "the variants are the value types of the component model")]
pub enum Value {
    Bool(bool),
    S8(i8),
    U8(u8),
    S16(i16),
    U16(u16),
    S32(i32),
    U32(u32),
    S64(i64),
    U64(u64),
    Float32(f32),
    Float64(f64),
    Char(char),
    String(String),
    /// A list, also one of fixed length.
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Record(Vec<(String, Value)>),
    Tuple(Vec<Value>),
    Variant(String, Option<Box<Value>>),
    Enum(String),
    Option(Option<Box<Value>>),
    Result(std::result::Result<Option<Box<Value>>, Option<Box<Value>>>),
    Flags(Vec<String>),
    /// What only its own zone can make sense of: it can be passed back into the same zone, or dropped.
    Handle(Handle),
}

/// A resource, stream or future that a guest has given to the host.
pub enum Handle {
    /// A resource that a guest implements: its type and representation. Dropping this does not run the guest's destructor: only
    /// its own zone could, by a call.
    Guest {
        /// `ResourceIndex`
        ty: u32,
        /// What the guest called it.
        rep: u32,
    },
    /// A resource that the host implements.
    Host(std::rc::Rc<dyn std::any::Any>),
    /// The readable end of a stream or future. Dropping it drops the end.
    Readable(Readable),
}

/// See [`Handle::Readable`].
pub struct Readable {
    end: ReadEnd,
    /// What it was when the guest gave it away.
    ty: InterfaceType,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Handle::Guest { .. } | Handle::Host(_) => "a resource",
            Handle::Readable(_) => "a readable end",
        })
    }
}

/// Flat values that no signature has: stands for "more than are ever passed flat".
const FLAT_TOO_MANY: usize = 1 << 16;

/// The place that a value of type `ty` takes.
fn layout(ty: InterfaceType, types: &ComponentTypes) -> Layout {
    let abi = types.canonical_abi(&ty);
    let flat = abi.flat_count.map_or(FLAT_TOO_MANY, usize::from);
    Layout::new(PointerWidth::Bits32.place(abi), PointerWidth::Bits64.place(abi), flat)
}

/// Names and payloads of the cases of a type that is a variant underneath; `None` for any other.
fn cases(ty: InterfaceType, types: &ComponentTypes) -> Option<Vec<(&str, Option<InterfaceType>)>> {
    Some(match ty {
        InterfaceType::Variant(i) => types[i].cases.iter().map(|(name, payload)| (name.as_str(), *payload)).collect(),
        InterfaceType::Enum(i) => types[i].names.iter().map(|name| (name.as_str(), None)).collect(),
        InterfaceType::Option(i) => vec![("none", None), ("some", Some(types[i].ty))],
        InterfaceType::Result(i) => vec![("ok", types[i].ok), ("error", types[i].err)],
        _ => return None,
    })
}

fn variant_layout(cases: &[(&str, Option<InterfaceType>)], types: &ComponentTypes) -> VariantLayout {
    let payloads: Vec<Layout> =
        cases.iter().map(|(_, payload)| payload.map_or(Layout::NOTHING, |ty| layout(ty, types))).collect();
    VariantLayout::new(&payloads)
}

/// Takes the result of a call: a value, or none for a function without a result. `flat` are the core values that the guest
/// has returned; one of them is a pointer if the value has another number of them.
pub(crate) fn lift_result(cx: &mut LiftCx<'_>, results: TypeTupleIndex, flat: &[u64]) -> Result<Option<Value>> {
    let ty = result_type(results, cx.types());
    let mut source = FlatSource::new(flat);
    let place = layout(ty, cx.types());
    let value = if place.flat == flat.len() {
        lift::lift(cx, ty, &mut source)?
    } else {
        let pointer = cx.width().wrap(source.next());
        lift::load_through(cx, ty, pointer)?
    };
    Ok(match value {
        Value::Tuple(values) if values.is_empty() => None,
        value => Some(value),
    })
}

/// Gives the parameters of a call, flat or, when they are more than `max_flat` core values, through memory.
pub(crate) fn lower_params(
    cx: &mut LowerCx<'_>,
    params: TypeTupleIndex,
    values: Vec<Value>,
    max_flat: usize,
    dst: &mut FlatSink<'_>,
) -> Result<()> {
    let ty = InterfaceType::Tuple(params);
    let place = layout(ty, cx.types());
    if place.flat <= max_flat {
        return lower::lower(Value::Tuple(values), cx, ty, dst);
    }
    let pointer = lower::store_through(Value::Tuple(values), cx, ty)?;
    dst.push(pointer);
    Ok(())
}

/// Are `values` parameters of the types in `params`? The error is for people.
pub fn check_params(
    values: &[Value],
    params: TypeTupleIndex,
    types: &ComponentTypes,
) -> std::result::Result<(), String> {
    let expected = &types[params].types;
    if expected.len() != values.len() {
        return Err(format!("expected {} parameters, found {}", expected.len(), values.len()));
    }
    for (n, (value, ty)) in values.iter().zip(expected).enumerate() {
        check(value, *ty, types).map_err(|error| format!("parameter {n}: {error}"))?;
    }
    Ok(())
}

/// Is `value` of type `ty`?
pub fn check(value: &Value, ty: InterfaceType, types: &ComponentTypes) -> std::result::Result<(), String> {
    use InterfaceType as T;
    let all = |values: &[Value], ty: InterfaceType| values.iter().try_for_each(|value| check(value, ty, types));
    match (value, ty) {
        (Value::Bool(_), T::Bool)
        | (Value::S8(_), T::S8)
        | (Value::U8(_), T::U8)
        | (Value::S16(_), T::S16)
        | (Value::U16(_), T::U16)
        | (Value::S32(_), T::S32)
        | (Value::U32(_), T::U32)
        | (Value::S64(_), T::S64)
        | (Value::U64(_), T::U64)
        | (Value::Float32(_), T::Float32)
        | (Value::Float64(_), T::Float64)
        | (Value::Char(_), T::Char)
        | (Value::String(_), T::String)
        | (Value::Handle(_), T::Own(_) | T::Borrow(_) | T::Stream(_) | T::Future(_)) => Ok(()),
        (Value::List(values), T::List(i)) => all(values, types[i].element),
        (Value::List(values), T::FixedLengthList(i)) if values.len() == types[i].size as usize => {
            all(values, types[i].element)
        }
        (Value::Map(entries), T::Map(i)) => entries.iter().try_for_each(|(key, value)| {
            check(key, types[i].key, types)?;
            check(value, types[i].value, types)
        }),
        (Value::Tuple(values), T::Tuple(i)) => check_params(values, i, types),
        (Value::Record(values), T::Record(i)) => check_fields(values, i, types),
        (Value::Flags(names), T::Flags(i)) => match names.iter().find(|name| !types[i].names.contains(name.as_str())) {
            Some(unknown) => Err(format!("no flag `{unknown}`")),
            None => Ok(()),
        },
        _ => match (case_of(value), cases(ty, types)) {
            (Some((name, payload)), Some(cases)) if same_kind(value, ty) => check_case(name, payload, &cases, types),
            _ => Err(check::expected(&format!("{value:?}"), &ty)),
        },
    }
}

fn check_fields(
    values: &[(String, Value)],
    record: wasmtime_environ::component::TypeRecordIndex,
    types: &ComponentTypes,
) -> std::result::Result<(), String> {
    let fields = &types[record].fields;
    if values.len() != fields.len() {
        return Err(format!("expected {} fields, found {}", fields.len(), values.len()));
    }
    values.iter().zip(fields).try_for_each(|((name, value), field)| {
        if *name != field.name {
            return Err(format!("expected field `{}`, found `{name}`", field.name));
        }
        check(value, field.ty, types).map_err(|error| format!("field `{name}`: {error}"))
    })
}

fn check_case(
    name: &str,
    payload: Option<&Value>,
    cases: &[(&str, Option<InterfaceType>)],
    types: &ComponentTypes,
) -> std::result::Result<(), String> {
    let Some((_, ty)) = cases.iter().find(|(case, _)| *case == name) else {
        return Err(format!("no case `{name}`"));
    };
    match (payload, ty) {
        (Some(payload), Some(ty)) => check(payload, *ty, types).map_err(|error| format!("case `{name}`: {error}")),
        (None, None) => Ok(()),
        (Some(_), None) => Err(format!("case `{name}` has no payload")),
        (None, Some(_)) => Err(format!("case `{name}` needs a payload")),
    }
}

fn same_kind(value: &Value, ty: InterfaceType) -> bool {
    matches!(
        (value, ty),
        (Value::Variant(..), InterfaceType::Variant(_))
            | (Value::Enum(_), InterfaceType::Enum(_))
            | (Value::Option(_), InterfaceType::Option(_))
            | (Value::Result(_), InterfaceType::Result(_))
    )
}

/// The case that a variant-like value is, with its payload.
fn case_of(value: &Value) -> Option<(&str, Option<&Value>)> {
    Some(match value {
        Value::Variant(name, payload) => (name, payload.as_deref()),
        Value::Enum(name) => (name, None),
        Value::Option(None) => ("none", None),
        Value::Option(Some(payload)) => ("some", Some(payload)),
        Value::Result(Ok(payload)) => ("ok", payload.as_deref()),
        Value::Result(Err(payload)) => ("error", payload.as_deref()),
        _ => return None,
    })
}
