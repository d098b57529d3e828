//! Streams and futures as Rust values.
//!
//! A `StreamReader<T>` is the readable end of a stream. A host function makes one from a `Source` and gives it to a guest, or
//! gets one from a guest and reads it. When a guest passes on a stream that the host made, the host gets its own source back
//! (`into_source`): nothing was copied. `FutureReader<T>` likewise.

use crate::abi::{
    Destination, End, FlatSink, FlatSource, Held, HostCx, LiftCx, LowerCx, Produced, ReadEnd, Result, Source,
};
use crate::host::value::{ComponentType, InterfaceType, Layout, Lift, Lower, TypeChecker};
use std::any::Any;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use wasmtime::format_err;

/// The readable end of a stream of `T`.
///
/// Dropping it drops the end: a guest that writes learns it.
pub struct StreamReader<T> {
    end: Readable,
    _element: PhantomData<fn() -> T>,
}

/// The readable end of a future of `T`.
pub struct FutureReader<T> {
    end: Readable,
    _element: PhantomData<fn() -> T>,
}

enum Readable {
    /// Made by the host, not yet given away.
    Source(Box<dyn Source>),
    /// Taken from a guest.
    Guest(ReadEnd),
}

impl Readable {
    /// Begins to read if a guest writes; a source of the host is asked when somebody wants something of it.
    fn begin<T: Lift>(&self, cx: &mut HostCx<'_>, max: usize) -> Result<()> {
        match self {
            Readable::Guest(end) => end.begin_read(cx, max, lift_items::<T>),
            Readable::Source(_) => Ok(()),
        }
    }
}

impl StreamReader<u8> {
    /// Begins to read what a guest writes, at most `max` bytes, before anybody asks for them: `poll_next` gives them, and a guest
    /// that gets the stream still reads them.
    pub(crate) fn begin(&self, cx: &mut HostCx<'_>, max: usize) -> Result<()> {
        self.end.begin::<u8>(cx, max)
    }
}

impl<T: 'static> StreamReader<T> {
    /// A stream that the host writes.
    pub fn new(source: impl Source) -> Self {
        StreamReader { end: Readable::Source(Box::new(source)), _element: PhantomData }
    }

    /// The host's own source, if it is an `S` of the host that writes this stream.
    pub fn into_source<S: 'static>(self) -> std::result::Result<Box<S>, Self> {
        match self.end {
            // Compare first: the conversion consumes.
            Readable::Source(source) if Any::type_id(&*source) == std::any::TypeId::of::<S>() => {
                let source: Box<dyn Any> = source;
                Ok(source.downcast().expect("the type was just compared"))
            }
            end => Err(StreamReader { end, _element: PhantomData }),
        }
    }

    /// The next elements, at most `max` of them; `None` at the end of the stream.
    ///
    /// # Errors
    /// When the writing guest is gone.
    pub fn poll_next(&mut self, task: &mut Context<'_>, max: usize) -> Poll<Result<Option<Vec<T>>>>
    where
        T: Lift,
    {
        match &mut self.end {
            Readable::Guest(end) => poll_items::<T>(end, task, max),
            Readable::Source(_) => Poll::Ready(Err(format_err!("this stream is written by the host; take its source"))),
        }
    }

    /// See `poll_next`.
    ///
    /// # Errors
    /// As `poll_next`.
    pub async fn next(&mut self, max: usize) -> Result<Option<Vec<T>>>
    where
        T: Lift,
    {
        poll_fn(|task| self.poll_next(task, max)).await
    }
}

impl<T: 'static> FutureReader<T> {
    /// A future whose value is already there.
    pub fn ready(value: T) -> Self
    where
        T: Lower,
    {
        Self::new(std::future::ready(Ok(value)))
    }

    /// A future of the host. An error of it is a fault of the host and traps the guest that reads.
    pub fn new(future: impl Future<Output = Result<T>> + 'static) -> Self
    where
        T: Lower,
    {
        let source = FutureSource { future: Some(Box::pin(future)), value: None, _held: None };
        FutureReader { end: Readable::Source(Box::new(source)), _element: PhantomData }
    }

    /// Begins to read what a guest writes: `poll_value` gives it, and a guest that gets the future still reads it.
    pub(crate) fn begin(&self, cx: &mut HostCx<'_>) -> Result<()>
    where
        T: Lift,
    {
        self.end.begin::<T>(cx, 1)
    }

    /// The value. A future of the host that comes back from a guest is awaited directly.
    ///
    /// # Errors
    /// When the writing guest is gone.
    pub fn poll_value(&mut self, task: &mut Context<'_>) -> Poll<Result<T>>
    where
        T: Lift,
    {
        match &mut self.end {
            Readable::Guest(end) => {
                let items = ready!(poll_items::<T>(end, task, 1))?;
                let value = items.and_then(|mut items| items.pop());
                Poll::Ready(value.ok_or_else(|| format_err!("the writable end of the future was dropped")))
            }
            Readable::Source(source) => {
                let source: &mut dyn Any = &mut **source;
                let source = source.downcast_mut::<FutureSource<T>>().expect("futures of T are made by `new` alone");
                ready!(source.poll_future(task))?;
                Poll::Ready(source.value.take().ok_or_else(|| format_err!("a future is read once")))
            }
        }
    }

    /// See `poll_value`.
    ///
    /// # Errors
    /// As `poll_value`.
    pub async fn value(mut self) -> Result<T>
    where
        T: Lift,
    {
        poll_fn(|task| self.poll_value(task)).await
    }
}

fn poll_items<T: Lift>(end: &mut ReadEnd, task: &mut Context<'_>, max: usize) -> Poll<Result<Option<Vec<T>>>> {
    let items = ready!(end.poll_read(max, lift_items::<T>, task))?;
    Poll::Ready(Ok(items.map(|items| *items.downcast().expect("`lift_items` makes a Vec<T>"))))
}

/// A `LiftItems` that makes a `Vec<T>`.
fn lift_items<T: Lift>(
    cx: &mut LiftCx<'_>,
    ty: Option<InterfaceType>,
    at: usize,
    count: usize,
) -> Result<Box<dyn Any>> {
    match ty {
        Some(ty) => Ok(Box::new(T::load_list(cx, ty, at, count)?)),
        None => {
            Ok(Box::new((0..count).map(|_| T::load(cx, crate::host::value::NO_TYPE, 0)).collect::<Result<Vec<T>>>()?))
        }
    }
}

/// The value of a host's future, on its way to a guest.
struct FutureSource<T> {
    future: Option<Pin<Box<dyn Future<Output = Result<T>>>>>,
    value: Option<T>,
    /// For a value that was read before somebody asked for it.
    _held: Option<Held>,
}

impl<T> FutureSource<T> {
    fn poll_future(&mut self, task: &mut Context<'_>) -> Poll<Result<()>> {
        if let Some(future) = &mut self.future {
            let value = ready!(future.as_mut().poll(task));
            self.future = None;
            self.value = Some(value?);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Lower> Source for FutureSource<T> {
    fn poll_produce(&mut self, task: &mut Context<'_>, destination: &mut Destination<'_>) -> Poll<Result<Produced>> {
        ready!(self.poll_future(task))?;
        let value = self.value.take().ok_or_else(|| format_err!("a future is read once"))?;
        destination.put(|cx, ty, at| value.store(cx, ty.unwrap_or(crate::host::value::NO_TYPE), at))?;
        Poll::Ready(Ok(Produced::Items))
    }
}

macro_rules! readable {
    ($reader:ident, $case:ident, $lowered:path, $take:ident, $put:expr, $name:literal) => {
        impl<T: ComponentType> ComponentType for $reader<T> {
            const LAYOUT: Layout = Layout::scalar(4);

            fn check(ty: &InterfaceType, types: &TypeChecker<'_>) -> std::result::Result<(), String> {
                let InterfaceType::$case(table) = ty else {
                    return Err(crate::host::value::check::expected($name, ty));
                };
                let payload = types.types[types.types[*table].ty].payload;
                match payload {
                    Some(payload) => T::check(&payload, types).map_err(|error| format!("{} element: {error}", $name)),
                    None if T::LAYOUT.flat == 0 => Ok(()),
                    None => Err(format!("{} without elements", $name)),
                }
            }
        }

        impl<T: ComponentType> Lift for $reader<T> {
            fn lift(cx: &mut LiftCx<'_>, ty: InterfaceType, src: &mut FlatSource<'_>) -> Result<Self> {
                let handle = src.next() as u32;
                Ok($reader { end: $take(cx, ty, handle)?, _element: PhantomData })
            }

            fn load(cx: &mut LiftCx<'_>, ty: InterfaceType, at: usize) -> Result<Self> {
                let handle = u32::load(cx, InterfaceType::U32, at)?;
                Ok($reader { end: $take(cx, ty, handle)?, _element: PhantomData })
            }
        }

        impl<T: $lowered> Lower for $reader<T> {
            fn lower(self, cx: &mut LowerCx<'_>, ty: InterfaceType, dst: &mut FlatSink<'_>) -> Result<()> {
                let handle = $put(cx, ty, self.end)?;
                dst.push(u64::from(handle));
                Ok(())
            }

            fn store(self, cx: &mut LowerCx<'_>, ty: InterfaceType, at: usize) -> Result<()> {
                let handle = $put(cx, ty, self.end)?;
                handle.store(cx, InterfaceType::U32, at)
            }
        }
    };
}

readable!(StreamReader, Stream, ComponentType, take_stream, put_stream, "stream");
readable!(FutureReader, Future, Lower, take_future, put_future::<T>, "future");

fn take_stream(cx: &mut LiftCx<'_>, ty: InterfaceType, handle: u32) -> Result<Readable> {
    let InterfaceType::Stream(table) = ty else { unreachable!("checked at link time") };
    let stream = cx.stream(table, handle)?;
    Ok(take(cx, stream))
}

fn take_future(cx: &mut LiftCx<'_>, ty: InterfaceType, handle: u32) -> Result<Readable> {
    let InterfaceType::Future(table) = ty else { unreachable!("checked at link time") };
    let stream = cx.future(table, handle)?;
    Ok(take(cx, stream))
}

/// The host's own source comes back as it is; another's end is held from now on.
fn take(cx: &mut LiftCx<'_>, stream: u32) -> Readable {
    let state = &mut *cx.state;
    let entry = &mut state.streams[stream as usize];
    if let Some(source) = entry.source.take() {
        state.streams.remove(stream as usize);
        return Readable::Source(source);
    }
    entry.reader = End::Host;
    Readable::Guest(ReadEnd::new(state.zone.clone(), stream))
}

fn put_stream(cx: &mut LowerCx<'_>, ty: InterfaceType, end: Readable) -> Result<u32> {
    match end {
        Readable::Source(source) => cx.lower_source(ty, source),
        Readable::Guest(end) => cx.lower_end(ty, end),
    }
}

fn put_future<T: Lower>(cx: &mut LowerCx<'_>, ty: InterfaceType, end: Readable) -> Result<u32> {
    let end = match end {
        Readable::Source(source) => return cx.lower_source(ty, source),
        Readable::Guest(end) => end,
    };
    match cx.stop_read(&end)? {
        // It came already; the guest that wrote it is done with it.
        Some((items, held)) => {
            let mut items = *items.downcast::<Vec<T>>().expect("`lift_items` makes a Vec<T>");
            cx.lower_source(ty, Box::new(FutureSource { future: None, value: items.pop(), _held: held }))
        }
        None => cx.lower_end(ty, end),
    }
}
