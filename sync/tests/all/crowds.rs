//! 64 green threads and 8 OS threads at one object, with timeouts where it has them, with panics, and with
//! half of the green ones cancelled: nothing is lost or counted twice, and nobody is left waiting. Here are
//! the primitives whose own tests have no such crowd.
//!
//! Where those who wait depend on others, *servers* do what they wait for until the crowd has gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::crowd::{crowd, panic_deliberately, with_runtimes};
use crate::random::Random;
use bine_runtime::Runtime;
use bine_runtime::thread::{self, JoinHandle};
use bine_sync::wait_queue::{self, Outcome};
use bine_sync::{Barrier, Event, LazyLock, Mutex, Notify, broadcast, oneshot, watch};

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn add(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Relaxed)
}

fn patience(random: &mut Random) -> Duration {
    Duration::from_micros(random.below(200))
}

/// Does it several times: threads are cancelled while the crowd has just begun.
fn each_round(f: impl Fn(u64)) {
    (0..10).for_each(f);
}

/// Counts as long as it is there, however its owner leaves.
struct Present<'a>(&'a AtomicU64);

impl<'a> Present<'a> {
    fn new(counter: &'a AtomicU64) -> Self {
        add(counter);
        Self(counter)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Green threads that do something again and again until they are told to end.
struct Servers {
    done: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    fn start(runtime: &Runtime, threads: u64, serve: impl Fn() + Clone + Send + 'static) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let spawn = |_| {
            let (done, serve) = (Arc::clone(&done), serve.clone());
            runtime.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    serve();
                    thread::yield_now();
                }
            })
        };
        let threads = (0..threads).map(spawn).collect();
        Self { done, threads }
    }

    /// To be called when those who wait for the servers have gone.
    fn end(self) {
        self.done.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// As a message, counts how many of it there are.
struct Counted(Arc<AtomicU64>);

impl Counted {
    fn new(alive: &Arc<AtomicU64>) -> Self {
        add(alive);
        Self(Arc::clone(alive))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn a_crowd_locks() {
    const SEED: u64 = 0x10cc;
    /// Locks once more while its thread unwinds.
    struct LocksAgain<'a>(&'a Mutex<u64>, &'a AtomicU64);
    impl Drop for LocksAgain<'_> {
        fn drop(&mut self) {
            *self.0.lock().unwrap_or_else(|error| error.into_inner()) += 1;
            add(self.1);
        }
    }
    with_runtimes(|runtime| {
        each_round(|round| {
            let mutex = Arc::new(Mutex::new(0));
            let [holders, added] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
            let (shared, holding, adds) = (mutex.clone(), holders.clone(), added.clone());
            crowd(runtime, SEED + round, 12, move |random| {
                let dice = random.below(64);
                let _again = (dice == 1).then(|| LocksAgain(&shared, &adds));
                let guard = match dice {
                    16..32 => shared.try_lock().ok(),
                    _ => Some(shared.lock().unwrap_or_else(|error| error.into_inner())),
                };
                let Some(mut guard) = guard else { return };
                let present = Present::new(&holding);
                assert_eq!(count(&holding), 1, "seed {SEED:#x}");
                let before = *guard;
                if dice >= 24 {
                    thread::yield_now();
                }
                *guard = before + 1;
                add(&adds);
                if dice < 2 {
                    // The count goes down before the lock is given back.
                    drop(present);
                    panic_deliberately();
                }
                drop(present);
            });
            mutex.clear_poison();
            let value = *mutex.try_lock().expect("nobody holds the lock");
            assert_eq!(value, count(&added), "seed {SEED:#x}");
            assert_eq!(count(&holders), 0, "seed {SEED:#x}");
        })
    });
}

#[test]
fn a_crowd_meets() {
    const SEED: u64 = 0xba22;
    const MEET: u64 = 4;
    #[derive(Default)]
    struct Counts {
        inside: AtomicU64,
        passed: AtomicU64,
        left: AtomicU64,
        led: AtomicU64,
    }
    /// Counts those that unwind out of the wait: each may have been counted by the barrier or not.
    struct Leaves<'a>(&'a Counts, bool);
    impl Drop for Leaves<'_> {
        fn drop(&mut self) {
            add(if self.1 { &self.0.passed } else { &self.0.left });
        }
    }
    fn meet(barrier: &Barrier, counts: &Counts) {
        let _present = Present::new(&counts.inside);
        let mut leaves = Leaves(counts, false);
        let led = barrier.wait().is_leader();
        leaves.1 = true;
        counts.led.fetch_add(u64::from(led), Ordering::Relaxed);
    }
    with_runtimes(|runtime| {
        let shared = Arc::new((Barrier::new(MEET as usize), Counts::default()));
        let (ours, theirs) = (shared.clone(), shared.clone());
        // Enough to open the barrier by themselves: nobody of the crowd waits for one that has gone.
        let servers: Vec<_> = (0..MEET)
            .map(|_| {
                let ours = ours.clone();
                runtime.spawn(move || {
                    loop {
                        meet(&ours.0, &ours.1);
                    }
                })
            })
            .collect();
        crowd(runtime, SEED, 20, move |random| match random.below(16) {
            0 => panic_deliberately(),
            1..4 => thread::yield_now(),
            _ => meet(&theirs.0, &theirs.1),
        });
        for server in servers {
            server.cancel().unwrap();
            assert!(server.join().is_err(), "seed {SEED:#x}");
        }
        let (barrier, counts) = &*shared;
        let (passed, met) = (count(&counts.passed), count(&counts.led) * MEET);
        assert_eq!(count(&counts.inside), 0, "seed {SEED:#x}");
        assert!(passed <= met && met <= passed + count(&counts.left), "seed {SEED:#x}");
        // Nobody is left on the barrier's count.
        let last: Vec<_> = (1..MEET)
            .map(|_| {
                let shared = shared.clone();
                runtime.spawn(move || meet(&shared.0, &shared.1))
            })
            .collect();
        barrier.wait();
        last.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// The initialiser is shielded, as is advised where threads are cancelled.
#[test]
fn a_crowd_looks_at_a_lazy_value() {
    const SEED: u64 = 0x1a2f;
    with_runtimes(|runtime| {
        for round in 0..10 {
            let made = Arc::new(AtomicU64::new(0));
            let counted = made.clone();
            let lazy = LazyLock::new(move || {
                thread::shielded(|| {
                    thread::yield_now();
                    add(&counted) + 1
                })
            });
            crowd(runtime, SEED + round, 10, move |random| {
                match random.below(8) {
                    0 => assert!(LazyLock::get(&lazy).is_none_or(|made| *made == 1)),
                    1 => thread::yield_now(),
                    _ => assert_eq!(*lazy, 1, "seed {SEED:#x}"),
                }
                if random.below(8) == 0 {
                    panic_deliberately();
                }
            });
            assert_eq!(count(&made), 1, "seed {SEED:#x}");
        }
    });
}

#[test]
fn a_crowd_waits_for_events() {
    const SEED: u64 = 0xe4e7;
    with_runtimes(|runtime| {
        let event = Arc::new(Event::new());
        let [waiting, sets] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
        let (served, set) = (event.clone(), sets.clone());
        let servers = Servers::start(runtime, 1, move || {
            add(&set);
            served.set();
            thread::yield_now();
            served.reset();
        });
        let (shared, present, set) = (event.clone(), waiting.clone(), sets.clone());
        crowd(runtime, SEED, 40, move |random| {
            let _present = Present::new(&present);
            let happened = match random.below(16) {
                0 => {
                    add(&set);
                    shared.set();
                    false
                }
                1 => {
                    shared.reset();
                    false
                }
                2 => panic_deliberately(),
                3 => shared.is_set(),
                4..8 => shared.wait_timeout(patience(random)),
                _ => {
                    shared.wait();
                    true
                }
            };
            assert!(!happened || count(&set) > 0, "seed {SEED:#x}");
        });
        servers.end();
        assert_eq!(count(&waiting), 0, "seed {SEED:#x}");
        event.reset();
        assert!(!event.wait_timeout(Duration::ZERO), "seed {SEED:#x}");
        event.set();
        event.wait();
    });
}

/// Jobs are announced by a notification each. Nobody waits for ever, since the servers announce them too.
#[test]
fn a_crowd_is_notified() {
    const SEED: u64 = 0x2077;
    #[derive(Default)]
    struct Shared {
        news: Notify,
        jobs: AtomicU64,
        announced: AtomicU64,
        taken: AtomicU64,
    }
    impl Shared {
        fn announce(&self) {
            add(&self.announced);
            add(&self.jobs);
            self.news.notify_one();
        }
        fn take(&self) {
            let jobs = self.jobs.swap(0, Ordering::Relaxed);
            self.taken.fetch_add(jobs, Ordering::Relaxed);
        }
    }
    with_runtimes(|runtime| {
        let shared = Arc::new(Shared::default());
        let (serving, ours) = (shared.clone(), shared.clone());
        let servers = Servers::start(runtime, 1, move || serving.announce());
        crowd(runtime, SEED, 40, move |random| match random.below(16) {
            0..3 => ours.announce(),
            3 => ours.news.notify_waiters(),
            4 => {
                ours.announce();
                panic_deliberately();
            }
            5..10 => {
                if ours.news.wait_timeout(patience(random)) {
                    ours.take();
                }
            }
            _ => {
                ours.news.wait();
                ours.take();
            }
        });
        servers.end();
        shared.take();
        assert_eq!(count(&shared.announced), count(&shared.taken), "seed {SEED:#x}");
        // Nobody is in the queue who would take this one.
        shared.news.notify_one();
        assert!(shared.news.wait_timeout(Duration::ZERO), "seed {SEED:#x}");
    });
}

/// Permits at a bare word: each is given back, by whoever holds it, with one wake-up.
#[test]
fn a_crowd_waits_at_a_word() {
    const SEED: u64 = 0xf07e;
    const PERMITS: u32 = 3;
    struct Permit<'a>(&'a AtomicU32);
    impl Drop for Permit<'_> {
        fn drop(&mut self) {
            // Release: pairs with the Acquire of whoever takes it next.
            self.0.fetch_add(1, Ordering::Release);
            wait_queue::wake_one(self.0);
        }
    }
    fn take(word: &AtomicU32, deadline: Option<Instant>) -> Option<Permit<'_>> {
        loop {
            let taken =
                word.fetch_update(Ordering::Acquire, Ordering::Relaxed, |n| n.checked_sub(1));
            if taken.is_ok() {
                return Some(Permit(word));
            }
            if wait_queue::wait(word, 0, deadline) == Outcome::TimedOut {
                return None;
            }
        }
    }
    with_runtimes(|runtime| {
        each_round(|round| {
            let word = Arc::new(AtomicU32::new(PERMITS));
            let holders = Arc::new(AtomicU64::new(0));
            let (shared, holding) = (word.clone(), holders.clone());
            crowd(runtime, SEED + round, 12, move |random| {
                let deadline = (random.below(3) == 0).then(|| Instant::now() + patience(random));
                let Some(_permit) = take(&shared, deadline) else { return };
                let _present = Present::new(&holding);
                assert!(count(&holding) <= PERMITS.into(), "seed {SEED:#x}");
                match random.below(16) {
                    0..8 => thread::yield_now(),
                    8 => panic_deliberately(),
                    _ => {}
                }
            });
            assert_eq!(word.load(Ordering::Relaxed), PERMITS, "seed {SEED:#x}");
            assert_eq!(count(&holders), 0, "seed {SEED:#x}");
            assert_eq!(wait_queue::wake_all(&*word), 0, "seed {SEED:#x}");
        })
    });
}

/// Receivers leave the senders of their channels on a board, from where others take them.
#[test]
fn a_crowd_answers_once() {
    const SEED: u64 = 0x0e5c;
    type Sender = oneshot::Sender<Counted>;
    #[derive(Default)]
    struct Shared {
        board: std::sync::Mutex<Vec<Sender>>,
        alive: Arc<AtomicU64>,
        sent: AtomicU64,
        received: AtomicU64,
    }
    impl Shared {
        fn answer(&self) {
            let Some(sender) = self.board.lock().unwrap().pop() else { return };
            // Before it is sent: who receives it may count it at once.
            add(&self.sent);
            if sender.send(Counted::new(&self.alive)).is_err() {
                self.sent.fetch_sub(1, Ordering::Relaxed);
            }
        }
        fn ask(&self) -> oneshot::Receiver<Counted> {
            let (sender, receiver) = oneshot::channel();
            self.board.lock().unwrap().push(sender);
            receiver
        }
    }
    with_runtimes(|runtime| {
        let shared = Arc::new(Shared::default());
        let (serving, ours) = (shared.clone(), shared.clone());
        let servers = Servers::start(runtime, 2, move || serving.answer());
        crowd(runtime, SEED, 40, move |random| {
            let received = match random.below(16) {
                0..2 => return ours.answer(),
                2 => {
                    // With a sender in hand, whose receiver learns that it is gone.
                    let _sender = ours.board.lock().unwrap().pop();
                    panic_deliberately();
                }
                3 => {
                    let _receiver = ours.ask();
                    thread::yield_now();
                    panic_deliberately();
                }
                4 => ours.ask().try_recv().ok(),
                5..9 => ours.ask().recv_timeout(patience(random)).ok(),
                _ => ours.ask().recv().ok(),
            };
            if received.is_some() {
                add(&ours.received);
            }
        });
        servers.end();
        let left = std::mem::take(&mut *shared.board.lock().unwrap());
        assert!(left.iter().all(oneshot::Sender::is_closed), "seed {SEED:#x}");
        assert!(count(&shared.received) <= count(&shared.sent), "seed {SEED:#x}");
        assert_eq!(count(&shared.alive), 0, "seed {SEED:#x}");
    });
}

/// A value that only grows; closures that look at it, or change it, panic at times.
#[test]
fn a_crowd_watches_and_changes() {
    const SEED: u64 = 0x3a7d;
    with_runtimes(|runtime| {
        let (sender, receiver) = watch::channel(0u64);
        let changes = Arc::new(AtomicU64::new(0));
        let change = {
            let (sender, changes) = (sender.clone(), changes.clone());
            move |panics: bool| {
                sender.send_modify(|value| {
                    if panics {
                        panic_deliberately();
                    }
                    *value += 1;
                    add(&changes);
                });
            }
        };
        let serve = change.clone();
        let servers = Servers::start(runtime, 1, move || serve(false));
        let watched = receiver.clone();
        crowd(runtime, SEED, 40, move |random| {
            let mut receiver = watched.clone();
            let before = *receiver.borrow_and_update();
            match random.below(16) {
                0..3 => change(false),
                3 => change(true),
                4 => panic_deliberately(),
                5 => {
                    let value = receiver.borrow();
                    let seen = *value;
                    thread::yield_now();
                    assert_eq!(*value, seen, "seed {SEED:#x}");
                }
                6 => drop(receiver.wait_for(|_| panic_deliberately())),
                7 => drop(receiver.wait_for(|value| *value > before).unwrap()),
                8..11 => {
                    let _ = receiver.changed_timeout(patience(random));
                }
                _ => receiver.changed().unwrap(),
            }
            assert!(*receiver.borrow() >= before, "seed {SEED:#x}");
        });
        servers.end();
        assert_eq!(*receiver.borrow(), count(&changes), "seed {SEED:#x}");
        // The crowd's receivers are gone, and those that waited with them.
        drop(receiver);
        sender.closed();
    });
}

/// Each receives what comes while it is there, in order, of messages that cannot always be cloned.
#[test]
fn a_crowd_is_told() {
    const SEED: u64 = 0xb40b;
    struct Message(u64, Counted);
    impl Clone for Message {
        fn clone(&self) -> Self {
            thread::yield_now();
            if self.0 % 61 == 7 {
                panic_deliberately();
            }
            Self(self.0, Counted::new(&self.1.0))
        }
    }
    with_runtimes(|runtime| {
        for capacity in [1, 7] {
            let (sender, receiver) = broadcast::channel(capacity);
            let [alive, numbers] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
            let tell = {
                let (sender, alive, numbers) = (sender.clone(), alive.clone(), numbers.clone());
                // One at a time, or the order of the numbers would not be that of the messages.
                let turn = Arc::new(Mutex::new(()));
                move || {
                    let _turn = turn.lock().unwrap();
                    drop(sender.send(Message(add(&numbers), Counted::new(&alive))));
                }
            };
            let serve = tell.clone();
            let servers = Servers::start(runtime, 1, serve);
            let told = receiver.resubscribe();
            crowd(runtime, SEED, 15, move |random| {
                let (mut receiver, mut last) = (told.resubscribe(), None);
                for _ in 0..3 {
                    let message = match random.below(16) {
                        0..3 => {
                            tell();
                            continue;
                        }
                        3 => panic_deliberately(),
                        4..6 => receiver.try_recv().ok(),
                        6..10 => receiver.recv_timeout(patience(random)).ok(),
                        _ => receiver.recv().ok(),
                    };
                    if let Some(message) = message {
                        assert!(last.is_none_or(|last| message.0 > last), "seed {SEED:#x}");
                        last = Some(message.0);
                    }
                }
            });
            servers.end();
            drop((sender, receiver));
            assert_eq!(count(&alive), 0, "capacity {capacity}, seed {SEED:#x}");
        }
    });
}
