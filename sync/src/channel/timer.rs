//! Receivers without senders: [`after`], [`at`], [`tick`] and [`never()`].
//!
//! Nothing runs on behalf of them. A message is there as soon as its time has come, and whoever looks
//! then, or has slept until then, takes it.

use std::time::{Duration, Instant};

use bine_runtime::primitive::Mutex;
use bine_runtime::primitive::atomic::{AtomicBool, Ordering};

use super::error::{RecvTimeoutError, TryRecvError};
use super::{Receiver, Source};
use crate::parking;
use crate::wait_list::WaitList;

/// A channel that delivers one message, after `duration`: the [`Instant`] at which it was due.
///
/// The channel has room for one message and is never disconnected. Clones of the receiver share the
/// message: one of them gets it.
///
/// A `duration` beyond what the clock can show is never over.
///
/// # Fairness, poisoning, cancellation, cost
/// Of those that wait, any may get the message. Nothing can be poisoned, and a thread that is cancelled
/// while it waits takes nothing. There is no thread or timer behind it: it is one allocation, and to try
/// it a look at the clock and one exchange. Who waits for it sleeps, and all who sleep wake up for the one
/// message.
///
/// # Where it comes from
/// crossbeam's `flavors/at`.
///
/// # Examples
/// ```
/// use bine_sync::channel::{after, select, unbounded};
/// use std::time::Duration;
///
/// let (_sender, receiver) = unbounded::<i32>();
/// let timeout = Duration::from_millis(10);
/// select! {
///     recv(receiver) -> message => panic!("nobody sends {message:?}"),
///     recv(after(timeout)) -> _ => println!("timed out"),
/// }
/// ```
///
/// When the message was due, not when it was received:
/// ```
/// use bine_sync::channel::after;
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// let due = after(Duration::from_millis(10)).recv().unwrap();
/// assert!(due >= start + Duration::from_millis(10) && due <= Instant::now());
/// ```
pub fn after(duration: Duration) -> Receiver<Instant> {
    match parking::now().checked_add(duration) {
        Some(when) => at(when),
        None => never(),
    }
}

/// A channel that delivers one message, at `when`: that instant.
///
/// Otherwise as [`after`]. An instant that has passed is delivered at once.
///
/// # Examples
/// ```
/// use bine_sync::channel::at;
/// use std::time::{Duration, Instant};
///
/// let when = Instant::now() + Duration::from_millis(10);
/// assert_eq!(at(when).recv(), Ok(when));
/// assert!(Instant::now() >= when);
/// ```
pub fn at(when: Instant) -> Receiver<Instant> {
    Receiver::timed(Timer::new(Kind::Once { when, taken: AtomicBool::new(false) }, |due| due))
}

/// A channel that delivers a message each `period`: the [`Instant`] at which it was due.
///
/// The channel has room for one message and is never disconnected. Clones of the receiver share the
/// messages. Messages that nobody takes do not pile up: one that is taken late delays the next one,
/// which comes a period after it was taken.
///
/// # Fairness, poisoning, cancellation, cost
/// Each that waits takes the next tick there is, in the order in which they came, and sleeps until it is
/// due. Nothing can be poisoned. A thread that is cancelled while it sleeps gives its tick back, if
/// nobody has taken the one after it. There is no thread or timer behind it: it is one allocation, and to
/// try it a lock and a look at the clock.
///
/// # Where it comes from
/// crossbeam's `flavors/tick`, with a lock in place of an atomic instant.
///
/// # Examples
/// ```
/// use bine_sync::channel::tick;
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// let period = Duration::from_millis(5);
/// let ticks = tick(period);
/// for n in 1..=3 {
///     ticks.recv().unwrap();
///     assert!(start.elapsed() >= n * period);
/// }
/// ```
pub fn tick(period: Duration) -> Receiver<Instant> {
    let next = parking::now().checked_add(period);
    Receiver::timed(Timer::new(Kind::Periodic { next: Mutex::new(next), period }, |due| due))
}

/// A channel that never delivers a message, and is never disconnected.
///
/// It is no allocation, and costs nothing. Whoever waits for it waits until their deadline, or until they
/// are cancelled.
///
/// # Examples
/// An operation of a `select!` that is there only sometimes:
/// ```
/// use bine_sync::channel::{Receiver, after, never, select, unbounded};
/// use std::time::Duration;
///
/// fn wait(receiver: &Receiver<i32>, timeout: Option<Duration>) -> Option<i32> {
///     let timeout = timeout.map_or(never(), after);
///     select! {
///         recv(receiver) -> message => message.ok(),
///         recv(timeout) -> _ => None,
///     }
/// }
///
/// let (sender, receiver) = unbounded();
/// sender.send(1).unwrap();
/// assert_eq!(wait(&receiver, None), Some(1));
/// assert_eq!(wait(&receiver, Some(Duration::from_millis(1))), None);
/// ```
pub const fn never<T>() -> Receiver<T> {
    Receiver { source: Source::Never }
}

/// A clock that delivers messages.
pub(super) struct Timer<T> {
    kind: Kind,
    /// Those who wait for a message to be given back, or for one that another may take before them.
    receivers: WaitList,
    /// What to deliver for the instant at which it was due. A `T` is an `Instant`, wherever a timer is
    /// made; this says so to the compiler.
    message: fn(Instant) -> T,
}

enum Kind {
    Once {
        when: Instant,
        taken: AtomicBool,
    },
    Periodic {
        /// None if the clock cannot show it.
        next: Mutex<Option<Instant>>,
        period: Duration,
    },
}

impl<T> Timer<T> {
    fn new(kind: Kind, message: fn(Instant) -> T) -> Self {
        Self { kind, receivers: WaitList::new(), message }
    }

    /// Takes a message that is due.
    pub(super) fn try_recv(&self) -> Result<T, TryRecvError> {
        let due = match &self.kind {
            // SeqCst: N4 of the wait list; pairs with `give_back`. Nothing else is ordered by it.
            Kind::Once { when, taken } => (!taken.load(Ordering::SeqCst)
                && has_come(*when)
                && !taken.swap(true, Ordering::SeqCst))
            .then_some(*when),
            Kind::Periodic { next, period } => {
                let mut next = next.lock();
                let due = next.filter(|due| has_come(*due));
                if due.is_some() {
                    *next = parking::now().checked_add(*period);
                }
                due
            }
        };
        due.map(self.message).ok_or(TryRecvError::Empty)
    }

    /// Takes a message, and waits for it until `deadline`.
    pub(super) fn recv(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        match &self.kind {
            Kind::Once { .. } => self.recv_once(deadline),
            Kind::Periodic { next, period } => {
                let due = wait_for_tick(next, *period, deadline)?;
                Ok((self.message)(due))
            }
        }
    }

    fn recv_once(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        loop {
            let alarm = [deadline, self.deadline()].into_iter().flatten().min();
            let attempt = || self.try_recv().ok();
            let ready = || usize::from(self.is_due());
            let message = attempt().or_else(|| self.receivers.wait_for(alarm, attempt, ready));
            if let Some(message) = message {
                return Ok(message);
            }
            if deadline.is_some_and(has_come) {
                return self.try_recv().map_err(|_| RecvTimeoutError::Timeout);
            }
        }
    }

    /// Whether there is a message.
    pub(super) fn is_due(&self) -> bool {
        self.deadline().is_some_and(has_come)
    }

    /// When there will be a message, or since when there has been one.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.kind {
            // SeqCst: N2 of the wait list; pairs with `give_back`.
            Kind::Once { when, taken } => (!taken.load(Ordering::SeqCst)).then_some(*when),
            Kind::Periodic { next, .. } => *next.lock(),
        }
    }

    /// Gives back the message that was taken last. Of a periodic timer it is lost: the next one comes.
    pub(super) fn give_back(&self) {
        if let Kind::Once { taken, .. } = &self.kind {
            // SeqCst: M1 of the wait list. A swap, which costs what a store does: loom knows no order
            // between a store and a swap that it was not ordered with by something else.
            taken.swap(false, Ordering::SeqCst);
            self.receivers.notify_one(|| 1);
        }
    }

    pub(super) fn receivers(&self) -> &WaitList {
        &self.receivers
    }

    /// Notifies the next who waits, if there is a message.
    pub(super) fn pass_on(&self) {
        if self.is_due() {
            self.receivers.notify_one(|| 1);
        }
    }
}

/// Takes the next tick before it comes, so that those who wait get one each, and sleeps until it has
/// come.
fn wait_for_tick(
    next: &Mutex<Option<Instant>>,
    period: Duration,
    deadline: Option<Instant>,
) -> Result<Instant, RecvTimeoutError> {
    let mut guard = next.lock();
    let due = match (*guard, deadline) {
        (Some(due), None) => due,
        (Some(due), Some(deadline)) if due <= deadline => due,
        (_, deadline) => {
            drop(guard);
            sleep_until(deadline);
            return Err(RecvTimeoutError::Timeout);
        }
    };
    let following = due.max(parking::now()).checked_add(period);
    *guard = following;
    drop(guard);
    let untaken = Untaken { next, due, following };
    sleep_until(Some(due));
    std::mem::forget(untaken);
    Ok(due)
}

/// Gives a tick back for which a thread sleeps, if it unwinds and nobody has taken the following one.
struct Untaken<'a> {
    next: &'a Mutex<Option<Instant>>,
    due: Instant,
    following: Option<Instant>,
}

impl Drop for Untaken<'_> {
    fn drop(&mut self) {
        let mut next = self.next.lock();
        if *next == self.following {
            *next = Some(self.due);
        }
    }
}

fn has_come(instant: Instant) -> bool {
    parking::now() >= instant
}

/// Sleeps until `deadline`, or until the thread is cancelled.
pub(super) fn sleep_until(deadline: Option<Instant>) {
    loop {
        match deadline {
            None => parking::park(),
            Some(deadline) if parking::has_passed(deadline) => return,
            Some(deadline) => parking::park_until(deadline),
        }
    }
}
