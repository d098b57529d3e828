;; Promise: a task returns a value of its own type.
(component
  (core func $return-none (canon task.return))
  (core module $m
    (import "" "return-none" (func $return-none))
    (func (export "run") (result i32) (call $return-none) (i32.const 0))
    (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
  (core instance $i (instantiate $m (with "" (instance (export "return-none" (func $return-none))))))
  (func (export "run") async (result u32)
    (canon lift (core func $i "run") async (callback (core func $i "callback")))))

(assert_trap (invoke "run") "invalid `task.return` signature and/or options for current task")
