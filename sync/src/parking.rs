//! The one place that selects how threads of this crate wait: as `bine_runtime::wait` says, or as
//! loom's threads do.

#[cfg(bine_loom)]
pub(crate) use self::on_loom::{
    Roused, Sleeper, WakeBatch, checkpoint, has_passed, interrupt, is_green, is_interrupted, park,
    park_until, rest, rest_until,
};
#[cfg(bine_loom)]
pub use self::on_loom::{Unparker, cancel, shielded};
#[cfg(not(bine_loom))]
pub(crate) use bine_runtime::wait::{
    Roused, Sleeper, Unparker, WakeBatch, checkpoint, interrupt, is_green, is_interrupted, park,
    park_until, rest, rest_until, shielded,
};

#[cfg(not(bine_loom))]
use std::time::Instant;

/// Whether `deadline` has passed.
#[cfg(not(bine_loom))]
pub(crate) fn has_passed(deadline: Instant) -> bool {
    Instant::now() >= deadline
}

/// The same calls for models.
#[cfg(bine_loom)]
mod on_loom {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    use bine_runtime::protocol::Requests;
    use loom::sync::Notify;

    loom::thread_local! {
        /// The token of the calling thread.
        ///
        /// Not loom's own park: its `unpark` also ends a wait for a mutex, and here it may come so
        /// late that the thread has left its `park` and waits for the next lock. A `Notify` ends
        /// the waits for itself alone. It also returns for no reason once, as a park may.
        static TOKEN: Arc<Token> = Arc::new(Token {
            notify: Notify::new(),
            requests: Requests::new(0),
            shields: AtomicU32::new(0),
        });
    }

    #[derive(Debug)]
    struct Token {
        notify: Notify,
        requests: Requests,
        /// Of the thread itself, and hidden from loom.
        shields: AtomicU32,
    }

    const CANCELLED: u8 = 1;

    /// Wakes one thread from [`park`].
    #[derive(Clone, Debug)]
    pub struct Unparker(Arc<Token>);

    impl Unparker {
        /// The calling thread's.
        pub fn current() -> Self {
            Self(TOKEN.with(Arc::clone))
        }

        pub(crate) fn unpark(self) {
            self.0.notify.notify();
        }
    }

    /// Stands for the runtime's: the models of `rouse` are about its own protocol.
    #[derive(Debug)]
    pub(crate) struct Sleeper(Unparker);

    #[must_use]
    pub(crate) struct Roused(Unparker);

    #[allow(unsafe_code, reason = "the runtime's are unsafe")]
    impl Sleeper {
        pub(crate) fn current() -> Self {
            Self(Unparker::current())
        }

        /// # Safety
        /// - None, here.
        pub(crate) unsafe fn rouse(&self) -> Roused {
            Roused(self.0.clone())
        }

        /// # Safety
        /// - None, here.
        pub(crate) unsafe fn is_abandoned(&self) -> bool {
            false
        }

        /// # Safety
        /// - None, here.
        pub(crate) unsafe fn unparker(&self) -> Unparker {
            self.0.clone()
        }
    }

    impl Roused {
        pub(crate) fn go(self) {
            self.0.unpark();
        }
    }

    /// Cancels a thread of a model, as `TaskRef::cancel` does.
    pub fn cancel(thread: Unparker) {
        thread.0.requests.ask(CANCELLED);
        thread.unpark();
    }

    pub(crate) fn is_interrupted() -> bool {
        let token = TOKEN.with(Arc::clone);
        token.requests.any()
            && token.requests.asks(CANCELLED)
            && token.shields.load(Ordering::Relaxed) == 0
    }

    /// Nothing unwinds in a model: loom's locks would be poisoned, since its threads share an OS
    /// thread. What waits asks [`is_interrupted`], and drops what an unwinding would.
    pub(crate) fn interrupt() {}

    /// Runs `f`, which a cancellation does not end.
    pub fn shielded<T>(f: impl FnOnce() -> T) -> T {
        let token = TOKEN.with(Arc::clone);
        token.shields.fetch_add(1, Ordering::Relaxed);
        let result = f();
        token.shields.fetch_sub(1, Ordering::Relaxed);
        result
    }

    pub(crate) fn park() {
        rest();
    }

    pub(crate) fn rest() {
        TOKEN.with(Arc::clone).notify.wait();
    }

    /// Time does not pass in a model. A deadline has passed as soon as somebody would wait for it,
    /// which is the case that is worth exploring: a waiter that leaves against one that wakes it.
    pub(crate) fn has_passed(_: Instant) -> bool {
        true
    }

    pub(crate) fn park_until(_: Instant) {
        unreachable!("every deadline has passed");
    }

    pub(crate) fn rest_until(_: Instant) {
        unreachable!("every deadline has passed");
    }

    pub(crate) fn is_green() -> bool {
        true
    }

    pub(crate) fn checkpoint() {}

    /// Wakes when flushed.
    #[derive(Default)]
    pub(crate) struct WakeBatch(Vec<Unparker>);

    impl WakeBatch {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn push(&mut self, unparker: Unparker) {
            self.0.push(unparker);
        }

        pub(crate) fn flush(&mut self) {
            self.0.drain(..).for_each(Unparker::unpark);
        }
    }
}
