//! Lets a request through to the next handler only with `authorization: Bearer <token>`; anything else gets 401.
//! The token is the environment's `AUTH_TOKEN`, or `letmein`: a demonstration, not a vault.

use guest_kit::{field, fields, no_trailers, response};
use wasip3::http::types::{ErrorCode, Request, Response};

struct Auth;

wasip3::http::service::export!(Auth);

impl wasip3::exports::http::handler::Guest for Auth {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let token = std::env::var("AUTH_TOKEN").unwrap_or_else(|_| "letmein".to_owned());
        if permitted(field(&request.get_headers(), "authorization"), &token) {
            return guest_next::handle(request).await;
        }
        let headers = fields(&[("www-authenticate", "Bearer"), ("content-length", "0")]);
        Ok(response(401, headers, None, no_trailers()))
    }
}

fn permitted(authorization: Option<String>, token: &str) -> bool {
    let given = authorization.as_deref().and_then(|value| value.split_once(' '));
    match given {
        Some((scheme, given)) => scheme.eq_ignore_ascii_case("bearer") && same(given, token),
        None => false,
    }
}

/// Equality that takes as long for a near miss as for a far one.
fn same(a: &str, b: &str) -> bool {
    let different = a.bytes().zip(b.bytes()).fold(0, |acc, (a, b)| acc | (a ^ b));
    a.len() == b.len() && different == 0
}
