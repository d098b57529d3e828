//! Variants, and what is one underneath: `option`, `result`, enums.
//! CanonicalABI.md, "Loading": `load_variant`, "Storing": `store_variant`, "Flat Lifting": `lift_flat_variant`,
//! "Flat Lowering": `lower_flat_variant`.

use super::layout::{discriminant_size, max};
use super::memory::{read, write};
use super::{ComponentType, InterfaceType, Layout, Lift, Lower, NO_TYPE, TypeChecker, check, unchecked};
use crate::abi::{FlatSink, FlatSource, LiftCx, LowerCx, Result};
use crate::component::width::{Place, PointerWidth, align_to};

use wasmtime::{bail, format_err};
use wasmtime_environ::component::ComponentTypes;

/// Where a variant keeps its discriminant and its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VariantLayout {
    /// The place of the whole variant.
    pub whole: Layout,
    /// Number of cases.
    cases: usize,
    /// Bytes of the discriminant: 1, 2 or 4.
    discriminant: usize,
    /// The room of all payloads.
    payload: Layout,
}

impl VariantLayout {
    /// From the layouts of the payloads; a case without one has [`Layout::NOTHING`].
    pub const fn new(cases: &[Layout]) -> VariantLayout {
        let mut payload = Layout::NOTHING;
        let mut i = 0;
        while i < cases.len() {
            payload = payload.union(cases[i]);
            i += 1;
        }
        let discriminant = discriminant_size(cases.len());
        let whole = Layout::new(
            variant(discriminant, payload.at(PointerWidth::Bits32)),
            variant(discriminant, payload.at(PointerWidth::Bits64)),
            1 + payload.flat,
        );
        VariantLayout { whole, cases: cases.len(), discriminant, payload }
    }

    /// Bytes from the variant's start to its payload.
    #[inline]
    pub(super) fn payload(&self, width: PointerWidth) -> usize {
        align_to(self.discriminant, self.payload.at(width).align)
    }

    /// Which case comes next in the core values; below the number of cases. Its payload must be lifted next.
    #[inline]
    pub fn lift_case(&self, src: &mut FlatSource<'_>) -> Result<u32> {
        self.valid(src.next() as u32)
    }

    /// The payload of the case just lifted, and past the slots that only wider cases use.
    #[inline]
    pub fn lift_payload<T: Lift>(&self, cx: &mut LiftCx<'_>, ty: InterfaceType, src: &mut FlatSource<'_>) -> Result<T> {
        let value = T::lift(cx, ty, src)?;
        for _ in 1 + T::LAYOUT.flat..self.whole.flat {
            src.next();
        }
        Ok(value)
    }

    /// Which case the variant at `at` is; below the number of cases.
    #[inline]
    pub fn load_case(&self, cx: &LiftCx<'_>, at: usize) -> Result<u32> {
        let case = match self.discriminant {
            1 => u32::from(u8::from_le_bytes(read(cx.memory(), at)?)),
            2 => u32::from(u16::from_le_bytes(read(cx.memory(), at)?)),
            _ => u32::from_le_bytes(read(cx.memory(), at)?),
        };
        self.valid(case)
    }

    /// The payload of the variant at `at`.
    #[inline]
    pub fn load_payload<T: Lift>(&self, cx: &mut LiftCx<'_>, ty: InterfaceType, at: usize) -> Result<T> {
        T::load(cx, ty, at + self.payload(cx.width()))
    }

    /// Gives case number `case` with its payload, and zeroes where a wider case would have more.
    #[inline]
    pub fn lower_case<T: Lower>(
        &self,
        case: u32,
        payload: T,
        cx: &mut LowerCx<'_>,
        ty: InterfaceType,
        dst: &mut FlatSink<'_>,
    ) -> Result<()> {
        dst.push(u64::from(case));
        payload.lower(cx, ty, dst)?;
        dst.pad(self.whole.flat - 1 - T::LAYOUT.flat);
        Ok(())
    }

    /// Writes case number `case` with its payload. Bytes that only wider cases use keep what they held.
    #[inline]
    pub fn store_case<T: Lower>(
        &self,
        case: u32,
        payload: T,
        cx: &mut LowerCx<'_>,
        ty: InterfaceType,
        at: usize,
    ) -> Result<()> {
        match self.discriminant {
            1 => write(cx.memory(), at, (case as u8).to_le_bytes())?,
            2 => write(cx.memory(), at, (case as u16).to_le_bytes())?,
            _ => write(cx.memory(), at, case.to_le_bytes())?,
        }
        let at = at + self.payload(cx.width());
        payload.store(cx, ty, at)
    }

    #[inline]
    fn valid(&self, case: u32) -> Result<u32> {
        if (case as usize) < self.cases {
            return Ok(case);
        }
        Err(format_err!("discriminant {case} out of range [0..{}) of a variant", self.cases))
    }
}

/// A discriminant, and room for the payloads behind it.
const fn variant(discriminant: usize, payload: Place) -> Place {
    let align = max(discriminant, payload.align);
    let start = align_to(discriminant, payload.align);
    Place { size: align_to(start + payload.size, align), align }
}

/// The payload type of case number `case` of a variant type, [`NO_TYPE`] where it has none.
///
/// # Panics
/// When `ty` is no variant with such a case: it was not checked at link time.
pub fn payload_type(ty: InterfaceType, types: &ComponentTypes, case: u32) -> InterfaceType {
    let payload = match ty {
        InterfaceType::Variant(variant) => types[variant].cases.get_index(case as usize),
        other => unchecked("variant", other),
    };
    match payload {
        Some((_, payload)) => payload.unwrap_or(NO_TYPE),
        None => unchecked("a variant with more cases", ty),
    }
}

/// The error of a generated `match` for a case that [`VariantLayout`] has already excluded.
#[cold]
pub fn no_such_case<T>(case: u32) -> Result<T> {
    bail!("discriminant {case} names no case")
}

impl<T: ComponentType> ComponentType for Option<T> {
    const LAYOUT: Layout = option_layout::<T>().whole;

    fn check(ty: &InterfaceType, types: &TypeChecker<'_>) -> std::result::Result<(), String> {
        match ty {
            InterfaceType::Option(option) => {
                T::check(&types.types[*option].ty, types).map_err(|e| format!("option: {e}"))
            }
            other => Err(check::expected("option", other)),
        }
    }
}

const fn option_layout<T: ComponentType>() -> VariantLayout {
    VariantLayout::new(&[Layout::NOTHING, Layout::of::<T>()])
}

fn some_type(ty: InterfaceType, types: &ComponentTypes) -> InterfaceType {
    match ty {
        InterfaceType::Option(option) => types[option].ty,
        other => unchecked("option", other),
    }
}

impl<T: Lift> Lift for Option<T> {
    fn lift(cx: &mut LiftCx<'_>, ty: InterfaceType, src: &mut FlatSource<'_>) -> Result<Self> {
        let layout = const { option_layout::<T>() };
        match layout.lift_case(src)? {
            0 => layout.lift_payload::<()>(cx, NO_TYPE, src).map(|()| None),
            _ => layout.lift_payload(cx, some_type(ty, cx.types()), src).map(Some),
        }
    }

    fn load(cx: &mut LiftCx<'_>, ty: InterfaceType, at: usize) -> Result<Self> {
        let layout = const { option_layout::<T>() };
        match layout.load_case(cx, at)? {
            0 => Ok(None),
            _ => layout.load_payload(cx, some_type(ty, cx.types()), at).map(Some),
        }
    }
}

impl<T: Lower> Lower for Option<T> {
    fn lower(self, cx: &mut LowerCx<'_>, ty: InterfaceType, dst: &mut FlatSink<'_>) -> Result<()> {
        let layout = const { option_layout::<T>() };
        match self {
            None => layout.lower_case(0, (), cx, NO_TYPE, dst),
            Some(value) => layout.lower_case(1, value, cx, some_type(ty, cx.types()), dst),
        }
    }

    fn store(self, cx: &mut LowerCx<'_>, ty: InterfaceType, at: usize) -> Result<()> {
        let layout = const { option_layout::<T>() };
        match self {
            None => layout.store_case(0, (), cx, NO_TYPE, at),
            Some(value) => layout.store_case(1, value, cx, some_type(ty, cx.types()), at),
        }
    }
}

/// `()` stands for an absent payload, on either side.
impl<T: ComponentType, E: ComponentType> ComponentType for std::result::Result<T, E> {
    const LAYOUT: Layout = result_layout::<T, E>().whole;

    fn check(ty: &InterfaceType, types: &TypeChecker<'_>) -> std::result::Result<(), String> {
        match ty {
            InterfaceType::Result(result) => {
                let result = &types.types[*result];
                check::payload::<T>(result.ok.as_ref(), types).map_err(|e| format!("result ok: {e}"))?;
                check::payload::<E>(result.err.as_ref(), types).map_err(|e| format!("result error: {e}"))
            }
            other => Err(check::expected("result", other)),
        }
    }
}

const fn result_layout<T: ComponentType, E: ComponentType>() -> VariantLayout {
    VariantLayout::new(&[Layout::of::<T>(), Layout::of::<E>()])
}

fn ok_type(ty: InterfaceType, types: &ComponentTypes) -> InterfaceType {
    match ty {
        InterfaceType::Result(result) => types[result].ok.unwrap_or(NO_TYPE),
        other => unchecked("result", other),
    }
}

fn err_type(ty: InterfaceType, types: &ComponentTypes) -> InterfaceType {
    match ty {
        InterfaceType::Result(result) => types[result].err.unwrap_or(NO_TYPE),
        other => unchecked("result", other),
    }
}

impl<T: Lift, E: Lift> Lift for std::result::Result<T, E> {
    fn lift(cx: &mut LiftCx<'_>, ty: InterfaceType, src: &mut FlatSource<'_>) -> Result<Self> {
        let layout = const { result_layout::<T, E>() };
        match layout.lift_case(src)? {
            0 => layout.lift_payload(cx, ok_type(ty, cx.types()), src).map(Ok),
            _ => layout.lift_payload(cx, err_type(ty, cx.types()), src).map(Err),
        }
    }

    fn load(cx: &mut LiftCx<'_>, ty: InterfaceType, at: usize) -> Result<Self> {
        let layout = const { result_layout::<T, E>() };
        match layout.load_case(cx, at)? {
            0 => layout.load_payload(cx, ok_type(ty, cx.types()), at).map(Ok),
            _ => layout.load_payload(cx, err_type(ty, cx.types()), at).map(Err),
        }
    }
}

impl<T: Lower, E: Lower> Lower for std::result::Result<T, E> {
    fn lower(self, cx: &mut LowerCx<'_>, ty: InterfaceType, dst: &mut FlatSink<'_>) -> Result<()> {
        let layout = const { result_layout::<T, E>() };
        match self {
            Ok(value) => layout.lower_case(0, value, cx, ok_type(ty, cx.types()), dst),
            Err(error) => layout.lower_case(1, error, cx, err_type(ty, cx.types()), dst),
        }
    }

    fn store(self, cx: &mut LowerCx<'_>, ty: InterfaceType, at: usize) -> Result<()> {
        let layout = const { result_layout::<T, E>() };
        match self {
            Ok(value) => layout.store_case(0, value, cx, ok_type(ty, cx.types()), at),
            Err(error) => layout.store_case(1, error, cx, err_type(ty, cx.types()), at),
        }
    }
}
