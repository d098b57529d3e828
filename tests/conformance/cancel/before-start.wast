;; Promise: a call that waits at the gate is cancelled before it has started, and never runs.
(component
  (component $callee
    (core func $backpressure-inc (canon backpressure.inc))
    (core func $backpressure-dec (canon backpressure.dec))
    (core func $return (canon task.return (result u32)))
    (core module $m
      (import "" "backpressure-inc" (func $backpressure-inc))
      (import "" "backpressure-dec" (func $backpressure-dec))
      (import "" "return" (func $return (param i32)))
      (global $ran (mut i32) (i32.const 0))
      (func (export "shut") (call $backpressure-inc))
      (func (export "unlock") (result i32) (call $backpressure-dec) (global.get $ran))
      (func (export "f") (result i32) (global.set $ran (i32.const 1)) (call $return (i32.const 0)) (i32.const 0))
      (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
    (core instance $i (instantiate $m (with "" (instance
      (export "backpressure-inc" (func $backpressure-inc)) (export "backpressure-dec" (func $backpressure-dec))
      (export "return" (func $return))))))
    (func (export "shut") (canon lift (core func $i "shut")))
    (func (export "unlock") (result u32) (canon lift (core func $i "unlock")))
    (func (export "f") async (result u32) (canon lift (core func $i "f") async (callback (core func $i "callback")))))
  (component $caller
    (import "shut" (func $shut))
    (import "unlock" (func $unlock (result u32)))
    (import "f" (func $f async (result u32)))
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $shut (canon lower (func $shut)))
    (core func $unlock (canon lower (func $unlock)))
    (core func $f (canon lower (func $f) async (memory (core memory $memory "memory"))))
    (core func $subtask-cancel (canon subtask.cancel))
    (core func $subtask-drop (canon subtask.drop))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "shut" (func $shut))
      (import "" "unlock" (func $unlock (result i32)))
      (import "" "f" (func $f (param i32) (result i32)))
      (import "" "subtask-cancel" (func $subtask-cancel (param i32) (result i32)))
      (import "" "subtask-drop" (func $subtask-drop (param i32)))
      (func (export "run") (result i32)
        (local $status i32) (local $subtask i32)
        (call $shut)
        (local.set $status (call $f (i32.const 0)))
        ;; STARTING
        (if (i32.and (local.get $status) (i32.const 15)) (then unreachable))
        (local.set $subtask (i32.shr_u (local.get $status) (i32.const 4)))
        (local.set $status (call $subtask-cancel (local.get $subtask)))
        (call $subtask-drop (local.get $subtask))
        (if (call $unlock) (then unreachable))
        (local.get $status)))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "shut" (func $shut)) (export "unlock" (func $unlock))
      (export "f" (func $f)) (export "subtask-cancel" (func $subtask-cancel))
      (export "subtask-drop" (func $subtask-drop))))))
    (func (export "run") async (result u32) (canon lift (core func $i "run"))))
  (instance $callee (instantiate $callee))
  (instance $caller (instantiate $caller
    (with "shut" (func $callee "shut")) (with "unlock" (func $callee "unlock")) (with "f" (func $callee "f"))))
  (func (export "run") (alias export $caller "run")))

;; CANCELLED_BEFORE_STARTED
(assert_return (invoke "run") (u32.const 3))
(assert_return (invoke "run") (u32.const 3))
