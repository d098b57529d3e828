;; No row: a function of asynchronous type, lifted and lowered synchronously, is called while its instance has closed its gate.
;; Ours, and the specification: the call waits until the gate is open. wasmtime 48: it runs.
;; wasmtime: actual 0
(component
  (component $callee
    (core func $backpressure-inc (canon backpressure.inc))
    (core func $backpressure-dec (canon backpressure.dec))
    (core module $m
      (import "" "backpressure-inc" (func $backpressure-inc))
      (import "" "backpressure-dec" (func $backpressure-dec))
      (global $open (mut i32) (i32.const 1))
      (func (export "shut") (global.set $open (i32.const 0)) (call $backpressure-inc))
      (func (export "unlock") (global.set $open (i32.const 1)) (call $backpressure-dec))
      ;; 1 if the gate was open when it began.
      (func (export "work") (result i32) (global.get $open)))
    (core instance $i (instantiate $m (with "" (instance
      (export "backpressure-inc" (func $backpressure-inc)) (export "backpressure-dec" (func $backpressure-dec))))))
    (func (export "shut") (canon lift (core func $i "shut")))
    (func (export "unlock") (canon lift (core func $i "unlock")))
    (func (export "work") async (result u32) (canon lift (core func $i "work"))))
  (component $opener
    (import "unlock" (func $unlock))
    (core func $unlock (canon lower (func $unlock)))
    (core func $return-none (canon task.return))
    (core module $m
      (import "" "unlock" (func $unlock))
      (import "" "return-none" (func $return-none))
      (func (export "later") (result i32)
        (call $return-none)
        ;; YIELD
        (i32.const 1))
      (func (export "callback") (param i32 i32 i32) (result i32)
        (call $unlock)
        (i32.const 0)))
    (core instance $i (instantiate $m (with "" (instance
      (export "unlock" (func $unlock)) (export "return-none" (func $return-none))))))
    (func (export "later") async (canon lift (core func $i "later") async (callback (core func $i "callback")))))
  (component $caller
    (import "shut" (func $shut))
    (import "later" (func $later async))
    (import "work" (func $work async (result u32)))
    (core func $shut (canon lower (func $shut)))
    (core func $later (canon lower (func $later)))
    (core func $work (canon lower (func $work)))
    (core module $m
      (import "" "shut" (func $shut))
      (import "" "later" (func $later))
      (import "" "work" (func $work (result i32)))
      (func (export "run") (result i32)
        (call $shut)
        (call $later)
        (call $work)))
    (core instance $i (instantiate $m (with "" (instance
      (export "shut" (func $shut)) (export "later" (func $later)) (export "work" (func $work))))))
    (func (export "run") async (result u32) (canon lift (core func $i "run"))))
  (instance $callee (instantiate $callee))
  (instance $opener (instantiate $opener (with "unlock" (func $callee "unlock"))))
  (instance $caller (instantiate $caller
    (with "shut" (func $callee "shut")) (with "later" (func $opener "later")) (with "work" (func $callee "work"))))
  (func (export "run") (alias export $caller "run")))

(assert_return (invoke "run") (u32.const 1))
(assert_return (invoke "run") (u32.const 1))
