//! Models of bine-io's readiness protocol: the code that ships, with a stand-in for the kernel's
//! half (a count of items and an end) and with loom's park for the wait.
#![cfg(bine_loom)]

use bine_io::readiness::{
    Applied, Attempt, Cleared, Direction, Evidence, Failure, Parking, Readiness, Ready, Wake,
};
use bine_loom_tests::model;
use bine_runtime::primitive::atomic::{AtomicUsize, Ordering};
use bine_runtime::primitive::cell::UnsafeCell;
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

#[test]
fn a_clear_never_hides_an_event() {
    model("readiness::a_clear_never_hides_an_event", || {
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

/// As above, with a kernel whose item nothing but the word makes visible: who has seen an event makes its
/// system call after that.
#[test]
fn a_system_call_comes_after_the_look_at_the_word() {
    model("readiness::a_system_call_comes_after_the_look_at_the_word", || {
        let (descriptor, generation) = Descriptor::new();
        // Relaxed throughout.
        let items = Arc::new(AtomicUsize::new(0));
        let reader = {
            let (descriptor, items) = (descriptor.clone(), items.clone());
            thread::spawn(move || {
                if descriptor.readiness.load().is_ready(Direction::Read) {
                    assert_eq!(items.load(Ordering::Relaxed), 1, "the event came after that");
                }
                let attempt = || match items.load(Ordering::Relaxed) {
                    0 => Attempt::WouldBlock,
                    taken => Attempt::Done(taken),
                };
                let readiness = &descriptor.readiness;
                readiness.block_on(generation, Direction::Read, &mut Patient, attempt)
            })
        };
        items.store(1, Ordering::Relaxed);
        assert_eq!(descriptor.event(generation, Ready::READABLE), Applied::Yes);
        assert_eq!(reader.join().unwrap(), Ok(1));
    });
}

/// What the closer did before is visible to those who find the slot closed.
#[test]
fn what_comes_before_the_close_is_seen_after_it() {
    struct Message(UnsafeCell<u32>);

    // SAFETY: the cell is the model's claim: the close hands it over. loom checks it.
    unsafe impl Sync for Message {}
    // SAFETY: as above.
    unsafe impl Send for Message {}

    model("readiness::what_comes_before_the_close_is_seen_after_it", || {
        let (descriptor, generation) = Descriptor::new();
        let message = Arc::new(Message(UnsafeCell::new(0)));
        let waiter = {
            let (descriptor, message) = (descriptor.clone(), message.clone());
            thread::spawn(move || {
                let closed = descriptor.take(generation, Direction::Read, 1, &mut Patient);
                assert_eq!(closed, Err(Failure::Closed));
                // SAFETY: written before the close.
                message.0.with(|message| assert_eq!(unsafe { *message }, 7));
            })
        };
        // SAFETY: nobody reads it before the close.
        message.0.with_mut(|message| unsafe { *message = 7 });
        descriptor.readiness.close(generation);
        waiter.join().unwrap();
    });
}

#[test]
fn a_waiter_is_woken_by_an_event() {
    model("readiness::a_waiter_is_woken_by_an_event", || {
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
    model("readiness::directions_do_not_disturb_each_other", || {
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
    model("readiness::one_event_for_two_items_serves_two_waiters", || {
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
    model("readiness::a_waiter_that_times_out_passes_its_wake_up_on", || {
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
    model("readiness::a_short_read_does_not_hide_the_end", || {
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
    model("readiness::two_pollers_may_apply_events_of_one_descriptor", || {
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
    model("readiness::closing_wakes_all_waiters", || {
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
    model("readiness::a_stale_event_does_not_reach_the_next_registration", || {
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
    model("readiness::waiters_of_two_generations_keep_apart", || {
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
