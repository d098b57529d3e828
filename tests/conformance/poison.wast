;; Promise: after a trap an instance is dead, for all of its functions; another instance of the same component is not.
(component definition $C
  (core module $m
    (func (export "trap") unreachable)
    (func (export "fine") (result i32) (i32.const 7)))
  (core instance $i (instantiate $m))
  (func (export "trap") (canon lift (core func $i "trap")))
  (func (export "fine") (result u32) (canon lift (core func $i "fine"))))

(component instance $one $C)
(assert_return (invoke "fine") (u32.const 7))
(assert_trap (invoke "trap") "wasm trap: wasm `unreachable` instruction executed")
(assert_trap (invoke "fine") "wasm trap: cannot enter component instance")
(component instance $two $C)
(assert_return (invoke "fine") (u32.const 7))
