//! A barrier for green threads and OS threads.
//!
//! Who arrives counts itself under a lock; the last one goes to the next *generation* and wakes the
//! others, which wait in the wait queue for the generation to change. They need not take the lock
//! again on their way out.
//!
//! One that is cancelled while it waits takes itself off the count, unless the generation is over:
//! then it has been counted, and the others have gone on. The lock orders the two.
//!
//! A count and a generation behind a lock are what std has, with a condition variable to wait at. Here the
//! generation is the word that threads wait at, so that they do not queue for the lock once more.

use std::cell::Cell;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use bine_runtime::primitive::Mutex;
use bine_runtime::primitive::atomic::{AtomicUsize, Ordering};

use crate::wait_queue::{self, Entrance};

/// A place where threads wait for one another, with the interface of [`std::sync::Barrier`].
///
/// # Cancellation
/// A green thread that is cancelled while it waits has not arrived: the others wait for one more. If
/// the last one has come already, it was counted, and the others go on without it.
///
/// # Fairness
/// All that wait are woken at once.
///
/// # Poisoning
/// There is none. A thread that panics has not arrived.
///
/// # Cost
/// An arrival takes a lock for a few instructions; the last one then wakes the others outside of it,
/// one after the other, who need not take it. Waiting allocates nothing. See
/// [what things cost](crate#what-things-cost).
///
/// # Where it comes from
/// A count and a generation behind a lock are std's; that the generation is a word to wait at, in the
/// manner of a futex, is not.
///
/// # Examples
/// ```
/// use bine_sync::Barrier;
///
/// let barrier = Barrier::new(3);
/// let leads = std::thread::scope(|s| {
///     let threads = [(); 3].map(|()| s.spawn(|| barrier.wait().is_leader()));
///     threads.map(|thread| thread.join().unwrap())
/// });
/// assert_eq!(leads.into_iter().filter(|leads| *leads).count(), 1);
/// ```
pub struct Barrier {
    /// Never held while its holder waits.
    arrived: Mutex<usize>,
    /// Written under the lock of `arrived`. The word that the others wait at.
    generation: AtomicUsize,
    threads: usize,
}

impl UnwindSafe for Barrier {}
impl RefUnwindSafe for Barrier {}

/// What a thread is told when it may go on: whether it is the one leader of its generation.
///
/// # Examples
/// ```
/// assert!(bine_sync::Barrier::new(1).wait().is_leader());
/// ```
pub struct BarrierWaitResult(bool);

impl Barrier {
    const_unless_loom! {
        /// A barrier for `n` threads at a time. 0 and 1 are the same: nobody has to wait.
        ///
        /// # Examples
        /// ```
        /// static START: bine_sync::Barrier = bine_sync::Barrier::new(2);
        /// ```
        #[must_use]
        #[inline]
        pub fn new(n: usize) -> Self {
            Self { arrived: Mutex::new(0), generation: AtomicUsize::new(0), threads: n }
        }
    }

    /// Waits until as many threads as the barrier is for have come. Then it starts anew.
    ///
    /// # Examples
    /// As of [`Barrier`].
    pub fn wait(&self) -> BarrierWaitResult {
        BarrierWaitResult(self.arrive() == Some(true))
    }

    /// As [`wait`](Self::wait), but `None` if the thread of the model was cancelled and is not counted.
    #[cfg(bine_loom)]
    #[doc(hidden)]
    pub fn wait_unless_cancelled(&self) -> Option<bool> {
        self.arrive()
    }

    /// Whether the thread is the leader; `None`, in models only, if it was cancelled before the last
    /// one came.
    fn arrive(&self) -> Option<bool> {
        let mut arrived = self.arrived.lock();
        // Relaxed: written under the lock.
        let generation = self.generation.load(Ordering::Relaxed);
        *arrived += 1;
        if *arrived >= self.threads {
            *arrived = 0;
            // Release: pairs with the Acquire load of those who wait.
            self.generation.store(generation.wrapping_add(1), Ordering::Release);
            drop(arrived);
            wait_queue::unpark(self.key(), usize::MAX, || ());
            return Some(true);
        }
        drop(arrived);
        let counted = Cell::new(true);
        // Acquire: see above.
        let waits = || self.generation.load(Ordering::Acquire) == generation;
        // In a loop: one that comes to the queue early may be woken by the leader before.
        while counted.get() && waits() {
            let entrance = Entrance::default();
            let unwound = |_| counted.set(!self.take_back(generation));
            let _ = wait_queue::park_told(self.key(), entrance, None, waits, || (), unwound);
        }
        counted.get().then_some(false)
    }

    /// Takes a thread that has arrived in `generation` off the count, unless that is over.
    #[cold]
    fn take_back(&self, generation: usize) -> bool {
        let mut arrived = self.arrived.lock();
        // Relaxed: written under the lock.
        let waits_still = self.generation.load(Ordering::Relaxed) == generation;
        *arrived -= usize::from(waits_still);
        waits_still
    }

    fn key(&self) -> usize {
        wait_queue::address(&raw const self.generation)
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").finish_non_exhaustive()
    }
}

impl BarrierWaitResult {
    /// Whether the thread is the leader, which is the last one that came.
    ///
    /// # Examples
    /// As of [`BarrierWaitResult`].
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.0
    }
}

impl fmt::Debug for BarrierWaitResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BarrierWaitResult").field("is_leader", &self.is_leader()).finish()
    }
}
