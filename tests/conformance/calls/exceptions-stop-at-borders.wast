;; Promise: an exception that leaves a component is a trap; inside it is caught like anywhere.
(component definition $C
  (component $callee
    (core module $m
      (tag $t (param i32))
      (func (export "throws") (throw $t (i32.const 5)))
      (func (export "catches") (result i32)
        (block $caught (result i32)
          (try_table (catch $t $caught) (throw $t (i32.const 5)))
          unreachable)))
    (core instance $i (instantiate $m))
    (func (export "throws") (canon lift (core func $i "throws")))
    (func (export "catches") (result u32) (canon lift (core func $i "catches"))))
  (component $caller
    (import "throws" (func $throws))
    (core func $throws (canon lower (func $throws)))
    (core module $m
      (import "" "throws" (func $throws))
      (func (export "run") (block $caught (try_table (catch_all $caught) (call $throws)))))
    (core instance $i (instantiate $m (with "" (instance (export "throws" (func $throws))))))
    (func (export "run") (canon lift (core func $i "run"))))
  (instance $callee (instantiate $callee))
  (instance $caller (instantiate $caller (with "throws" (func $callee "throws"))))
  (func (export "catches") (alias export $callee "catches"))
  (func (export "throws") (alias export $callee "throws"))
  (func (export "run") (alias export $caller "run")))

(component instance $a $C)
(assert_return (invoke "catches") (u32.const 5))
(assert_trap (invoke "throws") "thrown Wasm exception")
(component instance $b $C)
(assert_trap (invoke "run") "uncaught exception propagated out of component")
