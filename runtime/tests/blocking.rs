//! Calls that block, on the pool's OS threads.

mod modes;

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};

use bine_runtime::thread::{self, Cancelled};
use bine_runtime::{Builder, blocking};
use modes::runtimes;

#[test]
fn a_job_borrows_and_returns_a_value() {
    for runtime in runtimes() {
        let sum = runtime.run(|| {
            let (numbers, mut text) = (vec![1, 2, 3], String::from("a"));
            let sum: u32 = blocking(|| {
                text.push('b');
                let name = std::thread::current().name().map(String::from);
                assert!(name.unwrap().starts_with("bine-blocking-"));
                numbers.iter().sum()
            });
            assert_eq!((text.as_str(), numbers.len()), ("ab", 3));
            sum
        });
        assert_eq!(sum, 6);
    }
}

#[test]
fn an_os_thread_runs_it_in_place() {
    let here = std::thread::current().id();
    assert_eq!(blocking(|| std::thread::current().id()), here);
    let runtime = Builder::new().workers(1).build().unwrap();
    let same = runtime.run(|| {
        blocking(|| std::thread::current().id() == blocking(|| std::thread::current().id()))
    });
    assert!(same, "a job in a job");
}

#[test]
fn a_panic_goes_on_in_the_caller() {
    for runtime in runtimes() {
        runtime.run(|| {
            let text = String::from("borrowed");
            let job = || blocking(|| panic::resume_unwind(Box::new(text.clone())));
            let payload: Box<dyn std::any::Any + Send> =
                panic::catch_unwind(AssertUnwindSafe(job)).map(|(): ()| ()).unwrap_err();
            assert_eq!(*payload.downcast::<String>().unwrap(), text);
            assert_eq!(blocking(|| 7), 7);
        });
    }
}

#[test]
fn many_jobs_of_many_threads() {
    for runtime in runtimes() {
        let ran = Arc::new(AtomicUsize::new(0));
        let spawn = |number: usize| {
            let ran = Arc::clone(&ran);
            runtime.spawn(move || {
                for round in 0..10 {
                    let product = blocking(|| {
                        ran.fetch_add(1, Ordering::Relaxed);
                        number * round
                    });
                    assert_eq!(product, number * round);
                }
            })
        };
        let threads: Vec<_> = (0..1000).map(spawn).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(ran.load(Ordering::Relaxed), 10_000);
    }
}

#[test]
fn jobs_that_wait_for_each_other_all_run_at_once() {
    const JOBS: usize = 60;
    for runtime in runtimes() {
        let all = Arc::new(Barrier::new(JOBS));
        let spawn = |_| {
            let all = Arc::clone(&all);
            runtime.spawn(move || blocking(|| usize::from(all.wait().is_leader())))
        };
        let threads: Vec<_> = (0..JOBS).map(spawn).collect();
        let leaders: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(leaders, 1);
    }
}

#[test]
fn a_worker_goes_on_while_a_job_blocks() {
    for runtime in runtimes() {
        let value = runtime.run(|| {
            let (send, receive) = mpsc::channel();
            let waits = thread::spawn(move || blocking(move || receive.recv().unwrap()));
            thread::spawn(move || send.send(5).unwrap()).join().unwrap();
            waits.join().unwrap()
        });
        assert_eq!(value, 5);
    }
}

#[test]
fn a_cancelled_thread_waits_for_its_job_and_unwinds_at_its_next_wait() {
    for runtime in runtimes() {
        let ((begin, began), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel());
        let after = Arc::new(AtomicBool::new(false));
        let thread = {
            let after = Arc::clone(&after);
            runtime.spawn(move || {
                let mut text = String::new();
                let written = &mut text;
                blocking(move || {
                    begin.send(()).unwrap();
                    may_go_on.recv().unwrap();
                    written.push_str("written");
                });
                assert_eq!(text, "written");
                after.store(true, Ordering::Relaxed);
                thread::yield_now();
                unreachable!("the thread was cancelled");
            })
        };
        began.recv().unwrap();
        thread.cancel().unwrap();
        assert!(!thread.is_finished());
        go_on.send(()).unwrap();
        assert!(thread.join().unwrap_err().is::<Cancelled>());
        assert!(after.load(Ordering::Relaxed));
    }
}

#[test]
fn a_job_may_use_green_threads() {
    for runtime in runtimes() {
        let sum = runtime.run(|| {
            let parked = thread::spawn(thread::park);
            blocking(|| {
                parked.thread().unpark();
                parked.join().unwrap();
                thread::yield_now();
                let others: Vec<_> = (0..4).map(|n| thread::spawn(move || n)).collect();
                others.into_iter().map(|other| other.join().unwrap()).sum::<i32>()
            })
        });
        assert_eq!(sum, 6);
    }
}
