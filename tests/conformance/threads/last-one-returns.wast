;; Promise: a task lives as long as one of its threads, and any of them may return for it.
(component
  (component $callee
    (core module $table (table (export "table") 1 funcref))
    (core instance $table (instantiate $table))
    (core type $start (func (param i32)))
    (core func $return (canon task.return (result u32)))
    (core func $thread-new (canon thread.new-indirect $start (core table $table "table")))
    (core func $resume-later (canon thread.resume-later))
    (core func $yield (canon thread.yield))
    (core module $m
      (import "" "table" (table 1 funcref))
      (import "" "return" (func $return (param i32)))
      (import "" "thread-new" (func $thread-new (param i32 i32) (result i32)))
      (import "" "resume-later" (func $resume-later (param i32)))
      (import "" "yield" (func $yield (result i32)))
      (func $body (param $v i32)
        (drop (call $yield))
        (call $return (i32.add (local.get $v) (i32.const 1))))
      (elem (table 0) (i32.const 0) func $body)
      (func (export "f") (param $v i32) (result i32)
        (call $resume-later (call $thread-new (i32.const 0) (local.get $v)))
        ;; EXIT
        (i32.const 0))
      (func (export "callback") (param i32 i32 i32) (result i32) unreachable)
      (func (export "stackful") (param $v i32)
        (call $resume-later (call $thread-new (i32.const 0) (local.get $v)))))
    (core instance $i (instantiate $m (with "" (instance
      (export "table" (table $table "table")) (export "return" (func $return)) (export "thread-new" (func $thread-new))
      (export "resume-later" (func $resume-later)) (export "yield" (func $yield))))))
    (func (export "f") async (param "v" u32) (result u32)
      (canon lift (core func $i "f") async (callback (core func $i "callback"))))
    (func (export "stackful") async (param "v" u32) (result u32) (canon lift (core func $i "stackful") async)))
  (component $caller
    (import "f" (func $f async (param "v" u32) (result u32)))
    (import "stackful" (func $stackful async (param "v" u32) (result u32)))
    (core func $f (canon lower (func $f)))
    (core func $stackful (canon lower (func $stackful)))
    (core module $m
      (import "" "f" (func $f (param i32) (result i32)))
      (import "" "stackful" (func $stackful (param i32) (result i32)))
      (func (export "run") (result i32) (i32.add (call $f (i32.const 10)) (call $stackful (i32.const 30)))))
    (core instance $i (instantiate $m (with "" (instance (export "f" (func $f)) (export "stackful" (func $stackful))))))
    (func (export "run") async (result u32) (canon lift (core func $i "run"))))
  (instance $callee (instantiate $callee))
  (instance $caller (instantiate $caller
    (with "f" (func $callee "f")) (with "stackful" (func $callee "stackful"))))
  (func (export "f") (alias export $callee "f"))
  (func (export "run") (alias export $caller "run")))

(assert_return (invoke "run") (u32.const 42))
(assert_return (invoke "f" (u32.const 1)) (u32.const 2))
