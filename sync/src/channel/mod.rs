//! Channels: many senders, many receivers, each message to one of them. The interface is that of
//! `crossbeam_channel` 0.5.
//!
//! | constructor | room | inside |
//! |---|---|---|
//! | [`unbounded`] | as much as memory allows | a linked list of blocks (`list`) |
//! | [`bounded`] | as given | a ring (`ring`) |
//! | [`bounded`] of 0 | none: sender and receiver meet | a lock and two lists of waiters (`rendezvous`) |
//! | [`after`], [`at`], [`tick`] | one message, from the clock | nothing but a deadline (`timer`) |
//! | [`never()`] | no messages | nothing |
//!
//! [`select!`], [`select_biased!`] and [`Select`] wait for several channels at once.
//!
//! Sending and receiving take no lock unless somebody has to be woken or has to wait. Messages are
//! received in the order in which they were sent. A thread that waits is woken in the order in which
//! it came, but a message or a place that it was woken for may be taken by one that comes just
//! then; it is first in line for the next.
//!
//! A send to a channel wakes at most one receiver, and where receivers that were woken before have
//! not run yet, only as many more as the backlog calls for: see `wait_list`.
//!
//! # Fairness, poisoning, cost
//!
//! The order is that of coming, with the exception above: so a thread that waits may be overtaken, any
//! number of times, by threads that do not wait. With capacity 0 nobody is overtaken: a message goes to the
//! receiver that has waited longest. Nothing can be poisoned.
//!
//! | channel | to send or receive without waiting | memory |
//! |---|---|---|
//! | `bounded` | one exchange, in a slot of its own | all slots, when it is made |
//! | `unbounded` | one exchange, in a slot of its own | an allocation for every 31 messages that are in it; one block is kept |
//! | `bounded(0)` | a lock, held to move the message | none |
//! | `after`, `at`, `tick` | a look at the clock, and an exchange or a lock | none |
//! | `never` | nothing | none |
//!
//! To wait is to enter a list in the channel, which takes its lock, and to let another thread run; to wake one
//! takes that lock, too, and the same time however many wait. Neither allocates. A channel is one
//! allocation. See [what things cost](crate#what-things-cost).
//!
//! # Where it comes from
//!
//! The ring is Dmitry Vyukov's bounded queue for many producers and consumers, in the form of crossbeam's
//! `flavors/array`; the list of blocks is that of crossbeam's `flavors/list`, and `tick` its
//! `flavors/tick`. Of this crate are the lists of those who wait, the channel without room, whose second
//! comer moves the message, and the selects, which reserve a place or a message before they complete.
//!
//! # Disconnection
//!
//! When the last [`Sender`] is dropped, receivers get what is left and then an error. When the
//! last [`Receiver`] is dropped, the messages that are left are dropped with it, and senders get
//! their messages back in an error.
//!
//! # Cancellation
//!
//! A green thread that is cancelled while it waits unwinds, and leaves the channel as if it had not come, with one
//! exception: a message that was already handed to a receiver of a channel of capacity 0 is
//! dropped. What it was woken for goes to the next. (A select gives it back: the next receiver gets it.)

mod error;
mod iter;
mod list;
mod rendezvous;
mod ring;
mod select;
mod timer;

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

use bine_runtime::primitive::Arc;
use bine_runtime::primitive::atomic::{AtomicUsize, Ordering};

use crate::parking::{self, checkpoint};
use crate::wait_list::WaitList;

pub use self::error::{
    ReadyTimeoutError, RecvError, RecvTimeoutError, SelectTimeoutError, SendError,
    SendTimeoutError, TryReadyError, TryRecvError, TrySelectError, TrySendError,
};
pub use self::iter::{IntoIter, Iter, TryIter};
use self::list::Unbounded;
use self::rendezvous::Rendezvous;
use self::ring::Bounded;
#[doc(hidden)]
pub use self::select::macro_support;
pub use self::select::{Select, SelectedOperation};
use self::timer::Timer;
pub use self::timer::{after, at, never, tick};
/// The name by which crossbeam_channel's own tests reach its macro.
#[doc(hidden)]
pub use crate::select as crossbeam_channel_internal;
#[doc(inline)]
pub use crate::{select, select_biased};

/// A channel without a limit: sending never waits.
///
/// # Examples
/// ```
/// let (sender, receiver) = bine_sync::channel::unbounded();
/// std::thread::spawn(move || sender.send("hello"));
/// assert_eq!(receiver.recv(), Ok("hello"));
/// ```
#[must_use]
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    pair(Unbounded::new(), Flavor::Unbounded, Flavor::Unbounded)
}

/// A channel with room for `cap` messages. With `cap` 0, each send waits for a receiver and each
/// receive for a sender.
///
/// # Panics
/// If `cap` messages do not fit the address space.
///
/// # Examples
/// ```
/// let (sender, receiver) = bine_sync::channel::bounded(1);
/// sender.send(1).unwrap();
/// assert!(sender.try_send(2).unwrap_err().is_full());
/// assert_eq!(receiver.recv(), Ok(1));
/// ```
#[must_use]
pub fn bounded<T>(cap: usize) -> (Sender<T>, Receiver<T>) {
    if cap == 0 {
        pair(Rendezvous::new(), Flavor::Rendezvous, Flavor::Rendezvous)
    } else {
        pair(Bounded::new(cap), Flavor::Bounded, Flavor::Bounded)
    }
}

/// A channel and how many handles of each side it has.
struct Shared<C> {
    senders: AtomicUsize,
    receivers: AtomicUsize,
    channel: C,
}

enum Flavor<T> {
    Unbounded(Arc<Shared<Unbounded<T>>>),
    Bounded(Arc<Shared<Bounded<T>>>),
    Rendezvous(Arc<Shared<Rendezvous<T>>>),
}

/// What a receiver receives from.
enum Source<T> {
    Channel(Flavor<T>),
    Timer(Arc<Timer<T>>),
    Never,
}

/// Evaluates `$body` with `$shared` bound to the [`Shared`] of whichever flavor `$flavor` is.
macro_rules! each_flavor {
    ($flavor:expr, $shared:ident => $body:expr) => {
        match $flavor {
            Flavor::Unbounded($shared) => $body,
            Flavor::Bounded($shared) => $body,
            Flavor::Rendezvous($shared) => $body,
        }
    };
}

fn pair<T, C>(
    channel: C,
    sending: impl FnOnce(Arc<Shared<C>>) -> Flavor<T>,
    receiving: impl FnOnce(Arc<Shared<C>>) -> Flavor<T>,
) -> (Sender<T>, Receiver<T>) {
    let shared =
        Arc::new(Shared { senders: AtomicUsize::new(1), receivers: AtomicUsize::new(1), channel });
    let source = Source::Channel(receiving(shared.clone()));
    (Sender { flavor: sending(shared) }, Receiver { source })
}

impl<T> Clone for Flavor<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Unbounded(shared) => Self::Unbounded(shared.clone()),
            Self::Bounded(shared) => Self::Bounded(shared.clone()),
            Self::Rendezvous(shared) => Self::Rendezvous(shared.clone()),
        }
    }
}

impl<T> Flavor<T> {
    fn len(&self) -> usize {
        match self {
            Self::Unbounded(shared) => shared.channel.len(),
            Self::Bounded(shared) => shared.channel.len(),
            Self::Rendezvous(_) => 0,
        }
    }

    fn capacity(&self) -> Option<usize> {
        match self {
            Self::Unbounded(_) => None,
            Self::Bounded(shared) => Some(shared.channel.capacity()),
            Self::Rendezvous(_) => Some(0),
        }
    }

    fn is_full(&self) -> bool {
        self.capacity() == Some(self.len())
    }

    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unbounded(a), Self::Unbounded(b)) => Arc::ptr_eq(a, b),
            (Self::Bounded(a), Self::Bounded(b)) => Arc::ptr_eq(a, b),
            (Self::Rendezvous(a), Self::Rendezvous(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// The deadline after `timeout`; none if no clock can show it.
fn deadline_after(timeout: Duration) -> Option<Instant> {
    parking::now().checked_add(timeout)
}

/// The sending side of a channel. Clones send to the same channel.
///
/// # Examples
/// ```
/// let (sender, receiver) = bine_sync::channel::unbounded();
/// let other = sender.clone();
/// sender.send(1).unwrap();
/// other.send(2).unwrap();
/// assert_eq!(receiver.recv(), Ok(1));
/// assert_eq!(receiver.recv(), Ok(2));
/// ```
///
/// It goes where its messages may go, and no further:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::channel::Sender<std::rc::Rc<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::channel::Sender<std::rc::Rc<()>>>();
/// ```
pub struct Sender<T> {
    flavor: Flavor<T>,
}

/// The receiving side of a channel. Clones receive from the same channel, each message one of them.
///
/// # Examples
/// ```
/// let (sender, receiver) = bine_sync::channel::unbounded();
/// sender.send(1).unwrap();
/// drop(sender);
/// assert_eq!(receiver.recv(), Ok(1));
/// assert!(receiver.recv().is_err());
/// ```
///
/// It goes where its messages may go, and no further:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::channel::Receiver<std::rc::Rc<()>>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::channel::Receiver<std::rc::Rc<()>>>();
/// ```
pub struct Receiver<T> {
    source: Source<T>,
}

mod bounds {
    //! What the handles promise about threads.
    #![allow(unsafe_code)]

    use super::{Receiver, Sender};

    // SAFETY: a channel gives each message to one thread, and never two threads the same one at
    // once, so messages need to be `Send` and no more; so do the handles.
    unsafe impl<T: Send> Send for Sender<T> {}
    // SAFETY: as above.
    unsafe impl<T: Send> Sync for Sender<T> {}
    // SAFETY: as above.
    unsafe impl<T: Send> Send for Receiver<T> {}
    // SAFETY: as above.
    unsafe impl<T: Send> Sync for Receiver<T> {}
}

impl<T> UnwindSafe for Sender<T> {}
impl<T> RefUnwindSafe for Sender<T> {}
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T> Sender<T> {
    /// Sends `msg`, and waits for room if there is none.
    ///
    /// # Errors
    /// If all receivers are gone; the error holds the message.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = bine_sync::channel::bounded(1);
    /// assert_eq!(sender.send(1), Ok(()));
    /// drop(receiver);
    /// assert!(sender.send(2).is_err());
    /// ```
    pub fn send(&self, msg: T) -> Result<(), SendError<T>> {
        match self.send_until(msg, None) {
            Ok(()) => Ok(()),
            Err(error) => Err(SendError(error.into_inner())),
        }
    }

    /// Sends `msg` if there is room at once.
    ///
    /// # Errors
    /// If there is no room (with capacity 0: no receiver that waits), or all receivers are gone;
    /// the error holds the message.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::channel::{TrySendError, bounded};
    ///
    /// let (sender, _receiver) = bounded(1);
    /// assert_eq!(sender.try_send(1), Ok(()));
    /// assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
    /// ```
    pub fn try_send(&self, msg: T) -> Result<(), TrySendError<T>> {
        checkpoint();
        match &self.flavor {
            Flavor::Unbounded(shared) => {
                shared.channel.send(msg).map_err(TrySendError::Disconnected)
            }
            Flavor::Bounded(shared) => shared.channel.try_send(msg),
            Flavor::Rendezvous(shared) => shared.channel.try_send(msg),
        }
    }

    /// Sends `msg`, and waits up to `timeout` for room.
    ///
    /// # Errors
    /// If there was no room, or all receivers are gone; the error holds the message.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::channel::{SendTimeoutError, bounded};
    /// use std::time::Duration;
    ///
    /// let (sender, _receiver) = bounded(0);
    /// let sent = sender.send_timeout(1, Duration::from_millis(1));
    /// assert_eq!(sent, Err(SendTimeoutError::Timeout(1)));
    /// ```
    pub fn send_timeout(&self, msg: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_until(msg, deadline_after(timeout))
    }

    /// Sends `msg`, and waits until `deadline` for room.
    ///
    /// # Errors
    /// If there was no room, or all receivers are gone; the error holds the message.
    ///
    /// # Examples
    /// As of [`send_timeout`](Self::send_timeout).
    pub fn send_deadline(&self, msg: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.send_until(msg, Some(deadline))
    }

    #[inline]
    fn send_until(&self, msg: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
        checkpoint();
        match &self.flavor {
            Flavor::Unbounded(shared) => {
                shared.channel.send(msg).map_err(SendTimeoutError::Disconnected)
            }
            Flavor::Bounded(shared) => shared.channel.send(msg, deadline),
            Flavor::Rendezvous(shared) => shared.channel.send(msg, deadline),
        }
    }

    /// Whether there are no messages in the channel. A channel of capacity 0 is always empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is no room in the channel. A channel of capacity 0 is always full.
    pub fn is_full(&self) -> bool {
        self.flavor.is_full()
    }

    /// How many messages are in the channel.
    pub fn len(&self) -> usize {
        self.flavor.len()
    }

    /// How many messages the channel has room for; none means any number.
    pub fn capacity(&self) -> Option<usize> {
        self.flavor.capacity()
    }

    /// Whether `other` sends to the same channel.
    ///
    /// # Examples
    /// ```
    /// let (sender, _receiver) = bine_sync::channel::unbounded::<()>();
    /// assert!(sender.same_channel(&sender.clone()));
    /// ```
    pub fn same_channel(&self, other: &Sender<T>) -> bool {
        self.flavor.same(&other.flavor)
    }
}

impl<T> Receiver<T> {
    fn timed(timer: Timer<T>) -> Self {
        Self { source: Source::Timer(Arc::new(timer)) }
    }

    /// Takes the message that has waited longest, and waits for one if there is none.
    ///
    /// # Errors
    /// If the channel is empty and all senders are gone.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = bine_sync::channel::unbounded();
    /// std::thread::spawn(move || sender.send(1));
    /// assert_eq!(receiver.recv(), Ok(1));
    /// assert!(receiver.recv().is_err());
    /// ```
    pub fn recv(&self) -> Result<T, RecvError> {
        // Without a deadline, only disconnection is left as an error.
        self.recv_until(None).map_err(|_| RecvError)
    }

    /// Takes the message that has waited longest, if there is one.
    ///
    /// # Errors
    /// If there is no message (with capacity 0: no sender that waits); the error says whether there
    /// are senders.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::channel::{TryRecvError, unbounded};
    ///
    /// let (sender, receiver) = unbounded::<()>();
    /// assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    /// drop(sender);
    /// assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    /// ```
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        checkpoint();
        match &self.source {
            Source::Channel(Flavor::Unbounded(shared)) => shared.channel.try_recv(),
            Source::Channel(Flavor::Bounded(shared)) => shared.channel.try_recv(),
            source => source.try_recv_rarely(),
        }
    }

    /// Takes the message that has waited longest, and waits up to `timeout` for one.
    ///
    /// # Errors
    /// If there was no message; the error says whether there are senders.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::channel::{RecvTimeoutError, unbounded};
    /// use std::time::Duration;
    ///
    /// let (_sender, receiver) = unbounded::<()>();
    /// let received = receiver.recv_timeout(Duration::from_millis(1));
    /// assert_eq!(received, Err(RecvTimeoutError::Timeout));
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(deadline_after(timeout))
    }

    /// Takes the message that has waited longest, and waits until `deadline` for one.
    ///
    /// # Errors
    /// If there was no message; the error says whether there are senders.
    ///
    /// # Examples
    /// As of [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_until(Some(deadline))
    }

    #[inline]
    fn recv_until(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        checkpoint();
        match &self.source {
            Source::Channel(Flavor::Unbounded(shared)) => shared.channel.recv(deadline),
            Source::Channel(Flavor::Bounded(shared)) => shared.channel.recv(deadline),
            source => source.recv_rarely(deadline),
        }
    }

    /// Whether there are no messages in the channel. A channel of capacity 0 is always empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is no room in the channel. A channel of capacity 0 is always full.
    pub fn is_full(&self) -> bool {
        self.capacity() == Some(self.len())
    }

    /// How many messages are in the channel.
    pub fn len(&self) -> usize {
        match &self.source {
            Source::Channel(flavor) => flavor.len(),
            Source::Timer(timer) => usize::from(timer.is_due()),
            Source::Never => 0,
        }
    }

    /// How many messages the channel has room for; none means any number.
    pub fn capacity(&self) -> Option<usize> {
        match &self.source {
            Source::Channel(flavor) => flavor.capacity(),
            Source::Timer(_) => Some(1),
            Source::Never => Some(0),
        }
    }

    /// Messages as an iterator that waits for each, until the channel is empty and disconnected.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = bine_sync::channel::unbounded();
    /// std::thread::spawn(move || (0..3).for_each(|n| sender.send(n).unwrap()));
    /// assert_eq!(receiver.iter().sum::<i32>(), 3);
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// The messages that are there, as an iterator that does not wait.
    ///
    /// # Examples
    /// ```
    /// let (sender, receiver) = bine_sync::channel::unbounded();
    /// sender.send(1).unwrap();
    /// assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1]);
    /// ```
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }

    /// Whether `other` receives from the same channel.
    ///
    /// # Examples
    /// ```
    /// let (_sender, receiver) = bine_sync::channel::unbounded::<()>();
    /// assert!(receiver.same_channel(&receiver.clone()));
    /// ```
    pub fn same_channel(&self, other: &Receiver<T>) -> bool {
        match (&self.source, &other.source) {
            (Source::Channel(a), Source::Channel(b)) => a.same(b),
            (Source::Timer(a), Source::Timer(b)) => Arc::ptr_eq(a, b),
            (Source::Never, Source::Never) => true,
            _ => false,
        }
    }
}

/// Takes a message by `try_recv`; while there is none, waits among `receivers` until `deadline`. `backlog`
/// is as in [`WaitList::wait_for`].
#[inline]
fn receive<T>(
    receivers: &WaitList,
    deadline: Option<Instant>,
    try_recv: impl Fn() -> Result<T, TryRecvError>,
    backlog: impl Fn() -> usize,
) -> Result<T, RecvTimeoutError> {
    match try_recv() {
        Ok(message) => Ok(message),
        Err(TryRecvError::Empty) => wait_and_receive(receivers, deadline, try_recv, backlog),
        Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
    }
}

#[inline(never)]
fn wait_and_receive<T>(
    receivers: &WaitList,
    deadline: Option<Instant>,
    try_recv: impl Fn() -> Result<T, TryRecvError>,
    backlog: impl Fn() -> usize,
) -> Result<T, RecvTimeoutError> {
    let attempt = || match try_recv() {
        Ok(message) => Some(Ok(message)),
        Err(TryRecvError::Disconnected) => Some(Err(RecvTimeoutError::Disconnected)),
        Err(TryRecvError::Empty) => None,
    };
    let received = receivers.wait_for_message(deadline, attempt, backlog);
    received.unwrap_or(Err(RecvTimeoutError::Timeout))
}

/// Not inlined, so that nothing of it weighs on channels with room.
impl<T> Source<T> {
    #[inline(never)]
    fn try_recv_rarely(&self) -> Result<T, TryRecvError> {
        match self {
            Self::Channel(flavor) => each_flavor!(flavor, shared => shared.channel.try_recv()),
            Self::Timer(timer) => timer.try_recv(),
            Self::Never => Err(TryRecvError::Empty),
        }
    }

    #[inline(never)]
    fn recv_rarely(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        match self {
            Self::Channel(flavor) => each_flavor!(flavor, shared => shared.channel.recv(deadline)),
            Self::Timer(timer) => timer.recv(deadline),
            Self::Never => {
                timer::sleep_until(deadline);
                Err(RecvTimeoutError::Timeout)
            }
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        // Relaxed: `self` keeps the count from reaching 0 meanwhile.
        each_flavor!(&self.flavor, shared => shared.senders.fetch_add(1, Ordering::Relaxed));
        Self { flavor: self.flavor.clone() }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        let source = match &self.source {
            Source::Channel(flavor) => {
                // Relaxed: `self` keeps the count from reaching 0 meanwhile.
                each_flavor!(flavor, shared => shared.receivers.fetch_add(1, Ordering::Relaxed));
                Source::Channel(flavor.clone())
            }
            Source::Timer(timer) => Source::Timer(timer.clone()),
            Source::Never => Source::Never,
        };
        Self { source }
    }
}

/// Takes one handle off `count`, and says whether it was the last.
fn was_last(count: &AtomicUsize) -> bool {
    // AcqRel: what the others did with their handles (Release) happens before the disconnection
    // by the last (Acquire), so that their messages are there before it is.
    count.fetch_sub(1, Ordering::AcqRel) == 1
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        match &self.flavor {
            Flavor::Unbounded(shared) if was_last(&shared.senders) => {
                shared.channel.disconnect_senders();
            }
            Flavor::Bounded(shared) if was_last(&shared.senders) => {
                shared.channel.disconnect_senders();
            }
            Flavor::Rendezvous(shared) if was_last(&shared.senders) => shared.channel.disconnect(),
            _ => {}
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let Source::Channel(flavor) = &self.source else { return };
        match flavor {
            Flavor::Unbounded(shared) if was_last(&shared.receivers) => {
                shared.channel.disconnect_receivers();
            }
            Flavor::Bounded(shared) if was_last(&shared.receivers) => {
                shared.channel.disconnect_receivers();
            }
            Flavor::Rendezvous(shared) if was_last(&shared.receivers) => {
                shared.channel.disconnect();
            }
            _ => {}
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Sender { .. }")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Receiver { .. }")
    }
}
