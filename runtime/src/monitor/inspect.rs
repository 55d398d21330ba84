//! Which green thread holds a worker: a look at a control block that its worker may free at any
//! time.
//!
//! The monitor says in an [`Inspection`](super::Inspection) which thread it is about to look at, and
//! a thread that has ended is freed by its worker only after a look at that. It is M. Michael's hazard
//! pointer (*Hazard Pointers: Safe Memory Reclamation for Lock-Free Objects*, 2004), with the costly
//! half of its fence moved to the side that hardly ever runs:
//!
//! ```text
//!   monitor                                the worker at a thread's end
//!   -------                                ----------------------------
//!   p = current                            current = null
//!   inspected = p                          (compiler fence)
//!   membarrier                             inspected == p ? wait
//!   current still p ? look                 free p
//!   inspected = null
//! ```
//!
//! `membarrier(2)` makes every running thread of the process pass a full barrier at some moment
//! between its call and its return. If that moment comes after `current = null` on the worker, the
//! monitor sees that and does not look; if it comes before, the worker's load after it sees
//! `inspected`. If the thread moves on and ends on another worker, that worker acquired it from this
//! one after the barrier, and sees `inspected` too.

use std::panic::Location;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::shared::Shared;
use crate::worker::Visible;

/// What is known of a green thread, wherever it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: u64,
    pub(super) name: Option<Box<str>>,
    pub(super) spawned_at: &'static Location<'static>,
}

/// The green thread that runs on the worker which shows `visible`. None if it runs none, and where
/// the system has no `membarrier`. To be called by one thread at a time.
pub(super) fn inspect(shared: &Shared, visible: &Visible) -> Option<Identity> {
    if !has_membarrier() {
        return None;
    }
    let barrier = || membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED);
    shared.inspection.inspect(
        || visible.current(),
        barrier,
        |task| {
            // SAFETY: see the module's documentation. What is read is never written after the thread
            // was made, which the Acquire in `Visible::current` makes visible.
            let task = unsafe { task.as_ref() };
            let name = task.name().map(Box::from);
            Identity { id: task.id, name, spawned_at: task.spawned_at }
        },
    )
}

/// Whether the system has the barrier for this process, which is asked once.
fn has_membarrier() -> bool {
    const UNKNOWN: u8 = 2;
    // No `OnceLock`: a fork while the monitor asks, which takes a while, would leave the child's own
    // monitor waiting for it.
    static REGISTERED: AtomicU8 = AtomicU8::new(UNKNOWN);
    // Relaxed: nothing but the answer.
    match REGISTERED.load(Ordering::Relaxed) {
        UNKNOWN => {
            let registered = membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
            REGISTERED.store(u8::from(registered), Ordering::Relaxed);
            registered
        }
        registered => registered == 1,
    }
}

fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: the system call takes no pointer.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}
