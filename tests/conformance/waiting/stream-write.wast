;; Promise: a synchronous write waits for the reader, and tells how much was taken.
(component
  (component $sink
    (type $s (stream u8))
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $return-none (canon task.return))
    (core func $read (canon stream.read $s async (memory (core memory $memory "memory"))))
    (core func $drop-readable (canon stream.drop-readable $s))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "return-none" (func $return-none))
      (import "" "read" (func $read (param i32 i32 i32) (result i32)))
      (import "" "drop-readable" (func $drop-readable (param i32)))
      (global $reader (mut i32) (i32.const 0))
      (func (export "f") (param $reader i32) (result i32)
        (global.set $reader (local.get $reader))
        (call $return-none)
        ;; YIELD: the writer comes first.
        (i32.const 1))
      (func (export "callback") (param i32 i32 i32) (result i32)
        ;; COMPLETED, 2
        (if (i32.ne (call $read (global.get $reader) (i32.const 0) (i32.const 2)) (i32.const 0x20)) (then unreachable))
        (if (i32.ne (i32.load16_u (i32.const 0)) (i32.const 0x0201)) (then unreachable))
        (call $drop-readable (global.get $reader))
        (i32.const 0)))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "return-none" (func $return-none))
      (export "read" (func $read)) (export "drop-readable" (func $drop-readable))))))
    (func (export "f") async (param "s" $s)
      (canon lift (core func $i "f") async (callback (core func $i "callback")))))
  (component $source
    (type $s (stream u8))
    (import "f" (func $f async (param "s" $s)))
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $f (canon lower (func $f)))
    (core func $new (canon stream.new $s))
    (core func $write (canon stream.write $s (memory (core memory $memory "memory"))))
    (core func $drop-writable (canon stream.drop-writable $s))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "f" (func $f (param i32)))
      (import "" "new" (func $new (result i64)))
      (import "" "write" (func $write (param i32 i32 i32) (result i32)))
      (import "" "drop-writable" (func $drop-writable (param i32)))
      (func (export "run") (result i32)
        (local $ends i64) (local $writer i32) (local $taken i32)
        (local.set $ends (call $new))
        (local.set $writer (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
        (call $f (i32.wrap_i64 (local.get $ends)))
        (i32.store (i32.const 0) (i32.const 0x04030201))
        ;; The reader may have gone by the time that we are told.
        (local.set $taken
          (i32.shr_u (call $write (local.get $writer) (i32.const 0) (i32.const 4)) (i32.const 4)))
        (call $drop-writable (local.get $writer))
        (local.get $taken)))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "f" (func $f)) (export "new" (func $new))
      (export "write" (func $write)) (export "drop-writable" (func $drop-writable))))))
    (func (export "run") async (result u32) (canon lift (core func $i "run"))))
  (instance $sink (instantiate $sink))
  (instance $source (instantiate $source (with "f" (func $sink "f"))))
  (func (export "run") (alias export $source "run")))

(assert_return (invoke "run") (u32.const 2))
(assert_return (invoke "run") (u32.const 2))
