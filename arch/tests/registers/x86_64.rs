//! Registers of the System V ABI on x86_64. None of the vector registers is call-saved.

use std::arch::naked_asm;
use std::arch::x86_64::{__m128i, _mm_set1_epi64x, _mm_xor_si128};

use super::{Switch, Values, switch_away};

pub(crate) const REGISTERS: usize = 6;
pub(crate) const NAMES: [&str; REGISTERS] = ["rbx", "rbp", "r12", "r13", "r14", "r15"];

/// Bits of `control_words` that stand for rounding, in both units: up, and down.
pub(crate) const ROUNDING: [u64; 2] = [0b10 << 13 | 0b10 << 42, 0b01 << 13 | 0b01 << 42];

/// Calls `switch_away(switch)` with `values.loaded` in the call-saved registers, writes to
/// `values.found` what they hold afterwards, and returns what the call did.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn hold(values: *mut Values, switch: *const Switch) -> usize {
    naked_asm!(
        // What we owe our own caller. The seventh word aligns the stack.
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdi",
        "mov rbx, [rdi]",
        "mov rbp, [rdi + 8]",
        "mov r12, [rdi + 16]",
        "mov r13, [rdi + 24]",
        "mov r14, [rdi + 32]",
        "mov r15, [rdi + 40]",
        "mov rdi, rsi",
        "call {switch_away}",
        "pop rcx",
        "mov [rcx + 48], rbx",
        "mov [rcx + 56], rbp",
        "mov [rcx + 64], r12",
        "mov [rcx + 72], r13",
        "mov [rcx + 80], r14",
        "mov [rcx + 88], r15",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        switch_away = sym switch_away,
    )
}

/// Expands `live_values!` with a variable for each register that may be named, but for those of the
/// arguments of the switch.
macro_rules! for_each_register {
    ($expand:ident, $($context:ident),+) => {
        $expand! {
            $($context),+;
            i0 in "rax" i1 in "rcx" i2 in "r8" i3 in "r9" i4 in "r10" i5 in "r11"
            i6 in "r12" i7 in "r13" i8 in "r14" i9 in "r15";
            w0 in "xmm0" w1 in "xmm1" w2 in "xmm2" w3 in "xmm3" w4 in "xmm4"
            w5 in "xmm5" w6 in "xmm6" w7 in "xmm7" w8 in "xmm8" w9 in "xmm9"
            w10 in "xmm10" w11 in "xmm11" w12 in "xmm12" w13 in "xmm13"
            w14 in "xmm14" w15 in "xmm15"
        }
    };
}
pub(crate) use for_each_register;

/// What a vector register holds.
pub(crate) type Wide = __m128i;

pub(crate) fn wide(bits: [u64; 2]) -> Wide {
    // SAFETY: the same bits; all are valid.
    unsafe { std::mem::transmute(bits) }
}

pub(crate) fn bits(wide: Wide) -> [u64; 2] {
    // SAFETY: as above.
    unsafe { std::mem::transmute(wide) }
}

pub(crate) fn xor(wide: Wide, word: u64) -> Wide {
    // SAFETY: SSE2 is a part of x86_64.
    unsafe { _mm_xor_si128(wide, _mm_set1_epi64x(word as i64)) }
}

/// MXCSR without its exception flags, and above it the control word of the x87 unit.
pub(crate) fn control_words() -> u64 {
    // SAFETY: reads two registers.
    unsafe { read() }
}

#[unsafe(naked)]
unsafe extern "C" fn read() -> u64 {
    naked_asm!(
        "stmxcsr [rsp - 8]",
        "mov eax, [rsp - 8]",
        "and eax, 0xffc0",
        "fnstcw [rsp - 8]",
        "movzx ecx, word ptr [rsp - 8]",
        "shl rcx, 32",
        "or rax, rcx",
        "ret",
    )
}

/// Sets what `control_words` reads.
///
/// # Safety
///
/// Nothing is computed in floating point before the old words are back.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn set_control_words(words: u64) {
    naked_asm!("mov [rsp - 8], rdi", "ldmxcsr [rsp - 8]", "fldcw [rsp - 4]", "ret",)
}
