//! Random numbers that repeat, and how long and with which seed a test draws them.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64 (Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators*, 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    #[allow(dead_code, reason = "not every test binary draws from a range")]
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[allow(dead_code, reason = "not every test binary has walks")]
pub(crate) fn seed() -> u64 {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = env::var("BINE_TORTURE_SEED").map_or_else(|_| clock(), |text| text.parse().unwrap());
    println!("BINE_TORTURE_SEED={seed}");
    seed
}

#[allow(dead_code, reason = "not every test binary has walks")]
pub(crate) fn rounds(default: u64) -> u64 {
    env::var("BINE_TORTURE_ROUNDS").map_or(default, |text| text.parse().unwrap())
}
