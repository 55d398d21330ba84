//! What single operations cost, in time: `cargo bench -p bine-benches [-- NAME]`.
//!
//! All of it runs on a green thread of a runtime with one worker, so that what waits changes from one green
//! thread to another, and never from one OS thread to another. `--bin uncontended` counts instructions of the
//! same operations, which repeat where times do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bine::runtime::Builder;
use bine::thread::{self, JoinHandle};
use divan::{Bencher, black_box};

fn main() {
    // The harness runs there too, and takes its arguments apart. It holds the worker for so long at a time that
    // a spare would come, and threads at home on that would be woken across OS threads.
    let builder = Builder::new().workers(1).spare_workers(0).stack_size(4 << 20);
    builder.build().expect("the runtime starts").run(divan::main);
}

/// Far away: a timer that is set and does not fire.
const AN_HOUR: Duration = Duration::from_secs(3600);

mod switch {
    use super::{Bencher, black_box};

    #[divan::bench]
    fn bine(bencher: Bencher<'_, '_>) {
        let body = |yielder: &bine::coroutine::Yielder<u64, u64>, mut number| {
            loop {
                number = yielder.suspend(number);
            }
        };
        let mut coroutine = bine::coroutine::Coroutine::<u64, u64, ()>::new(body);
        bencher.bench_local(|| coroutine.resume(black_box(1)));
    }

    #[divan::bench]
    fn corosensei(bencher: Bencher<'_, '_>) {
        let mut coroutine = corosensei::Coroutine::<u64, u64, ()>::new(|yielder, mut number| {
            loop {
                number = yielder.suspend(number);
            }
        });
        bencher.bench_local(|| coroutine.resume(black_box(1)).as_yield());
    }
}

/// Created, run to its end and dropped, on one stack.
mod create {
    use super::{Bencher, black_box};
    use bine_arch::coroutine::{Coroutine, OwnedStack};
    use bine_arch::stack::DEFAULT_STACK_SIZE;
    use corosensei::stack::DefaultStack;

    #[divan::bench]
    fn bine(bencher: Bencher<'_, '_>) {
        let mut stack = Some(OwnedStack::new(DEFAULT_STACK_SIZE).expect("there is a stack"));
        bencher.bench_local(|| {
            let reused = stack.take().expect("it was put back");
            let body = |_: &_, number: u64| number;
            let mut coroutine = Coroutine::<u64, (), u64, _>::with_stack(reused, body);
            black_box(coroutine.resume(black_box(1)));
            stack = Some(coroutine.into_stack());
        });
    }

    #[divan::bench]
    fn corosensei(bencher: Bencher<'_, '_>) {
        let mut stack = Some(DefaultStack::new(DEFAULT_STACK_SIZE).expect("there is a stack"));
        bencher.bench_local(|| {
            let reused = stack.take().expect("it was put back");
            let mut coroutine =
                corosensei::Coroutine::<u64, (), u64, _>::with_stack(reused, |_, number| number);
            black_box(coroutine.resume(black_box(1)).as_return());
            stack = Some(coroutine.into_stack());
        });
    }
}

/// Another green thread, which does `again` until this is dropped.
struct Neighbour {
    ended: Arc<AtomicBool>,
    handle: Option<JoinHandle<()>>,
}

impl Neighbour {
    fn new(again: impl Fn() + Send + 'static) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let other = Arc::clone(&ended);
        let handle = bine::spawn(move || {
            while !other.load(Ordering::Relaxed) {
                again();
            }
        });
        Self { ended, handle: Some(handle) }
    }

    fn unpark(&self) {
        self.handle.as_ref().expect("it is not dropped").thread().unpark();
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.unpark();
        self.handle.take().expect("it is dropped once").join().expect("it does not panic");
    }
}

/// To another green thread and back.
#[divan::bench]
fn yield_now(bencher: Bencher<'_, '_>) {
    let _neighbour = Neighbour::new(thread::yield_now);
    bencher.bench_local(thread::yield_now);
}

/// Another green thread is woken, wakes this one in its turn, and both wait meanwhile.
#[divan::bench]
fn park_and_unpark(bencher: Bencher<'_, '_>) {
    turns(bencher, thread::park);
}

/// The same with a timer, which is set and cancelled for each wait.
#[divan::bench]
fn park_with_a_timer_and_unpark(bencher: Bencher<'_, '_>) {
    turns(bencher, || thread::park_timeout(AN_HOUR));
}

fn turns(bencher: Bencher<'_, '_>, park: fn()) {
    let (woken, me) = (Arc::new(AtomicBool::new(false)), thread::current());
    let other = Arc::clone(&woken);
    let neighbour = Neighbour::new(move || {
        park();
        other.store(true, Ordering::Release);
        me.unpark();
    });
    bencher.bench_local(|| {
        neighbour.unpark();
        while !woken.swap(false, Ordering::Acquire) {
            park();
        }
    });
}

mod spawn {
    use super::{Bencher, black_box};

    #[divan::bench]
    fn one_and_join() -> u64 {
        bine::spawn(|| black_box(1)).join().expect("it does not panic")
    }

    #[divan::bench(args = [10, 1_000])]
    fn many_and_join(bencher: Bencher<'_, '_>, count: u64) {
        bencher.counter(divan::counter::ItemsCount::new(count)).bench_local(|| {
            let handles: Vec<_> = (0..count).map(|number| bine::spawn(move || number)).collect();
            let results = handles.into_iter().map(|handle| handle.join());
            results.map(|result| result.expect("it does not panic")).sum::<u64>()
        });
    }
}

/// Locking, adding one and unlocking; nobody else wants the lock.
mod lock {
    use super::{Bencher, black_box};

    #[divan::bench]
    fn bine(bencher: Bencher<'_, '_>) {
        let lock = bine::sync::Mutex::new(0_u64);
        bencher.bench_local(|| *black_box(&lock).lock().expect("nobody panics with it") += 1);
    }

    #[divan::bench]
    fn parking_lot(bencher: Bencher<'_, '_>) {
        let lock = parking_lot::Mutex::new(0_u64);
        bencher.bench_local(|| *black_box(&lock).lock() += 1);
    }

    #[divan::bench]
    fn std(bencher: Bencher<'_, '_>) {
        let lock = std::sync::Mutex::new(0_u64);
        bencher.bench_local(|| *black_box(&lock).lock().expect("nobody panics with it") += 1);
    }
}

/// Sending, and receiving what was sent; nobody waits.
mod channel {
    use super::{Bencher, black_box};

    #[divan::bench]
    fn bounded_bine(bencher: Bencher<'_, '_>) {
        let (sender, receiver) = bine::channel::bounded(128);
        bencher.bench_local(|| {
            sender.send(black_box(1_u64)).expect("there is a receiver");
            receiver.recv().expect("there is a sender")
        });
    }

    #[divan::bench]
    fn bounded_crossbeam(bencher: Bencher<'_, '_>) {
        let (sender, receiver) = crossbeam_channel::bounded(128);
        bencher.bench_local(|| {
            sender.send(black_box(1_u64)).expect("there is a receiver");
            receiver.recv().expect("there is a sender")
        });
    }

    #[divan::bench]
    fn unbounded_bine(bencher: Bencher<'_, '_>) {
        let (sender, receiver) = bine::channel::unbounded();
        bencher.bench_local(|| {
            sender.send(black_box(1_u64)).expect("there is a receiver");
            receiver.recv().expect("there is a sender")
        });
    }

    #[divan::bench]
    fn unbounded_crossbeam(bencher: Bencher<'_, '_>) {
        let (sender, receiver) = crossbeam_channel::unbounded();
        bencher.bench_local(|| {
            sender.send(black_box(1_u64)).expect("there is a receiver");
            receiver.recv().expect("there is a sender")
        });
    }
}

/// To another green thread and back, by messages: both wait.
#[divan::bench(args = [0, 1, 128])]
fn ping_pong(bencher: Bencher<'_, '_>, places: usize) {
    let (there, at_other) = bine::channel::bounded(places);
    let (back, at_me) = bine::channel::bounded(places);
    let other = bine::spawn(move || {
        for number in at_other {
            back.send(number).expect("it is received");
        }
    });
    bencher.bench_local(|| {
        there.send(black_box(1_u64)).expect("it is received");
        at_me.recv().expect("it comes back")
    });
    drop(there);
    other.join().expect("it does not panic");
}
