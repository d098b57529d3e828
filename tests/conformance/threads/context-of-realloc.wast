;; Promise: `realloc` runs on a thread of its own: it does not touch the context of the task that it runs for.
(component
  (component $callee
    (core module $m
      (memory (export "memory") 1)
      (data (i32.const 8) "\20\00\00\00\03\00\00\00")
      (data (i32.const 32) "abc")
      (func (export "f") (result i32) (i32.const 8)))
    (core instance $i (instantiate $m))
    (func (export "f") (result string) (canon lift (core func $i "f") (memory (core memory $i "memory")))))
  (component $caller
    (import "f" (func $f (result string)))
    (core func $context-get' (canon context.get i32 0))
    (core func $context-set' (canon context.set i32 0))
    (core module $memory
      (import "" "get" (func $get (result i32)))
      (import "" "set" (func $set (param i32)))
      (memory (export "memory") 1)
      (func (export "realloc") (param i32 i32 i32 i32) (result i32)
        (if (call $get) (then unreachable))
        (call $set (i32.const 77))
        (i32.const 64)))
    (core instance $memory
      (instantiate $memory
        (with "" (instance (export "get" (func $context-get')) (export "set" (func $context-set'))))))
    (core func $f (canon lower (func $f) (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
    (core func $context-get (canon context.get i32 0))
    (core func $context-set (canon context.set i32 0))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "f" (func $f (param i32)))
      (import "" "context-get" (func $context-get (result i32)))
      (import "" "context-set" (func $context-set (param i32)))
      (func (export "run") (result i32)
        (call $context-set (i32.const 5))
        (call $f (i32.const 16))
        (call $context-get)))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "f" (func $f)) (export "context-get" (func $context-get))
      (export "context-set" (func $context-set))))))
    (func (export "run") (result u32) (canon lift (core func $i "run"))))
  (instance $callee (instantiate $callee))
  (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
  (func (export "run") (alias export $caller "run")))

(assert_return (invoke "run") (u32.const 5))
