//! Type checks at link time: is the component's type the one a Rust type stands for?
//! Errors are for people: `field "a": list element: expected u32, found string`.

use super::{ComponentType, InterfaceType, Lift, Lower, result_type};

use std::any::TypeId;

use wasmtime_environ::component::{ComponentTypes, TypeFuncIndex, TypeResourceTableIndex};

/// What a check needs besides the type itself.
pub struct TypeChecker<'a> {
    /// The component's types.
    pub types: &'a ComponentTypes,
    /// Which Rust type implements the resource of a table; `None` for a resource that no host type implements.
    pub resource: &'a dyn Fn(TypeResourceTableIndex) -> Option<TypeId>,
}

/// [`ComponentType::check`] as a value.
pub type Check = fn(&InterfaceType, &TypeChecker<'_>) -> Result<(), String>;

/// Do the parameters `P` and the result `R` of a host function fit the component's function type?
pub fn check_function<P: Lift, R: Lower>(function: TypeFuncIndex, types: &TypeChecker<'_>) -> Result<(), String> {
    let function = &types.types[function];
    P::check(&InterfaceType::Tuple(function.params), types).map_err(|e| format!("parameters: {e}"))?;
    R::check(&result_type(function.results, types.types), types).map_err(|e| format!("result: {e}"))
}

/// Do the parameters `P` and the result `R` fit a function that a component exports?
pub fn check_export<P: Lower, R: Lift>(function: TypeFuncIndex, types: &TypeChecker<'_>) -> Result<(), String> {
    let function = &types.types[function];
    P::check(&InterfaceType::Tuple(function.params), types).map_err(|e| format!("parameters: {e}"))?;
    R::check(&result_type(function.results, types.types), types).map_err(|e| format!("result: {e}"))
}

pub(super) fn scalar(ty: &InterfaceType, expected_ty: InterfaceType) -> Result<(), String> {
    if *ty == expected_ty {
        return Ok(());
    }
    Err(expected(kind(&expected_ty), ty))
}

pub(super) fn tuple(ty: &InterfaceType, types: &TypeChecker<'_>, elements: &[Check]) -> Result<(), String> {
    let InterfaceType::Tuple(found) = ty else {
        return Err(expected("tuple", ty));
    };
    let found = &types.types[*found].types;
    if found.len() != elements.len() {
        return Err(format!("expected {} values, found {}", elements.len(), found.len()));
    }
    for (i, (check, ty)) in elements.iter().zip(found).enumerate() {
        check(ty, types).map_err(|e| format!("value {i}: {e}"))?;
    }
    Ok(())
}

/// A record with exactly these fields in this order.
pub fn record(ty: &InterfaceType, types: &TypeChecker<'_>, fields: &[(&str, Check)]) -> Result<(), String> {
    let InterfaceType::Record(found) = ty else {
        return Err(expected("record", ty));
    };
    let found = &types.types[*found].fields;
    names("fields", fields.iter().map(|(name, _)| *name), found.iter().map(|field| field.name.as_str()))?;
    for ((name, check), field) in fields.iter().zip(found) {
        check(&field.ty, types).map_err(|e| format!("field \"{name}\": {e}"))?;
    }
    Ok(())
}

/// A variant with exactly these cases in this order; `None` for a case without payload.
pub fn variant(ty: &InterfaceType, types: &TypeChecker<'_>, cases: &[(&str, Option<Check>)]) -> Result<(), String> {
    let InterfaceType::Variant(found) = ty else {
        return Err(expected("variant", ty));
    };
    let found = &types.types[*found].cases;
    names("cases", cases.iter().map(|(name, _)| *name), found.keys().map(String::as_str))?;
    for ((name, check), payload) in cases.iter().zip(found.values()) {
        match (check, payload) {
            (Some(check), Some(ty)) => check(ty, types),
            (Some(_), None) => Err("expected a payload, found none".to_owned()),
            (None, Some(ty)) => Err(expected("no payload", ty)),
            (None, None) => Ok(()),
        }
        .map_err(|e| format!("case \"{name}\": {e}"))?;
    }
    Ok(())
}

/// An enum with exactly these cases in this order.
pub fn enumeration(ty: &InterfaceType, types: &TypeChecker<'_>, cases: &[&str]) -> Result<(), String> {
    match ty {
        InterfaceType::Enum(found) => {
            let found = types.types[*found].names.iter().map(String::as_str);
            names("cases", cases.iter().copied(), found)
        }
        other => Err(expected("enum", other)),
    }
}

/// Flags with exactly these labels in this order.
pub fn flags(ty: &InterfaceType, types: &TypeChecker<'_>, labels: &[&str]) -> Result<(), String> {
    match ty {
        InterfaceType::Flags(found) => {
            let found = types.types[*found].names.iter().map(String::as_str);
            names("labels", labels.iter().copied(), found)
        }
        other => Err(expected("flags", other)),
    }
}

/// A payload that may be absent; `T = ()` stands for none.
pub(super) fn payload<T: ComponentType>(found: Option<&InterfaceType>, types: &TypeChecker<'_>) -> Result<(), String> {
    let absent = TypeId::of::<T>() == TypeId::of::<()>();
    match (absent, found) {
        (true, None) => Ok(()),
        (true, Some(ty)) => Err(expected("no payload", ty)),
        (false, None) => Err("expected a payload, found none".to_owned()),
        (false, Some(ty)) => T::check(ty, types),
    }
}

/// The message for a type of another kind.
pub fn expected(what: &str, found: &InterfaceType) -> String {
    format!("expected {what}, found {}", kind(found))
}

/// Two lists of names must be equal; the error names the first place where they part.
fn names<'a>(
    what: &str,
    ours: impl ExactSizeIterator<Item = &'a str>,
    theirs: impl ExactSizeIterator<Item = &'a str>,
) -> Result<(), String> {
    let (our_len, their_len) = (ours.len(), theirs.len());
    for (our, their) in ours.zip(theirs) {
        if our != their {
            return Err(format!("{what} differ: expected \"{our}\", found \"{their}\""));
        }
    }
    if our_len != their_len {
        return Err(format!("expected {our_len} {what}, found {their_len}"));
    }
    Ok(())
}

/// WIT's word for a type.
fn kind(ty: &InterfaceType) -> &'static str {
    match ty {
        InterfaceType::Bool => "bool",
        InterfaceType::S8 => "s8",
        InterfaceType::U8 => "u8",
        InterfaceType::S16 => "s16",
        InterfaceType::U16 => "u16",
        InterfaceType::S32 => "s32",
        InterfaceType::U32 => "u32",
        InterfaceType::S64 => "s64",
        InterfaceType::U64 => "u64",
        InterfaceType::Float32 => "f32",
        InterfaceType::Float64 => "f64",
        InterfaceType::Char => "char",
        InterfaceType::String => "string",
        InterfaceType::Record(_) => "record",
        InterfaceType::Variant(_) => "variant",
        InterfaceType::List(_) => "list",
        InterfaceType::Tuple(_) => "tuple",
        InterfaceType::Map(_) => "map",
        InterfaceType::Flags(_) => "flags",
        InterfaceType::Enum(_) => "enum",
        InterfaceType::Option(_) => "option",
        InterfaceType::Result(_) => "result",
        InterfaceType::Own(_) => "owned handle",
        InterfaceType::Borrow(_) => "borrowed handle",
        InterfaceType::Future(_) => "future",
        InterfaceType::Stream(_) => "stream",
        InterfaceType::ErrorContext(_) => "error-context",
        InterfaceType::FixedLengthList(_) => "fixed-length list",
    }
}
