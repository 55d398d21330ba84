//! The macros of the channels are where those who come from `crossbeam_channel` look for them.

use std::time::Duration;

use bine::channel::{Select, bounded, never};

#[bine::test]
fn both_names_of_each_macro() {
    let (sender, receiver) = bounded(1);
    bine::select! { send(sender, 1) -> sent => sent.unwrap() }
    bine::channel::select! { recv(receiver) -> message => assert_eq!(message, Ok(1)) }
    bine::select_biased! {
        recv(receiver) -> _ => unreachable!(),
        default(Duration::ZERO) => {}
    }
    bine::channel::select_biased! { recv(never::<()>()) -> _ => unreachable!(), default => {} }
}

#[bine::test]
fn a_select_over_green_threads() {
    let channels: Vec<_> = (0..20).map(|_| bounded(0)).collect();
    for (n, (sender, _)) in channels.iter().enumerate() {
        let sender = sender.clone();
        bine::spawn(move || sender.send(n).unwrap());
    }
    let mut select = Select::new();
    for (_, receiver) in &channels {
        select.recv(receiver);
    }
    let mut seen = vec![false; channels.len()];
    for _ in 0..channels.len() {
        let operation = select.select();
        let n = operation.index();
        assert_eq!(operation.recv(&channels[n].1), Ok(n));
        assert!(!std::mem::replace(&mut seen[n], true));
    }
}
