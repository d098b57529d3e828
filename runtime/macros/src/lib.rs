//! `host!`: typed Rust host functions from WIT.
//!
//! Reads WIT packages at compile time and generates, in place, one module per interface with its types, a trait of
//! the functions a host implements, and the function that links an implementation. Lifting and lowering are written
//! out per type against `interflow::host::value`; this crate knows nothing of how they work.
//!
//! The way through: `parse` (the macro's options) -> `wit` (packages, and which interfaces are meant) -> `expand` (a
//! module for each) -> `types`, `define`, `derive` and `functions` (what is in it), with the rules of `names`.

mod define;
mod derive;
mod expand;
mod functions;
mod names;

mod parse;
#[cfg(test)]
mod tests;
mod types;
mod wit;

/// Generates host traits for WIT interfaces.
///
/// ```ignore
/// interflow_macros::host! {
///     path: "../wit",
///     interfaces: ["wasi:clocks/monotonic-clock@0.3.2", "wasi:http/types@0.3.2"],
///     with: {
///         "wasi:http/types/fields": crate::http::Fields,
///         "wasi:http/types/request": crate::http::Request,
///         // ... a Rust type for every resource
///     },
/// }
///
/// struct Wasi;
///
/// impl wasi::clocks::monotonic_clock::Host for Wasi {
///     fn now(cx: &mut HostCx<'_>) -> Result<u64> { .. }
///     fn wait_for(cx: &mut HostCx<'_>, how_long: u64) -> HostFuture<()> { .. }
///     // ...
/// }
///
/// wasi::clocks::monotonic_clock::link::<Wasi>(&mut linker);
/// ```
///
/// # Options
/// * `path`: a WIT package directory (with its `deps`), a WIT file, or a list of them; relative to the directory of
///   the `Cargo.toml`.
/// * `interfaces`: which interfaces, or `world`: all interfaces that a world imports. The version can be left off
///   where only one is there. Interfaces whose types these use are generated too.
/// * `with`: `"namespace:package/interface/resource": path` is the Rust type that implements a resource; each resource
///   needs one. `"namespace:package/interface": path` is a module that another `host!` has generated for the whole
///   interface. Both keys take a version after the interface, `"wasi:io/error@0.2.12/error"`.
/// * `blocking`: `"namespace:package/interface/function"` is a function that the WIT does not call `async`, and in which the
///   host lets its caller wait all the same. It is named as the component binary does: `[method]pollable.block`.
/// * `features`: WIT features (`@unstable(feature = ..)`) to include.
/// * `crate`: where `interflow` is; `crate` unless told.
///
/// Paths are as seen from the place of the macro; one into another crate starts with `::`.
///
/// # What is generated
/// `pub mod namespace { pub mod package { pub mod interface { .. } } }`; where two versions of a package meet in one
/// macro, the package's module carries its version: `clocks0_2`, `clocks0_3`. In an interface's module:
/// * Types under their WIT name in Rust's case: `DNS-error-payload` is `DnsErrorPayload`, a variant's case likewise;
///   flags have constants `SHOUTY_SNAKE`. A name that Rust or the macro needs gets a `_` behind: `type_`, `self_`,
///   `cx_`, `Host_`. `list` is `Vec`, `string` `String`, `own<r>` `Own<R>`, `borrow<r>` `Borrow<R>`, `stream<t>`
///   `StreamReader<T>`, `future<t>` `FutureReader<T>`; a missing payload is `()`.
/// * `trait Host`, with associated functions that get a `&mut HostCx<'_>` first. A free function keeps its name, a
///   method `[method]fields.get` is `fields_get` with the handle as `self_`, a static function `[static]request.new` is
///   `request_new`, a constructor `fields_new`. Should two be the same, the later gets a `_` behind.
/// * A function whose result is `result<T, E>` returns `Result<T, Failure<E>>`, any other `Result<R>`. An `async`
///   or `blocking` function returns `HostFuture<Result<T, E>>` or `HostFuture<R>`.
/// * `link::<H>(&mut Linker)`, which registers every function and resource, and `INTERFACE`, the interface's id.
///
/// An interface with types alone has neither trait nor `link`.
#[proc_macro]
pub fn host(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let options = syn::parse_macro_input!(input as parse::Options);
    match expand::expand(&options) {
        Ok(tokens) => tokens.into(),
        Err(error) => error.into_compile_error().into(),
    }
}
