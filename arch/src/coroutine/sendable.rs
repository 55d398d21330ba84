//! Coroutines that may move to other OS threads, by promise.

#![allow(unsafe_code)]

use std::fmt;

use super::yielder::current_os_thread;
use super::{Coroutine, CoroutineState, StackMemory};
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
#[must_use = "a coroutine does nothing until it is resumed"]
pub struct SendCoroutine<Input, Yield, Return, S: StackMemory>(Coroutine<Input, Yield, Return, S>);

// SAFETY: `assert_send` promised it for the stack; the rest is `Send` by these bounds. The pool
// takes stacks back on any thread. What the thread's panic count has to do with it, `resume` checks.
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
        Self(coroutine)
    }

    /// As [`Coroutine::resume`].
    ///
    /// # Panics
    ///
    /// As [`Coroutine::resume`]. And if the coroutine suspended itself while its OS thread was
    /// panicking, and this is another one: std counts panics for each OS thread, and a stack that
    /// unwinds here after it began to there would spoil the counts of both. It can still be resumed
    /// there.
    pub fn resume(&mut self, input: Input) -> CoroutineState<Yield, Return> {
        // SAFETY: the body does not run, and the control block is there as long as the coroutine.
        let panicking_on = unsafe { (*self.0.control.as_ptr()).panicking_on };
        if panicking_on != 0 && panicking_on != current_os_thread() {
            panic!(
                "a coroutine that suspended itself while its OS thread was panicking was resumed \
                 on another one"
            );
        }
        overflow::protect_thread();
        self.0.resume(input)
    }

    /// As [`Coroutine::is_done`].
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0.is_done()
    }

    /// Takes the promise back: the coroutine stays on this OS thread.
    ///
    /// # Panics
    ///
    /// As [`resume`](Self::resume), if it must not be resumed here.
    pub fn into_inner(self) -> Coroutine<Input, Yield, Return, S> {
        self.0
    }
}

impl<Input, Yield, Return, S: StackMemory> fmt::Debug for SendCoroutine<Input, Yield, Return, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SendCoroutine").field(&self.0).finish()
    }
}
