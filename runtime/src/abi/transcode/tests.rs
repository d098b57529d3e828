use super::*;
use crate::abi::{Limits, Zone};
use crate::component;
use crate::host::linker::Linker;
use TranscodeOp::*;
use proptest::prelude::*;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Characters on both sides of each border: one, two, three and four bytes, Latin-1, around surrogates, the last one.
const BORDERS: [char; 14] = [
    '\0',
    'a',
    '\u{7f}',
    '\u{80}',
    '\u{e9}',
    '\u{ff}',
    '\u{100}',
    '\u{7ff}',
    '\u{800}',
    '\u{d7ff}',
    '\u{e000}',
    '\u{ffff}',
    '\u{10000}',
    '\u{10ffff}',
];

const OPS: [TranscodeOp; 12] = [
    CopyUtf8,
    CopyUtf16,
    CopyLatin1,
    Latin1ToUtf16,
    Latin1ToUtf8,
    Utf16ToCompactProbablyUtf16,
    Utf16ToCompactUtf16,
    Utf16ToLatin1,
    Utf16ToUtf8,
    Utf8ToCompactUtf16,
    Utf8ToLatin1,
    Utf8ToUtf16,
];

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// `None` if the text has a character that is not in Latin-1.
fn latin1(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(c).ok()).collect()
}

/// The longest prefix all of whose characters are at most `max`.
fn prefix(text: &str, max: char) -> &str {
    &text[..text.find(|c| max < c).unwrap_or(text.len())]
}

/// Runs one pass into `room` bytes; gives its results and the bytes.
fn pass(op: TranscodeOp, src: &[u8], room: usize, last: usize) -> Result<([usize; 2], Vec<u8>)> {
    let mut dst = vec![0xaa; room];
    run(op, src, &mut dst, last, PointerWidth::Bits32).map(|results| (results, dst))
}

/// Texts of up to three border characters.
fn texts() -> impl Iterator<Item = String> {
    let none = [String::new()].into_iter();
    let one = BORDERS.iter().map(char::to_string);
    let two = BORDERS.iter().flat_map(|a| BORDERS.map(|b| [*a, b].iter().collect()));
    let three = BORDERS.iter().flat_map(|a| BORDERS.iter().flat_map(|b| BORDERS.map(|c| [*a, *b, c].iter().collect())));
    none.chain(one).chain(two).chain(three)
}

/// What adapters do with the passes, for every pair of encodings: the copy is the text.
fn assert_arrives(text: &str) {
    let (bytes, wide) = (text.as_bytes(), utf16(text));
    let units = wide.len() / 2;

    assert_eq!(pass(CopyUtf8, bytes, bytes.len(), 0).unwrap(), ([0, 0], bytes.to_vec()));
    assert_eq!(pass(CopyUtf16, &wide, wide.len(), 0).unwrap(), ([0, 0], wide.clone()));

    let ([written, _], dst) = pass(Utf8ToUtf16, bytes, 2 * bytes.len(), 0).unwrap();
    assert_eq!((written, &dst[..2 * written]), (units, &wide[..]), "{text:?}");

    assert_deflates(Utf16ToUtf8, &wide, 2, 3, text);
    assert_compacts(Utf8ToLatin1, Utf8ToCompactUtf16, bytes, 1, text);
    assert_compacts(Utf16ToLatin1, Utf16ToCompactUtf16, &wide, 2, text);

    let ([tagged, _], dst) = pass(Utf16ToCompactProbablyUtf16, &wide, wide.len(), 0).unwrap();
    match latin1(text) {
        None => assert_eq!((tagged, dst), (units | 1 << 31, wide), "{text:?}"),
        Some(narrow) => {
            assert_eq!((tagged, &dst[..units]), (units, &narrow[..]), "{text:?}");
            assert_eq!(pass(CopyLatin1, &narrow, units, 0).unwrap(), ([0, 0], narrow.clone()));
            assert_eq!(pass(Latin1ToUtf16, &narrow, 2 * units, 0).unwrap(), ([0, 0], wide));
            assert_deflates(Latin1ToUtf8, &narrow, 1, 2, text);
        }
    }
}

/// To UTF-8: as many bytes as there are code units, then `factor` times as many.
fn assert_deflates(op: TranscodeOp, src: &[u8], width: usize, factor: usize, text: &str) {
    let ascii = prefix(text, '\u{7f}').len();
    let units = src.len() / width;
    let ([read, written], mut dst) = pass(op, src, units, 1).unwrap();
    assert_eq!([read, written], [ascii, ascii], "{text:?}");
    assert_eq!(&dst[..written], &text.as_bytes()[..ascii]);
    if read == units {
        return;
    }
    dst.resize(factor * units, 0xaa);
    let [more_read, more_written] =
        run(op, &src[width * read..], &mut dst[written..], 0, PointerWidth::Bits32).unwrap();
    assert_eq!(read + more_read, units, "{text:?}");
    assert_eq!(&dst[..written + more_written], text.as_bytes(), "{text:?}");
}

/// To latin1+utf16: as many bytes as there are code units, then twice as many.
fn assert_compacts(first: TranscodeOp, second: TranscodeOp, src: &[u8], width: usize, text: &str) {
    let units = src.len() / width;
    let start = prefix(text, '\u{ff}');
    let consumed = if width == 1 { start.len() } else { start.chars().count() };
    let ([read, written], mut dst) = pass(first, src, units, 0).unwrap();
    assert_eq!([read, written], [consumed, start.chars().count()], "{text:?}");
    assert_eq!(&dst[..written], latin1(start).unwrap());
    if read == units {
        return;
    }
    dst.resize(2 * units, 0xaa);
    let [all, _] = run(second, &src[width * read..], &mut dst, written, PointerWidth::Bits32).unwrap();
    assert_eq!(&dst[..2 * all], utf16(text), "{text:?}");
}

fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn every_text_of_border_characters_arrives_in_every_encoding() {
    texts().for_each(|text| assert_arrives(&text));
}

#[test]
fn every_latin1_byte_arrives() {
    let all: String = (0..=0xff_u8).map(char::from).collect();
    assert_arrives(&all);
}

#[test]
fn every_character_arrives() {
    let mut text = String::with_capacity(5 << 20);
    text.extend('\0'..=char::MAX);
    assert_arrives(&text);
}

#[test]
fn truncated_utf8_traps() {
    for c in BORDERS.into_iter().filter(|c| 1 < c.len_utf8()) {
        let whole = format!("a{c}");
        for len in 2..whole.len() {
            let src = &whole.as_bytes()[..len];
            for op in [CopyUtf8, Utf8ToUtf16, Utf8ToLatin1, Utf8ToCompactUtf16] {
                let text = message(pass(op, src, 2 * len, 0));
                assert!(text.contains("incomplete utf-8 byte sequence"), "{op:?} of {src:x?}: {text}");
            }
        }
    }
}

#[test]
fn malformed_utf8_traps() {
    // A byte that never occurs, a continuation, overlong forms, surrogates, beyond the last character.
    let malformed: [&[u8]; 8] = [
        b"\xff",
        b"\x80",
        b"\xc0\x80",
        b"\xe0\x80\x80",
        b"\xf0\x80\x80\x80",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xf4\x90\x80\x80",
    ];
    for src in malformed {
        for op in [CopyUtf8, Utf8ToUtf16, Utf8ToLatin1, Utf8ToCompactUtf16] {
            let text = message(pass(op, src, 2 * src.len(), 0));
            assert!(text.contains("invalid utf-8"), "{op:?} of {src:x?}: {text}");
        }
    }
}

#[test]
fn unpaired_surrogates_trap() {
    let malformed: [&[u16]; 6] =
        [&[0xd800], &[0xdbff, 0x61], &[0xdc00], &[0x61, 0xdfff], &[0xdc00, 0xd800], &[0xd83d, 0xd83d, 0xde00]];
    for units in malformed {
        let src: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        for op in [CopyUtf16, Utf16ToCompactProbablyUtf16, Utf16ToCompactUtf16, Utf16ToUtf8] {
            let text = message(pass(op, &src, 3 * units.len(), 0));
            assert!(text.contains("not UTF-16"), "{op:?} of {units:x?}: {text}");
        }
    }
}

#[test]
fn first_passes_stop_before_a_surrogate_so_that_the_second_one_judges_it() {
    let src = [0x61, 0, 0x00, 0xd8, 0x62, 0];
    assert_eq!(pass(Utf16ToLatin1, &src, 3, 0).unwrap().0, [1, 1]);
    assert_eq!(pass(Utf16ToUtf8, &src, 3, 1).unwrap().0, [1, 1]);
}

#[test]
fn a_second_pass_without_room_traps() {
    assert!(message(pass(Utf16ToUtf8, &utf16("aé"), 2, 0)).contains("does not fit"));
    assert!(message(pass(Latin1ToUtf8, b"a\xe9", 2, 0)).contains("does not fit"));
    assert!(message(pass(Utf8ToCompactUtf16, "aé".as_bytes(), 3, 0)).contains("does not fit"));
    assert!(message(pass(Utf16ToCompactUtf16, &utf16("aé"), 4, 1)).contains("does not fit"));
    assert!(message(pass(Utf8ToCompactUtf16, b"", 2, 2)).contains("does not fit"));
}

#[test]
fn operands_are_ranges_of_bytes() {
    let args = [0x10, 5, 0x40, 7, 2];
    let expected = |op| match op {
        CopyUtf8 | CopyLatin1 | Utf8ToLatin1 => (0x10..0x15, 0x40..0x45, 0),
        CopyUtf16 | Utf16ToCompactProbablyUtf16 => (0x10..0x1a, 0x40..0x4a, 0),
        Latin1ToUtf16 | Utf8ToUtf16 => (0x10..0x15, 0x40..0x4a, 0),
        Utf16ToLatin1 => (0x10..0x1a, 0x40..0x45, 0),
        Latin1ToUtf8 => (0x10..0x15, 0x40..0x47, 2),
        Utf16ToUtf8 => (0x10..0x1a, 0x40..0x47, 2),
        Utf8ToCompactUtf16 => (0x10..0x15, 0x40..0x4e, 2),
        Utf16ToCompactUtf16 => (0x10..0x1a, 0x40..0x4e, 2),
    };
    for op in OPS {
        let arity = if is_resumable(op) { 5 } else { 3 };
        let operands = Operands::new(op, &args[..arity]).expect("so much fits");
        assert_eq!((operands.src, operands.dst, operands.last), expected(op), "{op:?}");
    }
}

#[test]
fn the_largest_operands_are_out_of_bounds_and_nothing_worse() {
    for arg in [u64::from(u32::MAX), 1 << 62, 1 << 63, u64::MAX] {
        for op in OPS {
            let Some(operands) = Operands::new(op, &[arg; 5]) else { continue };
            assert!(message(disjoint(&mut [0; 8], operands.src, operands.dst)).contains("out-of-bounds"));
        }
    }
    assert!(Operands::new(CopyUtf8, &[u64::MAX, 1, 0]).is_none(), "no range goes around the end of memory");
}

#[test]
fn ranges_of_one_memory_are_disjoint() {
    let bytes = || (0..10).collect::<Vec<u8>>();
    let split = |src: Range<usize>, dst: Range<usize>| {
        let mut memory = bytes();
        disjoint(&mut memory, src, dst)
            .map(|(src, dst)| (src.to_vec(), dst.to_vec()))
            .map_err(|error| error.to_string())
    };
    for (src_start, src_end) in (0..=11).flat_map(|start| (start..=11).map(move |end| (start, end))) {
        for (dst_start, dst_end) in (0..=11).flat_map(|start| (start..=11).map(move |end| (start, end))) {
            let (src, dst) = (src_start..src_end, dst_start..dst_end);
            let result = split(src.clone(), dst.clone());
            let overlap = src.clone().any(|i| dst.contains(&i));
            match (src_end.max(dst_end) <= 10, overlap) {
                (false, _) => assert!(result.unwrap_err().contains("out-of-bounds")),
                (true, true) => assert!(result.unwrap_err().contains("read from")),
                (true, false) => assert_eq!(result.unwrap(), (bytes()[src].to_vec(), bytes()[dst].to_vec())),
            }
        }
    }
}

/// A component that gives back its string, in encoding `near`, by way of another one, in encoding `far`.
fn echo(near: &str, far: &str) -> String {
    const MEMORY: &str = r#"
        (core module $memory
          (memory (export "memory") 80)
          (global $next (mut i32) (i32.const 64))
          (func (export "realloc") (param $old i32) (param $len i32) (param $align i32) (param $new i32) (result i32)
            (local $at i32)
            (local.set $at (i32.and
              (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
              (i32.sub (i32.const 0) (local.get $align))))
            (global.set $next (i32.add (local.get $at) (local.get $new)))
            (memory.copy (local.get $at) (local.get $old)
              (select (local.get $len) (local.get $new) (i32.lt_u (local.get $len) (local.get $new))))
            (local.get $at)))
        (core instance $memory (instantiate $memory))"#;
    let options = |encoding| {
        format!(
            r#"string-encoding={encoding} (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))"#
        )
    };
    let (near, far) = (options(near), options(far));
    format!(
        r#"
(component
  (component $far
    {MEMORY}
    (core module $m
      (import "" "memory" (memory 1))
      (func (export "echo") (param i32 i32) (result i32)
        (i32.store (i32.const 8) (local.get 0))
        (i32.store (i32.const 12) (local.get 1))
        (i32.const 8)))
    (core instance $i (instantiate $m (with "" (instance (export "memory" (memory $memory "memory"))))))
    (func (export "echo") (param "text" string) (result string) (canon lift (core func $i "echo") {far})))
  (component $near
    (import "echo" (func $echo (param "text" string) (result string)))
    {MEMORY}
    (core func $echo (canon lower (func $echo) {near}))
    (core module $m
      (import "" "echo" (func $echo (param i32 i32 i32)))
      (func (export "echo") (param i32 i32) (result i32)
        (call $echo (local.get 0) (local.get 1) (i32.const 8))
        (i32.const 8)))
    (core instance $i (instantiate $m (with "" (instance (export "echo" (func $echo))))))
    (func (export "echo") (param "text" string) (result string) (canon lift (core func $i "echo") {near})))
  (instance $far (instantiate $far))
  (instance $near (instantiate $near (with "echo" (func $far "echo"))))
  (export "echo" (func $near "echo")))"#
    )
}

#[test]
fn adapters_get_what_they_ask_for_between_all_encodings() {
    const ENCODINGS: [&str; 3] = ["utf8", "utf16", "latin1+utf16"];
    let engine = component::engine().expect("the engine starts");
    for (near, far) in ENCODINGS.into_iter().flat_map(|near| ENCODINGS.map(|far| (near, far))) {
        let bytes = wat::parse_str(echo(near, far)).expect("the text is well formed");
        let compiled = component::compile(&engine, &bytes).expect("the component compiles");
        let component = Linker::new().link(&engine, Arc::new(compiled)).expect("there are no imports");
        let zone = Zone::new(&component, Limits::default(), Rc::new(())).expect("the component starts");
        let export = component.export::<(String,), String>("echo").expect("it is there");
        for text in texts() {
            let call = zone.call(export, (text.clone(),));
            zone.run_now();
            match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(got)) => assert_eq!(got, text, "{near} to {far} and back"),
                other => panic!("{text:?}, {near} to {far}: {other:?}"),
            }
        }
    }
}

proptest! {
    #[test]
    fn any_text_arrives_in_every_encoding(text: String) {
        assert_arrives(&text);
    }

    #[test]
    fn text_that_is_mostly_latin1_arrives_in_every_encoding(text in "[a-zà-ÿ]{0,40}[\\PC]{0,2}[a-zà-ÿ]{0,10}") {
        assert_arrives(&text);
    }

    /// Guests choose the bytes and, with realloc, the room: no pass panics, and none claims more than there is.
    #[test]
    fn no_bytes_make_a_pass_panic(op in prop::sample::select(&OPS[..]), src: Vec<u8>, room in 0..80usize, last in 0..50usize) {
        let (src_width, dst_width) = widths(op);
        let mut dst = vec![0; room * dst_width];
        if let Ok(results) = run(op, &src, &mut dst, last, PointerWidth::Bits32) {
            let (units, room) = (src.len() / src_width, room);
            match op {
                CopyUtf8 | CopyUtf16 | CopyLatin1 | Latin1ToUtf16 => prop_assert_eq!(results, [0, 0]),
                Utf16ToCompactProbablyUtf16 => prop_assert_eq!(results[0] & !(1 << 31), units),
                Utf8ToUtf16 | Utf8ToCompactUtf16 | Utf16ToCompactUtf16 => prop_assert!(results[0] <= room),
                Utf8ToLatin1 | Utf16ToLatin1 | Latin1ToUtf8 | Utf16ToUtf8 => {
                    prop_assert!(results[0] <= units && results[1] <= room);
                }
            }
        }
    }
}
