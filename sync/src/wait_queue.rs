//! The wait queue: block while a word holds a value, wake those who do.
//!
//! This is a futex in user space that serves green threads and plain OS threads alike. A thread
//! that finds a word in a state that it cannot go on from calls [`wait`] with the value that it
//! saw; whoever changes the word calls [`wake_one`], [`wake`] or [`wake_all`]. So a lock needs one
//! word and no more: the threads that wait for it stand in a table that the whole process shares,
//! found by the word's address.
//!
//! ```text
//! hash of the address -> bucket: a lock, and a chain of queues, one for each address
//!                          |
//!                          v
//!                        carrier of A -> carrier of B -> (end)      the chain
//!                          |               |
//!                          v               v
//!                        waiter          (end)                      the queues, first come first
//!                          |
//!                        (end)
//! ```
//!
//! The first waiter of an address *carries* that address's queue and its place in the chain; when
//! it leaves, the next one takes over. So one bucket may serve ten thousand threads that wait for
//! one lock, and finding the queue of another lock beside it still takes one step.
//!
//! # Why no wake-up is lost
//!
//! [`wait`] compares the word with the expected value under the bucket's lock, and enters the queue
//! before it unlocks. The waker changes the word *before* it takes that lock. Of the two critical
//! sections one comes first. If it is the waiter's, the waker finds it in the queue. If it is the
//! waker's, then the change of the word happens before the waiter's comparison, which fails. The
//! accesses to the word need no ordering for this: the lock gives it. What a waiter and its waker
//! owe one another once it is in the queue (last touch, spurious unparks, timeouts) is the protocol
//! of the waiter itself; its module lists the invariants.
//!
//! # Unwinding
//!
//! A wait may end in an unwinding, when the thread is cancelled. The waiter then leaves the queue;
//! if a waker had picked it already, the wake-up is passed on to the next in line.
//!
//! # Fairness, cost
//!
//! First come, first served. To wait or to wake is a hash, a lock, and a walk along the addresses that share
//! the bucket; the number of threads that wait at an address makes no difference, but to those that
//! are woken together, one after the other. Nothing is allocated, but to wake several together.
//!
//! # Where it comes from
//!
//! The interface is Linux's `futex(2)`. The table, the check under the bucket's lock and the
//! callbacks on the waker's side are those of WebKit's and `parking_lot`'s parking lots; the queue
//! for each address is that of Go's semaphore table. Not taken from `parking_lot`: the table that
//! grows with the number of threads (there may be a million of them here, but they wait at few
//! addresses), and the per-bucket timer for fairness (the mutex counts lost races instead).
#![allow(unsafe_code)]

use std::mem;
use std::ptr;
use std::time::Instant;

use bine_runtime::primitive::atomic::{AtomicU32, Ordering};
use bine_runtime::primitive::{Mutex, MutexGuard};

use crate::parking::{Unparker, WakeBatch};
use crate::waiter::{List, Waiter};

/// How a [`wait`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// A waker picked the caller.
    Woken,
    /// The word did not hold the expected value.
    Changed,
    /// The deadline passed first.
    TimedOut,
}

/// Blocks while `word` holds `expected`, until woken or until `deadline`.
///
/// Waiters of one word are woken first come, first served. A thread that is woken has to look at
/// the word again: it may have been woken for a change that others have undone.
///
/// # Examples
/// ```
/// use bine_runtime::primitive::atomic::{AtomicU32, Ordering};
/// use bine_sync::wait_queue::{wait, wake_all};
///
/// let flag = AtomicU32::new(0);
/// std::thread::scope(|s| {
///     s.spawn(|| {
///         while flag.load(Ordering::Acquire) == 0 {
///             let _ = wait(&flag, 0, None);
///         }
///     });
///     flag.store(1, Ordering::Release);
///     wake_all(&flag);
/// });
/// ```
pub fn wait(word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> Outcome {
    // Relaxed: the bucket's lock orders it against the waker (module documentation).
    wait_at(address(word), || word.load(Ordering::Relaxed) == expected, deadline)
}

/// As [`wait`], for the word with this address, while `admit` says so.
pub(crate) fn wait_at(
    key: usize,
    admit: impl FnOnce() -> bool,
    deadline: Option<Instant>,
) -> Outcome {
    let pass_on = |_| {
        unpark_one(key, |_| WOKEN);
    };
    match park(key, Entrance::default(), deadline, admit, || (), pass_on) {
        Parked::Refused => Outcome::Changed,
        Parked::Token(_) => Outcome::Woken,
        Parked::TimedOut => Outcome::TimedOut,
    }
}

/// Wakes the thread that has waited longest for `word`, and says whether there was one.
///
/// The word is not read, only its address matters: it need not exist any more.
pub fn wake_one(word: *const AtomicU32) -> bool {
    unpark_one(address(word), |_| WOKEN)
}

/// Wakes up to `count` threads, those that have waited longest, and says how many it woke.
pub fn wake(word: *const AtomicU32, count: usize) -> usize {
    unpark(address(word), count, || ())
}

/// Wakes all threads that wait for `word`, and says how many.
pub fn wake_all(word: *const AtomicU32) -> usize {
    wake(word, usize::MAX)
}

/// The token of a plain wake-up. Locks of this crate use others beside it.
pub(crate) const WOKEN: u32 = 1;

/// The key under which waiters for `word` stand.
pub(crate) fn address<T>(word: *const T) -> usize {
    word.addr()
}

/// How a waiter enters a queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Entrance {
    /// At the front: it has been at the front before, and lost a race when it was woken.
    pub(crate) first: bool,
    /// Told to the waker, in [`Front`].
    pub(crate) urgent: bool,
    /// What it waits for, as the lock counts it. Told to the waker too.
    pub(crate) demand: usize,
}

/// The first waiter of a queue, as its waker sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Front {
    /// As it entered.
    pub(crate) urgent: bool,
    /// As it entered.
    pub(crate) demand: usize,
    /// Whether others stand behind it.
    pub(crate) more: bool,
}

/// How a [`park`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Parked {
    /// `admit` said no.
    Refused,
    /// Woken, with the waker's token.
    Token(u32),
    /// The deadline passed first.
    TimedOut,
}

/// Enters the queue of `key` and parks.
///
/// `admit` is called under the bucket's lock and decides whether to enter at all; `before_sleep` is
/// called once in the queue, without the lock. If the wait unwinds after a waker has picked this
/// waiter, `abandoned` gets the token and passes on what came with it.
pub(crate) fn park(
    key: usize,
    entrance: Entrance,
    deadline: Option<Instant>,
    admit: impl FnOnce() -> bool,
    before_sleep: impl FnOnce(),
    abandoned: impl FnOnce(u32),
) -> Parked {
    let unwound = |token: Option<u32>| {
        if let Some(token) = token {
            abandoned(token);
        }
    };
    park_told(key, entrance, deadline, admit, before_sleep, unwound)
}

/// As [`park`], for queues in which those behind may go on when one in front of them gives up:
/// `unwound` is called whenever the wait unwinds, without a token if nobody had picked this waiter.
/// It has left the queue then. One that times out sees to that itself.
pub(crate) fn park_told(
    key: usize,
    entrance: Entrance,
    deadline: Option<Instant>,
    admit: impl FnOnce() -> bool,
    before_sleep: impl FnOnce(),
    unwound: impl FnOnce(Option<u32>),
) -> Parked {
    let waiter = Waiter::new(Entry::new(key, entrance));
    let mut chain = lock_bucket(key);
    if !admit() {
        return Parked::Refused;
    }
    // SAFETY: the waiter is new, the chain is that of its key's bucket, and `stay` keeps the
    // waiter's invariants: it takes it out, or sees its token, before the waiter goes.
    unsafe { chain.push(&raw const waiter, key, entrance.first) };
    let stay = Stay { waiter: &waiter, key, unwound: Some(unwound) };
    drop(chain);
    before_sleep();
    let token = waiter.sleep(deadline);
    #[cfg(bine_loom)]
    if token.is_none() && crate::parking::is_interrupted() {
        drop(stay); // as an unwinding does
        return Parked::TimedOut;
    }
    match stay.end(token) {
        Some(token) => Parked::Token(token),
        None => Parked::TimedOut,
    }
}

/// Wakes the first waiter of `key` and says whether there was one.
///
/// `decide` is called under the bucket's lock, with the waiter or without, and gives its token.
pub(crate) fn unpark_one(key: usize, decide: impl FnOnce(Option<Front>) -> u32) -> bool {
    let roused = {
        let mut chain = lock_bucket(key);
        // SAFETY: the chain is that of the key's bucket, and we hold its lock to the end.
        let Some((node, more)) = (unsafe { chain.pop(key) }) else {
            decide(None);
            return false;
        };
        // SAFETY: the node was just taken out, and the lock is still ours.
        unsafe {
            let front = Waiter::payload(node, |entry| entry.as_front(more));
            Waiter::complete(node, decide(Some(front)))
        }
    };
    roused.go();
    true
}

/// Wakes the first waiter of `key`, and the next one, as long as `decide` gives a token for it.
///
/// `decide` is called under the bucket's lock, at last with a waiter that stays, or without one if
/// the queue is empty.
pub(crate) fn unpark_while(key: usize, mut decide: impl FnMut(Option<Front>) -> Option<u32>) {
    // One alone needs no batch, which allocates.
    let mut last: Option<Unparker> = None;
    let mut batch = WakeBatch::new();
    let mut chain = lock_bucket(key);
    loop {
        // SAFETY: the chain is that of the key's bucket, and we hold its lock to the end.
        let Some((node, front)) = (unsafe { chain.peek(key) }) else {
            decide(None);
            break;
        };
        let Some(token) = decide(Some(front)) else { break };
        // SAFETY: as above, and the node is in the queue of the key.
        let unparker = unsafe {
            chain.unlink(node, key);
            Waiter::complete_later(node, token)
        };
        if let Some(other) = last.replace(unparker) {
            batch.push(other);
        }
    }
    drop(chain);
    batch.flush();
    if let Some(unparker) = last {
        unparker.unpark();
    }
}

/// Wakes the first `count` waiters of `key` with the plain token and says how many there were.
///
/// If none are left, `emptied` is called under the bucket's lock.
pub(crate) fn unpark(key: usize, count: usize, emptied: impl FnOnce()) -> usize {
    let mut batch = WakeBatch::new();
    let mut woken = 0;
    let mut chain = lock_bucket(key);
    let mut more = true;
    while more && woken < count {
        // SAFETY: the chain is that of the key's bucket, and we hold its lock to the end.
        let Some((node, rest)) = (unsafe { chain.pop(key) }) else {
            more = false;
            break;
        };
        // SAFETY: the node was just taken out, and the lock is still ours.
        batch.push(unsafe { Waiter::complete_later(node, WOKEN) });
        more = rest;
        woken += 1;
    }
    if !more {
        emptied();
    }
    drop(chain);
    batch.flush();
    woken
}

/// What keeps a waiter's invariants while it is in a queue: takes it out, if nobody else has.
struct Stay<'a, A: FnOnce(Option<u32>)> {
    waiter: &'a Waiter<Entry>,
    key: usize,
    unwound: Option<A>,
}

impl<A: FnOnce(Option<u32>)> Stay<'_, A> {
    /// The regular end: the token, or none if the waiter had to take itself out.
    fn end(self, token: Option<u32>) -> Option<u32> {
        let token = token.or_else(|| self.leave());
        mem::forget(self);
        token
    }

    /// Takes the waiter out, or returns its token if a waker has done so.
    fn leave(&self) -> Option<u32> {
        let mut chain = lock_bucket(self.key);
        let token = self.waiter.token();
        if token.is_none() {
            // SAFETY: we hold the lock of the bucket that the waiter was put in. Its token is
            // unset, so it is still there (*linked*).
            unsafe { chain.unlink(self.waiter, self.key) };
        }
        token
    }
}

impl<A: FnOnce(Option<u32>)> Drop for Stay<'_, A> {
    fn drop(&mut self) {
        let token = self.leave();
        if let Some(unwound) = self.unwound.take() {
            unwound(token);
        }
    }
}

/// What stands in a waiter of this table.
struct Entry {
    key: usize,
    urgent: bool,
    demand: usize,
    /// In a carrier, the queue of `key`, whose first waiter it is.
    queue: List<Entry>,
    /// In a carrier, the next carrier of the bucket, or null.
    next_carrier: Node,
}

type Node = *const Waiter<Entry>;

impl Entry {
    fn new(key: usize, Entrance { urgent, demand, .. }: Entrance) -> Self {
        Self { key, urgent, demand, queue: List::new(), next_carrier: ptr::null() }
    }

    fn as_front(&self, more: bool) -> Front {
        Front { urgent: self.urgent, demand: self.demand, more }
    }
}

/// The queues of one bucket.
///
/// # Invariant
/// For each key that has waiters here, exactly one node is reachable by `next_carrier` from
/// `first`: the front of the key's queue, which holds that queue.
struct Chain {
    first: Node,
}

// SAFETY: a chain leads to nodes that are reached only under the bucket's lock, from whichever
// thread holds it; their payloads are plain data.
unsafe impl Send for Chain {}

/// A key's queue and where in the chain it was found; without carrier, a new one.
struct Place {
    before: Node,
    carrier: Node,
    queue: List<Entry>,
}

/// All of these need, beside what they say: the caller holds the lock of the bucket that serves
/// `key`, and this is its chain. So every node reached is alive, and ours (*linked*, *links*).
impl Chain {
    /// # Safety
    /// - As the impl says.
    unsafe fn find(&self, key: usize) -> Place {
        let mut before = ptr::null();
        let mut carrier = self.first;
        while !carrier.is_null() {
            // SAFETY: a node of the chain.
            let (found, queue, next) = unsafe {
                Waiter::payload(carrier, |entry| (entry.key, entry.queue, entry.next_carrier))
            };
            if found == key {
                return Place { before, carrier, queue };
            }
            before = carrier;
            carrier = next;
        }
        Place { before: ptr::null(), carrier: ptr::null(), queue: List::new() }
    }

    /// Puts a queue back after it was changed, under its carrier of now, or drops it from the
    /// chain when it is empty.
    ///
    /// # Safety
    /// - As the impl says; `place` is from `find`, and the chain has not changed since.
    /// - A waiter that was taken out of the queue since has not been completed yet.
    unsafe fn settle(&mut self, place: &Place, queue: List<Entry>) {
        let after = match place.carrier.is_null() {
            true => self.first,
            // SAFETY: the old carrier is in the queue, or taken out but not completed.
            false => unsafe { Waiter::payload(place.carrier, |entry| entry.next_carrier) },
        };
        let carrier = queue.front();
        let next = if carrier.is_null() {
            after
        } else {
            // SAFETY: a node of the queue.
            unsafe {
                Waiter::payload(carrier, |entry| {
                    entry.queue = queue;
                    entry.next_carrier = after;
                });
            }
            carrier
        };
        match place.before.is_null() {
            true => self.first = next,
            // SAFETY: a node of the chain.
            false => unsafe { Waiter::payload(place.before, |entry| entry.next_carrier = next) },
        }
    }

    /// # Safety
    /// - As the impl says, and as `List::push` says of `node`.
    unsafe fn push(&mut self, node: Node, key: usize, first: bool) {
        // SAFETY: the caller's promises.
        unsafe {
            let place = self.find(key);
            let mut queue = place.queue;
            queue.push(node, first);
            self.settle(&place, queue);
        }
    }

    /// The first waiter of `key`, taken out, and whether more are left.
    ///
    /// # Safety
    /// - As the impl says.
    unsafe fn pop(&mut self, key: usize) -> Option<(Node, bool)> {
        // SAFETY: the caller's promises; nothing is completed before `settle`.
        unsafe {
            let place = self.find(key);
            let mut queue = place.queue;
            let node = queue.pop()?;
            self.settle(&place, queue);
            Some((node, !queue.is_empty()))
        }
    }

    /// The first waiter of `key`, which stays.
    ///
    /// # Safety
    /// - As the impl says.
    unsafe fn peek(&self, key: usize) -> Option<(Node, Front)> {
        // SAFETY: the caller's promises; the carrier is the front of its queue.
        unsafe {
            let place = self.find(key);
            let node = place.queue.front();
            (!node.is_null()).then(|| {
                let more = !place.queue.is_last(node);
                (node, Waiter::payload(node, |entry| entry.as_front(more)))
            })
        }
    }

    /// # Safety
    /// - As the impl says, and `node` is in the queue of `key`.
    unsafe fn unlink(&mut self, node: Node, key: usize) {
        // SAFETY: the caller's promises.
        unsafe {
            let place = self.find(key);
            let mut queue = place.queue;
            queue.unlink(node);
            self.settle(&place, queue);
        }
    }
}

type Bucket = Mutex<Chain>;

#[cfg(not(bine_loom))]
fn lock_bucket(key: usize) -> MutexGuard<'static, Chain> {
    use crossbeam_utils::CachePadded;

    /// 2^9 buckets: enough that two busy locks seldom meet, and the memory of a bucket is not
    /// touched before it is used.
    const BITS: u32 = 9;
    static TABLE: [CachePadded<Bucket>; 1 << BITS] =
        [const { CachePadded::new(Mutex::new(Chain { first: ptr::null() })) }; 1 << BITS];

    // Fibonacci hashing: 2^64 divided by the golden ratio; the upper bits are the good ones.
    let hash = (key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BITS);
    TABLE[hash as usize].lock()
}

/// One bucket for all, so that a model does not depend on addresses.
#[cfg(bine_loom)]
fn lock_bucket(_key: usize) -> MutexGuard<'static, Chain> {
    loom::lazy_static! {
        static ref TABLE: Bucket = Mutex::new(Chain { first: ptr::null() });
    }
    // SAFETY: not really 'static, but loom keeps its statics until the model's execution is over,
    // and the guard is never kept longer than a call of this module.
    unsafe { mem::transmute::<&Bucket, &'static Bucket>(&*TABLE) }.lock()
}
