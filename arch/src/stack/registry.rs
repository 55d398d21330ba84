//! The slabs of all classes, and which slot an address lies in. A signal handler asks, so this works
//! without locks or allocation.
//!
//! A list of the slabs, in nodes that are never freed: slabs are never unmapped either. It is a
//! handful of nodes long, as each slab of a class is twice the size of the one before.

#![allow(unsafe_code)]

use std::iter;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::class::SizeClass;
use super::slab::{Extent, Slot};
use super::{Describe, Owner};

/// # Invariant
///
/// `next` is null or a node that was leaked.
struct Slab {
    extent: Extent,
    next: *const Self,
}

/// The slab that was mapped last.
static NEWEST: AtomicPtr<Slab> = AtomicPtr::new(ptr::null_mut());

/// Enters a slab that is here to stay.
pub(super) fn enter(extent: Extent) {
    let slab = Box::into_raw(Box::new(Slab { extent, next: ptr::null() }));
    // Relaxed: the node behind the pointer is not read here. Release on success: pairs with the
    // Acquire in `extents`, which reads this node and, as the exchanges form one release sequence,
    // all older ones.
    let mut newest = NEWEST.load(Ordering::Relaxed);
    loop {
        // SAFETY: nobody else knows the node yet.
        unsafe { (*slab).next = newest };
        match NEWEST.compare_exchange_weak(newest, slab, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => newest = now,
        }
    }
}

/// What was mapped: all slabs, the newest first. May be called in a signal handler.
pub(super) fn extents() -> impl Iterator<Item = Extent> {
    // Acquire: pairs with the Release in `enter`.
    let mut next = NEWEST.load(Ordering::Acquire).cast_const();
    iter::from_fn(move || {
        // SAFETY: null, or a node that was published whole, is never freed and not written again.
        let slab = unsafe { next.as_ref() }?;
        next = slab.next;
        Some(slab.extent)
    })
}

/// A slot that was found by an address in it, whoever has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    slot: Slot,
    class: SizeClass,
}

/// The slot that `address` lies in, its guard page included. May be called in a signal handler.
pub(crate) fn locate(address: usize) -> Option<Site> {
    extents().find_map(|extent| {
        let slot = extent.slot_at(address)?;
        Some(Site { slot, class: extent.class() })
    })
}

impl Site {
    /// The guard page.
    pub(crate) fn guard(self) -> Range<usize> {
        self.slot.guard()
    }

    /// All of the slot, guard page included.
    pub(crate) fn range(self) -> Range<usize> {
        let start = self.slot.guard().start;
        start..start + self.class.stride()
    }

    /// The size of the stack, in bytes, as it was asked for (and rounded up).
    pub(crate) fn stack_size(self) -> usize {
        self.class.usable()
    }

    /// What [`Stack::set_owner`](super::Stack::set_owner) said last; nothing for a stack without an
    /// owner.
    pub(crate) fn owner(self) -> Option<(Describe, *const ())> {
        // SAFETY: the words lie in a slab, which is never unmapped and readable there; what was
        // never written reads as zeros, which is "nobody". Volatile: the owner of the stack may
        // write on another thread. That is none for the stack that the caller itself runs on; and
        // of others nobody follows what is read here.
        let owner: Owner = unsafe { self.slot.owner(self.class).as_ptr().read_volatile() };
        owner.describe.map(|describe| (describe, owner.data))
    }
}
