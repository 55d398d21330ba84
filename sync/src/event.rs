//! Telling threads that something has happened: [`Event`] stays until it is taken back, and [`Notify`]
//! is meant for one thread, or for those that wait now.

use std::fmt;
use std::time::{Duration, Instant};

use bine_runtime::primitive::const_atomic::{AtomicU32, Ordering};

use crate::parking;
use crate::wait_queue::{self, Entrance, Parked};

// The words of both. While one is `AWAITED` it changes under the bucket's lock alone: whoever tells finds
// those that wait there, or leaves word where one that has announced itself finds it.

/// Nothing has happened, and nobody waits.
const NOTHING: u32 = 0;
/// It has.
const HAPPENED: u32 = 1;
/// It has not, and threads may wait.
const AWAITED: u32 = 2;

/// Token of one that the notification was meant for, of all that wait.
const ALONE: u32 = 2;

/// Announces on `word` that the caller will wait. False if it has happened.
fn announce(word: &AtomicU32) -> bool {
    // Acquire, where it has happened: pairs with the Release of whoever told.
    match word.compare_exchange(NOTHING, AWAITED, Ordering::Relaxed, Ordering::Acquire) {
        Err(HAPPENED) => false,
        Ok(_) | Err(_) => true,
    }
}

/// Waits at `word`, on which that was announced.
fn park(word: &AtomicU32, deadline: Option<Instant>, abandoned: impl FnOnce(u32)) -> Parked {
    // Relaxed: the bucket's lock orders it.
    let admit = || word.load(Ordering::Relaxed) == AWAITED;
    let key = wait_queue::address(word);
    wait_queue::park(key, Entrance::default(), deadline, admit, || (), abandoned)
}

/// The deadline after `timeout`; none if no clock can show it.
fn after(timeout: Duration) -> Option<Instant> {
    parking::now().checked_add(timeout)
}

/// Sets HAPPENED, unless somebody waits: then false.
#[inline]
fn happens_unawaited(word: &AtomicU32) -> bool {
    let mut found = NOTHING;
    while found != AWAITED {
        // Release: pairs with the Acquire of those who see it or take it, also where it was set already.
        match word.compare_exchange(found, HAPPENED, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(now) => found = now,
        }
    }
    false
}

/// Something that happens once, or again after it was taken back, and that any number of threads
/// wait for.
///
/// # Fairness
/// All that wait when it happens go on, also if it is taken back before they run.
///
/// # Poisoning
/// There is none.
///
/// # Cancellation
/// A green thread that is cancelled while it waits leaves.
///
/// # Cost
/// A word of 4 bytes. To look, or to wait for what has happened, costs one load. Waiting allocates
/// nothing. To set it while threads wait wakes them one after the other. See
/// [what things cost](crate#what-things-cost).
///
/// # Where it comes from
/// A word with the states "no", "yes" and "somebody waits" is the usual way to make an event of a futex
/// (Drepper, *Futexes are tricky*, has the mutex of this kind).
///
/// # Examples
/// ```
/// use bine_sync::Event;
///
/// let ready = Event::new();
/// std::thread::scope(|s| {
///     s.spawn(|| ready.set());
///     ready.wait();
/// });
/// assert!(ready.is_set());
/// ```
pub struct Event {
    word: AtomicU32,
}

impl Event {
    /// It has not happened.
    ///
    /// # Examples
    /// ```
    /// static READY: bine_sync::Event = bine_sync::Event::new();
    /// ```
    #[must_use]
    pub const fn new() -> Self {
        Self { word: AtomicU32::new(NOTHING) }
    }

    /// It happens. Wakes all that wait.
    ///
    /// # Examples
    /// As of [`Event`].
    pub fn set(&self) {
        if happens_unawaited(&self.word) {
            return;
        }
        wait_queue::unpark(wait_queue::address(&raw const self.word), usize::MAX, || {
            // Release: as above. Under the bucket's lock, so that nobody is woken who comes after it
            // was taken back. A swap, which keeps the order of others that have set it meanwhile.
            self.word.swap(HAPPENED, Ordering::Release);
        });
    }

    /// Takes it back.
    ///
    /// # Examples
    /// ```
    /// let event = bine_sync::Event::new();
    /// event.set();
    /// event.reset();
    /// assert!(!event.is_set());
    /// ```
    pub fn reset(&self) {
        // Relaxed: nobody learns anything from it.
        let _ = self.word.compare_exchange(HAPPENED, NOTHING, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether it has happened.
    ///
    /// # Examples
    /// As of [`Event`].
    pub fn is_set(&self) -> bool {
        // Acquire: pairs with the Release of `set`.
        self.word.load(Ordering::Acquire) == HAPPENED
    }

    /// Waits until it has happened.
    ///
    /// # Examples
    /// As of [`Event`].
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// Waits until it has happened, but no longer than `timeout`; says whether it has.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// assert!(!bine_sync::Event::new().wait_timeout(Duration::from_millis(1)));
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(after(timeout))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        loop {
            if !announce(&self.word) {
                return true;
            }
            match park(&self.word, deadline, |_| ()) {
                Parked::Token(_) => return true,
                Parked::TimedOut => return false,
                Parked::Refused => {}
            }
        }
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("set", &self.is_set()).finish_non_exhaustive()
    }
}

/// A notification for one thread, or for all that wait. The shape is that of tokio's `Notify`.
///
/// It holds at most one notification that nobody has waited for; one more is the same one.
///
/// # Fairness
/// The thread that has waited longest is notified.
///
/// # Poisoning
/// There is none.
///
/// # Cancellation
/// A green thread that is cancelled while it waits leaves, and a notification that was meant for it
/// alone goes to another, or is kept.
///
/// # Cost
/// A word of 4 bytes. Without anybody waiting, to notify and to be notified cost one
/// compare-exchange each, or two. Waiting allocates nothing. To notify one takes the same time however many
/// wait. See [what things cost](crate#what-things-cost).
///
/// # Where it comes from
/// The interface, and that one notification is kept, are those of tokio's; the queue is this crate's.
///
/// # Examples
/// ```
/// use bine_sync::Notify;
///
/// let news = Notify::new();
/// std::thread::scope(|s| {
///     s.spawn(|| news.notify_one());
///     news.wait();
/// });
/// ```
pub struct Notify {
    word: AtomicU32,
}

impl Notify {
    /// Without a notification.
    ///
    /// # Examples
    /// ```
    /// static NEWS: bine_sync::Notify = bine_sync::Notify::new();
    /// ```
    #[must_use]
    pub const fn new() -> Self {
        Self { word: AtomicU32::new(NOTHING) }
    }

    /// Notifies the thread that has waited longest, or else the next one that will wait.
    ///
    /// # Examples
    /// ```
    /// let news = bine_sync::Notify::new();
    /// news.notify_one();
    /// news.wait(); // returns at once
    /// ```
    pub fn notify_one(&self) {
        if happens_unawaited(&self.word) {
            return;
        }
        wait_queue::unpark_one(wait_queue::address(&raw const self.word), |front| {
            match front {
                // Relaxed: the token hands it over, and the bucket's lock orders the writes.
                Some(front) if !front.more => self.word.store(NOTHING, Ordering::Relaxed),
                Some(_) => {}
                // Release: as above; a swap, which keeps the order of others that have notified
                // meanwhile. Whoever has announced itself will find it.
                None => {
                    self.word.swap(HAPPENED, Ordering::Release);
                }
            }
            ALONE
        });
    }

    /// Notifies all that wait now, and nobody who will.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// let news = bine_sync::Notify::new();
    /// news.notify_waiters();
    /// assert!(!news.wait_timeout(Duration::from_millis(1)));
    /// ```
    pub fn notify_waiters(&self) {
        // Acquire: whoever is seen to wait has announced it before.
        if self.word.load(Ordering::Acquire) == AWAITED {
            wait_queue::unpark(wait_queue::address(&raw const self.word), usize::MAX, || {
                // Relaxed: as in `notify_one`. It may hold a notification by now.
                let _ = self.word.compare_exchange(
                    AWAITED,
                    NOTHING,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
            });
        }
    }

    /// Waits for a notification, and takes it.
    ///
    /// # Examples
    /// As of [`Notify`].
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// Waits for a notification, but no longer than `timeout`; says whether there was one.
    ///
    /// # Examples
    /// As of [`notify_waiters`](Self::notify_waiters).
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(after(timeout))
    }

    /// As [`wait`](Self::wait), but false if the thread of the model was cancelled.
    #[cfg(bine_loom)]
    #[doc(hidden)]
    pub fn wait_unless_cancelled(&self) -> bool {
        self.wait_until(None)
    }

    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        loop {
            if !announce(&self.word) {
                // Acquire: pairs with the Release of `notify_one`.
                let taken = self.word.compare_exchange(
                    HAPPENED,
                    NOTHING,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                );
                if taken.is_ok() {
                    return true;
                }
                continue;
            }
            let pass_on = |token| {
                if token == ALONE {
                    self.notify_one();
                }
            };
            match park(&self.word, deadline, pass_on) {
                Parked::Token(_) => return true,
                Parked::TimedOut => return false,
                Parked::Refused => {}
            }
        }
    }
}

impl Default for Notify {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify").finish_non_exhaustive()
    }
}
