;; Promise: a call of the host that is cancelled is gone at once.
(component
  (import "host" (instance $host (export "never-return" (func async))))
  (core func $never (canon lower (func $host "never-return") async))
  (core func $subtask-cancel (canon subtask.cancel))
  (core func $subtask-drop (canon subtask.drop))
  (core module $m
    (import "" "never" (func $never (result i32)))
    (import "" "subtask-cancel" (func $subtask-cancel (param i32) (result i32)))
    (import "" "subtask-drop" (func $subtask-drop (param i32)))
    (func (export "run") (result i32)
      (local $subtask i32) (local $state i32)
      (local.set $subtask (i32.shr_u (call $never) (i32.const 4)))
      (local.set $state (call $subtask-cancel (local.get $subtask)))
      (call $subtask-drop (local.get $subtask))
      (local.get $state)))
  (core instance $i (instantiate $m (with "" (instance
    (export "never" (func $never)) (export "subtask-cancel" (func $subtask-cancel))
    (export "subtask-drop" (func $subtask-drop))))))
  (func (export "run") async (result u32) (canon lift (core func $i "run"))))

;; CANCELLED_BEFORE_RETURNED
(assert_return (invoke "run") (u32.const 4))
(assert_return (invoke "run") (u32.const 4))
