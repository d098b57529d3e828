;; No row: an instance is called again after a deadlock.
;; Ours: a deadlock is a trap, so it is dead. wasmtime 48: it can be entered. The specification leaves it to the host.
;; wasmtime: deadlock detected
(component
  (core func $set-new (canon waitable-set.new))
  (core module $m
    (import "" "set-new" (func $set-new (result i32)))
    (func (export "run") (result i32) (i32.or (i32.const 2) (i32.shl (call $set-new) (i32.const 4))))
    (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
  (core instance $i (instantiate $m (with "" (instance (export "set-new" (func $set-new))))))
  (func (export "run") async (canon lift (core func $i "run") async (callback (core func $i "callback")))))

(assert_trap (invoke "run") "deadlock detected: event loop cannot make further progress")
(assert_trap (invoke "run") "cannot enter component instance")
