//! The one place that selects how threads of this crate wait: as `bine_runtime::wait` says, in a
//! model too; and how they tell the time, which passes in a model only when they wait.

pub(crate) use bine_runtime::wait::{
    Roused, Sleeper, WakeBatch, checkpoint, interrupt, is_green, is_interrupted, park, park_until,
    rest, rest_until,
};
#[cfg(bine_loom)]
pub use bine_runtime::wait::{Unparker, cancel, shielded};
#[cfg(not(bine_loom))]
pub(crate) use bine_runtime::wait::{Unparker, shielded};

#[cfg(bine_loom)]
pub(crate) use bine_runtime::wait::{has_passed, now};
#[cfg(not(bine_loom))]
use std::time::Instant;

/// The time.
#[cfg(not(bine_loom))]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Whether `deadline` has passed.
#[cfg(not(bine_loom))]
pub(crate) fn has_passed(deadline: Instant) -> bool {
    Instant::now() >= deadline
}
