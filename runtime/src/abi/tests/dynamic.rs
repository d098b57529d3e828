//! Calls with values whose type is known only at run time.

use super::{link, poll_once, zone};
use crate::abi::{CallError, Component, Zone};
use crate::host::linker::Linker;
use crate::host::value::dynamic::{Handle, Value, check_params};

/// Calls an export and runs the zone until nothing is ready.
fn call(
    component: &Component,
    zone: &Zone,
    name: &str,
    params: Vec<Value>,
) -> Option<Result<Option<Value>, CallError>> {
    let call = zone.call_dynamic(component.export_dynamic(name).expect("the export is there"), params);
    zone.run_now();
    poll_once(call)
}

fn returned(component: &Component, zone: &Zone, name: &str, params: Vec<Value>) -> Option<Value> {
    call(component, zone, name, params).expect("the call returns").expect("the call does not trap")
}

fn trapped(component: &Component, name: &str, params: Vec<Value>) -> String {
    let zone = zone(component);
    match call(component, &zone, name, params) {
        Some(Err(CallError::Trap(reason))) => reason.to_string(),
        _ => panic!("`{name}` does not trap"),
    }
}

/// A resource and a stream that the host holds for a while.
fn handles() -> Component {
    let text = r#"(component
        (type $thing' (resource (rep i32)))
        (type $other' (resource (rep i32)))
        (type $bytes (stream u8))
        (core func $thing-new (canon resource.new $thing'))
        (core func $thing-rep (canon resource.rep $thing'))
        (core func $stream-new (canon stream.new $bytes))
        (core module $m
            (import "" "thing-new" (func $thing-new (param i32) (result i32)))
            (import "" "thing-rep" (func $thing-rep (param i32) (result i32)))
            (import "" "stream-new" (func $stream-new (result i64)))
            (func (export "make") (param i32) (result i32) (call $thing-new (local.get 0)))
            (func (export "take") (param i32) (result i32) (call $thing-rep (local.get 0)))
            (func (export "take-other") (param i32))
            (func (export "open") (result i32) (i32.wrap_i64 (call $stream-new)))
            (func (export "same") (param i32) (result i32) (local.get 0)))
        (core instance $i (instantiate $m (with "" (instance
            (export "thing-new" (func $thing-new)) (export "thing-rep" (func $thing-rep))
            (export "stream-new" (func $stream-new))))))
        (export $thing "thing" (type $thing'))
        (export $other "other" (type $other'))
        (func (export "make") (param "rep" u32) (result (own $thing)) (canon lift (core func $i "make")))
        (func (export "take") (param "thing" (own $thing)) (result u32) (canon lift (core func $i "take")))
        (func (export "take-other") (param "other" (own $other)) (canon lift (core func $i "take-other")))
        (func (export "open") (result (stream u8)) (canon lift (core func $i "open")))
        (func (export "close") (param "bytes" (stream u8)) (result u32) (canon lift (core func $i "same"))))"#;
    link(text, &Linker::new())
}

#[test]
fn a_handle_goes_back_to_where_it_came_from() {
    let component = handles();
    let zone = zone(&component);
    let thing = returned(&component, &zone, "make", vec![Value::U32(99)]).expect("a thing");
    assert!(matches!(thing, Value::Handle(Handle::Guest { rep: 99, .. })));
    assert!(matches!(returned(&component, &zone, "take", vec![thing]), Some(Value::U32(99))));
    let bytes = returned(&component, &zone, "open", vec![]).expect("a stream");
    // The readable end has left its table, so its index is free again.
    assert!(matches!(returned(&component, &zone, "close", vec![bytes]), Some(Value::U32(_))));
    assert!(zone.poison().is_none());
}

#[test]
fn a_readable_end_that_is_dropped_is_gone() {
    let component = handles();
    let zone = zone(&component);
    let bytes = returned(&component, &zone, "open", vec![]).expect("a stream");
    let before = zone.census().expect("the zone rests");
    assert_eq!((before.streams, before.handles), (1, 1), "{before:?}");
    drop(bytes);
    zone.run_now();
    assert!(zone.poison().is_none());
    let thing = returned(&component, &zone, "make", vec![Value::U32(1)]).expect("a thing");
    drop(thing);
}

#[test]
fn a_handle_of_another_type_traps() {
    let component = handles();
    let zone = zone(&component);
    let thing = returned(&component, &zone, "make", vec![Value::U32(1)]).expect("a thing");
    match call(&component, &zone, "take-other", vec![thing]) {
        Some(Err(CallError::Trap(reason))) => assert!(reason.contains("another type"), "{reason}"),
        _ => panic!("another resource is taken"),
    }
}

#[test]
fn a_handle_of_another_zone_traps() {
    let component = handles();
    let (one, two) = (zone(&component), zone(&component));
    let bytes = returned(&component, &one, "open", vec![]).expect("a stream");
    match call(&component, &two, "close", vec![bytes]) {
        Some(Err(CallError::Trap(reason))) => assert!(reason.contains("cannot be read in another"), "{reason}"),
        _ => panic!("the stream of another zone is taken"),
    }
}

#[test]
fn values_of_another_type_are_refused_before_and_trap_without_asking() {
    let component = handles();
    let export = component.export_dynamic("make").expect("it is there");
    let types = &component.compiled().plan.types;
    let params = types[export.ty()].params;
    assert!(check_params(&[Value::U32(1)], params, types).is_ok());
    let error = check_params(&[Value::String("one".into())], params, types).unwrap_err();
    assert!(error.contains("parameter 0: expected String(\"one\"), found u32"), "{error}");
    assert!(check_params(&[], params, types).unwrap_err().contains("expected 1 parameters, found 0"));
    assert!(trapped(&component, "make", vec![Value::String("one".into())]).contains("another type"));
    assert!(trapped(&component, "make", vec![]).contains("expected 1 values, found 0"));
    assert!(component.export_dynamic("absent").is_none());
}

/// A component with a memory and a bump allocator, whose functions return the pair at 16.
fn memory(declarations: &str) -> Component {
    let text = format!(
        r#"(component
        (core module $m
            (memory (export "memory") 4)
            (global $free (mut i32) (i32.const 1024))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                (global.get $free)
                (global.set $free (i32.and (i32.add (i32.add (global.get $free) (local.get 3)) (i32.const 7)) (i32.const -8))))
            (func (export "echo") (param i32 i32) (result i32)
                (i32.store (i32.const 16) (local.get 0))
                (i32.store (i32.const 20) (local.get 1))
                (i32.const 16))
            ;; 8,000 lists that are all the same 64,000 bytes.
            (func (export "bomb") (result i32)
                (local $at i32)
                (local.set $at (i32.const 131072))
                (loop $l
                    (i32.store offset=4 (local.get $at) (i32.const 64000))
                    (br_if $l (i32.lt_u
                        (local.tee $at (i32.add (local.get $at) (i32.const 8)))
                        (i32.const 195072))))
                (i32.store (i32.const 16) (i32.const 131072))
                (i32.store (i32.const 20) (i32.const 8000))
                (i32.const 16)))
        (core instance $i (instantiate $m))
        {declarations})"#
    );
    link(&text, &Linker::new())
}

#[test]
fn maps_go_in_and_come_out() {
    let component = memory(
        r#"(type $map (map u8 string))
        (func (export "echo") (param "v" $map) (result $map)
            (canon lift (core func $i "echo") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))"#,
    );
    let entry = |key, value: &str| (Value::U8(key), Value::String(value.into()));
    let map = Value::Map(vec![entry(3, "drei"), entry(1, "")]);
    let Some(Value::Map(entries)) = returned(&component, &zone(&component), "echo", vec![map]) else {
        panic!("no map comes back")
    };
    let entries: Vec<String> = entries.iter().map(|entry| format!("{entry:?}")).collect();
    assert_eq!(entries, [r#"(U8(3), String("drei"))"#, r#"(U8(1), String(""))"#]);
}

#[test]
fn a_guest_cannot_make_the_host_keep_the_same_bytes_many_times() {
    let component = memory(
        r#"(func (export "bomb") (result (list (list u8)))
            (canon lift (core func $i "bomb") (memory (core memory $i "memory"))))"#,
    );
    let reason = trapped(&component, "bomb", vec![]);
    assert!(reason.contains("the values of one call take more than"), "{reason}");
}

#[test]
fn a_call_whose_parameters_cannot_be_lowered_learns_of_it() {
    let text = r#"(component
        (core module $m
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
            (func (export "f") (param i32 i32)))
        (core instance $i (instantiate $m))
        (func (export "f") (param "v" (list u64))
            (canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#;
    let component = link(text, &Linker::new());
    assert!(trapped(&component, "f", vec![Value::List(vec![Value::U64(1)])]).contains("unreachable"));
    // The same call with a Rust type.
    let zone = zone(&component);
    let outcome = super::call::<(Vec<u64>,), ()>(&component, &zone, "f", (vec![1],));
    assert!(matches!(outcome, Some(Err(CallError::Trap(_)))));
}
