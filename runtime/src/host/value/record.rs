//! Records and tuples: values one behind the other.
//! CanonicalABI.md, "Loading": `load_record`, "Storing": `store_record`. A tuple is a record without names
//! ("Despecialization").

use super::{ComponentType, InterfaceType, Layout, Lift, Lower, TypeChecker, check, unchecked};
use crate::abi::{FlatSink, FlatSource, LiftCx, LowerCx, Result};
use crate::component::width::PointerWidth;

use wasmtime_environ::component::{ComponentTypes, RecordField};

/// The fields of a record type, in order.
///
/// # Panics
/// When `ty` is no record: it was not checked at link time.
pub fn fields(ty: InterfaceType, types: &ComponentTypes) -> &[RecordField] {
    match ty {
        InterfaceType::Record(record) => &types[record].fields,
        other => unchecked("record", other),
    }
}

/// Loads the field that comes next after `at`, and moves `at` behind it.
#[inline]
pub fn load_field<T: Lift>(cx: &mut LiftCx<'_>, ty: InterfaceType, at: &mut usize) -> Result<T> {
    let start = next::<T>(cx.width(), at);
    T::load(cx, ty, start)
}

/// Stores the field that comes next after `at`, and moves `at` behind it.
#[inline]
pub fn store_field<T: Lower>(value: T, cx: &mut LowerCx<'_>, ty: InterfaceType, at: &mut usize) -> Result<()> {
    let start = next::<T>(cx.width(), at);
    value.store(cx, ty, start)
}

/// The record itself is aligned to its strictest field, so aligning the address aligns the offset.
#[inline]
fn next<T: ComponentType>(width: PointerWidth, at: &mut usize) -> usize {
    T::LAYOUT.at(width).next_field(at)
}

fn elements(ty: InterfaceType, types: &ComponentTypes) -> &[InterfaceType] {
    match ty {
        InterfaceType::Tuple(tuple) => &types[tuple].types,
        other => unchecked("tuple", other),
    }
}

/// No value: the result of a function without one, the payload of a case without one, parameters where none are.
impl ComponentType for () {
    const LAYOUT: Layout = Layout::NOTHING;

    fn check(ty: &InterfaceType, types: &TypeChecker<'_>) -> std::result::Result<(), String> {
        match ty {
            InterfaceType::Tuple(tuple) if types.types[*tuple].types.is_empty() => Ok(()),
            other => Err(check::expected("no value", other)),
        }
    }
}

impl Lift for () {
    fn lift(_: &mut LiftCx<'_>, _: InterfaceType, _: &mut FlatSource<'_>) -> Result<Self> {
        Ok(())
    }

    fn load(_: &mut LiftCx<'_>, _: InterfaceType, _: usize) -> Result<Self> {
        Ok(())
    }
}

impl Lower for () {
    fn lower(self, _: &mut LowerCx<'_>, _: InterfaceType, _: &mut FlatSink<'_>) -> Result<()> {
        Ok(())
    }

    fn store(self, _: &mut LowerCx<'_>, _: InterfaceType, _: usize) -> Result<()> {
        Ok(())
    }
}

macro_rules! tuple {
    ($($name:ident $index:tt),+) => {
        impl<$($name: ComponentType),+> ComponentType for ($($name,)+) {
            const LAYOUT: Layout = Layout::record(&[$(Layout::of::<$name>()),+]);

            fn check(ty: &InterfaceType, types: &TypeChecker<'_>) -> std::result::Result<(), String> {
                check::tuple(ty, types, &[$(<$name as ComponentType>::check),+])
            }
        }

        impl<$($name: Lift),+> Lift for ($($name,)+) {
            fn lift(cx: &mut LiftCx<'_>, ty: InterfaceType, src: &mut FlatSource<'_>) -> Result<Self> {
                let types = elements(ty, cx.types());
                Ok(($($name::lift(cx, types[$index], src)?,)+))
            }

            fn load(cx: &mut LiftCx<'_>, ty: InterfaceType, at: usize) -> Result<Self> {
                let types = elements(ty, cx.types());
                let mut at = at;
                Ok(($(load_field::<$name>(cx, types[$index], &mut at)?,)+))
            }
        }

        impl<$($name: Lower),+> Lower for ($($name,)+) {
            fn lower(self, cx: &mut LowerCx<'_>, ty: InterfaceType, dst: &mut FlatSink<'_>) -> Result<()> {
                let types = elements(ty, cx.types());
                $(self.$index.lower(cx, types[$index], dst)?;)+
                Ok(())
            }

            fn store(self, cx: &mut LowerCx<'_>, ty: InterfaceType, at: usize) -> Result<()> {
                let types = elements(ty, cx.types());
                let mut at = at;
                $(store_field(self.$index, cx, types[$index], &mut at)?;)+
                Ok(())
            }
        }
    };
}

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15);
