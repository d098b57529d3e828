;; Promise: none. It asks two, takes the answer that comes first, and expects that of the first: first come, first served that
;; holds. `interflow explore` finds the schedule under which it does not.
(component
  (import "host" (instance $host (export "echo-slowly" (func async (param "v" u32) (result u32)))))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $echo (canon lower (func $host "echo-slowly") async (memory (core memory $memory "memory"))))
  (core func $return (canon task.return (result u32)))
  (core func $set-new (canon waitable-set.new))
  (core func $join (canon waitable.join))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "echo" (func $echo (param i32 i32) (result i32)))
    (import "" "return" (func $return (param i32)))
    (import "" "set-new" (func $set-new (result i32)))
    (import "" "join" (func $join (param i32 i32)))
    (global $set (mut i32) (i32.const 0))
    (global $first (mut i32) (i32.const 0))
    ;; Asks for `v`, to be stored at `at`; gives the handle of the subtask.
    (func $ask (param $v i32) (param $at i32) (result i32)
      (local $handle i32)
      (local.set $handle (i32.shr_u (call $echo (local.get $v) (local.get $at)) (i32.const 4)))
      (call $join (local.get $handle) (global.get $set))
      (local.get $handle))
    (func (export "run") (result i32)
      (global.set $set (call $set-new))
      (global.set $first (call $ask (i32.const 10) (i32.const 8)))
      (drop (call $ask (i32.const 20) (i32.const 12)))
      (i32.or (i32.const 2) (i32.shl (global.get $set) (i32.const 4))))
    (func (export "callback") (param $event i32) (param $handle i32) (param $state i32) (result i32)
      (call $return (i32.load
        (select (i32.const 8) (i32.const 12) (i32.eq (local.get $handle) (global.get $first)))))
      (i32.const 0)))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "echo" (func $echo)) (export "return" (func $return))
    (export "set-new" (func $set-new)) (export "join" (func $join))))))
  (func (export "run") async (result u32)
    (canon lift (core func $i "run") async (callback (core func $i "callback")))))

(assert_return (invoke "run") (u32.const 10))
