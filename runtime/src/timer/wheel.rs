//! A hierarchical timing wheel whose entries live with those who wait: setting and cancelling
//! allocate nothing and take constant time.
//!
//! Eight levels of 64 slots. A slot of level `n` spans `64^n` ticks of 65.5 us, so the eight levels
//! cover all of a `u64` of nanoseconds. An entry sits at the level of the highest group of six
//! bits in which its deadline differs from the wheel's current tick, and moves down a level when
//! the wheel reaches its slot. A word for each level says which slots are occupied, so the next
//! deadline is found without walking empty slots. (G. Varghese and T. Lauck, *Hashed and
//! Hierarchical Timing Wheels*, 1987, scheme 7.)
//!
//! Deadlines are rounded up to a whole tick: an entry never fires early, and 33 us late on average.

use std::ptr;

/// Nanoseconds in a tick: 2^16.
const TICK_BITS: u32 = 16;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 8;

/// An entry's fields for the wheel that holds it. They belong to that wheel (to whoever has its
/// lock) while `slot` is not [`NOWHERE`].
#[derive(Debug)]
pub(super) struct Links<E> {
    next: *mut E,
    /// Null for the first of a slot.
    prev: *mut E,
    tick: u64,
    /// `level * SLOTS + slot`.
    slot: u16,
}

const NOWHERE: u16 = u16::MAX;

impl<E> Default for Links<E> {
    fn default() -> Self {
        Self { next: ptr::null_mut(), prev: ptr::null_mut(), tick: 0, slot: NOWHERE }
    }
}

impl<E> Links<E> {
    /// Whether a wheel holds the entry.
    pub(super) fn is_linked(&self) -> bool {
        self.slot != NOWHERE
    }
}

/// A thing with a deadline.
///
/// # Safety
///
/// `links` returns a pointer to the same field of the entry at each call, valid while the entry is,
/// and nobody but the wheel that holds the entry writes through it.
pub(super) unsafe trait Entry: Sized {
    /// Where the wheel keeps its links.
    fn links(entry: *mut Self) -> *mut Links<Self>;
}

/// The wheel; see the module's documentation.
#[derive(Debug)]
pub(super) struct Wheel<E> {
    /// Every tick up to and including this one has been handled.
    now: u64,
    occupied: [u64; LEVELS],
    slots: Box<[*mut E]>,
    len: usize,
}

// SAFETY: the wheel owns no entry; its pointers are used by whoever has `&mut Wheel`, under the
// promises of `insert`.
unsafe impl<E: Send> Send for Wheel<E> {}

impl<E: Entry> Wheel<E> {
    /// An empty wheel that starts at `now` nanoseconds.
    pub(super) fn new(now: u64) -> Self {
        Self {
            now: now >> TICK_BITS,
            occupied: [0; LEVELS],
            slots: vec![ptr::null_mut(); LEVELS * SLOTS].into_boxed_slice(),
            len: 0,
        }
    }

    /// How many entries wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether no entry waits.
    #[cfg(all(test, not(bine_loom)))]
    fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an entry that becomes due at `deadline` nanoseconds. False, and nothing is added, if
    /// that is not after the wheel's current tick.
    ///
    /// # Safety
    ///
    /// The entry stays valid, and where it is, until it is removed or becomes due; it is in no
    /// wheel now.
    pub(super) unsafe fn insert(&mut self, entry: *mut E, deadline: u64) -> bool {
        let tick = tick_of(deadline);
        if tick <= self.now {
            return false;
        }
        // SAFETY: the caller's promise.
        unsafe {
            (*E::links(entry)).tick = tick;
            self.link(entry);
        }
        self.len += 1;
        true
    }

    /// Takes an entry out before it is due. False if this wheel does not hold it any more.
    ///
    /// # Safety
    ///
    /// The entry is valid and was inserted in no other wheel than this.
    pub(super) unsafe fn remove(&mut self, entry: *mut E) -> bool {
        // SAFETY: the entry is valid; its links are this wheel's, which is borrowed mutably.
        let links = unsafe { &mut *E::links(entry) };
        if !links.is_linked() {
            return false;
        }
        let slot = usize::from(links.slot);
        links.slot = NOWHERE;
        if links.prev.is_null() {
            self.slots[slot] = links.next;
            if links.next.is_null() {
                self.occupied[slot / SLOTS] &= !(1 << (slot % SLOTS));
            }
        } else {
            // SAFETY: a neighbour in the same slot is linked, hence valid.
            unsafe { (*E::links(links.prev)).next = links.next };
        }
        if !links.next.is_null() {
            // SAFETY: as above.
            unsafe { (*E::links(links.next)).prev = links.prev };
        }
        self.len -= 1;
        true
    }

    /// Takes out an entry that is due at `now` nanoseconds. To be called until it returns `None`.
    pub(super) fn pop_due(&mut self, now: u64) -> Option<*mut E> {
        let target = now >> TICK_BITS;
        loop {
            let Some((level, slot, tick)) = self.next_slot() else {
                self.now = self.now.max(target);
                return None;
            };
            if tick > target {
                // No slot begins before `tick`, so no entry changes its level by this.
                self.now = self.now.max(target);
                return None;
            }
            if level == 0 {
                let entry = self.slots[slot];
                // SAFETY: the entry is linked in this wheel, hence valid.
                unsafe { self.remove(entry) };
                if self.occupied[0] & (1 << slot) == 0 {
                    self.now = tick;
                }
                return Some(entry);
            }
            self.now = tick;
            self.cascade(level, slot);
        }
    }

    /// When the wheel must be looked at next, in nanoseconds: never after the earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.next_slot().map(|(.., tick)| tick << TICK_BITS)
    }

    /// The first occupied slot and the tick at which it begins.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        // All entries of a lower level are due before those of a higher one.
        let level = self.occupied.iter().position(|&occupied| occupied != 0)?;
        let shift = SLOT_BITS * level as u32;
        let slot = self.occupied[level].trailing_zeros() as usize;
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
        let mut entry = std::mem::replace(&mut self.slots[level * SLOTS + slot], ptr::null_mut());
        self.occupied[level] &= !(1 << slot);
        while !entry.is_null() {
            // SAFETY: the slot's entries are linked, hence valid; the next one is read before the
            // links are written.
            unsafe {
                let next = (*E::links(entry)).next;
                self.link(entry);
                entry = next;
            }
        }
    }

    /// # Safety
    ///
    /// As [`insert`](Self::insert), for an entry whose tick is set and not before `self.now`.
    unsafe fn link(&mut self, entry: *mut E) {
        // SAFETY: the caller's promise.
        let links = unsafe { &mut *E::links(entry) };
        let (level, slot) = place(self.now, links.tick);
        let head = &mut self.slots[level * SLOTS + slot];
        links.slot = (level * SLOTS + slot) as u16;
        links.prev = ptr::null_mut();
        links.next = *head;
        if !links.next.is_null() {
            // SAFETY: the slot's first entry is linked, hence valid.
            unsafe { (*E::links(links.next)).prev = entry };
        }
        *head = entry;
        self.occupied[level] |= 1 << slot;
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
    use super::*;

    struct Alarm {
        links: Links<Alarm>,
        deadline: u64,
    }

    // SAFETY: one field, reached without a reference to the whole.
    unsafe impl Entry for Alarm {
        fn links(entry: *mut Self) -> *mut Links<Self> {
            // SAFETY: callers pass valid entries.
            unsafe { &raw mut (*entry).links }
        }
    }

    fn alarm(deadline: u64) -> *mut Alarm {
        Box::into_raw(Box::new(Alarm { links: Links::default(), deadline }))
    }

    fn free(entry: *mut Alarm) -> u64 {
        // SAFETY: made by `alarm`, out of the wheel, freed once.
        unsafe { Box::from_raw(entry) }.deadline
    }

    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn an_entry_that_is_due_already_is_refused() {
        let mut wheel = Wheel::new(1 << 20);
        let entry = alarm(1 << 20);
        // SAFETY: `entry` lives until the end of the test.
        assert!(!unsafe { wheel.insert(entry, 1 << 20) });
        assert!(wheel.is_empty());
        free(entry);
    }

    #[test]
    fn the_furthest_deadline_waits() {
        let mut wheel = Wheel::new(0);
        let entry = alarm(u64::MAX);
        // SAFETY: `entry` is freed after its removal.
        assert!(unsafe { wheel.insert(entry, u64::MAX) });
        assert!(wheel.pop_due(u64::MAX >> 1).is_none());
        // SAFETY: inserted above.
        assert!(unsafe { wheel.remove(entry) });
        assert!(wheel.next_deadline().is_none());
        free(entry);
    }

    /// Against a sorted list, with random spans, removals and steps.
    #[test]
    fn fires_like_a_sorted_list() {
        for seed in 1..=40u64 {
            println!("seed {seed}");
            let mut rng = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut now = random(&mut rng) >> 30;
            let mut wheel = Wheel::new(now);
            let mut waiting: Vec<*mut Alarm> = Vec::new();
            for _ in 0..2_000 {
                match random(&mut rng) % 4 {
                    0 | 1 => {
                        let span = random(&mut rng) >> (10 + random(&mut rng) % 50);
                        let entry = alarm(now.saturating_add(span));
                        // SAFETY: freed once it is out of the wheel.
                        if unsafe { wheel.insert(entry, (*entry).deadline) } {
                            waiting.push(entry);
                        } else {
                            assert!(free(entry) >> TICK_BITS <= now >> TICK_BITS);
                        }
                    }
                    2 if !waiting.is_empty() => {
                        let at = random(&mut rng) as usize % waiting.len();
                        let entry = waiting.swap_remove(at);
                        // SAFETY: it is in the wheel.
                        assert!(unsafe { wheel.remove(entry) });
                        free(entry);
                    }
                    _ => {
                        now = now.saturating_add(random(&mut rng) >> (14 + random(&mut rng) % 46));
                        while let Some(entry) = wheel.pop_due(now) {
                            waiting.retain(|&other| other != entry);
                            assert!(free(entry) <= now, "fired early");
                        }
                    }
                }
                assert_eq!(wheel.len(), waiting.len());
                for &entry in &waiting {
                    // SAFETY: still in the wheel.
                    let deadline = unsafe { (*entry).deadline };
                    assert!(tick_of(deadline) > now >> TICK_BITS, "should have fired");
                    assert!(wheel.next_deadline().unwrap() >> TICK_BITS <= tick_of(deadline));
                }
            }
            for entry in waiting {
                free(entry);
            }
        }
    }
}
