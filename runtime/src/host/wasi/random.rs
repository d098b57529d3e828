//! `wasi:random`: the kernel's random bytes, in both versions.
//!
//! A zone takes them from the kernel some at a time, so that small requests cost no system call each. The insecure functions
//! give the same bytes: there is nothing to gain from worse ones.

use std::cell::RefCell;

use wasmtime::{bail, format_err};

use super::{Wasi, p2, p3};
use crate::abi::{HostCx, Result};
use crate::host::data::HostData;

/// Bytes that a zone takes from the kernel at a time.
const BUFFER_LEN: usize = 256;
/// Bytes that one call gives. The kernel makes them while the thread waits, and they are copied through our memory.
const BYTES_MAX: u64 = 1 << 20;

/// Random bytes that no guest has got yet.
pub(super) struct Random(RefCell<Buffer>);

struct Buffer {
    bytes: [u8; BUFFER_LEN],
    /// How many at the front were given away; they are zeros now.
    used: usize,
}

impl Default for Random {
    fn default() -> Self {
        Random(RefCell::new(Buffer { bytes: [0; BUFFER_LEN], used: BUFFER_LEN }))
    }
}

impl Random {
    /// Fills `out`.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn fill(&self, out: &mut [u8]) -> Result<()> {
        if let Some(sim) = crate::sim::current() {
            sim.random(out);
            return Ok(());
        }
        if BUFFER_LEN < out.len() {
            return from_kernel(out);
        }
        self.0.borrow_mut().take(out)
    }

    /// `len` bytes; a caller has bounded it.
    fn bytes(&self, len: u64) -> Result<Vec<u8>> {
        assert!(len <= BYTES_MAX, "{len} random bytes are more than one call gives");
        let mut bytes = vec![0; len as usize];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// 0.3: "implementations may return fewer bytes than requested".
    fn bytes_up_to(&self, len_max: u64) -> Result<Vec<u8>> {
        self.bytes(len_max.min(BYTES_MAX))
    }

    /// 0.2, where all must come at once.
    fn bytes_exactly(&self, len: u64) -> Result<Vec<u8>> {
        if BYTES_MAX < len {
            bail!("{len} random bytes at once; this host gives {BYTES_MAX} at most");
        }
        self.bytes(len)
    }

    fn number(&self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn seed(&self) -> Result<(u64, u64)> {
        Ok((self.number()?, self.number()?))
    }
}

impl Buffer {
    fn take(&mut self, out: &mut [u8]) -> Result<()> {
        if BUFFER_LEN - self.used < out.len() {
            from_kernel(&mut self.bytes)?;
            self.used = 0;
        }
        let given = &mut self.bytes[self.used..self.used + out.len()];
        out.copy_from_slice(given);
        // A guest's keys are not to be found in our memory after it.
        given.fill(0);
        self.used += out.len();
        Ok(())
    }
}

fn from_kernel(out: &mut [u8]) -> Result<()> {
    getrandom::fill(out).map_err(|error| format_err!("the kernel gives no random bytes: {error}"))
}

impl p3::wasi::random::random::Host for Wasi {
    fn get_random_bytes(cx: &mut HostCx<'_>, max_len: u64) -> Result<Vec<u8>> {
        HostData::of(cx).wasi.random.bytes_up_to(max_len)
    }

    fn get_random_u64(cx: &mut HostCx<'_>) -> Result<u64> {
        HostData::of(cx).wasi.random.number()
    }
}

impl p3::wasi::random::insecure::Host for Wasi {
    fn get_insecure_random_bytes(cx: &mut HostCx<'_>, max_len: u64) -> Result<Vec<u8>> {
        HostData::of(cx).wasi.random.bytes_up_to(max_len)
    }

    fn get_insecure_random_u64(cx: &mut HostCx<'_>) -> Result<u64> {
        HostData::of(cx).wasi.random.number()
    }
}

impl p3::wasi::random::insecure_seed::Host for Wasi {
    fn get_insecure_seed(cx: &mut HostCx<'_>) -> Result<(u64, u64)> {
        HostData::of(cx).wasi.random.seed()
    }
}

impl p2::wasi::random::random::Host for Wasi {
    fn get_random_bytes(cx: &mut HostCx<'_>, len: u64) -> Result<Vec<u8>> {
        HostData::of(cx).wasi.random.bytes_exactly(len)
    }

    fn get_random_u64(cx: &mut HostCx<'_>) -> Result<u64> {
        HostData::of(cx).wasi.random.number()
    }
}

impl p2::wasi::random::insecure::Host for Wasi {
    fn get_insecure_random_bytes(cx: &mut HostCx<'_>, len: u64) -> Result<Vec<u8>> {
        HostData::of(cx).wasi.random.bytes_exactly(len)
    }

    fn get_insecure_random_u64(cx: &mut HostCx<'_>) -> Result<u64> {
        HostData::of(cx).wasi.random.number()
    }
}

impl p2::wasi::random::insecure_seed::Host for Wasi {
    fn insecure_seed(cx: &mut HostCx<'_>) -> Result<(u64, u64)> {
        HostData::of(cx).wasi.random.seed()
    }
}

#[cfg(test)]
mod tests {
    use super::{BUFFER_LEN, BYTES_MAX, Random};
    use std::collections::HashSet;

    #[test]
    fn as_many_bytes_come_as_were_asked_for() {
        let random = Random::default();
        let around = |n: usize| [n as u64 - 1, n as u64, n as u64 + 1];
        for len in [0, 1, 7].into_iter().chain(around(BUFFER_LEN)).chain(around(4096)).chain([BYTES_MAX]) {
            assert_eq!(random.bytes_up_to(len).expect("bytes").len() as u64, len);
            assert_eq!(random.bytes_exactly(len).expect("bytes").len() as u64, len);
        }
    }

    #[test]
    fn too_many_bytes_are_fewer_in_0_3_and_a_trap_in_0_2() {
        let random = Random::default();
        for len in [BYTES_MAX + 1, u64::MAX] {
            assert_eq!(random.bytes_up_to(len).expect("bytes").len() as u64, BYTES_MAX);
            let trap = random.bytes_exactly(len).expect_err("a trap").to_string();
            assert!(trap.contains("1048576 at most"), "{trap}");
        }
    }

    #[test]
    fn no_bytes_are_given_twice() {
        let random = Random::default();
        let mut seen = HashSet::new();
        for round in 0..1000 {
            // Odd lengths between, so that the buffer is refilled at all positions.
            random.bytes_up_to(round % 29).expect("bytes");
            assert!(seen.insert(random.number().expect("a number")));
        }
        let (low, high) = random.seed().expect("a seed");
        assert_ne!(low, high);
    }
}
