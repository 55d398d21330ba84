//! Sets of signals that are waited for.
#![allow(unsafe_code)]

use std::io;
use std::iter::FusedIterator;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libc::c_int;
use signal_hook_registry::{FORBIDDEN, SigId};

use crate::poller::tried;
use crate::readiness::{Attempt, Direction};
use crate::source::{Limit, Source};
use crate::{fork, sys};

/// Signals that are waited for in place of what they do otherwise.
///
/// While this exists, the signals are recorded and end no process. One that arrives while nobody
/// waits is remembered; if it arrives again before somebody has asked, that counts as once, as is
/// the way of signals. Several that wait share the signals, each of which ends one wait; and each
/// `Signals` has its own record. [`ctrl_c`](super::ctrl_c) and handlers that were installed before
/// hear of the signals as well.
///
/// After it was dropped its signals do *not* do again what they did before: a handler stays, which
/// does nothing if no other `Signals` has them.
///
/// # Examples
///
/// ```
/// use bine_io::signal::{SIGHUP, SIGTERM, Signals};
///
/// bine_runtime::run(|| {
///     let signals = Signals::new([SIGTERM, SIGHUP])?;
///     std::process::Command::new("kill")
///         .args(["-HUP", &std::process::id().to_string()])
///         .status()?;
///     assert_eq!(signals.wait()?, SIGHUP);
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// To wait for signals or something else, have a thread send them into a channel:
///
/// ```no_run
/// use bine_io::signal::{SIGTERM, Signals};
/// let (sender, receiver) = std::sync::mpsc::channel(); // or one of bine's
/// let signals = Signals::new([SIGTERM])?;
/// bine_runtime::spawn(move || {
///     signals.iter().map_while(Result::ok).all(|signal| sender.send(signal).is_ok())
/// });
/// # drop(receiver);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Signals {
    record: Arc<Record>,
    /// What the handlers were registered as.
    registered: Vec<SigId>,
}

/// What the handlers and those who wait share.
#[derive(Debug)]
struct Record {
    /// A bit for each signal that has arrived: that of signal 1 is the lowest.
    arrived: AtomicU64,
    /// An eventfd that the handlers write to. It is never read: each write is an edge of its own.
    changed: Source<OwnedFd>,
}

impl Signals {
    /// Starts to record `signals`, given by number.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what is no signal or cannot be handled: SIGKILL, SIGSTOP, and those of a
    /// thread's own faults, SIGSEGV, SIGILL and SIGFPE. If no eventfd can be had. In a child that was
    /// forked after the poller was started.
    pub fn new<I: IntoIterator<Item = c_int>>(signals: I) -> io::Result<Self> {
        // The registry's lock might be held for ever in a forked child.
        fork::check()?;
        let eventfd = sys::eventfd().map_err(tried("creating an eventfd for signals"))?;
        let record = Record { arrived: AtomicU64::new(0), changed: Source::new(eventfd) };
        let mut new = Self { record: Arc::new(record), registered: Vec::new() };
        for signal in signals {
            // What was registered is taken back if a later one is refused.
            new.register(signal)?;
        }
        Ok(new)
    }

    fn register(&mut self, signal: c_int) -> io::Result<()> {
        if !(1..=64).contains(&signal) || FORBIDDEN.contains(&signal) {
            let text = format!("signal {signal} does not exist or cannot be handled");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let record = Arc::clone(&self.record);
        let handler = move || record.on_signal(signal);
        // SAFETY: the handler only touches atomics and calls write(2), both async-signal-safe; errno
        // is saved by the registry. It keeps the record, and with it the eventfd, and is dropped by
        // `unregister` only, which is not called by a handler.
        let registered =
            sys::out_of_line(|| unsafe { signal_hook_registry::register(signal, handler) });
        self.registered.push(registered.map_err(tried("installing a handler for a signal"))?);
        Ok(())
    }

    /// Waits for a signal; the lowest one, if several have arrived.
    ///
    /// # Errors
    ///
    /// If the poller cannot be had, in a forked child say.
    pub fn wait(&self) -> io::Result<c_int> {
        self.wait_within(None)
    }

    /// As [`wait`](Self::wait), for `timeout` at most. None if no signal arrives.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<Option<c_int>> {
        match self.wait_within(Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(None),
            result => result.map(Some),
        }
    }

    fn wait_within(&self, timeout: Option<Duration>) -> io::Result<c_int> {
        let limit = Limit { timeout, error: || io::ErrorKind::TimedOut.into() };
        let signal = self.record.changed.operate_within(Direction::Read, limit, || {
            match self.record.take() {
                Some(signal) => Attempt::Done(signal as isize),
                None => Attempt::WouldBlock,
            }
        })?;
        Ok(signal as c_int)
    }

    /// A signal that has arrived, if there is one. Does not wait.
    pub fn try_wait(&self) -> Option<c_int> {
        self.record.take()
    }

    /// The signals, as they arrive, without an end.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter(self)
    }
}

impl Record {
    /// Runs in the signal handler.
    fn on_signal(&self, signal: c_int) {
        // Before the write: whoever is woken by the event finds the bit. Release pairs with the
        // Acquire in `take`.
        self.arrived.fetch_or(1 << (signal - 1), Ordering::Release);
        if !fork::in_child() {
            sys::eventfd_add(self.changed.raw_fd());
        }
    }

    fn take(&self) -> Option<c_int> {
        // Relaxed: what is found is looked at anew below.
        let mut arrived = self.arrived.load(Ordering::Relaxed);
        while arrived != 0 {
            let bit = arrived & arrived.wrapping_neg();
            // Acquire pairs with the Release in `on_signal`: what the sender of the signal saw done
            // before it, the caller sees too.
            let before = self.arrived.fetch_and(!bit, Ordering::Acquire);
            if before & bit != 0 {
                return Some(bit.trailing_zeros() as c_int + 1);
            }
            // Somebody else has taken it.
            arrived = before;
        }
        None
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        if fork::in_child() {
            return;
        }
        for id in self.registered.drain(..) {
            signal_hook_registry::unregister(id);
        }
    }
}

/// The signals as they arrive; see [`Signals::iter`].
#[derive(Debug)]
pub struct Iter<'a>(&'a Signals);

impl Iterator for Iter<'_> {
    type Item = io::Result<c_int>;

    fn next(&mut self) -> Option<io::Result<c_int>> {
        Some(self.0.wait())
    }
}

impl FusedIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a Signals {
    type Item = io::Result<c_int>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}
