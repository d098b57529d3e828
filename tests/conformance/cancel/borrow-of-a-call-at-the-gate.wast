;; Promise: what was lent to a call that is cancelled before it starts is free again.
(component
  (component $shop
    (type $thing' (resource (rep i32)))
    (export $thing "thing" (type $thing'))
    (core func $new (canon resource.new $thing'))
    (core func $backpressure-inc (canon backpressure.inc))
    (core module $m
      (import "" "new" (func $new (param i32) (result i32)))
      (import "" "backpressure-inc" (func $backpressure-inc))
      (func (export "make") (result i32) (call $backpressure-inc) (call $new (i32.const 7)))
      (func (export "look") (param i32) (result i32) unreachable)
      (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
    (core instance $i (instantiate $m (with "" (instance
      (export "new" (func $new)) (export "backpressure-inc" (func $backpressure-inc))))))
    (func (export "make") (result (own $thing)) (canon lift (core func $i "make")))
    (func (export "look") async (param "thing" (borrow $thing))
      (canon lift (core func $i "look") async (callback (core func $i "callback")))))
  (instance $shop (instantiate $shop))
  (component $caller
    (import "thing" (type $thing (sub resource)))
    (import "make" (func $make (result (own $thing))))
    (import "look" (func $look async (param "thing" (borrow $thing))))
    (core func $make (canon lower (func $make)))
    (core func $look (canon lower (func $look) async))
    (core func $drop (canon resource.drop $thing))
    (core func $subtask-cancel (canon subtask.cancel))
    (core func $subtask-drop (canon subtask.drop))
    (core module $m
      (import "" "make" (func $make (result i32)))
      (import "" "look" (func $look (param i32) (result i32)))
      (import "" "drop" (func $drop (param i32)))
      (import "" "subtask-cancel" (func $subtask-cancel (param i32) (result i32)))
      (import "" "subtask-drop" (func $subtask-drop (param i32)))
      (func (export "run") (result i32)
        (local $thing i32) (local $subtask i32) (local $state i32)
        (local.set $thing (call $make))
        (local.set $subtask (i32.shr_u (call $look (local.get $thing)) (i32.const 4)))
        (local.set $state (call $subtask-cancel (local.get $subtask)))
        (call $subtask-drop (local.get $subtask))
        (call $drop (local.get $thing))
        (local.get $state)))
    (core instance $i (instantiate $m (with "" (instance
      (export "make" (func $make)) (export "look" (func $look)) (export "drop" (func $drop))
      (export "subtask-cancel" (func $subtask-cancel)) (export "subtask-drop" (func $subtask-drop))))))
    (func (export "run") async (result u32) (canon lift (core func $i "run"))))
  (instance $caller (instantiate $caller
    (with "thing" (type $shop "thing")) (with "make" (func $shop "make")) (with "look" (func $shop "look"))))
  (func (export "run") (alias export $caller "run")))

;; CANCELLED_BEFORE_STARTED
(assert_return (invoke "run") (u32.const 3))
