//! The connection pool.

use std::time::Duration;

use bine::sync::Arc;
use bine::{model, thread};
use bine_model_examples::pool::Pool;

/// Two users of one connection. The wait may time out, or not: both are explored.
fn two_users<const MISTAKEN: bool>() {
    model(|| {
        let pool = Arc::new(Pool::<&str, MISTAKEN>::new(vec!["connection"]));
        let user = {
            let pool = Arc::clone(&pool);
            move || match pool.get(Duration::from_secs(1)) {
                Some(lent) => assert_eq!(*lent, "connection"),
                None => println!("no connection in time"),
            }
        };
        let other = thread::spawn(user.clone());
        user();
        if let Err(panic) = other.join() {
            std::panic::resume_unwind(panic);
        }
        assert!(pool.get(Duration::ZERO).is_some(), "the connection came back");
    });
}

#[test]
fn the_connection_comes_back() {
    two_users::<false>();
}

#[cfg(bine_loom)]
#[test]
#[should_panic(expected = "a permit is a connection")]
fn a_permit_comes_without_its_connection() {
    two_users::<true>();
}
