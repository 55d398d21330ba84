//! How many pool threads there are, and what each does: takes jobs, sleeps, leaves.
//!
//! A pool thread has a *slot*, a bit that is set from before it is started until it has left.
//! Whether it sleeps or searches is told by [`Idle`], whose protocol sees to it that a job finds a
//! thread that sleeps, or one that searches. A thread that is being started counts as a searcher, so
//! a burst of short jobs starts one thread after the other, each only if jobs are left by then.
//!
//! # Why no job is forgotten
//!
//! A submitter pushes its job, and after a fence finds one of these:
//!
//! - a sleeper, which it wakes, or a searcher, which takes the job or has another thread see to it
//!   (`idle.rs`);
//! - no free slot: then all threads are busy, and each looks for a job when it has done its own;
//! - a free slot, for which it starts a thread;
//! - a free slot and no thread to be had. It takes the slot back, and looks again, for those who relied
//!   on that thread meanwhile. While other slots are taken the jobs wait for their threads; otherwise
//!   it runs all the jobs that there are itself.
//!
//! A slot that was seen taken is enough, since whoever clears its slot then looks for jobs once more:
//! the slot's bit and the queue are on the two sides of a pair of SeqCst fences, as a sleeper's state
//! and the queue are.

use crate::idle::{Idle, Woken};
use crate::primitive::atomic::{AtomicU64, Ordering, fence};

/// What the crew works with.
pub trait Means: Sync {
    /// A job, taken out of the queue.
    type Job;

    /// Takes a job.
    fn take(&self) -> Option<Self::Job>;

    /// Whether there are no jobs.
    fn is_empty(&self) -> bool;

    /// Does a job. Does not unwind.
    fn run(&self, job: Self::Job);

    /// Starts an OS thread that calls [`Crew::work`] for the slot; false if it cannot be had.
    fn start(&self, slot: usize) -> bool;

    /// The slot is the calling thread's from now on. Before it falls asleep.
    fn enter(&self, slot: usize);

    /// Wakes the slot's thread, which was claimed.
    fn unpark(&self, slot: usize);

    /// Waits while `asleep` says so, for the idle period at most.
    fn sleep(&self, asleep: impl Fn() -> bool);
}

/// The threads; see the module's documentation.
#[derive(Debug)]
pub struct Crew {
    idle: Idle,
    slots: Box<[AtomicU64]>,
    limit: usize,
}

impl Crew {
    /// Of no threads so far, and `limit` at most.
    pub fn new(limit: usize) -> Self {
        Self {
            idle: Idle::new(limit),
            slots: (0..limit.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            limit,
        }
    }

    /// To be called after a job was pushed. May run jobs, if no thread can be had for them.
    pub fn submit(&self, means: &impl Means) {
        if let Some(slot) = self.idle.submit() {
            return means.unpark(slot);
        }
        // `submit` has the fence (A). A searcher that comes up now is one thread too many at worst.
        if self.idle.searchers() > 0 {
            return;
        }
        let Some(slot) = self.take_slot() else { return };
        self.idle.enter_search();
        if !means.start(slot) {
            self.do_without(means, slot);
        }
    }

    /// The life of the thread of `slot`. It was counted as a searcher.
    pub fn work(&self, means: &impl Means, mut slot: usize) {
        let mut searching = true;
        means.enter(slot);
        loop {
            if let Some(job) = means.take() {
                self.stop_searching(means, &mut searching);
                means.run(job);
                continue;
            }
            self.idle.fall_asleep(slot, searching);
            if !means.is_empty() {
                searching = self.idle.stay_awake(slot, searching);
                continue;
            }
            means.sleep(|| self.idle.is_asleep(slot));
            searching = self.idle.wake_up(slot) == Woken::Claimed;
            if searching {
                continue;
            }
            // Nobody can claim us any more.
            self.clear_slot(slot);
            if means.is_empty() {
                return;
            }
            match self.take_slot() {
                Some(another) => {
                    slot = another;
                    means.enter(slot);
                }
                // All are taken, by threads that have come after us.
                None => return,
            }
        }
    }

    /// A searcher has found a job. Those who relied on it are seen to.
    fn stop_searching(&self, means: &impl Means, searching: &mut bool) {
        if !std::mem::take(searching) || !self.idle.end_search() {
            return;
        }
        // As (B) of a searcher that falls asleep: whoever has seen us search has pushed before.
        fence(Ordering::SeqCst);
        if !means.is_empty() {
            self.submit(means);
        }
    }

    /// There is no thread for `slot`, though it was counted as a searcher.
    #[cold]
    fn do_without(&self, means: &impl Means, slot: usize) {
        // The last one or not: what follows is for all who relied on it.
        let _ = self.idle.end_search();
        self.clear_slot(slot);
        if let Some(slot) = self.idle.submit() {
            return means.unpark(slot);
        }
        if self.idle.searchers() > 0 || self.has_threads() {
            return;
        }
        while let Some(job) = means.take() {
            means.run(job);
        }
    }

    fn take_slot(&self) -> Option<usize> {
        for (index, word) in self.slots.iter().enumerate() {
            let here = (self.limit - index * 64).min(64);
            let mut taken = word.load(Ordering::Relaxed);
            loop {
                let bit = taken.trailing_ones() as usize;
                if bit >= here {
                    break;
                }
                // Acquire pairs with the Release in `clear_slot`: the slot's last thread is done
                // with it.
                let (next, order) = (taken | 1 << bit, Ordering::Acquire);
                match word.compare_exchange(taken, next, order, Ordering::Relaxed) {
                    Ok(_) => return Some(index * 64 + bit),
                    Err(now) => taken = now,
                }
            }
        }
        None
    }

    /// The caller looks for jobs afterwards.
    fn clear_slot(&self, slot: usize) {
        // Release pairs with the Acquire in `take_slot`.
        self.slots[slot / 64].fetch_and(!(1 << (slot % 64)), Ordering::Release);
        // Pairs with (A) in `Idle::submit`: a submitter that has seen the bit has pushed before we
        // look.
        fence(Ordering::SeqCst);
    }

    /// Whether any slot is taken. After a fence.
    fn has_threads(&self) -> bool {
        self.slots.iter().any(|word| word.load(Ordering::Relaxed) != 0)
    }

    /// How many slots are taken.
    #[cfg(all(test, not(bine_loom)))]
    pub(super) fn threads(&self) -> usize {
        self.slots.iter().map(|word| word.load(Ordering::Relaxed).count_ones() as usize).sum()
    }
}
