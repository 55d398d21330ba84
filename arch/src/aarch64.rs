//! The switch on aarch64, AAPCS64. Here stands what differs from `x86_64.rs`; the contract stands
//! in [`context`](crate::context).
//!
//! # A suspended stack
//!
//! ```text
//!      higher addresses
//!    +------------------------+
//!    | frames, and what the   |
//!    | compiler spilled       |
//!    +------------------------+
//!    | x29  frame pointer     |  + 24
//!    | resume address         |  + 16
//!    | (unused)               |  +  8   sp is 16-aligned whenever it is used
//!    | x19                    |  <- Context
//!    +------------------------+
//!      lower addresses
//! ```
//!
//! # A prepared stack
//!
//! The same frame, so that one piece of code continues both kinds:
//!
//! ```text
//!    top ->     ----------------  (16-aligned)
//!          -  8 | 0            |  x29: the end of the chain of frame pointers
//!          - 16 | trampoline   |  the resume address
//!          - 24 | entry        |
//!          - 32 | data         |  <- Context
//!               ----------------
//! ```
//!
//! # Registers on the way
//!
//! | register | meaning |
//! |---|---|
//! | `x0` | the word that is handed over, on both sides |
//! | `x1` | the context to continue |
//! | `x2` | where to store the suspended context |
//!
//! x19 and x29 are the registers that inline assembly cannot declare as clobbered; all others are
//! declared so, d8 to d15 among them, of which the ABI wants the lower halves preserved. x18
//! belongs to the platform: Linux programs do not use it. FPCR is the OS thread's, as MXCSR on
//! x86_64.
//!
//! The continuation is `br` and not `ret`, for the sake of the predicted returns; `br x16` is
//! allowed to arrive at a `bti c` or `bti j`, should the program be compiled with branch targets
//! protected.

#![allow(unsafe_code)]

use std::arch::{asm, naked_asm};
use std::ptr::NonNull;

use crate::context::{Context, Entry};

#[inline]
pub(crate) unsafe fn prepare(top: NonNull<u8>, entry: Entry, data: usize) -> Context {
    // SAFETY: the caller promises writable memory below `top`; `top` is 16-aligned, so each word is
    // aligned.
    unsafe {
        let frame = top.cast::<usize>().sub(4);
        frame.write(data);
        frame.add(1).write(entry as usize);
        frame.add(2).write(trampoline as *const () as usize);
        frame.add(3).write(0);
        Context(frame.as_ptr().cast())
    }
}

/// The outermost frame of each green thread: calls its entry function. Backtraces end here.
#[unsafe(naked)]
unsafe extern "C" fn trampoline() -> ! {
    naked_asm!(
        ".cfi_startproc",
        // The return address is undefined: unwinders take this frame for the outermost one.
        ".cfi_undefined x30",
        // A landing pad for indirect jumps (`bti j`); a no-op elsewhere.
        "hint #36",
        // The first argument is the word that was handed over, in x0 already. The second, and the
        // entry function, were left here by `prepare`.
        "ldp x1, x16, [sp], #32",
        // The end of the chain for unwinders that follow frame pointers.
        "mov x29, xzr",
        // Enter as by a call, but without a return that the processor would expect.
        "adr x30, 2f",
        "br x16",
        // The entry function does not return.
        "2:",
        "brk #1",
        ".cfi_endproc",
    )
}

#[inline(always)]
pub(crate) unsafe fn switch(save: *mut Context, to: Context, arg: usize) -> usize {
    let delivered;
    // SAFETY: the frame that is stored here is the one that is loaded at label 2 when the context
    // is continued, on the same stack with the same stack pointer. Every register that another side
    // may have changed is an output or restored. `to` is a suspended or prepared stack: its third
    // word is an address that expects exactly this state.
    unsafe {
        asm!(
            // Where the suspended side continues.
            "adr x3, 2f",
            // The frame, as drawn above.
            "sub sp, sp, #32",
            "str x19, [sp]",
            "stp x3, x29, [sp, #16]",
            // The context is complete: store it, before the other stack is in use.
            "mov x4, sp",
            "str x4, [x2]",
            // On to the other stack, and to where it was suspended.
            "mov sp, x1",
            "ldr x16, [sp, #16]",
            "br x16",
            // Somebody continued us: sp is as it was when we left, x0 holds the word for us.
            "2:",
            "hint #36",
            "ldr x19, [sp]",
            "ldr x29, [sp, #24]",
            "add sp, sp, #32",
            inlateout("x0") arg => delivered,
            inlateout("x1") to.0 => _,
            inlateout("x2") save => _,
            // The call-saved registers are just lost; the compiler saves those that it uses.
            lateout("x20") _, lateout("x21") _, lateout("x22") _, lateout("x23") _,
            lateout("x24") _, lateout("x25") _, lateout("x26") _, lateout("x27") _,
            lateout("x28") _,
            lateout("d8") _, lateout("d9") _, lateout("d10") _, lateout("d11") _,
            lateout("d12") _, lateout("d13") _, lateout("d14") _, lateout("d15") _,
            clobber_abi("C"),
        );
    }
    delivered
}

#[inline(always)]
pub(crate) unsafe fn switch_final(to: Context, arg: usize) -> ! {
    // SAFETY: as in `switch`; this side is never continued, so that nothing of it needs to be
    // saved.
    unsafe {
        asm!(
            "mov sp, x1",
            "ldr x16, [sp, #16]",
            "br x16",
            in("x0") arg,
            in("x1") to.0,
            options(noreturn),
        )
    }
}

/// Where the caller is on its stack.
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    let pointer;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, sp", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
    pointer
}

/// Has the processor fetch the cache line of `address`, which need not be valid.
#[inline(always)]
pub(crate) fn prefetch(address: *const u8) {
    // SAFETY: a hint, which does not fault.
    unsafe {
        asm!("prfm pldl1keep, [{}]", in(reg) address, options(readonly, nostack, preserves_flags));
    }
}
