//! Whether a lane is watched: the epoll instance of a worker that may not come by for long is then in the
//! process's own one, and whoever takes events from that takes the lane's as well.
//!
//! The worker ends the watch when it comes by, unless that is one *for good*: of a lane whose worker has
//! ended, or may be held and is watched by the monitor no more. To be watched needlessly does no harm, but
//! costs; so whoever asks need not know, and the worker looks at a hint.
//!
//! # The alarm
//!
//! The eventfd that ends the worker's wait is edge-triggered in the lane: one thread takes the edge. If
//! that is not the worker, but one who watches, then it may ring again only if the worker waits, or is about
//! to; it would hear itself for ever else, while the worker is held.
//!
//! ```text
//!   worker                           waker                           who watches
//!   ------                           -----                           -----------
//!   WAITS = true                     take it out of ASLEEP           take the edge
//!   fence(SeqCst), see `Berth`       fence(SeqCst), see `Berth`      fence(SeqCst)
//!   still ASLEEP ? wait              it waits ? ring                 WAITS ? ring again
//!   WAITS = false
//! ```
//!
//! If who watches does not see WAITS, then its fence comes before the worker's, and after the waker's, as
//! the edge does: so the worker sees that it is not asleep, and does not wait.
#![cfg_attr(
    not(bine_loom),
    allow(unreachable_pub, reason = "public for the models in loom-tests only")
)]

use bine_runtime::primitive::Mutex;
use bine_runtime::primitive::atomic::{AtomicBool, Ordering, fence};

/// How a lane is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Not,
    /// By its place in the process's epoll instance.
    There,
    /// It has no place there, since the system has refused it: the poller thread looks now and then.
    NowAndThen,
}

#[derive(Debug)]
struct State {
    how: How,
    for_good: bool,
}

/// The watch over one lane; see the module's documentation.
#[derive(Debug)]
pub struct Watch {
    /// A hint.
    is_on: AtomicBool,
    /// The worker waits, or is about to.
    waits: AtomicBool,
    /// Held while the lane is put into the epoll instance, or taken out.
    state: Mutex<State>,
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

impl Watch {
    /// Over a lane whose worker comes by.
    pub fn new() -> Self {
        Self {
            is_on: AtomicBool::new(false),
            waits: AtomicBool::new(false),
            state: Mutex::new(State { how: How::Not, for_good: false }),
        }
    }

    /// Begins, if it has not yet. `put_in` gives the lane its place, and says whether it got it. False if not:
    /// then it is to be called again now and then.
    pub fn begin(&self, for_good: bool, put_in: impl FnOnce() -> bool) -> bool {
        let mut state = self.state.lock();
        state.for_good |= for_good;
        if state.how != How::There {
            state.how = if put_in() { How::There } else { How::NowAndThen };
        }
        // Relaxed, here and below: a hint.
        self.is_on.store(true, Ordering::Relaxed);
        state.how == How::There
    }

    /// Ends, unless it is one for good, by the worker, or on behalf of one that [waits](Self::has_waiter).
    /// `take_out` ends what `put_in` did.
    pub fn end(&self, take_out: impl FnOnce()) {
        if self.is_on.load(Ordering::Relaxed) {
            self.end_now(take_out);
        }
    }

    #[cold]
    fn end_now(&self, take_out: impl FnOnce()) {
        let mut state = self.state.lock();
        if state.for_good {
            return;
        }
        if std::mem::replace(&mut state.how, How::Not) == How::There {
            take_out();
        }
        self.is_on.store(false, Ordering::Relaxed);
    }

    /// The lane is another worker's from now on, which will come by.
    pub fn hand_on(&self) {
        self.state.lock().for_good = false;
    }

    /// Whether somebody has to look now and then.
    #[cfg(not(bine_loom))]
    pub fn needs_looks(&self) -> bool {
        self.is_on.load(Ordering::Relaxed) && self.state.lock().how == How::NowAndThen
    }

    /// The worker is about to wait, and has a SeqCst fence before its last look whether it is to; or it has
    /// waited.
    pub fn set_waits(&self, waits: bool) {
        // Relaxed, here and below: ordered by the fences.
        self.waits.store(waits, Ordering::Relaxed);
    }

    /// As [`has_waiter`](Self::has_waiter), as things look.
    #[cfg(not(bine_loom))]
    pub fn seems_to_have_waiter(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// Whether the worker waits or is about to. By who has taken events, perhaps its alarm.
    pub fn has_waiter(&self) -> bool {
        // Pairs with the one in `Berth::wait`. (The waker's would do, as long as the system call that takes
        // an edge is ordered after the one that rings.)
        fence(Ordering::SeqCst);
        self.waits.load(Ordering::Relaxed)
    }
}
