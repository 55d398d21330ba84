//! `BINE_CHECK_TLS=1`: borrows of thread-locals across a wait are reported where they may dangle. Each
//! test runs in a child process, which has the variable.
//!
//! Where a test does what `Builder::migrate` forbids, the runtime has one worker: nothing moves.

#[path = "../../arch/tests/child/mod.rs"]
mod child;

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::panic;
use std::process::Output;
use std::rc::Rc;
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bine_arch::coroutine::{Coroutine, CoroutineState};
use bine_runtime::{Builder, Runtime, thread};

const REPORT: (&str, &str) = ("BINE_CHECK_TLS", "1");
const ABORT: (&str, &str) = ("BINE_CHECK_TLS", "abort");
const OFF: (&str, &str) = ("BINE_CHECK_TLS", "0");

/// Whether this build can check.
const AVAILABLE: bool = cfg!(all(
    debug_assertions,
    target_env = "gnu",
    not(any(bine_sanitize = "address", bine_sanitize = "thread")),
));

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(7) };
    static SHARED: RefCell<Rc<u64>> = RefCell::new(Rc::new(7));
}

fn migrating(workers: usize) -> Runtime {
    // SAFETY: the tests that keep a borrow across a blocking call have one worker.
    unsafe { Builder::new().workers(workers).migrate() }.build().unwrap()
}

/// What the child `test` prints to standard error; it succeeds.
fn printed(test: &str, environment: (&str, &str)) -> String {
    let output = child::run(test, &[environment]);
    assert!(output.status.success(), "{output:?}");
    text_of(&output)
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The number of reports in what was printed. A build that cannot check says so, and no more.
#[track_caller]
fn reports(printed: &str) -> usize {
    let unchecked = printed.matches("BINE_CHECK_TLS is set, but nothing is checked: ").count();
    assert_eq!(unchecked > 0, !AVAILABLE, "{printed}");
    printed.matches(" and may go on on another one,\n").count()
}

/// The one report that was printed, or `None` from a build that cannot check.
#[track_caller]
fn the_report(printed: &str) -> Option<&str> {
    assert_eq!(reports(printed), usize::from(AVAILABLE), "{printed}");
    AVAILABLE.then(|| printed.split_once("\ngreen thread ").expect(printed).1)
}

#[inline(never)]
fn borrow_across_a_yield() -> u64 {
    COUNT.with(|count| {
        // Held: by itself, the compiler may find the address anew.
        let count = black_box(count);
        thread::yield_now();
        black_box(count).get()
    })
}

/// A thread called `borrower` on `runtime`, pinned or not.
fn borrow_on(runtime: &Runtime, pinned: bool) {
    let borrower = thread::Builder::new().name("borrower".into()).pinned(pinned);
    let borrower = borrower.spawn_on(runtime, || {
        for _ in 0..100 {
            assert_eq!(borrow_across_a_yield(), 7);
        }
    });
    borrower.unwrap().join().unwrap();
}

/// Where `borrow_on` spawns.
const LINE: u32 = line!() - 9;

#[test]
fn an_open_with_is_reported_once() {
    if child::is_child() {
        borrow_on(&migrating(1), false);
        borrow_on(&migrating(1), false);
        return;
    }
    let printed = printed("an_open_with_is_reported_once", REPORT);
    let Some(report) = the_report(&printed) else { return };
    assert!(report.starts_with("'borrower' (id "), "{report}");
    let spawned = format!("spawned at {}:{LINE}:", file!());
    for part in [
        &spawned,
        ") waits on worker 0 and may go on on another one,\n",
        ", check_tls::COUNT of the program, ",
        "\n->   ",
        "check_tls::borrow_across_a_yield\n",
        "docs/migration.md\n",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
    // For an emulator the tests are optimised: functions that were inlined are shown with those that
    // they are in.
    if std::env::var_os("BINE_TEST_RUNNER").is_none() {
        assert!(!report.contains("bine_runtime::check_tls"), "{report}");
        assert!(!report.contains("TaskCell"), "{report}");
    }
}

#[test]
fn the_address_of_errno_is_reported() {
    #[inline(never)]
    fn remember_errno() {
        // SAFETY: nothing reads there.
        let errno = black_box(unsafe { libc::__errno_location() });
        thread::sleep(Duration::from_millis(1));
        black_box(errno);
    }

    if child::is_child() {
        return migrating(1).run(remember_errno);
    }
    let printed = printed("the_address_of_errno_is_reported", REPORT);
    let Some(report) = the_report(&printed) else { return };
    assert!(report.contains(", errno of "), "{report}");
    assert!(report.contains("the_address_of_errno_is_reported::remember_errno\n"), "{report}");
}

/// Each wait is a place of its own; so is each thread-local.
#[test]
fn places_are_told_apart() {
    if child::is_child() {
        return migrating(1).run(|| {
            borrow_across_a_yield();
            borrow_across_a_yield();
            SHARED.with(|shared| {
                let shared = black_box(shared);
                thread::yield_now();
                black_box(shared);
            });
        });
    }
    let printed = printed("places_are_told_apart", REPORT);
    // The first two differ in what has called the function.
    if AVAILABLE {
        assert!((2..=3).contains(&reports(&printed)), "{printed}");
        assert!(printed.contains(", check_tls::COUNT of the program, "), "{printed}");
        assert!(printed.contains(", check_tls::SHARED"), "{printed}");
    }
}

#[test]
fn the_body_of_a_coroutine_is_looked_at() {
    if child::is_child() {
        return migrating(1).run(|| {
            let mut body = Coroutine::<(), (), u64>::new(|_, ()| borrow_across_a_yield());
            assert_eq!(body.resume(()), CoroutineState::Complete(7));
        });
    }
    let printed = printed("the_body_of_a_coroutine_is_looked_at", REPORT);
    let Some(report) = the_report(&printed) else { return };
    assert!(report.contains(", check_tls::COUNT of the program, "), "{report}");
}

/// What is documented not to be found, as it points to the heap.
#[test]
fn a_clone_out_of_a_thread_local_is_not_found() {
    if child::is_child() {
        return migrating(1).run(|| {
            let clone = SHARED.with(|shared| Rc::clone(&shared.borrow()));
            thread::yield_now();
            assert_eq!(*clone, 7);
        });
    }
    assert_eq!(reports(&printed("a_clone_out_of_a_thread_local_is_not_found", REPORT)), 0);
}

#[test]
fn abort_ends_the_process_after_a_report() {
    if child::is_child() {
        borrow_on(&migrating(1), false);
        return;
    }
    let output = child::run("abort_ends_the_process_after_a_report", &[ABORT]);
    the_report(&text_of(&output));
    let expected = if AVAILABLE { Some(libc::SIGABRT) } else { None };
    assert_eq!(output.status.signal(), expected, "{output:?}");
}

#[test]
fn what_stays_is_not_looked_at() {
    struct Borrows;

    impl Drop for Borrows {
        fn drop(&mut self) {
            borrow_across_a_yield();
        }
    }

    if child::is_child() {
        let runtime = migrating(1);
        borrow_on(&runtime, true);
        borrow_on(&Builder::new().workers(2).build().unwrap(), false);
        let unwinds = runtime.spawn(|| {
            let _borrows = Borrows;
            panic::resume_unwind(Box::new(7));
        });
        let ended: Result<(), _> = unwinds.join();
        assert!(ended.unwrap_err().is::<i32>());
        return;
    }
    assert_eq!(reports(&printed("what_stays_is_not_looked_at", REPORT)), 0);
}

#[test]
fn nothing_is_looked_at_unless_asked_for() {
    if child::is_child() {
        borrow_on(&migrating(1), false);
        return;
    }
    for off in [OFF, ("BINE_CHECK_TLS", "")] {
        assert_eq!(printed("nothing_is_looked_at_unless_asked_for", off), "");
    }
}

#[test]
fn other_values_are_errors() {
    if child::is_child() {
        // SAFETY: nothing runs on it.
        let error = unsafe { Builder::new().migrate() }.build().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        let text = error.to_string();
        assert!(text.contains("BINE_CHECK_TLS must be 0, 1 "), "{text}");
        assert!(text.contains(" or abort ") && text.ends_with("not \"yes\""), "{text}");
        // Nothing to check.
        return drop(Builder::new().workers(1).build().unwrap());
    }
    child::run_to_success("other_values_are_errors", &[("BINE_CHECK_TLS", "yes")]);
}

const ROUNDS: usize = 200;

/// A program without borrows across waits: all that the runtime has to wait with.
fn clean_program() {
    let (sender, receiver) = mpsc::channel();
    let total = Arc::new(Mutex::new(0));
    let adders: Vec<_> = (0..4).map(|_| add_and_send(&total, sender.clone())).collect();
    drop(sender);
    let received = thread::spawn(move || receive_all(&receiver));
    for adder in adders {
        adder.join().unwrap();
    }
    assert_eq!(received.join().unwrap(), 4 * ROUNDS);
    assert_eq!(*total.lock().unwrap(), 4 * ROUNDS);
    wait_in_other_ways();
}

/// Not inlined: the compiler would keep the address over the waits of the loop (seen on aarch64), and
/// that is reported.
#[inline(never)]
fn count() {
    COUNT.set(COUNT.get() + 1);
}

fn add_and_send(total: &Arc<Mutex<usize>>, sender: mpsc::Sender<usize>) -> thread::JoinHandle<()> {
    let total = Arc::clone(total);
    thread::spawn(move || {
        for round in 0..ROUNDS {
            count();
            *total.lock().unwrap() += 1;
            sender.send(round).unwrap();
            thread::yield_now();
        }
    })
}

fn receive_all(receiver: &mpsc::Receiver<usize>) -> usize {
    let mut received = 0;
    loop {
        match receiver.try_recv() {
            Ok(_) => received += 1,
            Err(TryRecvError::Empty) => thread::yield_now(),
            Err(TryRecvError::Disconnected) => return received,
        }
    }
}

fn wait_in_other_ways() {
    let parked = thread::spawn(|| (0..ROUNDS).for_each(|_| thread::park()));
    while !parked.is_finished() {
        parked.thread().unpark();
        thread::sleep(Duration::from_micros(10));
    }
    parked.join().unwrap();
    let mut numbers = [0; 8];
    thread::scope(|scope| {
        for (index, number) in numbers.iter_mut().enumerate() {
            scope.spawn(move || {
                thread::yield_now();
                *number = bine_runtime::blocking(|| index);
            });
        }
    });
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7]);
    for _ in 0..20 {
        let caught = panic::catch_unwind(|| {
            thread::yield_now();
            panic::resume_unwind(Box::new(7));
        });
        thread::yield_now();
        assert!(caught.is_err());
    }
    assert_eq!(bine_runtime::block_on(async { thread::spawn(|| 7).await }).unwrap(), 7);
}

#[test]
fn a_clean_program_has_no_report() {
    if child::is_child() {
        return [1, 2, 8].into_iter().for_each(|workers| migrating(workers).run(clean_program));
    }
    let printed = printed("a_clean_program_has_no_report", REPORT);
    assert_eq!(reports(&printed), 0, "{printed}");
}
