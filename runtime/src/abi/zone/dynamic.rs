//! Calls with values whose type is known only at run time, and the question whether a zone can go on at all.

use super::{Call, CallError, CallState, Zone};
use crate::abi::cx::{FlatSink, LiftCx, LowerCx};
use crate::abi::dynamic::DynamicExport;
use crate::abi::task::HostCaller;
use crate::abi::{MAX_FLAT_PARAMS, Result};
use crate::host::value::dynamic::{self, Value};
use std::cell::RefCell;
use std::rc::Rc;
use wasmtime_environ::component::TypeTupleIndex;

impl Zone {
    /// Calls an exported function of any type. `params` should have passed `dynamic::check_params`: values of other types trap.
    /// The call gives `None` if the function has no result.
    pub fn call_dynamic(&self, export: DynamicExport, params: Vec<Value>) -> Call<Option<Value>> {
        let shared = Rc::new(RefCell::new(CallState::default()));
        self.begin(export.lift, Box::new(DynamicCaller { params: Some(params), shared: shared.clone() }));
        Call { shared, zone: self.downgrade() }
    }
}

struct DynamicCaller {
    params: Option<Vec<Value>>,
    shared: Rc<RefCell<CallState<Option<Value>>>>,
}

impl HostCaller for DynamicCaller {
    fn lower(&mut self, cx: &mut LowerCx<'_>, params: TypeTupleIndex, sink: &mut FlatSink<'_>) -> Result<()> {
        let values = self.params.take().expect("a call is started once");
        dynamic::lower_params(cx, params, values, MAX_FLAT_PARAMS, sink)
    }

    fn lift(&mut self, cx: &mut LiftCx<'_>, results: TypeTupleIndex, flat: &[u64]) -> Result<()> {
        let value = dynamic::lift_result(cx, results, flat)?;
        self.shared.borrow_mut().settle(Ok(value));
        Ok(())
    }

    fn end(&mut self, trap: Option<Rc<str>>) {
        let mut shared = self.shared.borrow_mut();
        if self.params.is_some() || shared.outcome.is_none() {
            shared.settle(Err(trap.map_or(CallError::Cancelled, CallError::Trap)));
        }
    }

    fn is_task(&mut self, task: u32) {
        self.shared.borrow_mut().task = Some(task);
    }

    fn exited(&mut self) {
        self.shared.borrow_mut().exited();
    }
}
