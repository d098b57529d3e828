//! Bodies without connections and guests: what comes in is a script, what goes out is collected.

use super::*;
use crate::executor::Executor;
use crate::ring::{IoMode, probe};
use http::HeaderName;
use http_body::Body as _;
use std::collections::VecDeque;
use std::future::Future;

/// What a scripted body does at its next poll.
enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    Error(ErrorCode),
    /// Nothing yet.
    Later,
}

struct Script {
    steps: VecDeque<Step>,
    size: Option<u64>,
}

impl http_body::Body for Script {
    type Data = Bytes;
    type Error = ErrorCode;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ErrorCode>>> {
        Poll::Ready(match self.steps.pop_front() {
            Some(Step::Data(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(Step::Trailers(map)) => Some(Ok(Frame::trailers(map))),
            Some(Step::Error(error)) => Some(Err(error)),
            Some(Step::Later) => {
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            None => None,
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.size.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn data(text: &'static str) -> Step {
    Step::Data(Bytes::from_static(text.as_bytes()))
}

fn host(size: Option<u64>, steps: impl IntoIterator<Item = Step>) -> HostBody {
    let script = Script { steps: steps.into_iter().collect(), size };
    HostBody::new(script, Message::Response).expect("a script is not known to be empty")
}

fn received(size: Option<u64>, steps: impl IntoIterator<Item = Step>) -> Body {
    Body::received(Message::Response, Some(host(size, steps)))
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair =
        |(name, value): &(&'static str, &'static str)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    pairs.iter().map(pair).collect()
}

/// No guest has said anything, nor ever will.
fn silent<T: crate::host::value::Lower + crate::host::value::Lift>() -> FutureReader<T> {
    FutureReader::new(std::future::pending())
}

fn given(trailers: Option<HeaderMap>) -> FutureReader<TrailersResult> {
    FutureReader::ready(Ok(trailers.map(|map| Own::new(Fields::received(map)))))
}

fn run<F: Future>(test: F) -> F::Output {
    let choice = probe(IoMode::Epoll).expect("epoll is always there");
    Executor::new(&choice).expect("an executor").block_on(test)
}

/// All that a body gives: bytes, trailers, how it ended.
async fn collect(body: &mut OutgoingBody) -> (String, Option<HeaderMap>, Result<(), ErrorCode>) {
    let (mut text, mut trailers) = (String::new(), None);
    loop {
        match poll_fn(|task| Pin::new(&mut *body).poll_frame(task)).await {
            None => return (text, trailers, Ok(())),
            Some(Err(error)) => return (text, trailers, Err(error)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => text.push_str(std::str::from_utf8(&data).expect("tests use text")),
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    }
}

/// What a guest does that passes a body through: consumes it and makes a new message of the parts.
fn pass_through(
    body: Body,
    trailers: Option<FutureReader<TrailersResult>>,
) -> (Body, FutureReader<Result<(), ErrorCode>>) {
    let (stream, own) = body.consume(silent());
    Body::made(Message::Response, Some(stream), trailers.unwrap_or(own))
}

#[test]
fn a_body_that_is_passed_through_is_handed_over_with_its_trailers() {
    run(async {
        let bytes = Bytes::from_static(b"hello");
        let trailers = headers(&[("x-sum", "5")]);
        let steps = [Step::Later, Step::Data(bytes.clone()), Step::Later, Step::Trailers(trailers.clone())];
        let (body, transmitted) = pass_through(received(None, steps), None);
        // Through a second guest as well.
        let (body, transmitted_again) = pass_through(body, None);
        let mut body = body.send(&mut HeaderMap::new(), false).expect("nothing is wrong");
        assert_eq!(body.size_hint().exact(), None);
        let first = poll_fn(|task| Pin::new(&mut body).poll_frame(task)).await;
        let first = first.expect("data").expect("no error").into_data().expect("data");
        assert_eq!(first.as_ptr(), bytes.as_ptr(), "not copied");
        assert_eq!(collect(&mut body).await, (String::new(), Some(trailers), Ok(())));
        assert_eq!(transmitted_again.value().await.expect("told"), Ok(()));
        drop(transmitted);
    });
}

#[test]
fn the_trailers_of_a_guest_count_for_a_body_that_was_handed_over() {
    run(async {
        let own = headers(&[("x-guest", "yes")]);
        let steps = || [data("hello"), Step::Trailers(headers(&[("x-host", "yes")]))];
        let (body, _) = pass_through(received(None, steps()), Some(given(Some(own.clone()))));
        let mut body = body.send(&mut HeaderMap::new(), false).expect("nothing is wrong");
        assert_eq!(collect(&mut body).await, ("hello".into(), Some(own), Ok(())));

        let error = ErrorCode::LoopDetected;
        let failing = FutureReader::ready(Err(error.clone()));
        let (body, transmitted) = pass_through(received(None, steps()), Some(failing));
        let mut body = body.send(&mut HeaderMap::new(), false).expect("nothing is wrong");
        assert_eq!(collect(&mut body).await, ("hello".into(), None, Err(error.clone())));
        assert_eq!(transmitted.value().await.expect("told"), Err(error));
    });
}

#[test]
fn a_guest_cannot_vouch_for_a_handed_over_body_that_broke() {
    run(async {
        let steps = [data("hel"), Step::Error(ErrorCode::ConnectionTerminated)];
        let (body, _) = pass_through(received(None, steps), Some(given(None)));
        let mut body = body.send(&mut HeaderMap::new(), false).expect("nothing is wrong");
        let broken = Err(ErrorCode::ConnectionTerminated);
        assert_eq!(collect(&mut body).await, ("hel".into(), None, broken));
    });
}

#[test]
fn a_known_length_frames_the_body_unless_trailers_are_announced() {
    run(async {
        let size = |pairs: &[(&'static str, &'static str)], known: Option<u64>| {
            let body = received(known, [data("hello")]).send(&mut headers(pairs), false);
            body.expect("nothing is wrong").size_hint().exact()
        };
        assert_eq!(size(&[], Some(5)), Some(5));
        assert_eq!(size(&[], None), None);
        assert_eq!(size(&[("content-length", "5")], None), Some(5));
        assert_eq!(size(&[("trailer", "x-sum")], Some(5)), None);
        assert_eq!(size(&[("trailer", "x-sum"), ("content-length", "5")], Some(5)), Some(5));
    });
}

#[test]
fn a_length_that_is_none_or_cannot_be_right_is_refused_before_anything_is_sent() {
    run(async {
        for wrong in ["", "-1", "+5", "5x", "99999999999999999999", "0x5"] {
            let (body, transmitted) = pass_through(received(None, [data("hello")]), None);
            let refused = body.send(&mut headers(&[("content-length", wrong)]), false).err();
            assert_eq!(refused, Some(ErrorCode::HttpResponseBodySize(Some(0))), "{wrong:?}");
            assert!(transmitted.value().await.expect("told").is_err());
        }
        let twice = &mut headers(&[("content-length", "5"), ("content-length", "6")]);
        assert!(received(None, [data("hello")]).send(twice, false).is_err());
        let known = received(Some(5), [data("hello")]);
        let refused = known.send(&mut headers(&[("content-length", "6")]), false).err();
        assert_eq!(refused, Some(ErrorCode::HttpResponseBodySize(Some(5))));
        let agreeing = &mut headers(&[("content-length", "5"), ("content-length", "5")]);
        received(None, [data("hello")]).send(agreeing, false).expect("both say the same");
        assert_eq!(agreeing.get_all("content-length").iter().count(), 1);
    });
}

#[test]
fn more_or_fewer_bytes_than_announced_are_an_error_on_both_sides() {
    run(async {
        for (announced, sent, bytes) in [("10", "hello", 5), ("5", "hello", 8)] {
            let steps = [data("hello"), data("abc")];
            let (body, transmitted) = pass_through(received(None, steps), None);
            let mut body = body.send(&mut headers(&[("content-length", announced)]), false).expect("may fit");
            let (text, _, result) = collect(&mut body).await;
            let expected = match announced {
                "10" => ("helloabc".to_string(), 8),
                _ => (sent.to_string(), bytes),
            };
            assert_eq!(text, expected.0);
            let error = Err(ErrorCode::HttpResponseBodySize(Some(expected.1)));
            assert_eq!(result, error);
            assert_eq!(transmitted.value().await.expect("told"), error);
        }
    });
}

#[test]
fn a_received_body_must_have_the_size_that_it_was_announced_with() {
    run(async {
        let steps = || [data("hello"), Step::Later];
        let end = |size| async move {
            let body = host(Some(size), steps());
            let trailers = body.trailers();
            while poll_fn(|task| body.poll_chunk(task)).await.is_some() {}
            trailers.value().await.expect("told").map(drop)
        };
        assert_eq!(end(5).await, Ok(()));
        assert_eq!(end(6).await, Err(ErrorCode::HttpResponseIncomplete));
        assert_eq!(end(4).await, Err(ErrorCode::HttpResponseBodySize(Some(5))));
    });
}

#[test]
fn dropping_an_outgoing_body_early_is_reported_everywhere_once() {
    run(async {
        let source = received(None, [data("hello"), data("more")]);
        let (stream, trailers) = source.consume(silent());
        let (body, transmitted) = Body::made(Message::Response, Some(stream), given(None));
        let mut body = body.send(&mut HeaderMap::new(), false).expect("nothing is wrong");
        let ends = Rc::new(RefCell::new(Vec::new()));
        let seen = ends.clone();
        body.on_end(move |end| seen.borrow_mut().push(end));
        let upload = body.upload();
        let first = poll_fn(|task| Pin::new(&mut body).poll_frame(task)).await;
        assert!(first.is_some_and(|frame| frame.is_ok()));
        drop(body);
        let gone = || Err(ErrorCode::ConnectionTerminated);
        assert_eq!(*ends.borrow(), [BodyEnd { bytes: 5, result: gone() }]);
        assert_eq!(upload.get(), Upload::Failed);
        assert_eq!(transmitted.value().await.expect("told"), gone());
        assert_eq!(trailers.value().await.expect("told").map(drop), gone());
    });
}

#[test]
fn a_body_that_is_dropped_behind_its_announced_length_ends_as_its_trailers_say() {
    run(async {
        for outcome in [Ok(()), Err(ErrorCode::LoopDetected)] {
            let (tell, told) = oneshot::channel();
            let later = FutureReader::new(async move { Ok(told.await.expect("told below")) });
            let (body, transmitted) = pass_through(received(None, [data("hello")]), Some(later));
            let mut body = body.send(&mut headers(&[("content-length", "5")]), false).expect("fits");
            let ends = Rc::new(Cell::new(false));
            let seen = ends.clone();
            body.on_end(move |end| seen.set(end.result.is_ok()));
            let first = poll_fn(|task| Pin::new(&mut body).poll_frame(task)).await;
            assert!(first.is_some_and(|frame| frame.is_ok()));
            drop(body);
            assert!(ends.get(), "the connection has got all");
            assert!(tell.send(outcome.clone().map(|()| None)).is_ok(), "the trailers are still waited for");
            assert_eq!(transmitted.value().await.expect("told"), outcome);
        }
    });
}

#[test]
fn a_message_that_is_dropped_unsent_is_reported() {
    run(async {
        let (body, transmitted) = Body::made(Message::Request, None, given(None));
        drop(body);
        let outcome = transmitted.value().await.expect("told");
        assert!(matches!(outcome, Err(ErrorCode::InternalError(Some(_)))), "{outcome:?}");
    });
}

#[test]
fn who_consumes_a_message_tells_the_one_who_made_it() {
    run(async {
        let (body, transmitted) = Body::made(Message::Request, None, given(None));
        let (stream, trailers) = body.consume(FutureReader::ready(Err(ErrorCode::LoopDetected)));
        assert!(stream.into_source::<HostBody>().is_ok_and(|body| body.is_over()));
        assert!(trailers.value().await.expect("told").is_ok_and(|trailers| trailers.is_none()));
        assert_eq!(transmitted.value().await.expect("told"), Err(ErrorCode::LoopDetected));
    });
}

#[test]
fn giving_up_a_received_body_is_no_error() {
    run(async {
        let (stream, trailers) = received(None, [data("hello"), data("more")]).consume(silent());
        drop(stream);
        assert!(trailers.value().await.expect("told").is_ok_and(|trailers| trailers.is_none()));
    });
}

#[test]
fn answers_without_contents_take_none_and_still_hear_the_trailers() {
    run(async {
        let (body, transmitted) = pass_through(received(Some(5), [data("hello")]), Some(given(None)));
        let announced = &mut headers(&[("content-length", "5")]);
        let body = body.send(announced, true).expect("nothing is wrong");
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
        assert_eq!(announced["content-length"], "5", "HEAD says what GET would have");
        drop(body);
        assert_eq!(transmitted.value().await.expect("told"), Ok(()));
    });
}

#[test]
fn looking_ahead_completes_a_short_body() {
    run(async {
        let (body, transmitted) = pass_through(received(None, [data("hello")]), Some(given(None)));
        let mut body = body.send(&mut HeaderMap::new(), false).expect("nothing is wrong");
        assert_eq!(body.size_hint().exact(), None);
        body.look_ahead().await.expect("nothing is wrong");
        assert_eq!(body.size_hint().exact(), Some(5));
        assert!(!body.is_end_stream());
        assert_eq!(collect(&mut body).await, ("hello".into(), None, Ok(())));
        assert_eq!(transmitted.value().await.expect("told"), Ok(()));
    });
}

#[test]
fn looking_ahead_loses_nothing_of_a_long_body() {
    run(async {
        let steps = [data("one "), data("two "), data("three"), Step::Trailers(headers(&[("a", "b")]))];
        let mut body = received(None, steps).send(&mut HeaderMap::new(), false).expect("nothing is wrong");
        body.look_ahead().await.expect("nothing is wrong");
        assert_eq!(body.size_hint().exact(), None);
        let expected = ("one two three".into(), Some(headers(&[("a", "b")])), Ok(()));
        assert_eq!(collect(&mut body).await, expected);
    });
}

#[test]
fn looking_ahead_finds_a_failure_before_the_head_is_sent() {
    run(async {
        let (body, transmitted) = pass_through(received(None, [Step::Error(ErrorCode::DnsTimeout)]), None);
        let mut body = body.send(&mut HeaderMap::new(), false).expect("nothing is wrong");
        assert_eq!(body.look_ahead().await, Err(ErrorCode::DnsTimeout));
        assert_eq!(transmitted.value().await.expect("told"), Err(ErrorCode::DnsTimeout));
    });
}
