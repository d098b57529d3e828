;; Promise: the counter of a gate does not fall below zero.
(component
  (core func $backpressure-inc (canon backpressure.inc))
  (core func $backpressure-dec (canon backpressure.dec))
  (core module $m
    (import "" "backpressure-inc" (func $backpressure-inc))
    (import "" "backpressure-dec" (func $backpressure-dec))
    (func (export "run")
      (call $backpressure-inc)
      (call $backpressure-inc)
      (call $backpressure-dec)
      (call $backpressure-dec)
      (call $backpressure-dec)))
  (core instance $i (instantiate $m (with "" (instance
    (export "backpressure-inc" (func $backpressure-inc)) (export "backpressure-dec" (func $backpressure-dec))))))
  (func (export "run") (canon lift (core func $i "run"))))

(assert_trap (invoke "run") "backpressure counter overflow")
