;; Promise: strings go through a synchronous call that waits as through any, in both directions.
(component
  (component $callee
    (core module $memory
      (memory (export "memory") 1)
      (global $free (mut i32) (i32.const 1024))
      ;; Nothing is given back, and what shrinks stays where it is.
      (func (export "realloc") (param i32 i32 i32 i32) (result i32)
        (if (i32.and (i32.ne (local.get 0) (i32.const 0)) (i32.le_u (local.get 3) (local.get 1)))
          (then (return (local.get 0))))
        (global.set $free (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
        (global.get $free)
        (global.set $free (i32.add (global.get $free) (local.get 3)))))
    (core instance $memory (instantiate $memory))
    (core func $yield (canon thread.yield))
    (core func $return (canon task.return (result string) (memory (core memory $memory "memory"))))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "yield" (func $yield (result i32)))
      (import "" "return" (func $return (param i32 i32)))
      (func (export "f") (param $at i32) (param $len i32)
        (drop (call $yield))
        ;; The first letter is another.
        (i32.store8 (local.get $at) (i32.const 0x4a))
        (drop (call $yield))
        (call $return (local.get $at) (local.get $len))))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "yield" (func $yield)) (export "return" (func $return))))))
    (func (export "f") async (param "v" string) (result string)
      (canon lift (core func $i "f") async (memory (core memory $memory "memory")) (realloc (core func $memory "realloc")))))
  (component $caller
    (import "f" (func $f async (param "v" string) (result string)))
    (core module $memory
      (memory (export "memory") 1)
      (global $free (mut i32) (i32.const 1024))
      ;; Nothing is given back, and what shrinks stays where it is.
      (func (export "realloc") (param i32 i32 i32 i32) (result i32)
        (if (i32.and (i32.ne (local.get 0) (i32.const 0)) (i32.le_u (local.get 3) (local.get 1)))
          (then (return (local.get 0))))
        (global.set $free (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
        (global.get $free)
        (global.set $free (i32.add (global.get $free) (local.get 3)))))
    (core instance $memory (instantiate $memory))
    (core func $f
      (canon lower (func $f) (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "f" (func $f (param i32 i32 i32)))
      (func (export "run") (param $at i32) (param $len i32) (result i32)
        (call $f (local.get $at) (local.get $len) (i32.const 16))
        (i32.const 16)))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "f" (func $f))))))
    (func (export "run") async (param "v" string) (result string)
      (canon lift (core func $i "run") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc")))))
  (instance $callee (instantiate $callee))
  (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
  (func (export "run") (alias export $caller "run")))

(assert_return (invoke "run" (str.const "Hello")) (str.const "Jello"))
(assert_return (invoke "run" (str.const "help, a string that is longer")) (str.const "Jelp, a string that is longer"))
