//! Time: limits for what waits, and steady beats. (Waiting for a while is
//! [`thread::sleep`](crate::thread::sleep).)

mod interval;
mod timeout;

pub use std::time::{Duration, Instant, SystemTime, SystemTimeError, UNIX_EPOCH};

pub use self::{
    interval::{Interval, MissedTicks, interval, interval_at},
    timeout::{Elapsed, timeout, timeout_at},
};
pub use crate::thread::{sleep, sleep_until};
