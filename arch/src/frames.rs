//! The frames of the stack that runs, and the words in them: for checks, not for programs.
//!
//! The frames are found by the unwinder that std links, by the tables with which a panic unwinds. Where
//! the outermost frame's table ends them (the first frame of a green thread's or a coroutine's stack),
//! so does the list.

#![allow(unsafe_code)]

use std::arch::asm;
use std::ffi::{c_int, c_void};
use std::ops::Range;

/// The registers that a function must leave as they were, by the numbers of DWARF. What a caller keeps
/// in them is in its callees' frames by the time that it is looked for.
#[cfg(target_arch = "x86_64")]
const CALL_SAVED: [c_int; 6] = [3, 6, 12, 13, 14, 15];
/// As above.
#[cfg(target_arch = "aarch64")]
const CALL_SAVED: [c_int; 11] = [19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29];
/// As above.
#[cfg(target_arch = "riscv64")]
const CALL_SAVED: [c_int; 12] = [8, 9, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27];

/// A function that has called another one and waits for its return.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Frame {
    /// Where the function goes on when that one returns.
    pub instruction: usize,
    /// Its stack pointer: the frame reaches from here up to the stack pointer of its own caller.
    pub stack_pointer: usize,
    /// What its call-saved registers hold when that one returns.
    pub registers: [usize; CALL_SAVED.len()],
}

unsafe extern "C" {
    fn _Unwind_Backtrace(
        visit: unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int,
        data: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
    fn _Unwind_GetCFA(context: *mut c_void) -> usize;
    fn _Unwind_GetGR(context: *mut c_void, register: c_int) -> usize;
}

/// The frames of the calling stack, innermost first, from this function's own on.
#[inline(never)]
#[must_use]
pub fn walk() -> Vec<Frame> {
    let mut frames = Vec::<Frame>::with_capacity(32);
    // SAFETY: the callback is called with the pointer it expects, before this returns.
    unsafe { _Unwind_Backtrace(add, (&raw mut frames).cast()) };
    frames
}

/// # Safety
///
/// For `_Unwind_Backtrace` to call, with a `Vec<Frame>` that nobody else uses.
unsafe extern "C" fn add(context: *mut c_void, frames: *mut c_void) -> c_int {
    // SAFETY: the caller's promise. The unwinder knows the call-saved registers of every frame, which
    // landing pads need.
    unsafe {
        if _Unwind_GetIP(context) == 0 {
            // The end.
            return 0;
        }
        (*frames.cast::<Vec<Frame>>()).push(Frame {
            instruction: _Unwind_GetIP(context),
            stack_pointer: _Unwind_GetCFA(context),
            registers: CALL_SAVED.map(|register| _Unwind_GetGR(context, register)),
        });
    }
    0
}

/// Calls `visit` with the aligned words in `range` whose value lies in `values`, and their addresses
/// before them. They may be anything: fillings and variables that have not been written, too. So they
/// are read by instructions that the compiler knows nothing of.
///
/// # Safety
///
/// The range is readable, and no other thread writes there meanwhile.
pub unsafe fn for_each_word(
    range: Range<usize>,
    values: Range<usize>,
    visit: &mut dyn FnMut(usize, usize),
) {
    const SIZE: usize = size_of::<usize>();
    let mut address = range.start.next_multiple_of(SIZE);
    // A plain loop: it is for builds without optimisation.
    while address + SIZE <= range.end {
        // SAFETY: the caller's promise; a whole word.
        let word = unsafe { word_at(address) };
        if word >= values.start && word < values.end {
            visit(address, word);
        }
        address += SIZE;
    }
}

#[inline(always)]
unsafe fn word_at(address: usize) -> usize {
    let word;
    // SAFETY: the caller promises a word that can be read.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("mov {}, [{}]", out(reg) word, in(reg) address,
            options(nostack, readonly, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        asm!("ldr {}, [{}]", out(reg) word, in(reg) address,
            options(nostack, readonly, preserves_flags));
        #[cfg(target_arch = "riscv64")]
        asm!("ld {}, 0({})", out(reg) word, in(reg) address,
            options(nostack, readonly, preserves_flags));
    }
    word
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::{Frame, for_each_word, walk};

    /// The frames from `depth` calls deeper.
    #[inline(never)]
    fn below(depth: usize) -> Vec<Frame> {
        match black_box(depth) {
            0 => black_box(walk()),
            _ => black_box(below(depth - 1)),
        }
    }

    #[test]
    fn are_in_order() {
        let frames = below(10);
        assert!(frames.len() > 11, "{frames:x?}");
        let in_order = frames.is_sorted_by(|a, b| a.stack_pointer < b.stack_pointer);
        assert!(in_order, "{frames:x?}");
    }

    #[test]
    #[cfg_attr(bine_sanitize = "address", ignore = "the sanitizer keeps variables elsewhere")]
    fn hold_the_variables() {
        let marked = black_box([0x5eed_u64; 3]);
        let frames = below(3);
        let place = (&raw const marked).addr();
        let ours = frames
            .windows(2)
            .find(|pair| (pair[0].stack_pointer..pair[1].stack_pointer).contains(&place));
        let [inner, outer] = ours.expect("a variable is in a frame") else { unreachable!() };
        let mut found = Vec::new();
        let mut add = |address, word| found.push((address, word));
        let range = inner.stack_pointer..outer.stack_pointer;
        // SAFETY: this function's own frame, as the variable is in it.
        unsafe { for_each_word(range, 0x5eed..0x5eee, &mut add) };
        for address in [place, place + 8, place + 16] {
            assert!(found.contains(&(address, 0x5eed)), "{found:x?}");
        }
        black_box(&marked);
    }

    #[test]
    fn words_are_whole_and_aligned() {
        let memory = [1_usize, 2, 3, 4];
        let start = (&raw const memory).addr();
        let read = |from, to| {
            let mut found = Vec::new();
            // SAFETY: within the array.
            unsafe {
                for_each_word(start + from..start + to, 1..4, &mut |_, word| found.push(word))
            };
            found
        };
        assert_eq!(read(0, 32), [1, 2, 3]);
        assert_eq!(read(1, 23), [2]);
        assert_eq!(read(0, 7), [0; 0]);
        assert_eq!(read(5, 5), [0; 0]);
    }
}
