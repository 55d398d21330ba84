//! Coroutines that may move to other OS threads, by promise.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::control::Phase;
use super::{Coroutine, CoroutineState, OwnedStack, StackMemory};
use crate::overflow;

/// A coroutine of which [`Coroutine::assert_send`] promised that it may be moved to other OS
/// threads.
///
/// ```
/// use bine_arch::coroutine::{Coroutine, CoroutineState};
/// let coroutine = Coroutine::new(|yielder, n: i32| n + yielder.suspend(n) + 1);
/// // SAFETY: its closure captures nothing, and two numbers are all that is on its stack.
/// let mut coroutine = unsafe { coroutine.assert_send() };
/// assert_eq!(coroutine.resume(10), CoroutineState::Yielded(10));
/// std::thread::spawn(move || {
///     assert_eq!(coroutine.resume(20), CoroutineState::Complete(31));
/// }).join().unwrap();
/// ```
///
/// What travels must be `Send` for all that:
///
/// ```compile_fail,E0277
/// # use bine_arch::coroutine::Coroutine;
/// # use std::rc::Rc;
/// let coroutine = Coroutine::new(|yielder, n: Rc<i32>| yielder.suspend(n));
/// let mut coroutine = unsafe { coroutine.assert_send() };
/// std::thread::spawn(move || coroutine.resume(Rc::new(1)));
/// ```
///
/// It is not `Sync`, and need not be: all that it can do takes it exclusively.
///
/// # Panicking coroutines
///
/// std counts panics for each OS thread. A stack that began to unwind on one (its coroutine suspended
/// itself in a destructor) and goes on to unwind on another would spoil the counts of both. So such
/// a coroutine can only be used where it was suspended; dropping it elsewhere leaks its stack.
#[must_use = "a coroutine does nothing until it is resumed"]
pub struct SendCoroutine<Input, Yield, Return, S: StackMemory = OwnedStack> {
    coroutine: ManuallyDrop<Coroutine<Input, Yield, Return, S>>,
    /// Zero, or the OS thread on which it was suspended while that was panicking.
    panicking_on: u32,
}

// SAFETY: `assert_send` promised it for the stack; the rest is `Send` by these bounds. The pool
// takes stacks back on any thread. What the thread's panic count has to do with it,
// `is_bound_elsewhere` finds out.
unsafe impl<Input, Yield, Return, S> Send for SendCoroutine<Input, Yield, Return, S>
where
    Input: Send,
    Yield: Send,
    Return: Send,
    S: StackMemory + Send,
{
}

impl<Input, Yield, Return, S: StackMemory> SendCoroutine<Input, Yield, Return, S> {
    pub(super) fn new(coroutine: Coroutine<Input, Yield, Return, S>) -> Self {
        let panicking_on = panicking_here();
        Self { coroutine: ManuallyDrop::new(coroutine), panicking_on }
    }

    /// As [`Coroutine::resume`].
    ///
    /// # Panics
    ///
    /// As [`Coroutine::resume`]. And if the coroutine suspended itself while its OS thread was
    /// panicking, and this is another one. It can still be resumed there.
    #[track_caller]
    pub fn resume(&mut self, input: Input) -> CoroutineState<Yield, Return> {
        if self.is_bound_elsewhere() {
            used_elsewhere();
        }
        overflow::protect_thread();
        let state = self.coroutine.resume(input);
        self.panicking_on = panicking_here();
        state
    }

    /// Whether it must not run on this OS thread.
    #[inline]
    fn is_bound_elsewhere(&self) -> bool {
        self.panicking_on != 0
            && self.coroutine.phase() == Phase::Started
            && self.panicking_on != current_os_thread()
    }

    /// As [`Coroutine::is_done`].
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.coroutine.is_done()
    }

    /// Takes the promise back: the coroutine stays on this OS thread.
    ///
    /// # Panics
    ///
    /// As [`resume`](Self::resume), if it must not be resumed here. Its stack is leaked then.
    pub fn into_inner(self) -> Coroutine<Input, Yield, Return, S> {
        if self.is_bound_elsewhere() {
            used_elsewhere();
        }
        let mut this = ManuallyDrop::new(self);
        // SAFETY: taken once; `this` is not dropped.
        unsafe { ManuallyDrop::take(&mut this.coroutine) }
    }
}

impl<Input, Yield, Return, S: StackMemory> Drop for SendCoroutine<Input, Yield, Return, S> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_bound_elsewhere() {
            // SAFETY: dropped once. (Not to drop it is to forget it, which is sound: it owns no
            // borrows.)
            unsafe { ManuallyDrop::drop(&mut self.coroutine) };
        }
    }
}

/// The number of this OS thread if it is panicking, else zero. (It may be panicking because of what the
/// coroutine does, or because of what its resumer does: nobody can tell. Both bind it.)
#[inline]
fn panicking_here() -> u32 {
    if thread::panicking() { current_os_thread() } else { 0 }
}

#[cold]
#[inline(never)]
fn used_elsewhere() -> ! {
    panic!(
        "a coroutine that suspended itself while its OS thread was panicking was resumed on \
         another one"
    );
}

impl<Input, Yield, Return, S: StackMemory> fmt::Debug for SendCoroutine<Input, Yield, Return, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SendCoroutine").field(&*self.coroutine).finish()
    }
}

/// The number of the calling OS thread, which is not zero and which no other has (before four
/// thousand million of them have asked). By value,
/// and never inlined: the compiler must not keep a thread-local's address over a switch.
#[cold]
#[inline(never)]
fn current_os_thread() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    thread_local!(static NUMBER: Cell<u32> = const { Cell::new(0) });
    if NUMBER.get() == 0 {
        // Relaxed: only uniqueness matters.
        NUMBER.set(NEXT.fetch_add(1, Ordering::Relaxed));
    }
    NUMBER.get()
}
