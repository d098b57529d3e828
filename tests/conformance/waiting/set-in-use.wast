;; Promise: a set that somebody waits at cannot be dropped.
(component
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $return (canon task.return (result u32)))
  (core func $set-new (canon waitable-set.new))
  (core func $set-wait (canon waitable-set.wait (memory (core memory $memory "memory"))))
  (core func $set-drop (canon waitable-set.drop))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "return" (func $return (param i32)))
    (import "" "set-new" (func $set-new (result i32)))
    (import "" "set-wait" (func $set-wait (param i32 i32) (result i32)))
    (import "" "set-drop" (func $set-drop (param i32)))
    (global $set (mut i32) (i32.const 0))
    (func (export "wait")
      (global.set $set (call $set-new))
      (call $return (i32.const 1))
      (drop (call $set-wait (global.get $set) (i32.const 0))))
    (func (export "drop") (call $set-drop (global.get $set))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "return" (func $return)) (export "set-new" (func $set-new))
    (export "set-wait" (func $set-wait)) (export "set-drop" (func $set-drop))))))
  (func (export "wait") async (result u32) (canon lift (core func $i "wait") async))
  (func (export "drop") (canon lift (core func $i "drop"))))

(assert_return (invoke "wait") (u32.const 1))
(assert_trap (invoke "drop") "cannot drop waitable set with waiters")
