//! The switch on x86_64, System V ABI. The contract stands in [`context`](crate::context).
//!
//! # A suspended stack
//!
//! ```text
//!      higher addresses
//!    +------------------------+
//!    | frames of the green    |
//!    | thread; the compiler   |
//!    | spilled here what is   |
//!    | live over the switch   |
//!    +------------------------+
//!    | rbp                    |  the two registers that inline assembly cannot
//!    | rbx                    |  declare as clobbered
//!    | resume address         |  <- Context: where to continue, label 2 of `switch`
//!    +------------------------+
//!      lower addresses
//! ```
//!
//! # A prepared stack
//!
//! ```text
//!    top ->     ----------------  (16-aligned)
//!          -  8 | data         |
//!          - 16 | entry        |
//!          - 24 | trampoline   |  <- Context: the resume address
//!               ----------------
//! ```
//!
//! When the entry function begins, the stack is as after a call by the trampoline:
//!
//! ```text
//!    top ->     ----------------
//!          -  8 | return addr. |  <- rsp: label 2 of `trampoline`, where nothing ever returns to
//!               ----------------
//! ```
//!
//! # Registers on the way
//!
//! | register | meaning |
//! |---|---|
//! | `rdx` | where to store the suspended context |
//! | `rsi` | the context to continue |
//! | `rdi` | the word that is handed over, on both sides |
//!
//! # Predicted jumps
//!
//! The processor predicts where a `ret` goes from a stack of its own, which follows the `call`s and
//! knows nothing of our switches. So a switch continues by `pop` and `jmp`, not by `ret`; and the
//! trampoline enters by `push` and `jmp`, not by a `call` that no `ret` will match: it would put
//! every return of the scheduler that started the green thread out of step.
//!
//! # Measured
//!
//! The inline assembly beside the same as a naked function that saves the six call-saved registers:
//! 2.4 ns against 4.3 to 5.6 ns for a switch there and back (AMD EPYC of family 26, KVM;
//! `benches/src/bin/switch.rs`).

#![allow(unsafe_code)]

use std::arch::{asm, naked_asm};
use std::ptr::NonNull;

use crate::context::{Context, Entry};

#[inline]
pub(crate) unsafe fn prepare(top: NonNull<u8>, entry: Entry, data: usize) -> Context {
    // SAFETY: the caller promises writable memory below `top`; `top` is 16-aligned, so each word is
    // aligned.
    unsafe {
        let frame = top.cast::<usize>().sub(3);
        frame.write(trampoline as *const () as usize);
        frame.add(1).write(entry as usize);
        frame.add(2).write(data);
        Context(frame.as_ptr().cast())
    }
}

/// The outermost frame of each green thread: calls its entry function. Backtraces end here.
#[unsafe(naked)]
unsafe extern "C" fn trampoline() -> ! {
    naked_asm!(
        // The unwind table of this function (the compiler writes none for a naked one). The
        // caller's address is undefined: unwinders take this frame for the outermost one.
        ".cfi_startproc",
        ".cfi_undefined rip",
        // The first argument of the entry function is the word that was handed over: in rdi
        // already. `prepare` left the entry function here,
        "pop rax",
        // and its second argument above it. Now rsp = top.
        "pop rsi",
        // The end of the chain for unwinders that follow frame pointers.
        "xor ebp, ebp",
        // Enter as by a call: rsp = top - 8, and the return address there.
        "lea rcx, [rip + 2f]",
        "push rcx",
        "jmp rax",
        // The entry function does not return.
        "2:",
        "ud2",
        ".cfi_endproc",
    )
}

#[inline(always)]
pub(crate) unsafe fn switch(save: *mut Context, to: Context, arg: usize) -> usize {
    let delivered;
    // SAFETY: the frame that is pushed here is the one that is popped at label 2 when the context
    // is continued, on the same stack with the same stack pointer. Every register that another side
    // may have changed is an output or restored. `to` is a suspended or prepared stack: its first
    // word is an address that expects exactly this state.
    unsafe {
        asm!(
            // The two registers that the clobber list cannot name.
            "push rbp",
            "push rbx",
            // Where the suspended side continues.
            "lea rax, [rip + 2f]",
            "push rax",
            // The context is complete: store it, before the other stack is in use.
            "mov [rdx], rsp",
            // On to the other stack, and to where it was suspended.
            "mov rsp, rsi",
            "pop rcx",
            "jmp rcx",
            // Somebody continued us: rsp is as it was after `push rbx`, rdi holds the word for us.
            "2:",
            "pop rbx",
            "pop rbp",
            inlateout("rdx") save => _,
            inlateout("rsi") to.0 => _,
            inlateout("rdi") arg => delivered,
            // The call-saved registers are just lost; the compiler saves those that it uses.
            lateout("r12") _,
            lateout("r13") _,
            lateout("r14") _,
            lateout("r15") _,
            clobber_abi("sysv64"),
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
            "mov rsp, rsi",
            "pop rcx",
            "jmp rcx",
            in("rsi") to.0,
            in("rdi") arg,
            options(noreturn),
        )
    }
}

/// Where the caller is on its stack.
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    let pointer;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
    pointer
}

/// Has the processor fetch the cache line of `address`, which need not be valid.
#[inline(always)]
pub(crate) fn prefetch(address: *const u8) {
    // SAFETY: a hint, which does not fault.
    unsafe {
        asm!("prefetcht0 [{}]", in(reg) address, options(readonly, nostack, preserves_flags))
    };
}
