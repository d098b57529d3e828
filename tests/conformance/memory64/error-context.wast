;; Promise: a component with 64-bit pointers makes error contexts of what is in its memory, and gets their messages there.
(component definition $C
  (core module $memory
    (memory (export "memory") i64 1)
    (data (i64.const 64) "gone")
    (func (export "realloc") (param i64 i64 i64 i64) (result i64) (i64.const 1024)))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $memory))
  (core func $new (canon error-context.new (memory $memory)))
  (core func $message (canon error-context.debug-message (memory $memory) (realloc (core func $memory "realloc"))))
  (core module $m
    (import "" "memory" (memory i64 1))
    (import "" "new" (func $new (param i32 i32) (result i32)))
    (import "" "message" (func $message (param i32 i32)))
    ;; Where a pointer and a length with 64 bits lie.
    (func (export "run") (param $at i32) (result i64)
      (call $message (call $new (i32.const 64) (i32.const 4)) (local.get $at))
      (i64.extend_i32_u (local.get $at))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory)) (export "new" (func $new)) (export "message" (func $message))))))
  (func (export "run") (param "at" u32) (result string) (canon lift (core func $i "run") (memory $memory))))

(component instance $c $C)
(assert_return (invoke "run" (u32.const 128)) (str.const "gone"))
;; Sixteen bytes end with the memory.
(assert_return (invoke "run" (u32.const 65520)) (str.const "gone"))
(assert_trap (invoke "run" (u32.const 65528)) "out of bounds")
(component instance $c $C)
(assert_trap (invoke "run" (u32.const 132)) "not aligned")
