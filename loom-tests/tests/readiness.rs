//! Models of bine-io's readiness protocol: the code that ships, with a stand-in for the kernel's
//! half (a count of items and an end) and with loom's park for the wait.
#![cfg(bine_loom)]

use std::sync::atomic::{AtomicUsize, Ordering};

use bine_io::readiness::{
    Applied, Attempt, Cleared, Direction, Evidence, Failure, Parking, Readiness, Ready, Wake,
};
use bine_runtime::primitive::{Arc, Mutex};
use loom::thread;

struct Waker(thread::Thread);

impl Wake for Waker {
    fn wake(self) {
        self.0.unpark();
    }
}

/// Waits for ever.
struct Patient;

impl Parking for Patient {
    type Waker = Waker;

    fn waker(&self) -> Waker {
        Waker(thread::current())
    }

    fn park(&mut self) -> bool {
        thread::park();
        false
    }
}

/// Its deadline has passed already: it gets onto the list and off again.
struct Hasty;

impl Parking for Hasty {
    type Waker = Waker;

    fn waker(&self) -> Waker {
        Waker(thread::current())
    }

    fn park(&mut self) -> bool {
        true
    }
}

/// What the kernel knows of one direction.
#[derive(Default)]
struct Kernel {
    items: usize,
    ended: bool,
}

/// A descriptor: the kernel's half and ours.
struct Descriptor {
    /// Indexed as `Direction`.
    kernel: [Mutex<Kernel>; 2],
    readiness: Readiness<Waker>,
}

impl Descriptor {
    /// Open, with nothing in it and nothing known to be.
    fn new() -> (Arc<Self>, u32) {
        let descriptor = Self { kernel: Default::default(), readiness: Readiness::new() };
        let generation = descriptor.readiness.open(Direction::Read);
        let seen = descriptor.readiness.load();
        let cleared = descriptor.readiness.clear(Direction::Write, seen, Evidence::WouldBlock);
        assert_eq!(cleared, Cleared::Yes);
        (Arc::new(descriptor), generation)
    }

    /// The kernel's side: something arrives. The event comes separately.
    fn put(&self, direction: Direction, items: usize) {
        self.kernel[direction as usize].lock().items += items;
    }

    fn end(&self, direction: Direction) {
        self.kernel[direction as usize].lock().ended = true;
    }

    fn event(&self, generation: u32, ready: Ready) -> Applied {
        self.readiness.event(generation, ready, Wake::wake)
    }

    /// One system call: takes up to `want` items; 0 is the end.
    fn attempt(&self, direction: Direction, want: usize) -> Attempt<usize> {
        let mut kernel = self.kernel[direction as usize].lock();
        let taken = kernel.items.min(want);
        kernel.items -= taken;
        match taken {
            0 if kernel.ended => Attempt::Done(0),
            0 => Attempt::WouldBlock,
            _ if taken < want => Attempt::Short(taken),
            _ => Attempt::Done(taken),
        }
    }

    fn take(
        &self,
        generation: u32,
        direction: Direction,
        want: usize,
        parking: &mut impl Parking<Waker = Waker>,
    ) -> Result<usize, Failure> {
        let attempt = || self.attempt(direction, want);
        self.readiness.block_on(generation, direction, parking, attempt)
    }
}

/// Explores `scenario` and prints how many executions it took.
fn explore(name: &str, scenario: impl Fn() + Sync + Send + 'static) {
    let count = std::sync::Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    loom::model(move || {
        // Relaxed: a statistic.
        counter.fetch_add(1, Ordering::Relaxed);
        scenario();
    });
    println!("{name}: {} executions", count.load(Ordering::Relaxed));
}

#[test]
fn a_clear_never_hides_an_event() {
    explore("event against clear", || {
        let (descriptor, generation) = Descriptor::new();
        assert_eq!(descriptor.event(generation, Ready::READABLE), Applied::Yes);
        let poller = {
            let descriptor = descriptor.clone();
            thread::spawn(move || {
                descriptor.put(Direction::Read, 1);
                assert_eq!(descriptor.event(generation, Ready::READABLE), Applied::Yes);
            })
        };
        let seen = descriptor.readiness.load();
        if descriptor.attempt(Direction::Read, 1) == Attempt::WouldBlock {
            let _ = descriptor.readiness.clear(Direction::Read, seen, Evidence::WouldBlock);
        }
        poller.join().unwrap();
        let left = descriptor.kernel[Direction::Read as usize].lock().items;
        assert!(left == 0 || descriptor.readiness.load().is_ready(Direction::Read));
    });
}

#[test]
fn a_waiter_is_woken_by_an_event() {
    explore("event against wait", || {
        let (descriptor, generation) = Descriptor::new();
        let reader = {
            let descriptor = descriptor.clone();
            thread::spawn(move || descriptor.take(generation, Direction::Read, 1, &mut Patient))
        };
        descriptor.put(Direction::Read, 1);
        assert_eq!(descriptor.event(generation, Ready::READABLE), Applied::Yes);
        assert_eq!(reader.join().unwrap(), Ok(1));
    });
}

#[test]
fn directions_do_not_disturb_each_other() {
    explore("two directions", || {
        let (descriptor, generation) = Descriptor::new();
        let take = |direction| {
            let descriptor = descriptor.clone();
            thread::spawn(move || descriptor.take(generation, direction, 1, &mut Patient))
        };
        let (reader, writer) = (take(Direction::Read), take(Direction::Write));
        descriptor.put(Direction::Write, 1);
        assert_eq!(descriptor.event(generation, Ready::WRITABLE), Applied::Yes);
        descriptor.put(Direction::Read, 1);
        assert_eq!(descriptor.event(generation, Ready::READABLE), Applied::Yes);
        assert_eq!(reader.join().unwrap(), Ok(1));
        assert_eq!(writer.join().unwrap(), Ok(1));
    });
}

#[test]
fn one_event_for_two_items_serves_two_waiters() {
    explore("two waiters, one event", || {
        let (descriptor, generation) = Descriptor::new();
        let take = || {
            let descriptor = descriptor.clone();
            thread::spawn(move || descriptor.take(generation, Direction::Read, 1, &mut Patient))
        };
        let readers = [take(), take()];
        descriptor.put(Direction::Read, 2);
        assert_eq!(descriptor.event(generation, Ready::READABLE), Applied::Yes);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), Ok(1));
        }
    });
}

#[test]
fn a_waiter_that_times_out_passes_its_wake_up_on() {
    explore("timeout removal against event", || {
        let (descriptor, generation) = Descriptor::new();
        let hasty = {
            let descriptor = descriptor.clone();
            thread::spawn(move || descriptor.take(generation, Direction::Read, 1, &mut Hasty))
        };
        let patient = {
            let descriptor = descriptor.clone();
            thread::spawn(move || descriptor.take(generation, Direction::Read, 1, &mut Patient))
        };
        descriptor.put(Direction::Read, 2);
        assert_eq!(descriptor.event(generation, Ready::READABLE), Applied::Yes);
        assert_eq!(patient.join().unwrap(), Ok(1));
        assert!(matches!(hasty.join().unwrap(), Ok(1) | Err(Failure::TimedOut)));
    });
}

#[test]
fn a_short_read_does_not_hide_the_end() {
    explore("short read against end of file", || {
        let (descriptor, generation) = Descriptor::new();
        let poller = {
            let descriptor = descriptor.clone();
            thread::spawn(move || {
                descriptor.put(Direction::Read, 1);
                assert_eq!(descriptor.event(generation, Ready::READABLE), Applied::Yes);
                descriptor.end(Direction::Read);
                let end = Ready::READABLE.and(Ready::READ_CLOSED);
                assert_eq!(descriptor.event(generation, end), Applied::Yes);
            })
        };
        assert_eq!(descriptor.take(generation, Direction::Read, 4, &mut Patient), Ok(1));
        assert_eq!(descriptor.take(generation, Direction::Read, 4, &mut Patient), Ok(0));
        poller.join().unwrap();
    });
}

#[test]
fn two_pollers_may_apply_events_of_one_descriptor() {
    explore("two pollers", || {
        let (descriptor, generation) = Descriptor::new();
        let poller = {
            let descriptor = descriptor.clone();
            thread::spawn(move || {
                descriptor.put(Direction::Read, 1);
                descriptor.event(generation, Ready::READABLE)
            })
        };
        let other = {
            let descriptor = descriptor.clone();
            thread::spawn(move || {
                descriptor.end(Direction::Read);
                descriptor.event(generation, Ready::READ_CLOSED)
            })
        };
        let mut taken = 0;
        // The end is seen before the item, or after it; either way nothing hangs.
        for _ in 0..2 {
            taken += descriptor.take(generation, Direction::Read, 4, &mut Patient).unwrap();
        }
        assert!(taken <= 1);
        assert_eq!(poller.join().unwrap(), Applied::Yes);
        assert_eq!(other.join().unwrap(), Applied::Yes);
    });
}

#[test]
fn closing_wakes_all_waiters() {
    explore("close against two waiters", || {
        let (descriptor, generation) = Descriptor::new();
        let take = |direction| {
            let descriptor = descriptor.clone();
            thread::spawn(move || descriptor.take(generation, direction, 1, &mut Patient))
        };
        let waiters = [take(Direction::Read), take(Direction::Read)];
        descriptor.readiness.close(generation);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Err(Failure::Closed));
        }
    });
}

#[test]
fn a_stale_event_does_not_reach_the_next_registration() {
    explore("deregistration against event", || {
        let (descriptor, generation) = Descriptor::new();
        let waiter = {
            let descriptor = descriptor.clone();
            thread::spawn(move || descriptor.take(generation, Direction::Read, 1, &mut Patient))
        };
        let poller = {
            let descriptor = descriptor.clone();
            thread::spawn(move || descriptor.event(generation, Ready::READABLE))
        };
        descriptor.readiness.close(generation);
        let next = descriptor.readiness.open(Direction::Read);
        assert_eq!(next, generation + 1);
        assert_eq!(waiter.join().unwrap(), Err(Failure::Closed));
        // Before or after the close; in neither case does it make the next one readable.
        let _either = poller.join().unwrap();
        assert!(!descriptor.readiness.load().is_ready(Direction::Read));
    });
}

#[test]
fn waiters_of_two_generations_keep_apart() {
    explore("generation reuse", || {
        let (descriptor, generation) = Descriptor::new();
        let old = {
            let descriptor = descriptor.clone();
            thread::spawn(move || descriptor.take(generation, Direction::Read, 1, &mut Patient))
        };
        descriptor.readiness.close(generation);
        let next = descriptor.readiness.open(Direction::Read);
        let new = {
            let descriptor = descriptor.clone();
            thread::spawn(move || descriptor.take(next, Direction::Read, 1, &mut Patient))
        };
        assert_eq!(descriptor.event(generation, Ready::READABLE), Applied::Stale);
        descriptor.put(Direction::Read, 1);
        assert_eq!(descriptor.event(next, Ready::READABLE), Applied::Yes);
        assert_eq!(old.join().unwrap(), Err(Failure::Closed));
        assert_eq!(new.join().unwrap(), Ok(1));
    });
}
