//! A lock that many may hold to read, or one to write; for green threads and OS threads.
//!
//! The protocol of its word is that of `raw`; here are the value, the poisoning and the guards.
//!
//! # Where it comes from
//!
//! One queue for readers and writers, served in order, is the "task-fair" lock of Brandenburg and
//! Anderson (*Spin-based reader-writer synchronization for multiprocessor real-time systems*, 2010).
//! That woken writers compete, and are handed the lock after a few losses, is taken over from this
//! crate's mutex. Rejected: readers first, which starves writers; writers first, which starves
//! readers; Go's `sync.RWMutex`, which alternates between the two and takes two words for it.
#![allow(unsafe_code)]

mod raw;

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;

use self::raw::RawRwLock;
use bine_runtime::primitive::data::UnsafeCell;

use crate::poison::{self, result};
use crate::{LockResult, TryLockError, TryLockResult};

/// A lock around a value that many may read at a time, or one write, with the interface of
/// [`std::sync::RwLock`].
///
/// A green thread that waits for the lock lets others run on its worker; an OS thread blocks. The
/// lock may be held across anything that blocks.
///
/// # Fairness
/// Threads wait in one queue, in the order in which they came, whatever for; readers that stand in it
/// one behind the other get the lock together. As soon as somebody waits, those who come later to
/// read queue too: neither readers nor writers starve. A writer that was woken may lose the lock to
/// one who comes just then, but not more than four times: then it is handed the lock.
///
/// So a thread that holds the lock for reading and takes it for reading once more waits for ever if a
/// writer has come to wait in between. With std's lock it may too.
///
/// # Poisoning
/// As in std: a thread that panics while it holds the lock for writing poisons it, and from then on
/// both ways to lock return an error, from which the guard can be had all the same. One that panics
/// while it reads poisons nothing.
///
/// # Cancellation
/// A green thread that is cancelled while it waits leaves the queue, and lets those go on that had to
/// wait on its account alone. One that is cancelled with the lock held gives it back and does not
/// poison it.
///
/// # Cost
/// The lock is a word of 4 bytes and the mark of poisoning. Without contention, each way to take it
/// is one compare-exchange, and to give it back one addition. One that has to wait looks the lock up in
/// the wait queue, which allocates nothing, and lets another thread run; to hand the lock to several
/// readers at a time takes an allocation, and time for each of them. See
/// [what things cost](crate#what-things-cost).
///
/// # Where it comes from
/// One queue for readers and writers, served in order, is the "task-fair" lock of Brandenburg and
/// Anderson (*Spin-based reader-writer synchronization for multiprocessor real-time systems*, 2010); that
/// writers compete for it is [`Mutex`](crate::Mutex)'s.
///
/// # Panics
/// If more than 2^30 - 2 guards for reading exist at a time.
///
/// # Examples
/// ```
/// use bine_sync::RwLock;
///
/// static NAMES: RwLock<Vec<&str>> = RwLock::new(Vec::new());
///
/// NAMES.write().unwrap().push("bine");
/// let (one, another) = (NAMES.read().unwrap(), NAMES.read().unwrap());
/// assert_eq!(one.len() + another.len(), 2);
/// ```
///
/// The bounds are those of std. Readers share the value, so it must be `Sync` beside `Send`:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::RwLock<std::rc::Rc<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::RwLock<std::rc::Rc<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::RwLock<std::cell::Cell<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::RwLock<std::sync::MutexGuard<'static, ()>>>(); // `Sync` but not `Send`
/// ```
pub struct RwLock<T: ?Sized> {
    raw: RawRwLock,
    poison: poison::Flag,
    /// # Invariant
    /// Reached through a guard, or through `&mut RwLock`.
    value: UnsafeCell<T>,
}

// SAFETY: it is moved with its value, and has no thread of its own.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: the lock sends the value to one thread at a time, or shares it between several.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

impl<T: ?Sized> UnwindSafe for RwLock<T> {}
impl<T: ?Sized> RefUnwindSafe for RwLock<T> {}

impl<T> RwLock<T> {
    /// An unlocked lock around `value`.
    ///
    /// # Examples
    /// ```
    /// static LIMIT: bine_sync::RwLock<u32> = bine_sync::RwLock::new(10);
    /// ```
    #[inline]
    pub const fn new(value: T) -> Self {
        Self { raw: RawRwLock::new(), poison: poison::Flag::new(), value: UnsafeCell::new(value) }
    }

    /// The value.
    ///
    /// # Errors
    /// If the lock is poisoned; the error holds the value.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(bine_sync::RwLock::new(1).into_inner().unwrap(), 1);
    /// ```
    pub fn into_inner(self) -> LockResult<T> {
        let poisoned = self.poison.get();
        result(poisoned, self.value.into_inner())
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until the lock can be held for reading, and takes it; dropping the guard gives it back.
    ///
    /// # Errors
    /// If the lock is poisoned; the error holds the guard.
    ///
    /// # Panics
    /// As [`RwLock`] says.
    ///
    /// # Examples
    /// ```
    /// let lock = bine_sync::RwLock::new(1);
    /// let one = lock.read().unwrap();
    /// let another = lock.read().unwrap();
    /// assert_eq!(*one, *another);
    /// ```
    #[inline]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.raw.read();
        // SAFETY: just locked for reading.
        unsafe { RwLockReadGuard::new(self) }
    }

    /// Takes the lock for reading if that needs no waiting: nobody writes, and where others read,
    /// nobody waits for them.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] if it would have to wait, [`TryLockError::Poisoned`] if the lock
    /// is poisoned; the latter holds the guard.
    ///
    /// # Examples
    /// ```
    /// let lock = bine_sync::RwLock::new(());
    /// let guard = lock.write().unwrap();
    /// assert!(lock.try_read().is_err());
    /// ```
    #[inline]
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        if self.raw.try_read() {
            // SAFETY: just locked for reading.
            Ok(unsafe { RwLockReadGuard::new(self) }?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// Waits until the lock can be held for writing, and takes it; dropping the guard gives it back.
    ///
    /// # Errors
    /// If the lock is poisoned; the error holds the guard.
    ///
    /// # Examples
    /// ```
    /// let lock = bine_sync::RwLock::new(1);
    /// *lock.write().unwrap() += 1;
    /// assert_eq!(*lock.read().unwrap(), 2);
    /// ```
    #[inline]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.raw.write();
        // SAFETY: just locked for writing.
        unsafe { RwLockWriteGuard::new(self) }
    }

    /// As [`write`](Self::write), but `None` if the thread of the model was cancelled.
    #[cfg(bine_loom)]
    #[doc(hidden)]
    pub fn write_unless_cancelled(&self) -> Option<LockResult<RwLockWriteGuard<'_, T>>> {
        // SAFETY: just locked for writing.
        self.raw.write_unless_cancelled().then(|| unsafe { RwLockWriteGuard::new(self) })
    }

    /// Takes the lock for writing if nobody holds it. Does not wait.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] if it would have to wait, [`TryLockError::Poisoned`] if the lock
    /// is poisoned; the latter holds the guard.
    ///
    /// # Examples
    /// ```
    /// let lock = bine_sync::RwLock::new(());
    /// let guard = lock.read().unwrap();
    /// assert!(lock.try_write().is_err());
    /// ```
    #[inline]
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        if self.raw.try_write() {
            // SAFETY: just locked for writing.
            Ok(unsafe { RwLockWriteGuard::new(self) }?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// Whether a thread has panicked with the lock held for writing. Others may change it at any time.
    ///
    /// # Examples
    /// ```
    /// assert!(!bine_sync::RwLock::new(()).is_poisoned());
    /// ```
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.poison.get()
    }

    /// Takes the poisoning back, once the value is as it should be again.
    ///
    /// # Examples
    /// ```
    /// let lock = bine_sync::RwLock::new(1);
    /// std::thread::scope(|s| {
    ///     let panics = s.spawn(|| {
    ///         let _guard = lock.write().unwrap();
    ///         panic!("with the lock held");
    ///     });
    ///     assert!(panics.join().is_err());
    /// });
    /// assert!(lock.read().is_err());
    /// lock.clear_poison();
    /// assert!(lock.read().is_ok());
    /// ```
    #[inline]
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// The value, without locking: nobody else has the lock.
    ///
    /// # Errors
    /// If the lock is poisoned; the error holds the reference.
    ///
    /// # Examples
    /// ```
    /// let mut lock = bine_sync::RwLock::new(0);
    /// *lock.get_mut().unwrap() = 1;
    /// assert_eq!(*lock.read().unwrap(), 1);
    /// ```
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        result(self.poison.get(), self.value.get_mut())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RwLock");
        match self.try_read() {
            Ok(guard) => debug.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => debug.field("data", &&**error.get_ref()),
            Err(TryLockError::WouldBlock) => debug.field("data", &format_args!("<locked>")),
        };
        debug.field("poisoned", &self.poison.get()).finish_non_exhaustive()
    }
}

/// The right to read an [`RwLock`]'s value; gives the lock back when dropped.
///
/// # Examples
/// ```
/// let lock = bine_sync::RwLock::new(vec![1]);
/// let guard = lock.read().unwrap();
/// assert_eq!(*guard, [1]);
/// ```
///
/// It stays with the thread that locked, and is shared only where its value may be:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::RwLockReadGuard<'static, ()>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::RwLockReadGuard<'static, std::cell::Cell<()>>>();
/// ```
#[must_use = "if unused the RwLock will immediately unlock"]
#[clippy::has_significant_drop]
pub struct RwLockReadGuard<'a, T: ?Sized + 'a> {
    /// Not `&'a T`, which would have to be valid after the lock is given back; and covariant in `T`,
    /// as std's guard is.
    ///
    /// # Invariant
    /// The value of the lock that is held.
    value: NonNull<T>,
    /// # Invariant
    /// Locked for reading on behalf of this guard.
    raw: &'a RawRwLock,
}

// SAFETY: a shared guard gives `&T` and nothing more.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}

impl<'a, T: ?Sized> RwLockReadGuard<'a, T> {
    /// # Safety
    /// - The caller has locked `lock` for reading, and leaves it to the guard.
    #[inline]
    unsafe fn new(lock: &'a RwLock<T>) -> LockResult<Self> {
        // SAFETY: a cell's pointer is not null.
        let value = unsafe { NonNull::new_unchecked(lock.value.get()) };
        result(lock.poison.get(), Self { value, raw: &lock.raw })
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held for this guard, so nobody writes.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.raw.unlock_read();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The right to write an [`RwLock`]'s value; gives the lock back when dropped.
///
/// # Examples
/// ```
/// let lock = bine_sync::RwLock::new(vec![1]);
/// let mut guard = lock.write().unwrap();
/// guard.push(2);
/// assert_eq!(*guard, [1, 2]);
/// ```
///
/// It stays with the thread that locked, and is shared only where its value may be:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::RwLockWriteGuard<'static, ()>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::RwLockWriteGuard<'static, std::cell::Cell<()>>>();
/// ```
#[must_use = "if unused the RwLock will immediately unlock"]
#[clippy::has_significant_drop]
pub struct RwLockWriteGuard<'a, T: ?Sized + 'a> {
    /// # Invariant
    /// Locked for writing on behalf of this guard.
    lock: &'a RwLock<T>,
    before: poison::Before,
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives `&T` and nothing more.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// # Safety
    /// - The caller has locked `lock` for writing, and leaves it to the guard.
    #[inline]
    unsafe fn new(lock: &'a RwLock<T>) -> LockResult<Self> {
        let guard = Self { lock, before: lock.poison.enter(), not_send: PhantomData };
        result(lock.poison.get(), guard)
    }

    /// Goes from writing to reading, without anybody writing in between.
    ///
    /// Readers that are next in the queue come in beside it.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::{RwLock, RwLockWriteGuard};
    ///
    /// let lock = RwLock::new(0);
    /// let mut writes = lock.write().unwrap();
    /// *writes = 1;
    /// let reads = RwLockWriteGuard::downgrade(writes);
    /// assert_eq!(*reads + *lock.read().unwrap(), 2);
    /// ```
    pub fn downgrade(s: Self) -> RwLockReadGuard<'a, T> {
        let guard = ManuallyDrop::new(s);
        let lock = guard.lock;
        lock.raw.downgrade();
        // SAFETY: held for reading now, and left to this guard.
        unsafe { RwLockReadGuard::new(lock) }.unwrap_or_else(|error| error.into_inner())
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held for this guard, and `&self` lets nobody write through it.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held for this guard, and `&mut self` is the one way to the value.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.poison.leave(self.before);
        self.lock.raw.unlock_write();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
