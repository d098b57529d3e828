//! The macro as its user meets it: what the generated Rust looks like, and what a mistake in the options says.
//! That the generated code compiles and works is tested where the runtime it names is.

use crate::expand::expand;
use crate::names;
use crate::parse::Options;

use quote::ToTokens;
use wit_parser::Docs;

const SHAPES: &str = r#"path: "tests/shapes.wit", world: "all", with: { "test:shapes/shapes/file": crate::File }"#;

/// The generated Rust without white space.
fn rust(options: &str) -> Result<String, String> {
    let options: Options = syn::parse_str(options).map_err(|e| e.to_string())?;
    let tokens = expand(&options).map_err(|e| e.to_string())?;
    let file: syn::File = syn::parse2(tokens).map_err(|e| format!("generated code does not parse: {e}"))?;
    Ok(without_space(&file.into_token_stream().to_string()))
}

fn without_space(code: &str) -> String {
    code.split_whitespace().collect()
}

#[track_caller]
fn has(rust: &str, code: &str) {
    let wanted = without_space(code);
    assert!(rust.contains(&wanted), "no `{wanted}` in\n{rust}");
}

#[track_caller]
fn refuses(options: &str, message: &str) {
    match rust(options) {
        Ok(_) => panic!("accepted: {options}"),
        Err(e) => assert!(e.contains(message), "`{e}` does not say `{message}`"),
    }
}

#[test]
fn types_get_their_rust_names_and_what_they_can_derive() {
    let rust = rust(SHAPES).unwrap();
    has(
        &rust,
        "#[derive(Debug, Clone, PartialEq, Copy)] pub struct Point {
        pub x: ::core::primitive::i32, pub type_: ::core::primitive::f32, }",
    );
    has(&rust, "pub enum Shape { None, HttpText(::std::string::String), At(Point), }");
    has(&rust, "#[derive(Debug, Clone, PartialEq, Copy, Eq, Hash)] pub enum Color { Red = 0, DarkGreen = 1, }");
    has(&rust, "pub struct Access(::core::primitive::u8);");
    has(&rust, "pub const WRITE_ALL: Self = Self(1 << 1);");
    has(&rust, "pub type Points = ::std::vec::Vec<Point>;");
    has(&rust, "pub type File = crate::File;");
    has(&rust, "#[derive(Debug)] pub struct Held { pub file: crate::host::value::Own<File>, }");
    has(&rust, "pub struct Host_ {");
    has(&rust, "pub enum H_ { Self_ = 0, Ok = 1, }");
    has(&rust, "pub use super::super::super::test::shapes::shapes::Color as Colour;");
}

#[test]
fn functions_follow_the_naming_rules() {
    let rust = rust(SHAPES).unwrap();
    let value = "crate::host::value";
    let cx = "cx: &mut crate::abi::HostCx<'_>";
    has(&rust, &format!("fn file_new({cx}, path: ::std::string::String) -> crate::abi::Result<{value}::Own<File>>;"));
    has(
        &rust,
        &format!(
            "fn file_read({cx}, self_: {value}::Borrow<File>, cx_: ::core::primitive::u32)
             -> ::core::result::Result<::std::vec::Vec<::core::primitive::u8>, {value}::Failure<Color>>;"
        ),
    );
    has(&rust, &format!("fn file_open({cx}, path: ::std::string::String) -> crate::abi::Result<{value}::Own<File>>;"));
    has(
        &rust,
        &format!(
            "fn file_wait({cx}, self_: {value}::Borrow<File>, other: {value}::Borrow<File>)
             -> crate::host::HostFuture<::core::result::Result<(), Color>>;"
        ),
    );
    // A free function whose name a method has already; and a `result` behind a name.
    has(&rust, &format!("fn file_read_({cx},) -> ::core::result::Result<Points, {value}::Failure<Color>>;"));
    has(
        &rust,
        &format!(
            "fn pipe({cx}, from: crate::host::stream::StreamReader<::core::primitive::u8>,
             done: crate::host::stream::FutureReader<()>) -> crate::host::HostFuture<::core::option::Option<Point>>;"
        ),
    );
}

#[test]
fn linking_uses_the_names_of_the_wit() {
    let rust = rust(SHAPES).unwrap();
    has(&rust, r#"pub const INTERFACE: &::core::primitive::str = "test:shapes/shapes@1.2.3";"#);
    has(&rust, r#"linker.resource::<File>(INTERFACE, "file");"#);
    for name in ["[constructor]file", "[method]file.read", "[static]file.open", "[method]file.wait", "file-read"] {
        has(&rust, &format!("INTERFACE, \"{name}\","));
    }
    has(&rust, "linker.async_func::<(");
    let plain = rust.split("pubmodplain").nth(1).unwrap().split("pubmod").next().unwrap();
    assert!(!plain.contains("traitHost"), "an interface of types alone has nothing to link");
}

#[test]
fn a_blocking_function_is_ready_later_though_its_wit_is_not_async() {
    let rust = rust(&format!(r#"{SHAPES}, blocking: ["test:shapes/shapes/[method]file.read"]"#)).unwrap();
    has(&rust, "cx_: ::core::primitive::u32) -> crate::host::HostFuture<::core::result::Result<::std::vec::Vec<");
    assert_eq!(rust.matches("linker.async_func::<(").count(), 1 + 2, "it, and what is async anyway");
    for (name, message) in [
        ("test:shapes/shapes", "not a function of sync type"),
        ("test:shapes/shapes/file", "not a function of sync type"),
        ("test:shapes/shapes/pipe", "no such interface, resource, or function of sync type"),
    ] {
        refuses(&format!(r#"{SHAPES}, blocking: ["{name}"]"#), message);
    }
}

#[test]
fn paths_are_those_of_the_place_of_the_macro() {
    let with = |path: &str| {
        let key = r#"path: "tests/shapes.wit", world: "all", with: { "test:shapes/shapes/file""#;
        rust(&format!("{key}: {path} }}, crate: ::interflow")).unwrap()
    };
    has(&with("::other::File"), "pub type File = ::other::File;");
    has(&with("File"), "pub type File = super::super::super::File;");
    has(&with("self::File"), "pub type File = super::super::super::File;");
    has(&with("super::File"), "pub type File = super::super::super::super::File;");
    has(&with("File"), "pub fn link<H: Host>(linker: &mut ::interflow::host::linker::Linker)");
}

#[test]
fn an_interface_can_be_elsewhere() {
    let rust = rust(
        r#"path: "tests/shapes.wit", interfaces: ["test:shapes/user"], with: { "test:shapes/shapes": crate::shapes }"#,
    );
    let rust = rust.unwrap();
    has(&rust, "pub use crate::shapes::Color as Colour;");
    assert!(!rust.contains("pubmodshapes{#[doc"), "an interface that is elsewhere is not generated");
}

#[test]
fn every_interface_of_the_world_that_we_ship_expands() {
    let with = [
        "wasi:http/types/fields",
        "wasi:http/types/request",
        "wasi:http/types/request-options",
        "wasi:http/types/response",
        "wasi:cli/terminal-input@0.3.2/terminal-input",
        "wasi:cli/terminal-output@0.3.2/terminal-output",
        "wasi:cli/terminal-input@0.2.12/terminal-input",
        "wasi:cli/terminal-output@0.2.12/terminal-output",
        "wasi:io/error/error",
        "wasi:io/poll/pollable",
        "wasi:io/streams/input-stream",
        "wasi:io/streams/output-stream",
        "wasi:filesystem/types@0.2.12/descriptor",
        "wasi:filesystem/types@0.2.12/directory-entry-stream",
    ];
    let with = with.map(|key| format!("\"{key}\": crate::R")).join(", ");
    let rust = rust(&format!(r#"path: "../../wit", world: "interflow:host/imports", with: {{ {with} }}"#)).unwrap();
    // Both versions of a package are there, each under its own.
    for module in ["pubmodclocks0_2{", "pubmodclocks0_3{", "pubmodhttp{", "pubmodio{"] {
        assert!(rust.contains(module), "no {module}");
    }
}

#[test]
fn a_mistake_in_the_options_says_what_is_wrong() {
    refuses(r#"world: "all""#, "say where the WIT is");
    refuses(r#"path: "tests/shapes.wit""#, "say which `interfaces`");
    refuses(r#"path: "x", path: "y", world: "all""#, "option `path` is here twice");
    refuses(r#"path: "x", world: "all", interfaces: []"#, "either `world` or `interfaces`");
    refuses(r#"path: "x", wrold: "all""#, "no option `wrold`; there are `path`");
    refuses(r#"path: "not/there", world: "all""#, "no WIT at ");
    refuses(r#"path: "Cargo.toml", world: "all""#, "Cargo.toml");
    refuses(r#"path: "tests/shapes.wit", world: "some""#, "some");
    refuses(r#"path: "tests/shapes.wit", world: "bare""#, "imports `run` outside of any interface");
    refuses(r#"path: "tests/shapes.wit", world: "inline""#, "an interface without a name");
    refuses(r#"path: "tests/shapes.wit", interfaces: ["test:shapes/none"]"#, "no such interface");
    refuses(r#"path: "tests/shapes.wit", interfaces: ["test:shapes/shapes@9.9.9"]"#, "no such interface");
    refuses(r#"path: "tests/shapes.wit", interfaces: ["test:shapes/shapes/file"]"#, "this is a resource");
    refuses(r#"path: "tests/shapes.wit", interfaces: ["test:shapes/unsupported"]"#, "error-context is not supported");
    refuses(r#"path: "../../wit", interfaces: ["wasi:clocks/monotonic-clock"]"#, "several versions");
    let lacking = "resources need a Rust type; add to `with`:\n    \"test:shapes/shapes@1.2.3/file\": path::To,";
    refuses(r#"path: "tests/shapes.wit", world: "all""#, lacking);
    let nothing = r#"path: "tests/shapes.wit", world: "all", with: { "test:shapes/shapes/fiel": crate::File }"#;
    refuses(nothing, "the WIT has no such interface, resource, or function of sync type");
}

#[test]
fn no_example_in_wit_docs_becomes_a_doc_test() {
    let contents = "Reads.\n\n        read(3)\n\n```\npseudo\n    code\n```\n```rs\nother\n```";
    let docs = names::docs(&Docs { contents: Some(contents.to_owned()) }).to_string();
    assert!(docs.contains("\"    read(3)\""), "indented by at most three: {docs}");
    assert!(docs.contains("\" ```text\""), "a fence without a language is text: {docs}");
    assert!(docs.contains("\"     code\""), "inside of a fence nothing moves: {docs}");
}

#[test]
fn a_keyword_gets_an_underscore() {
    assert_eq!(names::field("type"), "type_");
    assert_eq!(names::parameter("self"), "self_");
    assert_eq!(names::parameter("cx"), "cx_");
    assert_eq!(names::field("cx"), "cx");
    assert_eq!(names::ty("DNS-error-payload"), "DnsErrorPayload");
    assert_eq!(names::versioned_module("clocks", "0.3.0-rc-2"), "clocks0_3_0_rc_2");
}
