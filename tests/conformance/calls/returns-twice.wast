;; Promise: a task returns once.
(component
  (core func $return (canon task.return (result u32)))
  (core module $m
    (import "" "return" (func $return (param i32)))
    (func (export "run") (result i32)
      (call $return (i32.const 1))
      (call $return (i32.const 2))
      (i32.const 0))
    (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
  (core instance $i (instantiate $m (with "" (instance (export "return" (func $return))))))
  (func (export "run") async (result u32)
    (canon lift (core func $i "run") async (callback (core func $i "callback")))))

(assert_trap (invoke "run") "`task.return` or `task.cancel` called more than once for current task")
