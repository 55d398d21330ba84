//! Random numbers that can be had again: SplitMix64.
//!
//! `BINE_TEST_SEED`, a number, is added to all seeds: for other numbers than those of each run of the tests.

use std::sync::LazyLock;

static MORE: LazyLock<u64> = LazyLock::new(|| {
    std::env::var("BINE_TEST_SEED")
        .map_or(0, |seed| seed.parse().expect("BINE_TEST_SEED is a number"))
});

/// A source of numbers that depends on its seed alone.
pub(crate) struct Random(u64);

impl Random {
    /// The source for `seed`, and for thread number `stream` of a test.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let stream = stream.wrapping_mul(0xd1b5_4a32_d192_ed03);
        Self(seed.wrapping_add(*MORE).wrapping_add(stream))
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
