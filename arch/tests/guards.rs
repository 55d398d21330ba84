//! The page below a stack cannot be touched, whatever it is guarded with, and whatever was there
//! before.

mod child;

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt;

use bine_arch::stack::{self, GuardMechanism, StackCache};

const FALLBACK: &[(&str, &str)] = &[("BINE_STACK_GUARD", "mprotect")];

/// Takes a stack, uses it down to its lowest byte, and writes to the byte `below` that.
fn touch(below: usize) {
    let mut cache = StackCache::new();
    let permit = cache.reserve(stack::DEFAULT_STACK_SIZE).unwrap();
    let stack = cache.take(&permit).unwrap();
    // SAFETY: the first write is to the stack's own memory. The others hit the guard page, where no
    // Rust value ever is, and end the process.
    unsafe {
        stack.limit().write_volatile(1);
        println!("used");
        stack.limit().sub(below).write_volatile(1);
    }
    println!("survived");
}

#[track_caller]
fn assert_segv(name: &str, environment: &[(&str, &str)]) {
    let output = child::run(name, environment);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("used") && !printed.contains("survived"), "{output:?}");
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{output:?}");
    // The stack has no owner that could have overflowed it.
    assert!(!String::from_utf8_lossy(&output.stderr).contains("overflow"), "{output:?}");
}

#[test]
fn the_byte_below_a_stack_is_guarded() {
    if child::is_child() {
        return touch(1);
    }
    assert_segv("the_byte_below_a_stack_is_guarded", &[]);
    assert_segv("the_byte_below_a_stack_is_guarded", FALLBACK);
}

#[test]
fn the_whole_guard_page_is_guarded() {
    if child::is_child() {
        return touch(4096);
    }
    assert_segv("the_whole_guard_page_is_guarded", &[]);
    assert_segv("the_whole_guard_page_is_guarded", FALLBACK);
}

#[test]
fn a_recycled_stack_is_still_guarded() {
    if child::is_child() {
        let mut cache = StackCache::new();
        let mut tops = HashSet::new();
        for _ in 0..1_000 {
            let permit = cache.reserve(stack::DEFAULT_STACK_SIZE).unwrap();
            let stack = cache.take(&permit).unwrap();
            tops.insert(stack.top());
            cache.put(stack);
            cache.release(permit);
        }
        assert_eq!(tops.len(), 1);
        return touch(1);
    }
    assert_segv("a_recycled_stack_is_still_guarded", &[]);
    assert_segv("a_recycled_stack_is_still_guarded", FALLBACK);
}

#[test]
fn the_environment_chooses_the_fallback() {
    if child::is_child() {
        assert_eq!(stack::stats().guard, None);
        let permit = stack::Permit::reserve(stack::DEFAULT_STACK_SIZE).unwrap();
        assert_eq!(stack::stats().guard, Some(GuardMechanism::Mprotect));
        return drop(permit);
    }
    child::run_to_success("the_environment_chooses_the_fallback", FALLBACK);
}
