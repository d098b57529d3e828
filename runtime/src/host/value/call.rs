//! Parameters and results of a whole call: flat while there are few, through memory when there are more.
//! CanonicalABI.md, "Lifting and Lowering Values". Which maximum holds for which call is the caller's to say
//! ("Flattening": `flatten_functype`).

use super::memory::{aligned, slice};
use super::{InterfaceType, Lift, Lower};
use crate::abi::{FlatSink, FlatSource, LiftCx, LowerCx, Result};

use wasmtime_environ::component::{ComponentTypes, TypeTupleIndex};

/// Takes a call's parameters: `P::LAYOUT.flat` core values, or one pointer when those are more than `max_flat`.
pub fn lift_params<P: Lift>(
    cx: &mut LiftCx<'_>,
    params: TypeTupleIndex,
    src: &mut FlatSource<'_>,
    max_flat: usize,
) -> Result<P> {
    lift_values(cx, InterfaceType::Tuple(params), src, max_flat)
}

/// Takes a call's result, the one value of `results` or `()`, likewise.
pub fn lift_result<R: Lift>(
    cx: &mut LiftCx<'_>,
    results: TypeTupleIndex,
    src: &mut FlatSource<'_>,
    max_flat: usize,
) -> Result<R> {
    let ty = result_type(results, cx.types());
    lift_values(cx, ty, src, max_flat)
}

fn lift_values<T: Lift>(
    cx: &mut LiftCx<'_>,
    ty: InterfaceType,
    src: &mut FlatSource<'_>,
    max_flat: usize,
) -> Result<T> {
    if T::LAYOUT.flat <= max_flat {
        return T::lift(cx, ty, src);
    }
    let place = T::LAYOUT.at(cx.width());
    let at = aligned(cx.width().wrap(src.next()), place.align)?;
    slice(cx.memory(), at, place.size)?;
    T::load(cx, ty, at)
}

/// Gives a call's parameters: `P::LAYOUT.flat` core values, or, when those are more than `max_flat`, a pointer to memory
/// that the callee's `realloc` gave.
pub fn lower_params<P: Lower>(
    cx: &mut LowerCx<'_>,
    params: TypeTupleIndex,
    value: P,
    max_flat: usize,
    dst: &mut FlatSink<'_>,
) -> Result<()> {
    let ty = InterfaceType::Tuple(params);
    if P::LAYOUT.flat <= max_flat {
        return value.lower(cx, ty, dst);
    }
    let place = P::LAYOUT.at(cx.width());
    let pointer = cx.realloc(0, 0, place.align, place.size)?;
    store_at(cx, ty, value, pointer)?;
    dst.push(pointer);
    Ok(())
}

/// Gives a call's result, the one value of `results` or `()`: `R::LAYOUT.flat` core values, or, when those are more than
/// `max_flat`, to the memory at `out`, the pointer that the caller passed for it.
///
/// # Panics
/// When the result needs `out` and there is none: the core signature has it exactly then.
pub fn lower_result<R: Lower>(
    cx: &mut LowerCx<'_>,
    results: TypeTupleIndex,
    value: R,
    max_flat: usize,
    out: Option<u64>,
    dst: &mut FlatSink<'_>,
) -> Result<()> {
    let ty = result_type(results, cx.types());
    if R::LAYOUT.flat <= max_flat {
        return value.lower(cx, ty, dst);
    }
    let pointer = out.expect("a result that does not fit flat has a return pointer");
    store_at(cx, ty, value, pointer)
}

/// Writes a value to where a guest wants it, if that is aligned and inside its memory.
pub(crate) fn store_at<T: Lower>(cx: &mut LowerCx<'_>, ty: InterfaceType, value: T, pointer: u64) -> Result<()> {
    let place = T::LAYOUT.at(cx.width());
    let at = aligned(pointer, place.align)?;
    slice(cx.memory(), at, place.size)?;
    value.store(cx, ty, at)
}

/// The type of a function's result: of its one value, or the empty tuple when it has none.
pub fn result_type(results: TypeTupleIndex, types: &ComponentTypes) -> InterfaceType {
    match *types[results].types {
        [one] => one,
        _ => InterfaceType::Tuple(results),
    }
}
