//! Allocates: without end (`/hog`), or so many MiB before it answers (`/hog/N`). Other paths are answered with hello.
//! Every page is written to, because memory that nobody touches costs the host nothing.

use std::hint::black_box;

use guest_kit::{path, segments, text};
use wasip3::http::types::{ErrorCode, Request, Response};

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
