//! How wide the pointers of a linear memory are, and everything that follows from it (CanonicalABI.md, `ptr_type`).
//!
//! Whoever reads or writes values asks here: a pointer or a length is a `u64` everywhere else, whatever memory it is from.

use super::plan::CoreType;
use serde::{Deserialize, Serialize};
use wasmtime_environ::component::{CanonicalAbiInfo, TypeMap, VariantInfo};

/// The width of pointers into a memory, and of the lengths that go with them.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PointerWidth {
    /// A memory as all guests had until memory64; also no memory at all.
    #[default]
    Bits32,
    /// A memory that is indexed with i64.
    Bits64,
}

/// What a value takes in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes, a multiple of `align`.
    pub size: usize,
    /// Alignment in bytes, a power of two.
    pub align: usize,
}

impl PointerWidth {
    /// Bytes of a pointer.
    pub const fn bytes(self) -> usize {
        match self {
            PointerWidth::Bits32 => 4,
            PointerWidth::Bits64 => 8,
        }
    }

    /// The core type of a pointer.
    pub const fn core_type(self) -> CoreType {
        match self {
            PointerWidth::Bits32 => CoreType::I32,
            PointerWidth::Bits64 => CoreType::I64,
        }
    }

    /// The pointer or length in a flat slot; above it may be the bits of a wider case.
    #[inline]
    pub const fn wrap(self, slot: u64) -> u64 {
        match self {
            PointerWidth::Bits32 => slot as u32 as u64,
            PointerWidth::Bits64 => slot,
        }
    }

    /// Set in the length of a latin1+utf16 string that is UTF-16 (CanonicalABI.md, `utf16_tag`).
    pub const fn utf16_tag(self) -> u64 {
        1 << (8 * self.bytes() - 1)
    }

    /// What a value of a type takes.
    pub fn place(self, abi: &CanonicalAbiInfo) -> Place {
        let (size, align) = match self {
            PointerWidth::Bits32 => (abi.size32, abi.align32),
            PointerWidth::Bits64 => (abi.size64, abi.align64),
        };
        Place { size: size as usize, align: align as usize }
    }

    /// Where the payload of a variant is.
    pub fn payload_offset(self, variant: &VariantInfo) -> usize {
        match self {
            PointerWidth::Bits32 => variant.payload_offset32 as usize,
            PointerWidth::Bits64 => variant.payload_offset64 as usize,
        }
    }

    /// Where the value of an entry is.
    pub fn value_offset(self, map: &TypeMap) -> usize {
        match self {
            PointerWidth::Bits32 => map.value_offset32 as usize,
            PointerWidth::Bits64 => map.value_offset64 as usize,
        }
    }
}

impl Place {
    /// The next field of a record whose fields so far end at `offset`: where it begins. `offset` moves behind it.
    pub const fn next_field(self, offset: &mut usize) -> usize {
        let start = align_to(*offset, self.align);
        *offset = start + self.size;
        start
    }
}

/// The smallest multiple of `align` that is not below `at`. `align` is a power of two.
pub const fn align_to(at: usize, align: usize) -> usize {
    assert!(align.is_power_of_two());
    (at + align - 1) & !(align - 1)
}
