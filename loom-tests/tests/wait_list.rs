//! The list of waiters of channels, beside the smallest thing that one may wait for: a count.
#![cfg(bine_loom)]

use std::sync::Arc as Unseen;
use std::time::Duration;

use bine_loom_tests::{bounded_model, model};
use bine_runtime::primitive::atomic::{AtomicUsize, Ordering};
use bine_sync::modelled::WaitList;
use bine_sync::{Unparker, cancel};
use loom::sync::mpsc;
use loom::thread::{self, JoinHandle};

/// Things that are put there for one taker each, until it is closed. As in a channel with room, those who
/// put and those who take write to different words.
struct Store {
    put: AtomicUsize,
    taken: AtomicUsize,
    takers: WaitList,
}

const CLOSED: usize = 1 << 8;

impl Store {
    fn new() -> Unseen<Self> {
        let (put, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Unseen::new(Self { put, taken, takers: WaitList::new() })
    }

    /// M1, then the rest of a notifier's steps.
    fn put(&self) {
        self.put.fetch_add(1, Ordering::SeqCst);
        self.takers.notify_one(|| self.backlog());
    }

    fn close(&self) {
        self.put.fetch_or(CLOSED, Ordering::SeqCst);
        self.takers.notify_all();
    }

    fn backlog(&self) -> usize {
        let taken = self.taken.load(Ordering::SeqCst);
        self.put.load(Ordering::SeqCst) - taken
    }

    /// True for a thing, false if it is closed.
    fn try_take(&self) -> Option<bool> {
        let mut taken = self.taken.load(Ordering::SeqCst);
        loop {
            let put = self.put.load(Ordering::SeqCst);
            if put % CLOSED == taken {
                return (put >= CLOSED).then_some(false);
            }
            let (moved, missed) = (Ordering::AcqRel, Ordering::Relaxed);
            match self.taken.compare_exchange(taken, taken + 1, moved, missed) {
                Ok(_) => return Some(true),
                Err(now) => taken = now,
            }
        }
    }

    fn take(&self, timeout: Option<Duration>) -> Option<bool> {
        self.takers.wait_for(timeout, || self.try_take(), || self.backlog())
    }
}

fn takes(store: &Unseen<Store>) -> JoinHandle<Option<bool>> {
    let store = store.clone();
    thread::spawn(move || store.take(None))
}

#[test]
fn a_thing_against_a_taker() {
    model("wait_list::a_thing_against_a_taker", || {
        let store = Store::new();
        let taker = takes(&store);
        store.put();
        assert_eq!(taker.join().unwrap(), Some(true));
    });
}

/// The first who is woken is enough for both in the eyes of who puts the second: so it has to wake the
/// other.
#[test]
fn two_takers_and_two_things() {
    bounded_model("wait_list::two_takers_and_two_things", 2, || {
        let store = Store::new();
        let takers = [takes(&store), takes(&store)];
        store.put();
        store.put();
        for taker in takers {
            assert_eq!(taker.join().unwrap(), Some(true));
        }
    });
}

/// One is woken, and another has been faster.
#[test]
fn a_thing_that_another_takes() {
    bounded_model("wait_list::a_thing_that_another_takes", 2, || {
        let store = Store::new();
        let taker = takes(&store);
        store.put();
        if store.try_take().is_some() {
            store.put();
        }
        assert_eq!(taker.join().unwrap(), Some(true));
    });
}

/// One leaves the list, notified or not, while the other relies on being notified.
#[test]
fn a_timeout_beside_a_taker() {
    bounded_model("wait_list::a_timeout_beside_a_taker", 2, || {
        let store = Store::new();
        let patient = takes(&store);
        let hasty = {
            let store = store.clone();
            thread::spawn(move || store.take(Some(Duration::ZERO)))
        };
        store.put();
        if hasty.join().unwrap().is_some() {
            store.put();
        }
        assert_eq!(patient.join().unwrap(), Some(true));
    });
}

/// One unwinds, which may have been notified; then another is to be.
#[test]
fn a_cancellation_beside_a_taker() {
    bounded_model("wait_list::a_cancellation_beside_a_taker", 2, || {
        let store = Store::new();
        let (tell, told) = mpsc::channel();
        let victim = {
            let store = store.clone();
            thread::spawn(move || {
                tell.send(Unparker::current()).unwrap();
                store.take(None)
            })
        };
        let survivor = takes(&store);
        cancel(told.recv().unwrap());
        store.put();
        if victim.join().unwrap().is_some() {
            store.put();
        }
        assert_eq!(survivor.join().unwrap(), Some(true));
    });
}

#[test]
fn closing_against_two_takers() {
    bounded_model("wait_list::closing_against_two_takers", 2, || {
        let store = Store::new();
        let takers = [takes(&store), takes(&store)];
        store.close();
        for taker in takers {
            assert_eq!(taker.join().unwrap(), Some(false));
        }
    });
}
