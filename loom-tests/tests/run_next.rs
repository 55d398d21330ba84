//! Models of the slot of the thread that runs next: each thread that is put there is taken out once,
//! by its worker or by the monitor, with what was written before.
#![cfg(bine_loom)]

use std::ptr::NonNull;

use bine_loom_tests::{Workers, model};
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::cell::UnsafeCell;
use bine_runtime::protocol::RunNext;
use loom::thread;

/// What whoever runs a thread writes.
struct Green(UnsafeCell<u32>);

struct Scene {
    greens: [Green; 3],
    run_next: RunNext<Green>,
}

// SAFETY: the cells are the model's claim: the slot hands them over. loom checks it.
unsafe impl Sync for Scene {}
// SAFETY: as above.
unsafe impl Send for Scene {}

impl Scene {
    fn new() -> Arc<Self> {
        let greens = [0; 3].map(|n| Green(UnsafeCell::new(n)));
        Arc::new(Self { greens, run_next: RunNext::new() })
    }

    /// `Core::push_next` in a migrating runtime, of a thread that the worker has just woken. Runs what
    /// was there before.
    fn put(&self, green: usize) {
        self.write(&self.greens[green]);
        let green = std::ptr::from_ref(&self.greens[green]).cast_mut();
        self.run(self.run_next.replace(green, true));
    }

    fn run(&self, green: Option<NonNull<Green>>) {
        if let Some(green) = green {
            // SAFETY: they live as long as the scene.
            self.write(unsafe { green.as_ref() });
        }
    }

    fn write(&self, green: &Green) {
        // SAFETY: the caller has the right to run the thread.
        green.0.with_mut(|cell| unsafe { *cell += 1 });
    }

    fn assert_each_ran_once(&self) {
        for green in &self.greens {
            // SAFETY: all are done.
            green.0.with(|cell| assert_eq!(unsafe { *cell }, 2, "woken once and run once"));
        }
    }
}

/// The worker puts three threads there, one after the other, and takes the last one, while the monitor
/// takes what it finds.
#[test]
fn the_monitor_empties_it_while_the_worker_goes_on() {
    model("run_next::the_monitor_empties_it_while_the_worker_goes_on", || {
        let scene = Scene::new();
        let monitor = {
            let scene = scene.clone();
            thread::spawn(move || {
                scene.run(scene.run_next.steal());
                scene.run(scene.run_next.steal());
            })
        };
        scene.put(0);
        scene.put(1);
        scene.run(scene.run_next.take(|| true));
        scene.put(2);
        scene.run(scene.run_next.take(|| true));
        monitor.join().unwrap();
        assert!(scene.run_next.is_empty());
        scene.assert_each_ran_once();
    });
}

/// A worker is held by a thread that has woken another one. The monitor takes that out and hands it to a
/// worker that is falling asleep.
#[test]
fn the_monitor_hands_on_what_a_held_worker_would_run_next() {
    model("run_next::the_monitor_hands_on_what_a_held_worker_would_run_next", || {
        let scene = Scene::new();
        let workers = Arc::new(Workers::new(2));
        let other = {
            let (scene, workers) = (scene.clone(), workers.clone());
            thread::spawn(move || {
                workers.enter(1, thread::current());
                let injector = &workers.injector;
                let green = workers.find(1, false, || injector.pop(), || !injector.is_empty());
                scene.write(&scene.greens[green as usize]);
            })
        };
        let monitor = {
            let (scene, workers) = (scene.clone(), workers.clone());
            thread::spawn(move || {
                // `Look::relieve`, until it finds the thread.
                while scene.run_next.is_empty() {
                    thread::yield_now();
                }
                let stolen = scene.run_next.steal().expect("nobody else takes it");
                // SAFETY: they live as long as the scene.
                assert!(std::ptr::eq(unsafe { stolen.as_ref() }, &raw const scene.greens[0]));
                workers.injector.push(0);
                workers.wake_for_work();
            })
        };
        // The held worker, from here on.
        scene.write(&scene.greens[0]);
        let green = std::ptr::from_ref(&scene.greens[0]).cast_mut();
        assert!(scene.run_next.replace(green, true).is_none());
        monitor.join().unwrap();
        other.join().unwrap();
    });
}

/// Where threads do not move, the worker alone takes them: in order, and each once.
#[test]
fn of_a_worker_whose_threads_do_not_move() {
    model("run_next::of_a_worker_whose_threads_do_not_move", || {
        let scene = Scene::new();
        let slot = &scene.run_next;
        let [first, second] =
            [0, 1].map(|green| std::ptr::from_ref(&scene.greens[green]).cast_mut());
        let monitor = {
            let scene = scene.clone();
            // The monitor only looks.
            thread::spawn(move || scene.run_next.is_empty())
        };
        assert_eq!(slot.take(|| false), None);
        assert_eq!(slot.replace(first, false), None);
        assert_eq!(slot.replace(second, false), NonNull::new(first));
        assert_eq!(slot.take(|| false), NonNull::new(second));
        assert_eq!(slot.take(|| false), None);
        monitor.join().unwrap();
    });
}
