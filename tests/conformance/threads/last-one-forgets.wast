;; Promise: a task whose last thread ends before anybody has returned is a trap.
(component
  (core module $table (table (export "table") 1 funcref))
  (core instance $table (instantiate $table))
  (core type $start (func (param i32)))
  (core func $thread-new (canon thread.new-indirect $start (core table $table "table")))
  (core func $resume-later (canon thread.resume-later))
  (core func $yield (canon thread.yield))
  (core module $m
    (import "" "table" (table 1 funcref))
    (import "" "thread-new" (func $thread-new (param i32 i32) (result i32)))
    (import "" "resume-later" (func $resume-later (param i32)))
    (import "" "yield" (func $yield (result i32)))
    (func $body (param i32) (drop (call $yield)))
    (elem (table 0) (i32.const 0) func $body)
    (func (export "run") (result i32)
      (call $resume-later (call $thread-new (i32.const 0) (i32.const 0)))
      (i32.const 0))
    (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
  (core instance $i (instantiate $m (with "" (instance
    (export "table" (table $table "table")) (export "thread-new" (func $thread-new))
    (export "resume-later" (func $resume-later)) (export "yield" (func $yield))))))
  (func (export "run") async (result u32)
    (canon lift (core func $i "run") async (callback (core func $i "callback")))))

(assert_trap (invoke "run") "async-lifted export failed to produce a result")
