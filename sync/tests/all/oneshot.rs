//! Channels for one message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::crowd::with_runtimes;
use crate::random::Random;
use bine_runtime::thread;
use bine_sync::oneshot::{Receiver, RecvError, RecvTimeoutError, Sender, TryRecvError, channel};

#[test]
fn a_message_is_received_once() {
    let (sender, mut receiver) = channel();
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(receiver.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
    assert!(!sender.is_closed());
    sender.send(1).unwrap();
    assert_eq!(receiver.recv_timeout(Duration::MAX), Ok(1));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
    assert_eq!(receiver.recv(), Err(RecvError));
}

#[test]
fn one_side_learns_that_the_other_is_gone() {
    let (sender, mut receiver) = channel::<u32>();
    drop(sender);
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
    assert_eq!(receiver.recv_timeout(Duration::MAX), Err(RecvTimeoutError::Closed));
    assert_eq!(receiver.recv(), Err(RecvError));
    let (mut sender, mut receiver) = channel();
    receiver.close();
    sender.closed();
    assert!(sender.is_closed());
    assert_eq!(sender.send(1), Err(1));
    // A message that was sent before is not refused.
    let (sender, mut receiver) = channel();
    sender.send(1).unwrap();
    receiver.close();
    assert_eq!(receiver.recv(), Ok(1));
}

#[test]
fn bounds_and_formats() {
    fn shared<T: Send + Sync>() {}
    fn error<T: std::error::Error + Send + Sync + 'static>() {}
    shared::<Sender<std::cell::Cell<u32>>>();
    shared::<Receiver<std::cell::Cell<u32>>>();
    error::<RecvError>();
    error::<TryRecvError>();
    error::<RecvTimeoutError>();
    assert_eq!(format!("{:?}", channel::<u32>()), "(Sender { .. }, Receiver { .. })");
}

/// A message that counts its drops.
struct Message(Arc<AtomicU64>);

impl Drop for Message {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Either side may be cancelled, give up, or be an OS thread: each message is received, returned or
/// dropped, and both sides end.
#[test]
fn each_message_ends_once() {
    const SEED: u64 = 0x0e5b;
    const CHANNELS: u64 = 300;
    with_runtimes(|runtime| {
        let mut random = Random::new(SEED, 0);
        let [dropped, sent, received] = [(); 3].map(|()| Arc::new(AtomicU64::new(0)));
        let mut green = Vec::new();
        let mut os = Vec::new();
        for n in 0..CHANNELS {
            let (sender, mut receiver) = channel();
            let message = Message(Arc::clone(&dropped));
            let (sent, received) = (Arc::clone(&sent), Arc::clone(&received));
            let dice = random.below(64);
            let send = move || {
                if dice < 32 {
                    thread::yield_now();
                }
                if sender.send(message).is_ok() {
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            };
            let receive = move || {
                let got = match dice % 8 {
                    0 => receiver.try_recv().is_ok(),
                    1..4 => receiver.recv_timeout(Duration::from_micros(dice)).is_ok(),
                    _ => receiver.recv().is_ok(),
                };
                received.fetch_add(u64::from(got), Ordering::Relaxed);
            };
            if n % 16 == 0 {
                os.push(std::thread::spawn(send));
                green.push(runtime.spawn(receive));
            } else if n % 16 == 1 {
                os.push(std::thread::spawn(receive));
                green.push(runtime.spawn(send));
            } else {
                green.push(runtime.spawn(receive));
                green.push(runtime.spawn(send));
            }
            if random.below(4) == 0 {
                let victim = random.below(green.len() as u64) as usize;
                green[victim].cancel().unwrap();
            }
        }
        for thread in green {
            let _ = thread.join();
        }
        os.into_iter().for_each(|thread| thread.join().unwrap());
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!(count(&dropped), CHANNELS, "seed {SEED:#x}");
        assert!(count(&received) <= count(&sent), "seed {SEED:#x}");
    });
}
