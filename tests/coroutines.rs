//! Coroutines on green threads: their bodies may block, and move with their green thread.

mod harness;

use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use bine::coroutine::{self, Coroutine, CoroutineState, Generator};
use bine::runtime::Runtime;
use bine::{channel, thread};
use harness::{Mode, bound};

/// Runs `test` on runtimes of both modes, with fewer and with more workers than there are cores.
fn on_all_runtimes(test: impl Fn(&Runtime)) {
    for mode in Mode::BOTH {
        for workers in [1, 2, 8] {
            let _bound = bound(format_args!("{workers} workers in {mode} mode"));
            test(&mode.runtime(workers));
        }
    }
}

#[test]
fn bodies_may_block() {
    on_all_runtimes(|runtime| {
        let sum = runtime.run(|| {
            let threads: Vec<_> = (0..100)
                .map(|number: u64| {
                    bine::spawn(move || {
                        let squares = Generator::new(move |yielder| {
                            for n in 0..20 {
                                thread::yield_now();
                                if n == number % 20 {
                                    thread::sleep(Duration::from_micros(100));
                                }
                                yielder.suspend(n * n);
                            }
                        });
                        squares.inspect(|_| thread::yield_now()).sum::<u64>()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>()
        });
        assert_eq!(sum, 100 * (0..20).map(|n| n * n).sum::<u64>());
    });
}

#[test]
fn a_coroutine_waits_for_other_green_threads() {
    on_all_runtimes(|runtime| {
        let received = runtime.run(|| {
            let (sender, receiver) = channel::bounded(1);
            let (done, all) = channel::unbounded();
            let reader = bine::spawn(move || {
                let mut pairs = Coroutine::new(move |yielder, ()| {
                    while let (Ok(a), Ok(b)) = (receiver.recv(), receiver.recv()) {
                        yielder.suspend((a, b));
                    }
                });
                while let CoroutineState::Yielded(pair) = pairs.resume(()) {
                    done.send(pair).unwrap();
                }
            });
            for n in 0..1_000 {
                sender.send(n).unwrap();
            }
            drop(sender);
            reader.join().unwrap();
            all.iter().collect::<Vec<_>>()
        });
        assert_eq!(received, (0..1_000).step_by(2).map(|n| (n, n + 1)).collect::<Vec<_>>());
    });
}

#[test]
fn panics_and_drops_are_as_elsewhere() {
    struct Waits;
    impl Drop for Waits {
        fn drop(&mut self) {
            thread::yield_now();
        }
    }
    on_all_runtimes(|runtime| {
        let threads: Vec<_> = (0..200)
            .map(|number| {
                runtime.spawn(move || {
                    let mut coroutine = Coroutine::new(move |yielder, ()| {
                        let _waits = Waits;
                        yielder.suspend(());
                        thread::yield_now();
                        if number % 2 == 0 {
                            panic::resume_unwind(Box::new(number));
                        }
                        yielder.suspend(());
                    });
                    coroutine.resume(());
                    let second = panic::catch_unwind(AssertUnwindSafe(|| coroutine.resume(())));
                    let panicked = second.err().map(|payload| *payload.downcast::<i32>().unwrap());
                    // Half of them are suspended: they unwind, and wait meanwhile.
                    drop(coroutine);
                    panicked
                })
            })
            .collect();
        for (number, thread) in (0..).zip(threads) {
            assert_eq!(thread.join().unwrap(), (number % 2 == 0).then_some(number));
        }
    });
}

#[test]
fn on_stack_may_block() {
    on_all_runtimes(|runtime| {
        let depth = runtime.run(|| {
            fn descend(n: u32) -> u32 {
                let frame = std::hint::black_box([n; 64]);
                if n.is_multiple_of(1_000) {
                    thread::yield_now();
                }
                if n == 0 { 0 } else { descend(frame[0] - 1) + 1 }
            }
            coroutine::on_stack(64 << 20, || descend(20_000)).unwrap()
        });
        assert_eq!(depth, 20_000);
    });
}
