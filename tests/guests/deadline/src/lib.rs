//! Gives the next handler as many milliseconds as `x-deadline-ms` says, then cancels its call and answers 504.
//! Without that header it passes through. Shows `subtask.cancel` between two guests; the next one must be able to be
//! cancelled, as `cancellable` is.

use std::pin::pin;

use futures::future::{Either, select};
use guest_kit::{field, text, wait_ms};
use wasip3::http::types::{ErrorCode, Request, Response};

struct Deadline;

wasip3::http::service::export!(Deadline);

impl wasip3::exports::http::handler::Guest for Deadline {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let given = field(&request.get_headers(), "x-deadline-ms");
        let Some(ms) = given.and_then(|ms| ms.parse().ok()) else {
            return guest_next::handle(request).await;
        };
        // Whichever of the two calls is still under way when this returns is dropped, and so cancelled.
        match select(pin!(guest_next::handle(request)), pin!(wait_ms(ms))).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), _)) => Ok(text(504, format!("nothing within {ms} ms\n"))),
        }
    }
}
