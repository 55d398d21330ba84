//! Receivers whose runtime was shut down without them get no message any more.

use std::sync::mpsc;
use std::time::Duration;

use bine_runtime::{Abandoned, Builder, thread};
use bine_sync::channel::{Receiver, Sender, bounded, unbounded};

/// Has a green thread wait for a message that cannot be cancelled, and ends its runtime.
fn abandon_one_in(receiver: Receiver<u32>) {
    // One worker, so that what runs next comes when the thread waits.
    let runtime = Builder::new().workers(1).spare_workers(0).build().unwrap();
    let (tell, told) = mpsc::channel();
    let waits = runtime.spawn(move || {
        thread::shielded(|| {
            tell.send(()).unwrap();
            receiver.recv()
        })
    });
    told.recv().unwrap();
    runtime.run(|| ());
    let report = runtime.shutdown_timeout(Duration::ZERO);
    assert_eq!(report.abandoned, 1);
    assert!(waits.join().unwrap_err().is::<Abandoned>());
}

fn channels() -> [(Sender<u32>, Receiver<u32>); 2] {
    [unbounded(), bounded(4)]
}

#[test]
fn a_message_is_there_for_others() {
    for (sender, receiver) in channels() {
        abandon_one_in(receiver.clone());
        sender.send(1).unwrap();
        assert_eq!(receiver.try_recv(), Ok(1));
    }
}

#[test]
fn one_that_waits_behind_is_woken() {
    for (sender, receiver) in channels() {
        for _ in 0..3 {
            abandon_one_in(receiver.clone());
        }
        let waits = std::thread::spawn(move || (receiver.recv(), receiver.recv()));
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        assert_eq!(waits.join().unwrap(), (Ok(1), Ok(2)));
    }
}
