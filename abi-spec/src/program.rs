//! Programs and logs, and their text.
//! A program is flat lists of operations with symbolic slots: every shorter list is a program too, so it can be shrunk by
//! deleting. The text is one operation per line, so that other implementations can run it without this crate.
//! Knows nothing of what operations do.

use std::fmt;
use std::str::FromStr;

use crate::elem::{Elem, InstanceId, Ty};
use crate::op::{Arg, BLOCKED, CopyType, Kind, Leave, Mode, Op, Outcome, PARAMS_MAX, Record, Side, Slot, Target};

/// How a function is lifted. CanonicalABI.md, canon lift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lift {
    /// Without `async`: returns its result.
    Sync,
    /// With `async` and a callback.
    Callback,
    /// With `async`, without callback.
    Stackful,
}

/// A function that an instance or the host exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Func {
    /// Who exports it.
    pub inst: InstanceId,
    /// Its type is `async`.
    pub is_async: bool,
    /// How it is lifted.
    pub lift: Lift,
    /// Its script.
    pub body: Option<u8>,
    /// Parameters, and where the callee keeps them.
    pub params: [Option<(Ty, Slot)>; PARAMS_MAX],
    /// Its result.
    pub result: Option<Ty>,
}

impl Func {
    /// A destructor: takes the representation, which goes to slot 0.
    pub(crate) fn destructor(inst: InstanceId, body: Option<u8>) -> Func {
        let params = [Some((Ty::U32, 0)), None, None];
        Func { inst, is_async: false, lift: Lift::Sync, body, params, result: None }
    }

    /// What the host does by itself.
    pub(crate) fn host_script(script: u8) -> Func {
        let (inst, params) = (InstanceId::HOST, [None; PARAMS_MAX]);
        Func { inst, is_async: true, lift: Lift::Stackful, body: Some(script), params, result: None }
    }
}

/// Guests, host, and what each does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Program {
    /// For each instance its parent; 0 is the host and has none.
    pub parents: Vec<Option<InstanceId>>,
    /// For each instance the script that destroys its resources.
    pub destructors: Vec<Option<u8>>,
    /// What can be called.
    pub funcs: Vec<Func>,
    /// Bodies.
    pub scripts: Vec<Vec<Op>>,
    /// Scripts that the host runs side by side.
    pub host: Vec<u8>,
}

impl Program {
    /// A host without scripts, and `guests` instances without parents.
    pub fn new(guests: usize) -> Program {
        Program { parents: vec![None; guests + 1], destructors: vec![None; guests + 1], ..Program::default() }
    }

    /// The operation at `pc` of a script.
    pub(crate) fn op(&self, script: u8, pc: u32) -> Option<Op> {
        self.scripts.get(usize::from(script))?.get(pc as usize).copied()
    }

    /// The script that destroys the resources of `rt`.
    pub(crate) fn destructor(&self, rt: InstanceId) -> Option<u8> {
        self.destructors.get(rt.index()).copied().flatten()
    }

    /// Operations in all scripts.
    pub fn len(&self) -> usize {
        self.scripts.iter().map(Vec::len).sum()
    }

    /// Whether there is no operation.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for Elem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Elem::Unit => f.write_str("unit"),
            Elem::U8 => f.write_str("u8"),
            Elem::U16 => f.write_str("u16"),
            Elem::U32 => f.write_str("u32"),
            Elem::U64 => f.write_str("u64"),
            Elem::Own(rt) => write!(f, "own{}", rt.0),
            Elem::Stream => f.write_str("stream"),
            Elem::Future => f.write_str("future"),
        }
    }
}

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ty::U32 => f.write_str("u32"),
            Ty::Own(rt) => write!(f, "own{}", rt.0),
            Ty::Borrow(rt) => write!(f, "borrow{}", rt.0),
            Ty::End(t) => write!(f, "{}/{}", kind(*t), t.elem),
        }
    }
}

impl fmt::Display for Arg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Arg::Imm(value) => write!(f, "#{value}"),
            Arg::Slot(slot) => write!(f, "s{slot}"),
        }
    }
}

fn kind(t: CopyType) -> &'static str {
    match t.kind {
        Kind::Stream => "stream",
        Kind::Future => "future",
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Sync => "sync",
        Mode::Async => "async",
    }
}

fn side(side: Side) -> &'static str {
    match side {
        Side::Read => "read",
        Side::Write => "write",
    }
}

fn cancellable(cancellable: bool) -> &'static str {
    if cancellable { "cancellable" } else { "plain" }
}

fn leave(leave: Leave) -> &'static str {
    match leave {
        Leave::Suspend => "suspend",
        Leave::Yield => "yield",
    }
}

fn target(target: Target) -> &'static str {
    match target {
        Target::Resume => "resume",
        Target::Promote => "promote",
    }
}

/// The specification's name, then the operands.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Op::New { t, r, w } => write!(f, "{}.new {} {r} {w}", kind(t), t.elem),
            Op::Copy { t, side: s, mode: m, end, ptr, n } => {
                write!(f, "{}.{} {} {} {end} {ptr} {n}", kind(t), side(s), t.elem, mode(m))
            }
            Op::CancelCopy { t, side: s, mode: m, end } => {
                write!(f, "{}.cancel-{} {} {} {end}", kind(t), side(s), t.elem, mode(m))
            }
            Op::DropEnd { t, side: Side::Read, end } => write!(f, "{}.drop-readable {} {end}", kind(t), t.elem),
            Op::DropEnd { t, side: Side::Write, end } => write!(f, "{}.drop-writable {} {end}", kind(t), t.elem),
            Op::SetNew { set } => write!(f, "waitable-set.new {set}"),
            Op::SetWait { set, cancellable: c } => write!(f, "waitable-set.wait {set} {}", cancellable(c)),
            Op::SetPoll { set, cancellable: c } => write!(f, "waitable-set.poll {set} {}", cancellable(c)),
            Op::SetDrop { set } => write!(f, "waitable-set.drop {set}"),
            Op::Join { waitable, set } => write!(f, "waitable.join {waitable} {set}"),
            Op::Call { func, mode: m, args: [a, b, c], sub, ret } => {
                write!(f, "call {func} {} {a} {b} {c} {sub} {ret}", mode(m))
            }
            Op::SubtaskCancel { mode: m, sub } => write!(f, "subtask.cancel {} {sub}", mode(m)),
            Op::SubtaskDrop { sub } => write!(f, "subtask.drop {sub}"),
            Op::TaskReturn { value } => write!(f, "task.return {value}"),
            Op::TaskCancel => f.write_str("task.cancel"),
            Op::Resolve { value } => write!(f, "resolve {value}"),
            Op::BackpressureInc => f.write_str("backpressure.inc"),
            Op::BackpressureDec => f.write_str("backpressure.dec"),
            Op::ContextGet { i } => write!(f, "context.get {i}"),
            Op::ContextSet { i, value } => write!(f, "context.set {i} {value}"),
            Op::ResourceNew { rep, handle } => write!(f, "resource.new {rep} {handle}"),
            Op::ResourceRep { handle } => write!(f, "resource.rep {handle}"),
            Op::ResourceDrop { rt, handle } => write!(f, "resource.drop {} {handle}", rt.0),
            Op::ThreadNew { script, thread } => write!(f, "thread.new-indirect {script} {thread}"),
            Op::ThreadIndex { thread } => write!(f, "thread.index {thread}"),
            Op::ThreadResumeLater { thread } => write!(f, "thread.resume-later {thread}"),
            Op::ThreadSuspend { cancellable: c } => write!(f, "thread.suspend {}", cancellable(c)),
            Op::ThreadYield { cancellable: c } => write!(f, "thread.yield {}", cancellable(c)),
            Op::ThreadSwitch { leave: l, target: t, cancellable: c, thread } => {
                write!(f, "thread.{}-then-{} {thread} {}", leave(l), target(t), cancellable(c))
            }
            Op::Return { value } => write!(f, "return {value}"),
            Op::Exit => f.write_str("exit"),
            Op::YieldCode => f.write_str("yield"),
            Op::WaitCode { set } => write!(f, "wait {set}"),
            Op::BadCode => f.write_str("bad-code"),
            Op::Store { ptr, value } => write!(f, "store {ptr} {value}"),
            Op::Load { ptr } => write!(f, "load {ptr}"),
            Op::GateWait { gate } => write!(f, "gate.wait {gate}"),
            Op::GateOpen { gate } => write!(f, "gate.open {gate}"),
            Op::Ext { ext, args: [a, b, c] } => write!(f, "ext {ext} {a} {b} {c}"),
        }
    }
}

impl fmt::Display for Func {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ty = if self.is_async { "async" } else { "sync" };
        let lift = match self.lift {
            Lift::Sync => "sync",
            Lift::Callback => "callback",
            Lift::Stackful => "stackful",
        };
        write!(f, "func {} {ty} {lift} {}", self.inst.0, optional(&self.body))?;
        for param in self.params {
            match param {
                Some((ty, slot)) => write!(f, " {ty}:{slot}")?,
                None => f.write_str(" -")?,
            }
        }
        write!(f, " {}", optional(&self.result))
    }
}

fn optional<T: fmt::Display>(value: &Option<T>) -> String {
    value.as_ref().map_or("-".to_owned(), T::to_string)
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (parent, destructor) in self.parents.iter().zip(&self.destructors).skip(1) {
            writeln!(f, "instance {} {}", optional(&parent.map(|parent| parent.0)), optional(destructor))?;
        }
        for func in &self.funcs {
            writeln!(f, "{func}")?;
        }
        for script in &self.host {
            writeln!(f, "host {script}")?;
        }
        for script in &self.scripts {
            writeln!(f, "script")?;
            for op in script {
                writeln!(f, "  {op}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = format!("{}.{}.{}", self.inst.0, self.run, self.at);
        match &self.outcome {
            Outcome::Start(args) => {
                write!(f, "{place} start")?;
                args.iter().try_for_each(|arg| write!(f, " {arg}"))
            }
            Outcome::Ret(BLOCKED) => write!(f, "{place} blocked"),
            Outcome::Ret(value) => write!(f, "{place} {value}"),
            Outcome::Ends(r, w) => write!(f, "{place} ends {r} {w}"),
            Outcome::Event(code, index, payload) => write!(f, "{place} event {code} {index} {payload}"),
            Outcome::Trap(rule) => write!(f, "trap {rule:?}"),
            Outcome::SomeTrap => f.write_str("trap"),
        }
    }
}

/// The line that was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError(pub String);

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read {:?}", self.0)
    }
}

impl std::error::Error for ParseError {}

/// Words of a line, taken from the left.
struct Words<'a>(std::str::SplitWhitespace<'a>);

impl<'a> Words<'a> {
    fn word(&mut self) -> Option<&'a str> {
        self.0.next()
    }

    fn number<T: FromStr>(&mut self) -> Option<T> {
        self.word()?.parse().ok()
    }

    fn arg(&mut self) -> Option<Arg> {
        let word = self.word()?;
        match word.strip_prefix('#') {
            Some(value) => Some(Arg::Imm(value.parse().ok()?)),
            None => Some(Arg::Slot(word.strip_prefix('s')?.parse().ok()?)),
        }
    }

    fn args(&mut self) -> Option<[Arg; PARAMS_MAX]> {
        Some([self.arg()?, self.arg()?, self.arg()?])
    }

    fn mode(&mut self) -> Option<Mode> {
        match self.word()? {
            "sync" => Some(Mode::Sync),
            "async" => Some(Mode::Async),
            _ => None,
        }
    }

    fn cancellable(&mut self) -> Option<bool> {
        match self.word()? {
            "cancellable" => Some(true),
            "plain" => Some(false),
            _ => None,
        }
    }

    fn maybe<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
        match self.word()? {
            "-" => Some(None),
            word => Some(Some(parse(word)?)),
        }
    }
}

fn parse_elem(word: &str) -> Option<Elem> {
    match word {
        "unit" => Some(Elem::Unit),
        "u8" => Some(Elem::U8),
        "u16" => Some(Elem::U16),
        "u32" => Some(Elem::U32),
        "u64" => Some(Elem::U64),
        "stream" => Some(Elem::Stream),
        "future" => Some(Elem::Future),
        _ => Some(Elem::Own(InstanceId(word.strip_prefix("own")?.parse().ok()?))),
    }
}

fn parse_kind(word: &str) -> Option<Kind> {
    match word {
        "stream" => Some(Kind::Stream),
        "future" => Some(Kind::Future),
        _ => None,
    }
}

fn parse_ty(word: &str) -> Option<Ty> {
    if let Some((kind, elem)) = word.split_once('/') {
        return Some(Ty::End(CopyType { kind: parse_kind(kind)?, elem: parse_elem(elem)? }));
    }
    match word.strip_prefix("borrow") {
        Some(rt) => Some(Ty::Borrow(InstanceId(rt.parse().ok()?))),
        None if word == "u32" => Some(Ty::U32),
        None => Some(Ty::Own(InstanceId(word.strip_prefix("own")?.parse().ok()?))),
    }
}

fn parse_param(word: &str) -> Option<(Ty, Slot)> {
    let (ty, slot) = word.split_once(':')?;
    Some((parse_ty(ty)?, slot.parse().ok()?))
}

fn parse_end_op(kind: Kind, name: &str, words: &mut Words<'_>) -> Option<Op> {
    let t = CopyType { kind, elem: parse_elem(words.word()?)? };
    let (read, write) = (Side::Read, Side::Write);
    match name {
        "new" => Some(Op::New { t, r: words.number()?, w: words.number()? }),
        "read" | "write" => Some(Op::Copy {
            t,
            side: if name == "read" { read } else { write },
            mode: words.mode()?,
            end: words.number()?,
            ptr: words.number()?,
            n: words.number()?,
        }),
        "cancel-read" => Some(Op::CancelCopy { t, side: read, mode: words.mode()?, end: words.number()? }),
        "cancel-write" => Some(Op::CancelCopy { t, side: write, mode: words.mode()?, end: words.number()? }),
        "drop-readable" => Some(Op::DropEnd { t, side: read, end: words.number()? }),
        "drop-writable" => Some(Op::DropEnd { t, side: write, end: words.number()? }),
        _ => None,
    }
}

fn parse_thread_op(name: &str, words: &mut Words<'_>) -> Option<Op> {
    let switch = |leave, target, words: &mut Words<'_>| {
        let thread = words.number()?;
        Some(Op::ThreadSwitch { leave, target, thread, cancellable: words.cancellable()? })
    };
    match name {
        "new-indirect" => Some(Op::ThreadNew { script: words.number()?, thread: words.number()? }),
        "index" => Some(Op::ThreadIndex { thread: words.number()? }),
        "resume-later" => Some(Op::ThreadResumeLater { thread: words.number()? }),
        "suspend" => Some(Op::ThreadSuspend { cancellable: words.cancellable()? }),
        "yield" => Some(Op::ThreadYield { cancellable: words.cancellable()? }),
        "suspend-then-resume" => switch(Leave::Suspend, Target::Resume, words),
        "yield-then-resume" => switch(Leave::Yield, Target::Resume, words),
        "suspend-then-promote" => switch(Leave::Suspend, Target::Promote, words),
        "yield-then-promote" => switch(Leave::Yield, Target::Promote, words),
        _ => None,
    }
}

fn parse_op(line: &str) -> Option<Op> {
    let mut words = Words(line.split_whitespace());
    let name = words.word()?;
    if let Some((family, rest)) = name.split_once('.') {
        if let Some(kind) = parse_kind(family) {
            return parse_end_op(kind, rest, &mut words);
        }
        if family == "thread" {
            return parse_thread_op(rest, &mut words);
        }
    }
    match name {
        "waitable-set.new" => Some(Op::SetNew { set: words.number()? }),
        "waitable-set.wait" => Some(Op::SetWait { set: words.number()?, cancellable: words.cancellable()? }),
        "waitable-set.poll" => Some(Op::SetPoll { set: words.number()?, cancellable: words.cancellable()? }),
        "waitable-set.drop" => Some(Op::SetDrop { set: words.number()? }),
        "waitable.join" => Some(Op::Join { waitable: words.number()?, set: words.arg()? }),
        "call" => Some(Op::Call {
            func: words.number()?,
            mode: words.mode()?,
            args: words.args()?,
            sub: words.number()?,
            ret: words.number()?,
        }),
        "subtask.cancel" => Some(Op::SubtaskCancel { mode: words.mode()?, sub: words.number()? }),
        "subtask.drop" => Some(Op::SubtaskDrop { sub: words.number()? }),
        "task.return" => Some(Op::TaskReturn { value: words.arg()? }),
        "task.cancel" => Some(Op::TaskCancel),
        "resolve" => Some(Op::Resolve { value: words.arg()? }),
        "backpressure.inc" => Some(Op::BackpressureInc),
        "backpressure.dec" => Some(Op::BackpressureDec),
        "context.get" => Some(Op::ContextGet { i: words.number()? }),
        "context.set" => Some(Op::ContextSet { i: words.number()?, value: words.arg()? }),
        "resource.new" => Some(Op::ResourceNew { rep: words.number()?, handle: words.number()? }),
        "resource.rep" => Some(Op::ResourceRep { handle: words.number()? }),
        "resource.drop" => Some(Op::ResourceDrop { rt: InstanceId(words.number()?), handle: words.number()? }),
        "return" => Some(Op::Return { value: words.arg()? }),
        "exit" => Some(Op::Exit),
        "yield" => Some(Op::YieldCode),
        "wait" => Some(Op::WaitCode { set: words.number()? }),
        "bad-code" => Some(Op::BadCode),
        "store" => Some(Op::Store { ptr: words.number()?, value: words.arg()? }),
        "load" => Some(Op::Load { ptr: words.number()? }),
        "gate.wait" => Some(Op::GateWait { gate: words.number()? }),
        "gate.open" => Some(Op::GateOpen { gate: words.number()? }),
        "ext" => Some(Op::Ext { ext: words.number()?, args: words.args()? }),
        _ => None,
    }
}

fn parse_func(words: &mut Words<'_>) -> Option<Func> {
    let inst = InstanceId(words.number()?);
    let is_async = words.mode()? == Mode::Async;
    let lift = match words.word()? {
        "sync" => Lift::Sync,
        "callback" => Lift::Callback,
        "stackful" => Lift::Stackful,
        _ => return None,
    };
    let body = words.maybe(|word| word.parse().ok())?;
    let params = [words.maybe(parse_param)?, words.maybe(parse_param)?, words.maybe(parse_param)?];
    Some(Func { inst, is_async, lift, body, params, result: words.maybe(parse_ty)? })
}

impl Program {
    fn parse_line(&mut self, line: &str) -> Option<()> {
        let mut words = Words(line.split_whitespace());
        match words.word()? {
            "instance" => {
                self.parents.push(words.maybe(|word| word.parse().ok().map(InstanceId))?);
                self.destructors.push(words.maybe(|word| word.parse().ok())?);
            }
            "func" => self.funcs.push(parse_func(&mut words)?),
            "host" => self.host.push(words.number()?),
            "script" => self.scripts.push(Vec::new()),
            _ => self.scripts.last_mut()?.push(parse_op(line)?),
        }
        Some(())
    }

    /// Whether there is every instance that the program names.
    pub fn is_closed(&self) -> bool {
        let inst = |inst: InstanceId| inst.index() < self.parents.len();
        let ty = |ty: Ty| match ty {
            Ty::Own(rt) | Ty::Borrow(rt) => inst(rt),
            Ty::End(t) => t.elem.handle().is_none_or(|ty| !matches!(ty, Ty::Own(rt) if !inst(rt))),
            Ty::U32 => true,
        };
        let lists = self.parents.len() == self.destructors.len() && !self.parents.is_empty();
        let func = |func: &Func| {
            inst(func.inst) && func.params.iter().flatten().all(|(param, _)| ty(*param)) && func.result.is_none_or(ty)
        };
        let op = |op: &Op| match *op {
            Op::ResourceDrop { rt, .. } => inst(rt),
            _ => true,
        };
        lists
            && self.funcs.iter().all(func)
            && self.scripts.iter().flatten().all(op)
            && self.parents.iter().flatten().all(|p| inst(*p))
    }
}

impl FromStr for Program {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Program, ParseError> {
        let mut program = Program::new(0);
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")) {
            program.parse_line(line).ok_or_else(|| ParseError(line.to_owned()))?;
        }
        if program.is_closed() { Ok(program) } else { Err(ParseError("a number of an instance".to_owned())) }
    }
}

impl FromStr for Record {
    type Err = ParseError;

    fn from_str(line: &str) -> Result<Record, ParseError> {
        parse_record(line).ok_or_else(|| ParseError(line.to_owned()))
    }
}

fn parse_record(line: &str) -> Option<Record> {
    let mut words = Words(line.split_whitespace());
    let place = words.word()?;
    if place == "trap" {
        return Some(Record { inst: InstanceId::HOST, run: 0, at: 0, outcome: Outcome::SomeTrap });
    }
    let mut parts = place.split('.');
    let inst = InstanceId(parts.next()?.parse().ok()?);
    let (run, at) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let outcome = match words.word()? {
        "start" => Outcome::Start(words.0.map(|word| word.parse().ok()).collect::<Option<Vec<u32>>>()?),
        "blocked" => Outcome::Ret(BLOCKED),
        "ends" => Outcome::Ends(words.number()?, words.number()?),
        "event" => Outcome::Event(words.number()?, words.number()?, words.number()?),
        value => Outcome::Ret(value.parse().ok()?),
    };
    Some(Record { inst, run, at, outcome })
}
