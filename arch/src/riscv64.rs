//! The switch on riscv64, the psABI of the `lp64` family. Here stands what differs from
//! `aarch64.rs`; the contract stands in [`context`](crate::context).
//!
//! # A suspended stack
//!
//! ```text
//!      higher addresses
//!    +------------------------+
//!    | frames, and what the   |
//!    | compiler spilled       |
//!    +------------------------+
//!    | s0 = fp                |  + 24
//!    | resume address         |  + 16
//!    | (unused)               |  +  8   sp stays 16-aligned
//!    | s1                     |  <- Context
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
//!          -  8 | 0            |  s0: the end of the chain of frame pointers
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
//! | `a0` | the word that is handed over, on both sides |
//! | `a1` | the context to continue |
//! | `a2` | where to store the suspended context |
//! | `t2` | the address that is jumped to |
//!
//! s0 and s1 are the registers that inline assembly cannot declare as clobbered; all others are
//! declared so, ra and fs0 to fs11 among them. The latter mean nothing, and do no harm, where the
//! target has no floating-point registers. The vector registers and their state belong to the
//! caller in the psABI: the clobber list has them. gp and tp are the program's and the OS thread's
//! and stay as they are. fcsr, with the rounding mode and the exception flags, is the OS thread's,
//! as MXCSR on x86_64.
//!
//! # Predicted jumps
//!
//! The processor takes a jump through ra or t0 (x1, x5) for a return, and pops its stack of
//! predicted ones. One through t2 (x7) leaves it alone. Also, t2 is the register whose jumps need
//! no landing pad, should the program be run with branch targets protected (Zicfilp).

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
        ".cfi_undefined ra",
        // The first argument is the word that was handed over, in a0 already. The second, and the
        // entry function, were left here by `prepare`.
        "ld a1, 0(sp)",
        "ld t2, 8(sp)",
        "addi sp, sp, 32",
        // The end of the chain for unwinders that follow frame pointers.
        "li s0, 0",
        // Enter as by a call, but without a return that the processor would expect.
        "lla ra, 2f",
        "jr t2",
        // The entry function does not return.
        "2:",
        "unimp",
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
            "lla a3, 2f",
            // The frame, as drawn above.
            "addi sp, sp, -32",
            "sd s1, 0(sp)",
            "sd a3, 16(sp)",
            "sd s0, 24(sp)",
            // The context is complete: store it, before the other stack is in use.
            "sd sp, 0(a2)",
            // On to the other stack, and to where it was suspended.
            "mv sp, a1",
            "ld t2, 16(sp)",
            "jr t2",
            // Somebody continued us: sp is as it was when we left, a0 holds the word for us.
            "2:",
            "ld s1, 0(sp)",
            "ld s0, 24(sp)",
            "addi sp, sp, 32",
            inlateout("a0") arg => delivered,
            inlateout("a1") to.0 => _,
            inlateout("a2") save => _,
            // The call-saved registers are just lost; the compiler saves those that it uses.
            lateout("s2") _, lateout("s3") _, lateout("s4") _, lateout("s5") _,
            lateout("s6") _, lateout("s7") _, lateout("s8") _, lateout("s9") _,
            lateout("s10") _, lateout("s11") _,
            lateout("fs0") _, lateout("fs1") _, lateout("fs2") _, lateout("fs3") _,
            lateout("fs4") _, lateout("fs5") _, lateout("fs6") _, lateout("fs7") _,
            lateout("fs8") _, lateout("fs9") _, lateout("fs10") _, lateout("fs11") _,
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
            "mv sp, a1",
            "ld t2, 16(sp)",
            "jr t2",
            in("a0") arg,
            in("a1") to.0,
            options(noreturn),
        )
    }
}

/// Where the caller is on its stack.
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    let pointer;
    // SAFETY: reads a register.
    unsafe { asm!("mv {}, sp", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
    pointer
}

/// Nothing: the base instruction set has no such hint.
#[inline(always)]
pub(crate) fn prefetch(_address: *const u8) {}
