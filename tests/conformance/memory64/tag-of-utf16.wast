;; Promise: in a memory with 64-bit pointers the length of a latin1+utf16 string that is UTF-16 has its highest bit set.
(component
  (core module $m
    (memory (export "memory") i64 1)
    (global $free (mut i64) (i64.const 1024))
    (func (export "realloc") (param i64 i64 i64 i64) (result i64)
      (if (i64.ne (local.get 0) (i64.const 0)) (then (return (local.get 0))))
      (global.get $free)
      (global.set $free (i64.add (global.get $free) (i64.const 256))))
    (func (export "len") (param i64 i64) (result i64) (local.get 1)))
  (core instance $i (instantiate $m))
  (func (export "len") (param "v" string) (result u64)
    (canon lift (core func $i "len")
      (memory (core memory $i "memory")) (realloc (core func $i "realloc")) string-encoding=latin1+utf16)))

(assert_return (invoke "len" (str.const "schön")) (u64.const 5))
(assert_return (invoke "len" (str.const "schön 😀")) (u64.const 0x8000_0000_0000_0008))
