;; Promise: who has returned goes on beside its caller, that has waited synchronously for the result alone.
(component
  (component $callee
    (core func $return (canon task.return (result u32)))
    (core func $yield (canon thread.yield))
    (core module $m
      (import "" "return" (func $return (param i32)))
      (import "" "yield" (func $yield (result i32)))
      (global $done (mut i32) (i32.const 0))
      (func (export "callback-lifted") (result i32)
        (global.set $done (i32.const 0))
        (call $return (i32.const 20))
        ;; YIELD
        (i32.const 1))
      (func (export "callback") (param i32 i32 i32) (result i32)
        (global.set $done (i32.const 1))
        (i32.const 0))
      (func (export "stackful")
        (global.set $done (i32.const 0))
        (drop (call $yield))
        (call $return (i32.const 30))
        (drop (call $yield))
        (global.set $done (i32.const 1)))
      (func (export "done") (result i32) (global.get $done)))
    (core instance $i (instantiate $m (with "" (instance
      (export "return" (func $return)) (export "yield" (func $yield))))))
    (func (export "callback-lifted") async (result u32)
      (canon lift (core func $i "callback-lifted") async (callback (core func $i "callback"))))
    (func (export "stackful") async (result u32) (canon lift (core func $i "stackful") async))
    (func (export "done") (result u32) (canon lift (core func $i "done"))))
  (component $caller
    (import "callback-lifted" (func $callback-lifted async (result u32)))
    (import "stackful" (func $stackful async (result u32)))
    (import "done" (func $done (result u32)))
    (core func $callback-lifted (canon lower (func $callback-lifted)))
    (core func $stackful (canon lower (func $stackful)))
    (core func $done (canon lower (func $done)))
    (core func $yield (canon thread.yield))
    (core module $m
      (import "" "callback-lifted" (func $callback-lifted (result i32)))
      (import "" "stackful" (func $stackful (result i32)))
      (import "" "done" (func $done (result i32)))
      (import "" "yield" (func $yield (result i32)))
      ;; It does not end if the callee does not go on.
      (func $until-done (loop $again (drop (call $yield)) (br_if $again (i32.eqz (call $done)))))
      (func (export "run") (result i32)
        (local $sum i32)
        (local.set $sum (call $callback-lifted))
        ;; It has returned, and not ended.
        (if (call $done) (then unreachable))
        (call $until-done)
        (local.set $sum (i32.add (local.get $sum) (call $stackful)))
        (if (call $done) (then unreachable))
        (call $until-done)
        (local.get $sum)))
    (core instance $i (instantiate $m (with "" (instance
      (export "callback-lifted" (func $callback-lifted)) (export "stackful" (func $stackful))
      (export "done" (func $done)) (export "yield" (func $yield))))))
    (func (export "run") async (result u32) (canon lift (core func $i "run"))))
  (instance $callee (instantiate $callee))
  (instance $caller (instantiate $caller
    (with "callback-lifted" (func $callee "callback-lifted")) (with "stackful" (func $callee "stackful"))
    (with "done" (func $callee "done"))))
  (func (export "run") (alias export $caller "run")))

(assert_return (invoke "run") (u32.const 50))
(assert_return (invoke "run") (u32.const 50))
