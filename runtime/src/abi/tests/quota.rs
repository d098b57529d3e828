//! The example of `abi-spec/README.md`, "Adding an extension": this is its text, so it compiles and does what is said there.

// README, from here
use crate::abi::lab::{Extension, extension};
use crate::abi::state::State;
use crate::abi::stream::Operation;
use crate::abi::table::Kind;
use crate::abi::{HostCx, Result};
use wasmtime::bail;

/// How many elements of a stream one write may bring.
struct Quota(u32);

impl Extension for Quota {
    /// Cuts a write, and lets it meet the reader.
    fn before_copy(&mut self, _: &mut State, _: u32, copy: &mut Operation<'_>) -> Result<Option<u32>> {
        if copy.op.end.write {
            copy.len = copy.len.min(self.0);
        }
        Ok(None)
    }
}

/// `quota(readable end, elements)`.
pub(crate) fn quota(cx: &mut HostCx<'_>, readable: u32, elements: u32) -> Result<()> {
    let instance = cx.instance;
    let state = cx.store.data_mut();
    let slot = *state.handles(instance).get(readable)?;
    if slot.kind != Kind::StreamRead {
        bail!("handle {readable} is a {:?}, not the readable end of a stream", slot.kind);
    }
    extension(state, slot.object, || Quota(elements))?.0 = elements;
    Ok(())
}
// README, to here

/// The script, without its assertion.
const SCRIPT: &str = r#"
(component
  (import "lab:streams/quota@0.1.0" (instance $quota
    (export "quota" (func (param "readable" u32) (param "elements" u32)))))
  (type $bytes (stream u8))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $quota (canon lower (func $quota "quota")))
  (core func $new (canon stream.new $bytes))
  (core func $read (canon stream.read $bytes async (memory (core memory $memory "memory"))))
  (core func $write (canon stream.write $bytes async (memory (core memory $memory "memory"))))
  (core module $m
    (import "" "quota" (func $quota (param i32 i32)))
    (import "" "new" (func $new (result i64)))
    (import "" "read" (func $read (param i32 i32 i32) (result i32)))
    (import "" "write" (func $write (param i32 i32 i32) (result i32)))
    (func (export "run") (result i32) (local $ends i64) (local $reader i32)
      (local.set $ends (call $new))
      (local.set $reader (i32.wrap_i64 (local.get $ends)))
      (call $quota (local.get $reader) (i32.const 2))
      (drop (call $read (local.get $reader) (i32.const 16) (i32.const 8)))
      (call $write (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))) (i32.const 0) (i32.const 5))))
  (core instance $i (instantiate $m (with "" (instance
    (export "quota" (func $quota)) (export "new" (func $new)) (export "read" (func $read)) (export "write" (func $write))))))
  (func (export "run") (result u32) (canon lift (core func $i "run"))))
"#;

#[test]
fn the_example_of_an_extension_is_what_the_readme_shows() {
    let readme = include_str!("../../../../abi-spec/README.md");
    let own = include_str!("quota.rs").split("// README, ").nth(1).and_then(|text| text.split_once('\n'));
    let (_, code) = own.expect("the marks are there");
    assert!(readme.contains(code.trim()), "abi-spec/README.md has other code than this file");
    assert!(readme.contains(SCRIPT.trim()), "abi-spec/README.md has another script than this file");
}

#[test]
fn the_example_of_an_extension_cuts_writes() {
    let mut linker = crate::host::linker::Linker::new();
    linker
        .func("lab:streams/quota@0.1.0", "quota", |cx, (readable, elements): (u32, u32)| quota(cx, readable, elements));
    let component = super::link(SCRIPT, &linker);
    let zone = super::zone(&component);
    assert_eq!(super::returned::<(), u32>(&component, &zone, "run", ()), 2 << 4, "two of five elements");
}
