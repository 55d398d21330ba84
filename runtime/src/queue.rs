//! Intrusive queues of green threads: the local run queue of one worker, and the inbox through
//! which other threads reach it.
//!
//! Both link the threads through one field of theirs, so queueing allocates nothing and cannot
//! fail. That one field suffices because a thread is in at most one queue (the token's invariant).

use std::cell::Cell;
use std::ptr;

use crate::primitive::Guess;
use crate::primitive::atomic::{AtomicPtr, Ordering};

/// A thing that can be in one intrusive queue at a time.
///
/// # Safety
///
/// - `link` returns the same field of the node at each call.
/// - Nobody but the queue that holds the node touches that field.
pub unsafe trait Node: Sized {
    /// The field that links the node to the next one.
    fn link(&self) -> &AtomicPtr<Self>;
}

/// A FIFO for the owner thread alone: no atomic read-modify-write, no fence.
#[derive(Debug)]
pub struct LocalQueue<N> {
    /// Atomic for those who only ask whether it is empty. Relaxed throughout: a hint for them.
    head: AtomicPtr<N>,
    tail: Cell<*mut N>,
}

impl<N: Node> Default for LocalQueue<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<N: Node> LocalQueue<N> {
    /// An empty queue.
    pub fn new() -> Self {
        Self { head: AtomicPtr::new(ptr::null_mut()), tail: Cell::new(ptr::null_mut()) }
    }

    /// Whether no node is queued.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed).is_null()
    }

    /// Adds a node at the back.
    ///
    /// # Safety
    ///
    /// `node` is valid until it is popped, and in no other queue.
    #[inline]
    pub unsafe fn push(&self, node: *mut N) {
        // SAFETY: the caller says that the node is valid.
        // Relaxed: the owner alone reads what it wrote.
        unsafe { &*node }.link().store(ptr::null_mut(), Ordering::Relaxed);
        let tail = self.tail.replace(node);
        if tail.is_null() {
            self.head.store(node, Ordering::Relaxed);
        } else {
            // SAFETY: `tail` is queued, hence valid until it is popped.
            unsafe { &*tail }.link().store(node, Ordering::Relaxed);
        }
    }

    /// Takes the node at the front.
    #[inline]
    pub fn pop(&self) -> Option<*mut N> {
        let head = self.head.load(Ordering::Relaxed);
        if head.is_null() {
            return None;
        }
        // SAFETY: `head` is queued, hence valid.
        let next = unsafe { &*head }.link().load(Ordering::Relaxed);
        self.head.store(next, Ordering::Relaxed);
        if next.is_null() {
            self.tail.set(ptr::null_mut());
        }
        Some(head)
    }
}

/// A queue that any thread pushes to and one worker empties: a stack of nodes that the worker takes
/// whole and turns round. (R. K. Treiber, *Systems Programming: Coping with Parallelism*, 1986;
/// taking the whole stack at once leaves no ABA.)
#[derive(Debug)]
pub struct Inbox<N> {
    head: AtomicPtr<N>,
}

impl<N: Node> Default for Inbox<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<N: Node> Inbox<N> {
    /// An empty inbox.
    pub fn new() -> Self {
        Self { head: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Whether nothing was pushed since the last [`drain_into`](Self::drain_into).
    #[inline]
    pub fn is_empty(&self) -> bool {
        // Relaxed: a hint while the worker runs. A worker about to sleep puts a SeqCst fence
        // before this load, which pairs with the one after the push (see `idle`).
        self.head.load(Ordering::Relaxed).is_null()
    }

    /// Adds a node; true if the inbox was empty, and the worker may thus have to be woken. A
    /// pusher that finds it non-empty may rely on the pusher before, who does the same.
    ///
    /// # Safety
    ///
    /// `node` is valid until the worker has taken it, and in no other queue. It is not the caller's
    /// any more when this returns.
    pub unsafe fn push(&self, node: *mut N) -> bool {
        let mut head = self.head.guess();
        loop {
            // SAFETY: the node is the caller's until the exchange succeeds.
            unsafe { &*node }.link().store(head, Ordering::Relaxed);
            // Release pairs with the Acquire of `drain_into`: it publishes the link and all that
            // the node's last owner wrote.
            match self.head.compare_exchange_weak(head, node, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return head.is_null(),
                Err(now) => head = now,
            }
        }
    }

    /// Moves all nodes to the back of the worker's queue, the oldest first.
    pub fn drain_into(&self, queue: &LocalQueue<N>) {
        // SAFETY: the node is ours and in no queue.
        self.drain(|node| unsafe { queue.push(node) });
    }

    /// Takes all nodes out and gives them to `take`, the oldest first.
    pub fn drain(&self, mut take: impl FnMut(*mut N)) {
        // Acquire pairs with the Release of every push whose node is taken (each push continues
        // the release sequence of those before it).
        let mut node = self.head.swap(ptr::null_mut(), Ordering::Acquire);
        let mut oldest_first: *mut N = ptr::null_mut();
        while !node.is_null() {
            // SAFETY: the swap made the chain ours, and its nodes are valid until they are popped.
            let link = unsafe { &*node }.link();
            let next = link.load(Ordering::Relaxed);
            link.store(oldest_first, Ordering::Relaxed);
            oldest_first = node;
            node = next;
        }
        while !oldest_first.is_null() {
            // SAFETY: as above; the next node is read before `take` may write the link.
            let next = unsafe { &*oldest_first }.link().load(Ordering::Relaxed);
            take(oldest_first);
            oldest_first = next;
        }
    }
}

#[cfg(all(test, not(bine_loom)))]
mod tests {
    use super::*;

    struct Number(u32, AtomicPtr<Number>);

    // SAFETY: one field, touched by the queues alone.
    unsafe impl Node for Number {
        fn link(&self) -> &AtomicPtr<Self> {
            &self.1
        }
    }

    fn len(queue: &LocalQueue<Number>) -> usize {
        let (mut node, mut count) = (queue.head.load(Ordering::Relaxed), 0);
        while !node.is_null() {
            // SAFETY: the nodes of the chain are queued, hence valid.
            node = unsafe { &*node }.1.load(Ordering::Relaxed);
            count += 1;
        }
        count
    }

    fn number(n: u32) -> *mut Number {
        Box::into_raw(Box::new(Number(n, AtomicPtr::new(ptr::null_mut()))))
    }

    fn take(queue: &LocalQueue<Number>) -> Vec<u32> {
        let mut taken = Vec::new();
        while let Some(node) = queue.pop() {
            // SAFETY: made by `number`, popped once.
            taken.push(unsafe { Box::from_raw(node) }.0);
        }
        taken
    }

    #[test]
    fn local_queue_is_first_in_first_out() {
        let queue = LocalQueue::new();
        for n in 0..5 {
            // SAFETY: fresh nodes.
            unsafe { queue.push(number(n)) };
        }
        assert_eq!(len(&queue), 5);
        assert_eq!(take(&queue), [0, 1, 2, 3, 4]);
        assert!(queue.is_empty());
        assert_eq!(len(&queue), 0);
    }

    #[test]
    fn inbox_keeps_the_order_and_says_when_it_was_empty() {
        let (inbox, queue) = (Inbox::new(), LocalQueue::new());
        // SAFETY: fresh nodes.
        let were_empty = unsafe { [inbox.push(number(1)), inbox.push(number(2))] };
        assert_eq!(were_empty, [true, false]);
        inbox.drain_into(&queue);
        // SAFETY: a fresh node.
        assert!(unsafe { inbox.push(number(3)) });
        inbox.drain_into(&queue);
        assert!(inbox.is_empty());
        assert_eq!(take(&queue), [1, 2, 3]);
    }
}
