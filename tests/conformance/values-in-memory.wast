;; Promise: what does not fit in core values goes through memory: strings, lists, records with more fields than are passed flat.
(component
  (type $nested (list (list string)))
  (core module $m
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 1024))
    ;; Memory is never given back; this script is short. What shrinks stays where it is.
    (func (export "realloc") (param $old i32) (param $len i32) (param $align i32) (param $new i32) (result i32)
      (if (i32.and (i32.ne (local.get $old) (i32.const 0)) (i32.le_u (local.get $new) (local.get $len)))
        (then (return (local.get $old))))
      (global.set $free
        (i32.and
          (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
          (i32.sub (i32.const 0) (local.get $align))))
      (memory.copy (global.get $free) (local.get $old) (local.get $len))
      (global.get $free)
      (global.set $free (i32.add (global.get $free) (local.get $new))))
    ;; A pair is returned through memory.
    (func (export "echo") (param i32 i32) (result i32)
      (i32.store (i32.const 16) (local.get 0))
      (i32.store (i32.const 20) (local.get 1))
      (i32.const 16))
    ;; Seventeen parameters arrive as one pointer to them.
    (func (export "last") (param i32) (result i64) (i64.load offset=128 (local.get 0))))
  (core instance $i (instantiate $m))
  (func (export "string") (param "v" string) (result string)
    (canon lift (core func $i "echo") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (func (export "utf16") (param "v" string) (result string)
    (canon lift (core func $i "echo")
      (memory (core memory $i "memory")) (realloc (core func $i "realloc")) string-encoding=utf16))
  (func (export "latin1") (param "v" string) (result string)
    (canon lift (core func $i "echo")
      (memory (core memory $i "memory")) (realloc (core func $i "realloc")) string-encoding=latin1+utf16))
  (func (export "numbers") (param "v" (list u16)) (result (list u16))
    (canon lift (core func $i "echo") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (func (export "nested") (param "v" $nested) (result $nested)
    (canon lift (core func $i "echo") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (func (export "last")
    (param "p1" u64) (param "p2" u64) (param "p3" u64) (param "p4" u64) (param "p5" u64) (param "p6" u64)
    (param "p7" u64) (param "p8" u64) (param "p9" u64) (param "p10" u64) (param "p11" u64) (param "p12" u64)
    (param "p13" u64) (param "p14" u64) (param "p15" u64) (param "p16" u64) (param "p17" u64) (result u64)
    (canon lift (core func $i "last") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))

(assert_return (invoke "string" (str.const "")) (str.const ""))
(assert_return (invoke "string" (str.const "größer 🐈")) (str.const "größer 🐈"))
(assert_return (invoke "utf16" (str.const "größer 🐈")) (str.const "größer 🐈"))
(assert_return (invoke "latin1" (str.const "größer")) (str.const "größer"))
(assert_return (invoke "latin1" (str.const "größer 🐈")) (str.const "größer 🐈"))
(assert_return (invoke "numbers" (list.const)) (list.const))
(assert_return
  (invoke "numbers" (list.const (u16.const 1) (u16.const 65535)))
  (list.const (u16.const 1) (u16.const 65535)))
(assert_return
  (invoke "nested" (list.const (list.const (str.const "a") (str.const "")) (list.const) (list.const (str.const "bc"))))
  (list.const (list.const (str.const "a") (str.const "")) (list.const) (list.const (str.const "bc"))))
(assert_return
  (invoke "last"
    (u64.const 1) (u64.const 2) (u64.const 3) (u64.const 4) (u64.const 5) (u64.const 6) (u64.const 7) (u64.const 8)
    (u64.const 9) (u64.const 10) (u64.const 11) (u64.const 12) (u64.const 13) (u64.const 14) (u64.const 15)
    (u64.const 16) (u64.const 17))
  (u64.const 17))
