;; Promise: a synchronous call of a function that waits in its callback waits for it, and gets its result.
(component
  (component $callee
    (core func $return (canon task.return (result u32)))
    (core module $m
      (import "" "return" (func $return (param i32)))
      (global $v (mut i32) (i32.const 0))
      (func (export "f") (param $v i32) (result i32)
        (global.set $v (local.get $v))
        ;; YIELD
        (i32.const 1))
      (func (export "callback") (param i32 i32 i32) (result i32)
        (call $return (i32.add (global.get $v) (i32.const 1)))
        (i32.const 0)))
    (core instance $i (instantiate $m (with "" (instance (export "return" (func $return))))))
    (func (export "f") async (param "v" u32) (result u32)
      (canon lift (core func $i "f") async (callback (core func $i "callback")))))
  (component $caller
    (import "f" (func $f async (param "v" u32) (result u32)))
    (core func $f (canon lower (func $f)))
    (core module $m
      (import "" "f" (func $f (param i32) (result i32)))
      (func (export "run") (result i32) (call $f (call $f (i32.const 40)))))
    (core instance $i (instantiate $m (with "" (instance (export "f" (func $f))))))
    (func (export "run") async (result u32) (canon lift (core func $i "run"))))
  (instance $callee (instantiate $callee))
  (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
  (func (export "run") (alias export $caller "run")))

(assert_return (invoke "run") (u32.const 42))
(assert_return (invoke "run") (u32.const 42))
