//! Handles to threads, green and OS, and their identity.

use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::task::TaskRef;
use crate::{wait, worker};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Takes `count` ids; the first one.
pub(crate) fn allocate_ids(count: u64) -> u64 {
    // Relaxed: only uniqueness matters. At a billion a second they last 584 years.
    NEXT_ID.fetch_add(count, Ordering::Relaxed)
}

/// A thread's identity, never used twice in a process. Green and OS threads share one space.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ThreadId(NonZeroU64);

impl ThreadId {
    fn new(id: u64) -> Self {
        Self(NonZeroU64::new(id).expect("ids start at 1"))
    }
}

/// A handle to a thread, green or OS; see [`std::thread::Thread`].
#[derive(Clone)]
pub struct Thread(pub(super) Inner);

#[derive(Clone)]
pub(super) enum Inner {
    Green(TaskRef),
    Os { id: u64, thread: std::thread::Thread },
}

impl Thread {
    /// Makes the token of this thread available, so that its current or next [`park`](super::park) returns.
    pub fn unpark(&self) {
        match &self.0 {
            Inner::Green(task) => {
                task.user_token.make_available();
                wait::unpark_green(task);
            }
            Inner::Os { thread, .. } => thread.unpark(),
        }
    }

    /// The thread's identity.
    #[must_use]
    pub fn id(&self) -> ThreadId {
        match &self.0 {
            Inner::Green(task) => ThreadId::new(task.id),
            Inner::Os { id, .. } => ThreadId::new(*id),
        }
    }

    /// The name it was given, if any.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            Inner::Green(task) => task.name(),
            Inner::Os { thread, .. } => thread.name(),
        }
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread")
            .field("id", &self.id())
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

/// The calling thread's handle.
#[must_use]
pub fn current() -> Thread {
    if let Some((_, task)) = worker::green() {
        // SAFETY: the thread that runs is alive.
        return Thread(Inner::Green(unsafe { TaskRef::from_borrowed(task) }));
    }
    thread_local! {
        static ID: Cell<u64> = const { Cell::new(0) };
    }
    if ID.get() == 0 {
        ID.set(allocate_ids(1));
    }
    Thread(Inner::Os { id: ID.get(), thread: std::thread::current() })
}
