//! Scopes: threads that borrow.

mod modes;

use std::sync::atomic::{AtomicUsize, Ordering};

use bine_runtime::thread::{self, Cancelled};
use modes::runtimes;

#[test]
fn the_scope_waits_for_forgotten_and_nested_children() {
    let body = || {
        let ended = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..10 {
                std::mem::forget(scope.spawn(|| {
                    thread::yield_now();
                    scope.spawn(|| {
                        thread::yield_now();
                        ended.fetch_add(1, Ordering::Relaxed);
                    });
                }));
            }
        });
        assert_eq!(ended.load(Ordering::Relaxed), 10);
    };
    body();
    runtimes().iter().for_each(|runtime| runtime.run(body));
}

#[test]
fn an_unjoined_panic_is_the_scopes_and_a_joined_one_is_not() {
    for runtime in runtimes() {
        runtime.run(|| {
            thread::scope(|scope| assert!(scope.spawn(|| panic!("joined")).join().is_err()));
            let unjoined = std::panic::catch_unwind(|| {
                thread::scope(|scope| drop(scope.spawn(|| panic!("unjoined"))));
            });
            assert_eq!(unjoined.unwrap_err().downcast_ref(), Some(&"a scoped thread panicked"));
        });
    }
}

#[test]
fn a_cancelled_owner_cancels_its_children_while_it_waits() {
    for runtime in runtimes() {
        let owner = runtime.spawn(|| {
            thread::scope(|scope| {
                scope.spawn(thread::park);
            });
            thread::yield_now();
        });
        owner.cancel().unwrap();
        assert!(owner.join().unwrap_err().is::<Cancelled>());
    }
}

#[test]
fn the_first_error_cancels_the_siblings() {
    let body = || {
        let result = thread::try_scope(|scope| {
            scope.spawn(|| {
                thread::park();
                Ok(())
            });
            scope.spawn(|| Err::<(), _>("no"));
            Ok(())
        });
        assert_eq!(result, Err("no"));
    };
    body();
    runtimes().iter().for_each(|runtime| runtime.run(body));
}
