//! A green thread that overflows its stack ends the process, with its name.

#[path = "../../arch/tests/child/mod.rs"]
mod child;

use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;

use bine_arch::context::{self, Context};
use bine_arch::overflow;
use bine_arch::stack::{DEFAULT_STACK_SIZE, Permit, Stack, StackCache};
use bine_runtime::{Builder, Runtime, thread};

const MIGRATING: (&str, &str) = ("MIGRATING", "1");
const FALLBACK: (&str, &str) = ("BINE_STACK_GUARD", "mprotect");

/// In a child: a runtime in the mode that the parent chose.
fn runtime(workers: usize) -> Runtime {
    let builder = match std::env::var_os(MIGRATING.0) {
        // SAFETY: these tests keep no thread-local borrow across a blocking call.
        Some(_) => unsafe { Builder::new().migrate() },
        None => Builder::new(),
    };
    // A spare would run what waits on a stack of its own, where these tests count on one worker.
    builder.workers(workers).spare_workers(0).build().unwrap()
}

#[inline(never)]
fn recurse(depth: usize) -> usize {
    let frame = black_box([depth; 16]);
    if black_box(depth) == usize::MAX {
        return 0;
    }
    recurse(depth + 1) + black_box(frame)[3]
}

/// Runs the child in both modes and with both guards, and hands what it left to `check`.
#[track_caller]
fn in_all_modes(test: &str, check: impl Fn(&Output)) {
    for environment in [&[][..], &[MIGRATING], &[FALLBACK], &[MIGRATING, FALLBACK]] {
        check(&child::run(test, environment));
    }
}

/// The process has died of the overflow of `thread`, spawned on `line` of this file, with a stack of
/// `size` KiB; and said nothing else.
#[track_caller]
fn assert_reported(output: &Output, thread: &str, line: u32, size: usize) {
    let printed = String::from_utf8_lossy(&output.stderr);
    let (_, report) = printed.split_once("\ngreen thread ").expect(&printed);
    let (name, rest) = report.split_once(" (id ").expect(&printed);
    assert_eq!(name, thread);
    let (id, rest) = rest.split_once(", spawned at ").expect(&printed);
    assert!(id.parse::<u64>().is_ok_and(|id| id > 0), "{printed}");
    let rest = rest.strip_prefix(&format!("{}:{line}:", file!())).expect(&printed);
    let (column, rest) = rest.split_once(')').expect(&printed);
    assert!(column.parse::<u32>().is_ok(), "{printed}");
    let expected = format!(
        " has overflowed its stack of {size} KiB\n\
         note: its builder's `stack_size` gives it a larger one; \
         `runtime::Builder::stack_size` all green threads\n\
         fatal runtime error: stack overflow, aborting\n"
    );
    assert!(rest.starts_with(&expected), "{printed}");
    assert_eq!(printed.matches("overflowed").count(), 1, "{printed}");
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
}

fn named(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.into())
}

#[test]
fn a_named_thread() {
    const LINE: u32 = line!() + 3;
    if child::is_child() {
        runtime(2).run(|| {
            named("worker-7").spawn(|| recurse(0)).unwrap().join().unwrap();
        });
    }
    in_all_modes("a_named_thread", |output| assert_reported(output, "'worker-7'", LINE, 256));
}

#[test]
fn the_main_thread_of_a_runtime() {
    const LINE: u32 = line!() + 2;
    if child::is_child() {
        runtime(2).run(|| recurse(0));
    }
    in_all_modes("the_main_thread_of_a_runtime", |output| {
        assert_reported(output, "'the_main_thread_of_a_runtime'", LINE, 256);
    });
}

/// On one worker the thread that was spawned last runs first, and when it ends, with nobody to wake,
/// the next fresh one goes on where it was, without a switch.
#[test]
fn a_thread_that_adopts_a_stack() {
    const LINE: u32 = line!() + 3;
    if child::is_child() {
        runtime(1).run(|| {
            let second = named("second").spawn(tell_and_recurse).unwrap();
            let _first = named("first").spawn(tell).unwrap();
            second.join().unwrap();
        });
    }
    in_all_modes("a_thread_that_adopts_a_stack", |output| {
        assert_reported(output, "'second'", LINE, 256);
        assert_one_stack(output);
    });
}

/// As above, but the stack was given back in between: the thread that waited for the first runs.
#[test]
fn a_thread_on_a_stack_that_was_given_back() {
    const LINE: u32 = line!() + 4;
    if child::is_child() {
        runtime(1).run(|| {
            named("first").spawn(tell).unwrap().join().unwrap();
            let second = named("second").spawn(tell_and_recurse).unwrap();
            second.join().unwrap();
        });
    }
    in_all_modes("a_thread_on_a_stack_that_was_given_back", |output| {
        assert_reported(output, "'second'", LINE, 256);
        assert_one_stack(output);
    });
}

/// Says where the stack is that runs.
fn tell() {
    println!("at {}", address_of_a_local());
}

fn tell_and_recurse() {
    tell();
    recurse(0);
}

/// The child's threads have told of two places on one stack.
#[track_caller]
fn assert_one_stack(output: &Output) {
    let printed = String::from_utf8_lossy(&output.stdout);
    let places = printed.lines().filter_map(|line| line.split_once("at ")?.1.parse().ok());
    let places: Vec<usize> = places.collect();
    assert!(places.len() == 2 && places[0].abs_diff(places[1]) < 4096, "{printed}");
}

#[inline(never)]
fn address_of_a_local() -> usize {
    let local = 0_u8;
    black_box(&raw const local).addr()
}

#[test]
fn a_stack_of_another_size() {
    const LINE: u32 = line!() + 3;
    if child::is_child() {
        runtime(1).run(|| {
            named("small").stack_size(60_000).spawn(|| recurse(0)).unwrap().join().unwrap();
        });
    }
    in_all_modes("a_stack_of_another_size", |output| assert_reported(output, "'small'", LINE, 64));
}

#[test]
fn a_runtime_with_stacks_of_another_size() {
    const LINE: u32 = line!() + 3;
    if child::is_child() {
        let runtime = Builder::new().workers(1).stack_size(1 << 20).build().unwrap();
        runtime.spawn(|| recurse(0)).join().unwrap();
    }
    let output = child::run("a_runtime_with_stacks_of_another_size", &[]);
    assert_reported(&output, "'<unnamed>'", LINE, 1024);
}

/// After it has been switched away from and back, on either worker.
#[test]
fn a_thread_that_has_been_suspended() {
    const LINE: u32 = line!() + 9;
    if child::is_child() {
        runtime(2).run(|| {
            let yield_often = || (0..1_000).for_each(|_| thread::yield_now());
            let others = [(); 8].map(|()| bine_runtime::spawn(yield_often));
            let body = move || {
                yield_often();
                recurse(0)
            };
            named("late").spawn(body).unwrap().join().unwrap();
            for other in others {
                other.join().unwrap();
            }
        });
    }
    in_all_modes("a_thread_that_has_been_suspended", |output| {
        assert_reported(output, "'late'", LINE, 256);
    });
}

#[test]
fn a_very_long_name_is_cut() {
    const LINE: u32 = line!() + 4;
    if child::is_child() {
        runtime(1).run(|| {
            let builder = named(&"ö".repeat(5_000));
            builder.spawn(|| recurse(0)).unwrap().join().unwrap();
        });
    }
    in_all_modes("a_very_long_name_is_cut", |output| {
        assert_reported(output, &format!("'{}'", "ö".repeat(200)), LINE, 256);
    });
}

/// The stack of a thread that has ended names nobody: the thread's cell may be gone.
#[test]
fn a_stack_without_a_thread_is_nobodys() {
    unsafe extern "C" fn entry(_: usize, _: usize) -> ! {
        panic!("survived: {}", recurse(0));
    }
    if child::is_child() {
        let runtime = runtime(1);
        let place = runtime.run(|| bine_runtime::spawn(address_of_a_local).join().unwrap());
        // The worker gives back what it holds.
        drop(runtime);
        overflow::protect_thread();
        let mut cache = StackCache::new();
        let stacks = [(); 2].map(|()| {
            let permit = Permit::reserve(DEFAULT_STACK_SIZE).unwrap();
            let stack = cache.take(&permit).unwrap();
            std::mem::forget(permit);
            stack
        });
        let is_the_one = |stack: &&Stack| {
            (stack.limit().addr().get()..stack.top().addr().get()).contains(&place)
        };
        let stack = stacks.iter().find(is_the_one).expect("the two that the runtime has used");
        println!("the same");
        let mut here = Context::null();
        // SAFETY: the stack is free, and nothing ever comes back.
        unsafe {
            let there = context::prepare(stack.bounds(), entry, 0);
            context::switch(&raw mut here, there, 0);
        }
    }
    in_all_modes("a_stack_without_a_thread_is_nobodys", |output| {
        assert!(String::from_utf8_lossy(&output.stdout).contains("the same"), "{output:?}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("overflow"), "{output:?}");
        assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{output:?}");
    });
}

/// std's alternate stack, of 8 KiB, would do for the report in a good build on a good day.
#[test]
fn a_worker_has_room_for_a_handler() {
    let room = Builder::new().workers(1).build().unwrap().run(|| {
        // SAFETY: reads the declaration of the OS thread into a value for which zeros are fine.
        unsafe {
            let mut stack: libc::stack_t = std::mem::zeroed();
            assert_eq!(libc::sigaltstack(std::ptr::null(), &raw mut stack), 0);
            stack.ss_size
        }
    });
    assert!(room >= 32 << 10, "{room} bytes");
}

#[test]
fn a_null_pointer_is_no_overflow() {
    if child::is_child() {
        // SAFETY: ends the process, as the test wants it.
        runtime(2).run(|| unsafe { black_box(8 as *mut u8).write_volatile(1) });
    }
    in_all_modes("a_null_pointer_is_no_overflow", |output| {
        assert!(!String::from_utf8_lossy(&output.stderr).contains("overflow"), "{output:?}");
        assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{output:?}");
    });
}

/// The worker's own stack, and what runs in its place on OS threads, is std's.
#[test]
fn an_os_thread_is_none_of_ours() {
    if child::is_child() {
        let runtime = runtime(1);
        runtime.run(|| ());
        let plain = std::thread::Builder::new().name("plain".into());
        plain.spawn(|| recurse(0)).unwrap().join().unwrap();
    }
    in_all_modes("an_os_thread_is_none_of_ours", |output| {
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(printed.contains("thread 'plain'"), "{printed}");
        assert!(printed.contains("has overflowed its stack"), "{printed}");
        assert!(!printed.contains("green thread"), "{printed}");
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
    });
}
