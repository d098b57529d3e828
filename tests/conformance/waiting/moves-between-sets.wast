;; Promise: a waitable is in one set at a time, and its event with it.
(component
  (type $s (stream u8))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $new (canon stream.new $s))
  (core func $read (canon stream.read $s async (memory (core memory $memory "memory"))))
  (core func $write (canon stream.write $s async (memory (core memory $memory "memory"))))
  (core func $set-new (canon waitable-set.new))
  (core func $set-poll (canon waitable-set.poll (memory (core memory $memory "memory"))))
  (core func $join (canon waitable.join))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "new" (func $new (result i64)))
    (import "" "read" (func $read (param i32 i32 i32) (result i32)))
    (import "" "write" (func $write (param i32 i32 i32) (result i32)))
    (import "" "set-new" (func $set-new (result i32)))
    (import "" "set-poll" (func $set-poll (param i32 i32) (result i32)))
    (import "" "join" (func $join (param i32 i32)))
    ;; 10 * the event in the first set, and that in the second.
    (func (export "run") (result i32)
      (local $ends i64) (local $reader i32) (local $first i32) (local $second i32)
      (local.set $ends (call $new))
      (local.set $reader (i32.wrap_i64 (local.get $ends)))
      (local.set $first (call $set-new))
      (local.set $second (call $set-new))
      (call $join (local.get $reader) (local.get $first))
      (drop (call $read (local.get $reader) (i32.const 16) (i32.const 1)))
      (drop (call $write (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))) (i32.const 24) (i32.const 1)))
      (call $join (local.get $reader) (local.get $second))
      (i32.add
        (i32.mul (call $set-poll (local.get $first) (i32.const 0)) (i32.const 10))
        (call $set-poll (local.get $second) (i32.const 0)))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "new" (func $new)) (export "read" (func $read))
    (export "write" (func $write)) (export "set-new" (func $set-new)) (export "set-poll" (func $set-poll))
    (export "join" (func $join))))))
  (func (export "run") (result u32) (canon lift (core func $i "run"))))

;; STREAM_READ
(assert_return (invoke "run") (u32.const 2))
