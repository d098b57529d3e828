;; No row: a list of fixed length as an argument of a script. The runner of wasmtime 48 does not make one.
;; wasmtime: type mismatch: expected list<_, N>, found list
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "three") (param i32 i32 i32) (result i32)
      (i32.store8 (i32.const 0) (local.get 0))
      (i32.store8 (i32.const 1) (local.get 1))
      (i32.store8 (i32.const 2) (local.get 2))
      (i32.const 0)))
  (core instance $i (instantiate $m))
  (func (export "three") (param "v" (list u8 3)) (result (list u8 3))
    (canon lift (core func $i "three") (memory (core memory $i "memory")))))

(assert_return
  (invoke "three" (list.const (u8.const 1) (u8.const 2) (u8.const 3)))
  (list.const (u8.const 1) (u8.const 2) (u8.const 3)))
