;; Promise: a task that ends without `task.return` is a trap, whether it has a callback or a stack.
(component definition $C
  (component $c
    (core func $yield (canon thread.yield))
    (core module $m
      (import "" "yield" (func $yield (result i32)))
      (func (export "callback-lifted") (result i32) (i32.const 0))
      (func (export "callback") (param i32 i32 i32) (result i32) unreachable)
      (func (export "stackful") (drop (call $yield))))
    (core instance $i (instantiate $m (with "" (instance (export "yield" (func $yield))))))
    (func (export "callback-lifted") async
      (canon lift (core func $i "callback-lifted") async (callback (core func $i "callback"))))
    (func (export "stackful") async (canon lift (core func $i "stackful") async)))
  (instance $c (instantiate $c))
  (func (export "callback-lifted") (alias export $c "callback-lifted"))
  (func (export "stackful") (alias export $c "stackful")))

(component instance $a $C)
(assert_trap (invoke "callback-lifted") "async-lifted export failed to produce a result")
(component instance $b $C)
(assert_trap (invoke "stackful") "async-lifted export failed to produce a result")
