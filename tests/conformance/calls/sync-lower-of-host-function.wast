;; Promise: a synchronous call of an asynchronous function of the host waits for it.
(component
  (import "host" (instance $host
    (export "echo-slowly" (func async (param "v" u32) (result u32)))
    (export "return-two-slowly" (func async (result s32)))))
  (core func $echo (canon lower (func $host "echo-slowly")))
  (core func $two (canon lower (func $host "return-two-slowly")))
  (core module $m
    (import "" "echo" (func $echo (param i32) (result i32)))
    (import "" "two" (func $two (result i32)))
    (func (export "run") (param $v i32) (result i32) (i32.add (call $two) (call $echo (local.get $v)))))
  (core instance $i (instantiate $m (with "" (instance (export "echo" (func $echo)) (export "two" (func $two))))))
  (func (export "run") async (param "v" u32) (result u32) (canon lift (core func $i "run"))))

(assert_return (invoke "run" (u32.const 40)) (u32.const 42))
(assert_return (invoke "run" (u32.const 0)) (u32.const 2))
