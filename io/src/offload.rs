//! Calls that may block an OS thread, and for whose end nothing can be polled.

use bine_runtime::{blocking, wait};

use crate::sys;

/// Runs `call`, which blocks, on an OS thread of the blocking pool while the calling green thread
/// waits; in place, if the caller is an OS thread.
///
/// A cancelled thread is interrupted before the call and not in it, since the call may borrow.
pub(crate) fn offload<R: Send>(call: impl FnOnce() -> R + Send) -> R {
    wait::interrupt();
    // Out of line, for it runs in place where there is no pool, and reads errno.
    blocking(|| sys::out_of_line(call))
}
