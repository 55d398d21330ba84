//! What a model has in name only.

use std::fmt;
use std::io;
use std::time::Duration;

/// The payload of a join from outside whose runtime has ended. No join in a model gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abandoned;

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the green thread's runtime was shut down before the thread ended")
    }
}

impl std::error::Error for Abandoned {}

/// Settings of the pool that blocking calls run on. A model has none: they run in place.
#[derive(Clone, Debug, Default)]
pub struct BlockingPool(());

impl BlockingPool {
    /// No settings.
    #[must_use]
    pub fn new() -> Self {
        Self(())
    }

    /// Ignored.
    #[must_use]
    pub fn max_threads(self, _: usize) -> Self {
        self
    }

    /// Ignored.
    #[must_use]
    pub fn keep_alive(self, _: Duration) -> Self {
        self
    }

    /// Does nothing.
    ///
    /// # Errors
    ///
    /// None.
    pub fn install(self) -> io::Result<()> {
        Ok(())
    }
}

/// Says that a model has no timeouts but the operations' own. Implemented by nothing.
#[diagnostic::on_unimplemented(
    message = "there is neither `timeout` nor `interval` under `--cfg bine_loom`",
    label = "not in a build that is for model checking",
    note = "in a model, use the timeouts of the operations themselves, `recv_timeout` for one, which \
            are explored both ways"
)]
pub trait PassesInModels<'a> {}

/// Time, as far as a model has it.
pub mod time {
    use super::PassesInModels;
    pub use crate::thread::sleep;
    pub use std::time::{Duration, Instant, SystemTime, SystemTimeError, UNIX_EPOCH};

    /// The error of what took too long.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Elapsed;

    /// Does not compile.
    ///
    /// # Errors
    ///
    /// None.
    pub fn timeout<F: FnOnce() -> T, T>(_: Duration, _: F) -> Result<T, Elapsed>
    where
        for<'a> (): PassesInModels<'a>,
    {
        unreachable!("the bound above holds for nothing")
    }

    /// Does not compile.
    pub fn interval(_: Duration) -> std::convert::Infallible
    where
        for<'a> (): PassesInModels<'a>,
    {
        unreachable!("the bound above holds for nothing")
    }
}
