//! Runs a program on the runtime and gives the log that the model is asked about.
//! Guests are components; the host's scripts are tasks of an executor, beside the one that drives the zone, so that their
//! operations fall between those of the guests as they do in a server. In which order is drawn from a seed.
//! Knows nothing of the law.

use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use abi_spec::elem::InstanceId;
use abi_spec::op::{Outcome, Record};
use abi_spec::program::Program;
use abi_spec::sched::Rng;
use abi_spec::world::MEMORY;
use interflow::abi::{Component, HostCx, Limits, Zone};
use interflow::component;
use interflow::executor::{self, Executor};
use interflow::host::linker::Linker;
use interflow::ring::{IoMode, probe};

use super::host::{self, Host};
use super::puppet;

/// What a run showed.
pub struct Shown {
    pub log: Vec<Record>,
    /// Why the zone died, if it did.
    pub trap: Option<Rc<str>>,
    /// What the memories of the host and the guests were at the end; nothing if the end did not come.
    pub memories: Vec<[u8; MEMORY]>,
    /// The zone was dropped in the middle.
    pub cut: bool,
}

/// How a program is run.
#[derive(Clone, Copy)]
pub struct Way {
    /// What order the host's operations have.
    pub seed: u64,
    /// Which of the drivers.
    pub driver: usize,
    /// After how many operations of guests and host the zone is dropped.
    pub cut: Option<u32>,
}

/// Turns without an operation after which nobody is taken to go on. A wake-up needs one to reach its task.
const QUIET_TURNS: u32 = 12;

fn engine() -> &'static interflow::Engine {
    static ENGINE: OnceLock<interflow::Engine> = OnceLock::new();
    ENGINE.get_or_init(|| component::engine().expect("the engine starts"))
}

/// An executor on each driver that this machine allows.
pub struct Drivers(Vec<Executor>);

impl Drivers {
    pub fn new() -> Drivers {
        let choices = [IoMode::Uring, IoMode::Epoll].into_iter().filter_map(|mode| probe(mode).ok());
        Drivers(choices.map(|choice| Executor::new(&choice).expect("the executor starts")).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// A program that can be run many times.
pub struct Prepared(Component);

/// `Err` if the program cannot be a component.
pub fn prepare(program: &Program) -> Result<Prepared, &'static str> {
    host::can_be(program)?;
    let text = puppet::component(program)?;
    let bytes = puppet::encode(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    let compiled = component::compile(engine(), &bytes).unwrap_or_else(|error| panic!("{text}\n{error:#}"));
    let mut linker = Linker::new();
    linker.func("", "log", |cx: &mut HostCx<'_>, line: puppet::Line| {
        cx.data::<Host>().expect("the zone has a host").log(line);
        Ok(())
    });
    host::link(&mut linker, program);
    interflow::host::lab::link(&mut linker);
    Ok(Prepared(linker.link(engine(), Arc::new(compiled)).expect("the imports are there")))
}

/// Runs it until nobody can go on, and looks at what is left then, and when the zone is gone.
pub fn run(drivers: &Drivers, program: &Program, Prepared(component): &Prepared, way: Way) -> Shown {
    drivers.0[way.driver].block_on(async {
        let host = Rc::new(Host::new(program, Rng(way.seed)));
        let zone = Zone::new(component, Limits::default(), host.clone()).expect("the component starts");
        host.begin(component.clone(), &zone);
        let scripts: Vec<_> =
            (1..).zip(&program.host).map(|(run, script)| executor::spawn(host.clone().script(run, *script))).collect();
        let drive = executor::spawn(zone.drive());
        let cut = quiet(&host, way.cut).await;
        let mut shown = Shown {
            log: host.take_log().map(puppet::record).collect(),
            trap: zone.poison(),
            memories: Vec::new(),
            cut,
        };
        if shown.trap.is_some() {
            shown.log.push(Record { inst: InstanceId::HOST, run: 0, at: 0, outcome: Outcome::SomeTrap });
        } else if !cut {
            shown.memories.push(host.memory());
            for inst in 1..program.parents.len() {
                let export = component.export::<(), ()>(&format!("dump{inst}")).expect("the function is there");
                drop(zone.call(export, ()));
                quiet(&host, None).await;
                let words = host.take_log().flat_map(|(.., value, _, _)| value.to_le_bytes());
                shown.memories.push(words.collect::<Vec<u8>>().try_into().expect("the whole memory"));
            }
        }
        host.zone_is_gone();
        let weak = zone.downgrade();
        drop(zone);
        // Whoever of the host waits for the zone hears of it; the others are stopped.
        quiet(&host, None).await;
        scripts.iter().for_each(|script| script.abort());
        quiet(&host, None).await;
        assert!(drive.is_finished() && weak.upgrade().is_none(), "a zone that nobody holds is gone");
        host.forget();
        assert_eq!(host.left(), 0, "no end of the host outlives zone and host");
        quiet(&host, None).await;
        assert_eq!(executor::stats().tasks, 0, "no task is left");
        assert_eq!(Rc::strong_count(&host), 1, "nobody holds the host");
        shown
    })
}

/// Waits until nobody does anything any more, or until so many operations are done. Tells whether it was the latter.
async fn quiet(host: &Host, cut: Option<u32>) -> bool {
    let (mut turns, mut before) = (0, host.operations());
    while turns < QUIET_TURNS {
        executor::yield_now().await;
        turns += 1;
        let now = host.operations();
        if cut.is_some_and(|cut| now >= cut) {
            return true;
        }
        if now != before || host.is_busy() {
            (turns, before) = (0, now);
        }
    }
    false
}
