//! Waiting for nobody in particular: `park`, `sleep`, `yield_now`.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::task::Task;
use crate::{wait, worker};

/// Waits until the calling thread's token is available, and consumes it. Does not return for
/// another reason on a green thread.
pub fn park() {
    let Some((_, task)) = worker::green() else { return std::thread::park() };
    let mut waited = false;
    while !take_user_token(task) {
        wait::park();
        waited = true;
    }
    if !waited {
        had_not_to_wait();
    }
}

/// As [`park`], for `timeout` at most. One of zero lets other green threads go first if there is no
/// token: whoever looks for something in a loop does not keep the others from bringing it about.
pub fn park_timeout(timeout: Duration) {
    let Some((_, task)) = worker::green() else { return std::thread::park_timeout(timeout) };
    if timeout.is_zero() {
        return match take_user_token(task) {
            true => had_not_to_wait(),
            false => yield_now(),
        };
    }
    let Some(deadline) = Instant::now().checked_add(timeout) else { return park() };
    let mut waited = false;
    while !take_user_token(task) && Instant::now() < deadline {
        wait::park_until(deadline);
        waited = true;
    }
    if !waited {
        had_not_to_wait();
    }
}

/// Lets others run now and then, where somebody does without waiting what may wait. Kept out of the
/// callers, which are short.
#[cold]
fn had_not_to_wait() {
    wait::checkpoint();
}

/// `task` is the calling thread.
fn take_user_token(task: NonNull<Task>) -> bool {
    // SAFETY: the thread that runs is alive. Acquire pairs with the Release in `unpark`.
    unsafe { task.as_ref() }.user_token.swap(false, Ordering::Acquire)
}

/// Waits for `duration` at least. A sleep of zero lets other green threads go first.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let before = Instant::now();
/// bine_runtime::run(|| bine_runtime::thread::sleep(Duration::from_millis(5)));
/// assert!(before.elapsed() >= Duration::from_millis(5));
/// ```
pub fn sleep(duration: Duration) {
    if worker::green().is_none() {
        return std::thread::sleep(duration);
    }
    match Instant::now().checked_add(duration) {
        Some(deadline) => sleep_until(deadline),
        None => loop {
            wait::park();
        },
    }
}

/// Waits until `deadline`. One that has passed lets other green threads go first.
pub fn sleep_until(deadline: Instant) {
    let mut left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() && worker::green().is_some() {
        return yield_now();
    }
    while !left.is_zero() {
        match worker::green() {
            Some(_) => wait::park_until(deadline),
            None => std::thread::sleep(left),
        }
        left = deadline.saturating_duration_since(Instant::now());
    }
}

/// As [`sleep`], for so many milliseconds.
#[deprecated(note = "replaced by `sleep`, as in std")]
pub fn sleep_ms(ms: u32) {
    sleep(Duration::from_millis(ms.into()));
}

/// As [`park_timeout`], for so many milliseconds.
#[deprecated(note = "replaced by `park_timeout`, as in std")]
pub fn park_timeout_ms(ms: u32) {
    park_timeout(Duration::from_millis(ms.into()));
}

/// Lets other runnable threads go first.
pub fn yield_now() {
    match worker::green() {
        Some((core, task)) => {
            // SAFETY: the thread that runs is alive.
            if unsafe { task.as_ref() }.interrupts.look_to_yield() {
                core.yield_now(task);
            }
        }
        None => std::thread::yield_now(),
    }
}
