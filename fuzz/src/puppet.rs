//! A component that does what it is told: it interprets lists of operations, each of them one built-in of the Canonical ABI.
//!
//! There are two instances of nearly the same text. `leaf` implements a resource and a set of functions, one for each way to
//! lift; `top` has the same functions and can call the leaf's, in each way to lower. Both can call the host. What an operation
//! works on is a slot: handles are stored by what they are, and an operation whose slot is empty, or whose handle is busy, does
//! nothing, unless it is forced. So programs that nobody thought about get far. Knows nothing of who writes the programs.

use std::fmt::Write;

/// Scripts of one instance.
pub const SCRIPTS: usize = 4;
/// Operations of one script.
pub const OPS_MAX: usize = 64;
/// Bytes of one operation: which, and three operands.
pub const OP_BYTES: usize = 4;
/// Ends a script.
pub const END: u8 = 255;

/// Functions that both instances export and take a script: name, type, how they are lifted.
const FUNCTIONS: [(&str, &str, Lift); 7] = [
    ("plain", "(param \"script\" u32) (result u32)", Lift::Sync),
    ("sync", "async (param \"script\" u32) (result u32)", Lift::Sync),
    ("callback", "async (param \"script\" u32) (result u32)", Lift::Callback(0)),
    ("stackful", "async (param \"script\" u32) (result u32)", Lift::Stackful),
    (
        "give",
        "async (param \"script\" u32) (param \"s\" (stream u8)) (param \"f\" (future u32)) (result (stream u8))",
        Lift::Callback(1),
    ),
    (
        "lend",
        "async (param \"script\" u32) (param \"b\" (borrow $r)) (param \"o\" (own $r)) (result (own $r))",
        Lift::Callback(2),
    ),
    ("text", "async (param \"script\" u32) (param \"s\" string) (result string)", Lift::Callback(3)),
];

/// The names of the functions that take a script and give a number.
pub const NUMBERS: [&str; 4] = ["plain", "sync", "callback", "stackful"];

#[derive(Clone, Copy, PartialEq)]
enum Lift {
    Sync,
    /// With this kind of result.
    Callback(u32),
    Stackful,
}

/// What streams and futures carry: a name, and the type.
const ELEMENTS: [(&str, &str); 7] = [
    ("unit", ""),
    ("u8", "u8"),
    ("u32", "u32"),
    ("string", "string"),
    ("own", "(own $r)"),
    ("stream", "$stream-u8"),
    ("error", "error-context"),
];

const SLOTS_AT: u32 = 0x100;
/// From a slot to its state: 0 idle, 1 busy, 2 done; 16 more if it is in a set.
const STATE: u32 = 0x400;
const PCS_AT: u32 = 0x900;
const EVENT_AT: u32 = 0x980;
const RESULT_AT: u32 = 0x990;
const SCRIPTS_AT: u32 = 0x1000;
const BUFFERS_AT: u32 = 0x2000;

/// The component, and the names of the operations of each instance: leaf, top.
pub fn component() -> (String, [Vec<String>; 2]) {
    let host = r#"
  (import "h" (type $h (sub resource)))
  (import "wait" (func $wait async (param "x" u32) (result u32)))
  (import "echo" (func $echo (param "x" u32) (result u32)))
  (import "source" (func $source (param "n" u32) (result (stream u8))))
  (import "sink" (func $sink (param "s" (stream u8))))
  (import "value" (func $value (result (future u32))))
  (import "take" (func $take (param "f" (future u32))))
  (import "make" (func $make (result (own $h))))
  (import "keep" (func $keep async (param "h" (borrow $h)) (result u32)))
"#;
    let (leaf, leaf_ops) = puppet(false, host);
    let (top, top_ops) = puppet(true, host);
    let with = r#"(with "h" (type $h)) (with "wait" (func $wait)) (with "echo" (func $echo)) (with "source" (func $source))
    (with "sink" (func $sink)) (with "value" (func $value)) (with "take" (func $take)) (with "make" (func $make)) (with "keep" (func $keep))"#;
    let text = format!(
        "(component {host}\n{leaf}\n{top}\n  (instance $leaf (instantiate $leaf {with}))\n  \
         (instance $top (instantiate $top {with} (with \"peer\" (instance $leaf))))\n  \
         (export \"leaf\" (instance $leaf))\n  (export \"top\" (instance $top)))"
    );
    (text, [leaf_ops, top_ops])
}

/// The text of one instance while it grows.
#[derive(Default)]
struct Puppet {
    /// `(core func ..)` of the component.
    builtins: String,
    /// Imports of the core module.
    imports: String,
    /// What satisfies them.
    exports: String,
    /// Core functions of the operations.
    functions: String,
    ops: Vec<String>,
    classes: Vec<String>,
}

impl Puppet {
    fn builtin(&mut self, name: &str, canon: &str, ty: &str) {
        writeln!(self.builtins, "    (core func ${name} (canon {canon}))").unwrap();
        writeln!(self.imports, "      (import \"\" \"{name}\" (func ${name} {ty}))").unwrap();
        writeln!(self.exports, "      (export \"{name}\" (func ${name}))").unwrap();
    }

    /// Where the slots of a class of handles begin.
    fn class(&mut self, name: &str) -> u32 {
        let at = self.classes.iter().position(|known| known == name).unwrap_or_else(|| {
            self.classes.push(name.to_string());
            self.classes.len() - 1
        });
        assert!(at < 64, "there is room for 64 classes");
        SLOTS_AT + 16 * at as u32
    }

    /// An operation. It gives -1 to go on, else the code with which the script pauses.
    fn op(&mut self, name: &str, body: &str) {
        let n = self.ops.len();
        writeln!(
            self.functions,
            "      (func $op{n} (type $op) (param $a i32) (param $b i32) (param $c i32) (result i32) (local $p i32) (local $h i32) (local $q i32) (local $r i32) (local $w i64)\n        \
             {body}\n        (i32.const -1))"
        )
        .unwrap();
        self.ops.push(name.to_string());
    }

    /// As `op`, for one that works on the handle in a slot: `$p` is where it is, `$h` the handle. `mask` and `state` say which
    /// state it must be in.
    fn on(&mut self, name: &str, class: u32, (mask, state): (u32, u32), body: &str) {
        let body = format!(
            "(local.set $p (call $at (i32.const {class}) (local.get $a)))\n        \
             (local.set $h (call $handle (local.get $p) (local.get $a)))\n        \
             (if (call $unfit (local.get $p) (local.get $a) (i32.const {mask}) (i32.const {state})) (then (return (i32.const -1))))\n        {body}"
        );
        self.op(name, &body);
    }
}

const FORGET: &str = "(i32.store (local.get $p) (i32.const 0)) (i32.store offset=0x400 (local.get $p) (i32.const 0))";
/// Any state but busy.
const NOT_BUSY: (u32, u32) = (1, 0);
const IDLE: (u32, u32) = (15, 0);
const IDLE_ALONE: (u32, u32) = (255, 0);
const BUSY: (u32, u32) = (15, 1);
const BUSY_ALONE: (u32, u32) = (255, 1);
const DONE: (u32, u32) = (15, 2);
const ANY: (u32, u32) = (0, 0);

fn puppet(top: bool, host: &str) -> (String, Vec<String>) {
    let mut p = Puppet::default();
    let encoding = if top { "string-encoding=latin1+utf16" } else { "" };
    let options = format!("(memory $memory) (realloc $realloc) {encoding}");
    ends(&mut p, &options);
    waiting(&mut p);
    tasks(&mut p, &options);
    threads(&mut p);
    resources(&mut p, top, &options);
    hosts(&mut p, &options);
    if top {
        peers(&mut p, &options);
    }
    memory(&mut p);

    let name = if top { "top" } else { "leaf" };
    let resource = match top {
        true => {
            let mut exports = String::new();
            for (name, ty, _) in FUNCTIONS {
                writeln!(exports, "      (export \"{name}\" (func {ty}))").unwrap();
            }
            exports.push_str("      (export \"new\" (func (param \"rep\" u32) (result (own $r))))\n");
            format!(
                "    (import \"peer\" (instance $peer\n      (export \"r\" (type $r (sub resource)))\n{exports}    ))\n    \
                 (alias export $peer \"r\" (type $r))\n"
            )
        }
        false => "    (type $r' (resource (rep i32) (dtor (core func $support \"dtor\"))))\n    \
                  (export $r \"r\" (type $r'))\n"
            .to_string(),
    };
    let (before, after) = if top { (resource.as_str(), "") } else { ("", resource.as_str()) };
    let mut types = String::new();
    for (name, ty) in ELEMENTS {
        writeln!(types, "    (type $stream-{name} (stream {ty}))\n    (type $future-{name} (future {ty}))").unwrap();
    }
    let elements: Vec<String> = (0..p.ops.len()).map(|n| format!("$op{n}")).collect();
    let mut exports = String::new();
    for (name, ty, lift) in FUNCTIONS {
        let how = match lift {
            Lift::Sync => options.clone(),
            Lift::Stackful => format!("async {options}"),
            Lift::Callback(_) => format!("async {options} (callback (core func $i \"next\"))"),
        };
        writeln!(exports, "    (func (export \"{name}\") {ty} (canon lift (core func $i \"{name}\") {how}))").unwrap();
    }
    if !top {
        writeln!(
            exports,
            "    (func (export \"new\") (param \"rep\" u32) (result (own $r)) (canon lift (core func $i \"new\")))"
        )
        .unwrap();
    }
    let [bytes, bytes_w, number, own] =
        ["stream-u8 r", "stream-u8 w", "future-u32 r", "own"].map(|class| p.class(class));
    // Who implements a resource is lent its representation.
    let keep_borrow = match top {
        true => format!("(i32.store (i32.const {}) (local.get 1))", p.class("borrow")),
        false => String::new(),
    };
    let text = format!(
        r#"(component ${name} {host}
{before}
    (core module $support
      (memory (export "memory") 1 16)
      (table (export "threads") 2 funcref)
      (table $dtors (export "dtors") 1 funcref)
      (type $dtor (func (param i32)))
      (global $free (mut i32) (i32.const 0))
      (global $odd (export "odd") (mut i32) (i32.const 0))
      (func (export "dtor") (param i32) (call_indirect $dtors (type $dtor) (local.get 0) (i32.const 0)))
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
        (local.set $at (global.get $odd))
        (if (local.get $at) (then (global.set $odd (i32.const 0)) (return (local.get $at))))
        (local.set $at (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const 0x3ff0)))
        (global.set $free (i32.add (local.get $at) (local.get 3)))
        (i32.add (local.get $at) (i32.const 0x8000)))
      (func (export "script") (param i32 i32 i32 i32) (result i32)
        (if (i32.gt_u (local.get 3) (i32.const 0x800)) (then unreachable))
        (i32.const {SCRIPTS_AT})))
    (core instance $support (instantiate $support))
    (alias core export $support "memory" (core memory $memory))
    (alias core export $support "threads" (core table $threads))
    (alias core export $support "realloc" (core func $realloc))
    (alias core export $support "script" (core func $script))
    (core type $start (func (param i32)))
{after}{types}{builtins}
    (core module $m
      (import "support" "memory" (memory 1 16))
      (import "support" "threads" (table $threads 2 funcref))
      (import "support" "dtors" (table $dtors 1 funcref))
      (import "support" "odd" (global $odd (mut i32)))
{imports}
      (type $op (func (param $a i32) (param $b i32) (param $c i32) (result i32)))
      (table $ops {count} funcref)
      (elem (table $ops) (i32.const 0) func {elements})
      (elem (table $threads) (i32.const 0) func $thread)
      (elem (table $dtors) (i32.const 0) func $dtor)
      (data (i32.const {strings}) "\00\30\00\00\05\00\00\00\00\30\00\00\02\00\00\00\10\30\00\00\07\00\00\00\20\30\00\00\04\00\00\00\00\30\00\00\04\00\00\80\f0\ff\ff\ff\40\00\00\00")
      (data (i32.const 0x3000) "hello world ok!!")
      (data (i32.const 0x3010) "gr\c3\bc\c3\9fe \f0\9f\8c\8d ")
      (data (i32.const 0x3020) "\c3\28\ff\d8\00\dc\00\d8")
{functions}
      (func $at (param $class i32) (param $a i32) (result i32)
        (i32.add (local.get $class) (i32.shl (i32.and (local.get $a) (i32.const 3)) (i32.const 2))))
      (func $handle (param $p i32) (param $a i32) (result i32)
        (select
          (i32.and (i32.shr_u (local.get $a) (i32.const 2)) (i32.const 15))
          (i32.load (local.get $p))
          (i32.and (local.get $a) (i32.const 0x80))))
      (func $unfit (param $p i32) (param $a i32) (param $mask i32) (param $state i32) (result i32)
        (if (i32.and (local.get $a) (i32.const 0x40)) (then (return (i32.const 0))))
        (if (i32.eqz (i32.load (local.get $p))) (then (return (i32.const 1))))
        (i32.ne (i32.and (i32.load offset=0x400 (local.get $p)) (local.get $mask)) (local.get $state)))
      (func $buffer (param $b i32) (result i32)
        (if (i32.ge_u (local.get $b) (i32.const 0xf8)) (then (return (i32.sub (i32.const 0) (i32.and (local.get $b) (i32.const 7))))))
        (i32.add (i32.const {BUFFERS_AT}) (i32.shl (i32.and (local.get $b) (i32.const 63)) (i32.const 3))))
      (func $count (param $c i32) (result i32)
        (if (i32.ge_u (local.get $c) (i32.const 0xf8)) (then (return (i32.shl (i32.and (local.get $c) (i32.const 7)) (i32.const 26)))))
        (i32.and (local.get $c) (i32.const 7)))
      ;; The state of an end after a copy has given `$r`.
      (func $copied (param $p i32) (param $r i32) (param $future i32)
        (local $s i32)
        (local.set $s (i32.and (i32.load offset=0x400 (local.get $p)) (i32.const 16)))
        (if (i32.eq (local.get $r) (i32.const -1)) (then (local.set $s (i32.or (local.get $s) (i32.const 1))))
          (else (if (i32.or (i32.eq (i32.and (local.get $r) (i32.const 15)) (i32.const 1))
                            (i32.and (local.get $future) (i32.eqz (i32.and (local.get $r) (i32.const 15)))))
            (then (local.set $s (i32.or (local.get $s) (i32.const 2)))))))
        (i32.store offset=0x400 (local.get $p) (local.get $s)))
      (global $cancelled (mut i32) (i32.const 0))
      (global $pressure (mut i32) (i32.const 0))
      (func $event (param $code i32) (param $handle i32) (param $payload i32) (local $p i32)
        (if (i32.eq (local.get $code) (i32.const 6)) (then (global.set $cancelled (i32.const 1))))
        (if (i32.or (i32.eqz (local.get $code)) (i32.eqz (local.get $handle))) (then (return)))
        (local.set $p (i32.const {SLOTS_AT}))
        (loop $more
          (if (i32.eq (i32.load (local.get $p)) (local.get $handle)) (then
            (if (i32.eq (local.get $code) (i32.const 1))
              (then (if (i32.ge_u (local.get $payload) (i32.const 2)) (then
                (i32.store offset=0x400 (local.get $p)
                  (i32.or (i32.const 2) (i32.and (i32.load offset=0x400 (local.get $p)) (i32.const 16)))))))
              (else (call $copied (local.get $p) (local.get $payload) (i32.ge_u (local.get $code) (i32.const 4)))))))
          (local.set $p (i32.add (local.get $p) (i32.const 4)))
          (br_if $more (i32.lt_u (local.get $p) (i32.const {slots_end})))))
      ;; An asynchronous call has given `$r`; `$p` is where a subtask goes, `$q` where its result does if it is there.
      (func $called (param $p i32) (param $q i32) (param $r i32)
        (if (i32.lt_u (i32.and (local.get $r) (i32.const 15)) (i32.const 2)) (then
          (i32.store (local.get $p) (i32.shr_u (local.get $r) (i32.const 4)))
          (i32.store offset=0x400 (local.get $p) (i32.const 1))
          (return)))
        (if (local.get $q) (then
          (i32.store (local.get $q) (i32.load (i32.const {RESULT_AT})))
          (i32.store offset=0x400 (local.get $q) (i32.const 0)))))
      (func $run (param $s i32) (result i32) (local $pc i32) (local $r i32)
        (local.set $s (i32.and (local.get $s) (i32.const 3)))
        (loop $more
          (local.set $pc (i32.load offset={PCS_AT} (i32.shl (local.get $s) (i32.const 2))))
          (if (i32.ge_u (local.get $pc) (i32.const 256)) (then (return (i32.const 0))))
          (i32.store offset={PCS_AT} (i32.shl (local.get $s) (i32.const 2)) (i32.add (local.get $pc) (i32.const 4)))
          (local.set $pc (i32.add (local.get $pc) (i32.shl (local.get $s) (i32.const 8))))
          (if (i32.eq (i32.load8_u offset={SCRIPTS_AT} (local.get $pc)) (i32.const {END})) (then (return (i32.const 0))))
          (local.set $r (call_indirect $ops (type $op)
            (i32.load8_u offset={b1} (local.get $pc))
            (i32.load8_u offset={b2} (local.get $pc))
            (i32.load8_u offset={b3} (local.get $pc))
            (i32.rem_u (i32.load8_u offset={SCRIPTS_AT} (local.get $pc)) (i32.const {count}))))
          (br_if $more (i32.eq (local.get $r) (i32.const -1))))
        (local.get $r))
      (func $run-on (param $s i32)
        (loop $more (br_if $more (i32.and (call $run (local.get $s)) (i32.const 15)))))
      (func $thread (param i32) (call $run-on (local.get 0)))
      (func $dtor (param i32) (call $run-on (local.get 0)))
      ;; The current task returns, if it has not.
      (func $return (param $kind i32) (local $w i64)
        (if (call $context.get-1) (then (return)))
        (call $context.set-1 (i32.const 1))
        (if (i32.eqz (local.get $kind)) (then (call $return-u32 (i32.const 42)) (return)))
        (if (i32.eq (local.get $kind) (i32.const 1)) (then
          (if (i32.or (i32.eqz (i32.load (i32.const {bytes}))) (i32.load offset=0x400 (i32.const {bytes}))) (then
            (local.set $w (call $stream-u8.new))
            (i32.store (i32.const {bytes}) (i32.wrap_i64 (local.get $w)))
            (i32.store (i32.const {bytes_w}) (i32.wrap_i64 (i64.shr_u (local.get $w) (i64.const 32))))
            (i32.store offset=0x400 (i32.const {bytes}) (i32.const 0))
            (i32.store offset=0x400 (i32.const {bytes_w}) (i32.const 0))))
          (call $return-stream (i32.load (i32.const {bytes})))
          (i32.store (i32.const {bytes}) (i32.const 0))
          (return)))
        (if (i32.eq (local.get $kind) (i32.const 2)) (then
          (if (i32.eqz (i32.load (i32.const {own}))) (then (i32.store (i32.const {own}) (call $own.new (i32.const 1)))))
          (call $return-own (i32.load (i32.const {own})))
          (i32.store (i32.const {own}) (i32.const 0))
          (return)))
        (call $return-string (i32.const 0x3000) (i32.const 8)))
      (func $end (param $code i32) (param $kind i32) (result i32)
        (if (i32.eqz (local.get $code)) (then (call $return (local.get $kind))))
        (local.get $code))
      (func $begin (param $script i32) (param $kind i32) (result i32)
        (call $context.set-0 (i32.or (i32.const 0x10000)
          (i32.or (i32.and (local.get $script) (i32.const 3)) (i32.shl (local.get $kind) (i32.const 8)))))
        (call $end (call $run (local.get $script)) (local.get $kind)))
      (func (export "next") (param i32 i32 i32) (result i32)
        (call $event (local.get 0) (local.get 1) (local.get 2))
        (call $end (call $run (call $context.get-0)) (i32.and (i32.shr_u (call $context.get-0) (i32.const 8)) (i32.const 3))))
      (func (export "load") (param i32 i32)
        (memory.fill (i32.const {PCS_AT}) (i32.const 0) (i32.const 16)))
      (func (export "plain") (param i32) (result i32) (call $run-on (local.get 0)) (i32.const 7))
      (func (export "sync") (param i32) (result i32) (call $run-on (local.get 0)) (i32.const 7))
      (func (export "callback") (param i32) (result i32) (call $begin (local.get 0) (i32.const 0)))
      (func (export "stackful") (param i32) (call $context.set-0 (i32.const 0x10000)) (call $run-on (local.get 0)) (call $return (i32.const 0)))
      (func (export "give") (param i32 i32 i32) (result i32)
        (i32.store (i32.const {bytes}) (local.get 1)) (i32.store offset=0x400 (i32.const {bytes}) (i32.const 0))
        (i32.store (i32.const {number}) (local.get 2)) (i32.store offset=0x400 (i32.const {number}) (i32.const 0))
        (call $begin (local.get 0) (i32.const 1)))
      (func (export "lend") (param i32 i32 i32) (result i32)
        {keep_borrow}
        (i32.store (i32.const {own}) (local.get 2))
        (call $begin (local.get 0) (i32.const 2)))
      (func (export "text") (param i32 i32 i32) (result i32) (call $begin (local.get 0) (i32.const 3)))
      (func (export "new") (param i32) (result i32) {new}))
    (core instance $i (instantiate $m (with "support" (instance $support)) (with "" (instance
{with}    ))))
    (func (export "load") (param "script" (list u8)) (canon lift (core func $i "load") (memory $memory) (realloc $script)))
{exports})"#,
        builtins = p.builtins,
        imports = p.imports,
        count = p.ops.len(),
        elements = elements.join(" "),
        strings = BUFFERS_AT + 0x40,
        functions = p.functions,
        slots_end = SLOTS_AT + STATE,
        b1 = SCRIPTS_AT + 1,
        b2 = SCRIPTS_AT + 2,
        b3 = SCRIPTS_AT + 3,
        new = "(call $own.new (local.get 0))",
        with = p.exports,
    );
    (text, p.ops)
}

/// Streams and futures of every element type.
fn ends(p: &mut Puppet, options: &str) {
    for kind in ["stream", "future"] {
        for (element, _) in ELEMENTS {
            let t = format!("{kind}-{element}");
            let ty = format!("${t}");
            let future = u32::from(kind == "future");
            let (r, w) = (p.class(&format!("{t} r")), p.class(&format!("{t} w")));
            p.builtin(&format!("{t}.new"), &format!("{kind}.new {ty}"), "(result i64)");
            p.op(
                &format!("{t}.new"),
                &format!(
                    "(local.set $p (call $at (i32.const {r}) (local.get $c)))
        (local.set $q (call $at (i32.const {w}) (local.get $c)))
        (if (i32.and (i32.or (i32.load (local.get $p)) (i32.load (local.get $q)))
                     (i32.eqz (i32.and (local.get $a) (i32.const 0x40)))) (then (return (i32.const -1))))
        (local.set $w (call ${t}.new))
        (i32.store (local.get $p) (i32.wrap_i64 (local.get $w)))
        (i32.store (local.get $q) (i32.wrap_i64 (i64.shr_u (local.get $w) (i64.const 32))))
        (i32.store offset=0x400 (local.get $p) (i32.const 0))
        (i32.store offset=0x400 (local.get $q) (i32.const 0))"
                ),
            );
            for (what, class) in [("read", r), ("write", w)] {
                for how in ["", "async"] {
                    let name = format!("{t}.{what}{how}");
                    let (ty_, len) = match future {
                        0 => ("(param i32 i32 i32) (result i32)", "(call $count (local.get $c))"),
                        _ => ("(param i32 i32) (result i32)", ""),
                    };
                    let needs = if element == "unit" { how.to_string() } else { format!("{how} {options}") };
                    p.builtin(&name, &format!("{kind}.{what} {ty} {needs}"), ty_);
                    let fit = if how.is_empty() { IDLE_ALONE } else { IDLE };
                    // A handle that is written is taken from its slot.
                    let element = match element {
                        "own" | "error" => element,
                        "stream" => "stream-u8 r",
                        _ => "",
                    };
                    let (given, len) = match (what, element) {
                        ("write", element) if !element.is_empty() => {
                            let at = p.class(element);
                            let given = format!(
                                "(local.set $q (call $at (i32.const {at}) (local.get $c)))
        (if (i32.eqz (i32.and (local.get $a) (i32.const 0x40))) (then
          (if (i32.or (i32.eqz (i32.load (local.get $q))) (i32.load offset=0x400 (local.get $q))) (then (return (i32.const -1))))))
        (i32.store (call $buffer (local.get $b)) (i32.load (local.get $q)))
        (i32.store (local.get $q) (i32.const 0))"
                            );
                            (given, if future == 0 { "(i32.const 1)" } else { "" })
                        }
                        _ => (String::new(), len),
                    };
                    p.on(
                        &name,
                        class,
                        fit,
                        &format!(
                            "{given}
        (local.set $r (call ${name} (local.get $h) (call $buffer (local.get $b)) {len}))
        (call $copied (local.get $p) (local.get $r) (i32.const {future}))"
                        ),
                    );
                    let name = format!("{t}.cancel-{what}{how}");
                    p.builtin(&name, &format!("{kind}.cancel-{what} {ty} {how}"), "(param i32) (result i32)");
                    let fit = if how.is_empty() { BUSY_ALONE } else { BUSY };
                    p.on(
                        &name,
                        class,
                        fit,
                        &format!(
                            "(local.set $r (call ${name} (local.get $h)))
        (call $copied (local.get $p) (local.get $r) (i32.const {future}))"
                        ),
                    );
                }
            }
            for (what, class, fit) in
                [("readable", r, NOT_BUSY), ("writable", w, if future == 1 { DONE } else { NOT_BUSY })]
            {
                let name = format!("{t}.drop-{what}");
                p.builtin(&name, &format!("{kind}.drop-{what} {ty}"), "(param i32)");
                p.on(&name, class, fit, &format!("(call ${name} (local.get $h)) {FORGET}"));
            }
        }
    }
    // Readable ends as elements: into a buffer and out of it.
    for (name, class) in [("stream-u8 r", IDLE_ALONE), ("own", IDLE), ("error", IDLE)] {
        let at = p.class(name);
        p.on(
            &format!("store {name}"),
            at,
            class,
            &format!("(i32.store (call $buffer (local.get $b)) (local.get $h)) {FORGET}"),
        );
        p.op(
            &format!("load {name}"),
            &format!(
                "(local.set $p (call $at (i32.const {at}) (local.get $a)))
        (local.set $h (i32.load (call $buffer (local.get $b))))
        (if (i32.or (i32.load (local.get $p)) (i32.gt_u (local.get $h) (i32.const 200))) (then (return (i32.const -1))))
        (i32.store (call $buffer (local.get $b)) (i32.const 0))
        (i32.store (local.get $p) (local.get $h))
        (i32.store offset=0x400 (local.get $p) (i32.const 0))"
            ),
        );
    }
}

fn waiting(p: &mut Puppet) {
    let set = p.class("set");
    p.builtin("set.new", "waitable-set.new", "(result i32)");
    p.op(
        "set.new",
        &format!(
            "(local.set $p (call $at (i32.const {set}) (local.get $a)))
        (if (i32.load (local.get $p)) (then (return (i32.const -1))))
        (i32.store (local.get $p) (call $set.new))"
        ),
    );
    for what in ["wait", "poll"] {
        for how in ["", "cancellable"] {
            let name = format!("set.{what}{how}");
            p.builtin(&name, &format!("waitable-set.{what} {how} (memory $memory)"), "(param i32 i32) (result i32)");
            p.on(
                &name,
                set,
                ANY,
                &format!(
                    "(local.set $r (call ${name} (local.get $h) (i32.const {EVENT_AT})))
        (call $event (local.get $r) (i32.load (i32.const {EVENT_AT})) (i32.load offset=4 (i32.const {EVENT_AT})))"
                ),
            );
        }
    }
    p.builtin("set.drop", "waitable-set.drop", "(param i32)");
    p.on("set.drop", set, ANY, &format!("(call $set.drop (local.get $h)) {FORGET}"));
    p.builtin("join", "waitable.join", "(param i32 i32)");
    let mut classes: Vec<String> = Vec::new();
    for kind in ["stream", "future"] {
        for (element, _) in ELEMENTS {
            classes.extend([format!("{kind}-{element} r"), format!("{kind}-{element} w")]);
        }
    }
    classes.push("subtask".to_string());
    // One operation for all: `b` says what kind of waitable it is.
    let first = p.class(&classes[0]);
    let subtask = p.class("subtask");
    let ends = classes.len() as u32 - 1;
    let waitable = format!(
        "(local.set $p (call $at
          (select (i32.const {subtask})
            (i32.add (i32.const {first}) (i32.shl (i32.rem_u (local.get $b) (i32.const {})) (i32.const 4)))
            (i32.eq (i32.rem_u (local.get $b) (i32.const {})) (i32.const {ends})))
          (local.get $a)))
        (local.set $h (call $handle (local.get $p) (local.get $a)))
        (if (call $unfit (local.get $p) (local.get $a) (i32.const 0) (i32.const 0)) (then (return (i32.const -1))))",
        ends + 1,
        ends + 1,
    );
    p.op(
        "join",
        &format!(
            "{waitable}
        (local.set $q (call $at (i32.const {set}) (local.get $c)))
        (if (i32.eqz (i32.load (local.get $q))) (then (return (i32.const -1))))
        (call $join (local.get $h) (i32.load (local.get $q)))
        (i32.store offset=0x400 (local.get $p) (i32.or (i32.const 16) (i32.load offset=0x400 (local.get $p))))"
        ),
    );
    p.op(
        "leave",
        &format!(
            "{waitable}
        (call $join (local.get $h) (i32.const 0))
        (i32.store offset=0x400 (local.get $p) (i32.and (i32.const 15) (i32.load offset=0x400 (local.get $p))))"
        ),
    );
    p.op("yield", "(return (i32.const 1))");
    p.on("wait", set, ANY, "(return (i32.or (i32.const 2) (i32.shl (local.get $h) (i32.const 4))))");
    p.op("exit", "(return (i32.const 0))");
    p.op("odd code", "(return (i32.or (local.get $a) (i32.shl (local.get $b) (i32.const 8))))");
}

fn tasks(p: &mut Puppet, options: &str) {
    let options = &options.replace("(realloc $realloc)", "");
    p.builtin("return-u32", &format!("task.return (result u32) {options}"), "(param i32)");
    p.builtin("return-stream", &format!("task.return (result (stream u8)) {options}"), "(param i32)");
    p.builtin("return-own", &format!("task.return (result (own $r)) {options}"), "(param i32)");
    p.builtin("return-string", &format!("task.return (result string) {options}"), "(param i32 i32)");
    let unless = |what: &str| {
        format!(
            "(if (i32.eqz (i32.or ({what}) (i32.and (local.get $a) (i32.const 0x40)))) (then (return (i32.const -1))))"
        )
    };
    p.op(
        "return",
        &format!(
            "{} (call $return (i32.and (i32.shr_u (call $context.get-0) (i32.const 8)) (i32.const 3)))",
            unless("i32.and (call $context.get-0) (i32.const 0x10000)")
        ),
    );
    p.op("odd return", "(if (i32.and (local.get $b) (i32.const 31)) (then (return (i32.const -1)))) (call $context.set-1 (i32.const 0)) (call $return (i32.and (local.get $a) (i32.const 3)))");
    p.builtin("task.cancel", "task.cancel", "");
    p.op(
        "task.cancel",
        &format!(
            "{} (global.set $cancelled (i32.const 0)) (call $task.cancel) (call $context.set-1 (i32.const 1))",
            unless("global.get $cancelled")
        ),
    );
    p.builtin("inc", "backpressure.inc", "");
    p.builtin("dec", "backpressure.dec", "");
    p.op("backpressure.inc", "(call $inc) (global.set $pressure (i32.add (global.get $pressure) (i32.const 1)))");
    p.op(
        "backpressure.dec",
        &format!(
            "{} (call $dec) (global.set $pressure (i32.sub (global.get $pressure) (i32.const 1)))",
            unless("global.get $pressure")
        ),
    );
    for slot in [0, 1] {
        p.builtin(&format!("context.get-{slot}"), &format!("context.get i32 {slot}"), "(result i32)");
        p.builtin(&format!("context.set-{slot}"), &format!("context.set i32 {slot}"), "(param i32)");
        p.op(&format!("context {slot}"), &format!("(call $context.set-{slot} (local.get $a))"));
    }
    let subtask = p.class("subtask");
    for (how, fit) in [("", BUSY_ALONE), ("async", BUSY)] {
        let name = format!("subtask.cancel{how}");
        p.builtin(&name, &format!("subtask.cancel {how}"), "(param i32) (result i32)");
        p.on(
            &name,
            subtask,
            fit,
            &format!("(call $event (i32.const 1) (local.get $h) (call $cancelled (call ${name} (local.get $h))))"),
        );
    }
    writeln!(
        p.functions,
        "      (func $cancelled (param i32) (result i32) (select (i32.const 0) (local.get 0) (i32.eq (local.get 0) (i32.const -1))))"
    )
    .unwrap();
    p.builtin("subtask.drop", "subtask.drop", "(param i32)");
    p.on("subtask.drop", subtask, DONE, &format!("(call $subtask.drop (local.get $h)) {FORGET}"));
}

fn threads(p: &mut Puppet) {
    let thread = p.class("thread");
    p.builtin("thread.index", "thread.index", "(result i32)");
    p.op("thread.index", &format!("(i32.store (call $at (i32.const {thread}) (local.get $a)) (call $thread.index))"));
    p.builtin("thread.new", "thread.new-indirect $start (core table $threads)", "(param i32 i32) (result i32)");
    p.op(
        "thread.new",
        &format!(
            "(i32.store (call $at (i32.const {thread}) (local.get $a))
          (call $thread.new (i32.shr_u (local.get $b) (i32.const 7)) (local.get $c)))"
        ),
    );
    p.builtin("resume-later", "thread.resume-later", "(param i32)");
    p.on("resume-later", thread, ANY, "(call $resume-later (local.get $h))");
    for how in ["", "cancellable"] {
        for pause in ["suspend", "yield"] {
            let name = format!("thread.{pause}{how}");
            p.builtin(&name, &format!("thread.{pause} {how}"), "(result i32)");
            p.op(&name, &format!("(if (call ${name}) (then (global.set $cancelled (i32.const 1))))"));
            for then in ["resume", "promote"] {
                let name = format!("thread.{pause}-then-{then}{how}");
                p.builtin(&name, &format!("thread.{pause}-then-{then} {how}"), "(param i32) (result i32)");
                p.on(
                    &name,
                    thread,
                    ANY,
                    &format!("(if (call ${name} (local.get $h)) (then (global.set $cancelled (i32.const 1))))"),
                );
            }
        }
    }
}

fn resources(p: &mut Puppet, top: bool, options: &str) {
    let (own, borrow, error) = (p.class("own"), p.class("borrow"), p.class("error"));
    if !top {
        p.builtin("own.new", "resource.new $r'", "(param i32) (result i32)");
        p.builtin("own.rep", "resource.rep $r'", "(param i32) (result i32)");
        p.op(
            "own.new",
            &format!(
                "(local.set $p (call $at (i32.const {own}) (local.get $a)))
        (if (i32.load (local.get $p)) (then (return (i32.const -1))))
        (i32.store (local.get $p) (call $own.new (local.get $b)))"
            ),
        );
        p.on("own.rep", own, ANY, "(drop (call $own.rep (local.get $h)))");
    }
    p.builtin("own.drop", "resource.drop $r", "(param i32)");
    p.on("own.drop", own, ANY, &format!("{FORGET} (call $own.drop (local.get $h))"));
    p.on("borrow.drop", borrow, ANY, &format!("{FORGET} (call $own.drop (local.get $h))"));
    let lift = options.replace("(realloc $realloc)", "");
    p.builtin("error.new", &format!("error-context.new {lift}"), "(param i32 i32) (result i32)");
    p.op(
        "error.new",
        &format!(
            "(local.set $p (call $at (i32.const {error}) (local.get $a)))
        (if (i32.load (local.get $p)) (then (return (i32.const -1))))
        (i32.store (local.get $p) (call $error.new (i32.add (i32.const 0x3000) (i32.and (local.get $b) (i32.const 0x3e))) (call $count (local.get $c))))"
        ),
    );
    p.builtin("error.message", &format!("error-context.debug-message {options}"), "(param i32 i32)");
    p.on("error.message", error, ANY, "(call $error.message (local.get $h) (call $buffer (local.get $b)))");
    p.builtin("error.drop", "error-context.drop", "(param i32)");
    p.on("error.drop", error, ANY, &format!("(call $error.drop (local.get $h)) {FORGET}"));
}

fn hosts(p: &mut Puppet, options: &str) {
    let (subtask, host) = (p.class("subtask"), p.class("host"));
    p.builtin("wait", &format!("lower (func $wait) {options}"), "(param i32) (result i32)");
    p.op("host wait", "(drop (call $wait (local.get $a)))");
    p.builtin("wait-async", &format!("lower (func $wait) async {options}"), "(param i32 i32) (result i32)");
    let call = |call: &str| {
        format!(
            "(local.set $p (call $at (i32.const {subtask}) (local.get $c)))
        (if (i32.load (local.get $p)) (then (return (i32.const -1))))
        (call $called (local.get $p) (i32.const 0) {call})"
        )
    };
    p.op("host wait async", &call(&format!("(call $wait-async (local.get $a) (i32.const {RESULT_AT}))")));
    p.builtin("echo", "lower (func $echo)", "(param i32) (result i32)");
    p.op("host echo", "(drop (call $echo (local.get $a)))");
    let (bytes, number) = (p.class("stream-u8 r"), p.class("future-u32 r"));
    p.builtin("source", "lower (func $source)", "(param i32) (result i32)");
    p.builtin("value", "lower (func $value)", "(result i32)");
    for (name, at, call) in
        [("host source", bytes, "(call $source (local.get $b))"), ("host value", number, "(call $value)")]
    {
        p.op(
            name,
            &format!(
                "(local.set $p (call $at (i32.const {at}) (local.get $a)))
        (if (i32.load (local.get $p)) (then (return (i32.const -1))))
        (i32.store (local.get $p) {call}) (i32.store offset=0x400 (local.get $p) (i32.const 0))"
            ),
        );
    }
    p.builtin("sink", "lower (func $sink)", "(param i32)");
    p.on("host sink", bytes, IDLE_ALONE, &format!("(call $sink (local.get $h)) {FORGET}"));
    p.builtin("take", "lower (func $take)", "(param i32)");
    p.on("host take", number, IDLE_ALONE, &format!("(call $take (local.get $h)) {FORGET}"));
    p.builtin("make", "lower (func $make)", "(result i32)");
    p.op(
        "host make",
        &format!(
            "(local.set $p (call $at (i32.const {host}) (local.get $a)))
        (if (i32.load (local.get $p)) (then (return (i32.const -1))))
        (i32.store (local.get $p) (call $make))"
        ),
    );
    p.builtin("host.drop", "resource.drop $h", "(param i32)");
    p.on("host drop", host, ANY, &format!("(call $host.drop (local.get $h)) {FORGET}"));
    p.builtin("keep", &format!("lower (func $keep) {options}"), "(param i32) (result i32)");
    p.on("host keep", host, ANY, "(drop (call $keep (local.get $h)))");
    p.builtin("keep-async", &format!("lower (func $keep) async {options}"), "(param i32 i32) (result i32)");
    p.on(
        "host keep async",
        host,
        ANY,
        &format!(
            "(local.set $r (local.get $h)) {}",
            call(&format!("(call $keep-async (local.get $r) (i32.const {RESULT_AT}))"))
        ),
    );
}

/// Calls of the leaf, and resources from there.
fn peers(p: &mut Puppet, options: &str) {
    let (subtask, bytes, number, own) =
        (p.class("subtask"), p.class("stream-u8 r"), p.class("future-u32 r"), p.class("own"));
    p.builtin("own.new", "lower (func $peer \"new\")", "(param i32) (result i32)");
    p.op(
        "own.new",
        &format!(
            "(local.set $p (call $at (i32.const {own}) (local.get $a)))
        (if (i32.load (local.get $p)) (then (return (i32.const -1))))
        (i32.store (local.get $p) (call $own.new (local.get $b)))"
        ),
    );
    for (name, _, _) in FUNCTIONS {
        let (flat, guard, args, forget, result) = match name {
            "give" => (
                3,
                format!(
                    "(local.set $r (call $at (i32.const {bytes}) (local.get $a)))
        (local.set $h (call $at (i32.const {number}) (local.get $a)))
        (if (i32.or (i32.or (i32.eqz (i32.load (local.get $r))) (i32.eqz (i32.load (local.get $h))))
                    (i32.or (i32.load offset=0x400 (local.get $r)) (i32.load offset=0x400 (local.get $h)))) (then (return (i32.const -1))))"
                ),
                "(i32.load (local.get $r)) (i32.load (local.get $h))",
                "(i32.store (local.get $r) (i32.const 0)) (i32.store (local.get $h) (i32.const 0))",
                bytes,
            ),
            "lend" => (
                3,
                format!(
                    "(local.set $r (call $at (i32.const {own}) (local.get $a)))
        (local.set $h (call $at (i32.const {own}) (i32.add (local.get $a) (i32.const 1))))
        (if (i32.or (i32.eqz (i32.load (local.get $r))) (i32.eqz (i32.load (local.get $h)))) (then (return (i32.const -1))))"
                ),
                "(i32.load (local.get $h)) (i32.load (local.get $r))",
                "(i32.store (local.get $r) (i32.const 0))",
                own,
            ),
            "text" => (
                3,
                String::new(),
                "(i32.add (i32.const 0x3000) (i32.and (local.get $a) (i32.const 0x3e))) (call $count (local.get $a))",
                "",
                0,
            ),
            _ => (1, String::new(), "", "", 0),
        };
        let params = "i32 ".repeat(flat);
        let target = match result {
            0 => "(local.set $q (i32.const 0))".to_string(),
            class => format!("(local.set $q (call $at (i32.const {class}) (local.get $c)))"),
        };
        // Synchronous.
        let lowered = format!("call-{name}");
        let retptr = if name == "text" { "(i32.const 0x990)" } else { "" };
        let ty =
            if name == "text" { format!("(param {params} i32)") } else { format!("(param {params}) (result i32)") };
        p.builtin(&lowered, &format!("lower (func $peer \"{name}\") {options}"), &ty);
        let call = format!("(call ${lowered} (local.get $b) {args} {retptr})");
        let after = match name {
            "text" => call,
            _ if result == 0 => format!("(drop {call})"),
            _ => format!(
                "(local.set $w (i64.extend_i32_u {call})) {forget} {target}
        (i32.store (local.get $q) (i32.wrap_i64 (local.get $w))) (i32.store offset=0x400 (local.get $q) (i32.const 0))"
            ),
        };
        p.op(&lowered, &format!("{guard}\n        {after}"));
        if name == "plain" {
            continue;
        }
        // Asynchronous.
        let lowered = format!("call-{name}-async");
        p.builtin(
            &lowered,
            &format!("lower (func $peer \"{name}\") async {options}"),
            &format!("(param {params} i32) (result i32)"),
        );
        p.op(
            &lowered,
            &format!(
                "{guard}
        (local.set $p (call $at (i32.const {subtask}) (local.get $c)))
        (if (i32.load (local.get $p)) (then (return (i32.const -1))))
        (local.set $w (i64.extend_i32_u (call ${lowered} (local.get $b) {args} (i32.const {RESULT_AT}))))
        {forget} {target}
        (call $called (local.get $p) (local.get $q) (i32.wrap_i64 (local.get $w)))"
            ),
        );
    }
}

fn memory(p: &mut Puppet) {
    p.op("memory.grow", "(drop (memory.grow (i32.const 1)))");
    p.op("odd realloc", "(global.set $odd (i32.shl (local.get $a) (i32.and (local.get $b) (i32.const 31))))");
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_text_is_a_valid_component_and_has_room_for_its_operations() {
        let (text, ops) = super::component();
        let bytes = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"));
        let engine = interflow::component::engine().unwrap();
        interflow::component::compile(&engine, &bytes).unwrap();
        assert!(ops.iter().all(|ops| ops.len() <= 255), "{:?}", ops.map(|ops| ops.len()));
    }
}
