;; Promise: a resource of the host comes and goes through handles of a guest, and the host learns of each drop.
(component
  (import "host" (instance $host
    (export "resource1" (type $r (sub resource)))
    (export "[constructor]resource1" (func (param "r" u32) (result (own $r))))
    (export "[method]resource1.simple" (func (param "self" (borrow $r)) (param "rep" u32)))
    (export "[static]resource1.drops" (func (result u32)))
    (export "[static]resource1.last-drop" (func (result u32)))))
  (alias export $host "resource1" (type $r))
  (core func $new (canon lower (func $host "[constructor]resource1")))
  (core func $simple (canon lower (func $host "[method]resource1.simple")))
  (core func $drops (canon lower (func $host "[static]resource1.drops")))
  (core func $last (canon lower (func $host "[static]resource1.last-drop")))
  (core func $drop (canon resource.drop $r))
  (core module $m
    (import "" "new" (func $new (param i32) (result i32)))
    (import "" "simple" (func $simple (param i32 i32)))
    (import "" "drops" (func $drops (result i32)))
    (import "" "last" (func $last (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (func (export "run") (result i32)
      (local $handle i32) (local $before i32)
      (local.set $before (call $drops))
      (local.set $handle (call $new (i32.const 77)))
      (call $simple (local.get $handle) (i32.const 77))
      (call $drop (local.get $handle))
      (if (i32.ne (i32.sub (call $drops) (local.get $before)) (i32.const 1)) (then unreachable))
      (call $last)))
  (core instance $i (instantiate $m (with "" (instance
    (export "new" (func $new)) (export "simple" (func $simple)) (export "drops" (func $drops))
    (export "last" (func $last)) (export "drop" (func $drop))))))
  (func (export "run") (result u32) (canon lift (core func $i "run"))))

(assert_return (invoke "run") (u32.const 77))
