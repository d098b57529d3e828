//! Bodies: received by the host, lent to guests, sent by the host.
//!
//! A `Body` is what a message holds: contents and, after them, trailers. Contents that the host receives are a `HostBody`;
//! a guest that consumes them reads a stream whose source it is. When such a stream comes back in another message, the
//! `HostBody` comes out of it again and the bytes go from connection to connection without passing through the guest; the
//! trailers are what the guest says they are, and those of the `HostBody` if the guest passes its future on as well.
//! `OutgoingBody` is a body on its way out, as hyper wants it.
//!
//! Rules: between two ends there is one chunk, never a queue. Each body ends once, in `OutgoingBody::close`: success, error
//! and drop all come by there. Streams and futures of guests are never polled while their zone is running (its host calls and
//! sources may not, it would wait for itself), only from tasks of the executor.
//! Knows nothing of connections: framing is hyper's, but whether the length is what the headers say is checked here.

use super::bindings::wasi::http::types::{ErrorCode, Trailers as TrailerFields};
use super::{Fields, hyper_error};
use crate::abi::{Destination, HostCx, Produced, Result as AbiResult, Source};
use crate::executor::{is_running, now, oneshot, spawn, yield_now};
use crate::host::stream::{FutureReader, StreamReader};
use crate::host::value::Own;
use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, header};
use http_body::{Frame, SizeHint};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

/// Bytes taken from a guest at once.
const CHUNK_MAX: usize = 64 << 10;
/// Bytes taken from a guest before anybody asks for them.
const BEGIN_MAX: usize = 16 << 10;
/// Bodies up to this many bytes are worth a look at whether they end right behind their first chunk.
const SHORT_MAX: usize = 16 << 10;

/// Which kind of message a body belongs to; error codes differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A request.
    Request,
    /// A response.
    Response,
}

impl Message {
    /// There are more or fewer bytes than announced.
    fn wrong_size(self, bytes: u64) -> ErrorCode {
        match self {
            Message::Request => ErrorCode::HttpRequestBodySize(Some(bytes)),
            Message::Response => ErrorCode::HttpResponseBodySize(Some(bytes)),
        }
    }
}

/// The value of a guest's or our future of trailers.
type TrailersResult = Result<Option<Own<TrailerFields>>, ErrorCode>;
/// Tells the guest that made a message how its transmission went.
type Report = oneshot::Sender<Result<(), ErrorCode>>;

// ---------------------------------------------------------------------------------------------------------- received

/// A body that the host receives, or the readable rest of one.
///
/// As the source of a stream it goes to a guest, and comes back if the guest passes the stream on.
pub struct HostBody(Rc<RefCell<Received>>);

/// What the stream and the future of trailers of a received body share.
struct Received {
    message: Message,
    stage: Stage,
    /// Bytes that are still to come, if their number is known.
    left: Option<u64>,
    /// Who waits for the trailers.
    waiting: Option<Waker>,
}

enum Stage {
    /// Bytes are coming; `chunk` has arrived and was not taken yet.
    Flowing { wire: Wire, chunk: Bytes },
    /// No more bytes come; nobody has asked yet how it ended.
    Ended(Result<Option<HeaderMap>, ErrorCode>),
    /// The end was told.
    Told,
}

enum Wire {
    Hyper(hyper::body::Incoming),
    Other(Pin<Box<dyn http_body::Body<Data = Bytes, Error = ErrorCode>>>),
}

impl Wire {
    fn poll_frame(
        &mut self,
        task: &mut Context<'_>,
        message: Message,
    ) -> Poll<Option<Result<Frame<Bytes>, ErrorCode>>> {
        match self {
            Wire::Hyper(body) => {
                let frame = ready!(http_body::Body::poll_frame(Pin::new(body), task));
                Poll::Ready(frame.map(|frame| frame.map_err(|error| hyper_error(&error, message))))
            }
            Wire::Other(body) => body.as_mut().poll_frame(task),
        }
    }
}

impl HostBody {
    /// The body of a message that hyper received; `None` if it has none.
    pub fn hyper(body: hyper::body::Incoming, message: Message) -> Option<HostBody> {
        use http_body::Body;
        let left = body.size_hint().exact();
        (!body.is_end_stream()).then(|| HostBody::flowing(Wire::Hyper(body), left, message))
    }

    /// Any other body; `None` if it is empty. If its size is known, it must be what comes.
    pub fn new(
        body: impl http_body::Body<Data = Bytes, Error = ErrorCode> + 'static,
        message: Message,
    ) -> Option<HostBody> {
        let left = body.size_hint().exact();
        (!body.is_end_stream()).then(|| HostBody::flowing(Wire::Other(Box::pin(body)), left, message))
    }

    fn flowing(wire: Wire, left: Option<u64>, message: Message) -> HostBody {
        let stage = Stage::Flowing { wire, chunk: Bytes::new() };
        HostBody(Rc::new(RefCell::new(Received { message, stage, left, waiting: None })))
    }

    /// Nothing: what a guest gets that consumes a message without contents.
    fn ended(message: Message) -> HostBody {
        let stage = Stage::Ended(Ok(None));
        HostBody(Rc::new(RefCell::new(Received { message, stage, left: Some(0), waiting: None })))
    }

    /// The future that tells a guest how the body ended. It is ready once the contents are.
    fn trailers(&self) -> FutureReader<TrailersResult> {
        let shared = self.0.clone();
        FutureReader::new(poll_fn(move |task| shared.borrow_mut().poll_end(task).map(Ok)))
    }

    fn poll_chunk(&self, task: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.borrow_mut().poll_chunk(task)
    }

    /// How many bytes are still to be read, if known.
    fn left(&self) -> Option<u64> {
        let received = self.0.borrow();
        match &received.stage {
            Stage::Flowing { chunk, .. } => received.left.map(|left| left + chunk.len() as u64),
            Stage::Ended(Ok(_)) | Stage::Told => Some(0),
            Stage::Ended(Err(_)) => None,
        }
    }

    /// Nothing flows any more.
    fn is_over(&self) -> bool {
        !matches!(self.0.borrow().stage, Stage::Flowing { .. })
    }

    /// The contents are at their end: why, if that is not how they should have ended.
    fn failure(&self) -> Option<ErrorCode> {
        match &self.0.borrow().stage {
            Stage::Ended(Err(error)) => Some(error.clone()),
            _ => None,
        }
    }

    /// The contents are at their end, and nobody else will ask for the trailers.
    fn take_end(&self) -> Result<Option<HeaderMap>, ErrorCode> {
        match std::mem::replace(&mut self.0.borrow_mut().stage, Stage::Told) {
            Stage::Ended(end) => end,
            Stage::Flowing { .. } | Stage::Told => Ok(None),
        }
    }

    /// Gives the rest up; whoever waits for the trailers learns `end`.
    fn abandon(&self, end: Result<Option<HeaderMap>, ErrorCode>) {
        let mut received = self.0.borrow_mut();
        if let Stage::Flowing { .. } = received.stage {
            received.end(end);
        }
    }
}

impl Drop for HostBody {
    fn drop(&mut self) {
        // A guest that does not want the rest has not met an error.
        self.abandon(Ok(None));
    }
}

impl Received {
    /// The next bytes; `None` when there are no more, for whatever reason: `stage` has it.
    fn poll_chunk(&mut self, task: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let Stage::Flowing { wire, chunk } = &mut self.stage else { return Poll::Ready(None) };
            if !chunk.is_empty() {
                return Poll::Ready(Some(std::mem::take(chunk)));
            }
            let end = match ready!(wire.poll_frame(task, self.message)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => match self.left.map(|left| left.checked_sub(data.len() as u64)) {
                        Some(None) => Err(self.message.wrong_size(data.len() as u64)),
                        left => {
                            self.left = left.flatten();
                            *chunk = data;
                            continue;
                        }
                    },
                    Err(frame) => match frame.into_trailers() {
                        Ok(trailers) => Ok(Some(trailers)),
                        // Neither data nor trailers: something newer than we are.
                        Err(_) => continue,
                    },
                },
                Some(Err(error)) => Err(error),
                None => Ok(None),
            };
            let end = match (end, self.left, self.message) {
                (Ok(_), Some(1..), Message::Request) => Err(ErrorCode::ConnectionTerminated),
                (Ok(_), Some(1..), Message::Response) => Err(ErrorCode::HttpResponseIncomplete),
                (end, ..) => end,
            };
            self.end(end);
        }
    }

    fn end(&mut self, end: Result<Option<HeaderMap>, ErrorCode>) {
        self.stage = Stage::Ended(end);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    fn poll_end(&mut self, task: &mut Context<'_>) -> Poll<TrailersResult> {
        match &self.stage {
            Stage::Flowing { .. } => {
                self.waiting = Some(task.waker().clone());
                return Poll::Pending;
            }
            Stage::Ended(_) | Stage::Told => {}
        }
        let Stage::Ended(end) = std::mem::replace(&mut self.stage, Stage::Told) else {
            return Poll::Ready(Ok(None));
        };
        Poll::Ready(end.map(|trailers| trailers.map(|map| Own::new(Fields::received(map)))))
    }
}

impl Source for HostBody {
    fn poll_produce(&mut self, task: &mut Context<'_>, destination: &mut Destination<'_>) -> Poll<AbiResult<Produced>> {
        let mut received = self.0.borrow_mut();
        let Some(mut bytes) = ready!(received.poll_chunk(task)) else {
            return Poll::Ready(Ok(Produced::End));
        };
        bytes.advance(destination.put_bytes(&bytes));
        if let Stage::Flowing { chunk, .. } = &mut received.stage {
            *chunk = bytes;
        }
        Poll::Ready(Ok(Produced::Items))
    }
}

// -------------------------------------------------------------------------------------------------------- in a message

/// The body of a message that has not been sent or consumed.
pub(super) struct Body {
    message: Message,
    contents: Contents,
    trailers: Trailers,
    /// For a guest's own message.
    report: Option<Report>,
}

enum Contents {
    Empty,
    Host(HostBody),
    Guest(StreamReader<u8>),
}

enum Trailers {
    /// Those that came behind the contents.
    OfContents,
    /// Those that a guest gives.
    Future(FutureReader<TrailersResult>),
}

impl Body {
    /// The body of a message from outside.
    pub fn received(message: Message, body: Option<HostBody>) -> Body {
        let contents = body.map_or(Contents::Empty, Contents::Host);
        Body { message, contents, trailers: Trailers::OfContents, report: None }
    }

    /// The body of a message that a guest makes, and the future of its transmission.
    pub fn made(
        message: Message,
        contents: Option<StreamReader<u8>>,
        trailers: FutureReader<TrailersResult>,
    ) -> (Body, FutureReader<Result<(), ErrorCode>>) {
        let (report, outcome) = oneshot::channel();
        let contents = match contents.map(StreamReader::into_source::<HostBody>) {
            None => Contents::Empty,
            Some(Ok(body)) if body.is_over() && body.failure().is_none() => Contents::Empty,
            Some(Ok(body)) => Contents::Host(*body),
            Some(Err(stream)) => Contents::Guest(stream),
        };
        let body = Body { message, contents, trailers: Trailers::Future(trailers), report: Some(report) };
        let outcome = async move {
            let dropped = |_| Err(ErrorCode::InternalError(Some("the message was dropped unsent".into())));
            Ok(outcome.await.unwrap_or_else(dropped))
        };
        (body, FutureReader::new(outcome))
    }

    /// Begins to read what a guest writes, the first bytes and the trailers, wherever the message goes: the guest need not wait until
    /// somebody asks for them.
    ///
    /// # Errors
    /// When what the guest has written already is not what it should be; that is its fault.
    pub fn begin(&self, cx: &mut HostCx<'_>) -> AbiResult<()> {
        if let Contents::Guest(stream) = &self.contents {
            stream.begin(cx, BEGIN_MAX)?;
        }
        match &self.trailers {
            Trailers::Future(trailers) => trailers.begin(cx),
            Trailers::OfContents => Ok(()),
        }
    }

    /// Gives contents and trailers to a guest, which tells with `handled` how it got on with them.
    pub fn consume(
        self,
        handled: FutureReader<Result<(), ErrorCode>>,
    ) -> (StreamReader<u8>, FutureReader<TrailersResult>) {
        let Body { message, contents, trailers, report } = self;
        watch(handled, report);
        let body = match (contents, trailers) {
            (Contents::Guest(stream), Trailers::Future(trailers)) => return (stream, trailers),
            (Contents::Host(body), Trailers::Future(trailers)) => return (StreamReader::new(body), trailers),
            (Contents::Empty, Trailers::Future(trailers)) => {
                return (StreamReader::new(HostBody::ended(message)), trailers);
            }
            (Contents::Host(body), Trailers::OfContents) => body,
            (Contents::Empty, Trailers::OfContents) => HostBody::ended(message),
            (Contents::Guest(_), Trailers::OfContents) => unreachable!("who gives contents gives trailers"),
        };
        let trailers = body.trailers();
        (StreamReader::new(body), trailers)
    }

    /// The body on its way out, framed as `headers` say. `headers` are made to say it if they did not.
    ///
    /// # Errors
    /// When the headers announce a length that is none, or that the contents are known not to have.
    pub fn send(self, headers: &mut HeaderMap, bodiless: bool) -> Result<Box<OutgoingBody>, ErrorCode> {
        let Body { message, contents, trailers, report } = self;
        let end = Some(End { report, on_end: None, upload: None });
        // In a box, because messages are moved often on their way.
        let mut body = Box::new(OutgoingBody {
            message,
            stage: Sending::Contents(contents, trailers),
            framing: Framing::Bodiless,
            ahead: [None, None],
            sent: 0,
            end,
        });
        match body.decide_framing(headers, bodiless) {
            Ok(framing) => body.framing = framing,
            Err(error) => {
                body.close(Err(error.clone()));
                return Err(error);
            }
        }
        if bodiless {
            body.skip_contents();
        }
        Ok(body)
    }
}

/// Takes the word of a guest on how it handled a message, and passes it to the guest that made the message, if one did.
fn watch(handled: FutureReader<Result<(), ErrorCode>>, report: Option<Report>) {
    if !is_running() {
        // Nobody can wait for the guest: it learns that nobody listens.
        return;
    }
    drop(spawn(async move {
        // A guest that is gone says nothing; dropping `report` tells.
        if let (Ok(outcome), Some(report)) = (handled.value().await, report) {
            // The guest that made the message may not care.
            let _ = report.send(outcome);
        }
    }));
}

// ---------------------------------------------------------------------------------------------------------------- sent

/// A body on its way out.
///
/// It must be polled outside of zones. Dropping it before its end tells the guest that writes it, and the one that made the
/// message, that the connection is gone.
pub struct OutgoingBody {
    message: Message,
    stage: Sending,
    framing: Framing,
    /// Chunks that `look_ahead` has taken.
    ahead: [Option<Bytes>; 2],
    /// Bytes given to the connection.
    sent: u64,
    /// `None` once the body has ended.
    end: Option<End>,
}

enum Sending {
    Contents(Contents, Trailers),
    Trailers(FutureReader<TrailersResult>),
    /// All is known: these trailers, then the end.
    Last(Option<HeaderMap>),
    Over,
}

/// How the receiver knows where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// So many bytes are left to be taken from the contents.
    Length(u64),
    /// It is told: chunks, or frames.
    Open,
    /// By the kind of message it has none: an answer to HEAD, 204, 304.
    Bodiless,
}

struct End {
    report: Option<Report>,
    on_end: Option<Box<dyn FnOnce(BodyEnd)>>,
    upload: Option<Rc<Cell<Upload>>>,
}

/// How a body ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyEnd {
    /// Bytes of content given to the connection.
    pub bytes: u64,
    /// Whether all of it was.
    pub result: Result<(), ErrorCode>,
}

/// How far an outgoing body is, for who waits for the answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upload {
    /// The guest has not written the next bytes yet.
    Waiting,
    /// The connection took bytes at this time, or asked for the first.
    Sending(Instant),
    /// The connection took the end at this time.
    Sent(Instant),
    /// It will not be sent to its end.
    Failed,
}

impl OutgoingBody {
    /// A body of ours: a short text, as in answers that no guest made.
    pub fn text(text: impl Into<Bytes>) -> OutgoingBody {
        let text = text.into();
        OutgoingBody {
            message: Message::Response,
            stage: Sending::Last(None),
            framing: Framing::Length(0),
            ahead: [(!text.is_empty()).then_some(text), None],
            sent: 0,
            end: Some(End { report: None, on_end: None, upload: None }),
        }
    }

    /// Calls `on_end` when the connection has taken the last byte, or will not. Bytes may still be on their way then: in
    /// hyper's buffer, of at most a few 100 KiB, and the kernel's.
    pub fn on_end(&mut self, on_end: impl FnOnce(BodyEnd) + 'static) {
        let end = self.end.as_mut().expect("asked before the body is sent");
        end.on_end = Some(Box::new(on_end));
    }

    /// Follows the body on its way.
    pub fn upload(&mut self) -> Rc<Cell<Upload>> {
        let end = self.end.as_mut().expect("asked before the body is sent");
        end.upload.get_or_insert_with(|| Rc::new(Cell::new(Upload::Sending(now())))).clone()
    }

    /// The message cannot be sent: whoever made it learns why.
    pub fn fail(&mut self, error: ErrorCode) {
        self.close(Err(error));
    }

    /// Takes the first chunk, and gives the guest one turn, if it needs that, to end the body behind it. A short body is then
    /// complete when its head is written: one write, and framed by its length. Call it on a task that may be polled often, outside of zones.
    ///
    /// # Errors
    /// When the body has failed already; then there is nothing to send.
    pub async fn look_ahead(&mut self) -> Result<(), ErrorCode> {
        let (mut taken, mut has_yielded) = (0, false);
        while taken < self.ahead.len() {
            let advanced = poll_fn(|task| Poll::Ready(self.poll_advance(task))).await;
            match advanced {
                Poll::Pending if taken == 0 || has_yielded => return Ok(()),
                Poll::Pending => {
                    has_yielded = true;
                    yield_now().await;
                }
                Poll::Ready(Ok(None)) => return Ok(()),
                Poll::Ready(Ok(Some(chunk))) => {
                    let long = chunk.len() > SHORT_MAX;
                    self.ahead[taken] = Some(chunk);
                    taken += 1;
                    // Whatever the guest does behind all that it has declared, the body is whole.
                    if long || self.framing == Framing::Length(0) {
                        return Ok(());
                    }
                }
                Poll::Ready(Err(error)) => {
                    self.close(Err(error.clone()));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Decides on the framing and makes the headers fit.
    fn decide_framing(&self, headers: &mut HeaderMap, bodiless: bool) -> Result<Framing, ErrorCode> {
        let announced = content_length(headers).map_err(|()| self.message.wrong_size(0))?;
        if bodiless {
            return Ok(Framing::Bodiless);
        }
        let known = match &self.stage {
            Sending::Contents(Contents::Empty, _) => Some(0),
            Sending::Contents(Contents::Host(body), _) => body.left(),
            _ => None,
        };
        match (announced, known) {
            (Some(announced), Some(known)) if announced != known => Err(self.message.wrong_size(known)),
            (Some(announced), _) => {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(announced));
                Ok(Framing::Length(announced))
            }
            // HTTP/1.1 has trailers behind chunks only.
            (None, Some(known)) if !headers.contains_key(header::TRAILER) => Ok(Framing::Length(known)),
            (None, _) => Ok(Framing::Open),
        }
    }

    /// Contents that are not sent: who writes them learns that nobody reads. Trailers still tell how it went.
    fn skip_contents(&mut self) {
        if let Sending::Contents(contents, _) = &mut self.stage {
            *contents = Contents::Empty;
        }
    }

    /// The next bytes, or `None` when all that follows is known (`Sending::Last`).
    fn poll_advance(&mut self, task: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ErrorCode>> {
        loop {
            match &mut self.stage {
                Sending::Contents(contents, _) => match ready!(contents.poll_chunk(task))? {
                    Some(chunk) => {
                        self.count(chunk.len() as u64)?;
                        return Poll::Ready(Ok(Some(chunk)));
                    }
                    None => self.contents_ended()?,
                },
                Sending::Trailers(trailers) => {
                    let trailers = match ready!(trailers.poll_value(task)) {
                        Ok(trailers) => trailers?,
                        Err(gone) => return Poll::Ready(Err(internal(gone))),
                    };
                    self.stage = Sending::Last(trailers.map(|fields| fields.0.into_map()));
                }
                Sending::Last(_) | Sending::Over => return Poll::Ready(Ok(None)),
            }
        }
    }

    /// Bytes taken ahead and not given to the connection yet.
    fn ahead_bytes(&self) -> u64 {
        self.ahead.iter().flatten().map(|chunk| chunk.len() as u64).sum()
    }

    /// Bytes that came from the contents.
    fn taken(&self) -> u64 {
        self.sent + self.ahead_bytes()
    }

    /// Bytes came from the contents.
    fn count(&mut self, bytes: u64) -> Result<(), ErrorCode> {
        let Framing::Length(left) = &mut self.framing else { return Ok(()) };
        match left.checked_sub(bytes) {
            Some(rest) => {
                *left = rest;
                Ok(())
            }
            None => Err(self.message.wrong_size(self.taken() + bytes)),
        }
    }

    fn contents_ended(&mut self) -> Result<(), ErrorCode> {
        let Sending::Contents(contents, trailers) = std::mem::replace(&mut self.stage, Sending::Over) else {
            unreachable!("only called while there are contents")
        };
        // Also where a guest gives the trailers: it has not seen these bytes and cannot vouch for them.
        if let Contents::Host(body) = &contents
            && let Some(error) = body.failure()
        {
            return Err(error);
        }
        if let Framing::Length(1..) = self.framing {
            return Err(self.message.wrong_size(self.taken()));
        }
        self.stage = match (contents, trailers) {
            (Contents::Host(body), Trailers::OfContents) => Sending::Last(body.take_end()?),
            (_, Trailers::OfContents) => Sending::Last(None),
            (_, Trailers::Future(trailers)) => Sending::Trailers(trailers),
        };
        Ok(())
    }

    /// All that the connection wants was given to it, though it has not asked for the end.
    fn is_complete(&self) -> bool {
        let taken = self.ahead.iter().all(Option::is_none);
        let framed = matches!(self.framing, Framing::Bodiless | Framing::Length(0));
        let known = matches!(self.stage, Sending::Last(_));
        taken && (framed || known)
    }

    /// The only way a body ends.
    fn close(&mut self, result: Result<(), ErrorCode>) {
        let Some(end) = self.end.take() else { return };
        let stage = std::mem::replace(&mut self.stage, Sending::Over);
        if let (Sending::Contents(Contents::Host(body), _), Err(error)) = (&stage, &result) {
            body.abandon(Err(error.clone()));
        }
        if let Some(upload) = end.upload {
            upload.set(if result.is_ok() { Upload::Sent(now()) } else { Upload::Failed });
        }
        if let Some(on_end) = end.on_end {
            on_end(BodyEnd { bytes: self.sent, result: result.clone() });
        }
        let Some(report) = end.report else { return };
        match stage {
            Sending::Contents(..) | Sending::Trailers(_) if result.is_ok() => self.follow(stage, report),
            // The guest may not care.
            _ => drop(report.send(result)),
        }
    }

    /// The connection has all it wants, but the guest has not ended the body: its word on how that went counts for the report.
    fn follow(&self, stage: Sending, report: Report) {
        let mut rest = OutgoingBody {
            message: self.message,
            stage,
            framing: Framing::Length(0),
            ahead: [None, None],
            sent: self.sent,
            end: None,
        };
        let mut report = Some(report);
        let mut poll = move |task: &mut Context<'_>| {
            let result = ready!(rest.poll_advance(task)).map(|_| ());
            rest.stage = Sending::Over;
            // The guest may not care.
            let _ = report.take().expect("ready once").send(result);
            Poll::Ready(())
        };
        let done = poll(&mut Context::from_waker(Waker::noop())).is_ready();
        if !done && is_running() {
            drop(spawn(poll_fn(poll)));
        }
    }

    fn note(&self, frame: &Poll<Option<Result<Frame<Bytes>, ErrorCode>>>) {
        let Some(upload) = self.end.as_ref().and_then(|end| end.upload.as_ref()) else { return };
        upload.set(match frame {
            Poll::Pending => Upload::Waiting,
            Poll::Ready(_) => Upload::Sending(now()),
        });
    }

    fn poll_next(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ErrorCode>>> {
        if let Some(chunk) = self.ahead.iter_mut().find_map(Option::take) {
            self.sent += chunk.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match ready!(self.poll_advance(task)) {
            Ok(Some(chunk)) => {
                self.sent += chunk.len() as u64;
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Ok(None) => {
                let last = std::mem::replace(&mut self.stage, Sending::Over);
                self.close(Ok(()));
                match last {
                    Sending::Last(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                    _ => Poll::Ready(None),
                }
            }
            Err(error) => {
                self.close(Err(error.clone()));
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}

impl http_body::Body for OutgoingBody {
    type Data = Bytes;
    type Error = ErrorCode;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ErrorCode>>> {
        let body = self.get_mut();
        let frame = body.poll_next(task);
        body.note(&frame);
        frame
    }

    fn is_end_stream(&self) -> bool {
        let taken = self.ahead.iter().all(Option::is_none);
        let over = matches!(self.stage, Sending::Last(None) | Sending::Over);
        taken && (over || self.framing == Framing::Bodiless)
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.ahead_bytes();
        match (&self.framing, &self.stage) {
            (Framing::Length(left), _) => SizeHint::with_exact(ahead + left),
            (Framing::Bodiless, _) | (_, Sending::Last(None) | Sending::Over) => SizeHint::with_exact(ahead),
            (Framing::Open, _) => SizeHint::default(),
        }
    }
}

impl Drop for OutgoingBody {
    fn drop(&mut self) {
        match self.is_complete() {
            // hyper asks no further once the framing says that this was all.
            true => self.close(Ok(())),
            false => self.close(Err(ErrorCode::ConnectionTerminated)),
        }
    }
}

impl Contents {
    fn poll_chunk(&mut self, task: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ErrorCode>> {
        match self {
            Contents::Empty => Poll::Ready(Ok(None)),
            Contents::Host(body) => body.poll_chunk(task).map(Ok),
            Contents::Guest(stream) => match ready!(stream.poll_next(task, CHUNK_MAX)) {
                Ok(chunk) => Poll::Ready(Ok(chunk.map(Bytes::from))),
                Err(gone) => Poll::Ready(Err(internal(gone))),
            },
        }
    }
}

/// The guest is gone: it has trapped, or its zone has ended.
fn internal(gone: wasmtime::Error) -> ErrorCode {
    ErrorCode::InternalError(Some(gone.to_string()))
}

/// The length that headers announce. Several values that agree are one (RFC 9110, 8.6).
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, ()> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = values.next() else { return Ok(None) };
    let digits = first.to_str().map_err(drop)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(());
    }
    let length = digits.parse().map_err(drop)?;
    if values.all(|value| value == first) { Ok(Some(length)) } else { Err(()) }
}

#[cfg(test)]
mod tests;
