//! The bounded channel: a ring of slots.
//!
//! # Positions
//!
//! `head` and `tail` count on for ever; each is an index into the ring, and above it the number of
//! times it has gone round (the *lap*). One bit between the two is kept free for `tail` to say
//! that the channel is disconnected:
//!
//! ```text
//!   high                                          low
//!   [ lap ............. | disconnected | index ...... ]
//!                         ^ mark_bit
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
//! Full and empty are read off `head` and `tail`, never off stamps: a position may be claimed whose
//! stamp is still to come. That gap is a few instructions of another thread, and is waited for.
//!
//! # Where it comes from
//!
//! Dmitry Vyukov's bounded MPMC queue, in the form of crossbeam's `flavors/array`.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::time::Instant;

use bine_runtime::primitive::atomic::{AtomicUsize, Ordering};
use bine_runtime::primitive::cell::UnsafeCell;
use crossbeam_utils::CachePadded;

use super::error::{RecvTimeoutError, SendTimeoutError, TryRecvError, TrySendError};
use crate::backoff::Backoff;
use crate::wait_list::WaitList;

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
        let mark_bit = (capacity + 1).next_power_of_two();
        let slot = |index| Slot {
            message: UnsafeCell::new(MaybeUninit::uninit()),
            stamp: AtomicUsize::new(index),
        };
        Self {
            head: CachePadded::new(AtomicUsize::new(0)),
            tail: CachePadded::new(AtomicUsize::new(0)),
            slots: (0..capacity).map(slot).collect(),
            mark_bit,
            one_lap: mark_bit * 2,
            senders: CachePadded::new(WaitList::new()),
            receivers: CachePadded::new(WaitList::new()),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.slots.len()
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

    /// How many messages lie between the two positions; not 0 unless they are equal.
    fn distance(&self, head: usize, tail: usize) -> usize {
        let (from, to) = (head & (self.mark_bit - 1), tail & (self.mark_bit - 1));
        match from.cmp(&to) {
            std::cmp::Ordering::Less => to - from,
            std::cmp::Ordering::Greater => self.slots.len() - from + to,
            std::cmp::Ordering::Equal if head == tail & !self.mark_bit => 0,
            std::cmp::Ordering::Equal => self.slots.len(),
        }
    }

    /// Adds `message` if there is room.
    pub(super) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let tail = match self.claim_tail() {
            Ok(tail) => tail,
            Err(NoSlot::Blocked) => return Err(TrySendError::Full(message)),
            Err(NoSlot::Disconnected) => return Err(TrySendError::Disconnected(message)),
        };
        let slot = self.slot(tail);
        // SAFETY: claimed, so it is this thread's until the stamp says otherwise (*turn*).
        slot.message.with_mut(|slot| unsafe { (*slot).write(message) });
        // Release: pairs with the Acquire load in `claim_head`.
        slot.stamp.store(tail + 1, Ordering::Release);
        self.receivers.notify_one(|| self.backlog());
        Ok(())
    }

    /// Claims a slot for sending.
    fn claim_tail(&self) -> Result<usize, NoSlot> {
        let mut backoff = Backoff::new();
        // Relaxed: a guess for the exchange, as all loads of `tail` here.
        let mut tail = self.tail.load(Ordering::Relaxed);
        loop {
            if tail & self.mark_bit != 0 {
                return Err(NoSlot::Disconnected);
            }
            // Acquire: pairs with the Release store in `try_recv`.
            let stamp = self.slot(tail).stamp.load(Ordering::Acquire);
            if stamp == tail {
                // SeqCst: M1 of the receivers' wait list.
                match self.tail.compare_exchange_weak(
                    tail,
                    self.after(tail),
                    Ordering::SeqCst,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => return Ok(tail),
                    Err(now) => tail = now,
                }
                continue;
            }
            // SeqCst: N2 and N4 of the senders' wait list, which pair with the claim of a receiver.
            let head = self.head.load(Ordering::SeqCst);
            if head.wrapping_add(self.one_lap) == tail {
                return Err(NoSlot::Blocked);
            }
            backoff.snooze();
            tail = self.tail.load(Ordering::Relaxed);
        }
    }

    /// Takes the message that has waited longest.
    pub(super) fn try_recv(&self) -> Result<T, TryRecvError> {
        let head = match self.claim_head() {
            Ok(head) => head,
            Err(NoSlot::Blocked) => return Err(TryRecvError::Empty),
            Err(NoSlot::Disconnected) => return Err(TryRecvError::Disconnected),
        };
        let slot = self.slot(head);
        // SAFETY: claimed, and stamped with a message (*turn*).
        let message = slot.message.with(|slot| unsafe { (*slot).assume_init_read() });
        // Release: pairs with the Acquire load in `claim_tail`.
        slot.stamp.store(head.wrapping_add(self.one_lap), Ordering::Release);
        self.senders.notify_one(|| self.room());
        Ok(message)
    }

    /// Claims a slot with a message.
    fn claim_head(&self) -> Result<usize, NoSlot> {
        let mut backoff = Backoff::new();
        // Relaxed: a guess for the exchange, as all loads of `head` here.
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // Acquire: pairs with the Release store in `try_send`.
            let stamp = self.slot(head).stamp.load(Ordering::Acquire);
            if stamp == head + 1 {
                // SeqCst: M1 of the senders' wait list.
                match self.head.compare_exchange_weak(
                    head,
                    self.after(head),
                    Ordering::SeqCst,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => return Ok(head),
                    Err(now) => head = now,
                }
                continue;
            }
            // SeqCst: N2 and N4 of the receivers' wait list, which pair with the claim of a sender.
            let tail = self.tail.load(Ordering::SeqCst);
            if tail & !self.mark_bit == head {
                return Err(match tail & self.mark_bit {
                    0 => NoSlot::Blocked,
                    _ => NoSlot::Disconnected,
                });
            }
            backoff.snooze();
            head = self.head.load(Ordering::Relaxed);
        }
    }

    /// Adds `message`, and waits for room until `deadline`.
    pub(super) fn send(
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
    pub(super) fn recv(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        let attempt = || match self.try_recv() {
            Ok(message) => Some(Ok(message)),
            Err(TryRecvError::Disconnected) => Some(Err(RecvTimeoutError::Disconnected)),
            Err(TryRecvError::Empty) => None,
        };
        let received = self.receivers.wait_for(deadline, attempt, || self.backlog());
        received.unwrap_or(Err(RecvTimeoutError::Timeout))
    }

    /// About how many messages there are; certainly more than 0 if there are any, or if the channel
    /// is disconnected.
    fn backlog(&self) -> usize {
        // SeqCst, both: N2 of the receivers' wait list (tail).
        let head = self.head.load(Ordering::SeqCst);
        let tail = self.tail.load(Ordering::SeqCst);
        if tail & self.mark_bit != 0 { usize::MAX } else { self.distance(head, tail) }
    }

    /// About how many more messages fit; certainly more than 0 if any does, or if the channel is
    /// disconnected.
    fn room(&self) -> usize {
        // SeqCst, both: N2 of the senders' wait list (both; disconnecting writes `tail`).
        let tail = self.tail.load(Ordering::SeqCst);
        let head = self.head.load(Ordering::SeqCst);
        if tail & self.mark_bit != 0 {
            usize::MAX
        } else if head.wrapping_add(self.one_lap) == tail {
            0
        } else {
            (self.slots.len() - self.distance(head, tail)).max(1)
        }
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
        while let Ok(message) = self.try_recv() {
            drop(message);
        }
    }
}

/// Why there is no slot to claim.
enum NoSlot {
    /// Full, or empty.
    Blocked,
    Disconnected,
}

impl<T> Drop for Bounded<T> {
    fn drop(&mut self) {
        while let Ok(message) = self.try_recv() {
            drop(message);
        }
    }
}
