//! A list of waiters inside the object that they wait for, for objects that are too busy to look
//! up an address each time: channels.
//!
//! It is built for the case that nobody waits: a notifier then pays one load. And for few wake-ups:
//! a thread that was notified but has not run yet will look at the object anyway, so for a backlog
//! that it can work off, nobody else needs to be woken.
//!
//! # Protocol
//!
//! ```text
//! waiter                                     notifier
//! N1 lock, saying WAITING; enter; unlock     M1 make the object ready, by a SeqCst write
//! N2 is the object ready? (SeqCst read)      M2 is WAITING set? no: done
//!    yes: leave the list                     M3 enough notified waiters on their way? yes: done
//!    no: park until notified                 M4 lock; take out the first; unlock; unpark it
//! N3 notified: count itself as arrived
//! N4 try; on success, if the object is ready still, act as a notifier from M2 on
//! ```
//!
//! # No lost wake-up
//!
//! *M1-M2 against N1-N2.* All four are SeqCst, so one of the two reads comes after both writes:
//! either the waiter sees the object ready, or the notifier sees `WAITING` and goes on to M4, where
//! it finds the waiter, or another that came before.
//!
//! *M3.* A notifier that stops here has seen, after its M1, a notified waiter R whose N3 is still to
//! come. R's N4 comes later still and so sees the object ready: R takes what is there, or it is
//! gone. And R acts as a notifier after, so that what it leaves behind is not left to nobody.
//!
//! *N4.* A waiter may be notified for one thing and take another that came before; what it was
//! notified for would stay behind while others wait. So each notified waiter that succeeds notifies
//! again if the object is still ready. By induction over those on their way: as long as the object
//! is ready and threads wait, one of them is on its way.
//!
//! A waiter that gives up, at its deadline or because it is cancelled, and finds that it was notified
//! does N3 and tries all the same. It unwinds only after it has left the list with nothing.
//!
//! # Handing over
//!
//! Where what is waited for is a message, a waiter enters with a *place* for one, and who has a
//! message may put it there instead of into the object ([`WaitList::hand_over`]): under the lock, to
//! the first waiter, if the object is empty and nobody is on their way. The waiter then needs no N4,
//! but for those who counted on it. It takes part in M3 and N3 as one that was notified.
//!
//! A message is handed over to a thread that has waited, in the order of waiting, and while no
//! other message waits: just as if it had gone through the object, and that thread had been quick.
//!
//! # Orderings
//!
//! Loom takes SeqCst accesses for AcqRel ones but knows SeqCst fences; under loom, and only there,
//! [`model_fence`] stands between the write and the read of each pair. On x86 the writes are locked
//! instructions, so that the pairs cost no fence, which would be the most expensive instruction of
//! a message.
#![allow(unsafe_code)]

use std::mem::{self, MaybeUninit};
use std::ptr;
use std::time::Instant;

use bine_runtime::primitive::Guess;
use bine_runtime::primitive::atomic::{AtomicU32, Ordering};
use bine_runtime::primitive::cell::UnsafeCell;

use crate::backoff::Backoff;
use crate::parking::{self, Roused, WakeBatch};
use crate::waiter::{List, Waiter};

/// Bit 0 of the word: somebody is at the list.
const LOCKED: u32 = 0b01;
/// Bit 1 of the word: the list is not empty, or somebody is about to enter it. Set by the locking
/// of one who enters; the unlocking says what is the case then.
const WAITING: u32 = 0b10;

/// Token of a waiter that was taken out as the last one, so that nobody counts on it.
const NOTIFIED: u32 = 0b001;
/// In the token of a waiter that is in [`WaitList::notified`] until it has arrived.
const COUNTED: u32 = 0b010;
/// In the token of a waiter in whose place a message is.
const HANDED: u32 = 0b100;

/// Stands where a SeqCst write is followed by a SeqCst read of something else (module
/// documentation). The accesses are SeqCst themselves, which is enough outside of loom.
#[inline(always)]
pub(crate) fn model_fence() {
    #[cfg(bine_loom)]
    bine_runtime::primitive::atomic::fence(Ordering::SeqCst);
}

/// The [`Place`] of a waiter, whatever its type is; null if there is none.
#[derive(Clone, Copy)]
pub(crate) struct AnyPlace(*const ());

// SAFETY: dereferenced by who hands a message over alone, which only a channel of messages that may
// be sent does.
unsafe impl Send for AnyPlace {}

impl AnyPlace {
    pub(crate) const NONE: Self = Self(ptr::null());
}

/// Where a message may be handed over, in the frame of a thread that waits. Written by whoever takes
/// the waiter out of the list; read by its owner, if the token says so.
struct Place<T>(UnsafeCell<MaybeUninit<T>>);

/// The list.
pub(crate) struct WaitList {
    word: AtomicU32,
    /// Waiters ever notified with others left behind. Written under the lock.
    notified: AtomicU32,
    /// Those of them that have come back. Never more than `notified`.
    arrived: AtomicU32,
    /// # Invariant
    /// Touched only by the thread that has set `LOCKED`.
    list: UnsafeCell<List<AnyPlace>>,
    /// Loom does not know that a spinning thread may be left alone, and lets two of them take turns
    /// for ever while the holder of the lock looks on. So in a model a thread comes to the bit by
    /// way of a mutex that blocks; the word is read and written just the same. (Loom's mutex
    /// orders more than the bit does, so no model can tell whether N1 needs its fence.)
    #[cfg(bine_loom)]
    turn: bine_runtime::primitive::Mutex<()>,
}

// SAFETY: the list, the only part that is not `Sync` by itself, is guarded by `LOCKED`; its waiters
// may be reached from any thread.
unsafe impl Sync for WaitList {}

/// How a wait ended.
#[must_use]
enum Waited {
    /// The object was ready when the waiter had entered the list.
    Ready,
    /// Somebody has notified the waiter and counts on it to look at the object.
    Notified,
    /// A message is in the waiter's place. Somebody may count on it to look at the object.
    Handed {
        counted: bool,
    },
    TimedOut,
}

impl Waited {
    fn by(token: u32) -> Self {
        match token & HANDED {
            0 => Self::Notified,
            _ => Self::Handed { counted: token & COUNTED != 0 },
        }
    }
}

impl WaitList {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            notified: AtomicU32::new(0),
            arrived: AtomicU32::new(0),
            list: UnsafeCell::new(List::new()),
            #[cfg(bine_loom)]
            turn: bine_runtime::primitive::Mutex::new(()),
        }
    }

    /// Calls `attempt` until it gives a value, and waits before each time, until `deadline`: then `None`.
    /// The caller has made the first attempt.
    ///
    /// `backlog` says how many attempts could succeed now, or at least whether one could. A write
    /// that makes it more than zero, or that lets `attempt` return, is a SeqCst one and is followed
    /// by a notification.
    pub(crate) fn wait_for<R>(
        &self,
        deadline: Option<Instant>,
        attempt: impl FnMut() -> Option<R>,
        backlog: impl Fn() -> usize,
    ) -> Option<R> {
        self.wait_at(AnyPlace::NONE, deadline, attempt, backlog, || None)
    }

    /// As [`wait_for`](Self::wait_for), for attempts at a message, which may be handed over.
    pub(crate) fn wait_for_message<T, E>(
        &self,
        deadline: Option<Instant>,
        attempt: impl FnMut() -> Option<Result<T, E>>,
        backlog: impl Fn() -> usize,
    ) -> Option<Result<T, E>> {
        let place = Place::<T>(UnsafeCell::new(MaybeUninit::uninit()));
        // SAFETY: called when a message was handed over, after which the place is ours. It is a new
        // one then: the wait is over.
        let take = || Some(Ok(place.0.with(|place| unsafe { (*place).assume_init_read() })));
        self.wait_at(AnyPlace((&raw const place).cast()), deadline, attempt, backlog, take)
    }

    /// Both of the above: waits with `place`, and returns what `take` gives if a message was put there.
    #[inline(always)]
    fn wait_at<R>(
        &self,
        place: AnyPlace,
        deadline: Option<Instant>,
        mut attempt: impl FnMut() -> Option<R>,
        backlog: impl Fn() -> usize,
        take: impl FnOnce() -> Option<R>,
    ) -> Option<R> {
        // Having lost against somebody who outran it, a waiter is the first in line.
        let mut lost = false;
        loop {
            let notified = match self.wait(place, deadline, lost, || backlog() > 0) {
                Waited::Ready => false,
                Waited::Notified => true,
                Waited::Handed { counted } => {
                    if counted && backlog() > 0 {
                        self.notify_one(backlog);
                    }
                    return take();
                }
                Waited::TimedOut => return None,
            };
            if let Some(value) = attempt() {
                if notified && backlog() > 0 {
                    self.notify_one(backlog);
                }
                return Some(value);
            }
            lost |= notified;
        }
    }

    /// Step N1 of a waiter that stands in several lists, and so does the rest of the protocol by
    /// itself: N2 next, and [`leave`](Self::leave) before the waiter goes.
    ///
    /// # Safety
    /// - `waiter` is in no list and unset. It is neither moved nor freed before `leave`.
    pub(crate) unsafe fn enter(&self, waiter: *const Waiter<AnyPlace>, first: bool) {
        // SAFETY: the caller's promise.
        self.lock(WAITING).with(|list| unsafe { list.push(waiter, first) });
        model_fence(); // N1 before N2
    }

    /// Takes out a waiter that has entered. True if it was notified, which is N3: the caller owes
    /// N4, or another notification in its place.
    #[must_use]
    pub(crate) fn leave(&self, waiter: &Waiter<AnyPlace>) -> bool {
        // As the lists' lock: a token that is there already ends the waiter's stay.
        let token = waiter.token().or_else(|| self.take_out(waiter));
        if let Some(token) = token {
            self.arrive(token);
        }
        token.is_some()
    }

    /// Takes `waiter`, which has entered, out, or returns its token if a notifier has done so.
    fn take_out(&self, waiter: &Waiter<AnyPlace>) -> Option<u32> {
        self.lock(0).with(|list| {
            let token = waiter.token();
            if token.is_none() {
                // SAFETY: the list is locked, and since the waiter's token is unset it is still
                // there (*linked*).
                unsafe { list.unlink(waiter) };
            }
            token
        })
    }

    /// Steps N1 to N3.
    ///
    /// # Panics
    /// Unwinds if the calling thread is cancelled and was not notified, or is alone in a forked child.
    fn wait(
        &self,
        place: AnyPlace,
        deadline: Option<Instant>,
        first: bool,
        ready: impl Fn() -> bool,
    ) -> Waited {
        let green = parking::is_green();
        if !green && spin_until(&ready) {
            return Waited::Ready;
        }
        let waiter = Waiter::new(place);
        // SAFETY: the waiter is new, and `stay` keeps its invariants: it takes it out, or sees its
        // token, before the waiter goes.
        self.lock(WAITING).with(|list| unsafe { list.push(&raw const waiter, first) });
        let stay = Stay { list: self, waiter: &waiter };
        model_fence(); // N1 before N2
        let ready = ready();
        let token = match ready {
            true => None,
            // Not `sleep`, which may unwind: what has been handed over must not be lost.
            false if green => waiter.sleep_or_rest(deadline),
            // An OS thread's unwinds in a forked child alone, where nobody else is.
            false => waiter.sleep(deadline),
        };
        let token = token.or_else(|| stay.leave());
        mem::forget(stay);
        match token {
            Some(token) => {
                self.arrive(token);
                Waited::by(token)
            }
            None if ready => Waited::Ready,
            None => {
                parking::interrupt();
                Waited::TimedOut
            }
        }
    }

    /// Step N3.
    fn arrive(&self, token: u32) {
        if token & COUNTED != 0 {
            // SeqCst: pairs with the load in `on_their_way` (N3 against M3).
            self.arrived.fetch_add(1, Ordering::SeqCst);
            model_fence(); // N3 before N4
        }
    }

    /// To be called after a SeqCst write that made the object ready: wakes a waiter if there is
    /// one and it is needed.
    #[inline]
    pub(crate) fn notify_one(&self, backlog: impl FnOnce() -> usize) {
        model_fence(); // M1 before M2
        // SeqCst: pairs with the locking of one who enters (M2 against N1).
        if self.word.load(Ordering::SeqCst) & WAITING != 0 {
            self.notify_waiter(backlog);
        }
    }

    /// Steps M3 and M4.
    #[inline(never)]
    fn notify_waiter(&self, backlog: impl FnOnce() -> usize) {
        let on_their_way = self.on_their_way();
        if on_their_way > 0 && is_enough(on_their_way, backlog) {
            return;
        }
        let roused = self.lock(0).with(|list| {
            first_of(list);
            let (node, token) = self.take_first(list)?;
            // SAFETY: just taken out, under the lock.
            Some(unsafe { Waiter::complete(node, token) })
        });
        if let Some(roused) = roused {
            roused.go();
        }
    }

    /// Puts `message` into the place of the first waiter and wakes it, if there is one with a place and
    /// the object is empty; else gives it back. Instead of a write to the object and its notification.
    #[inline]
    pub(crate) fn hand_over<T>(
        &self,
        message: T,
        is_empty: impl FnOnce() -> bool,
    ) -> Result<(), T> {
        // Relaxed: a hint. If somebody waits who is not seen here, the notification sees it. And those
        // on their way are enough for a message more, or are not: M3 sees to that.
        if self.word.load(Ordering::Relaxed) & WAITING == 0 || self.on_their_way() > 0 {
            return Err(message);
        }
        self.hand_to_waiter(message, is_empty)
    }

    #[inline(never)]
    fn hand_to_waiter<T>(&self, message: T, is_empty: impl FnOnce() -> bool) -> Result<(), T> {
        let roused = self.lock(0).with(|list| {
            let front = first_of(list);
            // SAFETY: in the list, whose lock we hold.
            if front.is_null() || unsafe { Waiter::payload(front, |place| place.0.is_null()) } {
                return Err(message);
            }
            if !is_empty() {
                return Err(message);
            }
            let Some((node, token)) = self.take_first(list) else { return Err(message) };
            // SAFETY: just taken out, under the lock. Who waits in the list of a channel of `T`s with
            // a place has one for a `T`, and leaves it alone until its token is set.
            unsafe {
                let place = Waiter::payload(node, |place| place.0).cast::<Place<T>>();
                (*place).0.with_mut(|place| (*place).write(message));
                Ok(Waiter::complete(node, token | HANDED))
            }
        });
        roused.map(Roused::go)
    }

    /// How many counted waiters have been notified and not arrived: no more than there are.
    #[inline]
    fn on_their_way(&self) -> u32 {
        // In this order: later notifications and arrivals can only make the difference too small.
        // SeqCst: `arrived` pairs with the addition in `arrive` (M3 against N3).
        let notified = self.notified.load(Ordering::SeqCst);
        let arrived = self.arrived.load(Ordering::SeqCst);
        (notified.wrapping_sub(arrived) as i32).max(0) as u32
    }

    /// Takes the first waiter out, to be completed with the token that is returned.
    fn take_first(&self, list: &mut List<AnyPlace>) -> Option<(*const Waiter<AnyPlace>, u32)> {
        // SAFETY: whoever has the list has set LOCKED, and it is this one's.
        let node = unsafe { list.pop()? };
        if list.is_empty() {
            return Some((node, NOTIFIED));
        }
        // Relaxed load: written under the lock only. SeqCst store: with `on_their_way`, whose
        // reader then sees at most those notified before.
        let notified = self.notified.load(Ordering::Relaxed);
        self.notified.store(notified.wrapping_add(1), Ordering::SeqCst);
        Some((node, COUNTED))
    }

    /// To be called after a SeqCst write that lets every attempt return: wakes all.
    pub(crate) fn notify_all(&self) {
        model_fence(); // M1 before M2
        // SeqCst: as in `notify_one`.
        if self.word.load(Ordering::SeqCst) & WAITING == 0 {
            return;
        }
        let mut batch = WakeBatch::new();
        self.lock(0).with(|list| {
            while let Some((node, token)) = self.take_first(list) {
                // SAFETY: just taken out, under the lock.
                batch.push(unsafe { Waiter::complete_later(node, token) });
            }
        });
        batch.flush();
    }

    /// Sets `LOCKED`, and the bits of `saying` with the same write.
    fn lock(&self, saying: u32) -> Locked<'_> {
        #[cfg(bine_loom)]
        let turn = self.turn.lock();
        let mut backoff = Backoff::new();
        let mut word = self.word.guess();
        loop {
            if word & LOCKED == 0 {
                // SeqCst: N1, which pairs with M2. As an Acquire it pairs with the Release of
                // `Locked`'s drop.
                match self.word.compare_exchange_weak(
                    word,
                    word | LOCKED | saying,
                    Ordering::SeqCst,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => {
                        return Locked {
                            list: self,
                            #[cfg(bine_loom)]
                            _turn: turn,
                        };
                    }
                    Err(now) => word = now,
                }
            } else {
                backoff.snooze();
                word = self.word.guess();
            }
        }
    }
}

/// The first waiter of `list`, or null. Takes out those before it whose threads were abandoned in the
/// shutdown of their runtime: nothing must be notified to them, or handed over.
#[inline]
fn first_of(list: &mut List<AnyPlace>) -> *const Waiter<AnyPlace> {
    loop {
        let front = list.front();
        // SAFETY: whoever has the list has set LOCKED, and what is in it is alive.
        unsafe {
            if front.is_null() || !Waiter::is_abandoned(front) {
                return front;
            }
            list.unlink(front);
        }
    }
}

/// Whether `on_their_way`, at least one, need no help with `backlog`.
///
/// Each stands for twice the backlog of the one before. So a burst wakes a few, who will find more
/// than one piece of work each; yet the more work is left, the less it matters that one of them is
/// held up by something else on its worker. The protocol does not depend on the answer. In models
/// one is always enough, so that two waiters are all it takes to explore what follows from it.
fn is_enough(on_their_way: u32, backlog: impl FnOnce() -> usize) -> bool {
    cfg!(bine_loom) || backlog() >> on_their_way.min(usize::BITS - 1) == 0
}

/// The right to touch the list.
struct Locked<'a> {
    list: &'a WaitList,
    #[cfg(bine_loom)]
    _turn: bine_runtime::primitive::MutexGuard<'a, ()>,
}

impl Locked<'_> {
    fn with<R>(self, f: impl FnOnce(&mut List<AnyPlace>) -> R) -> R {
        // SAFETY: `self` means that this thread has set LOCKED, and it ends with the call.
        self.list.list.with_mut(|list| f(unsafe { &mut *list }))
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: as in `with`.
        let empty = self.list.list.with(|list| unsafe { (*list).is_empty() });
        // Release: pairs with the exchange in `lock`. A plain store is enough, since nobody else
        // writes the word while LOCKED is set.
        self.list.word.store(if empty { 0 } else { WAITING }, Ordering::Release);
    }
}

/// What keeps a waiter's invariants while it is in the list.
struct Stay<'a> {
    list: &'a WaitList,
    waiter: &'a Waiter<AnyPlace>,
}

impl Stay<'_> {
    /// Takes the waiter out, or returns its token if a notifier has done so.
    fn leave(&self) -> Option<u32> {
        self.list.take_out(self.waiter)
    }
}

impl Drop for Stay<'_> {
    /// The wait unwinds since there is nobody else: nobody has handed anything over, and there is nobody
    /// to pass a notification on to.
    fn drop(&mut self) {
        if let Some(token) = self.leave() {
            self.list.arrive(token);
        }
    }
}

/// Waits for `ready` for a moment, on an OS thread, whose parking costs more than a few pauses.
pub(crate) fn spin_until(ready: impl Fn() -> bool) -> bool {
    if cfg!(bine_loom) {
        return false;
    }
    let mut backoff = Backoff::new();
    (0..SPINS).any(|_| {
        backoff.snooze();
        ready()
    })
}

/// How many times an OS thread looks again before it parks; see [`Backoff`].
const SPINS: u32 = 10;
