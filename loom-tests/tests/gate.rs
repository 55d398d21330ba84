//! Models of the poller's gate: the poller does not nap while all workers sleep.
#![cfg(bine_loom)]

use bine_io::gate::Gate;
use bine_loom_tests::model;
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::atomic::{AtomicUsize, Ordering};
use loom::sync::Notify;
use loom::thread;

struct Scene {
    gate: Gate,
    workers: usize,
    sleepers: AtomicUsize,
    /// The poller's nap, without a bound: a worker that sleeps must end it.
    nap: Notify,
}

impl Scene {
    fn new(workers: usize) -> Arc<Self> {
        let (sleepers, nap) = (AtomicUsize::new(0), Notify::new());
        Arc::new(Self { gate: Gate::new(), workers, sleepers, nap })
    }

    fn poller_has_a_quiet_batch(&self) {
        if self.gate.close(|| self.sleepers.load(Ordering::Relaxed) == self.workers) {
            self.nap.wait();
            self.gate.open();
        }
    }

    fn worker_falls_asleep(&self) {
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        if self.gate.worker_sleeps() {
            self.nap.notify();
        }
    }
}

/// If the poller napped on, nobody would ever wake the worker: loom would report a deadlock.
#[test]
fn a_nap_against_a_worker_that_falls_asleep() {
    model("gate::a_nap_against_a_worker_that_falls_asleep", || {
        let scene = Scene::new(1);
        let poller = {
            let scene = scene.clone();
            thread::spawn(move || scene.poller_has_a_quiet_batch())
        };
        scene.worker_falls_asleep();
        poller.join().unwrap();
    });
}

/// A worker falls asleep, wakes up and falls asleep again, while the poller wants to nap
/// twice.
#[test]
fn two_naps_against_a_worker_that_sleeps_twice() {
    model("gate::two_naps_against_a_worker_that_sleeps_twice", || {
        let scene = Scene::new(1);
        let poller = {
            let scene = scene.clone();
            thread::spawn(move || {
                scene.poller_has_a_quiet_batch();
                scene.poller_has_a_quiet_batch();
            })
        };
        scene.worker_falls_asleep();
        scene.sleepers.fetch_sub(1, Ordering::Relaxed);
        scene.worker_falls_asleep();
        poller.join().unwrap();
    });
}

#[test]
fn two_workers_fall_asleep_at_once() {
    model("gate::two_workers_fall_asleep_at_once", || {
        let scene = Scene::new(2);
        let poller = {
            let scene = scene.clone();
            thread::spawn(move || scene.poller_has_a_quiet_batch())
        };
        let other = {
            let scene = scene.clone();
            thread::spawn(move || scene.worker_falls_asleep())
        };
        scene.worker_falls_asleep();
        other.join().unwrap();
        poller.join().unwrap();
    });
}
