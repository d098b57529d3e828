//! One after the other, across the tasks of an instance.

use std::cell::RefCell;
use wasip3::wit_bindgen::{StreamReader, StreamWriter};
use wasip3::wit_stream;

/// Lets one task through at a time, in the order in which they come.
///
/// Who comes waits for the end of a stream whose writable end its predecessor holds, so that nothing but the ABI has to wake it.
#[derive(Default)]
pub struct Turns(RefCell<Option<StreamReader<u8>>>);

/// Somebody's turn; it is over when this goes.
pub struct Turn {
    _until_dropped: StreamWriter<u8>,
}

impl Turns {
    /// For a `thread_local`.
    pub const fn new() -> Turns {
        Turns(RefCell::new(None))
    }

    /// Waits until all who came before have gone. The place in the queue is taken at once, before the first wait.
    pub fn next(&self) -> impl Future<Output = Turn> + use<> {
        let (own, successor) = wit_stream::new();
        let predecessor = self.0.replace(Some(successor));
        async move {
            if let Some(mut predecessor) = predecessor {
                predecessor.read(Vec::with_capacity(1)).await;
            }
            Turn { _until_dropped: own }
        }
    }
}
