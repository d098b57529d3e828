;; Promise: code that runs to hand over a result, `post-return` and `realloc`, cannot call out.
(component definition $C
  (core func $set-new (canon waitable-set.new))
  (core module $m
    (import "" "set-new" (func $set-new (result i32)))
    (memory (export "memory") 1)
    (func (export "none"))
    (func (export "string") (param i32 i32))
    (func (export "after") (drop (call $set-new)))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (drop (call $set-new)) (i32.const 0)))
  (core instance $i (instantiate $m (with "" (instance (export "set-new" (func $set-new))))))
  (func (export "post-return") (canon lift (core func $i "none") (post-return (core func $i "after"))))
  (func (export "realloc") (param "v" string)
    (canon lift (core func $i "string") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))

(component instance $a $C)
(assert_trap (invoke "post-return") "cannot leave component instance")
(component instance $b $C)
(assert_trap (invoke "realloc" (str.const "a")) "cannot leave component instance")
