;;! component_model_async = true
;;! component_model_async_stackful = true
;;! component_model_more_async_builtins = true

;; A cancelled `waitable-set.wait` is an event like any other: its code is the result, and both words are written, as zeros.
(component
  (component $callee
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "new" (func $new (result i32)))
      (import "" "wait" (func $wait (param i32 i32) (result i32)))
      (import "" "cancel" (func $cancel))
      (func (export "run")
        (i64.store (i32.const 8) (i64.const -1))
        (if (i32.ne (call $wait (call $new) (i32.const 8)) (i32.const 6 (; TASK_CANCELLED ;))) (then unreachable))
        (if (i64.ne (i64.load (i32.const 8)) (i64.const 0)) (then unreachable))
        (call $cancel)))
    (core func $new (canon waitable-set.new))
    (core func $wait (canon waitable-set.wait cancellable (memory (core memory $memory "memory"))))
    (core func $cancel (canon task.cancel))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "new" (func $new)) (export "wait" (func $wait))
      (export "cancel" (func $cancel))))))
    (func (export "run") async (canon lift (core func $i "run") async)))
  (instance $callee (instantiate $callee))
  (component $caller
    (import "run" (func $run async))
    (core func $run (canon lower (func $run) async))
    (core func $cancel (canon subtask.cancel async))
    (core func $drop (canon subtask.drop))
    (core module $m
      (import "" "run" (func $run (result i32)))
      (import "" "cancel" (func $cancel (param i32) (result i32)))
      (import "" "drop" (func $drop (param i32)))
      (func (export "run") (result i32) (local $status i32) (local $subtask i32)
        (local.set $status (call $run))
        (if (i32.ne (i32.and (local.get $status) (i32.const 15)) (i32.const 1 (; STARTED ;))) (then unreachable))
        (local.set $subtask (i32.shr_u (local.get $status) (i32.const 4)))
        (local.set $status (call $cancel (local.get $subtask)))
        (call $drop (local.get $subtask))
        (local.get $status)))
    (core instance $i (instantiate $m (with "" (instance
      (export "run" (func $run)) (export "cancel" (func $cancel)) (export "drop" (func $drop))))))
    (func (export "run") async (result u32) (canon lift (core func $i "run"))))
  (instance $caller (instantiate $caller (with "run" (func $callee "run"))))
  (export "run" (func $caller "run")))
(assert_return (invoke "run") (u32.const 4)) ;; CANCELLED_BEFORE_RETURNED
