//! The one place that selects how threads of this crate wait: as `bine_runtime::wait` says, or as
//! loom's threads do.

#[cfg(bine_loom)]
pub(crate) use self::on_loom::{
    Unparker, WakeBatch, checkpoint, has_passed, is_green, park, park_until,
};
#[cfg(not(bine_loom))]
pub(crate) use bine_runtime::wait::{Unparker, WakeBatch, checkpoint, is_green, park, park_until};

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
    use std::time::Instant;

    use loom::sync::Notify;

    loom::thread_local! {
        /// The token of the calling thread.
        ///
        /// Not loom's own park: its `unpark` also ends a wait for a mutex, and here it may come so
        /// late that the thread has left its `park` and waits for the next lock. A `Notify` ends
        /// the waits for itself alone. It also returns for no reason once, as a park may.
        static TOKEN: Arc<Notify> = Arc::new(Notify::new());
    }

    /// Wakes one thread from [`park`].
    pub(crate) struct Unparker(Arc<Notify>);

    impl Unparker {
        pub(crate) fn current() -> Self {
            Self(TOKEN.with(Arc::clone))
        }

        pub(crate) fn unpark(self) {
            self.0.notify();
        }
    }

    pub(crate) fn park() {
        TOKEN.with(Arc::clone).wait();
    }

    /// Time does not pass in a model. A deadline has passed as soon as somebody would wait for it,
    /// which is the case that is worth exploring: a waiter that leaves against one that wakes it.
    pub(crate) fn has_passed(_: Instant) -> bool {
        true
    }

    pub(crate) fn park_until(_: Instant) {
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
