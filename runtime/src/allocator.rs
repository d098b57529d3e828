//! The binary's allocator: mimalloc, asked in the cheapest way.
//!
//! Connections by the hundred take and give back objects of one size in bursts, which glibc's allocator keeps only a few of at hand.
//! `mimalloc::MiMalloc` asks for each block as for one of unusual alignment. That costs twice as much if a block is at hand, and
//! where none is, sizes that are no powers of two come from longer blocks, of another list. Hardly an object needs more than the
//! alignment that every block has. The library leaves the choice to who uses it.
#![expect(unsafe_code, reason = "an allocator hands out memory")]

use libmimalloc_sys as mi;
use std::alloc::{GlobalAlloc, Layout};

/// Blocks of at least as many bytes are aligned so (`MI_MAX_ALIGN_SIZE`), smaller ones to their size.
const ALIGN: usize = 16;

/// mimalloc, for `#[global_allocator]`.
#[derive(Debug, Clone, Copy)]
pub struct Allocator;

/// Is every block of `size` bytes aligned so?
#[inline]
fn is_common(align: usize, size: usize) -> bool {
    align <= ALIGN && align <= size
}

// SAFETY: blocks are mimalloc's, which keeps what this trait asks for: they are as large as asked, aligned as asked (by `is_common`,
// or because it is asked), disjoint, and stay until they are freed. It does not unwind.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: any size will do, and an alignment that is a power of two, which that of a layout is.
        unsafe { if is_common(align, size) { mi::mi_malloc(size) } else { mi::mi_malloc_aligned(size, align) } }.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as in `alloc`.
        unsafe { if is_common(align, size) { mi::mi_zalloc(size) } else { mi::mi_zalloc_aligned(size, align) } }.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the caller gives a block back that it has from here.
        unsafe { mi::mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (block, align) = (block.cast(), layout.align());
        // SAFETY: as in `dealloc` and `alloc`.
        unsafe {
            match is_common(align, size) {
                true => mi::mi_realloc(block, size),
                false => mi::mi_realloc_aligned(block, size, align),
            }
        }
        .cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What `n` bytes of a block that are as this test left them look like.
    fn pattern(n: usize) -> impl Iterator<Item = u8> {
        (0..n).map(|at| (at % 251) as u8)
    }

    proptest! {
        #[test]
        fn blocks_are_aligned_as_asked_and_keep_their_bytes(
            sizes in proptest::collection::vec((1..5000usize, 0..8u32, 1..9000usize), 1..200),
        ) {
            let mut blocks = Vec::new();
            for (size, power, grown) in sizes {
                let layout = Layout::from_size_align(size, 1 << power).expect("valid");
                // SAFETY: the layout has a size; the block is written within it, and given back below with its layout.
                let block = unsafe { Allocator.alloc(layout) };
                prop_assert!(!block.is_null() && block.addr() % layout.align() == 0);
                // SAFETY: as above.
                let bytes = unsafe { std::slice::from_raw_parts_mut(block, size) };
                bytes.iter_mut().zip(pattern(size)).for_each(|(byte, value)| *byte = value);
                // SAFETY: as above.
                let block = unsafe { Allocator.realloc(block, layout, grown) };
                prop_assert!(!block.is_null() && block.addr() % layout.align() == 0);
                let kept = size.min(grown);
                // SAFETY: as above; so many bytes were there before and are now.
                let bytes = unsafe { std::slice::from_raw_parts(block, kept) };
                prop_assert!(bytes.iter().copied().eq(pattern(kept)));
                blocks.push((block, Layout::from_size_align(grown, layout.align()).expect("valid")));
            }
            for (block, layout) in blocks {
                // SAFETY: it comes from here, with this layout.
                unsafe { Allocator.dealloc(block, layout) };
                // SAFETY: as above.
                let zeroed = unsafe { Allocator.alloc_zeroed(layout) };
                prop_assert!(!zeroed.is_null() && zeroed.addr() % layout.align() == 0);
                // SAFETY: it is as long as its layout says.
                let bytes = unsafe { std::slice::from_raw_parts(zeroed, layout.size()) };
                prop_assert!(bytes.iter().all(|byte| *byte == 0));
                // SAFETY: as above.
                unsafe { Allocator.dealloc(zeroed, layout) };
            }
        }
    }
}
