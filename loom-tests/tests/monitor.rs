//! Models of the monitor: it dozes through no hold, and spares that go on and off duty leave no work
//! behind.
#![cfg(bine_loom)]

use bine_loom_tests::{Workers, assert_nobody_searches, bounded_model, model};
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::atomic::Ordering;
use bine_runtime::protocol::Doze;
use loom::thread;

/// `Monitor::doze`, while the one worker comes back from its rest and is then awake for good. The monitor
/// does not doze for good.
fn doze_against(worker: impl FnOnce(&Workers, &dyn Fn()) + 'static, asleep: bool) {
    let (workers, doze) = (Arc::new(Workers::new(1)), Arc::new(Doze::new()));
    if asleep {
        workers.idle.fall_asleep(0, false);
    }
    let monitor = thread::current();
    let awake = {
        let (workers, doze) = (workers.clone(), doze.clone());
        thread::spawn(move || {
            // `monitor::worker_wakes`.
            worker(&workers, &|| {
                if doze.disturb_if_dozing() {
                    monitor.unpark();
                }
            });
        })
    };
    doze.begin();
    if !workers.idle.is_asleep(0) {
        doze.disturb();
    }
    while doze.lasts() {
        thread::park();
    }
    awake.join().unwrap();
}

/// A worker wakes up by itself.
#[test]
fn a_doze_against_a_worker_that_wakes_up() {
    model("monitor::a_doze_against_a_worker_that_wakes_up", || {
        doze_against(|workers, wakes| assert!(!workers.wake_by_itself(0, wakes)), true);
    });
}

/// A worker that works looks asleep for a moment, while its last look finds something.
#[test]
fn a_doze_against_a_worker_that_stays_awake() {
    model("monitor::a_doze_against_a_worker_that_stays_awake", || {
        doze_against(|workers, wakes| assert!(!workers.sleep_as(0, false, |_| true, wakes)), false);
    });
}

/// `search::run` of a worker, or of a spare, until somebody has found the one item: whoever that is
/// ends the model.
fn work(workers: &Workers, index: usize, mut searching: bool) {
    while !workers.stopping.load(Ordering::Relaxed) {
        let on_duty = || workers.idle.is_on_duty(index);
        let looks = searching || on_duty();
        searching = searching || looks && workers.idle.begin_search();
        // `take_injected`, which needs no leave to search.
        if looks && workers.injector.pop().is_some() {
            workers.stop_searching(searching);
            workers.stopping.store(true, Ordering::Relaxed);
            (0..2).filter(|&other| other != index).for_each(|other| workers.wake_worker(other));
            return;
        }
        let has_work = |all| all && !workers.injector.is_empty();
        searching = workers.sleep_as(index, searching, has_work, || {});
    }
    workers.stop_searching(searching);
}

/// Worker 0, or spare 1, which starts asleep or begins with a search.
fn start(workers: &Arc<Workers>, index: usize, asleep: bool) -> thread::JoinHandle<()> {
    let this = workers.clone();
    if asleep {
        return workers.start_asleep(index, move || {
            let searching = this.sleep_on(index);
            work(&this, index, searching);
        });
    }
    thread::spawn(move || {
        this.enter(index, thread::current());
        work(&this, index, false);
    })
}

/// A spare goes off duty while one item is submitted. One of the two is asleep then.
fn goes_off_duty_against_a_submission(sleeper: usize) {
    let workers = Arc::new(Workers::with_spares(1, 1));
    workers.idle.set_duty(1, true);
    let started = [0, 1].map(|index| start(&workers, index, index == sleeper));
    let monitor = {
        let workers = workers.clone();
        thread::spawn(move || workers.idle.set_duty(1, false))
    };
    workers.injector.push(1);
    workers.wake_for_work();
    started.into_iter().for_each(|worker| worker.join().unwrap());
    monitor.join().unwrap();
    assert_nobody_searches(&workers.idle, 2);
}

/// The worker may be falling asleep: one of the two gets the item.
#[test]
fn a_spare_that_goes_off_duty_against_a_submission() {
    bounded_model("monitor::a_spare_that_goes_off_duty_against_a_submission", 2, || {
        goes_off_duty_against_a_submission(1);
    });
}

/// The spare searches, and the submission relies on it.
#[test]
fn a_searching_spare_that_goes_off_duty_against_a_submission() {
    bounded_model("monitor::a_searching_spare_that_goes_off_duty_against_a_submission", 2, || {
        goes_off_duty_against_a_submission(0);
    });
}

/// A spare goes on duty, for an item that waits since before, while it falls asleep off duty. The
/// only worker is held.
#[test]
fn a_spare_that_goes_on_duty_while_it_falls_asleep() {
    model("monitor::a_spare_that_goes_on_duty_while_it_falls_asleep", || {
        let workers = Arc::new(Workers::with_spares(1, 1));
        workers.injector.push(1);
        let spare = start(&workers, 1, false);
        // `Watch::put_on_duty`.
        workers.idle.set_duty(1, true);
        if workers.idle.claim(1) {
            workers.unpark(1);
        }
        spare.join().unwrap();
        assert_nobody_searches(&workers.idle, 2);
    });
}
