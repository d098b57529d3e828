;; No row: a component with garbage collected values that would wait on its stack.
;; Ours: refused with the way out, because the engine's collector does not see stacks that are put aside. wasmtime 48, and the
;; specification: it waits.
;; wasmtime: expected trap, got Component([U32(5)])
(component
  (import "host" (instance $host (export "return-two-slowly" (func async (result s32)))))
  (core func $slow (canon lower (func $host "return-two-slowly")))
  (core module $m
    (import "" "slow" (func $slow (result i32)))
    (type $box (struct (field i32)))
    (func (export "run") (result i32)
      (local $box (ref null $box))
      (local.set $box (struct.new $box (i32.const 5)))
      (drop (call $slow))
      (struct.get $box 0 (local.get $box))))
  (core instance $i (instantiate $m (with "" (instance (export "slow" (func $slow))))))
  (func (export "run") async (result u32) (canon lift (core func $i "run"))))

(assert_trap (invoke "run") "would have to block, and code with exceptions or garbage collected values cannot be put aside")
