;; Promise: a task that yields for ever after its result does not keep the host from calling, nor others from their turns.
(component
  (core func $return (canon task.return (result u32)))
  (core func $yield (canon thread.yield))
  (core module $m
    (import "" "return" (func $return (param i32)))
    (import "" "yield" (func $yield (result i32)))
    (global $turns (mut i32) (i32.const 0))
    (func (export "spin")
      (call $return (i32.const 1))
      (loop $again
        (global.set $turns (i32.add (global.get $turns) (i32.const 1)))
        (drop (call $yield))
        (br $again)))
    (func (export "turns") (result i32)
      (local $before i32)
      (local.set $before (global.get $turns))
      (drop (call $yield))
      (drop (call $yield))
      (drop (call $yield))
      (i32.lt_u (local.get $before) (global.get $turns))))
  (core instance $i (instantiate $m (with "" (instance
    (export "return" (func $return)) (export "yield" (func $yield))))))
  (func (export "spin") async (result u32) (canon lift (core func $i "spin") async))
  (func (export "turns") async (result bool) (canon lift (core func $i "turns"))))

(assert_return (invoke "spin") (u32.const 1))
(assert_return (invoke "turns") (bool.const true))
(assert_return (invoke "spin") (u32.const 1))
(assert_return (invoke "turns") (bool.const true))
