;;! known_failure = "the promise is wrong on purpose: this script shows what a known failure looks like"
;; Promise: a script that says so may fail.
(component
  (core module $m (func (export "one") (result i32) (i32.const 1)))
  (core instance $i (instantiate $m))
  (func (export "one") (result u32) (canon lift (core func $i "one"))))
(assert_return (invoke "one") (u32.const 2))
