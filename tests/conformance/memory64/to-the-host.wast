;; Promise: the host and a guest with 64-bit pointers give each other values of every type, flat and through memory.
(component
  (type $nested (list (list string)))
  (type $shape' (variant (case "none") (case "text" string) (case "pair" (tuple u8 u64))))
  (export $shape "form" (type $shape'))
  (type $person' (record (field "age" u8) (field "name" string) (field "tall" bool) (field "friends" (list string))))
  (export $person "human" (type $person'))
  (type $access' (flags "read" "write"))
  (export $access "access" (type $access'))
  (core module $m
    (memory (export "memory") i64 1)
    (global $free (mut i64) (i64.const 1024))
    ;; Memory is never given back; this script is short. What shrinks stays where it is.
    (func (export "realloc") (param $old i64) (param $len i64) (param $align i64) (param $new i64) (result i64)
      (if (i32.and (i64.ne (local.get $old) (i64.const 0)) (i64.le_u (local.get $new) (local.get $len)))
        (then (return (local.get $old))))
      (global.set $free
        (i64.and
          (i64.add (global.get $free) (i64.sub (local.get $align) (i64.const 1)))
          (i64.sub (i64.const 0) (local.get $align))))
      (memory.copy (global.get $free) (local.get $old) (local.get $len))
      (global.get $free)
      (global.set $free (i64.add (global.get $free) (local.get $new))))
    ;; A pair is returned through memory.
    (func (export "pair") (param i64 i64) (result i64)
      (i64.store (i64.const 16) (local.get 0))
      (i64.store (i64.const 24) (local.get 1))
      (i64.const 16))
    ;; The fields of a person are flat, and in memory at multiples of eight: age, name, tall, friends.
    (func (export "person") (param i32 i64 i64 i32 i64 i64) (result i64)
      (i32.store8 (i64.const 64) (local.get 0))
      (i64.store (i64.const 72) (local.get 1))
      (i64.store (i64.const 80) (local.get 2))
      (i32.store8 (i64.const 88) (local.get 3))
      (i64.store (i64.const 96) (local.get 4))
      (i64.store (i64.const 104) (local.get 5))
      (i64.const 64))
    ;; A discriminant of one byte; the payload is behind seven more.
    (func (export "shape") (param i32 i64 i64) (result i64)
      (i32.store8 (i64.const 128) (local.get 0))
      (if (i32.eq (local.get 0) (i32.const 2))
        (then (i32.store8 (i64.const 136) (i32.wrap_i64 (local.get 1))))
        (else (i64.store (i64.const 136) (local.get 1))))
      (i64.store (i64.const 144) (local.get 2))
      (i64.const 128))
    (func (export "maybe") (param i32 i64 i64) (result i64)
      (i32.store8 (i64.const 160) (local.get 0))
      (i64.store (i64.const 168) (local.get 1))
      (i64.store (i64.const 176) (local.get 2))
      (i64.const 160))
    (func (export "flags") (param i32) (result i32) (local.get 0))
    ;; Seventeen parameters arrive as one pointer to them: strings take sixteen bytes each, aligned to eight.
    (func (export "last") (param i64) (result i64)
      (i64.add (i64.load offset=24 (local.get 0)) (i64.load offset=144 (local.get 0)))))
  (core instance $i (instantiate $m))
  (func (export "string") (param "v" string) (result string)
    (canon lift (core func $i "pair") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (func (export "utf16") (param "v" string) (result string)
    (canon lift (core func $i "pair")
      (memory (core memory $i "memory")) (realloc (core func $i "realloc")) string-encoding=utf16))
  (func (export "latin1") (param "v" string) (result string)
    (canon lift (core func $i "pair")
      (memory (core memory $i "memory")) (realloc (core func $i "realloc")) string-encoding=latin1+utf16))
  (func (export "numbers") (param "v" (list u16)) (result (list u16))
    (canon lift (core func $i "pair") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (func (export "nested") (param "v" $nested) (result $nested)
    (canon lift (core func $i "pair") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (func (export "shapes") (param "v" (list $shape)) (result (list $shape))
    (canon lift (core func $i "pair") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (func (export "person") (param "v" $person) (result $person)
    (canon lift (core func $i "person") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (func (export "people") (param "v" (list $person)) (result (list $person))
    (canon lift (core func $i "pair") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (func (export "shape") (param "v" $shape) (result $shape)
    (canon lift (core func $i "shape") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (func (export "option") (param "v" (option string)) (result (option string))
    (canon lift (core func $i "maybe") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (func (export "result") (param "v" (result (list u8) (error string))) (result (result (list u8) (error string)))
    (canon lift (core func $i "maybe") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (func (export "rights") (param "v" $access) (result $access) (canon lift (core func $i "flags")))
  (func (export "last")
    (param "p1" string) (param "p2" u8) (param "p3" u64) (param "p4" u64) (param "p5" u64) (param "p6" u64)
    (param "p7" u64) (param "p8" u64) (param "p9" u64) (param "p10" u64) (param "p11" u64) (param "p12" u64)
    (param "p13" u64) (param "p14" u64) (param "p15" u64) (param "p16" u64) (param "p17" u64) (param "p18" u64)
    (result u64)
    (canon lift (core func $i "last") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))

(assert_return (invoke "string" (str.const "")) (str.const ""))
(assert_return (invoke "string" (str.const "schön 😀")) (str.const "schön 😀"))
(assert_return (invoke "utf16" (str.const "schön 😀")) (str.const "schön 😀"))
(assert_return (invoke "utf16" (str.const "")) (str.const ""))
(assert_return (invoke "latin1" (str.const "schön")) (str.const "schön"))
(assert_return (invoke "latin1" (str.const "schön 😀")) (str.const "schön 😀"))
(assert_return (invoke "numbers" (list.const (u16.const 1) (u16.const 65535))) (list.const (u16.const 1) (u16.const 65535)))
(assert_return (invoke "numbers" (list.const)) (list.const))
(assert_return
  (invoke "nested" (list.const (list.const (str.const "a") (str.const "")) (list.const) (list.const (str.const "bc"))))
  (list.const (list.const (str.const "a") (str.const "")) (list.const) (list.const (str.const "bc"))))
(assert_return (invoke "shape" (variant.const "none")) (variant.const "none"))
(assert_return (invoke "shape" (variant.const "text" (str.const "round"))) (variant.const "text" (str.const "round")))
(assert_return
  (invoke "shape" (variant.const "pair" (tuple.const (u8.const 7) (u64.const 0x1_0000_0001))))
  (variant.const "pair" (tuple.const (u8.const 7) (u64.const 0x1_0000_0001))))
(assert_return
  (invoke "shapes" (list.const
    (variant.const "text" (str.const "round")) (variant.const "none")
    (variant.const "pair" (tuple.const (u8.const 7) (u64.const 8)))))
  (list.const
    (variant.const "text" (str.const "round")) (variant.const "none")
    (variant.const "pair" (tuple.const (u8.const 7) (u64.const 8)))))
(assert_return
  (invoke "person" (record.const
    (field "age" u8.const 40) (field "name" str.const "Ida") (field "tall" bool.const true)
    (field "friends" list.const (str.const "Bo"))))
  (record.const
    (field "age" u8.const 40) (field "name" str.const "Ida") (field "tall" bool.const true)
    (field "friends" list.const (str.const "Bo"))))
(assert_return
  (invoke "people" (list.const
    (record.const
      (field "age" u8.const 40) (field "name" str.const "Ida") (field "tall" bool.const true)
      (field "friends" list.const (str.const "Bo")))
    (record.const
      (field "age" u8.const 41) (field "name" str.const "Bo") (field "tall" bool.const false)
      (field "friends" list.const))))
  (list.const
    (record.const
      (field "age" u8.const 40) (field "name" str.const "Ida") (field "tall" bool.const true)
      (field "friends" list.const (str.const "Bo")))
    (record.const
      (field "age" u8.const 41) (field "name" str.const "Bo") (field "tall" bool.const false)
      (field "friends" list.const))))
(assert_return (invoke "option" (option.none)) (option.none))
(assert_return (invoke "option" (option.some (str.const "x"))) (option.some (str.const "x")))
(assert_return (invoke "result" (result.ok (list.const (u8.const 3)))) (result.ok (list.const (u8.const 3))))
(assert_return (invoke "result" (result.err (str.const "no"))) (result.err (str.const "no")))
(assert_return (invoke "rights" (flags.const "write")) (flags.const "write"))
(assert_return
  (invoke "last"
    (str.const "") (u8.const 1) (u64.const 20) (u64.const 3) (u64.const 4) (u64.const 5) (u64.const 6) (u64.const 7)
    (u64.const 8) (u64.const 9) (u64.const 10) (u64.const 11) (u64.const 12) (u64.const 13) (u64.const 14)
    (u64.const 15) (u64.const 16) (u64.const 300))
  (u64.const 320))
