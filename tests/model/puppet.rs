//! A program of the model as a component.
//! Each instance is a component of its own, each script a core function that does one operation after the other and says what
//! it saw through the import `log`. A body that is lifted with a callback is cut at the codes that it returns. Slots are in
//! memory, and the 64 bytes of memory that the model has are the last of a page, so that both end at the same place.
//! Knows nothing of what the operations do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use abi_spec::elem::{Elem, InstanceId, Ty};
use abi_spec::op::{Arg, CopyType, Kind, Leave, Mode, Op, Outcome, Record, SLOTS, Side, Slot, Target};
use abi_spec::program::{Func, Lift, Program};
use abi_spec::world::MEMORY;

/// Where the model's memory is.
const BASE: u32 = 0x1_0000 - MEMORY as u32;
const SLOTS_AT: u32 = 0x200;
/// For each body, whether its task has been told of a cancellation; and where its callback goes on; and its event.
const TOLD_AT: u32 = 0x1000;
const GOES_ON_AT: u32 = 0x3000;
const EVENT_AT: u32 = 0x5000;

/// What a body says. A start adds the number of its arguments.
pub const START: u32 = 16;
pub const RET: u32 = 1;
pub const ENDS: u32 = 2;
pub const EVENT: u32 = 3;
pub const DUMP: u32 = 4;

/// Without what puppets cannot do: log in a `post-return`.
pub fn prepared(mut program: Program) -> Program {
    for func in program.funcs.clone() {
        if let (Lift::Sync, Some(script)) = (func.lift, func.body) {
            let script = &mut program.scripts[usize::from(script)];
            if let Some(at) = script.iter().position(|op| matches!(op, Op::Return { .. })) {
                script.truncate(at + 1);
            }
        }
    }
    program
}

/// Everything as one component. `Err` says what a component cannot have.
pub fn component(program: &Program) -> Result<String, &'static str> {
    let mut text = format!("(component\n  (import \"log\" (func $log {LOG}))\n{BASE_MODULE}");
    text += &lab_imports(program);
    let live = live(program);
    for (j, func) in program.funcs.iter().enumerate().filter(|(j, func)| func.inst == InstanceId::HOST && live[*j]) {
        let _ = writeln!(text, "  (import \"f{j}\" (func $h{j} {}))", func_type(func));
    }
    let guests: Vec<InstanceId> = (1..program.parents.len()).map(|inst| InstanceId(inst as u8)).collect();
    for &inst in guests.iter().rev() {
        text += &Instance::new(program, inst).component()?;
        let _ = write!(text, "  (instance $i{0} (instantiate $c{0} (with \"log\" (func $log))", inst.0);
        text += lab_arguments(program);
        for later in guests.iter().filter(|later| later.0 > inst.0) {
            let _ = write!(text, " (with \"r{0}\" (type $i{0} \"r{0}\"))", later.0);
        }
        for (j, func) in program.funcs.iter().enumerate().filter(|(j, func)| is_known(func, inst) && live[*j]) {
            let _ = match func.inst {
                InstanceId::HOST => write!(text, " (with \"f{j}\" (func $h{j}))"),
                InstanceId(other) => write!(text, " (with \"f{j}\" (func $i{other} \"f{j}\"))"),
            };
        }
        let _ = writeln!(text, "))\n  (export \"dump{0}\" (func $i{0} \"dump\"))", inst.0);
    }
    for (j, func) in program.funcs.iter().enumerate().filter(|(j, _)| live[*j]) {
        if func.inst != InstanceId::HOST
            && func.params.iter().flatten().map(|(ty, _)| ty).chain(&func.result).all(is_for_host)
        {
            let _ = writeln!(text, "  (export \"f{j}\" (func $i{} \"f{j}\"))", func.inst.0);
        }
    }
    Ok(text + ")\n")
}

/// Whether the instance can call the function.
fn is_known(func: &Func, inst: InstanceId) -> bool {
    func.inst.0 > inst.0 || func.inst == InstanceId::HOST
}

/// Whether the host has values of this type.
fn is_for_host(ty: &Ty) -> bool {
    match ty {
        Ty::U32 | Ty::End(_) => true,
        Ty::Own(_) | Ty::Borrow(_) => false,
    }
}

/// What an instance has before its code: its destructor is found in the table, because its type comes before it.
const BASE_MODULE: &str = r#"  (core module $base
    (memory (export "memory") 1)
    (table (export "table") 64 funcref)
    (type $dtor (func (param i32)))
    (func (export "dtor") (param i32) (call_indirect (type $dtor) (local.get 0) (i32.const 0))))
"#;

/// What `log` is called with.
pub type Line = (u32, u32, u32, u32, u32, u32, u32);

/// The parameters of `log`.
pub const LOG: &str = r#"(param "inst" u32) (param "run" u32) (param "at" u32) (param "kind" u32) (param "a" u32) (param "b" u32) (param "c" u32)"#;

fn has_extensions(program: &Program) -> bool {
    program.scripts.iter().flatten().any(|op| matches!(op, Op::Ext { .. }))
}

/// What the component of all guests imports for the extensions that both sides have.
fn lab_imports(program: &Program) -> String {
    if !has_extensions(program) {
        return String::new();
    }
    let import = |name: &str, ty: &str| {
        format!(
            "  (import \"lab:streams/{name}@0.1.0\" (instance $lab-{name} (export \"{name}\" (func {ty}))))\n\
             \x20 (alias export $lab-{name} \"{name}\" (func ${name}))\n"
        )
    };
    import("forward", FORWARD) + &import("read-ahead", READ_AHEAD)
}

/// What each guest's component is given for them.
fn lab_arguments(program: &Program) -> &'static str {
    match has_extensions(program) {
        true => " (with \"forward\" (func $forward)) (with \"read-ahead\" (func $read-ahead))",
        false => "",
    }
}

/// What each guest's component imports for them.
fn lab_inner_imports(program: &Program) -> String {
    match has_extensions(program) {
        true => format!(
            "    (import \"forward\" (func $forward {FORWARD}))\n    (import \"read-ahead\" (func $read-ahead {READ_AHEAD}))\n"
        ),
        false => String::new(),
    }
}

const FORWARD: &str = r#"(param "readable" u32) (param "writable" u32)"#;
const READ_AHEAD: &str = r#"(param "readable" u32) (param "pointer" u32) (param "length" u32) (result bool)"#;

fn live(program: &Program) -> Vec<bool> {
    let mut live = vec![false; program.funcs.len()];
    for op in program.scripts.iter().flatten() {
        if let Op::Call { func, .. } = op
            && let Some(live) = live.get_mut(usize::from(*func))
        {
            *live = true;
        }
    }
    live
}

/// One instance on its way to a component.
struct Instance<'a> {
    program: &'a Program,
    inst: InstanceId,
    /// For each function whether anybody calls it.
    live: Vec<bool>,
    /// Types, and core functions with what makes them and their type.
    types: BTreeMap<String, String>,
    builtins: BTreeMap<String, (String, &'static str)>,
    functions: String,
    /// Threads are named, so they have to have their indices: the runtime gives one to a thread that asks for it.
    threads: bool,
}

/// How a script is run.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Body(Lift),
    Destructor,
    Thread,
}

impl<'a> Instance<'a> {
    fn new(program: &'a Program, inst: InstanceId) -> Instance<'a> {
        let names_threads = |op: &Op| {
            matches!(
                op,
                Op::ThreadNew { .. } | Op::ThreadIndex { .. } | Op::ThreadResumeLater { .. } | Op::ThreadSwitch { .. }
            )
        };
        let threads = program.scripts.iter().flatten().any(names_threads);
        let live = live(program);
        Instance {
            program,
            inst,
            live,
            types: BTreeMap::new(),
            builtins: BTreeMap::new(),
            functions: String::new(),
            threads,
        }
    }

    fn component(mut self) -> Result<String, &'static str> {
        let program = self.program;
        let own = |func: &Func| func.inst == self.inst;
        let mut bodies = BTreeMap::new();
        let mut role = |script: u8, role: Role| match bodies.insert(script, role) {
            Some(other) if other != role => Err("a script that is run in two ways"),
            _ => Ok(()),
        };
        for (_, func) in program.funcs.iter().enumerate().filter(|(j, func)| own(func) && self.live[*j]) {
            role(func.body.ok_or("a function without a body")?, Role::Body(func.lift))?;
        }
        if let Some(script) = program.destructors[self.inst.index()] {
            role(script, Role::Destructor)?;
        }
        // What threads run makes no threads.
        let roots: Vec<u8> = bodies.keys().copied().collect();
        let mut threads = BTreeSet::new();
        for op in roots.iter().flat_map(|script| &program.scripts[usize::from(*script)]) {
            if let Op::ThreadNew { script, .. } = op {
                threads.insert(*script);
            }
        }
        for script in &threads {
            if bodies.insert(*script, Role::Thread).is_some_and(|role| role != Role::Thread) {
                return Err("a script that is run in two ways");
            }
        }
        for (script, role) in bodies {
            self.script(script, role)?;
        }
        self.begin();
        let exports = self.exports();
        self.task_return();
        let mut elements = String::new();
        for script in &threads {
            let _ = writeln!(
                self.functions,
                "    (func $t{script} (param $ctx i32) (local $run i32) (local.set $run (call $begin))"
            );
            let log = self.log("(local.get $run)", 0, START, ["(i32.const 0)"; 3]);
            let _ = writeln!(
                self.functions,
                "      {log} (drop (call $s{script} (local.get $run) (local.get $ctx) {ZEROS})))"
            );
            let _ = write!(elements, " (elem (table $table) (i32.const {}) func $t{script})", script + 1);
        }
        if let Some(script) = program.destructors[self.inst.index()] {
            let _ = writeln!(
                self.functions,
                "    (func $dtor (param $rep i32) (local $run i32) (local.set $run (call $begin))"
            );
            let store = store_slot(0, "(local.get $rep)");
            let log =
                self.log("(local.get $run)", 0, START + 1, ["(local.get $rep)", "(i32.const 0)", "(i32.const 0)"]);
            let _ = writeln!(
                self.functions,
                "      {store} {log} (drop (call $s{script} (local.get $run) (i32.or (i32.const 255) (i32.shl (local.get $run) (i32.const 8))) {ZEROS})))"
            );
            elements += " (elem (table $table) (i32.const 0) func $dtor)";
        }
        Ok(self.text(&exports, &elements))
    }

    fn text(&self, exports: &str, elements: &str) -> String {
        let (program, me) = (self.program, self.inst.0);
        let mut text = format!("  (component $c{me}\n    (import \"log\" (func $log {LOG}))\n");
        text += &lab_inner_imports(program);
        for rt in usize::from(me) + 1..program.parents.len() {
            let _ = writeln!(text, "    (import \"r{rt}\" (type $r{rt} (sub resource)))");
        }
        for (j, func) in program.funcs.iter().enumerate().filter(|(j, func)| is_known(func, self.inst) && self.live[*j])
        {
            let _ = writeln!(text, "    (import \"f{j}\" (func $f{j} {}))", func_type(func));
        }
        text += r#"    (core instance $base (instantiate $base))
    (alias core export $base "memory" (core memory $memory))
    (alias core export $base "table" (core table $table))
    (alias core export $base "dtor" (core func $dtor))
    (core type $start (func (param i32)))
"#;
        let dtor = program.destructors[self.inst.index()].map_or("", |_| " (dtor (core func $dtor))");
        let _ = writeln!(text, "    (type $own (resource (rep i32){dtor}))");
        let _ = writeln!(text, "    (export $r{me} \"r{me}\" (type $own))");
        for nested in [false, true] {
            for (name, ty) in self.types.iter().filter(|(_, ty)| ty.contains("$t-") == nested) {
                let _ = writeln!(text, "    (type {name} {ty})");
            }
        }
        text += "    (core func $log (canon lower (func $log)))\n";
        let mut imports = "      (import \"\" \"log\" (func $log (param i32 i32 i32 i32 i32 i32 i32)))\n".to_owned();
        let mut instance = "(export \"log\" (func $log))".to_owned();
        for (name, (canon, ty)) in &self.builtins {
            let _ = writeln!(text, "    (core func $\"{name}\" (canon {canon}))");
            let _ = writeln!(imports, "      (import \"\" \"{name}\" (func $\"{name}\" {ty}))");
            let _ = write!(instance, " (export \"{name}\" (func $\"{name}\"))");
        }
        let bytes: String =
            (0..MEMORY).map(|i| format!("\\{:02x}", me.wrapping_mul(MEMORY as u8).wrapping_add(i as u8))).collect();
        let _ = write!(
            text,
            "    (core module $m\n      (import \"base\" \"memory\" (memory 1))\n      (import \"base\" \"table\" (table $table 64 funcref))\n\
             {imports}      (global $runs (mut i32) (i32.const 0))\n      (data (i32.const {BASE}) \"{bytes}\")\n     {elements}\n{})\n\
             \x20   (core instance $i (instantiate $m (with \"base\" (instance $base)) (with \"\" (instance {instance}))))\n{exports}  )\n",
            self.functions
        );
        text
    }

    /// The functions that others call, and what the component lifts.
    fn exports(&mut self) -> String {
        let (program, me) = (self.program, self.inst);
        let mut lifts = "    (func (export \"dump\") (canon lift (core func $i \"dump\")))\n".to_owned();
        let (zero, at) = ("(i32.const 0)", BASE);
        let dump = self.log(zero, 0, DUMP, [&format!("(i32.load offset={at} (local.get $i))"), zero, zero]);
        let _ = writeln!(
            self.functions,
            "    (func (export \"dump\") (local $i i32) (loop $l {dump}\n\
             \x20     (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 4))) (i32.const {MEMORY})))))\n\
             \x20   (func $ret (param $run i32) (param $at i32) (param $value i32)\n\
             \x20     (call $log (i32.const {}) (local.get $run) (local.get $at) (i32.const {RET}) (local.get $value) {zero} {zero}))",
            me.0
        );
        let live = self.live.clone();
        for (j, func) in program.funcs.iter().enumerate().filter(|(j, func)| func.inst == me && live[*j]) {
            let Some(script) = func.body else { continue };
            let params: Vec<Slot> = func.params.iter().flatten().map(|(_, slot)| *slot).collect();
            let result = match (func.lift, func.result) {
                (Lift::Callback, _) | (Lift::Sync, Some(_)) => " (result i32)",
                (Lift::Stackful, _) | (Lift::Sync, None) => "",
            };
            let _ = write!(self.functions, "    (func (export \"f{j}\")");
            for i in 0..params.len() {
                let _ = write!(self.functions, " (param $p{i} i32)");
            }
            let _ = writeln!(self.functions, "{result} (local $run i32) (local.set $run (call $begin))");
            for (i, slot) in params.iter().enumerate() {
                self.functions += &store_slot(*slot, &format!("(local.get $p{i})"));
            }
            let value =
                |i: usize| if i < params.len() { format!("(local.get $p{i})") } else { "(i32.const 0)".to_owned() };
            let log = self.log("(local.get $run)", 0, START + params.len() as u32, [&value(0), &value(1), &value(2)]);
            let ctx = format!("(i32.or (i32.const {j}) (i32.shl (local.get $run) (i32.const 8)))");
            let call = format!("(call $s{script} (local.get $run) {ctx} {ZEROS})");
            let call = if result.is_empty() { format!("(drop {call})") } else { call };
            let _ = writeln!(self.functions, "      {log} {call})");
            let options = match func.lift {
                Lift::Sync => String::new(),
                Lift::Stackful => " async".to_owned(),
                Lift::Callback => {
                    let get = self.builtin("context.get 0", "context.get i32 0", "(result i32)");
                    let _ = writeln!(
                        self.functions,
                        "    (func (export \"cb{j}\") (param $e i32) (param $p1 i32) (param $p2 i32) (result i32) (local $run i32)\n\
                         \x20     (local.set $run (i32.shr_u (call {get}) (i32.const 16)))\n\
                         \x20     (call $s{script} (local.get $run) {ctx} (i32.load offset={GOES_ON_AT} (i32.shl (local.get $run) (i32.const 2))) (local.get $e) (local.get $p1) (local.get $p2)))"
                    );
                    format!(" async (callback (core func $i \"cb{j}\"))")
                }
            };
            let _ = writeln!(
                lifts,
                "    (func (export \"f{j}\") {} (canon lift (core func $i \"f{j}\"){options}))",
                func_type(func)
            );
        }
        lifts
    }

    /// A body has begun. Threads have their indices in the order in which they begin; `context` is empty then.
    fn begin(&mut self) {
        let get = self.builtin("context.get 0", "context.get i32 0", "(result i32)");
        let set = self.builtin("context.set 0", "context.set i32 0", "(param i32)");
        let index = if self.threads {
            let index = self.builtin("thread.index", "thread.index", "(result i32)");
            format!("(drop (call {index}))")
        } else {
            String::new()
        };
        let _ = writeln!(
            self.functions,
            "    (func $begin (result i32) (if (call {get}) (then unreachable)) {index}\n\
             \x20     (global.set $runs (i32.add (global.get $runs) (i32.const 1)))\n\
             \x20     (call {set} (i32.shl (global.get $runs) (i32.const 16))) (global.get $runs))"
        );
    }

    /// `task.return` with the type of the function whose task it is.
    fn task_return(&mut self) {
        let (program, me) = (self.program, self.inst);
        let mut text = "    (func $task-return (param $ctx i32) (param $value i32)\n".to_owned();
        let live = self.live.clone();
        for (j, func) in program.funcs.iter().enumerate().filter(|(j, func)| func.inst == me && live[*j]) {
            let call = match func.result {
                Some(ty) => {
                    let ty = value_type(ty);
                    let name = self.builtin(
                        &format!("task.return {ty}"),
                        &format!("task.return (result {ty})"),
                        "(param i32)",
                    );
                    format!("(call {name} (local.get $value))")
                }
                None => format!("(call {})", self.builtin("task.return", "task.return", "")),
            };
            let _ = writeln!(
                text,
                "      (if (i32.eq (i32.and (local.get $ctx) (i32.const 255)) (i32.const {j})) (then {call} return))"
            );
        }
        let call = self.builtin("task.return", "task.return", "");
        let _ = writeln!(text, "      (call {call}))");
        self.functions += &text;
    }

    fn builtin(&mut self, name: &str, canon: &str, ty: &'static str) -> String {
        let name: String =
            name.chars().filter(|c| !"()$".contains(*c)).map(|c| if c == ' ' { '_' } else { c }).collect();
        self.builtins.insert(name.clone(), (canon.to_owned(), ty));
        format!("$\"{name}\"")
    }

    fn resource(&self, rt: InstanceId) -> Result<String, &'static str> {
        match rt.0.cmp(&self.inst.0) {
            std::cmp::Ordering::Less => Err("a resource of somebody who is not imported"),
            std::cmp::Ordering::Equal => Ok("$own".to_owned()),
            std::cmp::Ordering::Greater => Ok(format!("$r{}", rt.0)),
        }
    }

    fn copy_type(&mut self, t: CopyType) -> Result<String, &'static str> {
        let kind = kind(t.kind);
        let elem = match t.elem {
            Elem::Unit => String::new(),
            Elem::Own(rt) => format!(" (own {})", self.resource(rt)?),
            Elem::Stream => " $t-stream-u8".to_owned(),
            Elem::Future => " $t-future-u8".to_owned(),
            number => format!(" {number}"),
        };
        for kind in ["stream", "future"] {
            self.types.insert(format!("$t-{kind}-u8"), format!("({kind} u8)"));
        }
        let name = format!("$t-{kind}-{}", t.elem);
        self.types.insert(name.clone(), format!("({kind}{elem})"));
        Ok(name)
    }

    fn log(&self, run: &str, at: u32, kind: u32, [a, b, c]: [&str; 3]) -> String {
        format!("(call $log (i32.const {}) {run} (i32.const {at}) (i32.const {kind}) {a} {b} {c})", self.inst.0)
    }

    /// A script as a function of its body's number, its context, where to begin, and the event.
    fn script(&mut self, script: u8, role: Role) -> Result<(), &'static str> {
        let ops = self.program.scripts.get(usize::from(script)).ok_or("a script that is not there")?.clone();
        let callback = role == Role::Body(Lift::Callback);
        let pauses = |op: &Op| callback && matches!(op, Op::YieldCode | Op::WaitCode { .. } | Op::BadCode);
        let segments = ops.iter().filter(|op| pauses(op)).count();
        let mut text = format!(
            "    (func $s{script} (param $run i32) (param $ctx i32) (param $pc i32) (param $e i32) (param $p1 i32) (param $p2 i32) (result i32) (local $x i32) (local $y i64)\n"
        );
        if segments > 0 {
            let open: String = (0..=segments).rev().map(|n| format!("(block $b{n} ")).collect();
            let labels: String = (0..=segments).map(|n| format!(" $b{n}")).collect();
            let _ = writeln!(text, "      {open}(br_table{labels} (local.get $pc)))");
        }
        let mut segment = 0;
        for (at, op) in ops.iter().enumerate() {
            text += "      ";
            if pauses(op) {
                segment += 1;
                let code = match *op {
                    Op::YieldCode => "(i32.const 1)".to_owned(),
                    Op::WaitCode { set } => {
                        format!("(i32.or (i32.const 2) (i32.shl {} (i32.const 4)))", load_slot(set))
                    }
                    _ => "(i32.const 7)".to_owned(),
                };
                let _ = write!(
                    text,
                    "(i32.store offset={GOES_ON_AT} (i32.shl (local.get $run) (i32.const 2)) (i32.const {segment})) (return {code})) "
                );
                text += &self.log(
                    "(local.get $run)",
                    at as u32,
                    EVENT,
                    ["(local.get $e)", "(local.get $p1)", "(local.get $p2)"],
                );
                text += &told("(i32.eq (local.get $e) (i32.const 6))");
            } else {
                text += &self.op(at as u32, *op, role)?;
            }
            text += "\n";
        }
        text += "      (i32.const 0))\n";
        self.functions += &text;
        Ok(())
    }

    /// An operation, and what it logs.
    fn op(&mut self, at: u32, op: Op, role: Role) -> Result<String, &'static str> {
        let cancel = |cancellable: bool| if cancellable { " cancellable" } else { "" };
        let mode_of = |mode: Mode| if mode == Mode::Async { " async" } else { "" };
        let ret = |_: &Self, value: &str| format!("(call $ret (local.get $run) (i32.const {at}) {value})");
        let done = |this: &Self, call: String| format!("{call} {}", ret(this, "(i32.const 0)"));
        let got = |this: &Self, call: String| format!("(local.set $x {call}) {}", ret(this, "(local.get $x)"));
        const ONE: &str = "(param i32) (result i32)";
        Ok(match op {
            Op::New { t, r, w } => {
                let ty = self.copy_type(t)?;
                let name = format!("{}.new {ty}", kind(t.kind));
                let new = self.builtin(&name, &name, "(result i64)");
                let (ri, wi) =
                    ("(i32.wrap_i64 (local.get $y))", "(i32.wrap_i64 (i64.shr_u (local.get $y) (i64.const 32)))");
                let log = self.log("(local.get $run)", at, ENDS, [ri, wi, "(i32.const 0)"]);
                format!("(local.set $y (call {new})) {} {} {log}", store_slot(r, ri), store_slot(w, wi))
            }
            Op::Copy { t, side, mode, end, ptr, n } => {
                let (ty, name) = (self.copy_type(t)?, if side == Side::Read { "read" } else { "write" });
                let canon = format!("{}.{name} {ty}{} (memory $memory)", kind(t.kind), mode_of(mode));
                let key = format!("{}.{name} {ty}{}", kind(t.kind), mode_of(mode));
                let types = if t.kind == Kind::Future {
                    "(param i32 i32) (result i32)"
                } else {
                    "(param i32 i32 i32) (result i32)"
                };
                let copy = self.builtin(&key, &canon, types);
                let n = if t.kind == Kind::Future { String::new() } else { format!("(i32.const {n})") };
                got(self, format!("(call {copy} {} (i32.const {}) {n})", load_slot(end), BASE + ptr))
            }
            Op::CancelCopy { t, side, mode, end } => {
                let (ty, side) = (self.copy_type(t)?, if side == Side::Read { "read" } else { "write" });
                let name = format!("{}.cancel-{side} {ty}{}", kind(t.kind), mode_of(mode));
                let cancel = self.builtin(&name, &name, ONE);
                got(self, format!("(call {cancel} {})", load_slot(end)))
            }
            Op::DropEnd { t, side, end } => {
                let (ty, side) = (self.copy_type(t)?, if side == Side::Read { "readable" } else { "writable" });
                let name = format!("{}.drop-{side} {ty}", kind(t.kind));
                let drop = self.builtin(&name, &name, "(param i32)");
                done(self, format!("(call {drop} {})", load_slot(end)))
            }
            Op::SetNew { set } => {
                let new = self.builtin("waitable-set.new", "waitable-set.new", "(result i32)");
                format!("{} {}", got(self, format!("(call {new})")), store_slot(set, "(local.get $x)"))
            }
            Op::SetWait { set, cancellable } => self.wait("wait", at, set, cancellable),
            Op::SetPoll { set, cancellable } => self.wait("poll", at, set, cancellable),
            Op::SetDrop { set } => {
                let drop = self.builtin("waitable-set.drop", "waitable-set.drop", "(param i32)");
                done(self, format!("(call {drop} {})", load_slot(set)))
            }
            Op::Join { waitable, set } => {
                let join = self.builtin("waitable.join", "waitable.join", "(param i32 i32)");
                done(self, format!("(call {join} {} {})", load_slot(waitable), arg(set)))
            }
            Op::Call { func, mode, args, sub, ret: to } => self.call(at, func, mode, args, sub, to)?,
            Op::SubtaskCancel { mode, sub } => {
                let name = format!("subtask.cancel{}", mode_of(mode));
                let cancel = self.builtin(&name, &name, ONE);
                got(self, format!("(call {cancel} {})", load_slot(sub)))
            }
            Op::SubtaskDrop { sub } => {
                let drop = self.builtin("subtask.drop", "subtask.drop", "(param i32)");
                done(self, format!("(call {drop} {})", load_slot(sub)))
            }
            Op::TaskReturn { value } => done(self, format!("(call $task-return (local.get $ctx) {})", arg(value))),
            Op::TaskCancel => {
                let cancel = self.builtin("task.cancel", "task.cancel", "");
                done(self, format!("(call {cancel})"))
            }
            Op::Resolve { value } => {
                let cancel = self.builtin("task.cancel", "task.cancel", "");
                let told = format!("(i32.load offset={TOLD_AT} {TASK})");
                let call = format!("(call $task-return (local.get $ctx) {})", arg(value));
                done(self, format!("(if {told} (then (call {cancel})) (else {call}))"))
            }
            Op::BackpressureInc => {
                let inc = self.builtin("backpressure.inc", "backpressure.inc", "");
                done(self, format!("(call {inc})"))
            }
            Op::BackpressureDec => {
                let dec = self.builtin("backpressure.dec", "backpressure.dec", "");
                done(self, format!("(call {dec})"))
            }
            Op::ContextGet { i } => {
                let name = format!("context.get {}", i & 1);
                let get = self.builtin(&name, &format!("context.get i32 {}", i & 1), "(result i32)");
                let call = if i & 1 == 0 {
                    format!("(i32.and (call {get}) (i32.const 65535))")
                } else {
                    format!("(call {get})")
                };
                got(self, call)
            }
            Op::ContextSet { i, value } => {
                let name = format!("context.set {}", i & 1);
                let set = self.builtin(&name, &format!("context.set i32 {}", i & 1), "(param i32)");
                let value = match i & 1 {
                    0 => format!(
                        "(i32.or (i32.shl (local.get $run) (i32.const 16)) (i32.and {} (i32.const 65535)))",
                        arg(value)
                    ),
                    _ => arg(value),
                };
                done(self, format!("(call {set} {value})"))
            }
            Op::ResourceNew { rep, handle } => {
                let new = self.builtin("resource.new", "resource.new $own", ONE);
                let call = format!("(call {new} (i32.const {rep}))");
                format!("{} {}", got(self, call), store_slot(handle, "(local.get $x)"))
            }
            Op::ResourceRep { handle } => {
                let rep = self.builtin("resource.rep", "resource.rep $own", ONE);
                got(self, format!("(call {rep} {})", load_slot(handle)))
            }
            Op::ResourceDrop { rt, handle } => {
                let name = format!("resource.drop {}", self.resource(rt)?);
                let drop = self.builtin(&name, &name, "(param i32)");
                done(self, format!("(call {drop} {})", load_slot(handle)))
            }
            Op::ThreadNew { script, thread } => {
                let canon = "thread.new-indirect $start (core table $table)";
                let new = self.builtin("thread.new", canon, "(param i32 i32) (result i32)");
                let call = format!("(call {new} (i32.const {}) (local.get $ctx))", script + 1);
                format!("{} {}", got(self, call), store_slot(thread, "(local.get $x)"))
            }
            Op::ThreadIndex { thread } => {
                let index = self.builtin("thread.index", "thread.index", "(result i32)");
                format!("{} {}", got(self, format!("(call {index})")), store_slot(thread, "(local.get $x)"))
            }
            Op::ThreadResumeLater { thread } => {
                let resume = self.builtin("thread.resume-later", "thread.resume-later", "(param i32)");
                done(self, format!("(call {resume} {})", load_slot(thread)))
            }
            Op::ThreadSuspend { cancellable } => {
                let name = format!("thread.suspend{}", cancel(cancellable));
                let suspend = self.builtin(&name, &name, "(result i32)");
                got(self, format!("(call {suspend})")) + &told("(local.get $x)")
            }
            Op::ThreadYield { cancellable } => {
                let name = format!("thread.yield{}", cancel(cancellable));
                let give_way = self.builtin(&name, &name, "(result i32)");
                got(self, format!("(call {give_way})")) + &told("(local.get $x)")
            }
            Op::ThreadSwitch { leave, target, cancellable, thread } => {
                let leave = if leave == Leave::Suspend { "suspend" } else { "yield" };
                let target = if target == Target::Resume { "resume" } else { "promote" };
                let name = format!("thread.{leave}-then-{target}{}", cancel(cancellable));
                let switch = self.builtin(&name, &name, ONE);
                got(self, format!("(call {switch} {})", load_slot(thread))) + &told("(local.get $x)")
            }
            Op::Return { value } => match role {
                Role::Body(Lift::Sync) => format!("(return {})", arg(value)),
                Role::Destructor => "(return (i32.const 0))".to_owned(),
                Role::Body(_) | Role::Thread => String::new(),
            },
            Op::Exit => "(return (i32.const 0))".to_owned(),
            // In bodies without a callback.
            Op::YieldCode | Op::WaitCode { .. } | Op::BadCode => String::new(),
            Op::Store { ptr, .. } if ptr as usize + 4 > MEMORY => String::new(),
            Op::Store { ptr, value } => format!("(i32.store (i32.const {}) {})", BASE + ptr, arg(value)),
            Op::Load { ptr } if ptr as usize + 4 > MEMORY => ret(self, "(i32.const 0)"),
            Op::Load { ptr } => ret(self, &format!("(i32.load (i32.const {}))", BASE + ptr)),
            Op::Ext { ext: 0, args: [readable, writable, _] } => {
                let forward = self.builtin("forward", "lower (func $forward)", "(param i32 i32)");
                done(self, format!("(call {forward} {} {})", arg(readable), arg(writable)))
            }
            Op::Ext { ext: 1, args: [readable, ptr, n] } => {
                let canon = "lower (func $read-ahead)";
                let read_ahead = self.builtin("read-ahead", canon, "(param i32 i32 i32) (result i32)");
                let ptr = format!("(i32.add (i32.const {BASE}) {})", arg(ptr));
                got(self, format!("(call {read_ahead} {} {ptr} {})", arg(readable), arg(n)))
            }
            Op::GateWait { .. } | Op::GateOpen { .. } | Op::Ext { .. } => return Err("what only the model has"),
        })
    }

    fn wait(&mut self, name: &str, at: u32, set: Slot, cancellable: bool) -> String {
        let cancellable = if cancellable { " cancellable" } else { "" };
        let canon = format!("waitable-set.{name}{cancellable} (memory $memory)");
        let wait = self.builtin(&format!("waitable-set.{name}{cancellable}"), &canon, "(param i32 i32) (result i32)");
        let place = "(i32.shl (local.get $run) (i32.const 3))";
        let (p1, p2) =
            (format!("(i32.load offset={EVENT_AT} {place})"), format!("(i32.load offset={} {place})", EVENT_AT + 4));
        let log = self.log("(local.get $run)", at, EVENT, ["(local.get $x)", &p1, &p2]);
        let into = format!("(i32.add (i32.const {EVENT_AT}) {place})");
        format!(
            "(local.set $x (call {wait} {} {into})) {log} {}",
            load_slot(set),
            told("(i32.eq (local.get $x) (i32.const 6))")
        )
    }

    fn call(
        &mut self,
        at: u32,
        func: u8,
        mode: Mode,
        args: [Arg; 3],
        sub: Slot,
        to: Slot,
    ) -> Result<String, &'static str> {
        let callee = self.program.funcs.get(usize::from(func)).ok_or("a function that is not there")?;
        if !is_known(callee, self.inst) {
            return Err("a call of somebody who is not imported");
        }
        let params = callee.params.iter().flatten().count();
        let mut values: String = args[..params].iter().map(|value| arg(*value) + " ").collect();
        let types = ["", "(param i32)", "(param i32 i32)", "(param i32 i32 i32)", "(param i32 i32 i32 i32)"];
        let mut flat = params;
        let (options, result) = match (mode, callee.result) {
            (Mode::Async, Some(_)) => {
                let _ = write!(values, "(i32.const {})", SLOTS_AT + 4 * u32::from(to));
                flat += 1;
                (" async (memory $memory)", true)
            }
            (Mode::Async, None) => (" async (memory $memory)", true),
            (Mode::Sync, result) => ("", result.is_some()),
        };
        let results = [
            "(result i32)",
            "(param i32) (result i32)",
            "(param i32 i32) (result i32)",
            "(param i32 i32 i32) (result i32)",
            "(param i32 i32 i32 i32) (result i32)",
        ];
        let ty = if result { results[flat] } else { types[flat] };
        let name = format!("f{func}{}", if mode == Mode::Async { " async" } else { "" });
        let call = self.builtin(&name, &format!("lower (func $f{func}){options}"), ty);
        let call = format!("(call {call} {values})");
        let log = format!("(call $ret (local.get $run) (i32.const {at}) (local.get $x))");
        Ok(match (mode, result) {
            (Mode::Async, _) => {
                let index = "(i32.shr_u (local.get $x) (i32.const 4))";
                format!("(local.set $x {call}) {log} (if {index} (then {}))", store_slot(sub, index))
            }
            (Mode::Sync, true) => format!("(local.set $x {call}) {log} {}", store_slot(to, "(local.get $x)")),
            (Mode::Sync, false) => format!("{call} (local.set $x (i32.const 0)) {log}"),
        })
    }
}

const ZEROS: &str = "(i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)";

/// Four times the number of the body that the task began with.
const TASK: &str = "(i32.shl (i32.shr_u (local.get $ctx) (i32.const 8)) (i32.const 2))";

fn told(condition: &str) -> String {
    format!("(if {condition} (then (i32.store offset={TOLD_AT} {TASK} (i32.const 1))))")
}

fn store_slot(slot: Slot, value: &str) -> String {
    match usize::from(slot) < SLOTS {
        true => format!("(i32.store (i32.const {}) {value})", SLOTS_AT + 4 * u32::from(slot)),
        false => String::new(),
    }
}

fn load_slot(slot: Slot) -> String {
    match usize::from(slot) < SLOTS {
        true => format!("(i32.load (i32.const {}))", SLOTS_AT + 4 * u32::from(slot)),
        false => "(i32.const 0)".to_owned(),
    }
}

fn arg(arg: Arg) -> String {
    match arg {
        Arg::Imm(value) => format!("(i32.const {})", value as i32),
        Arg::Slot(slot) => load_slot(slot),
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Stream => "stream",
        Kind::Future => "future",
    }
}

fn value_type(ty: Ty) -> String {
    match ty {
        Ty::U32 => "u32".to_owned(),
        Ty::Own(rt) => format!("(own $r{})", rt.0),
        Ty::Borrow(rt) => format!("(borrow $r{})", rt.0),
        Ty::End(t) => format!("({} {})", kind(t.kind), t.elem),
    }
}

/// The type of a function.
pub fn func_type(func: &Func) -> String {
    let mut text = if func.is_async { "async".to_owned() } else { String::new() };
    for (i, (ty, _)) in func.params.iter().flatten().enumerate() {
        let _ = write!(text, " (param \"p{i}\" {})", value_type(*ty));
    }
    if let Some(ty) = func.result {
        let _ = write!(text, " (result {})", value_type(ty));
    }
    text
}

/// With the syntax of the release that the engine reads: later ones have no `cancellable`.
pub fn encode(text: &str) -> Result<Vec<u8>, wast::Error> {
    let buffer = wast::parser::ParseBuffer::new(text)?;
    wast::parser::parse::<wast::Wat<'_>>(&buffer)?.encode()
}

/// What a line of the log says.
pub fn record((inst, run, at, kind, a, b, c): Line) -> Record {
    let outcome = match kind {
        RET => Outcome::Ret(a),
        ENDS => Outcome::Ends(a, b),
        EVENT => Outcome::Event(a, b, c),
        start => Outcome::Start([a, b, c][..(start - START) as usize].to_vec()),
    };
    Record { inst: InstanceId(inst as u8), run, at, outcome }
}
