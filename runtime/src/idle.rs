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
//!   push the work                          become ASLEEP
//!   fence(SeqCst)                 (A)      leave `searching`
//!   searching > 0 ? done                   fence(SeqCst)                  (B)
//!   claim a worker that is ASLEEP;         look at every queue once more
//!   whoever claims it enters               found something ? become AWAKE, go on
//!   `searching` for it and                 sleep while ASLEEP
//!   unparks it
//! ```
//!
//! # Why no wake-up is lost
//!
//! The two fences are totally ordered. If (A) comes first, the worker's last look, after (B), sees
//! the work. If (B) comes first, the submitter, after (A), sees it ASLEEP and that this worker has
//! left `searching`, and so wakes it, or sees another searcher. A searcher that is relied upon
//! either makes that last look itself, or finds work and ends its search: if it was the last
//! searcher it then calls [`Idle::submit`] in its turn, so the work that nobody was woken for gets
//! a worker while there is one asleep.
//!
//! A searcher whose last look finds something searches on ([`Idle::stay_awake`]): whatever else was
//! pushed while it was counted relies on it as well.
//!
//! # Claims
//!
//! Exactly one thread takes a worker out of ASLEEP (the exchange tells which). Where the worker
//! does it (its timer ran out), it wakes up as what it was, no searcher. A waker that has put work
//! where every worker looks *claims* it: the worker wakes up as a searcher. A waker that has put
//! something into its inbox *summons* it: it wakes up as no searcher, so it need not wake a
//! successor when it finds its work, and nobody relies on it.
//!
//! The waker counts a searcher *after* it has claimed it. The worker may be awake, and end its
//! search, before: `searching` is then too low, for that moment, and may be below zero. It is
//! never too high, and too low a count wakes a worker too many at worst.
//!
//! # Spares
//!
//! A spare worker is claimed for work only while it is *on duty* (the monitor says when). Off duty
//! it may be asleep while work waits, as if it were not there: the argument above is about the
//! workers that may be claimed, and a spare that falls asleep as a searcher makes its last look as
//! any other. Whoever takes a spare off duty need not wait for it: a claim that came first stands,
//! and the spare searches as one that was claimed. Whoever puts one on duty looks for work
//! afterwards, since submissions that came first passed it over.
//!
//! The pattern is the one of Go's scheduler (`runtime/proc.go`, "Worker thread parking/unparking")
//! and of rayon's sleep module.
//!
//! # What models run
//!
//! [`Idle::rest`] is the whole of a worker's sleep but for what an OS thread does; [`Idle::wake_many`]
//! and [`Idle::stop_searching`] are given the unpark. The models in `loom-tests/` run these as they are.

use crate::primitive::atomic::{AtomicIsize, AtomicU64, Ordering, fence};

// A worker's state is two bits in a word of 32 workers, 00 while it is AWAKE.

/// The worker sleeps or is about to.
const ASLEEP: u64 = 0b01;
/// It was claimed, and wakes up as a searcher.
const CLAIMED: u64 = 0b10;
/// It was summoned to its inbox.
const SUMMONED: u64 = 0b11;

const BITS: usize = 2;
const WORKERS_IN_WORD: usize = u64::BITS as usize / BITS;
/// The low bit of every state.
const LOW_BITS: u64 = 0x5555_5555_5555_5555;

/// The workers' states; see the module's documentation.
#[derive(Debug)]
pub struct Idle {
    /// How many workers search, among them those that were claimed and are waking up. May be
    /// negative for a moment, see above.
    searching: AtomicIsize,
    states: Box<[AtomicU64]>,
    /// The low bit of the state of each worker that may be claimed.
    on_duty: Box<[AtomicU64]>,
    workers: usize,
}

/// How a worker woke up.
#[must_use]
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Woken {
    /// By itself; it is not counted as a searcher.
    ByItself,
    /// It was claimed, and is counted as a searcher. It is unparked soon, if it was not yet.
    Claimed,
    /// It was summoned; it is not counted as a searcher. It is unparked soon, if it was not yet.
    Summoned,
}

/// What a worker looks at, and does, around its sleep; see [`Idle::rest`].
pub trait Rest {
    /// Whether the worker would find anything to do: what it may run, or, unless `all`, what nobody
    /// else can.
    fn has_work(&self, all: bool) -> bool;

    /// Whether the runtime stops.
    fn is_stopping(&self) -> bool;

    /// Sleeps until the worker is not asleep any more ([`Idle::is_asleep`]), or its timer is due.
    fn sleep(&self);

    /// The worker has looked asleep, and is awake.
    fn wakes(&self);
}

/// How a worker's rest has ended.
#[must_use]
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Rested {
    /// It has not slept, since its last look has found something.
    Not {
        /// Whether it is a searcher.
        searches: bool,
    },
    /// It has slept.
    Slept(Woken),
}

impl Idle {
    /// For `workers` workers, all of them running.
    pub fn new(workers: usize) -> Self {
        Self::with_spares(workers, 0)
    }

    /// For `workers` workers and, after them, `spares` that are off duty.
    pub fn with_spares(workers: usize, spares: usize) -> Self {
        let words = (workers + spares).div_ceil(WORKERS_IN_WORD);
        let on_duty = |word: usize| match workers.saturating_sub(word * WORKERS_IN_WORD) {
            WORKERS_IN_WORD.. => LOW_BITS,
            these => LOW_BITS & ((1 << (these * BITS)) - 1),
        };
        Self {
            searching: AtomicIsize::new(0),
            states: (0..words).map(|_| AtomicU64::new(0)).collect(),
            on_duty: (0..words).map(|word| AtomicU64::new(on_duty(word))).collect(),
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
        if self.searchers() > 0 {
            return None;
        }
        self.claim_any()
    }

    /// To be called after so many pieces of work were made visible to all workers. Wakes up to `count`
    /// workers, whether one searches or not. How many.
    pub fn wake_many(&self, count: usize, unpark: impl Fn(usize)) -> usize {
        // (A), pairs with (B) in `fall_asleep`.
        fence(Ordering::SeqCst);
        let claims = (0..count).map_while(|_| self.claim_any());
        claims.map(unpark).count()
    }

    /// A worker has found work. If it was the last searcher it sees to those who relied on it.
    #[inline]
    pub fn stop_searching(&self, searching: bool, unpark: impl FnOnce(usize)) {
        if searching
            && self.end_search()
            && let Some(worker) = self.submit()
        {
            unpark(worker);
        }
    }

    /// Claims any sleeper that is on duty, whether somebody searches or not.
    #[must_use = "the worker that is returned has been claimed and must be unparked"]
    #[inline]
    pub fn claim_any(&self) -> Option<usize> {
        for (index, word) in self.states.iter().enumerate() {
            // Relaxed: the caller has a fence.
            let mut states = word.load(Ordering::Relaxed);
            let on_duty = self.on_duty[index].load(Ordering::Relaxed);
            // ASLEEP is the one state whose low bit is set and whose high bit is not.
            while let sleepers @ 1.. = states & on_duty & !(states >> 1) {
                let worker = index * WORKERS_IN_WORD + sleepers.trailing_zeros() as usize / BITS;
                match self.take_out(worker, states, CLAIMED) {
                    Ok(()) => {
                        self.enter_search();
                        return Some(worker);
                    }
                    Err(now) => states = now,
                }
            }
        }
        None
    }

    /// Summons one worker, after something was put into its inbox. True if the caller must unpark
    /// it.
    #[must_use = "a worker that was summoned must be unparked"]
    #[inline]
    pub fn summon(&self, worker: usize) -> bool {
        // (A), pairs with (B) in `fall_asleep`.
        fence(Ordering::SeqCst);
        self.rouse(worker, SUMMONED)
    }

    /// Claims this worker, on duty or not, if it is asleep. True if the caller must unpark it.
    #[must_use = "a worker that was claimed must be unparked"]
    pub fn claim(&self, worker: usize) -> bool {
        let claimed = self.rouse(worker, CLAIMED);
        if claimed {
            self.enter_search();
        }
        claimed
    }

    /// Takes one worker out of ASLEEP, if that is what it is.
    #[inline]
    fn rouse(&self, worker: usize, into: u64) -> bool {
        // Relaxed: the caller's fence orders it.
        let mut states = self.states[worker / WORKERS_IN_WORD].load(Ordering::Relaxed);
        while state_in(states, worker) == ASLEEP {
            match self.take_out(worker, states, into) {
                Ok(()) => return true,
                Err(now) => states = now,
            }
        }
        false
    }

    /// From now on the worker may be claimed by any submitter, or may not. After the former the
    /// caller looks for work itself.
    pub fn set_duty(&self, worker: usize, on_duty: bool) {
        let (word, bit) = (&self.on_duty[worker / WORKERS_IN_WORD], 1 << shift(worker));
        // Relaxed: nothing is published by it; see the module's documentation.
        if on_duty {
            word.fetch_or(bit, Ordering::Relaxed);
        } else {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
        // Orders it before the caller's look for work, as (A).
        fence(Ordering::SeqCst);
    }

    /// Whether any submitter may claim the worker.
    #[inline]
    pub fn is_on_duty(&self, worker: usize) -> bool {
        // Relaxed: see `set_duty`.
        self.on_duty[worker / WORKERS_IN_WORD].load(Ordering::Relaxed) >> shift(worker) & 1 == 1
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

    /// The sleep of a worker that has found nothing.
    pub fn rest(&self, worker: usize, was_searching: bool, means: &impl Rest) -> Rested {
        self.fall_asleep(worker, was_searching);
        // Whether it is on duty it asks now: whoever puts it on duty later finds it asleep.
        let all = was_searching || self.is_on_duty(worker);
        if means.has_work(all) || means.is_stopping() {
            let searches = self.stay_awake(worker, was_searching);
            // The monitor may have seen it asleep in between.
            means.wakes();
            return Rested::Not { searches };
        }
        self.rest_on(worker, means)
    }

    /// The rest of [`rest`](Self::rest), of a worker that is asleep already.
    pub fn rest_on(&self, worker: usize, means: &impl Rest) -> Rested {
        means.sleep();
        let woken = self.wake_up(worker);
        means.wakes();
        Rested::Slept(woken)
    }

    /// Becomes ASLEEP. The caller must look at every queue once more before it sleeps.
    pub fn fall_asleep(&self, worker: usize, was_searching: bool) {
        // Release pairs with the Acquire of the `take_out` that wakes the worker: the waker must
        // see which OS thread it is. The rest is ordered by the fence below.
        let bits = ASLEEP << shift(worker);
        self.states[worker / WORKERS_IN_WORD].fetch_or(bits, Ordering::Release);
        if was_searching {
            self.searching.fetch_sub(1, Ordering::Relaxed);
        }
        // (B), pairs with (A) in `submit` and `summon`.
        fence(Ordering::SeqCst);
    }

    /// Whether nobody has claimed or summoned the worker since it fell asleep.
    #[inline]
    pub fn is_asleep(&self, worker: usize) -> bool {
        // Acquire pairs with the Release of the `take_out` that woke the worker.
        state_in(self.states[worker / WORKERS_IN_WORD].load(Ordering::Acquire), worker) == ASLEEP
    }

    /// Becomes AWAKE.
    pub fn wake_up(&self, worker: usize) -> Woken {
        // Acquire: as in `is_asleep`. Relaxed for what is stored: nobody acts upon AWAKE.
        let before = self.states[worker / WORKERS_IN_WORD]
            .fetch_and(!(0b11 << shift(worker)), Ordering::Acquire);
        match state_in(before, worker) {
            CLAIMED => Woken::Claimed,
            SUMMONED => Woken::Summoned,
            _ => Woken::ByItself,
        }
    }

    /// The last look has found something, so the worker does not sleep. True if it is a searcher.
    pub fn stay_awake(&self, worker: usize, was_searching: bool) -> bool {
        match self.wake_up(worker) {
            Woken::Claimed => true,
            Woken::ByItself | Woken::Summoned => {
                if was_searching {
                    self.enter_search();
                }
                was_searching
            }
        }
    }

    /// How many of the workers on duty are asleep now, as things look.
    pub fn sleepers(&self) -> usize {
        let words = self.states.iter().zip(&self.on_duty);
        let asleep = |(states, on_duty): (&AtomicU64, &AtomicU64)| {
            let states = states.load(Ordering::Relaxed);
            (states & on_duty.load(Ordering::Relaxed) & !(states >> 1)).count_ones() as usize
        };
        words.map(asleep).sum()
    }

    /// How many search, after a fence.
    pub(crate) fn searchers(&self) -> isize {
        // Relaxed: the caller has a fence, or takes a hint.
        self.searching.load(Ordering::Relaxed)
    }

    /// Counts a searcher, unasked: one that is about to be started.
    pub(crate) fn enter_search(&self) {
        // Relaxed: a submitter that does not see this yet wakes one worker too many.
        self.searching.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a worker out of ASLEEP, in which `states` has it. On failure the states as they are.
    #[inline]
    fn take_out(&self, worker: usize, states: u64, into: u64) -> Result<(), u64> {
        let next = states & !(0b11 << shift(worker)) | into << shift(worker);
        // Release pairs with the Acquire of `is_asleep` and `wake_up`, Acquire with the Release of
        // `fall_asleep`. Work is published by the queues.
        self.states[worker / WORKERS_IN_WORD]
            .compare_exchange(states, next, Ordering::AcqRel, Ordering::Relaxed)
            .map(drop)
    }
}

const fn shift(worker: usize) -> usize {
    worker % WORKERS_IN_WORD * BITS
}

const fn state_in(states: u64, worker: usize) -> u64 {
    states >> shift(worker) & 0b11
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
        assert_eq!(idle.wake_up(3), Woken::Claimed);
        assert!(idle.end_search());
        assert_eq!(idle.submit(), Some(70));
    }

    #[test]
    fn a_summons_takes_that_worker_only_and_makes_no_searcher() {
        let idle = Idle::new(4);
        idle.fall_asleep(1, false);
        idle.fall_asleep(2, false);
        assert!(!idle.summon(0));
        assert!(idle.summon(2));
        assert!(!idle.summon(2));
        assert_eq!(idle.submit(), Some(1), "nobody searches");
        assert_eq!(idle.wake_up(2), Woken::Summoned);
        assert_eq!(idle.wake_up(1), Woken::Claimed);
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

    #[test]
    fn every_worker_of_a_full_word_sleeps_and_wakes() {
        let idle = Idle::new(33);
        (0..33).for_each(|worker| idle.fall_asleep(worker, false));
        assert_eq!(idle.sleepers(), 33);
        assert!((0..33).all(|worker| idle.claim_any() == Some(worker)));
        assert_eq!(idle.claim_any(), None);
        assert!((0..33).all(|worker| idle.wake_up(worker) == Woken::Claimed));
        assert!(!idle.is_asleep(0));
    }
}
