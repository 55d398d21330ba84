//! Registers of AAPCS64. Of the vector registers v8 to v15 the lower halves are call-saved.

use std::arch::aarch64::{uint64x2_t, vdupq_n_u64, veorq_u64};
use std::arch::naked_asm;

use super::{Switch, Values, switch_away};

pub(crate) const REGISTERS: usize = 19;
pub(crate) const NAMES: [&str; REGISTERS] = [
    "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "d8", "d9", "d10",
    "d11", "d12", "d13", "d14", "d15",
];

/// Bits of `control_words` that stand for rounding: up, and down.
pub(crate) const ROUNDING: [u64; 2] = [0b01 << 22, 0b10 << 22];

/// Calls `switch_away(switch)` with `values.loaded` in the call-saved registers, writes to
/// `values.found` what they hold afterwards, and returns what the call did.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn hold(values: *mut Values, switch: *const Switch) -> usize {
    naked_asm!(
        // What we owe our own caller.
        "stp x29, x30, [sp, #-176]!",
        "stp x19, x20, [sp, #16]",
        "stp x21, x22, [sp, #32]",
        "stp x23, x24, [sp, #48]",
        "stp x25, x26, [sp, #64]",
        "stp x27, x28, [sp, #80]",
        "stp d8, d9, [sp, #96]",
        "stp d10, d11, [sp, #112]",
        "stp d12, d13, [sp, #128]",
        "stp d14, d15, [sp, #144]",
        "str x0, [sp, #160]",
        "ldp x19, x20, [x0]",
        "ldp x21, x22, [x0, #16]",
        "ldp x23, x24, [x0, #32]",
        "ldp x25, x26, [x0, #48]",
        "ldp x27, x28, [x0, #64]",
        "ldr x29, [x0, #80]",
        "ldp d8, d9, [x0, #88]",
        "ldp d10, d11, [x0, #104]",
        "ldp d12, d13, [x0, #120]",
        "ldp d14, d15, [x0, #136]",
        "mov x0, x1",
        "bl {switch_away}",
        "ldr x9, [sp, #160]",
        "add x9, x9, #152",
        "stp x19, x20, [x9]",
        "stp x21, x22, [x9, #16]",
        "stp x23, x24, [x9, #32]",
        "stp x25, x26, [x9, #48]",
        "stp x27, x28, [x9, #64]",
        "str x29, [x9, #80]",
        "stp d8, d9, [x9, #88]",
        "stp d10, d11, [x9, #104]",
        "stp d12, d13, [x9, #120]",
        "stp d14, d15, [x9, #136]",
        "ldp x19, x20, [sp, #16]",
        "ldp x21, x22, [sp, #32]",
        "ldp x23, x24, [sp, #48]",
        "ldp x25, x26, [sp, #64]",
        "ldp x27, x28, [sp, #80]",
        "ldp d8, d9, [sp, #96]",
        "ldp d10, d11, [sp, #112]",
        "ldp d12, d13, [sp, #128]",
        "ldp d14, d15, [sp, #144]",
        "ldp x29, x30, [sp], #176",
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
            i0 in "x3" i1 in "x4" i2 in "x5" i3 in "x6" i4 in "x7" i5 in "x8"
            i6 in "x9" i7 in "x10" i8 in "x11" i9 in "x12" i10 in "x13" i11 in "x14"
            i12 in "x15" i13 in "x16" i14 in "x17" i15 in "x20" i16 in "x21"
            i17 in "x22" i18 in "x23" i19 in "x24" i20 in "x25" i21 in "x26"
            i22 in "x27" i23 in "x28" i24 in "x30";
            w0 in "v0" w1 in "v1" w2 in "v2" w3 in "v3" w4 in "v4" w5 in "v5"
            w6 in "v6" w7 in "v7" w8 in "v8" w9 in "v9" w10 in "v10" w11 in "v11"
            w12 in "v12" w13 in "v13" w14 in "v14" w15 in "v15" w16 in "v16"
            w17 in "v17" w18 in "v18" w19 in "v19" w20 in "v20" w21 in "v21"
            w22 in "v22" w23 in "v23" w24 in "v24" w25 in "v25" w26 in "v26"
            w27 in "v27" w28 in "v28" w29 in "v29" w30 in "v30" w31 in "v31"
        }
    };
}
pub(crate) use for_each_register;

/// What a vector register holds.
pub(crate) type Wide = uint64x2_t;

pub(crate) fn wide(bits: [u64; 2]) -> Wide {
    // SAFETY: the same bits; all are valid.
    unsafe { std::mem::transmute(bits) }
}

pub(crate) fn bits(wide: Wide) -> [u64; 2] {
    // SAFETY: as above.
    unsafe { std::mem::transmute(wide) }
}

pub(crate) fn xor(wide: Wide, word: u64) -> Wide {
    // SAFETY: these registers are a part of the target.
    unsafe { veorq_u64(wide, vdupq_n_u64(word)) }
}

/// FPCR.
pub(crate) fn control_words() -> u64 {
    // SAFETY: reads a register.
    unsafe { read() }
}

#[unsafe(naked)]
unsafe extern "C" fn read() -> u64 {
    naked_asm!("mrs x0, fpcr", "ret")
}

/// Sets what `control_words` reads.
///
/// # Safety
///
/// Nothing is computed in floating point before the old words are back.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn set_control_words(words: u64) {
    naked_asm!("msr fpcr, x0", "ret")
}
