//! The readiness protocol of one descriptor: a packed word, and a list of waiters for each
//! direction. No system call is made here, so that loom can explore all of it
//! (`loom-tests/tests/readiness.rs`).
//!
//! # The word
//!
//! ```text
//!  63                            32 31            16 15      8   7     6     5    4    3    2    1    0
//! +--------------------------------+----------------+----------+-----+-----+-----+----+----+----+----+----+
//! |           generation           |      tick      |    -     | WW  | RW  | CLO | URG| WC | RC | WR | RD |
//! +--------------------------------+----------------+----------+-----+-----+-----+----+----+----+----+----+
//! ```
//!
//! | bit | name          | set by                           | cleared by                                |
//! |-----|---------------|----------------------------------|-------------------------------------------|
//! | RD  | READABLE      | an event; opening (optimistic)   | EAGAIN or a short read, with a fresh tick |
//! | WR  | WRITABLE      | an event; opening (optimistic)   | EAGAIN or a short write, likewise         |
//! | RC  | READ_CLOSED   | an event: end of file, error     | EAGAIN only: sticky against short reads   |
//! | WC  | WRITE_CLOSED  | an event: hang-up, error         | EAGAIN only                               |
//! | URG | URGENT        | an event: urgent data is pending | EAGAIN only: a short read proves nothing  |
//! | CLO | CLOSED        | closing                          | opening                                   |
//! | RW  | READ_WAITERS  | the first waiter, under the lock | whoever empties the list, under the lock  |
//! | WW  | WRITE_WAITERS | the first waiter, under the lock | whoever empties the list, under the lock  |
//!
//! The *tick* goes up with each event. The *generation* goes up when the slot is closed.
//!
//! # Invariants
//!
//! 1. **A stale event does nothing.** An event carries the generation of the registration that it
//!    was made for, and the update that applies it compares generations.
//! 2. **A clear never hides an event.** It names the tick loaded *before* the system call that
//!    found nothing. An event applied since then has moved the tick, and the clear is refused; an
//!    event applied later sets the bit again.
//! 3. **Waiters bit = the list is not empty**, as seen under the lock. A waiter sets its bit in the
//!    same update that finds the direction not ready; an event reads the bit in the same update
//!    that makes the direction ready. Updates of one word are totally ordered, so either the
//!    waiter sees the event or the event sees the waiter: no wake-up is lost, and no fence is
//!    needed. An event that finds no waiters never takes the lock.
//! 4. **Wake one, then hand over.** A direction that is ready while it has waiters always has
//!    somebody in charge: an event that is being applied, or a waiter that was taken off the list
//!    and holds a [`Turn`]. Whoever holds a turn tries the operation, and gives the turn up when it
//!    leaves (with a result, an error, a timeout, or unwinding) by waking the next waiter if the
//!    direction is still ready. So n waiters on a listener cost one superfluous wake-up an event,
//!    not n - 1. Events that end a direction (RC, WC) wake all of its waiters.
//! 5. **Nothing is touched after a wake.** Waiters are taken out under the lock and woken after it
//!    is released; the list owns the wakers, and no memory of a waiter is ever referred to.
//!
//! Why not intrusive nodes on the stacks of the waiters: the first waiter of a direction is stored
//! in the slot itself, so the usual case allocates nothing either, and a waiter that unwinds out
//! of its wait leaves no pointer behind.
#![cfg_attr(
    not(bine_loom),
    allow(unreachable_pub, reason = "public for the models in loom-tests only")
)]

#[cfg(all(test, not(bine_loom)))]
mod tests;
mod wait_list;

use bine_runtime::primitive::Mutex;
use bine_runtime::primitive::atomic::{AtomicU64, Ordering};

use self::wait_list::WaitList;

const READABLE: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const READ_CLOSED: u64 = 1 << 2;
const WRITE_CLOSED: u64 = 1 << 3;
const URGENT: u64 = 1 << 4;
const CLOSED: u64 = 1 << 5;
const READ_WAITERS: u64 = 1 << 6;
const WRITE_WAITERS: u64 = 1 << 7;
const EVENT_BITS: u64 = READABLE | WRITABLE | READ_CLOSED | WRITE_CLOSED | URGENT;
const TICK_SHIFT: u32 = 16;
const TICK_ONE: u64 = 1 << TICK_SHIFT;
const TICK_MASK: u64 = 0xffff << TICK_SHIFT;
const GENERATION_SHIFT: u32 = 32;

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Input, connections to accept, end of file.
    Read,
    /// Room for output, the end of a connection attempt.
    Write,
}

impl Direction {
    const fn ready(self) -> u64 {
        match self {
            Self::Read => READABLE,
            Self::Write => WRITABLE,
        }
    }

    const fn ended(self) -> u64 {
        match self {
            Self::Read => READ_CLOSED,
            Self::Write => WRITE_CLOSED,
        }
    }

    /// Bits after which a short transfer does not mean that the descriptor is exhausted.
    const fn unsure(self) -> u64 {
        match self {
            Self::Read => URGENT,
            Self::Write => 0,
        }
    }

    const fn waiters(self) -> u64 {
        match self {
            Self::Read => READ_WAITERS,
            Self::Write => WRITE_WAITERS,
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Read => 0,
            Self::Write => 1,
        }
    }
}

/// What an event says about a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready(u64);

impl Ready {
    /// There may be input.
    pub const READABLE: Self = Self(READABLE);
    /// There may be room for output.
    pub const WRITABLE: Self = Self(WRITABLE);
    /// Input has ended or failed: every reader should find out.
    pub const READ_CLOSED: Self = Self(READ_CLOSED);
    /// Output has ended or failed: every writer should find out.
    pub const WRITE_CLOSED: Self = Self(WRITE_CLOSED);
    /// There is urgent data, at which reads stop short.
    pub const URGENT: Self = Self(URGENT);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A value of the readiness word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot(u64);

impl Snapshot {
    /// Which registration the slot serves, or will serve next.
    pub const fn generation(self) -> u32 {
        (self.0 >> GENERATION_SHIFT) as u32
    }

    /// How many events were applied, modulo 2^16.
    pub const fn tick(self) -> u16 {
        ((self.0 & TICK_MASK) >> TICK_SHIFT) as u16
    }

    /// Whether an operation in this direction is worth a system call.
    pub const fn is_ready(self, direction: Direction) -> bool {
        self.0 & (direction.ready() | direction.ended()) != 0
    }

    /// Whether the slot serves the registration `generation`.
    pub const fn serves(self, generation: u32) -> bool {
        self.generation() == generation && self.0 & CLOSED == 0
    }

    const fn has(self, bits: u64) -> bool {
        self.0 & bits != 0
    }

    const fn with_next_tick(self) -> Self {
        Self((self.0 & !TICK_MASK) | (self.0.wrapping_add(TICK_ONE) & TICK_MASK))
    }
}

/// What became of an event.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The slot took it.
    Yes,
    /// It was meant for an earlier registration.
    Stale,
}

/// What proves that a direction is exhausted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The system call said EAGAIN.
    WouldBlock,
    /// A stream moved fewer bytes than asked for.
    Short,
}

/// What became of a clear.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleared {
    /// The direction is not ready now.
    Yes,
    /// An event came since the tick was taken, or the evidence is not enough: it may be ready.
    Refused,
}

/// What became of a thread that wants to wait.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enlisted {
    /// It is on the list, under this ticket.
    At(u64),
    /// It need not wait.
    Ready,
    /// The registration is gone.
    Closed,
}

/// What became of a waiter that leaves.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delisted {
    /// It took itself off the list: nobody has woken it, and nobody will.
    Removed,
    /// It was off the list already: somebody has woken it, or is about to, and it is in charge.
    Woken,
}

/// Wakes one waiter.
pub trait Wake {
    /// Makes the waiter's current or next [`Parking::park`] return.
    fn wake(self);
}

/// How the calling thread waits.
pub trait Parking {
    /// What others need to end the wait.
    type Waker: Wake;

    /// A waker of the calling thread.
    fn waker(&self) -> Self::Waker;

    /// Waits until woken, or until the deadline if there is one. May return early for no reason,
    /// and may unwind. Returns whether the deadline has passed.
    fn park(&mut self) -> bool;
}

/// The result of one attempt at an operation that does not block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt<T> {
    /// It ended, well or badly.
    Done(T),
    /// It ended well, and showed that its direction is exhausted.
    Short(T),
    /// It must wait.
    WouldBlock,
}

/// Why an operation gave up waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The deadline has passed.
    TimedOut,
    /// The registration is gone.
    Closed,
}

#[derive(Debug)]
struct Waiters<W> {
    /// Never repeats, not even across generations, so a late leaver cannot hit a successor.
    next_ticket: u64,
    lists: [WaitList<W>; 2],
}

/// The readiness of one descriptor and those who wait for it. Starts closed.
#[derive(Debug)]
pub struct Readiness<W> {
    word: AtomicU64,
    waiters: Mutex<Waiters<W>>,
}

impl<W: Wake> Default for Readiness<W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W: Wake> Readiness<W> {
    /// A closed slot of generation 0.
    pub fn new() -> Self {
        let lists = [WaitList::new(), WaitList::new()];
        Self {
            word: AtomicU64::new(CLOSED),
            waiters: Mutex::new(Waiters { next_ticket: 0, lists }),
        }
    }

    /// The word now.
    ///
    /// Acquire, for two reasons. It pairs with the release in [`event`](Self::event): whoever sees
    /// readiness makes its system call after the poller's. And it keeps the load before the system
    /// call that follows, without which the tick might be newer than what the call saw.
    #[inline]
    pub fn load(&self) -> Snapshot {
        Snapshot(self.word.load(Ordering::Acquire))
    }

    /// Changes the word by `change` until that gives `None` or wins. Returns the word before, and
    /// whether it was changed.
    fn update(
        &self,
        success: Ordering,
        failure: Ordering,
        mut change: impl FnMut(Snapshot) -> Option<Snapshot>,
    ) -> Result<Snapshot, Snapshot> {
        self.word
            .fetch_update(success, failure, |word| change(Snapshot(word)).map(|next| next.0))
            .map(Snapshot)
            .map_err(Snapshot)
    }

    /// Opens a closed slot for a registration and returns its generation. Both directions count as
    /// ready but `exhausted`, in which the caller's system call has just said EAGAIN. What has come
    /// since that call is reported by the registration itself, which happens later.
    ///
    /// # Panics
    ///
    /// If the slot is open.
    pub fn open(&self, exhausted: Direction) -> u32 {
        let ready = (READABLE | WRITABLE) & !exhausted.ready();
        // Relaxed: the registration that follows is what tells others of the slot, through the
        // kernel, and the descriptor's own `OnceLock`. Late comers of the previous generation
        // learn all they need from the generation.
        let before = self.update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            word.has(CLOSED).then_some(Snapshot((word.0 & !CLOSED) | ready))
        });
        before.expect("a slot is closed before it is used again").generation()
    }

    /// Ends the registration `generation` and wakes all who wait for it; they find it closed. Does
    /// nothing if it has ended already.
    pub fn close(&self, generation: u32) {
        let taken = {
            let mut waiters = self.waiters.lock();
            // Release pairs with the acquire of `load` and `enlist`, by which waiters find the
            // registration gone: what the closer did before happens before what they do then.
            let next = u64::from(generation.wrapping_add(1)) << GENERATION_SHIFT;
            let closed = self.update(Ordering::Release, Ordering::Relaxed, |word| {
                word.serves(generation).then_some(Snapshot(next | (word.0 & TICK_MASK) | CLOSED))
            });
            if closed.is_err() {
                return;
            }
            // The update has dropped the waiters bits; these empty lists agree (invariant 3).
            std::mem::replace(&mut waiters.lists, [WaitList::new(), WaitList::new()])
        };
        for mut list in taken {
            while let Some(waker) = list.pop() {
                wake(waker);
            }
        }
    }

    /// Applies an event that was made for `generation`, and gives those whom it wakes to `wake`,
    /// outside the lock. Several threads may apply events of one slot at once: each adds bits.
    pub fn event(&self, generation: u32, ready: Ready, mut wake: impl FnMut(W)) -> Applied {
        // Acquire pairs with the release in `enlist`, so that the waiter's list entry is seen
        // (the lock says so too); release pairs with `load`.
        let before = self.update(Ordering::AcqRel, Ordering::Relaxed, |word| {
            let next = Snapshot(word.0 | (ready.0 & EVENT_BITS)).with_next_tick();
            word.serves(generation).then_some(next)
        });
        let Ok(before) = before else { return Applied::Stale };
        for direction in [Direction::Read, Direction::Write] {
            if !before.has(direction.waiters()) {
                continue;
            }
            // Should the slot be closed and opened again before the lock is taken, then a waiter
            // of the next registration is woken, for no reason that it could notice.
            if ready.0 & direction.ended() != 0 {
                let mut list = self.take_all(direction);
                while let Some(waker) = list.pop() {
                    wake(waker);
                }
            } else if ready.0 & direction.ready() != 0
                && let Some(waker) = self.take_one(direction)
            {
                wake(waker);
            }
        }
        Applied::Yes
    }

    /// Notes that `direction` is exhausted, on the `evidence` of a system call made after `seen`
    /// was loaded.
    ///
    /// A short transfer is evidence for a stream without a further system call (`epoll(7)`), but
    /// it leaves the sticky bits: the next read must see the end of file. EAGAIN is the kernel's
    /// own word and clears them too, since otherwise a bit that has become untrue (an error that
    /// somebody else has picked up) would make the operation spin.
    pub fn clear(&self, direction: Direction, seen: Snapshot, evidence: Evidence) -> Cleared {
        let bits = match evidence {
            Evidence::WouldBlock => direction.ready() | direction.ended() | direction.unsure(),
            Evidence::Short if seen.has(direction.unsure()) => return Cleared::Refused,
            Evidence::Short => direction.ready(),
        };
        // Relaxed: publishes nothing. Being a read-modify-write it continues the release sequence
        // of the event before it, and no event can be between it and `seen` (invariant 2).
        let cleared = self.update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let same = word.generation() == seen.generation() && word.tick() == seen.tick();
            same.then_some(Snapshot(word.0 & !bits))
        });
        match cleared {
            Ok(_) => Cleared::Yes,
            Err(_) => Cleared::Refused,
        }
    }

    /// Puts the calling thread on the list of `direction`, unless it need not or cannot wait.
    pub fn enlist(&self, generation: u32, direction: Direction, waker: W) -> Enlisted {
        let mut waiters = self.waiters.lock();
        // Release pairs with the acquire in `event`; acquire pairs with its release, for the
        // system call that follows a `Ready`. The bit is set before the entry is made: an event
        // that sees it waits for the lock.
        let before = self.update(Ordering::AcqRel, Ordering::Acquire, |word| {
            let waits = word.serves(generation) && !word.is_ready(direction);
            waits.then_some(Snapshot(word.0 | direction.waiters()))
        });
        match before {
            Ok(_) => {
                let ticket = waiters.next_ticket;
                waiters.next_ticket += 1;
                waiters.lists[direction.index()].push(ticket, waker);
                Enlisted::At(ticket)
            }
            Err(word) if word.serves(generation) => Enlisted::Ready,
            Err(_) => Enlisted::Closed,
        }
    }

    /// Takes the waiter `ticket` off the list of `direction`.
    pub fn delist(&self, direction: Direction, ticket: u64) -> Delisted {
        // The usual case, without the lock: an event has emptied the list. Relaxed: this waiter
        // set the bit itself (or found it set), so if it is clear now the list was empty since.
        if !Snapshot(self.word.load(Ordering::Relaxed)).has(direction.waiters()) {
            return Delisted::Woken;
        }
        let removed = {
            let mut waiters = self.waiters.lock();
            let list = &mut waiters.lists[direction.index()];
            let removed = list.remove(ticket);
            if removed.is_some() && list.is_empty() {
                self.forget_waiters(direction);
            }
            removed
        };
        // The waker itself is dropped here, outside the lock.
        if removed.is_some() { Delisted::Removed } else { Delisted::Woken }
    }

    /// Wakes the next waiter of `direction` if it is ready: what whoever is in charge owes when it
    /// leaves.
    pub fn hand_over(&self, direction: Direction) {
        // Relaxed: the leaver has read this word after it was taken off the list (`delist`), and
        // the event's update is before that in the order of the word; so this load sees that
        // update or a later one. A waiter whose bit it misses enlisted later still, thus after a
        // clear, and the next event is in charge of it.
        let word = Snapshot(self.word.load(Ordering::Relaxed));
        if word.is_ready(direction)
            && word.has(direction.waiters())
            && let Some(waker) = self.take_one(direction)
        {
            wake(waker);
        }
    }

    fn take_one(&self, direction: Direction) -> Option<W> {
        let mut waiters = self.waiters.lock();
        let list = &mut waiters.lists[direction.index()];
        let waker = list.pop()?;
        if list.is_empty() {
            self.forget_waiters(direction);
        }
        Some(waker)
    }

    fn take_all(&self, direction: Direction) -> WaitList<W> {
        let mut waiters = self.waiters.lock();
        self.forget_waiters(direction);
        std::mem::replace(&mut waiters.lists[direction.index()], WaitList::new())
    }

    /// Clears the waiters bit. To be called under the lock, when the list is empty.
    fn forget_waiters(&self, direction: Direction) {
        // Relaxed: the bit is set and cleared under the lock, which orders it with the list.
        self.word.fetch_and(!direction.waiters(), Ordering::Relaxed);
    }

    /// Repeats `operation`, which must not block, until it ends or the wait for readiness fails.
    ///
    /// This is every blocking operation of the crate, once its descriptor is registered.
    pub fn block_on<T, P: Parking<Waker = W>>(
        &self,
        generation: u32,
        direction: Direction,
        parking: &mut P,
        mut operation: impl FnMut() -> Attempt<T>,
    ) -> Result<T, Failure> {
        let mut turn = None;
        loop {
            let seen = self.load();
            if !seen.serves(generation) {
                return Err(Failure::Closed);
            }
            if seen.is_ready(direction) {
                match operation() {
                    Attempt::Done(value) => return Ok(value),
                    Attempt::Short(value) => {
                        // Refused or not: the next operation finds out.
                        let _ = self.clear(direction, seen, Evidence::Short);
                        return Ok(value);
                    }
                    Attempt::WouldBlock => {
                        if self.clear(direction, seen, Evidence::WouldBlock) == Cleared::Refused {
                            continue;
                        }
                    }
                }
            }
            // A turn is given up before the next wait, and on every way out of here.
            drop(turn.take());
            match self.wait(generation, direction, parking) {
                Waited::Woken(next) => turn = Some(next),
                Waited::Again => {}
                Waited::TimedOut => {
                    // The kernel has the last word: the event may be on its way to the poller.
                    return match operation() {
                        Attempt::Done(value) | Attempt::Short(value) => Ok(value),
                        Attempt::WouldBlock => Err(Failure::TimedOut),
                    };
                }
            }
        }
    }

    /// Waits once, if there is something to wait for.
    fn wait<P: Parking<Waker = W>>(
        &self,
        generation: u32,
        direction: Direction,
        parking: &mut P,
    ) -> Waited<'_, W> {
        let Enlisted::At(ticket) = self.enlist(generation, direction, parking.waker()) else {
            return Waited::Again;
        };
        let place = Place { readiness: self, direction, ticket };
        let expired = parking.park();
        match (place.leave(), expired) {
            (Some(turn), _) => Waited::Woken(turn),
            (None, true) => Waited::TimedOut,
            (None, false) => Waited::Again,
        }
    }
}

/// Wakes outside the lock, and forgets the waiter (invariant 5).
fn wake<W: Wake>(waker: W) {
    waker.wake();
}

/// The end of one wait.
enum Waited<'a, W: Wake> {
    Woken(Turn<'a, W>),
    /// For no reason, or without having waited.
    Again,
    TimedOut,
}

/// A place on a list, left when dropped: a park that unwinds leaves nobody on the list.
struct Place<'a, W: Wake> {
    readiness: &'a Readiness<W>,
    direction: Direction,
    ticket: u64,
}

impl<'a, W: Wake> Place<'a, W> {
    /// Leaves. Returns the turn if somebody has woken this waiter.
    fn leave(self) -> Option<Turn<'a, W>> {
        let this = std::mem::ManuallyDrop::new(self);
        this.give_up()
    }

    fn give_up(&self) -> Option<Turn<'a, W>> {
        match self.readiness.delist(self.direction, self.ticket) {
            Delisted::Removed => None,
            Delisted::Woken => Some(Turn { readiness: self.readiness, direction: self.direction }),
        }
    }
}

impl<W: Wake> Drop for Place<'_, W> {
    fn drop(&mut self) {
        drop(self.give_up());
    }
}

/// Being in charge of a direction (invariant 4). Handed over when dropped.
struct Turn<'a, W: Wake> {
    readiness: &'a Readiness<W>,
    direction: Direction,
}

impl<W: Wake> Drop for Turn<'_, W> {
    fn drop(&mut self) {
        self.readiness.hand_over(self.direction);
    }
}
