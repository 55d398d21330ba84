//! Giving the memory of free stacks back to the system.
//!
//! # What is cold
//!
//! The working-set rule of the magazine allocator (Bonwick and Adams, "Magazines and Vmem", USENIX
//! 2001, section 3.3): the depot keeps the least length that its list of recycled slots had since
//! it was last judged. So many slots were never needed in that time. They are the coldest of the
//! list, since slots are lent from its hot end, and [`trim_cold`] takes them from its cold end.
//! After a peak the first call finds nothing cold, as the peak needed all; the second one finds
//! what was not needed since the first.
//!
//! A trimmed slot is as good as a fresh one, and still guarded. It is kept apart from those that
//! have memory, is lent after them, and is not trimmed again before it was used.
//!
//! # The promise while slots are trimmed
//!
//! The system calls are made without the depot's lock, on slots that were taken out of it in
//! batches of [`BATCH`]. Who trims is one more holder of permits: a batch is promised first, then
//! at most as many slots are taken, put back, and only then the promise is withdrawn, which is the
//! order that the invariants ask for. So nobody who holds a permit finds the depot empty. Where
//! less than a batch can be promised, less is trimmed: if all slots are promised, those who hold
//! the promises may want them at once, and none is cold.
//!
//! What is promised to a trimmer cannot be promised to others: a depot may grow by a batch more
//! than it had to. At the limit of address space somebody could be refused for that reason alone.
//! So a refusal is given only while nobody trims: there is one trimmer at a time, under
//! [`IN_HAND`], and who is about to be refused waits for the end of its batch and tries once more.
//!
//! # The system call
//!
//! `MADV_DONTNEED` on the usable part. Neighbours are trimmed by one call, across the guards that
//! lie between them: guard markers outlast it (madvise(2): they stay until `MADV_GUARD_REMOVE` or
//! the end of the mapping), and so does `PROT_NONE`. Tests hold the kernel to that.

#![allow(unsafe_code)]

use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::class::SizeClass;
use super::depot::Depot;
use super::slab::Slot;
use super::usage::Residence;

/// The most slots that are in a trimmer's hands at a time.
const BATCH: usize = 256;

/// Held by whoever has a batch in hand.
static IN_HAND: Mutex<()> = Mutex::new(());

/// Whether slots were put into a depot that no call of [`trim_cold`] has found cold or trimmed yet.
static SOMETHING: AtomicBool = AtomicBool::new(false);

/// What a trim has given back to the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trimmed {
    /// Free stacks whose memory was given back. They had been used since they were last trimmed.
    pub stacks: usize,
    /// The memory that they had, in bytes.
    pub bytes: usize,
}

impl AddAssign for Trimmed {
    fn add_assign(&mut self, other: Self) {
        self.stacks += other.stacks;
        self.bytes += other.bytes;
    }
}

/// Gives the memory of all free stacks back to the system: to be called after a peak, by a program
/// that knows of it. The stacks stay mapped and guarded, and are lent again as if they were fresh.
///
/// Free stacks are those in the depots of the process. What [`StackCache`](super::StackCache)s hold
/// is not among them: at most 64 stacks each, and at most 16 MiB of address space.
#[must_use = "it says what was given back"]
pub fn trim() -> Trimmed {
    let mut trimmed = Trimmed::default();
    for class in SizeClass::all() {
        let depot = Depot::of(class);
        Trimmer::new(class).trim(depot.recycled(), &mut || true, &mut trimmed);
    }
    trimmed
}

/// Gives back the memory of the stacks that were free, and that nobody needed, since the last call:
/// to be called from time to time. Workers of the runtime do that.
///
/// `goes_on` is asked before each batch of up to 256 stacks. Once it answers no, the call returns,
/// and the next one goes on where it ended.
#[must_use = "it says what was given back"]
pub fn trim_cold(mut goes_on: impl FnMut() -> bool) -> Trimmed {
    let mut trimmed = Trimmed::default();
    // Before the depots are looked at: a slot that is put later than that is told of again.
    if !SOMETHING.swap(false, Ordering::Relaxed) {
        return trimmed;
    }
    for class in SizeClass::all() {
        let cold = Depot::of(class).cold();
        if !Trimmer::new(class).trim(cold, &mut goes_on, &mut trimmed) {
            there_is_something();
            return trimmed;
        }
    }
    let mut more = false;
    for class in SizeClass::all() {
        let depot = Depot::of(class);
        // What is still cold was tried in vain, and is not worth another call.
        let refused = depot.cold();
        more |= depot.judge_cold() > refused;
    }
    if more {
        there_is_something();
    }
    trimmed
}

/// Whether the next call of [`trim_cold`], or the one after it, may find something. Cheap.
#[inline]
#[must_use]
pub fn may_be_cold() -> bool {
    // Relaxed: see `there_is_something`.
    SOMETHING.load(Ordering::Relaxed)
}

/// To be called after a slot that may have memory was put into a depot.
///
/// Relaxed, as `trim_cold` takes the depot's lock after its swap: if it has not seen the slot, the
/// put came after it in the order of the lock, and so does what follows the put here.
#[inline]
pub(super) fn there_is_something() {
    if !may_be_cold() {
        SOMETHING.store(true, Ordering::Relaxed);
    }
}

/// Runs `f` while nobody trims: nothing is promised to a trimmer, and no memory goes away.
pub(super) fn with_nothing_in_hand<T>(f: impl FnOnce() -> T) -> T {
    let _nobody = nothing_in_hand();
    f()
}

/// Nobody trims, nor will before this is dropped.
pub(super) fn nothing_in_hand() -> MutexGuard<'static, ()> {
    IN_HAND.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The trimming of one depot.
struct Trimmer {
    class: SizeClass,
    depot: &'static Depot,
    batch: Vec<Slot>,
    residence: Residence,
}

impl Trimmer {
    fn new(class: SizeClass) -> Self {
        let residence = Residence::new();
        Self { class, depot: Depot::of(class), batch: Vec::new(), residence }
    }

    /// Trims up to `most` slots, the coldest first, as far as they can be promised. False if
    /// `goes_on` said no.
    fn trim(
        &mut self,
        mut most: usize,
        goes_on: &mut dyn FnMut() -> bool,
        trimmed: &mut Trimmed,
    ) -> bool {
        while most > 0 {
            if !goes_on() {
                return false;
            }
            let _in_hand = nothing_in_hand();
            let Some(promised) = self.promise(most.min(BATCH)) else { break };
            self.depot.take_coldest(promised, &mut self.batch);
            let taken = self.batch.len();
            self.trim_batch(trimmed);
            self.depot.put_clean(self.batch.drain(..));
            self.depot.withdraw(promised);
            if taken == 0 {
                break;
            }
            most -= taken;
        }
        true
    }

    /// Has `most` slots promised, or as many as can be without growth.
    fn promise(&self, mut most: usize) -> Option<usize> {
        while most > 0 && self.depot.try_promise(most).is_err() {
            most /= 2;
        }
        (most > 0).then_some(most)
    }

    /// Trims the slots of the batch, neighbours by one call.
    fn trim_batch(&mut self, trimmed: &mut Trimmed) {
        let class = self.class;
        self.batch.sort_unstable_by_key(|slot| slot.guard().start);
        for run in self.batch.chunk_by(|low, high| low.end(class) == high.guard().start) {
            let (first, last) = (run[0], run[run.len() - 1]);
            let bytes = last.end(class) - first.limit().addr().get();
            let resident = self.residence.bytes(first.limit(), bytes);
            // SAFETY: the slots are ours, free, and neighbours in one mapping. Nobody relies on
            // what a free stack contains.
            let done = unsafe {
                libc::madvise(first.limit().as_ptr().cast(), bytes, libc::MADV_DONTNEED) == 0
            };
            // Memory that is locked (mlockall) stays, and is not tried again before it was used.
            if done {
                *trimmed += Trimmed { stacks: run.len(), bytes: resident };
            }
        }
    }
}
