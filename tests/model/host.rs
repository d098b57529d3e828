//! The host of a program: what its scripts and functions do, with the runtime's own ends and calls.
//! A slot holds a value of Rust where the model's host has a handle, so what the model forbids cannot be said here: such an
//! operation does nothing. A write of the host is a buffer that its source offers until something was taken from it; the gates are
//! flags. What comes in goes to 64 bytes of memory, where it is compared with the model's.
//! Knows nothing of guests and the law.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use abi_spec::elem::{InstanceId, Ty};
use abi_spec::op::{Arg, Kind, Mode, Op, SLOTS, Side, Slot};
use abi_spec::program::{Func, Program};
use abi_spec::sched::Rng;
use abi_spec::world::MEMORY;
use interflow::abi::{
    Call, Canceller, Component, Destination, FlatSink, FlatSource, HostCx, HostFuture, LiftCx, LowerCx, Produced,
    Result, Source, WeakZone, Zone,
};
use interflow::executor;
use interflow::host::linker::Linker;
use interflow::host::stream::{FutureReader, StreamReader};
use interflow::host::value::{ComponentType, InterfaceType, Layout, Lift, Lower, TypeChecker};

use super::puppet::Line;

/// A value of a parameter or result of any type that host functions and exports have here: all are one word.
pub enum Word {
    Number(u32),
    End(End),
}

/// A readable end in the host's hands.
pub enum End {
    Stream(StreamReader<u8>),
    /// One that the host itself writes.
    Own(Box<Pipe>),
    Future(FutureReader<u8>),
}

impl End {
    fn kind(&self) -> Kind {
        match self {
            End::Stream(_) | End::Own(_) => Kind::Stream,
            End::Future(_) => Kind::Future,
        }
    }

    /// At most `n` bytes; nothing if there will be none any more.
    fn poll_read(&mut self, task: &mut Context<'_>, host: &Host, n: usize) -> Poll<Vec<u8>> {
        match self {
            End::Stream(reader) => reader.poll_next(task, n).map(|items| items.ok().flatten().unwrap_or_default()),
            End::Own(pipe) => pipe.shared.poll_take(task, n).map(|taken| host.bytes(taken)),
            End::Future(reader) => reader.poll_value(task).map(|value| value.ok().into_iter().collect()),
        }
    }
}

impl ComponentType for Word {
    const LAYOUT: Layout = Layout::scalar(4);

    fn check(_: &InterfaceType, _: &TypeChecker<'_>) -> std::result::Result<(), String> {
        Ok(())
    }
}

impl Word {
    fn stream(reader: StreamReader<u8>) -> Word {
        Word::End(reader.into_source::<Pipe>().map_or_else(End::Stream, End::Own))
    }
}

impl Lift for Word {
    fn lift(cx: &mut LiftCx<'_>, ty: InterfaceType, src: &mut FlatSource<'_>) -> Result<Word> {
        match ty {
            InterfaceType::Stream(_) => StreamReader::lift(cx, ty, src).map(Word::stream),
            InterfaceType::Future(_) => FutureReader::lift(cx, ty, src).map(|reader| Word::End(End::Future(reader))),
            _ => u32::lift(cx, ty, src).map(Word::Number),
        }
    }

    fn load(cx: &mut LiftCx<'_>, ty: InterfaceType, at: usize) -> Result<Word> {
        match ty {
            InterfaceType::Stream(_) => StreamReader::load(cx, ty, at).map(Word::stream),
            InterfaceType::Future(_) => FutureReader::load(cx, ty, at).map(|reader| Word::End(End::Future(reader))),
            _ => u32::load(cx, ty, at).map(Word::Number),
        }
    }
}

impl Lower for Word {
    fn lower(self, cx: &mut LowerCx<'_>, ty: InterfaceType, dst: &mut FlatSink<'_>) -> Result<()> {
        match self {
            Word::Number(number) => number.lower(cx, ty, dst),
            Word::End(End::Stream(reader)) => reader.lower(cx, ty, dst),
            Word::End(End::Own(pipe)) => StreamReader::<u8>::new(*pipe).lower(cx, ty, dst),
            Word::End(End::Future(reader)) => reader.lower(cx, ty, dst),
        }
    }

    fn store(self, cx: &mut LowerCx<'_>, ty: InterfaceType, at: usize) -> Result<()> {
        match self {
            Word::Number(number) => number.store(cx, ty, at),
            Word::End(End::Stream(reader)) => reader.store(cx, ty, at),
            Word::End(End::Own(pipe)) => StreamReader::<u8>::new(*pipe).store(cx, ty, at),
            Word::End(End::Future(reader)) => reader.store(cx, ty, at),
        }
    }
}

/// What the two ends of a stream or future that the host writes share.
#[derive(Default)]
struct Shared {
    /// Where the bytes are that are offered, and how many.
    offer: Cell<Option<(u32, u32)>>,
    /// Bytes that were taken of the last offer.
    taken: Cell<bool>,
    writer_gone: Cell<bool>,
    reader_gone: Cell<bool>,
    reader: Cell<Option<Waker>>,
    writer: Cell<Option<Waker>>,
}

impl Shared {
    /// Takes at most `n` bytes of what is offered, which is over then; none if the writer is gone.
    fn poll_take(&self, task: &Context<'_>, n: usize) -> Poll<(u32, u32)> {
        match self.offer.take() {
            Some((ptr, len)) => {
                self.taken.set(true);
                wake(&self.writer);
                Poll::Ready((ptr, len.min(n as u32)))
            }
            None if self.writer_gone.get() => Poll::Ready((0, 0)),
            None => {
                self.reader.set(Some(task.waker().clone()));
                Poll::Pending
            }
        }
    }
}

fn wake(waker: &Cell<Option<Waker>>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// The readable end of what the host writes.
pub struct Pipe {
    shared: Rc<Shared>,
    memory: Rc<RefCell<[u8; MEMORY]>>,
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.shared.reader_gone.set(true);
        wake(&self.shared.writer);
    }
}

impl Source for Pipe {
    fn poll_produce(&mut self, task: &mut Context<'_>, destination: &mut Destination<'_>) -> Poll<Result<Produced>> {
        self.shared.poll_take(task, destination.remaining()).map(|taken| match taken {
            (_, 0) => Ok(Produced::End),
            taken => {
                destination.put_bytes(&bytes(&self.memory.borrow(), taken));
                Ok(Produced::Items)
            }
        })
    }
}

fn bytes(memory: &[u8; MEMORY], (ptr, len): (u32, u32)) -> Vec<u8> {
    memory[ptr as usize..(ptr + len) as usize].to_vec()
}

/// The writable end of what the host writes.
struct Writer {
    kind: Kind,
    shared: Rc<Shared>,
    /// A write without waiting is not over before it is cancelled.
    writes: Cell<bool>,
    /// It has been told that it is over, or has given a future its value.
    done: Cell<bool>,
}

impl Writer {
    fn offer(&self, at: (u32, u32)) {
        self.shared.taken.set(false);
        self.shared.offer.set(Some(at));
        wake(&self.shared.reader);
    }

    /// Ready when something was taken, or nobody will take any more.
    fn poll_taken(&self, task: &Context<'_>) -> Poll<()> {
        if self.shared.taken.get() || self.shared.reader_gone.get() {
            return Poll::Ready(());
        }
        self.shared.writer.set(Some(task.waker().clone()));
        Poll::Pending
    }

    /// The write is over, for whatever reason.
    fn end(&self) {
        self.shared.offer.set(None);
        self.writes.set(false);
        let over = self.shared.reader_gone.get() && !self.shared.taken.get();
        self.done.set(over || self.kind == Kind::Future && self.shared.taken.get());
    }

    fn drop_end(&self) {
        self.shared.writer_gone.set(true);
        wake(&self.shared.reader);
    }
}

/// Whose turn it is among the host's scripts: the model has many worlds if their operations may come in any order.
#[derive(Clone, Default)]
struct Turn(Rc<Cell<bool>>);

/// Somebody's turn, until it is dropped.
struct Taken(Turn);

impl Turn {
    async fn take(&self) -> Option<Taken> {
        while self.0.replace(true) {
            executor::yield_now().await;
        }
        Some(Taken(self.clone()))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.0.set(false);
    }
}

/// What a slot holds.
#[derive(Default)]
enum Held {
    #[default]
    Nothing,
    Number(u32),
    End(End),
    Writer(Rc<Writer>),
    Call(Canceller),
}

/// The host of one run.
pub struct Host {
    program: Program,
    component: RefCell<Option<Component>>,
    zone: RefCell<WeakZone>,
    log: RefCell<Vec<Line>>,
    rng: RefCell<Rng>,
    operations: Cell<u32>,
    turn: Turn,
    slots: RefCell<[Held; SLOTS]>,
    /// What the model's host still has in its table although no slot names it.
    kept: RefCell<Vec<Held>>,
    memory: Rc<RefCell<[u8; MEMORY]>>,
    gates: Cell<u32>,
    at_gates: RefCell<Vec<Waker>>,
    pipes: RefCell<Vec<Weak<Shared>>>,
}

impl Host {
    pub fn new(program: &Program, rng: Rng) -> Host {
        Host {
            program: program.clone(),
            component: RefCell::default(),
            zone: RefCell::default(),
            log: RefCell::default(),
            rng: RefCell::new(rng),
            operations: Cell::new(0),
            turn: Turn::default(),
            slots: RefCell::default(),
            kept: RefCell::default(),
            memory: Rc::new(RefCell::new(std::array::from_fn(|i| i as u8))),
            gates: Cell::new(0),
            at_gates: RefCell::default(),
            pipes: RefCell::default(),
        }
    }

    pub fn begin(&self, component: Component, zone: &Zone) {
        *self.component.borrow_mut() = Some(component);
        *self.zone.borrow_mut() = zone.downgrade();
    }

    pub fn log(&self, line: Line) {
        self.log.borrow_mut().push(line);
        self.count();
    }

    pub fn take_log(&self) -> impl Iterator<Item = Line> {
        self.log.take().into_iter()
    }

    pub fn memory(&self) -> [u8; MEMORY] {
        *self.memory.borrow()
    }

    /// What guests and host have done so far.
    pub fn operations(&self) -> u32 {
        self.operations.get()
    }

    fn count(&self) {
        self.operations.set(self.operations.get() + 1);
    }

    /// Whether a guest is in the middle of a slice.
    pub fn is_busy(&self) -> bool {
        self.zone.borrow().upgrade().is_some_and(|zone| zone.is_busy())
    }

    pub fn zone_is_gone(&self) {
        *self.zone.borrow_mut() = WeakZone::default();
    }

    /// Lets go of all that the host holds.
    pub fn forget(&self) {
        drop((self.slots.take(), self.kept.take(), self.at_gates.take(), self.component.take()));
    }

    /// Streams and futures of the host of which something is left.
    pub fn left(&self) -> usize {
        self.pipes.borrow().iter().filter(|pipe| pipe.strong_count() > 0).count()
    }

    fn bytes(&self, taken: (u32, u32)) -> Vec<u8> {
        bytes(&self.memory.borrow(), taken)
    }

    fn take(&self, slot: Slot) -> Held {
        self.slots.borrow_mut().get_mut(usize::from(slot)).map(std::mem::take).unwrap_or_default()
    }

    /// What was in the slot lives on, as in the model's table.
    fn put(&self, slot: Slot, held: Held) {
        let before = match self.slots.borrow_mut().get_mut(usize::from(slot)) {
            Some(place) => std::mem::replace(place, held),
            None => held,
        };
        self.kept.borrow_mut().push(before);
    }

    fn take_end(&self, slot: Slot, kind: Kind) -> Option<End> {
        match self.take(slot) {
            Held::End(end) if end.kind() == kind => Some(end),
            other => {
                self.put(slot, other);
                None
            }
        }
    }

    fn writer(&self, slot: Slot, kind: Kind) -> Option<Rc<Writer>> {
        match self.slots.borrow().get(usize::from(slot)) {
            Some(Held::Writer(writer)) if writer.kind == kind => Some(writer.clone()),
            _ => None,
        }
    }

    fn number(&self, arg: Arg) -> u32 {
        match arg {
            Arg::Imm(number) => number,
            Arg::Slot(slot) => match self.slots.borrow().get(usize::from(slot)) {
                Some(Held::Number(number)) => *number,
                _ => 0,
            },
        }
    }

    /// A value of this type, if the argument is one.
    fn word(&self, ty: Ty, arg: Arg) -> Option<Word> {
        match (ty, arg) {
            (Ty::End(t), Arg::Slot(slot)) => self.take_end(slot, t.kind).map(Word::End),
            (Ty::End(_) | Ty::Own(_) | Ty::Borrow(_), _) => None,
            (Ty::U32, arg) => Some(Word::Number(self.number(arg))),
        }
    }

    fn new_ends(&self, kind: Kind, r: Slot, w: Slot) {
        let shared = Rc::new(Shared::default());
        self.pipes.borrow_mut().push(Rc::downgrade(&shared));
        let pipe = Pipe { shared: shared.clone(), memory: self.memory.clone() };
        let end = match kind {
            Kind::Stream => End::Own(Box::new(pipe)),
            Kind::Future => End::Future(FutureReader::new(async move {
                let taken = poll_fn(|task| pipe.shared.poll_take(task, 1)).await;
                Ok(bytes(&pipe.memory.borrow(), taken)[0])
            })),
        };
        self.put(r, Held::End(end));
        let writer = Writer { kind, shared, writes: Cell::new(false), done: Cell::new(false) };
        self.put(w, Held::Writer(Rc::new(writer)));
    }

    fn store(&self, ptr: u32, value: u32) {
        if let Some(place) = self.memory.borrow_mut().get_mut(ptr as usize..).and_then(|bytes| bytes.first_chunk_mut())
        {
            *place = value.to_le_bytes();
        }
    }

    fn open_gate(&self, gate: u8) {
        self.gates.set(self.gates.get() | 1u32.wrapping_shl(gate.into()));
        self.at_gates.take().into_iter().for_each(Waker::wake);
    }

    async fn gate(&self, gate: u8) {
        poll_fn(|task| {
            if self.gates.get() & 1u32.wrapping_shl(gate.into()) != 0 {
                return Poll::Ready(());
            }
            self.at_gates.borrow_mut().push(task.waker().clone());
            Poll::Pending
        })
        .await;
        self.count();
    }

    /// What the host does by itself.
    pub async fn script(self: Rc<Self>, run: u32, script: u8) {
        let ops = self.program.scripts[usize::from(script)].clone();
        for (at, op) in (0..).zip(ops) {
            let turns = self.rng.borrow_mut().below(4);
            self.turns(turns).await;
            let mut turn = self.turn.take().await;
            self.mark(run, at, super::puppet::START);
            let mut op = pin!(self.op(op));
            poll_fn(|task| {
                let done = op.as_mut().poll(task);
                if done.is_pending() {
                    turn = None;
                }
                done
            })
            .await;
            // The zone comes first, so that it takes effect.
            self.turns(1).await;
            self.mark(run, at, super::puppet::RET);
        }
    }

    async fn turns(&self, mut turns: usize) {
        while turns > 0 || self.is_busy() {
            executor::yield_now().await;
            turns = turns.saturating_sub(1);
        }
    }

    fn mark(&self, run: u32, at: u32, kind: u32) {
        let alive = self.zone.borrow().upgrade().is_some_and(|zone| zone.poison().is_none());
        match alive {
            true => self.log((InstanceId::HOST.0.into(), run, at, kind, 0, 0, 0)),
            false => self.count(),
        }
    }

    async fn op(self: &Rc<Self>, op: Op) {
        match op {
            Op::New { t, r, w } => self.new_ends(t.kind, r, w),
            Op::Copy { t, side: Side::Write, mode, end, ptr, n } => self.write(t.kind, mode, end, ptr, n).await,
            Op::Copy { t, side: Side::Read, end, ptr, n, .. } => self.read(t.kind, end, ptr, n).await,
            Op::CancelCopy { t, side: Side::Write, end, .. } => {
                if let Some(writer) = self.writer(end, t.kind).filter(|writer| writer.writes.get()) {
                    writer.end();
                }
            }
            Op::DropEnd { t, side: Side::Read, end } => drop(self.take_end(end, t.kind)),
            Op::DropEnd { t, side: Side::Write, end } => {
                let over = |writer: &Rc<Writer>| !writer.writes.get() && (t.kind == Kind::Stream || writer.done.get());
                if let Some(writer) = self.writer(end, t.kind).filter(over) {
                    drop(self.take(end));
                    writer.drop_end();
                }
            }
            Op::Call { func, mode, args, sub, ret } => self.call(func, mode, args, sub, ret).await,
            Op::SubtaskCancel { sub, .. } => {
                if let Some(Held::Call(call)) = self.slots.borrow().get(usize::from(sub)) {
                    call.cancel();
                }
            }
            Op::GateOpen { gate } => self.open_gate(gate),
            Op::GateWait { gate } => self.gate(gate).await,
            Op::Store { ptr, value } => self.store(ptr, self.number(value)),
            other => unreachable!("no script of the host does {other}"),
        }
    }

    async fn write(&self, kind: Kind, mode: Mode, end: Slot, ptr: u32, n: u32) {
        let Some(writer) = self.writer(end, kind).filter(|writer| !writer.writes.get() && !writer.done.get()) else {
            return;
        };
        writer.writes.set(true);
        writer.offer((ptr, if kind == Kind::Future { 1 } else { n }));
        if mode == Mode::Sync {
            poll_fn(|task| writer.poll_taken(task)).await;
            writer.end();
        }
    }

    async fn read(&self, kind: Kind, slot: Slot, ptr: u32, n: u32) {
        let Some(mut end) = self.take_end(slot, kind) else { return };
        let n = if kind == Kind::Future { 1 } else { n };
        let got = poll_fn(|task| end.poll_read(task, self, n as usize)).await;
        self.memory.borrow_mut()[ptr as usize..][..got.len()].copy_from_slice(&got);
        // An end that is over cannot be used; it is kept, because nobody has dropped it.
        let over = got.is_empty() || kind == Kind::Future;
        match over {
            true => self.kept.borrow_mut().push(Held::End(end)),
            false => self.put(slot, Held::End(end)),
        }
    }

    async fn call(self: &Rc<Self>, func: u8, mode: Mode, args: [Arg; 3], sub: Slot, ret: Slot) {
        let Func { params, result, .. } = self.program.funcs[usize::from(func)];
        let mut words = Vec::new();
        for (param, arg) in params.into_iter().zip(args) {
            let Some((ty, _)) = param else { continue };
            match self.word(ty, arg) {
                Some(word) => words.push((word, arg)),
                None => return self.put_back(words),
            }
        }
        let Some(zone) = self.zone.borrow().upgrade() else { return self.put_back(words) };
        let words = words.into_iter().map(|(word, _)| word).collect();
        let component = self.component.borrow().clone().expect("the program runs");
        let name = format!("f{func}");
        let export = Callee { zone, component, name };
        match result {
            Some(_) => self.outcome(export.call::<Word>(words), mode, sub, ret).await,
            None => self.outcome(export.call::<()>(words), mode, sub, ret).await,
        }
    }

    /// A call that cannot be made takes nothing.
    fn put_back(&self, words: Vec<(Word, Arg)>) {
        for (word, arg) in words {
            if let (Word::End(end), Arg::Slot(slot)) = (word, arg) {
                self.put(slot, Held::End(end));
            }
        }
    }

    async fn outcome<R: Answer>(self: &Rc<Self>, call: Call<R>, mode: Mode, sub: Slot, ret: Slot) {
        let host = self.clone();
        let canceller = call.canceller();
        let end = async move {
            let value = call.await;
            host.count();
            host.put(ret, value.ok().and_then(R::word).map_or(Held::Nothing, held));
        };
        match mode {
            Mode::Sync => end.await,
            Mode::Async => {
                self.put(sub, Held::Call(canceller));
                drop(executor::spawn(end));
                // It starts before the host's next operation, as the model's calls do.
                executor::yield_now().await;
            }
        }
    }

    /// A guest calls function `func`. What does not wait happens at once.
    fn function<R: Answer>(self: Rc<Self>, func: u8, params: Vec<Word>) -> HostFuture<R> {
        let Func { params: types, body, .. } = self.program.funcs[usize::from(func)];
        for ((_, slot), word) in types.into_iter().flatten().zip(params) {
            self.put(slot, held(word));
        }
        self.count();
        Box::pin(async move {
            for op in self.program.scripts[usize::from(body.expect("functions of the host have bodies"))].clone() {
                match op {
                    Op::Resolve { value: Arg::Slot(slot) } => {
                        let end = match self.take(slot) {
                            Held::End(end) => Word::End(end),
                            Held::Number(number) => Word::Number(number),
                            _ => unreachable!("functions return what they have just made"),
                        };
                        return Ok(R::answer(end));
                    }
                    Op::Resolve { value: Arg::Imm(number) } => return Ok(R::answer(Word::Number(number))),
                    Op::GateOpen { gate } => self.open_gate(gate),
                    Op::GateWait { gate } => self.gate(gate).await,
                    Op::New { t, r, w } => self.new_ends(t.kind, r, w),
                    Op::Store { ptr, value } => self.store(ptr, self.number(value)),
                    other => unreachable!("no function of the host does {other}"),
                }
            }
            unreachable!("functions of the host return")
        })
    }
}

fn held(word: Word) -> Held {
    match word {
        Word::Number(number) => Held::Number(number),
        Word::End(end) => Held::End(end),
    }
}

/// What functions return here.
trait Answer: Lift + Lower {
    fn answer(word: Word) -> Self;
    fn word(self) -> Option<Word>;
}

impl Answer for Word {
    fn answer(word: Word) -> Word {
        word
    }
    fn word(self) -> Option<Word> {
        Some(self)
    }
}

impl Answer for () {
    fn answer(_: Word) {}
    fn word(self) -> Option<Word> {
        None
    }
}

/// An export on its way to be called.
struct Callee {
    zone: Zone,
    component: Component,
    name: String,
}

impl Callee {
    fn call<R: Answer>(&self, words: Vec<Word>) -> Call<R> {
        let mut words = words.into_iter();
        match [words.next(), words.next(), words.next()] {
            [Some(a), Some(b), Some(c)] => self.with((a, b, c)),
            [Some(a), Some(b), None] => self.with((a, b)),
            [Some(a), ..] => self.with((a,)),
            [None, ..] => self.with(()),
        }
    }

    fn with<P: Lower, R: Lift>(&self, params: P) -> Call<R> {
        self.zone.call(self.component.export::<P, R>(&self.name).expect("the function is there"), params)
    }
}

/// `Err` says what a function of the host cannot do: it returns what it has, and once.
pub fn can_be(program: &Program) -> std::result::Result<(), &'static str> {
    for func in program.funcs.iter().filter(|func| func.inst == InstanceId::HOST) {
        let body = &program.scripts[usize::from(func.body.ok_or("a function without a body")?)];
        let makes = |slot: Slot| body.iter().any(|op| matches!(op, Op::New { r, .. } if *r == slot));
        match (body.last(), func.result) {
            (Some(Op::Resolve { value: Arg::Imm(_) }), None | Some(Ty::U32)) => {}
            (Some(Op::Resolve { value: Arg::Slot(slot) }), Some(Ty::End(_))) if makes(*slot) => {}
            _ => return Err("a function of the host that does not return"),
        }
    }
    Ok(())
}

/// Provides the functions of the host that guests call.
pub fn link(linker: &mut Linker, program: &Program) {
    for (func, of_host) in (0..).zip(&program.funcs).filter(|(_, func)| func.inst == InstanceId::HOST) {
        match of_host.result {
            Some(_) => link_as::<Word>(linker, func, of_host),
            None => link_as::<()>(linker, func, of_host),
        }
    }
}

fn link_as<R: Answer>(linker: &mut Linker, func: u8, of_host: &Func) {
    let name = format!("f{func}");
    let host = |cx: &mut HostCx<'_>| cx.data::<Host>().expect("the zone has a host");
    match of_host.params.iter().flatten().count() {
        0 => linker.async_func("", &name, move |cx, ()| host(cx).function::<R>(func, Vec::new())),
        1 => linker.async_func("", &name, move |cx, (a,): (Word,)| host(cx).function::<R>(func, vec![a])),
        2 => linker.async_func("", &name, move |cx, (a, b): (Word, Word)| host(cx).function::<R>(func, vec![a, b])),
        _ => linker.async_func("", &name, move |cx, (a, b, c): (Word, Word, Word)| {
            host(cx).function::<R>(func, vec![a, b, c])
        }),
    }
}
