;; Promise: values that lie above 2^32 are passed like all others: to the host, from it, and to a component with 32-bit pointers.
(component
  (component $large
    (core module $m
      (memory (export "memory") i64 0x1_0001)
      (global $free (mut i64) (i64.const 0x1_0000_0000))
      ;; What shrinks stays where it is.
      (func (export "realloc") (param i64 i64 i64 i64) (result i64)
        (if (i32.and (i64.ne (local.get 0) (i64.const 0)) (i64.le_u (local.get 3) (local.get 1)))
          (then (return (local.get 0))))
        (global.set $free (i64.and (i64.add (global.get $free) (i64.const 7)) (i64.const -8)))
        (memory.copy (global.get $free) (local.get 0) (local.get 1))
        (global.get $free)
        (global.set $free (i64.add (global.get $free) (local.get 3))))
      (func (export "pair") (param i64 i64) (result i64)
        (i64.store (i64.const 0x1_0000_8000) (local.get 0))
        (i64.store (i64.const 0x1_0000_8008) (local.get 1))
        (i64.const 0x1_0000_8000)))
    (core instance $i (instantiate $m))
    (alias core export $i "memory" (core memory $memory))
    (func (export "strings") (param "v" (list string)) (result (list string))
      (canon lift (core func $i "pair") (memory $memory) (realloc (core func $i "realloc")))))
  (component $small
    (import "strings" (func $strings (param "v" (list string)) (result (list string))))
    (core module $memory
      (memory (export "memory") 1)
      (global $free (mut i32) (i32.const 1024))
      (func (export "realloc") (param i32 i32 i32 i32) (result i32)
        (if (i32.and (i32.ne (local.get 0) (i32.const 0)) (i32.le_u (local.get 3) (local.get 1)))
          (then (return (local.get 0))))
        (global.set $free (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
        (memory.copy (global.get $free) (local.get 0) (local.get 1))
        (global.get $free)
        (global.set $free (i32.add (global.get $free) (local.get 3)))))
    (core instance $memory (instantiate $memory))
    (alias core export $memory "memory" (core memory $memory))
    (core func $strings
      (canon lower (func $strings) (memory $memory) (realloc (core func $memory "realloc")) string-encoding=utf16))
    (core module $m
      (import "" "strings" (func $strings (param i32 i32 i32)))
      (func (export "run") (param i32 i32) (result i32)
        (call $strings (local.get 0) (local.get 1) (i32.const 512))
        (i32.const 512)))
    (core instance $i (instantiate $m (with "" (instance (export "strings" (func $strings))))))
    (func (export "strings") (param "v" (list string)) (result (list string))
      (canon lift (core func $i "run") (memory $memory) (realloc (core func $memory "realloc")) string-encoding=utf16)))
  (instance $large (instantiate $large))
  (instance $small (instantiate $small (with "strings" (func $large "strings"))))
  (export "to-the-host" (func $large "strings"))
  (export "to-32-bit" (func $small "strings")))

(assert_return
  (invoke "to-the-host" (list.const (str.const "far") (str.const "")))
  (list.const (str.const "far") (str.const "")))
(assert_return
  (invoke "to-32-bit" (list.const (str.const "far") (str.const "ö")))
  (list.const (str.const "far") (str.const "ö")))
