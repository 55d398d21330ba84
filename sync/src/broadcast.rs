//! Channels whose messages go to all receivers. The shape is that of tokio's.
//!
//! Messages stand in a ring behind a lock. Each receiver has a position in it; a sender that comes
//! round writes over what some have not received yet, who learn then how many they have missed. With a
//! message stands how many receivers it is still for: the last of them takes it out. Messages are
//! shared, so no code of a user's runs with the lock held, neither a `clone` nor a destructor.
//!
//! The *version* is the position of the next message to be sent, doubled, and a bit that says that all
//! senders are gone. It is changed with the lock held, and before the sender looks for receivers that
//! wait, under the bucket's lock; under that lock a receiver compares it with its own position before it
//! waits: see [`wait_queue`].
//!
//! # Fairness, poisoning, cancellation, cost
//!
//! Each message wakes all receivers that wait. Sending never waits for a receiver. Nothing is poisoned. A
//! green thread that is cancelled while it waits leaves, and has received all or nothing of a message.
//!
//! A message costs an allocation, a lock that is held for a few instructions, and the look at one bucket
//! of the wait queue, and time for each that waits; to receive it costs that lock and a clone, which the
//! last receiver is spared. Waiting allocates nothing. See [what things cost](crate#what-things-cost).
//!
//! # Where it comes from
//!
//! The interface, the ring that is written over, and the count of receivers beside each message are
//! tokio's. Its lock for each slot is one for the ring here.

use std::error::Error;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bine_runtime::primitive::Mutex;
use bine_runtime::primitive::atomic::{AtomicUsize, Ordering};

use crate::parking::{self, checkpoint};
use crate::wait_queue::{self, Entrance, Parked};

/// All senders are gone.
const CLOSED: usize = 1;
/// One message.
const MESSAGE: usize = 2;

/// A channel that keeps the last `capacity` messages.
///
/// # Panics
/// If `capacity` is 0, or does not fit the address space.
///
/// # Examples
/// ```
/// let (sender, mut receiver) = bine_sync::broadcast::channel(16);
/// let mut other = sender.subscribe();
/// assert_eq!(sender.send("hello"), Ok(2));
/// assert_eq!(receiver.recv(), Ok("hello"));
/// assert_eq!(other.recv(), Ok("hello"));
/// ```
#[must_use]
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(capacity);
    let receiver = sender.subscribe();
    (sender, receiver)
}

struct Shared<T> {
    /// Never held while its holder waits, or runs code of others.
    ring: Mutex<Ring<T>>,
    /// The word that receivers wait at.
    version: AtomicUsize,
    senders: AtomicUsize,
}

struct Ring<T> {
    slots: Box<[Slot<T>]>,
    /// The position of the next message. A message is in the slot of its position modulo their number.
    next: usize,
    receivers: usize,
}

struct Slot<T> {
    message: Option<Arc<T>>,
    /// How many receivers have not received it, or written it off.
    left: usize,
}

/// Sends to all receivers. Clones send to the same.
///
/// # Examples
/// As of [`channel`].
///
/// Receivers clone a message at the same time, so it must be `Sync` beside `Send`:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::broadcast::Sender<std::cell::Cell<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::broadcast::Sender<std::sync::MutexGuard<'static, ()>>>(); // `Sync` but not `Send`
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::broadcast::Sender<std::cell::Cell<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::broadcast::Sender<std::sync::MutexGuard<'static, ()>>>(); // `Sync` but not `Send`
/// ```
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// Receives all messages that are sent from its making on, as far as they are kept.
///
/// # Examples
/// As of [`channel`].
///
/// Receivers clone a message at the same time, so it must be `Sync` beside `Send`:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::broadcast::Receiver<std::cell::Cell<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::broadcast::Receiver<std::sync::MutexGuard<'static, ()>>>(); // `Sync` but not `Send`
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::broadcast::Receiver<std::cell::Cell<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::broadcast::Receiver<std::sync::MutexGuard<'static, ()>>>(); // `Sync` but not `Send`
/// ```
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The position of the message that is next.
    at: usize,
}

/// The message of a [`Sender::send`] without receivers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendError<T>(pub T);

/// Why [`Receiver::recv`] got no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvError {
    /// There is none, and all senders are gone.
    Closed,
    /// So many messages were missed. The next one is the oldest that is kept.
    Lagged(u64),
}

/// Why [`Receiver::try_recv`] got no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryRecvError {
    /// There is none.
    Empty,
    /// As of [`RecvError`].
    Closed,
    /// As of [`RecvError`].
    Lagged(u64),
}

/// Why [`Receiver::recv_timeout`] got no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvTimeoutError {
    /// There was none in time.
    Timeout,
    /// As of [`RecvError`].
    Closed,
    /// As of [`RecvError`].
    Lagged(u64),
}

impl<T> Ring<T> {
    fn slot(&mut self, position: usize) -> &mut Slot<T> {
        let index = position % self.slots.len();
        &mut self.slots[index]
    }

    /// The position of the oldest message that may be there.
    fn oldest(&self) -> usize {
        self.next.saturating_sub(self.slots.len())
    }
}

impl<T> Shared<T> {
    fn key(&self) -> usize {
        wait_queue::address(&raw const self.version)
    }

    /// The message at `at`, which is moved to the one after it.
    fn next(&self, at: &mut usize) -> Result<Arc<T>, TryRecvError> {
        let mut ring = self.ring.lock();
        let missed = ring.oldest().saturating_sub(*at);
        if missed > 0 {
            *at += missed;
            return Err(TryRecvError::Lagged(missed as u64));
        }
        if *at == ring.next {
            // Acquire: pairs with the Release of the last sender.
            let closed = self.version.load(Ordering::Acquire) & CLOSED != 0;
            return Err(if closed { TryRecvError::Closed } else { TryRecvError::Empty });
        }
        let slot = ring.slot(*at);
        *at += 1;
        slot.left -= 1;
        let message = if slot.left == 0 { slot.message.take() } else { slot.message.clone() };
        Ok(message.expect("a message stays while it is for somebody"))
    }
}

impl<T> Sender<T> {
    /// Of a channel that keeps the last `capacity` messages, without receivers as yet.
    ///
    /// # Panics
    /// As [`channel`].
    ///
    /// # Examples
    /// ```
    /// let sender = bine_sync::broadcast::Sender::new(1);
    /// assert!(sender.send(1).is_err(), "nobody receives it");
    /// ```
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a channel keeps at least one message");
        let slots = (0..capacity).map(|_| Slot { message: None, left: 0 }).collect();
        let shared = Shared {
            ring: Mutex::new(Ring { slots, next: 0, receivers: 0 }),
            version: AtomicUsize::new(0),
            senders: AtomicUsize::new(1),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Sends `value` to all receivers there are, and returns how many these are. Does not wait.
    ///
    /// # Errors
    /// With the message if there are none.
    ///
    /// # Examples
    /// As of [`channel`].
    pub fn send(&self, value: T) -> Result<usize, SendError<T>> {
        checkpoint();
        let message = Arc::new(value);
        let mut ring = self.shared.ring.lock();
        let receivers = ring.receivers;
        if receivers == 0 {
            drop(ring);
            let value = Arc::into_inner(message).expect("nobody else has it");
            return Err(SendError(value));
        }
        let next = ring.next;
        let sent = Slot { message: Some(message), left: receivers };
        let overwritten = mem::replace(ring.slot(next), sent);
        ring.next += 1;
        // Release: pairs with the Acquire of a receiver that is about to wait.
        self.shared.version.fetch_add(MESSAGE, Ordering::Release);
        drop(ring);
        wait_queue::unpark(self.shared.key(), usize::MAX, || ());
        drop(overwritten);
        Ok(receivers)
    }

    /// One more receiver, for messages that are sent from now on.
    ///
    /// # Examples
    /// As of [`channel`].
    pub fn subscribe(&self) -> Receiver<T> {
        let mut ring = self.shared.ring.lock();
        ring.receivers += 1;
        let at = ring.next;
        drop(ring);
        Receiver { shared: Arc::clone(&self.shared), at }
    }

    /// How many messages are kept that are still for somebody.
    ///
    /// # Examples
    /// ```
    /// let (sender, mut receiver) = bine_sync::broadcast::channel(2);
    /// sender.send(1).unwrap();
    /// assert_eq!(sender.len(), 1);
    /// receiver.recv().unwrap();
    /// assert!(sender.is_empty());
    /// ```
    pub fn len(&self) -> usize {
        let ring = self.shared.ring.lock();
        ring.slots.iter().filter(|slot| slot.message.is_some()).count()
    }

    /// Whether there are none.
    ///
    /// # Examples
    /// As of [`len`](Self::len).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many receivers there are.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = bine_sync::broadcast::channel::<()>(1);
    /// assert_eq!(sender.receiver_count(), 1);
    /// # drop(receiver);
    /// ```
    pub fn receiver_count(&self) -> usize {
        self.shared.ring.lock().receivers
    }

    /// Whether `other` sends to the same receivers.
    ///
    /// # Examples
    /// ```
    /// let sender = bine_sync::broadcast::Sender::<()>::new(1);
    /// assert!(sender.same_channel(&sender.clone()));
    /// ```
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl<T: Clone> Receiver<T> {
    /// Waits for the next message.
    ///
    /// # Errors
    /// If messages were missed, or there is none and all senders are gone.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::broadcast::{RecvError, channel};
    ///
    /// let (sender, mut receiver) = channel(2);
    /// (0..3).for_each(|n| drop(sender.send(n)));
    /// drop(sender);
    /// assert_eq!(receiver.recv(), Err(RecvError::Lagged(1)));
    /// assert_eq!(receiver.recv(), Ok(1));
    /// assert_eq!(receiver.recv(), Ok(2));
    /// assert_eq!(receiver.recv(), Err(RecvError::Closed));
    /// ```
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.recv_until(None).map_err(|error| match error {
            RecvTimeoutError::Lagged(missed) => RecvError::Lagged(missed),
            _ => RecvError::Closed,
        })
    }

    /// Takes the next message if there is one.
    ///
    /// # Errors
    /// If there is none, or messages were missed.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::broadcast::{TryRecvError, channel};
    ///
    /// let (_sender, mut receiver) = channel::<()>(1);
    /// assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    /// ```
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        checkpoint();
        self.shared.next(&mut self.at).map(Arc::unwrap_or_clone)
    }

    /// Waits for the next message, but no longer than `timeout`.
    ///
    /// # Errors
    /// If there was none in time, or messages were missed, or there is none and all senders are gone.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::broadcast::{RecvTimeoutError, channel};
    /// use std::time::Duration;
    ///
    /// let (_sender, mut receiver) = channel::<()>(1);
    /// let received = receiver.recv_timeout(Duration::from_millis(1));
    /// assert_eq!(received, Err(RecvTimeoutError::Timeout));
    /// ```
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        // A deadline that no clock can show is none.
        self.recv_until(parking::now().checked_add(timeout))
    }

    fn recv_until(&mut self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        loop {
            match self.try_recv() {
                Ok(message) => return Ok(message),
                Err(TryRecvError::Lagged(missed)) => return Err(RecvTimeoutError::Lagged(missed)),
                Err(TryRecvError::Closed) => return Err(RecvTimeoutError::Closed),
                Err(TryRecvError::Empty) => {}
            }
            let nothing_new = self.at * MESSAGE;
            // Acquire: pairs with the Release of a sender.
            let admit = || self.shared.version.load(Ordering::Acquire) == nothing_new;
            let entrance = Entrance::default();
            let parked =
                wait_queue::park(self.shared.key(), entrance, deadline, admit, || (), |_| ());
            if parked == Parked::TimedOut {
                return Err(RecvTimeoutError::Timeout);
            }
        }
    }
}

impl<T> Receiver<T> {
    /// How many messages were sent that this receiver has not received, those that it has missed
    /// included.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = bine_sync::broadcast::channel(1);
    /// sender.send(1).unwrap();
    /// assert_eq!(receiver.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.shared.ring.lock().next - self.at
    }

    /// Whether there are none.
    ///
    /// # Examples
    /// As of [`len`](Self::len).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One more receiver, for messages that are sent from now on.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = bine_sync::broadcast::channel(1);
    /// sender.send(1).unwrap();
    /// assert!(receiver.resubscribe().is_empty());
    /// ```
    #[must_use]
    pub fn resubscribe(&self) -> Self {
        let mut ring = self.shared.ring.lock();
        ring.receivers += 1;
        let at = ring.next;
        drop(ring);
        Self { shared: Arc::clone(&self.shared), at }
    }

    /// Whether `other` receives from the same senders.
    ///
    /// # Examples
    /// ```
    /// let (_sender, receiver) = bine_sync::broadcast::channel::<()>(1);
    /// assert!(receiver.same_channel(&receiver.resubscribe()));
    /// ```
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        // Relaxed: `self` keeps the count from reaching 0 meanwhile.
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // AcqRel: what other senders did happens before the last one closes.
        if self.shared.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Release: pairs with the Acquire loads of receivers.
            self.shared.version.fetch_or(CLOSED, Ordering::Release);
            wait_queue::unpark(self.shared.key(), usize::MAX, || ());
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let until = {
            let mut ring = self.shared.ring.lock();
            ring.receivers -= 1;
            ring.next
        };
        // Those from `until` on do not count this receiver. One at a time: what is taken out is
        // dropped without the lock.
        while self.at < until {
            drop(self.shared.next(&mut self.at));
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError").finish_non_exhaustive()
    }
}

const CLOSED_TEXT: &str = "channel closed";

fn lagged(missed: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "channel lagged by {missed}")
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(CLOSED_TEXT)
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.pad(CLOSED_TEXT),
            Self::Lagged(missed) => lagged(*missed, f),
        }
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.pad("channel empty"),
            Self::Closed => f.pad(CLOSED_TEXT),
            Self::Lagged(missed) => lagged(*missed, f),
        }
    }
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.pad("timed out waiting on channel"),
            Self::Closed => f.pad(CLOSED_TEXT),
            Self::Lagged(missed) => lagged(*missed, f),
        }
    }
}

impl<T> Error for SendError<T> {}
impl Error for RecvError {}
impl Error for TryRecvError {}
impl Error for RecvTimeoutError {}
