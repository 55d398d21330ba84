//! A counting semaphore for green threads and OS threads. Its shape is that of tokio's.
//!
//! # The word
//!
//! | bits | name | meaning |
//! |---|---|---|
//! | 0 | `CLOSED` | nobody gets a permit any more |
//! | 1 | `PARKED` | threads may be in the wait queue; nobody comes before them |
//! | from 2 | | the permits that are there |
//!
//! Permits are taken without the queue only while `PARKED` is not set. Whoever gives some back while
//! it is set looks after the queue: under the bucket's lock it hands out permits from the front as
//! long as there are enough for the one that is next, and clears `PARKED` with the last one. One that
//! is about to wait sets `PARKED` first, and finds under the bucket's lock that the word is not what
//! it saw if anything has changed meanwhile; then it starts again.
//!
//! One that leaves the queue without permits, at its deadline or because it unwinds, looks after it
//! too: it may have wanted more than those behind it.
//!
//! # Where it comes from
//!
//! That permits go to the first in the queue, and that one that wants many is not overtaken by those
//! that want few, is tokio's; the queue is this crate's. Rejected: letting those that come overtake
//! those that were woken, as the mutex does. One that wants many permits would have to collect them.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bine_runtime::primitive::const_atomic::{AtomicUsize, Ordering};

use crate::parking::{self, checkpoint};
use crate::wait_queue::{self, Entrance, Front, Parked};

const CLOSED: usize = 0b01;
const PARKED: usize = 0b10;
const FLAGS: usize = CLOSED | PARKED;
/// One permit.
const PERMIT: usize = 0b100;

/// Token of a waiter that has its permits.
const GRANTED: u32 = 1;
/// Token of a waiter that will get none.
const SHUT: u32 = 2;

/// A number of permits, which threads take and give back.
///
/// # Fairness
/// First come, first served: a thread that wants many permits is not overtaken by those that want
/// few, and those who come later queue behind it even if there are enough for them.
///
/// # Cancellation
/// A green thread that is cancelled while it waits leaves the queue, and permits that it was given
/// just then go to the next. A permit that a cancelled thread holds is given back as it unwinds.
///
/// # Poisoning
/// There is none. A permit that a panicking thread holds is given back as it unwinds.
///
/// # Cost
/// A word. A permit that is there costs one compare-exchange, and one addition when it is given back.
/// Waiting allocates nothing, and takes the same time however many wait. A permit goes to the next in the
/// queue directly, which costs a change of threads for each that was waited for. See
/// [what things cost](crate#what-things-cost).
///
/// # Where it comes from
/// That permits go to the first in the queue, also where it wants many, is tokio's; the queue is this
/// crate's.
///
/// # Examples
/// ```
/// use bine_sync::Semaphore;
///
/// let semaphore = Semaphore::new(2);
/// let one = semaphore.acquire().unwrap();
/// let two = semaphore.acquire().unwrap();
/// assert!(semaphore.try_acquire().is_err());
/// drop(one);
/// assert!(semaphore.try_acquire().is_ok());
/// # drop(two);
/// ```
pub struct Semaphore {
    word: AtomicUsize,
}

/// A permit, or several, of a [`Semaphore`]; gives them back when dropped.
///
/// # Examples
/// As of [`Semaphore`].
#[must_use = "if unused the permits are given back at once"]
#[clippy::has_significant_drop]
pub struct SemaphorePermit<'a> {
    semaphore: &'a Semaphore,
    permits: u32,
}

/// As [`SemaphorePermit`], with the semaphore.
///
/// # Examples
/// As of [`Semaphore::acquire_owned`].
#[must_use = "if unused the permits are given back at once"]
#[clippy::has_significant_drop]
pub struct OwnedSemaphorePermit {
    semaphore: Arc<Semaphore>,
    permits: u32,
}

/// The semaphore was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcquireError;

/// Why [`Semaphore::try_acquire`] gave no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryAcquireError {
    /// The semaphore was closed.
    Closed,
    /// There are not enough permits now.
    NoPermits,
}

/// Why [`Semaphore::acquire_timeout`] gave no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcquireTimeoutError {
    /// The semaphore was closed.
    Closed,
    /// There were not enough permits in time.
    Timeout,
}

impl Semaphore {
    /// As many permits fit.
    pub const MAX_PERMITS: usize = usize::MAX >> 3;

    /// With `permits` permits.
    ///
    /// # Panics
    /// If those are more than [`MAX_PERMITS`](Self::MAX_PERMITS).
    ///
    /// # Examples
    /// ```
    /// static AT_ONCE: bine_sync::Semaphore = bine_sync::Semaphore::new(10);
    /// ```
    #[must_use]
    pub const fn new(permits: usize) -> Self {
        assert!(permits <= Self::MAX_PERMITS, "too many permits");
        Self { word: AtomicUsize::new(permits * PERMIT) }
    }

    /// How many permits are there now.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(bine_sync::Semaphore::new(2).available_permits(), 2);
    /// ```
    pub fn available_permits(&self) -> usize {
        // Relaxed: others may change it at any time.
        self.word.load(Ordering::Relaxed) / PERMIT
    }

    /// Adds `n` permits.
    ///
    /// # Panics
    /// If there were more than [`MAX_PERMITS`](Self::MAX_PERMITS) then.
    ///
    /// # Examples
    /// ```
    /// let semaphore = bine_sync::Semaphore::new(0);
    /// semaphore.add_permits(2);
    /// assert_eq!(semaphore.available_permits(), 2);
    /// ```
    pub fn add_permits(&self, n: usize) {
        // Relaxed: a guess for the exchange.
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let permits = (word / PERMIT).checked_add(n).filter(|sum| *sum <= Self::MAX_PERMITS);
            let sum = (permits.expect("too many permits") * PERMIT) | (word & FLAGS);
            // Release: as in `release`.
            match self.word.compare_exchange_weak(word, sum, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        if word & PARKED != 0 {
            self.look_after_queue();
        }
    }

    /// Takes up to `n` permits that are there away for good, and says how many.
    ///
    /// # Examples
    /// ```
    /// let semaphore = bine_sync::Semaphore::new(2);
    /// assert_eq!(semaphore.forget_permits(3), 2);
    /// ```
    pub fn forget_permits(&self, n: usize) -> usize {
        // Relaxed: a guess for the exchange.
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let forgotten = n.min(word / PERMIT);
            match self.take(word, word - forgotten * PERMIT) {
                Ok(()) => return forgotten,
                Err(now) => word = now,
            }
        }
    }

    /// Waits for a permit.
    ///
    /// # Errors
    /// If the semaphore is closed, also meanwhile.
    ///
    /// # Examples
    /// As of [`Semaphore`].
    pub fn acquire(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.acquire_many(1)
    }

    /// Waits for `n` permits.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    ///
    /// # Examples
    /// ```
    /// let semaphore = bine_sync::Semaphore::new(3);
    /// let three = semaphore.acquire_many(3).unwrap();
    /// assert_eq!(three.num_permits(), 3);
    /// ```
    pub fn acquire_many(&self, n: u32) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.acquire_until(n, None).map_err(|_| AcquireError)?;
        Ok(SemaphorePermit { semaphore: self, permits: n })
    }

    /// Takes a permit if there is one and nobody waits. Does not wait.
    ///
    /// # Errors
    /// If there is none, or the semaphore is closed.
    ///
    /// # Examples
    /// As of [`Semaphore`].
    pub fn try_acquire(&self) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        self.try_acquire_many(1)
    }

    /// Takes `n` permits if they are there and nobody waits. Does not wait.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire).
    ///
    /// # Examples
    /// As of [`try_acquire`](Self::try_acquire).
    pub fn try_acquire_many(&self, n: u32) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        self.try_take(n)?;
        Ok(SemaphorePermit { semaphore: self, permits: n })
    }

    /// Waits for a permit, but no longer than `timeout`.
    ///
    /// # Errors
    /// If there was none in time, or the semaphore is closed.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::{AcquireTimeoutError, Semaphore};
    /// use std::time::Duration;
    ///
    /// let semaphore = Semaphore::new(0);
    /// let late = semaphore.acquire_timeout(Duration::from_millis(1)).unwrap_err();
    /// assert_eq!(late, AcquireTimeoutError::Timeout);
    /// ```
    pub fn acquire_timeout(
        &self,
        timeout: Duration,
    ) -> Result<SemaphorePermit<'_>, AcquireTimeoutError> {
        self.acquire_many_timeout(1, timeout)
    }

    /// Waits for `n` permits, but no longer than `timeout`.
    ///
    /// # Errors
    /// As [`acquire_timeout`](Self::acquire_timeout).
    ///
    /// # Examples
    /// As of [`acquire_timeout`](Self::acquire_timeout).
    pub fn acquire_many_timeout(
        &self,
        n: u32,
        timeout: Duration,
    ) -> Result<SemaphorePermit<'_>, AcquireTimeoutError> {
        // A deadline that no clock can show is none.
        self.acquire_until(n, parking::now().checked_add(timeout))?;
        Ok(SemaphorePermit { semaphore: self, permits: n })
    }

    /// As [`acquire`](Self::acquire), for a permit that keeps the semaphore.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    ///
    /// # Examples
    /// ```
    /// use bine_sync::Semaphore;
    /// use std::sync::Arc;
    ///
    /// let semaphore = Arc::new(Semaphore::new(1));
    /// let permit = Arc::clone(&semaphore).acquire_owned().unwrap();
    /// std::thread::spawn(move || drop(permit)).join().unwrap();
    /// assert_eq!(semaphore.available_permits(), 1);
    /// ```
    pub fn acquire_owned(self: Arc<Self>) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.acquire_many_owned(1)
    }

    /// As [`acquire_many`](Self::acquire_many), for permits that keep the semaphore.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    ///
    /// # Examples
    /// As of [`acquire_owned`](Self::acquire_owned).
    pub fn acquire_many_owned(
        self: Arc<Self>,
        n: u32,
    ) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.acquire_until(n, None).map_err(|_| AcquireError)?;
        Ok(OwnedSemaphorePermit { semaphore: self, permits: n })
    }

    /// As [`try_acquire`](Self::try_acquire), for a permit that keeps the semaphore.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire).
    ///
    /// # Examples
    /// As of [`acquire_owned`](Self::acquire_owned).
    pub fn try_acquire_owned(self: Arc<Self>) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        self.try_acquire_many_owned(1)
    }

    /// As [`try_acquire_many`](Self::try_acquire_many), for permits that keep the semaphore.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire).
    ///
    /// # Examples
    /// As of [`acquire_owned`](Self::acquire_owned).
    pub fn try_acquire_many_owned(
        self: Arc<Self>,
        n: u32,
    ) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        self.try_take(n)?;
        Ok(OwnedSemaphorePermit { semaphore: self, permits: n })
    }

    /// As [`acquire_timeout`](Self::acquire_timeout), for a permit that keeps the semaphore.
    ///
    /// # Errors
    /// As [`acquire_timeout`](Self::acquire_timeout).
    ///
    /// # Examples
    /// As of [`acquire_timeout`](Self::acquire_timeout).
    pub fn acquire_owned_timeout(
        self: Arc<Self>,
        timeout: Duration,
    ) -> Result<OwnedSemaphorePermit, AcquireTimeoutError> {
        self.acquire_until(1, parking::now().checked_add(timeout))?;
        Ok(OwnedSemaphorePermit { semaphore: self, permits: 1 })
    }

    /// Ends all waiting, now and later, with an error. Permits that are out stay valid.
    ///
    /// # Examples
    /// ```
    /// let semaphore = bine_sync::Semaphore::new(1);
    /// semaphore.close();
    /// assert!(semaphore.acquire().is_err());
    /// ```
    pub fn close(&self) {
        // AcqRel: what was done before happens before the errors of those who see it.
        let word = self.word.fetch_or(CLOSED, Ordering::AcqRel);
        if word & PARKED != 0 {
            wait_queue::unpark_while(self.key(), |front| {
                if front.is_none() {
                    self.emptied();
                }
                front.map(|_| SHUT)
            });
        }
    }

    /// Whether it was closed.
    ///
    /// # Examples
    /// ```
    /// assert!(!bine_sync::Semaphore::new(1).is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        // Acquire: pairs with `close`.
        self.word.load(Ordering::Acquire) & CLOSED != 0
    }

    #[inline]
    fn try_take(&self, n: u32) -> Result<(), TryAcquireError> {
        // Relaxed: a guess for the exchange.
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & CLOSED != 0 {
                return Err(TryAcquireError::Closed);
            }
            if !may_take(word, n) {
                return Err(TryAcquireError::NoPermits);
            }
            match self.take(word, word - n as usize * PERMIT) {
                Ok(()) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }

    #[inline]
    fn take(&self, from: usize, to: usize) -> Result<(), usize> {
        // Acquire: pairs with the Release of those who gave permits.
        self.word.compare_exchange_weak(from, to, Ordering::Acquire, Ordering::Relaxed).map(drop)
    }

    #[inline]
    fn acquire_until(&self, n: u32, deadline: Option<Instant>) -> Result<(), AcquireTimeoutError> {
        match self.try_take(n) {
            Ok(()) => Ok(()),
            Err(TryAcquireError::Closed) => Err(AcquireTimeoutError::Closed),
            Err(TryAcquireError::NoPermits) => self.wait_for(n, deadline),
        }
    }

    #[cold]
    fn wait_for(&self, n: u32, deadline: Option<Instant>) -> Result<(), AcquireTimeoutError> {
        checkpoint();
        // Relaxed: a guess for the exchanges.
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & CLOSED != 0 {
                return Err(AcquireTimeoutError::Closed);
            }
            let taken = may_take(word, n);
            let next = if taken { word - n as usize * PERMIT } else { word | PARKED };
            // Also where it only sets PARKED: an Acquire too many does no harm.
            if next != word
                && let Err(now) = self.take(word, next)
            {
                word = now;
                continue;
            }
            if taken {
                return Ok(());
            }
            match self.park(next, n, deadline) {
                Parked::Token(GRANTED) => return Ok(()),
                Parked::Token(_) => return Err(AcquireTimeoutError::Closed),
                #[cfg(bine_loom)] // instead of unwinding
                Parked::TimedOut if crate::parking::is_interrupted() => {
                    return Err(AcquireTimeoutError::Timeout);
                }
                Parked::TimedOut => {
                    self.look_after_queue();
                    return Err(AcquireTimeoutError::Timeout);
                }
                // Relaxed: as above.
                Parked::Refused => word = self.word.load(Ordering::Relaxed),
            }
        }
    }

    fn park(&self, announced: usize, n: u32, deadline: Option<Instant>) -> Parked {
        let entrance = Entrance { demand: n as usize, ..Entrance::default() };
        // Relaxed: the bucket's lock orders it against whoever looks after the queue.
        let admit = || self.word.load(Ordering::Relaxed) == announced;
        let unwound = |token| match token {
            Some(GRANTED) => self.release(n),
            Some(_) => {}
            None => self.look_after_queue(),
        };
        wait_queue::park_told(self.key(), entrance, deadline, admit, || (), unwound)
    }

    /// Gives `n` permits back.
    #[inline]
    fn release(&self, n: u32) {
        // Release: pairs with the Acquire of whoever takes them next.
        let word = self.word.fetch_add(n as usize * PERMIT, Ordering::Release);
        if word & PARKED != 0 {
            self.look_after_queue();
        }
    }

    /// Hands out permits from the front of the queue.
    #[cold]
    fn look_after_queue(&self) {
        wait_queue::unpark_while(self.key(), |front| {
            let Some(Front { demand, more, .. }) = front else {
                self.emptied();
                return None;
            };
            // Relaxed: a guess for the exchange.
            let mut word = self.word.load(Ordering::Relaxed);
            while word / PERMIT >= demand {
                let kept = if more { word } else { word & !PARKED };
                // On behalf of the one in the queue.
                match self.take(word, kept - demand * PERMIT) {
                    Ok(()) => return Some(GRANTED),
                    Err(now) => word = now,
                }
            }
            None
        });
    }

    /// Under the bucket's lock: nobody is in the queue.
    fn emptied(&self) {
        // Relaxed: whoever has announced itself and comes to the queue sees it by the bucket's lock.
        self.word.fetch_and(!PARKED, Ordering::Relaxed);
    }

    fn key(&self) -> usize {
        wait_queue::address(&raw const self.word)
    }
}

/// Whether `n` permits may be taken past the queue.
#[inline]
const fn may_take(word: usize, n: u32) -> bool {
    word & PARKED == 0 && word / PERMIT >= n as usize
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("permits", &self.available_permits())
            .finish_non_exhaustive()
    }
}

macro_rules! permit {
    ($permit:ident $(<$life:lifetime>)?, $same:expr) => {
        impl $permit $(<$life>)? {
            /// How many permits these are.
            ///
            /// # Examples
            /// As of [`Semaphore::acquire_many`].
            pub fn num_permits(&self) -> usize {
                self.permits as usize
            }

            /// Never gives the permits back.
            ///
            /// # Examples
            /// ```
            /// let semaphore = bine_sync::Semaphore::new(1);
            /// semaphore.acquire().unwrap().forget();
            /// assert_eq!(semaphore.available_permits(), 0);
            /// ```
            pub fn forget(mut self) {
                self.permits = 0;
            }

            /// Makes one of the two.
            ///
            /// # Panics
            /// If they are of different semaphores, or too many for one.
            ///
            /// # Examples
            /// ```
            /// let semaphore = bine_sync::Semaphore::new(2);
            /// let mut both = semaphore.acquire().unwrap();
            /// both.merge(semaphore.acquire().unwrap());
            /// assert_eq!(both.num_permits(), 2);
            /// ```
            pub fn merge(&mut self, mut other: Self) {
                assert!($same(&self.semaphore, &other.semaphore), "permits of two semaphores");
                self.permits = self.permits.checked_add(other.permits).expect("too many permits");
                other.permits = 0;
            }
        }

        impl Drop for $permit $(<$life>)? {
            fn drop(&mut self) {
                if self.permits > 0 {
                    self.semaphore.release(self.permits);
                }
            }
        }

        impl fmt::Debug for $permit $(<$life>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($permit)).field("permits", &self.permits).finish_non_exhaustive()
            }
        }
    };
}

permit!(SemaphorePermit<'_>, |one: &&Semaphore, other: &&Semaphore| std::ptr::eq(*one, *other));
permit!(OwnedSemaphorePermit, Arc::ptr_eq);

impl SemaphorePermit<'_> {
    /// Takes `n` permits out as one of their own, if these are as many.
    ///
    /// # Examples
    /// ```
    /// let semaphore = bine_sync::Semaphore::new(3);
    /// let mut three = semaphore.acquire_many(3).unwrap();
    /// let two = three.split(2).unwrap();
    /// assert_eq!((three.num_permits(), two.num_permits()), (1, 2));
    /// assert!(three.split(2).is_none());
    /// ```
    pub fn split(&mut self, n: usize) -> Option<Self> {
        let permits = u32::try_from(n).ok()?;
        self.permits = self.permits.checked_sub(permits)?;
        Some(Self { semaphore: self.semaphore, permits })
    }
}

impl OwnedSemaphorePermit {
    /// Takes `n` permits out as one of their own, if these are as many.
    ///
    /// # Examples
    /// As of [`SemaphorePermit::split`].
    pub fn split(&mut self, n: usize) -> Option<Self> {
        let permits = u32::try_from(n).ok()?;
        self.permits = self.permits.checked_sub(permits)?;
        Some(Self { semaphore: Arc::clone(&self.semaphore), permits })
    }

    /// Whose permits these are.
    ///
    /// # Examples
    /// As of [`Semaphore::acquire_owned`].
    pub fn semaphore(&self) -> &Arc<Semaphore> {
        &self.semaphore
    }
}

const CLOSED_TEXT: &str = "the semaphore is closed";

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(CLOSED_TEXT)
    }
}

impl fmt::Display for TryAcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Closed => CLOSED_TEXT,
            Self::NoPermits => "not enough permits",
        })
    }
}

impl fmt::Display for AcquireTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Closed => CLOSED_TEXT,
            Self::Timeout => "timed out waiting for permits",
        })
    }
}

impl Error for AcquireError {}
impl Error for TryAcquireError {}
impl Error for AcquireTimeoutError {}
