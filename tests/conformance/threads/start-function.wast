;; Promise: a thread needs a function in the table at its index.
(component
  (core module $table (table (export "table") 2 funcref))
  (core instance $table (instantiate $table))
  (core type $start (func (param i32)))
  (core func $thread-new (canon thread.new-indirect $start (core table $table "table")))
  (core module $m
    (import "" "table" (table 2 funcref))
    (import "" "thread-new" (func $thread-new (param i32 i32) (result i32)))
    (func (export "run") (drop (call $thread-new (i32.const 1) (i32.const 0)))))
  (core instance $i (instantiate $m (with "" (instance
    (export "table" (table $table "table")) (export "thread-new" (func $thread-new))))))
  (func (export "run") async (canon lift (core func $i "run"))))

(assert_trap (invoke "run") "the start function index points to an uninitialized function")
