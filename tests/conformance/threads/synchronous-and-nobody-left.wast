;; Promise: a function of synchronous type that has handed over to a thread which suspends itself has nobody left: a trap.
(component
  (core module $table (table (export "table") 1 funcref))
  (core instance $table (instantiate $table))
  (core type $start (func (param i32)))
  (core func $thread-new (canon thread.new-indirect $start (core table $table "table")))
  (core func $suspend (canon thread.suspend))
  (core func $suspend-then-resume (canon thread.suspend-then-resume))
  (core module $m
    (import "" "table" (table 1 funcref))
    (import "" "thread-new" (func $thread-new (param i32 i32) (result i32)))
    (import "" "suspend" (func $suspend (result i32)))
    (import "" "suspend-then-resume" (func $suspend-then-resume (param i32) (result i32)))
    (func $body (param i32) (drop (call $suspend)))
    (elem (table 0) (i32.const 0) func $body)
    (func (export "run") (drop (call $suspend-then-resume (call $thread-new (i32.const 0) (i32.const 0))))))
  (core instance $i (instantiate $m (with "" (instance
    (export "table" (table $table "table")) (export "thread-new" (func $thread-new)) (export "suspend" (func $suspend))
    (export "suspend-then-resume" (func $suspend-then-resume))))))
  (func (export "run") (canon lift (core func $i "run"))))

(assert_trap (invoke "run") "cannot block a synchronous task before returning")
