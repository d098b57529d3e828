;; Promise: a cancellable wait on a stack ends when the task is cancelled, and says so: `wait` and `yield` do.
(component
  (component $callee
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $set-new (canon waitable-set.new))
    (core func $set-wait-cancellable (canon waitable-set.wait cancellable (memory (core memory $memory "memory"))))
    (core func $yield-cancellable (canon thread.yield cancellable))
    (core func $task-cancel (canon task.cancel))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "set-new" (func $set-new (result i32)))
      (import "" "set-wait-cancellable" (func $set-wait-cancellable (param i32 i32) (result i32)))
      (import "" "yield-cancellable" (func $yield-cancellable (result i32)))
      (import "" "task-cancel" (func $task-cancel))
      (func (export "wait")
        ;; TASK_CANCELLED
        (if (i32.ne (call $set-wait-cancellable (call $set-new) (i32.const 0)) (i32.const 6)) (then unreachable))
        (call $task-cancel))
      (func (export "yield")
        (loop $again (br_if $again (i32.eqz (call $yield-cancellable))))
        (call $task-cancel)))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "set-new" (func $set-new))
      (export "set-wait-cancellable" (func $set-wait-cancellable))
      (export "yield-cancellable" (func $yield-cancellable)) (export "task-cancel" (func $task-cancel))))))
    (func (export "wait") async (canon lift (core func $i "wait") async))
    (func (export "yield") async (canon lift (core func $i "yield") async)))
  (component $caller
    (import "wait" (func $wait async))
    (import "yield" (func $yield async))
    (core func $wait (canon lower (func $wait) async))
    (core func $yield (canon lower (func $yield) async))
    (core func $subtask-cancel (canon subtask.cancel))
    (core func $subtask-drop (canon subtask.drop))
    (core module $m
      (import "" "wait" (func $wait (result i32)))
      (import "" "yield" (func $yield (result i32)))
      (import "" "subtask-cancel" (func $subtask-cancel (param i32) (result i32)))
      (import "" "subtask-drop" (func $subtask-drop (param i32)))
      (func $cancel (param $status i32) (result i32)
        (local $subtask i32) (local $state i32)
        ;; STARTED
        (if (i32.ne (i32.and (local.get $status) (i32.const 15)) (i32.const 1)) (then unreachable))
        (local.set $subtask (i32.shr_u (local.get $status) (i32.const 4)))
        (local.set $state (call $subtask-cancel (local.get $subtask)))
        (call $subtask-drop (local.get $subtask))
        (local.get $state))
      (func (export "wait") (result i32) (call $cancel (call $wait)))
      (func (export "yield") (result i32) (call $cancel (call $yield))))
    (core instance $i (instantiate $m (with "" (instance
      (export "wait" (func $wait)) (export "yield" (func $yield)) (export "subtask-cancel" (func $subtask-cancel))
      (export "subtask-drop" (func $subtask-drop))))))
    (func (export "wait") async (result u32) (canon lift (core func $i "wait")))
    (func (export "yield") async (result u32) (canon lift (core func $i "yield"))))
  (instance $callee (instantiate $callee))
  (instance $caller (instantiate $caller
    (with "wait" (func $callee "wait")) (with "yield" (func $callee "yield"))))
  (func (export "wait") (alias export $caller "wait"))
  (func (export "yield") (alias export $caller "yield")))

;; CANCELLED_BEFORE_RETURNED
(assert_return (invoke "wait") (u32.const 4))
(assert_return (invoke "yield") (u32.const 4))
