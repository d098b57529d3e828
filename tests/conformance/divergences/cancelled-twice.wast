;; Row V7: a second `subtask.cancel` while the first is pending.
;; Ours, and the specification: a trap. wasmtime 48: BLOCKED again.
;; wasmtime: expected trap, got Component([])
(component
  (component $callee
    (core func $suspend (canon thread.suspend))
    (core module $m
      (import "" "suspend" (func $suspend (result i32)))
      (func (export "f") (drop (call $suspend))))
    (core instance $i (instantiate $m (with "" (instance (export "suspend" (func $suspend))))))
    (func (export "f") async (canon lift (core func $i "f") async)))
  (component $caller
    (import "f" (func $f async))
    (core func $f (canon lower (func $f) async))
    (core func $subtask-cancel-async (canon subtask.cancel async))
    (core module $m
      (import "" "f" (func $f (result i32)))
      (import "" "subtask-cancel-async" (func $subtask-cancel-async (param i32) (result i32)))
      (func (export "run")
        (local $subtask i32)
        (local.set $subtask (i32.shr_u (call $f) (i32.const 4)))
        (drop (call $subtask-cancel-async (local.get $subtask)))
        (drop (call $subtask-cancel-async (local.get $subtask)))))
    (core instance $i (instantiate $m (with "" (instance
      (export "f" (func $f)) (export "subtask-cancel-async" (func $subtask-cancel-async))))))
    (func (export "run") async (canon lift (core func $i "run"))))
  (instance $callee (instantiate $callee))
  (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
  (func (export "run") (alias export $caller "run")))

(assert_trap (invoke "run") "`subtask.cancel` called twice for one subtask")
