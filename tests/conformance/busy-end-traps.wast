;; Promise: an end of a stream that is in the middle of an operation cannot be dropped.
(component
  (type $bytes (stream u8))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $new (canon stream.new $bytes))
  (core func $read (canon stream.read $bytes async (memory (core memory $memory "memory"))))
  (core func $drop-read (canon stream.drop-readable $bytes))
  (core module $m
    (import "" "new" (func $new (result i64)))
    (import "" "read" (func $read (param i32 i32 i32) (result i32)))
    (import "" "drop-read" (func $drop-read (param i32)))
    (func (export "run")
      (local $reader i32)
      (local.set $reader (i32.wrap_i64 (call $new)))
      (drop (call $read (local.get $reader) (i32.const 0) (i32.const 1)))
      (call $drop-read (local.get $reader))))
  (core instance $i (instantiate $m (with "" (instance
    (export "new" (func $new)) (export "read" (func $read)) (export "drop-read" (func $drop-read))))))
  (func (export "run") (canon lift (core func $i "run"))))

(assert_trap (invoke "run") "cannot remove busy stream")
