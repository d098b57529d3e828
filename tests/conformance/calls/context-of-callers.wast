;; Promise: a synchronous call has context slots of its own, and its caller finds his again, also when the callee has waited.
(component
  (component $callee
    (core func $yield (canon thread.yield))
    (core func $context-get (canon context.get i32 0))
    (core func $context-set (canon context.set i32 0))
    (core module $m
      (import "" "yield" (func $yield (result i32)))
      (import "" "context-get" (func $context-get (result i32)))
      (import "" "context-set" (func $context-set (param i32)))
      (func (export "f") (param $waits i32) (result i32)
        (if (call $context-get) (then unreachable))
        (call $context-set (i32.const 5))
        (if (local.get $waits) (then (drop (call $yield))))
        (call $context-get)))
    (core instance $i (instantiate $m (with "" (instance
      (export "yield" (func $yield)) (export "context-get" (func $context-get))
      (export "context-set" (func $context-set))))))
    (func (export "f") async (param "waits" bool) (result u32) (canon lift (core func $i "f"))))
  (component $caller
    (import "f" (func $f async (param "waits" bool) (result u32)))
    (core func $f (canon lower (func $f)))
    (core func $context-get (canon context.get i32 0))
    (core func $context-set (canon context.set i32 0))
    (core module $m
      (import "" "f" (func $f (param i32) (result i32)))
      (import "" "context-get" (func $context-get (result i32)))
      (import "" "context-set" (func $context-set (param i32)))
      (func (export "run") (result i32)
        (local $sum i32)
        (call $context-set (i32.const 100))
        (local.set $sum (i32.add (call $f (i32.const 0)) (call $context-get)))
        (i32.add (local.get $sum) (i32.add (call $f (i32.const 1)) (call $context-get)))))
    (core instance $i (instantiate $m (with "" (instance
      (export "f" (func $f)) (export "context-get" (func $context-get)) (export "context-set" (func $context-set))))))
    (func (export "run") async (result u32) (canon lift (core func $i "run"))))
  (instance $callee (instantiate $callee))
  (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
  (func (export "run") (alias export $caller "run")))

(assert_return (invoke "run") (u32.const 210))
(assert_return (invoke "run") (u32.const 210))
