;; Promise: a forward wants a readable and a writable end, in this order.
(component
  (import "lab:streams/forward@0.1.0" (instance $forward
    (export "forward" (func (param "readable" u32) (param "writable" u32)))))
  (type $bytes (stream u8))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $forward (canon lower (func $forward "forward")))
  (core func $new (canon stream.new $bytes))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "new" (func $new (result i64)))
    (import "" "forward" (func $forward (param i32 i32)))
    (func $readable (param i64) (result i32) (i32.wrap_i64 (local.get 0)))
    (func $writable (param i64) (result i32) (i32.wrap_i64 (i64.shr_u (local.get 0) (i64.const 32))))
    (func (export "run")
      (local $a i64) (local $b i64)
      (local.set $a (call $new))
      (local.set $b (call $new))
      (i64.store (i32.const 0) (i64.const 0x0807060504030201))
      (call $forward (call $writable (local.get $b)) (call $readable (local.get $a)))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory"))
    (export "new" (func $new))
    (export "forward" (func $forward))))))
  (func (export "run") (canon lift (core func $i "run"))))

(assert_trap (invoke "run") "not a StreamRead or FutureRead")
