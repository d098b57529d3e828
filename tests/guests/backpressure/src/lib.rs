//! Lets the host start one request at a time, through `backpressure.inc` and `backpressure.dec`.
//! Answers how many requests were in here at most; a host that honours backpressure makes that 1, forever.
//! `/hold/MS` stays that long; any other path leaves at once.

use std::cell::Cell;

use guest_kit::{path, segments, text, wait_ms};
use wasip3::http::types::{ErrorCode, Request, Response};
use wasip3::wit_bindgen::{backpressure_dec, backpressure_inc};

struct Backpressure;

wasip3::http::service::export!(Backpressure);

impl wasip3::exports::http::handler::Guest for Backpressure {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let _inside = Inside::enter();
        if let ["hold", ms] = segments(&path(&request))[..] {
            wait_ms(ms.parse().unwrap_or(0)).await;
        }
        Ok(text(200, format!("{}\n", MOST.get())))
    }
}

thread_local! {
    static NOW: Cell<u32> = const { Cell::new(0) };
    static MOST: Cell<u32> = const { Cell::new(0) };
}

/// A request that is being handled. Dropping it lets the next one in.
struct Inside;

impl Inside {
    fn enter() -> Inside {
        backpressure_inc();
        NOW.set(NOW.get() + 1);
        MOST.set(MOST.get().max(NOW.get()));
        Inside
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        NOW.set(NOW.get() - 1);
        backpressure_dec();
    }
}
