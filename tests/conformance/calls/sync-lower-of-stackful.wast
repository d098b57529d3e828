;; Promise: a synchronous call of a function that waits on its own stack waits for it, and gets its result.
(component
  (component $callee
    (core func $return (canon task.return (result u32)))
    (core func $yield (canon thread.yield))
    (core module $m
      (import "" "return" (func $return (param i32)))
      (import "" "yield" (func $yield (result i32)))
      (func (export "f") (param $v i32)
        (drop (call $yield))
        (drop (call $yield))
        (call $return (i32.mul (local.get $v) (i32.const 3)))
        ;; Nobody waits for what comes after.
        (drop (call $yield))))
    (core instance $i (instantiate $m (with "" (instance
      (export "return" (func $return)) (export "yield" (func $yield))))))
    (func (export "f") async (param "v" u32) (result u32) (canon lift (core func $i "f") async)))
  (component $caller
    (import "f" (func $f async (param "v" u32) (result u32)))
    (core func $f (canon lower (func $f)))
    (core module $m
      (import "" "f" (func $f (param i32) (result i32)))
      (func (export "run") (result i32) (i32.add (call $f (i32.const 4)) (call $f (i32.const 10)))))
    (core instance $i (instantiate $m (with "" (instance (export "f" (func $f))))))
    (func (export "run") async (result u32) (canon lift (core func $i "run"))))
  (instance $callee (instantiate $callee))
  (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
  (func (export "run") (alias export $caller "run")))

(assert_return (invoke "run") (u32.const 42))
(assert_return (invoke "run") (u32.const 42))
