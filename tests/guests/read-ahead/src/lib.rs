//! Reads the request's body with several reads in flight, and answers how many bytes it had, their checksum (the sum of each byte times
//! its position, from 1) and whether there ever was more than one read: `bytes checksum several|single`. `/copy` answers with the
//! body instead. Needs `interflow serve --lab`.

mod lab {
    wit_bindgen::generate!({
        path: "../../../wit/lab",
        inline: "package interflow:guest; world reads-ahead { import lab:streams/read-ahead@0.1.0; }",
        generate_all,
    });

    pub use lab::streams::read_ahead::read_ahead;
}
mod reader;

use guest_kit::{no_trailers, path, request_body, response, text};
use reader::Ahead;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::wit_bindgen::spawn_local;
use wasip3::wit_stream;

struct ReadAhead;

wasip3::http::service::export!(ReadAhead);

impl wasip3::exports::http::handler::Guest for ReadAhead {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let copies = path(&request) == "/copy";
        let (body, _trailers) = request_body(request);
        let mut body = Ahead::new(body);
        if copies {
            let (mut writer, reader) = wit_stream::new();
            spawn_local(async move {
                while let Some(bytes) = body.next().await {
                    // Who answers nobody reads on all the same: see `Ahead`.
                    writer.write_all(bytes).await;
                }
            });
            return Ok(response(200, Fields::new(), Some(reader), no_trailers()));
        }
        let (mut count, mut sum) = (0u64, 0u64);
        while let Some(bytes) = body.next().await {
            for byte in bytes {
                count += 1;
                sum = sum.wrapping_add(u64::from(byte).wrapping_mul(count));
            }
        }
        let several = if body.most_in_flight() > 1 { "several" } else { "single" };
        Ok(text(200, format!("{count} {sum} {several}\n")))
    }
}
