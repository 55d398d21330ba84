//! Waiting for several channels at once: [`Select`], and what the macros [`select!`] and
//! [`select_biased!`] are made of.
//!
//! [`select!`]: crate::select!
//! [`select_biased!`]: crate::select_biased!

mod arms;
mod macros;
mod operation;
mod parcel;
mod wait;

use std::fmt;
use std::marker::PhantomData;
use std::ptr;
use std::time::{Duration, Instant};

use super::error::{
    ReadyTimeoutError, RecvError, SelectTimeoutError, SendError, TryReadyError, TrySelectError,
};
use super::{Receiver, Sender};
use arms::Arms;
pub(super) use operation::Claim;
use operation::Operation;
pub(super) use parcel::Parcel;
pub(super) use wait::Selection;
pub use wait::{Arm, Limit};

/// As many operations need no allocation.
const INLINE: usize = 8;

/// Waits for one of several channel operations, of which there may be any number.
///
/// Where the operations are known when the program is written, [`select!`](crate::select!) is
/// shorter.
///
/// An operation is ready if it would not wait, also if it would fail because the channel is
/// disconnected.
///
/// There are two ways to use it:
///
/// - `select`, `try_select`, `select_timeout` and `select_deadline` choose an operation, which is then
///   certain to succeed (or to find the channel disconnected), and has to be completed.
/// - `ready`, `try_ready`, `ready_timeout` and `ready_deadline` say which operation is ready. It is then
///   tried with `try_send` or `try_recv`, and somebody else may have been faster.
///
/// # Fairness
///
/// If several operations are ready, one of them is chosen at random. With
/// [`new_biased`](Self::new_biased) it is the one that was added first.
///
/// # Cost
///
/// An operation that is ready at once costs a look at each operation before it in the random order,
/// and for a channel with room one exchange more than it would cost by itself. To wait is to enter a
/// list for each operation and to leave it again; it allocates nothing for up to eight. So both grow with
/// the number of operations, and not with the number of threads. See
/// [what things cost](crate#what-things-cost).
///
/// # Poisoning
///
/// There is none. A panic in the middle leaves no waiter behind, and nothing reserved.
///
/// # Cancellation
///
/// A green thread that is cancelled while it waits leaves all channels as if it had not come. A
/// [`SelectedOperation`] that is dropped while its thread unwinds gives back what it stands for.
///
/// # Where it comes from
///
/// To try all in a random order, then to stand in all lists with one word that peers compete for, is Go's
/// `select`, and crossbeam's. That channels with room count what is reserved for a select, so that what it
/// has settled on cannot fail, is this crate's.
///
/// # Examples
/// ```
/// use bine_sync::channel::{Select, unbounded};
///
/// let (sender, receiver) = unbounded();
/// let (_other_sender, other_receiver) = unbounded::<i32>();
/// sender.send("hello").unwrap();
///
/// let mut select = Select::new();
/// let hello = select.recv(&receiver);
/// let other = select.recv(&other_receiver);
/// let operation = select.select();
/// match operation.index() {
///     i if i == hello => assert_eq!(operation.recv(&receiver), Ok("hello")),
///     i if i == other => assert!(operation.recv(&other_receiver).is_err()),
///     _ => unreachable!(),
/// }
/// ```
pub struct Select<'a> {
    arms: Arms<'a>,
    next_index: usize,
    biased: bool,
}

mod bounds {
    //! What a select promises about threads.
    #![allow(unsafe_code)]

    use super::Select;

    // SAFETY: a select holds references to senders and receivers, of messages that need not be `Send`.
    // With the references alone it reserves and gives back, which moves messages at most into a
    // parcel, or from there into the channel, and never drops or shows one; completing an operation
    // takes a reference from elsewhere.
    unsafe impl Send for Select<'_> {}
    // SAFETY: as above; through a shared reference it can only be cloned.
    unsafe impl Sync for Select<'_> {}
}

impl<'a> Select<'a> {
    /// Without operations.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::channel::Select;
    ///
    /// assert!(Select::new().try_select().is_err());
    /// ```
    pub fn new() -> Self {
        Self { arms: Arms::new(), next_index: 0, biased: false }
    }

    /// Without operations, and one that prefers those that were added first.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::channel::{Select, unbounded};
    ///
    /// let (sender, receiver) = unbounded();
    /// sender.send(1).unwrap();
    /// let mut select = Select::new_biased();
    /// let first = select.recv(&receiver);
    /// select.send(&sender);
    /// assert_eq!(select.ready(), first);
    /// ```
    pub fn new_biased() -> Self {
        Self { arms: Arms::new(), next_index: 0, biased: true }
    }

    /// Adds a send, and returns its index: the first operation's is 0, the next one's 1.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::channel::{Select, unbounded};
    ///
    /// let (sender, receiver) = unbounded();
    /// let mut select = Select::new();
    /// let index = select.send(&sender);
    /// let operation = select.select();
    /// assert_eq!(operation.index(), index);
    /// assert_eq!(operation.send(&sender, 1), Ok(()));
    /// assert_eq!(receiver.recv(), Ok(1));
    /// ```
    pub fn send<T>(&mut self, s: &'a Sender<T>) -> usize {
        self.add(s)
    }

    /// Adds a receive, and returns its index, as [`send`](Self::send) does.
    ///
    /// # Examples
    /// As of [`Select`].
    pub fn recv<T>(&mut self, r: &'a Receiver<T>) -> usize {
        self.add(r)
    }

    fn add(&mut self, operation: &'a dyn Operation) -> usize {
        let index = self.next_index;
        self.arms.push(Arm::new(operation, index));
        self.next_index += 1;
        index
    }

    /// Takes an operation out, for instance because its channel is disconnected. The indices of the
    /// others stay.
    ///
    /// # Panics
    /// If there is no operation with this index.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::channel::{Select, unbounded};
    ///
    /// let (sender, receiver) = unbounded::<i32>();
    /// drop(sender);
    /// let mut select = Select::new();
    /// let index = select.recv(&receiver);
    /// assert!(select.try_select().unwrap().recv(&receiver).is_err());
    /// select.remove(index);
    /// assert!(select.try_select().is_err());
    /// ```
    pub fn remove(&mut self, index: usize) {
        assert!(index < self.next_index, "index out of bounds; {index} >= {}", self.next_index);
        assert!(self.arms.remove(index), "no operation with this index");
    }

    /// Chooses an operation that is ready.
    ///
    /// # Errors
    /// If none is.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::channel::{Select, unbounded};
    ///
    /// let (sender, receiver) = unbounded();
    /// let mut select = Select::new();
    /// select.recv(&receiver);
    /// assert!(select.try_select().is_err());
    /// sender.send(1).unwrap();
    /// assert_eq!(select.try_select().unwrap().recv(&receiver), Ok(1));
    /// ```
    pub fn try_select(&mut self) -> Result<SelectedOperation<'a>, TrySelectError> {
        self.select_until(Limit::Now).ok_or(TrySelectError)
    }

    /// Waits until an operation is ready, and chooses it.
    ///
    /// # Panics
    /// If there are no operations.
    ///
    /// # Examples
    /// As of [`Select`].
    pub fn select(&mut self) -> SelectedOperation<'a> {
        assert!(!self.arms.is_empty(), "{EMPTY}");
        self.select_until(Limit::Never).expect(FOR_EVER)
    }

    /// Waits up to `timeout` for an operation to be ready, and chooses it.
    ///
    /// # Errors
    /// If none was.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::channel::{Select, unbounded};
    /// use std::time::Duration;
    ///
    /// let (_sender, receiver) = unbounded::<i32>();
    /// let mut select = Select::new();
    /// select.recv(&receiver);
    /// assert!(select.select_timeout(Duration::from_millis(1)).is_err());
    /// ```
    pub fn select_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<SelectedOperation<'a>, SelectTimeoutError> {
        self.select_until(limit_after(timeout)).ok_or(SelectTimeoutError)
    }

    /// Waits until `deadline` for an operation to be ready, and chooses it.
    ///
    /// # Errors
    /// If none was.
    ///
    /// # Examples
    /// As of [`select_timeout`](Self::select_timeout).
    pub fn select_deadline(
        &mut self,
        deadline: Instant,
    ) -> Result<SelectedOperation<'a>, SelectTimeoutError> {
        self.select_until(Limit::At(deadline)).ok_or(SelectTimeoutError)
    }

    fn select_until(&mut self, limit: Limit) -> Option<SelectedOperation<'a>> {
        Some(Selected::choose(self.arms.as_mut_slice(), self.biased, limit)?.guard())
    }

    /// The index of an operation that is ready.
    ///
    /// # Errors
    /// If none is.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::channel::{Select, unbounded};
    ///
    /// let (sender, receiver) = unbounded();
    /// let mut select = Select::new();
    /// let index = select.recv(&receiver);
    /// assert!(select.try_ready().is_err());
    /// sender.send(1).unwrap();
    /// assert_eq!(select.try_ready(), Ok(index));
    /// assert_eq!(receiver.try_recv(), Ok(1));
    /// ```
    pub fn try_ready(&mut self) -> Result<usize, TryReadyError> {
        self.ready_until(Limit::Now).ok_or(TryReadyError)
    }

    /// Waits until an operation is ready, and returns its index.
    ///
    /// # Panics
    /// If there are no operations.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::channel::{Select, unbounded};
    ///
    /// let (sender, receiver) = unbounded();
    /// std::thread::spawn(move || sender.send(1));
    /// let mut select = Select::new();
    /// select.recv(&receiver);
    /// loop {
    ///     select.ready();
    ///     // Somebody else may have been faster.
    ///     match receiver.try_recv() {
    ///         Err(error) if error.is_empty() => continue,
    ///         result => break assert_eq!(result, Ok(1)),
    ///     }
    /// }
    /// ```
    pub fn ready(&mut self) -> usize {
        assert!(!self.arms.is_empty(), "{EMPTY}");
        self.ready_until(Limit::Never).expect(FOR_EVER)
    }

    /// Waits up to `timeout` for an operation to be ready, and returns its index.
    ///
    /// # Errors
    /// If none was.
    ///
    /// # Examples
    /// ```
    /// use bine_sync::channel::{Select, unbounded};
    /// use std::time::Duration;
    ///
    /// let (_sender, receiver) = unbounded::<i32>();
    /// let mut select = Select::new();
    /// select.recv(&receiver);
    /// assert!(select.ready_timeout(Duration::from_millis(1)).is_err());
    /// ```
    pub fn ready_timeout(&mut self, timeout: Duration) -> Result<usize, ReadyTimeoutError> {
        self.ready_until(limit_after(timeout)).ok_or(ReadyTimeoutError)
    }

    /// Waits until `deadline` for an operation to be ready, and returns its index.
    ///
    /// # Errors
    /// If none was.
    ///
    /// # Examples
    /// As of [`ready_timeout`](Self::ready_timeout).
    pub fn ready_deadline(&mut self, deadline: Instant) -> Result<usize, ReadyTimeoutError> {
        self.ready_until(Limit::At(deadline)).ok_or(ReadyTimeoutError)
    }

    fn ready_until(&mut self, limit: Limit) -> Option<usize> {
        let arms = self.arms.as_mut_slice();
        let at = wait::ready(arms, self.biased, limit)?;
        Some(arms[at].index)
    }
}

const EMPTY: &str = "no operations have been added to `Select`";
const FOR_EVER: &str = "it waits until there is one";

fn limit_after(timeout: Duration) -> Limit {
    super::deadline_after(timeout).map_or(Limit::Never, Limit::At)
}

impl Clone for Select<'_> {
    fn clone(&self) -> Self {
        Self { arms: self.arms.clone(), next_index: self.next_index, biased: self.biased }
    }
}

impl Default for Select<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Select { .. }")
    }
}

/// An operation that was chosen, as plain data: dropped, it does nothing. What the macros hold while
/// they find out which arm is meant, so that the arms may do with the channels what they like.
pub struct Selected<'a> {
    operation: &'a dyn Operation,
    index: usize,
    claim: Claim,
}

impl fmt::Debug for Selected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selected").field("index", &self.index).finish_non_exhaustive()
    }
}

impl<'a> Selected<'a> {
    /// Chooses an operation.
    pub fn choose(arms: &mut [Arm<'a>], biased: bool, limit: Limit) -> Option<Self> {
        let (at, claim) = wait::select(arms, biased, limit)?;
        let Arm { operation, index, .. } = arms[at];
        Some(Self { operation, index, claim })
    }

    /// Which one.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The operation, which has to be completed.
    pub fn guard(self) -> SelectedOperation<'a> {
        let Self { operation, index, claim } = self;
        SelectedOperation {
            operation,
            index,
            claim: Some(claim),
            strict: true,
            _thread: PhantomData,
        }
    }

    /// The operation, which gives back what it stands for if it is not completed: because the
    /// expression for the message returns instead.
    pub fn lenient_guard(self) -> SelectedOperation<'a> {
        let mut guard = self.guard();
        guard.strict = false;
        guard
    }
}

/// An operation that a [`Select`] has chosen. It has to be completed: with [`send`](Self::send) or
/// [`recv`](Self::recv), whichever it is, and with a reference to the very channel handle that was given
/// to the select.
///
/// Until then nobody else can have what it stands for, and a receiver that it was paired with in a
/// channel of capacity 0 waits for it. So complete it soon.
///
/// # Panics
/// If it is dropped without having been completed, unless the thread unwinds already. What it stood
/// for is given back then, before the panic.
///
/// It stays with the thread that has selected:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<bine_sync::channel::SelectedOperation<'static>>();
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::channel::SelectedOperation<'static>>();
/// ```
#[must_use]
pub struct SelectedOperation<'a> {
    operation: &'a dyn Operation,
    index: usize,
    /// Some until it is completed.
    claim: Option<Claim>,
    /// Whether dropping it is a mistake.
    strict: bool,
    _thread: PhantomData<*const ()>,
}

impl SelectedOperation<'_> {
    /// The index that [`Select::send`] or [`Select::recv`] has returned for it.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Completes a send.
    ///
    /// # Errors
    /// If all receivers are gone; the error holds the message.
    ///
    /// # Panics
    /// If `s` is not the sender that was given to the select.
    ///
    /// # Examples
    /// As of [`Select::send`].
    pub fn send<T>(mut self, s: &Sender<T>, msg: T) -> Result<(), SendError<T>> {
        assert!(self.is_of(s), "passed a sender that wasn't selected");
        let claim = self.claim.take().expect(ONCE);
        s.complete(claim, msg)
    }

    /// Completes a receive.
    ///
    /// # Errors
    /// If the channel is empty and all senders are gone.
    ///
    /// # Panics
    /// If `r` is not the receiver that was given to the select.
    ///
    /// # Examples
    /// As of [`Select`].
    pub fn recv<T>(mut self, r: &Receiver<T>) -> Result<T, RecvError> {
        assert!(self.is_of(r), "passed a receiver that wasn't selected");
        let claim = self.claim.take().expect(ONCE);
        r.complete(claim)
    }

    /// Whether `handle`, a sender or a receiver, is the one that this operation is of. Handles have a
    /// size and are borrowed, so that no two are at the same address.
    fn is_of<H>(&self, handle: &H) -> bool {
        ptr::addr_eq(self.operation, handle)
    }
}

const ONCE: &str = "an operation is completed once";

impl fmt::Debug for SelectedOperation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("SelectedOperation { .. }")
    }
}

impl Drop for SelectedOperation<'_> {
    fn drop(&mut self) {
        let Some(claim) = self.claim.take() else { return };
        self.operation.give_back(claim);
        if self.strict && !std::thread::panicking() {
            panic!("dropped `SelectedOperation` without completing the operation");
        }
    }
}

/// What the macros use.
#[doc(hidden)]
#[allow(missing_docs, clippy::must_use_candidate)]
pub mod macro_support {
    use std::time::Duration;

    pub use super::{Arm, Limit, Selected};
    use super::{FOR_EVER, Receiver, Sender, limit_after};

    pub fn send<T>(sender: &Sender<T>, index: usize) -> Arm<'_> {
        Arm::new(sender, index)
    }

    pub fn recv<T>(receiver: &Receiver<T>, index: usize) -> Arm<'_> {
        Arm::new(receiver, index)
    }

    pub fn timeout(timeout: Duration) -> Limit {
        limit_after(timeout)
    }

    pub fn wait<'a>(arms: &mut [Arm<'a>], biased: bool) -> Selected<'a> {
        choose(arms, biased, Limit::Never).expect(FOR_EVER)
    }

    pub fn choose<'a>(arms: &mut [Arm<'a>], biased: bool, limit: Limit) -> Option<Selected<'a>> {
        Selected::choose(arms, biased, limit)
    }

    pub fn no_such_arm() -> ! {
        unreachable!("the index is that of an arm")
    }
}
