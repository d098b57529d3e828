;; Promise: a stream that is forwarded onto itself is gone: both indices are free.
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
    (func $same (param i32 i32) (if (i32.ne (local.get 0) (local.get 1)) (then unreachable)))
    (func $readable (param i64) (result i32) (i32.wrap_i64 (local.get 0)))
    (func $writable (param i64) (result i32) (i32.wrap_i64 (i64.shr_u (local.get 0) (i64.const 32))))
    (func (export "run")
      (local $a i64) (local $b i64)
      (local.set $a (call $new))
      (call $forward (call $readable (local.get $a)) (call $writable (local.get $a)))
      (local.set $b (call $new))
      (call $same (call $readable (local.get $a)) (call $writable (local.get $b)))
      (call $same (call $writable (local.get $a)) (call $readable (local.get $b)))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory"))
    (export "new" (func $new))
    (export "forward" (func $forward))))))
  (func (export "run") (canon lift (core func $i "run"))))

(assert_return (invoke "run"))
