//! What is told about a worker that a green thread holds.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fmt, io};

use super::inspect::Identity;
use crate::contained;

/// A worker that one green thread holds while other work waits: it computes or blocks, and calls
/// nothing of bine's. See [`Builder::on_hold`](crate::Builder::on_hold).
///
/// Its `Display` says it all in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    pub(super) worker: usize,
    pub(super) thread: Option<Identity>,
    pub(super) duration: Duration,
    pub(super) over: bool,
}

impl Hold {
    /// Which worker is held. Those beyond the number that was asked for are spares.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// The name of the green thread, if it has one and is known.
    pub fn thread_name(&self) -> Option<&str> {
        self.thread.as_ref()?.name.as_deref()
    }

    /// Where the green thread was spawned. None if it is not known which one it is: the system must
    /// have `membarrier(2)`, Linux 4.14 or later.
    pub fn spawned_at(&self) -> Option<&'static Location<'static>> {
        Some(self.thread.as_ref()?.spawned_at)
    }

    /// How long the worker has been held so far, to about a millisecond.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// The green thread has come back to the scheduler.
    pub fn is_over(&self) -> bool {
        self.over
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.thread {
            None => f.write_str("a green thread")?,
            Some(Identity { id, name, spawned_at }) => {
                match name {
                    Some(name) => write!(f, "green thread '{name}'")?,
                    None => write!(f, "green thread '<unnamed>' (id {id})")?,
                }
                write!(f, ", spawned at {spawned_at},")?;
            }
        }
        let has = if self.over { "held" } else { "has held" };
        write!(f, " {has} worker {} for {:.1?} while others waited", self.worker, self.duration)
    }
}

/// What is called for each hold.
pub(crate) type OnHold = Arc<dyn Fn(&Hold) + Send + Sync>;

/// One hold to be told of, once the monitor's lock is free.
pub(super) struct Told {
    pub(super) hold: Hold,
    pub(super) to: OnHold,
}

impl Told {
    /// A panic is the hook's to report, and not the end of the monitor.
    pub(super) fn tell(self) {
        let Self { hold, to } = self;
        // The callback goes in there, too: its runtime may be gone by now, and this be the last one.
        contained::call(move || to(&hold));
    }
}

/// What is called where the program says nothing: with `BINE_LOG_HOLDS=1`, a line on standard error.
///
/// # Errors
///
/// If the variable has another value than 0 and 1.
pub(crate) fn log_by_default() -> io::Result<Option<OnHold>> {
    match env::var_os("BINE_LOG_HOLDS") {
        None => Ok(None),
        Some(value) if value == "0" => Ok(None),
        Some(value) if value == "1" => Ok(Some(Arc::new(|hold| eprintln!("bine: {hold}")))),
        Some(value) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("BINE_LOG_HOLDS must be 0 or 1, not {value:?}"),
        )),
    }
}
