//! Running a closure on another stack.

#![allow(unsafe_code)]

use std::io;

use super::control::Label;
use super::{Builder, Coroutine, CoroutineState, StackMemory, Yielder};

/// The body suspends itself never: it has no yielder.
enum Never {}

/// Runs `f` on a stack of at least `size` bytes, and returns what it returns.
///
/// For recursion that is deeper than the calling stack has room for, and for C code that needs much
/// of it. A panic goes through; a backtrace shows the frames of `f` only.
///
/// ```
/// fn depth(n: u64) -> u64 {
///     let frame = std::hint::black_box([n; 64]);
///     if n == 0 { 0 } else { 1 + depth(frame[0] - 1) }
/// }
/// // Half a gigabyte of frames: as many pages are committed as are touched.
/// let n = bine_arch::coroutine::on_stack(1 << 30, || depth(100_000))?;
/// assert_eq!(n, 100_000);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// As [`Builder::coroutine`]; `f` has not run then.
#[track_caller]
pub fn on_stack<F, R>(size: usize, f: F) -> io::Result<R>
where
    F: FnOnce() -> R,
{
    let body = |_: &Yielder<(), Never>, ()| f();
    // SAFETY: the coroutine ends before this function does.
    let coroutine = unsafe { Builder::new().name("on_stack").stack_size(size).build(body)? };
    Ok(run(coroutine))
}

/// Runs `f` on a given stack, and returns what it returns. Otherwise as [`on_stack`].
///
/// # Panics
///
/// If the closure is too large for the stack.
#[track_caller]
pub fn on_given_stack<S, F, R>(stack: &mut S, f: F) -> R
where
    S: StackMemory,
    F: FnOnce() -> R,
{
    let body = |_: &Yielder<(), Never>, ()| f();
    // SAFETY: as in `on_stack`.
    run(unsafe { Coroutine::on(stack, Label::here(), body) })
}

#[inline]
fn run<R, S: StackMemory>(mut coroutine: Coroutine<(), Never, R, S>) -> R {
    match coroutine.resume(()) {
        CoroutineState::Complete(value) => value,
        CoroutineState::Yielded(never) => match never {},
    }
}
