//! A program that shows what the model forbids, as a script that runs without us.
//! Its `log` compares each line with what was expected: what was seen so far, and then something that the model allows. Afterwards
//! anything goes. A driver calls what the host called, and gives way in between.
//! A host that does more than call cannot be written like this: then the file is the program's own text.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use abi_spec::elem::InstanceId;
use abi_spec::op::{Op, Outcome, Record};
use abi_spec::program::Program;

use super::puppet::Line;
use super::{Difference, puppet};

/// How often the driver gives way after a call.
const TURNS: u32 = 64;

/// Writes it, and tells where and how it is run again.
pub fn write(program: &Program, name: &str, seed: u64, difference: &Difference) -> String {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = |extension: &str| directory.join(format!("{}-{seed}.{extension}", name.replace([' ', ','], "-")));
    let only_calls = |script: &u8| program.scripts[usize::from(*script)].iter().all(|op| matches!(op, Op::Call { .. }));
    let hosted = program.host.len() > 1 || !program.host.iter().all(only_calls);
    let (path, text, command): (PathBuf, _, _) = match script(program, difference).filter(|_| !hosted) {
        Some(text) => (file("wast"), text, "interflow wast FILE"),
        None => (file("txt"), program.to_string(), "PROGRAM=FILE cargo test -p tests --test model once -- --nocapture"),
    };
    match std::fs::write(&path, text) {
        Ok(()) => format!("written to {}; run it with `{command}`", path.display()),
        Err(error) => format!("cannot be written to {}: {error}", path.display()),
    }
}

fn script(program: &Program, difference: &Difference) -> Option<String> {
    let component = puppet::component(program).ok()?;
    let comment: String = program.to_string().lines().map(|line| format!(";; {line}\n")).collect();
    let guests = |record: &&Record| record.inst != InstanceId::HOST;
    let next = difference.allowed.iter().find_map(line);
    let lines: Vec<Line> = difference.seen.iter().filter(guests).filter_map(line).chain(next).collect();
    let expected: String =
        lines.iter().flat_map(|line| words(*line)).flat_map(u32::to_le_bytes).fold(String::new(), |mut text, byte| {
            let _ = write!(text, "\\{byte:02x}");
            text
        });
    let log = puppet::LOG;
    let params: String = (0..7).map(|_| " i32").collect();
    let equal: String = (0..7)
        .map(|i| {
            format!(
                "      (if (i32.ne (local.get {i}) (i32.load offset={} (global.get $at))) (then unreachable))\n",
                4 * i
            )
        })
        .collect();
    let calls: Vec<u8> =
        program.host.iter().flat_map(|script| &program.scripts[usize::from(*script)]).filter_map(called).collect();
    let once: Vec<u8> =
        calls.iter().enumerate().filter(|(i, func)| !calls[..*i].contains(func)).map(|(_, func)| *func).collect();
    let each = |text: &dyn Fn(u8) -> String| once.iter().map(|func| text(*func)).collect::<String>();
    let pause = format!(
        "(local.set $i (i32.const 0)) (loop $again (drop (call $yield)) \
         (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {TURNS}))))"
    );
    let body: String = calls.iter().map(|func| format!("      (drop (call $f{func})) {pause}\n")).collect();
    Some(format!(
        ";;! component_model_async = true
;;! component_model_more_async_builtins = true
;;! component_model_async_stackful = true
;;! component_model_threading = true
{comment}
(component
  (component $checker
    (core module $m
      (memory 16)
      (data (i32.const 0) \"{expected}\")
      (global $at (mut i32) (i32.const 0))
      (func (export \"log\") (param{params})
      (if (i32.ge_u (global.get $at) (i32.const {end})) (then return))
{equal}      (global.set $at (i32.add (global.get $at) (i32.const 28))))
      (func (export \"end\") (if (i32.lt_u (global.get $at) (i32.const {end})) (then unreachable))))
    (core instance $i (instantiate $m))
    (func (export \"log\") {log} (canon lift (core func $i \"log\")))
    (func (export \"end\") (canon lift (core func $i \"end\"))))
  (instance $checker (instantiate $checker))
{component}
  (instance $program (instantiate $program (with \"log\" (func $checker \"log\"))))
  (component $driver
    (import \"end\" (func $end))
{imports}    (core func $end (canon lower (func $end)))
    (core func $yield (canon thread.yield))
    (core func $return (canon task.return))
    (core module $memory (memory (export \"memory\") 1))
    (core instance $memory (instantiate $memory))
{lowers}    (core module $m
      (import \"\" \"end\" (func $end))
      (import \"\" \"yield\" (func $yield (result i32)))
      (import \"\" \"return\" (func $return))
{core_imports}      (func (export \"run\") (local $i i32)
{body}      (call $end) (call $return)))
    (core instance $i (instantiate $m (with \"\" (instance (export \"end\" (func $end)) (export \"yield\" (func $yield))
      (export \"return\" (func $return)){core_exports}))))
    (func (export \"run\") async (canon lift (core func $i \"run\") async)))
  (instance $driver (instantiate $driver (with \"end\" (func $checker \"end\")){withs}))
  (export \"run\" (func $driver \"run\")))
{assertion}
",
        assertion = match &difference.trap {
            Some(trap) => format!("(assert_trap (invoke \"run\") \"{trap}\")"),
            None => "(assert_return (invoke \"run\"))".to_owned(),
        },
        end = 28 * lines.len(),
        component = component.replacen("(component", "(component $program", 1),
        imports = each(&|f| format!(
            "    (import \"f{f}\" (func $f{f} {}))\n",
            puppet::func_type(&program.funcs[usize::from(f)])
        )),
        lowers = each(&|f| format!(
            "    (core func $f{f} (canon lower (func $f{f}) async (memory (core memory $memory \"memory\"))))\n"
        )),
        core_imports = each(&|f| format!("      (import \"\" \"f{f}\" (func $f{f} (result i32)))\n")),
        core_exports = each(&|f| format!(" (export \"f{f}\" (func $f{f}))")),
        withs = each(&|f| format!(" (with \"f{f}\" (func $program \"f{f}\"))")),
    ))
}

fn called(op: &Op) -> Option<u8> {
    match op {
        Op::Call { func, .. } => Some(*func),
        _ => None,
    }
}

fn words((inst, run, at, kind, a, b, c): Line) -> [u32; 7] {
    [inst, run, at, kind, a, b, c]
}

/// A record as a guest logs it; traps are not logged.
fn line(record: &Record) -> Option<Line> {
    let (kind, [a, b, c]) = match &record.outcome {
        Outcome::Ret(value) => (puppet::RET, [*value, 0, 0]),
        Outcome::Ends(r, w) => (puppet::ENDS, [*r, *w, 0]),
        Outcome::Event(code, index, payload) => (puppet::EVENT, [*code, *index, *payload]),
        Outcome::Start(args) => {
            let arg = |i: usize| args.get(i).copied().unwrap_or(0);
            (puppet::START + args.len() as u32, [arg(0), arg(1), arg(2)])
        }
        Outcome::Trap(_) | Outcome::SomeTrap => return None,
    };
    Some((record.inst.0.into(), record.run, record.at, kind, a, b, c))
}
