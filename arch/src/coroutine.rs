//! Coroutines: functions that suspend in the middle, hand a value out, and go on later.
//!
//! A coroutine runs on a stack of its own, so it may suspend from any depth of calls: out of a
//! recursion, a callback, an iterator's adapter. It runs on the OS thread of whoever resumes it, at
//! once and for as long as it likes; no scheduler is involved. (Green threads, which have one, are
//! in the crates above.)
//!
//! ```
//! use bine_arch::coroutine::{Coroutine, CoroutineState};
//!
//! let mut average = Coroutine::new(|yielder, first: f64| {
//!     let (mut sum, mut count) = (first, 1.0);
//!     while sum < 100.0 {
//!         sum += yielder.suspend(sum / count);
//!         count += 1.0;
//!     }
//!     "enough"
//! });
//! assert_eq!(average.resume(10.0), CoroutineState::Yielded(10.0));
//! assert_eq!(average.resume(20.0), CoroutineState::Yielded(15.0));
//! assert_eq!(average.resume(90.0), CoroutineState::Complete("enough"));
//! ```
//!
//! | | takes in | gives out | may borrow |
//! |---|---|---|---|
//! | [`Coroutine`] | an `Input` at each `resume` | a `Yield` at each suspension, a `Return` | nothing |
//! | [`Generator`] | what is `send`t | an iterator's items | nothing |
//! | [`ScopedCoroutine`], [`ScopedGenerator`] of a [`scope`] | the same | the same | what outlives the scope |
//! | [`on_stack`] | | a value, without suspending | anything |
//!
//! [`Builder`] gives names and stack sizes, and returns an error where the others panic because no
//! stack can be had.
//!
//! # Soundness
//!
//! The rule behind all of this: **a stack that was not unwound is never reused, and what it borrows
//! never ends before it.** Other threads may hold references into a suspended stack (those of a
//! [`std::thread::scope`], say), and destructors on it may be all that keeps an invariant.
//!
//! - *Dropping* a suspended coroutine unwinds its stack, so that its destructors run
//!   ([`ForcedUnwind`]). Where the program is compiled with `panic = "abort"` that is not to be had:
//!   the stack is leaked, and a scope ends the process.
//! - *Forgetting* a coroutine leaks its stack. Therefore a handle that can be forgotten owns no
//!   borrows, and neither do the values that travel:
//!
//! ```compile_fail,E0373
//! # use bine_arch::coroutine::Coroutine;
//! let mut coroutine = {
//!     let text = String::from("short-lived");
//!     Coroutine::new(|yielder, ()| yielder.suspend(text.len()))
//! };
//! coroutine.resume(());
//! ```
//!
//! ```compile_fail,E0597
//! # use bine_arch::coroutine::{Coroutine, Yielder};
//! let mut coroutine = Coroutine::new(|yielder: &Yielder<&String, ()>, text: &String| {
//!     yielder.suspend(());
//!     println!("{text}");
//! });
//! {
//!     let text = String::from("short-lived");
//!     coroutine.resume(&text);
//! }
//! ```
//!
//!   [`scope`] lends borrows, because it does not return before its coroutines are unwound.
//! - *Moving to another OS thread* is not for safe code: the suspended frames may hold anything that
//!   is not `Send`, and references to thread-locals. [`Coroutine::assert_send`] takes the promise.
//!
//! ```compile_fail,E0277
//! # use bine_arch::coroutine::Coroutine;
//! let mut coroutine = Coroutine::new(|yielder, ()| yielder.suspend(1));
//! std::thread::spawn(move || coroutine.resume(()));
//! ```
//!
//! - The *yielder* cannot leave the body that it was lent to; see [`Yielder`].
//!
//! There is one hole, which the type system cannot see and which nobody has closed for what
//! `std::thread_local!` declares: a reference that [`LocalKey::with`] lends is good while
//! the OS thread lives, and a coroutine may be suspended in the middle of it. **Do not let an OS
//! thread end while a coroutine is suspended inside `LocalKey::with` on it** and the reference is
//! still used then: by the coroutine, dropped by the destructor of a thread-local that goes later; or
//! by a thread to which the coroutine has lent it. (All stackful coroutines of Rust share this. bine's
//! green threads do not, see the runtime crate; and what its own `thread_local!` declares stays while a
//! coroutine uses it.) The same goes for other code that lends what is good until a call returns, and
//! finds it again through a thread-local meanwhile, as crates for scoped thread-locals do: **do not
//! suspend inside such a call.**
//!
//! [`LocalKey::with`]: std::thread::LocalKey::with
//!
//! # Panics
//!
//! A panic in a body goes to whoever resumes it, with its payload: it went to the panic hook when it
//! arose. The coroutine has ended then.
//!
//! What a body panics with while its coroutine is dropped goes no further than that. Unwinding needs
//! room: a coroutine that is suspended within a few KiB of the end of its stack may overflow it when
//! it is dropped (and that is reported, as elsewhere).
//!
//! While a stack is unwound because its coroutine is dropped, [`std::thread::panicking`] is true,
//! and locks whose guards it drops are poisoned, as by a panic.
//!
//! # Cost
//!
//! Nothing is allocated but names: the closure and the control block lie at the top of the stack, which comes
//! from a pool. See [`context`](crate::context) for the switch.
//!
//! Measured by `benches/src/bin/switch.rs` beside corosensei 0.3.4 (AMD EPYC of family 26, KVM; the
//! medians of six runs of nine rounds, in nanoseconds):
//!
//! | | here | corosensei |
//! |---|---|---|
//! | resume and suspend | 2.64 | 2.69 |
//! | create, run and drop, on a stack that is handed from one to the next | 4.1 | 8.7 |
//! | the same in a scope, on a borrowed stack | 5.6 | 2.3 |
//! | the same with a stack of its own: from the pool here, mapped there | 12 | 9,280 |
//!
//! A scope costs more here, as it knows its coroutines and can have many; there it has one.

#![allow(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{self, Location};
use std::ptr::NonNull;

mod builder;
mod control;
mod generator;
mod memory;
mod on_stack;
mod scope;
mod sendable;
mod yielder;

pub use builder::Builder;
pub use control::ForcedUnwind;
pub use generator::Generator;
pub use memory::{OwnedStack, StackMemory};
pub use on_stack::{on_given_stack, on_stack};
pub use scope::{Scope, ScopedCoroutine, ScopedGenerator, scope};
pub use sendable::SendCoroutine;
pub use yielder::Yielder;

use control::{Control, Label, Phase};

/// What a coroutine has come to: the result of a `resume`. (The names are those of std's unstable
/// `CoroutineState`.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CoroutineState<Yield, Return> {
    /// It has suspended itself, with this value.
    Yielded(Yield),
    /// It has returned this value, and is not to be resumed any more.
    Complete(Return),
}

impl<Yield, Return> CoroutineState<Yield, Return> {
    /// The value that it has suspended itself with, if that is what it did.
    pub fn yielded(self) -> Option<Yield> {
        match self {
            Self::Yielded(value) => Some(value),
            Self::Complete(_) => None,
        }
    }

    /// The value that it has returned, if it has.
    pub fn complete(self) -> Option<Return> {
        match self {
            Self::Yielded(_) => None,
            Self::Complete(value) => Some(value),
        }
    }
}

/// A coroutine: takes an `Input` whenever it is resumed, and gives a `Yield` whenever it suspends
/// itself, and a `Return` in the end. See the [module](self).
///
/// Dropping one that is suspended unwinds its stack.
///
/// # Invariant
///
/// `control` is the control block of a coroutine on `stack` whose body has these types. Outside of
/// the methods here, the body does not run, or its scope is ending it (`Phase::Ending`).
#[must_use = "a coroutine does nothing until it is resumed"]
pub struct Coroutine<Input, Yield, Return, S: StackMemory = OwnedStack> {
    // Not `Send`, and so neither is the coroutine.
    control: NonNull<Control>,
    stack: ManuallyDrop<S>,
    travels: PhantomData<fn(Input) -> (Yield, Return)>,
}

impl<Input, Yield, Return> Coroutine<Input, Yield, Return> {
    /// A coroutine that will run `f`, on a stack of
    /// [`DEFAULT_STACK_SIZE`](crate::stack::DEFAULT_STACK_SIZE).
    ///
    /// `f` is given the first `resume`'s input. Where the compiler asks for the type of the closure's
    /// second parameter, name it there, or on the constructor: `Coroutine::<u32, _, _>::new(..)`.
    ///
    /// # Panics
    ///
    /// If no stack can be had; [`Builder::coroutine`] returns an error then.
    #[track_caller]
    pub fn new<F>(f: F) -> Self
    where
        F: FnOnce(&Yielder<Input, Yield>, Input) -> Return + 'static,
        Input: 'static,
        Yield: 'static,
        Return: 'static,
    {
        match Builder::new().coroutine(f) {
            Ok(coroutine) => coroutine,
            Err(error) => panic!("failed to make a coroutine: {error}"),
        }
    }
}

impl<Input, Yield, Return, S: StackMemory> Coroutine<Input, Yield, Return, S> {
    /// A coroutine that will run `f`, on a given stack. [`into_stack`](Self::into_stack) gives it
    /// back.
    ///
    /// ```
    /// use bine_arch::coroutine::{Coroutine, CoroutineState, OwnedStack};
    /// let mut stack = OwnedStack::new(64 << 10)?;
    /// for n in 0..10 {
    ///     let mut coroutine = Coroutine::with_stack(stack, |_: &_, n| n + 1);
    ///     let _: CoroutineState<(), _> = coroutine.resume(n);
    ///     stack = coroutine.into_stack();
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the closure is too large for the stack.
    #[inline]
    #[track_caller]
    pub fn with_stack<F>(stack: S, f: F) -> Self
    where
        F: FnOnce(&Yielder<Input, Yield>, Input) -> Return + 'static,
        Input: 'static,
        Yield: 'static,
        Return: 'static,
        S: 'static,
    {
        // SAFETY: all is 'static.
        unsafe { Self::on(stack, Label::here(), f) }
    }

    /// # Safety
    ///
    /// What the closure, the values that travel, and the stack borrow outlives the coroutine: it
    /// cannot be forgotten, or there are no such borrows.
    #[inline]
    #[track_caller]
    unsafe fn on<F>(stack: S, label: Label, f: F) -> Self
    where
        F: FnOnce(&Yielder<Input, Yield>, Input) -> Return,
    {
        let bounds = stack.bounds();
        assert!(
            control::fits::<F, Return>(bounds),
            "the closure of a coroutine, or its result ({} bytes), is too large for its stack",
            control::stage_size::<F, Return>(),
        );
        // SAFETY: the stack is memory that nothing else uses while we have it (`StackMemory`), and
        // it goes when the coroutine has ended, or never. The caller answers for the borrows.
        let control = unsafe { control::create::<Input, Yield, Return, F>(bounds, label, f) };
        if S::OF_THE_POOL {
            // SAFETY: its bounds are those of such a stack.
            unsafe { Control::own_stack(control) };
        }
        Self { control, stack: ManuallyDrop::new(stack), travels: PhantomData }
    }

    /// Runs the body with `input` until it next suspends itself or returns.
    ///
    /// # Panics
    ///
    /// With what the body panics with. And if the coroutine has ended: it has returned or panicked
    /// before.
    #[inline]
    #[track_caller]
    pub fn resume(&mut self, input: Input) -> CoroutineState<Yield, Return> {
        let control = self.control;
        if self.phase() > Phase::Started {
            resumed_after_its_end();
        }
        let mut input = ManuallyDrop::new(input);
        // SAFETY: the body is fresh or suspended, and `self` is borrowed exclusively. It is given
        // an input; and it gives the address of a value, which is moved out here, if it has neither
        // returned nor panicked.
        unsafe {
            let word = Control::resume(control, (&raw mut input) as usize);
            if control::is_end(word) {
                return CoroutineState::Complete(Self::finish(control, word));
            }
            CoroutineState::Yielded((word as *const Yield).read())
        }
    }

    /// # Safety
    ///
    /// As for [`Control::take_result`].
    #[inline]
    unsafe fn finish(control: NonNull<Control>, word: usize) -> Return {
        // SAFETY: the caller's promise.
        match unsafe { Control::take_result::<Return>(control, word) } {
            Ok(value) => value,
            Err(payload) => carry(payload),
        }
    }

    /// The name that its [`Builder`] gave it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        // SAFETY: the control block is there as long as `self`.
        unsafe { Control::name(self.control.as_ptr()) }
    }

    /// Whether it has ended: has returned or panicked.
    #[inline]
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.phase() > Phase::Started
    }

    /// Whether it has been resumed at least once.
    #[inline]
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.phase() > Phase::Fresh
    }

    /// Gives the stack back. If it is suspended the coroutine is unwound first.
    ///
    /// # Panics
    ///
    /// If it is suspended and the program is compiled with `panic = "abort"`; the stack is leaked. And
    /// with what a destructor panics with that runs because of this; the stack is dropped then.
    #[inline]
    pub fn into_stack(self) -> S {
        // SAFETY: the handle is not used any more, but for the phase and the stack. If a destructor
        // panics, `self` is dropped, which finds that it has ended.
        unsafe { Self::end(self.control) };
        assert!(self.phase() == Phase::Ended, "a suspended stack cannot be unwound here");
        let mut this = ManuallyDrop::new(self);
        // SAFETY: taken once, and nothing is left on it.
        unsafe { ManuallyDrop::take(&mut this.stack) }
    }

    /// Promises that it may be moved to other OS threads; see [`SendCoroutine`].
    ///
    /// # Safety
    ///
    /// Whenever it is moved to another OS thread, be it fresh or suspended:
    ///
    /// - all that its closure has captured, and all that is live on its stack, is `Send`: but for its
    ///   own [`Yielder`], and for coroutines and scopes of which the same can be promised;
    /// - no reference to a thread-local lives on its stack (an open
    ///   [`LocalKey::with`](std::thread::LocalKey::with), an `Rc` that was cloned out of a
    ///   thread-local, the address of `errno`).
    pub unsafe fn assert_send(self) -> SendCoroutine<Input, Yield, Return, S> {
        SendCoroutine::new(self)
    }

    #[inline]
    fn phase(&self) -> Phase {
        // SAFETY: the control block is there as long as `self`, and nobody writes to it meanwhile.
        unsafe { (*self.control.as_ptr()).phase }
    }

    /// Ends a coroutine, whatever its phase, and frees all but its stack. One that is being ended
    /// already stays as it is, and so does a suspended one where panics do not unwind.
    ///
    /// # Safety
    ///
    /// It is the control block of such a coroutine; its body does not run; it is used no more, but for
    /// its phase.
    #[inline]
    unsafe fn end(control: NonNull<Control>) {
        /// Runs also if the closure of a fresh coroutine panics while it is dropped.
        struct Release(NonNull<Control>);

        impl Drop for Release {
            #[inline]
            fn drop(&mut self) {
                // SAFETY: nobody needs what the control block owns any more.
                unsafe { Control::free(self.0) };
            }
        }

        // SAFETY: the caller's promise.
        unsafe {
            let phase = (*control.as_ptr()).phase;
            // Or the scope is ending it at this moment, and dropped the handle on the way: the stack
            // below us is in use.
            if phase == Phase::Ending || phase == Phase::Started && cfg!(panic = "abort") {
                return;
            }
            let _release = Release(control);
            if phase < Phase::Ended {
                Control::unwind(control);
            }
        }
    }
}

impl<Input, Yield, Return, S: StackMemory> Drop for Coroutine<Input, Yield, Return, S> {
    #[inline]
    fn drop(&mut self) {
        /// Gives the stack back if nothing is left on it; else leaks it. Runs also if a destructor
        /// panics.
        struct GiveBack<'a, S: StackMemory>(NonNull<Control>, &'a mut ManuallyDrop<S>);

        impl<S: StackMemory> Drop for GiveBack<'_, S> {
            #[inline]
            fn drop(&mut self) {
                // SAFETY: the control block is there as long as the stack, which is dropped once.
                unsafe {
                    if (*self.0.as_ptr()).phase == Phase::Ended {
                        ManuallyDrop::drop(self.1);
                    }
                }
            }
        }

        let give_back = GiveBack(self.control, &mut self.stack);
        // SAFETY: the handle is being dropped.
        unsafe { Self::end(give_back.0) };
    }
}

impl<Input, Yield, Return, S: StackMemory> fmt::Debug for Coroutine<Input, Yield, Return, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.phase() {
            Phase::Fresh => "fresh",
            Phase::Started => "suspended",
            Phase::Ending => "ending",
            Phase::Returned | Phase::Panicked | Phase::Ended => "done",
        };
        f.debug_struct("Coroutine").field("name", &self.name()).field("state", &state).finish()
    }
}

impl Label {
    /// No name, and the caller's place.
    #[inline]
    #[track_caller]
    fn here() -> Self {
        Self { name: None, created_at: Location::caller() }
    }
}

#[cold]
#[inline(never)]
#[track_caller]
fn resumed_after_its_end() -> ! {
    panic!("a coroutine was resumed after it had ended");
}

/// Goes on with a panic on the resumer's stack.
#[cold]
#[inline(never)]
fn carry(payload: Box<dyn Any + Send>) -> ! {
    panic::resume_unwind(payload)
}
