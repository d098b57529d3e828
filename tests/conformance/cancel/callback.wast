;; Promise: a task that waits in its callback learns there that it is cancelled; it may agree, at once or later, or return all
;; the same. `subtask.cancel` waits for its answer.
(component
  (component $callee
    (core func $set-new (canon waitable-set.new))
    (core func $task-cancel (canon task.cancel))
    (core func $return (canon task.return (result u32)))
    (core module $m
      (import "" "set-new" (func $set-new (result i32)))
      (import "" "task-cancel" (func $task-cancel))
      (import "" "return" (func $return (param i32)))
      ;; 0 agrees, 1 returns, 2 yields, and agrees when it comes back as 3.
      (global $how (mut i32) (i32.const 0))
      (func (export "f") (param $how i32) (result i32)
        (global.set $how (local.get $how))
        ;; WAIT
        (i32.or (i32.const 2) (i32.shl (call $set-new) (i32.const 4))))
      (func (export "callback") (param $event i32) (param i32 i32) (result i32)
        (if (i32.eq (global.get $how) (i32.const 3)) (then
          ;; It has yielded: NONE.
          (if (local.get $event) (then unreachable))
          (call $task-cancel)
          (return (i32.const 0))))
        ;; TASK_CANCELLED
        (if (i32.ne (local.get $event) (i32.const 6)) (then unreachable))
        (if (i32.eq (global.get $how) (i32.const 2)) (then
          (global.set $how (i32.const 3))
          ;; YIELD
          (return (i32.const 1))))
        (if (global.get $how) (then (call $return (i32.const 77))) (else (call $task-cancel)))
        (i32.const 0)))
    (core instance $i (instantiate $m (with "" (instance
      (export "set-new" (func $set-new)) (export "task-cancel" (func $task-cancel)) (export "return" (func $return))))))
    (func (export "f") async (param "how" u32) (result u32)
      (canon lift (core func $i "f") async (callback (core func $i "callback")))))
  (component $caller
    (import "f" (func $f async (param "how" u32) (result u32)))
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $f (canon lower (func $f) async (memory (core memory $memory "memory"))))
    (core func $subtask-cancel (canon subtask.cancel))
    (core func $subtask-drop (canon subtask.drop))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "f" (func $f (param i32 i32) (result i32)))
      (import "" "subtask-cancel" (func $subtask-cancel (param i32) (result i32)))
      (import "" "subtask-drop" (func $subtask-drop (param i32)))
      ;; 100 * the result, if there is one, and the state.
      (func (export "run") (param $how i32) (result i32)
        (local $subtask i32) (local $state i32)
        (i32.store (i32.const 0) (i32.const 0))
        (local.set $subtask (i32.shr_u (call $f (local.get $how) (i32.const 0)) (i32.const 4)))
        (local.set $state (call $subtask-cancel (local.get $subtask)))
        (call $subtask-drop (local.get $subtask))
        (i32.add (i32.mul (i32.load (i32.const 0)) (i32.const 100)) (local.get $state))))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "f" (func $f))
      (export "subtask-cancel" (func $subtask-cancel)) (export "subtask-drop" (func $subtask-drop))))))
    (func (export "run") async (param "how" u32) (result u32) (canon lift (core func $i "run"))))
  (instance $callee (instantiate $callee))
  (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
  (func (export "run") (alias export $caller "run")))

;; CANCELLED_BEFORE_RETURNED, RETURNED, CANCELLED_BEFORE_RETURNED
(assert_return (invoke "run" (u32.const 0)) (u32.const 4))
(assert_return (invoke "run" (u32.const 1)) (u32.const 7702))
(assert_return (invoke "run" (u32.const 2)) (u32.const 4))
