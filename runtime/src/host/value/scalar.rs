//! bool, integers, floats and char.
//! CanonicalABI.md, "Loading", "Storing", "Flat Lifting" and "Flat Lowering", the scalar cases.
//!
//! A flat slot has 64 bits with the value in the low ones, so a narrower scalar in a slot that a variant widened
//! needs no conversion: taking the low bits is the wrap, and zero-extending is the way back.

use super::memory::{read, slice, slice_mut, write};
use super::{ComponentType, InterfaceType, Layout, Lift, Lower, TypeChecker, check, list};
use crate::abi::{FlatSink, FlatSource, LiftCx, LowerCx, Result};

use wasmtime::format_err;

/// A scalar whose bytes in memory are those of `$bits`. `from` and `to` convert between the two: identity for integers,
/// NaN canonicalisation for floats. `slot` widens the bits to a flat slot. `load_list` and `store_list` do a whole
/// list at once.
macro_rules! number {
    (
        $rust:ty, $bits:ty, $wit:ident,
        from: $from:expr, to: $to:expr, slot: $slot:expr,
        load_list: $load_list:expr, store_list: $store_list:expr
    ) => {
        impl ComponentType for $rust {
            const LAYOUT: Layout = Layout::scalar(size_of::<$bits>());

            fn check(ty: &InterfaceType, _: &TypeChecker<'_>) -> std::result::Result<(), String> {
                check::scalar(ty, InterfaceType::$wit)
            }
        }

        impl Lift for $rust {
            #[inline]
            fn lift(_: &mut LiftCx<'_>, _: InterfaceType, src: &mut FlatSource<'_>) -> Result<Self> {
                // The low bits are the value, whatever the slot was joined with.
                Ok($from(src.next() as $bits))
            }

            #[inline]
            fn load(cx: &mut LiftCx<'_>, _: InterfaceType, at: usize) -> Result<Self> {
                Ok($from(<$bits>::from_le_bytes(read(cx.memory(), at)?)))
            }

            fn load_list(cx: &mut LiftCx<'_>, _: InterfaceType, at: usize, len: usize) -> Result<Vec<Self>> {
                let byte_len = list::byte_len(len as u64, size_of::<$bits>())?;
                list::charge::<Self>(cx, len)?;
                Ok($load_list(slice(cx.memory(), at, byte_len)?))
            }
        }

        impl Lower for $rust {
            #[inline]
            fn lower(self, _: &mut LowerCx<'_>, _: InterfaceType, dst: &mut FlatSink<'_>) -> Result<()> {
                dst.push($slot($to(self)));
                Ok(())
            }

            #[inline]
            fn store(self, cx: &mut LowerCx<'_>, _: InterfaceType, at: usize) -> Result<()> {
                write(cx.memory(), at, <$bits>::to_le_bytes($to(self)))
            }

            fn store_list(values: Vec<Self>, cx: &mut LowerCx<'_>, _: InterfaceType, at: usize) -> Result<()> {
                let byte_len = list::byte_len(values.len() as u64, size_of::<$bits>())?;
                $store_list(slice_mut(cx.memory(), at, byte_len)?, values);
                Ok(())
            }
        }
    };
    // Lists of anything but bytes: one element after the other, which compiles to vector code.
    ($rust:ty, $bits:ty, $wit:ident, from: $from:expr, to: $to:expr, slot: $slot:expr) => {
        number!(
            $rust, $bits, $wit,
            from: $from, to: $to, slot: $slot,
            load_list: |bytes: &[u8]| {
                let (chunks, _) = bytes.as_chunks::<{ size_of::<$bits>() }>();
                chunks.iter().map(|chunk| $from(<$bits>::from_le_bytes(*chunk))).collect()
            },
            store_list: |bytes: &mut [u8], values: Vec<$rust>| {
                let (chunks, _) = bytes.as_chunks_mut::<{ size_of::<$bits>() }>();
                for (chunk, value) in chunks.iter_mut().zip(values) {
                    *chunk = <$bits>::to_le_bytes($to(value));
                }
            }
        );
    };
}

macro_rules! integer {
    ($rust:ty, $wit:ident, $slot:expr $(, $($list:tt)+)?) => {
        number!($rust, $rust, $wit, from: |v: $rust| v, to: |v: $rust| v, slot: $slot $(, $($list)+)?);
    };
}

integer!(u8, U8, u64::from,
    load_list: <[u8]>::to_vec,
    store_list: |bytes: &mut [u8], values: Vec<u8>| bytes.copy_from_slice(&values)
);
integer!(u16, U16, u64::from);
integer!(u32, U32, u64::from);
integer!(u64, U64, |v: u64| v);
// A signed value is sign-extended to its core type and no further: the rest of an i32's slot is zero.
integer!(i8, S8, |v: i8| u64::from(v as i32 as u32));
integer!(i16, S16, |v: i16| u64::from(v as i32 as u32));
integer!(i32, S32, |v: i32| u64::from(v as u32));
integer!(i64, S64, |v: i64| v as u64);
number!(f32, u32, Float32, from: f32_from_bits, to: f32_to_bits, slot: u64::from);
number!(f64, u64, Float64, from: f64_from_bits, to: f64_to_bits, slot: |bits: u64| bits);

/// The one NaN that crosses a border. CanonicalABI.md, "Loading": `CANONICAL_FLOAT32_NAN`.
const CANONICAL_NAN_F32: u32 = 0x7fc0_0000;
/// The same for f64: `CANONICAL_FLOAT64_NAN`.
const CANONICAL_NAN_F64: u64 = 0x7ff8_0000_0000_0000;

#[inline]
fn f32_from_bits(bits: u32) -> f32 {
    let value = f32::from_bits(bits);
    if value.is_nan() { f32::from_bits(CANONICAL_NAN_F32) } else { value }
}

#[inline]
fn f64_from_bits(bits: u64) -> f64 {
    let value = f64::from_bits(bits);
    if value.is_nan() { f64::from_bits(CANONICAL_NAN_F64) } else { value }
}

/// Lowering may scramble NaNs; we take the deterministic choice, the canonical one.
#[inline]
fn f32_to_bits(value: f32) -> u32 {
    if value.is_nan() { CANONICAL_NAN_F32 } else { value.to_bits() }
}

#[inline]
fn f64_to_bits(value: f64) -> u64 {
    if value.is_nan() { CANONICAL_NAN_F64 } else { value.to_bits() }
}

impl ComponentType for bool {
    const LAYOUT: Layout = Layout::scalar(1);

    fn check(ty: &InterfaceType, _: &TypeChecker<'_>) -> std::result::Result<(), String> {
        check::scalar(ty, InterfaceType::Bool)
    }
}

impl Lift for bool {
    fn lift(_: &mut LiftCx<'_>, _: InterfaceType, src: &mut FlatSource<'_>) -> Result<Self> {
        Ok(src.next() as u32 != 0)
    }

    fn load(cx: &mut LiftCx<'_>, _: InterfaceType, at: usize) -> Result<Self> {
        let [byte] = read(cx.memory(), at)?;
        Ok(byte != 0)
    }
}

impl Lower for bool {
    fn lower(self, _: &mut LowerCx<'_>, _: InterfaceType, dst: &mut FlatSink<'_>) -> Result<()> {
        dst.push(u64::from(self));
        Ok(())
    }

    fn store(self, cx: &mut LowerCx<'_>, _: InterfaceType, at: usize) -> Result<()> {
        write(cx.memory(), at, [u8::from(self)])
    }
}

impl ComponentType for char {
    const LAYOUT: Layout = Layout::scalar(4);

    fn check(ty: &InterfaceType, _: &TypeChecker<'_>) -> std::result::Result<(), String> {
        check::scalar(ty, InterfaceType::Char)
    }
}

impl Lift for char {
    fn lift(_: &mut LiftCx<'_>, _: InterfaceType, src: &mut FlatSource<'_>) -> Result<Self> {
        char_from_u32(src.next() as u32)
    }

    fn load(cx: &mut LiftCx<'_>, _: InterfaceType, at: usize) -> Result<Self> {
        char_from_u32(u32::from_le_bytes(read(cx.memory(), at)?))
    }
}

impl Lower for char {
    fn lower(self, _: &mut LowerCx<'_>, _: InterfaceType, dst: &mut FlatSink<'_>) -> Result<()> {
        dst.push(u64::from(u32::from(self)));
        Ok(())
    }

    fn store(self, cx: &mut LowerCx<'_>, _: InterfaceType, at: usize) -> Result<()> {
        write(cx.memory(), at, u32::from(self).to_le_bytes())
    }
}

fn char_from_u32(code_point: u32) -> Result<char> {
    char::from_u32(code_point)
        .ok_or_else(|| format_err!("{code_point:#x} is not a char: a surrogate or beyond 0x10ffff"))
}
