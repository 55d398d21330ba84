//! Models of the monitor's look at a thread that may end: what it reads is freed only afterwards.
//!
//! `membarrier` makes every other thread pass a full barrier at some moment. Here it is a fence in the
//! monitor, and one in each of the others: at a thread's end (which is a compiler's fence otherwise),
//! and where a thread leaves its worker.
#![cfg(bine_loom)]

use std::ptr::{self, NonNull};

use bine_loom_tests::{bounded_model, model};
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::atomic::{AtomicBool, AtomicPtr, Ordering, fence};
use bine_runtime::primitive::cell::UnsafeCell;
use bine_runtime::protocol::Inspection;
use loom::thread::{self, JoinHandle};

/// A thread's cell: its name, which is written when it is made and when the cell is freed.
struct Green(UnsafeCell<u32>);

struct Scene {
    greens: [Green; 2],
    /// `Visible::current` of two workers.
    current: [AtomicPtr<Green>; 2],
    inspection: Inspection<Green>,
    /// Hands a thread from worker to worker, as a queue does.
    handed: AtomicBool,
}

// SAFETY: the cells are the model's claim: nobody reads a name when its cell is freed. loom checks it.
unsafe impl Sync for Scene {}
// SAFETY: as above.
unsafe impl Send for Scene {}

impl Scene {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            greens: [0; 2].map(|_| Green(UnsafeCell::new(0))),
            current: [0; 2].map(|_| AtomicPtr::new(ptr::null_mut())),
            inspection: Inspection::new(),
            handed: AtomicBool::new(false),
        })
    }

    /// `Core::set_current`.
    fn set_current(&self, worker: usize, green: *mut Green) {
        self.current[worker].store(green, Ordering::Release);
    }

    /// A thread is made, and runs on a worker.
    fn start(&self, worker: usize, green: usize) {
        // SAFETY: nobody has it yet.
        self.greens[green].0.with_mut(|name| unsafe { *name = 7 });
        self.set_current(worker, ptr::from_ref(&self.greens[green]).cast_mut());
    }

    /// The running thread ends, and its cell is freed.
    fn end(&self, worker: usize, green: usize) {
        self.set_current(worker, ptr::null_mut());
        self.inspection.await_end(NonNull::from(&self.greens[green]), thread::yield_now);
        // SAFETY: nobody reads it any more.
        self.greens[green].0.with_mut(|name| unsafe { *name = 0 });
    }

    /// The monitor looks at the first worker.
    fn look(&self) -> Option<u32> {
        let current = || self.current[0].load(Ordering::Acquire);
        let barrier = || {
            fence(Ordering::SeqCst);
            true
        };
        self.inspection.inspect(current, barrier, |green| {
            // SAFETY: it is not freed meanwhile.
            unsafe { green.as_ref() }.0.with(|name| unsafe { *name })
        })
    }
}

/// The monitor, which looks once.
fn looks(scene: &Arc<Scene>) -> JoinHandle<()> {
    let scene = scene.clone();
    thread::spawn(move || assert!(scene.look().is_none_or(|name| name == 7)))
}

/// The thread ends while the monitor looks at it, and perhaps at the one after it.
#[test]
fn a_look_against_the_end_of_a_thread() {
    model("inspection::a_look_against_the_end_of_a_thread", || {
        let scene = Scene::new();
        let monitor = looks(&scene);
        scene.start(0, 0);
        scene.end(0, 0);
        scene.start(0, 1);
        scene.end(0, 1);
        monitor.join().unwrap();
    });
}

/// A cell is used again, for a thread that runs at once, while the monitor looks.
#[test]
fn a_look_against_a_cell_that_is_used_again() {
    model("inspection::a_look_against_a_cell_that_is_used_again", || {
        let scene = Scene::new();
        let monitor = looks(&scene);
        scene.start(0, 0);
        scene.end(0, 0);
        scene.start(0, 0);
        scene.end(0, 0);
        monitor.join().unwrap();
    });
}

/// The thread leaves the worker that the monitor looks at, and ends on another one.
#[test]
fn a_look_against_a_thread_that_ends_elsewhere() {
    model("inspection::a_look_against_a_thread_that_ends_elsewhere", || {
        let scene = Scene::new();
        let monitor = looks(&scene);
        let other = {
            let scene = scene.clone();
            thread::spawn(move || {
                while !scene.handed.load(Ordering::Acquire) {
                    thread::yield_now();
                }
                scene.set_current(1, ptr::from_ref(&scene.greens[0]).cast_mut());
                scene.end(1, 0);
            })
        };
        scene.start(0, 0);
        scene.set_current(0, ptr::null_mut());
        // The barrier that the monitor's `membarrier` makes this worker pass.
        fence(Ordering::SeqCst);
        scene.handed.store(true, Ordering::Release);
        monitor.join().unwrap();
        other.join().unwrap();
    });
}

/// As above, and the worker runs another thread, which the monitor looks at next: its next word says that
/// the reads before are over. (The first look is over when the thread leaves its worker: an order which
/// Relaxed accesses bring about, that is, by chance.)
#[test]
fn two_looks_against_a_thread_that_ends_elsewhere() {
    bounded_model("inspection::two_looks_against_a_thread_that_ends_elsewhere", 2, || {
        let scene = Scene::new();
        let looked = Arc::new(AtomicBool::new(false));
        let monitor = {
            let (scene, looked) = (scene.clone(), looked.clone());
            thread::spawn(move || {
                assert!(scene.look().is_none_or(|name| name == 7));
                looked.store(true, Ordering::Relaxed);
                assert!(scene.look().is_none_or(|name| name == 7));
            })
        };
        scene.start(0, 0);
        while !looked.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        scene.set_current(0, ptr::null_mut());
        // As above.
        fence(Ordering::SeqCst);
        // Starting it hands the thread over.
        let other = {
            let scene = scene.clone();
            thread::spawn(move || scene.end(1, 0))
        };
        scene.start(0, 1);
        monitor.join().unwrap();
        other.join().unwrap();
    });
}
