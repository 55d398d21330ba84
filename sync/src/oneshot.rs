//! A channel for one message. The shape is that of tokio's.
//!
//! # The word
//!
//! | from | to | who |
//! |---|---|---|
//! | `OPEN` | `AWAITED` | one that is about to wait for the channel to end |
//! | either of these | `SENT` | the sender, with the message in its place |
//! | either | `ABANDONED` | the sender that is dropped |
//! | either | `CLOSED` | the receiver that is dropped, or wants no message any more |
//! | `SENT` | `TAKEN` | the receiver, which has taken the message out |
//!
//! The channel ends once, by a compare-exchange: of sender and receiver the one that comes first says
//! how. If the word was `AWAITED` it wakes the other. Until then the place of the message is the
//! sender's; from `SENT` on the receiver's.
//!
//! # Fairness, cancellation, cost
//!
//! There is nobody to be unfair to, and nothing can be poisoned. A green thread that is cancelled
//! while it receives drops the receiver as it unwinds, and the message with it if it has come already.
//! Sending costs one compare-exchange, and receiving what was sent one load. A channel is one
//! allocation; waiting allocates nothing. See [what things cost](crate#what-things-cost).
//!
//! # Where it comes from
//!
//! One word that sender and receiver compete for is tokio's way too. Who waits here stands in the wait
//! queue, and not in the channel.
#![allow(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use bine_runtime::primitive::Arc;
use bine_runtime::primitive::atomic::{AtomicU32, Ordering};
use bine_runtime::primitive::cell::UnsafeCell;

use crate::parking::{self, checkpoint};
use crate::wait_queue::{self, Outcome};

const OPEN: u32 = 0;
const SENT: u32 = 1;
const ABANDONED: u32 = 2;
const CLOSED: u32 = 3;
const TAKEN: u32 = 4;
const AWAITED: u32 = 5;

/// A channel for one message.
///
/// # Examples
/// ```
/// let (sender, receiver) = bine_sync::oneshot::channel();
/// std::thread::spawn(move || sender.send("done"));
/// assert_eq!(receiver.recv(), Ok("done"));
/// ```
#[must_use]
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared { word: AtomicU32::new(OPEN), message: UnsafeCell::new(None) });
    (Sender { shared: shared.clone() }, Receiver { shared })
}

struct Shared<T> {
    word: AtomicU32,
    /// # Invariant
    /// Reached as the module's documentation says.
    message: UnsafeCell<Option<T>>,
}

// SAFETY: the message goes from one thread to another, and never two reach it at once.
unsafe impl<T: Send> Sync for Shared<T> {}

/// Sends the message.
///
/// # Examples
/// As of [`channel`].
///
/// It goes where its message may go, and no further:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::oneshot::Sender<std::rc::Rc<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::oneshot::Sender<std::rc::Rc<()>>>();
/// ```
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// Receives the message.
///
/// # Examples
/// As of [`channel`].
///
/// It goes where its message may go, and no further:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::oneshot::Receiver<std::rc::Rc<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::oneshot::Receiver<std::rc::Rc<()>>>();
/// ```
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

/// The sender was dropped without sending, or the message was received before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecvError;

/// Why [`Receiver::try_recv`] got no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryRecvError {
    /// It was not sent yet.
    Empty,
    /// As [`RecvError`].
    Closed,
}

/// Why [`Receiver::recv_timeout`] got no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvTimeoutError {
    /// It was not sent in time.
    Timeout,
    /// As [`RecvError`].
    Closed,
}

impl<T> Shared<T> {
    /// Ends the channel, if it is open still, and wakes the other side.
    fn end(&self, how: u32) -> bool {
        let mut word = OPEN;
        loop {
            // Release: pairs with the Acquire of the other side, for the message.
            // Acquire, where the other side was first: what it did before.
            match self.word.compare_exchange(word, how, Ordering::Release, Ordering::Acquire) {
                Ok(OPEN) => return true,
                Ok(_) => {
                    wait_queue::wake_all(&raw const self.word);
                    return true;
                }
                Err(AWAITED) => word = AWAITED,
                Err(_) => return false,
            }
        }
    }

    /// The word; the channel has ended, unless the deadline has passed.
    fn wait(&self, deadline: Option<Instant>) -> u32 {
        loop {
            // Relaxed, where the channel is open: only the waker must see it, by the bucket's lock.
            // Acquire, where it is not: pairs with `end`.
            match self.word.compare_exchange(OPEN, AWAITED, Ordering::Relaxed, Ordering::Acquire) {
                Ok(_) | Err(AWAITED) => {}
                Err(word) => return word,
            }
            if wait_queue::wait(&self.word, AWAITED, deadline) == Outcome::TimedOut {
                return AWAITED;
            }
        }
    }
}

impl<T> Sender<T> {
    /// Sends `message`. Does not wait.
    ///
    /// # Errors
    /// With the message if the receiver is gone or was closed.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = bine_sync::oneshot::channel();
    /// drop(receiver);
    /// assert_eq!(sender.send(1), Err(1));
    /// ```
    pub fn send(self, message: T) -> Result<(), T> {
        // SAFETY: the place is the sender's, of which there is one, until the channel ends.
        self.shared.message.with_mut(|place| unsafe { *place = Some(message) });
        if self.shared.end(SENT) {
            return Ok(());
        }
        // SAFETY: as above; the receiver has left without looking at it.
        let message = self.shared.message.with_mut(|place| unsafe { (*place).take() });
        Err(message.expect("nobody has taken the message"))
    }

    /// Whether the receiver is gone or was closed.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = bine_sync::oneshot::channel::<()>();
    /// drop(receiver);
    /// assert!(sender.is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        // Acquire: pairs with `end`.
        self.shared.word.load(Ordering::Acquire) == CLOSED
    }

    /// Waits until the receiver is gone or was closed.
    ///
    /// # Examples
    /// ```
    /// let (mut sender, receiver) = bine_sync::oneshot::channel::<()>();
    /// std::thread::spawn(move || drop(receiver));
    /// sender.closed();
    /// ```
    pub fn closed(&mut self) {
        checkpoint();
        self.shared.wait(None);
    }
}

impl<T> Receiver<T> {
    /// Waits for the message.
    ///
    /// # Errors
    /// If the sender is dropped without sending.
    ///
    /// # Examples
    /// As of [`channel`].
    pub fn recv(self) -> Result<T, RecvError> {
        checkpoint();
        self.take(self.shared.wait(None)).map_err(|_| RecvError)
    }

    /// Waits for the message, but no longer than `timeout`.
    ///
    /// # Errors
    /// If it was not sent in time, or will not be.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::oneshot::{RecvTimeoutError, channel};
    /// use std::time::Duration;
    ///
    /// let (_sender, mut receiver) = channel::<()>();
    /// let received = receiver.recv_timeout(Duration::from_millis(1));
    /// assert_eq!(received, Err(RecvTimeoutError::Timeout));
    /// ```
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        checkpoint();
        // A deadline that no clock can show is none.
        let word = self.shared.wait(parking::now().checked_add(timeout));
        self.take(word).map_err(|error| match error {
            TryRecvError::Empty => RecvTimeoutError::Timeout,
            TryRecvError::Closed => RecvTimeoutError::Closed,
        })
    }

    /// Takes the message if it was sent.
    ///
    /// # Errors
    /// If it was not sent yet, or will not be.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::oneshot::{TryRecvError, channel};
    ///
    /// let (sender, mut receiver) = channel();
    /// assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    /// sender.send(1).unwrap();
    /// assert_eq!(receiver.try_recv(), Ok(1));
    /// assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
    /// ```
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        // Acquire: pairs with `end`.
        self.take(self.shared.word.load(Ordering::Acquire))
    }

    /// Refuses a message that was not sent yet. One that was can still be received.
    ///
    /// # Examples
    /// ```
    /// let (sender, mut receiver) = bine_sync::oneshot::channel();
    /// receiver.close();
    /// assert_eq!(sender.send(1), Err(1));
    /// ```
    pub fn close(&mut self) {
        self.shared.end(CLOSED);
    }

    /// What `word` means; takes the message out if it is there. To be called by the receiver, with a
    /// word that was read with Acquire.
    fn take(&self, word: u32) -> Result<T, TryRecvError> {
        match word {
            OPEN | AWAITED => Err(TryRecvError::Empty),
            SENT => {
                // Relaxed: only the receiver looks at it from here on.
                self.shared.word.store(TAKEN, Ordering::Relaxed);
                // SAFETY: the place is the receiver's since SENT, and there is one receiver, which
                // does not come here again.
                let message = self.shared.message.with_mut(|place| unsafe { (*place).take() });
                Ok(message.expect("a message that was sent is there"))
            }
            _ => Err(TryRecvError::Closed),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.end(ABANDONED);
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if !self.shared.end(CLOSED) {
            // Not left to the sender's thread, which may drop the channel long after.
            drop(self.try_recv());
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

const CLOSED_TEXT: &str = "channel closed";

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(CLOSED_TEXT)
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Empty => "channel empty",
            Self::Closed => CLOSED_TEXT,
        })
    }
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Timeout => "timed out waiting on channel",
            Self::Closed => CLOSED_TEXT,
        })
    }
}

impl Error for RecvError {}
impl Error for TryRecvError {}
impl Error for RecvTimeoutError {}
