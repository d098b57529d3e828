;; Code with exceptions cannot be put aside, so nobody else can run while it yields: the yield is over at once, and traps nothing.
(component
  (core func $yield (canon thread.yield))
  (core module $m
    (import "" "yield" (func $yield (result i32)))
    (tag $t)
    (func (export "run") (result i32)
      (block $caught (try_table (catch_all $caught) (throw $t)))
      (call $yield)))
  (core instance $i (instantiate $m (with "" (instance (export "yield" (func $yield))))))
  (func (export "run") async (result u32) (canon lift (core func $i "run"))))
(assert_return (invoke "run") (u32.const 0))
