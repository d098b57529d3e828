;; Promise: a stream whose elements have no type counts them, without a memory.
(component
  (type $s (stream))
  (core func $new (canon stream.new $s))
  (core func $read (canon stream.read $s async))
  (core func $write (canon stream.write $s async))
  (core module $m
    (import "" "new" (func $new (result i64)))
    (import "" "read" (func $read (param i32 i32 i32) (result i32)))
    (import "" "write" (func $write (param i32 i32 i32) (result i32)))
    (func (export "run") (result i32)
      (local $ends i64)
      (local.set $ends (call $new))
      ;; BLOCKED
      (if (i32.ne (i32.const -1) (call $write
            (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))) (i32.const 0) (i32.const 1000)))
        (then unreachable))
      (i32.shr_u (call $read (i32.wrap_i64 (local.get $ends)) (i32.const 0) (i32.const 700)) (i32.const 4))))
  (core instance $i (instantiate $m (with "" (instance
    (export "new" (func $new)) (export "read" (func $read)) (export "write" (func $write))))))
  (func (export "run") (result u32) (canon lift (core func $i "run"))))

(assert_return (invoke "run") (u32.const 700))
