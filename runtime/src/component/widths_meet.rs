//! Which calls between 32-bit and 64-bit pointers no adapter can be made for.
//!
//! `wasmtime-environ` 48 takes the callee's pointers for the caller's where a call in the async ABI gives its result through
//! memory (`async_return_signature`), and then asserts that they are not: the process would end. So this is asked first. It
//! does not know who is linked to whom: two functions that could be linked count as if they were.

use super::width::PointerWidth;
use anyhow::{Result, ensure};
use wasmparser::component_types::{ComponentAnyTypeId, ComponentFuncType};
use wasmparser::types::TypesRef;
use wasmparser::{CanonicalFunction, CanonicalOption, Parser, Payload, Validator, WasmFeatures};

/// What linked functions have in common, as far as we look: are they async, the names of parameters, is there a result.
type Shape = (bool, Vec<String>, bool);

/// A `canon lift` or `canon lower`.
struct Side {
    shape: Shape,
    width: PointerWidth,
    /// Is it in the async ABI?
    async_abi: bool,
    /// Lowered: does the result go through memory of the caller?
    retptr: bool,
}

/// Finds out whether all adapters of a component can be made. Bytes that are not valid are whoever translates them to refuse.
///
/// # Errors
/// When there may be a call that none can be made for.
pub(super) fn check(bytes: &[u8], features: WasmFeatures) -> Result<()> {
    let (mut lifts, mut lowers) = (Vec::new(), Vec::new());
    let mut validator = Validator::new_with_features(features);
    for payload in Parser::new(0).parse_all(bytes) {
        let Ok(payload) = payload else { return Ok(()) };
        if validator.payload(&payload).is_err() {
            return Ok(());
        }
        if let (Payload::ComponentCanonicalSection(section), Some(types)) = (&payload, validator.types(0)) {
            let Ok(functions) = section.clone().into_iter().collect::<Result<Vec<_>, _>>() else { return Ok(()) };
            sides(&functions, types, &mut lifts, &mut lowers);
        }
    }
    let meet = |lower: &Side, lift: &Side| {
        lower.width != lift.width && (lower.async_abi || lift.async_abi) && lower.shape == lift.shape
    };
    let unadaptable = lowers.iter().any(|lower| lower.retptr && lifts.iter().any(|lift| meet(lower, lift)));
    ensure!(
        !unadaptable,
        "no adapter can be made for one of its calls: in the async ABI, no result can be given through memory between \
         components with 32-bit and with 64-bit pointers (use the sync ABI on both sides)"
    );
    Ok(())
}

/// Sorts the functions of a section; `types` are those behind it.
fn sides(functions: &[CanonicalFunction], types: TypesRef<'_>, lifts: &mut Vec<Side>, lowers: &mut Vec<Side>) {
    // All but lifts are core functions, and the last of them are this section's.
    let mut core = types.function_count();
    for function in functions.iter().rev() {
        match function {
            CanonicalFunction::Lift { type_index, options, .. } => {
                if let ComponentAnyTypeId::Func(ty) = types.component_any_type_at(*type_index) {
                    lifts.push(side(&types[ty], options, types, false));
                }
            }
            CanonicalFunction::Lower { func_index, options } => {
                core -= 1;
                let ty = &types[types.component_function_at(*func_index)];
                let flat = !types[types.core_function_at(core)].unwrap_func().results().is_empty();
                let async_abi = options.contains(&CanonicalOption::Async);
                lowers.push(side(ty, options, types, ty.result.is_some() && (async_abi || !flat)));
            }
            _ => core -= 1,
        }
    }
}

fn side(ty: &ComponentFuncType, options: &[CanonicalOption], types: TypesRef<'_>, retptr: bool) -> Side {
    let is_64 = options.iter().any(|option| match option {
        CanonicalOption::Memory(memory) => types.memory_at(*memory).memory64,
        _ => false,
    });
    let names = ty.params.iter().map(|(name, _)| name.to_string()).collect();
    Side {
        shape: (ty.async_, names, ty.result.is_some()),
        width: if is_64 { PointerWidth::Bits64 } else { PointerWidth::Bits32 },
        async_abi: options.contains(&CanonicalOption::Async),
        retptr,
    }
}
