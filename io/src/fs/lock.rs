//! Waiting for the lock of a file.
//!
//! flock(2) tells nobody when a lock gets free, but those whom it blocks. Had it blocked threads of
//! the blocking pool, then as many waiters as the pool has threads would keep out what the owner
//! has to do before it unlocks, for ever. So a green thread tries, sleeps, and tries again.

use std::fs::TryLockError;
use std::io;
use std::time::Duration;

use bine_runtime::{thread, wait};

use crate::offload::offload;

const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// Waits for a lock: by `block` on an OS thread, else by `attempt` again and again.
pub(super) fn wait_for_lock(
    block: impl FnOnce() -> io::Result<()>,
    attempt: impl Fn() -> Result<(), TryLockError> + Sync,
) -> io::Result<()> {
    if !wait::is_green() {
        return block();
    }
    let mut pause = FIRST_PAUSE;
    loop {
        match offload(&attempt) {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => thread::sleep(pause),
        }
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}
