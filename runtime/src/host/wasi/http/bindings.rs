//! The traits of `wasi:http`, generated from `wit/`.

interflow_macros::host! {
    path: "../wit",
    interfaces: ["wasi:http/types@0.3.2", "wasi:http/client@0.3.2"],
    with: {
        "wasi:http/types/fields": crate::host::wasi::http::Fields,
        "wasi:http/types/request": crate::host::wasi::http::Request,
        "wasi:http/types/request-options": crate::host::wasi::http::RequestOptions,
        "wasi:http/types/response": crate::host::wasi::http::Response,
    },
}
