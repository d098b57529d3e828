//! Runs a program on the runtime and gives the log that the model is asked about.
//! The host calls the functions that its script calls, in that order; everything else is done by guests.
//! Knows nothing of the law.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use abi_spec::elem::InstanceId;
use abi_spec::op::{Op, Outcome, Record};
use abi_spec::program::Program;
use abi_spec::world::MEMORY;
use interflow::abi::{HostCx, Limits, Zone};
use interflow::component;
use interflow::host::linker::Linker;

use super::puppet;

/// What a run showed.
pub struct Shown {
    pub log: Vec<Record>,
    /// Why the zone died, if it did.
    pub trap: Option<Rc<str>>,
    /// What the memories of the guests were at the end; nothing if there was a trap.
    pub memories: Vec<[u8; MEMORY]>,
}

type Line = (u32, u32, u32, u32, u32, u32, u32);

#[derive(Default)]
struct Log(RefCell<Vec<Line>>);

fn engine() -> &'static interflow::Engine {
    static ENGINE: OnceLock<interflow::Engine> = OnceLock::new();
    ENGINE.get_or_init(|| component::engine().expect("the engine starts"))
}

/// `Err` if the program cannot be a component.
pub fn run(program: &Program) -> Result<Shown, &'static str> {
    let text = puppet::component(program)?;
    let bytes = encode(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    let compiled = component::compile(engine(), &bytes).unwrap_or_else(|error| panic!("{text}\n{error:#}"));
    let mut linker = Linker::new();
    linker.func("", "log", |cx: &mut HostCx<'_>, line: Line| {
        cx.data::<Log>().expect("the zone has a log").0.borrow_mut().push(line);
        Ok(())
    });
    interflow::host::lab::link(&mut linker);
    let component = linker.link(engine(), Arc::new(compiled)).expect("the imports are there");
    let lines = Rc::new(Log::default());
    let zone = Zone::new(&component, Limits::default(), lines.clone()).expect("the component starts");
    let scripts = program.host.iter().map(|script| &program.scripts[usize::from(*script)]);
    for op in scripts.flatten() {
        if let Op::Call { func, .. } = op {
            let export = component.export::<(), ()>(&format!("f{func}")).expect("the function is there");
            drop(zone.call(export, ()));
            zone.run_now();
        }
    }
    let mut log: Vec<Record> = lines.0.take().into_iter().map(record).collect();
    let trap = zone.poison();
    if trap.is_some() {
        log.push(Record { inst: InstanceId::HOST, run: 0, at: 0, outcome: Outcome::SomeTrap });
    }
    let mut memories = Vec::new();
    for inst in 1..program.parents.len() {
        if trap.is_none() {
            let export = component.export::<(), ()>(&format!("dump{inst}")).expect("the function is there");
            drop(zone.call(export, ()));
            zone.run_now();
            let words = lines.0.take().into_iter().flat_map(|(.., value, _, _)| value.to_le_bytes());
            memories.push(words.collect::<Vec<u8>>().try_into().expect("the whole memory"));
        }
    }
    Ok(Shown { log, trap, memories })
}

/// With the syntax of the release that the engine reads: later ones have no `cancellable`.
fn encode(text: &str) -> Result<Vec<u8>, wast::Error> {
    let buffer = wast::parser::ParseBuffer::new(text)?;
    wast::parser::parse::<wast::Wat<'_>>(&buffer)?.encode()
}

fn record((inst, run, at, kind, a, b, c): Line) -> Record {
    let outcome = match kind {
        puppet::RET => Outcome::Ret(a),
        puppet::ENDS => Outcome::Ends(a, b),
        puppet::EVENT => Outcome::Event(a, b, c),
        start => Outcome::Start([a, b, c][..(start - puppet::START) as usize].to_vec()),
    };
    Record { inst: InstanceId(inst as u8), run, at, outcome }
}
