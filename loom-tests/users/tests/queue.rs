//! The work queue.

use bine::model::Builder;
use bine::sync::atomic::{AtomicUsize, Ordering};
use bine::thread;
use bine_model_examples::queue::WorkQueue;

fn two_workers<const MISTAKEN: bool>() {
    Builder::new().max_preemptions(2).check(|| {
        let queue = WorkQueue::<usize, MISTAKEN>::new();
        let sum = AtomicUsize::new(0);
        thread::scope(|scope| {
            let work = |job| {
                sum.fetch_add(job, Ordering::Relaxed);
            };
            let workers = ["first", "second"].map(|name| queue.start_worker(scope, name, work));
            queue.push(1);
            queue.push(2);
            queue.close();
            let done: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
            assert_eq!(done, 2);
        });
        assert_eq!(sum.into_inner(), 3);
    });
}

#[test]
fn all_jobs_are_done_and_the_workers_end() {
    two_workers::<false>();
}

#[cfg(bine_loom)]
#[test]
#[should_panic(expected = "deadlock")]
fn a_worker_misses_the_end() {
    two_workers::<true>();
}

/// The queue is a static here: each execution begins with a new one.
#[test]
fn a_queue_in_a_static() {
    static QUEUE: WorkQueue<String> = WorkQueue::new();

    bine::model(|| {
        assert_eq!(DONE.load(Ordering::Relaxed), 0);
        let worker = bine::spawn(|| {
            while QUEUE.next().is_some() {
                DONE.fetch_add(1, Ordering::Relaxed);
            }
        });
        QUEUE.push("one".to_owned());
        QUEUE.close();
        worker.join().unwrap();
        assert_eq!(DONE.load(Ordering::Relaxed), 1);
    });

    static DONE: AtomicUsize = AtomicUsize::new(0);
}
