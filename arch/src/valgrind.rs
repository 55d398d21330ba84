//! Client requests: what a program tells valgrind about itself.
//!
//! A request is a sequence of instructions that no compiler emits and that does nothing: rotations
//! of a register that add up to a whole number of turns, and an exchange of a register with itself.
//! Valgrind finds it as it translates the program, and reads the request from an array whose
//! address stands in a register. Outside of valgrind it costs as many instructions and leaves the
//! default answer.
//!
//! The sequences and the numbers are those of `<valgrind/valgrind.h>`, which valgrind's manual
//! declares to be stable ("The Client Request mechanism"). There are three requests here:
//!
//! - [`register_stack`]. Memcheck takes a jump of the stack pointer for a large frame that comes or
//!   goes, unless it is between two stacks that it knows: it would declare what lies between to be
//!   fresh or gone.
//! - [`reuse_stack`]. What lies below the stack pointer is out of bounds for memcheck, and stays so when
//!   the stack gets another user, who may lay his first things there.
//! - [`is_running`]. Valgrind itself reads what a system call is pointed to, and does not know of
//!   guards by `MADV_GUARD_INSTALL`: it dies of them. The guards are made by `mprotect` there.

#![allow(unsafe_code)]

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::arch::asm;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

/// `VG_USERREQ__RUNNING_ON_VALGRIND`.
const RUNNING_ON_VALGRIND: usize = 0x1001;
/// `VG_USERREQ__STACK_REGISTER`, with the lowest and the highest address.
const STACK_REGISTER: usize = 0x1501;

/// `VG_USERREQ__MAKE_MEM_UNDEFINED` of `<valgrind/memcheck.h>`, with an address and a length. Other
/// tools do not know it, and answer nothing.
const MAKE_MEM_UNDEFINED: usize = 0x4d43_0001;

/// Whether valgrind has been told of a stack.
static KNOWS_STACKS: AtomicBool = AtomicBool::new(false);

/// Whether the program runs under valgrind.
pub(crate) fn is_running() -> bool {
    request(&[RUNNING_ON_VALGRIND, 0, 0, 0, 0, 0]) != 0
}

/// Tells valgrind that the stack pointer may move within `stack`. It is never told otherwise:
/// stacks stay what they are.
pub(crate) fn register_stack(stack: Range<usize>) {
    if request(&[STACK_REGISTER, stack.start, stack.end, 0, 0, 0]) != 0 || is_running() {
        // Relaxed: whoever has the stack was given it by us, or by who was.
        KNOWS_STACKS.store(true, Ordering::Relaxed);
    }
}

/// Tells valgrind that the stack gets a new user. Costs a load and a branch elsewhere.
#[inline]
pub(crate) fn reuse_stack(limit: NonNull<u8>, top: NonNull<u8>) {
    // Relaxed: as above.
    if KNOWS_STACKS.load(Ordering::Relaxed) {
        make_undefined(limit.addr().get()..top.addr().get());
    }
}

#[cold]
fn make_undefined(memory: Range<usize>) {
    request(&[MAKE_MEM_UNDEFINED, memory.start, memory.len(), 0, 0, 0]);
}

/// Makes a request of a number and five arguments; 0 without valgrind.
#[cfg(target_arch = "x86_64")]
fn request(arguments: &[usize; 6]) -> usize {
    let mut answer = 0;
    // SAFETY: the rotations add up to 128 bits, so that `rdi` is what it was, and the exchange
    // changes nothing. Valgrind reads the array that `rax` points to, and answers in `rdx`.
    unsafe {
        asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") arguments.as_ptr(),
            inout("rdx") answer,
            options(nostack),
        );
    }
    answer
}

/// Makes a request of a number and five arguments; 0 without valgrind.
#[cfg(target_arch = "aarch64")]
fn request(arguments: &[usize; 6]) -> usize {
    let mut answer = 0;
    // SAFETY: the rotations add up to 128 bits, so that `x12` is what it was, and the last
    // instruction writes to `x10` what is there. Valgrind reads the array that `x4` points to, and
    // answers in `x3`.
    unsafe {
        asm!(
            "ror x12, x12, #3",
            "ror x12, x12, #13",
            "ror x12, x12, #51",
            "ror x12, x12, #61",
            "orr x10, x10, x10",
            in("x4") arguments.as_ptr(),
            inout("x3") answer,
            options(nostack),
        );
    }
    answer
}

/// Valgrind 3.19 does not run on this architecture.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn request(_: &[usize; 6]) -> usize {
    0
}
