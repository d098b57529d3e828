//! What scripts import from the host: the instance `host` and two functions at the root, as wasmtime's scripts expect them; and
//! `lab:`, for scripts of ours.

use crate::abi::HostCx;
use crate::host::linker::Linker;
use crate::host::value::{Borrow, Own};
use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use wasmtime::{ensure, format_err};

/// What the host keeps for one instance of a script.
#[derive(Default)]
pub(super) struct Host {
    drops: Rc<Drops>,
    /// The instance is being dropped; nobody counts any more.
    closed: Cell<bool>,
}

/// Drops of `resource1`, counted over a whole script.
#[derive(Default)]
pub(super) struct Drops {
    count: Cell<u32>,
    last: Cell<u32>,
}

impl Host {
    pub fn new(drops: &Rc<Drops>) -> Host {
        Host { drops: drops.clone(), closed: Cell::new(false) }
    }

    pub fn close(&self) {
        self.closed.set(true);
    }

    fn of(cx: &HostCx<'_>) -> wasmtime::Result<Rc<Host>> {
        cx.data().ok_or_else(|| format_err!("a script's zone is made with the script's host"))
    }
}

struct Resource1 {
    rep: u32,
    host: Rc<Host>,
}

impl Drop for Resource1 {
    fn drop(&mut self) {
        if !self.host.closed.get() {
            self.host.drops.count.set(self.host.drops.count.get() + 1);
            self.host.drops.last.set(self.rep);
        }
    }
}

struct Resource2;

/// Pending once.
async fn slowly() {
    let mut waited = false;
    poll_fn(move |task| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        task.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Everything that scripts may import.
pub(super) fn linker() -> Linker {
    let mut linker = Linker::new();
    linker.func("", "host-echo-u32", |_, (v,): (u32,)| Ok(v));
    linker.func("", "host-return-two", |_, ()| Ok(2u32));
    linker.func("host", "return-three", |_, ()| Ok(3u32));
    linker.func("", "host#nested#return-four", |_, ()| Ok(4u32));
    linker.func("host", "return-hi", |_, ()| Ok("hi".to_string()));
    linker.async_func("host", "never-return", |_, ()| Box::pin(pending::<wasmtime::Result<()>>()));
    linker.async_func("host", "return-two-slowly", |_, ()| {
        Box::pin(async {
            slowly().await;
            Ok(2i32)
        })
    });
    linker.async_func("host", "echo-slowly", |_, (v,): (u32,)| {
        Box::pin(async move {
            slowly().await;
            Ok(v)
        })
    });
    resources(&mut linker);
    crate::host::lab::link(&mut linker);
    linker
}

fn resources(linker: &mut Linker) {
    linker.resource::<Resource1>("host", "resource1");
    linker.resource::<Resource1>("host", "resource1-again");
    linker.resource::<Resource2>("host", "resource2");
    linker.func("host", "[constructor]resource1", |cx, (rep,): (u32,)| {
        Ok(Own::new(Resource1 { rep, host: Host::of(cx)? }))
    });
    linker.func("host", "[static]resource1.assert", |_, (resource, rep): (Own<Resource1>, u32)| {
        ensure!(resource.rep == rep, "expected the resource {rep}, found {}", resource.rep);
        Ok(())
    });
    linker.func("host", "[static]resource1.last-drop", |cx, ()| Ok(Host::of(cx)?.drops.last.get()));
    linker.func("host", "[static]resource1.drops", |cx, ()| Ok(Host::of(cx)?.drops.count.get()));
    linker.func("host", "[method]resource1.simple", |_, (resource, rep): (Borrow<Resource1>, u32)| {
        ensure!(resource.rep == rep, "expected the resource {rep}, found {}", resource.rep);
        Ok(())
    });
    linker.func("host", "[method]resource1.take-borrow", |_, (_, _): (Borrow<Resource1>, Borrow<Resource1>)| Ok(()));
    linker.func("host", "[method]resource1.take-own", |_, (_, _): (Borrow<Resource1>, Own<Resource1>)| Ok(()));
    linker.async_func("host", "[method]resource1.never-return", |_, (_,): (Borrow<Resource1>,)| {
        Box::pin(pending::<wasmtime::Result<()>>())
    });
}
