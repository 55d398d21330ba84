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
