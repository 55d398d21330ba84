//! The memory that coroutines run on.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::mem::{self, ManuallyDrop};
use std::ptr::NonNull;

use crate::context::Bounds;
use crate::overflow;
use crate::stack::{Stack, StackCache};

/// Memory that a coroutine can run on.
///
/// [`OwnedStack`] comes from bine's pool and is what most want. Implement this for memory of your
/// own: it should have a page below it that cannot be touched, or be so large that the body is known
/// not to reach its end.
///
/// Keep a raw pointer to it, not a `Box` or a reference: those claim whenever they move that nobody
/// else uses what they point to.
///
/// # Safety
///
/// - [`bounds`](Self::bounds) is always the same, also after the value has moved, and its `top` is
///   16-aligned.
/// - It is writable memory that nothing else reads or writes as long as the value lives (or, for an
///   exclusive reference to one, is borrowed).
/// - An access below its limit does not reach memory of anybody else, as far as safe code can make
///   one by calling too deep.
pub unsafe trait StackMemory {
    /// Where the memory lies.
    fn bounds(&self) -> Bounds;

    /// Whether an overflow of it is reported: whether its top is that of a stack of bine's pool. Not
    /// for other implementations.
    #[doc(hidden)]
    const OF_THE_POOL: bool = false;
}

// SAFETY: the memory is that of the value behind the reference, which is borrowed exclusively.
unsafe impl<S: StackMemory + ?Sized> StackMemory for &mut S {
    #[inline]
    fn bounds(&self) -> Bounds {
        (**self).bounds()
    }

    const OF_THE_POOL: bool = S::OF_THE_POOL;
}

/// A guarded stack of bine's pool, with the right to have it. Dropping it gives it back, for the
/// next coroutine of this OS thread.
///
/// # Invariant
///
/// A packed stack, which is this value's, and so is the permit that it was taken on: that was
/// forgotten.
#[repr(transparent)]
pub struct OwnedStack(NonNull<u8>);

// SAFETY: stacks and permits may go to other OS threads.
unsafe impl Send for OwnedStack {}
// SAFETY: a shared reference shows where it lies, no more.
unsafe impl Sync for OwnedStack {}

thread_local! {
    /// The OS thread's supply. Who has one can report the overflow of what it supplies.
    static SUPPLY: RefCell<StackCache> = {
        overflow::protect_thread();
        RefCell::new(StackCache::new())
    };
}

impl OwnedStack {
    /// A stack of at least `size` bytes: rounded up to a power of two, less up to 16 cache lines.
    ///
    /// # Errors
    ///
    /// As [`StackCache::reserve`]: no address space, or beyond what the kernel can guard.
    // Not inlined, as `give_back`: the compiler must not keep the address of the thread-local over a
    // switch that the caller makes next.
    #[inline(never)]
    pub fn new(size: usize) -> io::Result<Self> {
        let taken = SUPPLY.try_with(|supply| take(&mut supply.borrow_mut(), size));
        // Or the OS thread is ending.
        taken.unwrap_or_else(|_| take(&mut StackCache::new(), size))
    }

    /// The usable bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.stack().size()
    }

    /// The stack, which is still this value's.
    #[inline]
    fn stack(&self) -> ManuallyDrop<Stack> {
        // SAFETY: a packed stack (see the invariant). The copy is not dropped.
        ManuallyDrop::new(unsafe { Stack::unpack(self.0) })
    }
}

#[inline]
fn take(supply: &mut StackCache, size: usize) -> io::Result<OwnedStack> {
    let permit = supply.reserve(size)?;
    let stack = supply.take(&permit)?;
    mem::forget(permit);
    Ok(OwnedStack(stack.pack()))
}

#[inline(never)]
fn give_back(packed: NonNull<u8>) {
    // SAFETY: the stack of an `OwnedStack` that is being dropped.
    let stack = unsafe { Stack::unpack(packed) };
    let permit = stack.permit();
    let mut both = Some((stack, permit));
    let put = |supply: &RefCell<StackCache>| {
        if let Some((stack, permit)) = both.take() {
            let mut supply = supply.borrow_mut();
            supply.put(stack);
            supply.release(permit);
        }
    };
    // Where the OS thread is ending, both go to the depot: the stack first.
    if SUPPLY.try_with(put).is_err() {
        drop(both);
    }
}

impl Drop for OwnedStack {
    #[inline]
    fn drop(&mut self) {
        give_back(self.0);
    }
}

// SAFETY: a stack of the pool: guarded, at a fixed address, and its owner's alone.
unsafe impl StackMemory for OwnedStack {
    #[inline]
    fn bounds(&self) -> Bounds {
        self.stack().bounds()
    }

    const OF_THE_POOL: bool = true;
}

impl fmt::Debug for OwnedStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedStack").field("size", &self.size()).finish_non_exhaustive()
    }
}
