;; Promise: an end that copies is not forwarded.
(component
  (import "lab:streams/forward@0.1.0" (instance $forward
    (export "forward" (func (param "readable" u32) (param "writable" u32)))))
  (type $bytes (stream u8))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $forward (canon lower (func $forward "forward")))
  (core func $new (canon stream.new $bytes))
  (core func $write (canon stream.write $bytes async (memory (core memory $memory "memory"))))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "new" (func $new (result i64)))
    (import "" "write" (func $write (param i32 i32 i32) (result i32)))
    (import "" "forward" (func $forward (param i32 i32)))
    (func $same (param i32 i32) (if (i32.ne (local.get 0) (local.get 1)) (then unreachable)))
    (func $readable (param i64) (result i32) (i32.wrap_i64 (local.get 0)))
    (func $writable (param i64) (result i32) (i32.wrap_i64 (i64.shr_u (local.get 0) (i64.const 32))))
    (func (export "run")
      (local $a i64) (local $b i64)
      (local.set $a (call $new))
      (local.set $b (call $new))
      (i64.store (i32.const 0) (i64.const 0x0807060504030201))
      (call $same (call $write (call $writable (local.get $b)) (i32.const 0) (i32.const 1)) (i32.const -1))
      (call $forward (call $readable (local.get $a)) (call $writable (local.get $b)))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory"))
    (export "new" (func $new))
    (export "write" (func $write))
    (export "forward" (func $forward))))))
  (func (export "run") (canon lift (core func $i "run"))))

(assert_trap (invoke "run") "busy or done")
