//! Bodies of any length that are never in memory as a whole: every eight bytes tell their place, so that bytes that are lost,
//! doubled or swapped are found.

/// Fills `buffer` with the bytes from `offset` on.
pub(crate) fn fill(offset: u64, buffer: &mut [u8]) {
    let mut at = offset;
    let mut rest = buffer;
    while !rest.is_empty() {
        let word = word(at / 8);
        let from = (at % 8) as usize;
        let count = rest.len().min(8 - from);
        let (now, later) = rest.split_at_mut(count);
        now.copy_from_slice(&word[from..from + count]);
        at += count as u64;
        rest = later;
    }
}

fn word(index: u64) -> [u8; 8] {
    index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()
}

/// The first `len` bytes.
pub(crate) fn bytes(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(0, &mut bytes);
    bytes
}

/// Checks a body as it arrives.
pub(crate) struct Checker {
    kind: Kind,
    offset: u64,
    expected: Vec<u8>,
}

/// Which bytes are expected.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Ours, as `fill` makes them.
    Words,
    /// Those of the guest `echo` at `/source/N`: byte `i` is `i % 251`.
    Source,
}

impl Checker {
    pub(crate) fn new(kind: Kind) -> Checker {
        Checker { kind, offset: 0, expected: Vec::new() }
    }

    /// Takes the next bytes.
    ///
    /// # Panics
    /// When they are not the expected ones.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.expected.resize(bytes.len(), 0);
        match self.kind {
            Kind::Words => fill(self.offset, &mut self.expected),
            Kind::Source => fill_source(self.offset, &mut self.expected),
        }
        if self.expected != bytes {
            let at = self.expected.iter().zip(bytes).position(|(a, b)| a != b).unwrap_or_default();
            panic!("byte {} is {:#x}, not {:#x}", self.offset + at as u64, bytes[at], self.expected[at]);
        }
        self.offset += bytes.len() as u64;
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> u64 {
        self.offset
    }
}

const SOURCE_PERIOD: u64 = 251;

fn fill_source(offset: u64, buffer: &mut [u8]) {
    let mut value = (offset % SOURCE_PERIOD) as u8;
    for byte in buffer {
        *byte = value;
        value = if u64::from(value) + 1 == SOURCE_PERIOD { 0 } else { value + 1 };
    }
}
