//! Models of who takes events: no event waits while all workers sleep, and whoever is woken wakes up,
//! wherever it sleeps.
#![cfg(bine_loom)]

use bine_io::seat::Seat;
use bine_loom_tests::{Workers, model};
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::atomic::{AtomicBool, AtomicUsize, Ordering};
use bine_runtime::primitive::{Condvar, Mutex};
use bine_runtime::protocol::{Awake, Berth};
use loom::sync::Notify;
use loom::thread;

/// One event, and who may take it.
struct Scene {
    seat: Seat,
    awake: Awake,
    /// The epoll instance. Panics if two wait at once.
    epoll: Notify,
    taken: AtomicUsize,
}

impl Scene {
    /// With so many workers, all of them awake.
    fn new(workers: usize) -> Arc<Self> {
        let (seat, awake) = (Seat::new(), Awake::new());
        (0..workers).for_each(|_| awake.start());
        Arc::new(Self { seat, awake, epoll: Notify::new(), taken: AtomicUsize::new(0) })
    }

    /// Waits for the event in the seat, and keeps that, as it would take the next event.
    fn wait(&self) {
        self.epoll.wait();
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// `search::doze`, of a worker that relies on others who are awake if it `trusts` them. Their visits
    /// do not stop, so that it need not look again.
    fn worker_falls_asleep(&self, trusts: bool) {
        self.awake.fall_asleep();
        if !(trusts && self.awake.is_anybody()) && self.seat.take(true) {
            self.wait();
        }
    }

    /// The poller thread has the seat, has taken an event, and steps back if it may.
    fn poller_leaves_the_seat(&self) {
        self.seat.leave();
        if !self.seat.is_handed_back(|| self.awake.is_anybody()) && self.seat.take(true) {
            self.wait();
        }
    }

    fn event(&self) {
        self.epoll.notify();
    }

    fn assert_taken(&self) {
        assert_eq!(self.taken.load(Ordering::Relaxed), 1, "nobody waits for the event");
    }
}

fn start(scene: &Arc<Scene>, act: impl FnOnce(&Scene) + 'static) -> thread::JoinHandle<()> {
    let scene = scene.clone();
    thread::spawn(move || act(&scene))
}

#[test]
fn the_poller_steps_back_while_the_last_worker_falls_asleep() {
    model("seat::the_poller_steps_back_while_the_last_worker_falls_asleep", || {
        let scene = Scene::new(1);
        assert!(scene.seat.take(true));
        let poller = start(&scene, Scene::poller_leaves_the_seat);
        scene.event();
        scene.worker_falls_asleep(false);
        poller.join().unwrap();
        scene.assert_taken();
    });
}

#[test]
fn the_poller_steps_back_while_two_workers_fall_asleep_that_rely_on_each_other() {
    let name = "seat::the_poller_steps_back_while_two_workers_fall_asleep_that_rely_on_each_other";
    model(name, || {
        let scene = Scene::new(2);
        assert!(scene.seat.take(true));
        let poller = start(&scene, Scene::poller_leaves_the_seat);
        let other = start(&scene, |scene| scene.worker_falls_asleep(true));
        scene.event();
        scene.worker_falls_asleep(true);
        poller.join().unwrap();
        other.join().unwrap();
        scene.assert_taken();
    });
}

/// One of them is only about to look at what is ready when the other finds the seat taken.
#[test]
fn two_workers_look_and_fall_asleep() {
    model("seat::two_workers_look_and_fall_asleep", || {
        let scene = Scene::new(2);
        let look_and_sleep = |scene: &Scene| {
            if scene.seat.take(false) {
                scene.seat.leave();
            }
            scene.worker_falls_asleep(false);
        };
        let other = start(&scene, look_and_sleep);
        scene.event();
        look_and_sleep(&scene);
        other.join().unwrap();
        scene.assert_taken();
    });
}

/// Of two workers one has the seat for a look when the other falls asleep; then it ends.
#[test]
fn the_worker_that_is_in_charge_ends() {
    model("seat::the_worker_that_is_in_charge_ends", || {
        let scene = Scene::new(2);
        let called = Arc::new(AtomicBool::new(false));
        let poller = {
            let called = called.clone();
            start(&scene, move |scene| {
                while !called.load(Ordering::Relaxed) {
                    thread::park();
                }
                if scene.seat.take(true) {
                    scene.wait();
                }
            })
        };
        assert!(scene.seat.take(true));
        let other = start(&scene, |scene| scene.worker_falls_asleep(false));
        scene.event();
        scene.seat.leave();
        // `driver::worker_ends`.
        scene.awake.end();
        called.store(true, Ordering::Relaxed);
        poller.thread().unpark();
        poller.join().unwrap();
        other.join().unwrap();
        scene.assert_taken();
    });
}

/// A worker of [`Workers`] with what it sleeps in.
struct Sleeper {
    workers: Workers,
    seat: Seat,
    berth: Berth,
    alarm: Alarm,
    /// The worker's futex. (loom's own park would end a wait for the alarm.)
    futex: Notify,
}

/// The eventfd in the epoll instance: of one that rings, one thread hears.
trait Rings {
    fn ring(&self);
    fn wait(&self);
}

/// One that orders no more than it has to.
struct Alarm(Notify);

impl Rings for Alarm {
    fn ring(&self) {
        self.0.notify();
    }

    fn wait(&self) {
        self.0.wait();
    }
}

impl Sleeper {
    fn new() -> Arc<Self> {
        let alarm = Alarm(Notify::new());
        let (workers, futex) = (Workers::new(2), Notify::new());
        Arc::new(Self { workers, seat: Seat::new(), berth: Berth::new(), alarm, futex })
    }

    /// `search::sleep_deeply`, until worker 0 is not asleep any more. Events do not come.
    fn sleep(&self, alarm: &impl Rings) {
        while self.workers.idle.is_asleep(0) {
            if !self.seat.take(true) {
                self.futex.wait();
                continue;
            }
            self.berth.wait(|| self.workers.idle.is_asleep(0), || alarm.wait());
            self.seat.leave();
        }
    }

    /// `Shared::unpark`.
    fn unpark(&self, alarm: &impl Rings) {
        self.berth.wake(|| alarm.ring(), || self.futex.notify());
    }
}

/// A submission against a worker that goes to wait in the driver.
#[test]
fn a_submission_against_a_worker_that_waits_for_events() {
    model("seat::a_submission_against_a_worker_that_waits_for_events", || {
        let sleeper = Sleeper::new();
        let worker = {
            let this = sleeper.clone();
            thread::spawn(move || {
                this.workers.enter(0, thread::current());
                while this.workers.injector.pop().is_none() {
                    this.workers.idle.fall_asleep(0, false);
                    if this.workers.injector.is_empty() {
                        this.sleep(&this.alarm);
                    }
                    let _ = this.workers.idle.wake_up(0);
                }
            })
        };
        sleeper.workers.injector.push(1);
        if sleeper.workers.idle.submit().is_some() {
            sleeper.unpark(&sleeper.alarm);
        }
        worker.join().unwrap();
    });
}

/// It finds the seat taken by one who only looks, or has it.
#[test]
fn a_summons_against_a_worker_that_finds_the_seat_taken_or_not() {
    model("seat::a_summons_against_a_worker_that_finds_the_seat_taken_or_not", || {
        let sleeper = Sleeper::new();
        assert!(sleeper.seat.take(true));
        let this = sleeper.clone();
        let worker = sleeper.workers.start_asleep(0, move || this.sleep(&this.alarm));
        let other = {
            let this = sleeper.clone();
            thread::spawn(move || this.seat.leave())
        };
        if sleeper.workers.idle.summon(0) {
            sleeper.unpark(&sleeper.alarm);
        }
        other.join().unwrap();
        worker.join().unwrap();
    });
}

/// An eventfd at which one may look without waiting. (Its lock orders more than the kernel need.)
#[derive(Default)]
struct Bell {
    rings: Mutex<bool>,
    rung: Condvar,
}

impl Bell {
    fn look(&self) {
        *self.rings.lock() = false;
    }
}

impl Rings for Bell {
    fn ring(&self) {
        *self.rings.lock() = true;
        self.rung.notify_one();
    }

    fn wait(&self) {
        let mut rings = self.rings.lock();
        while !*rings {
            rings = self.rung.wait(rings);
        }
        *rings = false;
    }
}

/// Another worker looks for events while this one is woken: it does not take the alarm.
#[test]
fn a_look_at_events_against_an_alarm() {
    model("seat::a_look_at_events_against_an_alarm", || {
        let (sleeper, bell) = (Sleeper::new(), Arc::new(Bell::default()));
        let worker = {
            let (this, bell) = (sleeper.clone(), bell.clone());
            sleeper.workers.start_asleep(0, move || this.sleep(&*bell))
        };
        let other = {
            let (this, bell) = (sleeper.clone(), bell.clone());
            thread::spawn(move || {
                if this.seat.take(false) {
                    bell.look();
                    this.seat.leave();
                }
            })
        };
        if sleeper.workers.idle.summon(0) {
            sleeper.unpark(&*bell);
        }
        other.join().unwrap();
        worker.join().unwrap();
    });
}

/// An event that wakes nobody, or a late alarm, ends the wait of a worker that is still asleep, which has
/// left the seat; another one takes that meanwhile.
#[test]
fn a_wait_that_ends_for_nothing_against_a_summons() {
    model("seat::a_wait_that_ends_for_nothing_against_a_summons", || {
        let sleeper = Sleeper::new();
        // An event that wakes nobody.
        sleeper.alarm.ring();
        let worker = {
            let this = sleeper.clone();
            sleeper.workers.start_asleep(0, move || {
                while this.workers.idle.is_asleep(0) {
                    if !this.seat.take(true) {
                        this.futex.wait();
                        continue;
                    }
                    let waited = this.berth.wait(
                        || this.workers.idle.is_asleep(0),
                        || {
                            this.alarm.wait();
                            this.seat.leave();
                        },
                    );
                    if !waited {
                        this.seat.leave();
                    }
                }
            })
        };
        let other = {
            let this = sleeper.clone();
            // Another worker falls asleep, or the poller thread comes: it keeps the seat.
            thread::spawn(move || {
                let _ = this.seat.take(true);
            })
        };
        if sleeper.workers.idle.summon(0) {
            sleeper.unpark(&sleeper.alarm);
        }
        other.join().unwrap();
        worker.join().unwrap();
    });
}
