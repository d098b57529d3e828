//! `list<T>` as `Vec<T>`, and `list<T, N>` as `[T; N]`.
//! CanonicalABI.md, "Loading": `load_list*`, "Storing": `store_list*`.

use super::memory::{BYTE_LENGTH_MAX, Range, aligned, lift_pair, load_pair, lower_pair, slice, store_pair};
use super::{ComponentType, InterfaceType, Layout, Lift, Lower, TypeChecker, check, unchecked};
use crate::abi::{FlatSink, FlatSource, LiftCx, LowerCx, Result};

use wasmtime::{bail, format_err};

impl<T: ComponentType> ComponentType for Vec<T> {
    const LAYOUT: Layout = Layout::RANGE;

    fn check(ty: &InterfaceType, types: &TypeChecker<'_>) -> std::result::Result<(), String> {
        match ty {
            InterfaceType::List(list) => {
                T::check(&types.types[*list].element, types).map_err(|e| format!("list element: {e}"))
            }
            other => Err(check::expected("list", other)),
        }
    }
}

impl<T: Lift> Lift for Vec<T> {
    fn lift(cx: &mut LiftCx<'_>, ty: InterfaceType, src: &mut FlatSource<'_>) -> Result<Self> {
        let range = lift_pair(cx, src);
        load_range(cx, element(ty, cx.types()), range)
    }

    fn load(cx: &mut LiftCx<'_>, ty: InterfaceType, at: usize) -> Result<Self> {
        let range = load_pair(cx, at)?;
        load_range(cx, element(ty, cx.types()), range)
    }
}

impl<T: Lower> Lower for Vec<T> {
    fn lower(self, cx: &mut LowerCx<'_>, ty: InterfaceType, dst: &mut FlatSink<'_>) -> Result<()> {
        let range = store_range(self, cx, ty)?;
        lower_pair(dst, range);
        Ok(())
    }

    fn store(self, cx: &mut LowerCx<'_>, ty: InterfaceType, at: usize) -> Result<()> {
        let range = store_range(self, cx, ty)?;
        store_pair(cx, at, range)
    }
}

/// A list that a guest points to. Nothing is allocated before its range is known to be inside the memory.
fn load_range<T: Lift>(cx: &mut LiftCx<'_>, element: InterfaceType, (pointer, len): Range) -> Result<Vec<T>> {
    let place = T::LAYOUT.at(cx.width());
    let byte_len = byte_len(len, place.size)?;
    let at = aligned(pointer, place.align)?;
    slice(cx.memory(), at, byte_len)?;
    T::load_list(cx, element, at, len as usize)
}

/// Allocates in the guest and writes the list there: its pointer and length.
fn store_range<T: Lower>(values: Vec<T>, cx: &mut LowerCx<'_>, ty: InterfaceType) -> Result<Range> {
    let place = T::LAYOUT.at(cx.width());
    let len = values.len() as u64;
    let byte_len = byte_len(len, place.size)?;
    let pointer = cx.realloc(0, 0, place.align, byte_len)?;
    let element = element(ty, cx.types());
    T::store_list(values, cx, element, aligned(pointer, place.align)?)?;
    Ok((pointer, len))
}

fn element(ty: InterfaceType, types: &wasmtime_environ::component::ComponentTypes) -> InterfaceType {
    match ty {
        InterfaceType::List(list) => types[list].element,
        other => unchecked("list", other),
    }
}

/// Bytes of `len` elements of `size` bytes in guest memory; more than a list may have is an error.
pub(super) fn byte_len(len: u64, size: usize) -> Result<usize> {
    match len.checked_mul(size as u64) {
        Some(bytes) if bytes <= BYTE_LENGTH_MAX as u64 => Ok(bytes as usize),
        _ => Err(format_err!("a list of {len} elements of {size} bytes is longer than {BYTE_LENGTH_MAX} bytes")),
    }
}

/// Counts what `len` elements take on our side against what this lift may take. A guest can let a million list
/// headers point to the same bytes, so the size of its memory alone bounds nothing.
pub(super) fn charge<T>(cx: &mut LiftCx<'_>, len: usize) -> Result<()> {
    cx.charge(len.saturating_mul(size_of::<T>()))
}

/// [`Lift::load_list`] for elements that have no faster way.
pub(super) fn load_each<T: Lift>(cx: &mut LiftCx<'_>, ty: InterfaceType, at: usize, len: usize) -> Result<Vec<T>> {
    let size = T::LAYOUT.at(cx.width()).size;
    slice(cx.memory(), at, byte_len(len as u64, size)?)?;
    charge::<T>(cx, len)?;
    let mut values = Vec::with_capacity(len);
    for i in 0..len {
        values.push(T::load(cx, ty, at + i * size)?);
    }
    Ok(values)
}

/// [`Lower::store_list`] for elements that have no faster way.
pub(super) fn store_each<T: Lower>(values: Vec<T>, cx: &mut LowerCx<'_>, ty: InterfaceType, at: usize) -> Result<()> {
    let size = T::LAYOUT.at(cx.width()).size;
    for (i, value) in values.into_iter().enumerate() {
        value.store(cx, ty, at + i * size)?;
    }
    Ok(())
}

impl<T: ComponentType, const N: usize> ComponentType for [T; N] {
    const LAYOUT: Layout = T::LAYOUT.array(N);

    fn check(ty: &InterfaceType, types: &TypeChecker<'_>) -> std::result::Result<(), String> {
        match ty {
            InterfaceType::FixedLengthList(list) if types.types[*list].size as usize == N => {
                T::check(&types.types[*list].element, types).map_err(|e| format!("list element: {e}"))
            }
            InterfaceType::FixedLengthList(list) => {
                Err(format!("expected a list of {N} elements, found one of {}", types.types[*list].size))
            }
            other => Err(check::expected("fixed-length list", other)),
        }
    }
}

impl<T: Lift, const N: usize> Lift for [T; N] {
    fn lift(cx: &mut LiftCx<'_>, ty: InterfaceType, src: &mut FlatSource<'_>) -> Result<Self> {
        let element = fixed_element(ty, cx.types());
        let values: Result<Vec<T>> = (0..N).map(|_| T::lift(cx, element, src)).collect();
        exactly(values?)
    }

    fn load(cx: &mut LiftCx<'_>, ty: InterfaceType, at: usize) -> Result<Self> {
        let element = fixed_element(ty, cx.types());
        exactly(T::load_list(cx, element, at, N)?)
    }
}

impl<T: Lower, const N: usize> Lower for [T; N] {
    fn lower(self, cx: &mut LowerCx<'_>, ty: InterfaceType, dst: &mut FlatSink<'_>) -> Result<()> {
        let element = fixed_element(ty, cx.types());
        self.into_iter().try_for_each(|value| value.lower(cx, element, dst))
    }

    fn store(self, cx: &mut LowerCx<'_>, ty: InterfaceType, at: usize) -> Result<()> {
        let element = fixed_element(ty, cx.types());
        T::store_list(self.into(), cx, element, at)
    }
}

fn fixed_element(ty: InterfaceType, types: &wasmtime_environ::component::ComponentTypes) -> InterfaceType {
    match ty {
        InterfaceType::FixedLengthList(list) => types[list].element,
        other => unchecked("fixed-length list", other),
    }
}

fn exactly<T, const N: usize>(values: Vec<T>) -> Result<[T; N]> {
    match values.try_into() {
        Ok(array) => Ok(array),
        Err(values) => bail!("a list of {N} elements came with {}", Vec::len(&values)),
    }
}
