;; Promise: a synchronous read of a future waits until the value is written.
(component
  (component $source
    (type $f (future u32))
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $return (canon task.return (result $f)))
    (core func $new (canon future.new $f))
    (core func $write (canon future.write $f async (memory (core memory $memory "memory"))))
    (core func $drop-writable (canon future.drop-writable $f))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "return" (func $return (param i32)))
      (import "" "new" (func $new (result i64)))
      (import "" "write" (func $write (param i32 i32) (result i32)))
      (import "" "drop-writable" (func $drop-writable (param i32)))
      (global $writer (mut i32) (i32.const 0))
      (func (export "f") (result i32)
        (local $ends i64)
        (local.set $ends (call $new))
        (global.set $writer (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
        (call $return (i32.wrap_i64 (local.get $ends)))
        ;; YIELD: the reader comes first.
        (i32.const 1))
      (func (export "callback") (param i32 i32 i32) (result i32)
        (i32.store (i32.const 0) (i32.const 4711))
        ;; COMPLETED
        (if (call $write (global.get $writer) (i32.const 0)) (then unreachable))
        (call $drop-writable (global.get $writer))
        (i32.const 0)))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "return" (func $return)) (export "new" (func $new))
      (export "write" (func $write)) (export "drop-writable" (func $drop-writable))))))
    (func (export "f") async (result $f) (canon lift (core func $i "f") async (callback (core func $i "callback")))))
  (component $sink
    (type $f (future u32))
    (import "f" (func $f async (result $f)))
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $f (canon lower (func $f)))
    (core func $read (canon future.read $f (memory (core memory $memory "memory"))))
    (core func $drop-readable (canon future.drop-readable $f))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "f" (func $f (result i32)))
      (import "" "read" (func $read (param i32 i32) (result i32)))
      (import "" "drop-readable" (func $drop-readable (param i32)))
      (func (export "run") (result i32)
        (local $reader i32)
        (local.set $reader (call $f))
        ;; COMPLETED
        (if (call $read (local.get $reader) (i32.const 0)) (then unreachable))
        (call $drop-readable (local.get $reader))
        (i32.load (i32.const 0))))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "f" (func $f)) (export "read" (func $read))
      (export "drop-readable" (func $drop-readable))))))
    (func (export "run") async (result u32) (canon lift (core func $i "run"))))
  (instance $source (instantiate $source))
  (instance $sink (instantiate $sink (with "f" (func $source "f"))))
  (func (export "run") (alias export $sink "run")))

(assert_return (invoke "run") (u32.const 4711))
(assert_return (invoke "run") (u32.const 4711))
