;; Promise: a start function that traps is the trap of an instantiation, and nothing before it is harmed.
(component $before
  (core module $m (func (export "fine") (result i32) (i32.const 1)))
  (core instance $i (instantiate $m))
  (func (export "fine") (result u32) (canon lift (core func $i "fine"))))

(assert_trap
  (component
    (core module $m (func $f unreachable) (start $f))
    (core instance (instantiate $m)))
  "unreachable")

(assert_return (invoke "fine") (u32.const 1))
