//! Limits for what waits. `deadlines.rs` has how they come to be looked at.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{error, fmt, io};

use crate::deadlines::{Deadlines, Expired};
use crate::worker::{self, Waiting};
use crate::{clock, interrupt};

/// The error of what took too long; see [`timeout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deadline has passed")
    }
}

impl error::Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> Self {
        Self::new(io::ErrorKind::TimedOut, elapsed)
    }
}

/// Runs `f` on the calling thread, green or OS, and ends it if it waits for anything when `duration`
/// has passed.
///
/// Any wait of bine's counts: for a socket, a lock, a channel, a thread, a child process, or time.
/// The wait that `f` is in when the time has come, or else its next one, unwinds `f` from there to
/// here, and the result is [`Elapsed`]. Destructors run, the panic hook does not, and locks are not
/// poisoned. An operation whose time has come at the same moment completes: nothing that it has
/// received is lost. So does an `f` that waits no more: its value counts, however late.
///
/// ```
/// use std::time::Duration;
/// use bine_runtime::{thread, time};
///
/// bine_runtime::run(|| {
///     let late = time::timeout(Duration::from_millis(1), || thread::sleep(Duration::from_secs(60)));
///     assert_eq!(late, Err(time::Elapsed));
///     assert_eq!(time::timeout(Duration::from_secs(60), || 1 + 1), Ok(2));
/// });
/// ```
///
/// A timeout costs no thread, and no lock but that of the timers of one worker.
///
/// # What is not interrupted
///
/// - What computes, or calls the system directly. It ends at its next wait.
/// - [`blocking`](crate::blocking()) calls, and so files; they end before `f` is unwound.
/// - What is [shielded](crate::thread::shielded) within `f`, and what waits in a destructor while the
///   thread unwinds.
/// - Threads that `f` has spawned go on, unless in a [scope](crate::thread::scope): when the time has
///   come while `f` waits for the end of a scope, the scope's threads are cancelled, and `f` unwinds
///   after their end.
/// - A coroutine that `f` was called on, and that goes on on another thread meanwhile, or resumes
///   another coroutine that waits. (`f` may resume coroutines, and what waits there is interrupted, if
///   `timeout` itself was not called on one.)
///
/// # Nesting
///
/// The first deadline to pass counts. If several have passed at a wait, the outermost gives its error,
/// and `f` of that unwinds through the others.
///
/// A cancellation of the thread goes through all of them. Whoever catches the unwinding within `f`
/// unwinds again at the next wait.
///
/// # Panics
///
/// With `f`'s payload if `f` panics. And in a program built with `panic = "abort"`, where nothing can be
/// unwound.
pub fn timeout<F: FnOnce() -> T, T>(duration: Duration, f: F) -> Result<T, Elapsed> {
    match Instant::now().checked_add(duration) {
        Some(deadline) => timeout_at(deadline, f),
        // So far away that it never comes.
        None => Ok(f()),
    }
}

/// As [`timeout`], with a point in time. One that has passed already ends `f` at its first wait.
///
/// # Panics
///
/// As [`timeout`].
pub fn timeout_at<F: FnOnce() -> T, T>(deadline: Instant, f: F) -> Result<T, Elapsed> {
    if cfg!(not(panic = "unwind")) {
        panic!(
            "a timeout unwinds what takes too long, and this program is built with panic = \"abort\""
        );
    }
    let entered = Entered::new(deadline);
    // What was caught goes on or is gone: nothing that `f` has left half-changed is seen by anybody
    // who would not see it if this were not here, but through `Elapsed`, which says so.
    match panic::catch_unwind(AssertUnwindSafe(|| with_timer(deadline, f))) {
        Ok(value) => Ok(value),
        Err(payload) => entered.caught(payload),
    }
}

/// Runs `f` with a timer set that has the calling green thread look at its deadlines.
fn with_timer<T>(deadline: Instant, f: impl FnOnce() -> T) -> T {
    let Some((core, task)) = worker::green() else { return f() };
    // Keeps the cell and the timers: this may be a coroutine's frame, and end after the thread.
    let reference = interrupt::reference_to(task);
    let timers = &core.remote().timers;
    let (mut f, mut value) = (Some(f), None);
    timers.with_deadline(Waiting(reference.as_ptr()), clock::nanos_of(deadline), || {
        value = f.take().map(|f| f());
    });
    match f {
        // The deadline has passed already.
        Some(f) => f(),
        None => value.expect("what was called has returned"),
    }
}

/// A deadline that is set. Taken back when dropped.
struct Entered {
    list: Arc<Deadlines>,
    id: u64,
}

impl Entered {
    fn new(deadline: Instant) -> Self {
        let setter = interrupt::setter_of_deadlines();
        let id = setter.enter(deadline);
        interrupt::note_deadline();
        Self { list: setter.list, id }
    }

    /// `f` has unwound.
    fn caught<T>(self, payload: Box<dyn Any + Send>) -> Result<T, Elapsed> {
        let ours = payload
            .downcast_ref::<Expired>()
            .is_some_and(|expired| expired.is_for(&self.list, self.id));
        drop(self);
        if !ours {
            panic::resume_unwind(payload);
        }
        interrupt::caught_expiry();
        Err(Elapsed)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.list.leave(self.id);
        interrupt::forget_deadline();
    }
}
