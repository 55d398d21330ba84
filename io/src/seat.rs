//! The seat: who may take events from the process's epoll instance, one at a time.
//!
//! (A worker that has a lane, an epoll instance of its own, takes events there, and none here: `lane.rs`. It
//! is not counted below. Where there are no other workers, the poller thread has the seat.)
//!
//! Whoever takes events holds the seat meanwhile, for a moment or, if it waits for them, for as long as
//! it sleeps. So a wake-up that is meant for the one who waits (an event of the poller's eventfd) is
//! taken by nobody else, and an event wakes one thread. Three kinds of threads take the seat:
//!
//! - a worker that is out of work, and now and then one that is not, for a look at what is ready;
//! - a worker that falls asleep: it waits in the epoll instance, and runs by itself what it is woken
//!   for. Of several that sleep one has the seat;
//! - the poller thread, for as long as no worker looks after events.
//!
//! # Why no event waits while all workers sleep
//!
//! Somebody is always *in charge* of events: whoever waits for them in the seat, or else each worker
//! that is awake. A worker that falls asleep takes the seat, or finds that it is taken: by one who
//! waits, or by one who only looks, and who is thus a worker that is awake. The one who leaves the
//! seat is awake then, and passes here before it sleeps again. Two may leave the seat empty, and both
//! rely on a worker that is awake:
//!
//! ```text
//!   poller thread                       worker X                     worker Y, which passes the seat by
//!   -------------                       --------                     ----------------------------------
//!   leave the seat                      be counted as a sleeper      be counted as a sleeper
//!   fence(SeqCst)                       fence(SeqCst)                fence(SeqCst)
//!   nobody awake ? take it again        take the seat if it is free  nobody awake ? take the seat
//! ```
//!
//! Of those that fall asleep, the one whose fence is the last sees all others asleep, so that it tries
//! to take the seat. If the poller thread's fence comes before that one, then it finds the seat free,
//! or in the hands of a third one; if it comes after, then the poller thread sees nobody awake.
//!
//! A worker that is awake may be held by a green thread for long. The monitor then calls the poller
//! thread; and so do a runtime that stops, whose workers are watched no more, a worker that ends, and one
//! that opens a lane. The
//! poller thread relies on what it sees then only if somebody waits in the seat: one who only looks may
//! be held next.
#![cfg_attr(
    not(bine_loom),
    allow(unreachable_pub, reason = "public for the models in loom-tests only")
)]

use bine_runtime::primitive::atomic::{AtomicU8, Ordering, fence};

const FREE: u8 = 0;
/// Somebody looks at what is ready.
const LOOKED_AT: u8 = 1;
/// Somebody waits.
const WAITED_FOR: u8 = 2;

/// The seat; see the module's documentation.
#[derive(Debug, Default)]
pub struct Seat {
    state: AtomicU8,
}

impl Seat {
    /// A free one.
    pub fn new() -> Self {
        Self { state: AtomicU8::new(FREE) }
    }

    /// Whether somebody has it, as things look.
    pub fn is_taken(&self) -> bool {
        // Relaxed, here and below: a hint.
        self.state.load(Ordering::Relaxed) != FREE
    }

    /// Whether somebody waits in it, as things look.
    pub fn is_waited_in(&self) -> bool {
        self.state.load(Ordering::Relaxed) == WAITED_FOR
    }

    /// Takes the seat, if it is free, to wait in it or for a look.
    #[must_use = "only who has taken the seat may take events"]
    pub fn take(&self, waits: bool) -> bool {
        let why = if waits { WAITED_FOR } else { LOOKED_AT };
        // Acquire pairs with the Release in `leave`: what the last one did in it is over.
        let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
        !self.is_taken() && self.state.compare_exchange(FREE, why, success, failure).is_ok()
    }

    /// Leaves the seat: by whoever has it.
    pub fn leave(&self) {
        self.state.store(FREE, Ordering::Release);
    }

    /// The poller thread has left the seat. True if it may sleep, since somebody is awake who looks
    /// after events; else it is to take the seat again.
    #[must_use = "whether the poller thread may sleep"]
    pub fn is_handed_back(&self, is_any_awake: impl FnOnce() -> bool) -> bool {
        // Pairs with the one of a worker that has been counted as a sleeper.
        fence(Ordering::SeqCst);
        is_any_awake()
    }
}
