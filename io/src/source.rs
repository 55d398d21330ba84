//! A descriptor that green threads wait for: what every socket type is made of.
//!
//! # Life
//!
//! A source owns its descriptor, which is always non-blocking. It starts unregistered and stays
//! so while no operation has to wait; the first one that must registers it, and then it stays
//! registered until the source goes away. Dropping a source first ends the registration and then
//! closes the descriptor (the order of its fields). A clone is a duplicate of the descriptor with a
//! source of its own, so it has its own registration and slot, and each of the two hears of every
//! event: what one of them consumes, the other finds gone, by EAGAIN.
//!
//! # What clones share
//!
//! std keeps timeouts and the non-blocking mode in the kernel's socket, so clones share them. Here
//! they are [`Settings`], shared by the clones in the same way. Timeouts are set in the kernel as
//! well, which is where they are read from, and so they survive conversions.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::panic::RefUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bine_runtime::primitive::Mutex;
use bine_runtime::wait::{self, Unparker};
use socket2::SockRef;

use crate::readiness::{Attempt, Direction, Failure, Parking};
use crate::slot::{Slot, Token};
use crate::{fork, poller, sys};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Source<T> {
    /// # Invariant
    ///
    /// Before `inner`, so that it is dropped while the descriptor is open.
    registration: Registration,
    /// Absent while all are at their defaults and there is no clone.
    settings: OnceLock<Arc<Settings>>,
    inner: T,
}

/// What std keeps in the kernel's socket.
#[derive(Debug, Default)]
struct Settings {
    /// The mode that the user has asked for; the descriptor itself is always non-blocking.
    nonblocking: AtomicBool,
    /// In nanoseconds; 0 is none. For [`Direction::Read`] and [`Direction::Write`].
    timeouts: [AtomicU64; 2],
}

// All of `Settings` is Relaxed: independent values, which order nothing, as the kernel's.
impl Settings {
    fn timeout(&self, direction: Direction) -> Option<Duration> {
        match self.timeouts[direction as usize].load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    fn set_timeout(&self, direction: Direction, timeout: Option<Duration>) {
        let nanos = timeout.map_or(0, |timeout| {
            // A timeout of 584 years or more is one of 584 years.
            u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)
        });
        self.timeouts[direction as usize].store(nanos, Ordering::Relaxed);
    }
}

/// How long an operation may wait, and what it then fails with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) timeout: Option<Duration>,
    pub(crate) error: fn() -> io::Error,
}

/// What std returns where an operation would block, and where its timeout has passed.
pub(crate) fn would_block() -> io::Error {
    io::Error::from_raw_os_error(libc::EAGAIN)
}

impl<T: AsFd> Source<T> {
    /// A source of a descriptor that has std's defaults, but is non-blocking already.
    pub(crate) fn new(inner: T) -> Self {
        Self { registration: Registration::default(), settings: OnceLock::new(), inner }
    }

    /// A source of a descriptor of unknown settings, which it keeps to. Makes it non-blocking.
    pub(crate) fn adopt(inner: T) -> Self {
        let source = Self::new(inner);
        let (nonblocking, timeouts) = sys::out_of_line(|| {
            let socket = SockRef::from(&source.inner);
            let nonblocking = socket.nonblocking().unwrap_or(false);
            // Cannot fail for a descriptor that is open. Where it does there is nobody to tell:
            // conversions are infallible, and the first operation fails as well.
            let _ = socket.set_nonblocking(true);
            // Descriptors that are not sockets have no timeouts.
            let timeouts = [socket.read_timeout(), socket.write_timeout()];
            (nonblocking, timeouts.map(|timeout| timeout.unwrap_or(None)))
        });
        if nonblocking {
            source.set_nonblocking(true);
        }
        for (direction, timeout) in [Direction::Read, Direction::Write].into_iter().zip(timeouts) {
            if timeout.is_some() {
                source.note_timeout(direction, timeout);
            }
        }
        source
    }

    /// A source of a non-blocking connection that was accepted from `self`. Linux lets it inherit
    /// the listener's timeouts.
    pub(crate) fn accepted<S: AsFd>(&self, inner: S) -> Source<S> {
        let source = Source::new(inner);
        for direction in [Direction::Read, Direction::Write] {
            if let Some(timeout) = self.timeout(direction) {
                source.note_timeout(direction, Some(timeout));
            }
        }
        source
    }

    /// A source of `inner`, a duplicate of this source's descriptor.
    pub(crate) fn clone_with(&self, inner: T) -> Self {
        let source = Self::new(inner);
        // The new cell is empty, so this cannot fail.
        let _ = source.settings.set(Arc::clone(self.settings()));
        source
    }

    /// Registers the descriptor now and not when it first has to wait, to find out whether it can
    /// be waited for. It need not be exhausted: what it is ready for, registering tells.
    pub(crate) fn register(&self) -> io::Result<()> {
        self.registration.register(self.raw_fd(), Direction::Read, true).map(drop)
    }

    /// Ends the registration, and gives the descriptor back as it is: non-blocking.
    pub(crate) fn into_nonblocking(self) -> T {
        drop(self.registration);
        self.inner
    }

    /// Ends the registration, restores the mode that the user has asked for, and gives the
    /// descriptor back.
    pub(crate) fn into_inner(self) -> T {
        let nonblocking = self.is_nonblocking();
        drop(self.registration);
        if !nonblocking {
            // As in `adopt`: cannot fail.
            let _ = sys::out_of_line(|| SockRef::from(&self.inner).set_nonblocking(false));
        }
        self.inner
    }

    /// Calls `f` with what this is a source of, in a way that is safe for errno.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        sys::out_of_line(|| f(&self.inner))
    }

    pub(crate) fn get_ref(&self) -> &T {
        &self.inner
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.inner.as_fd().as_raw_fd()
    }

    fn settings(&self) -> &Arc<Settings> {
        self.settings.get_or_init(Arc::default)
    }

    /// Whether the user has asked for operations not to wait.
    pub(crate) fn is_nonblocking(&self) -> bool {
        self.settings.get().is_some_and(|settings| settings.nonblocking.load(Ordering::Relaxed))
    }

    /// Sets whether operations fail with `WouldBlock` where they would wait.
    pub(crate) fn set_nonblocking(&self, nonblocking: bool) {
        self.settings().nonblocking.store(nonblocking, Ordering::Relaxed);
    }

    /// For how long an operation may wait.
    pub(crate) fn timeout(&self, direction: Direction) -> Option<Duration> {
        self.settings.get()?.timeout(direction)
    }

    /// Notes a timeout that the kernel has accepted.
    pub(crate) fn note_timeout(&self, direction: Direction, timeout: Option<Duration>) {
        self.settings().set_timeout(direction, timeout);
    }

    /// Repeats `operation`, which must not block, until it ends; waits for `direction` meanwhile,
    /// as long as the timeout set for that direction allows.
    ///
    /// `operation` returns a result as those of [`sys`].
    #[inline]
    pub(crate) fn operate(
        &self,
        direction: Direction,
        operation: impl FnMut() -> Attempt<isize>,
    ) -> io::Result<usize> {
        let limit = Limit { timeout: self.timeout(direction), error: would_block };
        self.operate_within(direction, limit, operation)
    }

    /// As [`operate`](Self::operate), but within `limit`.
    pub(crate) fn operate_within(
        &self,
        direction: Direction,
        limit: Limit,
        mut operation: impl FnMut() -> Attempt<isize>,
    ) -> io::Result<usize> {
        wait::checkpoint();
        let nonblocking = self.is_nonblocking();
        let entry = match self.registration.entry.get() {
            // A forked child has the parent's word, which no event changes any more.
            Some(entry) if !nonblocking && !fork::in_child() => entry,
            _ => match operation() {
                Attempt::Done(result) | Attempt::Short(result) => return sys::to_result(result),
                Attempt::WouldBlock if nonblocking => return Err(would_block()),
                Attempt::WouldBlock => {
                    self.registration.register(self.raw_fd(), direction, false)?
                }
            },
        };
        let mut thread = CallingThread { timeout: limit.timeout, deadline: None };
        let generation = entry.token.generation;
        match entry.slot.readiness.block_on(generation, direction, &mut thread, operation) {
            Ok(result) => sys::to_result(result),
            Err(Failure::TimedOut) => Err((limit.error)()),
            Err(Failure::Closed) => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the descriptor was closed while it was waited for",
            )),
        }
    }
}

/// How the calling thread, green or OS, waits.
struct CallingThread {
    timeout: Option<Duration>,
    /// Set when the wait begins: an operation that need not wait does not look at the clock.
    deadline: Option<Instant>,
}

impl Parking for CallingThread {
    type Waker = Unparker;

    fn waker(&self) -> Unparker {
        Unparker::current()
    }

    fn park(&mut self) -> bool {
        if let Some(timeout) = self.timeout.take() {
            // A deadline beyond the clock's range is none.
            self.deadline = Instant::now().checked_add(timeout);
        }
        match self.deadline {
            None => {
                wait::park();
                false
            }
            Some(deadline) => {
                wait::park_until(deadline);
                Instant::now() >= deadline
            }
        }
    }
}

/// A descriptor's registration with the poller, made when it is first needed and ended when
/// dropped.
#[derive(Debug, Default)]
struct Registration {
    entry: OnceLock<Entry>,
    /// Held while the entry is made, so that it is made once: epoll takes a descriptor only once.
    /// Nothing parks meanwhile.
    adding: Mutex<()>,
}

#[derive(Debug)]
struct Entry {
    slot: &'static Slot,
    token: Token,
    fd: RawFd,
    /// The epoll instance that it is in, which is never closed.
    instance: RawFd,
    by_number: bool,
}

// The lock guards nothing but the making of the entry.
impl RefUnwindSafe for Registration {}

impl Registration {
    /// The entry, made if need be, for `fd`, in which `exhausted` has just said EAGAIN, or which is registered
    /// by its number: as [`Poller::register_number`](poller::Poller::register_number).
    #[cold]
    fn register(&self, fd: RawFd, exhausted: Direction, by_number: bool) -> io::Result<&Entry> {
        // Also fails in a forked child, where the lock might be held for ever.
        let poller = poller::get()?;
        let _adding = self.adding.lock();
        if let Some(entry) = self.entry.get() {
            return Ok(entry);
        }
        let (slot, token, instance) = match by_number {
            true => poller.register_number(fd, exhausted)?,
            false => poller.register(fd, exhausted)?,
        };
        Ok(self.entry.get_or_init(|| Entry { slot, token, fd, instance, by_number }))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Some(entry) = self.entry.take() else { return };
        // In a forked child the registration is the parent's, and is left alone.
        if let Ok(poller) = poller::get() {
            match entry.by_number {
                true => poller.deregister_number(entry.instance, entry.fd, entry.token),
                false => poller.deregister(entry.instance, entry.fd, entry.token),
            }
        }
    }
}

/// An attempt at what either happens or not, such as accepting a connection.
pub(crate) fn whole(result: isize) -> Attempt<isize> {
    if result == -(libc::EAGAIN as isize) { Attempt::WouldBlock } else { Attempt::Done(result) }
}

/// An attempt to move `requested` bytes through a TCP stream, for which moving fewer means that
/// the stream is exhausted. Zero bytes are the end of file, which is no exhaustion.
///
/// Not for Unix sockets, where a read also stops short at ancillary data.
pub(crate) fn stream(result: isize, requested: usize) -> Attempt<isize> {
    match usize::try_from(result) {
        Ok(moved) if moved > 0 && moved < requested => Attempt::Short(result),
        _ => whole(result),
    }
}
