//! Events, notifications and groups.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::crowd::{crowd, panic_deliberately, with_runtimes};
use crate::random::Random;
use bine_runtime::thread::{self, Cancelled};
use bine_sync::{Event, Notify, WaitGroup};

#[test]
fn an_event_stays_until_it_is_taken_back() {
    let event = Event::new();
    assert!(!event.wait_timeout(Duration::ZERO));
    event.set();
    event.set();
    event.wait();
    assert!(event.wait_timeout(Duration::MAX));
    event.reset();
    event.reset();
    assert!(!event.is_set());
    assert!(!event.wait_timeout(Duration::from_micros(1)));
    assert_eq!(format!("{event:?}"), "Event { set: false, .. }");
}

#[test]
fn an_event_releases_all_that_wait_though_it_is_taken_back_at_once() {
    with_runtimes(|runtime| {
        let event = Arc::new(Event::new());
        let waiting = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..20)
            .map(|_| {
                let (event, waiting) = (Arc::clone(&event), Arc::clone(&waiting));
                runtime.spawn(move || {
                    waiting.fetch_add(1, Ordering::Relaxed);
                    event.wait();
                    waiting.fetch_sub(1, Ordering::Relaxed);
                })
            })
            .collect();
        // Those that have not come to wait yet when it is set are released by a later time.
        while threads.iter().any(|thread| !thread.is_finished()) {
            event.set();
            event.reset();
            std::thread::yield_now();
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(waiting.load(Ordering::Relaxed), 0);
        assert!(!event.is_set());
    });
}

#[test]
fn a_notification_is_kept_once() {
    let news = Notify::new();
    news.notify_one();
    news.notify_one();
    assert!(news.wait_timeout(Duration::ZERO));
    assert!(!news.wait_timeout(Duration::from_micros(1)));
    // The word says that somebody waits still, while nobody does.
    news.notify_one();
    assert!(news.wait_timeout(Duration::ZERO));
    news.notify_waiters();
    assert!(!news.wait_timeout(Duration::ZERO));
    assert_eq!(format!("{news:?}"), "Notify { .. }");
}

#[test]
fn all_that_wait_are_notified() {
    with_runtimes(|runtime| {
        let news = Arc::new(Notify::new());
        let threads: Vec<_> = (0..20)
            .map(|_| {
                let news = Arc::clone(&news);
                runtime.spawn(move || news.wait())
            })
            .collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            news.notify_waiters();
            std::thread::yield_now();
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// A job is announced by one notification; whoever takes one works off all jobs. Those that are
/// cancelled must leave neither a job nor a notification behind while others wait.
#[test]
fn a_notification_is_not_lost_with_a_cancelled_thread() {
    const SEED: u64 = 0x0717;
    const JOBS: u64 = 1_000;
    with_runtimes(|runtime| {
        let shared = Arc::new((Notify::new(), AtomicU64::new(0), AtomicU64::new(0)));
        let work = |last: bool| {
            let shared = Arc::clone(&shared);
            move || {
                let (news, jobs, done) = &*shared;
                let mut random = Random::new(SEED, u64::from(last));
                while done.load(Ordering::Relaxed) < JOBS {
                    let patience = Duration::from_micros(random.below(100));
                    if random.below(4) > 0 {
                        news.wait();
                    } else if !news.wait_timeout(patience) {
                        continue;
                    }
                    done.fetch_add(jobs.swap(0, Ordering::Relaxed), Ordering::Relaxed);
                }
                // Others may wait for a notification that will not come any more.
                news.notify_one();
            }
        };
        let victims: Vec<_> = (0..32).map(|_| runtime.spawn(work(false))).collect();
        let stays: Vec<_> = (0..4).map(|_| runtime.spawn(work(true))).collect();
        let os = std::thread::spawn(work(true));
        let mut random = Random::new(SEED, 1000);
        let mut victims = victims.into_iter();
        for n in 0..JOBS {
            shared.1.fetch_add(1, Ordering::Relaxed);
            shared.0.notify_one();
            if n % 32 == random.below(32)
                && let Some(victim) = victims.next()
            {
                victim.cancel().unwrap();
                if let Err(error) = victim.join() {
                    assert!(error.is::<Cancelled>());
                }
            }
        }
        for victim in victims {
            victim.cancel().unwrap();
            let _ = victim.join();
        }
        stays.into_iter().for_each(|thread| thread.join().unwrap());
        os.join().unwrap();
        assert_eq!(shared.2.load(Ordering::Relaxed), JOBS, "seed {SEED:#x}");
    });
}

#[test]
fn a_group_waits_for_all_of_it() {
    const SEED: u64 = 0x6407;
    let group = WaitGroup::default();
    assert_eq!(format!("{group:?}"), "WaitGroup { count: 1 }");
    assert_eq!(format!("{:?}", group.clone()), "WaitGroup { count: 2 }");
    group.wait();
    with_runtimes(|runtime| {
        let group = WaitGroup::new();
        let member = group.clone();
        crowd(runtime, SEED, 20, move |random| {
            let member = member.clone();
            match random.below(8) {
                0 => panic_deliberately(),
                1..4 => thread::yield_now(),
                4 => drop(member.clone()),
                _ => {}
            }
            drop(member);
        });
        let waits = [group.clone(), group].map(|group| runtime.spawn(move || group.wait()));
        for wait in waits {
            wait.join().unwrap();
        }
    });
}

#[test]
fn several_wait_for_a_group_and_one_is_cancelled() {
    with_runtimes(|runtime| {
        let group = WaitGroup::new();
        let waits = [group.clone(), group.clone(), group.clone()]
            .map(|group| runtime.spawn(move || group.wait()));
        waits[0].cancel().unwrap();
        let members = [group.clone(), group].map(|group| {
            runtime.spawn(move || {
                thread::yield_now();
                drop(group);
            })
        });
        for member in members {
            member.join().unwrap();
        }
        let [cancelled, waits @ ..] = waits;
        let _ = cancelled.join();
        for wait in waits {
            wait.join().unwrap();
        }
    });
}

#[test]
fn bounds() {
    fn shared<T: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    shared::<Event>();
    shared::<Notify>();
    shared::<WaitGroup>();
}
