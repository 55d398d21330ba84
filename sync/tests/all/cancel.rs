//! Cancelled threads leave locks, permits and messages as they should be.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::random::Random;
use bine_runtime::thread::{self, Cancelled, JoinHandle};
use bine_runtime::{Builder, Runtime};
use bine_sync::{Condvar, Mutex, channel};

const SEED: u64 = 0xca9ce1;
const THREADS: u64 = 64;

/// Calls `f` with runtimes of both modes with 1, 2, 3 and 8 workers, which are empty afterwards.
fn with_runtimes(f: impl Fn(&Runtime)) {
    for workers in [1, 2, 3, 8] {
        // SAFETY: no test here keeps a thread-local borrow across a blocking call.
        let migrating = unsafe { Builder::new().workers(workers).migrate() };
        for builder in [Builder::new().workers(workers), migrating] {
            let runtime = builder.build().unwrap();
            f(&runtime);
            assert_eq!(runtime.metrics().alive, 0, "seed {SEED:#x}, {runtime:?}");
        }
    }
}

/// Cancels all in a random order, from a green thread that lets others run meanwhile.
fn cancel_all(runtime: &Runtime, mut threads: Vec<JoinHandle<()>>) {
    runtime.run(move || {
        let mut random = Random::new(SEED, 1000);
        let mut cancelled = Vec::new();
        while !threads.is_empty() {
            let at = random.below(threads.len() as u64) as usize;
            let thread = threads.swap_remove(at);
            thread.cancel().unwrap();
            cancelled.push(thread);
            (0..random.below(4)).for_each(|_| thread::yield_now());
        }
        for thread in cancelled {
            let error = thread.join().expect_err("the thread does not end by itself");
            assert!(error.is::<Cancelled>(), "seed {SEED:#x}");
        }
    });
}

#[test]
fn a_mutex_survives_the_cancellation_of_those_who_wait_and_hold() {
    with_runtimes(|runtime| {
        let mutex = Arc::new(Mutex::new(0u64));
        let counted = Arc::new(AtomicU64::new(0));
        let threads = (0..THREADS).map(|stream| {
            let (mutex, counted) = (Arc::clone(&mutex), Arc::clone(&counted));
            runtime.spawn(move || {
                let mut random = Random::new(SEED, stream);
                loop {
                    let mut guard = mutex.lock().unwrap();
                    *guard += 1;
                    counted.fetch_add(1, Ordering::Relaxed);
                    if random.below(2) == 0 {
                        thread::yield_now();
                    }
                    drop(guard);
                    if random.below(4) == 0 {
                        thread::yield_now();
                    }
                }
            })
        });
        cancel_all(runtime, threads.collect());
        assert!(!mutex.is_poisoned());
        let count = *mutex.try_lock().expect("nobody holds the lock");
        assert_eq!(count, counted.load(Ordering::Relaxed), "seed {SEED:#x}");
    });
}

#[test]
fn a_permit_is_not_lost_with_the_thread_that_was_notified_of_it() {
    with_runtimes(|runtime| {
        const PERMITS: u64 = 2_000;
        let permits = Arc::new((Mutex::new(0u64), Condvar::new()));
        let taken = Arc::new(AtomicU64::new(0));
        let take = |until_cancelled: bool| {
            let (permits, taken) = (Arc::clone(&permits), Arc::clone(&taken));
            move || loop {
                let mut left = permits.0.lock().unwrap();
                while *left == 0 {
                    left = permits.1.wait(left).unwrap();
                }
                *left -= 1;
                drop(left);
                // The one who stays ends with the last permit; the others by being cancelled.
                if taken.fetch_add(1, Ordering::Relaxed) + 1 == PERMITS && !until_cancelled {
                    return;
                }
                if !until_cancelled && taken.load(Ordering::Relaxed) == PERMITS {
                    return;
                }
            }
        };
        let victims = (0..THREADS).map(|_| runtime.spawn(take(true))).collect();
        let giver = {
            let permits = Arc::clone(&permits);
            runtime.spawn(move || {
                for n in 0..PERMITS {
                    *permits.0.lock().unwrap() += 1;
                    // One notification for each permit: whoever gets it must not lose it.
                    permits.1.notify_one();
                    if n % 16 == 0 {
                        thread::yield_now();
                    }
                }
            })
        };
        cancel_all(runtime, victims);
        giver.join().unwrap();
        // What is left is there for those who come now.
        let left = *permits.0.try_lock().expect("nobody holds the lock");
        assert_eq!(left + taken.load(Ordering::Relaxed), PERMITS, "seed {SEED:#x}");
        if left > 0 {
            runtime.spawn(take(false)).join().unwrap();
        }
        assert_eq!(taken.load(Ordering::Relaxed), PERMITS, "seed {SEED:#x}");
    });
}

/// Threads that survive wait for the same notifications as those that are cancelled: each permit
/// that was given reaches a survivor if nobody else has taken it.
#[test]
fn a_notification_is_passed_on_to_a_thread_that_still_waits() {
    with_runtimes(|runtime| {
        for round in 0..50 {
            let state = Arc::new((Mutex::new(0u64), Condvar::new()));
            let wait = |state: &Arc<(Mutex<u64>, Condvar)>| {
                let state = Arc::clone(state);
                move || {
                    let mut left = state.0.lock().unwrap();
                    while *left == 0 {
                        left = state.1.wait(left).unwrap();
                    }
                    *left -= 1;
                }
            };
            let victims: Vec<_> = (0..4).map(|_| runtime.spawn(wait(&state))).collect();
            let survivor = runtime.spawn(wait(&state));
            let state_of_giver = Arc::clone(&state);
            let ended = runtime.run(move || {
                (0..round % 5).for_each(|_| thread::yield_now());
                for victim in &victims {
                    victim.cancel().unwrap();
                    *state_of_giver.0.lock().unwrap() += 1;
                    state_of_giver.1.notify_one();
                }
                *state_of_giver.0.lock().unwrap() += 1;
                state_of_giver.1.notify_one();
                victims.into_iter().filter_map(|victim| victim.join().ok()).count() as u64
            });
            survivor.join().unwrap();
            assert_eq!(*state.0.lock().unwrap(), 4 - ended, "each took one permit, or none");
        }
    });
}

/// Permits, and how many threads have come to wait for one.
type Counter = Arc<(Mutex<(u32, u32)>, Condvar)>;

/// Waits for a permit and takes it.
fn take_permit(counter: &Counter) {
    let mut guard = counter.0.lock().unwrap();
    guard.1 += 1;
    while guard.0 == 0 {
        guard = counter.1.wait(guard).unwrap();
    }
    guard.0 -= 1;
}

/// The first of two who wait is notified, and cancelled before it can take the lock again. It must not
/// unwind there, or the second one must be notified in its place.
#[test]
fn a_notified_thread_that_is_cancelled_while_it_locks_again_does_not_lose_the_notification() {
    const TURNS: usize = 1_000;
    with_runtimes(|runtime| {
        let counter = Counter::default();
        let waiter = |comes: u32| {
            let counter = Arc::clone(&counter);
            let inside = Arc::clone(&counter);
            let thread = runtime.spawn(move || take_permit(&inside));
            // With the lock ours it has given it back, and is in the queue.
            while counter.0.lock().unwrap().1 < comes {
                std::thread::yield_now();
            }
            thread
        };
        let (first, second) = (waiter(1), waiter(2));
        let giver = Arc::clone(&counter);
        runtime.run(move || {
            let mut guard = giver.0.lock().unwrap();
            guard.0 = 1;
            giver.1.notify_one();
            first.cancel().unwrap();
            // It runs, and finds the lock held. (On one worker, that is.)
            (0..3).for_each(|_| thread::yield_now());
            drop(guard);
            if first.join().is_ok() {
                giver.0.lock().unwrap().0 += 1;
                giver.1.notify_one();
            } else if runtime_has_one_worker() {
                // Where it would not come at all, this fails and does not wait for ever.
                let turns = (0..TURNS).take_while(|_| !second.is_finished());
                turns.for_each(|_| thread::yield_now());
                assert!(second.is_finished(), "the notification is lost");
            }
            second.join().unwrap();
        });
        assert_eq!(counter.0.lock().unwrap().0, 0);
    });
}

fn runtime_has_one_worker() -> bool {
    thread::available_parallelism().unwrap().get() == 1
}

/// A message that counts its drops.
struct Message(Arc<AtomicU64>);

impl Drop for Message {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn each_message_is_received_or_dropped_once() {
    with_runtimes(|runtime| {
        for capacity in [Some(0), Some(1), Some(3), None] {
            let (sender, receiver) = match capacity {
                Some(capacity) => channel::bounded(capacity),
                None => channel::unbounded(),
            };
            let [made, dropped, sent, received] = [(); 4].map(|()| Arc::new(AtomicU64::new(0)));
            let senders = (0..THREADS / 2).map(|_| {
                let (sender, made) = (sender.clone(), Arc::clone(&made));
                let (sent, dropped) = (Arc::clone(&sent), Arc::clone(&dropped));
                runtime.spawn(move || {
                    loop {
                        made.fetch_add(1, Ordering::Relaxed);
                        sender.send(Message(Arc::clone(&dropped))).unwrap();
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                })
            });
            let receivers = (0..THREADS / 2).map(|_| {
                let (receiver, received) = (receiver.clone(), Arc::clone(&received));
                runtime.spawn(move || {
                    loop {
                        let _message = receiver.recv().unwrap();
                        received.fetch_add(1, Ordering::Relaxed);
                    }
                })
            });
            let threads = senders.chain(receivers).collect();
            cancel_all(runtime, threads);
            let mut left = 0;
            while receiver.try_recv().is_ok() {
                left += 1;
            }
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            assert_eq!(count(&sent), count(&received) + left, "{capacity:?}, seed {SEED:#x}");
            assert_eq!(count(&made), count(&dropped), "{capacity:?}, seed {SEED:#x}");
            // The channel works still.
            let again = runtime.spawn(move || sender.send(Message(Arc::clone(&dropped))).unwrap());
            assert!(receiver.recv().is_ok());
            again.join().unwrap();
        }
    });
}

#[test]

fn destructors_that_lock_while_their_threads_unwind_wait_for_the_lock() {
    struct Locks(Arc<Mutex<u32>>);

    impl Drop for Locks {
        fn drop(&mut self) {
            let mut guard = self.0.lock().unwrap();
            thread::yield_now();
            *guard += 1;
        }
    }

    with_runtimes(|runtime| {
        let mutex = Arc::new(Mutex::new(0));
        let threads = (0..THREADS).map(|_| {
            let locks = Locks(Arc::clone(&mutex));
            runtime.spawn(move || {
                let _locks = locks;
                thread::park();
            })
        });
        cancel_all(runtime, threads.collect());
        assert_eq!(u64::from(*mutex.lock().unwrap()), THREADS);
    });
}

#[test]
fn a_panic_during_a_cancellation_that_is_caught_leaves_the_cancellation_to_go_on() {
    struct Panics(Arc<Mutex<()>>);

    impl Drop for Panics {
        fn drop(&mut self) {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let _guard = self.0.lock();
                thread::yield_now();
                std::panic::resume_unwind(Box::new("in a destructor"));
            }));
            assert!(outcome.is_err());
        }
    }

    with_runtimes(|runtime| {
        let (inner, outer) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(())));
        let (panics, held) = (Panics(Arc::clone(&inner)), Arc::clone(&outer));
        let thread = runtime.spawn(move || {
            let _held = held.lock().unwrap();
            let _panics = panics;
            thread::park();
        });
        thread.cancel().unwrap();
        assert!(thread.join().unwrap_err().is::<Cancelled>());
        assert!(!outer.is_poisoned());
        assert!(inner.try_lock().is_ok() || inner.is_poisoned(), "the lock was given back");
    });
}

/// As the documentation of `Cancelled` says.
#[test]
fn a_caught_cancellation_is_over_when_the_thread_next_blocks() {
    /// Whether a lock is poisoned whose holder is cancelled, catches that, and then does `next`.
    fn poisons(runtime: &Runtime, next: fn(Box<dyn std::any::Any + Send>)) -> bool {
        let mutex = Arc::new(Mutex::new(()));
        let locked = Arc::clone(&mutex);
        let thread = runtime.spawn(move || {
            let _guard = locked.lock().unwrap();
            next(catch_unwind(thread::park).unwrap_err());
        });
        thread.cancel().unwrap();
        assert!(thread.join().is_err());
        mutex.is_poisoned()
    }

    with_runtimes(|runtime| {
        assert!(!poisons(runtime, |_| std::panic::resume_unwind(Box::new("a panic"))));
        assert!(!poisons(runtime, |payload| std::panic::resume_unwind(payload)));
        assert!(!poisons(runtime, |_| thread::park()));
        assert!(poisons(runtime, |payload| {
            thread::shielded(thread::yield_now);
            std::panic::resume_unwind(payload);
        }));
        assert!(!poisons(runtime, |_| {
            thread::shielded(thread::yield_now);
            thread::park();
        }));
    });
}

#[test]
fn a_panic_after_a_blocking_call_that_followed_a_caught_cancellation_poisons() {
    with_runtimes(|runtime| {
        let mutex = Arc::new(Mutex::new(()));
        let locked = Arc::clone(&mutex);
        let thread = runtime.spawn(move || {
            let _guard = locked.lock().unwrap();
            assert!(catch_unwind(thread::park).is_err());
            // Does not unwind, and tells that the first unwinding is over.
            thread::shielded(thread::yield_now);
            std::panic::resume_unwind(Box::new("a panic"));
        });
        thread.cancel().unwrap();
        assert!(thread.join().unwrap_err().is::<&str>());
        assert!(mutex.is_poisoned());
    });
}

/// The holder cancels those who have waited longest, and gives the lock back at once: if it wakes one of
/// them, that is passed on.
#[test]
fn a_turn_is_passed_on_to_a_thread_that_still_waits() {
    const WAITERS: u64 = 6;
    with_runtimes(|runtime| {
        runtime.run(|| {
            let mut random = Random::new(SEED, 2000);
            for _ in 0..60 {
                let mutex = Arc::new(Mutex::new(0));
                let mut held = mutex.lock().unwrap();
                let wait = |_| {
                    let mutex = Arc::clone(&mutex);
                    bine_runtime::spawn(move || *mutex.lock().unwrap() += 1)
                };
                let waiters: Vec<_> = (0..WAITERS).map(wait).collect();
                for _ in 0..random.below(8) {
                    thread::yield_now();
                    drop(held);
                    held = mutex.lock().unwrap();
                }
                for victim in &waiters[..random.below(WAITERS) as usize] {
                    victim.cancel().unwrap();
                }
                drop(held);
                let had = waiters.into_iter().filter_map(|waiter| waiter.join().ok()).count();
                assert_eq!(*mutex.try_lock().expect("nobody has it"), had, "seed {SEED:#x}");
            }
        });
    });
}
