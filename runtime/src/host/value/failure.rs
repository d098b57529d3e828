//! How a host function of type `result<T, E>` fails: with the `E` that the guest gets, or by trapping the guest.

/// The error of a host function that returns WIT's `result<T, E>`. `?` on an `E` gives [`Failure::Code`].
#[derive(Debug)]
pub enum Failure<E> {
    /// The guest gets the error of its own `result`.
    Code(E),
    /// The guest broke a rule that its types cannot express, and ends here.
    Trap(wasmtime::Error),
}

impl<E> Failure<E> {
    /// A trap with a message for people.
    pub fn trap(message: impl std::fmt::Display + std::fmt::Debug + Send + Sync + 'static) -> Failure<E> {
        Failure::Trap(wasmtime::Error::msg(message))
    }

    /// What the engine wants to know: the value that the guest gets, or the trap that ends it.
    pub fn split<T>(result: Result<T, Failure<E>>) -> wasmtime::Result<Result<T, E>> {
        match result {
            Ok(value) => Ok(Ok(value)),
            Err(Failure::Code(code)) => Ok(Err(code)),
            Err(Failure::Trap(trap)) => Err(trap),
        }
    }
}

impl<E> From<E> for Failure<E> {
    fn from(code: E) -> Failure<E> {
        Failure::Code(code)
    }
}

/// `?` for errors that trap, in a function whose other errors are codes: `cx.something().or_trap()?`.
pub trait OrTrap<T> {
    /// Turns the error into [`Failure::Trap`].
    fn or_trap<E>(self) -> Result<T, Failure<E>>;
}

impl<T> OrTrap<T> for wasmtime::Result<T> {
    fn or_trap<E>(self) -> Result<T, Failure<E>> {
        self.map_err(Failure::Trap)
    }
}
