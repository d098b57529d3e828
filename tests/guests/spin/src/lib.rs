//! Holds the core: forever, for a while, or for a while with polite pauses. Any other path is answered with hello.

use std::hint::black_box;

use guest_kit::{path, segments, text};
use wasip3::clocks::monotonic_clock::now;
use wasip3::http::types::{ErrorCode, Request, Response};
use wasip3::wit_bindgen::{spawn_local, yield_async};

struct Spin;

wasip3::http::service::export!(Spin);

/// What the path asks for.
enum Mode {
    Forever,
    ForeverAfterResponse,
    Burn { ms: u64 },
    BurnPolitely { ms: u64 },
    Hello,
}

impl Mode {
    fn parse(path: &str) -> Option<Mode> {
        Some(match segments(path)[..] {
            ["spin"] => Mode::Forever,
            ["spin-after-response"] => Mode::ForeverAfterResponse,
            ["spin", ms] => Mode::Burn { ms: ms.parse().ok()? },
            ["yield", ms] => Mode::BurnPolitely { ms: ms.parse().ok()? },
            _ => Mode::Hello,
        })
    }
}

impl wasip3::exports::http::handler::Guest for Spin {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        Ok(match Mode::parse(&path(&request)) {
            Some(Mode::Forever) => forever(),
            Some(Mode::ForeverAfterResponse) => {
                spawn_local(async { forever() });
                text(200, "hello, and then nothing\n")
            }
            Some(Mode::Burn { ms }) => {
                burn_ms(ms);
                text(200, format!("burnt {ms} ms\n"))
            }
            Some(Mode::BurnPolitely { ms }) => {
                for _ in 0..ms {
                    burn_ms(1);
                    yield_async().await;
                }
                text(200, format!("burnt {ms} ms politely\n"))
            }
            Some(Mode::Hello) => text(200, "hello from a guest that spins\n"),
            None => text(404, "that is not a number of milliseconds\n"),
        })
    }
}

/// Calls nothing, so nothing but an interrupt ends it.
fn forever() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

fn burn_ms(ms: u64) {
    let until_ns = now().saturating_add(ms.saturating_mul(1_000_000));
    while now() < until_ns {
        for turn in 0..10_000 {
            black_box(turn);
        }
    }
}
