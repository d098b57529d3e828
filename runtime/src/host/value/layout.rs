//! Sizes, alignments and flat counts, computed at compile time for both widths of pointers.
//! CanonicalABI.md, "Alignment", "Element Size" and "Flattening". Pure arithmetic; knows no values.

use super::ComponentType;
use crate::component::width::{Place, PointerWidth, align_to};

/// The place a type takes: bytes and alignment in memory, and core values when flat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// In a memory with 32-bit pointers.
    narrow: Place,
    /// In a memory with 64-bit pointers.
    wide: Place,
    /// Number of core values.
    pub flat: usize,
}

impl Layout {
    /// The place of no value at all: an empty tuple, an absent payload.
    pub const NOTHING: Layout = Layout { flat: 0, ..Layout::scalar(0) };

    /// A pointer and a length: strings and lists.
    pub const RANGE: Layout = {
        let pointer = Layout {
            narrow: Place { size: PointerWidth::Bits32.bytes(), align: PointerWidth::Bits32.bytes() },
            wide: Place { size: PointerWidth::Bits64.bytes(), align: PointerWidth::Bits64.bytes() },
            flat: 1,
        };
        Layout::record(&[pointer, pointer])
    };

    /// The layout of a Rust type.
    pub const fn of<T: ComponentType>() -> Layout {
        T::LAYOUT
    }

    /// From a type's places in the two kinds of memory.
    pub(super) const fn new(narrow: Place, wide: Place, flat: usize) -> Layout {
        Layout { narrow, wide, flat }
    }

    /// Bytes and alignment in a memory with such pointers.
    #[inline]
    pub const fn at(&self, width: PointerWidth) -> Place {
        match width {
            PointerWidth::Bits32 => self.narrow,
            PointerWidth::Bits64 => self.wide,
        }
    }

    /// One scalar of `size` bytes.
    pub const fn scalar(size: usize) -> Layout {
        let place = Place { size, align: if size == 0 { 1 } else { size } };
        Layout { narrow: place, wide: place, flat: 1 }
    }

    /// `count` of these, one behind the other.
    pub const fn array(self, count: usize) -> Layout {
        Layout {
            narrow: Place { size: count * self.narrow.size, align: self.narrow.align },
            wide: Place { size: count * self.wide.size, align: self.wide.align },
            flat: count * self.flat,
        }
    }

    /// Fields one behind the other, each at its alignment.
    pub const fn record(fields: &[Layout]) -> Layout {
        let mut flat = 0;
        let mut i = 0;
        while i < fields.len() {
            flat += fields[i].flat;
            i += 1;
        }
        Layout { narrow: record(fields, PointerWidth::Bits32), wide: record(fields, PointerWidth::Bits64), flat }
    }

    /// Room for either.
    pub(super) const fn union(self, other: Layout) -> Layout {
        Layout {
            narrow: union(self.narrow, other.narrow),
            wide: union(self.wide, other.wide),
            flat: max(self.flat, other.flat),
        }
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

const fn record(fields: &[Layout], width: PointerWidth) -> Place {
    let mut whole = Place { size: 0, align: 1 };
    let mut i = 0;
    while i < fields.len() {
        let field = fields[i].at(width);
        field.next_field(&mut whole.size);
        whole.align = max(whole.align, field.align);
        i += 1;
    }
    Place { size: align_to(whole.size, whole.align), ..whole }
}

const fn union(one: Place, other: Place) -> Place {
    Place { size: max(one.size, other.size), align: max(one.align, other.align) }
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
