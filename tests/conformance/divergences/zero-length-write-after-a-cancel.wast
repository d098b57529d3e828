;; Row V5: a write that has completed a read of nothing is cancelled; then comes a write of nothing.
;; Ours, and the specification: nobody reads, so it waits. wasmtime 48: it completes.
;; wasmtime: actual 0
(component
  (type $s (stream u8))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $new (canon stream.new $s))
  (core func $read (canon stream.read $s async (memory (core memory $memory "memory"))))
  (core func $write (canon stream.write $s async (memory (core memory $memory "memory"))))
  (core func $cancel-write (canon stream.cancel-write $s))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "new" (func $new (result i64)))
    (import "" "read" (func $read (param i32 i32 i32) (result i32)))
    (import "" "write" (func $write (param i32 i32 i32) (result i32)))
    (import "" "cancel-write" (func $cancel-write (param i32) (result i32)))
    (func (export "run") (result i32)
      (local $ends i64) (local $reader i32) (local $writer i32)
      (local.set $ends (call $new))
      (local.set $reader (i32.wrap_i64 (local.get $ends)))
      (local.set $writer (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
      ;; BLOCKED, BLOCKED, CANCELLED
      (if (i32.ne (call $read (local.get $reader) (i32.const 0) (i32.const 0)) (i32.const -1)) (then unreachable))
      (if (i32.ne (call $write (local.get $writer) (i32.const 0) (i32.const 4)) (i32.const -1)) (then unreachable))
      (if (i32.ne (call $cancel-write (local.get $writer)) (i32.const 2)) (then unreachable))
      (call $write (local.get $writer) (i32.const 0) (i32.const 0))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "new" (func $new)) (export "read" (func $read))
    (export "write" (func $write)) (export "cancel-write" (func $cancel-write))))))
  (func (export "run") async (result s32) (canon lift (core func $i "run"))))

;; BLOCKED
(assert_return (invoke "run") (s32.const -1))
