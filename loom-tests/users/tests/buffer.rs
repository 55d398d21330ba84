//! The bounded buffer of `docs/model-checking.md`.

use bine::sync::Arc;
use bine::{model, thread};
use bine_model_examples::buffer::Buffer;

/// Two receivers, one item for each, and room for one.
fn two_receivers<const MISTAKEN: bool>() {
    model(|| {
        let buffer = Arc::new(Buffer::<u32, MISTAKEN>::new(1));
        let receivers = [(); 2].map(|()| {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || buffer.receive())
        });
        buffer.send(1);
        buffer.send(2);
        let sum: u32 = receivers.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(sum, 3);
    });
}

#[test]
fn both_get_an_item() {
    two_receivers::<false>();
}

#[cfg(bine_loom)]
#[test]
#[should_panic(expected = "deadlock")]
fn one_is_never_told() {
    two_receivers::<true>();
}
