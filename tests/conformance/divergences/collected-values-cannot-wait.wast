;; No row: a component with garbage collected values that would wait on its stack.
;; Ours: refused with the way out, because the engine's collector does not see stacks that are put aside. wasmtime 48, and the
;; specification: it waits.
;; wasmtime: expected trap, got Component([U32(5)])
(component
  (core func $yield (canon thread.yield))
  (core module $m
    (import "" "yield" (func $yield (result i32)))
    (type $box (struct (field i32)))
    (func (export "run") (result i32)
      (local $box (ref null $box))
      (local.set $box (struct.new $box (i32.const 5)))
      (drop (call $yield))
      (struct.get $box 0 (local.get $box))))
  (core instance $i (instantiate $m (with "" (instance (export "yield" (func $yield))))))
  (func (export "run") async (result u32) (canon lift (core func $i "run"))))

(assert_trap (invoke "run") "would have to block, and code with exceptions or garbage collected values cannot be put aside")
