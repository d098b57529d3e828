//! Sizes, alignments and flat counts in a 32-bit memory, computed at compile time.
//! CanonicalABI.md, "Alignment", "Element Size" and "Flattening". Pure arithmetic; knows no values.

use super::ComponentType;

/// The place a type takes: bytes and alignment in memory, and core values when flat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Size in bytes, a multiple of `align`.
    pub size: usize,
    /// Alignment in bytes, a power of two.
    pub align: usize,
    /// Number of core values.
    pub flat: usize,
}

impl Layout {
    /// The place of no value at all: an empty tuple, an absent payload.
    pub const NOTHING: Layout = Layout { size: 0, align: 1, flat: 0 };

    /// The layout of a Rust type.
    pub const fn of<T: ComponentType>() -> Layout {
        Layout { size: T::SIZE, align: T::ALIGN, flat: T::FLAT }
    }

    /// One scalar of `size` bytes.
    pub const fn scalar(size: usize) -> Layout {
        Layout { size, align: size, flat: 1 }
    }

    /// Fields one behind the other, each at its alignment.
    pub const fn record(fields: &[Layout]) -> Layout {
        let mut whole = Layout::NOTHING;
        let mut i = 0;
        while i < fields.len() {
            whole.size = align_to(whole.size, fields[i].align) + fields[i].size;
            whole.align = max(whole.align, fields[i].align);
            whole.flat += fields[i].flat;
            i += 1;
        }
        whole.size = align_to(whole.size, whole.align);
        whole
    }

    /// An enum of `cases` names: its discriminant alone.
    pub const fn enumeration(cases: usize) -> Layout {
        Layout::scalar(discriminant_size(cases))
    }

    /// Flags with `labels` names: one integer of 1, 2 or 4 bytes.
    pub const fn flags(labels: usize) -> Layout {
        match labels {
            0..=8 => Layout::scalar(1),
            9..=16 => Layout::scalar(2),
            17..=32 => Layout::scalar(4),
            _ => panic!("flags have at most 32 labels"),
        }
    }
}

/// The smallest multiple of `align` that is not below `at`. `align` is a power of two.
pub const fn align_to(at: usize, align: usize) -> usize {
    assert!(align.is_power_of_two());
    (at + align - 1) & !(align - 1)
}

/// Bytes of the discriminant of a variant with `cases` cases.
pub(super) const fn discriminant_size(cases: usize) -> usize {
    match cases {
        0 => panic!("a variant has at least one case"),
        1..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        _ => 4,
    }
}

pub(super) const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}
