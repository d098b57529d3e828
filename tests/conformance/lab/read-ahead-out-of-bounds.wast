;; Promise: the buffer of a read ahead lies in the memory.
(component
  (import "lab:streams/read-ahead@0.1.0" (instance $read-ahead
    (export "read-ahead" (func (param "readable" u32) (param "pointer" u32) (param "length" u32) (result bool)))))
  (type $bytes (stream u8))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $read-ahead (canon lower (func $read-ahead "read-ahead")))
  (core func $new (canon stream.new $bytes))
  (core func $read (canon stream.read $bytes async (memory (core memory $memory "memory"))))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "new" (func $new (result i64)))
    (import "" "read" (func $read (param i32 i32 i32) (result i32)))
    (import "" "read-ahead" (func $read-ahead (param i32 i32 i32) (result i32)))
    (func $same (param i32 i32) (if (i32.ne (local.get 0) (local.get 1)) (then unreachable)))
    (func $readable (param i64) (result i32) (i32.wrap_i64 (local.get 0)))
    (func (export "run")
      (local $a i64)
      (local.set $a (call $new))
      (i64.store (i32.const 0) (i64.const 0x0807060504030201))
      (call $same (call $read (call $readable (local.get $a)) (i32.const 16) (i32.const 1)) (i32.const -1))
      (drop (call $read-ahead (call $readable (local.get $a)) (i32.const 65535) (i32.const 2)))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory"))
    (export "new" (func $new))
    (export "read" (func $read))
    (export "read-ahead" (func $read-ahead))))))
  (func (export "run") (canon lift (core func $i "run"))))

(assert_trap (invoke "run") "out of bounds")
