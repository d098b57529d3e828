//! Allocates: without end (`/hog`), or so many MiB before it answers (`/hog/N`). Makes the host keep fields until it refuses, and forgets
//! them (`/fields`), or responses that it never sends (`/responses`), or fields with nothing in them (`/empty`). Other paths are
//! answered with hello.
//! Every page is written to, because memory that nobody touches costs the host nothing.

use std::future::Future;
use std::hint::black_box;
use std::task::{Context, Waker};

use guest_kit::{bytes, no_trailers, path, response, segments, text};
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_future, wit_stream};

struct Hog;

wasip3::http::service::export!(Hog);

const MIB: usize = 1 << 20;

impl wasip3::exports::http::handler::Guest for Hog {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        Ok(match segments(&path(&request))[..] {
            ["hog"] => hold(u64::MAX),
            ["hog", mib] => match mib.parse() {
                Ok(mib) => hold(mib),
                Err(_) => text(404, "that is not a number of MiB\n"),
            },
            ["fields"] => fields(),
            ["responses"] => responses(),
            ["empty"] => loop {
                std::mem::forget(Fields::new());
            },
            _ => text(200, "hello from a guest that hogs\n"),
        })
    }
}

/// Where the host draws the line, the allocator gives up and the guest traps.
fn hold(mib: u64) -> Response {
    let mut held = Vec::new();
    for _ in 0..mib {
        held.push(black_box(vec![0xa5_u8; MIB]));
    }
    text(200, format!("held {} MiB\n", held.len()))
}

/// Fields of 100 KiB each.
fn fields() -> Response {
    let value = vec![b'x'; 100 << 10];
    let mut kept = Vec::new();
    loop {
        let fields = Fields::new();
        let Err(error) = fields.append("x", &value) else {
            kept.push(fields);
            continue;
        };
        let answer = format!("kept {} times 100 KiB, then: {error:?}\n", kept.len());
        // Room for those of the answer.
        kept.pop();
        std::mem::forget(kept);
        return text(200, answer);
    }
}

/// Bodies of 16 KiB each, and an error with a long text behind them; until nobody takes the next.
fn responses() -> Response {
    let (body, reason) = (vec![b'x'; 16 << 10], "x".repeat(1 << 20));
    let mut task = Context::from_waker(Waker::noop());
    let mut kept = Vec::new();
    loop {
        let (mut writer, reader) = wit_stream::new();
        let (trailers, told) = wit_future::new(|| Ok(None));
        kept.push(Response::new(Fields::new(), Some(reader), told));
        let mut wrote = Box::pin(writer.write(body.clone()));
        let mut tells = Box::pin(trailers.write(Err(ErrorCode::InternalError(Some(reason.clone())))));
        let taken = wrote.as_mut().poll(&mut task).is_ready() && tells.as_mut().poll(&mut task).is_ready();
        if !taken {
            let answer = format!("{} were taken\n", kept.len() - 1);
            std::mem::forget(kept);
            // There is no room for headers.
            return response(200, Fields::new(), Some(bytes(answer.into())), no_trailers());
        }
    }
}
