//! The cache.

use bine::sync::Arc;
use bine::sync::atomic::{AtomicUsize, Ordering};
use bine::{model, thread};
use bine_model_examples::cache::Cache;

fn two_ask<const MISTAKEN: bool>() {
    model(|| {
        let cache = Arc::new(Cache::<&str, usize, MISTAKEN>::new());
        let computed = Arc::new(AtomicUsize::new(0));
        let ask = {
            let (cache, computed) = (Arc::clone(&cache), Arc::clone(&computed));
            move || {
                cache.get(&"key", |key| {
                    computed.fetch_add(1, Ordering::Relaxed);
                    key.len()
                })
            }
        };
        let other = thread::spawn(ask.clone());
        assert_eq!(ask(), 3);
        assert_eq!(other.join().unwrap(), 3);
        assert_eq!(computed.load(Ordering::Relaxed), 1, "computed once");
    });
}

#[test]
fn a_value_is_computed_once() {
    two_ask::<false>();
}

#[cfg(bine_loom)]
#[test]
#[should_panic(expected = "computed once")]
fn a_value_is_computed_twice() {
    two_ask::<true>();
}

/// A computation that panics is its asker's affair.
#[test]
fn the_next_one_computes_what_the_first_has_failed_to() {
    model(|| {
        let cache = Arc::new(Cache::<u8, u8>::new());
        let fails = {
            let cache = Arc::clone(&cache);
            thread::spawn(move || cache.get(&1, |_| panic!("not today")))
        };
        let value = cache.get(&1, |_| 2);
        assert_eq!(value, 2);
        let failed = fails.join();
        assert!(failed.is_err() || failed.is_ok_and(|value| value == 2));
    });
}
