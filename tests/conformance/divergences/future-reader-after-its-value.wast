;; Row V4: the reader of a future has its value, and the writable end is dropped.
;; Ours, and the specification: no event, a reader of a future is never told DROPPED. wasmtime 48: a FUTURE_READ event, DROPPED.
;; wasmtime: actual 4
(component
  (type $f (future u8))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $new (canon future.new $f))
  (core func $read (canon future.read $f async (memory (core memory $memory "memory"))))
  (core func $write (canon future.write $f async (memory (core memory $memory "memory"))))
  (core func $drop-writable (canon future.drop-writable $f))
  (core func $set-new (canon waitable-set.new))
  (core func $set-poll (canon waitable-set.poll (memory (core memory $memory "memory"))))
  (core func $join (canon waitable.join))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "new" (func $new (result i64)))
    (import "" "read" (func $read (param i32 i32) (result i32)))
    (import "" "write" (func $write (param i32 i32) (result i32)))
    (import "" "drop-writable" (func $drop-writable (param i32)))
    (import "" "set-new" (func $set-new (result i32)))
    (import "" "set-poll" (func $set-poll (param i32 i32) (result i32)))
    (import "" "join" (func $join (param i32 i32)))
    (func (export "run") (result i32)
      (local $ends i64) (local $reader i32) (local $writer i32) (local $set i32)
      (local.set $ends (call $new))
      (local.set $reader (i32.wrap_i64 (local.get $ends)))
      (local.set $writer (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
      (local.set $set (call $set-new))
      (call $join (local.get $reader) (local.get $set))
      ;; BLOCKED, COMPLETED, FUTURE_READ
      (if (i32.ne (call $read (local.get $reader) (i32.const 8)) (i32.const -1)) (then unreachable))
      (if (call $write (local.get $writer) (i32.const 16)) (then unreachable))
      (if (i32.ne (call $set-poll (local.get $set) (i32.const 0)) (i32.const 4)) (then unreachable))
      (call $drop-writable (local.get $writer))
      (call $set-poll (local.get $set) (i32.const 0))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "new" (func $new)) (export "read" (func $read))
    (export "write" (func $write)) (export "drop-writable" (func $drop-writable)) (export "set-new" (func $set-new))
    (export "set-poll" (func $set-poll)) (export "join" (func $join))))))
  (func (export "run") (result u32) (canon lift (core func $i "run"))))

;; NONE
(assert_return (invoke "run") (u32.const 0))
