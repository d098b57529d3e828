;; Promise: what a callback answers is EXIT, YIELD or WAIT.
(component
  (core module $m
    (func (export "run") (result i32) (i32.const 3))
    (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
  (core instance $i (instantiate $m))
  (func (export "run") async (canon lift (core func $i "run") async (callback (core func $i "callback")))))

(assert_trap (invoke "run") "unsupported callback code")
