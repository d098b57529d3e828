;; Promise: a callback may call synchronously and wait for it; it holds its instance meanwhile, and its task goes on after it.
(component
  (component $bottom
    (core func $return (canon task.return (result u32)))
    (core func $yield (canon thread.yield))
    (core module $m
      (import "" "return" (func $return (param i32)))
      (import "" "yield" (func $yield (result i32)))
      (func (export "f") (param $v i32)
        (drop (call $yield))
        (drop (call $yield))
        (call $return (i32.add (local.get $v) (i32.const 1)))))
    (core instance $i (instantiate $m (with "" (instance
      (export "return" (func $return)) (export "yield" (func $yield))))))
    (func (export "f") async (param "v" u32) (result u32) (canon lift (core func $i "f") async)))
  (component $middle
    (import "f" (func $f async (param "v" u32) (result u32)))
    (core func $f (canon lower (func $f)))
    (core func $return (canon task.return (result u32)))
    (core func $context-get (canon context.get i32 0))
    (core func $context-set (canon context.set i32 0))
    (core module $m
      (import "" "f" (func $f (param i32) (result i32)))
      (import "" "return" (func $return (param i32)))
      (import "" "context-get" (func $context-get (result i32)))
      (import "" "context-set" (func $context-set (param i32)))
      (global $inside (mut i32) (i32.const 0))
      (func (export "f") (param $v i32) (result i32)
        (if (global.get $inside) (then unreachable))
        (call $context-set (local.get $v))
        ;; YIELD
        (i32.const 1))
      (func (export "callback") (param i32 i32 i32) (result i32)
        (local $v i32)
        (if (global.get $inside) (then unreachable))
        (global.set $inside (i32.const 1))
        (local.set $v (call $f (call $context-get)))
        (global.set $inside (i32.const 0))
        (call $context-set (local.get $v))
        ;; Three rounds.
        (if (i32.ne (i32.rem_u (local.get $v) (i32.const 10)) (i32.const 3)) (then (return (i32.const 1))))
        (call $return (local.get $v))
        (i32.const 0)))
    (core instance $i (instantiate $m (with "" (instance
      (export "f" (func $f)) (export "return" (func $return)) (export "context-get" (func $context-get))
      (export "context-set" (func $context-set))))))
    (func (export "f") async (param "v" u32) (result u32)
      (canon lift (core func $i "f") async (callback (core func $i "callback")))))
  (component $top
    (import "f" (func $f async (param "v" u32) (result u32)))
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $f (canon lower (func $f) async (memory (core memory $memory "memory"))))
    (core func $set-new (canon waitable-set.new))
    (core func $set-wait (canon waitable-set.wait (memory (core memory $memory "memory"))))
    (core func $join (canon waitable.join))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "f" (func $f (param i32 i32) (result i32)))
      (import "" "set-new" (func $set-new (result i32)))
      (import "" "set-wait" (func $set-wait (param i32 i32) (result i32)))
      (import "" "join" (func $join (param i32 i32)))
      (func (export "run") (result i32)
        (local $set i32)
        (i64.store (i32.const 16) (i64.const 0))
        (local.set $set (call $set-new))
        (call $join (i32.shr_u (call $f (i32.const 10) (i32.const 16)) (i32.const 4)) (local.get $set))
        (call $join (i32.shr_u (call $f (i32.const 20) (i32.const 20)) (i32.const 4)) (local.get $set))
        (loop $again
          (drop (call $set-wait (local.get $set) (i32.const 0)))
          (br_if $again (i32.eqz (i32.and
            (i32.ne (i32.load (i32.const 16)) (i32.const 0)) (i32.ne (i32.load (i32.const 20)) (i32.const 0))))))
        (i32.add (i32.mul (i32.load (i32.const 16)) (i32.const 100)) (i32.load (i32.const 20)))))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "f" (func $f)) (export "set-new" (func $set-new))
      (export "set-wait" (func $set-wait)) (export "join" (func $join))))))
    (func (export "run") async (result u32) (canon lift (core func $i "run"))))
  (instance $bottom (instantiate $bottom))
  (instance $middle (instantiate $middle (with "f" (func $bottom "f"))))
  (instance $top (instantiate $top (with "f" (func $middle "f"))))
  (func (export "run") (alias export $top "run")))

(assert_return (invoke "run") (u32.const 1323))
(assert_return (invoke "run") (u32.const 1323))
