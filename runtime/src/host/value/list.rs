//! `list<T>` as `Vec<T>`, and `list<T, N>` as `[T; N]`.
//! CanonicalABI.md, "Loading": `load_list*`, "Storing": `store_list*`.

use super::memory::{BYTE_LENGTH_MAX, aligned, read_pair, slice, write_pair};
use super::{ComponentType, InterfaceType, Lift, Lower, TypeChecker, check, unchecked};
use crate::abi::{FlatSink, FlatSource, LiftCx, LowerCx, Result};

use wasmtime::{bail, format_err};

impl<T: ComponentType> ComponentType for Vec<T> {
    const SIZE: usize = 8;
    const ALIGN: usize = 4;
    const FLAT: usize = 2;

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
        let pointer = src.next() as u32;
        let len = src.next() as u32;
        load_range(cx, element(ty, cx.types()), pointer, len)
    }

    fn load(cx: &mut LiftCx<'_>, ty: InterfaceType, at: usize) -> Result<Self> {
        let (pointer, len) = read_pair(cx.memory(), at)?;
        load_range(cx, element(ty, cx.types()), pointer, len)
    }
}

impl<T: Lower> Lower for Vec<T> {
    fn lower(self, cx: &mut LowerCx<'_>, ty: InterfaceType, dst: &mut FlatSink<'_>) -> Result<()> {
        let (pointer, len) = store_range(self, cx, ty)?;
        dst.push(u64::from(pointer));
        dst.push(u64::from(len));
        Ok(())
    }

    fn store(self, cx: &mut LowerCx<'_>, ty: InterfaceType, at: usize) -> Result<()> {
        let range = store_range(self, cx, ty)?;
        write_pair(cx.memory(), at, range)
    }
}

/// A list that a guest points to. Nothing is allocated before its range is known to be inside the memory.
fn load_range<T: Lift>(cx: &mut LiftCx<'_>, element: InterfaceType, pointer: u32, len: u32) -> Result<Vec<T>> {
    let len = len as usize;
    let byte_len = byte_len::<T>(len)?;
    let at = aligned(pointer, T::ALIGN)?;
    slice(cx.memory(), at, byte_len)?;
    T::load_list(cx, element, at, len)
}

/// Allocates in the guest and writes the list there: its pointer and length.
fn store_range<T: Lower>(values: Vec<T>, cx: &mut LowerCx<'_>, ty: InterfaceType) -> Result<(u32, u32)> {
    let byte_len = byte_len::<T>(values.len())?;
    // `byte_len` fits in 28 bits and no element is empty, so neither cast loses anything.
    let len = values.len() as u32;
    let pointer = cx.realloc(0, 0, T::ALIGN as u32, byte_len as u32)?;
    let element = element(ty, cx.types());
    T::store_list(values, cx, element, aligned(pointer, T::ALIGN)?)?;
    Ok((pointer, len))
}

fn element(ty: InterfaceType, types: &wasmtime_environ::component::ComponentTypes) -> InterfaceType {
    match ty {
        InterfaceType::List(list) => types[list].element,
        other => unchecked("list", other),
    }
}

/// Bytes of `len` elements in guest memory; more than a list may have is an error.
pub(super) fn byte_len<T: ComponentType>(len: usize) -> Result<usize> {
    match len.checked_mul(T::SIZE) {
        Some(bytes) if bytes <= BYTE_LENGTH_MAX => Ok(bytes),
        _ => Err(format_err!("a list of {len} elements of {} bytes is longer than {BYTE_LENGTH_MAX} bytes", T::SIZE)),
    }
}

/// Counts what `len` elements take on our side against what this lift may take. A guest can let a million list
/// headers point to the same bytes, so the size of its memory alone bounds nothing.
pub(super) fn charge<T>(cx: &mut LiftCx<'_>, len: usize) -> Result<()> {
    cx.charge(len.saturating_mul(size_of::<T>()))
}

/// [`Lift::load_list`] for elements that have no faster way.
pub(super) fn load_each<T: Lift>(cx: &mut LiftCx<'_>, ty: InterfaceType, at: usize, len: usize) -> Result<Vec<T>> {
    slice(cx.memory(), at, byte_len::<T>(len)?)?;
    charge::<T>(cx, len)?;
    let mut values = Vec::with_capacity(len);
    for i in 0..len {
        values.push(T::load(cx, ty, at + i * T::SIZE)?);
    }
    Ok(values)
}

/// [`Lower::store_list`] for elements that have no faster way.
pub(super) fn store_each<T: Lower>(values: Vec<T>, cx: &mut LowerCx<'_>, ty: InterfaceType, at: usize) -> Result<()> {
    for (i, value) in values.into_iter().enumerate() {
        value.store(cx, ty, at + i * T::SIZE)?;
    }
    Ok(())
}

impl<T: ComponentType, const N: usize> ComponentType for [T; N] {
    const SIZE: usize = N * T::SIZE;
    const ALIGN: usize = T::ALIGN;
    const FLAT: usize = N * T::FLAT;

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
