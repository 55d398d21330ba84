//! Waiting for a future, on the thread that polls it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::yield_now;
use crate::wait::{self, Unparker};

/// Waits for `future`, which the calling thread polls, green or not. Other green threads run
/// meanwhile.
///
/// The future may be woken from anywhere. What it needs beside that (a reactor, a timer, a context
/// of its runtime) it has to bring along. A future that wakes itself lets other threads go first.
///
/// A cancelled thread unwinds out of this, and drops the future.
///
/// ```
/// let value = bine_runtime::run(|| bine_runtime::block_on(async { 6 * 7 }));
/// assert_eq!(value, 42);
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    wait::checkpoint();
    let mut future = pin!(future);
    let mut signal = Signal::new();
    let mut waker = Waker::from(Arc::clone(&signal));
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        if !signal.thread.is_current() {
            // On a coroutine, which the future has suspended and another green thread has resumed.
            signal = Signal::new();
            waker = Waker::from(Arc::clone(&signal));
            continue;
        }
        if signal.take() {
            yield_now();
            continue;
        }
        while !signal.take() {
            wait::park();
        }
    }
}

/// What the wakers of one `block_on` share. A flag of its own, since the thread's token may be eaten
/// by whatever else the thread waits for, a `block_on` in the future among it.
struct Signal {
    woken: AtomicBool,
    thread: Unparker,
}

impl Signal {
    fn new() -> Arc<Self> {
        Arc::new(Self { woken: AtomicBool::new(false), thread: Unparker::current() })
    }

    fn take(&self) -> bool {
        // Acquire pairs with the Release in `wake_by_ref`.
        self.woken.swap(false, Ordering::Acquire)
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Release pairs with the Acquire in `take`, also where the flag is set already. Whoever set it
        // unparks the thread.
        if !self.woken.swap(true, Ordering::Release) {
            self.thread.clone().unpark();
        }
    }
}
