//! Models of how workers fall asleep and are woken: no work waits while a worker sleeps that could
//! run it, and searchers are counted exactly.
//!
//! A worker that has found an item runs it for ever: its thread ends. So an item that relies on a
//! worker which is busy with another one is seen as a deadlock, with a sleeper left over.
#![cfg(bine_loom)]

use bine_loom_tests::{Queue, Workers, assert_nobody_searches, bounded_model, model};
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::atomic::{AtomicBool, Ordering};
use bine_runtime::protocol::Woken;
use loom::thread;

/// A submission from outside, as `spawn_on` makes it.
fn submit(workers: &Workers, item: u32) {
    workers.injector.push(item);
    workers.wake_for_work();
}

/// Starts a worker that runs one item, from the injector.
fn start(workers: &Arc<Workers>, index: usize, searching: bool) -> thread::JoinHandle<()> {
    let workers = workers.clone();
    thread::spawn(move || {
        workers.enter(index, thread::current());
        find(&workers, index, searching);
    })
}

fn find(workers: &Workers, index: usize, searching: bool) -> u32 {
    let injector = &workers.injector;
    workers.find(index, searching, || injector.pop(), || !injector.is_empty())
}

/// Starts a worker that is asleep already, and runs one item once it is woken.
fn start_asleep(workers: &Arc<Workers>, index: usize) -> thread::JoinHandle<()> {
    let this = workers.clone();
    workers.start_asleep(index, move || {
        let searching = this.sleep_on(index);
        find(&this, index, searching);
    })
}

/// One worker that gives up its search, one submitter.
#[test]
fn a_submission_against_a_searcher_that_falls_asleep() {
    model("idle::a_submission_against_a_searcher_that_falls_asleep", || {
        let workers = Arc::new(Workers::new(1));
        let worker = start(&workers, 0, false);
        submit(&workers, 1);
        worker.join().unwrap();
        assert_nobody_searches(&workers.idle, 1);
    });
}

/// As above, of a worker that was not allowed to search.
#[test]
fn a_submission_against_a_worker_that_falls_asleep_without_a_search() {
    model("idle::a_submission_against_a_worker_that_falls_asleep_without_a_search", || {
        let workers = Arc::new(Workers::new(1));
        let worker = {
            let workers = workers.clone();
            thread::spawn(move || {
                workers.enter(0, thread::current());
                let injector = &workers.injector;
                while injector.pop().is_none() {
                    let searching = workers.sleep(0, false, || !injector.is_empty());
                    workers.stop_searching(searching);
                }
            })
        };
        submit(&workers, 1);
        worker.join().unwrap();
        assert_nobody_searches(&workers.idle, 1);
    });
}

/// Each of two items gets a worker of its own.
#[test]
fn two_submitters_and_two_workers() {
    bounded_model("idle::two_submitters_and_two_workers", 2, || {
        let workers = Arc::new(Workers::new(2));
        let started = [start(&workers, 0, false), start(&workers, 1, false)];
        let submitter = {
            let workers = workers.clone();
            thread::spawn(move || submit(&workers, 1))
        };
        submit(&workers, 2);
        submitter.join().unwrap();
        started.into_iter().for_each(|worker| worker.join().unwrap());
        assert_nobody_searches(&workers.idle, 2);
    });
}

/// Two items rely on the one searcher, which finds one of them in its search or in its last look
/// before it sleeps, and then has the other worker woken for the other.
#[test]
fn the_last_searcher_wakes_a_worker_for_those_who_relied_on_it() {
    model("idle::the_last_searcher_wakes_a_worker_for_those_who_relied_on_it", || {
        let workers = Arc::new(Workers::new(2));
        let sleeper = start_asleep(&workers, 1);
        assert!(workers.idle.begin_search());
        let searcher = start(&workers, 0, true);
        submit(&workers, 1);
        submit(&workers, 2);
        searcher.join().unwrap();
        sleeper.join().unwrap();
        assert_nobody_searches(&workers.idle, 2);
    });
}

/// A searcher moves an item to its own queue with the one that it runs, and ends its search as one
/// of two: the other searcher's last look finds the item there.
#[test]
fn a_searcher_leaves_the_rest_of_its_batch_to_the_other_searcher() {
    model("idle::a_searcher_leaves_the_rest_of_its_batch_to_the_other_searcher", || {
        let workers = Arc::new(Workers::new(4));
        let fresh = Arc::new(Queue::default());
        assert!(workers.idle.begin_search() && workers.idle.begin_search());
        let thief = {
            let (workers, fresh) = (workers.clone(), fresh.clone());
            thread::spawn(move || {
                workers.enter(1, thread::current());
                workers.find(1, true, || fresh.pop(), || !fresh.is_empty())
            })
        };
        fresh.push(2);
        workers.stop_searching(true);
        assert_eq!(thief.join().unwrap(), 2);
        assert_nobody_searches(&workers.idle, 4);
    });
}

/// A worker that is no searcher takes two items at once, so that the second is in no queue for a
/// moment, in which the searcher who was woken for it gives up: it is woken again.
#[test]
fn the_rest_of_a_batch_that_no_searcher_took_wakes_a_worker() {
    model("idle::the_rest_of_a_batch_that_no_searcher_took_wakes_a_worker", || {
        let workers = Arc::new(Workers::new(2));
        let fresh = Arc::new(Queue::default());
        let sleeper = {
            let (this, fresh) = (workers.clone(), fresh.clone());
            workers.start_asleep(1, move || {
                let searching = this.sleep_on(1);
                let take = || this.injector.pop().or_else(|| fresh.pop());
                let has_work = || !this.injector.is_empty() || !fresh.is_empty();
                this.find(1, searching, take, has_work)
            })
        };
        workers.injector.push(1);
        submit(&workers, 2);
        // `Core::take_injected`.
        let mine = workers.injector.pop();
        if let Some(rest) = workers.injector.pop() {
            fresh.push(rest);
            workers.wake_for_work();
        }
        let other = sleeper.join().unwrap();
        assert!(mine.is_none_or(|mine| mine != other));
    });
}

/// A worker is claimed and wakes up, for its timer, before the claimer has counted it as a searcher.
/// It finds an item and ends its search; the submitter of the next item must not take it for a
/// searcher any more.
#[test]
fn a_worker_that_outruns_its_claimer() {
    bounded_model("idle::a_worker_that_outruns_its_claimer", 2, || {
        let workers = Arc::new(Workers::new(2));
        let sleeper = start_asleep(&workers, 1);
        workers.injector.push(1);
        let early = {
            let this = workers.clone();
            workers.start_asleep(0, move || {
                let workers = this;
                // The timer is due at once.
                let searching = workers.idle.wake_up(0) == Woken::Claimed;
                if workers.injector.pop().is_none() {
                    find(&workers, 0, searching);
                } else {
                    workers.stop_searching(searching);
                }
            })
        };
        let claimer = {
            let workers = workers.clone();
            thread::spawn(move || workers.wake_worker(0))
        };
        submit(&workers, 2);
        claimer.join().unwrap();
        early.join().unwrap();
        sleeper.join().unwrap();
        assert_nobody_searches(&workers.idle, 2);
    });
}

/// A worker's timer runs out while it is claimed by one and summoned by another: it wakes up by
/// itself, or by one of them, and is counted as a searcher if it was claimed.
#[test]
fn a_claim_and_a_summons_against_a_timer() {
    model("idle::a_claim_and_a_summons_against_a_timer", || {
        let workers = Arc::new(Workers::new(2));
        let worker = {
            let workers = workers.clone();
            thread::spawn(move || {
                workers.enter(0, thread::current());
                workers.idle.fall_asleep(0, false);
                let woken = workers.idle.wake_up(0);
                workers.stop_searching(woken == Woken::Claimed);
                woken
            })
        };
        let other = {
            let workers = workers.clone();
            thread::spawn(move || workers.idle.submit())
        };
        let summoned = workers.idle.summon(0);
        let claimed = other.join().unwrap().is_some();
        assert!(!(summoned && claimed), "one of them takes it out");
        match worker.join().unwrap() {
            Woken::ByItself => assert!(!summoned && !claimed),
            Woken::Claimed => assert!(claimed),
            Woken::Summoned => assert!(summoned),
        }
        assert_nobody_searches(&workers.idle, 2);
    });
}

/// `Shared::stop`: the flag is set and each worker is summoned. Every worker ends.
#[test]
fn the_stop_flag_against_workers_that_fall_asleep() {
    model("idle::the_stop_flag_against_workers_that_fall_asleep", || {
        let workers = Arc::new(Workers::new(2));
        let started = [0, 1].map(|index| {
            let workers = workers.clone();
            thread::spawn(move || {
                workers.enter(index, thread::current());
                let mut searching = false;
                while !workers.stopping.load(Ordering::Relaxed) {
                    searching = searching || workers.idle.begin_search();
                    searching = workers.sleep(index, searching, || false);
                }
                workers.stop_searching(searching);
            })
        });
        workers.stopping.store(true, Ordering::Relaxed);
        (0..2).for_each(|worker| workers.wake_worker(worker));
        started.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

/// `Shared::wake_many` wakes a worker for each item, though one searches already.
#[test]
fn many_items_at_once_against_workers_that_fall_asleep() {
    model("idle::many_items_at_once_against_workers_that_fall_asleep", || {
        let workers = Arc::new(Workers::new(2));
        let started = [start(&workers, 0, false), start(&workers, 1, false)];
        workers.injector.push(1);
        workers.injector.push(2);
        workers.wake_many(2);
        started.into_iter().for_each(|worker| worker.join().unwrap());
        assert_nobody_searches(&workers.idle, 2);
    });
}

/// The states of worker 31 and of worker 32 are in two words: a submission finds a sleeper in either, and
/// each of two items gets a worker of its own. The others are busy.
#[test]
fn two_submissions_to_workers_in_two_words() {
    bounded_model("idle::two_submissions_to_workers_in_two_words", 2, || {
        let workers = Arc::new(Workers::new(33));
        let asleep = start_asleep(&workers, 31);
        let falls_asleep = start(&workers, 32, false);
        submit(&workers, 1);
        submit(&workers, 2);
        asleep.join().unwrap();
        falls_asleep.join().unwrap();
        assert_nobody_searches(&workers.idle, 33);
    });
}

/// Three workers, two of them asleep, and three items one after the other: every worker gets one.
#[test]
fn three_submissions_and_three_workers() {
    bounded_model("idle::three_submissions_and_three_workers", 1, || {
        let workers = Arc::new(Workers::new(3));
        let asleep = [start_asleep(&workers, 1), start_asleep(&workers, 2)];
        let falls_asleep = start(&workers, 0, false);
        (1..=3).for_each(|item| submit(&workers, item));
        falls_asleep.join().unwrap();
        asleep.into_iter().for_each(|worker| worker.join().unwrap());
        assert_nobody_searches(&workers.idle, 3);
    });
}

/// One of two sleepers is summoned to its inbox, where it finds something that takes for ever, while a
/// submission is about to claim it: the submission then claims the other one.
#[test]
fn a_summons_against_a_claim_of_the_same_worker() {
    bounded_model("idle::a_summons_against_a_claim_of_the_same_worker", 1, || {
        let workers = Arc::new(Workers::new(2));
        let inbox = Arc::new(Queue::default());
        let done = Arc::new(AtomicBool::new(false));
        let summoned = {
            let (this, inbox, done) = (workers.clone(), inbox.clone(), done.clone());
            workers.start_asleep(0, move || {
                let mut searching = this.sleep_on(0);
                while inbox.pop().is_none() {
                    if this.injector.pop().is_some() {
                        this.stop_searching(std::mem::take(&mut searching));
                        done.store(true, Ordering::Relaxed);
                        this.wake_worker(1);
                    }
                    let has_work = || !inbox.is_empty() || !this.injector.is_empty();
                    searching = this.sleep(0, searching, has_work);
                }
                this.stop_searching(searching);
            })
        };
        let other = {
            let (this, done) = (workers.clone(), done.clone());
            workers.start_asleep(1, move || {
                let mut searching = this.sleep_on(1);
                while this.injector.pop().is_none() && !done.load(Ordering::Relaxed) {
                    let has_work = || done.load(Ordering::Relaxed) || !this.injector.is_empty();
                    searching = this.sleep(1, searching, has_work);
                }
                this.stop_searching(searching);
            })
        };
        let summons = {
            let workers = workers.clone();
            thread::spawn(move || {
                inbox.push(2);
                workers.wake_worker(0);
            })
        };
        submit(&workers, 1);
        summons.join().unwrap();
        summoned.join().unwrap();
        other.join().unwrap();
        assert_nobody_searches(&workers.idle, 2);
    });
}
