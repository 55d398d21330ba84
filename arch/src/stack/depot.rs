//! The depots: the free slots of each size class, and the account of what is promised.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Stats;
use super::class::{self, SizeClass};
use super::guard::GuardMechanism;
use super::slab::{FreshSlots, Slot};
use super::trim;

/// The size of the first slab of a class. Each slab is twice the one before, up to [`LAST_SLAB`].
const FIRST_SLAB: usize = 64 << 20;
/// The size of the largest slabs (of those that hold more than one slot).
const LAST_SLAB: usize = 4 << 30;
/// How many slabs there are before the first of the largest.
const DOUBLINGS: usize = (LAST_SLAB / FIRST_SLAB).ilog2() as usize;

/// A slot is guarded ahead of its use for so many that are guarded.
const GUARDED_BEFORE_ONE_AHEAD: usize = 16;

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
    supply: Supply,
}

/// How plentiful the stacks of a class are. Read by caches at each release and seldom written: on a
/// cache line of its own.
#[repr(align(128))]
struct Supply {
    /// The most credit that a cache may keep: none while stacks are scarce.
    most_credit: AtomicUsize,
    /// The last try to grow has failed.
    limited: AtomicBool,
}

/// What a depot has.
///
/// # Invariant
///
/// Each mapped slot is at one place only: in `fresh`, `recycled` or `clean`, or lent (or being
/// trimmed, by one who was promised it).
struct Slots {
    /// Never lent yet, and not guarded. The front is carved first.
    fresh: VecDeque<FreshSlots>,
    /// Guarded and free, and used before. The last is the hottest.
    recycled: VecDeque<Slot>,
    /// So many of `recycled`, from the front, nobody has needed since they were last judged: the
    /// least length that it had meanwhile.
    cold: usize,
    /// Guarded and free, with no memory: trimmed, or guarded ahead of their use. Lent when there is
    /// nothing in `recycled`.
    clean: Vec<Slot>,
    mapped: usize,
    guarded: usize,
    slabs: usize,
    mapped_bytes: usize,
}

/// All depots are locked.
pub(super) struct Locked {
    _slots: [MutexGuard<'static, Slots>; class::COUNT],
}

static DEPOTS: [Depot; class::COUNT] = {
    let mut index = 0;
    let mut depots = [const { Depot::new(SizeClass::at(0)) }; class::COUNT];
    while index < class::COUNT {
        depots[index].class = SizeClass::at(index);
        depots[index].supply.most_credit = AtomicUsize::new(most_credit(SizeClass::at(index)));
        index += 1;
    }
    depots
};

/// What a cache keeps of permits before it gives some back.
const fn most_credit(class: SizeClass) -> usize {
    2 * class.batch()
}

impl Depot {
    const fn new(class: SizeClass) -> Self {
        Self {
            promised: AtomicUsize::new(0),
            capacity: AtomicUsize::new(0),
            class,
            slots: Mutex::new(Slots {
                fresh: VecDeque::new(),
                recycled: VecDeque::new(),
                cold: 0,
                clean: Vec::new(),
                mapped: 0,
                guarded: 0,
                slabs: 0,
                mapped_bytes: 0,
            }),
            supply: Supply { most_credit: AtomicUsize::new(0), limited: AtomicBool::new(false) },
        }
    }

    /// The locks of all depots.
    pub(super) fn lock_all() -> Locked {
        Locked { _slots: std::array::from_fn(|index| DEPOTS[index].lock()) }
    }

    #[inline]
    pub(super) fn of(class: SizeClass) -> &'static Self {
        &DEPOTS[class.index()]
    }

    /// Promises `count` slots more, growing if need be; all of them or none.
    pub(super) fn promise(&self, count: usize) -> io::Result<()> {
        while let Err(wanted) = self.try_promise(count) {
            if let Err(e) = self.grow_to(wanted) {
                return self.promise_at_the_limit(count, e);
            }
        }
        self.judge_supply();
        Ok(())
    }

    /// The depot cannot grow. What is just being trimmed was promised for a moment only.
    #[cold]
    fn promise_at_the_limit(&self, count: usize, error: io::Error) -> io::Result<()> {
        self.supply.limited.store(true, Ordering::Relaxed);
        let promised = trim::with_nothing_in_hand(|| self.try_promise(count));
        self.judge_supply();
        promised.map_err(|_| {
            self.set_scarce(true);
            error
        })
    }

    /// The most permits that a cache may keep in reserve, now.
    #[inline]
    pub(super) fn most_credit(&self) -> usize {
        // Relaxed, as all of `supply`: hints, on which no promise depends.
        self.supply.most_credit.load(Ordering::Relaxed)
    }

    /// Whether caches shall keep nothing in reserve.
    #[inline]
    pub(super) fn is_scarce(&self) -> bool {
        self.most_credit() == 0
    }

    fn set_scarce(&self, scarce: bool) {
        if self.is_scarce() != scarce {
            let most = if scarce { 0 } else { most_credit(self.class) };
            self.supply.most_credit.store(most, Ordering::Relaxed);
        }
    }

    /// Where the depot could not grow, says whether stacks are scarce: so from less than 1/16 of
    /// them on, until 1/8 of them can be promised again.
    fn judge_supply(&self) {
        if !self.supply.limited.load(Ordering::Relaxed) {
            // It may have been called so by one who was refused just before the depot grew.
            return self.set_scarce(false);
        }
        let capacity = self.capacity.load(Ordering::Relaxed);
        let free = capacity.saturating_sub(self.promised.load(Ordering::Relaxed));
        if free < capacity.div_ceil(16) {
            self.set_scarce(true);
        } else if free > capacity.div_ceil(8) {
            self.set_scarce(false);
        }
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
        self.judge_supply();
    }

    /// Takes a slot, guarded: a recycled one, else a fresh one.
    ///
    /// On a promise, this fails only if the kernel refuses a guard.
    pub(super) fn take(&self) -> io::Result<Slot> {
        let (mut fresh, ahead) = {
            let mut slots = self.lock();
            if let Some(slot) = slots.take_free() {
                return Ok(slot);
            }
            let ahead = self.promise_ahead(&slots);
            match slots.carve(1 + ahead) {
                Some(fresh) => (fresh, ahead),
                None => {
                    self.withdraw(ahead);
                    return self.take_beyond_promise(slots);
                }
            }
        };
        // Without the lock: this is a system call, and other workers start green threads too.
        let mut guarded = guard_mechanism().install_all(&fresh);
        if guarded.is_err() && fresh.left() > 1 {
            // The one that is wanted may do.
            let first = fresh.split(1);
            self.lock().give_back_fresh(fresh);
            guarded = guard_mechanism().install_all(&first);
            fresh = first;
        }
        let taken = self.lock().accept_guarded(fresh, guarded);
        self.withdraw(ahead);
        taken
    }

    /// How many slots are guarded together with the next fresh one, since more will be wanted: where
    /// stacks were many. They are out of the depot meanwhile, so they are promised to the caller.
    fn promise_ahead(&self, slots: &Slots) -> usize {
        let ahead =
            (slots.guarded / GUARDED_BEFORE_ONE_AHEAD).min(GuardMechanism::MOST_AT_ONCE - 1);
        // Where the depot cannot grow, others may be refused for want of these.
        let possible = ahead > 0
            && !self.supply.limited.load(Ordering::Relaxed)
            && guard_mechanism().guards_many()
            && self.try_promise(ahead).is_ok();
        if possible { ahead } else { 0 }
    }

    /// There was no promise (two stacks were taken on one permit): grow, and take what came.
    #[cold]
    fn take_beyond_promise(&self, slots: MutexGuard<'_, Slots>) -> io::Result<Slot> {
        let wanted = self.capacity.load(Ordering::Relaxed) + 1;
        drop(slots);
        self.grow_to(wanted)?;
        self.take()
    }

    /// Moves up to `count` guarded slots to the end of `magazine`, the hottest last; clean ones
    /// only if there are no others.
    pub(super) fn take_guarded(&self, count: usize, magazine: &mut Vec<Slot>) {
        let mut slots = self.lock();
        if slots.recycled.is_empty() {
            let rest = slots.clean.len().saturating_sub(count);
            return magazine.extend(slots.clean.drain(rest..));
        }
        let rest = slots.recycled.len().saturating_sub(count);
        magazine.extend(slots.recycled.drain(rest..));
        slots.cold = slots.cold.min(rest);
    }

    pub(super) fn put(&self, slot: Slot) {
        self.lock().recycled.push_back(slot);
        trim::there_is_something();
    }

    /// Puts slots back, the hottest last.
    pub(super) fn put_all(&self, returned: impl Iterator<Item = Slot>) {
        self.lock().recycled.extend(returned);
        trim::there_is_something();
    }

    /// How many free slots have been used since they were last trimmed.
    pub(super) fn recycled(&self) -> usize {
        self.lock().recycled.len()
    }

    /// How many of these are cold.
    pub(super) fn cold(&self) -> usize {
        self.lock().cold
    }

    /// Calls all free slots cold, until they are needed, and says how many there are.
    pub(super) fn judge_cold(&self) -> usize {
        let mut slots = self.lock();
        slots.cold = slots.recycled.len();
        slots.cold
    }

    /// Takes up to `most` of the coldest slots out, for one who was promised as many. There is room
    /// to put them back as clean ones, or else none is taken.
    pub(super) fn take_coldest(&self, most: usize, batch: &mut Vec<Slot>) {
        let mut slots = self.lock();
        let count = most.min(slots.recycled.len());
        if slots.clean.try_reserve(count).is_err() {
            return;
        }
        batch.extend(slots.recycled.drain(..count));
        slots.cold = slots.cold.saturating_sub(count);
    }

    /// Puts trimmed slots back.
    pub(super) fn put_clean(&self, batch: impl Iterator<Item = Slot>) {
        self.lock().clean.extend(batch);
    }

    /// How many slots have their guard.
    pub(super) fn guarded(&self) -> usize {
        self.lock().guarded
    }

    pub(super) fn count(&self, stats: &mut Stats) {
        let slots = self.lock();
        stats.mapped += slots.mapped;
        stats.guarded += slots.guarded;
        stats.lent += slots.guarded - slots.recycled.len() - slots.clean.len();
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
            slots.guard_one()?;
            self.add_capacity(1);
        }
        Ok(())
    }

    /// The lock is held.
    fn add_capacity(&self, count: usize) {
        // Release: who sees the capacity, and takes the lock, finds the slots; pairs with
        // `try_promise`.
        self.capacity.fetch_add(count, Ordering::Release);
        if self.supply.limited.load(Ordering::Relaxed) {
            self.supply.limited.store(false, Ordering::Relaxed);
            self.set_scarce(false);
        }
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
        let doubled = FIRST_SLAB << self.slabs.min(DOUBLINGS);
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

    /// The slot to lend next, of those that are guarded.
    fn take_free(&mut self) -> Option<Slot> {
        let Some(slot) = self.recycled.pop_back() else { return self.clean.pop() };
        self.cold = self.cold.min(self.recycled.len());
        Some(slot)
    }

    /// Carves fresh slots, up to `most`, for a caller who will guard them.
    fn carve(&mut self, most: usize) -> Option<FreshSlots> {
        let fresh = self.fresh.front_mut()?;
        let carved = fresh.split(most);
        if fresh.left() == 0 {
            self.fresh.pop_front();
        }
        self.guarded += carved.left();
        Some(carved)
    }

    /// Takes slots back that were carved and have no guards, or not all of them.
    fn give_back_fresh(&mut self, fresh: FreshSlots) {
        self.guarded -= fresh.left();
        self.fresh.push_front(fresh);
    }

    /// The first of the slots that were carved and are `guarded`, if they are; the others are free.
    fn accept_guarded(
        &mut self,
        mut fresh: FreshSlots,
        guarded: io::Result<()>,
    ) -> io::Result<Slot> {
        if let Err(e) = guarded {
            self.give_back_fresh(fresh);
            return Err(e);
        }
        let slot = fresh.carve().expect("at least one was carved");
        let ahead = std::iter::from_fn(|| fresh.carve());
        match self.clean.try_reserve(GuardMechanism::MOST_AT_ONCE) {
            Ok(()) => self.clean.extend(ahead),
            // There is room for all slots there.
            Err(_) => ahead.for_each(|slot| self.recycled.push_front(slot)),
        }
        Ok(slot)
    }

    /// Guards a fresh slot ahead of its use.
    fn guard_one(&mut self) -> io::Result<()> {
        self.clean.try_reserve(1)?;
        let Some(fresh) = self.carve(1) else { return Ok(()) };
        let guarded = guard_mechanism().install_all(&fresh);
        let slot = self.accept_guarded(fresh, guarded)?;
        self.clean.push(slot);
        Ok(())
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
