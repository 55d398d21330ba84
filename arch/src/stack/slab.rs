//! Address space: mapping a slab, and where things lie in a slot.
//!
//! ```text
//!    slot                                            next slot
//!    |                                               |
//!    +-------+-----------------------+-------+-------+-------+---
//!    | guard | usable                | owner | colour| guard |
//!    +-------+-----------------------+-------+-------+-------+---
//!            ^ limit                 ^ top
//! ```

#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::ptr::{self, NonNull};

use super::class::{SizeClass, guard_size, page_size};
use super::{Owner, registry};
use crate::overflow;

/// Neighbouring tops differ by this many bytes: a cache line.
const COLOUR_STEP: usize = 64;
/// How many colours there are; a power of two. More would spread further, and push more frames out
/// of the top page.
const COLOURS: usize = 16;

/// The room above the top for the words that say whose stack it is: in the top's cache line, which
/// the first frame touches anyway.
const OWNER_SIZE: usize = 16;
const _: () = assert!(size_of::<Owner>() <= OWNER_SIZE && OWNER_SIZE.is_multiple_of(16));

/// The lowest address of a slot. Copying it is harmless; who owns the memory is said by where it is
/// kept.
///
/// # Invariant
///
/// Points to `stride` bytes inside a slab of the class, and slabs are never unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(NonNull<u8>);

// SAFETY: an address without any access of its own; memory is no property of a thread.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

impl Slot {
    /// # Safety
    ///
    /// The base of a slot, from [`guard_page`](Self::guard_page).
    #[inline]
    pub(super) unsafe fn from_base(base: NonNull<u8>) -> Self {
        Self(base)
    }

    #[inline]
    pub(super) fn top(self, class: SizeClass) -> NonNull<u8> {
        // Consecutive slots are an odd number of pages apart: their page numbers run through all
        // colours.
        let colour = (self.0.addr().get() / page_size()) % COLOURS * COLOUR_STEP;
        // SAFETY: the slot is `stride` bytes, of one mapping; the colour and the owner's words are
        // less than the usable part.
        unsafe { self.0.add(class.stride() - colour - OWNER_SIZE) }
    }

    /// Where the two words lie that say whose stack this is.
    #[inline]
    pub(super) fn owner(self, class: SizeClass) -> NonNull<Owner> {
        self.top(class).cast()
    }

    /// The slot that is `index` further in the same slab.
    ///
    /// # Safety
    ///
    /// There is one, of this class.
    pub(super) unsafe fn nth(self, index: usize, class: SizeClass) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { self.0.add(index * class.stride()) })
    }

    #[inline]
    pub(super) fn limit(self) -> NonNull<u8> {
        // SAFETY: a slot is more than its guard.
        unsafe { self.0.add(guard_size()) }
    }

    #[inline]
    pub(super) fn guard(self) -> Range<usize> {
        let start = self.0.addr().get();
        start..start + guard_size()
    }

    /// One past the last byte of the slot: where the next one begins, if it is not the last.
    pub(super) fn end(self, class: SizeClass) -> usize {
        self.0.addr().get() + class.stride()
    }

    /// The guard page, for the system call that makes it one.
    pub(super) fn guard_page(self) -> NonNull<u8> {
        self.0
    }
}

/// A slab as it was mapped.
///
/// # Invariant
///
/// `first` is the first of `count` slots of `class`, which lie in one slab.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    first: Slot,
    count: usize,
    class: SizeClass,
}

impl Extent {
    pub(super) fn class(self) -> SizeClass {
        self.class
    }

    pub(super) fn bytes(self) -> usize {
        self.count * self.class.stride()
    }

    /// Its slots, lent or not, from the lowest on.
    pub(super) fn slots(self) -> impl Iterator<Item = Slot> {
        // SAFETY: the slab has `count` slots.
        (0..self.count).map(move |index| unsafe { self.first.nth(index, self.class) })
    }

    /// The slot that `address` lies in, its guard included.
    pub(super) fn slot_at(self, address: usize) -> Option<Slot> {
        // An address below the slab wraps around, to an index that is too large.
        let index = address.wrapping_sub(self.first.guard().start) / self.class.stride();
        // SAFETY: the slab has so many slots.
        (index < self.count).then(|| unsafe { self.first.nth(index, self.class) })
    }
}

/// Slots of a slab that have never been lent.
#[derive(Debug)]
pub(super) struct FreshSlots {
    next: Slot,
    left: usize,
    class: SizeClass,
}

impl FreshSlots {
    /// Maps a slab of `count` slots.
    pub(super) fn map(class: SizeClass, count: usize) -> io::Result<Self> {
        let bytes = class
            .stride()
            .checked_mul(count)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // One touched page must not commit two megabytes. A kernel without huge pages refuses: as
        // good.
        // SAFETY: the range is ours, and the advice changes no contents.
        unsafe { libc::madvise(base, bytes, libc::MADV_NOHUGEPAGE) };
        let base =
            NonNull::new(base.cast()).expect("the kernel maps nothing at address zero unasked");
        Ok(Self { next: Slot(base), left: count, class })
    }

    /// Lets the handler of overflows know a slab, of which nothing has been carved and which stays.
    pub(super) fn register(&self) {
        overflow::install();
        registry::enter(Extent { first: self.next, count: self.left, class: self.class });
    }

    /// Gives a slab back, of which nothing has been carved.
    pub(super) fn unmap(self) {
        let bytes = self.class.stride() * self.left;
        // SAFETY: the whole of a mapping that nobody else knows. A failure just leaves it there.
        unsafe { libc::munmap(self.next.0.as_ptr().cast(), bytes) };
    }

    /// Carves up to `most` slots, which lie side by side.
    pub(super) fn split(&mut self, most: usize) -> Self {
        let carved = Self { left: most.min(self.left), ..*self };
        self.left -= carved.left;
        // SAFETY: stays within the slab, or at its end when all were carved.
        self.next = Slot(unsafe { self.next.0.add(self.class.stride() * carved.left) });
        carved
    }

    /// The slots, from the lowest on.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        Extent { first: self.next, count: self.left, class: self.class }.slots()
    }

    pub(super) fn class(&self) -> SizeClass {
        self.class
    }

    /// Carves the next slot.
    pub(super) fn carve(&mut self) -> Option<Slot> {
        self.left = self.left.checked_sub(1)?;
        let slot = self.next;
        // SAFETY: stays within the slab, or at its end when it was the last slot.
        self.next = Slot(unsafe { slot.0.add(self.class.stride()) });
        Some(slot)
    }

    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// The slot that [`carve`](Self::carve) would return, for a probe of the guard mechanism.
    pub(super) fn first(&self) -> Option<Slot> {
        (self.left > 0).then_some(self.next)
    }
}
