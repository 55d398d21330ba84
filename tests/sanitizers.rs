//! The sanitizers see through switches: mistakes that are made on purpose are reported, and the
//! same accesses in order are not. Only in a build for a sanitizer (see CONTRIBUTING.md).
#![cfg(any(bine_sanitize = "address", bine_sanitize = "thread"))]

mod harness;

use std::process::Output;

use harness::{Mode, child_command, role};

/// What the address sanitizer is to look for; the thread sanitizer takes no notice.
const OPTIONS: &str = "detect_stack_use_after_return=1:detect_leaks=1:allow_addr2line=1";
/// The same, without the fake stacks that it takes for the former, which the search for leaks does
/// not see (arch/src/fiber.rs).
#[cfg(bine_sanitize = "address")]
const LEAKS_ALONE: &str = "detect_stack_use_after_return=0:detect_leaks=1:allow_addr2line=1";

/// Runs `program` in a child for each mode, and returns how they ended. In the child it does not
/// return.
fn in_children(test: &str, options: &str, program: fn(Mode)) -> [Output; 2] {
    if let Some(role) = role() {
        program(Mode::named(&role));
        std::process::exit(0);
    }
    Mode::BOTH.map(|mode| {
        let mut child = child_command(test, &mode.to_string());
        child.env("ASAN_OPTIONS", options).output().expect("the child starts")
    })
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The sanitizer ends `program` with a report that has all of `expected` in it.
fn is_reported(test: &str, expected: &[&str], program: fn(Mode)) {
    for output in in_children(test, OPTIONS, program) {
        assert!(!output.status.success(), "{test}: not reported");
        let report = text(&output);
        for part in expected {
            assert!(report.contains(part), "{test}: no {part} in:\n{report}");
        }
    }
}

/// The sanitizer has nothing to say of `program`.
fn is_silent(test: &str, program: fn(Mode)) {
    is_silent_with(test, OPTIONS, program);
}

fn is_silent_with(test: &str, options: &str, program: fn(Mode)) {
    for output in in_children(test, options, program) {
        let report = text(&output);
        assert!(output.status.success(), "{test}: {}\n{report}", output.status);
        assert!(!report.contains("Sanitizer"), "{test}:\n{report}");
    }
}

#[cfg(bine_sanitize = "address")]
mod address {
    use std::hint::black_box;
    use std::ptr;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicPtr, Ordering};
    use std::time::Duration;

    use bine::runtime::Runtime;
    use bine::thread;

    use super::{LEAKS_ALONE, is_reported, is_silent, is_silent_with};

    /// Hides from the compiler what a value is. A function of its own, since the sanitizer gives no
    /// fake frame to functions with inline assembly, which `black_box` is.
    #[inline(never)]
    fn opaque<T>(value: T) -> T {
        black_box(value)
    }

    /// Makes the calling green thread leave its stack: for neighbours, and for the root context.
    fn wander() {
        let neighbours: Vec<_> =
            (0..3).map(|_| bine::spawn(|| (0..10).for_each(|_| thread::yield_now()))).collect();
        (0..10).for_each(|_| thread::yield_now());
        neighbours.into_iter().for_each(|neighbour| neighbour.join().expect("it only yields"));
        thread::sleep(Duration::from_millis(2));
    }

    #[inline(never)]
    fn reads(byte: *const u8) -> u8 {
        // SAFETY: none. These tests show that the sanitizer says so, here and below.
        unsafe { opaque(byte).read_volatile() }
    }

    #[test]
    fn use_after_free() {
        #[inline(never)]
        fn frees(boxed: Box<u8>) -> *const u8 {
            &raw const *opaque(boxed)
        }
        let expected = ["heap-use-after-free", "::reads", "freed by thread", "::frees", "begin"];
        is_reported("address::use_after_free", &expected, |mode| {
            mode.runtime(2).run(|| {
                let boxed = Box::new(7);
                wander();
                let byte = frees(boxed);
                wander();
                opaque(reads(byte));
            });
        });
    }

    #[test]
    fn overflow_of_a_buffer_on_the_stack() {
        #[inline(never)]
        fn has_a_buffer() {
            let buffer = opaque([7_u8; 16]);
            wander();
            opaque(reads(buffer.as_ptr().wrapping_add(20)));
        }
        let expected = ["stack-buffer-overflow", "::reads", "in frame", "has_a_buffer", "begin"];
        is_reported("address::overflow_of_a_buffer_on_the_stack", &expected, |mode| {
            mode.runtime(2).run(has_a_buffer);
        });
    }

    #[test]
    fn use_after_return() {
        #[inline(never)]
        fn returns(byte: u8) -> *const u8 {
            let local = opaque(byte);
            wander();
            opaque(&raw const local)
        }
        let expected = ["stack-use-after-return", "::reads", "in frame", "::returns"];
        is_reported("address::use_after_return", &expected, |mode| {
            mode.runtime(2).run(|| {
                let byte = returns(7);
                wander();
                opaque(reads(byte));
            });
        });
    }

    /// Frames that are left by a panic, and stacks that are used again.
    #[test]
    fn abandoned_frames_leave_nothing_behind() {
        #[inline(never)]
        fn panics(depth: usize) {
            let room = opaque([depth as u8; 100]);
            wander_if(depth.is_multiple_of(7));
            match depth {
                0 => std::panic::resume_unwind(Box::new(room)),
                _ => panics(depth - 1),
            }
        }
        fn wander_if(yes: bool) {
            if yes {
                thread::yield_now();
            }
        }
        is_silent("address::abandoned_frames_leave_nothing_behind", |mode| {
            mode.runtime(2).run(|| {
                for round in 0..50 {
                    let threads: Vec<_> =
                        (0..20).map(|n| bine::spawn(move || panics((round * n) % 90))).collect();
                    for thread in threads {
                        assert!(thread.join().is_err());
                    }
                }
            });
        });
    }

    #[test]
    fn a_leak() {
        #[inline(never)]
        fn leaks() -> usize {
            ptr::from_ref(Box::leak(Box::new([7_u8; 1_000]))).addr()
        }
        let expected = ["LeakSanitizer", "1000 byte"];
        is_reported("address::a_leak", &expected, |mode| {
            mode.runtime(2).run(|| {
                // An address that is written upside down does not hold the memory.
                opaque(!leaks());
                wander();
            });
        });
    }

    /// Memory to which the only pointers lie on suspended stacks: those of green threads that are
    /// parked, or were abandoned, and that of the OS thread that waits below them.
    #[test]
    fn what_suspended_stacks_hold_is_no_leak() {
        static SOME: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
        fn holds() {
            let held = opaque(vec![7_u8; 1_000]);
            SOME.store(held.as_ptr().cast_mut(), Ordering::Relaxed);
            thread::park();
            drop(held);
        }
        fn started() {
            while SOME.load(Ordering::Relaxed).is_null() {
                thread::yield_now();
            }
            SOME.store(ptr::null_mut(), Ordering::Relaxed);
        }
        let test = "address::what_suspended_stacks_hold_is_no_leak";
        is_silent_with(test, LEAKS_ALONE, |mode| {
            static PARKED: OnceLock<Runtime> = OnceLock::new();
            let abandoned = mode.runtime(2);
            for runtime in [PARKED.get_or_init(|| mode.runtime(2)), &abandoned] {
                drop(runtime.spawn(holds));
                runtime.run(started);
            }
        });
    }
}

#[cfg(bine_sanitize = "thread")]
mod thread {
    use std::cell::UnsafeCell;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread::{ThreadId, current};

    use bine::{channel, sync, thread};

    use super::{Mode, is_reported, is_silent};

    const ROUNDS: usize = 200;

    /// Shared without any order of its own.
    struct Cell(UnsafeCell<usize>);

    // SAFETY: none by itself; that is what these tests are about.
    unsafe impl Sync for Cell {}

    impl Cell {
        const fn new() -> Self {
            Self(UnsafeCell::new(0))
        }

        #[inline(never)]
        fn increments(&self) -> usize {
            // SAFETY: see above.
            unsafe {
                *self.0.get() += 1;
                *self.0.get()
            }
        }
    }

    /// Brings two green threads to two workers: neither goes on, or lets its worker go on, before
    /// both are there. Relaxed: this must order nothing.
    struct Meeting(AtomicUsize);

    impl Meeting {
        const fn new() -> Self {
            Self(AtomicUsize::new(0))
        }

        fn meet(&self) -> ThreadId {
            self.0.fetch_add(1, Ordering::Relaxed);
            while self.0.load(Ordering::Relaxed) < 2 {
                std::hint::spin_loop();
            }
            current().id()
        }
    }

    /// Two green threads on two workers, and that they were there.
    fn on_two_workers(mode: Mode, first: fn() -> ThreadId, second: fn() -> ThreadId) {
        mode.runtime(2).run(move || {
            let threads = [bine::spawn(first), bine::spawn(second)];
            let [first, second] = threads.map(|thread| thread.join().expect("no panic"));
            assert_ne!(first, second);
        });
    }

    #[test]
    fn a_race() {
        fn body() -> ThreadId {
            static CELL: Cell = Cell::new();
            static MEETING: Meeting = Meeting::new();
            let here = MEETING.meet();
            // Not once: of two accesses at the very same moment neither may find the other's trace.
            for _ in 0..ROUNDS {
                CELL.increments();
            }
            here
        }
        is_reported("thread::a_race", &["data race", "::increments", "begin"], |mode| {
            on_two_workers(mode, body, body);
        });
    }

    /// A write before the other thread begins its wait is as much of a race, if nothing orders it.
    #[test]
    fn a_race_with_a_thread_that_has_switched_since() {
        static CELL: Cell = Cell::new();
        static MEETING: Meeting = Meeting::new();
        static WRITTEN: AtomicBool = AtomicBool::new(false);
        fn writes() -> ThreadId {
            let here = MEETING.meet();
            CELL.increments();
            WRITTEN.store(true, Ordering::Relaxed);
            (0..10).for_each(|_| thread::yield_now());
            here
        }
        fn writes_later() -> ThreadId {
            let here = MEETING.meet();
            while !WRITTEN.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            CELL.increments();
            here
        }
        let expected = ["data race", "::increments", "writes_later"];
        is_reported("thread::a_race_with_a_thread_that_has_switched_since", &expected, |mode| {
            on_two_workers(mode, writes, writes_later);
        });
    }

    #[test]
    fn park_and_unpark_order() {
        static CELL: Cell = Cell::new();
        static MEETING: Meeting = Meeting::new();
        static THREADS: [sync::Mutex<Option<thread::Thread>>; 2] =
            [sync::Mutex::new(None), sync::Mutex::new(None)];

        fn body<const ME: usize>() -> ThreadId {
            *THREADS[ME].lock().expect("no panic") = Some(thread::current());
            let here = MEETING.meet();
            let other = THREADS[1 - ME].lock().expect("no panic").clone().expect("it is there");
            for round in 0..ROUNDS {
                // One unpark for each turn but the first, and nothing else.
                let turn = 2 * round + ME;
                if turn > 0 {
                    thread::park();
                }
                assert_eq!(CELL.increments(), turn + 1);
                other.unpark();
            }
            here
        }
        is_silent("thread::park_and_unpark_order", |mode| {
            on_two_workers(mode, body::<0>, body::<1>);
        });
    }

    #[test]
    fn a_channel_orders() {
        static CELL: Cell = Cell::new();
        static MEETING: Meeting = Meeting::new();
        type Ends = (channel::Sender<()>, channel::Receiver<()>);
        static ENDS: [sync::Mutex<Option<Ends>>; 2] =
            [sync::Mutex::new(None), sync::Mutex::new(None)];

        fn body<const ME: usize>() -> ThreadId {
            let here = MEETING.meet();
            let (sender, receiver) =
                ENDS[ME].lock().expect("no panic").take().expect("put there before");
            for round in 0..ROUNDS {
                if ME == 1 || round > 0 {
                    receiver.recv().expect("the other one is there");
                }
                assert_eq!(CELL.increments(), 2 * round + ME + 1);
                if ME == 0 || round + 1 < ROUNDS {
                    sender.send(()).expect("the other one is there");
                }
            }
            here
        }
        is_silent("thread::a_channel_orders", |mode| {
            let (first, second) = (channel::bounded(1), channel::unbounded());
            *ENDS[0].lock().expect("no panic") = Some((first.0, second.1));
            *ENDS[1].lock().expect("no panic") = Some((second.0, first.1));
            on_two_workers(mode, body::<0>, body::<1>);
        });
    }

    #[test]
    fn a_lock_orders() {
        fn body() -> ThreadId {
            static CELL: Cell = Cell::new();
            static LOCK: sync::Mutex<()> = sync::Mutex::new(());
            static MEETING: Meeting = Meeting::new();
            let here = MEETING.meet();
            for _ in 0..ROUNDS {
                let _locked = LOCK.lock().expect("no panic");
                CELL.increments();
            }
            here
        }
        is_silent("thread::a_lock_orders", |mode| on_two_workers(mode, body, body));
    }

    #[test]
    fn spawn_and_join_order() {
        static CELL: Cell = Cell::new();
        static MEETING: Meeting = Meeting::new();
        is_silent("thread::spawn_and_join_order", |mode| {
            mode.runtime(2).run(|| {
                for round in 0..ROUNDS {
                    CELL.increments();
                    let child = bine::spawn(|| CELL.increments());
                    assert_eq!(child.join().expect("no panic"), 2 * round + 2);
                }
                // Once with the certainty that they are on two workers.
                CELL.increments();
                let child = bine::spawn(|| {
                    CELL.increments();
                    MEETING.meet()
                });
                let here = MEETING.meet();
                assert_ne!(child.join().expect("no panic"), here);
                CELL.increments();
            });
        });
    }
}
