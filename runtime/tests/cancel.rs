//! Cancelling green threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bine_runtime::thread::{self, Cancelled};
use bine_runtime::{Builder, Runtime};

/// Runtimes of both modes with one and several workers.
fn runtimes() -> Vec<Runtime> {
    let mut all = Vec::new();
    for workers in [1, 2, 4] {
        all.push(Builder::new().workers(workers).build().unwrap());
        // SAFETY: no test here keeps a thread-local borrow across a blocking call.
        all.push(unsafe { Builder::new().workers(workers).migrate() }.build().unwrap());
    }
    all
}

#[test]
fn a_parked_thread_unwinds_and_its_destructors_run() {
    struct Counts(Arc<AtomicUsize>);

    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    for runtime in runtimes() {
        let dropped = Arc::new(AtomicUsize::new(0));
        let counts = Counts(Arc::clone(&dropped));
        let thread = runtime.spawn(move || {
            let _counts = counts;
            thread::park();
        });
        thread.cancel().unwrap();
        assert!(thread.join().unwrap_err().is::<Cancelled>());
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn a_shielded_section_is_not_interrupted_and_what_follows_is() {
    for runtime in runtimes() {
        let thread = runtime.spawn(|| {
            thread::shielded(thread::park);
            assert!(thread::cancelled());
            thread::yield_now();
            unreachable!("the thread was cancelled");
        });
        thread.cancel().unwrap();
        assert!(!thread.is_finished());
        thread.thread().unpark();
        assert!(thread.join().unwrap_err().is::<Cancelled>());
    }
}
