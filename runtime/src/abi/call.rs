//! Calls of single core functions from the host: realloc, destructors, callbacks that run inside a built-in.
//!
//! Everything else runs in the pump. The functions' types are fixed by component validation.
#![expect(unsafe_code, reason = "calls core functions without checking their type again; it saves half of the call")]

use super::Result;
use super::state::State;
use crate::component::width::PointerWidth;
use wasmtime::{Func, StoreContextMut, ThrownException, ValRaw, bail};

/// An exception is a trap for everybody but the component that throws it (CanonicalABI.md, `call_and_trap_on_throw`).
pub(super) const UNCAUGHT: &str = "uncaught exception propagated out of component";

/// Gives the first result, if the function has one; else its first argument.
fn call<const N: usize>(mut store: StoreContextMut<'_, State>, func: Func, mut values: [ValRaw; N]) -> Result<ValRaw> {
    // SAFETY: the callers below pass functions whose core type component validation has fixed to parameters of the types
    // in `values`, `N` at most, and at most one result, and `values` has room for both (`N` is at least 1).
    let called = unsafe { func.call_unchecked(&mut store, &mut values as *mut [ValRaw]) };
    match called {
        Ok(()) => Ok(values[0]),
        // It must not go on in whatever called the host.
        Err(error) if error.is::<ThrownException>() => {
            let _ = store.take_pending_exception();
            bail!("{UNCAUGHT}")
        }
        Err(error) => Err(error),
    }
}

/// `realloc: (old_ptr, old_len, align, new_len) -> ptr`, all as wide as the memory's pointers.
pub(crate) fn realloc(
    store: StoreContextMut<'_, State>,
    func: Func,
    width: PointerWidth,
    args: [u64; 4],
) -> Result<u64> {
    match width {
        PointerWidth::Bits32 => {
            let ptr = call(store, func, args.map(|arg| ValRaw::u32(arg as u32)))?;
            Ok(u64::from(ptr.get_u32()))
        }
        PointerWidth::Bits64 => Ok(call(store, func, args.map(ValRaw::u64))?.get_u64()),
    }
}

/// In the middle of long work of ours: ends the slice if it is used up. Nobody enters the zone meanwhile.
///
/// An error is the zone's end: it was killed, or its guests have had all the slices that they may.
#[cold]
pub(crate) fn give_way(store: StoreContextMut<'_, State>) -> Result<()> {
    let function = store.data().give_way.expect("the shims are instantiated first");
    // One value more than it takes.
    call(store, function, [ValRaw::u32(0)]).map(drop)
}

/// A destructor: `(rep)`.
pub(crate) fn destructor(store: StoreContextMut<'_, State>, func: Func, rep: u32) -> Result<()> {
    call(store, func, [ValRaw::u32(rep)]).map(drop)
}

/// A callback: `(event, p1, p2) -> code`.
pub(crate) fn callback(store: StoreContextMut<'_, State>, func: Func, event: [u32; 3]) -> Result<u32> {
    Ok(call(store, func, event.map(ValRaw::u32))?.get_u32())
}
