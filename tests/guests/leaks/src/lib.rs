//! Forgets one handle of every kind per request and answers hello: what the host holds for it must end with its zone.
//! `/N` forgets N sets of them.

use std::mem::forget;

use guest_kit::{bytes, fields, no_trailers, path, request_body, response, segments, text};
use wasip3::http::types::{ErrorCode, Fields, Request, RequestOptions, Response};
use wasip3::{wit_future, wit_stream};

struct Leaks;

wasip3::http::service::export!(Leaks);

impl wasip3::exports::http::handler::Guest for Leaks {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let sets = segments(&path(&request))[0].parse().unwrap_or(1);
        forget(request.get_headers());
        forget(request_body(request));
        for _ in 0..sets {
            leak_one_of_each();
        }
        Ok(text(200, "hello from a guest that leaks\n"))
    }
}

fn leak_one_of_each() {
    forget(Fields::new());
    forget(RequestOptions::new());
    forget(Request::new(fields(&[("x-leaked", "request")]), None, no_trailers(), None));
    forget(response(200, fields(&[("x-leaked", "response")]), None, no_trailers()));
    forget(wit_stream::new::<u8>());
    forget(wit_future::new::<Result<(), ErrorCode>>(|| Ok(())));
    // A stream with a write in flight that no one will ever read.
    forget(bytes(b"never read".to_vec()));
}
