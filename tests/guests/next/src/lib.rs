//! The next handler of the chain: `wasi:http/handler` as an import, which `wasip3` itself does not have.
//!
//! A crate of its own because linking it is what makes a guest a middleware: the import stands in the component even
//! if nothing calls it. The types are those of `wasip3`.

wit_bindgen::generate!({
    path: "../../../wit",
    inline: "package interflow:guest; world chained { import wasi:http/handler@0.3.2; }",
    with: {
        "wasi:clocks/types@0.3.2": wasip3::clocks::types,
        "wasi:http/types@0.3.2": wasip3::http::types,
        "wasi:http/handler@0.3.2": generate,
    },
});

pub use wasi::http::handler::handle;
