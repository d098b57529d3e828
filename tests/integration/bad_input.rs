//! Bad input: exit code 2, one message that names what is wrong and what would be right, and nothing that was half started.

use super::support::process::{Finished, run};
use super::support::server::{binary, scratch, shared_cache};
use super::support::{Io, guest, on_both, serve};
use std::ffi::OsString;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Runs `interflow` with these arguments, which must make it end by itself.
fn interflow<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Finished {
    let mut command = Command::new(binary());
    command.args(args.into_iter().map(Into::into)).env_remove("INTERFLOW_LOG");
    run(&mut command, Duration::from_secs(60))
}

/// A file of these bytes; its name is in every message about it.
fn file(name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let file = scratch("bad-input").join(name);
    std::fs::write(&file, bytes).expect("the target directory can be written");
    file
}

fn wat(name: &str, text: &str) -> PathBuf {
    file(name, wat::parse_str(text).unwrap_or_else(|error| panic!("{name}: {error}")))
}

/// A component that exports something under this name.
fn exporting(name: &str, export: &str) -> PathBuf {
    wat(
        name,
        &format!(
            r#"(component
                (core module $m (func (export "f")))
                (core instance $i (instantiate $m))
                (func $f (canon lift (core func $i "f")))
                (instance $e (export "handle" (func $f)))
                (export "{export}" (instance $e)))"#
        ),
    )
}

/// A service that imports the function `item` of `interface`, of this type, and calls it. Its own handler is none either, but
/// what it needs is looked at first.
fn importing(name: &str, interface: &str, item: &str, params_and_results: &str, core: &str) -> PathBuf {
    wat(
        name,
        &format!(
            r#"(component
                (import "{interface}" (instance $i (export "{item}" (func {params_and_results}))))
                (core module $m
                    (import "" "f" (func $f {core}))
                    (func (export "handle")))
                (core func $f (canon lower (func $i "{item}")))
                (core instance $c (instantiate $m (with "" (instance (export "f" (func $f))))))
                (func $h (canon lift (core func $c "handle")))
                (instance $e (export "handle" (func $h)))
                (export "wasi:http/handler@0.3.0" (instance $e)))"#
        ),
    )
}

/// A chain and what the message about it must say.
struct Case {
    files: Vec<PathBuf>,
    expected: &'static [&'static str],
}

fn case(files: impl IntoIterator<Item = PathBuf>, expected: &'static [&'static str]) -> Case {
    Case { files: files.into_iter().collect(), expected }
}

fn not_components() -> Vec<Case> {
    let hello = std::fs::read(guest("hello")).expect("it is there");
    let half = &hello[..hello.len() / 2];
    let mut garbled = hello.clone();
    let middle = garbled.len() / 3;
    garbled[middle..middle + 64].fill(0xff);
    vec![
        case([scratch("bad-input").join("nowhere.wasm")], &["cannot read", "nowhere.wasm", "No such file"]),
        case([scratch("bad-input")], &["cannot read", "bad-input", "directory"]),
        case([file("empty.wasm", b"")], &["empty.wasm", "an empty file", "a component in binary form is needed"]),
        case([file("text.wasm", "just text\n")], &["text.wasm", "not a WebAssembly file, but text"]),
        case([file("text.wat", "(component)")], &["text.wat", "WebAssembly text", "wasm-tools parse"]),
        case([file("elf.wasm", b"\x7fELF\x02\x01")], &["elf.wasm", "a native or precompiled file"]),
        case([file("noise.wasm", [0xfe, 0xff, 0, 1])], &["noise.wasm", "not a WebAssembly file, but other data"]),
        case([file("magic.wasm", b"\0asm")], &["magic.wasm"]),
        case([wat("core.wasm", "(module)")], &["core.wasm", "a core module, not a component", "wasm32-wasip2"]),
        case([file("half.wasm", half)], &["half.wasm", "not a valid component", "unexpected end"]),
        case([file("garbled.wasm", garbled)], &["garbled.wasm"]),
    ]
}

fn not_services() -> Vec<Case> {
    vec![
        case(
            [wat("nothing.wasm", "(component)")],
            &["nothing.wasm", "exports no `wasi:http/handler`, but nothing at all"],
        ),
        case(
            [exporting("other.wasm", "example:other/thing@1.0.0")],
            &["other.wasm", "exports no `wasi:http/handler`", "`example:other/thing@1.0.0`", "wasi:http/service"],
        ),
        case(
            [exporting("wasi02.wasm", "wasi:http/incoming-handler@0.2.0")],
            &["wasi02.wasm", "WASI 0.2", "WASI 0.3 is needed", "rebuild it for the world `wasi:http/service`"],
        ),
        case(
            [exporting("command.wasm", "wasi:cli/run@0.3.0")],
            &["command.wasm", "it is a command", "wasi:http/service"],
        ),
        case(
            [exporting("future.wasm", "wasi:http/handler@0.4.0")],
            &[
                "future.wasm",
                "`wasi:http/handler@0.4.0`",
                "a version that is not known here",
                "wasi:http/handler@0.3.0",
            ],
        ),
        case([exporting("handler.wasm", "wasi:http/handler@0.3.0")], &["handler.wasm", "handle"]),
    ]
}

fn wrong_imports() -> Vec<Case> {
    vec![
        case(
            [importing("missing.wasm", "example:missing/thing@1.0.0", "run", "", "")],
            &["missing.wasm", "example:missing/thing@1.0.0", "run", "link a component that exports it"],
        ),
        case(
            [importing("version.wasm", "wasi:random/random@0.9.0", "get-random-u64", "(result u64)", "(result i64)")],
            &["version.wasm", "wasi:random/random@0.9.0", "0.3", "compatible"],
        ),
        case(
            [importing("item.wasm", "wasi:random/random@0.3.0", "get-random-dice", "(result u64)", "(result i64)")],
            &["item.wasm", "wasi:random/random", "get-random-dice"],
        ),
        case(
            [importing("type.wasm", "wasi:random/random@0.3.0", "get-random-u64", "(result u32)", "(result i32)")],
            &["type.wasm", "wasi:random/random@0.3.0", "get-random-u64", "another type than this host provides"],
        ),
        case(
            [guest("middleware"), exporting("last.wasm", "wasi:http/handler@0.3.0")],
            &["middleware.wasm", "last.wasm", "does not fit the export", "the same definition of the interface"],
        ),
    ]
}

fn wrong_places() -> Vec<Case> {
    vec![
        case(
            [guest("middleware")],
            &["middleware.wasm", "imports `wasi:http/handler", "nothing follows it", "to the end of the chain"],
        ),
        case([guest("auth"), guest("middleware")], &["middleware.wasm", "nothing follows it"]),
        case(
            [guest("hello"), guest("echo")],
            &["hello.wasm", "imports no `wasi:http/handler`", "echo.wasm", "only the last component"],
        ),
        case(std::iter::repeat_n(guest("middleware"), 64).chain([guest("hello")]), &["65 components", "64 at most"]),
        case([guest("auth"), file("second.wasm", "text")], &["second.wasm", "not a WebAssembly file"]),
    ]
}

/// One line that begins with `error: ` and holds all of `expected`; exit code 2; nothing listens.
fn check(Case { files, expected }: Case) {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free");
    let mut args: Vec<OsString> = vec!["serve".into()];
    args.extend(files.iter().map(|file| file.clone().into_os_string()));
    args.extend(["--addr".into(), port.to_string().into(), "--cache".into(), shared_cache().into()]);
    let finished = interflow(args);
    let shown =
        format!("{files:?}: code {:?}, stdout {:?}, stderr:\n{}", finished.code, finished.text(), finished.stderr);
    println!("{}", finished.stderr.lines().last().unwrap_or_default());
    assert_eq!(finished.code, Some(2), "{shown}");
    let messages: Vec<&str> = finished.stderr.lines().filter(|line| line.contains("error: ")).collect();
    let [message] = messages[..] else { panic!("one message is wanted. {shown}") };
    assert!(message.starts_with("error: "), "{shown}");
    for expected in expected {
        assert!(finished.stderr.contains(expected), "no `{expected}`. {shown}");
    }
    assert_eq!(message.matches(" is not provided").count().max(1), 1, "it is said once. {shown}");
    assert!(!finished.stderr.contains("panicked"), "{shown}");
    assert!(!finished.stderr.contains("serving"), "{shown}");
    assert_eq!(finished.text(), "", "stdout is the guests'");
    TcpStream::connect(port).expect_err("nothing listens");
}

#[test]
fn files_that_are_no_components_are_refused_by_name() {
    not_components().into_iter().for_each(check);
}

#[test]
fn components_that_are_no_services_are_refused_with_what_they_are() {
    not_services().into_iter().for_each(check);
}

#[test]
fn imports_that_nobody_provides_are_named_with_what_would_satisfy_them() {
    wrong_imports().into_iter().for_each(check);
}

#[test]
fn components_in_the_wrong_place_are_named_with_the_right_one() {
    wrong_places().into_iter().for_each(check);
}

#[test]
fn wrong_arguments_are_refused_with_the_right_form() {
    let hello = guest("hello");
    let hello = hello.to_str().expect("the path is text");
    let table: &[(&[&str], &[&str])] = &[
        (&[], &["Usage"]),
        (&["swerve"], &["swerve"]),
        (&["serve"], &["FILE"]),
        (&["serve", hello, "--addr", "nonsense"], &["nonsense", "--addr"]),
        (&["serve", hello, "--addr", "127.0.0.1"], &["127.0.0.1", "--addr"]),
        (&["serve", hello, "--addr", "127.0.0.1:99999"], &["99999", "--addr"]),
        (&["serve", hello, "--io", "nonsense"], &["nonsense", "--io", "auto", "uring", "epoll"]),
        (&["serve", hello, "--max-memory", "much"], &["much", "--max-memory", "512M"]),
        (&["serve", hello, "--max-memory", "1T"], &["1T", "K, M or G"]),
        (&["serve", hello, "--timeout", "soon"], &["soon", "--timeout", "seconds"]),
        (&["serve", hello, "--timeout=-1"], &["-1", "--timeout"]),
        (&["serve", hello, "--idle", "never"], &["never", "--idle", "seconds"]),
        (&["serve", hello, "--drain", "1s"], &["1s", "--drain", "seconds"]),
        (&["serve", hello, "--workers", "0"], &["0", "--workers"]),
        (&["serve", hello, "--max-concurrent", "0"], &["0", "--max-concurrent"]),
        (&["serve", hello, "--max-requests", "0"], &["0", "--max-requests"]),
        (&["serve", hello, "--max-zones", "x"], &["x", "--max-zones"]),
        (&["serve", hello, "--queue", "-1"], &["-1"]),
        (&["serve", hello, "--env", "NOVALUE"], &["NOVALUE", "--env", "NAME=VALUE"]),
        (&["serve", hello, "--env", "=x"], &["=x", "NAME=VALUE"]),
        (&["serve", hello, "--allow-outbound", ":80"], &[":80", "HOST"]),
        (&["serve", hello, "--allow-outbound", "a b"], &["a b", "not a host"]),
        (&["serve", hello, "--allow-outbound", "example.org:0"], &["example.org:0", "port"]),
        (&["serve", hello, "--log", "a=b=c"], &["--log", "a=b=c"]),
        (&["serve", hello, "--no-such-option"], &["--no-such-option"]),
    ];
    for (args, expected) in table {
        let finished = interflow(args.iter().copied());
        let shown = format!("{args:?}: code {:?}, stderr:\n{}", finished.code, finished.stderr);
        assert_eq!(finished.code, Some(2), "{shown}");
        for expected in *expected {
            assert!(finished.stderr.contains(expected), "no `{expected}`. {shown}");
        }
        assert!(!finished.stderr.contains("panicked"), "{shown}");
    }
}

#[test]
fn what_cannot_be_explored_is_refused() {
    let hello = guest("hello").display().to_string();
    let core = wat("explored-core.wasm", "(module)").display().to_string();
    let script = file("explored.wast", "(component)").display().to_string();
    let no_script = file("explored-text.wast", "(component)\n(component (funk))").display().to_string();
    let table: &[(&[&str], &[&str])] = &[
        (&[], &["FILE"]),
        (&["nowhere.wasm"], &["cannot read", "nowhere.wasm"]),
        (&["nowhere.wast"], &["cannot read", "nowhere.wast"]),
        (&[&core], &["explored-core.wasm", "a core module, not a component"]),
        (&[&hello, &hello], &["hello.wasm", "wasi:http/handler"]),
        (&[&no_script], &["explored-text.wast:2: "]),
        (&[&script, "--request", "GET /"], &["explored.wast", "a script takes no requests"]),
        (&[&script, "--body", "text"], &["explored.wast", "a script takes no requests"]),
        (&[&script, &hello], &["explored.wast", "WebAssembly text"]),
        (&[&hello, "--request", "GET"], &["--request", "METHOD PATH"]),
        (&[&hello, "--request", "GET path"], &["--request", "METHOD PATH"]),
        (&[&hello, "--header", "name"], &["--header", "NAME: VALUE"]),
        (&[&hello, "--replay", "1,2"], &["--replay", "POSITION:OPTION", "`first`"]),
        (&[&hello, "--replay", "4294967295:1"], &["--replay", "POSITION:OPTION"]),
        (&[&hello, "--replay", "0:99"], &["--replay 0:99", "no such choices", "--seed"]),
        (&[&hello, "--replay", "9999:1"], &["--replay 9999:1", "no such choices"]),
        (&[&hello, "--runs", "many"], &["--runs", "many"]),
        (&[&hello, "--seconds", "1s"], &["--seconds", "1s"]),
        (&[&hello, "--depth", "-1"], &["-1"]),
    ];
    for (args, expected) in table {
        let finished = interflow(["explore"].iter().chain(*args).copied());
        let shown = format!("{args:?}: code {:?}, stderr:\n{}", finished.code, finished.stderr);
        assert_eq!(finished.code, Some(2), "{shown}");
        for expected in *expected {
            assert!(finished.stderr.contains(expected), "no `{expected}`. {shown}");
        }
        assert!(!finished.stderr.contains("panicked"), "{shown}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for args in [&["--help"][..], &["serve", "--help"], &["explore", "--help"], &["--version"]] {
        let finished = interflow(args.iter().copied()).success();
        assert!(finished.text().contains("interflow"), "{args:?}: {}", finished.text());
    }
}

/// The input is right, it does not work this time: code 1.
#[test]
fn an_address_that_is_in_use_is_a_failure_of_this_run() {
    on_both(|io| {
        let first = serve(io, &["hello"]).start();
        let (addr, io) = (first.addr().to_string(), io.to_string());
        let hello = guest("hello").into_os_string();
        let args = ["serve", "--addr", &addr, "--io", &io, "--workers", "1"].map(OsString::from);
        let finished = interflow(args.into_iter().chain([hello]));
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
        for expected in ["error: ", &addr, "in use"] {
            assert!(finished.stderr.contains(expected), "no `{expected}` in {}", finished.stderr);
        }
        assert!(!finished.stderr.contains("serving"), "{}", finished.stderr);
        // All that come go to the first one.
        for _ in 0..20 {
            first.get("/").expect(200, "hello world");
        }
    });
}

#[test]
fn an_address_that_is_not_ours_is_a_failure_of_this_run() {
    // RFC 5737: for documentation, so nobody has it.
    let hello = guest("hello").into_os_string();
    let finished = interflow(["serve", "--addr", "192.0.2.1:80"].map(OsString::from).into_iter().chain([hello]));
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("error: ") && finished.stderr.contains("192.0.2.1:80"), "{}", finished.stderr);
}

/// A cache that holds one chain.
fn filled_cache(name: &str) -> (PathBuf, PathBuf) {
    let cache = scratch("caches").join(format!("{name}-{}", std::process::id()));
    // It is not there unless a run was broken off.
    let _removed = std::fs::remove_dir_all(&cache);
    serve(Io::Epoll, &["hello"]).cache(&cache).start().stop();
    let entries: Vec<PathBuf> = std::fs::read_dir(&cache)
        .expect("it was made")
        .map(|entry| entry.expect("a readable directory").path())
        .collect();
    let [entry] = &entries[..] else { panic!("one entry is expected: {entries:?}") };
    (cache.clone(), entry.clone())
}

#[test]
fn a_chain_is_compiled_once() {
    let (cache, _) = filled_cache("once");
    let server = serve(Io::Epoll, &["hello"]).cache(&cache).start();
    let lines = server.stderr.all();
    assert!(lines.iter().any(|line| line.contains("from cache")), "{lines:#?}");
    server.get("/").expect(200, "hello world");
    server.stop();
    std::fs::remove_dir_all(cache).expect("it is there");
}

#[test]
fn a_damaged_cache_entry_is_a_miss() {
    let (cache, entry) = filled_cache("damaged");
    let good = std::fs::read(&entry).expect("it is there");
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let longer = [good.as_slice(), b"and more"].concat();
    let damaged: [(&str, &[u8]); 6] = [
        ("empty", b""),
        ("short", &good[..40]),
        ("half", &good[..good.len() / 2]),
        ("flipped", &flipped),
        ("longer", &longer),
        ("noise", &[0xa5; 100_000]),
    ];
    for (what, bytes) in damaged {
        std::fs::write(&entry, bytes).expect("it is ours");
        let server = serve(Io::Epoll, &["hello"]).cache(&cache).start();
        server.get("/").expect(200, "hello world");
        let lines = server.stderr.all();
        assert!(lines.iter().any(|line| line.contains("compiled 1 component")), "{what}: {lines:#?}");
        server.stop();
        assert_eq!(std::fs::read(&entry).expect("it is there").len(), good.len(), "{what}: it is replaced");
    }
    std::fs::remove_dir_all(cache).expect("it is there");
}

#[test]
fn a_cache_that_cannot_be_used_is_a_warning() {
    let everybodys = scratch("caches").join("everybodys");
    std::fs::create_dir_all(&everybodys).expect("the target directory can be written");
    std::fs::set_permissions(&everybodys, std::fs::Permissions::from_mode(0o777)).expect("it is ours");
    let a_file = file("a-file", "no directory");
    for (cache, expected) in
        [(PathBuf::from("/proc/no-cache-here"), "/proc/no-cache-here"), (everybodys, "chmod 700"), (a_file, "a-file")]
    {
        let server = serve(Io::Epoll, &["hello"]).cache(&cache).start();
        let lines = server.stderr.all();
        let warned =
            lines.iter().any(|line| line.contains("WARN") && line.contains("not kept") && line.contains(expected));
        assert!(warned, "{cache:?}: {lines:#?}");
        server.get("/").expect(200, "hello world");
        server.stop();
    }
}

#[test]
fn the_cache_can_be_switched_off() {
    let server = serve(Io::Epoll, &["hello"]).cache("off").start();
    server.get("/").expect(200, "hello world");
    let lines = server.stderr.all();
    assert!(lines.iter().any(|line| line.contains("compiled 1 component")), "{lines:#?}");
    assert!(!PathBuf::from("off").exists());
    server.stop();
}
