;; Promise: a set with a waitable in it cannot be dropped, and one that all have left can.
(component
  (type $s (stream u8))
  (core func $new (canon stream.new $s))
  (core func $set-new (canon waitable-set.new))
  (core func $set-drop (canon waitable-set.drop))
  (core func $join (canon waitable.join))
  (core module $m
    (import "" "new" (func $new (result i64)))
    (import "" "set-new" (func $set-new (result i32)))
    (import "" "set-drop" (func $set-drop (param i32)))
    (import "" "join" (func $join (param i32 i32)))
    (func (export "run") (param $leaves i32)
      (local $reader i32) (local $set i32)
      (local.set $reader (i32.wrap_i64 (call $new)))
      (local.set $set (call $set-new))
      (call $join (local.get $reader) (local.get $set))
      (if (local.get $leaves) (then (call $join (local.get $reader) (i32.const 0))))
      (call $set-drop (local.get $set))))
  (core instance $i (instantiate $m (with "" (instance
    (export "new" (func $new)) (export "set-new" (func $set-new)) (export "set-drop" (func $set-drop))
    (export "join" (func $join))))))
  (func (export "run") (param "leaves" bool) (canon lift (core func $i "run"))))

(assert_return (invoke "run" (bool.const true)))
(assert_trap (invoke "run" (bool.const false)) "resource has children")
