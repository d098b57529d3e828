//! One component writes elements that lie in its memory, another one reads them and shows its memory.

use super::BYTE_LENGTH_MAX;
use crate::abi::{Census, Limits, Zone};
use crate::component;
use crate::host::linker::Linker;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

/// What tells UTF-16 from Latin-1 where pointers have 32 bits.
const UTF16_TAG: u32 = 1 << 31;
/// Where the elements are, in both memories.
const AT: usize = 64;
/// Where the reader's realloc notes its calls, four numbers each.
const LOG: usize = 2048;
/// The first address that the reader's realloc gives, if nothing else is said.
const HEAP: u32 = 4096;

/// Gives fresh memory, except to shrink; what it copies when something grows is the old content.
const BUMP: &str = "
    (if (i32.le_u (local.get $new) (local.get $len)) (then (return (local.get $old))))
    (local.set $at (i32.and
      (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $next (i32.add (local.get $at) (local.get $new)))
    (memory.copy (local.get $at) (local.get $old) (local.get $len))
    (local.get $at)";

#[derive(Clone)]
struct Case<'a> {
    /// Definitions that both components share, by name.
    types: &'a [(&'a str, &'a str)],
    /// The type of the elements.
    payload: &'a str,
    count: u32,
    /// What is in the writer's memory, by address.
    memory: Vec<(usize, Vec<u8>)>,
    /// `string-encoding` of writer and reader.
    encodings: [&'a str; 2],
    /// What the reader's realloc does.
    realloc: &'a str,
    /// Definitions of the writer, the type of their `$prepare`, and code that changes its memory before it writes.
    prepare: [&'a str; 3],
    /// Definitions and code of the reader that look at what it has read.
    inspect: [&'a str; 3],
}

impl Default for Case<'_> {
    fn default() -> Self {
        Case {
            types: &[],
            payload: "u8",
            count: 1,
            memory: Vec::new(),
            encodings: ["utf8", "utf8"],
            realloc: BUMP,
            prepare: [""; 3],
            inspect: [""; 3],
        }
    }
}

impl Case<'_> {
    fn wat(&self) -> String {
        let Case { types, payload, count, memory, encodings: [from, to], realloc, prepare, inspect } = self;
        let [prepare_items, prepare_type, prepare_code] = prepare;
        let [inspect_items, inspect_imports, inspect_code] = inspect;
        let exported: String = types
            .iter()
            .map(|(name, ty)| format!(r#"(type ${name}0 {ty}) (export ${name} "{name}" (type ${name}0))"#))
            .collect();
        let imported: String = types
            .iter()
            .map(|(name, ty)| match ty.starts_with("(resource") {
                true => format!(r#"(import "{name}" (type ${name} (sub resource)))"#),
                false => format!(r#"(type ${name}0 {ty}) (import "{name}" (type ${name} (eq ${name}0)))"#),
            })
            .collect();
        let given: String =
            types.iter().map(|(name, _)| format!(r#"(with "{name}" (type $writer "{name}"))"#)).collect();
        let escaped = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\{byte:02x}")).collect::<String>();
        let data: String =
            memory.iter().map(|(at, bytes)| format!(r#"(data (i32.const {at}) "{}")"#, escaped(bytes))).collect();
        let [from_encoding, to_encoding] = [from, to].map(|encoding| format!("string-encoding={encoding}"));
        format!(
            r#"
(component
  (component $writer
    {exported}
    (type $s (stream {payload}))
    (core module $memory (memory (export "memory") 1) {data})
    (core instance $memory (instantiate $memory))
    (core func $new (canon stream.new $s))
    (core func $write (canon stream.write $s async {from_encoding} (memory (core memory $memory "memory"))))
    {prepare_items}
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "new" (func $new (result i64)))
      (import "" "write" (func $write (param i32 i32 i32) (result i32)))
      (import "" "prepare" (func $prepare {prepare_type}))
      (func (export "open") (result i32) (local $ends i64)
        {prepare_code}
        (local.set $ends (call $new))
        (if (i32.ne (i32.const -1) (call $write
              (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))) (i32.const {AT}) (i32.const {count})))
          (then unreachable))
        (i32.wrap_i64 (local.get $ends))))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "new" (func $new)) (export "write" (func $write))
      (export "prepare" (func {prepare_func}))))))
    (func (export "open") (result $s) (canon lift (core func $i "open"))))
  (instance $writer (instantiate $writer))
  (component $reader
    {imported}
    (type $s (stream {payload}))
    (import "open" (func $open (result $s)))
    (core module $memory
      (memory (export "memory") 1)
      (global $next (mut i32) (i32.const {HEAP}))
      (global $log (mut i32) (i32.const {LOG}))
      (func (export "realloc") (param $old i32) (param $len i32) (param $align i32) (param $new i32) (result i32) (local $at i32)
        (i32.store (global.get $log) (local.get $old))
        (i32.store offset=4 (global.get $log) (local.get $len))
        (i32.store offset=8 (global.get $log) (local.get $align))
        (i32.store offset=12 (global.get $log) (local.get $new))
        (if (i32.lt_u (global.get $log) (i32.const {log_end})) (then
          (global.set $log (i32.add (global.get $log) (i32.const 16)))))
        {realloc}))
    (core instance $memory (instantiate $memory))
    (core func $open (canon lower (func $open)))
    (core func $read (canon stream.read $s async {to_encoding}
      (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
    (core func $drop (canon stream.drop-readable $s))
    {inspect_items}
    (core module $m
      (import "" "memory" (memory 1))
      (import "" "open" (func $open (result i32)))
      (import "" "read" (func $read (param i32 i32 i32) (result i32)))
      (import "" "inspect" (func $inspect (param i32)))
      (func (export "run") (result i32)
        (if (i32.ne (i32.const {packed}) (call $read (call $open) (i32.const {AT}) (i32.const {count}))) (then unreachable))
        {inspect_code}
        (i32.store (i32.const 0) (i32.const 0))
        (i32.store (i32.const 4) (i32.const 65536))
        (i32.const 0)))
    (core instance $i (instantiate $m (with "" (instance
      (export "memory" (memory $memory "memory")) (export "open" (func $open)) (export "read" (func $read))
      (export "inspect" (func {inspect_func}))))))
    (func (export "run") (result (list u8)) (canon lift (core func $i "run") (memory (core memory $memory "memory")))))
  (instance $reader (instantiate $reader {given} (with "open" (func $writer "open"))))
  (export "run" (func $reader "run")))"#,
            log_end = HEAP - 16,
            packed = count << 4,
            prepare_type = if prepare_items.is_empty() { "(result i64)" } else { prepare_type },
            prepare_func = if prepare_items.is_empty() { "$new" } else { "$prepare" },
            inspect_func = if inspect_imports.is_empty() { "$drop" } else { inspect_imports },
        )
    }

    /// The reader's memory and what is left in the zone, or why it has trapped.
    fn run(&self) -> Result<(Memory, Census), String> {
        self.run_within(Limits::default())
    }

    fn run_within(&self, limits: Limits) -> Result<(Memory, Census), String> {
        static ENGINE: OnceLock<wasmtime::Engine> = OnceLock::new();
        let engine = ENGINE.get_or_init(|| component::engine().expect("the engine starts"));
        let bytes = wat::parse_str(self.wat()).unwrap_or_else(|error| panic!("{error}\n{}", self.wat()));
        let compiled = component::compile(engine, &bytes).unwrap_or_else(|error| panic!("{error:?}\n{}", self.wat()));
        let linked = Linker::new().link(engine, Arc::new(compiled)).expect("there are no imports");
        let zone = Zone::new(&linked, limits, Rc::new(())).expect("the component starts");
        let call = zone.call(linked.export::<(), Vec<u8>>("run").expect("it is there"), ());
        zone.run_now();
        if let Some(reason) = zone.poison() {
            return Err(reason.to_string());
        }
        match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(bytes)) => Ok((Memory(bytes), zone.census().expect("the zone rests"))),
            Poll::Ready(Err(error)) => panic!("a call that did not trap gives {error:?}"),
            Poll::Pending => panic!("nothing here waits"),
        }
    }

    /// The reader's memory.
    #[track_caller]
    fn read(&self) -> Memory {
        self.run().expect("nothing traps").0
    }

    #[track_caller]
    fn assert_traps(&self, why: &str) {
        match self.run() {
            Ok(_) => panic!("expected a trap: {why}"),
            Err(reason) => assert!(reason.contains(why), "expected `{why}`, not: {reason}"),
        }
    }
}

struct Memory(Vec<u8>);

impl Memory {
    fn bytes(&self, at: usize, len: usize) -> &[u8] {
        &self.0[at..at + len]
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at, 4).try_into().unwrap())
    }

    fn reallocs(&self) -> Vec<[u32; 4]> {
        let call = |n: usize| [0, 4, 8, 12].map(|field| self.word(LOG + 16 * n + field));
        (0..).map(call).take_while(|call| *call != [0; 4]).collect()
    }

    /// The string whose pointer and length are at this address.
    fn string(&self, encoding: &str, at: usize) -> String {
        let (ptr, len) = (self.word(at) as usize, self.word(at + 4));
        let latin1 = |len: u32| self.bytes(ptr, len as usize).iter().map(|byte| char::from(*byte)).collect();
        let utf16 = |len: u32| {
            let (units, _) = self.bytes(ptr, 2 * len as usize).as_chunks::<2>();
            String::from_utf16(&units.iter().map(|unit| u16::from_le_bytes(*unit)).collect::<Vec<_>>()).unwrap()
        };
        match encoding {
            "utf8" => String::from_utf8(self.bytes(ptr, len as usize).to_vec()).unwrap(),
            "utf16" => utf16(len),
            _ if len & UTF16_TAG == 0 => latin1(len),
            _ => utf16(len ^ UTF16_TAG),
        }
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// A text in an encoding, and its length with tag. Latin-1 only if the text fits.
fn encoded(text: &str, encoding: &str) -> (Vec<u8>, u32) {
    let wide = (utf16(text), text.encode_utf16().count() as u32);
    match encoding {
        "utf8" => (text.as_bytes().to_vec(), text.len() as u32),
        "utf16" => wide,
        "latin1+utf16" => match text.chars().map(|c| u8::try_from(c).ok()).collect::<Option<Vec<u8>>>() {
            Some(bytes) => (bytes.clone(), bytes.len() as u32),
            None => (wide.0, wide.1 | UTF16_TAG),
        },
        // What a guest may do, and would not: all characters are in Latin-1, the text is UTF-16.
        "wasteful" => (wide.0, wide.1 | UTF16_TAG),
        _ => unreachable!(),
    }
}

const ENCODINGS: [&str; 3] = ["utf8", "utf16", "latin1+utf16"];

fn strings<'a>(texts: &[&str], form: &str, encodings: [&'a str; 2]) -> Case<'a> {
    let mut memory = Vec::new();
    let mut place = 1024;
    for (i, text) in texts.iter().enumerate() {
        let (bytes, len) = encoded(text, form);
        memory.push((AT + 8 * i, words(&[place, len])));
        let next = place + (bytes.len() as u32).next_multiple_of(2);
        memory.push((place as usize, bytes));
        place = next;
    }
    Case { payload: "string", count: texts.len() as u32, memory, encodings, ..Case::default() }
}

#[test]
fn strings_arrive_from_every_encoding_in_every_other() {
    let texts =
        ["", "abc", "é", "aé", "\u{ff}\u{100}", "aéž", "žaé", "€uro", "x😀", "😀é", "\u{10ffff}\u{ffff}\u{7ff}"];
    for form in ["utf8", "utf16", "latin1+utf16", "wasteful"] {
        let from = if form == "wasteful" { "latin1+utf16" } else { form };
        for to in ENCODINGS {
            let memory = strings(&texts, form, [from, to]).read();
            for (i, text) in texts.iter().enumerate() {
                assert_eq!(memory.string(to, AT + 8 * i), *text, "{form} to {to}");
            }
        }
    }
}

#[test]
fn reallocs_for_strings_are_those_of_the_specification() {
    // The reader's heap starts at 4096 and gives fresh memory for growth.
    let check = |text: &str, form: &str, to: &str, expected: &[[u32; 4]]| {
        let from = if form == "wasteful" { "latin1+utf16" } else { form };
        assert_eq!(strings(&[text], form, [from, to]).read().reallocs(), expected, "{text:?} from {form} to {to}");
    };
    check("aé", "utf8", "utf8", &[[0, 0, 1, 3]]);
    check("aé", "utf16", "utf16", &[[0, 0, 2, 4]]);
    check("aé", "latin1+utf16", "utf16", &[[0, 0, 2, 4]]);
    check("aé", "latin1+utf16", "latin1+utf16", &[[0, 0, 2, 2]]);
    check("ab", "utf16", "utf8", &[[0, 0, 1, 2]]);
    check("aé", "utf16", "utf8", &[[0, 0, 1, 2], [4096, 2, 1, 6], [4098, 6, 1, 3]]);
    check("aé", "latin1+utf16", "utf8", &[[0, 0, 1, 2], [4096, 2, 1, 4], [4098, 4, 1, 3]]);
    check("éé", "latin1+utf16", "utf8", &[[0, 0, 1, 2], [4096, 2, 1, 4]]);
    check("ab", "utf8", "utf16", &[[0, 0, 2, 4]]);
    check("aé", "utf8", "utf16", &[[0, 0, 2, 6], [4096, 6, 2, 4]]);
    check("ab", "utf8", "latin1+utf16", &[[0, 0, 2, 2]]);
    check("aé", "utf8", "latin1+utf16", &[[0, 0, 2, 3], [4096, 3, 2, 2]]);
    check("až", "utf8", "latin1+utf16", &[[0, 0, 2, 3], [4096, 3, 2, 6], [4100, 6, 2, 4]]);
    check("aé", "utf16", "latin1+utf16", &[[0, 0, 2, 2]]);
    check("až", "utf16", "latin1+utf16", &[[0, 0, 2, 2], [4096, 2, 2, 4]]);
    check("aé", "wasteful", "latin1+utf16", &[[0, 0, 2, 4], [4096, 4, 1, 2]]);
    check("až", "latin1+utf16", "latin1+utf16", &[[0, 0, 2, 4]]);
    check("", "utf8", "utf16", &[[0, 0, 2, 0]]);
}

#[test]
fn a_string_that_is_not_one_traps() {
    let string = |ptr: u32, len: u32, bytes: &[u8], from| Case {
        payload: "string",
        memory: vec![(AT, words(&[ptr, len])), (1024, bytes.to_vec())],
        encodings: [from, "utf8"],
        ..Case::default()
    };
    string(1024, 1, b"\xff", "utf8").assert_traps("invalid utf-8");
    string(1024, 1, b"\xe2\x82\xac", "utf8").assert_traps("incomplete utf-8 byte sequence");
    string(1024, 2, b"\x00\xd8a\x00", "utf16").assert_traps("not UTF-16");
    string(1024, 1 | UTF16_TAG, b"\x00\xdc", "latin1+utf16").assert_traps("not UTF-16");
    string(1025, 0, b"", "utf16").assert_traps("unaligned pointer");
    string(1025, 1, b"", "latin1+utf16").assert_traps("unaligned pointer");
    string(65535, 2, b"", "utf8").assert_traps("string content out-of-bounds");
    string(65534, 2, b"", "utf16").assert_traps("string content out-of-bounds");
    string(65534, 2 | UTF16_TAG, b"", "latin1+utf16").assert_traps("string content out-of-bounds");
    string(u32::MAX, BYTE_LENGTH_MAX as u32, b"", "utf8").assert_traps("string content out-of-bounds");
    string(0, BYTE_LENGTH_MAX as u32 + 1, b"", "utf8").assert_traps("at most");
    string(0, u32::MAX, b"", "utf16").assert_traps("at most");
    string(0, u32::MAX, b"", "latin1+utf16").assert_traps("at most");
    // At the very end there is room for nothing, and nothing is what these ask for.
    assert_eq!(string(65536, 0, b"", "utf8").read().string("utf8", AT), "");
}

/// What becomes of elements without pointers.
fn one(types: &[(&str, &str)], payload: &str, count: u32, bytes: &[u8]) -> Vec<u8> {
    let case = Case { types, payload, count, memory: vec![(AT, bytes.to_vec())], ..Case::default() };
    case.read().bytes(AT, bytes.len()).to_vec()
}

#[test]
fn scalars_are_normalised() {
    assert_eq!(one(&[], "bool", 4, &[0, 1, 2, 255]), [0, 1, 1, 1]);
    let chars = words(&[0, 0x61, 0xd7ff, 0xe000, 0x10_ffff]);
    assert_eq!(one(&[], "(tuple char)", 5, &chars), chars);
    let nine = [("f", r#"(flags "a" "b" "c" "d" "e" "f" "g" "h" "i")"#)];
    assert_eq!(one(&nine, "$f", 2, &[0xff, 0xff, 0x05, 0x02]), [0xff, 0x01, 0x05, 0x00]);
    let three = [("f", r#"(flags "a" "b" "c")"#)];
    assert_eq!(one(&three, "$f", 1, &[0xfd]), [0x05]);
    let names: String = (0..17).map(|n| format!(" \"f{n}\"")).collect();
    let flags = format!("(flags{names})");
    assert_eq!(one(&[("f", &flags)], "$f", 1, &[0xff; 4]), [0xff, 0xff, 0x01, 0x00]);
    let colours = [("e", r#"(enum "red" "green" "blue")"#)];
    assert_eq!(one(&colours, "$e", 3, &[2, 0, 1]), [2, 0, 1]);
    let names: String = (0..300).map(|n| format!(" \"e{n}\"")).collect();
    let many = format!("(enum{names})");
    assert_eq!(one(&[("e", &many)], "$e", 2, &[43, 1, 0, 1]), [43, 1, 0, 1]);
}

#[test]
fn scalars_that_are_none_trap() {
    let check = |types, payload, bytes: &[u8], why| {
        Case { types, payload, memory: vec![(AT, bytes.to_vec())], ..Case::default() }.assert_traps(why);
    };
    check(&[], "(tuple char)", &words(&[0xd800]), "invalid `char` bit pattern");
    check(&[], "(tuple char)", &words(&[0xdfff]), "invalid `char` bit pattern");
    check(&[], "(tuple char)", &words(&[0x11_0000]), "invalid `char` bit pattern");
    check(&[], "(tuple char)", &words(&[u32::MAX]), "invalid `char` bit pattern");
    check(&[("e", r#"(enum "red" "green" "blue")"#)], "$e", &[3], "invalid variant discriminant");
    check(&[], "(option u8)", &[2, 0], "invalid variant discriminant");
    check(&[], "(result u8)", &[255, 0], "invalid variant discriminant");
    check(&[("v", r#"(variant (case "a" u64) (case "b"))"#)], "$v", &[2], "invalid variant discriminant");
}

#[test]
fn only_what_belongs_to_a_value_is_written() {
    // Padding of the writer is 0xaa, what the reader had is 0.
    let record = [("r", r#"(record (field "a" u8) (field "b" u32) (field "c" bool) (field "d" u64))"#)];
    let mut bytes = vec![0xaa; 24];
    bytes[0] = 1;
    bytes[4..8].copy_from_slice(&[2, 3, 4, 5]);
    bytes[8] = 7;
    bytes[16..24].copy_from_slice(&[8; 8]);
    let memory = Case { types: &record, payload: "$r", memory: vec![(AT, bytes)], ..Case::default() }.read();
    assert_eq!(memory.bytes(AT, 24), [1, 0, 0, 0, 2, 3, 4, 5, 1, 0, 0, 0, 0, 0, 0, 0, 8, 8, 8, 8, 8, 8, 8, 8]);

    let variant = [("v", r#"(variant (case "a" u64) (case "b") (case "c" (tuple u8 u16)))"#)];
    let mut bytes = vec![0xaa; 48];
    bytes[0] = 0;
    bytes[8..16].copy_from_slice(&[9; 8]);
    bytes[16] = 1;
    bytes[32] = 2;
    bytes[40] = 5;
    bytes[42..44].copy_from_slice(&[6, 7]);
    let case = Case { types: &variant, payload: "$v", count: 3, memory: vec![(AT, bytes)], ..Case::default() };
    let mut expected = [0; 48];
    expected[8..16].copy_from_slice(&[9; 8]);
    expected[16] = 1;
    expected[32] = 2;
    expected[40] = 5;
    expected[42..44].copy_from_slice(&[6, 7]);
    assert_eq!(case.read().bytes(AT, 48), expected);

    let case = Case {
        payload: "(option u32)",
        count: 2,
        memory: vec![(AT, words(&[0xaaaa_aa00, 5, 0xaaaa_aa01, 6]))],
        ..Case::default()
    };
    assert_eq!(case.read().bytes(AT, 16), words(&[0, 0, 1, 6]));

    let case = Case {
        payload: "(result u16 (error u8))",
        count: 2,
        memory: vec![(AT, vec![0, 0xaa, 5, 6, 1, 0xaa, 7, 0xaa])],
        ..Case::default()
    };
    assert_eq!(case.read().bytes(AT, 8), [0, 0, 5, 6, 1, 0, 7, 0]);

    // A result without payload of its own is a discriminant.
    let case = Case { payload: "(result)", count: 2, memory: vec![(AT, vec![1, 0])], ..Case::default() };
    assert_eq!(case.read().bytes(AT, 2), [1, 0]);
}

#[test]
fn lists_arrive_with_all_that_is_in_them() {
    let case = Case {
        payload: "(list u32)",
        memory: vec![(AT, words(&[1024, 3])), (1024, words(&[7, 8, 9]))],
        ..Case::default()
    };
    let memory = case.read();
    assert_eq!((memory.word(AT), memory.word(AT + 4)), (HEAP, 3));
    assert_eq!(memory.bytes(HEAP as usize, 12), words(&[7, 8, 9]));
    assert_eq!(memory.reallocs(), [[0, 0, 4, 12]]);

    let memory = Case {
        payload: "(list (tuple u8 (list string)))",
        memory: vec![
            (AT, words(&[1024, 2])),
            (1024, words(&[1, 1100, 1, 0xaaaa_aa02, 1108, 0])),
            (1100, words(&[1200, 3])),
            (1200, b"abc".to_vec()),
        ],
        ..Case::default()
    }
    .read();
    assert_eq!(memory.reallocs(), [[0, 0, 4, 24], [0, 0, 4, 8], [0, 0, 1, 3], [0, 0, 4, 0]]);
    let outer = memory.word(AT) as usize;
    assert_eq!(memory.word(AT + 4), 2);
    assert_eq!((memory.word(outer), memory.word(outer + 8)), (1, 1));
    assert_eq!(memory.string("utf8", memory.word(outer + 4) as usize), "abc");
    assert_eq!((memory.word(outer + 12), memory.word(outer + 20)), (2, 0));
}

#[test]
fn a_list_that_is_not_one_traps() {
    let list = |payload, ptr, len| Case { payload, memory: vec![(AT, words(&[ptr, len]))], ..Case::default() };
    list("(list u32)", 1026, 0).assert_traps("unaligned pointer");
    list("(list u32)", 65536, 1).assert_traps("list content out-of-bounds");
    list("(list u16)", 65534, 2).assert_traps("list content out-of-bounds");
    list("(list u8)", u32::MAX, 1).assert_traps("list content out-of-bounds");
    list("(list u64)", 0, u32::MAX).assert_traps("at most");
    list("(list u8)", 0, BYTE_LENGTH_MAX as u32 + 1).assert_traps("at most");
    list("(list bool)", 0, BYTE_LENGTH_MAX as u32).assert_traps("list content out-of-bounds");
}

#[test]
fn a_realloc_that_does_not_give_what_it_is_asked_for_traps() {
    let list = |payload, realloc| Case { payload, realloc, memory: vec![(AT, words(&[1024, 4]))], ..Case::default() };
    list("(list u32)", "(i32.const 4098)").assert_traps("not aligned");
    list("(list u32)", "(i32.const 65524)").assert_traps("beyond end of memory");
    list("(list u32)", "(i32.const -4)").assert_traps("beyond end of memory");
    list("string", "(i32.const -1)").assert_traps("beyond end of memory");
    list("string", "unreachable").assert_traps("unreachable");
}

#[test]
fn a_realloc_that_grows_the_memory_is_believed() {
    let grow = "(i32.mul (memory.grow (i32.const 1)) (i32.const 65536))";
    let case = Case {
        payload: "(list u8)",
        realloc: grow,
        memory: vec![(AT, words(&[1024, 4])), (1024, vec![1; 4])],
        ..Case::default()
    };
    assert_eq!(case.read().word(AT), 65536);
}

#[test]
fn lists_that_overlap_do_not_multiply_the_work() {
    // A thousand lists, each of which is these thousand lists again, to a reader that keeps them all in one place.
    let case = Case {
        payload: "(list (list (list (list u8))))",
        realloc: "(i32.const 16384)",
        memory: vec![(AT, words(&[1024, 1000])), (1024, words(&[1024, 1000].repeat(1000)))],
        ..Case::default()
    };
    let limits = Limits { memory_bytes_max: 1 << 20, ..Limits::default() };
    let reason = case.run_within(limits).map(drop).expect_err("it cannot end well");
    assert!(reason.contains("can hold"), "{reason}");
}

#[test]
fn a_stream_moves_through_a_stream() {
    let case = Case {
        types: &[("t", "(stream u8)")],
        payload: "$t",
        prepare: [
            "(core func $prepare (canon stream.new $t))",
            "(result i64)",
            "(i64.store (i32.const 64) (call $prepare))",
        ],
        inspect: [
            "(core func $inspect (canon stream.drop-readable $t))",
            "$inspect",
            "(call $inspect (i32.load (i32.const 64)))",
        ],
        ..Case::default()
    };
    let (memory, census) = case.run().expect("nothing traps");
    assert_ne!(memory.word(AT), 0);
    // Left are the two ends of the outer stream and the writable one of the inner.
    assert_eq!((census.handles, census.streams), (3, 2));
    Case { prepare: [""; 3], ..case }.assert_traps("unknown handle index 0");
}

#[test]
fn a_future_moves_through_a_stream() {
    let case = Case {
        types: &[("t", "(future u8)")],
        payload: "$t",
        prepare: [
            "(core func $prepare (canon future.new $t))",
            "(result i64)",
            "(i64.store (i32.const 64) (call $prepare))",
        ],
        inspect: [
            "(core func $inspect (canon future.drop-readable $t))",
            "$inspect",
            "(call $inspect (i32.load (i32.const 64)))",
        ],
        ..Case::default()
    };
    let (_, census) = case.run().expect("nothing traps");
    assert_eq!((census.handles, census.streams), (3, 2));
    // The writable end is not what is promised.
    let writable = "(i32.store (i32.const 64) (i32.wrap_i64 (i64.shr_u (call $prepare) (i64.const 32))))";
    Case { prepare: [case.prepare[0], case.prepare[1], writable], ..case }.assert_traps("handle");
}

#[test]
fn an_owned_handle_moves_through_a_stream() {
    let case = Case {
        types: &[("r", "(resource (rep i32))"), ("other", "(resource (rep i32))"), ("t", "(own $r)")],
        payload: "$t",
        prepare: [
            "(core func $prepare (canon resource.new $r))",
            "(param i32) (result i32)",
            "(i32.store (i32.const 64) (call $prepare (i32.const 7)))",
        ],
        inspect: [
            "(core func $inspect (canon resource.drop $r))",
            "$inspect",
            "(call $inspect (i32.load (i32.const 64)))",
        ],
        ..Case::default()
    };
    // Left are the two ends of the stream.
    assert_eq!(case.run().expect("nothing traps").1.handles, 2);
    Case { prepare: [""; 3], ..case.clone() }.assert_traps("unknown handle index 0");
    let twice = "(i32.store (i32.const 68) (i32.load (i32.const 64)))";
    let twice = [case.prepare[2], twice].concat();
    let both = Case { count: 2, prepare: [case.prepare[0], case.prepare[1], &twice], ..case.clone() };
    both.assert_traps("unknown handle index");
    let other = "(core func $prepare (canon resource.new $other))";
    Case { prepare: [other, case.prepare[1], case.prepare[2]], ..case.clone() }.assert_traps("wrong type");
}

#[test]
fn an_error_context_is_shared_through_a_stream() {
    let case = Case {
        types: &[("t", "error-context")],
        payload: "$t",
        prepare: [
            r#"(core func $prepare (canon error-context.new (memory (core memory $memory "memory"))))"#,
            "(param i32 i32) (result i32)",
            "(i32.store (i32.const 64) (call $prepare (i32.const 0) (i32.const 4)))",
        ],
        inspect: [
            "(core func $inspect (canon error-context.drop))",
            "$inspect",
            "(call $inspect (i32.load (i32.const 64)))",
        ],
        ..Case::default()
    };
    // Left are the two ends of the stream and the writer's handle.
    assert_eq!(case.run().expect("nothing traps").1.handles, 3);
}
