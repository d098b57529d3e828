//! `own<R>` and `borrow<R>` of resources that the host implements: a shared Rust value behind a handle.
//! CanonicalABI.md, "Loading": `lift_own`, `lift_borrow`, "Storing": `lower_own`, `lower_borrow`. The tables are the
//! context's; here only the representation gets its Rust type back.

use super::memory::{read, write};
use super::{ComponentType, InterfaceType, Layout, Lift, Lower, TypeChecker, check, unchecked};
use crate::abi::{FlatSink, FlatSource, LiftCx, LowerCx, Result};

use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

use wasmtime_environ::component::TypeResourceTableIndex;

/// An owned handle to a resource whose representation is the Rust type `T`. As a parameter, the guest has given it
/// away; as a result, the guest gets it and `T` lives until the guest drops the handle (and nobody here holds the
/// `Rc`). Not `Clone`: a handle is moved. Who needs the value elsewhere too clones the `Rc`.
pub struct Own<T>(pub Rc<T>);

/// A handle that the guest lends for the time of the call. Holding on to the `Rc` keeps the value, not the handle.
pub struct Borrow<T>(pub Rc<T>);

impl<T> Own<T> {
    /// Makes a resource of `value`.
    pub fn new(value: T) -> Own<T> {
        Own(Rc::new(value))
    }
}

macro_rules! handle {
    ($name:ident, $case:ident, $method:ident, $what:literal) => {
        impl<T> Deref for $name<T> {
            type Target = T;

            fn deref(&self) -> &T {
                &self.0
            }
        }

        /// The type's name; what is in the resource is its own business.
        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}<{}>", stringify!($name), type_name::<T>())
            }
        }

        impl<T: 'static> ComponentType for $name<T> {
            const LAYOUT: Layout = Layout::scalar(4);

            fn check(ty: &InterfaceType, types: &TypeChecker<'_>) -> std::result::Result<(), String> {
                match ty {
                    InterfaceType::$case(table) => check_resource::<T>(*table, types),
                    other => Err(check::expected($what, other)),
                }
            }
        }

        impl<T: 'static> Lift for $name<T> {
            fn lift(cx: &mut LiftCx<'_>, ty: InterfaceType, src: &mut FlatSource<'_>) -> Result<Self> {
                let handle = src.next() as u32;
                match ty {
                    InterfaceType::$case(table) => Ok($name(representation(cx.$method(table, handle)?))),
                    other => unchecked($what, other),
                }
            }

            fn load(cx: &mut LiftCx<'_>, ty: InterfaceType, at: usize) -> Result<Self> {
                let handle = u32::from_le_bytes(read(cx.memory(), at)?);
                match ty {
                    InterfaceType::$case(table) => Ok($name(representation(cx.$method(table, handle)?))),
                    other => unchecked($what, other),
                }
            }
        }

        impl<T: 'static> Lower for $name<T> {
            fn lower(self, cx: &mut LowerCx<'_>, ty: InterfaceType, dst: &mut FlatSink<'_>) -> Result<()> {
                match ty {
                    InterfaceType::$case(table) => dst.push(u64::from(cx.$method(table, self.0)?)),
                    other => unchecked($what, other),
                }
                Ok(())
            }

            fn store(self, cx: &mut LowerCx<'_>, ty: InterfaceType, at: usize) -> Result<()> {
                match ty {
                    InterfaceType::$case(table) => {
                        let handle = cx.$method(table, self.0)?;
                        write(cx.memory(), at, handle.to_le_bytes())
                    }
                    other => unchecked($what, other),
                }
            }
        }
    };
}

handle!(Own, Own, own, "owned handle");
handle!(Borrow, Borrow, borrow, "borrowed handle");

fn check_resource<T: 'static>(
    table: TypeResourceTableIndex,
    types: &TypeChecker<'_>,
) -> std::result::Result<(), String> {
    match (types.resource)(table) {
        Some(found) if found == TypeId::of::<T>() => Ok(()),
        Some(_) => Err(format!("expected the resource implemented by `{}`, found another one", type_name::<T>())),
        None => Err(format!(
            "expected the resource implemented by `{}`, found one that the host does not implement",
            type_name::<T>()
        )),
    }
}

/// A table holds only what its resource type made, and `check_resource` tied that to `T`.
fn representation<T: 'static>(value: Rc<dyn Any>) -> Rc<T> {
    match value.downcast::<T>() {
        Ok(value) => value,
        Err(_) => panic!("a resource table checked for `{}` held something else", type_name::<T>()),
    }
}
