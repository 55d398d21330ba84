//! A coroutine that overflows its stack is named.

mod child;

use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::thread;

use bine_arch::coroutine::{self, Builder, Coroutine, Yielder};

fn recurse(depth: usize) -> usize {
    let frame = black_box([depth; 32]);
    if depth == usize::MAX { 0 } else { recurse(frame[0] + 1) + frame[31] }
}

/// The child of the test `name` has ended by SIGABRT and said each of `parts`, once.
#[track_caller]
fn assert_reported(name: &str, parts: &[&str]) {
    let output = child::run(name, &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
    for part in parts.iter().chain(&["fatal runtime error: stack overflow, aborting"]) {
        assert_eq!(said.matches(part).count(), 1, "{part} in: {said}");
    }
}

#[test]
fn a_coroutine_is_named() {
    if !child::is_child() {
        return assert_reported(
            "a_coroutine_is_named",
            &[
                "coroutine 'ada' (id 0x",
                "created at arch/tests/coroutine_overflow.rs:",
                "has overflowed its stack of 64 KiB",
                "`stack_size`",
            ],
        );
    }
    let body = |yielder: &Yielder<usize, ()>, depth| {
        yielder.suspend(());
        recurse(depth)
    };
    let mut coroutine = Builder::new().name("ada").stack_size(64 << 10).coroutine(body).unwrap();
    for _ in 0..2 {
        let _ = coroutine.resume(1);
    }
}

#[test]
fn the_innermost_of_nested_ones_is_named_also_without_a_name() {
    let name = "the_innermost_of_nested_ones_is_named_also_without_a_name";
    if !child::is_child() {
        let parts = ["coroutine '<unnamed>'", "has overflowed its stack of 256 KiB"];
        return assert_reported(name, &parts);
    }
    let body = |_: &Yielder<(), ()>, ()| {
        let mut inner = Coroutine::new(|_: &Yielder<(), ()>, ()| recurse(0));
        inner.resume(())
    };
    let _ = Builder::new().name("outer").stack_size(64 << 10).coroutine(body).unwrap().resume(());
}

#[test]
fn the_one_that_has_the_stack_now_is_named() {
    let name = "the_one_that_has_the_stack_now_is_named";
    if !child::is_child() {
        return assert_reported(name, &["coroutine 'second'"]);
    }
    let named = |name| Builder::new().name(name).coroutine(|_: &Yielder<_, ()>, n| recurse(n));
    let _ = named("first").unwrap().resume(usize::MAX - 1);
    let _ = named("second").unwrap().resume(0);
}

#[test]
fn one_that_moved_to_another_os_thread_is_named() {
    let name = "one_that_moved_to_another_os_thread_is_named";
    if !child::is_child() {
        return assert_reported(name, &["coroutine 'mover'"]);
    }
    let body = |_: &Yielder<usize, ()>, depth| recurse(depth);
    let coroutine = Builder::new().name("mover").coroutine(body).unwrap();
    // SAFETY: it is fresh, and its closure is empty.
    let mut coroutine = unsafe { coroutine.assert_send() };
    let _ = thread::spawn(move || coroutine.resume(0)).join();
}

#[test]
fn on_stack_is_named() {
    if !child::is_child() {
        let parts = ["coroutine 'on_stack'", "has overflowed its stack of 1024 KiB"];
        return assert_reported("on_stack_is_named", &parts);
    }
    let _ = coroutine::on_stack(1 << 20, || recurse(0));
}
