;; Promise: a function of synchronous type may yield when nobody else can run: it goes on.
(component
  (core func $yield (canon thread.yield))
  (core module $m
    (import "" "yield" (func $yield (result i32)))
    (func (export "run") (result i32) (i32.add (call $yield) (i32.add (call $yield) (i32.const 5)))))
  (core instance $i (instantiate $m (with "" (instance (export "yield" (func $yield))))))
  (func (export "run") (result u32) (canon lift (core func $i "run"))))

(assert_return (invoke "run") (u32.const 5))
