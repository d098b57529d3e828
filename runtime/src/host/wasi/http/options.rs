//! `request-options`: the timeouts of one outgoing request.

use super::bindings::wasi::http::types::RequestOptionsError;
use std::cell::Cell;
use std::time::Duration;

/// The resource `request-options`.
#[derive(Default)]
pub struct RequestOptions {
    timeouts: Cell<Timeouts>,
    frozen: Cell<bool>,
}

/// What a guest asked for; `None` leaves it to the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// For finding, reaching and greeting the server.
    pub connect: Option<Duration>,
    /// From the end of the request to the first byte of the response's body.
    pub first_byte: Option<Duration>,
    /// Between two parts of the response's body.
    pub between_bytes: Option<Duration>,
}

impl RequestOptions {
    /// The timeouts.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts.get()
    }

    pub(super) fn freeze(&self) {
        self.frozen.set(true);
    }

    pub(super) fn duplicate(&self) -> RequestOptions {
        RequestOptions { timeouts: self.timeouts.clone(), frozen: Cell::new(false) }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Timeouts)) -> Result<(), RequestOptionsError> {
        if self.frozen.get() {
            return Err(RequestOptionsError::Immutable);
        }
        let mut timeouts = self.timeouts.get();
        change(&mut timeouts);
        self.timeouts.set(timeouts);
        Ok(())
    }
}

/// `duration` of `wasi:clocks`, in nanoseconds, and back. Beyond 584 years it saturates.
pub(super) fn to_nanos(duration: Option<Duration>) -> Option<u64> {
    duration.map(|duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frozen_options_keep_their_values_and_their_copy_can_be_changed() {
        let second = Some(Duration::from_secs(1));
        let options = RequestOptions::default();
        options.change(|timeouts| timeouts.connect = second).expect("not frozen");
        options.freeze();
        let refused = options.change(|timeouts| timeouts.connect = None);
        assert_eq!(refused, Err(RequestOptionsError::Immutable));
        assert_eq!(options.timeouts().connect, second);
        options.duplicate().change(|timeouts| timeouts.connect = None).expect("a copy is not frozen");
        assert_eq!(to_nanos(second), Some(1_000_000_000));
    }
}
