//! Calls with values whose type is known only at run time, and the question whether a zone can go on at all.

use super::{Call, HostCall, Values, Zone};
use crate::abi::cx::{FlatSink, LiftCx, LowerCx};
use crate::abi::dynamic::DynamicExport;
use crate::abi::{MAX_FLAT_PARAMS, Result};
use crate::host::value::dynamic::{self, Value};
use wasmtime_environ::component::TypeTupleIndex;

impl Zone {
    /// Calls an exported function of any type. `params` should have passed `dynamic::check_params`: values of other types trap.
    /// The call gives `None` if the function has no result.
    pub fn call_dynamic(&self, export: DynamicExport, params: Vec<Value>) -> Call<Option<Value>> {
        let call = HostCall::new(export.lift, Dynamic { params }, ());
        self.begin(call.clone());
        Call { shared: call, zone: self.downgrade() }
    }
}

/// Values whose types are looked up.
struct Dynamic {
    params: Vec<Value>,
}

impl Values<Option<Value>> for Dynamic {
    fn lower(&mut self, cx: &mut LowerCx<'_>, params: TypeTupleIndex, sink: &mut FlatSink<'_>) -> Result<()> {
        dynamic::lower_params(cx, params, std::mem::take(&mut self.params), MAX_FLAT_PARAMS, sink)
    }

    fn lift(&mut self, cx: &mut LiftCx<'_>, results: TypeTupleIndex, flat: &[u64]) -> Result<Option<Value>> {
        dynamic::lift_result(cx, results, flat)
    }
}
