;; Promise: elements of a stream are values: strings and lists arrive in the memory of the reader, with its encoding.
(component
  (component $source
    (type $t (tuple string (list u16)))
    (type $s (stream $t))
    (core module $memory
      (memory (export "memory") 1)
      (data (i32.const 32) "gr\c3\bcn")
      (data (i32.const 48) "\01\00\02\00\03\00"))
    (core instance $memory (instantiate $memory))
    (core func $return (canon task.return (result $s)))
    (core func $new (canon stream.new $s))
    (core func $write (canon stream.write $s async (memory (core memory $memory "memory"))))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "return" (func $return (param i32)))
      (import "" "new" (func $new (result i64)))
      (import "" "write" (func $write (param i32 i32 i32) (result i32)))
      (global $writer (mut i32) (i32.const 0))
      (func (export "f") (result i32)
        (local $ends i64)
        (local.set $ends (call $new))
        (global.set $writer (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
        ;; Two elements: a string and a list, then both empty.
        (i32.store (i32.const 0) (i32.const 32))
        (i32.store (i32.const 4) (i32.const 5))
        (i32.store (i32.const 8) (i32.const 48))
        (i32.store (i32.const 12) (i32.const 3))
        (i64.store (i32.const 16) (i64.const 0))
        (i64.store (i32.const 24) (i64.const 0))
        (drop (call $write (global.get $writer) (i32.const 0) (i32.const 2)))
        (call $return (i32.wrap_i64 (local.get $ends)))
        (i32.const 0))
      (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "return" (func $return)) (export "new" (func $new))
      (export "write" (func $write))))))
    (func (export "f") async (result $s) (canon lift (core func $i "f") async (callback (core func $i "callback")))))
  (component $sink
    (type $t (tuple string (list u16)))
    (type $s (stream $t))
    (import "f" (func $f async (result $s)))
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
    (core func $f (canon lower (func $f)))
    (core func $read
      (canon stream.read $s async string-encoding=utf16
        (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "f" (func $f (result i32)))
      (import "" "read" (func $read (param i32 i32 i32) (result i32)))
      (func $same (param i32 i32) (if (i32.ne (local.get 0) (local.get 1)) (then unreachable)))
      (func (export "run") (result i32)
        (local $reader i32)
        (local.set $reader (call $f))
        ;; COMPLETED with two elements.
        (call $same (call $read (local.get $reader) (i32.const 0) (i32.const 2)) (i32.const 0x20))
        ;; Four code units, the third is an u with dots.
        (call $same (i32.load (i32.const 4)) (i32.const 4))
        (call $same (i32.load16_u offset=4 (i32.load (i32.const 0))) (i32.const 0xfc))
        (call $same (i32.load (i32.const 12)) (i32.const 3))
        (call $same (i32.load (i32.const 20)) (i32.const 0))
        (call $same (i32.load (i32.const 28)) (i32.const 0))
        (i32.load16_u offset=4 (i32.load (i32.const 8)))))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "f" (func $f)) (export "read" (func $read))))))
    (func (export "run") async (result u32) (canon lift (core func $i "run"))))
  (instance $source (instantiate $source))
  (instance $sink (instantiate $sink (with "f" (func $source "f"))))
  (func (export "run") (alias export $sink "run")))

(assert_return (invoke "run") (u32.const 3))
