;; Promise: a handle that goes through a stream is the reader's afterwards, and one that nobody has read stays the writer's.
(component
  (component $shop
    (type $thing' (resource (rep i32)))
    (export $thing "thing" (type $thing'))
    (core func $new (canon resource.new $thing'))
    (core module $m
      (import "" "new" (func $new (param i32) (result i32)))
      (func (export "make") (param i32) (result i32) (call $new (local.get 0)))
      (func (export "rep") (param i32) (result i32) (local.get 0)))
    (core instance $i (instantiate $m (with "" (instance (export "new" (func $new))))))
    (func (export "make") (param "rep" u32) (result (own $thing)) (canon lift (core func $i "make")))
    (func (export "rep") (param "thing" (borrow $thing)) (result u32) (canon lift (core func $i "rep"))))
  (instance $shop (instantiate $shop))
  (alias export $shop "thing" (type $thing))
  (component $sink
    (import "thing" (type $thing (sub resource)))
    (type $s (stream (own $thing)))
    (import "rep" (func $rep (param "thing" (borrow $thing)) (result u32)))
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $rep (canon lower (func $rep)))
    (core func $read (canon stream.read $s async (memory (core memory $memory "memory"))))
    (core func $drop-readable (canon stream.drop-readable $s))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "rep" (func $rep (param i32) (result i32)))
      (import "" "read" (func $read (param i32 i32 i32) (result i32)))
      (import "" "drop-readable" (func $drop-readable (param i32)))
      ;; Takes two of them: the sum.
      (func (export "f") (param $reader i32) (result i32)
        ;; COMPLETED, 2
        (if (i32.ne (call $read (local.get $reader) (i32.const 0) (i32.const 2)) (i32.const 0x20)) (then unreachable))
        (call $drop-readable (local.get $reader))
        (i32.add (call $rep (i32.load (i32.const 0))) (call $rep (i32.load (i32.const 4))))))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "rep" (func $rep)) (export "read" (func $read))
      (export "drop-readable" (func $drop-readable))))))
    (func (export "f") (param "s" $s) (result u32) (canon lift (core func $i "f"))))
  (component $source
    (import "thing" (type $thing (sub resource)))
    (type $s (stream (own $thing)))
    (import "make" (func $make (param "rep" u32) (result (own $thing))))
    (import "rep" (func $rep (param "thing" (borrow $thing)) (result u32)))
    (import "f" (func $f (param "s" $s) (result u32)))
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $make (canon lower (func $make)))
    (core func $rep (canon lower (func $rep)))
    (core func $f (canon lower (func $f)))
    (core func $new (canon stream.new $s))
    (core func $write (canon stream.write $s async (memory (core memory $memory "memory"))))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "make" (func $make (param i32) (result i32)))
      (import "" "rep" (func $rep (param i32) (result i32)))
      (import "" "f" (func $f (param i32) (result i32)))
      (import "" "new" (func $new (result i64)))
      (import "" "write" (func $write (param i32 i32 i32) (result i32)))
      (func $fill
        (i32.store (i32.const 0) (call $make (i32.const 10)))
        (i32.store (i32.const 4) (call $make (i32.const 20)))
        (i32.store (i32.const 8) (call $make (i32.const 300))))
      (func $move (result i32)
        (local $ends i64)
        (call $fill)
        (local.set $ends (call $new))
        (drop
          (call $write
            (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))) (i32.const 0) (i32.const 3)))
        (call $f (i32.wrap_i64 (local.get $ends))))
      (func (export "rest") (result i32) (i32.add (call $move) (call $rep (i32.load (i32.const 8)))))
      (func (export "gone") (result i32) (drop (call $move)) (call $rep (i32.load (i32.const 0)))))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "make" (func $make)) (export "rep" (func $rep))
      (export "f" (func $f)) (export "new" (func $new)) (export "write" (func $write))))))
    (func (export "rest") (result u32) (canon lift (core func $i "rest")))
    (func (export "gone") (result u32) (canon lift (core func $i "gone"))))
  (instance $sink (instantiate $sink (with "thing" (type $thing)) (with "rep" (func $shop "rep"))))
  (instance $source (instantiate $source
    (with "thing" (type $thing)) (with "make" (func $shop "make")) (with "rep" (func $shop "rep"))
    (with "f" (func $sink "f"))))
  (func (export "rest") (alias export $source "rest"))
  (func (export "gone") (alias export $source "gone")))

(assert_return (invoke "rest") (u32.const 330))
(assert_trap (invoke "gone") "unknown handle index")
