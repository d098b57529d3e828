;; No row: a component with exceptions that would wait on its stack.
;; Ours: refused with the way out, because such code cannot be put aside. wasmtime 48, and the specification: it waits.
;; wasmtime: expected trap, got Component([])
(component
  (import "host" (instance $host (export "return-two-slowly" (func async (result s32)))))
  (core func $slow (canon lower (func $host "return-two-slowly")))
  (core module $m
    (import "" "slow" (func $slow (result i32)))
    (tag $t)
    (func (export "run")
      (block $caught (try_table (catch_all $caught) (drop (call $slow)) (throw $t)))))
  (core instance $i (instantiate $m (with "" (instance (export "slow" (func $slow))))))
  (func (export "run") async (canon lift (core func $i "run"))))

(assert_trap (invoke "run") "would have to block, and code with exceptions or garbage collected values cannot be put aside")
