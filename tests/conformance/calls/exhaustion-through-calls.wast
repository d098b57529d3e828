;; Promise: a parked callee of a synchronous call that exhausts its stack is a trap of its caller too.
(component
  (component $callee
    (core func $yield (canon thread.yield))
    (core module $m
      (import "" "yield" (func $yield (result i32)))
      (func $deep (param i64) (result i64)
        (i64.add (call $deep (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))
      (func (export "f") (drop (call $yield)) (drop (call $deep (i64.const 0)))))
    (core instance $i (instantiate $m (with "" (instance (export "yield" (func $yield))))))
    (func (export "f") async (canon lift (core func $i "f"))))
  (component $caller
    (import "f" (func $f async))
    (core func $f (canon lower (func $f)))
    (core module $m
      (import "" "f" (func $f))
      (func (export "run") (call $f)))
    (core instance $i (instantiate $m (with "" (instance (export "f" (func $f))))))
    (func (export "run") async (canon lift (core func $i "run"))))
  (instance $callee (instantiate $callee))
  (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
  (func (export "run") (alias export $caller "run")))

(assert_exhaustion (invoke "run") "call stack exhausted")
