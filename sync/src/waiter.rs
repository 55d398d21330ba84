//! Waiters and the lists they stand in: the mechanism under everything that blocks in this crate.
//!
//! A [`Waiter`] is a node on the stack of the thread that waits; a [`List`] is an intrusive FIFO of
//! such nodes. Waiting therefore allocates nothing. The list does not lock: whoever owns it guards
//! it with a lock of its own ([`crate::wait_queue`] with a bucket's, [`crate::wait_list`] with a bit
//! of its word, the rendezvous channel with the channel's), called *the lock* below.
//!
//! # Protocol
//!
//! ```text
//! waiter                                    waker
//! lock; condition still false?              make the condition true
//!   no:  unlock, return                     lock; take the first node out of its list
//!   yes: put the node in, unlock              rouse its thread
//! until the token is set: park                set the token          <- last touch of the node
//!   (deadline passed: lock;                 unlock; let the thread go
//!    token set? it counts as woken
//!    else take the node out; unlock)
//! ```
//!
//! # Invariants
//!
//! - **linked**: a node is in a list exactly while its owner has put it there and its token is
//!   unset, as seen under the lock. Its owner neither moves nor frees it meanwhile: the crate's
//!   guards take it out again when the wait unwinds.
//! - **links**: the links of a node that is in a list are touched only under the lock, and by its
//!   owner only outside any list: before it is put in, after it was taken out, or after its token
//!   has been read with `Acquire`.
//! - **last touch**: storing the token is the last thing that a waker does with a node. From then
//!   on the owner may return and the node's memory may be anything.
//!
//! # No lost wake-up
//!
//! Take a waiter that is in the list and a waker that makes its condition true. If the waker's
//! critical section comes after the waiter's, the waker finds the node, and its token and unpark
//! end the loop of `park`, whatever else may unpark the thread meanwhile. If it comes before, the
//! waiter's check of the condition, inside its own later critical section, sees it true. A user of
//! the list who checks outside the lock, or skips the lock when no one seems to wait, owes an
//! argument of its own; `wait_list` has one.
#![allow(unsafe_code)]

use std::ptr;
use std::time::Instant;

use bine_runtime::primitive::atomic::{AtomicU32, Ordering};
use bine_runtime::primitive::cell::UnsafeCell;

use crate::parking::{self, Roused, Sleeper, Unparker};

/// The token of a waiter that nobody has woken. Every other value is for the waker to choose.
const UNSET: u32 = 0;

/// A thread that waits, as a node on its own stack. `X` is what the list's owner keeps with it,
/// under the same rules as the links.
pub(crate) struct Waiter<X> {
    token: AtomicU32,
    /// # Invariant
    /// Reached as the module's *links* invariant says.
    links: UnsafeCell<Links<X>>,
    /// In a list. Seen by models alone, where a node that goes too early must not go unnoticed
    /// because its memory happens to be as it was.
    #[cfg(bine_loom)]
    is_linked: std::sync::atomic::AtomicBool,
}

struct Links<X> {
    prev: *const Waiter<X>,
    next: *const Waiter<X>,
    sleeper: Sleeper,
    payload: X,
}

impl<X> Waiter<X> {
    /// A waiter for the calling thread.
    pub(crate) fn new(payload: X) -> Self {
        let sleeper = Sleeper::current();
        let links = Links { prev: ptr::null(), next: ptr::null(), sleeper, payload };
        Self {
            token: AtomicU32::new(UNSET),
            links: UnsafeCell::new(links),
            #[cfg(bine_loom)]
            is_linked: false.into(),
        }
    }

    #[cfg(bine_loom)]
    fn note_linked(&self, is_linked: bool) {
        self.is_linked.store(is_linked, std::sync::atomic::Ordering::Relaxed);
    }

    /// What the waker left, once it has.
    pub(crate) fn token(&self) -> Option<u32> {
        // Acquire: pairs with the Release store in `complete`, so that the waker's accesses to the
        // node happen before whatever the owner does with it next.
        let token = self.token.load(Ordering::Acquire);
        (token != UNSET).then_some(token)
    }

    /// Parks until the token is set, and returns it, or none when `deadline` has passed first.
    pub(crate) fn sleep(&self, deadline: Option<Instant>) -> Option<u32> {
        loop {
            if let Some(token) = self.token() {
                return Some(token);
            }
            match deadline {
                #[cfg(bine_loom)] // instead of unwinding
                _ if parking::is_interrupted() => return None,
                None => parking::park(),
                Some(deadline) if parking::has_passed(deadline) => return None,
                Some(deadline) => parking::park_until(deadline),
            }
        }
    }

    /// As [`sleep`](Self::sleep), but where that would unwind returns none: for waits that are
    /// complete once the token is set, and so have to take the waiter out before they unwind.
    pub(crate) fn sleep_or_rest(&self, deadline: Option<Instant>) -> Option<u32> {
        loop {
            if let Some(token) = self.token() {
                return Some(token);
            }
            match deadline {
                _ if parking::is_interrupted() => return None,
                None => parking::rest(),
                Some(deadline) if parking::has_passed(deadline) => return None,
                Some(deadline) => parking::rest_until(deadline),
            }
        }
    }

    /// Parks until the token is set to something else than `promised`, whatever else happens: for a
    /// waiter that somebody has taken out of its list who is to complete it later.
    pub(crate) fn sleep_past(&self, promised: u32) -> u32 {
        loop {
            match self.token() {
                Some(token) if token != promised => return token,
                _ => parking::rest(),
            }
        }
    }

    /// Calls `f` with the payload of `node`.
    ///
    /// # Safety
    /// - `node` is in a list whose lock the caller holds, or the caller has taken it out and has not
    ///   completed it.
    pub(crate) unsafe fn payload<R>(node: *const Self, f: impl FnOnce(&mut X) -> R) -> R {
        // SAFETY: the caller's promise makes the node alive (*linked*) and ours alone (*links*).
        unsafe { (*node).links.with_mut(|links| f(&mut (*links).payload)) }
    }

    /// Tells the owner of a node that was taken out of its list that it is in none any more, and is
    /// to wait until it is completed with another token than this.
    ///
    /// # Safety
    /// - The caller has taken `node` out of its list, still holds the lock, and completes it later.
    pub(crate) unsafe fn promise(node: *const Self, token: u32) {
        debug_assert_ne!(token, UNSET);
        // SAFETY: the owner keeps the node alive until it is completed: the caller's promise.
        // Relaxed: the owner does nothing with it but wait on, or looks under the lock.
        unsafe { (*node).token.store(token, Ordering::Relaxed) };
    }

    /// Whether the thread that waits will never run again. Its node stays as it is for ever.
    ///
    /// # Safety
    /// - As for [`payload`](Self::payload).
    #[inline]
    pub(crate) unsafe fn is_abandoned(node: *const Self) -> bool {
        // SAFETY: the caller's promise; and the owner, which waits for the token, has not ended.
        unsafe { (*node).links.with(|links| (*links).sleeper.is_abandoned()) }
    }

    /// Ends the wait of a node that was taken out of its list. The caller lets its thread go, best
    /// after unlocking, and must not touch the node again.
    ///
    /// # Safety
    /// - The caller has taken `node` out of its list, and has not completed it. The owner does not
    ///   leave before: either the lock is still held, or it was [promised](Self::promise).
    #[inline]
    pub(crate) unsafe fn complete(node: *const Self, token: u32) -> Roused {
        // SAFETY: the caller's promise; and the owner, which waits for the token, has not ended.
        unsafe {
            let roused = (*node).links.with(|links| (*links).sleeper.rouse());
            Self::set(node, token);
            roused
        }
    }

    /// As [`complete`](Self::complete), where the thread is woken together with others.
    ///
    /// # Safety
    /// - As for `complete`.
    pub(crate) unsafe fn complete_later(node: *const Self, token: u32) -> Unparker {
        // SAFETY: as in `complete`.
        unsafe {
            let unparker = (*node).links.with(|links| (*links).sleeper.unparker());
            Self::set(node, token);
            unparker
        }
    }

    /// # Safety
    /// - As for `complete`.
    unsafe fn set(node: *const Self, token: u32) {
        debug_assert_ne!(token, UNSET);
        // SAFETY: until the token is set the owner keeps the node alive, and only who took it out
        // of its list touches it: the caller's promise. This is the last touch.
        // Release: pairs with the Acquire load in `token`.
        unsafe { (*node).token.store(token, Ordering::Release) };
    }
}

/// The end of a node, in models: whoever touches it then, or later, fails them (*last touch*).
#[cfg(bine_loom)]
impl<X> Drop for Waiter<X> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let is_linked = self.is_linked.load(std::sync::atomic::Ordering::Relaxed);
            assert!(!is_linked, "a waiter goes while it is in a list");
            self.token.with_mut(|_| ());
            self.links.with_mut(|_| ());
        }
    }
}

/// A FIFO of waiters, threaded through their nodes.
pub(crate) struct List<X> {
    head: *const Waiter<X>,
    tail: *const Waiter<X>,
}

impl<X> Clone for List<X> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<X> Copy for List<X> {}

// SAFETY: a list is two pointers to nodes that are reached only under the lock, from whichever
// thread holds it (*links*). What travels to that thread with a node is its payload, and its
// sleeper, which any thread may rouse.
unsafe impl<X: Send> Send for List<X> {}

impl<X> List<X> {
    /// An empty list.
    pub(crate) const fn new() -> Self {
        Self { head: ptr::null(), tail: ptr::null() }
    }

    /// Whether nobody is in the list.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// The node at the front, or null.
    pub(crate) fn front(&self) -> *const Waiter<X> {
        self.head
    }

    /// Whether `node`, which is in the list, is its last one.
    pub(crate) fn is_last(&self, node: *const Waiter<X>) -> bool {
        self.tail == node
    }

    /// The node behind `node`, or null.
    ///
    /// # Safety
    /// - The caller holds the list's lock and `node` is in this list.
    pub(crate) unsafe fn after(&self, node: *const Waiter<X>) -> *const Waiter<X> {
        // SAFETY: the nodes of the list are alive and ours under the lock.
        unsafe { (*node).links.with(|links| (*links).next) }
    }

    /// Puts `node` at the back, or at the front if `first`.
    ///
    /// # Safety
    /// - The caller holds the list's lock.
    /// - `node` is in no list and unset, and its owner keeps the module's invariants from here on.
    pub(crate) unsafe fn push(&mut self, node: *const Waiter<X>, first: bool) {
        let (prev, next) = if first { (ptr::null(), self.head) } else { (self.tail, ptr::null()) };
        // SAFETY: the caller owns `node`, and the list's nodes are alive and ours under the lock.
        unsafe {
            (*node).links.with_mut(|links| {
                (*links).prev = prev;
                (*links).next = next;
            });
            self.join(prev, node);
            self.join(node, next);
            #[cfg(bine_loom)]
            (*node).note_linked(true);
        }
    }

    /// Takes the first node out. The caller completes it before it unlocks.
    ///
    /// # Safety
    /// - The caller holds the list's lock.
    pub(crate) unsafe fn pop(&mut self) -> Option<*const Waiter<X>> {
        let node = self.head;
        if node.is_null() {
            return None;
        }
        // SAFETY: the head is in this list, whose lock the caller holds.
        unsafe { self.unlink(node) };
        Some(node)
    }

    /// Takes `node` out.
    ///
    /// # Safety
    /// - The caller holds the list's lock and `node` is in this list.
    pub(crate) unsafe fn unlink(&mut self, node: *const Waiter<X>) {
        // SAFETY: the nodes of the list are alive and ours under the lock.
        unsafe {
            let (prev, next) = (*node).links.with(|links| ((*links).prev, (*links).next));
            self.join(prev, next);
            #[cfg(bine_loom)]
            (*node).note_linked(false);
        }
    }

    /// Makes `next` follow `prev`; null stands for the list's ends.
    ///
    /// # Safety
    /// - As for `unlink`, for each of the two that is not null.
    unsafe fn join(&mut self, prev: *const Waiter<X>, next: *const Waiter<X>) {
        // SAFETY: the caller's promise.
        unsafe {
            match prev.is_null() {
                true => self.head = next,
                false => (*prev).links.with_mut(|links| (*links).next = next),
            }
            match next.is_null() {
                true => self.tail = prev,
                false => (*next).links.with_mut(|links| (*links).prev = prev),
            }
        }
    }
}

#[cfg(all(test, not(bine_loom)))]
mod tests {
    use super::*;

    #[test]
    fn nodes_leave_in_order_and_from_the_middle() {
        let nodes: Vec<_> = (0..5).map(Waiter::new).collect();
        let mut list = List::new();
        // SAFETY: one thread, and `nodes` outlives every use of the list.
        unsafe {
            for node in &nodes[..4] {
                list.push(node, false);
            }
            list.push(&nodes[4], true);
            list.unlink(&nodes[1]);
            list.unlink(&nodes[3]);
            let mut order = Vec::new();
            while let Some(node) = list.pop() {
                order.push(Waiter::payload(node, |n| *n));
                Waiter::complete(node, 7).go();
            }
            assert_eq!(order, [4, 0, 2]);
        }
        assert!(list.is_empty());
        assert_eq!(nodes[0].token(), Some(7));
        assert_eq!(nodes[1].token(), None);
    }
}
