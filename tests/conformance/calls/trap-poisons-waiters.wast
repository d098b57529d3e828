;; Promise: a trap while tasks are parked in the instance ends all of them, and nobody enters it again.
(component
  (core func $suspend (canon thread.suspend))
  (core func $return (canon task.return (result u32)))
  (core module $m
    (import "" "suspend" (func $suspend (result i32)))
    (import "" "return" (func $return (param i32)))
    (func (export "park") (call $return (i32.const 1)) (drop (call $suspend)))
    (func (export "trap") (result i32) unreachable))
  (core instance $i (instantiate $m (with "" (instance
    (export "suspend" (func $suspend)) (export "return" (func $return))))))
  (func (export "park") async (result u32) (canon lift (core func $i "park") async))
  (func (export "trap") (result u32) (canon lift (core func $i "trap"))))

(assert_return (invoke "park") (u32.const 1))
(assert_return (invoke "park") (u32.const 1))
(assert_trap (invoke "trap") "unreachable")
(assert_trap (invoke "park") "cannot enter component instance")
