;; No row: floats as arguments and results of a script. The runner of wasmtime 48 does not take them as values of components.
;; wasmtime: expected component function, found other argument
(component
  (core module $m
    (func (export "f32") (param f32) (result f32) (local.get 0))
    (func (export "f64") (param f64) (result f64) (local.get 0)))
  (core instance $i (instantiate $m))
  (func (export "f32") (param "v" f32) (result f32) (canon lift (core func $i "f32")))
  (func (export "f64") (param "v" f64) (result f64) (canon lift (core func $i "f64"))))

(assert_return (invoke "f32" (f32.const -0.5)) (f32.const -0.5))
(assert_return (invoke "f64" (f64.const 0x1p-1074)) (f64.const 0x1p-1074))
(assert_return (invoke "f32" (f32.const nan:0x200001)) (f32.const nan:canonical))
(assert_return (invoke "f64" (f64.const -nan)) (f64.const nan:canonical))
