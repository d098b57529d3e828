;; Promise: a guest that calls itself without end has a trap, and the process goes on.
(component
  (core module $m (func $f (export "f") (call $f)))
  (core instance $i (instantiate $m))
  (func (export "f") (canon lift (core func $i "f"))))
(assert_exhaustion (invoke "f") "call stack exhausted")
(component
  (core module $m (func (export "f") (result i32) (i32.const 1)))
  (core instance $i (instantiate $m))
  (func (export "f") (result u32) (canon lift (core func $i "f"))))
(assert_return (invoke "f") (u32.const 1))
