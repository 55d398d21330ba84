//! The runtime's time: nanoseconds since the first use in this process.

use std::sync::OnceLock;
use std::time::Instant;

static EPOCH: OnceLock<Instant> = OnceLock::new();

/// `instant` in nanoseconds; 0 for instants before the first use, saturating after 584 years.
pub(crate) fn nanos_of(instant: Instant) -> u64 {
    let epoch = *EPOCH.get_or_init(Instant::now);
    u64::try_from(instant.saturating_duration_since(epoch).as_nanos()).unwrap_or(u64::MAX)
}

/// Now.
pub(crate) fn now() -> u64 {
    nanos_of(Instant::now())
}
