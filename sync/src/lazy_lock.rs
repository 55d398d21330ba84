//! A value that is made when it is first looked at.
#![allow(unsafe_code)]

use std::fmt;
use std::hint;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};

use bine_runtime::primitive::data::UnsafeCell;

use crate::Once;

/// A value that is made when it is first looked at, with the interface of [`std::sync::LazyLock`].
///
/// Threads that come while it is being made wait for it. An initialiser that looks at the value waits
/// for ever.
///
/// # Poisoning
/// As in std: if the initialiser panics, whoever looks at the value later panics too.
///
/// # Cancellation
/// A green thread that is cancelled while it waits leaves. If it is cancelled while it runs the
/// initialiser, that is used up, and the lock is poisoned as if it had panicked. Where that may
/// happen, see [`thread::shielded`](bine_runtime::thread::shielded).
///
/// # Fairness, cost
/// As of [`Once`]: reading a value that is there costs one load.
///
/// # Where it comes from
/// std's is the same: a `Once`, and a cell for the initialiser first and the value then.
///
/// # Examples
/// ```
/// static WORDS: bine_sync::LazyLock<Vec<&str>> =
///     bine_sync::LazyLock::new(|| "made when first used".split(' ').collect());
/// assert_eq!(WORDS.len(), 4);
/// ```
///
/// The bounds are those of std:
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::LazyLock<std::cell::Cell<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::LazyLock<std::sync::MutexGuard<'static, ()>>>(); // `Sync` but not `Send`
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::LazyLock<(), std::rc::Rc<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::LazyLock<std::rc::Rc<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::LazyLock<(), std::rc::Rc<()>>>();
/// ```
pub struct LazyLock<T, F = fn() -> T> {
    once: Once,
    /// # Invariant
    /// Written by a closure of `once` or through `&mut`. `Made` once `once` is completed.
    state: UnsafeCell<State<T, F>>,
}

enum State<T, F> {
    ToMake(F),
    Made(T),
    /// The initialiser was called, and has not returned.
    Poisoned,
}

// SAFETY: all threads may read the value, and any of them may make it, by the initialiser that comes
// from another, or drop either. Nobody gets at the initialiser by reference.
unsafe impl<T: Sync + Send, F: Send> Sync for LazyLock<T, F> {}

impl<T: RefUnwindSafe + UnwindSafe, F: UnwindSafe> RefUnwindSafe for LazyLock<T, F> {}
impl<T: UnwindSafe, F: UnwindSafe> UnwindSafe for LazyLock<T, F> {}

impl<T, F: FnOnce() -> T> State<T, F> {
    /// Calls the initialiser and keeps the value.
    ///
    /// # Panics
    /// If it was called before, or with its panic.
    fn make(&mut self) {
        match mem::replace(self, State::Poisoned) {
            State::ToMake(f) => *self = State::Made(f()),
            State::Poisoned => panic_poisoned(),
            State::Made(_) => unreachable!("an initialiser is called once"),
        }
    }
}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    /// A value that `f` will make.
    ///
    /// # Examples
    /// As of [`LazyLock`].
    #[inline]
    pub const fn new(f: F) -> Self {
        Self { once: Once::new(), state: UnsafeCell::new(State::ToMake(f)) }
    }

    /// The value; makes it, or waits while it is being made. Dereferencing does the same.
    ///
    /// # Panics
    /// With the panic of the initialiser, or if that has panicked before.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::LazyLock;
    ///
    /// let lazy = LazyLock::new(|| 1);
    /// assert_eq!(LazyLock::force(&lazy), &1);
    /// ```
    #[inline]
    pub fn force(this: &Self) -> &T {
        // SAFETY: closures run one at a time, and none after one has returned; until then nobody
        // reads.
        this.once.call_once_force(|_| unsafe { (*this.state.get()).make() });
        this.completed()
    }

    /// The value, to change it; makes it first if need be.
    ///
    /// # Panics
    /// As [`force`](Self::force).
    ///
    /// # Examples
    /// ```
    /// use bine_sync::LazyLock;
    ///
    /// let mut lazy = LazyLock::new(|| 1);
    /// *LazyLock::force_mut(&mut lazy) += 1;
    /// assert_eq!(*lazy, 2);
    /// ```
    #[inline]
    pub fn force_mut(this: &mut Self) -> &mut T {
        if !matches!(this.state.get_mut(), State::Made(_)) {
            // By way of `once`, so that it is completed too.
            Self::force(this);
        }
        Self::get_mut(this).unwrap_or_else(|| unreachable!("the value was just made"))
    }
}

impl<T, F> LazyLock<T, F> {
    /// The value, if it was made, to change it.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::LazyLock;
    ///
    /// let mut lazy = LazyLock::new(|| 1);
    /// assert_eq!(LazyLock::get_mut(&mut lazy), None);
    /// ```
    #[inline]
    pub fn get_mut(this: &mut Self) -> Option<&mut T> {
        match this.state.get_mut() {
            State::Made(value) => Some(value),
            _ => None,
        }
    }

    /// The value, if it was made. Does not wait.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::LazyLock;
    ///
    /// let lazy = LazyLock::new(|| 1);
    /// assert_eq!(LazyLock::get(&lazy), None);
    /// LazyLock::force(&lazy);
    /// assert_eq!(LazyLock::get(&lazy), Some(&1));
    /// ```
    #[inline]
    pub fn get(this: &Self) -> Option<&T> {
        this.once.is_completed().then(|| this.completed())
    }

    /// The value, once `once` is completed.
    #[inline]
    fn completed(&self) -> &T {
        debug_assert!(self.once.is_completed());
        // SAFETY: completed, as the caller has seen to; so it is not written any more.
        match unsafe { &*self.state.get() } {
            State::Made(value) => value,
            // SAFETY: as above; the initialiser has returned.
            _ => unsafe { hint::unreachable_unchecked() },
        }
    }
}

#[cold]
#[inline(never)]
fn panic_poisoned() -> ! {
    panic!("LazyLock instance has previously been poisoned");
}

impl<T, F: FnOnce() -> T> Deref for LazyLock<T, F> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        Self::force(self)
    }
}

impl<T, F: FnOnce() -> T> DerefMut for LazyLock<T, F> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        Self::force_mut(self)
    }
}

impl<T: Default> Default for LazyLock<T> {
    #[inline]
    fn default() -> Self {
        Self::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_tuple("LazyLock");
        match Self::get(self) {
            Some(value) => debug.field(value),
            None => debug.field(&format_args!("<uninit>")),
        };
        debug.finish()
    }
}
