;; Promise: chains of synchronous calls through several components are put aside and go on in turns, each with its own values.
(component
  (component $bottom
    (core func $return (canon task.return (result u32)))
    (core func $yield (canon thread.yield))
    (core module $m
      (import "" "return" (func $return (param i32)))
      (import "" "yield" (func $yield (result i32)))
      (func (export "f") (param $v i32)
        (local $n i32)
        ;; Longer for larger values: they end in this order.
        (loop $again
          (drop (call $yield))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $again (i32.lt_u (local.get $n) (local.get $v))))
        (call $return (i32.mul (local.get $v) (i32.const 3)))))
    (core instance $i (instantiate $m (with "" (instance
      (export "return" (func $return)) (export "yield" (func $yield))))))
    (func (export "f") async (param "v" u32) (result u32) (canon lift (core func $i "f") async)))
  (component $middle
    (import "f" (func $f async (param "v" u32) (result u32)))
    (core func $f (canon lower (func $f)))
    (core func $return (canon task.return (result u32)))
    (core module $m
      (import "" "f" (func $f (param i32) (result i32)))
      (import "" "return" (func $return (param i32)))
      (func (export "f") (param $v i32)
        (call $return (i32.add (call $f (local.get $v)) (i32.add (call $f (i32.const 1)) (local.get $v))))))
    (core instance $i (instantiate $m (with "" (instance (export "f" (func $f)) (export "return" (func $return))))))
    (func (export "f") async (param "v" u32) (result u32) (canon lift (core func $i "f") async)))
  (component $top
    (import "f" (func $f async (param "v" u32) (result u32)))
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $f (canon lower (func $f) async (memory (core memory $memory "memory"))))
    (core func $set-new (canon waitable-set.new))
    (core func $set-wait (canon waitable-set.wait (memory (core memory $memory "memory"))))
    (core func $join (canon waitable.join))
    (core func $subtask-drop (canon subtask.drop))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "f" (func $f (param i32 i32) (result i32)))
      (import "" "set-new" (func $set-new (result i32)))
      (import "" "set-wait" (func $set-wait (param i32 i32) (result i32)))
      (import "" "join" (func $join (param i32 i32)))
      (import "" "subtask-drop" (func $subtask-drop (param i32)))
      (func $start (param $v i32) (param $set i32)
        (call $join
          (i32.shr_u
            (call $f (local.get $v) (i32.add (i32.const 16) (i32.shl (local.get $v) (i32.const 2))))
            (i32.const 4))
          (local.get $set)))
      (func (export "run") (result i32)
        (local $set i32) (local $n i32) (local $sum i32)
        (local.set $set (call $set-new))
        (call $start (i32.const 9) (local.get $set))
        (call $start (i32.const 5) (local.get $set))
        (call $start (i32.const 7) (local.get $set))
        (loop $again
          (drop (call $set-wait (local.get $set) (i32.const 0)))
          (call $subtask-drop (i32.load (i32.const 0)))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $again (i32.lt_u (local.get $n) (i32.const 3))))
        ;; 4 * v + 3 each.
        (i32.add (i32.load (i32.const 52))
          (i32.add
            (i32.mul (i32.load (i32.const 36)) (i32.const 100))
            (i32.mul (i32.load (i32.const 44)) (i32.const 10000))))))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "f" (func $f)) (export "set-new" (func $set-new))
      (export "set-wait" (func $set-wait)) (export "join" (func $join)) (export "subtask-drop" (func $subtask-drop))))))
    (func (export "run") async (result u32) (canon lift (core func $i "run"))))
  (instance $bottom (instantiate $bottom))
  (instance $middle (instantiate $middle (with "f" (func $bottom "f"))))
  (instance $top (instantiate $top (with "f" (func $middle "f"))))
  (func (export "run") (alias export $top "run")))

(assert_return (invoke "run") (u32.const 312339))
(assert_return (invoke "run") (u32.const 312339))
