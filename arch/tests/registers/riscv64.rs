//! Registers of the psABI on riscv64, with the D extension.
//!
//! Each function names that extension again: link-time optimisation assembles naked functions
//! without the target's features.

use std::arch::naked_asm;

use super::{Switch, Values, switch_away};

pub(crate) const REGISTERS: usize = 24;
pub(crate) const NAMES: [&str; REGISTERS] = [
    "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "fs0", "fs1", "fs2",
    "fs3", "fs4", "fs5", "fs6", "fs7", "fs8", "fs9", "fs10", "fs11",
];

/// Bits of `control_words` that stand for rounding: up, and down.
pub(crate) const ROUNDING: [u64; 2] = [0b011 << 5, 0b010 << 5];

/// Calls `switch_away(switch)` with `values.loaded` in the call-saved registers, writes to
/// `values.found` what they hold afterwards, and returns what the call did.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn hold(values: *mut Values, switch: *const Switch) -> usize {
    naked_asm!(
        ".option push",
        ".option arch, +d",
        // What we owe our own caller.
        "addi sp, sp, -208",
        "sd ra, 0(sp)",
        "sd a0, 8(sp)",
        "sd s0, 16(sp)",
        "sd s1, 24(sp)",
        "sd s2, 32(sp)",
        "sd s3, 40(sp)",
        "sd s4, 48(sp)",
        "sd s5, 56(sp)",
        "sd s6, 64(sp)",
        "sd s7, 72(sp)",
        "sd s8, 80(sp)",
        "sd s9, 88(sp)",
        "sd s10, 96(sp)",
        "sd s11, 104(sp)",
        "fsd fs0, 112(sp)",
        "fsd fs1, 120(sp)",
        "fsd fs2, 128(sp)",
        "fsd fs3, 136(sp)",
        "fsd fs4, 144(sp)",
        "fsd fs5, 152(sp)",
        "fsd fs6, 160(sp)",
        "fsd fs7, 168(sp)",
        "fsd fs8, 176(sp)",
        "fsd fs9, 184(sp)",
        "fsd fs10, 192(sp)",
        "fsd fs11, 200(sp)",
        "ld s0, 0(a0)",
        "ld s1, 8(a0)",
        "ld s2, 16(a0)",
        "ld s3, 24(a0)",
        "ld s4, 32(a0)",
        "ld s5, 40(a0)",
        "ld s6, 48(a0)",
        "ld s7, 56(a0)",
        "ld s8, 64(a0)",
        "ld s9, 72(a0)",
        "ld s10, 80(a0)",
        "ld s11, 88(a0)",
        "fld fs0, 96(a0)",
        "fld fs1, 104(a0)",
        "fld fs2, 112(a0)",
        "fld fs3, 120(a0)",
        "fld fs4, 128(a0)",
        "fld fs5, 136(a0)",
        "fld fs6, 144(a0)",
        "fld fs7, 152(a0)",
        "fld fs8, 160(a0)",
        "fld fs9, 168(a0)",
        "fld fs10, 176(a0)",
        "fld fs11, 184(a0)",
        "mv a0, a1",
        "call {switch_away}",
        "ld t0, 8(sp)",
        "sd s0, 192(t0)",
        "sd s1, 200(t0)",
        "sd s2, 208(t0)",
        "sd s3, 216(t0)",
        "sd s4, 224(t0)",
        "sd s5, 232(t0)",
        "sd s6, 240(t0)",
        "sd s7, 248(t0)",
        "sd s8, 256(t0)",
        "sd s9, 264(t0)",
        "sd s10, 272(t0)",
        "sd s11, 280(t0)",
        "fsd fs0, 288(t0)",
        "fsd fs1, 296(t0)",
        "fsd fs2, 304(t0)",
        "fsd fs3, 312(t0)",
        "fsd fs4, 320(t0)",
        "fsd fs5, 328(t0)",
        "fsd fs6, 336(t0)",
        "fsd fs7, 344(t0)",
        "fsd fs8, 352(t0)",
        "fsd fs9, 360(t0)",
        "fsd fs10, 368(t0)",
        "fsd fs11, 376(t0)",
        "ld ra, 0(sp)",
        "ld s0, 16(sp)",
        "ld s1, 24(sp)",
        "ld s2, 32(sp)",
        "ld s3, 40(sp)",
        "ld s4, 48(sp)",
        "ld s5, 56(sp)",
        "ld s6, 64(sp)",
        "ld s7, 72(sp)",
        "ld s8, 80(sp)",
        "ld s9, 88(sp)",
        "ld s10, 96(sp)",
        "ld s11, 104(sp)",
        "fld fs0, 112(sp)",
        "fld fs1, 120(sp)",
        "fld fs2, 128(sp)",
        "fld fs3, 136(sp)",
        "fld fs4, 144(sp)",
        "fld fs5, 152(sp)",
        "fld fs6, 160(sp)",
        "fld fs7, 168(sp)",
        "fld fs8, 176(sp)",
        "fld fs9, 184(sp)",
        "fld fs10, 192(sp)",
        "fld fs11, 200(sp)",
        "addi sp, sp, 208",
        "ret",
        ".option pop",
        switch_away = sym switch_away,
    )
}

/// Expands `live_values!` with a variable for each register that may be named, but for those of the
/// arguments of the switch.
macro_rules! for_each_register {
    ($expand:ident, $($context:ident),+) => {
        $expand! {
            $($context),+;
            i0 in "ra" i1 in "t0" i2 in "t1" i3 in "t2" i4 in "t3" i5 in "t4"
            i6 in "t5" i7 in "t6" i8 in "a3" i9 in "a4" i10 in "a5" i11 in "a6"
            i12 in "a7" i13 in "s2" i14 in "s3" i15 in "s4" i16 in "s5" i17 in "s6"
            i18 in "s7" i19 in "s8" i20 in "s9" i21 in "s10" i22 in "s11";
            w0 in "ft0" w1 in "ft1" w2 in "ft2" w3 in "ft3" w4 in "ft4" w5 in "ft5"
            w6 in "ft6" w7 in "ft7" w8 in "ft8" w9 in "ft9" w10 in "ft10"
            w11 in "ft11" w12 in "fa0" w13 in "fa1" w14 in "fa2" w15 in "fa3"
            w16 in "fa4" w17 in "fa5" w18 in "fa6" w19 in "fa7" w20 in "fs0"
            w21 in "fs1" w22 in "fs2" w23 in "fs3" w24 in "fs4" w25 in "fs5"
            w26 in "fs6" w27 in "fs7" w28 in "fs8" w29 in "fs9" w30 in "fs10"
            w31 in "fs11"
        }
    };
}
pub(crate) use for_each_register;

/// What a floating-point register holds.
pub(crate) type Wide = f64;

pub(crate) fn wide([low, high]: [u64; 2]) -> Wide {
    f64::from_bits(low ^ high)
}

pub(crate) fn bits(wide: Wide) -> u64 {
    wide.to_bits()
}

pub(crate) fn xor(wide: Wide, word: u64) -> Wide {
    f64::from_bits(wide.to_bits() ^ word)
}

/// fcsr without its exception flags.
pub(crate) fn control_words() -> u64 {
    // SAFETY: reads a register.
    unsafe { read() }
}

#[unsafe(naked)]
unsafe extern "C" fn read() -> u64 {
    naked_asm!(
        ".option push",
        ".option arch, +d",
        "frcsr a0",
        "andi a0, a0, 0xe0",
        "ret",
        ".option pop"
    )
}

/// Sets what `control_words` reads.
///
/// # Safety
///
/// Nothing is computed in floating point before the old words are back.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn set_control_words(words: u64) {
    naked_asm!(".option push", ".option arch, +d", "fscsr a0", "ret", ".option pop")
}
