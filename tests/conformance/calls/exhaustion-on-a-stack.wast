;; Promise: code on a stack of its own that calls itself without end has a trap like any, before and after it has waited.
(component definition $C
  (core func $yield (canon thread.yield))
  (core module $m
    (import "" "yield" (func $yield (result i32)))
    (func $deep (param i64) (result i64)
      (i64.add (call $deep (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))
    (func (export "before") (drop (call $deep (i64.const 0))) (drop (call $yield)))
    (func (export "after") (drop (call $yield)) (drop (call $deep (i64.const 0))))
    (func (export "fine") (drop (call $yield))))
  (core instance $i (instantiate $m (with "" (instance (export "yield" (func $yield))))))
  (func (export "before") async (canon lift (core func $i "before")))
  (func (export "after") async (canon lift (core func $i "after")))
  (func (export "fine") async (canon lift (core func $i "fine"))))

(component instance $a $C)
(assert_exhaustion (invoke "before") "call stack exhausted")
(component instance $b $C)
(assert_exhaustion (invoke "after") "call stack exhausted")
(component instance $c $C)
(assert_return (invoke "fine"))
