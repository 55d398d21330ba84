//! The one place that selects the building blocks of every protocol in bine: std and
//! parking_lot in a normal build, loom's instrumented versions under `--cfg bine_loom`.
//!
//! Protocol code in all crates takes its atomics, cells and locks from here and from nowhere
//! else, so that the models in `loom-tests/` explore the code that ships.
//!
//! The two sides have one interface, which is the smaller of the two:
//! - cells are reached through [`cell::UnsafeCell::with`] and `with_mut`, as in loom;
//! - locks do not poison and `lock()` returns the guard, as in parking_lot;
//! - a [`Condvar`] takes the guard of a [`CondvarMutex`] and gives it back, as std's does.
//!
//! What is read for an exchange to confirm is read by [`Guess::guess`]: loom does not see that the
//! exchange may come before another thread's load if its own thread has loaded the word since.
//!
//! Constructors are `const` in a normal build only (loom's objects register themselves with the
//! model that runs). What a user may put into a `static` takes its atomics from [`const_atomic`] and the
//! cell of its data from [`data`], whose constructors are `const` under loom too.

#[cfg(bine_loom)]
pub use self::under_loom::*;
#[cfg(not(bine_loom))]
pub use self::under_std::*;

/// A word that is read for a guess, which an exchange confirms.
pub trait Guess {
    /// What the word holds.
    type Value;

    /// About what the word holds now, Relaxed.
    fn guess(&self) -> Self::Value;
}

#[cfg(not(bine_loom))]
mod under_std {
    pub use parking_lot::{Mutex, MutexGuard};
    pub use std::sync::Arc;
    use std::sync::PoisonError;
    use std::time::Instant;

    /// What a [`Condvar`] waits with. std's, for they have no state but their own: parking_lot's share a
    /// table, which a forked child has as another thread was just changing it.
    #[derive(Debug, Default)]
    pub struct CondvarMutex<T>(std::sync::Mutex<T>);

    /// Its guard.
    pub type CondvarGuard<'a, T> = std::sync::MutexGuard<'a, T>;

    impl<T> CondvarMutex<T> {
        /// A free one.
        pub const fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }

        /// Locks it.
        #[inline]
        pub fn lock(&self) -> CondvarGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// std's condition variable, without poisoning.
    #[derive(Debug, Default)]
    pub struct Condvar(std::sync::Condvar);

    impl Condvar {
        /// That nobody waits for.
        pub const fn new() -> Self {
            Self(std::sync::Condvar::new())
        }

        /// Waits until notified. May return for no reason.
        #[inline]
        pub fn wait<'a, T>(&self, guard: CondvarGuard<'a, T>) -> CondvarGuard<'a, T> {
            self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
        }

        /// As [`wait`](Self::wait), until `deadline` at most. Whether that has passed. `guard` is of
        /// `mutex`, which loom's side needs.
        #[inline]
        pub fn wait_until<'a, T>(
            &self,
            _mutex: &'a CondvarMutex<T>,
            guard: CondvarGuard<'a, T>,
            deadline: Instant,
        ) -> (CondvarGuard<'a, T>, bool) {
            let timeout = deadline.saturating_duration_since(Instant::now());
            let (guard, waited) =
                self.0.wait_timeout(guard, timeout).unwrap_or_else(PoisonError::into_inner);
            (guard, waited.timed_out())
        }

        /// Wakes one that waits.
        #[inline]
        pub fn notify_one(&self) {
            self.0.notify_one();
        }
    }

    /// Atomic types and fences.
    pub mod atomic {
        pub use std::sync::atomic::{
            AtomicBool, AtomicIsize, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize,
            Ordering, fence,
        };
    }

    impl super::Guess for atomic::AtomicU32 {
        type Value = u32;

        #[inline(always)]
        fn guess(&self) -> u32 {
            self.load(atomic::Ordering::Relaxed)
        }
    }

    impl<T> super::Guess for atomic::AtomicPtr<T> {
        type Value = *mut T;

        #[inline(always)]
        fn guess(&self) -> *mut T {
            self.load(atomic::Ordering::Relaxed)
        }
    }

    /// Those that begin as constants.
    pub mod const_atomic {
        pub use super::atomic::*;
    }

    /// The word of a lock, which is read to guess it.
    pub mod lock_word {
        pub use super::atomic::{AtomicU32, Ordering};
    }

    /// The cell of what a lock guards for its users, who get references.
    pub mod data {
        pub use std::cell::UnsafeCell;
    }

    /// Interior mutability for data that a protocol guards.
    pub mod cell {
        /// A [`std::cell::UnsafeCell`] with loom's interface.
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub struct UnsafeCell<T: ?Sized>(std::cell::UnsafeCell<T>);

        impl<T> UnsafeCell<T> {
            /// A cell that holds `value`.
            #[inline(always)]
            pub const fn new(value: T) -> Self {
                Self(std::cell::UnsafeCell::new(value))
            }

            /// Unwraps the value.
            #[inline(always)]
            pub fn into_inner(self) -> T {
                self.0.into_inner()
            }
        }

        impl<T: ?Sized> UnsafeCell<T> {
            /// Calls `f` with a pointer for reading; dereferencing it is the caller's claim that
            /// nobody writes meanwhile.
            #[inline(always)]
            pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
                f(self.0.get())
            }

            /// Calls `f` with a pointer for writing; dereferencing it is the caller's claim that
            /// nobody else has access meanwhile.
            #[inline(always)]
            pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
                f(self.0.get())
            }
        }
    }

    /// Hints to the processor.
    pub mod hint {
        pub use std::hint::spin_loop;
    }
}

#[cfg(bine_loom)]
mod under_loom {
    pub use loom::sync::Arc;

    /// Atomic types and fences.
    pub mod atomic {
        pub use loom::sync::atomic::{
            AtomicBool, AtomicIsize, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize,
            Ordering, fence,
        };
    }

    // An exchange that fails, for none of the words ever has this value: loom takes it for one that may
    // come before the loads of others, and so tries that.
    impl super::Guess for atomic::AtomicU32 {
        type Value = u32;

        fn guess(&self) -> u32 {
            let (never, relaxed) = (u32::MAX, atomic::Ordering::Relaxed);
            self.compare_exchange(never, never, relaxed, relaxed).unwrap_or_else(|now| now)
        }
    }

    impl<T> super::Guess for atomic::AtomicPtr<T> {
        type Value = *mut T;

        fn guess(&self) -> *mut T {
            let never = std::ptr::without_provenance_mut(usize::MAX);
            let relaxed = atomic::Ordering::Relaxed;
            self.compare_exchange(never, never, relaxed, relaxed).unwrap_or_else(|now| now)
        }
    }

    /// Those that begin as constants.
    pub mod const_atomic {
        pub use crate::modelled::atomic::{
            AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicPtr,
            AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, compiler_fence,
            fence,
        };
    }

    /// The word of a lock, which is read to guess it.
    pub mod lock_word {
        pub use crate::modelled::lock_word::{AtomicU32, Ordering};
    }

    /// The cell of what a lock guards for its users, who get references.
    pub mod data {
        pub use crate::modelled::data::UnsafeCell;
    }

    /// Interior mutability for data that a protocol guards.
    pub mod cell {
        pub use loom::cell::UnsafeCell;
    }

    /// Hints to the processor.
    pub mod hint {
        pub use loom::hint::spin_loop;
    }

    /// loom's mutex with parking_lot's interface.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(loom::sync::Mutex<T>);

    /// The guard of a [`Mutex`].
    pub type MutexGuard<'a, T> = loom::sync::MutexGuard<'a, T>;

    impl<T> Mutex<T> {
        /// A mutex that holds `value`.
        pub fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        /// Locks.
        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("loom's mutexes never poison")
        }

        /// Locks if nobody holds the lock.
        pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }

    /// What a [`Condvar`] waits with.
    pub type CondvarMutex<T> = Mutex<T>;

    /// loom's condition variable with the interface of the other side.
    #[derive(Debug, Default)]
    pub struct Condvar(loom::sync::Condvar);

    impl Condvar {
        /// That nobody waits for.
        pub fn new() -> Self {
            Self(loom::sync::Condvar::new())
        }

        /// Waits until notified.
        pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.0.wait(guard).expect("loom's mutexes never poison")
        }

        /// As the deadline may pass at any time, it passes at once: others come in meanwhile, as
        /// long as they like.
        pub fn wait_until<'a, T>(
            &self,
            mutex: &'a Mutex<T>,
            guard: MutexGuard<'a, T>,
            _deadline: std::time::Instant,
        ) -> (MutexGuard<'a, T>, bool) {
            drop(guard);
            (mutex.lock(), true)
        }

        /// Wakes one that waits.
        pub fn notify_one(&self) {
            self.0.notify_one();
        }
    }
}
