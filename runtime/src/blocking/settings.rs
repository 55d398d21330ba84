//! How many OS threads blocking calls may have, and how long those stay that have nothing to do.

use std::time::Duration;
use std::{env, io};

use super::pool::Pool;

/// How many threads there are at most, unless it is set.
const THREADS: usize = 512;
/// More than this is taken for a mistake.
const MOST_THREADS: usize = 16_384;
/// A thread that has had nothing to do for so long leaves, unless it is set.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

const VARIABLE: &str = "BINE_BLOCKING_THREADS";

/// The settings of the OS threads that [`blocking`](crate::blocking) uses. They are the process's, and
/// all runtimes share them.
///
/// ```
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// bine_runtime::BlockingPool::new()
///     .max_threads(16)
///     .keep_alive(Duration::from_secs(1))
///     .install()?;
/// let sum = bine_runtime::run(|| bine_runtime::blocking(|| 1 + 1));
/// assert_eq!(sum, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "the settings do nothing until `install` is called"]
pub struct BlockingPool {
    max_threads: Option<usize>,
    keep_alive: Option<Duration>,
}

impl BlockingPool {
    /// The defaults: up to `BINE_BLOCKING_THREADS` threads or 512, which stay for 10 seconds.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many OS threads there are at most, 1 to 16,384. Whatever `BINE_BLOCKING_THREADS` says.
    ///
    /// Calls beyond that wait for their turn. So calls that wait for each other need as many threads
    /// as there are of them.
    pub fn max_threads(mut self, threads: usize) -> Self {
        self.max_threads = Some(threads);
        self
    }

    /// How long a thread stays that has nothing to do. With [`Duration::MAX`] it stays for ever.
    pub fn keep_alive(mut self, time: Duration) -> Self {
        self.keep_alive = Some(time);
        self
    }

    /// Makes these the settings of the process. To be called before anything is
    /// [`blocking`](crate::blocking): at the start of `main`, say. No OS thread is started yet.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the number of threads is out of bounds, or what `BINE_BLOCKING_THREADS` says
    /// where it counts; `AlreadyExists` if there are settings, for this was called before, or
    /// `blocking` on a green thread.
    pub fn install(self) -> io::Result<()> {
        if Pool::install(self.pool()?) {
            return Ok(());
        }
        let text = "the settings of blocking calls cannot be changed any more";
        Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
    }

    pub(super) fn pool(&self) -> io::Result<Pool> {
        let keep_alive = self.keep_alive.unwrap_or(KEEP_ALIVE);
        Ok(Pool::new(self.thread_count()?, keep_alive))
    }

    fn thread_count(&self) -> io::Result<usize> {
        let (count, source) = match (self.max_threads, env::var_os(VARIABLE)) {
            (Some(count), _) => (Some(count), count.to_string()),
            (None, Some(text)) => {
                let count = text.to_str().and_then(|text| text.trim().parse().ok());
                (count, format!("{VARIABLE}={text:?}"))
            }
            (None, None) => (Some(THREADS), String::new()),
        };
        match count {
            Some(count @ 1..=MOST_THREADS) => Ok(count),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "the number of threads for blocking calls must be from 1 to {MOST_THREADS}, \
                     not {source}"
                ),
            )),
        }
    }
}

/// Whether `blocking` will find settings that it can use, before it needs them.
pub(crate) fn check() -> io::Result<()> {
    if Pool::exists() { Ok(()) } else { BlockingPool::new().thread_count().map(drop) }
}
