//! The unbounded channel: a linked list of blocks of slots.
//!
//! # Positions
//!
//! A position is the number of a block and an offset in it; offset [`BLOCK_CAP`] is behind its last
//! slot and stands for "the next block is being put in place". `tail` is where the next message goes
//! and `head` where the next one comes from; each is an index and the block that it lies in. An
//! index is one word:
//!
//! ```text
//!   high                                              low
//!   [ block ........ | reservations (12) | offset (5) | mark ]
//!                      ^ RESERVATION       ^ STEP
//! ```
//!
//! | where | mark | meaning |
//! |---|---|---|
//! | `tail.index` | `DISCONNECTED` | one side is gone; no message is ever added again |
//! | `head.index` | `HAS_NEXT` | `tail` has left head's block, so no need to look at it |
//!
//! Only `head` has reservations: see the bounded channel's (`ring`). They lie beside the offset so
//! that one comparison tells whether a receiver may go the fast way.
//!
//! # Protocol
//!
//! A sender claims the slot at `tail` by moving the index one step, writes the message, and stamps
//! the slot with the index, which publishes it. Who claims the last slot of a block puts the next
//! block in place: the block pointer, then the index past the skipped position, then the link from
//! the old block. A receiver claims at `head` in the same way, waits for the stamp (the sender is
//! at most a few instructions away from it), and reads the message. Who claims a block's last slot
//! moves `head` on to the next block.
//!
//! # Invariants
//!
//! - **order**: `head <= tail`, also in the eyes of any one thread: whoever moves `head` has seen
//!   `tail` beyond it, and releases that with the move.
//! - **stable**: while an index lies at an offset below `BLOCK_CAP`, the block pointer beside it is
//!   that of the index's block. So an exchange that finds the index unchanged also vouches for the
//!   block that was loaded after it.
//! - **alive**: a block is freed, or used again, when all its slots have been read. Nobody else can
//!   still reach it then: a sender touches a block before it stamps its own slot there, a receiver
//!   before it counts its own read, and neither touches one in which it has not claimed a slot.
//! - **stamps**: stamps never repeat, so a block that is used again need not be cleaned.
//!
//! # Where it comes from
//!
//! The blocks, the skipped position and the two mark bits are those of crossbeam's `flavors/list`.
//! Changed: a count of reads instead of a three-way hand-over of the block between its last readers;
//! stamps instead of flags, so that publishing is a store and not a read-modify-write, and one
//! block is kept for use again; no fence between the loads of `head` and `tail`, for which `order`
//! is enough.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::time::Instant;

use bine_runtime::primitive::atomic::{AtomicPtr, AtomicUsize, Ordering};
use bine_runtime::primitive::cell::UnsafeCell;
use crossbeam_utils::CachePadded;

use super::error::{RecvTimeoutError, TryRecvError};
use super::receive;
use super::ring::VERSION_FACTOR;
use crate::backoff::Backoff;
use crate::wait_list::WaitList;

/// Slots of a block.
const BLOCK_CAP: usize = if cfg!(bine_loom) { 2 } else { 31 };
/// One position, in an index.
const STEP: usize = 2;
/// One reservation, in the index of `head`. Offsets end below.
const RESERVATION: usize = STEP * (BLOCK_CAP + 1).next_power_of_two();
/// One block, in an index. Reservations end below.
const LAP: usize = RESERVATION * (MAX_RESERVED + 1);
/// Where so many are reserved, selects wait.
const MAX_RESERVED: usize = if cfg!(bine_loom) { 1 } else { (1 << 12) - 1 };
/// Bit 0 of `tail.index`.
const DISCONNECTED: usize = 1;
/// Bit 0 of `head.index`.
const HAS_NEXT: usize = 1;

/// The offset in its block of the position of `index`.
const fn offset(index: usize) -> usize {
    index % RESERVATION / STEP
}

/// The number of the block of `index`.
const fn lap(index: usize) -> usize {
    index / LAP
}

/// The number of reservations in `index`.
const fn reserved(index: usize) -> usize {
    index % LAP / RESERVATION
}

/// `index` without mark and reservations.
const fn position(index: usize) -> usize {
    index & !((LAP - RESERVATION) | 1)
}

/// Whether a receiver that finds `index` has nothing else to look at before it claims: it is not
/// behind the last slot, and nothing is reserved.
const fn is_plain(index: usize) -> bool {
    index % LAP / STEP < BLOCK_CAP
}

struct Slot<T> {
    message: UnsafeCell<MaybeUninit<T>>,
    /// The index whose message was written last, with bit 0 set so that it is never 0.
    stamp: AtomicUsize,
}

struct Block<T> {
    next: AtomicPtr<Block<T>>,
    /// How many slots have been read.
    reads: AtomicUsize,
    slots: [Slot<T>; BLOCK_CAP],
}

impl<T> Block<T> {
    #[cfg(not(bine_loom))]
    fn new() -> Box<Self> {
        // SAFETY: null, 0 and uninitialised messages are what a new block holds, and all zeroes
        // are just that. Not built on the stack, where it might not fit.
        unsafe { Box::new_zeroed().assume_init() }
    }

    #[cfg(bine_loom)]
    fn new() -> Box<Self> {
        let slot = |_| Slot {
            message: UnsafeCell::new(MaybeUninit::uninit()),
            stamp: AtomicUsize::new(0),
        };
        Box::new(Self {
            next: AtomicPtr::new(ptr::null_mut()),
            reads: AtomicUsize::new(0),
            slots: std::array::from_fn(slot),
        })
    }

    /// The next block, which somebody is about to put in place.
    fn wait_next(&self) -> *mut Self {
        let mut backoff = Backoff::new();
        loop {
            // Acquire: pairs with the Release store in `put_next`.
            let next = self.next.load(Ordering::Acquire);
            if !next.is_null() {
                return next;
            }
            backoff.snooze();
        }
    }
}

/// The end of a block, in models: whoever touches it then, or later, fails them (*alive*).
#[cfg(bine_loom)]
impl<T> Drop for Block<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.next.with_mut(|_| ());
        self.reads.with_mut(|_| ());
        for slot in &mut self.slots {
            slot.stamp.with_mut(|_| ());
            slot.message.with_mut(|_| ());
        }
    }
}

impl<T> Slot<T> {
    /// # Safety
    /// - The caller has claimed this slot for sending, at `index`, and calls this once.
    unsafe fn write(&self, index: usize, message: T) {
        // SAFETY: the claim makes the slot the caller's; receivers wait for the stamp.
        self.message.with_mut(|slot| unsafe { (*slot).write(message) });
        // Release: pairs with the Acquire load in `read`. The last touch of the block (*alive*).
        self.stamp.store(index | 1, Ordering::Release);
    }

    /// # Safety
    /// - The caller has claimed this slot for receiving, at `index`, and calls this once.
    unsafe fn read(&self, index: usize) -> T {
        // Acquire: pairs with the Release store in `write`.
        if self.stamp.load(Ordering::Acquire) != index | 1 {
            self.wait(index);
        }
        // SAFETY: the stamp says that the message is there, and the claim that it is ours.
        self.message.with(|slot| unsafe { (*slot).assume_init_read() })
    }

    /// Waits for the stamp of `index`.
    #[inline(never)]
    fn wait(&self, index: usize) {
        let mut backoff = Backoff::new();
        // Acquire: as in `read`.
        while self.stamp.load(Ordering::Acquire) != index | 1 {
            backoff.snooze();
        }
    }
}

/// Why a receiver has not claimed a slot the fast way.
enum Miss {
    /// No message is there.
    Empty,
    /// Something is in the way.
    Look,
}

struct End<T> {
    index: AtomicUsize,
    /// Null until the first message is sent.
    block: AtomicPtr<Block<T>>,
}

impl<T> End<T> {
    fn new() -> Self {
        Self { index: AtomicUsize::new(0), block: AtomicPtr::new(ptr::null_mut()) }
    }

    /// The index, then the block: in this order, for the invariant *stable*.
    fn load(&self) -> (usize, *mut Block<T>) {
        // Acquire, both: pair with the Release writes of `put_first`, `put_next` and `leave_block`.
        let index = self.index.load(Ordering::Acquire);
        (index, self.block.load(Ordering::Acquire))
    }
}

/// An unbounded channel.
pub(super) struct Unbounded<T> {
    head: CachePadded<End<T>>,
    tail: CachePadded<End<T>>,
    /// A block to use again, or null.
    spare: AtomicPtr<Block<T>>,
    receivers: WaitList,
    messages: PhantomData<T>,
}

impl<T> Unbounded<T> {
    pub(super) fn new() -> Self {
        Self {
            head: CachePadded::new(End::new()),
            tail: CachePadded::new(End::new()),
            spare: AtomicPtr::new(ptr::null_mut()),
            receivers: WaitList::new(),
            messages: PhantomData,
        }
    }

    /// Adds `message`, or gives it back if the channel is disconnected.
    pub(super) fn send(&self, message: T) -> Result<(), T> {
        let Err(message) = self.receivers.hand_over(message, || self.takes_hand_overs()) else {
            return Ok(());
        };
        let Some((index, block)) = self.claim_tail() else {
            return Err(message);
        };
        // SAFETY: the slot is claimed, and its block is alive until it has been read (*alive*).
        unsafe { (*block).slots[offset(index)].write(index, message) };
        self.receivers.notify_one(|| self.backlog());
        Ok(())
    }

    /// Whether there are no messages, and receivers.
    fn takes_hand_overs(&self) -> bool {
        // Acquire, both: as in `End::load`. In this order: head may have moved on, but not past tail,
        // so that the channel was empty at the second look if the two are the same. Nothing can be
        // reserved then, and the mark of `tail` makes them differ.
        let head = self.head.index.load(Ordering::Acquire);
        position(head) == self.tail.index.load(Ordering::Acquire)
    }

    /// Claims a slot for sending, unless the channel is disconnected.
    fn claim_tail(&self) -> Option<(usize, *mut Block<T>)> {
        let mut backoff = Backoff::new();
        let mut fresh = None;
        let claimed = loop {
            let (index, block) = self.tail.load();
            if index & DISCONNECTED != 0 {
                break None;
            }
            if offset(index) == BLOCK_CAP {
                backoff.snooze();
                continue;
            }
            // Made before the claim, so that others need not wait for the allocator.
            let last = offset(index) + 1 == BLOCK_CAP;
            if (last || block.is_null()) && fresh.is_none() {
                fresh = Some(self.take_block());
            }
            if block.is_null() {
                self.put_first(&mut fresh);
                continue;
            }
            // SeqCst: M1 of the wait list, which pairs with the load in `backlog`.
            if self
                .tail
                .index
                .compare_exchange_weak(index, index + STEP, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
            {
                if let (true, Some(next)) = (last, fresh.take()) {
                    self.put_next(block, next);
                }
                break Some((index, block));
            }
        };
        if let Some(unused) = fresh {
            self.give_block(unused);
        }
        claimed
    }

    /// Puts `fresh` in place as the very first block, unless another sender has done so.
    fn put_first(&self, fresh: &mut Option<Box<Block<T>>>) {
        let Some(block) = fresh.take() else { return };
        let block = Box::into_raw(block);
        let unset = ptr::null_mut();
        // Release: pairs with the loads of `End::load`.
        let put =
            self.tail.block.compare_exchange(unset, block, Ordering::Release, Ordering::Relaxed);
        match put {
            // Release: as above.
            Ok(_) => self.head.block.store(block, Ordering::Release),
            // SAFETY: just made from a box, and nobody has seen it.
            Err(_) => *fresh = Some(unsafe { Box::from_raw(block) }),
        }
    }

    /// Puts `next` in place behind `block`, whose last slot the caller has claimed.
    fn put_next(&self, block: *mut Block<T>, next: Box<Block<T>>) {
        let next = Box::into_raw(next);
        // Release, both: pair with the loads of `End::load`.
        self.tail.block.store(next, Ordering::Release);
        self.tail.index.fetch_add(LAP - BLOCK_CAP * STEP, Ordering::Release);
        // SAFETY: the caller has yet to write its slot (*alive*).
        // Release: pairs with the loads of `next` in `wait_next` and `leave_block`.
        unsafe { (*block).next.store(next, Ordering::Release) };
    }

    /// Takes the message that has waited longest.
    pub(super) fn try_recv(&self) -> Result<T, TryRecvError> {
        match self.claim_plain_head() {
            // SAFETY: just claimed.
            Ok((index, block)) => Ok(unsafe { self.read(index, block) }),
            Err(Miss::Empty) => Err(TryRecvError::Empty),
            Err(Miss::Look) => self.try_recv_slowly(),
        }
    }

    #[inline(never)]
    fn try_recv_slowly(&self) -> Result<T, TryRecvError> {
        let (index, block) = self.claim_head()?;
        // SAFETY: just claimed.
        Ok(unsafe { self.read(index, block) })
    }

    /// # Safety
    /// - The caller has claimed the slot at `index`, in `block`, for receiving, and calls this once.
    #[inline(always)]
    unsafe fn read(&self, index: usize, block: *mut Block<T>) -> T {
        debug_assert!(offset(index) < BLOCK_CAP);
        // SAFETY: the slot is claimed, and its block is alive until this read is counted (*alive*).
        let message = unsafe { (*block).slots.get_unchecked(offset(index)).read(index) };
        // SAFETY: as above. AcqRel: the last reader's Acquire pairs with the Release of all others,
        // so that their reads come before the block is used again.
        let reads = unsafe { (*block).reads.fetch_add(1, Ordering::AcqRel) } + 1;
        if reads == BLOCK_CAP {
            // SAFETY: all slots have been read, so the block is this thread's alone (*alive*); it
            // came from a box.
            self.give_block(unsafe { Box::from_raw(block) });
        }
        message
    }

    /// Claims a slot for receiving, if nothing is in the way.
    #[inline(always)]
    fn claim_plain_head(&self) -> Result<(usize, *mut Block<T>), Miss> {
        if cfg!(bine_loom) {
            return Err(Miss::Look); // the rest is a round of the loop of `claim_head` once more
        }
        // As in the loop of `claim_head`.
        let (head, block) = self.head.load();
        if !is_plain(head) {
            return Err(Miss::Look);
        }
        let mut next = head + STEP;
        if head & HAS_NEXT == 0 {
            let tail = self.tail.index.load(Ordering::SeqCst);
            if tail == head {
                return Err(Miss::Empty);
            }
            next |= usize::from(lap(tail) != lap(head)) * HAS_NEXT;
            if tail == head | DISCONNECTED || block.is_null() {
                return Err(Miss::Look);
            }
        }
        if !self.move_head(head, next, block) {
            return Err(Miss::Look);
        }
        Ok((head & !HAS_NEXT, block))
    }

    /// Claims a slot for receiving.
    fn claim_head(&self) -> Result<(usize, *mut Block<T>), TryRecvError> {
        let mut backoff = Backoff::new();
        loop {
            let (head, block) = self.head.load();
            if !is_plain(head) && !self.may_claim_beside(head, &mut backoff)? {
                continue;
            }
            let mut next = head + STEP;
            if head & HAS_NEXT == 0 {
                // SeqCst: N2 and N4 of the wait list, which pair with the claim of a sender.
                let tail = self.tail.index.load(Ordering::SeqCst);
                if tail & !DISCONNECTED == position(head) {
                    return Err(match tail & DISCONNECTED {
                        0 => TryRecvError::Empty,
                        _ => TryRecvError::Disconnected,
                    });
                }
                if lap(tail) != lap(head) {
                    next |= HAS_NEXT;
                }
            }
            if block.is_null() {
                // The first sender is between its two stores in `put_first`.
                backoff.snooze();
                continue;
            }
            if self.move_head(head, next, block) {
                return Ok((position(head), block));
            }
        }
    }

    /// Whether a receiver may go on that finds `head` behind a block, or with reservations; else it is
    /// to look again.
    fn may_claim_beside(&self, head: usize, backoff: &mut Backoff) -> Result<bool, TryRecvError> {
        if offset(head) == BLOCK_CAP {
            backoff.snooze();
            return Ok(false);
        }
        match self.free_messages(head) {
            Ok(_) => Ok(true),
            Err(no) if self.is_still(head) => Err(no),
            Err(_) => Ok(false),
        }
    }

    /// Moves `head` on by one slot of `block`, from the index `head` to `next`, which says
    /// `HAS_NEXT` if that is so. False if it was not there any more.
    #[inline(always)]
    fn move_head(&self, head: usize, next: usize, block: *mut Block<T>) -> bool {
        // AcqRel: pairs with itself, for the invariant *order*.
        if self
            .head
            .index
            .compare_exchange_weak(head, next, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        if offset(head) + 1 == BLOCK_CAP {
            self.leave_block(next, block);
        }
        true
    }

    /// How many messages there are that nobody has reserved, when `head` is what it is.
    fn free_messages(&self, head: usize) -> Result<usize, TryRecvError> {
        // SeqCst: N2 and N4 of the wait list, which pair with the claim of a sender.
        let tail = self.tail.index.load(Ordering::SeqCst);
        let messages = messages_before(tail).wrapping_sub(messages_before(head));
        match messages.saturating_sub(reserved(head)) {
            0 if tail & DISCONNECTED != 0 => Err(TryRecvError::Disconnected),
            0 => Err(TryRecvError::Empty),
            free => Ok(free),
        }
    }

    /// Whether `head` still holds what the caller has decided by.
    fn is_still(&self, head: usize) -> bool {
        // SeqCst: N2 and N4 of the wait list: pairs with the end of a reservation.
        self.head.index.load(Ordering::SeqCst) == head
    }

    /// Reserves a message.
    pub(super) fn reserve(&self) -> Result<(), TryRecvError> {
        self.change_head(|head| {
            self.free_messages(head)?;
            match reserved(head) {
                MAX_RESERVED => Err(TryRecvError::Empty),
                _ => Ok(head + RESERVATION),
            }
        })
    }

    /// Gives a reserved message back.
    pub(super) fn give_back(&self) {
        let _ = self.change_head(|head| Ok(head - RESERVATION));
        self.receivers.notify_one(|| self.backlog());
    }

    /// Changes what `head` says of reservations as `change` says, if it agrees.
    fn change_head(
        &self,
        change: impl Fn(usize) -> Result<usize, TryRecvError>,
    ) -> Result<(), TryRecvError> {
        let mut backoff = Backoff::new();
        loop {
            // SeqCst: N4 of the wait list, as in `is_still`.
            let head = self.head.index.load(Ordering::SeqCst);
            // `leave_block` relies on being alone.
            if offset(head) == BLOCK_CAP {
                backoff.snooze();
                continue;
            }
            let changed = match change(head) {
                Ok(changed) => changed,
                Err(no) if self.is_still(head) => return Err(no),
                Err(_) => continue,
            };
            // SeqCst: M1 of the wait list, if it gives something back. AcqRel as in `move_head`.
            if self
                .head
                .index
                .compare_exchange_weak(head, changed, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
            {
                return Ok(());
            }
        }
    }

    /// Takes the message that has waited longest; the caller has reserved one, which is used up.
    pub(super) fn recv_reserved(&self) -> T {
        let mut backoff = Backoff::new();
        loop {
            let (head, block) = self.head.load();
            if offset(head) == BLOCK_CAP || block.is_null() {
                backoff.snooze();
                continue;
            }
            let mut next = head + STEP - RESERVATION;
            // Acquire: whoever reserved has seen `tail` beyond, which came along with the index.
            if lap(self.tail.index.load(Ordering::Acquire)) != lap(head) {
                next |= HAS_NEXT;
            }
            if self.move_head(head, next, block) {
                // SAFETY: just claimed.
                let message = unsafe { self.read(position(head), block) };
                if reserved(head) == MAX_RESERVED {
                    self.receivers.notify_one(|| self.backlog());
                }
                return message;
            }
        }
    }

    /// Moves `head`, which is at `index`, behind the last slot of `block`, to the next one. The caller
    /// has claimed that slot; nobody else changes `head` meanwhile.
    #[inline(never)]
    fn leave_block(&self, index: usize, block: *mut Block<T>) {
        // SAFETY: the caller has yet to count its read of `block`, and nobody can claim a slot of
        // the next block before `head` is there (*alive*).
        unsafe {
            let next = (*block).wait_next();
            // Acquire: pairs with the Release store in `put_next`. A further block says that `tail`
            // has left this one, and the Acquire brings that news along (*order*).
            let further = (*next).next.load(Ordering::Acquire);
            let mark = if further.is_null() { 0 } else { HAS_NEXT };
            // Release, both: pair with the loads of `End::load`.
            self.head.block.store(next, Ordering::Release);
            let first = (index & !HAS_NEXT) + (LAP - BLOCK_CAP * STEP);
            self.head.index.store(first | mark, Ordering::Release);
        }
    }

    /// A block to put in place.
    fn take_block(&self) -> Box<Block<T>> {
        // Relaxed: only to spare the exchange.
        if self.spare.load(Ordering::Relaxed).is_null() {
            return Block::new();
        }
        // Acquire: pairs with the Release exchange in `give_block`.
        let spare = self.spare.swap(ptr::null_mut(), Ordering::Acquire);
        if spare.is_null() {
            return Block::new();
        }
        // SAFETY: `spare` holds null or a box that `give_block` left there, and holds it no more.
        unsafe { Box::from_raw(spare) }
    }

    /// Keeps a block for later, or frees it.
    #[inline(never)]
    fn give_block(&self, block: Box<Block<T>>) {
        // Relaxed: nobody else has the block; who takes it gets it by the exchange below, or by
        // being the one that dropped it here.
        block.reads.store(0, Ordering::Relaxed);
        block.next.store(ptr::null_mut(), Ordering::Relaxed);
        let block = Box::into_raw(block);
        let none = ptr::null_mut();
        // Release: pairs with the Acquire swap in `take_block`.
        if self.spare.compare_exchange(none, block, Ordering::Release, Ordering::Relaxed).is_err() {
            // SAFETY: just made from a box, and not published.
            drop(unsafe { Box::from_raw(block) });
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
        self.look().0
    }

    /// Whether [`reserve`](Self::reserve) would not be told to wait.
    pub(super) fn may_recv(&self) -> bool {
        let (free, reserved) = self.look();
        free == usize::MAX || (free > 0 && reserved < MAX_RESERVED)
    }

    /// How many messages are free, and how many are reserved.
    fn look(&self) -> (usize, usize) {
        // Head first, for the invariant *order*. SeqCst: N2 of the wait list, which pairs with the
        // end of a reservation.
        let head = self.head.index.load(Ordering::SeqCst);
        let free = match self.free_messages(head) {
            Ok(free) => free,
            Err(TryRecvError::Disconnected) => usize::MAX,
            Err(TryRecvError::Empty) => 0,
        };
        (free, reserved(head))
    }

    /// A number that changes whenever what the two ends say has changed.
    pub(super) fn version(&self) -> usize {
        // Acquire, both: nothing that a caller has seen comes later in its eyes.
        let head = self.head.index.load(Ordering::Acquire);
        let tail = self.tail.index.load(Ordering::Acquire);
        head.wrapping_mul(VERSION_FACTOR).wrapping_add(tail)
    }

    /// Where receivers wait.
    pub(super) fn receivers(&self) -> &WaitList {
        &self.receivers
    }

    pub(super) fn len(&self) -> usize {
        loop {
            // SeqCst, all: a head between two equal tails is as it was at one moment.
            let tail = self.tail.index.load(Ordering::SeqCst);
            let head = self.head.index.load(Ordering::SeqCst);
            if self.tail.index.load(Ordering::SeqCst) == tail {
                return messages_before(tail) - messages_before(head);
            }
        }
    }

    /// Called when the last sender goes: lets the receivers take what is left.
    pub(super) fn disconnect_senders(&self) {
        // SeqCst: M1 of the wait list.
        self.tail.index.fetch_or(DISCONNECTED, Ordering::SeqCst);
        self.receivers.notify_all();
    }

    /// Called when the last receiver goes: drops what is left.
    pub(super) fn disconnect_receivers(&self) {
        // SeqCst: nothing depends on it here; as in `disconnect_senders`.
        self.tail.index.fetch_or(DISCONNECTED, Ordering::SeqCst);
        self.clear();
    }

    /// Drops all messages; if one panics, the rest is leaked. There are no receivers any more, so that
    /// what is still reserved was forgotten.
    fn clear(&self) {
        // Relaxed: nobody else moves the head.
        self.head.index.fetch_and(!(LAP - RESERVATION), Ordering::Relaxed);
        let leak = LeakRest(self);
        while let Ok(message) = self.try_recv() {
            drop(message);
        }
        mem::forget(leak);
    }
}

/// How many messages have positions before that of `index`.
const fn messages_before(index: usize) -> usize {
    let (full, rest) = (lap(index), offset(index));
    full * BLOCK_CAP + rest
}

/// Leaks what is left of the messages after one has panicked while it was dropped: a second panic
/// would end the process.
struct LeakRest<'a, T>(&'a Unbounded<T>);

impl<T> Drop for LeakRest<'_, T> {
    fn drop(&mut self) {
        while let Ok(message) = self.0.try_recv() {
            mem::forget(message);
        }
    }
}

impl<T> Drop for Unbounded<T> {
    fn drop(&mut self) {
        self.clear();
        // Relaxed: nobody else has the channel any more.
        let last = self.head.block.load(Ordering::Relaxed);
        let spare = self.spare.load(Ordering::Relaxed);
        for block in [last, spare] {
            if !block.is_null() {
                // SAFETY: with all messages taken, `head` and `tail` lie in one and the same block,
                // which came from a box; so did the spare one.
                drop(unsafe { Box::from_raw(block) });
            }
        }
    }
}
