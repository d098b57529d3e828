;; Promise: the drop of an owned handle runs the destructor of its type at once, and that can call other components.
(component
  (component $log
    (core module $m
      (global $sum (mut i32) (i32.const 0))
      (func (export "note") (param i32) (global.set $sum (i32.add (global.get $sum) (local.get 0))))
      (func (export "sum") (result i32) (global.get $sum)))
    (core instance $i (instantiate $m))
    (func (export "note") (param "v" u32) (canon lift (core func $i "note")))
    (func (export "sum") (result u32) (canon lift (core func $i "sum"))))
  (instance $log (instantiate $log))
  (component $shop
    (import "note" (func $note (param "v" u32)))
    (core func $note (canon lower (func $note)))
    (core module $d
      (import "" "note" (func $note (param i32)))
      (func (export "destroy") (param i32) (call $note (local.get 0))))
    (core instance $d (instantiate $d (with "" (instance (export "note" (func $note))))))
    (type $thing' (resource (rep i32) (dtor (core func $d "destroy"))))
    (export $thing "thing" (type $thing'))
    (core func $new (canon resource.new $thing'))
    (core module $m
      (import "" "new" (func $new (param i32) (result i32)))
      (func (export "make") (param i32) (result i32) (call $new (local.get 0))))
    (core instance $i (instantiate $m (with "" (instance (export "new" (func $new))))))
    (func (export "make") (param "rep" u32) (result (own $thing)) (canon lift (core func $i "make"))))
  (instance $shop (instantiate $shop (with "note" (func $log "note"))))
  (component $caller
    (import "thing" (type $thing (sub resource)))
    (import "make" (func $make (param "rep" u32) (result (own $thing))))
    (import "sum" (func $sum (result u32)))
    (core func $make (canon lower (func $make)))
    (core func $sum (canon lower (func $sum)))
    (core func $drop (canon resource.drop $thing))
    (core module $m
      (import "" "make" (func $make (param i32) (result i32)))
      (import "" "sum" (func $sum (result i32)))
      (import "" "drop" (func $drop (param i32)))
      (func (export "run") (result i32)
        (call $drop (call $make (i32.const 40)))
        (call $drop (call $make (i32.const 2)))
        (call $sum)))
    (core instance $i (instantiate $m (with "" (instance
      (export "make" (func $make)) (export "sum" (func $sum)) (export "drop" (func $drop))))))
    (func (export "run") (result u32) (canon lift (core func $i "run"))))
  (instance $caller (instantiate $caller
    (with "thing" (type $shop "thing")) (with "make" (func $shop "make")) (with "sum" (func $log "sum"))))
  (func (export "run") (alias export $caller "run")))

(assert_return (invoke "run") (u32.const 42))
