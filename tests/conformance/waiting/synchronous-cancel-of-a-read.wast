;; Promise: `stream.cancel-read` says at once what has come of the read, and the end can be used again.
(component
  (type $s (stream u8))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $new (canon stream.new $s))
  (core func $read (canon stream.read $s async (memory (core memory $memory "memory"))))
  (core func $write (canon stream.write $s async (memory (core memory $memory "memory"))))
  (core func $cancel-read (canon stream.cancel-read $s))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "new" (func $new (result i64)))
    (import "" "read" (func $read (param i32 i32 i32) (result i32)))
    (import "" "write" (func $write (param i32 i32 i32) (result i32)))
    (import "" "cancel-read" (func $cancel-read (param i32) (result i32)))
    (func $same (param i32 i32) (if (i32.ne (local.get 0) (local.get 1)) (then unreachable)))
    (func (export "run") (result i32)
      (local $ends i64) (local $reader i32)
      (local.set $ends (call $new))
      (local.set $reader (i32.wrap_i64 (local.get $ends)))
      ;; BLOCKED, CANCELLED
      (call $same (call $read (local.get $reader) (i32.const 16) (i32.const 4)) (i32.const -1))
      (call $same (call $cancel-read (local.get $reader)) (i32.const 2))
      ;; Nobody reads: BLOCKED, and then COMPLETED with one.
      (call $same
        (call $write (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))) (i32.const 24) (i32.const 1))
        (i32.const -1))
      (call $read (local.get $reader) (i32.const 16) (i32.const 4))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "new" (func $new)) (export "read" (func $read))
    (export "write" (func $write)) (export "cancel-read" (func $cancel-read))))))
  (func (export "run") async (result u32) (canon lift (core func $i "run"))))

(assert_return (invoke "run") (u32.const 0x10))
