;; Promise: a subtask cannot be dropped before it has resolved, nor while its request to be cancelled is pending.
(component definition $C
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
    (core func $subtask-drop (canon subtask.drop))
    (core module $m
      (import "" "f" (func $f (result i32)))
      (import "" "subtask-cancel-async" (func $subtask-cancel-async (param i32) (result i32)))
      (import "" "subtask-drop" (func $subtask-drop (param i32)))
      (func (export "run") (call $subtask-drop (i32.shr_u (call $f) (i32.const 4))))
      (func (export "cancelled")
        (local $subtask i32)
        (local.set $subtask (i32.shr_u (call $f) (i32.const 4)))
        (drop (call $subtask-cancel-async (local.get $subtask)))
        (call $subtask-drop (local.get $subtask))))
    (core instance $i (instantiate $m (with "" (instance
      (export "f" (func $f)) (export "subtask-cancel-async" (func $subtask-cancel-async))
      (export "subtask-drop" (func $subtask-drop))))))
    (func (export "run") async (canon lift (core func $i "run")))
    (func (export "cancelled") async (canon lift (core func $i "cancelled"))))
  (instance $callee (instantiate $callee))
  (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
  (func (export "run") (alias export $caller "run"))
  (func (export "cancelled") (alias export $caller "cancelled")))

(component instance $a $C)
(assert_trap (invoke "run") "cannot drop a subtask which has not yet resolved")
(component instance $b $C)
(assert_trap (invoke "cancelled") "cannot drop a subtask which has not yet resolved")
