;; No row: a task whose thread is in a cancellable `thread.suspend` is cancelled.
;; Ours, and the specification: the thread goes on, and is told. wasmtime 48: it stays suspended.
;; wasmtime: deadlock detected
(component
  (component $callee
    (core func $suspend-cancellable (canon thread.suspend cancellable))
    (core func $task-cancel (canon task.cancel))
    (core module $m
      (import "" "suspend-cancellable" (func $suspend-cancellable (result i32)))
      (import "" "task-cancel" (func $task-cancel))
      (func (export "f")
        (if (i32.ne (call $suspend-cancellable) (i32.const 1)) (then unreachable))
        (call $task-cancel)))
    (core instance $i (instantiate $m (with "" (instance
      (export "suspend-cancellable" (func $suspend-cancellable)) (export "task-cancel" (func $task-cancel))))))
    (func (export "f") async (canon lift (core func $i "f") async)))
  (component $caller
    (import "f" (func $f async))
    (core func $f (canon lower (func $f) async))
    (core func $subtask-cancel (canon subtask.cancel))
    (core module $m
      (import "" "f" (func $f (result i32)))
      (import "" "subtask-cancel" (func $subtask-cancel (param i32) (result i32)))
      (func (export "run") (result i32) (call $subtask-cancel (i32.shr_u (call $f) (i32.const 4)))))
    (core instance $i (instantiate $m (with "" (instance
      (export "f" (func $f)) (export "subtask-cancel" (func $subtask-cancel))))))
    (func (export "run") async (result u32) (canon lift (core func $i "run"))))
  (instance $callee (instantiate $callee))
  (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
  (func (export "run") (alias export $caller "run")))

;; CANCELLED_BEFORE_RETURNED
(assert_return (invoke "run") (u32.const 4))
