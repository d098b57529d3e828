//! Random programs that get somewhere.
//! A program that is random without looking breaks a rule after a few operations. So this one is written while it runs:
//! whenever a body comes to the end of its list, operations are proposed that fit what its instance holds, and the model
//! is asked; one that traps is taken only now and then.
//! Knows nothing of whether the programs are interesting; same seed, same program.

use std::sync::Arc;

use crate::elem::{Elem, InstanceId, Ty};
use crate::ext::{Extension, shipped};
use crate::op::{Arg, CopyType, Kind, Leave, Mode, Op, PARAMS_MAX, SLOTS, Side, Slot, Target};
use crate::profile::{Profile, Quirk, Quirks};
use crate::program::{Func, Lift, Program};
use crate::sched::{Cx, Rng, Seeded};
use crate::stream::{CopyEnd, CopyState};
use crate::table::{ThreadId, WaitableId};
use crate::task::{CallSite, TaskState};
use crate::thread::ThreadState;
use crate::waitable::WaitableKind;
use crate::world::{Code, Entry, Frame, MEMORY, Progress, World};

/// What kind of program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One guest body, called once: streams, futures, sets.
    Single,
    /// Two guests and the host: calls, cancellation, backpressure, resources, gates.
    Calls,
    /// The same, and threads.
    Threads,
    /// Three guests that call only those behind them, and a host that only calls the first one: what can be linked as components.
    Layers,
    /// The same, and threads.
    LayerThreads,
    /// `Single`, with the extensions that are shipped.
    SingleExtensions,
    /// `Layers`, with the same.
    LayerExtensions,
    /// Such guests, and a host that they call as well: it calls several of them at once, cancels calls, answers late, and holds ends
    /// of streams and futures on both sides.
    Hosted,
}

impl Shape {
    fn has_threads(self) -> bool {
        matches!(self, Shape::Threads | Shape::LayerThreads)
    }

    fn is_layered(self) -> bool {
        matches!(self, Shape::Layers | Shape::LayerThreads | Shape::LayerExtensions | Shape::Hosted)
    }

    fn is_single(self) -> bool {
        matches!(self, Shape::Single | Shape::SingleExtensions)
    }

    fn has_extensions(self) -> bool {
        matches!(self, Shape::SingleExtensions | Shape::LayerExtensions)
    }

    fn extensions(self) -> Vec<Arc<dyn Extension>> {
        if self.has_extensions() { shipped() } else { Vec::new() }
    }
}

/// Operations that one body has at most, before those that end it.
const BODY_OPS_MAX: usize = 14;

/// Steps after which generation stops.
const STEPS_MAX: usize = 400;

/// Of operations that have to wait for somebody, one in so many is taken.
const WAIT_ONE_IN: usize = 3;

/// One operation in so many is allowed to trap.
const TRAP_ONE_IN: usize = 40;

/// The host of `Shape::Hosted` does only what it may do.
const HOSTED: Quirks = Quirks::NONE.with(Quirk::HostBeside).with(Quirk::EmptyReadOfHost);

/// A program of this shape.
pub fn program(shape: Shape, seed: u64) -> Program {
    let mut rng = Rng(seed);
    let (program, open) = skeleton(shape, &mut rng);
    let profile = if shape == Shape::Hosted { Profile { quirks: HOSTED, ..Profile::R1 } } else { Profile::R1 };
    let world = World::new(profile, Arc::new(Code { program, extensions: shape.extensions() }));
    let mut generator = Generator { shape, rng, world, open };
    let mut chooser = Seeded::new(seed ^ 0x5eed);
    for _ in 0..STEPS_MAX {
        generator.extend();
        let mut log = Vec::new();
        let cx = &mut Cx { chooser: &mut chooser, log: &mut log };
        if generator.world.advance(cx) == Progress::Idle {
            break;
        }
    }
    generator.world.program().clone()
}

/// A program of this shape in which a third of the operations stand where they make no sense.
///
/// Calls, new threads and destructors stay as they are, so that it still ends.
pub fn scrambled(shape: Shape, seed: u64) -> Program {
    let mut program = program(shape, seed);
    let mut rng = Rng(seed);
    let moves = |op: &Op| !matches!(op, Op::Call { .. } | Op::ThreadNew { .. });
    // What only the host does would mean nothing elsewhere.
    let of_host = |op: &Op| matches!(op, Op::GateWait { .. } | Op::GateOpen { .. });
    let ops: Vec<Op> = program.scripts.iter().flatten().copied().filter(|op| moves(op) && !of_host(op)).collect();
    for script in 0..program.scripts.len() {
        if program.destructors.contains(&Some(script as u8)) {
            continue;
        }
        for op in program.scripts[script].iter_mut().filter(|op| moves(op)) {
            if rng.one_in(3) && !ops.is_empty() {
                *op = ops[rng.below(ops.len())];
            }
        }
    }
    program
}

struct Generator {
    shape: Shape,
    rng: Rng,
    world: World,
    /// For each script how many operations it may still get; `None` once it is finished.
    open: Vec<Option<usize>>,
}

/// Instances, functions and empty scripts.
fn skeleton(shape: Shape, rng: &mut Rng) -> (Program, Vec<Option<usize>>) {
    let guests = if shape.is_single() { 1 } else { 2 };
    let mut program = Program::new(guests);
    let script = |program: &mut Program| {
        program.scripts.push(Vec::new());
        (program.scripts.len() - 1) as u8
    };
    if shape.is_single() {
        let body = Some(script(&mut program));
        let inst = InstanceId(1);
        program.funcs.push(Func { inst, body, result: None, ..Func::host_script(0) });
        let host = script(&mut program);
        let none = [Arg::Imm(0); PARAMS_MAX];
        program.scripts[1].push(Op::Call { func: 0, mode: Mode::Async, args: none, sub: 0, ret: 1 });
        program.host.push(host);
        let ops = if shape.has_extensions() { 2 * BODY_OPS_MAX } else { BODY_OPS_MAX + 6 };
        return (program, vec![Some(ops), None]);
    }
    if shape == Shape::Hosted {
        return hosted(rng);
    }
    if shape.is_layered() {
        return layers(shape, rng);
    }
    // In this order, because bodies only call functions that come later: programs end.
    for inst in [1, 2, 1, 2, 1, 2, 0, 0] {
        let body = Some(script(&mut program));
        program.funcs.push(func(InstanceId(inst), body, rng));
    }
    for inst in 1..=guests {
        if rng.one_in(3) {
            program.destructors[inst] = Some(script(&mut program));
        }
    }
    for _ in 0..1 + rng.below(2) {
        let host = script(&mut program);
        program.host.push(host);
    }
    if shape == Shape::Threads {
        // The last two are for threads; they make none themselves.
        for _ in 0..2 {
            script(&mut program);
        }
    }
    let open = (0..program.scripts.len()).map(|_| Some(3 + rng.below(BODY_OPS_MAX - 3))).collect();
    (program, open)
}

/// Each instance knows those behind it, and their resources.
fn layers(shape: Shape, rng: &mut Rng) -> (Program, Vec<Option<usize>>) {
    let mut program = Program::new(LAYERS);
    let mut open = Vec::new();
    let mut script = |program: &mut Program, ops: Option<usize>| {
        program.scripts.push(Vec::new());
        open.push(ops);
        (program.scripts.len() - 1) as u8
    };
    for inst in [1, 1, 2, 2, 3, 3] {
        let body = Some(script(&mut program, Some(3 + rng.below(BODY_OPS_MAX - 3))));
        let mut func = func(InstanceId(inst), body, rng);
        for (ty, _) in func.params.iter_mut().flatten() {
            if let Ty::Own(rt) | Ty::Borrow(rt) = ty {
                *rt = behind(func.inst, rng);
            }
        }
        if inst == 1 {
            (func.params, func.result) = ([None; PARAMS_MAX], None);
        }
        program.funcs.push(func);
    }
    for inst in 1..=LAYERS {
        if rng.one_in(3) {
            program.destructors[inst] = Some(script(&mut program, Some(3 + rng.below(BODY_OPS_MAX - 3))));
        }
    }
    let host = script(&mut program, None);
    for func in 0..2 {
        let call = Op::Call { func, mode: Mode::Async, args: [Arg::Imm(0); PARAMS_MAX], sub: func, ret: 2 };
        program.scripts[usize::from(host)].push(call);
    }
    program.host.push(host);
    if shape.has_threads() {
        for _ in 0..2 {
            script(&mut program, Some(3 + rng.below(BODY_OPS_MAX - 3)));
        }
    }
    (program, open)
}

/// A stream or future that would be a parameter, if there were one.
fn missing_end(params: &[Option<(Ty, Slot)>; PARAMS_MAX], args: &[Arg; PARAMS_MAX]) -> Option<CopyType> {
    params.iter().flatten().zip(args).find_map(|((ty, _), arg)| match (ty, arg) {
        (Ty::End(t), Arg::Imm(_)) => Some(*t),
        _ => None,
    })
}

/// As `layers`, with two or three scripts of the host, and functions of the host, whose bodies are whole already.
fn hosted(rng: &mut Rng) -> (Program, Vec<Option<usize>>) {
    let mut program = Program::new(LAYERS);
    for inst in [1, 1, 2, 3] {
        let mut func = func(InstanceId(inst), Some(program.scripts.len() as u8), rng);
        for (ty, _) in func.params.iter_mut().flatten() {
            *ty = end_or_number(rng);
        }
        func.result = func.result.map(|_| end_or_number(rng));
        program.funcs.push(func);
        program.scripts.push(Vec::new());
    }
    let mut open: Vec<_> = program.scripts.iter().map(|_| Some(3 + rng.below(BODY_OPS_MAX - 3))).collect();
    let mut slots = 0..HOST_SLOTS_OF_FUNCTIONS;
    for _ in 0..2 {
        let (func, body) = host_function(program.scripts.len() as u8, &mut slots, rng);
        program.funcs.push(func);
        program.scripts.push(body);
        open.push(None);
    }
    for _ in 0..2 + rng.below(2) {
        program.host.push(program.scripts.len() as u8);
        program.scripts.push(Vec::new());
        open.push(Some(5 + rng.below(BODY_OPS_MAX - 8)));
    }
    (program, open)
}

/// Slots of the host that its functions use; the rest is for its scripts. None is used for two things.
const HOST_SLOTS_OF_FUNCTIONS: Slot = 6;

/// A function of the host keeps what it is given, for the host's scripts. It may answer late, and then with a number, because a
/// cancellation would leave an end without an owner; or at once, perhaps with an end that the host writes.
fn host_function(script: u8, slots: &mut std::ops::Range<Slot>, rng: &mut Rng) -> (Func, Vec<Op>) {
    let mut params = [None; PARAMS_MAX];
    if rng.below(3) > 0 {
        params[0] = slots.next().map(|slot| (end_or_number(rng), slot));
    }
    let mut body = Vec::new();
    if rng.one_in(2) {
        body.push(Op::GateOpen { gate: rng.below(2) as u8 });
    }
    let late = rng.one_in(2);
    if late {
        body.push(Op::GateWait { gate: rng.below(4) as u8 });
    }
    let result = Some(if late { Ty::U32 } else { end_or_number(rng) }).filter(|_| rng.below(3) > 0);
    let value = match (result, slots.next(), slots.next()) {
        (Some(Ty::End(t)), Some(r), Some(w)) => {
            body.push(Op::New { t, r, w });
            Arg::Slot(r)
        }
        _ => Arg::Imm(700),
    };
    let result = result.filter(|ty| !matches!((ty, value), (Ty::End(_), Arg::Imm(_))));
    body.push(Op::Resolve { value });
    let (inst, lift, body_at) = (InstanceId::HOST, Lift::Stackful, Some(script));
    (Func { inst, is_async: true, lift, body: body_at, params, result }, body)
}

fn end_or_number(rng: &mut Rng) -> Ty {
    match rng.below(6) {
        0..=2 => Ty::End(CopyType { kind: Kind::Stream, elem: Elem::U8 }),
        3 | 4 => Ty::End(CopyType { kind: Kind::Future, elem: Elem::U8 }),
        _ => Ty::U32,
    }
}

/// Guests of a layered program.
const LAYERS: usize = 3;

/// The instance or one that it knows.
fn behind(inst: InstanceId, rng: &mut Rng) -> InstanceId {
    InstanceId(inst.0 + rng.below(LAYERS + 1 - inst.index()) as u8)
}

fn func(inst: InstanceId, body: Option<u8>, rng: &mut Rng) -> Func {
    let (is_async, lift) = match rng.below(8) {
        _ if inst == InstanceId::HOST => (true, Lift::Stackful),
        0 | 1 => (false, Lift::Sync),
        2 => (true, Lift::Sync),
        3 | 4 => (true, Lift::Stackful),
        _ => (true, Lift::Callback),
    };
    let mut params = [None; PARAMS_MAX];
    for (slot, param) in params.iter_mut().enumerate().take(rng.below(PARAMS_MAX)) {
        *param = Some((param_type(rng), region(body) + slot as Slot));
    }
    // A function can only return resources that it can make.
    let result = match result_type(rng) {
        Ty::Own(_) if inst == InstanceId::HOST => None,
        Ty::Own(_) => Some(Ty::Own(inst)),
        ty => Some(ty).filter(|_| rng.one_in(2)),
    };
    Func { inst, is_async, lift, body, params, result }
}

/// The first of the slots that a body mostly uses, so that bodies don't take each other's handles too often.
fn region(script: Option<u8>) -> Slot {
    REGION * (script.unwrap_or(0) % 3)
}

/// Slots that a body mostly uses.
const REGION: u8 = 5;

fn guest(rng: &mut Rng) -> InstanceId {
    InstanceId(1 + rng.below(2) as u8)
}

fn param_type(rng: &mut Rng) -> Ty {
    match rng.below(6) {
        0 => Ty::Borrow(guest(rng)),
        _ => result_type(rng),
    }
}

fn result_type(rng: &mut Rng) -> Ty {
    match rng.below(8) {
        0 => Ty::Own(guest(rng)),
        1..=3 => Ty::End(CopyType { kind: Kind::Stream, elem: Elem::U8 }),
        4 | 5 => Ty::End(CopyType { kind: Kind::Future, elem: Elem::U8 }),
        _ => Ty::U32,
    }
}

impl Generator {
    /// Gives the running body an operation if it has come to the end of its list.
    fn extend(&mut self) {
        let Some(&Frame::Thread(t)) = self.world.stack.last() else { return };
        let thread = &self.world.threads[t];
        let Some(script) = thread.script.map(usize::from) else { return };
        if thread.pc as usize != self.world.program().scripts[script].len() {
            return;
        }
        let Some(budget) = self.open[script] else { return };
        if budget == 0 {
            self.close(t, script);
            return;
        }
        self.open[script] = Some(budget - 1);
        let trap_wanted = self.rng.one_in(TRAP_ONE_IN);
        for _ in 0..30 {
            let op = self.propose(t);
            if trap_wanted || !self.fails(t, op) {
                self.push(script, op);
                return;
            }
        }
    }

    fn push(&mut self, script: usize, op: Op) {
        Arc::make_mut(&mut self.world.code).program.scripts[script].push(op);
    }

    /// Whether the law forbids the operation here, or it would wait for ever.
    fn fails(&mut self, t: ThreadId, op: Op) -> bool {
        let mut trial = self.world.clone();
        trial.threads[t].pc += 1;
        let cx = &mut Cx { chooser: &mut Seeded::new(self.rng.next_u64()), log: &mut Vec::new() };
        let done = trial.op(cx, t, op);
        let waits = trial.threads.get(t.0).is_some_and(|thread| {
            matches!(thread.state, ThreadState::Waiting(..) | ThreadState::Suspended(_)) && !trial.is_ready(t)
        });
        done.is_err() || waits && (self.shape.is_single() || !self.rng.one_in(WAIT_ONE_IN))
    }

    /// What a well-behaved body does last: gives back what it has borrowed, and resolves its task.
    fn close(&mut self, t: ThreadId, script: usize) {
        self.open[script] = None;
        let thread = &self.world.threads[t];
        if thread.explicit || thread.host_script || thread.post_return {
            return;
        }
        let task = self.world.tasks[thread.task].clone();
        for (ty, handle) in task.func.params.into_iter().flatten() {
            if let Ty::Borrow(rt) = ty
                && rt != task.func.inst
            {
                self.push(script, Op::ResourceDrop { rt, handle });
            }
        }
        let value = self.value(task.func.inst, task.func.result);
        if let (Arg::Imm(_), Some(ty)) = (value, task.func.result)
            && task.state != TaskState::CancelDelivered
            && let Some(op) = self.make(t, ty)
        {
            self.open[script] = Some(0);
            self.push(script, op);
            return;
        }
        match task.func.lift {
            Lift::Sync => self.push(script, Op::Return { value }),
            Lift::Callback | Lift::Stackful if task.state != TaskState::Resolved => {
                self.push(script, Op::Resolve { value });
            }
            Lift::Callback | Lift::Stackful => {}
        }
        // Some bodies go on after that. Destructors have no `post-return`.
        if self.rng.one_in(3) && !self.in_destructor(t) {
            self.open[script] = Some(1 + self.rng.below(3));
        }
    }

    /// An operation that gives the instance a value of this type.
    fn make(&mut self, t: ThreadId, ty: Ty) -> Option<Op> {
        match ty {
            Ty::End(ty) => Some(Op::New { t: ty, r: self.slot(t), w: self.slot(t) }),
            Ty::Own(_) => Some(Op::ResourceNew { rep: 7, handle: self.slot(t) }),
            Ty::U32 | Ty::Borrow(_) => None,
        }
    }

    /// An argument of this type, if the instance has one.
    fn value(&mut self, inst: InstanceId, ty: Option<Ty>) -> Arg {
        let fits = |entry: &Entry| match (ty, entry) {
            (Some(Ty::Own(rt) | Ty::Borrow(rt)), Entry::Resource(handle)) => handle.rt == rt,
            (Some(Ty::End(t)), Entry::Waitable(w)) => match &self.world.waitables[*w].kind {
                WaitableKind::End(end) => end.t == t && end.side == Side::Read && end.state == CopyState::Idle,
                WaitableKind::Subtask(_) => false,
            },
            _ => false,
        };
        let held = self.held(inst);
        let fitting: Vec<Slot> = held.iter().filter(|(_, entry)| fits(entry)).map(|(slot, _)| *slot).collect();
        match fitting.get(self.rng.below(fitting.len())) {
            Some(&slot) => Arg::Slot(slot),
            // No index of anything.
            None if self.shape == Shape::Hosted => Arg::Imm(900 + self.rng.below(5) as u32),
            None => Arg::Imm(self.rng.below(5) as u32),
        }
    }

    /// Slots that name something in the instance's table.
    fn held(&self, inst: InstanceId) -> Vec<(Slot, Entry)> {
        let inst = &self.world.instances[inst.index()];
        let slot = |slot: usize| Some((slot as Slot, inst.handles.get(inst.slots[slot])?.clone()));
        (0..SLOTS).filter_map(slot).collect()
    }

    fn slot(&mut self, t: ThreadId) -> Slot {
        region(self.world.threads[t].script) + self.rng.below(usize::from(REGION)) as Slot
    }

    fn copy_type(&mut self, inst: InstanceId) -> CopyType {
        if self.shape.has_extensions() && !self.rng.one_in(4) {
            // What is joined is of one type.
            return CopyType { kind: Kind::Stream, elem: Elem::U8 };
        }
        let kind = if self.rng.below(3) < 2 { Kind::Stream } else { Kind::Future };
        let elem = match self.rng.below(16) {
            0 | 1 => Elem::Unit,
            2 => Elem::U16,
            3 => Elem::U32,
            4 => Elem::U64,
            5 if self.shape.is_layered() => Elem::Own(behind(inst, &mut self.rng)),
            5 if !self.shape.is_single() => Elem::Own(guest(&mut self.rng)),
            6 => Elem::Stream,
            7 => Elem::Future,
            _ => Elem::U8,
        };
        CopyType { kind, elem }
    }

    fn propose(&mut self, t: ThreadId) -> Op {
        let inst = self.world.instance_of(t);
        let held = self.held(inst);
        if self.shape == Shape::Hosted && inst == InstanceId::HOST {
            return self.propose_of_host(t, &held);
        }
        if self.shape.has_extensions()
            && self.rng.one_in(2)
            && let Some(op) = self.propose_for_reads(&held)
        {
            return op;
        }
        if self.shape == Shape::Hosted {
            let shared = self.shared_with_others(inst, &held);
            if let Some(&(slot, w)) = shared.get(self.rng.below(2 * shared.len())) {
                return self.propose_on(t, slot, &Entry::Waitable(w));
            }
        }
        match self.rng.below(100) {
            10..=15 => Op::SetNew { set: self.slot(t) },
            0..=39 if self.world.threads[t].host_script => self.propose_call(t, inst),
            16..=27 if !self.shape.is_single() => self.propose_call(t, inst),
            28..=35 if self.shape.has_threads() => self.propose_thread(t),
            36..=43 if !self.shape.is_single() => self.propose_rest(t, inst),
            44 | 45 => Op::Load { ptr: 4 * self.rng.below(16) as u32 },
            0..=9 => Op::New { t: self.copy_type(inst), r: self.slot(t), w: self.slot(t) },
            _ => match self.one_of(&held) {
                Some((slot, entry)) => self.propose_on(t, *slot, entry),
                None => Op::New { t: self.copy_type(inst), r: self.slot(t), w: self.slot(t) },
            },
        }
    }

    /// Of two things that the instance holds rather the rarer.
    fn one_of<'a>(&mut self, held: &'a [(Slot, Entry)]) -> Option<&'a (Slot, Entry)> {
        let rare = |entry: &&(Slot, Entry)| match &entry.1 {
            Entry::Waitable(w) => matches!(self.world.waitables[*w].kind, WaitableKind::Subtask(_)),
            Entry::Resource(_) => true,
            Entry::Set(_) => false,
        };
        let (first, second) = (held.get(self.rng.below(held.len())), held.get(self.rng.below(held.len())));
        first.filter(rare).or(second)
    }

    fn propose_call(&mut self, t: ThreadId, inst: InstanceId) -> Op {
        let thread_id = t;
        let thread = &self.world.threads[t];
        let own = self.world.program().funcs.iter().position(|func| func.body == thread.script);
        let funcs = self.world.program().funcs.len();
        let first = match own {
            _ if thread.host_script => 0,
            Some(own) => own + 1,
            None if self.shape.is_layered() => 0,
            None => funcs - 2,
        };
        if first >= funcs {
            return Op::Load { ptr: 0 };
        }
        // A body that runs twice does to its handles what it has done already, and mostly traps.
        let called = |func: usize| {
            let func = &self.world.program().funcs[func];
            func.body.is_some_and(|body| self.world.instances[func.inst.index()].bodies.contains(&body))
        };
        let first = match self.shape.is_layered() {
            true => {
                let others = |func: &Func| func.inst > inst || func.inst == InstanceId::HOST;
                self.world.program().funcs.iter().position(others).unwrap_or(funcs).max(first)
            }
            false => first,
        };
        if first >= funcs {
            return Op::Load { ptr: 0 };
        }
        let fresh: Vec<usize> = (first..funcs).filter(|&func| !called(func)).collect();
        let again = self.rng.one_in(6);
        let func = match fresh.get(self.rng.below(fresh.len())) {
            Some(&func) if !again => func,
            _ if again => first + self.rng.below(funcs - first),
            _ => return Op::Load { ptr: 0 },
        };
        let Func { params, is_async, .. } = self.world.program().funcs[func];
        let args = params.map(|param| self.value(inst, param.map(|(ty, _)| ty)));
        if let Some(t) = missing_end(&params, &args).filter(|_| self.shape == Shape::Hosted) {
            return Op::New { t, r: self.slot(thread_id), w: self.slot(thread_id) };
        }
        let mode = if self.rng.one_in(3) { Mode::Sync } else { Mode::Async };
        // Validators want it so.
        let mode = if self.shape.is_layered() && !is_async { Mode::Sync } else { mode };
        Op::Call { func: func as u8, mode, args, sub: self.slot(t), ret: self.slot(t) }
    }

    fn propose_thread(&mut self, t: ThreadId) -> Op {
        let scripts = self.world.program().scripts.len();
        let cancellable = self.rng.one_in(2);
        let thread = self.thread_slot(t);
        let leave = if self.rng.one_in(2) { Leave::Suspend } else { Leave::Yield };
        let target = if self.rng.one_in(2) { Target::Resume } else { Target::Promote };
        match self.rng.below(8) {
            0..=2 if !self.world.threads[t].explicit => {
                Op::ThreadNew { script: (scripts - 1 - self.rng.below(2)) as u8, thread }
            }
            2 | 3 => Op::ThreadResumeLater { thread },
            4 => Op::ThreadSuspend { cancellable },
            5 => Op::ThreadIndex { thread },
            _ => Op::ThreadSwitch { leave, target, cancellable, thread },
        }
    }

    /// Mostly a slot that names a thread.
    fn thread_slot(&mut self, t: ThreadId) -> Slot {
        let inst = &self.world.instances[self.world.instance_of(t).index()];
        let own = self.world.threads[t].index.unwrap_or(0);
        let named = |slot: &usize| inst.slots[*slot] != own && inst.threads.get(inst.slots[*slot]).is_some();
        let slots: Vec<usize> = (0..SLOTS).filter(named).collect();
        match slots.get(self.rng.below(slots.len())) {
            Some(&slot) => slot as Slot,
            None => self.slot(t),
        }
    }

    /// What the host's interface to streams, futures and calls can say.
    fn propose_of_host(&mut self, t: ThreadId, held: &[(Slot, Entry)]) -> Op {
        let shared = self.shared_with_others(InstanceId::HOST, held);
        if let Some(&(slot, w)) = shared.get(self.rng.below(2 * shared.len()))
            && let Some(op) = self.host_on(t, slot, w)
        {
            return op;
        }
        // Functions of the host open the first two when they have got something.
        let nothing = Op::GateOpen { gate: 2 + self.rng.below(2) as u8 };
        match self.rng.below(10) {
            0..=4 => self.host_call(t).unwrap_or(nothing),
            5 => nothing,
            6 | 7 => Op::GateWait { gate: self.rng.below(3) as u8 },
            8 => match (self.host_cell(), self.rng.below(SLOTS)) {
                (Some(ptr), slot) if self.holds_number(slot) => Op::Store { ptr, value: Arg::Slot(slot as Slot) },
                _ => nothing,
            },
            _ => match held.get(self.rng.below(held.len())) {
                Some((slot, Entry::Waitable(w))) => self.host_on(t, *slot, *w).unwrap_or(nothing),
                _ => nothing,
            },
        }
    }

    /// Ends whose other end somebody else has.
    fn shared_with_others(&self, inst: InstanceId, held: &[(Slot, Entry)]) -> Vec<(Slot, WaitableId)> {
        let shared = |(slot, entry): &(Slot, Entry)| {
            let Entry::Waitable(w) = entry else { return None };
            let WaitableKind::End(end) = &self.world.waitables[*w].kind else { return None };
            let other = self.world.shared[end.shared].ends[end.side.other().index()]?;
            (self.world.waitables[other].inst != inst).then_some((*slot, *w))
        };
        held.iter().filter_map(shared).collect()
    }

    fn host_on(&mut self, thread: ThreadId, slot: Slot, w: WaitableId) -> Option<Op> {
        let end = match &self.world.waitables[w].kind {
            WaitableKind::Subtask(_) => return Some(Op::SubtaskCancel { mode: Mode::Async, sub: slot }),
            WaitableKind::End(end) if self.owns(thread, slot) => *end,
            WaitableKind::End(_) => return None,
        };
        let (t, side) = (end.t, end.side);
        let writes = |op: &Op| matches!(op, Op::Copy { mode: Mode::Async, end, .. } if *end == slot);
        let cancels = |op: &Op| matches!(op, Op::CancelCopy { end, .. } if *end == slot);
        if self.host_ops().filter(writes).count() > self.host_ops().filter(cancels).count() {
            // Whether it is over already depends on who came first.
            return Some(Op::CancelCopy { t, side, mode: Mode::Async, end: slot });
        }
        let n = 1 + self.rng.below(6) as u32;
        let mode = if t.kind == Kind::Future || self.rng.one_in(2) { Mode::Sync } else { Mode::Async };
        match (side, end.state) {
            (_, CopyState::Copying | CopyState::Cancelling) => None,
            _ if self.rng.one_in(5) => Some(Op::DropEnd { t, side, end: slot }),
            // A write that nobody waits for is whole or nothing: of a larger one the rest would still be there.
            (Side::Write, _) if mode == Mode::Async => {
                Some(Op::Copy { t, side, mode, end: slot, ptr: self.rng.below(16) as u32, n: 1 })
            }
            (Side::Write, _) => Some(Op::Copy { t, side, mode, end: slot, ptr: self.rng.below(16) as u32, n }),
            (Side::Read, _) => {
                let ptr = self.host_cell()?;
                Some(Op::Copy { t, side, mode: Mode::Sync, end: slot, ptr, n: n.min(4) })
            }
        }
    }

    /// Several at once, each of a function that was not called yet, with ends that the host has.
    fn host_call(&mut self, t: ThreadId) -> Option<Op> {
        let called = |func: usize| {
            let calls = |op: &Op| matches!(op, Op::Call { func: other, .. } if usize::from(*other) == func);
            self.host_ops().any(|op| calls(&op))
        };
        let guests = self.world.program().funcs.iter().take_while(|func| func.inst != InstanceId::HOST).count();
        let fresh: Vec<usize> = (0..guests).filter(|&func| !called(func)).collect();
        let again = self.rng.one_in(8);
        let func = match fresh.get(self.rng.below(fresh.len())) {
            Some(&func) => func,
            None if again => self.rng.below(guests),
            None => return None,
        };
        let Func { params, result, .. } = self.world.program().funcs[func];
        let inst = self.world.instance_of(t);
        let args = params.map(|param| self.value(inst, param.map(|(ty, _)| ty)));
        if let Some(t) = missing_end(&params, &args) {
            // The next time there is one.
            return Some(Op::New { t, r: self.fresh_slot(0)?, w: self.fresh_slot(1)? });
        }
        let twice =
            args.iter().any(|arg| matches!(arg, Arg::Slot(_)) && args.iter().filter(|other| *other == arg).count() > 1);
        let own = |arg: &Arg| match arg {
            Arg::Slot(slot) => self.owns(t, *slot),
            Arg::Imm(_) => true,
        };
        if twice || !args.iter().all(own) {
            return None;
        }
        let nowhere = CallSite::NOWHERE;
        let (mode, sub, ret) = match self.rng.below(4) {
            0 | 1 => (Mode::Sync, nowhere, result.and_then(|_| self.fresh_slot(0)).unwrap_or(nowhere)),
            _ => (Mode::Async, self.fresh_slot(0)?, nowhere),
        };
        Some(Op::Call { func: func as u8, mode, args, sub, ret })
    }

    /// Whether the script uses the end there: another might find it in use or not, depending on who comes first.
    fn owns(&self, t: ThreadId, slot: Slot) -> bool {
        let program = self.world.program();
        let makes = |op: &Op| match *op {
            Op::New { r, w, .. } => r == slot || w == slot,
            Op::Call { ret, .. } => ret == slot,
            _ => false,
        };
        let maker = program.host.iter().find(|script| program.scripts[usize::from(**script)].iter().any(makes));
        let owner = maker.copied().unwrap_or(program.host[usize::from(slot) % program.host.len()]);
        self.world.threads[t].script == Some(owner)
    }

    fn host_ops(&self) -> impl Iterator<Item = Op> + '_ {
        let program = self.world.program();
        program.host.iter().flat_map(|script| program.scripts[usize::from(*script)].iter().copied())
    }

    /// A slot that no script of the host has used, after so many others.
    fn fresh_slot(&self, others: Slot) -> Option<Slot> {
        let used = self.host_ops().map(|op| match op {
            Op::New { r, w, .. } => r.max(w),
            Op::Call { mode: Mode::Sync, ret: slot, .. } | Op::Call { sub: slot, .. } if slot != CallSite::NOWHERE => {
                slot
            }
            _ => 0,
        });
        let slot = used.max().unwrap_or(0).max(HOST_SLOTS_OF_FUNCTIONS - 1) + 1 + others;
        Some(slot).filter(|slot| usize::from(*slot) < SLOTS)
    }

    /// Four bytes of the host's memory that nothing else of it writes, above those that it sends.
    fn host_cell(&self) -> Option<u32> {
        let writes = |op: &Op| matches!(op, Op::Store { .. } | Op::Copy { side: Side::Read, .. });
        let ptr = 24 + 4 * self.host_ops().filter(writes).count() as u32;
        Some(ptr).filter(|ptr| ptr + 4 <= MEMORY as u32)
    }

    /// Whether a call or a function of the host puts a number there.
    fn holds_number(&self, slot: usize) -> bool {
        let program = self.world.program();
        let own = program.funcs.iter().filter(|func| func.inst == InstanceId::HOST);
        let of_params = own.flat_map(|func| func.params.into_iter().flatten());
        let of_calls = self.host_ops().filter_map(|op| match op {
            Op::Call { func, ret, .. } => Some((program.funcs[usize::from(func)].result?, ret)),
            _ => None,
        });
        of_params.chain(of_calls).any(|(ty, at)| ty == Ty::U32 && usize::from(at) == slot)
    }

    /// What needs no handle.
    fn propose_rest(&mut self, t: ThreadId, inst: InstanceId) -> Op {
        let func = self.world.tasks[self.world.threads[t].task].func;
        let value = Arg::Imm(self.rng.below(9) as u32);
        match self.rng.below(12) {
            0 => Op::BackpressureInc,
            1 | 2 => Op::BackpressureDec,
            3 => Op::ContextSet { i: self.rng.below(2) as u8, value },
            4 => Op::ContextGet { i: self.rng.below(2) as u8 },
            5 if inst != InstanceId::HOST => Op::ResourceNew { rep: self.rng.below(99) as u32, handle: self.slot(t) },
            6 if inst == InstanceId::HOST => Op::GateOpen { gate: self.rng.below(2) as u8 },
            7 if inst == InstanceId::HOST => Op::GateWait { gate: self.rng.below(2) as u8 },
            8 if func.lift == Lift::Callback => Op::YieldCode,
            9 if self.rng.one_in(2) => Op::TaskReturn { value: self.value(inst, func.result) },
            10 if self.rng.one_in(3) => Op::TaskCancel,
            _ => Op::ThreadYield { cancellable: self.rng.one_in(2) },
        }
    }

    fn in_destructor(&self, t: ThreadId) -> bool {
        let script = self.world.threads[t].script;
        script.is_some() && self.world.program().destructors.contains(&script)
    }

    /// Something to do with what a slot names.
    fn propose_on(&mut self, t: ThreadId, slot: Slot, entry: &Entry) -> Op {
        let cancellable = self.rng.one_in(3);
        let mode = if self.rng.one_in(4) { Mode::Sync } else { Mode::Async };
        match entry {
            Entry::Set(_) => match self.rng.below(20) {
                0 => Op::SetDrop { set: slot },
                1..=6 => Op::WaitCode { set: slot },
                7..=11 => Op::SetWait { set: slot, cancellable },
                _ => Op::SetPoll { set: slot, cancellable },
            },
            Entry::Resource(handle) => match self.rng.below(6) {
                0..=2 => Op::Store { ptr: 4 * self.rng.below(8) as u32, value: Arg::Slot(slot) },
                3 => Op::ResourceRep { handle: slot },
                // A destructor that drops a resource of its own would call itself.
                4 if !self.in_destructor(t) => Op::ResourceDrop { rt: handle.rt, handle: slot },
                _ => Op::ContextGet { i: 0 },
            },
            Entry::Waitable(w) => match &self.world.waitables[*w].kind {
                WaitableKind::Subtask(_) => match self.rng.below(5) {
                    0 | 1 => self.propose_join(t, slot),
                    2 | 3 => Op::SubtaskCancel { mode, sub: slot },
                    _ => Op::SubtaskDrop { sub: slot },
                },
                WaitableKind::End(end) => {
                    let (ty, side, state) = (end.t, end.side, end.state);
                    if self.shape.has_extensions() && side == Side::Read && self.rng.one_in(2) {
                        return self.propose_extension(t, slot, ty, state);
                    }
                    match self.rng.below(12) {
                        0 | 1 => self.propose_join(t, slot),
                        3 => Op::DropEnd { t: ty, side, end: slot },
                        5 if side == Side::Read => {
                            Op::Store { ptr: 4 * self.rng.below(8) as u32, value: Arg::Slot(slot) }
                        }
                        _ if state == CopyState::Copying => Op::CancelCopy { t: ty, side, mode, end: slot },
                        _ => self.propose_copy(ty, side, mode, slot),
                    }
                }
            },
        }
    }

    /// If several reads are in flight somewhere: a write that is long enough for them, or a look at their events.
    fn propose_for_reads(&mut self, held: &[(Slot, Entry)]) -> Option<Op> {
        let ends = held.iter().filter_map(|(slot, entry)| match entry {
            Entry::Waitable(w) => match &self.world.waitables[*w].kind {
                WaitableKind::End(end) if self.world.notes.contains_key(&(1, end.shared)) => Some((*slot, *w, *end)),
                _ => None,
            },
            _ => None,
        });
        let ends: Vec<_> = ends.collect();
        let &(end, w, CopyEnd { t, side, state, shared, .. }) = ends.get(self.rng.below(ends.len()))?;
        let set = held.iter().find(|(_, entry)| match (entry, self.world.waitables[w].set) {
            (Entry::Set(set), Some(joined)) => *set == joined,
            (Entry::Set(_), None) => true,
            _ => false,
        });
        let few = self.world.notes.get(&(1, shared)).is_some_and(|note| note.len() < 5);
        match (side, state, set) {
            (Side::Read, CopyState::Copying, _) if few => Some(self.propose_read_ahead(end)),
            (Side::Write, CopyState::Idle, _) => {
                let n = 3 + self.rng.below(9) as u32;
                Some(Op::Copy { t, side, mode: Mode::Async, end, ptr: 8 * self.rng.below(4) as u32, n })
            }
            (Side::Read, _, Some((set, _))) if self.world.waitables[w].set.is_some() => {
                Some(Op::SetPoll { set: *set, cancellable: false })
            }
            (Side::Read, _, Some((set, _))) => Some(Op::Join { waitable: end, set: Arg::Slot(*set) }),
            _ => None,
        }
    }

    fn propose_read_ahead(&mut self, end: Slot) -> Op {
        let (ptr, n) = (8 * self.rng.below(5) as u32, self.rng.below(4) as u32);
        Op::Ext { ext: 1, args: [Arg::Slot(end), Arg::Imm(ptr), Arg::Imm(n)] }
    }

    /// For a readable end: more reads if there is one, else somebody to forward it to.
    fn propose_extension(&mut self, t: ThreadId, end: Slot, ty: CopyType, state: CopyState) -> Op {
        if state == CopyState::Copying {
            return self.propose_read_ahead(end);
        }
        let held = self.held(self.world.instance_of(t));
        let is_sink = |entry: &Entry| match entry {
            Entry::Waitable(w) => match &self.world.waitables[*w].kind {
                WaitableKind::End(end) => end.t == ty && end.side == Side::Write && end.state == CopyState::Idle,
                WaitableKind::Subtask(_) => false,
            },
            _ => false,
        };
        let sinks: Vec<Slot> = held.iter().filter(|(_, entry)| is_sink(entry)).map(|(slot, _)| *slot).collect();
        match sinks.get(self.rng.below(sinks.len())) {
            Some(&sink) => Op::Ext { ext: 0, args: [Arg::Slot(end), Arg::Slot(sink), Arg::Imm(0)] },
            None => self.propose_copy(ty, Side::Read, Mode::Async, end),
        }
    }

    fn propose_copy(&mut self, t: CopyType, side: Side, mode: Mode, end: Slot) -> Op {
        let n = match t.elem.handle() {
            Some(_) => self.rng.below(3),
            None => self.rng.below(6),
        };
        let wild = self.rng.one_in(12);
        let ptr = if wild { self.rng.below(80) } else { 8 * self.rng.below(5) };
        Op::Copy { t, side, mode, end, ptr: ptr as u32, n: n as u32 }
    }

    fn propose_join(&mut self, t: ThreadId, waitable: Slot) -> Op {
        let held = self.held(self.world.instance_of(t));
        let sets: Vec<Slot> =
            held.iter().filter(|(_, entry)| matches!(entry, Entry::Set(_))).map(|(slot, _)| *slot).collect();
        let set = sets.get(self.rng.below(sets.len() + 1)).map_or(Arg::Imm(0), |&slot| Arg::Slot(slot));
        Op::Join { waitable, set }
    }
}
