;; No row: a function of an instance that has a name and is not the newest. The runner of wasmtime 48 knows the newest alone.
;; wasmtime: no item named `one::fine` found
(component definition $C
  (core module $m
    (func (export "trap") unreachable)
    (func (export "fine") (result i32) (i32.const 7)))
  (core instance $i (instantiate $m))
  (func (export "trap") (canon lift (core func $i "trap")))
  (func (export "fine") (result u32) (canon lift (core func $i "fine"))))

(component instance $one $C)
(component instance $two $C)
(assert_return (invoke $one "fine") (u32.const 7))
(assert_trap (invoke $two "trap") "unreachable")
(assert_return (invoke $one "fine") (u32.const 7))
