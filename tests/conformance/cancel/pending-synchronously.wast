;; Promise: a synchronous `subtask.cancel` of a task that cannot be disturbed waits until the task has resolved by itself.
(component
  (component $callee
    (core func $yield (canon thread.yield))
    (core func $return (canon task.return (result u32)))
    (core module $m
      (import "" "yield" (func $yield (result i32)))
      (import "" "return" (func $return (param i32)))
      (func (export "f")
        (drop (call $yield))
        (drop (call $yield))
        (call $return (i32.const 9))))
    (core instance $i (instantiate $m (with "" (instance
      (export "yield" (func $yield)) (export "return" (func $return))))))
    (func (export "f") async (result u32) (canon lift (core func $i "f") async)))
  (component $caller
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
        (local $subtask i32)
        (local.set $subtask (i32.shr_u (call $f (i32.const 0)) (i32.const 4)))
        ;; RETURNED
        (if (i32.ne (call $subtask-cancel (local.get $subtask)) (i32.const 2)) (then unreachable))
        (call $subtask-drop (local.get $subtask))
        (i32.load (i32.const 0))))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "f" (func $f))
      (export "subtask-cancel" (func $subtask-cancel)) (export "subtask-drop" (func $subtask-drop))))))
    (func (export "run") async (result u32) (canon lift (core func $i "run"))))
  (instance $callee (instantiate $callee))
  (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
  (func (export "run") (alias export $caller "run")))

(assert_return (invoke "run") (u32.const 9))
(assert_return (invoke "run") (u32.const 9))
