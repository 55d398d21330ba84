//! Models of the end of a scope: its owner goes on when all children have ended, with all that they
//! did in sight, and is woken for it once if it waits.
#![cfg(bine_loom)]

use std::sync::atomic::AtomicUsize as Count;

use bine_loom_tests::model;
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::atomic::{AtomicUsize, Ordering};
use bine_runtime::primitive::cell::UnsafeCell;
use bine_runtime::protocol::Countdown;
use loom::thread::{self, Thread};

/// The scope's data, of which each child has a reference until its end is counted.
struct Data {
    countdown: Countdown<Owner>,
    /// An atomic that loom sees, which both sides access, so that the owner also goes on between the
    /// last child's count and its wake-up. Relaxed, so that it orders nothing.
    woken: AtomicUsize,
    /// 1 if the owner has waited.
    waits: Count,
}

/// What wakes the owner, with something in it that loom sees: it is read where it was written, or
/// after it was handed over.
struct Owner {
    thread: Thread,
    word: UnsafeCell<u32>,
}

/// What a child borrows from the owner's frame. The owner looks at it when the scope is over, and
/// loom reports a child that nothing orders before that.
struct Borrowed(UnsafeCell<u32>);

// SAFETY: the model's claim: the countdown orders the accesses. loom checks it.
unsafe impl Sync for Data {}
// SAFETY: as above.
unsafe impl Send for Data {}
// SAFETY: as above.
unsafe impl Sync for Borrowed {}
// SAFETY: as above.
unsafe impl Send for Borrowed {}

impl Borrowed {
    fn new() -> Arc<Self> {
        Arc::new(Self(UnsafeCell::new(0)))
    }

    fn write(&self) {
        // SAFETY: one child writes it, and the owner reads it after the end of that.
        self.0.with_mut(|cell| unsafe { *cell += 1 });
    }

    fn assert_written(&self) {
        // SAFETY: as above.
        self.0.with(|cell| assert_eq!(unsafe { *cell }, 1, "the scope ended before its child"));
    }
}

impl Data {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            countdown: Countdown::new(),
            woken: AtomicUsize::new(0),
            waits: Count::new(0),
        })
    }

    /// The drop of a child's `End`.
    fn end(&self) {
        // SAFETY: once for the `add` of the child.
        if let Some(owner) = unsafe { self.countdown.end() } {
            self.woken.fetch_add(1, Ordering::Relaxed);
            // SAFETY: the owner was handed over.
            owner.word.with(|word| assert_eq!(unsafe { *word }, 7));
            owner.thread.unpark();
        }
    }

    /// `scope::wait_for_children`.
    fn wait(&self) {
        let owner = Owner { thread: thread::current(), word: UnsafeCell::new(0) };
        // SAFETY: nobody else has it yet.
        owner.word.with_mut(|word| unsafe { *word = 7 });
        // SAFETY: once.
        if unsafe { self.countdown.wait(owner) } {
            return;
        }
        self.waits.store(1, Ordering::Relaxed);
        while !self.countdown.is_over() {
            thread::park();
        }
        assert!(self.woken.load(Ordering::Relaxed) <= 1, "woken once");
    }

    /// Once all threads have been joined.
    fn assert_woken_if_it_waited(&self) {
        assert_eq!(self.woken.load(Ordering::Relaxed), self.waits.load(Ordering::Relaxed));
    }
}

/// Spawns a child that writes what it borrows.
fn spawn(data: &Arc<Data>, borrowed: &Arc<Borrowed>) -> thread::JoinHandle<()> {
    assert!(data.countdown.add());
    let (data, borrowed) = (Arc::clone(data), Arc::clone(borrowed));
    thread::spawn(move || {
        borrowed.write();
        data.end();
    })
}

/// Runs the scope's owner on a thread of its own, and then joins the children whose handles it returns.
/// The owner must not do that: loom takes an unpark that comes late, in a join, for the end of the join.
fn with_owner(
    data: &Arc<Data>,
    owner: impl FnOnce(Arc<Data>) -> Vec<thread::JoinHandle<()>> + 'static,
) {
    let its_data = Arc::clone(data);
    let children = thread::spawn(move || owner(its_data)).join().unwrap();
    children.into_iter().for_each(|child| child.join().unwrap());
}

/// Two children end while the owner begins to wait. Where it waits, one of them wakes it.
#[test]
fn two_children_against_the_owner() {
    model("scope::two_children_against_the_owner", || {
        let data = Data::new();
        with_owner(&data, |data| {
            let borrowed = [Borrowed::new(), Borrowed::new()];
            let children = borrowed.iter().map(|borrowed| spawn(&data, borrowed)).collect();
            data.wait();
            borrowed.iter().for_each(|borrowed| borrowed.assert_written());
            children
        });
        data.assert_woken_if_it_waited();
    });
}

/// A child spawns a sibling and ends, perhaps before that one has run: the scope waits for both.
#[test]
fn a_child_spawns_a_sibling() {
    model("scope::a_child_spawns_a_sibling", || {
        let data = Data::new();
        with_owner(&data, |data| {
            let (first, second) = (Borrowed::new(), Borrowed::new());
            assert!(data.countdown.add());
            let child = {
                let (data, first, second) = (Arc::clone(&data), first.clone(), second.clone());
                thread::spawn(move || {
                    let sibling = spawn(&data, &second);
                    first.write();
                    data.end();
                    sibling.join().unwrap();
                })
            };
            data.wait();
            first.assert_written();
            second.assert_written();
            vec![child]
        });
        data.assert_woken_if_it_waited();
    });
}

/// The owner goes on and lets the data go as soon as the count says so, while the last child is about
/// to read whom to wake: the child's own reference keeps that.
#[test]
fn an_owner_that_goes_on_at_once_is_gone_before_it_is_woken() {
    model("scope::an_owner_that_goes_on_at_once_is_gone_before_it_is_woken", || {
        let data = Data::new();
        let owner = thread::spawn(|| {
            let borrowed = Borrowed::new();
            let child = spawn(&data, &borrowed);
            data.wait();
            borrowed.assert_written();
            drop(data);
            child
        });
        owner.join().unwrap().join().unwrap();
    });
}
