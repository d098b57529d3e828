;; Promise: a write waits for a read, a read takes what fits, and both learn how many elements have moved.
(component
  (type $bytes (stream u8))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $new (canon stream.new $bytes))
  (core func $read (canon stream.read $bytes async (memory (core memory $memory "memory"))))
  (core func $write (canon stream.write $bytes async (memory (core memory $memory "memory"))))
  (core func $cancel-write (canon stream.cancel-write $bytes async))
  (core func $drop-read (canon stream.drop-readable $bytes))
  (core func $drop-write (canon stream.drop-writable $bytes))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "new" (func $new (result i64)))
    (import "" "read" (func $read (param i32 i32 i32) (result i32)))
    (import "" "write" (func $write (param i32 i32 i32) (result i32)))
    (import "" "cancel-write" (func $cancel-write (param i32) (result i32)))
    (import "" "drop-read" (func $drop-read (param i32)))
    (import "" "drop-write" (func $drop-write (param i32)))
    (func $same (param i32 i32) (if (i32.ne (local.get 0) (local.get 1)) (then unreachable)))
    (func (export "run") (result i32)
      (local $ends i64) (local $reader i32) (local $writer i32)
      (local.set $ends (call $new))
      (local.set $reader (i32.wrap_i64 (local.get $ends)))
      (local.set $writer (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
      (i64.store (i32.const 0) (i64.const 0x0807060504030201))
      ;; BLOCKED: nobody reads.
      (call $same (call $write (local.get $writer) (i32.const 0) (i32.const 8)) (i32.const -1))
      ;; COMPLETED with three elements, then with two.
      (call $same (call $read (local.get $reader) (i32.const 16) (i32.const 3)) (i32.const 0x30))
      (call $same (call $read (local.get $reader) (i32.const 19) (i32.const 2)) (i32.const 0x20))
      ;; CANCELLED, and five elements were taken before.
      (call $same (call $cancel-write (local.get $writer)) (i32.const 0x52))
      (call $drop-write (local.get $writer))
      ;; DROPPED.
      (call $same (call $read (local.get $reader) (i32.const 32) (i32.const 1)) (i32.const 1))
      (call $drop-read (local.get $reader))
      (call $same (i32.load8_u (i32.const 20)) (i32.const 5))
      (i32.load (i32.const 16))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "new" (func $new)) (export "read" (func $read))
    (export "write" (func $write)) (export "cancel-write" (func $cancel-write)) (export "drop-read" (func $drop-read))
    (export "drop-write" (func $drop-write))))))
  (func (export "run") (result u32) (canon lift (core func $i "run"))))

(assert_return (invoke "run") (u32.const 0x04030201))
