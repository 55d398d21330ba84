//! How a select waits: in the lists of all its channels at once.
//!
//! # Protocol
//!
//! ```text
//! S1 try to claim each operation in turn; one is claimed: done
//! S2 make a Selection, OPEN, and a node for each operation, on this stack
//! S3 for each operation: enter its list; is it ready? yes: go on with S5
//! S4 park, until a node was taken out of its list, or time is up, or the thread is cancelled
//! S5 close the Selection; leave every list; somebody has claimed it meanwhile: done
//! S6 back to S1; notified by a list: pass the notification on if there is something left
//! ```
//!
//! Claims happen in S1 alone, where the select stands in no list, so that two selects cannot wait for
//! what the other has claimed. A claim is kept until the caller completes the operation:
//!
//! - Channels with room count it (`ring` has how). Their waiters are notified as all waiters are, of
//!   something that may be gone when they come; a select that was notified behaves as
//!   [`WaitList`](crate::wait_list::WaitList) wants: it counts as arrived in S5 (N3), tries in S1 (N4),
//!   and notifies the next in S6, whether it took something there, elsewhere, or nothing.
//! - Channels without room pair two threads. Whoever finds the seat of a waiting select there claims the
//!   select first, by an exchange of its word from OPEN to the number of the operation. So one peer
//!   at most gets it, of all channels, and none once it has been closed.
//!
//! # Nobody waits beside something that is ready
//!
//! For lists, S3 is N1 and N2 of their protocol. In a channel without room, entering and looking are
//! critical sections of one lock, so of two who would fit, the later one sees the earlier: open, then
//! it is claimed or the later one goes back to S1; or closed, then it will enter again, and look.
//!
//! # Nothing is left behind
//!
//! [`Stay`] leaves every list that was entered before the nodes go, also when the thread unwinds. A
//! select that is cancelled leaves first, passes on what it was notified of, and unwinds then. One
//! that was claimed at that moment has succeeded, and unwinds at its next wait.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::mem;
use std::ptr;
use std::time::Instant;

use bine_runtime::primitive::atomic::{AtomicUsize, Ordering};

use super::operation::{Claim, Nobody, Node, Operation};
use crate::channel::rendezvous;
use crate::parking;
use crate::wait_list::spin_until;

/// The word that says who has a waiting select.
///
/// | value | meaning |
/// |---|---|
/// | `OPEN` | nobody; it waits |
/// | `CLOSED` | itself; it is about to leave its lists |
/// | `FIRST + n` | a peer of its operation number `n` |
pub(crate) struct Selection(AtomicUsize);

const OPEN: usize = 0;
const CLOSED: usize = 1;
const FIRST: usize = 2;

impl Selection {
    fn new() -> Self {
        Self(AtomicUsize::new(OPEN))
    }

    /// Claims the select for a peer of its operation `number`, if nobody has it.
    pub(crate) fn claim(&self, number: usize) -> bool {
        // Relaxed: what the peer does next is ordered by the token of the node, and what it has done
        // by the channel's lock.
        self.0.compare_exchange(OPEN, FIRST + number, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(crate) fn is_open(&self) -> bool {
        // Relaxed: as in `claim`.
        self.0.load(Ordering::Relaxed) == OPEN
    }

    /// Ends the wait. The number of the operation for which a peer was faster, if one was.
    fn close(&self) -> Option<usize> {
        // Relaxed: as in `claim`.
        match self.0.compare_exchange(OPEN, CLOSED, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) | Err(CLOSED) => None,
            Err(claimed) => Some(claimed - FIRST),
        }
    }
}

/// The end of a select's wait, in models: a peer that comes then, or later, fails them.
#[cfg(bine_loom)]
impl Drop for Selection {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.with_mut(|_| ());
        }
    }
}

/// One of a select's operations.
#[derive(Clone, Copy)]
pub struct Arm<'a> {
    pub(super) operation: &'a dyn Operation,
    pub(super) index: usize,
    /// It was notified by the channel's list, and owes a `pass_on`.
    notified: bool,
    /// It was notified before, and goes to the front the next time.
    first: bool,
}

impl<'a> Arm<'a> {
    pub(super) const NOBODY: Arm<'static> = Arm::new(&Nobody, 0);

    pub(super) const fn new(operation: &'a dyn Operation, index: usize) -> Self {
        Self { operation, index, notified: false, first: false }
    }
}

impl std::fmt::Debug for Arm<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arm").field("index", &self.index).finish_non_exhaustive()
    }
}

/// For how long a select waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Not at all.
    Now,
    /// Until then.
    At(Instant),
    /// For ever.
    Never,
}

/// Claims one of the operations, and waits for one up to `limit`. Its place in `arms` and the claim;
/// the caller uses it up.
pub(super) fn select(arms: &mut [Arm<'_>], biased: bool, limit: Limit) -> Option<(usize, Claim)> {
    let try_claim = |arms: &[Arm<'_>]| {
        arms.iter().enumerate().find_map(|(at, arm)| Some((at, arm.operation.claim()?)))
    };
    attend(arms, biased, limit, try_claim, Some, false)
}

/// Finds an operation that is ready, and waits for one up to `limit`. Its place in `arms`.
pub(super) fn ready(arms: &mut [Arm<'_>], biased: bool, limit: Limit) -> Option<usize> {
    let look = |arms: &[Arm<'_>]| arms.iter().position(|arm| arm.operation.is_ready(ptr::null()));
    attend(arms, biased, limit, look, |_| None, true)
}

/// The whole of the protocol, with `attempt` for S1.
fn attend<R>(
    arms: &mut [Arm<'_>],
    biased: bool,
    limit: Limit,
    attempt: impl Fn(&[Arm<'_>]) -> Option<R>,
    claimed: impl Fn((usize, Claim)) -> Option<R>,
    watches: bool,
) -> Option<R> {
    parking::checkpoint();
    if !biased {
        shuffle(arms);
    }
    let deadline = match limit {
        Limit::Now => return attempt_now(arms, attempt),
        Limit::At(deadline) => Some(deadline),
        Limit::Never => None,
    };
    let mut last = false;
    loop {
        let found = attempt(arms);
        pass_on(arms);
        if found.is_some() || last {
            return found;
        }
        match wait(arms, deadline, watches) {
            Waited::Claimed(at, claim) => {
                pass_on(arms);
                return claimed((at, claim));
            }
            Waited::Again => {}
            // In a model, which does not unwind, one that is cancelled ends here.
            Waited::TimedOut if cfg!(bine_loom) && parking::is_interrupted() => return None,
            Waited::TimedOut => last = true,
        }
    }
}

/// Attempts once, and goes on until there was a moment at which nothing was ready. Looking at one
/// channel after the other does not show that: a message may have moved from one that comes later to
/// one that came before. But if nothing has changed from before the first look to after the last,
/// there was such a moment between.
fn attempt_now<R>(arms: &[Arm<'_>], attempt: impl Fn(&[Arm<'_>]) -> Option<R>) -> Option<R> {
    let version =
        || arms.iter().fold(0_usize, |sum, arm| sum.rotate_left(7) ^ arm.operation.version());
    let found = attempt(arms);
    if found.is_some() || arms.len() < 2 {
        return found;
    }
    let mut before = version();
    for _ in 0..MAX_LOOKS {
        if let Some(found) = attempt(arms) {
            return Some(found);
        }
        let after = version();
        if after == before {
            break;
        }
        before = after;
    }
    None
}

/// After so many looks in vain, with changes all the time, nothing was ready for long enough.
const MAX_LOOKS: usize = 16;

/// Step S6.
fn pass_on(arms: &mut [Arm<'_>]) {
    for arm in arms.iter_mut().filter(|arm| arm.notified) {
        arm.notified = false;
        arm.operation.pass_on();
    }
}

/// How a wait ended.
#[must_use]
enum Waited {
    /// A peer of the operation at this place has claimed the select.
    Claimed(usize, Claim),
    /// There is something to look at.
    Again,
    TimedOut,
}

/// Nodes that need no allocation.
const INLINE: usize = super::INLINE;

/// Steps S2 to S5.
fn wait(arms: &mut [Arm<'_>], deadline: Option<Instant>, watches: bool) -> Waited {
    let any_ready = || arms.iter().any(|arm| arm.operation.is_ready(ptr::null()));
    if !parking::is_green() && spin_until(any_ready) {
        return Waited::Again;
    }
    let selection = Selection::new();
    let node = |(at, arm): (usize, &Arm<'_>)| arm.operation.node(&selection, at, watches);
    let mut few = [const { None::<Node> }; INLINE];
    let many: Vec<_>;
    let nodes = if arms.len() <= INLINE {
        for (slot, arm) in few.iter_mut().zip(arms.iter().enumerate()) {
            *slot = node(arm);
        }
        &few[..arms.len()]
    } else {
        many = arms.iter().enumerate().map(node).collect();
        &many[..]
    };
    let mut stay = Stay { arms, nodes, selection: &selection, entered: 0 };
    if !stay.enter_all(watches) {
        stay.sleep(deadline);
    }
    let claimed = stay.end();
    mem::forget(stay);
    if let Some((at, claim)) = claimed {
        return Waited::Claimed(at, claim);
    }
    if parking::is_interrupted() {
        pass_on(arms);
        parking::interrupt();
        return Waited::TimedOut;
    }
    match deadline {
        Some(deadline) if parking::has_passed(deadline) => Waited::TimedOut,
        _ => Waited::Again,
    }
}

/// What keeps the invariants of the nodes while they are in lists.
struct Stay<'s, 'a> {
    arms: &'s mut [Arm<'a>],
    nodes: &'s [Option<Node>],
    selection: &'s Selection,
    /// How many arms have entered with their nodes.
    entered: usize,
}

impl Stay<'_, '_> {
    /// Step S3. True if one was found to be ready.
    fn enter_all(&mut self, watches: bool) -> bool {
        for (arm, node) in self.arms.iter().zip(self.nodes) {
            if let Some(node) = node {
                // SAFETY: the node is this arm's and new. `end` has it leave, at the latest when
                // `self` is dropped, which borrows it and the selection.
                unsafe { arm.operation.enter(node, arm.first, watches) };
            }
            self.entered += 1;
            if arm.operation.is_ready(self.selection) {
                return true;
            }
        }
        false
    }

    /// Step S4.
    fn sleep(&self, deadline: Option<Instant>) {
        let timers = self.arms.iter().filter_map(|arm| arm.operation.deadline()).min();
        let alarm = [deadline, timers].into_iter().flatten().min();
        while !self.nodes.iter().flatten().any(Node::was_taken) && !parking::is_interrupted() {
            match alarm {
                None => parking::rest(),
                Some(alarm) if parking::has_passed(alarm) => return,
                Some(alarm) => parking::rest_until(alarm),
            }
        }
    }

    /// Step S5.
    fn end(&mut self) -> Option<(usize, Claim)> {
        let claimed = self.selection.close();
        for at in 0..mem::take(&mut self.entered) {
            if let (Some(node), false) = (&self.nodes[at], Some(at) == claimed) {
                let notified = self.arms[at].operation.leave(node);
                self.arms[at].notified |= notified;
                self.arms[at].first |= notified;
            }
        }
        let at = claimed?;
        // The peer may take its time.
        pass_on(self.arms);
        let Some(Node::Seated(seat)) = &self.nodes[at] else {
            unreachable!("only in a seat a select is claimed");
        };
        // SAFETY: the selection says so.
        unsafe { rendezvous::await_claimer(seat) }.map(|claim| (at, claim))
    }
}

impl Drop for Stay<'_, '_> {
    /// For unwindings that nobody expects: a wait is interrupted only after its end.
    fn drop(&mut self) {
        if let Some((at, claim)) = self.end() {
            self.arms[at].operation.give_back(claim);
        }
        pass_on(self.arms);
    }
}

/// Puts the arms into a random order, so that none is preferred of those that are ready.
fn shuffle(arms: &mut [Arm<'_>]) {
    if arms.len() < 2 || cfg!(bine_loom) {
        return;
    }
    let mut random = next_random();
    for last in (1..arms.len()).rev() {
        // The high half of a product is as good as a remainder, and cheaper.
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let other = ((random >> 32) * (last as u64 + 1)) >> 32;
        arms.swap(last, other as usize);
    }
}

/// A number to begin with. Not inlined: the address of a thread-local is not kept across a switch.
#[inline(never)]
fn next_random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    STATE.with(|state| {
        // Xorshift, by George Marsaglia. Each thread begins elsewhere, by where its state lies.
        let mut x = match state.get() {
            0 => (ptr::from_ref(state).addr() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            x => x,
        };
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        x
    })
}
