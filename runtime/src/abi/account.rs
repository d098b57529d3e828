//! What guests make the host keep: fields, requests, what was read ahead. Each zone has one account of it.
//!
//! Handles alone do not bound that, because what is behind one may be large. Who keeps something has a `Held` with it; when that is
//! dropped, so is the entry. Bytes are counted as guests would count them: what the host needs besides is a few times as much.

use std::cell::Cell;
use std::rc::Rc;

/// The bytes that one zone makes the host keep.
#[derive(Debug)]
pub struct Account {
    bytes: Cell<usize>,
    max: usize,
}

impl Account {
    /// An account for at most `max` bytes.
    pub fn new(max: usize) -> Rc<Account> {
        Rc::new(Account { bytes: Cell::new(0), max })
    }

    /// A part of the account, with nothing in it.
    pub fn open(self: &Rc<Self>) -> Held {
        Held { account: self.clone(), bytes: 0 }
    }

    /// There is no room for what need not be kept.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.get() >= self.max
    }
}

/// Bytes that somebody keeps, on an account until it is dropped.
#[derive(Debug)]
pub struct Held {
    account: Rc<Account>,
    bytes: usize,
}

impl Held {
    /// It is `bytes` from now on. Not if it becomes more, and more than the account may have: then nothing has changed.
    #[must_use]
    pub fn resize(&mut self, bytes: usize) -> bool {
        let total = self.account.bytes.get() - self.bytes + bytes;
        if self.bytes < bytes && self.account.max < total {
            return false;
        }
        self.account.bytes.set(total);
        self.bytes = bytes;
        true
    }

    /// It is `bytes` more, which are there already, however many there may be.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.account.bytes.set(self.account.bytes.get() + bytes);
        self.bytes += bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.bytes.set(self.account.bytes.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_what_is_held_and_no_more_than_it_may() {
        let account = Account::new(10);
        let (mut one, mut other) = (account.open(), account.open());
        assert!(one.resize(6) && other.resize(4) && account.is_full());
        assert!(!one.resize(7), "10 at most");
        assert!(one.resize(2) && other.resize(8), "it has not grown");
        drop(other);
        assert!(one.resize(10));
        one.add(5);
        assert!(!one.resize(16) && one.resize(12), "less is less, even of too much");
        drop(one);
        assert_eq!(account.bytes.get(), 0);
    }
}
