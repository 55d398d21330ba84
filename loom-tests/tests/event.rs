//! Events, notifications and groups: none is lost on one that waits.
#![cfg(bine_loom)]

use std::time::Duration;

use bine_loom_tests::{bounded_model, model};
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::atomic::{AtomicU32, Ordering};
use bine_runtime::primitive::cell::UnsafeCell;
use bine_sync::{Event, Notify, Unparker, WaitGroup, cancel};
use loom::sync::mpsc;
use loom::thread;

/// News that loom watches.
struct Told<N> {
    by: N,
    news: UnsafeCell<u32>,
}

// SAFETY: loom checks that those who read the news come after the one who wrote them.
unsafe impl<N: Sync> Sync for Told<N> {}
// SAFETY: a number, and `N`.
unsafe impl<N: Send> Send for Told<N> {}

impl<N> Told<N> {
    fn new(by: N) -> Arc<Self> {
        Arc::new(Self { by, news: UnsafeCell::new(0) })
    }

    fn write(&self) {
        // SAFETY: loom checks it.
        self.news.with_mut(|news| unsafe { *news += 1 });
    }

    fn read(&self) -> u32 {
        // SAFETY: as in `write`.
        self.news.with(|news| unsafe { *news })
    }
}

#[test]
fn an_event_against_two_that_wait() {
    bounded_model("event::an_event_against_two_that_wait", 2, || {
        let told = Told::new(Event::new());
        let waits = [0, 1].map(|_| {
            let told = told.clone();
            thread::spawn(move || {
                told.by.wait();
                assert_eq!(told.read(), 1);
            })
        });
        told.write();
        told.by.set();
        for wait in waits {
            wait.join().unwrap();
        }
    });
}

/// One that comes to wait after the event was taken back is not released by the one that set it, which
/// may still be about to wake others.
#[test]
fn an_event_that_is_taken_back() {
    model("event::an_event_that_is_taken_back", || {
        let event = Arc::new(Event::new());
        let waits = {
            let event = event.clone();
            thread::spawn(move || event.wait_timeout(Duration::ZERO))
        };
        let sets = {
            let event = event.clone();
            thread::spawn(move || event.set())
        };
        if event.is_set() {
            event.reset();
            assert!(!event.wait_timeout(Duration::ZERO), "it was taken back");
        }
        let _ = waits.join().unwrap();
        sets.join().unwrap();
    });
}

#[test]
fn a_notification_for_each_of_two() {
    bounded_model("event::a_notification_for_each_of_two", 2, || {
        let told = Told::new(Notify::new());
        let waits = [0, 1].map(|_| {
            let told = told.clone();
            thread::spawn(move || {
                told.by.wait();
                assert_eq!(told.read(), 1);
                // The one that it was not for may come later.
                told.by.notify_one();
            })
        });
        told.write();
        told.by.notify_one();
        for wait in waits {
            wait.join().unwrap();
        }
    });
}

/// One gives up just when it may be notified: the notification is its own, or is kept.
#[test]
fn a_notification_against_a_timeout() {
    model("event::a_notification_against_a_timeout", || {
        let news = Arc::new(Notify::new());
        let hasty = {
            let news = news.clone();
            thread::spawn(move || news.wait_timeout(Duration::ZERO))
        };
        news.notify_one();
        let notified = hasty.join().unwrap();
        assert_eq!(news.wait_timeout(Duration::ZERO), !notified);
    });
}

/// One of two that wait is cancelled, which may be the one that was notified.
#[test]
fn a_cancellation_beside_one_that_waits() {
    bounded_model("event::a_cancellation_beside_one_that_waits", 2, || {
        let news = Arc::new(Notify::new());
        let (tell, told) = mpsc::channel();
        let victim = {
            let news = news.clone();
            thread::spawn(move || {
                tell.send(Unparker::current()).unwrap();
                news.wait_unless_cancelled()
            })
        };
        let survivor = {
            let news = news.clone();
            thread::spawn(move || news.wait())
        };
        cancel(told.recv().unwrap());
        news.notify_one();
        if victim.join().unwrap() {
            news.notify_one();
        }
        survivor.join().unwrap();
    });
}

#[test]
fn two_notifiers_and_one_that_waits() {
    bounded_model("event::two_notifiers_and_one_that_waits", 2, || {
        let news = Arc::new((Notify::new(), AtomicU32::new(0)));
        let notifiers = [0, 1].map(|_| {
            let news = news.clone();
            thread::spawn(move || {
                news.1.fetch_add(1, Ordering::Relaxed);
                news.0.notify_one();
            })
        });
        // Two notifications may be one, but what was done before either of them is seen.
        while news.1.load(Ordering::Relaxed) < 2 {
            news.0.wait();
        }
        for notifier in notifiers {
            notifier.join().unwrap();
        }
    });
}

#[test]
fn two_leave_a_group() {
    bounded_model("event::two_leave_a_group", 2, || {
        let told = Told::new(());
        let group = WaitGroup::new();
        let members = [0, 1].map(|n| {
            let (told, group) = (told.clone(), group.clone());
            thread::spawn(move || {
                if n == 0 {
                    told.write();
                }
                drop(group);
            })
        });
        group.wait();
        assert_eq!(told.read(), 1);
        for member in members {
            member.join().unwrap();
        }
    });
}
