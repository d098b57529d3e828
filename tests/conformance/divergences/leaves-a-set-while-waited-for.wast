;; Row V10: `waitable.join` with no set, of a waitable that another task waits for synchronously.
;; Ours, and the specification: a trap. wasmtime 48: none.
;; wasmtime: expected trap, got Component([])
(component
  (type $s (stream u8))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $return (canon task.return (result u32)))
  (core func $new (canon stream.new $s))
  (core func $read (canon stream.read $s (memory (core memory $memory "memory"))))
  (core func $join (canon waitable.join))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "return" (func $return (param i32)))
    (import "" "new" (func $new (result i64)))
    (import "" "read" (func $read (param i32 i32 i32) (result i32)))
    (import "" "join" (func $join (param i32 i32)))
    (global $reader (mut i32) (i32.const 0))
    (func (export "wait")
      (global.set $reader (i32.wrap_i64 (call $new)))
      (call $return (i32.const 1))
      (drop (call $read (global.get $reader) (i32.const 0) (i32.const 1))))
    (func (export "leave") (call $join (global.get $reader) (i32.const 0))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "return" (func $return)) (export "new" (func $new))
    (export "read" (func $read)) (export "join" (func $join))))))
  (func (export "wait") async (result u32) (canon lift (core func $i "wait") async))
  (func (export "leave") (canon lift (core func $i "leave"))))

(assert_return (invoke "wait") (u32.const 1))
(assert_trap (invoke "leave") "waitable cannot be used synchronously while added to a waitable set")
