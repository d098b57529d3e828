;; Promise: a task that is cancelled cancels its own call, in the middle of its callback, before it agrees.
(component
  (component $bottom
    (core func $set-new (canon waitable-set.new))
    (core func $task-cancel (canon task.cancel))
    (core module $m
      (import "" "set-new" (func $set-new (result i32)))
      (import "" "task-cancel" (func $task-cancel))
      ;; WAIT
      (func (export "f") (result i32) (i32.or (i32.const 2) (i32.shl (call $set-new) (i32.const 4))))
      (func (export "callback") (param $event i32) (param i32 i32) (result i32)
        ;; TASK_CANCELLED
        (if (i32.ne (local.get $event) (i32.const 6)) (then unreachable))
        (call $task-cancel)
        (i32.const 0)))
    (core instance $i (instantiate $m (with "" (instance
      (export "set-new" (func $set-new)) (export "task-cancel" (func $task-cancel))))))
    (func (export "f") async (canon lift (core func $i "f") async (callback (core func $i "callback")))))
  (component $middle
    (import "f" (func $f async))
    (core func $f (canon lower (func $f) async))
    (core func $set-new (canon waitable-set.new))
    (core func $subtask-cancel (canon subtask.cancel))
    (core func $subtask-drop (canon subtask.drop))
    (core func $task-cancel (canon task.cancel))
    (core func $yield (canon thread.yield))
    (core module $m
      (import "" "f" (func $f (result i32)))
      (import "" "set-new" (func $set-new (result i32)))
      (import "" "subtask-cancel" (func $subtask-cancel (param i32) (result i32)))
      (import "" "subtask-drop" (func $subtask-drop (param i32)))
      (import "" "task-cancel" (func $task-cancel))
      (import "" "yield" (func $yield (result i32)))
      (global $subtask (mut i32) (i32.const 0))
      (func (export "f") (result i32)
        (global.set $subtask (i32.shr_u (call $f) (i32.const 4)))
        (i32.or (i32.const 2) (i32.shl (call $set-new) (i32.const 4))))
      (func (export "callback") (param $event i32) (param i32 i32) (result i32)
        (if (i32.ne (local.get $event) (i32.const 6)) (then unreachable))
        ;; CANCELLED_BEFORE_RETURNED
        (if (i32.ne (call $subtask-cancel (global.get $subtask)) (i32.const 4)) (then unreachable))
        (call $subtask-drop (global.get $subtask))
        ;; In the middle of a callback, on its stack.
        (drop (call $yield))
        (call $task-cancel)
        (i32.const 0)))
    (core instance $i (instantiate $m (with "" (instance
      (export "f" (func $f)) (export "set-new" (func $set-new)) (export "subtask-cancel" (func $subtask-cancel))
      (export "subtask-drop" (func $subtask-drop)) (export "task-cancel" (func $task-cancel))
      (export "yield" (func $yield))))))
    (func (export "f") async (result u32)
      (canon lift (core func $i "f") async (callback (core func $i "callback")))))
  (component $top
    (import "f" (func $f async (result u32)))
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $f (canon lower (func $f) async (memory (core memory $memory "memory"))))
    (core func $subtask-cancel (canon subtask.cancel))
    (core func $subtask-drop (canon subtask.drop))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "f" (func $f (param i32) (result i32)))
      (import "" "subtask-cancel" (func $subtask-cancel (param i32) (result i32)))
      (import "" "subtask-drop" (func $subtask-drop (param i32)))
      (func (export "run") (result i32)
        (local $subtask i32) (local $state i32)
        (local.set $subtask (i32.shr_u (call $f (i32.const 16)) (i32.const 4)))
        (local.set $state (call $subtask-cancel (local.get $subtask)))
        (call $subtask-drop (local.get $subtask))
        (local.get $state)))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "f" (func $f))
      (export "subtask-cancel" (func $subtask-cancel)) (export "subtask-drop" (func $subtask-drop))))))
    (func (export "run") async (result u32) (canon lift (core func $i "run"))))
  (instance $bottom (instantiate $bottom))
  (instance $middle (instantiate $middle (with "f" (func $bottom "f"))))
  (instance $top (instantiate $top (with "f" (func $middle "f"))))
  (func (export "run") (alias export $top "run")))

(assert_return (invoke "run") (u32.const 4))
(assert_return (invoke "run") (u32.const 4))
