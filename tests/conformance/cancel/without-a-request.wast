;; Promise: a task that nobody has cancelled cannot say that it was.
(component
  (core func $task-cancel (canon task.cancel))
  (core module $m
    (import "" "task-cancel" (func $task-cancel))
    (func (export "run") (result i32) (call $task-cancel) (i32.const 0))
    (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
  (core instance $i (instantiate $m (with "" (instance (export "task-cancel" (func $task-cancel))))))
  (func (export "run") async (canon lift (core func $i "run") async (callback (core func $i "callback")))))

(assert_trap (invoke "run") "`task.cancel` called by ")
