//! The bounded channel: a ring of slots.
//!
//! # Positions
//!
//! `head` and `tail` count on for ever; each is an index into the ring, and above it the number of
//! times it has gone round (the *lap*). Between the two is a count of reservations, and one bit for
//! `tail` to say that the channel is disconnected:
//!
//! ```text
//!   high                                                            low
//!   [ lap ........... | reservations (12) | disconnected | index ...... ]
//!                       ^ one_reservation   ^ mark_bit
//! ```
//!
//! A slot's stamp says whose turn it is: `tail`'s value when it is free for the sender that claims
//! that very position, and one more once the message is in. The receiver at that position leaves
//! the stamp of the same slot one lap later.
//!
//! # Invariants
//!
//! - **turn**: who moves `tail` (or `head`) from a value that the slot's stamp answers owns the slot
//!   until they store the next stamp.
//! - **window**: `head <= tail <= head + one lap`, counting positions.
//!
//! # Reservations
//!
//! A select that has settled on this channel makes its move only later. So that the move cannot
//! fail, it reserves a place for the message that it will send (counted in `tail`), or a message
//! that it will take (in `head`); not any particular one. Others leave as many places, or messages,
//! as are reserved. A word with reservations equals no stamp, so that those who go the fast way
//! need not look for them.
//!
//! - **kept**: `reserved(tail)` is never more than there is room, nor `reserved(head)` than there are
//!   messages.
//!
//! Full and empty are read off `head` and `tail`, never off stamps: a position may be claimed whose
//! stamp is still to come. That gap is a few instructions of another thread, and is waited for.
//!
//! # Where it comes from
//!
//! Dmitry Vyukov's bounded MPMC queue, in the form of crossbeam's `flavors/array`.
#![allow(unsafe_code)]

use std::mem::{self, MaybeUninit};
use std::time::Instant;

use bine_runtime::primitive::atomic::{AtomicUsize, Ordering};
use bine_runtime::primitive::cell::UnsafeCell;
use crossbeam_utils::CachePadded;

use super::error::{RecvTimeoutError, SendTimeoutError, TryRecvError, TrySendError};
use super::receive;
use crate::backoff::Backoff;
use crate::wait_list::WaitList;

/// Bits of the count of reservations. Where it is at its limit, selects wait.
const RESERVATION_BITS: u32 = if cfg!(bine_loom) { 1 } else { 12 };
const MAX_RESERVED: usize = (1 << RESERVATION_BITS) - 1;

/// Keeps a step of one end from making up for a step of the other, in a version.
pub(super) const VERSION_FACTOR: usize = 0x9e37_79b9_7f4a_7c15_u64 as usize;

struct Slot<T> {
    message: UnsafeCell<MaybeUninit<T>>,
    stamp: AtomicUsize,
}

/// A bounded channel with room for at least one message.
pub(super) struct Bounded<T> {
    head: CachePadded<AtomicUsize>,
    tail: CachePadded<AtomicUsize>,
    slots: Box<[Slot<T>]>,
    /// The bit of `tail` that says that the channel is disconnected. Indices lie below it.
    mark_bit: usize,
    /// One reservation: the lowest bit of their number.
    one_reservation: usize,
    /// One lap: the lowest bit of the lap number.
    one_lap: usize,
    senders: CachePadded<WaitList>,
    receivers: CachePadded<WaitList>,
}

impl<T> Bounded<T> {
    /// A channel for `capacity` messages.
    ///
    /// # Panics
    /// If `capacity` is 0, or if the slots do not fit the address space.
    pub(super) fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a ring has slots");
        // What fits the address space leaves enough bits.
        let mark_bit = capacity.checked_add(1).and_then(usize::checked_next_power_of_two);
        let mark_bit = mark_bit.expect("capacity overflow");
        let one_reservation = mark_bit.wrapping_mul(2);
        let slot = |index| Slot {
            message: UnsafeCell::new(MaybeUninit::uninit()),
            stamp: AtomicUsize::new(index),
        };
        Self {
            head: CachePadded::new(AtomicUsize::new(0)),
            tail: CachePadded::new(AtomicUsize::new(0)),
            slots: (0..capacity).map(slot).collect(),
            mark_bit,
            one_reservation,
            one_lap: one_reservation.wrapping_shl(RESERVATION_BITS),
            senders: CachePadded::new(WaitList::new()),
            receivers: CachePadded::new(WaitList::new()),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// The position in `word`, without flags.
    fn position(&self, word: usize) -> usize {
        word & (!(self.one_lap - 1) | (self.mark_bit - 1))
    }

    /// The flags in `word`.
    fn flags(&self, word: usize) -> usize {
        word & (self.one_lap - 1) & !(self.mark_bit - 1)
    }

    /// The number of reservations in `word`.
    fn reserved(&self, word: usize) -> usize {
        (word & (self.one_lap - 1)) / self.one_reservation
    }

    /// The slot at `position`.
    fn slot(&self, position: usize) -> &Slot<T> {
        let index = position & (self.mark_bit - 1);
        debug_assert!(index < self.slots.len());
        // SAFETY: `after` is what moves positions, and it never yields an index beyond the slots.
        unsafe { self.slots.get_unchecked(index) }
    }

    /// The position after `position`.
    fn after(&self, position: usize) -> usize {
        if (position & (self.mark_bit - 1)) + 1 < self.slots.len() {
            position + 1
        } else {
            (position & !(self.one_lap - 1)).wrapping_add(self.one_lap)
        }
    }

    /// How many messages lie between the positions of the two words; not 0 unless they are equal.
    fn distance(&self, head: usize, tail: usize) -> usize {
        let (head, tail) = (self.position(head), self.position(tail));
        let (from, to) = (head & (self.mark_bit - 1), tail & (self.mark_bit - 1));
        match from.cmp(&to) {
            std::cmp::Ordering::Less => to - from,
            std::cmp::Ordering::Greater => self.slots.len() - from + to,
            std::cmp::Ordering::Equal if head == tail => 0,
            std::cmp::Ordering::Equal => self.slots.len(),
        }
    }

    /// Adds `message` if there is room, or hands it to a receiver that waits.
    pub(super) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let Err(message) = self.receivers.hand_over(message, || self.takes_hand_overs()) else {
            return Ok(());
        };
        let tail = match self.claim_tail() {
            Ok(tail) => tail,
            Err(NoSlot::Blocked) => return Err(TrySendError::Full(message)),
            Err(NoSlot::Disconnected) => return Err(TrySendError::Disconnected(message)),
        };
        // SAFETY: just claimed.
        unsafe { self.fill(tail, message) };
        Ok(())
    }

    /// Whether there are no messages, and receivers.
    fn takes_hand_overs(&self) -> bool {
        // Acquire, both: pair with the exchanges that move the two. In this order: head may have moved
        // on, but not past tail, so that the channel was empty at the second look if the two are the
        // same. Nothing can be reserved in head then.
        let head = self.head.load(Ordering::Acquire);
        let tail = self.tail.load(Ordering::Acquire);
        self.position(head) == self.position(tail) && tail & self.mark_bit == 0
    }

    /// # Safety
    /// - The caller has claimed the slot at `position` for sending, and calls this once.
    unsafe fn fill(&self, position: usize, message: T) {
        let slot = self.slot(position);
        // SAFETY: claimed, so it is this thread's until the stamp says otherwise (*turn*).
        slot.message.with_mut(|slot| unsafe { (*slot).write(message) });
        // Release: pairs with the Acquire load in `claim_head`.
        slot.stamp.store(position + 1, Ordering::Release);
        self.receivers.notify_one(|| self.backlog());
    }

    /// Claims a slot for sending.
    #[inline]
    fn claim_tail(&self) -> Result<usize, NoSlot> {
        if cfg!(bine_loom) {
            return self.claim_tail_slowly(); // the rest is a round of its loop once more
        }
        // As in the loop of `claim_tail_slowly`, which is not inlined.
        let tail = self.tail.load(Ordering::Relaxed);
        let (seen, moved) = (Ordering::SeqCst, Ordering::Relaxed);
        if self.slot(tail).stamp.load(Ordering::Acquire) == tail {
            if self.tail.compare_exchange_weak(tail, self.after(tail), seen, moved).is_ok() {
                return Ok(tail);
            }
            Backoff::give_way();
        }
        self.claim_tail_slowly()
    }

    #[inline(never)]
    fn claim_tail_slowly(&self) -> Result<usize, NoSlot> {
        let mut backoff = Backoff::new();
        // Acquire, as all loads of `tail` here: with an older `head` than whoever moved `tail` there has
        // seen, the channel would look full that never was.
        let mut tail = self.tail.load(Ordering::Acquire);
        loop {
            // Acquire: pairs with the Release store in `empty`.
            let stamp = self.slot(tail).stamp.load(Ordering::Acquire);
            if stamp == tail {
                // SeqCst: M1 of the receivers' wait list.
                match self.tail.compare_exchange_weak(
                    tail,
                    self.after(tail),
                    Ordering::SeqCst,
                    Ordering::Acquire,
                ) {
                    Ok(_) => return Ok(tail),
                    Err(now) => tail = Self::give_way(&self.tail, now),
                }
                continue;
            }
            let (position, flags) = (self.position(tail), self.flags(tail));
            match self.free_places(tail) {
                Ok(_) if stamp != position => {
                    // A receiver has yet to stamp it; or the guess was old.
                    backoff.snooze();
                    tail = self.tail.load(Ordering::Acquire);
                }
                // SeqCst: as above.
                Ok(_) => match self.tail.compare_exchange_weak(
                    tail,
                    self.after(position) | flags,
                    Ordering::SeqCst,
                    Ordering::Acquire,
                ) {
                    Ok(_) => return Ok(position),
                    Err(now) => tail = Self::give_way(&self.tail, now),
                },
                Err(no) => match Self::still(&self.tail, tail) {
                    None => return Err(no),
                    Some(now) => tail = now,
                },
            }
        }
    }

    /// What `end` holds after others, who were quicker and left `now` there, have been let go on.
    #[cold]
    fn give_way(end: &AtomicUsize, now: usize) -> usize {
        if cfg!(bine_loom) {
            return now;
        }
        Backoff::give_way();
        // Acquire: as the exchange that has failed.
        end.load(Ordering::Acquire)
    }

    /// How many places there are that nobody has reserved, when `tail` is what it is.
    fn free_places(&self, tail: usize) -> Result<usize, NoSlot> {
        if tail & self.mark_bit != 0 {
            return Err(NoSlot::Disconnected);
        }
        // SeqCst: N2 and N4 of the senders' wait list, which pair with the claim of a receiver.
        let head = self.head.load(Ordering::SeqCst);
        let taken = self.distance(head, tail) + self.reserved(tail);
        match self.slots.len().saturating_sub(taken) {
            0 => Err(NoSlot::Blocked),
            free => Ok(free),
        }
    }

    /// How many messages there are that nobody has reserved, when `head` is what it is.
    fn free_messages(&self, head: usize) -> Result<usize, NoSlot> {
        // SeqCst: N2 and N4 of the receivers' wait list, which pair with the claim of a sender.
        let tail = self.tail.load(Ordering::SeqCst);
        match self.distance(head, tail).saturating_sub(self.reserved(head)) {
            0 if tail & self.mark_bit != 0 => Err(NoSlot::Disconnected),
            0 => Err(NoSlot::Blocked),
            free => Ok(free),
        }
    }

    /// What `word`, either end, holds now; none if that is `seen`, by which the caller decided.
    fn still(word: &AtomicUsize, seen: usize) -> Option<usize> {
        // SeqCst: N2 and N4 of the wait lists: pairs with the end of a reservation.
        let now = word.load(Ordering::SeqCst);
        (now != seen).then_some(now)
    }

    /// Takes the message that has waited longest.
    pub(super) fn try_recv(&self) -> Result<T, TryRecvError> {
        let head = match self.claim_head() {
            Ok(head) => head,
            Err(NoSlot::Blocked) => return Err(TryRecvError::Empty),
            Err(NoSlot::Disconnected) => return Err(TryRecvError::Disconnected),
        };
        // SAFETY: just claimed.
        Ok(unsafe { self.empty(head) })
    }

    /// # Safety
    /// - The caller has claimed the slot at `position` for receiving, and calls this once.
    unsafe fn empty(&self, position: usize) -> T {
        let slot = self.slot(position);
        // SAFETY: claimed, and stamped with a message (*turn*).
        let message = slot.message.with(|slot| unsafe { (*slot).assume_init_read() });
        // Release: pairs with the Acquire load in `claim_tail`.
        slot.stamp.store(position.wrapping_add(self.one_lap), Ordering::Release);
        self.senders.notify_one(|| self.room());
        message
    }

    /// Claims a slot with a message.
    #[inline]
    fn claim_head(&self) -> Result<usize, NoSlot> {
        if cfg!(bine_loom) {
            return self.claim_head_slowly(); // the rest is a round of its loop once more
        }
        // As in the loop of `claim_head_slowly`, which is not inlined.
        let head = self.head.load(Ordering::Relaxed);
        let (seen, moved) = (Ordering::SeqCst, Ordering::Relaxed);
        if self.slot(head).stamp.load(Ordering::Acquire) == head + 1 {
            if self.head.compare_exchange_weak(head, self.after(head), seen, moved).is_ok() {
                return Ok(head);
            }
            Backoff::give_way();
        }
        self.claim_head_slowly()
    }

    #[inline(never)]
    fn claim_head_slowly(&self) -> Result<usize, NoSlot> {
        let mut backoff = Backoff::new();
        // Acquire, as all loads of `head` here: see `claim_tail_slowly`.
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            // Acquire: pairs with the Release store in `fill`.
            let stamp = self.slot(head).stamp.load(Ordering::Acquire);
            if stamp == head + 1 {
                // SeqCst: M1 of the senders' wait list.
                match self.head.compare_exchange_weak(
                    head,
                    self.after(head),
                    Ordering::SeqCst,
                    Ordering::Acquire,
                ) {
                    Ok(_) => return Ok(head),
                    Err(now) => head = Self::give_way(&self.head, now),
                }
                continue;
            }
            let (position, flags) = (self.position(head), self.flags(head));
            match self.free_messages(head) {
                Ok(_) if stamp != position + 1 => {
                    // A sender has yet to stamp it; or the guess was old.
                    backoff.snooze();
                    head = self.head.load(Ordering::Acquire);
                }
                // SeqCst: as above.
                Ok(_) => match self.head.compare_exchange_weak(
                    head,
                    self.after(position) | flags,
                    Ordering::SeqCst,
                    Ordering::Acquire,
                ) {
                    Ok(_) => return Ok(position),
                    Err(now) => head = Self::give_way(&self.head, now),
                },
                Err(no) => match Self::still(&self.head, head) {
                    None => return Err(no),
                    Some(now) => head = now,
                },
            }
        }
    }

    /// Reserves a place for a message.
    pub(super) fn reserve_place(&self) -> Result<(), NoSlot> {
        self.reserve(&self.tail, |tail| self.free_places(tail))
    }

    /// Reserves a message.
    pub(super) fn reserve_message(&self) -> Result<(), NoSlot> {
        self.reserve(&self.head, |head| self.free_messages(head))
    }

    fn reserve(
        &self,
        end: &AtomicUsize,
        free: impl Fn(usize) -> Result<usize, NoSlot>,
    ) -> Result<(), NoSlot> {
        // Acquire, as all loads of the end here: see `claim_tail_slowly`.
        let mut word = end.load(Ordering::Acquire);
        loop {
            let refused = match free(word) {
                Ok(_) if self.reserved(word) == MAX_RESERVED => NoSlot::Blocked,
                Ok(_) => {
                    let more = word + self.one_reservation;
                    // SeqCst: follows the look that `free` took, as in `claim_tail`.
                    match end.compare_exchange_weak(word, more, Ordering::SeqCst, Ordering::Acquire)
                    {
                        Ok(_) => return Ok(()),
                        Err(now) => word = now,
                    }
                    continue;
                }
                Err(no) => no,
            };
            match Self::still(end, word) {
                None => return Err(refused),
                Some(now) => word = now,
            }
        }
    }

    /// Gives a reserved place back.
    pub(super) fn give_back_place(&self) {
        // SeqCst: M1 of the senders' wait list.
        self.tail.fetch_sub(self.one_reservation, Ordering::SeqCst);
        self.senders.notify_one(|| self.room());
    }

    /// Gives a reserved message back.
    pub(super) fn give_back_message(&self) {
        // SeqCst: M1 of the receivers' wait list.
        self.head.fetch_sub(self.one_reservation, Ordering::SeqCst);
        self.receivers.notify_one(|| self.backlog());
    }

    /// Adds `message`, for which the caller has reserved a place, which is used up. Gives it back if
    /// the channel is disconnected.
    pub(super) fn send_reserved(&self, message: T) -> Result<(), T> {
        let Some(word) = self.claim_reserved(&self.tail, 0) else {
            return Err(message);
        };
        // SAFETY: just claimed.
        unsafe { self.fill(self.position(word), message) };
        if self.reserved(word) == MAX_RESERVED {
            self.senders.notify_one(|| self.room());
        }
        Ok(())
    }

    /// Takes the message that has waited longest; the caller has reserved one, which is used up.
    pub(super) fn recv_reserved(&self) -> T {
        let word = self.claim_reserved(&self.head, 1).expect("the head is never marked");
        // SAFETY: just claimed.
        let message = unsafe { self.empty(self.position(word)) };
        if self.reserved(word) == MAX_RESERVED {
            self.receivers.notify_one(|| self.backlog());
        }
        message
    }

    /// Claims the next slot at `end`, with one reservation, and returns the word that said so. None if
    /// the channel is marked as disconnected there. The slot's stamp is to be `ahead` of its
    /// position; *kept* says that it is, or will be after the few instructions of another thread.
    fn claim_reserved(&self, end: &AtomicUsize, ahead: usize) -> Option<usize> {
        let mut backoff = Backoff::new();
        // Relaxed: a guess for the exchange.
        let mut word = end.load(Ordering::Relaxed);
        loop {
            if word & self.mark_bit != 0 {
                return None;
            }
            let position = self.position(word);
            // Acquire: pairs with the Release stores in `fill` and `empty`.
            if self.slot(position).stamp.load(Ordering::Acquire) != position + ahead {
                backoff.snooze();
                word = end.load(Ordering::Relaxed);
                continue;
            }
            let next = self.after(position) | (self.flags(word) - self.one_reservation);
            // SeqCst: M1 of the wait list of the other side, and for a count that was at its limit
            // of this one.
            match end.compare_exchange_weak(word, next, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return Some(word),
                Err(now) => word = now,
            }
        }
    }

    /// Adds `message`, and waits for room until `deadline`.
    #[inline]
    pub(super) fn send(
        &self,
        message: T,
        deadline: Option<Instant>,
    ) -> Result<(), SendTimeoutError<T>> {
        match self.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(message)) => self.wait_and_send(message, deadline),
            Err(TrySendError::Disconnected(message)) => {
                Err(SendTimeoutError::Disconnected(message))
            }
        }
    }

    #[inline(never)]
    fn wait_and_send(
        &self,
        message: T,
        deadline: Option<Instant>,
    ) -> Result<(), SendTimeoutError<T>> {
        let mut message = Some(message);
        let attempt = || match self.try_send(message.take()?) {
            Ok(()) => Some(Ok(())),
            Err(TrySendError::Disconnected(message)) => {
                Some(Err(SendTimeoutError::Disconnected(message)))
            }
            Err(TrySendError::Full(back)) => {
                message = Some(back);
                None
            }
        };
        match self.senders.wait_for(deadline, attempt, || self.room()) {
            Some(sent) => sent,
            None => Err(SendTimeoutError::Timeout(message.expect("given back by try_send"))),
        }
    }

    /// Takes the message that has waited longest, and waits for one until `deadline`.
    #[inline]
    pub(super) fn recv(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        receive(&self.receivers, deadline, || self.try_recv(), || self.backlog())
    }

    /// About how many messages there are that nobody has reserved; certainly more than 0 if there are
    /// any, or if the channel is disconnected.
    pub(super) fn backlog(&self) -> usize {
        self.look(&self.head, |head| self.free_messages(head)).0
    }

    /// About how many more messages fit beside what is reserved; certainly more than 0 if any does,
    /// or if the channel is disconnected.
    pub(super) fn room(&self) -> usize {
        self.look(&self.tail, |tail| self.free_places(tail)).0
    }

    /// Whether [`reserve_message`](Self::reserve_message) would not be told to wait.
    pub(super) fn may_recv(&self) -> bool {
        let (free, reserved) = self.look(&self.head, |head| self.free_messages(head));
        free == usize::MAX || (free > 0 && reserved < MAX_RESERVED)
    }

    /// Whether [`reserve_place`](Self::reserve_place) would not be told to wait.
    pub(super) fn may_send(&self) -> bool {
        let (free, reserved) = self.look(&self.tail, |tail| self.free_places(tail));
        free == usize::MAX || (free > 0 && reserved < MAX_RESERVED)
    }

    /// How much is free at `end`, and how much is reserved.
    fn look(
        &self,
        end: &AtomicUsize,
        free: impl Fn(usize) -> Result<usize, NoSlot>,
    ) -> (usize, usize) {
        // SeqCst: N2 of the wait lists, of those who wait at `end`.
        let mut word = end.load(Ordering::SeqCst);
        loop {
            let free = match free(word) {
                Ok(free) => free,
                Err(NoSlot::Disconnected) => usize::MAX,
                // The two ends may have been read at different times, and look closer than they are.
                Err(NoSlot::Blocked) => match Self::still(end, word) {
                    None => 0,
                    Some(now) => {
                        word = now;
                        continue;
                    }
                },
            };
            return (free, self.reserved(word));
        }
    }

    /// A number that changes whenever what the two ends say has changed.
    pub(super) fn version(&self) -> usize {
        // Acquire, both: nothing that a caller has seen comes later in its eyes.
        let head = self.head.load(Ordering::Acquire);
        head.wrapping_mul(VERSION_FACTOR).wrapping_add(self.tail.load(Ordering::Acquire))
    }

    /// Where senders wait for room.
    pub(super) fn senders(&self) -> &WaitList {
        &self.senders
    }

    /// Where receivers wait for messages.
    pub(super) fn receivers(&self) -> &WaitList {
        &self.receivers
    }

    pub(super) fn len(&self) -> usize {
        loop {
            // SeqCst, all: a head between two equal tails is as it was at one moment.
            let tail = self.tail.load(Ordering::SeqCst);
            let head = self.head.load(Ordering::SeqCst);
            if self.tail.load(Ordering::SeqCst) == tail {
                return self.distance(head, tail);
            }
        }
    }

    /// Called when the last sender goes: lets the receivers take what is left.
    pub(super) fn disconnect_senders(&self) {
        // SeqCst: M1 of the receivers' wait list.
        self.tail.fetch_or(self.mark_bit, Ordering::SeqCst);
        self.receivers.notify_all();
    }

    /// Called when the last receiver goes: sends the senders home and drops what is left.
    pub(super) fn disconnect_receivers(&self) {
        // SeqCst: M1 of the senders' wait list.
        self.tail.fetch_or(self.mark_bit, Ordering::SeqCst);
        self.senders.notify_all();
        self.clear();
    }

    /// Drops all messages; if one panics, the rest is leaked. There are no receivers any more, so that
    /// what is still reserved was forgotten.
    fn clear(&self) {
        // Relaxed: nobody else moves the head.
        self.head.fetch_and(self.position(usize::MAX), Ordering::Relaxed);
        let leak = LeakRest(self);
        while let Ok(message) = self.try_recv() {
            drop(message);
        }
        mem::forget(leak);
    }
}

/// Why there is no slot to claim, or to reserve.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NoSlot {
    /// Full, or empty.
    Blocked,
    Disconnected,
}

/// Leaks what is left of the messages after one has panicked while it was dropped: a second panic
/// would end the process.
struct LeakRest<'a, T>(&'a Bounded<T>);

impl<T> Drop for LeakRest<'_, T> {
    fn drop(&mut self) {
        while let Ok(message) = self.0.try_recv() {
            mem::forget(message);
        }
    }
}

impl<T> Drop for Bounded<T> {
    fn drop(&mut self) {
        self.clear();
    }
}
