//! Models of a worker's own epoll instance: an alarm that somebody else takes is not lost, and a watch lasts
//! as long as it must.
#![cfg(bine_loom)]

use bine_io::watch::Watch;
use bine_loom_tests::{Workers, model};
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::atomic::{AtomicBool, AtomicUsize, Ordering};
use bine_runtime::protocol::Berth;
use loom::sync::Notify;
use loom::thread;

/// The eventfd in the lane: of those who look, one gets the edge, and whoever waits hears of one that nobody
/// has taken.
#[derive(Default)]
struct Alarm {
    edge: AtomicBool,
    heard: Heard,
}

struct Heard(Notify);

impl Default for Heard {
    fn default() -> Self {
        Self(Notify::new())
    }
}

impl Alarm {
    fn ring(&self) {
        // (A plain store might come before an exchange that has not seen it, says loom.)
        self.edge.swap(true, Ordering::Release);
        self.heard.0.notify();
    }

    fn take(&self) -> bool {
        self.edge.swap(false, Ordering::AcqRel)
    }

    fn wait(&self) {
        while !self.take() {
            self.heard.0.wait();
        }
    }
}

/// A worker of [`Workers`] that sleeps in its lane.
struct Sleeper {
    workers: Workers,
    berth: Berth,
    watch: Watch,
    alarm: Alarm,
    /// The worker's futex.
    futex: Notify,
}

impl Sleeper {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            workers: Workers::new(2),
            berth: Berth::new(),
            watch: Watch::new(),
            alarm: Alarm::default(),
            futex: Notify::new(),
        })
    }

    /// `search::sleep_deeply` with `OwnLane::wait`, until worker 0 is not asleep any more. Events do not come.
    fn sleep(&self) {
        while self.workers.idle.is_asleep(0) {
            self.watch.set_waits(true);
            self.berth.wait(|| self.workers.idle.is_asleep(0), || self.alarm.wait());
            self.watch.set_waits(false);
        }
    }

    /// `Lane::drain`.
    fn drain(&self) {
        let rung = self.alarm.take();
        if self.watch.has_waiter() && rung {
            self.alarm.ring();
        }
    }
}

/// The poller thread, which watches the lane, takes the alarm of a worker that falls asleep or waits.
#[test]
fn an_alarm_that_who_watches_takes() {
    model("lane::an_alarm_that_who_watches_takes", || {
        let sleeper = Sleeper::new();
        let this = sleeper.clone();
        let worker = sleeper.workers.start_asleep(0, move || this.sleep());
        let watcher = {
            let this = sleeper.clone();
            thread::spawn(move || this.drain())
        };
        if sleeper.workers.idle.summon(0) {
            sleeper.berth.wake(|| sleeper.alarm.ring(), || sleeper.futex.notify());
        }
        watcher.join().unwrap();
        worker.join().unwrap();
    });
}

/// A place in the process's epoll instance.
#[derive(Default)]
struct Place(AtomicUsize);

impl Place {
    fn put_in(&self) -> bool {
        assert_eq!(self.0.fetch_add(1, Ordering::Relaxed), 0, "it is there already");
        true
    }

    fn take_out(&self) {
        assert_eq!(self.0.fetch_sub(1, Ordering::Relaxed), 1, "it is not there");
    }
}

/// The monitor has the lane watched, the worker comes by, and its runtime stops meanwhile: then the lane is
/// watched, since the worker may be held next.
#[test]
fn a_worker_that_comes_by_while_its_runtime_stops() {
    model("lane::a_worker_that_comes_by_while_its_runtime_stops", || {
        let scene = Arc::new((Watch::new(), Place::default()));
        assert!(scene.0.begin(false, || scene.1.put_in()));
        let worker = {
            let scene = scene.clone();
            thread::spawn(move || scene.0.end(|| scene.1.take_out()))
        };
        assert!(scene.0.begin(true, || scene.1.put_in()));
        worker.join().unwrap();
        assert_eq!(scene.1.0.load(Ordering::Relaxed), 1, "nobody looks after the lane");
        // Then another worker has it.
        scene.0.hand_on();
        scene.0.end(|| scene.1.take_out());
        assert_eq!(scene.1.0.load(Ordering::Relaxed), 0, "it is watched for ever");
    });
}
