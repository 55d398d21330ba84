//! Waiting for nobody in particular: `park`, `sleep`, `yield_now`.

use std::ptr::NonNull;
use std::time::{Duration, Instant};

use crate::task::Task;
use crate::user_token::UserToken;
use crate::{deadlines, wait, worker};

/// Waits until the calling thread's token is available, and consumes it. Does not return for
/// another reason on a green thread.
pub fn park() {
    let Some((_, task)) = worker::green() else { return park_os_thread(None) };
    if !user_token(task).wait(|| true, wait::park) {
        had_not_to_wait();
    }
}

/// As [`park`], for `timeout` at most. One of zero lets other green threads go first if there is no
/// token: whoever looks for something in a loop does not keep the others from bringing it about.
pub fn park_timeout(timeout: Duration) {
    let Some((_, task)) = worker::green() else { return park_os_thread(Some(timeout)) };
    if timeout.is_zero() {
        return match user_token(task).take() {
            true => had_not_to_wait(),
            false => yield_now(),
        };
    }
    let Some(deadline) = Instant::now().checked_add(timeout) else { return park() };
    let in_time = || Instant::now() < deadline;
    if !user_token(task).wait(in_time, || wait::park_until(deadline)) {
        had_not_to_wait();
    }
}

/// For an OS thread, which has std's token. It may return early, as std's own functions may, where the
/// thread has a deadline.
fn park_os_thread(timeout: Option<Duration>) {
    deadlines::look_on_os_thread();
    let next = deadlines::next_of_os_thread();
    let left = next.map(|next| next.saturating_duration_since(Instant::now()));
    match (timeout, left) {
        (None, None) => std::thread::park(),
        (Some(limit), None) | (None, Some(limit)) => std::thread::park_timeout(limit),
        (Some(timeout), Some(left)) => std::thread::park_timeout(timeout.min(left)),
    }
}

/// For an OS thread: sleeps until `deadline`, or without end, as long as no deadline of its own passes.
fn sleep_os_thread_until(deadline: Option<Instant>) {
    loop {
        deadlines::look_on_os_thread();
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return;
        }
        let next = deadlines::next_of_os_thread();
        let next = next.map(|next| next.saturating_duration_since(Instant::now()));
        std::thread::sleep(left.into_iter().chain(next).min().unwrap_or(Duration::MAX));
    }
}

/// Lets others run now and then, where somebody does without waiting what may wait. Kept out of the
/// callers, which are short.
#[cold]
fn had_not_to_wait() {
    wait::checkpoint();
}

/// `task` is the calling thread.
fn user_token<'a>(task: NonNull<Task>) -> &'a UserToken {
    // SAFETY: the thread that runs is alive, and its caller is that thread.
    &unsafe { task.as_ref() }.user_token
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
    let deadline = Instant::now().checked_add(duration);
    if worker::green().is_none() {
        return sleep_os_thread_until(deadline);
    }
    match deadline {
        Some(deadline) => sleep_until(deadline),
        None => loop {
            wait::park();
        },
    }
}

/// Waits until `deadline`. One that has passed lets other green threads go first.
pub fn sleep_until(deadline: Instant) {
    if worker::green().is_none() {
        return sleep_os_thread_until(Some(deadline));
    }
    if deadline <= Instant::now() {
        return yield_now();
    }
    while Instant::now() < deadline {
        wait::park_until(deadline);
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
        None => {
            deadlines::look_on_os_thread();
            std::thread::yield_now();
        }
    }
}
