//! Models of a worker's inbox: many push, its owner empties it, and nothing that is in it waits for
//! a worker that sleeps.
#![cfg(bine_loom)]

use std::ptr;

use bine_loom_tests::{Workers, model};
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::atomic::AtomicPtr;
use bine_runtime::primitive::cell::UnsafeCell;
use bine_runtime::protocol::{Inbox, LocalQueue, Node};
use loom::thread;

struct Letter {
    link: AtomicPtr<Letter>,
    /// Written by the pusher, read by the owner.
    text: UnsafeCell<u32>,
}

// SAFETY: one field, touched by the queues alone.
unsafe impl Node for Letter {
    fn link(&self) -> &AtomicPtr<Self> {
        &self.link
    }
}

struct Post {
    inbox: Inbox<Letter>,
    workers: Workers,
}

impl Post {
    fn new() -> Arc<Self> {
        Arc::new(Self { inbox: Inbox::new(), workers: Workers::new(1) })
    }

    /// Pushes a letter; true if the inbox was empty.
    fn push(&self, text: u32) -> bool {
        let letter = Letter { link: AtomicPtr::new(ptr::null_mut()), text: UnsafeCell::new(0) };
        // SAFETY: nobody else has it yet.
        letter.text.with_mut(|cell| unsafe { *cell = text });
        // SAFETY: a fresh node, freed by the owner.
        unsafe { self.inbox.push(Box::into_raw(Box::new(letter))) }
    }

    /// `Shared::push_to_inbox`.
    fn send(&self, text: u32) {
        if self.push(text) {
            self.workers.wake_worker(0);
        }
    }

    /// Empties the inbox.
    fn receive(&self, into: &mut Vec<u32>) {
        let queue = LocalQueue::new();
        self.inbox.drain_into(&queue);
        while let Some(letter) = queue.pop() {
            // SAFETY: made by `push`, popped once.
            let letter = unsafe { Box::from_raw(letter) };
            // SAFETY: the letter is ours.
            into.push(letter.text.with(|text| unsafe { *text }));
        }
    }
}

/// Letters 10 and 11 of one pusher stay in order, whatever comes between.
fn assert_complete(received: &[u32]) {
    let mut sorted = received.to_vec();
    sorted.sort_unstable();
    assert_eq!(sorted, [10, 11, 20], "each once: {received:?}");
    let first_pusher: Vec<_> = received.iter().filter(|&&text| text < 20).collect();
    assert_eq!(first_pusher, [&10, &11], "in the order of the pushes");
}

/// Two pushers and an owner that empties the inbox at any time.
#[test]
fn two_pushers_and_the_owner() {
    model("inbox::two_pushers_and_the_owner", || {
        let post = Post::new();
        let first = {
            let post = post.clone();
            thread::spawn(move || {
                let _ = (post.push(10), post.push(11));
            })
        };
        let second = {
            let post = post.clone();
            thread::spawn(move || {
                let _ = post.push(20);
            })
        };
        let mut received = Vec::new();
        post.receive(&mut received);
        post.receive(&mut received);
        first.join().unwrap();
        second.join().unwrap();
        post.receive(&mut received);
        assert!(post.inbox.is_empty());
        assert_complete(&received);
    });
}

/// A pusher that finds the inbox filled leaves the waking to the pusher before. The owner sleeps
/// between the letters and gets them all.
#[test]
fn a_pusher_relies_on_the_one_before_to_wake_the_owner() {
    model("inbox::a_pusher_relies_on_the_one_before_to_wake_the_owner", || {
        let post = Post::new();
        let owner = {
            let post = post.clone();
            thread::spawn(move || {
                post.workers.enter(0, thread::current());
                let (mut received, mut searching) = (Vec::new(), false);
                while received.len() < 3 {
                    let before = received.len();
                    post.receive(&mut received);
                    if received.len() == before {
                        searching = post.workers.sleep(0, searching, || !post.inbox.is_empty());
                    }
                }
                assert_complete(&received);
            })
        };
        let first = {
            let post = post.clone();
            thread::spawn(move || {
                post.send(10);
                post.send(11);
            })
        };
        post.send(20);
        first.join().unwrap();
        owner.join().unwrap();
    });
}
