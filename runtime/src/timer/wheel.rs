//! A hierarchical timing wheel: setting and cancelling take constant time.
//!
//! Six levels of 256 slots. A slot of level `n` spans `256^n` ticks of 65.5 us, so the six levels
//! cover all of a `u64` of nanoseconds. An entry sits at the level of the highest group of eight
//! bits in which its deadline differs from the wheel's current tick, and moves down a level when
//! the wheel reaches its slot. A bit for each slot says whether it is occupied, so the next
//! deadline is found without walking empty slots. (G. Varghese and T. Lauck, *Hashed and
//! Hierarchical Timing Wheels*, 1987, scheme 7.)
//!
//! Deadlines are rounded up to a whole tick: an entry never fires early, and 33 us late on average.
//!
//! # Where the entries are
//!
//! In one array of the wheel's, linked by their indices, with a free list; it grows as a `Vec` does,
//! and shrinks when the wheel is empty. Links on the stacks of those who wait would need no memory of
//! their own, but each step of a walk, and the removal of a neighbour, is then a miss in the caches
//! and in the TLB: a million sleepers are a million pages. Measured with a million sleeps of 1 to 3
//! seconds, walking them was 1.3 us of processor time a sleep.
//!
//! Slots are many and levels few since an entry is touched once for each level that it comes down:
//! sleeps of up to four seconds move once.

/// Nanoseconds in a tick: 2^16.
const TICK_BITS: u32 = 16;
const SLOT_BITS: u32 = 8;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 6;
/// Words that say which slots of a level are occupied.
const WORDS: usize = SLOTS / 64;

/// The end of a list.
const NONE: u32 = u32::MAX;
/// In place of the one before it, the first entry of a slot has this bit and the slot.
const FIRST: u32 = 1 << 31;

/// So many entries an empty wheel keeps the memory for.
const KEPT: usize = 1024;

/// Names an entry from its insertion until it is removed or was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(u32);

#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    item: T,
    tick: u64,
    /// Of the slot, or of the free list.
    next: u32,
    /// The one before, or [`FIRST`] and `level * SLOTS + slot`.
    before: u32,
}

/// The wheel; see the module's documentation.
#[derive(Debug)]
pub(super) struct Wheel<T> {
    /// Every tick up to and including this one has been handled.
    now: u64,
    occupied: [[u64; WORDS]; LEVELS],
    /// The first entry of each slot.
    slots: Box<[u32]>,
    entries: Vec<Entry<T>>,
    free: u32,
    len: usize,
}

impl<T: Copy> Wheel<T> {
    /// An empty wheel that starts at `now` nanoseconds.
    pub(super) fn new(now: u64) -> Self {
        Self {
            now: now >> TICK_BITS,
            occupied: [[0; WORDS]; LEVELS],
            slots: vec![NONE; LEVELS * SLOTS].into_boxed_slice(),
            entries: Vec::new(),
            free: NONE,
            len: 0,
        }
    }

    /// How many entries wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds an entry that becomes due at `deadline` nanoseconds. None, and nothing is added, if
    /// that is not after the wheel's current tick.
    pub(super) fn insert(&mut self, item: T, deadline: u64) -> Option<Key> {
        let tick = tick_of(deadline);
        if tick <= self.now {
            return None;
        }
        let entry = Entry { item, tick, next: NONE, before: NONE };
        let index = self.free;
        let key = match self.entries.get_mut(index as usize) {
            Some(place) => {
                self.free = place.next;
                *place = entry;
                index
            }
            None => self.grow(entry),
        };
        self.link(key);
        self.len += 1;
        Some(Key(key))
    }

    fn grow(&mut self, entry: Entry<T>) -> u32 {
        let index = self.entries.len();
        assert!(index < FIRST as usize, "more timers than a worker can have");
        self.entries.push(entry);
        index as u32
    }

    /// Takes an entry out before it is due.
    pub(super) fn remove(&mut self, Key(index): Key) {
        let Entry { next, before, .. } = self.entries[index as usize];
        if next != NONE {
            self.entries[next as usize].before = before;
        }
        if before & FIRST == 0 {
            self.entries[before as usize].next = next;
        } else {
            let slot = (before ^ FIRST) as usize;
            self.slots[slot] = next;
            if next == NONE {
                self.vacate(slot);
            }
        }
        self.release(index);
        self.tidy();
    }

    /// Takes out what is due at `now` nanoseconds, up to `most` entries. True if there may be more.
    pub(super) fn take_due(&mut self, now: u64, most: usize, mut take: impl FnMut(T)) -> bool {
        let target = now >> TICK_BITS;
        let mut left = most;
        loop {
            let Some((level, slot, tick)) = self.next_slot().filter(|next| next.2 <= target) else {
                // No slot begins before `target`, so no entry changes its level by this.
                self.now = self.now.max(target);
                self.tidy();
                return false;
            };
            if level > 0 {
                self.now = tick;
                self.cascade(level, slot);
                continue;
            }
            let mut index = self.slots[slot];
            while index != NONE && left > 0 {
                let Entry { item, next, .. } = self.entries[index as usize];
                take(item);
                self.release(index);
                left -= 1;
                index = next;
            }
            self.slots[slot] = index;
            if index != NONE {
                self.entries[index as usize].before = FIRST | slot as u32;
                return true;
            }
            self.vacate(slot);
            self.now = tick;
        }
    }

    /// When the wheel must be looked at next, in nanoseconds: never after the earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.next_slot().map(|(.., tick)| tick << TICK_BITS)
    }

    /// The first occupied slot and the tick at which it begins.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        // All entries of a lower level are due before those of a higher one.
        let (level, word) = self.occupied.iter().enumerate().find_map(|(level, words)| {
            let word = words.iter().position(|&word| word != 0)?;
            Some((level, word))
        })?;
        let shift = SLOT_BITS * level as u32;
        let slot = word * 64 + self.occupied[level][word].trailing_zeros() as usize;
        // The entries of a level agree with `now` in all groups above it, and differ upwards in
        // its own, so the lowest occupied slot is the next.
        let above = match shift + SLOT_BITS {
            bits if bits >= u64::BITS => 0,
            bits => self.now >> bits << bits,
        };
        Some((level, slot, above | ((slot as u64) << shift)))
    }

    /// Moves the entries of a slot that begins at `self.now` to lower levels.
    fn cascade(&mut self, level: usize, slot: usize) {
        let slot = level * SLOTS + slot;
        let mut index = std::mem::replace(&mut self.slots[slot], NONE);
        self.vacate(slot);
        while index != NONE {
            let next = self.entries[index as usize].next;
            self.link(index);
            index = next;
        }
    }

    /// Puts an entry whose tick is set, and not before `self.now`, into its slot.
    fn link(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        let (level, slot) = place(self.now, entry.tick);
        self.occupied[level][slot / 64] |= 1 << (slot % 64);
        let slot = level * SLOTS + slot;
        let after = std::mem::replace(&mut self.slots[slot], index);
        entry.next = after;
        entry.before = FIRST | slot as u32;
        if after != NONE {
            self.entries[after as usize].before = index;
        }
    }

    /// Nothing is left in a slot.
    fn vacate(&mut self, slot: usize) {
        self.occupied[slot / SLOTS][slot % SLOTS / 64] &= !(1 << (slot % 64));
    }

    /// The place of an entry is free.
    fn release(&mut self, index: u32) {
        self.entries[index as usize].next = self.free;
        self.free = index;
        self.len -= 1;
    }

    /// An empty wheel starts anew, with neighbouring places for those who come one after the other,
    /// and keeps no memory for a peak.
    fn tidy(&mut self) {
        if self.len == 0 && self.entries.len() > 1 {
            self.entries.clear();
            self.free = NONE;
            self.entries.shrink_to(KEPT);
        }
    }
}

/// The first tick at or after `deadline`; the last one there is for deadlines in it.
fn tick_of(deadline: u64) -> u64 {
    let rounded_up = (deadline >> TICK_BITS) + u64::from(!deadline.is_multiple_of(1 << TICK_BITS));
    rounded_up.min(u64::MAX >> TICK_BITS)
}

/// `deadline` rounded up to a whole tick, in nanoseconds.
pub(super) fn round_up(deadline: u64) -> u64 {
    tick_of(deadline) << TICK_BITS
}

/// Level and slot of an entry due at `tick` in a wheel at `now`.
fn place(now: u64, tick: u64) -> (usize, usize) {
    let differing = (now ^ tick) | (SLOTS as u64 - 1);
    let level = ((u64::BITS - 1 - differing.leading_zeros()) / SLOT_BITS) as usize;
    let slot = (tick >> (SLOT_BITS * level as u32)) as usize % SLOTS;
    (level, slot)
}

#[cfg(all(test, not(bine_loom)))]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    fn due(wheel: &mut Wheel<u64>, now: u64) -> Vec<u64> {
        let mut due = Vec::new();
        assert!(!wheel.take_due(now, usize::MAX, |item| due.push(item)));
        due
    }

    #[test]
    fn an_entry_that_is_due_already_is_refused() {
        let mut wheel = Wheel::new(1 << 20);
        assert_eq!(wheel.insert((), 1 << 20), None);
        assert_eq!(wheel.len(), 0);
    }

    #[test]
    fn the_furthest_deadline_waits() {
        let mut wheel = Wheel::new(0);
        let key = wheel.insert(u64::MAX, u64::MAX).unwrap();
        assert!(due(&mut wheel, u64::MAX >> 1).is_empty());
        wheel.remove(key);
        assert!(wheel.next_deadline().is_none());
    }

    #[test]
    fn what_is_due_is_taken_in_portions() {
        let mut wheel = Wheel::new(0);
        let keys: Vec<_> = (0..10).map(|n| wheel.insert(n, 1 << 20).unwrap()).collect();
        let mut taken = Vec::new();
        assert!(wheel.take_due(1 << 20, 4, |n| taken.push(n)));
        assert_eq!((taken.len(), wheel.len()), (4, 6));
        // The new first one of its slot.
        let left = (0..10).rev().find(|n| !taken.contains(n)).unwrap();
        wheel.remove(keys[left as usize]);
        taken.push(left);
        assert!(!wheel.take_due(1 << 20, 5, |n| taken.push(n)));
        taken.sort_unstable();
        assert_eq!(taken, (0..10).collect::<Vec<_>>());
        assert!(wheel.next_deadline().is_none());
    }

    #[test]
    fn a_peak_leaves_little_memory() {
        let mut wheel = Wheel::new(0);
        for n in 0..10_000 {
            wheel.insert(n, (n + 1) << 20).unwrap();
        }
        assert_eq!(due(&mut wheel, u64::MAX >> 1).len(), 10_000);
        assert!(wheel.entries.capacity() <= KEPT);
        let key = wheel.insert(0, u64::MAX).unwrap();
        wheel.remove(key);
        assert_eq!(wheel.len(), 0);
    }

    /// Against a list, with random spans, removals and steps.
    #[test]
    fn fires_like_a_list() {
        for seed in 1..=40u64 {
            println!("seed {seed}");
            let mut rng = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut now = random(&mut rng) >> 30;
            let mut wheel = Wheel::new(now);
            let mut waiting: HashMap<u64, (Key, u64)> = HashMap::new();
            for id in 0..2_000 {
                match random(&mut rng) % 4 {
                    0 | 1 => {
                        let span = random(&mut rng) >> (10 + random(&mut rng) % 50);
                        let deadline = now.saturating_add(span);
                        match wheel.insert(id, deadline) {
                            Some(key) => drop(waiting.insert(id, (key, deadline))),
                            None => assert!(deadline >> TICK_BITS <= now >> TICK_BITS),
                        }
                    }
                    2 if !waiting.is_empty() => {
                        let at = random(&mut rng) as usize % waiting.len();
                        let id = *waiting.keys().nth(at).unwrap();
                        wheel.remove(waiting.remove(&id).unwrap().0);
                    }
                    _ => {
                        now = now.saturating_add(random(&mut rng) >> (14 + random(&mut rng) % 46));
                        for id in due(&mut wheel, now) {
                            let (_, deadline) = waiting.remove(&id).expect("fired once");
                            assert!(deadline <= now, "fired early");
                        }
                    }
                }
                assert_eq!(wheel.len(), waiting.len());
                for &(_, deadline) in waiting.values() {
                    assert!(tick_of(deadline) > now >> TICK_BITS, "should have fired");
                    assert!(wheel.next_deadline().unwrap() >> TICK_BITS <= tick_of(deadline));
                }
            }
        }
    }
}
