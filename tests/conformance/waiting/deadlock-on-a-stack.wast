;; Promise: a synchronous wait that cannot end is a deadlock, and told as one.
(component
  (import "host" (instance $host (export "echo-slowly" (func async (param "v" u32) (result u32)))))
  (type $s (stream u8))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $echo (canon lower (func $host "echo-slowly")))
  (core func $new (canon stream.new $s))
  (core func $read (canon stream.read $s (memory (core memory $memory "memory"))))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "echo" (func $echo (param i32) (result i32)))
    (import "" "new" (func $new (result i64)))
    (import "" "read" (func $read (param i32 i32 i32) (result i32)))
    (func (export "run") (result i32)
      ;; This wait ends.
      (drop (call $echo (i32.const 1)))
      (call $read (i32.wrap_i64 (call $new)) (i32.const 0) (i32.const 1))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "echo" (func $echo)) (export "new" (func $new))
    (export "read" (func $read))))))
  (func (export "run") async (result u32) (canon lift (core func $i "run"))))

(assert_trap (invoke "run") "deadlock detected: event loop cannot make further progress")
