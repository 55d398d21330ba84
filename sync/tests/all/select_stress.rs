//! Selects beside plain operations, on green threads and OS threads, with timeouts, cancellations and
//! panics: every message arrives once or comes back, and nobody is left waiting.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::random::Random;
use bine_runtime::thread::{self, Cancelled};
use bine_runtime::{Builder, Runtime};
use bine_sync::channel::{
    Receiver, Select, Sender, after, bounded, never, select, select_biased, tick, unbounded,
};

const SEED: u64 = 0x5e1ec7;

/// Calls `f` with runtimes of both modes with 1, 2 and 8 workers, which are empty afterwards.
fn with_runtimes(f: impl Fn(&Runtime)) {
    for workers in [1, 2, 8] {
        // SAFETY: no test here keeps a thread-local borrow across a blocking call.
        let migrating = unsafe { Builder::new().workers(workers).migrate() };
        for builder in [Builder::new().workers(workers), migrating] {
            let runtime = builder.build().unwrap();
            f(&runtime);
            assert_eq!(runtime.metrics().alive, 0, "seed {SEED:#x}, {runtime:?}");
        }
    }
}

/// Where messages are, by number.
#[derive(Default)]
struct Ledger {
    sent: AtomicU64,
    received: AtomicU64,
    made: AtomicU64,
    dropped: AtomicU64,
}

struct Message(Arc<Ledger>);

impl Message {
    fn new(ledger: &Arc<Ledger>) -> Self {
        ledger.made.fetch_add(1, Ordering::Relaxed);
        Self(ledger.clone())
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

type Channels = Vec<(Sender<Message>, Receiver<Message>)>;

fn channels() -> Channels {
    vec![bounded(0), bounded(1), unbounded(), bounded(0), bounded(3)]
}

/// What a thread does: sends and receives until it has sent `quota` messages (for ever if none), by
/// selects in all their forms and by plain operations.
struct Actor {
    channels: Channels,
    ledger: Arc<Ledger>,
    random: Random,
    unwinds: bool,
}

impl Actor {
    fn new(channels: &Channels, ledger: &Arc<Ledger>, stream: u64, unwinds: bool) -> Self {
        let (channels, ledger) = (channels.clone(), ledger.clone());
        Self { channels, ledger, random: Random::new(SEED, stream), unwinds }
    }

    fn sent(&self) {
        self.ledger.sent.fetch_add(1, Ordering::Relaxed);
    }

    fn received(&self, message: Message) {
        self.ledger.received.fetch_add(1, Ordering::Relaxed);
        drop(message);
    }

    fn patience(&mut self) -> Duration {
        Duration::from_micros(self.random.below(200))
    }

    /// One operation of any kind; it ends by itself.
    fn step(&mut self) {
        let (a, b) = (self.random.below(5) as usize, self.random.below(5) as usize);
        let (s, r) = (self.channels[a].0.clone(), self.channels[b].1.clone());
        let patience = self.patience();
        match self.random.below(9) {
            0 => {
                if s.send_timeout(Message::new(&self.ledger), patience).is_ok() {
                    self.sent();
                }
            }
            1 => {
                if s.try_send(Message::new(&self.ledger)).is_ok() {
                    self.sent();
                }
            }
            2 => r.recv_timeout(patience).map_or((), |message| self.received(message)),
            3 => r.try_recv().map_or((), |message| self.received(message)),
            4 => select! {
                send(s, Message::new(&self.ledger)) -> sent => { sent.unwrap(); self.sent() }
                recv(r) -> message => self.received(message.unwrap()),
                default => thread::yield_now(),
            },
            5 => select_biased! {
                recv(r) -> message => self.received(message.unwrap()),
                send(s, self.slow_message()) -> sent => { sent.unwrap(); self.sent() }
                recv(never::<u8>()) -> _ => unreachable!(),
                default(patience) => {}
            },
            6 => select! {
                recv(after(patience)) -> _ => {}
                recv(r) -> message => self.received(message.unwrap()),
                recv(tick(2 * patience)) -> _ => {}
            },
            7 => self.select_all(patience),
            _ => self.ready_all(patience),
        }
    }

    /// A message that takes a while to make, or cannot be made.
    fn slow_message(&self) -> Message {
        thread::yield_now();
        if self.unwinds && count(&self.ledger.made).is_multiple_of(7) {
            std::panic::resume_unwind(Box::new("no message"));
        }
        Message::new(&self.ledger)
    }

    fn select_all(&mut self, patience: Duration) {
        let channels = self.channels.clone();
        let mut select = Select::new();
        for (s, r) in &channels {
            select.send(s);
            select.recv(r);
        }
        let Ok(operation) = select.select_timeout(patience) else { return };
        if self.unwinds && self.random.below(8) == 0 {
            // Gives back what it stands for.
            std::panic::resume_unwind(Box::new("not completed"));
        }
        let (s, r) = &channels[operation.index() / 2];
        if operation.index() % 2 == 0 {
            operation.send(s, Message::new(&self.ledger)).unwrap();
            self.sent();
        } else {
            self.received(operation.recv(r).unwrap());
        }
    }

    fn ready_all(&mut self, patience: Duration) {
        let channels = self.channels.clone();
        let mut select = Select::new();
        for (_, r) in &channels {
            select.recv(r);
        }
        if let Ok(index) = select.ready_timeout(patience)
            && let Ok(message) = channels[index].1.try_recv()
        {
            self.received(message);
        }
    }

    fn steps(&mut self, steps: usize) {
        for _ in 0..steps {
            let step = catch_unwind(AssertUnwindSafe(|| self.step()));
            if let Err(payload) = step
                && payload.is::<Cancelled>()
            {
                std::panic::resume_unwind(payload);
            }
        }
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// What is left is taken; then everything that was sent has been received, and everything that was
/// made dropped.
fn settle(channels: &Channels, ledger: &Ledger) {
    for (s, r) in channels {
        while let Ok(message) = r.try_recv() {
            ledger.received.fetch_add(1, Ordering::Relaxed);
            drop(message);
        }
        assert!(s.is_empty());
        // All places are there again.
        let room = s.capacity().unwrap_or(10);
        for _ in 0..room {
            assert!(s.try_send(Message::new(&Arc::default())).is_ok(), "seed {SEED:#x}");
        }
        assert!(s.capacity().is_none() || s.is_full());
        assert_eq!(r.try_iter().count(), room);
    }
    assert_eq!(count(&ledger.sent), count(&ledger.received), "seed {SEED:#x}");
    assert_eq!(count(&ledger.made), count(&ledger.dropped), "seed {SEED:#x}");
}

#[test]
fn selects_and_plain_operations_on_all_kinds_of_threads() {
    with_runtimes(|runtime| {
        let (channels, ledger) = (channels(), Arc::new(Ledger::default()));
        let green: Vec<_> = (0..64)
            .map(|stream| {
                let mut actor = Actor::new(&channels, &ledger, stream, true);
                runtime.spawn(move || actor.steps(300))
            })
            .collect();
        std::thread::scope(|scope| {
            for stream in 0..8 {
                let mut actor = Actor::new(&channels, &ledger, 100 + stream, true);
                scope.spawn(move || actor.steps(300));
            }
        });
        green.into_iter().for_each(|thread| thread.join().unwrap());
        settle(&channels, &ledger);
    });
}

#[test]
fn selects_that_are_cancelled() {
    with_runtimes(|runtime| {
        let (channels, ledger) = (channels(), Arc::new(Ledger::default()));
        let mut random = Random::new(SEED, 1000);
        let mut green: Vec<_> = (0..64)
            .map(|stream| {
                let mut actor = Actor::new(&channels, &ledger, stream, false);
                runtime.spawn(move || actor.steps(usize::MAX))
            })
            .collect();
        let bystanders: Vec<_> = (0..2)
            .map(|stream| {
                let mut actor = Actor::new(&channels, &ledger, 200 + stream, true);
                std::thread::spawn(move || actor.steps(100))
            })
            .collect();
        runtime.run(move || {
            let mut cancelled = Vec::new();
            while !green.is_empty() {
                let at = random.below(green.len() as u64) as usize;
                let thread = green.swap_remove(at);
                thread.cancel().unwrap();
                cancelled.push(thread);
                (0..random.below(4)).for_each(|_| thread::yield_now());
            }
            for thread in cancelled {
                assert!(thread.join().unwrap_err().is::<Cancelled>(), "seed {SEED:#x}");
            }
        });
        bystanders.into_iter().for_each(|thread| thread.join().unwrap());
        settle(&channels, &ledger);
    });
}

/// Without timeouts: a lost wake-up would hang. Servers select over all channels, forever; clients send
/// to one or receive from it, and each message is awaited by one thread.
#[test]
fn nobody_is_left_waiting() {
    const CLIENTS: u64 = 24;
    const EACH: u64 = 200;
    with_runtimes(|runtime| {
        let inputs: Vec<_> = (0..4).map(|_| bounded::<u64>(0)).chain([bounded(1)]).collect();
        let (done_sender, done) = bounded::<()>(0);
        let (answers, answered) = bounded::<u64>(0);
        let servers: Vec<_> = (0..6)
            .map(|_| {
                let inputs: Vec<_> = inputs.iter().map(|(_, r)| r.clone()).collect();
                let (done, answers) = (done.clone(), answers.clone());
                runtime.spawn(move || {
                    loop {
                        let mut select = Select::new();
                        for r in &inputs {
                            select.recv(r);
                        }
                        let stop = select.recv(&done);
                        let operation = select.select();
                        let index = operation.index();
                        if index == stop {
                            return assert!(operation.recv(&done).is_err());
                        }
                        let message = operation.recv(&inputs[index]).unwrap();
                        select! { send(answers, message) -> sent => sent.unwrap() }
                    }
                })
            })
            .collect();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (s, answered) =
                    (inputs[client as usize % inputs.len()].0.clone(), answered.clone());
                runtime.spawn(move || {
                    (0..EACH)
                        .map(|n| {
                            match (client + n) % 2 {
                                0 => s.send(client * EACH + n).unwrap(),
                                _ => select! {
                                    send(s, client * EACH + n) -> sent => sent.unwrap(),
                                },
                            }
                            match n % 3 {
                                0 => answered.recv().unwrap(),
                                _ => select! {
                                    recv(never::<u64>()) -> _ => unreachable!(),
                                    recv(answered) -> answer => answer.unwrap(),
                                },
                            }
                        })
                        .sum::<u64>()
                })
            })
            .collect();
        let sum: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
        assert_eq!(sum, (0..CLIENTS * EACH).sum());
        drop(done_sender);
        servers.into_iter().for_each(|server| server.join().unwrap());
    });
}
