//! A value that one side changes, and the other looks at and waits for. The shape is that of tokio's.
//!
//! The value is in an [`RwLock`]. Beside it stands its version, which is written with the lock held
//! for writing; a receiver keeps the version that it has seen, and waits in the wait queue while that
//! is the current one. The sender changes the version first and then looks for receivers that wait,
//! under the bucket's lock, under which they compare the version before they wait: see
//! [`wait_queue`]. Bit 0 of the version says that all senders are gone.
//!
//! # Fairness, poisoning, cancellation, cost
//!
//! A change wakes all receivers that wait. Each sees the latest value; it may never see those between.
//! The lock's fairness is that of [`RwLock`]. Nothing is poisoned: a closure that panics leaves the
//! value as it is then, and nobody is told of a change. A green thread that is cancelled while it
//! waits leaves; so it does where it waits for the lock.
//!
//! A change costs a write lock and the look at one bucket of the wait queue, and time for each that waits.
//! To look at the value costs a read lock, to look for a change one load. Waiting allocates nothing. See
//! [what things cost](crate#what-things-cost).
//!
//! # Where it comes from
//!
//! The interface, and a version beside a lock, whose lowest bit says that it is over, are tokio's. The
//! version is a word to wait at, in the manner of a futex.

use std::error::Error;
use std::fmt;
use std::mem;
use std::ops::Deref;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bine_runtime::primitive::atomic::{AtomicUsize, Ordering};

use crate::parking::{self, checkpoint};
use crate::wait_queue::{self, Entrance, Parked};
use crate::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// All senders are gone.
const CLOSED: usize = 1;
/// One change.
const CHANGE: usize = 2;

/// A channel whose value is `init` at first, and which the receiver has seen.
///
/// # Examples
/// ```
/// let (sender, mut receiver) = bine_sync::watch::channel("idle");
/// assert_eq!(*receiver.borrow(), "idle");
/// std::thread::spawn(move || sender.send("busy"));
/// receiver.changed().unwrap();
/// assert_eq!(*receiver.borrow_and_update(), "busy");
/// assert!(receiver.changed().is_err(), "the sender is gone");
/// ```
#[must_use]
pub fn channel<T>(init: T) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        value: RwLock::new(init),
        version: AtomicUsize::new(0),
        senders: AtomicUsize::new(1),
        receivers: AtomicUsize::new(1),
    });
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared, seen: 0 })
}

struct Shared<T> {
    value: RwLock<T>,
    /// Changed with `value` locked for writing, but for `CLOSED`. The word that receivers wait at.
    version: AtomicUsize,
    senders: AtomicUsize,
    /// The word that a sender waits at for them to be gone.
    receivers: AtomicUsize,
}

/// Changes the value. Clones change the same one.
///
/// # Examples
/// As of [`channel`].
///
/// Those who have it share the value:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::watch::Sender<std::cell::Cell<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::watch::Sender<std::sync::MutexGuard<'static, ()>>>(); // `Sync` but not `Send`
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::watch::Sender<std::cell::Cell<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::watch::Sender<std::sync::MutexGuard<'static, ()>>>(); // `Sync` but not `Send`
/// ```
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// Looks at the value, and waits for changes. A clone has seen what the original has.
///
/// # Examples
/// As of [`channel`].
///
/// Those who have it share the value:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::watch::Receiver<std::cell::Cell<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::watch::Receiver<std::sync::MutexGuard<'static, ()>>>(); // `Sync` but not `Send`
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::watch::Receiver<std::cell::Cell<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::watch::Receiver<std::sync::MutexGuard<'static, ()>>>(); // `Sync` but not `Send`
/// ```
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The version, without `CLOSED`.
    seen: usize,
}

/// The value, which does not change as long as this is there: senders wait for it to go.
///
/// # Examples
/// As of [`Receiver::borrow`].
///
/// It stays with the thread that looks, and is shared only where its value may be:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::watch::Ref<'static, ()>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::watch::Ref<'static, std::cell::Cell<()>>>();
/// ```
#[clippy::has_significant_drop]
pub struct Ref<'a, T> {
    guard: RwLockReadGuard<'a, T>,
    changed: bool,
}

/// The value of a [`Sender::send`] without receivers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendError<T>(pub T);

/// All senders are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecvError;

/// Why [`Receiver::changed_timeout`] saw no change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvTimeoutError {
    /// There was none in time.
    Timeout,
    /// All senders are gone.
    Closed,
}

impl<T> Shared<T> {
    fn read(&self) -> RwLockReadGuard<'_, T> {
        self.value.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.value.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn version_key(&self) -> usize {
        wait_queue::address(&raw const self.version)
    }

    fn receivers_key(&self) -> usize {
        wait_queue::address(&raw const self.receivers)
    }
}

impl<T> Sender<T> {
    /// A channel without receivers as yet.
    ///
    /// # Examples
    /// ```
    /// let sender = bine_sync::watch::Sender::new(1);
    /// assert_eq!(*sender.subscribe().borrow(), 1);
    /// ```
    pub fn new(init: T) -> Self {
        channel(init).0
    }

    /// Puts `value` in place of what is there.
    ///
    /// # Errors
    /// With `value` if there are no receivers.
    ///
    /// # Examples
    /// As of [`channel`].
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        // Relaxed: a receiver may come or go at any time.
        if self.shared.receivers.load(Ordering::Relaxed) == 0 {
            return Err(SendError(value));
        }
        drop(self.send_replace(value));
        Ok(())
    }

    /// Puts `value` in place of what is there, which it returns; also without receivers.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = bine_sync::watch::channel(1);
    /// assert_eq!(sender.send_replace(2), 1);
    /// ```
    pub fn send_replace(&self, mut value: T) -> T {
        self.send_modify(|current| mem::swap(current, &mut value));
        value
    }

    /// Changes the value in place.
    ///
    /// # Panics
    /// With the panic of `modify`; the value is as it left it then.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = bine_sync::watch::channel(1);
    /// sender.send_modify(|value| *value += 1);
    /// assert_eq!(*receiver.borrow(), 2);
    /// ```
    pub fn send_modify(&self, modify: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            modify(value);
            true
        });
    }

    /// Changes the value in place, and tells the receivers if `modify` returns true. Returns that.
    ///
    /// # Panics
    /// As [`send_modify`](Self::send_modify).
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = bine_sync::watch::channel(1);
    /// assert!(!sender.send_if_modified(|_| false));
    /// assert_eq!(receiver.has_changed(), Ok(false));
    /// ```
    pub fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        checkpoint();
        let mut value = self.shared.write();
        let modified = modify(&mut value);
        if modified {
            // Release: pairs with the Acquire loads of receivers.
            self.shared.version.fetch_add(CHANGE, Ordering::Release);
        }
        drop(value);
        if modified {
            wait_queue::unpark(self.shared.version_key(), usize::MAX, || ());
        }
        modified
    }

    /// Looks at the value.
    ///
    /// # Examples
    /// As of [`Receiver::borrow`].
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref { guard: self.shared.read(), changed: false }
    }

    /// One more receiver, which has seen the current value.
    ///
    /// # Examples
    /// As of [`new`](Self::new).
    pub fn subscribe(&self) -> Receiver<T> {
        // Relaxed: counted is all it is.
        self.shared.receivers.fetch_add(1, Ordering::Relaxed);
        // Acquire: as in `has_changed`.
        let seen = self.shared.version.load(Ordering::Acquire) & !CLOSED;
        Receiver { shared: Arc::clone(&self.shared), seen }
    }

    /// How many receivers there are.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(bine_sync::watch::Sender::new(()).receiver_count(), 0);
    /// ```
    pub fn receiver_count(&self) -> usize {
        // Relaxed: others may change it at any time.
        self.shared.receivers.load(Ordering::Relaxed)
    }

    /// Whether there are no receivers.
    ///
    /// # Examples
    /// As of [`closed`](Self::closed).
    pub fn is_closed(&self) -> bool {
        // Acquire: pairs with the Release of the last one.
        self.shared.receivers.load(Ordering::Acquire) == 0
    }

    /// Waits until there are no receivers.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = bine_sync::watch::channel(());
    /// std::thread::spawn(move || drop(receiver));
    /// sender.closed();
    /// assert!(sender.is_closed());
    /// ```
    pub fn closed(&self) {
        checkpoint();
        let open = || !self.is_closed();
        while open() {
            let key = self.shared.receivers_key();
            let _ = wait_queue::park(key, Entrance::default(), None, open, || (), |_| ());
        }
    }

    /// Whether `other` changes the same value.
    ///
    /// # Examples
    /// ```
    /// let sender = bine_sync::watch::Sender::new(1);
    /// assert!(sender.same_channel(&sender.clone()));
    /// ```
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl<T> Receiver<T> {
    /// Looks at the value, without seeing it: [`changed`](Self::changed) still returns at once if it
    /// was changed.
    ///
    /// Senders wait as long as this is there, and so does a thread that borrows once more while one of
    /// them waits.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = bine_sync::watch::channel(1);
    /// sender.send(2).unwrap();
    /// let value = receiver.borrow();
    /// assert_eq!(*value, 2);
    /// assert!(value.has_changed());
    /// ```
    pub fn borrow(&self) -> Ref<'_, T> {
        let guard = self.shared.read();
        // Acquire: as in `has_changed`.
        let version = self.shared.version.load(Ordering::Acquire) & !CLOSED;
        Ref { guard, changed: version != self.seen }
    }

    /// Looks at the value, and has seen it.
    ///
    /// # Examples
    /// As of [`channel`].
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let guard = self.shared.read();
        // Acquire: as in `has_changed`. Nobody changes it while the value is locked.
        let version = self.shared.version.load(Ordering::Acquire) & !CLOSED;
        let changed = version != mem::replace(&mut self.seen, version);
        Ref { guard, changed }
    }

    /// Whether there is a value that this receiver has not seen.
    ///
    /// # Errors
    /// If all senders are gone, and it has.
    ///
    /// # Examples
    /// As of [`Sender::send_if_modified`].
    pub fn has_changed(&self) -> Result<bool, RecvError> {
        // Acquire: pairs with the Release of the change.
        let version = self.shared.version.load(Ordering::Acquire);
        if version & !CLOSED != self.seen {
            Ok(true)
        } else if version & CLOSED != 0 {
            Err(RecvError)
        } else {
            Ok(false)
        }
    }

    /// Takes the current value for one that this receiver has not seen.
    ///
    /// # Examples
    /// ```
    /// let (_sender, mut receiver) = bine_sync::watch::channel(1);
    /// receiver.mark_changed();
    /// assert!(receiver.changed().is_ok());
    /// ```
    pub fn mark_changed(&mut self) {
        // Acquire: as in `has_changed`.
        let version = self.shared.version.load(Ordering::Acquire) & !CLOSED;
        self.seen = version.wrapping_sub(CHANGE);
    }

    /// Takes the current value for seen.
    ///
    /// # Examples
    /// ```
    /// let (sender, mut receiver) = bine_sync::watch::channel(1);
    /// sender.send(2).unwrap();
    /// receiver.mark_unchanged();
    /// assert_eq!(receiver.has_changed(), Ok(false));
    /// ```
    pub fn mark_unchanged(&mut self) {
        // Acquire: as in `has_changed`.
        self.seen = self.shared.version.load(Ordering::Acquire) & !CLOSED;
    }

    /// Waits for a value that this receiver has not seen, and has seen it then.
    ///
    /// # Errors
    /// If all senders are gone.
    ///
    /// # Examples
    /// As of [`channel`].
    pub fn changed(&mut self) -> Result<(), RecvError> {
        self.wait_for_change(None).map_err(|_| RecvError)
    }

    /// As [`changed`](Self::changed), but waits no longer than `timeout`.
    ///
    /// # Errors
    /// If there was no change in time, or all senders are gone.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::watch::{RecvTimeoutError, channel};
    /// use std::time::Duration;
    ///
    /// let (_sender, mut receiver) = channel(1);
    /// let changed = receiver.changed_timeout(Duration::from_millis(1));
    /// assert_eq!(changed, Err(RecvTimeoutError::Timeout));
    /// ```
    pub fn changed_timeout(&mut self, timeout: Duration) -> Result<(), RecvTimeoutError> {
        // A deadline that no clock can show is none.
        self.wait_for_change(parking::now().checked_add(timeout))
    }

    /// Waits until `condition` is true of the value, which may be the current one.
    ///
    /// # Errors
    /// If all senders are gone.
    ///
    /// # Examples
    /// ```
    /// let (sender, mut receiver) = bine_sync::watch::channel(0);
    /// std::thread::spawn(move || (1..4).for_each(|n| sender.send(n).unwrap()));
    /// assert_eq!(*receiver.wait_for(|n| *n > 2).unwrap(), 3);
    /// ```
    pub fn wait_for(
        &mut self,
        mut condition: impl FnMut(&T) -> bool,
    ) -> Result<Ref<'_, T>, RecvError> {
        loop {
            let value = self.shared.read();
            // Acquire: as in `borrow_and_update`.
            let version = self.shared.version.load(Ordering::Acquire) & !CLOSED;
            let changed = version != mem::replace(&mut self.seen, version);
            if condition(&value) {
                return Ok(Ref { guard: value, changed });
            }
            drop(value);
            // Not `changed`, for the borrow checker: `seen` stays as it is.
            self.shared.wait_while(version, None).map_err(|_| RecvError)?;
        }
    }

    fn wait_for_change(&mut self, deadline: Option<Instant>) -> Result<(), RecvTimeoutError> {
        self.seen = self.shared.wait_while(self.seen, deadline)?;
        Ok(())
    }

    /// Whether `other` receives the same value.
    ///
    /// # Examples
    /// ```
    /// let (_sender, receiver) = bine_sync::watch::channel(1);
    /// assert!(receiver.same_channel(&receiver.clone()));
    /// ```
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl<T> Shared<T> {
    /// Waits while the version is `seen`, and returns another one.
    fn wait_while(
        &self,
        seen: usize,
        deadline: Option<Instant>,
    ) -> Result<usize, RecvTimeoutError> {
        checkpoint();
        // Acquire, both: pairs with the Release of the change.
        let same = || self.version.load(Ordering::Acquire) == seen;
        loop {
            let version = self.version.load(Ordering::Acquire);
            if version & !CLOSED != seen {
                return Ok(version & !CLOSED);
            }
            if version & CLOSED != 0 {
                return Err(RecvTimeoutError::Closed);
            }
            let key = self.version_key();
            let parked = wait_queue::park(key, Entrance::default(), deadline, same, || (), |_| ());
            if parked == Parked::TimedOut {
                return Err(RecvTimeoutError::Timeout);
            }
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        // Relaxed: `self` keeps the count from reaching 0 meanwhile.
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        // Relaxed: `self` keeps the count from reaching 0 meanwhile.
        self.shared.receivers.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(&self.shared), seen: self.seen }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // AcqRel: what other senders did happens before the last one closes.
        if self.shared.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Release: pairs with the Acquire loads of receivers.
            self.shared.version.fetch_or(CLOSED, Ordering::Release);
            wait_queue::unpark(self.shared.version_key(), usize::MAX, || ());
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire of `is_closed`.
        if self.shared.receivers.fetch_sub(1, Ordering::Release) == 1 {
            wait_queue::unpark(self.shared.receivers_key(), usize::MAX, || ());
        }
    }
}

impl<T> Ref<'_, T> {
    /// Whether the receiver had not seen it before.
    ///
    /// # Examples
    /// As of [`Receiver::borrow`].
    pub fn has_changed(&self) -> bool {
        self.changed
    }
}

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: Default> Default for Sender<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for Ref<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError").finish_non_exhaustive()
    }
}

const CLOSED_TEXT: &str = "channel closed";

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(CLOSED_TEXT)
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(CLOSED_TEXT)
    }
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Timeout => "timed out waiting for a change",
            Self::Closed => CLOSED_TEXT,
        })
    }
}

impl<T> Error for SendError<T> {}
impl Error for RecvError {}
impl Error for RecvTimeoutError {}
