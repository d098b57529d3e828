;; Promise: a synchronous write of a future waits until the value is read, or until nobody can read it any more.
(component
  (component $sink
    (type $f (future u32))
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $return-none (canon task.return))
    (core func $read (canon future.read $f async (memory (core memory $memory "memory"))))
    (core func $drop-readable (canon future.drop-readable $f))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "return-none" (func $return-none))
      (import "" "read" (func $read (param i32 i32) (result i32)))
      (import "" "drop-readable" (func $drop-readable (param i32)))
      (global $reader (mut i32) (i32.const 0))
      (global $reads (mut i32) (i32.const 0))
      (func (export "f") (param $reader i32) (param $reads i32) (result i32)
        (global.set $reader (local.get $reader))
        (global.set $reads (local.get $reads))
        (call $return-none)
        ;; YIELD: the writer comes first.
        (i32.const 1))
      (func (export "callback") (param i32 i32 i32) (result i32)
        (if (global.get $reads) (then
          ;; COMPLETED
          (if (call $read (global.get $reader) (i32.const 0)) (then unreachable))
          (if (i32.ne (i32.load (i32.const 0)) (i32.const 5)) (then unreachable))))
        (call $drop-readable (global.get $reader))
        (i32.const 0)))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "return-none" (func $return-none))
      (export "read" (func $read)) (export "drop-readable" (func $drop-readable))))))
    (func (export "f") async (param "f" $f) (param "reads" bool)
      (canon lift (core func $i "f") async (callback (core func $i "callback")))))
  (component $source
    (type $f (future u32))
    (import "f" (func $f async (param "f" $f) (param "reads" bool)))
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $f (canon lower (func $f)))
    (core func $new (canon future.new $f))
    (core func $write (canon future.write $f (memory (core memory $memory "memory"))))
    (core func $drop-writable (canon future.drop-writable $f))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "f" (func $f (param i32 i32)))
      (import "" "new" (func $new (result i64)))
      (import "" "write" (func $write (param i32 i32) (result i32)))
      (import "" "drop-writable" (func $drop-writable (param i32)))
      (func (export "run") (param $reads i32) (result i32)
        (local $ends i64) (local $writer i32) (local $code i32)
        (local.set $ends (call $new))
        (local.set $writer (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
        (call $f (i32.wrap_i64 (local.get $ends)) (local.get $reads))
        (i32.store (i32.const 0) (i32.const 5))
        (local.set $code (call $write (local.get $writer) (i32.const 0)))
        (call $drop-writable (local.get $writer))
        (local.get $code)))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "f" (func $f)) (export "new" (func $new))
      (export "write" (func $write)) (export "drop-writable" (func $drop-writable))))))
    (func (export "run") async (param "reads" bool) (result u32) (canon lift (core func $i "run"))))
  (instance $sink (instantiate $sink))
  (instance $source (instantiate $source (with "f" (func $sink "f"))))
  (func (export "run") (alias export $source "run")))

;; COMPLETED, DROPPED
(assert_return (invoke "run" (bool.const true)) (u32.const 0))
(assert_return (invoke "run" (bool.const false)) (u32.const 1))
