;; Row V3: an end is idle when the other is dropped, and operates without asking for events.
;; Ours, and the specification: the operation says DROPPED, and no event follows. wasmtime 48: an event does follow.
;; wasmtime: actual 3
(component
  (type $s (stream u8))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $new (canon stream.new $s))
  (core func $write (canon stream.write $s async (memory (core memory $memory "memory"))))
  (core func $drop-readable (canon stream.drop-readable $s))
  (core func $set-new (canon waitable-set.new))
  (core func $set-poll (canon waitable-set.poll (memory (core memory $memory "memory"))))
  (core func $join (canon waitable.join))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "new" (func $new (result i64)))
    (import "" "write" (func $write (param i32 i32 i32) (result i32)))
    (import "" "drop-readable" (func $drop-readable (param i32)))
    (import "" "set-new" (func $set-new (result i32)))
    (import "" "set-poll" (func $set-poll (param i32 i32) (result i32)))
    (import "" "join" (func $join (param i32 i32)))
    (func (export "run") (result i32)
      (local $ends i64) (local $writer i32) (local $set i32)
      (local.set $ends (call $new))
      (local.set $writer (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
      (local.set $set (call $set-new))
      (call $join (local.get $writer) (local.get $set))
      (call $drop-readable (i32.wrap_i64 (local.get $ends)))
      ;; DROPPED
      (if (i32.ne (call $write (local.get $writer) (i32.const 0) (i32.const 1)) (i32.const 1)) (then unreachable))
      (call $set-poll (local.get $set) (i32.const 0))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "new" (func $new)) (export "write" (func $write))
    (export "drop-readable" (func $drop-readable)) (export "set-new" (func $set-new))
    (export "set-poll" (func $set-poll)) (export "join" (func $join))))))
  (func (export "run") (result u32) (canon lift (core func $i "run"))))

;; NONE
(assert_return (invoke "run") (u32.const 0))
