;; Promise: a destructor is of synchronous type: it cannot wait.
(component
  (core func $suspend (canon thread.suspend))
  (core module $d
    (import "" "suspend" (func $suspend (result i32)))
    (func (export "destroy") (param i32) (drop (call $suspend))))
  (core instance $d (instantiate $d (with "" (instance (export "suspend" (func $suspend))))))
  (type $thing (resource (rep i32) (dtor (core func $d "destroy"))))
  (core func $new (canon resource.new $thing))
  (core func $drop (canon resource.drop $thing))
  (core module $m
    (import "" "new" (func $new (param i32) (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (func (export "run") (call $drop (call $new (i32.const 1)))))
  (core instance $i (instantiate $m (with "" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
  (func (export "run") (canon lift (core func $i "run"))))

(assert_trap (invoke "run") "cannot block a synchronous task before returning")
