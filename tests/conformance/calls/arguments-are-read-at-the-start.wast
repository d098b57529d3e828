;; Promise: the arguments of a call that waits at the gate are read when it starts, not when it is made.
(component
  (component $callee
    (core func $backpressure-inc (canon backpressure.inc))
    (core func $backpressure-dec (canon backpressure.dec))
    (core func $return (canon task.return (result u32)))
    (core module $m
      (import "" "backpressure-inc" (func $backpressure-inc))
      (import "" "backpressure-dec" (func $backpressure-dec))
      (import "" "return" (func $return (param i32)))
      (func (export "shut") (call $backpressure-inc))
      (func (export "unlock") (call $backpressure-dec))
      (func (export "f") (param i32 i32 i32 i32 i32) (result i32)
        (call $return
          (i32.add (i32.add (local.get 0) (local.get 1))
            (i32.add (local.get 2) (i32.add (local.get 3) (local.get 4)))))
        (i32.const 0))
      (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
    (core instance $i (instantiate $m (with "" (instance
      (export "backpressure-inc" (func $backpressure-inc)) (export "backpressure-dec" (func $backpressure-dec))
      (export "return" (func $return))))))
    (func (export "shut") (canon lift (core func $i "shut")))
    (func (export "unlock") (canon lift (core func $i "unlock")))
    (func (export "f") async (param "a" u32) (param "b" u32) (param "c" u32) (param "d" u32) (param "e" u32) (result u32)
      (canon lift (core func $i "f") async (callback (core func $i "callback")))))
  (component $caller
    (import "shut" (func $shut))
    (import "unlock" (func $unlock))
    (import "f"
      (func $f async (param "a" u32) (param "b" u32) (param "c" u32) (param "d" u32) (param "e" u32) (result u32)))
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $shut (canon lower (func $shut)))
    (core func $unlock (canon lower (func $unlock)))
    (core func $f (canon lower (func $f) async (memory (core memory $memory "memory"))))
    (core func $set-new (canon waitable-set.new))
    (core func $set-wait (canon waitable-set.wait (memory (core memory $memory "memory"))))
    (core func $join (canon waitable.join))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "shut" (func $shut))
      (import "" "unlock" (func $unlock))
      (import "" "f" (func $f (param i32 i32) (result i32)))
      (import "" "set-new" (func $set-new (result i32)))
      (import "" "set-wait" (func $set-wait (param i32 i32) (result i32)))
      (import "" "join" (func $join (param i32 i32)))
      (func (export "run") (result i32)
        (local $subtask i32) (local $set i32)
        (call $shut)
        ;; More than four arguments are in memory.
        (i32.store (i32.const 36) (i32.const 1000))
        (local.set $subtask (i32.shr_u (call $f (i32.const 32) (i32.const 16)) (i32.const 4)))
        (i32.store (i32.const 36) (i32.const 40))
        (i32.store (i32.const 48) (i32.const 2))
        (call $unlock)
        (local.set $set (call $set-new))
        (call $join (local.get $subtask) (local.get $set))
        (loop $again
          (drop (call $set-wait (local.get $set) (i32.const 0)))
          ;; Until it is RETURNED.
          (br_if $again (i32.ne (i32.load (i32.const 4)) (i32.const 2))))
        (i32.load (i32.const 16))))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "shut" (func $shut)) (export "unlock" (func $unlock))
      (export "f" (func $f)) (export "set-new" (func $set-new)) (export "set-wait" (func $set-wait))
      (export "join" (func $join))))))
    (func (export "run") async (result u32) (canon lift (core func $i "run"))))
  (instance $callee (instantiate $callee))
  (instance $caller (instantiate $caller
    (with "shut" (func $callee "shut")) (with "unlock" (func $callee "unlock")) (with "f" (func $callee "f"))))
  (func (export "run") (alias export $caller "run")))

(assert_return (invoke "run") (u32.const 42))
