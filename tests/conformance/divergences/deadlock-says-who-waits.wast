;; No row: what a deadlock is reported with.
;; Ours: also who waits for what. wasmtime 48, and the specification's suite: only that it is one.
;; wasmtime: expected 'waits for its operation on handle 1', got 'wasm trap: deadlock detected
(component
  (type $f (future u8))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $new (canon future.new $f))
  (core func $read (canon future.read $f (memory (core memory $memory "memory"))))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "new" (func $new (result i64)))
    (import "" "read" (func $read (param i32 i32) (result i32)))
    (func (export "run") (drop (call $read (i32.wrap_i64 (call $new)) (i32.const 0)))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "new" (func $new)) (export "read" (func $read))))))
  (func (export "run") async (canon lift (core func $i "run"))))

(assert_trap (invoke "run") "waits for its operation on handle 1")
