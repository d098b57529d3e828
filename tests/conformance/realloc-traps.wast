;; Promise: a `realloc` that answers nonsense while parameters are lowered is a trap of that very call.
(component definition $C
  (core module $m
    (memory (export "memory") 1)
    (func (export "outside") (param i32 i32 i32 i32) (result i32) (i32.const -16))
    (func (export "odd") (param i32 i32 i32 i32) (result i32) (i32.const 3))
    (func (export "f") (param i32 i32)))
  (core instance $i (instantiate $m))
  (func (export "outside") (param "v" (list u32))
    (canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "outside"))))
  (func (export "odd") (param "v" (list u32))
    (canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "odd")))))

(component instance $a $C)
(assert_trap (invoke "outside" (list.const (u32.const 1))) "realloc return: beyond end of memory")
(component instance $b $C)
(assert_trap (invoke "odd" (list.const (u32.const 1))) "realloc return: result not aligned")
