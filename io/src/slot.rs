//! Where the readiness slots live: a slab that is never given back, so that an event may refer to
//! a slot by number at any time, however late.

use std::panic::RefUnwindSafe;
use std::sync::OnceLock;

use bine_runtime::primitive::Mutex;
use bine_runtime::wait::Unparker;

use crate::readiness::{Direction, Readiness, Wake};

impl Wake for Unparker {
    fn wake(self) {
        self.unpark();
    }
}

/// One descriptor's slot. On a pair of cache lines of its own, since neighbours in the slab belong
/// to unrelated descriptors.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Slot {
    pub(crate) readiness: Readiness<Unparker>,
}

// A panic leaves no slot half-changed: its word is one atomic, and no foreign code runs under its
// lock. With this the sockets are as unwind-safe as std's.
impl RefUnwindSafe for Slot {}

/// What an event carries: which slot, and for which of its registrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Token {
    pub(crate) const fn pack(self) -> u64 {
        self.index as u64 | (self.generation as u64) << 32
    }

    pub(crate) const fn unpack(data: u64) -> Self {
        Self { index: data as u32, generation: (data >> 32) as u32 }
    }
}

/// Slots in the first chunk; each further chunk has twice as many.
const FIRST_CHUNK: u32 = 64;
/// 2^31 slots, more than a process can have descriptors (`fs.nr_open` is at most 2^30 or so).
const CHUNKS: usize = 25;

/// All slots of the process.
#[derive(Debug)]
pub(crate) struct Slab {
    chunks: [OnceLock<Box<[Slot]>>; CHUNKS],
    free: Mutex<Free>,
}

#[derive(Debug)]
struct Free {
    /// Closed slots. The last one freed is the first used: its cache lines are warm.
    indices: Vec<u32>,
    /// Slots that were never used begin here.
    unused: u32,
}

impl Slab {
    pub(crate) const fn new() -> Self {
        Self {
            chunks: [const { OnceLock::new() }; CHUNKS],
            free: Mutex::new(Free { indices: Vec::new(), unused: 0 }),
        }
    }

    /// The chunk of a slot and its place there. Chunk `k` begins at `FIRST_CHUNK * (2^k - 1)`.
    fn locate(index: u32) -> (usize, usize) {
        let shifted = index / FIRST_CHUNK + 1;
        let chunk = shifted.ilog2();
        let begin = FIRST_CHUNK * ((1 << chunk) - 1);
        (chunk as usize, (index - begin) as usize)
    }

    /// The slot of that number, if it was ever used.
    pub(crate) fn get(&self, index: u32) -> Option<&Slot> {
        let (chunk, place) = Self::locate(index);
        self.chunks.get(chunk)?.get()?.get(place)
    }

    /// Opens a slot; see [`Readiness::open`].
    pub(crate) fn open(&self, exhausted: Direction) -> (&Slot, Token) {
        let index = {
            let mut free = self.free.lock();
            free.indices.pop().unwrap_or_else(|| {
                let index = free.unused;
                free.unused += 1;
                index
            })
        };
        let (chunk, place) = Self::locate(index);
        let slots = self.chunks[chunk].get_or_init(|| {
            (0..FIRST_CHUNK << chunk).map(|_| Slot { readiness: Readiness::new() }).collect()
        });
        let slot = &slots[place];
        let generation = slot.readiness.open(exhausted);
        (slot, Token { index, generation })
    }

    /// How many slots are open.
    pub(crate) fn count_open(&self) -> usize {
        let free = self.free.lock();
        free.unused as usize - free.indices.len()
    }

    /// Closes the slot of `token`, wakes its waiters, and frees it. To be called once for each
    /// slot opened.
    pub(crate) fn close(&self, token: Token) {
        let slot = self.get(token.index).expect("a token's slot exists");
        slot.readiness.close(token.generation);
        self.free.lock().indices.push(token.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readiness::{Applied, Ready};

    #[test]
    fn every_index_has_a_place_of_its_own() {
        let mut expected = (0, 0);
        for index in 0..FIRST_CHUNK * 31 {
            assert_eq!(Slab::locate(index), expected);
            expected.1 += 1;
            if expected.1 == (FIRST_CHUNK << expected.0) as usize {
                expected = (expected.0 + 1, 0);
            }
        }
        assert_eq!(Slab::locate(FIRST_CHUNK * ((1 << 25) - 1) - 1).0, CHUNKS - 1);
    }

    #[test]
    fn a_token_survives_packing() {
        let token = Token { index: u32::MAX - 1, generation: 7 };
        assert_eq!(Token::unpack(token.pack()), token);
    }

    #[test]
    fn slots_keep_their_address_and_are_used_again_with_a_new_generation() {
        let slab = Slab::new();
        let (first, token) = slab.open(Direction::Read);
        let others: Vec<_> = (0..300).map(|_| slab.open(Direction::Write).1).collect();
        assert!(std::ptr::eq(first, slab.get(token.index).unwrap()));
        slab.close(token);
        let (again, next) = slab.open(Direction::Read);
        assert!(std::ptr::eq(first, again));
        assert_eq!((next.index, next.generation), (token.index, token.generation + 1));
        let stale = again.readiness.event(token.generation, Ready::READABLE, |_| unreachable!());
        assert_eq!(stale, Applied::Stale);
        assert!(!again.readiness.load().is_ready(Direction::Read));
        others.into_iter().for_each(|token| slab.close(token));
    }
}
