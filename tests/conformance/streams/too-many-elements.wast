;; Promise: one operation moves 2^28 - 1 elements at most.
(component
  (type $s (stream))
  (core func $new (canon stream.new $s))
  (core func $read (canon stream.read $s async))
  (core module $m
    (import "" "new" (func $new (result i64)))
    (import "" "read" (func $read (param i32 i32 i32) (result i32)))
    (func (export "read") (param $len i32) (result i32)
      (call $read (i32.wrap_i64 (call $new)) (i32.const 0) (local.get $len))))
  (core instance $i (instantiate $m (with "" (instance (export "new" (func $new)) (export "read" (func $read))))))
  (func (export "read") (param "len" u32) (result s32) (canon lift (core func $i "read"))))

;; BLOCKED
(assert_return (invoke "read" (u32.const 0xfffffff)) (s32.const -1))
(assert_trap (invoke "read" (u32.const 0x10000000)) "stream read/write count too large")
