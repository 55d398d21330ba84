//! Guarded stacks: mapped in slabs, lent against permits, recycled hottest first.
//!
//! # Concepts
//!
//! - A **slot** is the memory of one stack: a guard page at the bottom and the usable pages above
//!   it. All slots of a size class have the same size; classes are the powers of two from
//!   [`MIN_STACK_SIZE`] to [`MAX_STACK_SIZE`], and the guard page comes on top of them.
//! - A **slab** is one large reservation of address space (`MAP_NORESERVE`), carved into slots.
//!   Memory is committed by the kernel when a page is touched. Slabs are never unmapped.
//! - A **depot** holds the free slots of a class, for the whole process. Recycled slots are lent
//!   before fresh ones. Which slots are free is kept in arrays beside the stacks: a free stack is
//!   never written to, and the bottom page and all pages that no green thread ran on stay
//!   uncommitted.
//! - A **permit** is the right to have one stack of a class. A green thread that has been spawned
//!   holds a permit only; the stack is bound when it first runs, and goes back at the moment it
//!   ends. A hundred thousand green threads that are spawned and run one after the other so share
//!   one warm stack, instead of guarding and faulting in one each (1.2 to 1.7 us to guard a fresh
//!   one, 2 to 12 us for the first touch of its pages, measured on a virtual machine; a recycled
//!   one costs a few nanoseconds).
//! - A [`StackCache`] is a worker's own supply, used without locks: a magazine of free stacks, and
//!   a credit of permits.
//! - A **clean** slot is a free one that is guarded and has no memory. [`trim`] makes the free
//!   slots of the depots clean, and [`trim_cold`] those that nobody has needed for a while; the
//!   file `trim.rs` tells how.
//!
//! # The promise, and how it is kept
//!
//! *Who holds a permit can take one stack at any time, on any thread.* So "no stack can be had"
//! shows when a green thread is spawned, as an [`io::Error`], and not later, when nobody can be
//! told.
//!
//! For each depot let `capacity` be the number of slots that exist, free or not, and `promised` the
//! sum of
//!
//! - the permits that exist,
//! - the credits of all caches (permits that a cache may give out without asking),
//! - the room of all magazines (free stacks that a cache may withhold from the others).
//!
//! **Invariant 1:** `promised <= capacity`. `promised` is raised only by a compare-and-swap that
//! checks this; `capacity` never falls.
//!
//! **Invariant 2:** a magazine never holds more stacks than the room that its cache was promised.
//!
//! **Invariant 3:** the user has at most one stack for each permit: the stack is given back before
//! the permit.
//!
//! Then a permit whose stack has not been taken finds one: the slots that are not in the depot are
//! in use, at most `permits - 1`, or in magazines, at most their room; so the depot has at least
//! `capacity - (permits - 1) - room >= 1`. The argument needs that a stack is back before the
//! permit it was taken on counts as free: `promised` is lowered with Release after the stack was
//! put, and raised with Acquire before one is taken.
//!
//! Who breaks invariant 3 risks no memory, only the promise: the depot then tries to grow, and may
//! fail.
//!
//! A thread that trims is one more holder of permits: it is promised a batch of slots, takes at
//! most as many, puts them back, and only then gives the promise back. All of the above holds for
//! it.
//!
//! # Scarcity
//!
//! What caches keep in reserve (twice 64 permits and room for 64 stacks of the default size, fewer
//! of larger ones) is promised to them, and nobody else gets it. That matters only where a depot
//! cannot grow. From the moment when its growth has failed and less than 1/16 of its capacity is
//! left to be promised, its stacks are *scarce*, until 1/8 is left again. While they are scarce,
//!
//! - each [`StackCache::release`] gives all that its cache holds back. It compares the cache's
//!   credit with a limit anyway; scarcity makes this limit zero, so the common path pays nothing;
//! - no cache takes more than the one permit that it was asked for, nor room for its magazine;
//! - a cache whose [`StackCache::reserve`] would fail gives up its own reserve first;
//! - a worker that is about to sleep calls [`StackCache::clear_if_scarce`].
//!
//! What remains out of reach is the reserve of caches that are not used at all between the first
//! sign of scarcity and the last stack: of workers that slept already (the runtime's give all they
//! hold to the process when they have slept for ten seconds), and of workers that run one green
//! thread which neither blocks nor spawns. At most 192 stacks of the default size each.
//!
//! These are hints, kept in relaxed atomics: no promise depends on them. A cache that misses one
//! keeps its reserve a little longer.
//!
//! # Guards
//!
//! The guard is one page, the lowest of a slot, where the compiler has functions touch each page of
//! a large frame in turn, and 15 pages on riscv64, where it does not.
//!
//! The guard page is made by `MADV_GUARD_INSTALL` (Linux 6.13), which marks it in the page table,
//! leaves the slab one mapping, and is done when a slot is lent for the first time; from 16 stacks on
//! up to 15 of those to come, a sixteenth of what there is, are guarded by the same system call where
//! the kernel can (Linux 6.15). A million stacks need a few dozen mappings. Where the kernel answers `EINVAL`, or the environment variable
//! `BINE_STACK_GUARD` is `mprotect` when the first stack is reserved, or the crate is built with
//! `--cfg bine_mprotect_guards`, guards are made by `mprotect(PROT_NONE)`. Each stack then costs
//! two of the process's mappings, of which there are 65,530 by default (`vm.max_map_count`): so
//! `capacity` counts a slot only once it is guarded, and the limit of about 31,000 stacks shows in
//! [`StackCache::reserve`]. A part of the limit is left to the rest of the process.
//!
//! Under valgrind guards are made by `mprotect` too: it does not know the others, and when a system
//! call is pointed at one it dies of it. There the limit is about 14,000 stacks.
//!
//! Who overflows a stack touches its guard page. If the stack has an owner
//! ([`Stack::set_owner`]), [`overflow`](crate::overflow) reports it and aborts.
//!
//! # Where the top of a stack is
//!
//! If stacks were a power of two apart, the hot ends of all of them would compete for the same few
//! sets of the first-level cache and of the TLB. Slots are therefore an odd number of pages apart
//! (the class and the guard page), and the top of a stack lies up to 16 cache lines below the end
//! of its slot, neighbours differing by one line (cache colouring; Bonwick, "The Slab Allocator",
//! 1994, has the idea for kernel objects).
//!
//! Measured with 1,000 green threads resumed in turn (AMD EPYC of family 26, KVM; the benchmark
//! `benches/src/bin/switch.rs`), nanoseconds to resume and suspend one:
//!
//! | distance | one colour | 16 colours |
//! |---|---|---|
//! | 256 KiB | 9.9 | 4.2 |
//! | 260 KiB | 9.4 | 3.5 |
//!
//! # Choosing a size
//!
//! [`DEFAULT_STACK_SIZE`] is 256 KiB. An unused page costs nothing, and address space is plentiful:
//! 47 bits have room for 528 million stacks 260 KiB apart. What a small stack costs is an overflow
//! in code that its user has not written and cannot see into: C libraries do not count their stack.
//! Measured with [`Stack::high_water`] in `arch/tests/usage.rs` (x86_64, glibc 2.36, optimised; not
//! optimised it is up to 600 bytes more):
//!
//! | call | bytes of stack |
//! |---|---|
//! | `println!` of a short line | 424 |
//! | `format!` of a floating-point number | 2,552 |
//! | `getaddrinfo` of `localhost`, from `/etc/hosts` | 4,920 |
//! | a backtrace, captured and printed into a string | 7,960 |
//! | a panic that is caught, with a hook that does the same | 19,384 |
//!
//! A panic thus would not fit the smallest stacks, and the default leaves the program itself more
//! than ten times as much as the deepest of these. To choose another size, run the program under
//! its load with the default one, and look at [`usage`]: `deepest` is what the deepest stack has
//! used since it was mapped or trimmed. Leave room for what did not happen during the measurement,
//! at least for a panic.
//!
//! # Rejected
//!
//! - *Free lists inside the stacks*: commits a page of every stack that was ever free.
//! - *One mapping a stack*: a system call to make, another to free, and the limit of mappings.
//! - *Stacks bound at spawn*: what the permits avoid, see above.
//! - *Growing stacks by copying them*: Rust values have addresses.
//! - *Marks at the bottom of a stack to find its depth*: commit the page that is least needed.
//! - *Trimming each stack as it is given back*: a system call for each, and page faults for the
//!   next to use it.

#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;

use crate::backend;
use crate::context::Bounds;

mod cache;
mod class;
mod depot;
pub mod fork;
mod guard;
mod registry;
mod slab;
mod trim;
mod usage;

#[cfg(test)]
mod tests;

pub use cache::StackCache;
pub(crate) use class::page_size;
pub use guard::GuardMechanism;
pub(crate) use registry::locate;
pub use trim::{Trimmed, may_be_cold, trim, trim_cold};
pub use usage::{Usage, usage};

use class::SizeClass;
use depot::Depot;
use slab::Slot;

/// The size of a stack unless asked otherwise, in bytes: 256 KiB. Only the pages that are touched
/// cost memory.
pub const DEFAULT_STACK_SIZE: usize = 256 * 1024;

/// The size of the smallest stacks, in bytes: 16 KiB. Smaller requests get this.
pub const MIN_STACK_SIZE: usize = 16 * 1024;

/// The size of the largest stacks, in bytes: 4 GiB. Larger requests are
/// [`io::ErrorKind::InvalidInput`].
pub const MAX_STACK_SIZE: usize = MIN_STACK_SIZE << (class::COUNT - 1);

/// The right to take one stack of a size class; see the [module](self).
///
/// One byte, and so is `Option<Permit>`. Dropping it gives the right back to the process;
/// [`StackCache::release`] gives it to a cache, which is cheaper.
#[must_use = "dropping a permit gives the right to the stack back"]
pub struct Permit(SizeClass);

impl Permit {
    /// Reserves a stack of at least `size` bytes, from a thread that has no [`StackCache`].
    ///
    /// # Errors
    ///
    /// As [`StackCache::reserve`].
    pub fn reserve(size: usize) -> io::Result<Self> {
        let class = SizeClass::of(size)?;
        Depot::of(class).promise(1)?;
        Ok(Self(class))
    }

    /// The usable size of the stacks of this permit, in bytes, up to 16 cache lines of which are
    /// not used (see [`Stack::size`]).
    #[must_use]
    pub fn stack_size(&self) -> usize {
        self.0.usable()
    }

    /// Whether `stack` is one of those that this permit stands for.
    #[inline]
    #[must_use]
    pub fn fits(&self, stack: &Stack) -> bool {
        self.0 == stack.class
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        Depot::of(self.0).withdraw(1);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("stack_size", &self.stack_size()).finish()
    }
}

/// Writes whose stack it is, for the report of an overflow, given the `data` of
/// [`Stack::set_owner`]. Called in a signal handler: no allocation, no locks, little stack.
pub type Describe = unsafe fn(data: *const (), message: &mut dyn fmt::Write) -> fmt::Result;

/// What lies above the top of each stack. Memory that was never written reads as nobody's.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Owner {
    describe: Option<Describe>,
    data: *const (),
}

impl Owner {
    /// See [`Stack::set_owner`].
    ///
    /// # Safety
    ///
    /// As there; and `top` is the top of a stack that the caller owns.
    #[inline]
    pub(crate) unsafe fn set(top: NonNull<u8>, describe: Describe, data: *const ()) {
        // SAFETY: the words above the top belong to the stack, and no frame is there.
        unsafe { top.cast::<Self>().write(Self { describe: Some(describe), data }) };
    }

    /// See [`Stack::clear_owner`].
    ///
    /// # Safety
    ///
    /// `top` is the top of a stack that the caller owns.
    #[inline]
    pub(crate) unsafe fn clear(top: NonNull<u8>) {
        // SAFETY: as above. Without the first word the second has no meaning.
        unsafe { (&raw mut (*top.cast::<Self>().as_ptr()).describe).write(None) };
    }
}

/// A stack: memory that nothing else uses, with a guard page below it.
///
/// Dropping it gives it back to the depot of the process; [`StackCache::put`] gives it to a cache,
/// which is cheaper. Either way it must be given back before the [`Permit`] that it was taken on.
///
/// The memory is not cleared between uses, except that a stack which was trimmed meanwhile is zero.
///
/// # Invariant
///
/// `slot` is a guarded slot of class `class`, in no depot and in no magazine: this value owns it.
#[must_use = "dropping a stack gives it back"]
pub struct Stack {
    slot: Slot,
    class: SizeClass,
}

impl Stack {
    /// The end of the stack: one past its highest usable byte, 16-aligned.
    #[inline]
    #[must_use]
    pub fn top(&self) -> NonNull<u8> {
        self.slot.top(self.class)
    }

    /// The lowest usable address, just above the guard page.
    #[inline]
    #[must_use]
    pub fn limit(&self) -> NonNull<u8> {
        self.slot.limit()
    }

    /// What [`prepare`](crate::context::prepare) wants to know.
    #[inline]
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds { limit: self.limit(), top: self.top() }
    }

    /// Says whose stack this is: `describe(data, ..)` writes it into the report of an overflow. It
    /// stays so until the next call of this or of [`clear_owner`](Self::clear_owner).
    ///
    /// # Safety
    ///
    /// As long as it stays so, `describe` may be called with `data` on any thread that overflows
    /// this stack.
    #[inline]
    pub unsafe fn set_owner(&self, describe: Describe, data: *const ()) {
        // SAFETY: the top of a stack, which `self` owns.
        unsafe { Owner::set(self.top(), describe, data) };
    }

    /// Says that nobody uses this stack.
    #[inline]
    pub fn clear_owner(&self) {
        // SAFETY: as above.
        unsafe { Owner::clear(self.top()) };
    }

    /// The usable bytes, from [`limit`](Self::limit) to [`top`](Self::top): the size of the class
    /// less up to 16 cache lines, by which the tops of neighbouring stacks differ.
    #[inline]
    #[must_use]
    pub fn size(&self) -> usize {
        self.top().addr().get() - self.limit().addr().get()
    }

    /// The addresses of the guard page, which ends where the stack begins. Any access to it is a
    /// SIGSEGV.
    #[inline]
    #[must_use]
    pub fn guard(&self) -> Range<usize> {
        self.slot.guard()
    }

    /// The size that its class stands for, in bytes: the least size to reserve such stacks with.
    #[inline]
    #[must_use]
    pub fn class(&self) -> usize {
        self.class.bytes()
    }

    /// The permit that it was taken on, which the caller has forgotten.
    #[inline]
    pub(crate) fn permit(&self) -> Permit {
        Permit(self.class)
    }

    /// The stack as one word, for [`unpack`](Self::unpack): a stack is page-aligned, which leaves the
    /// lowest bits for its class.
    #[inline]
    pub(crate) fn pack(self) -> NonNull<u8> {
        const { assert!(class::COUNT < 4096, "a class fits into the offset within a page") };
        let class = self.class.index();
        self.into_slot().guard_page().map_addr(|base| base | class)
    }

    /// # Safety
    ///
    /// The word comes from [`pack`](Self::pack), and is used once.
    #[inline]
    pub(crate) unsafe fn unpack(word: NonNull<u8>) -> Self {
        let class = SizeClass::at(word.addr().get() % 4096);
        // SAFETY: the base of a slot is page-aligned, and not zero.
        let base = word.map_addr(|word| unsafe { NonZeroUsize::new_unchecked(word.get() & !4095) });
        // SAFETY: the caller's promise.
        Self { slot: unsafe { Slot::from_base(base) }, class }
    }

    fn into_slot(self) -> Slot {
        let slot = self.slot;
        std::mem::forget(self);
        slot
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        Depot::of(self.class).put(self.slot);
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("top", &self.top()).field("size", &self.size()).finish()
    }
}

/// Counts of the stacks of the process, all size classes together. See [`stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Slots that address space is mapped for.
    pub mapped: usize,
    /// Slots that have their guard page.
    pub guarded: usize,
    /// Slots outside the depots: stacks in use, and free ones in the magazines of [`StackCache`]s
    /// or just being trimmed.
    pub lent: usize,
    /// What is promised: permits, what caches keep in reserve, and what is just being trimmed.
    pub promised: usize,
    /// Slabs: the number of mappings that were asked for (the kernel merges neighbours).
    pub slabs: usize,
    /// Address space of all slabs, in bytes. Memory is used for touched pages only.
    pub mapped_bytes: usize,
    /// How stacks are guarded; `None` before the first slab.
    pub guard: Option<GuardMechanism>,
}

/// The address range of the pooled stack that the caller runs on; none on an OS thread's own.
///
/// Asked of the processor: a local value may lie elsewhere (the address sanitizer does that).
#[must_use]
pub fn current() -> Option<Range<usize>> {
    registry::locate(backend::stack_pointer()).map(registry::Site::range)
}

/// Counts the stacks of the process. The numbers of each size class are consistent among
/// themselves, except for `promised`, which others may change meanwhile.
#[must_use]
pub fn stats() -> Stats {
    let mut stats = Stats { guard: GuardMechanism::in_force(), ..Stats::default() };
    for class in SizeClass::all() {
        Depot::of(class).count(&mut stats);
    }
    stats
}
