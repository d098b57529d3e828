;; Promise: what is malformed, invalid or lacks an import is refused, for the reason that is expected.
(assert_malformed (component quote "(func") "expected")
(assert_malformed (component binary "\00asm" "\0d\00\01") "unexpected end")
(assert_invalid
  (component
    (core module $m (func (export "f") (param i64)))
    (core instance $i (instantiate $m))
    (func (export "f") (param "v" u32) (canon lift (core func $i "f"))))
  "lowered parameter types `[I32]` do not match parameter types `[I64]`")
(assert_unlinkable
  (component
    (import "nobody" (func $f))
    (core func $f' (canon lower (func $f)))
    (core module $m (import "" "f" (func)))
    (core instance (instantiate $m (with "" (instance (export "f" (func $f')))))))
  "was not found")
