//! The channel without room: a sender and a receiver meet.
//!
//! Whoever comes first waits in a list of its side, in a *seat*. Whoever comes second finds it, moves
//! the message under the channel's lock, and completes the waiter.
//!
//! Only moves happen under the lock, so that no code of a user runs there.
//!
//! # Selects
//!
//! A select waits in several lists at once, so whoever finds its seat first has to claim it (see
//! [`Selection`]). A sender that selects has no message yet when it is met. So the receiver of the
//! two waits, in a seat in no list, for what the sender will bring once its select has returned:
//!
//! | receiver | sender | what happens |
//! |---|---|---|
//! | waits | sends | the sender puts the message into the seat |
//! | waits | selects | the sender's claim is the seat, which it has taken out of the list |
//! | receives, or selects | waits | the receiver takes the message out of the seat |
//! | receives, or selects | waits in a select | the receiver claims it, leaves it a seat of its own, and waits |
//!
//! A receiver that was claimed can only wait: for [`MET`] with a message, or for [`PARTED`] if the
//! sender has thought better of it, by unwinding.
//!
//! # Watchers
//!
//! A select that only waits for a channel to become ready has a seat that nobody meets. It is
//! notified when somebody sits down on the other side.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::mem;
use std::ptr;
use std::time::Instant;

use bine_runtime::primitive::{Mutex, MutexGuard};

use super::error::{RecvTimeoutError, SendTimeoutError, TryRecvError, TrySendError};
use super::select::{Claim, Parcel, Selection};
use crate::parking::{self, Roused, WakeBatch};
use crate::waiter::{List, Waiter};

/// Token of a waiter whose message has been taken, or brought; of a select that a receiver waits for.
const MET: u32 = 1;
/// Token of a waiter that nobody will meet any more, and of a watcher: it is to look again.
const NOTIFIED: u32 = 2;
/// Token of a receiver that was promised a message which will not come.
const PARTED: u32 = 3;
/// Token of a receiver that a select has claimed: one of the others will follow.
const PROMISED: u32 = 4;

/// What a waiter has with it.
pub(crate) struct Seat {
    /// The `Option<T>` in the frame of the thread that waits, `T` being the channel's type of
    /// messages: `Some` if it sends. Null for a select.
    packet: *mut (),
    /// The select that waits, and for which of its operations; or null.
    selection: *const Selection,
    operation: usize,
    /// It only watches.
    watches: bool,
    /// What a select was brought.
    brought: Option<Claim>,
}

impl Seat {
    /// For a thread that waits for this channel alone.
    fn plain<T>(packet: &mut Option<T>) -> Self {
        Self {
            packet: ptr::from_mut(packet).cast(),
            selection: ptr::null(),
            operation: 0,
            watches: false,
            brought: None,
        }
    }

    /// For operation number `operation` of a select, which outlives the seat.
    pub(super) fn of(selection: &Selection, operation: usize, watches: bool) -> Self {
        Self { packet: ptr::null_mut(), selection, operation, watches, brought: None }
    }
}

/// A channel of capacity 0.
pub(super) struct Rendezvous<T> {
    meeting: Mutex<Meeting<T>>,
}

/// Who waits.
struct Meeting<T> {
    senders: List<Seat>,
    receivers: List<Seat>,
    /// How many watchers there are on either side.
    watchers: usize,
    /// How many have ever sat down.
    sat: usize,
    /// Messages that were handed to selects which gave them back.
    returned: VecDeque<T>,
    disconnected: bool,
}

// SAFETY: the pointers in the lists are to seats that are reached only under the lock, or by the one
// that was given them; what travels with them is messages.
unsafe impl<T: Send> Send for Meeting<T> {}

/// The two sides.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Senders,
    Receivers,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Senders => Self::Receivers,
            Self::Receivers => Self::Senders,
        }
    }
}

impl<T> Meeting<T> {
    fn list(&mut self, side: Side) -> &mut List<Seat> {
        match side {
            Side::Senders => &mut self.senders,
            Side::Receivers => &mut self.receivers,
        }
    }

    /// Takes the first out who waits on `side` and can be met; a select is claimed with that.
    fn meet(&mut self, side: Side) -> Option<*const Waiter<Seat>> {
        let list = self.list(side);
        let mut node = list.front();
        // SAFETY: `self` is what the lists' lock guards. The select of a seat that is in a list is
        // alive, since it takes the seat out before it goes.
        unsafe {
            while !node.is_null() {
                let met = Waiter::payload(node, |seat| {
                    seat.selection.is_null()
                        || (!seat.watches && (*seat.selection).claim(seat.operation))
                });
                if met {
                    list.unlink(node);
                    return Some(node);
                }
                node = list.after(node);
            }
        }
        None
    }

    /// Whether somebody waits on `side` whom a thread other than that of `me` can meet.
    fn has_company(&mut self, side: Side, me: *const Selection) -> bool {
        let list = self.list(side);
        let mut node = list.front();
        // SAFETY: as in `meet`.
        unsafe {
            while !node.is_null() {
                let company = Waiter::payload(node, |seat| {
                    seat.selection.is_null()
                        || (!seat.watches
                            && !ptr::eq(seat.selection, me)
                            && (*seat.selection).is_open())
                });
                if company {
                    return true;
                }
                node = list.after(node);
            }
        }
        false
    }

    /// Has `waiter` sit down on `side`. Returns those to be woken who watch for that.
    ///
    /// # Safety
    /// - As of [`List::push`]; and `watches` says of the waiter what its seat says.
    #[must_use]
    unsafe fn sit(
        &mut self,
        side: Side,
        waiter: *const Waiter<Seat>,
        watches: bool,
    ) -> Option<WakeBatch> {
        // SAFETY: the caller's promise; `self` is what the lists' lock guards.
        unsafe { self.list(side).push(waiter, false) };
        self.sat = self.sat.wrapping_add(1);
        if watches {
            self.watchers += 1;
        } else if self.watchers > 0 {
            let mut batch = WakeBatch::new();
            self.tell_watchers(side.other(), &mut batch);
            return Some(batch);
        }
        None
    }

    /// Notifies those who watch on `side`.
    fn tell_watchers(&mut self, side: Side, batch: &mut WakeBatch) {
        let mut told = 0;
        let list = self.list(side);
        let mut node = list.front();
        // SAFETY: `self` is what the lists' lock guards; what is completed was just taken out.
        unsafe {
            while !node.is_null() {
                let next = list.after(node);
                if Waiter::payload(node, |seat| seat.watches) {
                    list.unlink(node);
                    batch.push(Waiter::complete_later(node, NOTIFIED));
                    told += 1;
                }
                node = next;
            }
        }
        self.watchers -= told;
    }
}

/// Puts `message` into the seat of a receiver and ends its wait. The caller lets it go.
///
/// # Safety
/// - `receiver` is the seat of a receiver of `T`s, of which the caller has taken it out and which it
///   has not completed.
unsafe fn bring<T>(receiver: *const Waiter<Seat>, message: T) -> Roused {
    // SAFETY: the caller's promise. A packet is an empty `Option<T>`, so that nothing is overwritten
    // that needs dropping; it is alive until the token is set, and left alone by its owner.
    unsafe {
        Waiter::payload(receiver, |seat| match seat.packet.is_null() {
            true => seat.brought = Some(Claim::Parcel(Parcel::new(message))),
            false => seat.packet.cast::<Option<T>>().write(Some(message)),
        });
        Waiter::complete(receiver, MET)
    }
}

impl<T> Rendezvous<T> {
    pub(super) fn new() -> Self {
        let meeting = Meeting {
            senders: List::new(),
            receivers: List::new(),
            watchers: 0,
            sat: 0,
            returned: VecDeque::new(),
            disconnected: false,
        };
        Self { meeting: Mutex::new(meeting) }
    }

    /// Hands `message` to a receiver that waits.
    pub(super) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut meeting = self.meeting.lock();
        if meeting.disconnected {
            drop(meeting);
            return Err(TrySendError::Disconnected(message));
        }
        let Some(receiver) = meeting.meet(Side::Receivers) else {
            drop(meeting);
            return Err(TrySendError::Full(message));
        };
        // SAFETY: just taken out.
        let receiver = unsafe { bring(receiver, message) };
        drop(meeting);
        receiver.go();
        Ok(())
    }

    /// Takes the message of a sender that waits. If that is a select, waits for what it will bring.
    pub(super) fn try_recv(&self) -> Result<T, TryRecvError> {
        loop {
            let mut meeting = self.meeting.lock();
            if let Some(message) = meeting.returned.pop_front() {
                return Ok(message);
            }
            if meeting.disconnected {
                return Err(TryRecvError::Disconnected);
            }
            let Some(sender) = meeting.meet(Side::Senders) else {
                return Err(TryRecvError::Empty);
            };
            if let Some(message) = self.take(meeting, sender) {
                return Ok(message);
            }
        }
    }

    /// Takes the message of `sender`, which was just taken out. None if it was a select and has not
    /// brought one.
    fn take(&self, meeting: MutexGuard<'_, Meeting<T>>, sender: *const Waiter<Seat>) -> Option<T> {
        // SAFETY: just taken out. The packet of a sender is an `Option<T>` in the frame of a thread
        // that leaves it alone until its token is set.
        unsafe {
            let packet = Waiter::payload(sender, |seat| seat.packet.cast::<Option<T>>());
            if !packet.is_null() {
                let message = (*packet).take();
                let sender = Waiter::complete(sender, MET);
                drop(meeting);
                sender.go();
                return Some(message.expect("a sender waits with its message"));
            }
        }
        let mut packet = None;
        let seat = Waiter::new(Seat::plain(&mut packet));
        // SAFETY: `sender` was just taken out. This thread leaves its own seat alone, and stays, until
        // the token is set.
        let sender = unsafe {
            Waiter::payload(sender, |theirs| {
                theirs.brought = Some(Claim::Receiver(&raw const seat))
            });
            Waiter::complete(sender, MET)
        };
        drop(meeting);
        sender.go();
        seat.sleep_past(PROMISED);
        drop(seat);
        packet
    }

    /// Hands `message` to a receiver, and waits for one until `deadline`.
    pub(super) fn send(
        &self,
        message: T,
        deadline: Option<Instant>,
    ) -> Result<(), SendTimeoutError<T>> {
        let message = match self.try_send(message) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Disconnected(message)) => {
                return Err(SendTimeoutError::Disconnected(message));
            }
            Err(TrySendError::Full(message)) => message,
        };
        let mut packet = Some(message);
        loop {
            match self.wait(Side::Senders, &mut packet, deadline) {
                Met::Waited(MET) => return Ok(()),
                Met::Waited(_) => {}
                Met::TimedOut => return Err(SendTimeoutError::Timeout(packet.expect(KEPT))),
                Met::Disconnected => {
                    return Err(SendTimeoutError::Disconnected(packet.expect(KEPT)));
                }
                Met::Company(receiver, meeting) => {
                    // SAFETY: just taken out.
                    let receiver = unsafe { bring(receiver, packet.take().expect(KEPT)) };
                    drop(meeting);
                    receiver.go();
                    return Ok(());
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
            let mut packet = None;
            match self.wait(Side::Receivers, &mut packet, deadline) {
                Met::Waited(MET) => return Ok(packet.expect("a met receiver has a message")),
                // Parted, or disconnected: with a last message, perhaps, that was given back.
                Met::Waited(_) | Met::Disconnected => {}
                Met::TimedOut => return Err(RecvTimeoutError::Timeout),
                Met::Company(sender, meeting) => {
                    if let Some(message) = self.take(meeting, sender) {
                        return Ok(message);
                    }
                }
            }
        }
    }

    /// Waits on `side` with `packet`, unless there is company on the other.
    fn wait(&self, side: Side, packet: &mut Option<T>, deadline: Option<Instant>) -> Met<'_, T> {
        let waiter = Waiter::new(Seat::plain(packet));
        let mut meeting = self.meeting.lock();
        if meeting.disconnected || (side == Side::Receivers && !meeting.returned.is_empty()) {
            return Met::Disconnected;
        }
        if let Some(other) = meeting.meet(side.other()) {
            return Met::Company(other, meeting);
        }
        // SAFETY: the waiter is new, and `stay` keeps its invariants: it takes it out, or sees its
        // token, before the waiter goes.
        let watchers = unsafe { meeting.sit(side, &raw const waiter, false) };
        let stay = Stay { channel: self, waiter: &waiter, side };
        drop(meeting);
        flush(watchers);
        // Not `sleep`: a message that came while this thread was about to unwind has come.
        let token = waiter.sleep_or_rest(deadline).or_else(|| stay.leave());
        mem::forget(stay);
        match token {
            Some(PROMISED) => Met::Waited(waiter.sleep_past(PROMISED)),
            Some(token) => Met::Waited(token),
            None => {
                parking::interrupt();
                Met::TimedOut
            }
        }
    }

    /// Called when the last thread of either side goes.
    pub(super) fn disconnect(&self) {
        let mut batch = WakeBatch::new();
        let mut meeting = self.meeting.lock();
        meeting.disconnected = true;
        meeting.watchers = 0;
        for side in [Side::Senders, Side::Receivers] {
            // SAFETY: the lists' lock is held to the end of the loop.
            while let Some(waiter) = unsafe { meeting.list(side).pop() } {
                // SAFETY: just taken out, with the lock held.
                batch.push(unsafe { Waiter::complete_later(waiter, NOTIFIED) });
            }
        }
        drop(meeting);
        batch.flush();
    }

    /// What a select that sends can have at once.
    pub(super) fn claim_receiver(&self) -> Option<Claim> {
        let mut meeting = self.meeting.lock();
        if meeting.disconnected {
            return Some(Claim::Disconnected);
        }
        let receiver = meeting.meet(Side::Receivers)?;
        // SAFETY: just taken out, with the lock held; whoever has the claim completes it.
        unsafe { Waiter::promise(receiver, PROMISED) };
        Some(Claim::Receiver(receiver))
    }

    /// Whether a select on `side`, that is to say `me`, can have something at once.
    pub(super) fn is_ready(&self, side: Side, me: *const Selection) -> bool {
        let mut meeting = self.meeting.lock();
        meeting.disconnected
            || (side == Side::Receivers && !meeting.returned.is_empty())
            || meeting.has_company(side.other(), me)
    }

    /// A number that changes whenever somebody sits down.
    pub(super) fn version(&self) -> usize {
        self.meeting.lock().sat
    }

    /// Has the seat of a select sit down on `side`.
    ///
    /// # Safety
    /// - `waiter` is in no list and unset. It is neither moved nor freed, nor its select, before it
    ///   has [left](Self::leave).
    pub(super) unsafe fn enter(&self, side: Side, waiter: *const Waiter<Seat>, watches: bool) {
        // SAFETY: the caller's promise.
        let watchers = unsafe { self.meeting.lock().sit(side, waiter, watches) };
        flush(watchers);
    }

    /// Takes a waiter out, or returns its token if somebody else has done so. The seat of a select
    /// that was claimed must not leave: it is to wait for its token.
    pub(super) fn leave(&self, side: Side, waiter: &Waiter<Seat>) -> Option<u32> {
        let mut meeting = self.meeting.lock();
        let token = waiter.token();
        if token.is_none() {
            // SAFETY: the lists' lock is held, and since the waiter's token is unset it is still
            // there (*linked*).
            let watches = unsafe {
                meeting.list(side).unlink(waiter);
                Waiter::payload(waiter, |seat| seat.watches)
            };
            meeting.watchers -= usize::from(watches);
        }
        token
    }

    /// Keeps a message for the next receiver that was handed to a select which did not want it.
    pub(super) fn give_back(&self, message: T) {
        let mut meeting = self.meeting.lock();
        if let Some(receiver) = meeting.meet(Side::Receivers) {
            // SAFETY: just taken out.
            let receiver = unsafe { bring(receiver, message) };
            drop(meeting);
            return receiver.go();
        }
        let mut batch = WakeBatch::new();
        meeting.returned.push_back(message);
        if meeting.watchers > 0 {
            meeting.tell_watchers(Side::Receivers, &mut batch);
        }
        drop(meeting);
        batch.flush();
    }
}

fn flush(batch: Option<WakeBatch>) {
    if let Some(mut batch) = batch {
        batch.flush();
    }
}

/// Brings a receiver that was claimed the message that it waits for.
///
/// # Safety
/// - `receiver` is from a [`Claim::Receiver`] of a channel of `T`s, which is used up.
pub(super) unsafe fn fulfil<T>(receiver: *const Waiter<Seat>, message: T) {
    // SAFETY: the caller's promise.
    unsafe { bring(receiver, message) }.go();
}

/// Tells a receiver that was claimed that no message will come.
///
/// # Safety
/// - `receiver` is from a [`Claim::Receiver`], which is used up.
pub(super) unsafe fn part(receiver: *const Waiter<Seat>) {
    // SAFETY: the caller's promise.
    unsafe { Waiter::complete(receiver, PARTED) }.go();
}

/// Waits for what the one brings that has claimed the select of `seat`; none if it parts.
///
/// # Safety
/// - The seat's select was claimed for this seat.
pub(super) unsafe fn await_claimer(seat: &Waiter<Seat>) -> Option<Claim> {
    seat.sleep_past(PROMISED);
    // SAFETY: the token is set, so that the seat is its owner's.
    unsafe { Waiter::payload(seat, |seat| seat.brought.take()) }
}

/// Why a packet that was not handed over still holds its message.
const KEPT: &str = "nobody has taken the message";

/// How a wait ended.
#[must_use]
enum Met<'a, T> {
    /// With this token.
    Waited(u32),
    TimedOut,
    /// The channel is disconnected, or something else is there that only `try_recv` knows of.
    Disconnected,
    /// It did not begin, since this waiter was there, which is out of its list now.
    Company(*const Waiter<Seat>, MutexGuard<'a, Meeting<T>>),
}

/// What keeps a waiter's invariants while it is in a list.
struct Stay<'a, T> {
    channel: &'a Rendezvous<T>,
    waiter: &'a Waiter<Seat>,
    side: Side,
}

impl<T> Stay<'_, T> {
    /// Takes the waiter out, or returns its token if somebody else has done so.
    fn leave(&self) -> Option<u32> {
        self.channel.leave(self.side, self.waiter)
    }
}

impl<T> Drop for Stay<'_, T> {
    /// For unwindings that nobody expects: `wait` is interrupted only after it has left.
    fn drop(&mut self) {
        self.leave();
    }
}
