//! A condition variable for green threads and OS threads.
//!
//! A waiter enters the wait queue *before* it gives the mutex back, so a notification that comes
//! after the unlocking finds it there: no wake-up is lost, and none is given to a thread that has
//! not come to wait yet. The word says whether anybody is in the queue; it is written under the
//! bucket's lock alone, so a notification with nobody waiting costs one load.
//!
//! That load needs no ordering. Only a notifier that comes after the waiter's unlocking of the
//! mutex has to find the waiter: one that took the mutex before it changed what the waiter looks
//! at. That mutex makes the waiter's write of the word happen before the notifier's load. For any
//! other notifier the waiter might as well have come later.

use std::fmt;
use std::mem::ManuallyDrop;
use std::time::Duration;

use bine_runtime::primitive::const_atomic::{AtomicU32, Ordering};

use crate::parking;
use crate::wait_queue::{self, Entrance, Parked};
use crate::{LockResult, MutexGuard, PoisonError};

/// The word while the queue is empty.
const NOBODY: u32 = 0;
/// The word while the queue may hold waiters.
const SOMEBODY: u32 = 1;

/// A condition variable with the interface of [`std::sync::Condvar`].
///
/// # Fairness
/// [`notify_one`](Self::notify_one) wakes the thread that has waited longest; who gets the mutex
/// then is the mutex's affair.
///
/// # Poisoning
/// As in std: the condition variable cannot be poisoned. A wait returns an error, with the guard, if the
/// mutex is poisoned when it is taken again.
///
/// # Cancellation
/// A green thread that is cancelled while it waits leaves the queue and unwinds without the mutex; if it was
/// notified just then, the next one is notified in its place. One that was notified and has yet to take
/// the mutex is not interrupted before it has it.
///
/// # Cost
/// A word of 4 bytes. A notification while nobody waits costs one load. To wait is to look the word up in
/// the wait queue, which allocates nothing; to notify one takes the same time however many wait, and to
/// notify all takes time for each. They are not moved to the queue of the mutex: of those that are woken
/// together all but one will wait for that. See [what things cost](crate#what-things-cost).
///
/// # Where it comes from
/// To enter the queue first and give the mutex back then is what `parking_lot`'s does, and so is the word
/// that says whether there is anybody to notify.
///
/// # Examples
/// ```
/// use bine_sync::{Condvar, Mutex};
///
/// let ready = Mutex::new(false);
/// let changed = Condvar::new();
/// std::thread::scope(|s| {
///     s.spawn(|| {
///         *ready.lock().unwrap() = true;
///         changed.notify_one();
///     });
///     let ready = changed.wait_while(ready.lock().unwrap(), |ready| !*ready).unwrap();
///     assert!(*ready);
/// });
/// ```
pub struct Condvar {
    word: AtomicU32,
}

/// Whether a wait with a timeout ended because of the timeout.
///
/// # Examples
/// ```
/// use bine_sync::{Condvar, Mutex};
/// use std::time::Duration;
///
/// let mutex = Mutex::new(());
/// let (_guard, result) =
///     Condvar::new().wait_timeout(mutex.lock().unwrap(), Duration::ZERO).unwrap();
/// assert!(result.timed_out());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether it did.
    ///
    /// # Examples
    /// As of [`WaitTimeoutResult`].
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    /// A condition variable that nobody waits on.
    ///
    /// # Examples
    /// ```
    /// static CHANGED: bine_sync::Condvar = bine_sync::Condvar::new();
    /// ```
    #[must_use]
    #[inline]
    pub const fn new() -> Self {
        Self { word: AtomicU32::new(NOBODY) }
    }

    /// Gives the mutex back, waits for a notification, and takes the mutex again.
    ///
    /// May return without a notification, as std's: look at the condition in a loop, or use
    /// [`wait_while`](Self::wait_while).
    ///
    /// # Errors
    /// If the mutex is poisoned when it is taken again; the error holds the guard.
    ///
    /// # Panics
    /// Never. Unlike std's it may be used with several mutexes at once.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::{Condvar, Mutex};
    ///
    /// let (ready, changed) = (Mutex::new(false), Condvar::new());
    /// std::thread::scope(|s| {
    ///     s.spawn(|| {
    ///         *ready.lock().unwrap() = true;
    ///         changed.notify_one();
    ///     });
    ///     let mut guard = ready.lock().unwrap();
    ///     while !*guard {
    ///         guard = changed.wait(guard).unwrap();
    ///     }
    /// });
    /// ```
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.wait_until(guard, None).0
    }

    /// As [`wait`](Self::wait), and whether it was notified: not if the thread of the model was
    /// cancelled.
    #[cfg(bine_loom)]
    #[doc(hidden)]
    pub fn wait_unless_cancelled<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
    ) -> (LockResult<MutexGuard<'a, T>>, bool) {
        self.wait_until(guard, None)
    }

    /// Waits as long as `condition` is true.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// # Examples
    /// As of [`Condvar`].
    pub fn wait_while<'a, T, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: F,
    ) -> LockResult<MutexGuard<'a, T>>
    where
        F: FnMut(&mut T) -> bool,
    {
        while condition(&mut *guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Waits as [`wait`](Self::wait) does, but no longer than `timeout`; taking the mutex again
    /// may take longer.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// # Examples
    /// As of [`WaitTimeoutResult`].
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let (guard, notified) = self.wait_until(guard, Some(timeout));
        with_result(guard, WaitTimeoutResult(!notified))
    }

    /// As [`wait_timeout`](Self::wait_timeout), with the timeout in milliseconds; the result says
    /// whether a notification ended the wait.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// # Examples
    /// ```
    /// # #![allow(deprecated)]
    /// use bine_sync::{Condvar, Mutex};
    ///
    /// let mutex = Mutex::new(());
    /// let (_guard, notified) = Condvar::new().wait_timeout_ms(mutex.lock().unwrap(), 1).unwrap();
    /// assert!(!notified);
    /// ```
    #[deprecated(note = "replaced by `wait_timeout`, as in std")]
    pub fn wait_timeout_ms<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        ms: u32,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        let (guard, notified) = self.wait_until(guard, Some(Duration::from_millis(ms.into())));
        with_result(guard, notified)
    }

    /// Waits as long as `condition` is true, but no longer than `timeout`. The result says whether
    /// the condition was still true at the end.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// # Examples
    /// ```
    /// use bine_sync::{Condvar, Mutex};
    /// use std::time::Duration;
    ///
    /// let mutex = Mutex::new(1);
    /// let (guard, result) = Condvar::new()
    ///     .wait_timeout_while(mutex.lock().unwrap(), Duration::from_millis(1), |n| *n > 0)
    ///     .unwrap();
    /// assert!(result.timed_out());
    /// assert_eq!(*guard, 1);
    /// ```
    pub fn wait_timeout_while<'a, T, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: F,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>
    where
        F: FnMut(&mut T) -> bool,
    {
        let start = parking::now();
        loop {
            if !condition(&mut *guard) {
                return Ok((guard, WaitTimeoutResult(false)));
            }
            let Some(left) = timeout.checked_sub(parking::now() - start) else {
                return Ok((guard, WaitTimeoutResult(true)));
            };
            guard = self.wait_timeout(guard, left)?.0;
        }
    }

    /// Wakes the thread that has waited longest, if one waits.
    ///
    /// # Examples
    /// As of [`Condvar`].
    pub fn notify_one(&self) {
        // Relaxed: see the module documentation.
        if self.word.load(Ordering::Relaxed) == SOMEBODY {
            wait_queue::unpark_one(self.key(), |front| {
                if front.is_none_or(|front| !front.more) {
                    self.emptied();
                }
                wait_queue::WOKEN
            });
        }
    }

    /// Wakes all threads that wait.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::{Condvar, Mutex};
    ///
    /// let (ready, changed) = (Mutex::new(false), Condvar::new());
    /// std::thread::scope(|s| {
    ///     for _ in 0..3 {
    ///         s.spawn(|| drop(changed.wait_while(ready.lock().unwrap(), |ready| !*ready)));
    ///     }
    ///     *ready.lock().unwrap() = true;
    ///     changed.notify_all();
    /// });
    /// ```
    pub fn notify_all(&self) {
        // Relaxed: see the module documentation.
        if self.word.load(Ordering::Relaxed) == SOMEBODY {
            wait_queue::unpark(self.key(), usize::MAX, || self.emptied());
        }
    }

    fn key(&self) -> usize {
        wait_queue::address(&raw const self.word)
    }

    /// To be called under the bucket's lock.
    fn emptied(&self) {
        // Relaxed: the bucket's lock orders the writes; the loads need no order.
        self.word.store(NOBODY, Ordering::Relaxed);
    }

    /// The guard, and whether it was a notification that ended the wait.
    fn wait_until<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Option<Duration>,
    ) -> (LockResult<MutexGuard<'a, T>>, bool) {
        // A deadline that no clock can show is none.
        let deadline = timeout.and_then(|timeout| parking::now().checked_add(timeout));
        // Should the wait unwind, the lock is no longer this guard's to give back.
        let guard = ManuallyDrop::new(guard);
        let mutex = guard.raw();
        let admit = || {
            // Relaxed: as in `emptied`.
            self.word.store(SOMEBODY, Ordering::Relaxed);
            true
        };
        let unlock = || mutex.unlock();
        let pass_on = |_| self.notify_one();
        let parked =
            wait_queue::park(self.key(), Entrance::default(), deadline, admit, unlock, pass_on);
        if parked == Parked::TimedOut {
            // It may have had no time to wait at all.
            parking::checkpoint();
        }
        // Not interrupted: the notification that ended the wait is this thread's, and would be lost.
        if !mutex.try_lock() {
            parking::shielded(|| mutex.lock());
        }
        (ManuallyDrop::into_inner(guard).checked(), parked != Parked::TimedOut)
    }
}

/// Adds `second` to what a lock gave.
fn with_result<G, S>(guard: LockResult<G>, second: S) -> LockResult<(G, S)> {
    match guard {
        Ok(guard) => Ok((guard, second)),
        Err(error) => Err(PoisonError::new((error.into_inner(), second))),
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
