//! Waiting for nobody in particular: `park`, `sleep`, `yield_now`.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::{wait, worker};

/// Waits until the calling thread's token is available, and consumes it. Does not return for
/// another reason on a green thread.
pub fn park() {
    match worker::green() {
        Some(_) => {
            while !take_user_token() {
                wait::park();
            }
        }
        None => std::thread::park(),
    }
}

/// As [`park`], for `timeout` at most.
pub fn park_timeout(timeout: Duration) {
    if worker::green().is_none() {
        return std::thread::park_timeout(timeout);
    }
    let Some(deadline) = Instant::now().checked_add(timeout) else { return park() };
    while !take_user_token() {
        if Instant::now() >= deadline {
            return;
        }
        wait::park_until(deadline);
    }
}

fn take_user_token() -> bool {
    let (_, task) = worker::green().expect("called on a green thread");
    // SAFETY: the thread that runs is alive. Acquire pairs with the Release in `unpark`.
    unsafe { task.as_ref() }.user_token.swap(false, Ordering::Acquire)
}

/// Waits for `duration` at least.
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

/// Waits until `deadline`.
pub fn sleep_until(deadline: Instant) {
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        if left.is_zero() {
            return;
        }
        match worker::green() {
            Some(_) => wait::park_until(deadline),
            None => std::thread::sleep(left),
        }
    }
}

/// Lets other runnable threads go first.
pub fn yield_now() {
    match worker::green() {
        Some((core, task)) => {
            // SAFETY: the thread that runs is alive.
            unsafe { task.as_ref() }.interrupts.look();
            core.yield_now(task);
        }
        None => std::thread::yield_now(),
    }
}
