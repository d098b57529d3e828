//! What hosts keep for one zone.

use crate::abi::HostCx;
use crate::host::wasi::WasiCtx;
use crate::host::wasi::http::HttpCtx;
use std::rc::Rc;

/// The host's side of a zone: what its functions share.
pub struct HostData {
    /// `wasi:cli`, `clocks`, `random`, `io`, `filesystem`.
    pub wasi: WasiCtx,
    /// `wasi:http`.
    pub http: HttpCtx,
}

impl HostData {
    /// The data of the zone that calls.
    pub fn of(cx: &HostCx<'_>) -> Rc<HostData> {
        cx.data().expect("zones whose components import WASI are made with `HostData`")
    }
}
