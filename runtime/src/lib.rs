//! Scheduler, green threads, parking and timers of the [bine](https://docs.rs/bine) runtime.

pub mod driver;
mod os_parker;
pub mod primitive;
pub mod wait;
