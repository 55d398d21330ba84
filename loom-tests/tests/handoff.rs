//! Models of the whole way of a wake-up: token, queue, idle set. A green thread that is woken is run
//! by a worker that may, once, with what its waker wrote, whatever the worker is about to do.
#![cfg(bine_loom)]

use std::ptr;
use std::sync::atomic::{AtomicUsize as Count, Ordering::Relaxed as Counting};

use bine_loom_tests::{Workers, bounded_model, model};
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::atomic::AtomicPtr;
use bine_runtime::primitive::cell::UnsafeCell;
use bine_runtime::protocol::{
    Commit, Completed, Completion, Inbox, LocalQueue, Node, Token, Unpark,
};
use loom::thread::{self, Thread};

struct Green {
    token: Token,
    link: AtomicPtr<Green>,
    registers: UnsafeCell<u32>,
    message: UnsafeCell<u32>,
    resumptions: Count,
}

// SAFETY: one field, touched by the queues alone.
unsafe impl Node for Green {
    fn link(&self) -> &AtomicPtr<Self> {
        &self.link
    }
}

impl Green {
    fn new() -> Self {
        Self {
            token: Token::new(),
            link: AtomicPtr::new(ptr::null_mut()),
            registers: UnsafeCell::new(0),
            message: UnsafeCell::new(0),
            resumptions: Count::new(0),
        }
    }

    /// The thread's switch, and the commit of its park. True if it is parked, false if it is the
    /// caller's to queue again.
    fn park(&self) -> bool {
        // SAFETY: the caller runs the thread.
        self.registers.with_mut(|registers| unsafe { *registers = 1 });
        self.token.commit_park() == Commit::Parked
    }

    /// Runs the thread after the one park that each of them makes.
    fn resume(&self) {
        // SAFETY: the caller took the thread from a queue.
        self.registers.with_mut(|registers| unsafe {
            assert_eq!(*registers, 1, "saved by the switch");
            *registers = 2;
        });
        // SAFETY: written before the unpark.
        self.message.with(|message| assert_eq!(unsafe { *message }, 7));
        self.resumptions.fetch_add(1, Counting);
    }

    /// Writes the message and unparks. True if the thread is the caller's to queue.
    fn send(&self) -> bool {
        // SAFETY: each thread has one unparker, who writes before the unpark.
        self.message.with_mut(|message| unsafe { *message = 7 });
        self.token.unpark() == Unpark::Schedule
    }
}

/// A runtime of `WORKERS` workers and some green threads.
struct Runtime<const WORKERS: usize> {
    workers: Workers,
    inboxes: [Inbox<Green>; WORKERS],
    greens: Vec<Green>,
}

// SAFETY: the cells of the green threads are the model's claim, checked by loom; the inboxes point
// to green threads, which live as long as they.
unsafe impl<const WORKERS: usize> Sync for Runtime<WORKERS> {}
// SAFETY: as above.
unsafe impl<const WORKERS: usize> Send for Runtime<WORKERS> {}

impl<const WORKERS: usize> Runtime<WORKERS> {
    fn new(greens: usize) -> Arc<Self> {
        Arc::new(Self {
            workers: Workers::new(WORKERS),
            inboxes: std::array::from_fn(|_| Inbox::new()),
            greens: (0..greens).map(|_| Green::new()).collect(),
        })
    }

    /// `Inbox::push` of a pinned thread. True if its home must be woken.
    fn queue(&self, green: usize, home: usize) -> bool {
        let green = ptr::from_ref(&self.greens[green]).cast_mut();
        // SAFETY: the caller took the thread out of PARKED, so it is in no queue; it lives as long
        // as the inbox.
        unsafe { self.inboxes[home].push(green) }
    }

    /// `Unparker::unpark` of a pinned thread, from outside.
    fn unpark(&self, green: usize, home: usize) {
        if self.greens[green].send() && self.queue(green, home) {
            self.workers.wake_worker(home);
        }
    }

    /// `WakeBatch::flush`: all are queued before any worker is woken, and each worker is woken once.
    fn unpark_batch(&self, batch: &[(usize, usize)]) {
        let mut workers = Vec::new();
        for &(green, home) in batch {
            if self.greens[green].send() && self.queue(green, home) {
                workers.push(home);
            }
        }
        workers.into_iter().for_each(|worker| self.workers.wake_worker(worker));
    }

    /// Worker `index`: the green threads of `mine` run and park there, and are then resumed.
    fn work(&self, index: usize, mine: &[usize]) {
        self.workers.enter(index, thread::current());
        let local = LocalQueue::new();
        for &green in mine {
            let green = &self.greens[green];
            if !green.park() {
                // SAFETY: the thread is this worker's to queue, and in no queue.
                unsafe { local.push(ptr::from_ref(green).cast_mut()) };
            }
        }
        let (mut resumed, mut searching) = (0, false);
        while resumed < mine.len() {
            self.inboxes[index].drain_into(&local);
            if local.is_empty() {
                let has_work = || !self.inboxes[index].is_empty();
                searching = self.workers.sleep(index, searching, has_work);
            }
            while let Some(green) = local.pop() {
                // SAFETY: it lives as long as the runtime.
                unsafe { &*green }.resume();
                resumed += 1;
            }
        }
        self.workers.stop_searching(searching);
    }

    fn assert_all_resumed_once(&self) {
        for green in &self.greens {
            assert_eq!(green.resumptions.load(Counting), 1);
        }
    }
}

fn spawn<const WORKERS: usize>(
    runtime: &Arc<Runtime<WORKERS>>,
    body: impl FnOnce(&Runtime<WORKERS>) + 'static,
) -> thread::JoinHandle<()> {
    let runtime = runtime.clone();
    thread::spawn(move || body(&runtime))
}

/// A thread parks, its worker falls asleep, and somebody else unparks it meanwhile.
#[test]
fn a_pinned_thread_is_woken_from_outside() {
    model("handoff::a_pinned_thread_is_woken_from_outside", || {
        let runtime = Runtime::<1>::new(1);
        let worker = spawn(&runtime, |runtime| runtime.work(0, &[0]));
        runtime.unpark(0, 0);
        worker.join().unwrap();
        runtime.assert_all_resumed_once();
    });
}

/// A thread parks, and its worker turns to something else for ever. Another worker, which is falling
/// asleep, resumes it.
#[test]
fn a_migrating_thread_is_resumed_by_another_worker() {
    model("handoff::a_migrating_thread_is_resumed_by_another_worker", || {
        let runtime = Runtime::<2>::new(1);
        /// `Core::requeue` and `Shared::schedule_from_outside` of a thread without a home.
        fn queue(runtime: &Runtime<2>) {
            runtime.workers.injector.push(0);
            runtime.workers.wake_for_work();
        }
        let first = spawn(&runtime, |runtime| {
            if !runtime.greens[0].park() {
                queue(runtime);
            }
        });
        let second = spawn(&runtime, |runtime| {
            let workers = &runtime.workers;
            workers.enter(1, thread::current());
            let injector = &workers.injector;
            let green = workers.find(1, false, || injector.pop(), || !injector.is_empty());
            runtime.greens[green as usize].resume();
        });
        if runtime.greens[0].send() {
            queue(&runtime);
        }
        first.join().unwrap();
        second.join().unwrap();
        runtime.assert_all_resumed_once();
    });
}

/// A batch for two workers, one of which gets two threads and is woken once for both.
#[test]
fn a_batch_for_two_workers() {
    bounded_model("handoff::a_batch_for_two_workers", 2, || {
        let runtime = Runtime::<2>::new(3);
        let workers = [
            spawn(&runtime, |runtime| runtime.work(0, &[0, 1])),
            spawn(&runtime, |runtime| runtime.work(1, &[2])),
        ];
        runtime.unpark_batch(&[(0, 0), (2, 1), (1, 0)]);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        runtime.assert_all_resumed_once();
    });
}

/// Somebody finds the inbox filled by a batch, and leaves the waking of the worker to it.
#[test]
fn an_unparker_relies_on_a_batch_to_wake_the_worker() {
    model("handoff::an_unparker_relies_on_a_batch_to_wake_the_worker", || {
        let runtime = Runtime::<1>::new(3);
        let worker = spawn(&runtime, |runtime| runtime.work(0, &[0, 1, 2]));
        let other = spawn(&runtime, |runtime| runtime.unpark(2, 0));
        runtime.unpark_batch(&[(0, 0), (1, 0)]);
        other.join().unwrap();
        worker.join().unwrap();
        runtime.assert_all_resumed_once();
    });
}

/// `Runtime::run`: a thread is spawned from outside, runs on a worker that was falling asleep, and
/// its result comes back to the joiner.
#[test]
fn a_spawn_from_outside_and_its_join() {
    struct Spawned {
        workers: Workers,
        completion: Completion<Thread>,
        /// The closure's captures, later the result.
        stage: UnsafeCell<u32>,
    }
    // SAFETY: the model's claim: queue and completion hand the stage over. loom checks it.
    unsafe impl Sync for Spawned {}
    model("handoff::a_spawn_from_outside_and_its_join", || {
        let spawned = Arc::new(Spawned {
            workers: Workers::new(1),
            completion: Completion::new(),
            stage: UnsafeCell::new(0),
        });
        let worker = {
            let spawned = spawned.clone();
            thread::spawn(move || {
                let workers = &spawned.workers;
                workers.enter(0, thread::current());
                let injector = &workers.injector;
                workers.find(0, false, || injector.pop(), || !injector.is_empty());
                // SAFETY: the queue handed the thread over.
                spawned.stage.with_mut(|stage| unsafe { *stage *= 6 });
                // SAFETY: once, by the thread that ends.
                match unsafe { spawned.completion.complete() } {
                    Completed::Joinable(Some(joiner)) => joiner.unpark(),
                    Completed::Joinable(None) => {}
                    Completed::Detached => panic!("nobody detaches"),
                }
            })
        };
        // SAFETY: the thread is in no queue yet.
        spawned.stage.with_mut(|stage| unsafe { *stage = 7 });
        spawned.workers.injector.push(0);
        spawned.workers.wake_for_work();
        // SAFETY: once, and nobody detaches.
        let register = || unsafe { spawned.completion.register(thread::current()) };
        if !spawned.completion.is_done() && register() {
            while !spawned.completion.is_done() {
                thread::park();
            }
        }
        // SAFETY: the thread has ended, and there is one joiner.
        spawned.stage.with(|stage| assert_eq!(unsafe { *stage }, 42));
        worker.join().unwrap();
    });
}
