//! Calls of single core functions from the host: realloc, destructors, callbacks that run inside a built-in.
//!
//! Everything else runs in the pump. The functions' types are fixed by component validation.
#![expect(unsafe_code, reason = "calls core functions without checking their type again; it saves half of the call")]

use super::Result;
use super::state::State;
use wasmtime::{Func, StoreContextMut, ThrownException, ValRaw, bail};

/// An exception is a trap for everybody but the component that throws it (CanonicalABI.md, `call_and_trap_on_throw`).
pub(super) const UNCAUGHT: &str = "uncaught exception propagated out of component";

fn call<const N: usize>(mut store: StoreContextMut<'_, State>, func: Func, args: [u32; N]) -> Result<u32> {
    let mut values = args.map(ValRaw::u32);
    // SAFETY: the callers below pass functions whose core type component validation has fixed to `N` parameters of type i32
    // and at most one result of type i32, and `values` has room for both (`N` is at least 1).
    let called = unsafe { func.call_unchecked(&mut store, &mut values as *mut [ValRaw]) };
    match called {
        Ok(()) => Ok(values[0].get_u32()),
        // It must not go on in whatever called the host.
        Err(error) if error.is::<ThrownException>() => {
            let _ = store.take_pending_exception();
            bail!("{UNCAUGHT}")
        }
        Err(error) => Err(error),
    }
}

/// `realloc: (old_ptr, old_len, align, new_len) -> ptr`
pub(crate) fn realloc(store: StoreContextMut<'_, State>, func: Func, args: [u32; 4]) -> Result<u32> {
    call(store, func, args)
}

/// A destructor: `(rep)`.
pub(crate) fn destructor(store: StoreContextMut<'_, State>, func: Func, rep: u32) -> Result<()> {
    call(store, func, [rep]).map(drop)
}

/// A callback: `(event, p1, p2) -> code`.
pub(crate) fn callback(store: StoreContextMut<'_, State>, func: Func, event: [u32; 3]) -> Result<u32> {
    call(store, func, event)
}
