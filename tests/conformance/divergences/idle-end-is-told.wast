;; Row V2: an end that is idle, and in a waitable set, when the other end is dropped.
;; Ours, and the specification: no event; the next operation says DROPPED. wasmtime 48: an event at once.
;; The specification has changed its mind since, to wasmtime's answer.
;; wasmtime: actual 2
(component
  (type $s (stream u8))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $new (canon stream.new $s))
  (core func $drop-writable (canon stream.drop-writable $s))
  (core func $set-new (canon waitable-set.new))
  (core func $set-poll (canon waitable-set.poll (memory (core memory $memory "memory"))))
  (core func $join (canon waitable.join))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "new" (func $new (result i64)))
    (import "" "drop-writable" (func $drop-writable (param i32)))
    (import "" "set-new" (func $set-new (result i32)))
    (import "" "set-poll" (func $set-poll (param i32 i32) (result i32)))
    (import "" "join" (func $join (param i32 i32)))
    (func (export "run") (result i32)
      (local $ends i64) (local $reader i32) (local $set i32)
      (local.set $ends (call $new))
      (local.set $reader (i32.wrap_i64 (local.get $ends)))
      (local.set $set (call $set-new))
      (call $join (local.get $reader) (local.get $set))
      (call $drop-writable (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
      (call $set-poll (local.get $set) (i32.const 0))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "new" (func $new))
    (export "drop-writable" (func $drop-writable)) (export "set-new" (func $set-new))
    (export "set-poll" (func $set-poll)) (export "join" (func $join))))))
  (func (export "run") (result u32) (canon lift (core func $i "run"))))

;; NONE
(assert_return (invoke "run") (u32.const 0))
