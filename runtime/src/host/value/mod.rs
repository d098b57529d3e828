//! Component values as Rust values: a trait that knows a type's layout, one that reads it from a guest, one that
//! writes it to a guest.
//!
//! The rules are CanonicalABI.md, "Lifting and Lowering Values" and the sections it leans on; each function names the
//! one it follows. Layouts are constants of the Rust type and are compared with the component's own type
//! once, at link time, by [`ComponentType::check`]. After that nothing here looks at a name again: a type that does
//! not fit later is our fault and asserts, while whatever a guest can do wrong is an `Err`, which traps it.
//!
//! Types from WIT (records, variants, enums, flags) get their impls from `interflow_macros::host!`; the functions and
//! structs such an impl calls are in [`layout`], [`check`], [`record`] and [`variant`].
//! Knows nothing of tasks, streams or stores: memory, `realloc` and handle tables are behind [`LiftCx`] and
//! [`LowerCx`].

mod call;
pub mod check;
pub mod dynamic;
mod failure;
mod handle;
pub mod layout;
mod list;
mod memory;
pub mod record;
mod scalar;
mod string;
pub mod variant;

#[cfg(test)]
mod tests;

use crate::abi::{FlatSink, FlatSource, LiftCx, LowerCx, Result};

pub(crate) use call::store_at;
pub use call::{lift_params, lift_result, lower_params, lower_result, result_type};
pub use check::{TypeChecker, check_export, check_function};
pub use failure::{Failure, OrTrap};
pub use handle::{Borrow, Own};
pub use layout::Layout;
pub use wasmtime_environ::component::InterfaceType;

/// A Rust type that stands for a component-model type.
pub trait ComponentType: 'static + Sized {
    /// What a value takes in memory, and how many core values it is when passed without.
    const LAYOUT: Layout;

    /// Is `ty` this type? The error says where and how it differs, for the link error message.
    fn check(ty: &InterfaceType, types: &TypeChecker<'_>) -> std::result::Result<(), String>;
}

/// A value that can be taken from a guest (CanonicalABI.md, "Loading" and "Flat Lifting").
///
/// `ty` is the component's type for the value; it has passed [`ComponentType::check`].
pub trait Lift: ComponentType {
    /// Takes the value from core values: exactly `LAYOUT.flat` of them, also when it fails to use all.
    fn lift(cx: &mut LiftCx<'_>, ty: InterfaceType, src: &mut FlatSource<'_>) -> Result<Self>;

    /// Takes the value from memory at `at`, which is a multiple of its alignment. Out of bounds is an `Err`.
    fn load(cx: &mut LiftCx<'_>, ty: InterfaceType, at: usize) -> Result<Self>;

    /// Takes `len` values that lie one behind the other from `at`; `ty` is the type of one.
    fn load_list(cx: &mut LiftCx<'_>, ty: InterfaceType, at: usize, len: usize) -> Result<Vec<Self>> {
        list::load_each(cx, ty, at, len)
    }
}

/// A value that can be given to a guest (CanonicalABI.md, "Storing" and "Flat Lowering").
///
/// `ty` is the component's type for the value; it has passed [`ComponentType::check`].
pub trait Lower: ComponentType {
    /// Gives the value as exactly `LAYOUT.flat` core values.
    fn lower(self, cx: &mut LowerCx<'_>, ty: InterfaceType, dst: &mut FlatSink<'_>) -> Result<()>;

    /// Writes the value to memory at `at`, which is a multiple of its alignment. Out of bounds is an `Err`.
    fn store(self, cx: &mut LowerCx<'_>, ty: InterfaceType, at: usize) -> Result<()>;

    /// Writes the values one behind the other from `at`; `ty` is the type of one.
    fn store_list(values: Vec<Self>, cx: &mut LowerCx<'_>, ty: InterfaceType, at: usize) -> Result<()> {
        list::store_each(values, cx, ty, at)
    }
}

/// The type handed on where a case has no payload. Only `()` gets it, and `()` does not look.
pub const NO_TYPE: InterfaceType = InterfaceType::Bool;

/// A component type reached a Rust type that `check` would have refused.
#[cold]
fn unchecked(expected: &str, ty: InterfaceType) -> ! {
    panic!("a value of {expected} was linked against {ty:?} without a type check")
}
