;; Promise: an error context has a message, keeps it when it is passed on, and is gone when it is dropped.
(component definition $C
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
    (core func $message
      (canon error-context.debug-message
        (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
    (core func $drop (canon error-context.drop))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "message" (func $message (param i32 i32)))
      (import "" "drop" (func $drop (param i32)))
      ;; The length of its message.
      (func (export "f") (param $error i32) (result i32)
        (call $message (local.get $error) (i32.const 0))
        (call $drop (local.get $error))
        (i32.load (i32.const 4))))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "message" (func $message)) (export "drop" (func $drop))))))
    (func (export "f") (param "e" error-context) (result u32) (canon lift (core func $i "f"))))
  (component $caller
    (import "f" (func $f (param "e" error-context) (result u32)))
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $f (canon lower (func $f)))
    (core func $new (canon error-context.new (memory (core memory $memory "memory"))))
    (core func $drop (canon error-context.drop))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "f" (func $f (param i32) (result i32)))
      (import "" "new" (func $new (param i32 i32) (result i32)))
      (import "" "drop" (func $drop (param i32)))
      (func (export "run") (result i32)
        (local $error i32)
        (i64.store (i32.const 16) (i64.const 0x6e65646c6f67))
        (local.set $error (call $new (i32.const 16) (i32.const 6)))
        (call $f (local.get $error)))
      (func (export "dropped")
        (local $error i32)
        (local.set $error (call $new (i32.const 16) (i32.const 0)))
        (call $drop (local.get $error))
        (call $drop (local.get $error))))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "f" (func $f)) (export "new" (func $new))
      (export "drop" (func $drop))))))
    (func (export "run") (result u32) (canon lift (core func $i "run")))
    (func (export "dropped") (canon lift (core func $i "dropped"))))
  (instance $callee (instantiate $callee))
  (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
  (func (export "run") (alias export $caller "run"))
  (func (export "dropped") (alias export $caller "dropped")))

(component instance $a $C)
(assert_return (invoke "run") (u32.const 6))
(assert_trap (invoke "dropped") "unknown handle index")
