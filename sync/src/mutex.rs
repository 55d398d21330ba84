//! A mutual exclusion lock for green threads and OS threads.
//!
//! # The word
//!
//! | bit | name | meaning |
//! |---|---|---|
//! | 0 | `LOCKED` | somebody holds the lock |
//! | 1 | `PARKED` | threads may be in the wait queue; the unlocker has to look |
//! | 2 | `WOKEN`  | one thread was taken from the queue and has not tried for the lock yet |
//!
//! | from | to | who |
//! |---|---|---|
//! | not `LOCKED` | `LOCKED` | a locker; the woken thread clears `WOKEN` with the same write |
//! | `LOCKED` | + `PARKED` | a locker before it enters the queue; the woken thread clears `WOKEN` |
//! | `LOCKED`, without `PARKED` or with `WOKEN` | not `LOCKED` | the unlocker: no one to wake |
//! | `LOCKED + PARKED` | by the queue | the unlocker, under the bucket's lock, as follows |
//!
//! With `LOCKED + PARKED` and not `WOKEN` nobody but the holder can change the word, so the
//! unlocker stores what the queue calls for: 0 if it is empty; `WOKEN`, and `PARKED` if more wait,
//! if it wakes the first; or `LOCKED` and the same `PARKED`, if it hands the lock over. A locker
//! that has announced itself but is not in the queue yet finds, under the bucket's lock, that the
//! word is not what it saw, and starts again.
//!
//! # Fairness
//!
//! Unlocking wakes one waiter, and whoever comes first takes the lock: to hand it to a thread that
//! has yet to be scheduled would cost a context switch for each time it is taken. `WOKEN` keeps the
//! unlockers from waking a second thread while the first is on its way. A woken thread that comes
//! too late goes back to the *front* of the queue, and after [`MAX_LOSSES`] such losses it is
//! handed the lock. So waiters are served in the order in which they came to wait, and each
//! one loses at most [`MAX_LOSSES`] races.
//!
//! # Where it comes from
//!
//! The parked bit and the decision under the bucket's lock: WebKit's `WTF::Lock` and
//! `parking_lot::RawMutex`. The woken bit and going back to the front: Go's `sync.Mutex`, which
//! counts time where this one counts losses.
//!
//! Rejected: an exchange from 0, and from `LOCKED`, before any look at the word, as std's and
//! parking_lot's. It is 18 instructions in place of 28 for both, and takes no time off an uncontended
//! lock; but where others wait the first exchange fails. 64 threads that lock, add one and unlock took
//! 41 to 54 ns a round with it and 20 to 28 without (two CPUs, which had other work too).
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};

use bine_runtime::primitive::data::UnsafeCell;
use bine_runtime::primitive::hint::spin_loop;
use bine_runtime::primitive::lock_word::{AtomicU32, Ordering};

use crate::parking::checkpoint;
use crate::poison::{self, result};
use crate::wait_queue::{self, Entrance, Front, Parked};
use crate::{LockResult, TryLockError, TryLockResult};

const LOCKED: u32 = 0b001;
const PARKED: u32 = 0b010;
const WOKEN: u32 = 0b100;

/// Token of a waiter that has to try again. `WOKEN` is set on its account.
const RETRY: u32 = wait_queue::WOKEN;
/// Token of a waiter that holds the lock.
const HANDED: u32 = 2;

/// How many races a woken waiter may lose before it is handed the lock.
const MAX_LOSSES: u32 = if cfg!(bine_loom) { 1 } else { 4 };

/// A locker makes rounds of 1, 2, 4 and so on pauses before it parks, below this: for a holder on
/// another worker that is about to unlock. Where somebody waits already there is no point in it, and
/// where the holder is parked itself it is not much.
const PAUSES: u32 = if cfg!(bine_loom) { 1 } else { 32 };

/// The lock without data or poisoning.
pub(crate) struct RawMutex {
    word: AtomicU32,
}

impl RawMutex {
    pub(crate) const fn new() -> Self {
        Self { word: AtomicU32::new(0) }
    }

    #[inline]
    pub(crate) fn lock(&self) {
        // Relaxed: a guess for the exchange. Not simply 0, since there may well be a thread in the
        // queue, or on its way, while the lock is free.
        let word = self.word.load(Ordering::Relaxed);
        if word & LOCKED != 0 || self.acquire(word, word | LOCKED).is_err() {
            #[cfg(not(bine_loom))]
            self.lock_contended();
            #[cfg(bine_loom)] // where nothing unwinds, nor can it return without the lock
            crate::parking::shielded(|| self.lock_contended());
        }
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        // Relaxed: a guess for the exchange.
        let mut word = self.word.load(Ordering::Relaxed);
        while word & LOCKED == 0 {
            match self.acquire(word, word | LOCKED) {
                Ok(()) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// To be called by the holder.
    #[inline]
    pub(crate) fn unlock(&self) {
        // Relaxed: a guess for the exchange.
        let word = self.word.load(Ordering::Relaxed);
        if has_to_wake(word) || self.release(word).is_err() {
            self.unlock_contended();
        }
    }

    #[inline]
    fn acquire(&self, from: u32, to: u32) -> Result<(), u32> {
        // Acquire: pairs with the Release of every unlocking.
        self.word.compare_exchange_weak(from, to, Ordering::Acquire, Ordering::Relaxed).map(drop)
    }

    /// Gives the lock back where no one has to be woken.
    #[inline]
    fn release(&self, word: u32) -> Result<(), u32> {
        let free = word & !LOCKED;
        // Release: pairs with the Acquire of the next holder.
        self.word.compare_exchange_weak(word, free, Ordering::Release, Ordering::Relaxed).map(drop)
    }

    /// As [`lock`](Self::lock), but false if the thread of the model was cancelled.
    #[cfg(bine_loom)]
    fn lock_unless_cancelled(&self) -> bool {
        self.try_lock() || self.lock_contended()
    }

    /// True; in a model false if the thread was cancelled.
    #[cold]
    fn lock_contended(&self) -> bool {
        checkpoint();
        let mut losses = 0;
        // WOKEN while this thread is the woken one.
        let mut woken = 0;
        let mut word = self.spin(PARKED);
        loop {
            if word & LOCKED == 0 {
                match self.acquire(word, (word | LOCKED) & !woken) {
                    Ok(()) => return true,
                    Err(now) => word = now,
                }
                continue;
            }
            let announced = (word | PARKED) & !woken;
            // Relaxed, also where it clears WOKEN: the bucket's lock orders it before the look at
            // the queue of the unlocker that sees PARKED.
            if word != announced
                && let Err(now) = self.word.compare_exchange_weak(
                    word,
                    announced,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
            {
                word = now;
                continue;
            }
            woken = 0;
            match self.park(announced, losses) {
                Parked::Token(HANDED) => return true,
                Parked::Token(RETRY) => {
                    losses += 1;
                    woken = WOKEN;
                }
                Parked::Refused => {}
                #[cfg(bine_loom)]
                Parked::TimedOut => return false,
                outcome => unreachable!("{outcome:?} from a wait without deadline"),
            }
            // The queue is no reason for the woken thread not to try: nobody in it comes before.
            word = self.spin(0);
        }
    }

    fn park(&self, announced: u32, losses: u32) -> Parked {
        let entrance =
            Entrance { first: losses > 0, urgent: losses >= MAX_LOSSES, ..Entrance::default() };
        // Relaxed: the bucket's lock orders it against the unlocker, who stores under that lock.
        let admit = || self.word.load(Ordering::Relaxed) == announced;
        let key = wait_queue::address(&raw const self.word);
        wait_queue::park(key, entrance, None, admit, || (), |token| self.abandon(token))
    }

    /// Waits a moment for the lock, but no longer when one of `unless` is set, and returns the word
    /// as it is then.
    fn spin(&self, unless: u32) -> u32 {
        // Relaxed, both: guesses for the exchanges.
        let mut word = self.word.load(Ordering::Relaxed);
        let mut pauses = 1;
        while pauses < PAUSES {
            if word & (LOCKED | unless) != LOCKED {
                break;
            }
            (0..pauses).for_each(|_| spin_loop());
            pauses *= 2;
            word = self.word.load(Ordering::Relaxed);
        }
        word
    }

    /// A waiter unwinds that was handed the lock, or is the woken one: somebody else's turn.
    #[cold]
    fn abandon(&self, token: u32) {
        if token == HANDED {
            return self.unlock();
        }
        // Relaxed: a guess for the exchange.
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            // If the lock is held, the holder will see WOKEN clear when it unlocks. If not, take it
            // and be that holder.
            match self.acquire(word, (word | LOCKED) & !WOKEN) {
                Ok(()) if word & LOCKED == 0 => return self.unlock(),
                Ok(()) => return,
                Err(now) => word = now,
            }
        }
    }

    #[cold]
    fn unlock_contended(&self) {
        // Relaxed: a guess for the exchange.
        let mut word = self.word.load(Ordering::Relaxed);
        while !has_to_wake(word) {
            match self.release(word) {
                Ok(()) => return,
                Err(now) => word = now,
            }
        }
        debug_assert_eq!(word, LOCKED | PARKED);
        wait_queue::unpark_one(wait_queue::address(&raw const self.word), |front| {
            let (word, token) = after_unlock(front);
            // Release: pairs with the Acquire of the next holder; one that is handed the lock gets
            // it with its token. From here on the mutex may be gone.
            self.word.store(word, Ordering::Release);
            token
        });
    }
}

/// The end of a lock, in models: an unlocker that touches it after another has got it fails them.
#[cfg(bine_loom)]
impl Drop for RawMutex {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.word.end();
        }
    }
}

/// Whether an unlocker that finds `word` has to look at the queue.
#[inline]
const fn has_to_wake(word: u32) -> bool {
    word & (PARKED | WOKEN) == PARKED
}

/// What the unlocker makes of the word, and the token of the waiter, for the front of the queue.
fn after_unlock(front: Option<Front>) -> (u32, u32) {
    let Some(Front { urgent, more, .. }) = front else {
        return (0, RETRY);
    };
    let parked = if more { PARKED } else { 0 };
    if urgent { (LOCKED | parked, HANDED) } else { (WOKEN | parked, RETRY) }
}

/// A lock around a value, with the interface of [`std::sync::Mutex`].
///
/// A green thread that waits for the lock lets others run on its worker; an OS thread blocks. The
/// lock may be held across anything that blocks.
///
/// # Poisoning
/// As in std: a thread that panics with the lock held poisons it, and from then on
/// [`lock`](Self::lock) returns an error, from which the guard can be had all the same.
///
/// # Fairness
/// Threads wait in the order in which they came. A thread that does not wait may take the lock
/// before one that was just woken, but none loses more than four such races: then the lock is
/// handed to it.
///
/// # Cancellation
/// A green thread that is cancelled while it waits leaves the queue, and the next one is woken in its place
/// if it was its turn. One that is cancelled with the lock held gives it back as it unwinds, and does not
/// poison it.
///
/// # Cost
/// The lock is a word of 4 bytes and the mark of poisoning. Without contention, to take it and to give it
/// back are one compare-exchange each, and two loads of std's count of panics. One that comes while it is
/// held looks at it a few times more, then looks it up in the wait queue and lets another thread run; that
/// allocates nothing, and takes the same time however many wait. To give it back while others wait
/// wakes one of them. See [what things cost](crate#what-things-cost).
///
/// # Where it comes from
/// The parked bit, and that the unlocker decides under the lock of the queue: WebKit's `WTF::Lock` and
/// `parking_lot`. The woken bit, and going back to the front of the queue: Go's `sync.Mutex`, which counts
/// time where this one counts lost races.
///
/// # Panics
/// Never. A thread that locks a mutex that it holds already waits for ever.
///
/// # Examples
/// ```
/// use bine_sync::Mutex;
///
/// static COUNT: Mutex<u32> = Mutex::new(0);
///
/// std::thread::scope(|s| {
///     for _ in 0..4 {
///         s.spawn(|| *COUNT.lock().unwrap() += 1);
///     }
/// });
/// assert_eq!(*COUNT.lock().unwrap(), 4);
/// ```
///
/// The bounds are those of std. A mutex of something that must stay on its thread stays there:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::Mutex<std::rc::Rc<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::Mutex<std::rc::Rc<()>>>();
/// ```
#[doc(alias = "lock")]
pub struct Mutex<T: ?Sized> {
    raw: RawMutex,
    poison: poison::Flag,
    /// # Invariant
    /// Reached through a guard, or through `&mut Mutex`.
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives the value to one thread at a time, and sends it there.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: as above; two threads never have the value at once, so it need not be `Sync`.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

impl<T: ?Sized> UnwindSafe for Mutex<T> {}
impl<T: ?Sized> RefUnwindSafe for Mutex<T> {}

impl<T> Mutex<T> {
    /// An unlocked mutex around `value`.
    ///
    /// # Examples
    /// ```
    /// static NAMES: bine_sync::Mutex<Vec<String>> = bine_sync::Mutex::new(Vec::new());
    /// ```
    #[inline]
    pub const fn new(value: T) -> Self {
        Self { raw: RawMutex::new(), poison: poison::Flag::new(), value: UnsafeCell::new(value) }
    }

    /// The value.
    ///
    /// # Errors
    /// If the mutex is poisoned; the error holds the value.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(bine_sync::Mutex::new(1).into_inner().unwrap(), 1);
    /// ```
    pub fn into_inner(self) -> LockResult<T> {
        let poisoned = self.poison.get();
        result(poisoned, self.value.into_inner())
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock and takes it; dropping the guard gives it back.
    ///
    /// # Errors
    /// If the mutex is poisoned; the error holds the guard.
    ///
    /// # Examples
    /// ```
    /// let mutex = bine_sync::Mutex::new(1);
    /// *mutex.lock().unwrap() += 1;
    /// assert_eq!(*mutex.lock().unwrap(), 2);
    /// ```
    #[inline]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        self.raw.lock();
        // SAFETY: just locked.
        unsafe { MutexGuard::new(self) }
    }

    /// As [`lock`](Self::lock), but `None` if the thread of the model was cancelled.
    #[cfg(bine_loom)]
    #[doc(hidden)]
    pub fn lock_unless_cancelled(&self) -> Option<LockResult<MutexGuard<'_, T>>> {
        // SAFETY: just locked.
        self.raw.lock_unless_cancelled().then(|| unsafe { MutexGuard::new(self) })
    }

    /// Takes the lock if nobody holds it. Does not wait.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] if somebody holds the lock, [`TryLockError::Poisoned`] if the
    /// mutex is poisoned; the latter holds the guard.
    ///
    /// # Examples
    /// ```
    /// let mutex = bine_sync::Mutex::new(());
    /// let guard = mutex.lock().unwrap();
    /// assert!(mutex.try_lock().is_err());
    /// ```
    #[inline]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        if self.raw.try_lock() {
            // SAFETY: just locked.
            Ok(unsafe { MutexGuard::new(self) }?)
        } else {
            // Who tries again and again must let the holder run.
            checkpoint();
            Err(TryLockError::WouldBlock)
        }
    }

    /// Whether a thread has panicked with the lock held. Others may change it at any time.
    ///
    /// # Examples
    /// ```
    /// assert!(!bine_sync::Mutex::new(()).is_poisoned());
    /// ```
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.poison.get()
    }

    /// Forgets that a thread panicked: for one who has put the value in order again.
    ///
    /// # Examples
    /// ```
    /// let mutex = bine_sync::Mutex::new(1);
    /// let _ = std::thread::scope(|s| {
    ///     s.spawn(|| {
    ///         let _guard = mutex.lock();
    ///         panic!();
    ///     })
    ///     .join()
    /// });
    /// let mut guard = mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    /// *guard = 0;
    /// mutex.clear_poison();
    /// assert!(!mutex.is_poisoned());
    /// ```
    #[inline]
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// The value, without locking: `&mut self` says that nobody else has it.
    ///
    /// # Errors
    /// If the mutex is poisoned; the error holds the reference.
    ///
    /// # Examples
    /// ```
    /// let mut mutex = bine_sync::Mutex::new(0);
    /// *mutex.get_mut().unwrap() = 1;
    /// assert_eq!(*mutex.lock().unwrap(), 1);
    /// ```
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        result(self.poison.get(), self.value.get_mut())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Mutex");
        match self.try_lock() {
            Ok(guard) => debug.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => debug.field("data", &&**error.get_ref()),
            Err(TryLockError::WouldBlock) => debug.field("data", &"<locked>"),
        };
        debug.field("poisoned", &self.poison.get()).finish_non_exhaustive()
    }
}

/// The right to a [`Mutex`]'s value; gives the lock back when dropped.
///
/// # Examples
/// ```
/// let mutex = bine_sync::Mutex::new(vec![1]);
/// let mut guard = mutex.lock().unwrap();
/// guard.push(2);
/// assert_eq!(*guard, [1, 2]);
/// ```
///
/// It stays with the thread that locked, and is shared only where its value may be:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::MutexGuard<'static, ()>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::MutexGuard<'static, std::cell::Cell<()>>>();
/// ```
#[must_use = "if unused the Mutex will immediately unlock"]
#[clippy::has_significant_drop]
pub struct MutexGuard<'a, T: ?Sized + 'a> {
    /// # Invariant
    /// Locked on behalf of this guard.
    lock: &'a Mutex<T>,
    before: poison::Before,
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives `&T` and nothing more.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// # Safety
    /// - The caller has locked `lock`, and leaves it to the guard.
    #[inline]
    unsafe fn new(lock: &'a Mutex<T>) -> LockResult<Self> {
        let guard = Self { lock, before: lock.poison.enter(), not_send: PhantomData };
        result(lock.poison.get(), guard)
    }

    /// The lock under the guard, for one who gives it back for a time.
    pub(crate) fn raw(&self) -> &'a RawMutex {
        &self.lock.raw
    }

    /// The guard after the lock was given back and taken again.
    pub(crate) fn checked(self) -> LockResult<Self> {
        result(self.lock.poison.get(), self)
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held for this guard, and `&self` lets nobody write through it.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held for this guard, and `&mut self` is the one way to the value.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.poison.leave(self.before);
        self.lock.raw.unlock();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

const _: () = assert!(mem::size_of::<RawMutex>() == 4 || cfg!(bine_loom));
