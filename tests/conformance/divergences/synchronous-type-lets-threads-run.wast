;; Row V12: a function of synchronous type waits, and another thread of its instance can run.
;; Ours, and the specification: that thread runs, and the function goes on when it can. wasmtime 48: a trap.
;; wasmtime: cannot block a synchronous task before returning
(component
  (core module $table (table (export "table") 1 funcref))
  (core instance $table (instantiate $table))
  (core type $start (func (param i32)))
  (core func $thread-new (canon thread.new-indirect $start (core table $table "table")))
  (core func $index (canon thread.index))
  (core func $resume-later (canon thread.resume-later))
  (core func $suspend (canon thread.suspend))
  (core func $yield (canon thread.yield))
  (core module $m
    (import "" "table" (table 1 funcref))
    (import "" "thread-new" (func $thread-new (param i32 i32) (result i32)))
    (import "" "index" (func $index (result i32)))
    (import "" "resume-later" (func $resume-later (param i32)))
    (import "" "suspend" (func $suspend (result i32)))
    (import "" "yield" (func $yield (result i32)))
    (global $main (mut i32) (i32.const 0))
    (global $v (mut i32) (i32.const 0))
    (func $body (param $v i32)
      (drop (call $yield))
      (global.set $v (local.get $v))
      (call $resume-later (global.get $main)))
    (elem (table 0) (i32.const 0) func $body)
    (func (export "run") (result i32)
      (global.set $main (call $index))
      (call $resume-later (call $thread-new (i32.const 0) (i32.const 42)))
      (drop (call $suspend))
      (global.get $v)))
  (core instance $i (instantiate $m (with "" (instance
    (export "table" (table $table "table")) (export "thread-new" (func $thread-new)) (export "index" (func $index))
    (export "resume-later" (func $resume-later)) (export "suspend" (func $suspend)) (export "yield" (func $yield))))))
  (func (export "run") (result u32) (canon lift (core func $i "run"))))

(assert_return (invoke "run") (u32.const 42))
(assert_return (invoke "run") (u32.const 42))
