//! Values that cross between instances: the types of stream elements, parameters and results.
//! Elements are opaque and of fixed size; what matters is who owns handles, and when.
//! Knows nothing of strings, lists, records, variants: the value part of the ABI is not modelled.

use crate::op::{CopyType, Kind};
use crate::table::SharedId;

/// An instance of the program. The host is instance 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u8);

impl InstanceId {
    /// The host. It has a table, threads and tasks like every instance; only entering it is always allowed.
    pub const HOST: InstanceId = InstanceId(0);

    /// Position in lists of instances.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The type of a stream's or future's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Elem {
    /// No type: the elements are counted only.
    Unit,
    /// A byte.
    U8,
    /// Two bytes.
    U16,
    /// Four bytes.
    U32,
    /// Eight bytes.
    U64,
    /// An owned resource of the type that the instance implements.
    Own(InstanceId),
    /// The readable end of a `stream<u8>`.
    Stream,
    /// The readable end of a `future<u8>`.
    Future,
}

impl Elem {
    /// CanonicalABI.md, Element Size.
    pub fn size(self) -> u32 {
        match self {
            Elem::Unit => 0,
            Elem::U8 => 1,
            Elem::U16 => 2,
            Elem::U32 | Elem::Own(_) | Elem::Stream | Elem::Future => 4,
            Elem::U64 => 8,
        }
    }

    /// CanonicalABI.md, Alignment.
    pub fn alignment(self) -> u32 {
        self.size().max(1)
    }

    /// CanonicalABI.md, Stream State: may both ends be in one instance when elements are copied?
    pub fn none_or_number(self) -> bool {
        self.handle().is_none()
    }

    /// The type of handle that an element is, if it is one.
    pub fn handle(self) -> Option<Ty> {
        match self {
            Elem::Unit | Elem::U8 | Elem::U16 | Elem::U32 | Elem::U64 => None,
            Elem::Own(rt) => Some(Ty::Own(rt)),
            Elem::Stream => Some(Ty::End(CopyType { kind: Kind::Stream, elem: Elem::U8 })),
            Elem::Future => Some(Ty::End(CopyType { kind: Kind::Future, elem: Elem::U8 })),
        }
    }
}

/// The type of a parameter or result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ty {
    /// A number.
    U32,
    /// An owned resource of the type that the instance implements.
    Own(InstanceId),
    /// A borrowed one. Parameters only.
    Borrow(InstanceId),
    /// The readable end of a stream or future.
    End(CopyType),
}

/// A lifted value: it is in no instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Val {
    /// A number.
    U32(u32),
    /// An owned resource.
    Own(InstanceId, u32),
    /// A borrowed resource.
    Borrow(InstanceId, u32),
    /// The readable end of a stream or future.
    End(CopyType, SharedId),
}

/// The buffer of a copy. CanonicalABI.md, Buffer State.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Buffer {
    /// Where the next element is.
    pub ptr: u32,
    /// Elements copied so far.
    pub progress: u32,
    /// Elements in all.
    pub length: u32,
}

impl Buffer {
    /// Longest buffer, so that a length and a result fit into 32 bits.
    pub const MAX_LENGTH: u32 = (1 << 28) - 1;

    /// Elements that may still be copied.
    pub fn remain(self) -> u32 {
        self.length - self.progress
    }

    /// Whether it was empty from the start: such a copy waits for the other side and moves nothing.
    pub fn is_zero_length(self) -> bool {
        self.length == 0
    }
}
