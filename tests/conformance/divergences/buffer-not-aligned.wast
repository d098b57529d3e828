;; No row: a buffer that is not aligned, of an operation that has to wait.
;; Ours, and the specification: a trap at once. wasmtime 48: it waits; the buffer is looked at when something is copied.
;; wasmtime: expected trap, got Component([S32(-1)])
(component
  (type $s (stream u32))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $new (canon stream.new $s))
  (core func $read (canon stream.read $s async (memory (core memory $memory "memory"))))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "new" (func $new (result i64)))
    (import "" "read" (func $read (param i32 i32 i32) (result i32)))
    (func (export "read") (param $at i32) (result i32)
      (call $read (i32.wrap_i64 (call $new)) (local.get $at) (i32.const 1))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "new" (func $new)) (export "read" (func $read))))))
  (func (export "read") (param "at" u32) (result s32) (canon lift (core func $i "read"))))

;; BLOCKED
(assert_return (invoke "read" (u32.const 4)) (s32.const -1))
(assert_trap (invoke "read" (u32.const 2)) "not aligned")
