;; Promise: what a component with 32-bit pointers writes to streams, one with 64-bit pointers reads: numbers, strings in every
;; encoding, and records with pointers, whose layouts differ.
(component
  (component $writer
    (type $shape' (variant (case "none") (case "text" string) (case "pair" (tuple u8 u64))))
    (export $shape "shape" (type $shape'))
    (type $item' (record
      (field "small" u8) (field "name" string) (field "big" u64) (field "shape" $shape) (field "tags" (list string))
      (field "maybe" (option string)) (field "done" (result (list u16) (error string)))))
    (export $item "item" (type $item'))
    (type $strings (stream string))
    (type $numbers (stream u64))
    (type $items (stream $item))
    (core module $memory
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
        (global.set $free (i32.add (global.get $free) (local.get $new)))))
    (core instance $memory (instantiate $memory))
    (alias core export $memory "memory" (core memory $memory))
    (alias core export $memory "realloc" (core func $realloc))
    ;; Writes its arguments to a new stream, whoever reads it, and gives the readable end.
    (core module $m
      (import "" "new" (func $new (result i64)))
      (import "" "write" (func $write (param i32 i32 i32) (result i32)))
      (func (export "open") (param $at i32) (param $count i32) (result i32) (local $ends i64)
        (local.set $ends (call $new))
        (drop (call $write (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32)))
          (local.get $at) (local.get $count)))
        (i32.wrap_i64 (local.get $ends))))
    (core func $new-strings-utf8 (canon stream.new $strings))
    (core func $write-strings-utf8 (canon stream.write $strings async (memory $memory) string-encoding=utf8))
    (core instance $strings-utf8 (instantiate $m (with "" (instance
      (export "new" (func $new-strings-utf8)) (export "write" (func $write-strings-utf8))))))
    (func (export "strings-utf8") (param "v" (list string)) (result $strings)
      (canon lift (core func $strings-utf8 "open") (memory $memory) (realloc (core func $realloc)) string-encoding=utf8))
    (core func $new-strings-utf16 (canon stream.new $strings))
    (core func $write-strings-utf16 (canon stream.write $strings async (memory $memory) string-encoding=utf16))
    (core instance $strings-utf16 (instantiate $m (with "" (instance
      (export "new" (func $new-strings-utf16)) (export "write" (func $write-strings-utf16))))))
    (func (export "strings-utf16") (param "v" (list string)) (result $strings)
      (canon lift (core func $strings-utf16 "open") (memory $memory) (realloc (core func $realloc)) string-encoding=utf16))
    (core func $new-strings-latin1 (canon stream.new $strings))
    (core func $write-strings-latin1 (canon stream.write $strings async (memory $memory) string-encoding=latin1+utf16))
    (core instance $strings-latin1 (instantiate $m (with "" (instance
      (export "new" (func $new-strings-latin1)) (export "write" (func $write-strings-latin1))))))
    (func (export "strings-latin1") (param "v" (list string)) (result $strings)
      (canon lift (core func $strings-latin1 "open") (memory $memory) (realloc (core func $realloc)) string-encoding=latin1+utf16))
    (core func $new-numbers (canon stream.new $numbers))
    (core func $write-numbers (canon stream.write $numbers async (memory $memory) string-encoding=utf8))
    (core instance $numbers (instantiate $m (with "" (instance
      (export "new" (func $new-numbers)) (export "write" (func $write-numbers))))))
    (func (export "numbers") (param "v" (list u64)) (result $numbers)
      (canon lift (core func $numbers "open") (memory $memory) (realloc (core func $realloc)) string-encoding=utf8))
    (core func $new-items (canon stream.new $items))
    (core func $write-items (canon stream.write $items async (memory $memory) string-encoding=utf16))
    (core instance $items (instantiate $m (with "" (instance
      (export "new" (func $new-items)) (export "write" (func $write-items))))))
    (func (export "items") (param "v" (list $item)) (result $items)
      (canon lift (core func $items "open") (memory $memory) (realloc (core func $realloc)) string-encoding=utf16)))
  (component $reader
    (import "writer" (instance $writer
      (type $shape' (variant (case "none") (case "text" string) (case "pair" (tuple u8 u64))))
      (export "shape" (type $shape (eq $shape')))
      (type $item' (record
        (field "small" u8) (field "name" string) (field "big" u64) (field "shape" $shape) (field "tags" (list string))
        (field "maybe" (option string)) (field "done" (result (list u16) (error string)))))
      (export "item" (type $item (eq $item')))
      (type $strings (stream string))
      (type $numbers (stream u64))
      (type $items (stream $item))
      (export "strings-utf8" (func (param "v" (list string)) (result $strings)))
      (export "strings-utf16" (func (param "v" (list string)) (result $strings)))
      (export "strings-latin1" (func (param "v" (list string)) (result $strings)))
      (export "numbers" (func (param "v" (list u64)) (result $numbers)))
      (export "items" (func (param "v" (list $item)) (result $items)))))
    (alias export $writer "item" (type $item))
    (type $strings (stream string))
    (type $numbers (stream u64))
    (type $items (stream $item))
    (core module $memory
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
        (global.set $free (i64.add (global.get $free) (local.get $new)))))
    (core instance $memory (instantiate $memory))
    (alias core export $memory "memory" (core memory $memory))
    (alias core export $memory "realloc" (core func $realloc))
    ;; Gives its arguments to the writer, reads them from the stream that it gets, and returns what it has read.
    (core module $m
      (import "" "memory" (memory i64 1))
      (import "" "open" (func $open (param i64 i64) (result i32)))
      (import "" "read" (func $read (param i32 i32 i32) (result i32)))
      (func (export "run") (param $at i64) (param $count i64) (result i64) (local $result i32)
        (local.set $result (call $read (call $open (local.get $at) (local.get $count)) (i32.const 32768) (i32.const 64)))
        (if (i32.and (local.get $result) (i32.const 15)) (then unreachable))
        (i64.store (i64.const 512) (i64.const 32768))
        (i64.store (i64.const 520) (i64.extend_i32_u (i32.shr_u (local.get $result) (i32.const 4))))
        (i64.const 512)))
    (core func $open-utf8-latin1
      (canon lower (func $writer "strings-utf8") (memory $memory) (realloc (core func $realloc)) string-encoding=latin1+utf16))
    (core func $read-utf8-latin1
      (canon stream.read $strings async (memory $memory) (realloc (core func $realloc)) string-encoding=latin1+utf16))
    (core instance $utf8-latin1 (instantiate $m (with "" (instance
      (export "memory" (memory $memory)) (export "open" (func $open-utf8-latin1)) (export "read" (func $read-utf8-latin1))))))
    (func (export "utf8-latin1") (param "v" (list string)) (result (list string))
      (canon lift (core func $utf8-latin1 "run") (memory $memory) (realloc (core func $realloc)) string-encoding=latin1+utf16))
    (core func $open-latin1-utf16
      (canon lower (func $writer "strings-latin1") (memory $memory) (realloc (core func $realloc)) string-encoding=utf16))
    (core func $read-latin1-utf16
      (canon stream.read $strings async (memory $memory) (realloc (core func $realloc)) string-encoding=utf16))
    (core instance $latin1-utf16 (instantiate $m (with "" (instance
      (export "memory" (memory $memory)) (export "open" (func $open-latin1-utf16)) (export "read" (func $read-latin1-utf16))))))
    (func (export "latin1-utf16") (param "v" (list string)) (result (list string))
      (canon lift (core func $latin1-utf16 "run") (memory $memory) (realloc (core func $realloc)) string-encoding=utf16))
    (core func $open-utf16-utf8
      (canon lower (func $writer "strings-utf16") (memory $memory) (realloc (core func $realloc)) string-encoding=utf8))
    (core func $read-utf16-utf8
      (canon stream.read $strings async (memory $memory) (realloc (core func $realloc)) string-encoding=utf8))
    (core instance $utf16-utf8 (instantiate $m (with "" (instance
      (export "memory" (memory $memory)) (export "open" (func $open-utf16-utf8)) (export "read" (func $read-utf16-utf8))))))
    (func (export "utf16-utf8") (param "v" (list string)) (result (list string))
      (canon lift (core func $utf16-utf8 "run") (memory $memory) (realloc (core func $realloc)) string-encoding=utf8))
    (core func $open-latin1-latin1
      (canon lower (func $writer "strings-latin1") (memory $memory) (realloc (core func $realloc)) string-encoding=latin1+utf16))
    (core func $read-latin1-latin1
      (canon stream.read $strings async (memory $memory) (realloc (core func $realloc)) string-encoding=latin1+utf16))
    (core instance $latin1-latin1 (instantiate $m (with "" (instance
      (export "memory" (memory $memory)) (export "open" (func $open-latin1-latin1)) (export "read" (func $read-latin1-latin1))))))
    (func (export "latin1-latin1") (param "v" (list string)) (result (list string))
      (canon lift (core func $latin1-latin1 "run") (memory $memory) (realloc (core func $realloc)) string-encoding=latin1+utf16))
    (core func $open-utf8-utf8
      (canon lower (func $writer "strings-utf8") (memory $memory) (realloc (core func $realloc)) string-encoding=utf8))
    (core func $read-utf8-utf8
      (canon stream.read $strings async (memory $memory) (realloc (core func $realloc)) string-encoding=utf8))
    (core instance $utf8-utf8 (instantiate $m (with "" (instance
      (export "memory" (memory $memory)) (export "open" (func $open-utf8-utf8)) (export "read" (func $read-utf8-utf8))))))
    (func (export "utf8-utf8") (param "v" (list string)) (result (list string))
      (canon lift (core func $utf8-utf8 "run") (memory $memory) (realloc (core func $realloc)) string-encoding=utf8))
    (core func $open-numbers
      (canon lower (func $writer "numbers") (memory $memory) (realloc (core func $realloc)) string-encoding=utf8))
    (core func $read-numbers
      (canon stream.read $numbers async (memory $memory) (realloc (core func $realloc)) string-encoding=utf8))
    (core instance $numbers (instantiate $m (with "" (instance
      (export "memory" (memory $memory)) (export "open" (func $open-numbers)) (export "read" (func $read-numbers))))))
    (func (export "numbers") (param "v" (list u64)) (result (list u64))
      (canon lift (core func $numbers "run") (memory $memory) (realloc (core func $realloc)) string-encoding=utf8))
    (core func $open-items
      (canon lower (func $writer "items") (memory $memory) (realloc (core func $realloc)) string-encoding=latin1+utf16))
    (core func $read-items
      (canon stream.read $items async (memory $memory) (realloc (core func $realloc)) string-encoding=latin1+utf16))
    (core instance $items (instantiate $m (with "" (instance
      (export "memory" (memory $memory)) (export "open" (func $open-items)) (export "read" (func $read-items))))))
    (func (export "items") (param "v" (list $item)) (result (list $item))
      (canon lift (core func $items "run") (memory $memory) (realloc (core func $realloc)) string-encoding=latin1+utf16)))
  (instance $writer (instantiate $writer))
  ;; Whoever gets items must know their type.
  (export $known "writer" (instance $writer))
  (instance $reader (instantiate $reader (with "writer" (instance $known))))
  (export "utf8-latin1" (func $reader "utf8-latin1"))
  (export "latin1-utf16" (func $reader "latin1-utf16"))
  (export "utf16-utf8" (func $reader "utf16-utf8"))
  (export "latin1-latin1" (func $reader "latin1-latin1"))
  (export "utf8-utf8" (func $reader "utf8-utf8"))
  (export "numbers" (func $reader "numbers"))
  (export "items" (func $reader "items")))

(assert_return
  (invoke "utf8-latin1" (list.const (str.const "ASCII") (str.const "schön") (str.const "") (str.const "schön 😀")))
  (list.const (str.const "ASCII") (str.const "schön") (str.const "") (str.const "schön 😀")))
(assert_return
  (invoke "latin1-utf16" (list.const (str.const "ASCII") (str.const "schön") (str.const "") (str.const "schön 😀")))
  (list.const (str.const "ASCII") (str.const "schön") (str.const "") (str.const "schön 😀")))
(assert_return
  (invoke "utf16-utf8" (list.const (str.const "ASCII") (str.const "schön") (str.const "") (str.const "schön 😀")))
  (list.const (str.const "ASCII") (str.const "schön") (str.const "") (str.const "schön 😀")))
(assert_return
  (invoke "latin1-latin1" (list.const (str.const "ASCII") (str.const "schön") (str.const "") (str.const "schön 😀")))
  (list.const (str.const "ASCII") (str.const "schön") (str.const "") (str.const "schön 😀")))
(assert_return
  (invoke "utf8-utf8" (list.const (str.const "ASCII") (str.const "schön") (str.const "") (str.const "schön 😀")))
  (list.const (str.const "ASCII") (str.const "schön") (str.const "") (str.const "schön 😀")))
(assert_return
  (invoke "numbers" (list.const (u64.const 1) (u64.const 0xffff_ffff_ffff_ffff)))
  (list.const (u64.const 1) (u64.const 0xffff_ffff_ffff_ffff)))
(assert_return
  (invoke "items" (list.const
    (record.const
      (field "small" u8.const 1) (field "name" str.const "Ida") (field "big" u64.const 0x1_0000_0001)
      (field "shape" variant.const "text" (str.const "round")) (field "tags" list.const (str.const "a") (str.const "😀"))
      (field "maybe" option.some (str.const "x")) (field "done" result.ok (list.const (u16.const 7) (u16.const 8))))
    (record.const
      (field "small" u8.const 2) (field "name" str.const "") (field "big" u64.const 3)
      (field "shape" variant.const "pair" (tuple.const (u8.const 9) (u64.const 10))) (field "tags" list.const)
      (field "maybe" option.none) (field "done" result.err (str.const "no")))
    (record.const
      (field "small" u8.const 4) (field "name" str.const "Bo") (field "big" u64.const 5)
      (field "shape" variant.const "none") (field "tags" list.const (str.const ""))
      (field "maybe" option.none) (field "done" result.ok (list.const)))))
  (list.const
    (record.const
      (field "small" u8.const 1) (field "name" str.const "Ida") (field "big" u64.const 0x1_0000_0001)
      (field "shape" variant.const "text" (str.const "round")) (field "tags" list.const (str.const "a") (str.const "😀"))
      (field "maybe" option.some (str.const "x")) (field "done" result.ok (list.const (u16.const 7) (u16.const 8))))
    (record.const
      (field "small" u8.const 2) (field "name" str.const "") (field "big" u64.const 3)
      (field "shape" variant.const "pair" (tuple.const (u8.const 9) (u64.const 10))) (field "tags" list.const)
      (field "maybe" option.none) (field "done" result.err (str.const "no")))
    (record.const
      (field "small" u8.const 4) (field "name" str.const "Bo") (field "big" u64.const 5)
      (field "shape" variant.const "none") (field "tags" list.const (str.const ""))
      (field "maybe" option.none) (field "done" result.ok (list.const)))))
