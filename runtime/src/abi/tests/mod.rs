//! The engine on small hand-written components. Larger behaviour is tested with real guests in the `tests` package.

mod begun;
mod calls;
mod direct;
mod dynamic;
mod hostile;
mod lab;
mod quota;
mod streams;
mod traps;
mod waiting;
mod widths;

use super::{CallError, Component, Limits, Zone};
use crate::component;
use crate::host::linker::Linker;
use crate::host::value::{Lift, Lower};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

fn engine() -> &'static wasmtime::Engine {
    static ENGINE: OnceLock<wasmtime::Engine> = OnceLock::new();
    ENGINE.get_or_init(|| component::engine().expect("the engine starts"))
}

fn link(wat: &str, linker: &Linker) -> Component {
    let bytes = wat::parse_str(wat).expect("the test's text is well formed");
    let compiled = component::compile(engine(), &bytes).expect("the component compiles");
    linker.link(engine(), Arc::new(compiled)).expect("the imports are there")
}

fn zone(component: &Component) -> Zone {
    Zone::new(component, Limits::default(), Rc::new(())).expect("the component starts")
}

fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Calls an export and runs the zone until nothing is ready; `None` if the call has not returned then.
fn call<P: Lower, R: Lift>(component: &Component, zone: &Zone, name: &str, params: P) -> Option<Result<R, CallError>> {
    let call = zone.call(component.export::<P, R>(name).expect("the export is there"), params);
    zone.run_now();
    poll_once(call)
}

/// As `call`, for a call that returns.
fn returned<P: Lower, R: Lift>(component: &Component, zone: &Zone, name: &str, params: P) -> R {
    call(component, zone, name, params).expect("the call returns").expect("the call does not trap")
}

/// Calls an export that traps, before or after it returns; gives the message.
fn trapped<P: Lower>(component: &Component, name: &str, params: P) -> String {
    let zone = zone(component);
    drop(call::<P, ()>(component, &zone, name, params));
    zone.poison().expect("the call traps").to_string()
}

/// Nothing is left in a zone that rests.
fn assert_empty(zone: &Zone) {
    let census = zone.census().expect("the zone rests");
    assert_eq!(census, super::Census::default(), "something is left");
}
