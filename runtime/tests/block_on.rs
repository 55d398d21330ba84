//! Waiting for futures.

mod modes;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bine_arch::coroutine::{Coroutine, CoroutineState};
use bine_runtime::thread::{self, Cancelled};
use bine_runtime::{Abandoned, Builder, block_on};
use modes::{runtimes, runtimes_of};

/// Never waited for in full: the bound is there for a bug.
const AMPLE: Duration = Duration::from_secs(60);

/// From an OS thread and from the green threads of each runtime.
fn everywhere(test: fn()) {
    test();
    runtimes().into_iter().for_each(|runtime| runtime.run(test));
}

/// Pending until its waker was handed to `to` and woken, `rounds` times.
async fn wait_for_wakes(to: mpsc::Sender<Waker>, rounds: usize) -> usize {
    let mut polls = 0;
    poll_fn(move |context| {
        if polls == rounds {
            return Poll::Ready(polls);
        }
        polls += 1;
        to.send(context.waker().clone()).unwrap();
        Poll::Pending
    })
    .await
}

#[test]
fn a_future_that_is_ready_or_wakes_itself() {
    everywhere(|| {
        assert_eq!(block_on(async { 1 }), 1);
        let mut polls = 0;
        let future = poll_fn(|context| {
            polls += 1;
            context.waker().wake_by_ref();
            if polls < 1000 { Poll::Pending } else { Poll::Ready(polls) }
        });
        assert_eq!(block_on(future), 1000);
    });
}

#[test]
fn wakes_from_os_threads_and_from_other_runtimes() {
    everywhere(|| {
        let (to, wakers) = mpsc::channel::<Waker>();
        let elsewhere = std::thread::spawn(move || {
            let other = Builder::new().workers(1).build().unwrap();
            for (round, waker) in wakers.iter().enumerate() {
                match round % 2 {
                    0 => waker.wake(),
                    _ => other.run(move || waker.wake()),
                }
            }
        });
        assert_eq!(block_on(wait_for_wakes(to, 100)), 100);
        elsewhere.join().unwrap();
    });
}

#[test]
fn a_wake_after_the_end_is_harmless() {
    for runtime in runtimes() {
        let (to, wakers) = mpsc::channel();
        let polls = runtime.spawn(move || {
            block_on(poll_fn(|context| {
                to.send(context.waker().clone()).unwrap();
                Poll::Ready(())
            }));
        });
        polls.join().unwrap();
        let waker = wakers.recv().unwrap();
        waker.wake_by_ref();
        drop(runtime);
        waker.wake();
    }
}

#[test]
fn one_inside_another_keeps_the_outer_wake() {
    everywhere(|| {
        let mut inner = Some(async {
            let mut first = true;
            poll_fn(|context| {
                context.waker().wake_by_ref();
                if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(3) }
            })
            .await
        });
        let mut sum = 0;
        let outer = poll_fn(|context| match inner.take() {
            Some(inner) => {
                context.waker().wake_by_ref();
                sum += block_on(inner);
                // Eats whatever token is left.
                thread::yield_now();
                Poll::Pending
            }
            None => Poll::Ready(sum),
        });
        assert_eq!(block_on(outer), 3);
    });
}

#[test]
fn a_cancelled_thread_drops_the_future() {
    struct Counts(Arc<AtomicUsize>);

    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    for runtime in runtimes() {
        let dropped = Arc::new(AtomicUsize::new(0));
        for wakes_itself in [false, true] {
            let counts = Counts(Arc::clone(&dropped));
            let thread = runtime.spawn(move || {
                block_on(async {
                    let _counts = counts;
                    poll_fn(|context| {
                        if wakes_itself {
                            context.waker().wake_by_ref();
                        }
                        Poll::<()>::Pending
                    })
                    .await
                });
            });
            thread.cancel().unwrap();
            assert!(thread.join().unwrap_err().is::<Cancelled>());
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
    }
}

#[test]
fn wakes_that_find_the_future_pending_are_borne() {
    everywhere(|| {
        let shared = Arc::new(Mutex::new((false, Waker::noop().clone())));
        let other = Arc::clone(&shared);
        let wakes = std::thread::spawn(move || {
            for _ in 0..100 {
                other.lock().unwrap().1.wake_by_ref();
                std::thread::yield_now();
            }
            let mut state = other.lock().unwrap();
            state.0 = true;
            state.1.wake_by_ref();
        });
        block_on(poll_fn(|context| {
            let mut state = shared.lock().unwrap();
            state.1.clone_from(context.waker());
            if state.0 { Poll::Ready(()) } else { Poll::Pending }
        }));
        wakes.join().unwrap();
    });
}

#[test]
fn a_green_thread_is_awaited() {
    for runtime in runtimes() {
        // From an OS thread, from a green one, and from one of another runtime.
        assert_eq!(block_on(runtime.spawn(|| 1)).unwrap(), 1);
        runtime.run(|| {
            assert_eq!(block_on(thread::spawn(|| 2)).unwrap(), 2);
            let panics = thread::spawn(|| std::panic::resume_unwind(Box::new(3)));
            let payload = block_on(panics).map(|(): ()| ()).unwrap_err();
            assert_eq!(*payload.downcast::<i32>().unwrap(), 3);
        });
        let other = Builder::new().workers(1).build().unwrap();
        let threads: Vec<_> = (0..100).map(|n| runtime.spawn(move || n)).collect();
        let sum = other.run(|| {
            block_on(async {
                let mut sum = 0;
                for thread in threads {
                    sum += thread.await.unwrap();
                }
                sum
            })
        });
        assert_eq!(sum, 4950);
    }
}

/// Polls once.
fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

#[test]
fn a_handle_wakes_whom_it_was_polled_by_last() {
    struct Counts(AtomicUsize, mpsc::Sender<()>);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
            self.1.send(()).unwrap();
        }
    }

    for runtime in runtimes() {
        let (to, woken) = mpsc::channel();
        let counts = [0; 3].map(|_| Arc::new(Counts(AtomicUsize::new(0), to.clone())));
        let mut handle = runtime.spawn(thread::park);
        for counts in &counts {
            assert!(poll(&mut handle, &Waker::from(Arc::clone(counts))).is_pending());
        }
        // What was replaced is dropped.
        assert_eq!(Arc::strong_count(&counts[0]), 1);
        handle.thread().unpark();
        woken.recv().unwrap();
        assert!(poll(&mut handle, Waker::noop()).is_ready());
        assert_eq!(counts.map(|counts| counts.0.load(Ordering::Relaxed)), [0, 0, 1]);
        assert!(handle.is_finished());
        let again = AssertUnwindSafe(|| drop(poll(&mut handle, Waker::noop())));
        assert!(panic::catch_unwind(again).is_err());
    }
}

#[test]
fn a_handle_that_was_polled_joins_and_detaches() {
    for runtime in runtimes() {
        let mut handle = runtime.spawn(|| {
            thread::park();
            5
        });
        assert!(poll(&mut handle, Waker::noop()).is_pending());
        handle.thread().unpark();
        assert_eq!(handle.join().unwrap(), 5);

        let (to, ended) = mpsc::channel();
        let mut handle = runtime.spawn(move || {
            thread::park();
            to.send(()).unwrap();
        });
        assert!(poll(&mut handle, Waker::noop()).is_pending());
        let thread = handle.thread().clone();
        drop(handle);
        thread.unpark();
        ended.recv().unwrap();
    }
}

#[test]
fn a_thread_whose_runtime_has_stopped_is_abandoned() {
    // Nothing here would end in more time.
    let builder = Builder::new().shutdown_timeout(Duration::ZERO);
    for runtime in runtimes_of(&builder, &[1, 2, 3, 8]) {
        let (to, parks) = mpsc::channel();
        let handle = runtime.spawn(move || {
            to.send(()).unwrap();
            // The shutdown cancels the thread, in vain.
            thread::shielded(|| {
                loop {
                    thread::park();
                }
            });
        });
        parks.recv().unwrap();
        let (to, polled) = mpsc::channel();
        let awaits = std::thread::spawn(move || {
            let mut handle = handle;
            block_on(poll_fn(|context| {
                let result = Pin::new(&mut handle).poll(context);
                let _ = to.send(());
                result
            }))
        });
        polled.recv().unwrap();
        drop(runtime);
        assert!(awaits.join().unwrap().unwrap_err().is::<Abandoned>());
    }
}

#[test]
fn a_waker_that_panics_or_blocks_harms_nobody() {
    /// The payload of the waker's panic, which tells of its end, and may panic there.
    struct Payload {
        dropped: mpsc::Sender<()>,
        panics: bool,
    }

    impl Drop for Payload {
        fn drop(&mut self) {
            thread::yield_now();
            self.dropped.send(()).unwrap();
            if self.panics {
                // Of no size: nothing is leaked with it.
                panic::resume_unwind(Box::new(()));
            }
        }
    }

    struct Awkward {
        woken: mpsc::Sender<()>,
        dropped: mpsc::Sender<()>,
        panics_again: bool,
    }

    impl Wake for Awkward {
        fn wake(self: Arc<Self>) {
            thread::yield_now();
            self.woken.send(()).unwrap();
            let dropped = self.dropped.clone();
            panic::resume_unwind(Box::new(Payload { dropped, panics: self.panics_again }));
        }
    }

    for runtime in runtimes() {
        for panics_again in [false, true] {
            let (to, woken) = mpsc::channel();
            let (at_the_end, dropped) = mpsc::channel();
            let waker =
                Waker::from(Arc::new(Awkward { woken: to, dropped: at_the_end, panics_again }));
            let mut handle = runtime.spawn(|| {
                thread::park();
                8
            });
            assert!(poll(&mut handle, &waker).is_pending());
            drop(waker);
            handle.thread().unpark();
            woken.recv().unwrap();
            assert_eq!(handle.join().unwrap(), 8);
            assert_eq!(runtime.run(|| 9), 9);
            // Once. A payload that is kept keeps its sender, too: hence the bound.
            dropped.recv_timeout(AMPLE).unwrap();
            assert!(dropped.recv().is_err());
        }
    }
}

/// A waker is the last that a thread runs of anybody's code, and may use the thread's local values.
#[test]
fn a_waker_may_use_local_values_of_the_thread_that_ends() {
    struct Tells(mpsc::Sender<()>);
    impl Drop for Tells {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    bine_runtime::thread_local! {
        static HELD: RefCell<Option<Tells>> = const { RefCell::new(None) };
    }
    struct Uses(mpsc::Sender<()>);
    impl Wake for Uses {
        fn wake(self: Arc<Self>) {
            HELD.set(Some(Tells(self.0.clone())));
        }
    }
    for runtime in runtimes() {
        let (tell, dropped) = mpsc::channel();
        let mut handle = runtime.spawn(thread::park);
        assert!(poll(&mut handle, &Waker::from(Arc::new(Uses(tell)))).is_pending());
        handle.thread().unpark();
        dropped.recv().expect("the value is dropped with its thread");
    }
}

/// The handle is let go all the same, and with it the result.
#[test]
fn a_waker_may_panic_when_it_is_dropped() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Panics {
        fn drop(&mut self) {
            panic::resume_unwind(Box::new("meant"));
        }
    }
    for runtime in runtimes() {
        let result = Arc::new(());
        let held = Arc::clone(&result);
        let mut handle = runtime.spawn(move || {
            thread::park();
            held
        });
        let thread = handle.thread().clone();
        assert!(poll(&mut handle, &Waker::from(Arc::new(Panics))).is_pending());
        assert!(panic::catch_unwind(AssertUnwindSafe(|| drop(handle))).is_err());
        thread.unpark();
        while Arc::strong_count(&result) > 1 {
            std::thread::yield_now();
        }
    }
}

/// The wake-up is for the thread that waits, and not for the one that has begun to.
#[test]
fn a_coroutine_may_change_threads_while_it_is_polled() {
    std::thread_local! {
        static LEFT: RefCell<Option<Coroutine<(), (), u32>>> = const { RefCell::new(None) };
    }
    // Where threads stay, so that std's thread-locals hand things on from one to the next.
    let runtime = Builder::new().workers(1).build().unwrap();
    let (to, wakers) = mpsc::channel::<Waker>();
    runtime.run(move || {
        let mut waits = Coroutine::new(move |yielder, ()| {
            let mut polls = 0;
            block_on(poll_fn(|context| {
                polls += 1;
                let _ = to.send(context.waker().clone());
                match polls {
                    1 => yielder.suspend(()),
                    2 => {}
                    _ => return Poll::Ready(polls),
                }
                Poll::Pending
            }))
        });
        assert_eq!(waits.resume(()), CoroutineState::Yielded(()));
        LEFT.set(Some(waits));
    });
    let resumes = runtime.spawn(|| LEFT.take().unwrap().resume(()));
    // Most likely it waits when this one has run, too, on the one worker.
    runtime.run(|| ());
    wakers.iter().for_each(Waker::wake);
    assert_eq!(resumes.join().unwrap(), CoroutineState::Complete(3));
}
