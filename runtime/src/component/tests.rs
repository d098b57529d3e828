//! Chains of small components written here: what links, what is refused and with which words, and what the cache does.

use super::cache::{self, CacheError, Key, SIZE_MAX_DEFAULT};
use super::compose::{Kind, LINKS_MAX, Shape};
use super::*;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| super::engine().expect("an engine"))
}

fn link(name: &str, bytes: &[u8]) -> Link {
    Link { name: name.to_string(), bytes: bytes.to_vec() }
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// `wasi:http/types`, as far as a handler needs it; `extra` is put into the interface.
fn types(version: &str, extra: &str) -> String {
    format!(
        r#"(import "wasi:http/types@{version}" (instance $types
             (export "request" (type (sub resource)))
             (export "response" (type $response (sub resource)))
             (export "[static]response.new" (func (result (own $response))))
             {extra}))
           (alias export $types "request" (type $request))
           (alias export $types "response" (type $response))"#
    )
}

/// The end of a component: exports the core functions `$main.handle` and `$main.callback` as `wasi:http/handler`.
fn export_handler(version: &str) -> String {
    format!(
        r#"(alias core export $main "callback" (core func $callback))
           (func $handle async (param "request" (own $request)) (result (own $response))
             (canon lift (core func $main "handle") async (callback (core func $callback))))
           (instance $handler
             (export "request" (type $request)) (export "response" (type $response)) (export "handle" (func $handle)))
           (export "wasi:http/handler@{version}" (instance $handler))"#
    )
}

fn import_handler(version: &str, result: &str) -> String {
    format!(
        r#"(import "wasi:http/handler@{version}" (instance $next
             (alias outer 1 $request (type $rq)) (export "request" (type $request (eq $rq)))
             (alias outer 1 $response (type $rs)) (export "response" (type $response (eq $rs)))
             (export "handle" (func async (param "request" (own $request)) (result {result})))))"#
    )
}

/// The last of a chain, for `wasi:http` of `version`.
fn service(version: &str) -> Vec<u8> {
    service_with(version, "")
}

fn service_with(version: &str, extra: &str) -> Vec<u8> {
    let (types, export) = (types(version, extra), export_handler(version));
    wat(&format!(
        r#"(component {types}
             (alias export $types "[static]response.new" (func $new))
             (core func $new (canon lower (func $new)))
             (core func $drop (canon resource.drop $request))
             (core func $return (canon task.return (result (own $response))))
             (core module $main
               (import "" "new" (func $new (result i32)))
               (import "" "drop" (func $drop (param i32)))
               (import "" "return" (func $return (param i32)))
               (func (export "handle") (param i32) (result i32)
                 (call $drop (local.get 0)) (call $return (call $new)) (i32.const 0))
               (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
             (core instance $main (instantiate $main (with "" (instance
               (export "new" (func $new)) (export "drop" (func $drop)) (export "return" (func $return))))))
             {export})"#
    ))
}

/// A middleware that passes its request on and waits for nothing.
fn middleware(version: &str) -> Vec<u8> {
    middleware_with(version, version, "(own $response)")
}

/// A middleware that exports the handler of `export` and imports that of `import`, whose `handle` gives `result`.
fn middleware_with(export: &str, import: &str, result: &str) -> Vec<u8> {
    let (types, next, export) = (types(export, ""), import_handler(import, result), export_handler(export));
    wat(&format!(
        r#"(component {types} {next}
             (alias export $next "handle" (func $next))
             (core module $memory (memory (export "memory") 1))
             (core instance $memory (instantiate $memory))
             (alias core export $memory "memory" (core memory $memory))
             (core func $next (canon lower (func $next) async (memory $memory)))
             (core func $return (canon task.return (result (own $response))))
             (core module $main
               (import "" "next" (func $next (param i32 i32) (result i32)))
               (import "" "return" (func $return (param i32)))
               (import "" "memory" (memory 1))
               (func (export "handle") (param i32) (result i32)
                 (drop (call $next (local.get 0) (i32.const 0)))
                 (call $return (i32.load (i32.const 0)))
                 (i32.const 0))
               (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
             (core instance $main (instantiate $main (with "" (instance
               (export "next" (func $next)) (export "return" (func $return)) (export "memory" (memory $memory))))))
             {export})"#
    ))
}

fn valid(bytes: &[u8]) {
    let mut validator = wasmparser::Validator::new_with_features(translate::features());
    validator.validate_all(bytes).expect("the linked component is valid");
}

fn names(items: &[compose::Item]) -> Vec<&str> {
    items.iter().map(|item| item.name.as_str()).collect()
}

/// The whole message, causes included.
fn message(error: impl Into<anyhow::Error>) -> String {
    format!("{:#}", error.into())
}

#[test]
fn one_component_is_left_as_it_is() {
    let bytes = service("0.3.2");
    assert_eq!(compose(&[link("app.wasm", &bytes)]).unwrap(), bytes);
}

#[test]
fn a_chain_exports_the_outermost_handler_and_shares_imports() {
    let chain = [
        link("a.wasm", &middleware("0.3.2")),
        link("b.wasm", &middleware("0.3.2")),
        link("app.wasm", &service("0.3.2")),
    ];
    let bytes = compose(&chain).unwrap();
    valid(&bytes);
    let shape = Shape::of("chain", &bytes).unwrap();
    assert_eq!(names(&shape.imports), ["wasi:http/types@0.3.2"]);
    assert_eq!(names(&shape.exports), ["wasi:http/handler@0.3.2"]);
}

#[test]
fn versions_of_one_track_link_in_any_order() {
    let old_and_new = ["0.3.0", "0.3.1", "0.3.2"];
    for first in old_and_new {
        for second in old_and_new {
            for last in old_and_new {
                let chain = [
                    link("a.wasm", &middleware(first)),
                    link("b.wasm", &middleware(second)),
                    link("app.wasm", &service(last)),
                ];
                let bytes =
                    compose(&chain).unwrap_or_else(|error| panic!("{first} {second} {last}: {}", message(error)));
                valid(&bytes);
                let shape = Shape::of("chain", &bytes).unwrap();
                let highest = first.max(second).max(last);
                assert_eq!(names(&shape.imports), [format!("wasi:http/types@{highest}")]);
                assert_eq!(names(&shape.exports), [format!("wasi:http/handler@{first}")]);
                compile(engine(), &bytes).unwrap_or_else(|error| panic!("{first} {second} {last}: {error:#}"));
            }
        }
    }
}

#[test]
fn a_later_version_may_have_more_in_its_interface() {
    let newer = service_with("0.3.2", r#"(export "fresh" (func))"#);
    let bytes = compose(&[link("mw.wasm", &middleware("0.3.0")), link("app.wasm", &newer)]).unwrap();
    valid(&bytes);
    let shape = Shape::of("chain", &bytes).unwrap();
    let [types] = &shape.imports[..] else { panic!("{:?}", shape.imports) };
    assert!(matches!(&types.kind, Kind::Instance(items) if names(items).contains(&"fresh")), "{types:?}");
}

#[test]
fn a_middleware_of_two_versions_links() {
    let chain =
        [link("mw.wasm", &middleware_with("0.3.2", "0.3.0", "(own $response)")), link("app.wasm", &service("0.3.1"))];
    valid(&compose(&chain).unwrap());
}

#[test]
fn sixteen_times_the_same_middleware_is_compiled_once() {
    let mut chain = vec![link("mw.wasm", &middleware("0.3.2")); 16];
    chain.push(link("app.wasm", &service("0.3.2")));
    let bytes = compose(&chain).unwrap();
    let Parts { plan, code, positions, .. } = Parts::compile(engine(), &bytes, translate::features()).unwrap();
    assert_eq!(plan.adapters.len(), 16);
    // The middleware's two, the service's one, and the adapters' own.
    let adapter_modules = positions.len() - 3;
    assert!(code.len() <= 3 + adapter_modules, "{} different modules, {} in all", code.len(), positions.len());
    let compiled = load(engine(), &chain, None).unwrap();
    assert_eq!(compiled.shim_exports.adapters.len(), 16);
    assert_eq!(compiled.plan.exports.keys().collect::<Vec<_>>(), ["wasi:http/handler@0.3.2#handle"]);
}

#[test]
fn many_calls_of_one_shape_share_their_code_and_few_have_their_own() {
    // Sizes of the functions that shims of a chain have.
    let sizes = |middlewares: usize| {
        let mut chain = vec![link("mw.wasm", &middleware("0.3.2")); middlewares];
        chain.push(link("app.wasm", &service("0.3.2")));
        let bytes = compose(&chain).unwrap();
        let plan = translate::translate(&bytes).unwrap().plan;
        assert_eq!(plan.adapters.len(), middlewares);
        let shims = shims::generate(&plan, false).unwrap().wasm;
        let bodies = wasmparser::Parser::new(0).parse_all(&shims).filter_map(|payload| match payload.unwrap() {
            wasmparser::Payload::CodeSectionEntry(body) => Some(body.as_bytes().len()),
            _ => None,
        });
        bodies.collect::<Vec<_>>()
    };
    // What makes a call is large; what hands over which call it is, and `task.return`, are not.
    let large = |middlewares| sizes(middlewares).iter().filter(|size| **size > 200).count();
    let few = shims::OWN_CODE_MAX;
    assert_eq!(large(few) - large(1), few - 1);
    assert_eq!(large(few + 1), large(1));
    assert_eq!(large(2 * few), large(few + 1));
    assert!(sizes(2 * few).len() > sizes(few + 1).len());
}

#[test]
fn the_longest_chain_links_and_a_longer_one_does_not() {
    let chain_of = |count: usize| {
        let mut chain = vec![link("mw.wasm", &middleware("0.3.2")); count - 1];
        chain.push(link("app.wasm", &service("0.3.2")));
        chain
    };
    valid(&compose(&chain_of(LINKS_MAX)).unwrap());
    let error = compose(&chain_of(LINKS_MAX + 1)).unwrap_err();
    assert_eq!(message(error), "65 components in one chain: 64 at most");
}

#[test]
fn bad_input_gets_one_message_that_says_what_would_be_right() {
    let (mw, app) = (middleware("0.3.2"), service("0.3.2"));
    let old = wat(r#"(component (instance $i) (export "wasi:http/incoming-handler@0.2.6" (instance $i)))"#);
    let command = wat(r#"(component (instance $i) (export "wasi:cli/run@0.3.2" (instance $i)))"#);
    let other = wat(r#"(component (instance $i) (export "a:b/c" (instance $i)) (export "d:e/f@1.0.0" (instance $i)))"#);
    let many: String = (0..12).map(|n| format!(r#"(export "a:b/i{n}" (instance $i))"#)).collect();
    let many = wat(&format!("(component (instance $i) {many})"));
    let empty = wat("(component)");
    let module = wat("(module)");
    let mut cut = app.clone();
    cut.truncate(cut.len() - 7);
    let build = "build it for the world `wasi:http/service` or `wasi:http/middleware`";
    let unknown = "a version that is not known here: build it for `wasi:http/handler@0.3.0` or a later 0.3 release";
    let cases: Vec<(Vec<Link>, String)> = vec![
        (vec![], "no component given: name at least one file".into()),
        (
            vec![link("x.wasm", b"")],
            "x.wasm: not a WebAssembly file, but an empty file: a component in binary form is needed".into(),
        ),
        (
            vec![link("x.wat", b"(component)")],
            "x.wat: not a WebAssembly file, but WebAssembly text (`wasm-tools parse` makes a binary of it): a component in binary form is needed".into(),
        ),
        (vec![link("README.md", b"# Hello")], "README.md: not a WebAssembly file, but text: a component in binary form is needed".into()),
        (
            vec![link("x.cwasm", b"\x7fELF\x02")],
            "x.cwasm: not a WebAssembly file, but a native or precompiled file: a component in binary form is needed".into(),
        ),
        (
            vec![link("x", b"\xff\xfe\x00")],
            "x: not a WebAssembly file, but other data: a component in binary form is needed".into(),
        ),
        (
            vec![link("m.wasm", &module)],
            "m.wasm: a core module, not a component: build it for the target wasm32-wasip2, or wrap it with `wasm-tools component new`".into(),
        ),
        (vec![link("cut.wasm", &cut)], "cut.wasm: not a valid component: ".into()),
        (vec![link("head.wasm", b"\0asm")], "head.wasm: not a valid component: ".into()),
        (vec![link("head.wasm", b"\0asm\x0e\x00\x01\x00")], "head.wasm: not a valid component: ".into()),
        (vec![link("e.wasm", &empty)], format!("e.wasm: exports no `wasi:http/handler`, but nothing at all: {build}")),
        (
            vec![link("o.wasm", &other)],
            format!("o.wasm: exports no `wasi:http/handler`, but `a:b/c`, `d:e/f@1.0.0`: {build}"),
        ),
        (
            vec![link("many.wasm", &many)],
            format!(
                "many.wasm: exports no `wasi:http/handler`, but {} and 4 more: {build}",
                (0..8).map(|n| format!("`a:b/i{n}`")).collect::<Vec<_>>().join(", ")
            ),
        ),
        (
            vec![link("p2.wasm", &old)],
            "p2.wasm: exports no `wasi:http/handler`, but `wasi:http/incoming-handler@0.2.6`: it is an HTTP component of WASI 0.2, and WASI 0.3 is needed: rebuild it for the world `wasi:http/service`".into(),
        ),
        (
            vec![link("cli.wasm", &command)],
            "cli.wasm: exports no `wasi:http/handler`, but `wasi:cli/run@0.3.2`: it is a command: run it with `interflow run`, or build a component for the world `wasi:http/service`".into(),
        ),
        (
            vec![link("app.wasm", &app), link("app.wasm", &app)],
            "app.wasm: imports no `wasi:http/handler`, so `app.wasm` cannot follow it: only the last component of a chain may do without".into(),
        ),
        (
            vec![link("mw.wasm", &mw)],
            "mw.wasm: imports `wasi:http/handler@0.3.2`, but nothing follows it: add a component that exports `wasi:http/handler@0.3.2` to the end of the chain".into(),
        ),
        (
            vec![link("new.wasm", &service("0.4.0"))],
            format!("new.wasm: exports `wasi:http/handler@0.4.0`, {unknown}"),
        ),
        (
            vec![link("rc.wasm", &service("0.3.0-rc-2026-01-06"))],
            format!("rc.wasm: exports `wasi:http/handler@0.3.0-rc-2026-01-06`, {unknown}"),
        ),
        (
            vec![link("new.wasm", &middleware_with("0.3.2", "0.4.0", "(own $response)")), link("app.wasm", &app)],
            format!("new.wasm: imports `wasi:http/handler@0.4.0`, {unknown}"),
        ),
        (
            vec![link("odd.wasm", &middleware_with("0.3.2", "0.3.2", "(own $request)")), link("app.wasm", &app)],
            "odd.wasm: its import `wasi:http/handler@0.3.2` does not fit the export `wasi:http/handler@0.3.2` of app.wasm: both must be built from the same definition of the interface: ".into(),
        ),
        (
            vec![link("mw.wasm", &mw), link("app.wasm", &service_with("0.3.0", "")), link("left.wasm", &app)],
            "app.wasm: imports no `wasi:http/handler`, so `left.wasm` cannot follow it: only the last component of a chain may do without".into(),
        ),
    ];
    for (chain, expected) in cases {
        let found = message(compose(&chain).expect_err(&expected));
        let fits = if expected.ends_with(": ") { found.starts_with(&expected) } else { found == expected };
        assert!(fits, "\nexpected: {expected}\nfound:    {found}");
        let loaded = load(engine(), &chain, None).err().expect("nothing is loaded");
        assert_eq!(message(loaded), found);
    }
}

#[test]
fn imports_that_exclude_each_other_name_both_files() {
    let one = service_with("0.3.2", r#"(export "same" (func (param "a" u32)))"#);
    // A middleware with another idea of the same function of the same interface.
    let text =
        [types("0.3.2", r#"(export "same" (func (param "a" string)))"#), import_handler("0.3.2", "(own $response)")]
            .concat();
    let other = wat(&format!(r#"(component {text} (export "wasi:http/handler@0.3.2" (instance $next)))"#));
    let error = compose(&[link("mw.wasm", &other), link("app.wasm", &one)]).unwrap_err();
    let found = message(error);
    assert!(
        found.contains("mw.wasm") && found.contains("app.wasm") && found.contains("`wasi:http/types@0.3.2`"),
        "{found}"
    );
}

#[test]
fn no_bytes_of_a_file_make_compose_panic() {
    // Each byte of a component in turn is replaced; what is still valid may link, anything else is an error.
    let (mw, app) = (middleware("0.3.2"), service("0.3.0"));
    for (position, value) in
        (0..mw.len()).flat_map(|position| [0x00, 0x01, 0x40, 0x7f, 0xff].map(|value| (position, value)))
    {
        let mut broken = mw.clone();
        broken[position] = value;
        let _ = compose(&[link("mw.wasm", &broken), link("app.wasm", &app)]);
    }
}

#[test]
fn a_resource_with_a_wide_representation_is_refused() {
    let text = "(component (type (resource (rep i64))))";
    assert!(message(translate::translate(&wat(text)).err().expect(text)).contains("not an i32"));
}

/// Adapters tag strings with 2^31 where pointers have 64 bits; a type of as many bytes must not be taken for a tag.
#[test]
fn a_type_of_the_size_of_a_tag_is_refused() {
    let memory = r#"
        (core module $memory
          (memory (export "memory") i64 1)
          (func (export "realloc") (param i64 i64 i64 i64) (result i64) unreachable)
          (func (export "f") (param i64 i64)))
        (core instance $memory (instantiate $memory))"#;
    let text = |count: u32| {
        format!(
            r#"(component
              (component $callee
                {memory}
                (func (export "f") (param "v" (list (list u16 {count})))
                  (canon lift (core func $memory "f")
                    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc")))))
              (component $caller
                (import "f" (func $f (param "v" (list (list u16 {count})))))
                {memory}
                (core func $f (canon lower (func $f) (memory (core memory $memory "memory"))))
                (core module $m (import "" "f" (func (param i64 i64))))
                (core instance $i (instantiate $m (with "" (instance (export "f" (func $f)))))))
              (instance $callee (instantiate $callee))
              (instance $caller (instantiate $caller (with "f" (func $callee "f")))))"#
        )
    };
    let wide = translate::translate(&wat(&text(1 << 30))).err().expect("it is not a tag");
    assert!(message(wide).contains("2^31 bytes"));
    translate::translate(&wat(&text(1 << 20))).expect("smaller ones are fine");
}

#[test]
fn a_component_that_cannot_run_is_named() {
    let (types, export) = (types("0.3.2", ""), export_handler("0.3.2"));
    let imported = r#"(import "code" (core module $main
        (export "handle" (func (param i32) (result i32)))
        (export "callback" (func (param i32 i32 i32) (result i32)))))"#;
    let shared = r#"(core module $main
        (memory 1 1 shared)
        (func (export "handle") (param i32) (result i32) unreachable)
        (func (export "callback") (param i32 i32 i32) (result i32) unreachable))"#;
    for (main, reason) in [(imported, "core module"), (shared, "threads")] {
        let odd = wat(&format!("(component {types} {main} (core instance $main (instantiate $main)) {export})"));
        let chain = [link("mw.wasm", &middleware("0.3.2")), link("odd.wasm", &odd)];
        let found = message(load(engine(), &chain, None).err().expect("it cannot run"));
        assert!(found.starts_with("odd.wasm: ") && found.contains(reason), "{found}");
    }
}

#[test]
fn shims_of_every_kind_of_call_are_valid() {
    // Lowers and lifts in both ways, results of every kind, through one call between two instances each.
    let results = ["", "(result u32)", "(result u64)", "(result f32)", "(result f64)", "(result string)"];
    let params = ["", r#"(param "a" u32) (param "b" f64)"#, r#"(param "s" string)"#];
    let ways: Vec<(&str, &str)> =
        ["", "async"].iter().flat_map(|lower| ["sync", "callback", "stackful"].map(|lift| (*lower, lift))).collect();
    let widths = ["i32", "i64"].into_iter().flat_map(|caller| ["i32", "i64"].map(|callee| [caller, callee]));
    let values = results.iter().flat_map(|result| params.map(|param| (*result, param)));
    for ((result, param), widths) in values.flat_map(|values| widths.clone().map(move |widths| (values, widths))) {
        for ((lower, lift), async_type) in
            ways.iter().flat_map(|way| ["async", ""].map(|async_type| (*way, async_type)))
        {
            let Some(text) = call(lower, lift, async_type, param, result, widths) else { continue };
            let translated = translate::translate(&wat(&text));
            let through_memory = lower == "async" && !result.is_empty() || result.contains("string");
            if widths[0] != widths[1] && through_memory && (lower == "async" || lift != "sync") {
                assert!(message(translated.err().expect(&text)).contains("no adapter can be made"), "{text}");
                continue;
            }
            let mut plan = translated.unwrap_or_else(|error| panic!("{error:#}\n{text}")).plan;
            let fast = plan.adapters.len();
            assert_eq!(fast, usize::from(lower == "async" || lift != "sync"), "{lower} {lift}");
            let own = [(false, core_features()), (true, core_features() | STACKS)].map(|features| (1, features));
            let shared = own.map(|(_, features)| (shims::OWN_CODE_MAX + 1, features));
            for (times, (fibers, features)) in own.into_iter().chain(shared) {
                let adapters = plan.adapters.iter().take(fast);
                plan.adapters = std::iter::repeat_n(adapters, times).flatten().cloned().collect();
                let generated = shims::generate(&plan, fibers).unwrap();
                let mut validator = wasmparser::Validator::new_with_features(features);
                validator.validate_all(&generated.wasm).unwrap_or_else(|error| panic!("{error}\n{text}"));
            }
        }
    }
}

#[test]
fn a_start_that_gives_what_it_gets_is_not_called() {
    let widths = ["i32", "i32"];
    for (param, hands_on) in [
        ("", true),
        (r#"(param "a" u32) (param "b" f64)"#, true),
        (r#"(param "a" char) (param "b" f64)"#, false),
        (r#"(param "a" u8) (param "b" f64)"#, false),
        (r#"(param "a" bool) (param "b" f64)"#, false),
        (r#"(param "s" string)"#, false),
    ] {
        let text = call("async", "callback", "async", param, "(result u32)", widths).unwrap();
        let plan = translate::translate(&wat(&text)).unwrap().plan;
        assert_eq!(plan.adapters.iter().map(|adapter| adapter.hands_on).collect::<Vec<_>>(), [hands_on], "{param}");
    }
}

/// A component in which one instance calls a function of another, with pointers of the types `caller` and `callee`; `None` where
/// the binary format forbids the combination.
fn call(
    lower: &str,
    lift: &str,
    async_type: &str,
    param: &str,
    result: &str,
    [caller, callee]: [&str; 2],
) -> Option<String> {
    // Only functions of async type may be lifted or lowered async.
    if async_type.is_empty() && (lift != "sync" || !lower.is_empty()) {
        return None;
    }
    let [caller_flat, callee_flat] = [caller, callee].map(|pointer| match param {
        "" => String::new(),
        text if text.contains("string") => format!("{pointer} {pointer}"),
        _ => "i32 f64".to_string(),
    });
    let return_pair = format!("{callee} {callee}");
    let core = result.trim_start_matches("(result ").trim_end_matches(')');
    let (flat_result, return_params, lowered_result, retptr) = match core {
        "" => ("", "", "", ""),
        "u32" => ("i32", "i32", "i32", ""),
        "u64" => ("i64", "i64", "i64", ""),
        "f32" => ("f32", "f32", "f32", ""),
        "f64" => ("f64", "f64", "f64", ""),
        "string" => (callee, &*return_pair, "", caller),
        other => unreachable!("{other}"),
    };
    let memory = "(memory $memory) (realloc (core func $realloc))";
    let lift_options = match lift {
        "sync" => format!("{memory} (post-return (core func $post-return))"),
        "callback" => format!("{memory} async (callback (core func $callback))"),
        _ => format!("{memory} async"),
    };
    let (callee_result, lowered_retptr, lowered_status) = match (lift, lower) {
        ("sync", "") => (flat_result, retptr, lowered_result),
        ("sync", _) => (flat_result, if core.is_empty() { "" } else { "i32" }, "i32"),
        ("callback", "") => ("i32", retptr, lowered_result),
        ("callback", _) => ("i32", if core.is_empty() { "" } else { "i32" }, "i32"),
        (_, "") => ("", retptr, lowered_result),
        (_, _) => ("", if core.is_empty() { "" } else { "i32" }, "i32"),
    };
    let [caller_memory, callee_memory] = [caller, callee].map(|pointer| {
        format!(
            r#"
        (core module $memory
          (memory (export "memory") {pointer} 1)
          (func (export "realloc") (param {pointer} {pointer} {pointer} {pointer}) (result {pointer}) unreachable))
        (core instance $memory (instantiate $memory))
        (alias core export $memory "memory" (core memory $memory))
        (alias core export $memory "realloc" (core func $realloc))"#
        )
    });
    Some(format!(
        r#"(component
             (component $callee
               {callee_memory}
               (core func $return (canon task.return {result} (memory $memory)))
               (core module $callee
                 (import "" "return" (func (param {return_params})))
                 (func (export "post-return") (param {flat_result}))
                 (func (export "callback") (param i32 i32 i32) (result i32) unreachable)
                 (func (export "f") (param {callee_flat}) (result {callee_result}) unreachable))
               (core instance $callee (instantiate $callee (with "" (instance (export "return" (func $return))))))
               (alias core export $callee "post-return" (core func $post-return))
               (alias core export $callee "callback" (core func $callback))
               (func (export "f") {async_type} {param} {result} (canon lift (core func $callee "f") {lift_options})))
             (component $caller
               (import "f" (func $f {async_type} {param} {result}))
               {caller_memory}
               (core func $f (canon lower (func $f) {lower} {memory}))
               (core module $caller
                 (import "" "f" (func $f (param {caller_flat} {lowered_retptr}) (result {lowered_status})))
                 (func (export "run") unreachable))
               (core instance $caller (instantiate $caller (with "" (instance (export "f" (func $f))))))
               (func (export "run") (canon lift (core func $caller "run"))))
             (instance $callee (instantiate $callee))
             (alias export $callee "f" (func $f))
             (instance $caller (instantiate $caller (with "f" (func $f))))
             (alias export $caller "run" (func $run))
             (export "run" (func $run)))"#
    ))
}

/// A directory of its own per test, removed afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("interflow-cache-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Scratch(std::env::temp_dir().join(name))
    }
    fn cache(&self) -> Cache {
        Cache::open(&self.0, SIZE_MAX_DEFAULT).expect("a new directory is fine")
    }
    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn small_chain() -> Vec<Link> {
    vec![link("mw.wasm", &middleware("0.3.0")), link("app.wasm", &service("0.3.2"))]
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_comes_from_the_cache_is_what_was_compiled() {
    let scratch = Scratch::new();
    let (cache, chain) = (scratch.cache(), small_chain());
    let key = Key::of(engine(), &chain);
    assert!(cache.get(engine(), &key).is_none());
    let compiled = load(engine(), &chain, Some(&cache)).unwrap();
    let parts = cache.get(engine(), &key).expect("it was stored");
    assert_eq!(postcard::to_stdvec(&parts.plan).unwrap(), postcard::to_stdvec(&compiled.plan).unwrap());
    let again = load(engine(), &chain, Some(&cache)).unwrap();
    assert_eq!(again.modules.len(), compiled.modules.len());
    for (new, old) in again.modules.iter().zip(&compiled.modules) {
        assert_eq!(new.serialize().unwrap(), old.serialize().unwrap());
    }
    assert_eq!(again.shims.serialize().unwrap(), compiled.shims.serialize().unwrap());
    assert_eq!(again.shim_imports, compiled.shim_imports);
}

#[test]
fn the_key_depends_on_every_link_and_their_order_but_not_on_file_names() {
    let (a, b) = (link("a", b"aa"), link("b", b"b"));
    let key = |chain: &[&Link]| Key::of(engine(), &chain.iter().map(|link| (*link).clone()).collect::<Vec<_>>());
    assert_eq!(key(&[&a, &b]), key(&[&link("c", b"aa"), &link("d", b"b")]));
    let different =
        [key(&[]), key(&[&a]), key(&[&b]), key(&[&a, &b]), key(&[&b, &a]), key(&[&a, &a]), key(&[&link("", b"aab")])];
    for (position, one) in different.iter().enumerate() {
        assert!(!different[..position].contains(one), "{position}");
    }
    let other_engine = Engine::new(engine_config(core_features()).cranelift_opt_level(OptLevel::None)).unwrap();
    assert_ne!(Key::of(&other_engine, std::slice::from_ref(&a)), key(&[&a]));
    assert_eq!(Key::of(&super::engine().unwrap(), std::slice::from_ref(&a)), key(&[&a]));
}

#[test]
fn the_key_depends_on_every_source_that_decides_what_an_entry_contains() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/component");
    let cache = std::fs::read_to_string(sources.join("cache.rs")).unwrap();
    let files =
        ["", "shims"].map(|directory| std::fs::read_dir(sources.join(directory)).unwrap()).into_iter().flatten();
    for file in files.map(|file| file.unwrap().path()).filter(|file| file.extension().is_some_and(|it| it == "rs")) {
        let name = file.strip_prefix(&sources).unwrap().to_str().unwrap();
        let known = cache.contains(&format!("include_bytes!({name:?})"));
        assert_eq!(known, !["cache.rs", "epoch.rs", "tests.rs"].contains(&name), "{name}");
    }
}

#[test]
fn a_damaged_entry_is_a_miss_and_is_replaced() {
    let scratch = Scratch::new();
    let (cache, chain) = (scratch.cache(), small_chain());
    load(engine(), &chain, Some(&cache)).unwrap();
    let key = Key::of(engine(), &chain);
    let path = cache::testing::path(&cache, &key);
    let good = std::fs::read(&path).unwrap();
    let mut damaged: Vec<(String, Vec<u8>)> = Vec::new();
    for (field, offset) in cache::testing::FIELDS {
        for bit in [0x01, 0x80] {
            let mut bytes = good.clone();
            bytes[offset] ^= bit;
            damaged.push((format!("{field} ^ {bit}"), bytes));
        }
    }
    for sixteenth in 0..16 {
        damaged.push((format!("{sixteenth}/16"), good[..good.len() * sixteenth / 16].to_vec()));
    }
    damaged.push(("one byte short".into(), good[..good.len() - 1].to_vec()));
    damaged.push(("one byte more".into(), [&good[..], b"\0"].concat()));
    damaged.push(("zeros".into(), vec![0; good.len()]));
    damaged.push(("text".into(), b"not a cache entry".to_vec()));
    for (what, bytes) in damaged {
        std::fs::write(&path, bytes).unwrap();
        assert!(cache.get(engine(), &key).is_none(), "{what} is a hit");
    }
    load(engine(), &chain, Some(&cache)).unwrap();
    assert!(cache.get(engine(), &key).is_some(), "the entry is replaced");
    assert_eq!(scratch.files(), [path], "nothing else is left");
}

#[test]
fn a_foreign_or_unreadable_entry_is_a_miss() {
    let scratch = Scratch::new();
    let (cache, chain) = (scratch.cache(), small_chain());
    load(engine(), &chain, Some(&cache)).unwrap();
    let key = Key::of(engine(), &chain);
    let path = cache::testing::path(&cache, &key);
    let good = std::fs::read(&path).unwrap();
    let other = Key::of(engine(), &chain[1..]);
    std::fs::write(cache::testing::path(&cache, &other), &good).unwrap();
    assert!(cache.get(engine(), &other).is_none(), "the entry of another chain");
    set_mode(&path, 0o622);
    assert!(cache.get(engine(), &key).is_none(), "others may write to it");
    set_mode(&path, 0o600);
    assert!(cache.get(engine(), &key).is_some());
    std::fs::rename(&path, scratch.0.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(scratch.0.join("elsewhere"), &path).unwrap();
    assert!(cache.get(engine(), &key).is_none(), "a link to elsewhere");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(cache.get(engine(), &key).is_none(), "a directory");
    load(engine(), &chain, Some(&cache)).expect("that it cannot be stored is no error");
    std::fs::remove_dir(&path).unwrap();
    load(engine(), &chain, Some(&cache)).unwrap();
    assert!(cache.get(engine(), &key).is_some());
    assert_eq!((mode(&scratch.0), mode(&path)), (0o700, 0o600));
}

#[test]
fn an_entry_of_the_right_form_with_wrong_content_is_a_miss() {
    // As another version of us might write: checksums fit, sections do not.
    let scratch = Scratch::new();
    let (cache, chain) = (scratch.cache(), small_chain());
    let key = Key::of(engine(), &chain);
    for content in [&b""[..], &[0; 7], &[0xff; 8], &[1, 0, 0, 0, 0, 0, 0, 0], &[0; 64]] {
        std::fs::write(cache::testing::path(&cache, &key), cache::testing::entry(&key, content)).unwrap();
        assert!(cache.get(engine(), &key).is_none(), "{content:?}");
    }
    load(engine(), &chain, Some(&cache)).unwrap();
    assert!(cache.get(engine(), &key).is_some());
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    let scratch = Scratch::new();
    scratch.cache();
    for open in [0o777, 0o770, 0o702] {
        set_mode(&scratch.0, open);
        assert!(matches!(Cache::open(&scratch.0, SIZE_MAX_DEFAULT), Err(CacheError::Writable { .. })), "{open:o}");
    }
    set_mode(&scratch.0, 0o755);
    assert!(Cache::open(&scratch.0, SIZE_MAX_DEFAULT).is_ok());
    let file = scratch.0.join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(Cache::open(&file, SIZE_MAX_DEFAULT), Err(CacheError::Directory { .. })));
}

#[test]
fn the_entries_used_longest_ago_go_first() {
    let scratch = Scratch::new();
    let chains: Vec<Vec<Link>> =
        ["0.3.0", "0.3.1", "0.3.2"].map(|version| vec![link("app.wasm", &service(version))]).to_vec();
    let paths: Vec<PathBuf> = {
        let cache = scratch.cache();
        chains.iter().map(|chain| cache::testing::path(&cache, &Key::of(engine(), chain))).collect()
    };
    let used = |path: &Path, seconds_ago: u64| {
        let time = SystemTime::now() - Duration::from_secs(seconds_ago);
        std::fs::File::open(path).unwrap().set_modified(time).unwrap();
    };
    load(engine(), &chains[0], Some(&scratch.cache())).unwrap();
    load(engine(), &chains[1], Some(&scratch.cache())).unwrap();
    let dead = scratch.0.join("0123.new");
    let alive = scratch.0.join("4567.new");
    let foreign = scratch.0.join("notes.txt");
    for path in [&dead, &alive, &foreign] {
        std::fs::write(path, "x").unwrap();
    }
    used(&dead, 7200);
    used(&foreign, 7200);
    used(&paths[0], 200);
    used(&paths[1], 100);
    let size = std::fs::metadata(&paths[0]).unwrap().len();
    let two = Cache::open(&scratch.0, size * 5 / 2).unwrap();
    assert!(two.get(engine(), &Key::of(engine(), &chains[0])).is_some(), "this counts as use");
    load(engine(), &chains[2], Some(&two)).unwrap();
    let mut left = vec![paths[0].clone(), paths[2].clone(), alive, foreign];
    left.sort();
    assert_eq!(scratch.files(), left);
    let none = Cache::open(&scratch.0, size / 2).unwrap();
    load(engine(), &chains[1], Some(&none)).expect("too large for the cache is no error");
    assert!(!paths[1].exists());
}

#[test]
fn the_default_directory_follows_the_environment() {
    use cache::testing::dir_in;
    assert_eq!(dir_in(Some("/c"), Some("/h")), Some("/c/interflow".into()));
    assert_eq!(dir_in(None, Some("/h")), Some("/h/.cache/interflow".into()));
    assert_eq!(dir_in(Some(""), Some("/h")), Some("/h/.cache/interflow".into()));
    assert_eq!(dir_in(Some("relative"), Some("/h")), Some("/h/.cache/interflow".into()));
    assert_eq!(dir_in(Some("relative"), Some("")), None);
    assert_eq!(dir_in(None, None), None);
}

#[test]
fn the_engine_allows_what_the_validator_admits() {
    // One small module per feature: what is on compiles, what is off is refused.
    let on = [
        "(module (func (param i32) (result i32 i32) local.get 0 local.get 0))",
        "(module (func (return_call 0)))",
        "(module (memory 1) (memory 1))",
        "(module (memory i64 1))",
        "(module (table 1 funcref) (func (table.fill (i32.const 0) (ref.null func) (i32.const 1))))",
        "(module (func (result v128) v128.const i64x2 0 0))",
        "(module (memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 1))))",
        "(module (global i32 (i32.add (i32.const 1) (i32.const 2))))",
        "(module (tag) (func (throw 0)))",
        "(module (type (struct (field i32))) (func (result anyref) (struct.new 0 (i32.const 1))))",
    ];
    let off = [
        "(module (memory 1 1 shared))",
        "(module (type $f (func)) (type (cont $f)))",
        "(module (func (result i64 i64) (i64.add128 (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0))))",
    ];
    for text in on {
        Module::from_binary(engine(), &wat(text)).unwrap_or_else(|error| panic!("{text}: {error:#}"));
    }
    // The engine allows more where our shims need it; guests are validated before they get there.
    for text in off {
        let refused = wasmparser::Validator::new_with_features(core_features()).validate_all(&wat(text)).is_err();
        assert!(refused, "{text}");
    }
}

// Each alone and in chains of several versions, where they are built.
#[test]
fn real_guests_link_and_compile() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests/target/wasm32-wasip2/release");
    let read = |name: &str| {
        std::fs::read(dir.join(format!("{name}.wasm"))).ok().map(|bytes| link(&format!("{name}.wasm"), &bytes))
    };
    let names = ["auth", "gzip", "log", "middleware", "hello", "echo"];
    let guests: Vec<Link> = names.iter().filter_map(|name| read(name)).collect();
    if guests.len() < names.len() {
        println!("skipped: the guests are not built in {}", dir.display());
        return;
    }
    let [auth, gzip, log, pass, hello, echo] = &guests[..] else { unreachable!() };
    load(engine(), std::slice::from_ref(hello), None).unwrap();
    let mut sixteen = vec![pass.clone(); 16];
    sixteen.push(hello.clone());
    for chain in [vec![auth.clone(), gzip.clone(), log.clone(), echo.clone()], sixteen] {
        let compiled = load(engine(), &chain, None).unwrap();
        assert_eq!(compiled.plan.adapters.len(), chain.len() - 1);
        for (odd, (from, to)) in
            [("@0.3.2", "@0.3.0"), ("@0.3.2", "@0.3.1"), ("@0.2.6", "@0.2.3")].iter().flat_map(|v| [(0, *v), (1, *v)])
        {
            let rename = |(n, link): (usize, &Link)| if n % 2 == odd { renamed(link, from, to) } else { link.clone() };
            let mixed: Vec<Link> = chain.iter().enumerate().map(rename).collect();
            valid(&compose(&mixed).unwrap_or_else(|error| panic!("{to} at {odd}: {}", message(error))));
        }
    }
}

/// The same component, as if built for another release: versions are of equal length, so that bytes can be replaced.
fn renamed(link: &Link, from: &str, to: &str) -> Link {
    let mut bytes = link.bytes.clone();
    for position in 0..bytes.len() - from.len() {
        let name = &mut bytes[position..position + from.len()];
        if name == from.as_bytes() {
            name.copy_from_slice(to.as_bytes());
        }
    }
    Link { name: link.name.clone(), bytes }
}
