//! The depots: the free slots of each size class, and the account of what is promised.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Stats;
use super::class::{self, SizeClass};
use super::guard::GuardMechanism;
use super::slab::{FreshSlots, Slot};

/// The size of the first slab of a class. Each slab is twice the one before, up to [`LAST_SLAB`].
const FIRST_SLAB: usize = 64 << 20;
/// The size of the largest slabs (of those that hold more than one slot).
const LAST_SLAB: usize = 4 << 30;

/// The free slots of a class. The account is on a cache line of its own: spawning touches it from
/// any thread.
#[repr(align(128))]
pub(super) struct Depot {
    /// Permits, credits of caches and room of magazines, together.
    ///
    /// # Invariant
    ///
    /// At most `capacity`.
    promised: AtomicUsize,
    /// Slots that can be lent, or are: with guards by `madvise` all that are mapped, with guards by
    /// `mprotect` all that are guarded. Written under the lock of `slots`; never falls.
    capacity: AtomicUsize,
    class: SizeClass,
    slots: Mutex<Slots>,
}

/// What a depot has.
///
/// # Invariant
///
/// Each mapped slot is at one place only: in `fresh` or in `recycled`, or lent.
struct Slots {
    /// Never lent yet, and not guarded. The front is carved first.
    fresh: VecDeque<FreshSlots>,
    /// Guarded and free. The last is the hottest.
    recycled: Vec<Slot>,
    mapped: usize,
    guarded: usize,
    slabs: usize,
    mapped_bytes: usize,
}

static DEPOTS: [Depot; class::COUNT] = {
    let mut index = 0;
    let mut depots = [const { Depot::new(SizeClass::at(0)) }; class::COUNT];
    while index < class::COUNT {
        depots[index].class = SizeClass::at(index);
        index += 1;
    }
    depots
};

impl Depot {
    const fn new(class: SizeClass) -> Self {
        Self {
            promised: AtomicUsize::new(0),
            capacity: AtomicUsize::new(0),
            class,
            slots: Mutex::new(Slots {
                fresh: VecDeque::new(),
                recycled: Vec::new(),
                mapped: 0,
                guarded: 0,
                slabs: 0,
                mapped_bytes: 0,
            }),
        }
    }

    #[inline]
    pub(super) fn of(class: SizeClass) -> &'static Self {
        &DEPOTS[class.index()]
    }

    /// Promises `count` slots more, growing if need be; all of them or none.
    pub(super) fn promise(&self, count: usize) -> io::Result<()> {
        while let Err(wanted) = self.try_promise(count) {
            self.grow_to(wanted)?;
        }
        Ok(())
    }

    /// Promises `count` slots more if that takes no growth. Otherwise returns the capacity that it
    /// would take.
    pub(super) fn try_promise(&self, count: usize) -> Result<(), usize> {
        // Acquire, here and on success below: pairs with the Release in `withdraw`, so that stacks
        // put back before that are in the depot for us. On `capacity` it pairs with the Release in
        // `add_capacity`.
        let mut promised = self.promised.load(Ordering::Acquire);
        loop {
            let wanted = promised + count;
            if wanted > self.capacity.load(Ordering::Acquire) {
                return Err(wanted);
            }
            match self.promised.compare_exchange_weak(
                promised,
                wanted,
                Ordering::Acquire,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(()),
                Err(now) => promised = now,
            }
        }
    }

    /// Takes a promise of `count` slots back. What was taken on it has been put back before.
    pub(super) fn withdraw(&self, count: usize) {
        // Release: pairs with the Acquire in `try_promise`.
        let before = self.promised.fetch_sub(count, Ordering::Release);
        debug_assert!(before >= count, "{count} of {before} promised stacks withdrawn");
    }

    /// Takes a slot, guarded: a recycled one, else a fresh one.
    ///
    /// On a promise, this fails only if the kernel refuses a guard.
    pub(super) fn take(&self) -> io::Result<Slot> {
        let slot = {
            let mut slots = self.lock();
            if let Some(slot) = slots.recycled.pop() {
                return Ok(slot);
            }
            match slots.carve() {
                Some(slot) => slot,
                None => return self.take_beyond_promise(slots),
            }
        };
        // Without the lock: this is a system call, and other workers start green threads too.
        match guard_mechanism().install(slot, self.class) {
            Ok(()) => Ok(slot),
            Err(e) => {
                let mut slots = self.lock();
                slots.guarded -= 1;
                slots.fresh.push_front(FreshSlots::one(slot, self.class));
                Err(e)
            }
        }
    }

    /// There was no promise (two stacks were taken on one permit): grow, and take what came.
    #[cold]
    fn take_beyond_promise(&self, slots: MutexGuard<'_, Slots>) -> io::Result<Slot> {
        let wanted = self.capacity.load(Ordering::Relaxed) + 1;
        drop(slots);
        self.grow_to(wanted)?;
        self.take()
    }

    /// Moves up to `count` recycled slots to the end of `magazine`, the hottest last.
    pub(super) fn take_recycled(&self, count: usize, magazine: &mut Vec<Slot>) {
        let mut slots = self.lock();
        let rest = slots.recycled.len().saturating_sub(count);
        magazine.extend(slots.recycled.drain(rest..));
    }

    pub(super) fn put(&self, slot: Slot) {
        self.lock().recycled.push(slot);
    }

    /// Puts slots back, the hottest last.
    pub(super) fn put_all(&self, returned: impl Iterator<Item = Slot>) {
        self.lock().recycled.extend(returned);
    }

    pub(super) fn count(&self, stats: &mut Stats) {
        let slots = self.lock();
        stats.mapped += slots.mapped;
        stats.guarded += slots.guarded;
        stats.lent += slots.guarded - slots.recycled.len();
        stats.promised += self.promised.load(Ordering::Relaxed);
        stats.slabs += slots.slabs;
        stats.mapped_bytes += slots.mapped_bytes;
    }

    /// Grows until there is capacity for `wanted` slots. What could be had is kept if the rest
    /// fails.
    #[cold]
    fn grow_to(&self, wanted: usize) -> io::Result<()> {
        let mut slots = self.lock();
        // Relaxed: only written under the lock, which we hold.
        while let missing @ 1.. = wanted.saturating_sub(self.capacity.load(Ordering::Relaxed)) {
            if slots.fresh.is_empty() || guard_mechanism() == GuardMechanism::Madvise {
                let mapped = slots.map(self.class, missing)?;
                if guard_mechanism() == GuardMechanism::Madvise {
                    self.add_capacity(mapped);
                    continue;
                }
            }
            slots.guard_one(self.class)?;
            self.add_capacity(1);
        }
        Ok(())
    }

    /// The lock is held.
    fn add_capacity(&self, count: usize) {
        // Release: who sees the capacity, and takes the lock, finds the slots; pairs with
        // `try_promise`.
        self.capacity.fetch_add(count, Ordering::Release);
    }

    /// A panic under the lock (of the allocator) leaves the lists whole: poison means nothing here.
    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mechanism in force; called only once there are slots, which is when it has been decided.
fn guard_mechanism() -> GuardMechanism {
    GuardMechanism::in_force().unwrap_or(GuardMechanism::Mprotect)
}

impl Slots {
    /// Maps a slab, for `missing` slots if it can be, and returns how many it has.
    fn map(&mut self, class: SizeClass, missing: usize) -> io::Result<usize> {
        let doubled = FIRST_SLAB.checked_shl(self.slabs as u32).unwrap_or(LAST_SLAB).min(LAST_SLAB);
        let mut count = (doubled / class.stride()).max(missing).max(1);
        let fresh = loop {
            match FreshSlots::map(class, count) {
                Ok(fresh) => break fresh,
                // Address space may be limited: ask for less, down to a single stack.
                Err(_) if count > 1 => count /= 2,
                Err(e) => return Err(map_error(&e, class, self.mapped)),
            }
        };
        if let Err(e) = self.accept(&fresh, count) {
            fresh.unmap();
            return Err(map_error(&e, class, self.mapped));
        }
        fresh.register();
        self.fresh.push_back(fresh);
        self.mapped += count;
        self.slabs += 1;
        self.mapped_bytes += count * class.stride();
        Ok(count)
    }

    /// What has to be so before the `count` slots of a new slab are counted on.
    fn accept(&mut self, fresh: &FreshSlots, count: usize) -> io::Result<()> {
        // Room for all of them now: giving a stack back then allocates nothing.
        self.recycled.try_reserve(self.mapped + count - self.recycled.len())?;
        fresh.first().map_or(Ok(()), |slot| GuardMechanism::decide(slot).map(drop))
    }

    /// Carves a fresh slot, for a caller who will guard it.
    fn carve(&mut self) -> Option<Slot> {
        let fresh = self.fresh.front_mut()?;
        let slot = fresh.carve();
        if fresh.left() == 0 {
            self.fresh.pop_front();
        }
        self.guarded += usize::from(slot.is_some());
        slot
    }

    /// Guards a fresh slot ahead of its use.
    fn guard_one(&mut self, class: SizeClass) -> io::Result<()> {
        let Some(slot) = self.carve() else { return Ok(()) };
        match guard_mechanism().install(slot, class) {
            Ok(()) => {
                self.recycled.push(slot);
                Ok(())
            }
            Err(e) => {
                self.guarded -= 1;
                self.fresh.push_front(FreshSlots::one(slot, class));
                Err(e)
            }
        }
    }
}

#[cold]
fn map_error(error: &io::Error, class: SizeClass, mapped: usize) -> io::Error {
    io::Error::new(
        error.kind(),
        format!(
            "cannot map one more stack of {} KiB beside the {mapped} that there are: \
             mmap of {} bytes: {error}. Address space may be limited (ulimit -v, RLIMIT_AS), \
             or overcommitting memory forbidden (vm.overcommit_memory=2)",
            class.bytes() / 1024,
            class.stride(),
        ),
    )
}
