//! Stackful contexts: a first frame laid on a fresh stack, and the switch between two stacks.
//!
//! A suspended stack is described by its stack pointer alone, a [`Context`]; everything else that
//! has to survive lies on the stack itself. A switch stores the running side's stack pointer and
//! continues the other side, handing it one word.
//!
//! # What survives a switch
//!
//! - All that the compiler keeps live over the switch: it knows from the clobber list of the inline
//!   assembly that every register but the stack pointer, frame pointer and base pointer changes,
//!   and so saves what it needs and no more. The call-saved registers are not saved wholesale.
//! - **Not** MXCSR and the x87 control word (FPCR on aarch64, fcsr on riscv64): rounding and
//!   exception masks belong to the OS thread, and green threads share those of the OS thread they
//!   run on, as functions that call each other do. Some ABIs call them callee-saved, and this is
//!   the one point where a switch differs from a call: who changes them has to restore them before
//!   the next blocking call. To save them would cost about as much as the whole switch, for a feature that safe Rust
//!   cannot use.
//! - **Not** the thread: code after a switch may run on another OS thread. No address of a
//!   thread-local, no `errno` location may be carried over it; the compiler does not know this
//!   about thread-locals, so code that switches reads them through out-of-line functions that
//!   return values.
//!
//! # Contract of a backend
//!
//! A backend is a file that `backend.rs` selects and that has three functions, `prepare`, `switch`
//! and `switch_final`, with the signatures and the meanings of their namesakes here. It promises
//! that
//!
//! 1. `switch` stores the context to `*save` before the first instruction that uses the other
//!    stack;
//! 2. the stack pointer at the entry function is aligned as at any call of the ABI;
//! 3. the assembly of `switch` is neither `pure` nor `nomem` nor `readonly` (any memory may change
//!    under it) and not `nostack` (it pushes), and it clobbers all registers that it does not
//!    restore;
//! 4. unwinding (a backtrace, gdb, a panic's search for a handler) that reaches the first frame
//!    ends there: the caller's address is marked undefined in its unwind table, and frame pointer
//!    chains end in zero;
//! 5. `prepare` writes to the top-most 48 bytes of the stack only.
//!
//! # Sanitizers
//!
//! Under the cfg `bine_sanitize` the module `fiber` stands between the functions here and the
//! backend's, and tells the sanitizer of each switch. A context is then the address of what
//! `fiber` knows of a stack, and no longer its stack pointer.

#![allow(unsafe_code)]

use std::ptr::{self, NonNull};

#[cfg(not(any(bine_sanitize = "address", bine_sanitize = "thread")))]
use crate::backend;
#[cfg(any(bine_sanitize = "address", bine_sanitize = "thread"))]
use crate::fiber as backend;
use crate::valgrind;

/// The saved state of a suspended stack: its stack pointer.
///
/// A context is a plain value, and copying it is harmless; to *continue* it is unsafe, and valid
/// once for each time that it was saved or prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Context(pub(crate) *mut u8);

// SAFETY: a context is an address that only unsafe functions follow; their contracts name the
// conditions on the thread that does.
unsafe impl Send for Context {}
// SAFETY: as above; there is nothing to do with a shared context but to copy it.
unsafe impl Sync for Context {}

impl Context {
    /// A context that belongs to no stack, for fields that are filled later.
    #[must_use]
    pub const fn null() -> Self {
        Self(ptr::null_mut())
    }

    /// Whether this is [`Context::null`].
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The stack pointer, as a number: everything that the suspended side has live on its stack
    /// lies at or above it (but for a leaf function's red zone, which a function that switches
    /// never has).
    #[must_use]
    pub fn address(self) -> usize {
        #[cfg(any(bine_sanitize = "address", bine_sanitize = "thread"))]
        return backend::stack_pointer(self);
        #[cfg(not(any(bine_sanitize = "address", bine_sanitize = "thread")))]
        self.0.addr()
    }
}

/// The memory of a stack that is given to [`prepare`]: all from `limit` up to `top`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The lowest usable address.
    pub limit: NonNull<u8>,
    /// One past the highest usable byte; 16-aligned.
    pub top: NonNull<u8>,
}

/// The function that a prepared stack starts with.
///
/// `arg` is what the first switch to the stack passed, `data` what [`prepare`] was given. It never
/// returns: it leaves its stack by [`switch_final`]. No panic may leave it (that aborts the
/// process).
pub type Entry = unsafe extern "C" fn(arg: usize, data: usize) -> !;

/// Lays the first frame on a fresh stack and returns the context that calls `entry(arg, data)` when
/// it is first continued, `arg` being what that switch passes.
///
/// # Safety
///
/// - `stack` is writable memory that nothing else uses until `entry` has left it for good, and its
///   top is 16-aligned.
/// - It has room for whatever `entry` calls; the frame itself takes at most 48 bytes. What lies
///   below its limit is a guard, or whoever continues the context knows that it is not reached.
/// - `entry` and `data` belong together: whoever continues the context upholds what `entry` asks
///   for.
#[inline]
#[must_use]
pub unsafe fn prepare(stack: Bounds, entry: Entry, data: usize) -> Context {
    // SAFETY: the caller's promise.
    unsafe { prepare_below(stack, stack.top, entry, data) }
}

/// As [`prepare`], but below `top`. What lies above that, up to the stack's own top, is the
/// caller's to write, once this has returned.
///
/// # Safety
///
/// As for [`prepare`]; `top` is 16-aligned, and lies on the stack.
#[inline]
#[must_use]
pub(crate) unsafe fn prepare_below(
    stack: Bounds,
    top: NonNull<u8>,
    entry: Entry,
    data: usize,
) -> Context {
    debug_assert!(top.addr().get().is_multiple_of(16), "the top of a stack must be 16-aligned");
    debug_assert!(stack.limit < top, "a stack's limit lies below its top");
    valgrind::reuse_stack(stack.limit, stack.top);
    #[cfg(any(bine_sanitize = "address", bine_sanitize = "thread"))]
    // SAFETY: the caller's promise.
    return unsafe { backend::prepare(Bounds { top, ..stack }, entry, data) };
    #[cfg(not(any(bine_sanitize = "address", bine_sanitize = "thread")))]
    // SAFETY: the caller's promise is the backend's condition.
    unsafe {
        backend::prepare(top, entry, data)
    }
}

/// Saves the running context to `*save`, continues `to`, and hands it `arg`. Returns, when somebody
/// continues the saved context, the `arg` of that switch.
///
/// `*save` is written before anything runs on the other stack. It may be read by whoever runs
/// there; another OS thread may read it, and continue it, only after that side has published it.
///
/// # Safety
///
/// - `to` was saved by `switch` or made by [`prepare`], and has not been continued since.
/// - Its stack is still mapped, and nothing else runs on it.
/// - `save` is valid for a write, and the context there is continued at most once, while the
///   running stack lives and its frames are where they are.
/// - If another OS thread continues the saved context, the code after this call can stand that: no
///   thread-local borrow, address or `errno` location lives over the call.
#[inline(always)]
pub unsafe fn switch(save: *mut Context, to: Context, arg: usize) -> usize {
    // SAFETY: the caller's promise is the backend's condition.
    unsafe { backend::switch(save, to, arg) }
}

/// Continues `to` with `arg` and never comes back.
///
/// The stack of the caller may be reused or unmapped by whoever runs next. Nothing on it is
/// dropped.
///
/// # Safety
///
/// - `to` as for [`switch`].
/// - Nothing on the calling stack is needed any more: no value there has a destructor that must
///   run, and no pointer into it is followed later.
#[inline(always)]
pub unsafe fn switch_final(to: Context, arg: usize) -> ! {
    // SAFETY: the caller's promise is the backend's condition.
    unsafe { backend::switch_final(to, arg) }
}

impl Context {
    /// Has the processor fetch what [`switch`] reads first, for whoever is about to continue this.
    #[inline(always)]
    pub fn prefetch(self) {
        prefetch(self.0);
    }
}

/// Has the processor fetch the cache line of `address`, which need not be valid.
#[inline(always)]
pub fn prefetch<T>(address: *const T) {
    crate::backend::prefetch(address.cast());
}

#[cfg(test)]
mod tests;
