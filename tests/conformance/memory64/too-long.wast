;; Promise: a length with 64 bits is a length: 2^61 numbers are not none, and 2^63 characters are not a tag.
(component definition $C
  (core module $m
    (memory (export "memory") i64 1)
    (func (export "pair") (param i64) (result i64)
      (i64.store (i64.const 16) (i64.const 0))
      (i64.store (i64.const 24) (local.get 0))
      (i64.const 16)))
  (core instance $i (instantiate $m))
  (alias core export $i "memory" (core memory $memory))
  (func (export "string") (param "len" u64) (result string) (canon lift (core func $i "pair") (memory $memory)))
  (func (export "utf16") (param "len" u64) (result string)
    (canon lift (core func $i "pair") (memory $memory) string-encoding=utf16))
  (func (export "numbers") (param "len" u64) (result (list u64)) (canon lift (core func $i "pair") (memory $memory))))

(component instance $c $C)
(assert_trap (invoke "numbers" (u64.const 0x2000_0000_0000_0000)) "is longer than 268435455 bytes")
(component instance $c $C)
(assert_trap (invoke "numbers" (u64.const 0x1_0000_0001)) "is longer than 268435455 bytes")
(component instance $c $C)
(assert_trap (invoke "string" (u64.const 0x8000_0000_0000_0000)) "is longer than 268435455 bytes")
(component instance $c $C)
(assert_trap (invoke "utf16" (u64.const 0x8000_0000_0000_0000)) "is longer than 268435455 bytes")
