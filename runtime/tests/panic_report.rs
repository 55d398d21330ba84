//! What a panic on a green thread prints. Each test runs in a child process, without the capture of
//! the test harness, which sets a panic hook of its own.

#[path = "../../arch/tests/child/mod.rs"]
mod child;

use std::any::Any;
use std::os::unix::process::ExitStatusExt;
use std::panic;

use bine_runtime::{Builder, Runtime, thread};

const OFF: (&str, &str) = ("RUST_BACKTRACE", "0");
const SHORT: (&str, &str) = ("RUST_BACKTRACE", "1");
const FULL: (&str, &str) = ("RUST_BACKTRACE", "full");
const MIGRATING: (&str, &str) = ("MIGRATING", "1");

/// In a child: a runtime in the mode that the parent chose.
fn runtime() -> Runtime {
    let builder = match std::env::var_os(MIGRATING.0) {
        // SAFETY: these tests keep no thread-local borrow across a blocking call.
        Some(_) => unsafe { Builder::new().migrate() },
        None => Builder::new(),
    };
    builder.workers(2).build().unwrap()
}

/// What the child `test` prints to standard error, in both modes.
#[track_caller]
fn printed(test: &str, backtrace: (&str, &str), check: impl Fn(&str)) {
    for environment in [&[backtrace][..], &[backtrace, MIGRATING]] {
        let output = child::run(test, environment);
        assert!(output.status.success(), "{output:?}");
        check(&String::from_utf8_lossy(&output.stderr));
    }
}

fn named(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.into())
}

/// Spawns a thread called `name` that panics, and joins it.
fn panic_on(runtime: &Runtime, name: &'static str) -> Box<dyn Any + Send> {
    let body = || named(name).spawn(|| panic!("out of tea")).unwrap().join();
    let ended: Result<(), _> = runtime.run(body);
    ended.unwrap_err()
}

/// Where `panic_on` spawns and panics.
const LINE: u32 = line!() - 6;

#[track_caller]
fn assert_reported(printed: &str, thread: &str) {
    let file = file!();
    let start = format!("\ngreen thread {thread} panicked at {file}:{LINE}:");
    let (_, report) = printed.split_once(&start).expect(printed);
    let (column, report) = report.split_once(":\n").expect(printed);
    assert!(column.parse::<u32>().is_ok(), "{printed}");
    let spawned = format!("out of tea\nnote: the thread was spawned at {file}:{LINE}:");
    assert!(report.starts_with(&spawned), "{printed}");
    assert_eq!(printed.matches("panicked at").count(), 1, "{printed}");
}

#[test]
fn a_named_thread() {
    if child::is_child() {
        assert!(panic_on(&runtime(), "kettle").is::<&str>());
        return;
    }
    printed("a_named_thread", OFF, |printed| {
        assert_reported(printed, "'kettle'");
        assert_eq!(printed.matches("RUST_BACKTRACE=1").count(), 1, "{printed}");
        assert!(!printed.contains("stack backtrace"), "{printed}");
    });
}

#[test]
fn an_unnamed_thread_and_other_payloads() {
    if child::is_child() {
        let runtime = runtime();
        let formatted = runtime.run(|| thread::spawn(|| panic!("{} cups", 1 + 1)).join());
        assert!(formatted.unwrap_err().is::<String>());
        let other = runtime.run(|| thread::spawn(|| panic::panic_any(7)).join());
        assert!(other.unwrap_err().is::<i32>());
        let silent = runtime.run(|| thread::spawn(|| panic::resume_unwind(Box::new(7))).join());
        assert!(silent.is_err());
        let cancelled = runtime.run(|| {
            let parked = thread::spawn(thread::park);
            parked.cancel().unwrap();
            parked.join()
        });
        assert!(cancelled.is_err());
        return;
    }
    printed("an_unnamed_thread_and_other_payloads", OFF, |printed| {
        let reports: Vec<_> = printed.split("\ngreen thread '<unnamed>' (id ").skip(1).collect();
        assert_eq!(reports.len(), 2, "{printed}");
        assert!(reports[0].contains(":\n2 cups\n"), "{printed}");
        assert!(reports[1].contains(":\nBox<dyn Any>\n"), "{printed}");
        for report in reports {
            let (id, _) = report.split_once(") panicked at ").expect(printed);
            assert!(id.parse::<u64>().is_ok(), "{printed}");
        }
        assert_eq!(printed.matches("RUST_BACKTRACE=1").count(), 1, "{printed}");
        assert_eq!(printed.matches("panicked").count(), 2, "{printed}");
    });
}

#[inline(never)]
fn brew(depth: usize) -> usize {
    match std::hint::black_box(depth) {
        0 => panic!("too hot"),
        _ => brew(depth - 1) + std::hint::black_box(1),
    }
}

fn brew_on_a_thread() {
    runtime().run(|| named("pot").spawn(|| brew(3)).unwrap().join()).unwrap_err();
}

#[test]
fn a_short_backtrace() {
    if child::is_child() {
        return brew_on_a_thread();
    }
    printed("a_short_backtrace", SHORT, |printed| {
        let (_, backtrace) = printed.split_once("stack backtrace:\n").expect(printed);
        assert!(backtrace.starts_with("   0: "), "{printed}");
        assert!(backtrace.matches("::brew\n").count() == 4, "{printed}");
        assert!(backtrace.contains("brew_on_a_thread"), "{printed}");
        for hidden in [
            "bine_runtime::panic_report",
            "TaskCell",
            "trampoline",
            "__rust_try",
            "short_backtrace",
        ] {
            assert!(!backtrace.contains(hidden), "{hidden}: {printed}");
        }
        assert!(backtrace.contains("RUST_BACKTRACE=full"), "{printed}");
    });
}

#[test]
fn a_full_backtrace() {
    if child::is_child() {
        return brew_on_a_thread();
    }
    printed("a_full_backtrace", FULL, |printed| {
        let (_, backtrace) = printed.split_once("stack backtrace:\n").expect(printed);
        for shown in ["bine_runtime::panic_report", "::brew", "TaskCell", "trampoline"] {
            assert!(backtrace.contains(shown), "{shown}: {printed}");
        }
    });
}

#[test]
fn other_threads_are_reported_by_std() {
    if child::is_child() {
        let _runtime = runtime();
        let plain = std::thread::Builder::new().name("plain".into());
        plain.spawn(|| panic!("as ever")).unwrap().join().unwrap_err();
        return;
    }
    printed("other_threads_are_reported_by_std", OFF, |printed| {
        assert!(printed.contains("\nthread 'plain' ("), "{printed}");
        assert!(printed.contains(":\nas ever\n"), "{printed}");
        assert!(!printed.contains("green thread"), "{printed}");
    });
}

#[test]
fn a_hook_that_was_there_stays() {
    if child::is_child() {
        panic::set_hook(Box::new(|_| eprintln!("the user's")));
        panic_on(&runtime(), "kettle");
        return;
    }
    printed("a_hook_that_was_there_stays", OFF, |printed| {
        assert!(printed.contains("the user's"), "{printed}");
        assert!(!printed.contains("panicked"), "{printed}");
    });
}

#[test]
fn a_hook_that_comes_later_replaces_it() {
    if child::is_child() {
        let first = runtime();
        panic::set_hook(Box::new(|_| eprintln!("the user's")));
        panic_on(&first, "kettle");
        panic_on(&runtime(), "kettle");
        return;
    }
    printed("a_hook_that_comes_later_replaces_it", OFF, |printed| {
        assert_eq!(printed.matches("the user's").count(), 2, "{printed}");
        assert!(!printed.contains("panicked"), "{printed}");
    });
}

#[test]
fn a_hook_that_wraps_it() {
    if child::is_child() {
        let runtime = runtime();
        let bines = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            eprintln!("the user's");
            bines(info);
        }));
        panic_on(&runtime, "kettle");
        return;
    }
    printed("a_hook_that_wraps_it", OFF, |printed| {
        assert!(printed.contains("the user's"), "{printed}");
        assert_reported(printed, "'kettle'");
    });
}

/// The hook cannot be set there, and is by the next runtime.
#[test]
fn a_runtime_that_is_built_while_a_thread_unwinds() {
    struct Builds;

    impl Drop for Builds {
        fn drop(&mut self) {
            drop(runtime());
        }
    }

    if child::is_child() {
        let caught = panic::catch_unwind(|| {
            let _builds = Builds;
            panic::resume_unwind(Box::new(()));
        });
        assert!(caught.is_err());
        panic_on(&runtime(), "kettle");
        return;
    }
    printed("a_runtime_that_is_built_while_a_thread_unwinds", OFF, |printed| {
        assert_reported(printed, "'kettle'");
    });
}

#[test]
fn a_panic_that_is_caught() {
    if child::is_child() {
        let caught = || panic::catch_unwind(|| panic!("caught")).is_err() && !thread::panicking();
        assert!(runtime().run(move || named("goes on").spawn(caught).unwrap().join().unwrap()));
        return;
    }
    printed("a_panic_that_is_caught", OFF, |printed| {
        assert!(printed.contains("\ngreen thread 'goes on' panicked at "), "{printed}");
    });
}

#[test]
fn a_panic_out_of_a_destructor_during_another_ends_the_process() {
    struct Panics;

    impl Drop for Panics {
        fn drop(&mut self) {
            thread::yield_now();
            panic!("the second");
        }
    }

    if child::is_child() {
        let body = || {
            let _panics = Panics;
            panic!("the first");
        };
        let _: Result<(), _> = runtime().run(move || named("twice").spawn(body).unwrap().join());
        return;
    }
    for environment in [&[OFF][..], &[OFF, MIGRATING]] {
        let test = "a_panic_out_of_a_destructor_during_another_ends_the_process";
        let output = child::run(test, environment);
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(printed.contains(":\nthe first\n"), "{printed}");
        assert!(printed.contains(":\nthe second\n"), "{printed}");
        assert!(printed.contains("green thread 'twice' panicked at "), "{printed}");
    }
}
