;; Promise: a task that waits for a synchronous call of its own is not disturbed when it is cancelled, nor is its callee.
(component
  (component $bottom
    (core func $yield (canon thread.yield))
    (core func $return (canon task.return (result u32)))
    (core module $m
      (import "" "yield" (func $yield (result i32)))
      (import "" "return" (func $return (param i32)))
      (func (export "f") (param $v i32)
        (drop (call $yield))
        (drop (call $yield))
        (call $return (i32.add (local.get $v) (i32.const 1)))))
    (core instance $i (instantiate $m (with "" (instance
      (export "yield" (func $yield)) (export "return" (func $return))))))
    (func (export "f") async (param "v" u32) (result u32) (canon lift (core func $i "f") async)))
  (component $middle
    (import "f" (func $f async (param "v" u32) (result u32)))
    (core func $f (canon lower (func $f)))
    (core func $return (canon task.return (result u32)))
    (core func $task-cancel (canon task.cancel))
    (core func $yield-cancellable (canon thread.yield cancellable))
    (core module $m
      (import "" "f" (func $f (param i32) (result i32)))
      (import "" "return" (func $return (param i32)))
      (import "" "task-cancel" (func $task-cancel))
      (import "" "yield-cancellable" (func $yield-cancellable (result i32)))
      ;; It agrees when it is asked to, once its call has ended.
      (func (export "f") (param $v i32) (param $agrees i32)
        (local $result i32)
        (local.set $result (call $f (local.get $v)))
        (if (local.get $agrees) (then
          (if (i32.ne (call $yield-cancellable) (i32.const 1)) (then unreachable))
          (call $task-cancel)
          (return)))
        (call $return (local.get $result))))
    (core instance $i (instantiate $m (with "" (instance
      (export "f" (func $f)) (export "return" (func $return)) (export "task-cancel" (func $task-cancel))
      (export "yield-cancellable" (func $yield-cancellable))))))
    (func (export "f") async (param "v" u32) (param "agrees" bool) (result u32) (canon lift (core func $i "f") async)))
  (component $top
    (import "f" (func $f async (param "v" u32) (param "agrees" bool) (result u32)))
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $f (canon lower (func $f) async (memory (core memory $memory "memory"))))
    (core func $subtask-cancel (canon subtask.cancel))
    (core func $subtask-drop (canon subtask.drop))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "f" (func $f (param i32 i32 i32) (result i32)))
      (import "" "subtask-cancel" (func $subtask-cancel (param i32) (result i32)))
      (import "" "subtask-drop" (func $subtask-drop (param i32)))
      ;; 100 * the result, and the state.
      (func (export "run") (param $agrees i32) (result i32)
        (local $subtask i32) (local $state i32)
        (i32.store (i32.const 16) (i32.const 0))
        (local.set $subtask (i32.shr_u (call $f (i32.const 6) (local.get $agrees) (i32.const 16)) (i32.const 4)))
        (local.set $state (call $subtask-cancel (local.get $subtask)))
        (call $subtask-drop (local.get $subtask))
        (i32.add (i32.mul (i32.load (i32.const 16)) (i32.const 100)) (local.get $state))))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "f" (func $f))
      (export "subtask-cancel" (func $subtask-cancel)) (export "subtask-drop" (func $subtask-drop))))))
    (func (export "run") async (param "agrees" bool) (result u32) (canon lift (core func $i "run"))))
  (instance $bottom (instantiate $bottom))
  (instance $middle (instantiate $middle (with "f" (func $bottom "f"))))
  (instance $top (instantiate $top (with "f" (func $middle "f"))))
  (func (export "run") (alias export $top "run")))

;; RETURNED, CANCELLED_BEFORE_RETURNED
(assert_return (invoke "run" (bool.const false)) (u32.const 702))
(assert_return (invoke "run" (bool.const true)) (u32.const 4))
