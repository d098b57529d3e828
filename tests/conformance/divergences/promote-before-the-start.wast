;; No row: `thread.yield-then-promote` of a thread that has been resumed and has not had its first turn.
;; Ours, and the specification: it is ready, so it runs at once. wasmtime 48: a trap.
;; wasmtime: cannot resume thread which is not suspended
(component
  (core module $table (table (export "table") 1 funcref))
  (core instance $table (instantiate $table))
  (core type $start (func (param i32)))
  (core func $thread-new (canon thread.new-indirect $start (core table $table "table")))
  (core func $resume-later (canon thread.resume-later))
  (core func $yield-then-promote (canon thread.yield-then-promote))
  (core module $m
    (import "" "table" (table 1 funcref))
    (import "" "thread-new" (func $thread-new (param i32 i32) (result i32)))
    (import "" "resume-later" (func $resume-later (param i32)))
    (import "" "yield-then-promote" (func $yield-then-promote (param i32) (result i32)))
    (global $trace (mut i32) (i32.const 0))
    (func $note (param i32)
      (global.set $trace (i32.add (i32.mul (global.get $trace) (i32.const 10)) (local.get 0))))
    (func $body (param $n i32) (call $note (local.get $n)))
    (elem (table 0) (i32.const 0) func $body)
    (func (export "run") (result i32)
      (local $thread i32)
      (call $resume-later (call $thread-new (i32.const 0) (i32.const 1)))
      (call $resume-later (local.tee $thread (call $thread-new (i32.const 0) (i32.const 2))))
      (drop (call $yield-then-promote (local.get $thread)))
      (call $note (i32.const 9))
      (global.get $trace)))
  (core instance $i (instantiate $m (with "" (instance
    (export "table" (table $table "table")) (export "thread-new" (func $thread-new))
    (export "resume-later" (func $resume-later)) (export "yield-then-promote" (func $yield-then-promote))))))
  (func (export "run") async (result u32) (canon lift (core func $i "run"))))

(assert_return (invoke "run") (u32.const 219))
