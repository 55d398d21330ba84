//! The channel without room: a sender and a receiver meet.
//!
//! Whoever comes first waits in a list of its side, with the message in its own waiter, or with
//! room for one there. Whoever comes second finds it, moves the message under the channel's lock,
//! and completes the waiter. At most one of the two lists has waiters at a time.
//!
//! Only moves happen under the lock, so that no code of a user runs there.
#![allow(unsafe_code)]

use std::mem;
use std::time::Instant;

use bine_runtime::primitive::Mutex;

use super::error::{RecvTimeoutError, SendTimeoutError, TryRecvError, TrySendError};
use crate::parking::{self, WakeBatch};
use crate::waiter::{List, Waiter};

/// Token of a waiter whose message has been taken, or brought.
const MET: u32 = 1;
/// Token of a waiter that nobody will meet any more.
const DISCONNECTED: u32 = 2;

/// A channel of capacity 0.
pub(super) struct Rendezvous<T> {
    meeting: Mutex<Meeting<T>>,
}

/// Who waits: the senders with `Some` message, the receivers with `None`.
struct Meeting<T> {
    senders: List<Option<T>>,
    receivers: List<Option<T>>,
    disconnected: bool,
}

/// The list of one side.
type Side<T> = fn(&mut Meeting<T>) -> &mut List<Option<T>>;

impl<T> Rendezvous<T> {
    pub(super) fn new() -> Self {
        let meeting = Meeting { senders: List::new(), receivers: List::new(), disconnected: false };
        Self { meeting: Mutex::new(meeting) }
    }

    /// Hands `message` to a receiver that waits.
    pub(super) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let unparker = {
            let mut meeting = self.meeting.lock();
            if meeting.disconnected {
                drop(meeting);
                return Err(TrySendError::Disconnected(message));
            }
            // SAFETY: the list's lock is held until the block ends.
            let Some(receiver) = (unsafe { meeting.receivers.pop() }) else {
                drop(meeting);
                return Err(TrySendError::Full(message));
            };
            // SAFETY: just taken out, with the lock held. The `None` that is overwritten needs no
            // dropping.
            unsafe {
                Waiter::payload(receiver, |packet| *packet = Some(message));
                Waiter::complete(receiver, MET)
            }
        };
        unparker.unpark();
        Ok(())
    }

    /// Takes the message of a sender that waits.
    pub(super) fn try_recv(&self) -> Result<T, TryRecvError> {
        let (message, unparker) = {
            let mut meeting = self.meeting.lock();
            if meeting.disconnected {
                return Err(TryRecvError::Disconnected);
            }
            // SAFETY: the list's lock is held until the block ends.
            let Some(sender) = (unsafe { meeting.senders.pop() }) else {
                return Err(TryRecvError::Empty);
            };
            // SAFETY: just taken out, with the lock held.
            unsafe {
                let message = Waiter::payload(sender, Option::take);
                (message, Waiter::complete(sender, MET))
            }
        };
        unparker.unpark();
        Ok(message.expect("a sender waits with its message"))
    }

    /// Hands `message` to a receiver, and waits for one until `deadline`.
    pub(super) fn send(
        &self,
        mut message: T,
        deadline: Option<Instant>,
    ) -> Result<(), SendTimeoutError<T>> {
        loop {
            message = match self.try_send(message) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(message)) => {
                    return Err(SendTimeoutError::Disconnected(message));
                }
                Err(TrySendError::Full(message)) => message,
            };
            let alone = |meeting: &Meeting<T>| meeting.receivers.is_empty();
            match self.wait(Some(message), deadline, |meeting| &mut meeting.senders, alone) {
                Met::Yes(_) => return Ok(()),
                Met::Retry(packet) => message = packet.expect(KEPT),
                Met::Disconnected(packet) => {
                    return Err(SendTimeoutError::Disconnected(packet.expect(KEPT)));
                }
                Met::TimedOut(packet) => {
                    return Err(SendTimeoutError::Timeout(packet.expect(KEPT)));
                }
            }
        }
    }

    /// Takes the message of a sender, and waits for one until `deadline`.
    pub(super) fn recv(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        loop {
            match self.try_recv() {
                Ok(message) => return Ok(message),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) => {}
            }
            let alone = |meeting: &Meeting<T>| meeting.senders.is_empty();
            match self.wait(None, deadline, |meeting| &mut meeting.receivers, alone) {
                Met::Yes(packet) => return Ok(packet.expect("a met receiver has a message")),
                Met::Retry(_) => {}
                Met::Disconnected(_) => return Err(RecvTimeoutError::Disconnected),
                Met::TimedOut(_) => return Err(RecvTimeoutError::Timeout),
            }
        }
    }

    /// Waits in the list `side` with `packet`, if `alone` is still true.
    fn wait(
        &self,
        packet: Option<T>,
        deadline: Option<Instant>,
        side: Side<T>,
        alone: impl FnOnce(&Meeting<T>) -> bool,
    ) -> Met<T> {
        let waiter = Waiter::new(packet);
        let mut meeting = self.meeting.lock();
        if meeting.disconnected || !alone(&meeting) {
            drop(meeting);
            return Met::Retry(waiter.into_payload());
        }
        // SAFETY: the waiter is new, and `stay` keeps its invariants: it takes it out, or sees its
        // token, before the waiter goes.
        unsafe { side(&mut meeting).push(&raw const waiter, false) };
        let stay = Stay { channel: self, waiter: &waiter, side };
        drop(meeting);
        // Not `sleep`: a message that came while this thread was about to unwind has come.
        let token = waiter.sleep_or_rest(deadline).or_else(|| stay.leave());
        mem::forget(stay);
        if token.is_none() {
            parking::interrupt();
        }
        match (token, waiter.into_payload()) {
            (Some(MET), packet) => Met::Yes(packet),
            (Some(_), packet) => Met::Disconnected(packet),
            (None, packet) => Met::TimedOut(packet),
        }
    }

    /// Called when the last thread of either side goes.
    pub(super) fn disconnect(&self) {
        let mut batch = WakeBatch::new();
        let mut meeting = self.meeting.lock();
        meeting.disconnected = true;
        for side in
            [|meeting| &mut meeting.senders, |meeting| &mut meeting.receivers] as [Side<T>; 2]
        {
            // SAFETY: the lists' lock is held to the end of the loop.
            while let Some(waiter) = unsafe { side(&mut meeting).pop() } {
                // SAFETY: just taken out, with the lock held.
                batch.push(unsafe { Waiter::complete(waiter, DISCONNECTED) });
            }
        }
        drop(meeting);
        batch.flush();
    }
}

/// Why a packet that was not handed over still holds its message.
const KEPT: &str = "nobody has taken the message";

/// How a wait ended, and what the waiter holds then.
#[must_use]
enum Met<T> {
    /// With the other side.
    Yes(Option<T>),
    /// The other side came before the waiter was in its list.
    Retry(Option<T>),
    Disconnected(Option<T>),
    TimedOut(Option<T>),
}

/// What keeps a waiter's invariants while it is in a list.
struct Stay<'a, T> {
    channel: &'a Rendezvous<T>,
    waiter: &'a Waiter<Option<T>>,
    side: Side<T>,
}

impl<T> Stay<'_, T> {
    /// Takes the waiter out, or returns its token if somebody else has done so.
    fn leave(&self) -> Option<u32> {
        let mut meeting = self.channel.meeting.lock();
        let token = self.waiter.token();
        if token.is_none() {
            // SAFETY: the list's lock is held, and since the waiter's token is unset it is still
            // there (*linked*).
            unsafe { (self.side)(&mut meeting).unlink(self.waiter) };
        }
        token
    }
}

impl<T> Drop for Stay<'_, T> {
    /// For unwindings that nobody expects: `wait` is interrupted only after it has left.
    fn drop(&mut self) {
        self.leave();
    }
}
