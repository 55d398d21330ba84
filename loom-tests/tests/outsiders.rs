//! Models of joiners from outside: whoever joins a thread of a runtime that stops is told, of the
//! thread's end or of the runtime's.
#![cfg(bine_loom)]

use bine_loom_tests::model;
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::atomic::{AtomicUsize, Ordering};
use bine_runtime::primitive::cell::UnsafeCell;
use bine_runtime::protocol::{Completed, Completion, Outsiders, Presence};
use loom::thread::{self, Thread};

struct Runtime {
    completion: Completion<Thread>,
    result: UnsafeCell<u32>,
    outsiders: Outsiders<Thread>,
    presence: Presence,
    /// Accessed by both sides around a wake-up, which loom would else take for one step with what
    /// comes before. Relaxed: it orders nothing.
    step: AtomicUsize,
    /// The joiner looks again and again, as a park may return for no reason, and is not woken: loom's
    /// `unpark` orders memory for the thread that it is to wake, wherever that is, and would stand in
    /// for the orders of the runtime's end.
    looks: bool,
}

// SAFETY: the cell is the model's claim: the completion hands it over. loom checks it.
unsafe impl Sync for Runtime {}
// SAFETY: as above.
unsafe impl Send for Runtime {}

impl Runtime {
    /// With the owner present, and a worker.
    fn new(looks: bool) -> Arc<Self> {
        let presence = Presence::new();
        presence.enter();
        Arc::new(Self {
            completion: Completion::new(),
            result: UnsafeCell::new(0),
            outsiders: Outsiders::new(),
            presence,
            step: AtomicUsize::new(0),
            looks,
        })
    }

    fn unpark(&self, thread: &Thread) {
        if !self.looks {
            self.step.fetch_add(1, Ordering::Relaxed);
            thread.unpark();
        }
    }

    /// The thread ends, on its worker.
    fn end(&self) {
        // SAFETY: before `complete` the result is the thread's.
        self.result.with_mut(|result| unsafe { *result = 42 });
        // SAFETY: once, by the thread that ends.
        if let Completed::Joinable(Some(joiner)) = unsafe { self.completion.complete() } {
            self.unpark(&joiner);
        }
    }

    /// `Shared::leave`.
    fn leave(&self) {
        if self.presence.leave() {
            self.outsiders.stop().values().for_each(|joiner| self.unpark(joiner));
        }
    }

    /// `join::wait_for_end`, of one who is no thread of the runtime.
    fn join(&self) -> bool {
        // SAFETY: there is one joiner, which never detaches.
        if !self.completion.is_done() && unsafe { self.completion.register(thread::current()) } {
            self.outsiders.add(7, thread::current());
            let park = if self.looks { thread::yield_now } else { thread::park };
            let ended = self.outsiders.wait(|| self.completion.is_done(), park);
            if !self.looks {
                self.step.fetch_add(1, Ordering::Relaxed);
            }
            self.outsiders.remove(7);
            // SAFETY: by the one joiner.
            drop(unsafe { self.completion.take_back() });
            return ended;
        }
        true
    }

    fn assert_result(&self) {
        // SAFETY: the thread has ended.
        self.result.with(|result| assert_eq!(unsafe { *result }, 42));
    }
}

/// Starts the joiner. It is joined by nobody who may be unparked late.
fn joiner(runtime: &Arc<Runtime>, ended: Option<bool>) -> thread::JoinHandle<()> {
    let runtime = runtime.clone();
    thread::spawn(move || {
        let has_ended = runtime.join();
        assert!(ended.is_none_or(|ended| ended == has_ended));
        if has_ended {
            runtime.assert_result();
        }
    })
}

/// The thread never ends: the joiner is told that.
#[test]
fn a_join_against_the_end_of_the_runtime() {
    model("outsiders::a_join_against_the_end_of_the_runtime", || {
        let runtime = Runtime::new(false);
        let joiner = joiner(&runtime, Some(false));
        runtime.leave();
        runtime.leave();
        joiner.join().unwrap();
    });
}

/// The thread ends on its worker, which then leaves, while the owner leaves: the joiner gets the result.
fn both_end(looks: bool) {
    let runtime = Runtime::new(looks);
    let joiner = joiner(&runtime, Some(true));
    let worker = {
        let runtime = runtime.clone();
        thread::spawn(move || {
            runtime.end();
            runtime.leave();
        })
    };
    runtime.leave();
    joiner.join().unwrap();
    worker.join().unwrap();
}

/// Whatever wakes it.
#[test]
fn a_join_against_the_end_of_the_thread_and_of_the_runtime() {
    model("outsiders::a_join_against_the_end_of_the_thread_and_of_the_runtime", || both_end(false));
}

/// Whenever it looks.
#[test]
fn a_joiner_that_looks_by_itself_sees_both_ends_or_none() {
    model("outsiders::a_joiner_that_looks_by_itself_sees_both_ends_or_none", || both_end(true));
}
