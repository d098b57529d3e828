;; Promise: a task that returns with a borrowed handle in its table is a trap.
(component
  (component $shop
    (type $thing' (resource (rep i32)))
    (export $thing "thing" (type $thing'))
    (core func $new (canon resource.new $thing'))
    (core module $m
      (import "" "new" (func $new (param i32) (result i32)))
      (func (export "make") (result i32) (call $new (i32.const 1))))
    (core instance $i (instantiate $m (with "" (instance (export "new" (func $new))))))
    (func (export "make") (result (own $thing)) (canon lift (core func $i "make"))))
  (instance $shop (instantiate $shop))
  (component $callee
    (import "thing" (type $thing (sub resource)))
    (core func $return-none (canon task.return))
    (core module $m
      (import "" "return-none" (func $return-none))
      (func (export "f") (param i32) (result i32) (call $return-none) (i32.const 0))
      (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
    (core instance $i (instantiate $m (with "" (instance (export "return-none" (func $return-none))))))
    (func (export "f") async (param "thing" (borrow $thing))
      (canon lift (core func $i "f") async (callback (core func $i "callback")))))
  (component $caller
    (import "thing" (type $thing (sub resource)))
    (import "make" (func $make (result (own $thing))))
    (import "f" (func $f async (param "thing" (borrow $thing))))
    (core func $make (canon lower (func $make)))
    (core func $f (canon lower (func $f) async))
    (core module $m
      (import "" "make" (func $make (result i32)))
      (import "" "f" (func $f (param i32) (result i32)))
      (func (export "run") (drop (call $f (call $make)))))
    (core instance $i (instantiate $m (with "" (instance (export "make" (func $make)) (export "f" (func $f))))))
    (func (export "run") async (canon lift (core func $i "run"))))
  (instance $callee (instantiate $callee (with "thing" (type $shop "thing"))))
  (instance $caller (instantiate $caller
    (with "thing" (type $shop "thing")) (with "make" (func $shop "make")) (with "f" (func $callee "f"))))
  (func (export "run") (alias export $caller "run")))

(assert_trap (invoke "run") "borrow handles still remain at the end of the call")
