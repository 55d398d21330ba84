//! A value that is set once: a `Once`, and a cell that only its closures write.
#![allow(unsafe_code)]

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use bine_runtime::primitive::data::UnsafeCell;

use crate::Once;

/// A place for a value that is written once, with the interface of [`std::sync::OnceLock`].
///
/// Threads that come while the value is being made wait for it. An initialiser that asks the same
/// `OnceLock` for the value waits for ever.
///
/// # Poisoning
/// There is none: if an initialiser panics, the next one is called.
///
/// # Cancellation
/// A green thread that is cancelled while it waits leaves. If it is cancelled while it runs the
/// initialiser, the next one is called.
///
/// # Fairness, cost
/// As of [`Once`], which it is made of, with a cell beside it: reading a value that is there costs one
/// load.
///
/// # Where it comes from
/// std's is the same.
///
/// # Examples
/// ```
/// static NAME: bine_sync::OnceLock<String> = bine_sync::OnceLock::new();
/// assert!(NAME.get().is_none());
/// assert_eq!(NAME.get_or_init(|| "bine".to_owned()), "bine");
/// assert_eq!(NAME.get().unwrap(), "bine");
/// ```
///
/// The bounds are those of std. Whoever drops it may have the value from another thread:
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::OnceLock<std::cell::Cell<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::OnceLock<std::sync::MutexGuard<'static, ()>>>(); // `Sync` but not `Send`
/// ```
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::OnceLock<std::rc::Rc<()>>>();
/// ```
pub struct OnceLock<T> {
    once: Once,
    /// An `Option` and not the bare memory for a value: so it needs no destructor of ours, which
    /// would forbid that the value borrows from what is dropped at the same time.
    ///
    /// # Invariant
    /// Written by a closure of `once` or through `&mut`. `Some` once `once` is completed.
    value: UnsafeCell<Option<T>>,
}

// SAFETY: all threads may read the value, and any of them may write it, or drop it.
unsafe impl<T: Sync + Send> Sync for OnceLock<T> {}

impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for OnceLock<T> {}
impl<T: UnwindSafe> UnwindSafe for OnceLock<T> {}

impl<T> OnceLock<T> {
    /// Without a value.
    ///
    /// # Examples
    /// As of [`OnceLock`].
    #[must_use]
    #[inline]
    pub const fn new() -> Self {
        Self { once: Once::new(), value: UnsafeCell::new(None) }
    }

    /// The value, if it is there. Does not wait.
    ///
    /// # Examples
    /// As of [`OnceLock`].
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if self.once.is_completed() {
            // SAFETY: nobody writes it any more while there are shared references.
            unsafe { (*self.value.get()).as_ref() }
        } else {
            None
        }
    }

    /// The value, if it is there, to change it.
    ///
    /// # Examples
    /// ```
    /// let mut cell = bine_sync::OnceLock::from(1);
    /// *cell.get_mut().unwrap() += 1;
    /// assert_eq!(cell.into_inner(), Some(2));
    /// ```
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut().as_mut()
    }

    /// Waits for the value.
    ///
    /// # Examples
    /// ```
    /// let cell = bine_sync::OnceLock::new();
    /// std::thread::scope(|s| {
    ///     s.spawn(|| cell.set(1));
    ///     assert_eq!(cell.wait(), &1);
    /// });
    /// ```
    #[inline]
    pub fn wait(&self) -> &T {
        self.once.wait_force();
        self.completed()
    }

    /// Sets the value, or waits while another one is being made.
    ///
    /// # Errors
    /// With `value` if there is one already.
    ///
    /// # Examples
    /// ```
    /// let cell = bine_sync::OnceLock::new();
    /// assert_eq!(cell.set(1), Ok(()));
    /// assert_eq!(cell.set(2), Err(2));
    /// ```
    #[inline]
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.get_or_init(|| value.take().expect("an initialiser is called once"));
        match value {
            None => Ok(()),
            Some(value) => Err(value),
        }
    }

    /// The value; made by `f` if there is none, or waited for while it is being made.
    ///
    /// # Panics
    /// With the panic of `f`; then there is still no value.
    ///
    /// # Examples
    /// As of [`OnceLock`].
    #[inline]
    pub fn get_or_init<F>(&self, f: F) -> &T
    where
        F: FnOnce() -> T,
    {
        if !self.once.is_completed() {
            self.initialise(f);
        }
        self.completed()
    }

    #[cold]
    fn initialise(&self, f: impl FnOnce() -> T) {
        self.once.call_once_force(|_| {
            let value = f();
            // SAFETY: closures run one at a time, and none after one has returned; until then nobody
            // reads. What is overwritten is `None`.
            unsafe { *self.value.get() = Some(value) };
        });
    }

    /// The value, once `once` is completed.
    #[inline]
    fn completed(&self) -> &T {
        debug_assert!(self.once.is_completed());
        // SAFETY: completed, as the caller has seen to; so it is `Some`, and not written any more.
        unsafe { (*self.value.get()).as_ref().unwrap_unchecked() }
    }

    /// The value, if there is one.
    ///
    /// # Examples
    /// As of [`get_mut`](Self::get_mut).
    #[inline]
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    /// Takes the value out, if there is one, so that another can be set.
    ///
    /// # Examples
    /// ```
    /// let mut cell = bine_sync::OnceLock::from(1);
    /// assert_eq!(cell.take(), Some(1));
    /// assert_eq!(cell.take(), None);
    /// ```
    #[inline]
    pub fn take(&mut self) -> Option<T> {
        let value = self.value.get_mut().take()?;
        self.once = Once::new();
        Some(value)
    }
}

impl<T> Default for OnceLock<T> {
    #[inline]
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_tuple("OnceLock");
        match self.get() {
            Some(value) => debug.field(value),
            None => debug.field(&format_args!("<uninit>")),
        };
        debug.finish()
    }
}

impl<T: Clone> Clone for OnceLock<T> {
    fn clone(&self) -> Self {
        self.get().cloned().map_or_else(Self::new, Self::from)
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> Self {
        let cell = Self::new();
        let set = cell.set(value);
        debug_assert!(set.is_ok(), "nobody else has it");
        cell
    }
}

impl<T: PartialEq> PartialEq for OnceLock<T> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for OnceLock<T> {}
