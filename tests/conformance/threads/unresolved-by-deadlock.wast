;; Promise: a task whose threads all wait to be resumed, with nobody left to do it, is a deadlock.
(component
  (core module $table (table (export "table") 1 funcref))
  (core instance $table (instantiate $table))
  (core type $start (func (param i32)))
  (core func $thread-new (canon thread.new-indirect $start (core table $table "table")))
  (core func $resume-later (canon thread.resume-later))
  (core func $suspend (canon thread.suspend))
  (core module $m
    (import "" "table" (table 1 funcref))
    (import "" "thread-new" (func $thread-new (param i32 i32) (result i32)))
    (import "" "resume-later" (func $resume-later (param i32)))
    (import "" "suspend" (func $suspend (result i32)))
    (func $body (param i32) (drop (call $suspend)))
    (elem (table 0) (i32.const 0) func $body)
    (func (export "run")
      (call $resume-later (call $thread-new (i32.const 0) (i32.const 0)))
      (drop (call $suspend))))
  (core instance $i (instantiate $m (with "" (instance
    (export "table" (table $table "table")) (export "thread-new" (func $thread-new))
    (export "resume-later" (func $resume-later)) (export "suspend" (func $suspend))))))
  (func (export "run") async (canon lift (core func $i "run"))))

(assert_trap (invoke "run") "deadlock detected: event loop cannot make further progress")
