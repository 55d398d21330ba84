//! Who sleeps and who searches: how a submitter finds a worker to wake, and how a worker falls
//! asleep without missing work.
//!
//! A worker is *running*, *searching* (it has nothing of its own and looks at everybody's queues)
//! or *asleep*. At most half of the workers search at a time.
//!
//! # Protocol
//!
//! ```text
//!   submitter                              worker that found nothing
//!   ---------                              -------------------------
//!   push the work                          set the own bit in `asleep`
//!   fence(SeqCst)                 (A)      leave `searching`
//!   searching > 0 ? done                   fence(SeqCst)                  (B)
//!   clear a bit of `asleep`;               look at every queue once more
//!   whoever cleared it enters              found something ? clear the own bit, go on
//!   `searching` for that worker            sleep until the own bit is clear
//!   and unparks it
//! ```
//!
//! # Why no wake-up is lost
//!
//! The two fences are totally ordered. If (A) comes first, the worker's last look, after (B), sees
//! the work. If (B) comes first, the submitter, after (A), sees the bit and that this worker has
//! left `searching`, and so wakes it, or sees another searcher. A searcher that is relied upon
//! either makes that last look itself, or finds work and ends its search: if it was the last
//! searcher it then calls [`Idle::submit`] in its turn, so the work that nobody was woken for gets
//! a worker while there is one asleep.
//!
//! A searcher whose last look finds something searches on ([`Idle::stay_awake`]): whatever else was
//! pushed while it was counted relies on it as well.
//!
//! A bit is cleared by exactly one thread (the RMW tells which). Where a waker clears it, the
//! worker wakes up as a searcher whom the waker counts; where the worker does (its timer ran out),
//! it is not counted. The worker may be awake, and end its search, before its waker has counted it:
//! `searching` is then too low, for that moment, and may be below zero. It is never too high, and
//! too low a count wakes a worker too many at worst.
//!
//! The pattern is the one of Go's scheduler (`runtime/proc.go`, "Worker thread parking/unparking")
//! and of rayon's sleep module.

use crate::primitive::atomic::{AtomicIsize, AtomicU64, Ordering, fence};

/// The sets; see the module's documentation.
#[derive(Debug)]
pub struct Idle {
    /// How many workers search, among them those that were claimed and are waking up. May be
    /// negative for a moment, see above.
    searching: AtomicIsize,
    /// One bit for each worker: set while it is asleep or about to be.
    asleep: Box<[AtomicU64]>,
    workers: usize,
}

/// How a worker left the set of sleepers.
#[must_use]
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Left {
    /// By itself; it is not counted as a searcher.
    ByItself,
    /// A waker has claimed it, or is about to unpark it; it is counted as a searcher.
    Claimed,
}

impl Idle {
    /// For `workers` workers, all of them running.
    pub fn new(workers: usize) -> Self {
        Self {
            searching: AtomicIsize::new(0),
            asleep: (0..workers.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            workers,
        }
    }

    /// To be called after work was made visible to all workers. Returns a worker that the caller
    /// must unpark, if one is needed and there is one.
    #[must_use = "the worker that is returned has been claimed and must be unparked"]
    #[inline]
    pub fn submit(&self) -> Option<usize> {
        // (A), pairs with (B) in `fall_asleep`.
        fence(Ordering::SeqCst);
        // Relaxed, here and in `claim_any`: the fence orders these loads.
        if self.searchers() > 0 {
            return None;
        }
        self.claim_any()
    }

    /// Claims any sleeper, whether somebody searches or not.
    #[must_use = "the worker that is returned has been claimed and must be unparked"]
    #[inline]
    pub fn claim_any(&self) -> Option<usize> {
        for (index, word) in self.asleep.iter().enumerate() {
            let mut bits = word.load(Ordering::Relaxed);
            while bits != 0 {
                let worker = index * 64 + bits.trailing_zeros() as usize;
                if self.clear_bit(worker) {
                    self.enter_search();
                    return Some(worker);
                }
                bits &= bits - 1;
            }
        }
        None
    }

    /// Claims one worker, after something was put where only that worker looks. True if the
    /// caller must unpark it.
    #[must_use = "a worker that was claimed must be unparked"]
    #[inline]
    pub fn claim(&self, worker: usize) -> bool {
        // (A), pairs with (B) in `fall_asleep`.
        fence(Ordering::SeqCst);
        if !self.is_asleep(worker) || !self.clear_bit(worker) {
            return false;
        }
        self.enter_search();
        true
    }

    /// A running worker asks to search; false if enough others do.
    pub fn begin_search(&self) -> bool {
        // Relaxed: a limit, not a protocol.
        if 2 * self.searchers() >= self.workers as isize {
            return false;
        }
        self.enter_search();
        true
    }

    /// A searcher has found work. True if it was the last one: it must then call
    /// [`submit`](Self::submit), on behalf of those who relied on it.
    #[must_use = "the last searcher must submit for those who relied on it"]
    pub fn end_search(&self) -> bool {
        // Release pairs with (B) of a searcher who ends later: its last look finds what this one
        // has moved to its own queue with the work that it runs. The last one has the fence in the
        // `submit` that follows. Not only 1: see above.
        self.searching.fetch_sub(1, Ordering::Release) <= 1
    }

    /// Enters the set of sleepers. The caller must look at every queue once more before it sleeps.
    pub fn fall_asleep(&self, worker: usize, was_searching: bool) {
        // Release pairs with the Acquire of the `clear_bit` that claims the worker: the claimer must
        // see which OS thread it is. The rest is ordered by the fence below.
        self.asleep[worker / 64].fetch_or(1 << (worker % 64), Ordering::Release);
        if was_searching {
            self.searching.fetch_sub(1, Ordering::Relaxed);
        }
        // (B), pairs with (A) in `submit` and `claim`.
        fence(Ordering::SeqCst);
    }

    /// Whether nobody has claimed the worker since it fell asleep.
    #[inline]
    pub fn is_asleep(&self, worker: usize) -> bool {
        // Acquire pairs with the Release of the `clear_bit` that claimed the worker.
        self.asleep[worker / 64].load(Ordering::Acquire) & (1 << (worker % 64)) != 0
    }

    /// The worker leaves the set of sleepers.
    pub fn wake_up(&self, worker: usize) -> Left {
        if self.clear_bit(worker) { Left::ByItself } else { Left::Claimed }
    }

    /// The last look has found something, so the worker does not sleep. True if it is a searcher.
    pub fn stay_awake(&self, worker: usize, was_searching: bool) -> bool {
        match self.wake_up(worker) {
            Left::Claimed => true,
            Left::ByItself => {
                if was_searching {
                    self.enter_search();
                }
                was_searching
            }
        }
    }

    /// How many workers are asleep now, for the metrics.
    pub fn sleepers(&self) -> usize {
        self.asleep.iter().map(|word| word.load(Ordering::Relaxed).count_ones() as usize).sum()
    }

    fn searchers(&self) -> isize {
        // Relaxed: the caller has a fence, or takes a hint.
        self.searching.load(Ordering::Relaxed)
    }

    fn enter_search(&self) {
        // Relaxed: a submitter that does not see this yet wakes one worker too many.
        self.searching.fetch_add(1, Ordering::Relaxed);
    }

    /// True if this call cleared the bit.
    fn clear_bit(&self, worker: usize) -> bool {
        let bit = 1 << (worker % 64);
        // Release pairs with the Acquire of `is_asleep`, Acquire with the Release of
        // `fall_asleep`. Work is published by the queues.
        self.asleep[worker / 64].fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }
}

#[cfg(all(test, not(bine_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_submitter_wakes_one_sleeper_and_counts_it_as_a_searcher() {
        let idle = Idle::new(100);
        assert_eq!(idle.submit(), None);
        idle.fall_asleep(70, false);
        idle.fall_asleep(3, false);
        assert_eq!(idle.sleepers(), 2);
        assert_eq!(idle.submit(), Some(3));
        assert_eq!(idle.submit(), None, "one searches already");
        assert_eq!(idle.wake_up(3), Left::Claimed);
        assert!(idle.end_search());
        assert_eq!(idle.submit(), Some(70));
    }

    #[test]
    fn a_searcher_whose_last_look_finds_something_searches_on() {
        let idle = Idle::new(4);
        assert!(idle.begin_search());
        idle.fall_asleep(1, true);
        assert!(idle.stay_awake(1, true));
        assert_eq!((idle.searchers(), idle.sleepers()), (1, 0));
        idle.fall_asleep(2, false);
        assert!(!idle.stay_awake(2, false));
        assert!(idle.end_search());
    }

    #[test]
    fn a_targeted_claim_takes_that_worker_only() {
        let idle = Idle::new(4);
        idle.fall_asleep(1, false);
        idle.fall_asleep(2, false);
        assert!(!idle.claim(0));
        assert!(idle.claim(2));
        assert!(!idle.claim(2));
        assert_eq!(idle.wake_up(1), Left::ByItself);
    }

    #[test]
    fn at_most_half_of_the_workers_search() {
        let idle = Idle::new(4);
        assert!(idle.begin_search() && idle.begin_search());
        assert!(!idle.begin_search());
        assert!(!idle.end_search());
        assert!(idle.end_search());
        assert!(Idle::new(1).begin_search());
    }
}
