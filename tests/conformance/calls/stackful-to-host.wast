;; Promise: a function that is lifted with a stack of its own can be called by the host, waits, and goes on after its result.
(component
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $return (canon task.return (result u32)))
  (core func $yield (canon thread.yield))
  (core func $set-new (canon waitable-set.new))
  (core func $set-wait (canon waitable-set.wait (memory (core memory $memory "memory"))))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "return" (func $return (param i32)))
    (import "" "yield" (func $yield (result i32)))
    (import "" "set-new" (func $set-new (result i32)))
    (import "" "set-wait" (func $set-wait (param i32 i32) (result i32)))
    (global $ended (mut i32) (i32.const 0))
    (func (export "run") (param $v i32)
      (drop (call $yield))
      (call $return (i32.add (local.get $v) (i32.const 1)))
      (drop (call $yield))
      (global.set $ended (i32.add (global.get $ended) (i32.const 1))))
    ;; Nothing is in the set.
    (func (export "forever")
      (drop (call $set-wait (call $set-new) (i32.const 0))))
    (func (export "ended") (result i32)
      ;; Who yielded before has had its turn after this.
      (drop (call $yield))
      (drop (call $yield))
      (global.get $ended)))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "return" (func $return)) (export "yield" (func $yield))
    (export "set-new" (func $set-new)) (export "set-wait" (func $set-wait))))))
  (func (export "run") async (param "v" u32) (result u32) (canon lift (core func $i "run") async))
  (func (export "forever") async (result u32) (canon lift (core func $i "forever") async))
  (func (export "ended") async (result u32) (canon lift (core func $i "ended"))))

(assert_return (invoke "run" (u32.const 1)) (u32.const 2))
(assert_return (invoke "run" (u32.const 2)) (u32.const 3))
(assert_return (invoke "ended") (u32.const 2))
(assert_trap (invoke "forever") "deadlock detected: event loop cannot make further progress")
