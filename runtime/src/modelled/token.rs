//! Waiting: the token of a modelled thread.
//!
//! In a user's model it is an atomic, as the real one, and a thread that finds it unset parks as loom's
//! threads do. loom's `unpark` also ends a wait for a mutex or a join, so it is called only of a thread
//! that is parked here. A park returns for a token alone, as on green threads.
//!
//! In a model of bine's own protocols it is a `Notify` of loom's. That also returns for no reason once, as
//! a park may: each protocol has to bear it, and for a user's model it would be many executions that
//! cannot be.

use std::cell::{Cell, OnceCell};
use std::time::Instant;

use loom::sync::Notify;
use loom::sync::atomic::{AtomicBool, Ordering};

use super::explorer;
use super::thread::{self, ThreadRef};

/// A thread's request bit.
const CANCELLED: u8 = 1;

/// Which of a thread's waits are explored in both ways; see [`has_passed`].
const BOTH_WAYS: u32 = 2;

/// See the module's documentation.
pub(super) enum Token {
    Protocol(Notify),
    Users(Users),
}

pub(super) struct Users {
    is_set: AtomicBool,
    /// The thread is in loom's park. Hidden from loom, which switches threads at operations of its own
    /// alone: between the look at `is_set` and the park there is none.
    is_parked: Cell<bool>,
    /// Set by the thread itself, before it first waits.
    thread: OnceCell<loom::thread::Thread>,
}

impl Token {
    pub(super) fn new() -> Self {
        match explorer::is_users() {
            false => Self::Protocol(Notify::new()),
            true => Self::Users(Users {
                is_set: AtomicBool::new(false),
                is_parked: Cell::new(false),
                thread: OnceCell::new(),
            }),
        }
    }

    fn set(&self) {
        match self {
            Self::Protocol(notify) => notify.notify(),
            Self::Users(users) => {
                // Release pairs with the Acquire in `wait`. A swap: it continues the release sequence.
                users.is_set.swap(true, Ordering::Release);
                if users.is_parked.replace(false) {
                    users.thread.get().expect("set before the thread parks").unpark();
                }
            }
        }
    }

    /// By the thread to which it belongs.
    fn wait(&self) {
        let _ends = explorer::EndsHere;
        match self {
            Self::Protocol(notify) => notify.wait(),
            Self::Users(users) => {
                users.thread.get_or_init(loom::thread::current);
                // Acquire pairs with the Release in `set`.
                while !users.is_set.swap(false, Ordering::Acquire) {
                    users.is_parked.set(true);
                    loom::thread::park();
                    users.is_parked.set(false);
                }
            }
        }
    }
}

/// Wakes one thread from [`park`].
#[derive(Clone, Debug)]
pub struct Unparker(ThreadRef);

impl Unparker {
    /// The calling thread's.
    pub fn current() -> Self {
        Self(thread::this())
    }

    pub(super) fn of(thread: ThreadRef) -> Self {
        Self(thread)
    }

    /// Makes the thread's current or next [`park`] return.
    pub fn unpark(self) {
        self.0.token.set();
    }
}

/// Names a thread that waits. The models of `rouse` are about how the real one does without a count.
#[derive(Debug)]
pub struct Sleeper(Unparker);

/// A thread that [`Sleeper::rouse`] has woken.
#[must_use = "the thread that was roused may run nowhere before `go`"]
#[derive(Debug)]
pub struct Roused(Unparker);

impl Sleeper {
    /// The calling thread's.
    pub fn current() -> Self {
        Self(Unparker::current())
    }

    /// Begins to wake the thread.
    ///
    /// # Safety
    ///
    /// None, here.
    pub unsafe fn rouse(&self) -> Roused {
        Roused(self.0.clone())
    }

    /// Whether the thread will never run again: no model shuts a runtime down.
    ///
    /// # Safety
    ///
    /// None, here.
    pub unsafe fn is_abandoned(&self) -> bool {
        false
    }

    /// An unparker of the thread.
    ///
    /// # Safety
    ///
    /// None, here.
    pub unsafe fn unparker(&self) -> Unparker {
        self.0.clone()
    }
}

impl Roused {
    /// Lets the thread run.
    pub fn go(self) {
        self.0.unpark();
    }
}

/// Cancels a thread of a model of bine's own protocols.
pub fn cancel(thread: Unparker) {
    thread.0.requests.ask(CANCELLED);
    thread.unpark();
}

/// Whether [`park`] would unwind now.
pub fn is_interrupted() -> bool {
    let this = thread::this();
    this.requests.any()
        && this.requests.asks(CANCELLED)
        && this.shields.load(std::sync::atomic::Ordering::Relaxed) == 0
}

/// Nothing unwinds in a model. What waits asks [`is_interrupted`], and drops what an unwinding would.
pub fn interrupt() {}

/// Keeps cancellations off while it lives.
#[derive(Debug)]
pub(crate) struct Shield(ThreadRef);

impl Shield {
    pub(crate) fn raise() -> Self {
        let this = thread::this();
        this.shields.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self(this)
    }
}

impl Drop for Shield {
    fn drop(&mut self) {
        self.0.shields.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Runs `f`, which a cancellation does not end.
pub fn shielded<T>(f: impl FnOnce() -> T) -> T {
    let _shield = Shield::raise();
    f()
}

/// Waits until the calling thread is unparked. May return for no reason.
pub fn park() {
    rest();
}

/// As [`park`].
pub fn rest() {
    thread::this().token.wait();
}

/// Whether `deadline` has passed, asked by one that would wait for it.
///
/// Time does not pass in a model by itself: a deadline has passed as soon as somebody would wait for it,
/// which is the case that is worth exploring: a waiter that leaves against one that wakes it.
///
/// In a user's model there is a choice. The first times that a thread asks, the others may run before it
/// goes on, or not; both are explored. Later they always run first, so that a loop around a wait with a
/// timeout comes to an end.
pub fn has_passed(deadline: Instant) -> bool {
    if explorer::is_users() {
        let_time_pass();
    }
    explorer::advance(deadline);
    true
}

/// See [`has_passed`].
pub(super) fn let_time_pass() {
    let this = thread::this();
    let waits = this.timed_waits.get();
    this.timed_waits.set(waits.saturating_add(1));
    if waits < BOTH_WAYS {
        // Returns at once, or for no reason: then it yields.
        let choice = Notify::new();
        choice.notify();
        choice.wait();
    } else {
        loom::thread::yield_now();
    }
}

/// The model's time: as late as the latest deadline for which somebody has waited.
pub fn now() -> Instant {
    explorer::now()
}

/// As [`park`], until `deadline` at most.
pub fn park_until(deadline: Instant) {
    has_passed(deadline);
}

/// As [`park_until`].
pub fn rest_until(deadline: Instant) {
    has_passed(deadline);
}

/// Whether the caller runs on a green thread: every thread of a model does.
pub fn is_green() -> bool {
    true
}

/// Lets others run now and then: in a model they do so in any case.
pub fn checkpoint() {}

/// Whether the calling thread unwinds from a panic.
pub fn panicking() -> bool {
    // std counts for the OS thread, on which all threads of the model are. Nobody sets `panicking` of
    // one that unwinds anew with a panic that it has caught.
    std::thread::panicking() && {
        let this = thread::this();
        this.panicking.get() || !explorer::others_unwind(&this)
    }
}

/// Gathers wake-ups.
#[derive(Debug, Default)]
pub struct WakeBatch(Vec<Unparker>);

impl WakeBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a thread to wake.
    pub fn push(&mut self, unparker: Unparker) {
        self.0.push(unparker);
    }

    /// Wakes all that were added, and says how many.
    pub fn flush(&mut self) -> usize {
        self.0.drain(..).map(Unparker::unpark).count()
    }
}
