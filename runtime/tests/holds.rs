//! Green threads that hold their workers, by computing or by blocking the OS thread: what others can
//! do is done, and somebody is told.
//!
//! No test here measures time. A hold lasts until what it keeps waiting has happened: where nobody
//! helps, a test does not end.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use bine_runtime::thread::{self, JoinHandle};
use bine_runtime::{Builder, Hold, Metrics, Runtime};

/// One that pins its threads, and one that migrates them.
fn both(builder: Builder) -> [Runtime; 2] {
    // SAFETY: no green thread here borrows std's thread-locals.
    let migrating = unsafe { builder.clone().migrate() };
    [builder.build().unwrap(), migrating.build().unwrap()]
}

fn migrating(workers: usize) -> Runtime {
    // SAFETY: as above.
    unsafe { Builder::new().workers(workers).migrate() }.build().unwrap()
}

/// Computes until `condition` holds.
fn compute_until(condition: impl Fn() -> bool) {
    while !condition() {
        std::hint::spin_loop();
    }
}

/// Holds `workers` workers, every other one by a system call, until it is dropped.
struct Hogs {
    release: Arc<AtomicBool>,
    senders: Vec<mpsc::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Hogs {
    fn new(runtime: &Runtime, workers: usize) -> Self {
        let release = Arc::new(AtomicBool::new(false));
        let running = Arc::new(AtomicUsize::new(0));
        let mut hogs = Self { release, senders: Vec::new(), threads: Vec::new() };
        for n in 0..workers {
            let (sender, receiver) = mpsc::channel();
            let (release, running) = (hogs.release.clone(), running.clone());
            hogs.senders.push(sender);
            hogs.threads.push(runtime.spawn(move || {
                running.fetch_add(1, Ordering::Relaxed);
                if n % 2 == 0 {
                    compute_until(|| release.load(Ordering::Relaxed));
                } else {
                    receiver.recv().unwrap_err();
                }
            }));
        }
        compute_until(|| running.load(Ordering::Relaxed) == workers);
        hogs
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        self.release.store(true, Ordering::Relaxed);
        self.senders.clear();
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

/// Puts a runtime of one worker into `slot`, which is held until the flag is set, with threads that wait.
fn build_held(builder: Builder, migrates: bool, slot: &Mutex<Option<Runtime>>) -> Arc<AtomicBool> {
    // SAFETY: no green thread here borrows std's thread-locals.
    let builder = if migrates { unsafe { builder.migrate() } } else { builder };
    let release = Arc::new(AtomicBool::new(false));
    let this = release.clone();
    let mut slot = slot.lock().unwrap();
    let runtime = slot.insert(builder.build().unwrap());
    runtime.spawn(move || compute_until(|| this.load(Ordering::Relaxed)));
    runtime.spawn(|| ());
    runtime.spawn(|| ());
    release
}

/// Waits, by polling, until the runtime's figures are as they should be.
fn await_metrics(runtime: &Runtime, condition: impl Fn(Metrics) -> bool) {
    while !condition(runtime.metrics()) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_has_not_run_gets_a_worker_while_all_are_held() {
    for workers in [1, 2, 8] {
        for runtime in both(Builder::new().workers(workers)) {
            let hogs = Hogs::new(&runtime, workers);
            for n in 0..100 {
                assert_eq!(runtime.run(move || n), n);
            }
            let metrics = runtime.metrics();
            assert!((1..=workers.max(4)).contains(&metrics.spare_workers), "{metrics:?}");
            drop(hogs);
            assert_eq!(runtime.run(|| 7), 7);
        }
    }
}

#[test]
fn sleepers_that_may_move_wake_while_all_workers_are_held() {
    for workers in [1, 2, 8] {
        let runtime = migrating(workers);
        // Asleep on the workers, before these are held.
        let awake = Arc::new(AtomicUsize::new(0));
        let sleepers: Vec<_> = (0..20)
            .map(|n| {
                let awake = awake.clone();
                runtime.spawn(move || {
                    for _ in 0..n {
                        thread::sleep(Duration::from_millis(1));
                    }
                    awake.fetch_add(1, Ordering::Relaxed);
                })
            })
            .collect();
        let hogs = Hogs::new(&runtime, workers);
        compute_until(|| awake.load(Ordering::Relaxed) == 20);
        drop(hogs);
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
    }
}

#[test]
fn what_the_holder_has_spawned_or_woken_runs_elsewhere() {
    for workers in [1, 2] {
        // Spawned, in either mode.
        for runtime in both(Builder::new().workers(workers)) {
            runtime.run(|| {
                let ran = Arc::new(AtomicBool::new(false));
                let this = ran.clone();
                let child = thread::spawn(move || this.store(true, Ordering::Relaxed));
                compute_until(|| ran.load(Ordering::Relaxed));
                child.join().unwrap();
            });
        }
        // Woken: the one that would run next.
        migrating(workers).run(|| {
            let ran = Arc::new(AtomicUsize::new(0));
            let this = ran.clone();
            let child = thread::spawn(move || {
                this.store(1, Ordering::Relaxed);
                while this.load(Ordering::Relaxed) == 1 {
                    thread::park();
                }
                this.store(3, Ordering::Relaxed);
            });
            while ran.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            thread::sleep(Duration::from_millis(1));
            ran.store(2, Ordering::Relaxed);
            child.thread().unpark();
            compute_until(|| ran.load(Ordering::Relaxed) == 3);
            child.join().unwrap();
        });
    }
}

#[test]
fn a_thread_of_a_spare_goes_on_when_the_spare_is_off_duty() {
    for runtime in both(Builder::new().workers(1)) {
        let hogs = Hogs::new(&runtime, 1);
        let (rounds, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let resident = {
            let (rounds, stop) = (rounds.clone(), stop.clone());
            runtime.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // So that the worker's intervals fall on each step of a round.
                    for _ in 0..rounds.fetch_add(1, Ordering::Relaxed).pow(2) % 67 {
                        thread::yield_now();
                    }
                    thread::park();
                }
            })
        };
        compute_until(|| rounds.load(Ordering::Relaxed) > 0);
        drop(hogs);
        await_metrics(&runtime, |metrics| metrics.spares_on_duty == 0);
        for _ in 0..1_000 {
            let before = rounds.load(Ordering::Relaxed);
            resident.thread().unpark();
            compute_until(|| rounds.load(Ordering::Relaxed) > before);
        }
        stop.store(true, Ordering::Relaxed);
        resident.thread().unpark();
        resident.join().unwrap();
    }
}

#[test]
fn spares_go_off_duty_while_threads_that_only_yield_are_on_them() {
    for runtime in both(Builder::new().workers(2)) {
        let stop = Arc::new(AtomicBool::new(false));
        let hogs = Hogs::new(&runtime, 2);
        let yielders: Vec<_> = (0..4)
            .map(|_| {
                let stop = stop.clone();
                runtime.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        thread::yield_now();
                    }
                })
            })
            .collect();
        await_metrics(&runtime, |metrics| metrics.spares_on_duty > 0);
        drop(hogs);
        await_metrics(&runtime, |metrics| metrics.spares_on_duty == 0);
        stop.store(true, Ordering::Relaxed);
        yielders.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// The monitor does not fall asleep with the workers as long as a spare is on duty.
#[test]
fn spares_go_off_duty_while_everybody_sleeps() {
    for runtime in both(Builder::new().workers(3)) {
        // As many hold spares as hold workers, and all end at once.
        drop(Hogs::new(&runtime, 6));
        await_metrics(&runtime, |metrics| metrics.spares_on_duty == 0);
        assert!(runtime.metrics().spare_workers >= 3);
    }
}

#[test]
fn without_spares_what_waits_goes_on_when_the_hold_is_over() {
    for runtime in both(Builder::new().workers(2).spare_workers(0)) {
        let hogs = Hogs::new(&runtime, 2);
        let waits = runtime.spawn(|| 1);
        await_metrics(&runtime, |metrics| metrics.holds >= 2);
        assert!(!waits.is_finished());
        assert_eq!(runtime.metrics().spare_workers, 0);
        drop(hogs);
        assert_eq!(waits.join().unwrap(), 1);
    }
}

#[test]
fn a_hold_is_told_with_the_name_and_the_place_of_the_thread() {
    let told: Arc<Mutex<Vec<Hold>>> = Arc::default();
    let threshold = Duration::from_millis(3);
    let record = {
        let told = told.clone();
        move |hold: &Hold| told.lock().unwrap().push(hold.clone())
    };
    let builder = Builder::new().workers(1).hold_threshold(threshold).on_hold(record);
    for runtime in both(builder) {
        told.lock().unwrap().clear();
        let release = Arc::new(AtomicBool::new(false));
        let this = release.clone();
        let named = thread::Builder::new().name("the hog".to_owned());
        let (hog, line) = (
            named.spawn_on(&runtime, move || compute_until(|| this.load(Ordering::Relaxed))),
            line!() - 1,
        );
        let waits = runtime.spawn(|| ());
        compute_until(|| !told.lock().unwrap().is_empty());
        release.store(true, Ordering::Relaxed);
        hog.unwrap().join().unwrap();
        waits.join().unwrap();
        compute_until(|| told.lock().unwrap().iter().any(Hold::is_over));
        let told = told.lock().unwrap();
        assert_eq!((told[0].worker(), told[0].is_over()), (0, false));
        assert!(told.iter().all(|hold| hold.duration() >= threshold));
        assert!(told[1].duration() > told[0].duration() && told[1].is_over(), "{told:?}");
        if let Some(place) = told[0].spawned_at() {
            assert_eq!(told[0].thread_name(), Some("the hog"));
            assert_eq!((place.file(), place.line()), (file!(), line));
            let text = told[0].to_string();
            assert!(text.starts_with("green thread 'the hog', spawned at runtime"), "{text}");
        } else {
            // Emulators have no membarrier.
            assert_eq!(told[0].thread_name(), None);
        }
        assert!(runtime.metrics().holds >= 1);
    }
}

#[test]
fn nobody_is_told_of_a_hold_that_keeps_nobody_waiting() {
    for runtime in both(Builder::new().workers(1).hold_threshold(Duration::ZERO)) {
        let hogs = Hogs::new(&runtime, 1);
        let start = Instant::now();
        compute_until(|| start.elapsed() > Duration::from_millis(20));
        drop(hogs);
        assert_eq!((runtime.metrics().holds, runtime.metrics().spare_workers), (0, 0));
    }
}

#[test]
fn a_callback_that_panics_is_not_the_end_of_the_monitor() {
    let calls = Arc::new(AtomicUsize::new(0));
    let this = calls.clone();
    let builder = Builder::new().workers(1).on_hold(move |_| {
        this.fetch_add(1, Ordering::Relaxed);
        std::panic::resume_unwind(Box::new("ignored"));
    });
    let [pinned, migrating] = both(builder);
    for runtime in [&pinned, &migrating, &pinned] {
        // Else nobody waits.
        await_metrics(runtime, |metrics| metrics.spares_on_duty == 0);
        let before = calls.load(Ordering::Relaxed);
        let hogs = Hogs::new(runtime, 1);
        let waits = runtime.spawn(|| ());
        compute_until(|| calls.load(Ordering::Relaxed) > before);
        drop(hogs);
        waits.join().unwrap();
    }
}

#[test]
fn a_runtime_that_is_held_can_be_dropped() {
    for runtime in both(Builder::new().workers(2).shutdown_timeout(Duration::from_millis(20))) {
        let release = Arc::new(AtomicBool::new(false));
        for _ in 0..3 {
            let release = release.clone();
            runtime.spawn(move || compute_until(|| release.load(Ordering::Relaxed)));
        }
        await_metrics(&runtime, |metrics| metrics.spares_on_duty == 1);
        drop(runtime);
        release.store(true, Ordering::Relaxed);
    }
}

/// Calls what it holds when it is dropped.
struct WhenDropped<F: FnMut()>(F);

impl<F: FnMut()> Drop for WhenDropped<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn a_callback_may_own_another_runtime() {
    let other = Builder::new().workers(1).build().unwrap();
    let builder = Builder::new().workers(1).on_hold(move |_| other.run(|| ()));
    let runtime = builder.build().unwrap();
    assert_eq!(runtime.run(|| 1), 1);
    drop(runtime);
    // The monitor goes on.
    what_has_not_run_gets_a_worker(&Builder::new().workers(1).build().unwrap());
}

#[test]
fn what_a_callback_owns_may_panic_when_it_is_dropped() {
    // By whoever drops the runtime.
    let dropped = Arc::new(AtomicUsize::new(0));
    let fails = |dropped: &Arc<AtomicUsize>| {
        let dropped = dropped.clone();
        WhenDropped(move || {
            dropped.fetch_add(1, Ordering::Relaxed);
            std::panic::resume_unwind(Box::new("ignored"));
        })
    };
    let owned = fails(&dropped);
    let builder = Builder::new().workers(1).on_hold(move |_| {
        let _owned = &owned;
    });
    drop(builder.build().unwrap());
    assert_eq!(dropped.load(Ordering::Relaxed), 1);

    // By the monitor, which calls it while the runtime is dropped.
    let (called, release) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (tell, wait, owned) = (called.clone(), release.clone(), fails(&dropped));
    let builder = Builder::new().workers(1).on_hold(move |_| {
        let _owned = &owned;
        tell.store(true, Ordering::Relaxed);
        compute_until(|| wait.load(Ordering::Relaxed));
    });
    let runtime = builder.build().unwrap();
    let hogs = Hogs::new(&runtime, 1);
    let waits = runtime.spawn(|| ());
    compute_until(|| called.load(Ordering::Relaxed));
    drop(hogs);
    waits.join().unwrap();
    drop(runtime);
    release.store(true, Ordering::Relaxed);
    compute_until(|| dropped.load(Ordering::Relaxed) == 2);
    what_has_not_run_gets_a_worker(&Builder::new().workers(1).build().unwrap());
}

/// With the monitor's help.
fn what_has_not_run_gets_a_worker(runtime: &Runtime) {
    let _hogs = Hogs::new(runtime, runtime.metrics().workers);
    assert_eq!(runtime.run(|| 7), 7);
}

#[test]
fn a_callback_may_drop_its_runtime_and_build_another() {
    for migrates in [false, true] {
        let runtime: Arc<Mutex<Option<Runtime>>> = Arc::default();
        let (done, this) = (Arc::new(AtomicBool::new(false)), runtime.clone());
        let tell = done.clone();
        let builder = Builder::new()
            .workers(1)
            .shutdown_timeout(Duration::from_millis(20))
            .on_hold(move |_| {
                if let Some(runtime) = this.lock().unwrap().take() {
                    drop(runtime);
                    assert_eq!(Builder::new().workers(1).build().unwrap().run(|| 3), 3);
                    tell.store(true, Ordering::Relaxed);
                }
            });
        let release = build_held(builder, migrates, &runtime);
        compute_until(|| done.load(Ordering::Relaxed));
        release.store(true, Ordering::Relaxed);
        what_has_not_run_gets_a_worker(&Builder::new().workers(1).build().unwrap());
    }
}

/// At whatever moment: before a spare is needed, while one starts, while it works, and while another
/// one does.
#[test]
fn a_runtime_can_be_dropped_while_its_spares_start() {
    for round in 0..12 {
        let builder = Builder::new().workers(1).shutdown_timeout(Duration::from_millis(2));
        for runtime in both(builder) {
            let release = Arc::new(AtomicBool::new(false));
            let running = Arc::new(AtomicUsize::new(0));
            for _ in 0..4 {
                let (release, running) = (release.clone(), running.clone());
                runtime.spawn(move || {
                    running.fetch_add(1, Ordering::Relaxed);
                    compute_until(|| release.load(Ordering::Relaxed));
                });
            }
            // Each of them but the first runs on a spare.
            compute_until(|| running.load(Ordering::Relaxed) > round % 4);
            drop(runtime);
            release.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_spare_may_drop_its_runtime_before_it_works() {
    for migrates in [false, true] {
        let runtime: Arc<Mutex<Option<Runtime>>> = Arc::default();
        let (this, done) = (runtime.clone(), Arc::new(AtomicBool::new(false)));
        let tell = done.clone();
        let builder = Builder::new()
            .workers(1)
            .shutdown_timeout(Duration::from_millis(20))
            .on_worker_start(move |worker| {
                if worker > 0 {
                    drop(this.lock().unwrap().take());
                    tell.store(true, Ordering::Relaxed);
                }
            });
        let release = build_held(builder, migrates, &runtime);
        compute_until(|| done.load(Ordering::Relaxed));
        release.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_runtime_may_be_dropped_with_the_thread_locals_of_an_os_thread() {
    thread_local! {
        static RUNTIME: Mutex<Option<Runtime>> = const { Mutex::new(None) };
    }
    for runtime in both(Builder::new().workers(1)) {
        let handle = runtime.handle();
        let owner = std::thread::spawn(move || {
            RUNTIME.with(|slot| *slot.lock().unwrap() = Some(runtime));
            RUNTIME.with(|slot| slot.lock().unwrap().as_ref().unwrap().spawn(thread::park));
        });
        owner.join().unwrap();
        assert!(thread::Builder::new().spawn_on(&handle, || ()).is_err());
    }
}

#[test]
fn a_spare_off_duty_sleeps_through_the_timers_of_a_worker_that_is_held() {
    const SLEEP: Duration = Duration::from_millis(100);
    let (called, release) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (tell, wait) = (called.clone(), release.clone());
    let runtime = Builder::new()
        .workers(1)
        .hold_threshold(Duration::ZERO)
        .on_hold(move |hold| {
            if hold.thread_name() == Some("the hog") {
                // The monitor fires nothing meanwhile.
                tell.store(true, Ordering::Relaxed);
                compute_until(|| wait.load(Ordering::Relaxed));
            }
        })
        .build()
        .unwrap();
    let (rounds, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let resident = || {
        let (this, stop) = (rounds.clone(), stop.clone());
        let before = rounds.load(Ordering::Relaxed);
        let thread = runtime.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                this.fetch_add(1, Ordering::Relaxed);
                thread::park();
            }
        });
        compute_until(|| rounds.load(Ordering::Relaxed) > before);
        thread
    };
    let hogs = Hogs::new(&runtime, 1);
    let of_the_spare = resident();
    drop(hogs);
    await_metrics(&runtime, |metrics| metrics.spares_on_duty == 0);

    let of_the_worker = resident();
    let start = Instant::now();
    let sleeper = runtime.spawn(|| thread::sleep(SLEEP));
    let (running, hold) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
    let (this, held) = (running.clone(), hold.clone());
    let hog = thread::Builder::new().name("the hog".to_owned()).spawn_on(&runtime, move || {
        this.store(true, Ordering::Relaxed);
        compute_until(|| !held.load(Ordering::Relaxed));
    });
    compute_until(|| running.load(Ordering::Relaxed));
    // Waits, and can run nowhere else.
    of_the_worker.thread().unpark();
    // Without `membarrier`, as under emulators, there are no names: then the monitor goes on.
    let given_up = Instant::now() + 3 * SLEEP;
    compute_until(|| called.load(Ordering::Relaxed) || Instant::now() > given_up);
    let before = rounds.load(Ordering::Relaxed);
    of_the_spare.thread().unpark();
    compute_until(|| rounds.load(Ordering::Relaxed) > before);
    compute_until(|| start.elapsed() > 2 * SLEEP);
    let sleeps = runtime.metrics().sleeps;
    compute_until(|| start.elapsed() > 3 * SLEEP);
    let sleeps = runtime.metrics().sleeps - sleeps;
    release.store(true, Ordering::Relaxed);
    hold.store(false, Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    of_the_spare.thread().unpark();
    of_the_worker.thread().unpark();
    for thread in [hog.unwrap(), sleeper, of_the_spare, of_the_worker] {
        thread.join().unwrap();
    }
    assert!(sleeps < 100, "it fell asleep {sleeps} times");
}
