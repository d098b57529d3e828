;; Promise: handles have 32 bits whatever the memory: a component with 64-bit pointers implements a resource, one with 32-bit
;; pointers owns and lends it, alone and in lists.
(component
  (component $store
    (type $box' (resource (rep i32)))
    (export $box "box" (type $box'))
    (core func $new (canon resource.new $box'))
    (core func $rep (canon resource.rep $box'))
    (core module $memory
      (memory (export "memory") i64 1)
      (func (export "realloc") (param i64 i64 i64 i64) (result i64) (i64.const 1024)))
    (core instance $memory (instantiate $memory))
    (alias core export $memory "memory" (core memory $memory))
    (core module $m
      (import "" "memory" (memory i64 1))
      (import "" "new" (func $new (param i32) (result i32)))
      (import "" "rep" (func $rep (param i32) (result i32)))
      (func (export "make") (param i32 i32) (result i64)
        (i32.store (i64.const 64) (call $new (local.get 0)))
        (i32.store (i64.const 68) (call $new (local.get 1)))
        (i64.store (i64.const 16) (i64.const 64))
        (i64.store (i64.const 24) (i64.const 2))
        (i64.const 16))
      ;; Borrowed handles are representations for who implements them.
      (func (export "sum") (param $at i64) (param $count i64) (result i32)
        (if (i64.ne (local.get $count) (i64.const 2)) (then unreachable))
        (i32.add (i32.load (local.get $at)) (i32.load offset=4 (local.get $at))))
      (func (export "open") (param i32) (result i32) (call $rep (local.get 0))))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory)) (export "new" (func $new)) (export "rep" (func $rep))))))
    (func (export "make") (param "a" u32) (param "b" u32) (result (list (own $box)))
      (canon lift (core func $i "make") (memory $memory)))
    (func (export "sum") (param "v" (list (borrow $box))) (result u32)
      (canon lift (core func $i "sum") (memory $memory) (realloc (core func $memory "realloc"))))
    (func (export "open") (param "v" (own $box)) (result u32) (canon lift (core func $i "open"))))
  (component $user
    (import "store" (instance $store
      (export "box" (type $box (sub resource)))
      (export "make" (func (param "a" u32) (param "b" u32) (result (list (own $box)))))
      (export "sum" (func (param "v" (list (borrow $box))) (result u32)))
      (export "open" (func (param "v" (own $box)) (result u32)))))
    (core module $memory
      (memory (export "memory") 1)
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
    (core instance $memory (instantiate $memory))
    (alias core export $memory "memory" (core memory $memory))
    (core func $make (canon lower (func $store "make") (memory $memory) (realloc (core func $memory "realloc"))))
    (core func $sum (canon lower (func $store "sum") (memory $memory)))
    (core func $open (canon lower (func $store "open")))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "make" (func $make (param i32 i32 i32)))
      (import "" "sum" (func $sum (param i32 i32) (result i32)))
      (import "" "open" (func $open (param i32) (result i32)))
      ;; The sum of both, and ten times the second.
      (func (export "run") (param i32 i32) (result i32) (local $boxes i32)
        (call $make (local.get 0) (local.get 1) (i32.const 16))
        (local.set $boxes (i32.load (i32.const 16)))
        (i32.add
          (call $sum (local.get $boxes) (i32.load (i32.const 20)))
          (i32.mul (i32.const 10) (call $open (i32.load offset=4 (local.get $boxes)))))))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory)) (export "make" (func $make)) (export "sum" (func $sum))
      (export "open" (func $open))))))
    (func (export "run") (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $i "run"))))
  (instance $store (instantiate $store))
  (instance $user (instantiate $user (with "store" (instance $store))))
  (export "run" (func $user "run")))

(assert_return (invoke "run" (u32.const 3) (u32.const 4)) (u32.const 47))
