//! Thread-locals that belong to the green thread: the macro, and the key that it makes.

mod table;

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) use self::table::Locals;
use self::table::{Found, Kept};

/// Declares thread-locals, as [`std::thread_local!`], of which each *green thread* has its own
/// value; on a plain OS thread, each OS thread.
///
/// ```
/// use std::cell::{Cell, RefCell};
///
/// bine_runtime::thread_local! {
///     /// Requests that this thread has seen.
///     pub static REQUESTS: Cell<u32> = const { Cell::new(0) };
///     static LOG: RefCell<Vec<String>> = RefCell::new(Vec::new());
/// }
///
/// REQUESTS.set(3);
/// bine_runtime::spawn(|| {
///     assert_eq!(REQUESTS.get(), 0);
///     LOG.with_borrow_mut(|log| log.push("only here".to_owned()));
/// })
/// .join()
/// .unwrap();
/// assert_eq!(REQUESTS.get(), 3);
/// assert!(LOG.take().is_empty());
/// ```
///
/// # Beside `std::thread_local!`
///
/// What `std::thread_local!` declares belongs to the OS thread. All green threads that run there
/// see the same value: one that sets it, blocks and looks again may find what a neighbour has set
/// meanwhile. In a migrating runtime it may even find another OS thread's, and a reference that it
/// keeps across a blocking call may be used by two threads at once (see
/// [`Builder::migrate`](crate::Builder::migrate)).
///
/// What this macro declares goes where the green thread goes. An initialiser, and a closure given
/// to [`LocalKey::with`], may block in either mode.
///
/// # Destructors
///
/// They run when the thread has returned or unwound, and before it can be joined, in std's order:
/// the value that was initialised last is dropped first. A destructor may use other values of the
/// thread; those that it initialises are dropped next. It may block, spawn and join, and is not
/// interrupted if the thread is cancelled. If it panics, the process ends.
///
/// A value is not dropped while a closure given to `with` is in the midst of using it. That can only
/// be in a coroutine that was suspended there: the value is dropped when another destructor has ended
/// the coroutine, and leaked if none does.
///
/// Green threads that are abandoned with their runtime leak their values. On an OS thread all
/// values are dropped together, by one destructor of `std::thread_local!`; afterwards every access
/// is an [`AccessError`]. Those of the process's main thread may not be dropped at all, as std's.
///
/// # Memory
///
/// A thread that uses none has none. One that uses some has a table with a word for each key, up to
/// the highest that it uses, and one allocation for each value, with two words beside it; keys
/// are numbered in the order in which the process first uses them.
// Items in macros are not hygienic: the names of those here must not be a user's, whose type or
// initialiser may mention it.
#[macro_export]
macro_rules! thread_local {
    () => {};
    (
        $(#[$attribute:meta])*
        $visibility:vis static $name:ident: $type:ty = const $init:block $(; $($rest:tt)*)?
    ) => {
        $(#[$attribute])*
        $visibility const $name: $crate::thread::LocalKey<$type> =
            $crate::thread::LocalKey::__new(
                || {
                    static __BINE_RUNTIME_SLOT: $crate::thread::__LocalSlot<$type> =
                        $crate::thread::__LocalSlot::new();
                    &__BINE_RUNTIME_SLOT
                },
                || {
                    const __BINE_RUNTIME_INIT: $type = $init;
                    __BINE_RUNTIME_INIT
                },
                true,
            );
        $($crate::thread_local! { $($rest)* })?
    };
    (
        $(#[$attribute:meta])*
        $visibility:vis static $name:ident: $type:ty = $init:expr $(; $($rest:tt)*)?
    ) => {
        $(#[$attribute])*
        $visibility const $name: $crate::thread::LocalKey<$type> =
            $crate::thread::LocalKey::__new(
                || {
                    static __BINE_RUNTIME_SLOT: $crate::thread::__LocalSlot<$type> =
                        $crate::thread::__LocalSlot::new();
                    &__BINE_RUNTIME_SLOT
                },
                || $init,
                false,
            );
        $($crate::thread_local! { $($rest)* })?
    };
}

/// The numbers that have been given to slots. 0 is none.
static LAST_NUMBER: AtomicUsize = AtomicUsize::new(0);

/// A key's number, once it has one. It is made by [`thread_local!`](crate::thread_local) alone, and
/// no part of the interface.
///
/// Invariant: no two slots have the same number. As a slot has one `T`, all values that are ever
/// kept under its number are `T`s, whatever keys share the slot.
#[doc(hidden)]
#[derive(Debug)]
pub struct LocalSlot<T> {
    number: AtomicUsize,
    /// Invariant in `T`, as std's keys.
    type_: PhantomData<fn(T) -> T>,
}

impl<T> LocalSlot<T> {
    #[expect(clippy::new_without_default, reason = "for the macro alone")]
    pub const fn new() -> Self {
        Self { number: AtomicUsize::new(0), type_: PhantomData }
    }

    /// 0 if it has not been given one.
    #[inline]
    fn number(&self) -> usize {
        // Relaxed: the number is all there is to it; values under it are the thread's own.
        self.number.load(Ordering::Relaxed)
    }

    #[cold]
    fn give_number(&self) -> usize {
        let known = self.number();
        if known != 0 {
            return known;
        }
        // Relaxed, all three: as above. Two threads may both take a number, and one is lost.
        let new = LAST_NUMBER.fetch_add(1, Ordering::Relaxed) + 1;
        match self.number.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => new,
            Err(given) => given,
        }
    }
}

/// A thread-local of green threads; see [`thread_local!`](crate::thread_local) and
/// [`std::thread::LocalKey`].
///
/// The value stays with its thread:
///
/// ```compile_fail,E0521
/// bine_runtime::thread_local! {
///     static NUMBER: u32 = 7;
/// }
/// let mut kept: &u32 = &0;
/// NUMBER.with(|number| kept = number);
/// println!("{kept}");
/// ```
///
/// and cannot be shared with others if its type says so:
///
/// ```compile_fail,E0277
/// use std::cell::Cell;
///
/// bine_runtime::thread_local! {
///     static NUMBER: Cell<u32> = const { Cell::new(7) };
/// }
/// NUMBER.with(|number| {
///     std::thread::scope(|scope| {
///         scope.spawn(|| number.set(8));
///     });
/// });
/// ```
///
/// ```compile_fail,E0277
/// use std::rc::Rc;
///
/// bine_runtime::thread_local! {
///     static TEXT: Rc<str> = "mine".into();
/// }
/// let text = TEXT.with(Rc::clone);
/// bine_runtime::spawn(move || println!("{text}"));
/// ```
pub struct LocalKey<T: 'static> {
    // Functions, and not a reference: a key is a constant, as std's are.
    slot: fn() -> &'static LocalSlot<T>,
    init: fn() -> T,
    /// The initial value is a constant. It then always exists, even if `set` comes first.
    constant: bool,
}

/// The error of [`LocalKey::try_with`]: the value is being dropped, or has been.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessError {}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("already destroyed")
    }
}

impl Error for AccessError {}

#[cold]
#[inline(never)]
#[track_caller]
fn panic_destroyed(error: AccessError) -> ! {
    panic!("cannot access a green thread's local value during or after its destruction: {error:?}")
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}

impl<T: 'static> LocalKey<T> {
    /// For [`thread_local!`](crate::thread_local) alone.
    #[doc(hidden)]
    pub const fn __new(
        slot: fn() -> &'static LocalSlot<T>,
        init: fn() -> T,
        constant: bool,
    ) -> Self {
        Self { slot, init, constant }
    }

    /// Calls `f` with the calling thread's value, which is initialised first if need be. Both may
    /// block.
    ///
    /// # Panics
    ///
    /// If the value is being dropped or has been. See also [`try_with`](Self::try_with).
    #[track_caller]
    pub fn with<F, R>(&'static self, f: F) -> R
    where
        F: FnOnce(&T) -> R,
    {
        match self.try_with(f) {
            Ok(result) => result,
            Err(error) => panic_destroyed(error),
        }
    }

    /// As [`with`](Self::with).
    ///
    /// # Errors
    ///
    /// If the value is being dropped or has been.
    ///
    /// # Panics
    ///
    /// If the initialiser does. The next access then runs it again.
    #[inline]
    pub fn try_with<F, R>(&'static self, f: F) -> Result<R, AccessError>
    where
        F: FnOnce(&T) -> R,
    {
        let value = self.find(&mut None).ok_or(AccessError {})?;
        // SAFETY: `find` has just returned the calling thread's value.
        Ok(unsafe { Kept::lend(value, f) })
    }

    /// The calling thread's value, initialised with what `given` holds or else with the
    /// initialiser. None if it was destroyed.
    ///
    /// It is there until code of a user's runs; [`Kept::lend`] keeps it for longer.
    #[inline]
    fn find(&'static self, given: &mut Option<T>) -> Option<*const Kept<T>> {
        let slot = (self.slot)();
        let locals = table::current()?;
        // SAFETY: `locals` is the calling thread's, and by the invariant on slots the value under
        // this number is a `T`.
        match unsafe { (*locals).get(slot.number()) } {
            Found::Alive(value) => Some(value.cast_const().cast()),
            Found::Destroyed => None,
            Found::Nothing => self.initialise(slot, given),
        }
    }

    #[cold]
    fn initialise(
        &'static self,
        slot: &'static LocalSlot<T>,
        given: &mut Option<T>,
    ) -> Option<*const Kept<T>> {
        let given = if self.constant { None } else { given.take() };
        let value = given.unwrap_or_else(self.init);
        let number = slot.give_number();
        // Only now: the initialiser may have blocked, and this may be another OS thread; or it has
        // suspended a coroutine, and this is another thread altogether.
        let locals = table::current()?;
        // SAFETY: `locals` is the calling thread's. What lies under the number is a `T`.
        unsafe {
            match (*locals).get(number) {
                // The initialiser used its own key, and so initialised it first. As in std the later
                // value stays. std drops the other one now, here it is kept to the end.
                Found::Alive(_) => Some((*locals).replace(number, value)),
                Found::Nothing => Some((*locals).insert(number, value)),
                Found::Destroyed => None,
            }
        }
    }

    /// Initialises the value with `value`, or hands `value` to `replace` with what there is.
    #[track_caller]
    fn initialise_with(&'static self, value: T, replace: impl FnOnce(T, &T)) {
        let mut given = Some(value);
        let Some(there) = self.find(&mut given) else { panic_destroyed(AccessError {}) };
        if let Some(value) = given {
            // SAFETY: as in `try_with`.
            unsafe { Kept::lend(there, |there| replace(value, there)) };
        }
    }
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// Sets the value. The initialiser does not run if it has not.
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with), and so do all methods here.
    #[track_caller]
    pub fn set(&'static self, value: T) {
        self.initialise_with(Cell::new(value), |value, there| there.set(value.into_inner()));
    }

    /// A copy of the value.
    #[track_caller]
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Takes the value and leaves the default one.
    #[track_caller]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// Sets the value and returns the old one.
    #[track_caller]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|there| there.replace(value))
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    /// Calls `f` with the value, borrowed.
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with), or if the value is mutably borrowed.
    #[track_caller]
    pub fn with_borrow<F, R>(&'static self, f: F) -> R
    where
        F: FnOnce(&T) -> R,
    {
        self.with(|there| f(&there.borrow()))
    }

    /// Calls `f` with the value, mutably borrowed.
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with), or if the value is borrowed; so do all methods below.
    #[track_caller]
    pub fn with_borrow_mut<F, R>(&'static self, f: F) -> R
    where
        F: FnOnce(&mut T) -> R,
    {
        self.with(|there| f(&mut there.borrow_mut()))
    }

    /// Sets the value. The initialiser does not run if it has not.
    #[track_caller]
    pub fn set(&'static self, value: T) {
        self.initialise_with(RefCell::new(value), |value, there| {
            *there.borrow_mut() = value.into_inner();
        });
    }

    /// Takes the value and leaves the default one.
    #[track_caller]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Sets the value and returns the old one.
    #[track_caller]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|there| there.replace(value))
    }
}
