//! Channels with one receiver. The interface is that of [`std::sync::mpsc`], whose errors these are.
//!
//! They are the channels of [`channel`] under other names: [`channel()`] is an unbounded one, and
//! [`sync_channel`] a bounded one, with capacity 0 for a rendezvous. What is said there of fairness,
//! cancellation, cost and the algorithms goes for these too. Nothing can be poisoned.
//!
//! [`channel`]: crate::channel
//!
//! # Examples
//! ```
//! use bine_sync::mpsc;
//!
//! let (sender, receiver) = mpsc::channel();
//! for n in 0..3 {
//!     let sender = sender.clone();
//!     std::thread::spawn(move || sender.send(n));
//! }
//! drop(sender);
//! assert_eq!(receiver.iter().sum::<i32>(), 3);
//! ```

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

pub use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};

use crate::channel;

/// A channel without a limit: sending never waits.
///
/// # Examples
/// ```
/// let (sender, receiver) = bine_sync::mpsc::channel();
/// std::thread::spawn(move || sender.send("hello"));
/// assert_eq!(receiver.recv(), Ok("hello"));
/// ```
#[must_use]
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = channel::unbounded();
    (Sender { sender }, Receiver::new(receiver))
}

/// A channel with room for `bound` messages. With `bound` 0, each send waits for a receive.
///
/// # Panics
/// If `bound` messages do not fit the address space.
///
/// # Examples
/// ```
/// let (sender, receiver) = bine_sync::mpsc::sync_channel(1);
/// sender.send(1).unwrap();
/// assert!(sender.try_send(2).is_err());
/// assert_eq!(receiver.recv(), Ok(1));
/// ```
#[must_use]
pub fn sync_channel<T>(bound: usize) -> (SyncSender<T>, Receiver<T>) {
    let (sender, receiver) = channel::bounded(bound);
    (SyncSender { sender }, Receiver::new(receiver))
}

/// The sending side of a [`channel()`]. Clones send to the same channel.
///
/// # Examples
/// As of [`channel()`].
///
/// It goes where its messages may go, and no further:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::mpsc::Sender<std::rc::Rc<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::mpsc::Sender<std::rc::Rc<()>>>();
/// ```
pub struct Sender<T> {
    sender: channel::Sender<T>,
}

/// The sending side of a [`sync_channel`]. Clones send to the same channel.
///
/// # Examples
/// As of [`sync_channel`].
///
/// It goes where its messages may go, and no further:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::mpsc::SyncSender<std::rc::Rc<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::mpsc::SyncSender<std::rc::Rc<()>>>();
/// ```
pub struct SyncSender<T> {
    sender: channel::Sender<T>,
}

/// The receiving side of a channel. There is one.
///
/// # Examples
/// As of [`channel()`].
///
/// It may be sent where its messages may be, and is not shared:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::mpsc::Receiver<std::rc::Rc<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::mpsc::Receiver<()>>();
/// ```
/// ```compile_fail,E0277
/// fn copy<T: Clone>() {}
/// copy::<bine_sync::mpsc::Receiver<()>>();
/// ```
pub struct Receiver<T> {
    receiver: channel::Receiver<T>,
    /// The channel's own could be shared; std's is not.
    not_sync: PhantomData<Cell<()>>,
}

// As std's; without these, `not_sync` would say otherwise.
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T> Sender<T> {
    /// Sends `t`. Does not wait.
    ///
    /// # Errors
    /// If the receiver is gone; the error holds the message.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = bine_sync::mpsc::channel();
    /// assert!(sender.send(1).is_ok());
    /// drop(receiver);
    /// assert_eq!(sender.send(2).unwrap_err().0, 2);
    /// ```
    pub fn send(&self, t: T) -> Result<(), SendError<T>> {
        self.sender.send(t).map_err(|error| SendError(error.into_inner()))
    }
}

impl<T> SyncSender<T> {
    /// Sends `t`, and waits for room if there is none; with a bound of 0, for the receive.
    ///
    /// # Errors
    /// If the receiver is gone; the error holds the message.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = bine_sync::mpsc::sync_channel(0);
    /// std::thread::spawn(move || sender.send(1));
    /// assert_eq!(receiver.recv(), Ok(1));
    /// ```
    pub fn send(&self, t: T) -> Result<(), SendError<T>> {
        self.sender.send(t).map_err(|error| SendError(error.into_inner()))
    }

    /// Sends `t` if there is room at once.
    ///
    /// # Errors
    /// If there is no room (with a bound of 0: nobody waits to receive), or the receiver is gone; the
    /// error holds the message.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::mpsc::{TrySendError, sync_channel};
    ///
    /// let (sender, _receiver) = sync_channel(1);
    /// assert_eq!(sender.try_send(1), Ok(()));
    /// assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
    /// ```
    pub fn try_send(&self, t: T) -> Result<(), TrySendError<T>> {
        self.sender.try_send(t).map_err(|error| match error {
            channel::TrySendError::Full(t) => TrySendError::Full(t),
            channel::TrySendError::Disconnected(t) => TrySendError::Disconnected(t),
        })
    }
}

impl<T> Receiver<T> {
    fn new(receiver: channel::Receiver<T>) -> Self {
        Self { receiver, not_sync: PhantomData }
    }

    /// Takes the message that has waited longest, and waits for one if there is none.
    ///
    /// # Errors
    /// If there is no message and all senders are gone.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = bine_sync::mpsc::channel();
    /// sender.send(1).unwrap();
    /// drop(sender);
    /// assert_eq!(receiver.recv(), Ok(1));
    /// assert!(receiver.recv().is_err());
    /// ```
    pub fn recv(&self) -> Result<T, RecvError> {
        self.receiver.recv().map_err(|_| RecvError)
    }

    /// Takes the message that has waited longest, if there is one.
    ///
    /// # Errors
    /// If there is no message; the error says whether there are senders.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::mpsc::{TryRecvError, channel};
    ///
    /// let (sender, receiver) = channel::<()>();
    /// assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    /// drop(sender);
    /// assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    /// ```
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.receiver.try_recv().map_err(|error| match error {
            channel::TryRecvError::Empty => TryRecvError::Empty,
            channel::TryRecvError::Disconnected => TryRecvError::Disconnected,
        })
    }

    /// Takes the message that has waited longest, and waits up to `timeout` for one.
    ///
    /// # Errors
    /// If there was no message; the error says whether there are senders.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::mpsc::{RecvTimeoutError, channel};
    /// use std::time::Duration;
    ///
    /// let (_sender, receiver) = channel::<()>();
    /// let received = receiver.recv_timeout(Duration::from_millis(1));
    /// assert_eq!(received, Err(RecvTimeoutError::Timeout));
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.receiver.recv_timeout(timeout).map_err(|error| match error {
            channel::RecvTimeoutError::Timeout => RecvTimeoutError::Timeout,
            channel::RecvTimeoutError::Disconnected => RecvTimeoutError::Disconnected,
        })
    }

    /// Messages as an iterator that waits for each, until there are none and all senders are gone.
    ///
    /// # Examples
    /// As of the [module](self).
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// The messages that are there, as an iterator that does not wait.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = bine_sync::mpsc::channel();
    /// sender.send(1).unwrap();
    /// assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1]);
    /// ```
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone() }
    }
}

impl<T> Clone for SyncSender<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone() }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SyncSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncSender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

/// Takes messages and waits for each, until there are none and all senders are gone. From
/// [`Receiver::iter`].
///
/// It borrows the receiver, which is not shared:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::mpsc::Iter<'static, ()>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::mpsc::Iter<'static, ()>>();
/// ```
pub struct Iter<'a, T: 'a> {
    receiver: &'a Receiver<T>,
}

/// Takes the messages that are there, and does not wait. From [`Receiver::try_iter`].
///
/// It borrows the receiver, which is not shared:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::mpsc::TryIter<'static, ()>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::mpsc::TryIter<'static, ()>>();
/// ```
pub struct TryIter<'a, T: 'a> {
    receiver: &'a Receiver<T>,
}

/// As [`Iter`], with the receiver. It goes where that may go:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::mpsc::IntoIter<std::rc::Rc<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::mpsc::IntoIter<()>>();
/// ```
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}

// std derives these, so its field's name is part of what is printed, and `T: Debug` of the bounds.

impl<T: fmt::Debug> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("rx", &self.receiver).finish()
    }
}

impl<T: fmt::Debug> fmt::Debug for TryIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryIter").field("rx", &self.receiver).finish()
    }
}

impl<T: fmt::Debug> fmt::Debug for IntoIter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntoIter").field("rx", &self.receiver).finish()
    }
}
