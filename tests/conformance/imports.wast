;; Promise: every import is looked for before a component is linked, by name and by kind, and equal types have to be equal.
(component (import "host" (instance (export "return-three" (func (result u32))))))
(component (import "anything" (instance)))
(component
  (import "host" (instance
    (export "resource1" (type $r (sub resource)))
    (export "resource1-again" (type (eq $r))))))

(assert_unlinkable
  (component (import "host" (instance (export "return-thirteen" (func (result u32))))))
  "was not found")
(assert_unlinkable (component (import "host" (func))) "expected function found instance")
(assert_unlinkable (component (import "host-return-two" (instance))) "expected instance found func")
(assert_unlinkable
  (component (import "host" (instance (export "return-three" (type (sub resource))))))
  "expected resource found func")
(assert_unlinkable
  (component
    (import "host" (instance
      (export "resource2" (type $r (sub resource)))
      (export "resource1-again" (type (eq $r))))))
  "mismatched resource types")
